//! Misuse of the SMMU's command queue: exact errors for illegal commands, no effect of commands for other owners,
//! and a usable queue afterwards.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::firmware::{self, Stat};
use crate::machine::EL2_IMAGE;
use crate::mmio;
use crate::num::usize_of;
use crate::outcome::TestResult;
use crate::random::Random;
use crate::registry::{Clock, Runs};
use crate::setup::{Ctx, Mode, Setup};
use crate::smmu::spec::{CERROR_ILL, Cmd, cr0, reg};
use crate::smmu::{Format, Smmu, SmmuError};
use crate::tests::registers::check_isolation;
use crate::{cpu, ensure, fail, payload_test, println, sysreg, time};

const ILLEGAL: Result<(), SmmuError> = Err(SmmuError::Command(CERROR_ILL));
/// SSec: the command is for the secure side.
const SSEC: u64 = 1 << 10;

payload_test!(t22_foreign_invalidations, Runs::HYP);
/// Invalidations of EL2, EL3, secure and stage-2 contexts are illegal commands; other VMIDs have no effect.
fn t22_foreign_invalidations(ctx: &Ctx) -> TestResult {
    let mut smmu = Smmu::new(ctx.machine, Format::TwoLevel);
    smmu.start()?;
    // EL3_ALL, EL3_VA, EL2_ALL, EL2_ASID, EL2_VA, EL2_VAA, S12_VMALL, S2_IPA and the secure forms.
    for opcode in [0x18, 0x1a, 0x20, 0x21, 0x22, 0x23, 0x28, 0x2a, 0x50, 0x51, 0x55, 0x58, 0x5a, 0x5b, 0x60] {
        let result = smmu.try_command(Cmd([opcode, 0]));
        ensure!(result == ILLEGAL, "opcode {opcode:#x}: {result:?}");
    }
    for opcode in [0x03, 0x04, 0x05, 0x06, 0x10, 0x11, 0x12, 0x13, 0x30] {
        let result = smmu.try_command(Cmd([opcode | SSEC, 0]));
        // TLB invalidations have no SSec field.
        let right = result == ILLEGAL || opcode >= 0x10 && result.is_ok();
        ensure!(right, "opcode {opcode:#x} with SSec: {result:?}");
        let result = smmu.try_command(Cmd([opcode | 5 << 32, 0]));
        ensure!(matches!(result, Ok(()) | ILLEGAL), "opcode {opcode:#x} with a field set: {result:?}");
    }
    smmu.off()?;
    check_isolation(ctx)
}

payload_test!(t23_every_opcode, Runs::HYP);
/// Every opcode with random payload: legal ones work or are illegal in that form, all others are CERROR_ILL; the host's
/// repair works each time.
fn t23_every_opcode(ctx: &Ctx) -> TestResult {
    let mut random = Random::new(ctx.seed);
    let mut smmu = Smmu::new(ctx.machine, Format::TwoLevel);
    smmu.start()?;
    let mut illegal = 0;
    for round in 0..3 {
        for opcode in 0..256_u64 {
            let legal = matches!(opcode, 0x01..=0x06 | 0x10..=0x13 | 0x30 | 0x46);
            let payload = [0, random.draw(), u64::MAX][round];
            let second = [0, random.draw(), u64::MAX][round];
            let mut first = opcode | payload & !0xff;
            if round < 2 {
                first &= !SSEC;
            }
            let result = smmu.try_command(Cmd([first, second]));
            illegal += u32::from(result == ILLEGAL);
            let right = if legal { matches!(result, Ok(()) | ILLEGAL) } else { result == ILLEGAL };
            ensure!(right, "opcode {opcode:#x} as {first:#x} {second:#x}: {result:?}");
            ensure!(!(legal && round == 0 && result.is_err()), "legal opcode {opcode:#x}: {result:?}");
        }
    }
    let reserved_cs = Cmd([0x46 | 3 << 12, 0]);
    ensure!(smmu.try_command(reserved_cs) == ILLEGAL, "SYNC with reserved CS is accepted");
    println!("{illegal} illegal commands");
    smmu.acknowledge();
    smmu.off()?;
    check_isolation(ctx)
}

