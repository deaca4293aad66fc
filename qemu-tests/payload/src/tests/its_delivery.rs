//! Delivery of interrupts: messages of a CPU and of devices, and LPI configuration in memory that the host has donated.

use super::its::verdict;
use super::ownership::donate;
use crate::edu::Edu;
use crate::gic::{NONE, take_pending};
use crate::its::{Its, LPI, TABLE, enable_lpis, gits, int, inv, invall, mapc, mapd, mapti, properties, sync};
use crate::mem::{alloc, page};
use crate::nvme::Nvme;
use crate::outcome::{Fail, TestResult};
use crate::registry::Runs;
use crate::setup::{Attack, Ctx, Expect, Landed, Mode, Setup};
use crate::{ensure, mmio, payload_test, println, skip, vectors};

payload_test!(t45i_lpi_configuration, Runs::EITHER);
/// The page with an LPI's configuration byte is donated: the donation succeeds, and the byte is not used any more.
fn t45i_lpi_configuration(ctx: &Ctx) -> TestResult {
    if ctx.machine.its == 0 || ctx.machine.gicr == 0 {
        skip!("no ITS");
    }
    let table = properties(64);
    enable_lpis(ctx.machine.gicr, table, alloc(TABLE, TABLE))?;
    let mut its = Its::start(ctx.machine.its, alloc(TABLE, TABLE));
    its.commands([mapc(0, 0), mapd(3, 4, page()), mapti(3, 0, LPI, 0), inv(3, 0)])?;
    let raised = |its: &mut Its| {
        its.commands([int(3, 0), sync(0)])?;
        Ok::<u64, Fail>(take_pending())
    };
    let found = raised(&mut its)?;
    ensure!(found == LPI, "control: {found} is pending");
    println!("CONTROL {}: ok", ctx.name);
    if ctx.expect == Expect::Blocked {
        // EL2's copy is used until a command reads the byte again.
        mmio::write8(table, 0);
        let found = raised(&mut its)?;
        ensure!(found == LPI, "a byte takes effect before INV: {found} is pending");
        mmio::write8(table, crate::its::ENABLED);
    }
    donate(table, 1)?;
    its.commands([inv(3, 0), invall(0)])?;
    let found = raised(&mut its)?;
    verdict(ctx, Landed::from(found == LPI))
}

payload_test!(t45m_messages, Runs::ALL);
/// A CPU writes to GITS_TRANSLATER, as device 0; a device sends an EventID that only another device has mapped.
fn t45m_messages(ctx: &Ctx) -> TestResult {
    if ctx.machine.its == 0 || ctx.machine.gicr == 0 {
        skip!("no ITS");
    }
    let setup = Setup::new(ctx, Mode::Bypass)?;
    let Some(nvme) = Nvme::find(ctx.machine) else { skip!("no NVMe") };
    let (own, other) = (u64::from(setup.edu.function.rid), u64::from(nvme.function.rid));
    enable_lpis(ctx.machine.gicr, properties(64), alloc(TABLE, TABLE))?;
    let mut its = Its::start(ctx.machine.its, alloc(TABLE, TABLE));
    its.commands([mapc(0, 0), mapd(0, 4, page()), mapd(own, 4, page()), mapd(other, 4, page())])?;
    its.commands([mapti(0, 7, LPI + 7, 0), mapti(own, 2, LPI + 2, 0), mapti(other, 5, LPI + 5, 0)])?;
    its.commands([inv(0, 7), inv(own, 2), inv(other, 5), sync(0)])?;
    let translater = ctx.machine.its + gits::TRANSLATER;
    let sent = |edu: &Edu, data| {
        edu.set_message(translater, data)?;
        edu.send_message();
        crate::time::delay_us(1000);
        Ok::<u64, Fail>(take_pending())
    };
    let found = sent(&setup.edu, 2)?;
    ensure!(found == LPI + 2, "control: {found} is pending after the device's own message");
    println!("CONTROL {}: ok", ctx.name);
    for data in [5, 7, 0, 15, 16, 0xffff] {
        let found = sent(&setup.edu, data)?;
        ensure!(found == NONE, "event {data} of another device: {found} is pending");
    }
    let (_, _caught) = vectors::catch(|| mmio::write32(translater, 7));
    verdict(ctx, Landed::from(take_pending() == LPI + 7))
}

payload_test!(t45_without_an_its, Runs::HYP, el2 = "withhold=/intc@8000000/its@8080000");
/// The ITS is withheld from the host: it is not in the device tree, neither CPUs nor devices reach it, LPIs stay
/// disabled, and a wired interrupt is delivered.
fn t45_without_an_its(ctx: &Ctx) -> TestResult {
    /// The address of QEMU's ITS, and the INTID of the first PCI slot's INTA; the INTID increases by one for each slot.
    const ITS: u64 = 0x808_0000;
    const INTX: u32 = 35;
    ensure!(ctx.machine.its == 0, "an ITS is in the device tree at {:#x}", ctx.machine.its);
    for offset in [gits::CTLR, gits::CWRITER, gits::TRANSLATER] {
        let (_, caught) = vectors::catch(|| mmio::read32(ITS + offset));
        ensure!(caught.is_some(), "a load at offset {offset:#x} of the ITS does not abort");
        let (_, caught) = vectors::catch(|| mmio::write32(ITS + offset, 1));
        ensure!(caught.is_some(), "a store at offset {offset:#x} of the ITS does not abort");
    }
    enable_lpis(ctx.machine.gicr, properties(64), alloc(TABLE, TABLE))?;
    let setup = Setup::new(ctx, Mode::Bypass)?;
    setup.control(ctx)?;
    let attack = Attack::begin();
    setup.edu.set_message(ITS + gits::TRANSLATER, 0)?;
    setup.edu.send_message();
    crate::time::delay_us(1000);
    let found = take_pending();
    ensure!(found == NONE, "{found} is pending after a message");
    attack.check(ctx, Landed::No)?;
    setup.edu.disable_messages()?;
    let intx = INTX + setup.edu.function.rid / 8 % 4;
    ensure!(super::interrupts::arrives(ctx, intx, || setup.edu.raise()), "INTx {intx} does not arrive");
    Ok(())
}
