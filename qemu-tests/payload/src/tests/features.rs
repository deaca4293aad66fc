//! CPU features: those in the host's ID registers work, others are UNDEFINED.
//!
//! Instructions are written into a page and called, so that every encoding can be tested. Encodings, fields and values
//! here are taken independently from the Arm ARM (DDI 0487 issue L.a).

use core::arch::asm;

use crate::mem::alloc;
use crate::outcome::TestResult;
use crate::registry::Runs;
use crate::setup::Ctx;
use crate::vectors::catch;
use crate::{cpu, ensure, mmio, payload_test, println};

/// `MRS X0, S<op0>_<op1>_C<n>_C<m>_<op2>`.
const fn mrs([op0, op1, n, m, op2]: [u32; 5]) -> u32 {
    0xd530_0000 | (op0 - 2) << 19 | op1 << 16 | n << 12 | m << 8 | op2 << 5
}
const RET: u32 = 0xd65f_03c0;

/// A page for one instruction at a time.
struct Scratch {
    code: u64,
    /// 4 KiB of memory for instructions that need an address: X0 and X16 point to it.
    data: u64,
}

impl Scratch {
    fn new() -> Self {
        Self { code: alloc(4096, 4096), data: alloc(4096, 4096) }
    }

    /// Runs `instruction`: returns X0, or the class of the exception.
    fn run(&self, instruction: u32) -> Result<u64, u64> {
        mmio::write32(self.code, instruction);
        mmio::write32(self.code + 4, RET);
        // SAFETY: (1) maintenance by address changes no value; (2) the page is the payload's own.
        #[allow(unsafe_code)]
        unsafe {
            asm!("dc cvau, {a}", "dsb ish", "ic ivau, {a}", "dsb ish", "isb", a = in(reg) self.code, options(nostack));
        }
        let (value, caught) = catch(|| call(self.code, self.data));
        caught.map_or(Ok(value), |caught| Err(caught.class()))
    }
}

fn call(code: u64, data: u64) -> u64 {
    let value;
    // SAFETY: (1) the page at `code` has one instruction of the tests' list and a return; (2) the instruction accesses
    // the page at `data`, registers that a callee may change, and X16 and X17.
    #[allow(unsafe_code)]
    unsafe {
        asm!("blr {c}", c = in(reg) code, inlateout("x0") data => value, in("x1") 0_u64, in("x2") 0_u64, in("x16") data,
             clobber_abi("C"));
    }
    value
}

/// Enables floating point, SVE and SME at EL1.
fn open_vectors() {
    // SAFETY: (1) sets only enables; the payload uses no vector registers.
    #[allow(unsafe_code)]
    unsafe {
        asm!("msr cpacr_el1, {}", "isb", in(reg) 0x0333_0000_u64, options(nostack));
    }
}

/// Maximum values of fields: CRm, op2, lowest bit, maximum.
const LIMITS: &[(u32, u32, u32, u64)] = &[
    (4, 0, 4, 1),  // EL1: AArch64
    (4, 0, 8, 0),  // EL2
    (4, 0, 28, 1), // RAS
    (4, 0, 36, 0), // SEL2
    (4, 0, 40, 0), // MPAM
    (4, 0, 44, 0), // AMU
    (4, 0, 52, 0), // RME
    (4, 1, 16, 0), // MPAM_frac
    (4, 1, 60, 0), // PFAR
    (4, 2, 0, 0),  // MTEPERM
    (4, 2, 12, 0), // GCIE
    (5, 0, 0, 10), // DebugVer
    (5, 0, 8, 8),  // PMUVer
    (5, 0, 16, 0), // PMSS
    (5, 0, 24, 0), // SEBEP
    (5, 0, 52, 0), // BRBE
    (6, 0, 24, 0), // TME
    (6, 1, 60, 0), // LS64
    (6, 2, 32, 0), // SYSREG_128
    (6, 2, 36, 0), // SYSINSTR_128
    (7, 0, 0, 5),  // PARange
    (7, 0, 56, 0), // FGT
    (7, 0, 60, 1), // ECV
    (7, 1, 0, 3),  // HAFDBS
    (7, 1, 4, 0),  // VMIDBits
    (7, 1, 8, 0),  // VH
    (7, 1, 16, 0), // LO
    (7, 1, 28, 0), // XNX
    (7, 1, 40, 0), // HCX
    (7, 2, 24, 0), // NV
    (7, 2, 40, 0), // FWB
    (7, 2, 56, 0), // EVT
    (7, 3, 12, 0), // S2PIE
    (7, 3, 20, 0), // S2POE
    (7, 3, 28, 0), // MEC
    (7, 3, 32, 0), // D128
    (7, 4, 0, 0),  // PoPS
    (7, 4, 20, 0), // NV_frac
    (7, 4, 44, 0), // SRMASK
];

