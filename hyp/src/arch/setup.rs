//! Every EL2 control register, for each CPU that enters: what the host may do on its own, and what traps.
//!
//! The list follows the rule that whatever a feature lets a CPU write to memory (profiling and trace buffers) stays in
//! the EL1&0 regime and so behind stage 2. A control that is not listed is left at the value that denies. Fields: Arm
//! ARM, DDI 0487 issue L.a, D24.2.

use super::{features, vectors};
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    CNTHCTL_EL2, CNTVOFF_EL2, CPTR_EL2, HCR_EL2, ICC_SRE_EL2, ICH_HCR_EL2, MDCR_EL2, MIDR_EL1, MPIDR_EL1, Readable,
    SCTLR_EL1, TPIDR_EL2, VBAR_EL2, VMPIDR_EL2, VTCR_EL2, VTTBR_EL2, Writeable,
};
use core::arch::asm;
use hyp::weakened;

/// The host's stage 2, as its registers want it.
#[derive(Clone, Copy, Debug)]
pub struct HostStage2Regs {
    /// `VTTBR_EL2`, with the VMID.
    pub vttbr: u64,
    /// `VTCR_EL2`.
    pub vtcr: u64,
}

/// `SCTLR_EL2` of a running EL2: MMU, caches, stack alignment checks, writable memory never executable, and the RES1
/// bits.
pub const SCTLR_EL2_RUNNING: u64 = 0x30c5_0830 | 1 | 1 << 2 | 1 << 3 | 1 << 12 | 1 << 19;

/// `SCTLR_EL1` at the host's entry: MMU and caches off, RES1 bits as Armv8.0 has them.
const SCTLR_EL1_ENTRY: u64 = 0x30d0_0800;

/// `CPTR_EL2` without E2H: the RES1 bits apart from the two that become traps with SVE and SME.
const CPTR_RES1: u64 = 0x22ff;
const CPTR_TZ: u64 = 1 << 8;
const CPTR_TSM: u64 = 1 << 12;

/// `MDCR_EL2`: buffer owned by EL1&0, no trap.
const BUFFER_OWNED_BY_EL1: u64 = 0b11;

/// `HFGxTR_EL2` bits of negative polarity, by feature.
const FGT_SME: u64 = 0b11 << 54;
const FGT_S1PIE: u64 = 0b11 << 57;
const FGT_S1POE: u64 = 0b11 << 59;

const HCRX_MSCEN: u64 = 1 << 11;
const HCRX_TCR2EN: u64 = 1 << 14;
const HCRX_SCTLR2EN: u64 = 1 << 15;

