//! Tables that change after their address was written to the GIC, and queues outside the host's memory.

use super::its::verdict;
use crate::its::{INDIRECT, Its, PAGES_64K, TABLE, VALID, enable_lpis, gicr, gits, mapc, redistributor, sync};
use crate::mem::{PAGE, alloc, page};
use crate::outcome::TestResult;
use crate::registry::Runs;
use crate::setup::{AttackedMemory, Ctx, Expect, Landed};
use crate::{ensure, mmio, payload_test, println, skip, sysreg};

payload_test!(t45b_its_level_2_tables, Runs::ALL);
/// An entry of the level-1 device table changes after the table's address was written to the ITS: MAPD writes to the
/// new page.
fn t45b_its_level_2_tables(ctx: &Ctx) -> TestResult {
    if ctx.machine.its == 0 {
        skip!("no ITS");
    }
    let attacked = AttackedMemory::el2(ctx)?;
    let (first, own, target) = (alloc(TABLE, TABLE), alloc(TABLE, TABLE), alloc(TABLE, TABLE));
    let written = |table| mmio::find_other(table, TABLE, 0).is_some();
    mmio::write64(first, VALID | own);
    let mut its = Its::start(ctx.machine.its, INDIRECT | PAGES_64K | first);
    ensure!(its.map_device(3, page()) && its.map_event(3), "the ITS does not execute commands");
    if ctx.expect == Expect::Landed {
        ensure!(written(own), "control: no device table entry was written");
    }
    println!("CONTROL {}: ok", ctx.name);
    mmio::write64(first, VALID | target);
    ensure!(its.map_device(4, page()) && its.map_event(4), "the ITS stopped");
    verdict(ctx, Landed::from(written(target)))?;
    if ctx.expect == Expect::Blocked {
        // An address in EL2's memory, an address without memory, an invalid entry.
        for entry in [VALID | attacked.unused & !(TABLE - 1), VALID | 0xf_ffff_ffff_0000, 0] {
            mmio::write64(first, entry);
            ensure!(its.map_device(5, page()) && its.map_event(5), "the ITS stopped with {entry:#x}");
        }
        ensure!(!written(own) && !written(target), "a table of the host was written");
    }
    Ok(())
}

payload_test!(t45c_its_command_queue, Runs::ALL);
/// A command queue in EL2's memory: without isolation the ITS reads commands there.
fn t45c_its_command_queue(ctx: &Ctx) -> TestResult {
    if ctx.machine.its == 0 {
        skip!("no ITS");
    }
    let base = ctx.machine.its;
    let mut its = Its::start(base, page());
    ensure!(its.map_device(3, page()), "the ITS does not execute commands");
    println!("CONTROL {}: ok", ctx.name);
    // CWRITER is set to two commands; their content is the content of that memory.
    let consumed = |queue: u64| {
        let _ = Its::start_with(base, page(), queue);
        mmio::write64(base + gits::CWRITER, 0x40);
        sysreg::poll_us(10_000, || mmio::read64(base + gits::CREADR) & !0x1f == 0x40)
    };
    let attacked = AttackedMemory::el2(ctx)?.unused & !(PAGE - 1);
    verdict(ctx, Landed::from(consumed(attacked)))?;
    if ctx.expect == Expect::Blocked {
        ensure!(mmio::read64(base + gits::CREADR) == 1, "the queue does not stall");
        mmio::write64(base + gits::CWRITER, 0x41);
        ensure!(mmio::read64(base + gits::CREADR) == 1, "the queue does not stall again");
        for queue in [base, 0, 0xf_ffff_ffff_0000, ctx.machine.ram_end(), attacked + TABLE] {
            ensure!(!consumed(queue), "commands were read at {queue:#x}");
        }
        // The first page of the queue belongs to the payload, the second has no memory.
        let _ = Its::start_with(base, page(), ctx.machine.ram_end() - PAGE);
        mmio::write64(base + gits::CWRITER, PAGE + 0x20);
        sysreg::poll_us(10_000, || mmio::read64(base + gits::CREADR) & 1 == 1);
        let reader = mmio::read64(base + gits::CREADR);
        ensure!(reader == PAGE | 1, "commands beyond the memory: GITS_CREADR is {reader:#x}");
        // A queue with fewer pages than the index needs.
        let its = Its::start(base, page());
        mmio::write32(base + gits::CTLR, 0);
        mmio::write64(base + gits::CBASER, VALID | its.queue);
        mmio::write32(base + gits::CTLR, 1);
        mmio::write64(base + gits::CWRITER, PAGE);
        ensure!(mmio::read64(base + gits::CWRITER) == 0, "GITS_CWRITER is beyond the queue");
    }
    let mut its = Its::start(base, page());
    ensure!(its.map_device(3, page()), "the ITS no longer executes commands");
    Ok(())
}

payload_test!(t45h_lpi_enable, Runs::ALL);
/// `GICR_PENDBASER` changes while LPIs are enabled; EnableLPIs in every order, by another CPU, without tables.
fn t45h_lpi_enable(ctx: &Ctx) -> TestResult {
    if ctx.machine.its == 0 || ctx.machine.gicr == 0 {
        skip!("no ITS");
    }
    let frame = ctx.machine.gicr;
    let (properties, first, second) = (alloc(TABLE, TABLE), alloc(TABLE, TABLE), alloc(TABLE, TABLE));
    enable_lpis(frame, properties, first)?;
    let mut its = Its::start(ctx.machine.its, page());
    mmio::write64(frame + gicr::PENDBASER, second);
    // The LPI is disabled in the configuration table, so it stays pending.
    ensure!(its.raise_lpi(3, page()), "the ITS does not execute commands");
    println!("CONTROL {}: ok", ctx.name);
    verdict(ctx, Landed::from(mmio::find_other(second, TABLE, 0).is_some()))?;
    if ctx.expect == Expect::Landed {
        return Ok(());
    }
    ensure!(mmio::read64(frame + gicr::PENDBASER) == first, "GICR_PENDBASER changes while LPIs are enabled");
    let attacked = AttackedMemory::el2(ctx)?.unused & !(TABLE - 1);
    for cpu in 0..ctx.machine.cpu_count {
        let frame = redistributor(ctx.machine, cpu);
        // No table, too few INTIDs, a table in EL2's memory, a table without memory.
        for (table, bits) in [(0, 0), (properties, 11), (attacked, 15), (0xf_ffff_ffff_0000, 31), (properties, 15)] {
            for enable in [1, 1, 0, 0, 1] {
                mmio::write64(frame + gicr::PROPBASER, table | bits);
                mmio::write64(frame + gicr::PENDBASER, table);
                mmio::write32(frame + gicr::CTLR, enable);
                let ctlr = mmio::read32(frame + gicr::CTLR);
                ensure!(ctlr & 3 == enable | 2, "CPU {cpu}: GICR_CTLR is {ctlr:#x} after {enable}");
                let done = sysreg::poll_us(10_000, || mmio::read32(frame + gicr::CTLR) & 1 << 3 == 0);
                ensure!(done, "CPU {cpu}: RWP stays 1");
                let id = crate::num::u64_of(cpu);
                its.commands([mapc(id, id), sync(id)])?;
            }
            mmio::write32(frame + gicr::CTLR, 0);
        }
    }
    enable_lpis(frame, properties, first)?;
    ensure!(its.raise_lpi(4, page()), "the ITS stopped");
    Ok(())
}