/// ID registers that may read as other values than zero: op2 values by CRm.
const ALLOCATED: [&[u32]; 8] = [
    &[],
    &[0, 1, 2, 4, 5, 6, 7],
    &[0, 1, 2, 3, 4, 5, 6, 7],
    &[0, 1, 2, 4, 5, 6],
    &[0, 1, 2, 4, 5, 7],
    &[0],
    &[0, 1, 2, 3],
    &[0, 1, 2, 3, 4],
];

payload_test!(t66_id_space, Runs::EITHER);
/// Every ID register of op1 0, 1 and 3 can be read or is UNDEFINED; unallocated ID registers read as zero, and no
/// field shows a feature that EL2 hides or does not support.
fn t66_id_space(_: &Ctx) -> TestResult {
    let scratch = Scratch::new();
    for m in 0..16 {
        for op2 in 0..8 {
            for op1 in [1, 3] {
                // CCSIDR, CLIDR, GMID, SMIDR, AIDR, CTR, DCZID; all others are UNDEFINED.
                let _ = scratch.run(mrs([3, op1, 0, m, op2]));
            }
            let read = scratch.run(mrs([3, 0, 0, m, op2]));
            let Some(allocated) = (m != 0).then(|| ALLOCATED.get(usize::try_from(m).unwrap_or(9))).flatten() else {
                continue;
            };
            let Ok(value) = read else { crate::fail!("S3_0_C0_C{m}_{op2} is undefined: {read:x?}") };
            let reserved = !allocated.contains(&op2);
            ensure!(!reserved || value == 0, "reserved S3_0_C0_C{m}_{op2} reads {value:#x}");
            for (_, _, lsb, most) in LIMITS.iter().filter(|limit| (limit.0, limit.1) == (m, op2)) {
                let shown = value >> lsb & 0xf;
                ensure!(shown <= *most, "S3_0_C0_C{m}_{op2} bit {lsb} shows {shown}, more than {most}: {value:#x}");
            }
            if value != 0 {
                println!("S3_0_C0_C{m}_{op2} {value:#018x}");
            }
        }
    }
    Ok(())
}

