//! ITS commands with numbers out of range, too many commands, and misuse of the queue's registers.

use super::its::verdict;
use super::ownership::{donate, take_back};
use crate::gic::{NONE, take_pending};
use crate::its::{
    Command, Its, LPI, TABLE, VALID, enable_lpis, gits, int, inv, invall, mapc, mapd, mapti, movall, movi, properties,
    redistributor, sync,
};
use crate::mem::{BLOCK, alloc, page};
use crate::num::u64_of;
use crate::outcome::{Fail, TestResult};
use crate::registry::{Clock, Runs};
use crate::setup::{Ctx, Expect, Landed};
use crate::{cpu, ensure, mmio, payload_test, println, skip, sysreg};

/// Starts the ITS, enables LPIs at the boot CPU, configures the first 64 as enabled, and maps collection 0 to this CPU.
fn start(ctx: &Ctx) -> Result<Its, Fail> {
    enable_lpis(ctx.machine.gicr, properties(64), alloc(TABLE, TABLE))?;
    let mut its = Its::start(ctx.machine.its, alloc(TABLE, TABLE));
    its.commands([mapc(0, 0), sync(0)])?;
    Ok(its)
}

/// The INTID that becomes pending at this CPU when `event` of `device` is raised.
fn raised(its: &mut Its, device: u64, event: u64) -> Result<u64, Fail> {
    its.commands([int(device, event), sync(0)])?;
    Ok(take_pending())
}

payload_test!(t45e_its_events, Runs::ALL);
/// Two devices with one LPI; INTIDs, events and collections out of range.
fn t45e_its_events(ctx: &Ctx) -> TestResult {
    if ctx.machine.its == 0 || ctx.machine.gicr == 0 {
        skip!("no ITS");
    }
    let mut its = start(ctx)?;
    its.commands([mapd(3, 4, page()), mapd(4, 4, page())])?;
    its.commands([mapti(3, 0, LPI, 0), inv(3, 0), mapti(4, 0, LPI, 0), inv(4, 0)])?;
    let own = raised(&mut its, 3, 0)?;
    ensure!(own == LPI, "control: {own} is pending");
    println!("CONTROL {}: ok", ctx.name);
    let other = raised(&mut its, 4, 0)?;
    verdict(ctx, Landed::from(other == LPI))?;
    if ctx.expect == Expect::Landed {
        return Ok(());
    }
    for (event, lpi) in [0, 1, 31, 32, 1019, 1023, 1024, 8191, 0x1_0000, 0x1_2000, 0x8000_0000, 0xffff_ffff]
        .into_iter()
        .zip(1..)
        .map(|(lpi, event)| (event, lpi))
    {
        its.commands([mapti(3, event, lpi, 0), inv(3, event)])?;
        let found = raised(&mut its, 3, event)?;
        ensure!(found == NONE, "MAPTI to {lpi}: {found} is pending");
    }
    let mapi = |event: u64| [0x0b | 3 << 32, event, 0, 0];
    for event in [16, 31, 8191, 8192, 0x1_0000, 0xffff_ffff] {
        its.commands([mapti(3, event, LPI + 1, 0), mapi(event), inv(3, event)])?;
        let found = raised(&mut its, 3, event)?;
        ensure!(found == NONE, "event {event}: {found} is pending");
    }
    for collection in [1, 511, 512, 0xffff] {
        its.commands([mapti(3, 13, LPI + 2, collection), inv(3, 13)])?;
        let found = raised(&mut its, 3, 13)?;
        ensure!(found == NONE, "collection {collection}: {found} is pending");
    }
    let own = raised(&mut its, 3, 0)?;
    ensure!(own == LPI, "afterwards {own} is pending");
    Ok(())
}