macro_rules! write_sysreg {
    ($($(#[doc = $doc:literal])? $name:ident = $reg:literal;)*) => {$(
        $(#[doc = $doc])?
        fn $name(value: u64) {
            // SAFETY: (1) the caller checked that the feature of this register is there; (2) it controls EL1 and EL0,
            // nothing that Rust code in EL2 relies on.
            unsafe { asm!(concat!("msr ", $reg, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
        }
    )*};
}
write_sysreg! {
    vpidr = "vpidr_el2";
    hstr = "hstr_el2";
    actlr = "actlr_el2";
    cpacr_el1 = "cpacr_el1";
    mdscr_el1 = "mdscr_el1";
    zcr = "s3_4_c1_c2_0";
    trfcr = "s3_4_c1_c2_1";
    hcrx = "s3_4_c1_c2_2";
    smprimap = "s3_4_c1_c2_5";
    smcr = "s3_4_c1_c2_6";
    hfgrtr = "s3_4_c1_c1_4";
    hfgwtr = "s3_4_c1_c1_5";
    hfgitr = "s3_4_c1_c1_6";
    hdfgrtr = "s3_4_c3_c1_4";
    hdfgwtr = "s3_4_c3_c1_5";
    hafgrtr = "s3_4_c3_c1_6";
    pmscr = "s3_4_c9_c9_0";
    mpamhcr = "s3_4_c10_c4_0";
    mpam2 = "s3_4_c10_c5_0";
}

fn pmcr_n() -> u64 {
    let pmcr: u64;
    // SAFETY: (1) the caller checked for a PMU; (2) the read has no side effect.
    unsafe { asm!("mrs {}, pmcr_el0", out(reg) pmcr, options(nomem, nostack, preserves_flags)) };
    (pmcr >> 11) & 0x1f
}

/// Sets up this CPU, number `index` in EL2's own count, for a host behind `stage2`. Idempotent.
pub fn cpu(index: usize, stage2: HostStage2Regs) {
    TPIDR_EL2.set(index as u64);
    VBAR_EL2.set(vectors());
    vector_lengths();
    traps();
    debug_and_trace();
    fine_grained_traps();
    interrupts_and_time();
    vpidr(MIDR_EL1.get());
    VMPIDR_EL2.set(MPIDR_EL1.get());
    VTCR_EL2.set(stage2.vtcr);
    VTTBR_EL2.set(stage2.vttbr);
    SCTLR_EL1.set(SCTLR_EL1_ENTRY);
    cpacr_el1(0);
    mdscr_el1(0);
    barrier::isb(barrier::SY);
    super::tlbi_host_all();
}

fn traps() {
    let mut hcr = HCR_EL2::VM::SET
        + HCR_EL2::SWIO::SET
        + HCR_EL2::PTW::SET
        + HCR_EL2::TSC::SET
        + HCR_EL2::RW::SET
        + HCR_EL2::API::SET
        + HCR_EL2::APK::SET
        + HCR_EL2::TIDCP::SET
        + HCR_EL2::TACR::SET;
    if features::mte() >= 2 {
        hcr += HCR_EL2::ATA::SET;
    }
    if features::csv2() >= 2 {
        hcr += HCR_EL2::EnSCXT::SET;
    }
    HCR_EL2.write(hcr);
    weakened!(TrapsOff, { HCR_EL2.set(HCR_EL2.get() & !(1 << 20 | 1 << 21)) });
    hstr(0);
    // With TIDCP and TACR: implementation-defined registers, which may show or steer what EL2 leaves in caches, are not
    // the host's.
    actlr(0);
    if features::hcx() != 0 {
        let mut value = 0;
        for (feature, bit) in
            [(features::mops(), HCRX_MSCEN), (features::tcrx(), HCRX_TCR2EN), (features::sctlrx(), HCRX_SCTLR2EN)]
        {
            if feature != 0 {
                value |= bit;
            }
        }
        hcrx(value);
    }
    if features::mpam() != 0 {
        mpam2(0);
        mpamhcr(0);
    }
}

/// Floating point, SVE and SME are the host's, at their full lengths.
fn vector_lengths() {
    let mut cptr = CPTR_RES1;
    if features::sve() == 0 {
        cptr |= CPTR_TZ;
    }
    if features::sme() == 0 {
        cptr |= CPTR_TSM;
    }
    CPTR_EL2.set(cptr);
    barrier::isb(barrier::SY);
    if features::sve() != 0 {
        zcr(0xf);
    }
    if features::sme() != 0 {
        smprimap(0);
        smcr(0xf | u64::from(features::sme_fa64() & 8 != 0) << 31 | u64::from(features::sme_version() >= 1) << 30);
    }
}

/// Counters stop at EL2, and what the CPU writes by itself goes through the host's stage 2.
fn debug_and_trace() {
    let mut mdcr = 0;
    if features::pmu() != 0 && features::pmu() != 0xf {
        mdcr |= pmcr_n() | 1 << 17;
        if features::pmu() >= 6 {
            mdcr |= 1 << 23;
        }
    }
    if features::spe() != 0 {
        mdcr |= BUFFER_OWNED_BY_EL1 << 12;
        pmscr(0);
    }
    if features::trace_buffer() != 0 {
        mdcr |= BUFFER_OWNED_BY_EL1 << 24;
    }
    MDCR_EL2.set(mdcr);
    if features::trace_filter() != 0 {
        trfcr(0);
    }
}

/// Nothing that the architecture offers is trapped finely, apart from what stays denied because its bit has negative
/// polarity and is not listed.
fn fine_grained_traps() {
    if features::fgt() == 0 {
        return;
    }
    let mut registers = 0;
    for (feature, bits) in [(features::sme(), FGT_SME), (features::s1pie(), FGT_S1PIE), (features::s1poe(), FGT_S1POE)]
    {
        if feature != 0 {
            registers |= bits;
        }
    }
    hfgrtr(registers);
    hfgwtr(registers);
    hfgitr(0);
    // PMSNEVFR_EL1 came with the third version of Statistical Profiling; its bit has negative polarity.
    let profiling = if features::spe() >= 3 { 1 << 62 } else { 0 };
    hdfgrtr(profiling);
    hdfgwtr(profiling);
    if features::amu() != 0 {
        hafgrtr(0);
    }
}

fn interrupts_and_time() {
    CNTHCTL_EL2.write(CNTHCTL_EL2::EL1PCEN::SET + CNTHCTL_EL2::EL1PCTEN::SET);
    CNTVOFF_EL2.set(0);
    if features::gic() != 0 {
        // SRE, DFB, DIB and Enable: the host uses the system register interface by itself.
        ICC_SRE_EL2.set(0xf);
        barrier::isb(barrier::SY);
        ICH_HCR_EL2.set(0);
    }
}