payload_test!(t24_inconsistent_queue_indices, Runs::HYP);
/// PROD ahead by more than the queue, behind, with random bits; CONS written while enabled: no hang, and the queue is
/// usable afterwards.
fn t24_inconsistent_queue_indices(ctx: &Ctx) -> TestResult {
    let mut smmu = Smmu::new(ctx.machine, Format::TwoLevel);
    let entries = 1_u32 << smmu.cmdq.log2;
    for slot in 0..entries {
        smmu.cmdq.overwrite(slot, Cmd::sync());
    }
    let mut random = Random::new(ctx.seed);
    for round in 0..64_u32 {
        smmu.start()?;
        for slot in 0..entries {
            smmu.cmdq.overwrite(slot, Cmd::sync());
        }
        let prod = smmu.read(reg::CMDQ_PROD);
        let value = match round {
            0 => prod ^ entries,                   // exactly full
            1 => (prod ^ entries).wrapping_add(1), // more than full
            2 => prod.wrapping_sub(1),             // behind
            3 => u32::MAX,
            4 => entries << 1,
            _ => random.word(),
        };
        smmu.write(reg::CMDQ_PROD, value);
        if round % 3 == 0 {
            smmu.write(reg::CMDQ_CONS, random.word());
        }
        time::delay_us(50);
        let cons = smmu.read(reg::CMDQ_CONS);
        if round == 0 {
            let done = sysreg::poll_us(1000, || smmu.read(reg::CMDQ_CONS) & (2 * entries - 1) == value);
            ensure!(done, "a full queue of SYNCs stops at {cons:#x}");
        }
        smmu.off()?;
        smmu.acknowledge();
    }
    check_isolation(ctx)
}

payload_test!(t18_stream_ids, Runs::HYP);
/// CFGI for StreamIDs out of range and at the limits; level-1 descriptors with every SPAN, cleared, and pointing to
/// EL2's memory.
fn t18_stream_ids(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    for sid in [0, 0xff, 0x100, 0xffff, 0x1_0000, 0x7fff_ffff, u32::MAX] {
        for cmd in [Cmd::cfgi_ste(sid), Cmd::cfgi_ste_nonleaf(sid), Cmd::cfgi_cd(sid)] {
            let result = setup.smmu.borrow_mut().try_command(cmd);
            ensure!(matches!(result, Ok(()) | ILLEGAL), "{cmd:x?}: {result:?}");
        }
        for range in 0..32 {
            let result = setup.smmu.borrow_mut().try_command(Cmd::cfgi_ste_range(sid, range));
            ensure!(matches!(result, Ok(()) | ILLEGAL), "range {range} at {sid:#x}: {result:?}");
        }
    }
    setup.control(ctx)?;
    let (level1, good) = {
        let smmu = setup.smmu.borrow();
        (smmu.strtab.base, mmio::read64(smmu.strtab.base))
    };
    let span = |value: u64| good & !0x1f | value;
    let hole_end = ctx.machine.hole().map_or(EL2_IMAGE, |hole| hole.end);
    // Level-2 tables that start in the host's memory and end beyond it, and tables in EL2's memory.
    let cases = [
        0,
        span(0),
        span(1),
        span(12),
        span(31),
        EL2_IMAGE | 9,
        (hole_end - 0x4000) | 9,
        ctx.machine.uart | 9,
        u64::MAX,
    ];
    for descriptor in cases {
        mmio::write64(level1, descriptor);
        for cmd in [Cmd::cfgi_ste_nonleaf(setup.edu.function.sid), Cmd::cfgi_all()] {
            let result = setup.smmu.borrow_mut().try_command(cmd);
            ensure!(result.is_ok(), "{cmd:x?} over descriptor {descriptor:#x}: {result:?}");
        }
        ensure!(setup.read(setup.own + 0x40).is_err(), "DMA works with level-1 descriptor {descriptor:#x}");
    }
    mmio::write64(level1, good);
    setup.smmu.borrow_mut().try_command(Cmd::cfgi_all())?;
    setup.control(ctx)
}

payload_test!(t19_cfgi_all_repeated, Runs::HYP);
/// CFGI_ALL and full ranges, many times: each batch takes bounded time, and the table is correct afterwards.
fn t19_cfgi_all_repeated(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let (begin, exits) = (sysreg::cntvct(), firmware::stat(Stat::Exits));
    for round in 0..50 {
        let mut smmu = setup.smmu.borrow_mut();
        for index in 0..100 {
            smmu.command(if index % 2 == 0 { Cmd::cfgi_all() } else { Cmd::cfgi_ste_range(0, round % 16) });
        }
        smmu.sync()?;
    }
    let exits = firmware::stat(Stat::Exits) - exits;
    println!(
        "{} us and {exits} exits for 5000 invalidations",
        (sysreg::cntvct() - begin) * 1_000_000 / sysreg::cntfrq()
    );
    // A queue of any batch size is consumed in many short traps.
    ensure!(exits >= 500, "5000 invalidations took only {exits} exits: some were too long");
    setup.control(ctx)
}