/// One instruction or register of a feature: its name, the field that shows it (CRm, op2, lowest bit, least value), and
/// the instruction.
type Sample = (&'static str, u32, u32, u32, u64, u32);

/// Higher than any value of a four-bit field.
const NEVER: u64 = 16;

const SAMPLES: &[Sample] = &[
    ("RAS: ERRIDR_EL1", 4, 0, 28, 1, mrs([3, 0, 5, 3, 0])),
    // EL2 hides it, since it can inject errors; QEMU lacks it too.
    ("RAS: ERXPFGF_EL1", 4, 0, 28, NEVER, mrs([3, 0, 5, 4, 4])),
    ("SVE: RDVL", 4, 0, 32, 1, 0x04bf_5020),
    ("SVE: ZCR_EL1", 4, 0, 32, 1, mrs([3, 0, 1, 2, 0])),
    ("MPAM: MPAM1_EL1", 4, 0, 40, 1, mrs([3, 0, 10, 5, 0])),
    ("MPAM: MPAM0_EL1", 4, 0, 40, 1, mrs([3, 0, 10, 5, 1])),
    ("AMU: AMCR_EL0", 4, 0, 44, 1, mrs([3, 3, 13, 2, 0])),
    ("DIT", 4, 0, 48, 1, mrs([3, 3, 4, 2, 5])),
    ("CSV2: SCXTNUM_EL1", 4, 0, 56, 2, mrs([3, 0, 13, 0, 7])),
    ("MTE: IRG", 4, 1, 8, 1, 0x9adf_1000),
    ("MTE: GCR_EL1", 4, 1, 8, 2, mrs([3, 0, 1, 0, 6])),
    ("SME: SMCR_EL1", 4, 1, 24, 1, mrs([3, 0, 1, 2, 6])),
    ("SME: SVCR", 4, 1, 24, 1, mrs([3, 3, 4, 2, 2])),
    ("SME: TPIDR2_EL0", 4, 1, 24, 1, mrs([3, 3, 13, 0, 5])),
    ("SME: SMPRI_EL1", 4, 1, 24, 1, mrs([3, 0, 1, 2, 4])),
    ("NMI: ALLINT", 4, 1, 36, 1, mrs([3, 0, 4, 3, 0])),
    ("GCS: GCSCR_EL1", 4, 1, 44, 1, mrs([3, 0, 2, 5, 0])),
    ("GCS: GCSCRE0_EL1", 4, 1, 44, 1, mrs([3, 0, 2, 5, 2])),
    ("GCS: GCSPR_EL0", 4, 1, 44, 1, mrs([3, 3, 2, 5, 1])),
    ("THE: RCWMASK_EL1", 4, 1, 48, 1, mrs([3, 0, 13, 0, 6])),
    ("THE: RCWSMASK_EL1", 4, 1, 48, 1, mrs([3, 0, 13, 0, 3])),
    ("PFAR_EL1", 4, 1, 60, 1, mrs([3, 0, 6, 0, 5])),
    ("FPMR", 4, 2, 32, 1, mrs([3, 3, 4, 4, 2])),
    ("Debugv8p9: MDSELR_EL1", 5, 0, 0, 11, mrs([2, 0, 0, 4, 2])),
    ("PMU: PMCR_EL0", 5, 0, 8, 1, mrs([3, 3, 9, 12, 0])),
    ("PMUv3p4: PMMIR_EL1", 5, 0, 8, 5, mrs([3, 0, 9, 14, 6])),
    ("PMUv3p9: PMUACR_EL1", 5, 0, 8, 9, mrs([3, 0, 9, 14, 4])),
    ("PMUv3p9: PMECR_EL1", 5, 0, 8, 9, mrs([3, 0, 9, 14, 5])),
    ("PMICNTR_EL0", 5, 1, 36, 1, mrs([3, 3, 9, 4, 0])),
    ("System PMU: SPMCR_EL0", 5, 1, 32, 1, mrs([2, 3, 9, 12, 0])),
    ("SPE: PMSCR_EL1", 5, 0, 32, 1, mrs([3, 0, 9, 9, 0])),
    ("SPE: PMBIDR_EL1", 5, 0, 32, 1, mrs([3, 0, 9, 10, 7])),
    ("TRF: TRFCR_EL1", 5, 0, 40, 1, mrs([3, 0, 1, 2, 1])),
    ("TRBE: TRBLIMITR_EL1", 5, 0, 44, 1, mrs([3, 0, 9, 11, 0])),
    ("BRBE: BRBCR_EL1", 5, 0, 52, 1, mrs([2, 1, 9, 0, 0])),
    ("BRBE: BRBFCR_EL1", 5, 0, 52, 1, mrs([2, 1, 9, 0, 1])),
    ("BRBE: BRB IALL", 5, 0, 52, 1, 0xd509_729f),
    ("CRC32B", 6, 0, 16, 1, 0x1ac1_4000),
    ("LSE: LDADD", 6, 0, 20, 2, 0xf821_0200),
    ("CFINV", 6, 0, 52, 1, 0xd500_401f),
    ("TLBI VMALLE1OS", 6, 0, 56, 1, 0xd508_811f),
    ("RNDR", 6, 0, 60, 1, mrs([3, 3, 2, 4, 0])),
    ("DC CVADP", 6, 1, 0, 2, 0xd50b_7d20),
    ("PAuth: APIAKeyLo_EL1", 6, 1, 4, 1, mrs([3, 0, 2, 1, 0])),
    ("SB", 6, 1, 36, 1, 0xd503_30ff),
    ("CFP RCTX", 6, 1, 40, 1, 0xd50b_7380),
    ("DSB NXS", 6, 1, 56, 1, 0xd503_363f),
    ("LS64: LD64B", 6, 1, 60, 1, 0xf83f_d200),
    ("LS64: ACCDATA_EL1", 6, 1, 60, 3, mrs([3, 0, 13, 0, 5])),
    ("MOPS: SETP", 6, 2, 16, 1, 0x19c2_0420),
    ("CSSC: ABS", 6, 2, 52, 1, 0xdac0_2000),
    ("ECV: CNTVCTSS_EL0", 7, 0, 60, 1, mrs([3, 3, 14, 0, 6])),
    ("ECV: CNTPCTSS_EL0", 7, 0, 60, 1, mrs([3, 3, 14, 0, 5])),
    ("LOR: LORID_EL1", 7, 1, 16, 1, mrs([3, 0, 10, 4, 7])),
    ("LOR: LORC_EL1", 7, 1, 16, 1, mrs([3, 0, 10, 4, 3])),
    ("PAN", 7, 1, 20, 1, mrs([3, 0, 4, 2, 3])),
    ("UAO", 7, 2, 4, 1, mrs([3, 0, 4, 2, 4])),
    ("TCR2_EL1", 7, 3, 0, 1, mrs([3, 0, 2, 0, 3])),
    ("SCTLR2_EL1", 7, 3, 4, 1, mrs([3, 0, 1, 0, 3])),
    ("PIE: PIR_EL1", 7, 3, 8, 1, mrs([3, 0, 10, 2, 3])),
    ("PIE: PIRE0_EL1", 7, 3, 8, 1, mrs([3, 0, 10, 2, 2])),
    ("POE: POR_EL1", 7, 3, 16, 1, mrs([3, 0, 10, 2, 4])),
    ("POE: POR_EL0", 7, 3, 16, 1, mrs([3, 3, 10, 2, 4])),
    ("S2POE: S2POR_EL1", 7, 3, 20, 1, mrs([3, 0, 10, 2, 5])),
    ("AIE: MAIR2_EL1", 7, 3, 24, 1, mrs([3, 0, 10, 2, 1])),
    ("SRMASK: SCTLRMASK_EL1", 7, 4, 44, 1, mrs([3, 0, 1, 4, 0])),
];

/// Alternative fields for the same feature (second algorithm, intermediate revision).
fn also_shown(scratch: &Scratch, name: &str) -> bool {
    let field = |m, op2, lsb: u32| scratch.run(mrs([3, 0, 0, m, op2])).map_or(0, |value| value >> lsb & 0xf);
    match name.split(':').next().unwrap_or_default() {
        "PAuth" => field(6, 1, 8) != 0 || field(6, 2, 12) != 0,
        "CSV2" => field(4, 1, 32) >= 2,
        _ => false,
    }
}

/// Exception class 0 of UNDEFINED instructions; EL2 injects the same.
const UNDEFINED: u64 = 0;

payload_test!(t66_shown_works_hidden_is_undefined, Runs::EITHER.and(Runs::NATIVE));
/// One instruction or register of each feature: it works if the ID registers show the feature, and is UNDEFINED if
/// they do not.
fn t66_shown_works_hidden_is_undefined(_: &Ctx) -> TestResult {
    let wrong = mismatches(0);
    ensure!(wrong == 0, "{wrong} features do not match the ID registers");
    Ok(())
}

/// Number of features of this CPU that do not match its ID registers. It has an argument so that it can be sent to
/// another CPU.
pub(super) fn mismatches(_: u64) -> u64 {
    let scratch = Scratch::new();
    open_vectors();
    let (mut wrong, mut worked) = (0, 0);
    for &(name, m, op2, lsb, least, instruction) in SAMPLES {
        let Ok(id) = scratch.run(mrs([3, 0, 0, m, op2])) else {
            println!("S3_0_C0_C{m}_{op2} is undefined");
            return u64::MAX;
        };
        let shown = id >> lsb & 0xf >= least && !(name.starts_with("PMU") && id >> lsb & 0xf == 0xf);
        let shown = shown || also_shown(&scratch, name);
        let result = scratch.run(instruction);
        let right = if shown { result.is_ok() } else { result == Err(UNDEFINED) };
        if !right {
            wrong += 1;
            println!("{name}: shown {shown}, {result:x?}");
        }
        worked += u32::from(result.is_ok());
    }
    println!("{worked} of {} work", SAMPLES.len());
    wrong
}

payload_test!(t66_registers_have_any_value_at_cpu_on, Runs::ON_REQUEST, cpus = 2);
/// The same on a CPU that the payload's own firmware turned on with all ones in its registers.
fn t66_registers_have_any_value_at_cpu_on(ctx: &Ctx) -> TestResult {
    cpu::start(ctx.machine, 1)?;
    cpu::send(1, mismatches, 0);
    let wrong = cpu::wait(1)?;
    ensure!(wrong == 0, "{wrong} features do not match the ID registers");
    Ok(())
}
