//! Frequent traps: register reads, command batches, calls.

use super::count;
use super::counts_instructions;
use crate::firmware::Hypercall;
use crate::its::{Its, LPI, TABLE, gicr, gits, inv, mapc, mapd, mapti, properties, sync};
use crate::mem::{alloc, page};
use crate::num::low32;
use crate::outcome::TestResult;
use crate::registry::Runs;
use crate::setup::Ctx;
use crate::smmu::spec::{Cmd, reg};
use crate::smmu::{Format, Smmu};
use crate::{bench_line, ensure, its, mmio, payload_test, skip};

/// Number of measurements of each trap; the first one is discarded.
const ROUNDS: u64 = 64;
/// PSCI_VERSION.
const PSCI_VERSION: u64 = 0x8400_0000;

payload_test!(bench_traps, Runs::ON_REQUEST);
/// EL2's instructions for each kind of trap.
fn bench_traps(ctx: &Ctx) -> TestResult {
    counts_instructions(ctx)?;
    if ctx.machine.smmu == 0 {
        skip!("no SMMU in the device tree");
    }
    let mut smmu = Smmu::new(ctx.machine, Format::TwoLevel);
    smmu.start()?;
    let memory = page();
    let load = |addr: u64| (0..=ROUNDS).map(|_| count::load32(addr)).skip(1).sum::<u64>();
    let plain_load = load(memory);
    bench_line!(load(smmu.addr(reg::IDR0)) - plain_load, ROUNDS, "instructions", "el2_insns.id_read");
    bench_line!(load(smmu.addr(reg::CMDQ_CONS)) - plain_load, ROUNDS, "instructions", "el2_insns.cons_read");

    let sid = 8;
    let msi = smmu.read(reg::IDR0) & crate::smmu::spec::IDR0_MSI != 0;
    let tlbi = Cmd::tlbi_nh_va(1, 0x1234_5000);
    batch(&mut smmu, memory, "prod_sync", |_| [None, Some(Cmd::sync())])?;
    batch(&mut smmu, memory, "prod_tlbi_sync", |_| [Some(tlbi), Some(Cmd::sync())])?;
    batch(&mut smmu, memory, "prod_cfgi_ste", |_| [Some(Cmd::cfgi_ste(sid)), Some(Cmd::sync())])?;
    if msi {
        // As in Linux, the completion is written to the SYNC's own entry.
        batch(&mut smmu, memory, "prod_tlbi_sync_msi", |slot| [Some(tlbi), Some(Cmd::sync_msi(slot, 0))])?;
    }
    calls();
    gic(ctx, memory)?;
    smmu.off()?;
    Ok(())
}

/// A PROD write that publishes `commands`, built with the address of the last entry.
fn batch(smmu: &mut Smmu, memory: u64, name: &str, commands: impl Fn(u64) -> [Option<Cmd>; 2]) -> TestResult {
    let mut total = 0;
    for round in 0..=ROUNDS {
        let length = u32::from(commands(0)[0].is_some());
        let last = smmu.cmdq.slot(smmu.cmdq.prod() + length);
        commands(last).into_iter().flatten().for_each(|cmd| smmu.command(cmd));
        let prod = smmu.cmdq.prod();
        let ticks = count::store32(smmu.addr(reg::CMDQ_PROD), prod) - count::store32(memory, prod);
        ensure!(smmu.error().is_none(), "{name}: the command queue stopped");
        ensure!(smmu.cmdq.is_drained(smmu.read(reg::CMDQ_CONS)), "{name}: one trap did not consume the batch");
        total += if round == 0 { 0 } else { ticks };
    }
    bench_line!(total, ROUNDS, "instructions", "el2_insns.{name}");
    Ok(())
}

/// A register of a redistributor, and a CWRITER write that publishes INV and SYNC.
fn gic(ctx: &Ctx, memory: u64) -> TestResult {
    if ctx.machine.its == 0 || ctx.machine.gicr == 0 {
        return Ok(());
    }
    let load = |addr: u64| (0..=ROUNDS).map(|_| count::load32(addr)).skip(1).sum::<u64>();
    let loads = load(ctx.machine.gicr + gicr::CTLR) - load(memory);
    bench_line!(loads, ROUNDS, "instructions", "el2_insns.gicr_ctlr_read");
    its::enable_lpis(ctx.machine.gicr, properties(64), alloc(TABLE, TABLE))?;
    let mut its = Its::start(ctx.machine.its, alloc(TABLE, TABLE));
    its.commands([mapc(0, 0), mapd(3, 4, page()), mapti(3, 0, LPI, 0)])?;
    let mut total = 0;
    for round in 0..=ROUNDS {
        its.put(inv(3, 0));
        its.put(sync(0));
        let writer = low32(its.writer);
        let ticks = count::store32(its.base + gits::CWRITER, writer) - count::store32(memory, writer);
        ensure!(mmio::read64(its.base + gits::CREADR) == its.writer, "one trap did not consume the batch");
        total += if round == 0 { 0 } else { ticks };
    }
    bench_line!(total, ROUNDS, "instructions", "el2_insns.gits_inv_sync");
    Ok(())
}

/// Calls without SMMU work.
fn calls() {
    let sum = |call: fn(u64, u64, u64) -> (u64, u64), function: u64| {
        (0..=ROUNDS).map(|_| call(function, 0, 0).0).skip(1).sum::<u64>()
    };
    let nothing = sum(count::nothing, 0);
    bench_line!(sum(count::hvc, Hypercall::Version.id()) - nothing, ROUNDS, "instructions", "el2_insns.hvc_version");
    bench_line!(sum(count::smc, PSCI_VERSION) - nothing, ROUNDS, "instructions", "el2_insns.psci_version");
}