payload_test!(t14_queue_changes_under_check, Runs::HYP, cpus = 2, clock = Clock::Real);
/// A second CPU rewrites the entry with legal and illegal commands while it is submitted: each result belongs to one
/// of the two.
fn t14_queue_changes_under_check(ctx: &Ctx) -> TestResult {
    let mut smmu = Smmu::new(ctx.machine, Format::TwoLevel);
    smmu.start()?;
    cpu::start(ctx.machine, 1)?;
    let entries = 1_u32 << smmu.cmdq.log2;
    cpu::send(1, flip_entries, smmu.cmdq.base | u64::from(smmu.cmdq.log2));
    let mut answers = Answers::default();
    let deadline = sysreg::cntvct() + sysreg::ticks(20_000_000);
    while !answers.has_each(ENOUGH) && sysreg::cntvct() < deadline {
        FLIPPED.store(u64::from(smmu.cmdq.prod() & (entries - 1)), Ordering::SeqCst);
        for _ in 0..BATCH {
            smmu.command(Cmd::cfgi_all());
        }
        answers.submit(&mut smmu)?;
    }
    FLIP.store(false, Ordering::SeqCst);
    cpu::wait(1)?;
    println!("{answers}");
    ensure!(answers.has_each(1), "the other CPU's writes never changed a result: {answers}");
    smmu.off()?;
    smmu.acknowledge();
    check_isolation(ctx)
}

/// Number of times that a concurrently rewritten queue was accepted and rejected.
#[derive(Default)]
pub struct Answers {
    accepted: u32,
    refused: u32,
}

impl Answers {
    /// Submits the commands in the queue. A queue that stopped at an illegal command is set up again: a repair in
    /// place could be overwritten immediately.
    pub fn submit(&mut self, smmu: &mut Smmu) -> TestResult {
        smmu.publish();
        match smmu.drain() {
            Ok(()) => self.accepted += 1,
            Err(SmmuError::Command(CERROR_ILL)) => {
                self.refused += 1;
                smmu.off()?;
                smmu.acknowledge();
                smmu.start_cmdq(0)?;
            }
            Err(other) => fail!("{other:?}"),
        }
        Ok(())
    }

    /// Whether each result occurred at least `times` times.
    pub fn has_each(&self, times: u32) -> bool {
        self.accepted >= times && self.refused >= times
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} batches accepted, {} refused", self.accepted, self.refused)
    }
}

static FLIP: AtomicBool = AtomicBool::new(true);
/// First slot of the rewritten batch.
static FLIPPED: AtomicU64 = AtomicU64::new(0);
/// Number of commands of a batch.
const BATCH: u64 = 4;
/// Minimum number of batches with each result.
const ENOUGH: u32 = 200;

/// TLBI_EL2_ALL, a legal CFGI_ALL followed directly by an undefined opcode, S12_VMALL.
pub const ILLEGAL_WORDS: [u64; 4] = [0x20, 0x04, 0xff, 0x28];

fn flip_entries(argument: u64) -> u64 {
    let (base, entries) = (argument & !0xfff, 1_u64 << (argument & 0x1f));
    // A legal CFGI_ALL, an undefined opcode, a legal one, S12_VMALL.
    let words = [0x04, 0xff, 0x04, 0x28];
    let mut round = 0_u64;
    while FLIP.load(Ordering::SeqCst) {
        let slot = base + (FLIPPED.load(Ordering::Relaxed) + round % BATCH) % entries * 16;
        mmio::write64(slot, words[usize_of(round / BATCH % 4)]);
        mmio::write64(slot + 8, 31);
        round += 1;
    }
    round
}

payload_test!(cmdq_error_while_evtq_on, Runs::HYP);
/// A stopped command queue does not affect streams: DMA continues, and the queue is repaired without a new set-up.
fn cmdq_error_while_evtq_on(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    {
        let mut smmu = setup.smmu.borrow_mut();
        smmu.command(Cmd([0xee, 0]));
        smmu.command(Cmd::tlbi_nh_all());
        let result = smmu.sync();
        ensure!(result == ILLEGAL, "{result:?}");
        ensure!(smmu.read(reg::CR0ACK) & cr0::CMDQEN != 0, "the queue was switched off");
    }
    setup.control(ctx)?;
    let mut smmu = setup.smmu.borrow_mut();
    smmu.repair();
    smmu.drain()?;
    ensure!(smmu.error().is_none(), "the error is still active");
    smmu.sync()?;
    Ok(())
}