payload_test!(t45f_its_collections, Runs::HYP);
/// Collections of CPUs that do not exist or have no LPIs, and beyond the table. QEMU's ITS ignores these commands too.
fn t45f_its_collections(ctx: &Ctx) -> TestResult {
    if ctx.machine.its == 0 || ctx.machine.gicr == 0 {
        skip!("no ITS");
    }
    let mut its = start(ctx)?;
    its.commands([mapd(3, 4, page()), mapti(3, 0, LPI, 0), inv(3, 0)])?;
    let absent = u64_of(ctx.machine.cpu_count);
    for processor in [absent - 1, absent, 63, 64, 255, 0x7fff, 0xffff] {
        if processor == 0 {
            continue;
        }
        for collection in [1, 2, 511, 512, 0xffff] {
            its.commands([mapc(collection, processor), movi(3, 0, collection), sync(processor)])?;
            its.commands([invall(collection), movall(0, processor), movall(processor, 0), sync(0)])?;
            let found = raised(&mut its, 3, 0)?;
            ensure!(found == NONE || found == LPI, "collection {collection} of CPU {processor}: {found} is pending");
            // MAPC with V = 0 for a collection that has an event.
            its.commands([[0x09, 0, collection, 0], movi(3, 0, 0)])?;
        }
        let found = raised(&mut its, 3, 0)?;
        ensure!(found == LPI, "after CPU {processor}: {found} is pending");
    }
    // The collection is mapped twice, then the used mapping is removed.
    its.commands([mapc(0, 0), mapc(0, 0), [0x09, 0, 0, 0]])?;
    let found = raised(&mut its, 3, 0)?;
    ensure!(found == NONE, "without a collection {found} is pending");
    its.commands([mapc(0, 0)])?;
    let found = raised(&mut its, 3, 0)?;
    ensure!(found == LPI, "after the collection was mapped again, {found} is pending");
    Ok(())
}

payload_test!(t45k_its_queue_indices, Runs::ALL);
/// `GITS_CREADR` is written, which QEMU's ITS accepts; `GITS_CWRITER` beyond the queue, odd, with Retry; the ITS is
/// disabled in the middle.
fn t45k_its_queue_indices(ctx: &Ctx) -> TestResult {
    if ctx.machine.its == 0 {
        skip!("no ITS");
    }
    let base = ctx.machine.its;
    let mut its = Its::start(base, alloc(TABLE, TABLE));
    ensure!(its.map_device(3, page()), "the ITS does not consume commands");
    println!("CONTROL {}: ok", ctx.name);
    mmio::write32(base + gits::CTLR, 0);
    mmio::write64(base + gits::CREADR, 0x400);
    verdict(ctx, Landed::from(mmio::read64(base + gits::CREADR) == 0x400))?;
    if ctx.expect == Expect::Landed {
        return Ok(());
    }
    let mut its = Its::start(base, alloc(TABLE, TABLE));
    ensure!(its.map_device(3, page()), "the ITS does not consume commands");
    for offset in [TABLE, TABLE + 0x20, 0xf_ffe0, u64::MAX] {
        mmio::write64(base + gits::CWRITER, offset);
        let reader = mmio::read64(base + gits::CREADR);
        ensure!(reader == its.writer, "after GITS_CWRITER {offset:#x}: GITS_CREADR is {reader:#x}");
    }
    for bits in [0x1f, 1, 0xffff_ffff << 32] {
        mmio::write64(base + gits::CWRITER, its.writer | bits);
        let (writer, reader) = (mmio::read64(base + gits::CWRITER), mmio::read64(base + gits::CREADR));
        ensure!(writer == its.writer && reader == its.writer, "with {bits:#x}: {writer:#x}, {reader:#x}");
    }
    // The ITS is disabled with many commands in its queue: they are executed when it is enabled again.
    for round in 0..8 {
        (0..2000).for_each(|n| its.put(mapd(8 + n % 64, 5, VALID)));
        sysreg::dsb();
        mmio::write32(base + gits::CWRITER, crate::num::low32(its.writer));
        mmio::write32(base + gits::CTLR, 0);
        let quiet = sysreg::poll_us(1_000_000, || mmio::read32(base + gits::CTLR) == gits::QUIESCENT);
        ensure!(quiet, "round {round}: GITS_CTLR is {:#x}", mmio::read32(base + gits::CTLR));
        mmio::write32(base + gits::CTLR, 1);
        ensure!(its.submit(), "round {round}: the ITS stopped");
    }
    Ok(())
}

