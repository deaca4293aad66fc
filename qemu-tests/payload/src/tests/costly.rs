//! Queues with the most expensive commands: the work of a trap is bounded, and interrupts are taken between traps.

use crate::machine::EL2_IMAGE;
use crate::mem::{PAGE, alloc};
use crate::mmio;
use crate::num::low32;
use crate::outcome::{Fail, TestResult};
use crate::registry::{Clock, Runs};
use crate::setup::Ctx;
use crate::smmu::spec::{Cmd, reg};
use crate::smmu::{Format, Smmu};
use crate::sysreg::MAX_CPUS;
use crate::tests::registers::check_isolation;
use crate::{cpu, ensure, fail, gic, payload_test, println, sysreg};

payload_test!(t25_costly_queue, Runs::HYP);
/// Queues full of the most expensive commands: no store to PROD takes long.
fn t25_costly_queue(ctx: &Ctx) -> TestResult {
    let mut smmu = Smmu::new(ctx.machine, Format::TwoLevel);
    smmu.start()?;
    for cmd in COSTLY {
        fill_queue(&smmu, cmd);
        let longest = publish_again(prod_argument(&smmu));
        println!("{cmd:x?}: longest store {longest} us");
        ensure!(longest < LONGEST_US, "{cmd:x?}: a store to PROD took {longest} us");
    }
    fill_queue(&smmu, HALF);
    let late = interrupt_late(&smmu)?;
    println!("{HALF:x?}: an interrupt in the middle of a store is {late} us late");
    ensure!(late < LATEST_US, "{HALF:x?}: an interrupt in the middle of a store was {late} us late");
    smmu.off()?;
    smmu.acknowledge();
    check_isolation(ctx)
}

/// Publishes half a queue, with a timer that fires during the store: it may take long, but interrupts are taken
/// between traps. Returns the interrupt latency in microseconds.
fn interrupt_late(smmu: &Smmu) -> Result<u64, Fail> {
    let (prod, entries) = (smmu.addr(reg::CMDQ_PROD), 1_u32 << smmu.cmdq.log2);
    let target = smmu.read(reg::CMDQ_CONS).wrapping_add(entries / 2) & (2 * entries - 1);
    let deadline = sysreg::cntvct() + sysreg::ticks(SOON_US);
    let Some(taken) = gic::interrupted(deadline, || mmio::write32(prod, target)) else {
        fail!("no interrupt was taken");
    };
    Ok((taken - deadline.min(taken)) * 1_000_000 / sysreg::cntfrq())
}

/// Time until the timer fires. EL2 takes a hundred times longer to consume the queue.
const SOON_US: u64 = 50;
/// Instructions, in thousands: several times the work of one trap, and a quarter of that of the queue.
const LATEST_US: u64 = 4_000;
/// Instructions, in thousands: limit for one trap and its immediate repetitions.
const LONGEST_US: u64 = 20_000;
const COSTLY: [Cmd; 4] = [Cmd::cfgi_all(), Cmd::sync(), Cmd::tlbi_nsnh_all(), Cmd::cfgi_ste_range(0, 15)];
/// Half of all StreamIDs: unlike a range of all, it is not merged with the next such command.
const HALF: Cmd = Cmd::cfgi_ste_range(0, 14);

payload_test!(t65_costliest_trap, Runs::HYP);
/// The most expensive traps: tables in foreign memory with repeated failed claims, and completion stores to many pages
/// of memory, each with its own claim. Interrupt latency is at most one trap.
fn t65_costliest_trap(ctx: &Ctx) -> TestResult {
    let mut smmu = Smmu::new(ctx.machine, Format::TwoLevel);
    smmu.start()?;
    let level1 = smmu.strtab.base_register() & 0x000f_ffff_ffff_ffc0;
    let blocks = 1_u64 << (smmu.read(reg::IDR1) & 0x3f).saturating_sub(8);
    // Bus 0 keeps its table.
    for block in 1..blocks {
        mmio::write64(level1 + block * 8, EL2_IMAGE | 9);
    }
    fill_with(&smmu, |slot| if slot % 2 == 0 { Cmd::cfgi_all() } else { Cmd::sync() });
    let walks = interrupt_late(&smmu)?;
    for block in 1..blocks {
        mmio::write64(level1 + block * 8, 0);
    }
    let entries = 1_u64 << smmu.cmdq.log2;
    let pages = alloc(PAGE * entries, PAGE);
    let store = |slot: u32| Cmd::sync_msi(pages + u64::from(slot) * PAGE, slot);
    fill_with(&smmu, |slot| if slot % 2 == 0 { Cmd::tlbi_nsnh_all() } else { store(slot) });
    let stores = interrupt_late(&smmu)?;
    println!("an interrupt is {walks} us late in a walk over foreign tables, {stores} us among stores");
    ensure!(walks < ONE_TRAP_US, "an interrupt is {walks} us late in a walk over foreign tables");
    ensure!(stores < ONE_TRAP_US, "an interrupt is {stores} us late among stores");
    smmu.off()?;
    smmu.acknowledge();
    check_isolation(ctx)
}

/// Instructions, in thousands: limit for one trap.
const ONE_TRAP_US: u64 = 1_000;

payload_test!(t25_costly_queues_everywhere, Runs::HYP, cpus = 2, clock = Clock::Real);
/// All CPUs publish such queues at the same time: all are consumed.
fn t25_costly_queues_everywhere(ctx: &Ctx) -> TestResult {
    let mut smmu = Smmu::new(ctx.machine, Format::TwoLevel);
    smmu.start()?;
    let count = ctx.machine.cpu_count.min(MAX_CPUS);
    for index in 1..count {
        cpu::start(ctx.machine, index)?;
    }
    for cmd in COSTLY {
        fill_queue(&smmu, cmd);
        for index in 1..count {
            cpu::send(index, publish_again, prod_argument(&smmu));
        }
        publish_again(prod_argument(&smmu));
        for index in 1..count {
            cpu::wait(index)?;
        }
    }
    smmu.off()?;
    smmu.acknowledge();
    check_isolation(ctx)
}

fn fill_queue(smmu: &Smmu, cmd: Cmd) {
    fill_with(smmu, |_| cmd);
}

fn fill_with(smmu: &Smmu, cmd: impl Fn(u32) -> Cmd) {
    for slot in 0..1 << smmu.cmdq.log2 {
        smmu.cmdq.overwrite(slot, cmd(slot));
    }
}

fn prod_argument(smmu: &Smmu) -> u64 {
    smmu.addr(reg::CMDQ_PROD) | u64::from(smmu.cmdq.log2) << 48
}

/// Publishes half-full queues repeatedly; returns the duration of the longest store in microseconds. `argument` has
/// the address of PROD and log2 of the size.
fn publish_again(argument: u64) -> u64 {
    let (prod, log2) = (argument & 0xffff_ffff_ffff, low32(argument >> 48));
    let entries = 1_u32 << log2;
    let cons = prod + 4;
    let mut longest = 0;
    for _ in 0..20 {
        let target = mmio::read32(cons).wrapping_add(entries / 2) & (2 * entries - 1);
        let begin = sysreg::cntvct();
        mmio::write32(prod, target);
        longest = longest.max(sysreg::cntvct() - begin);
        sysreg::relax();
    }
    longest * 1_000_000 / sysreg::cntfrq()
}