payload_test!(t45l_its_flood, Runs::HYP);
/// Maps every DeviceID with the maximum number of events: EL2 must still have memory for other allocations.
fn t45l_its_flood(ctx: &Ctx) -> TestResult {
    if ctx.machine.its == 0 || ctx.machine.gicr == 0 {
        skip!("no ITS");
    }
    let mut its = start(ctx)?;
    let blocks = alloc(16 * BLOCK, BLOCK);
    for device in (0..0x1_0000).step_by(61).chain(0..1024) {
        // 13 bits, and more than GITS_TYPER reports.
        its.put(mapd(device, 13 + device % 3 / 2, VALID));
        if its.writer == 0 {
            ensure!(its.submit(), "the ITS stopped before device {device}");
        }
    }
    ensure!(its.submit(), "the ITS stopped");
    // A page of each of several blocks: stage 2 tables are needed.
    for block in 0..16 {
        donate(blocks + block * BLOCK, 1)?;
        take_back(blocks + block * BLOCK, 1)?;
    }
    // All devices are unmapped; then devices can be mapped again.
    for device in (0..0x1_0000).step_by(61).chain(0..1024) {
        its.put([0x08 | device << 32, 0, 0, 0]);
        if its.writer == 0 {
            ensure!(its.submit(), "the ITS stopped before device {device}");
        }
    }
    its.commands([mapd(3, 4, page()), mapti(3, 0, LPI, 0), inv(3, 0)])?;
    let found = raised(&mut its, 3, 0)?;
    ensure!(found == LPI, "afterwards {found} is pending");
    Ok(())
}

payload_test!(t45l_its_invall_from_every_cpu, Runs::HYP, cpus = 4, clock = Clock::Real);
/// Every CPU repeatedly submits INVALL for all LPIs.
fn t45l_its_invall_from_every_cpu(ctx: &Ctx) -> TestResult {
    if ctx.machine.its == 0 || ctx.machine.gicr == 0 {
        skip!("no ITS");
    }
    let mut its = start(ctx)?;
    its.commands([mapd(3, 10, page())])?;
    for event in 0..1024 {
        its.put(mapti(3, event, LPI + event * 55, 0));
    }
    ensure!(its.submit(), "the ITS does not consume commands");
    (0..16).for_each(|_| its.put(invall(0)));
    sysreg::dsb();
    let target = (ctx.machine.its + gits::CWRITER) | (its.writer << 32);
    for index in 1..4 {
        cpu::start(ctx.machine, index)?;
        cpu::send(index, submit_often, target);
    }
    submit_often(target);
    for index in 1..4 {
        cpu::wait(index)?;
    }
    ensure!(its.submit(), "the ITS stopped");
    its.commands([inv(3, 0)])?;
    let found = raised(&mut its, 3, 0)?;
    ensure!(found == LPI, "afterwards {found} is pending");
    Ok(())
}

fn submit_often(target: u64) -> u64 {
    for _ in 0..8 {
        mmio::write64(target & 0xffff_ffff, target >> 32);
    }
    0
}

payload_test!(t45o_power_with_pending_lpis, Runs::HYP, cpus = 4);
/// CPUs stop and start while LPIs are pending at them; the machine is powered off with pending LPIs. EL2 compares its
/// tables at the end. Hardware has no address of a host table to which it could write later.
fn t45o_power_with_pending_lpis(ctx: &Ctx) -> TestResult {
    if ctx.machine.its == 0 || ctx.machine.gicr == 0 {
        skip!("no ITS");
    }
    let mut its = start(ctx)?;
    its.commands([mapd(3, 4, page())])?;
    let disabled = alloc(TABLE, TABLE);
    for round in 0..3 {
        for index in 1..4 {
            let id = u64_of(index);
            let pending = alloc(TABLE, TABLE);
            cpu::start(ctx.machine, index)?;
            let frame = redistributor(ctx.machine, index);
            if round == 0 {
                enable_lpis(frame, disabled, pending)?;
            }
            let commands: [Command; 6] =
                [mapc(id, id), mapti(3, id, LPI + 32 + id, id), movi(3, id, id), inv(3, id), int(3, id), sync(id)];
            its.commands(commands)?;
            cpu::stop(ctx.machine, index)?;
            its.commands([int(3, id), invall(id), sync(id)])?;
            ensure!(mmio::find_other(pending, TABLE, 0).is_none(), "CPU {index}: the host's pending table was written");
        }
    }
    // The LPIs move back to the boot CPU and are pending when the machine is powered off.
    its.commands([movi(3, 1, 0), mapti(3, 0, LPI, 0), inv(3, 0), int(3, 0), int(3, 1), int(3, 2), sync(0)])
}
