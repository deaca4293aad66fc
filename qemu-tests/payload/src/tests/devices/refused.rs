//! Functions that are refused, each with its reason, and calls in a wrong order.

use super::{assign, create, reason, return_function, until_done};
use crate::edu::Edu;
use crate::firmware::{Answer, Hypercall};
use crate::mem::page;
use crate::mmio;
use crate::num::low32;
use crate::outcome::TestResult;
use crate::pci::{self, Bridge, CLASS_BRIDGE};
use crate::registry::Runs;
use crate::setup::{Ctx, Mode, Setup};
use crate::tests::drivers::find_nvme;
use crate::tests::registers::check_isolation;
use crate::{ensure, payload_test, skip};

const ASSIGN: Hypercall = Hypercall::DeviceAssign;
const RETURN: Hypercall = Hypercall::DeviceReturn;

// X1 beside `DENIED`: docs/hypercalls.md.
const UNKNOWN: u64 = 1;
const NOT_ON_ROOT_BUS: u64 = 2;
const BRIDGE: u64 = 3;
const NO_RESET: u64 = 5;
const BAR_OUTSIDE: u64 = 6;
const BAR_OVERLAPS: u64 = 8;
const NOT_THE_HOSTS: u64 = 10;
const BUS_NUMBERS: u64 = 11;

payload_test!(t68_functions_that_are_refused, Runs::HYP);
/// A function without a reset, a bridge, a function behind a bridge, a missing function, and one with a BAR at a wrong
/// address.
fn t68_functions_that_are_refused(ctx: &Ctx) -> TestResult {
    let nvme = find_nvme(ctx)?;
    let Some(edu) = Edu::find(ctx.machine) else { skip!("no edu") };
    let Some(bridge) = pci::find(ctx.machine, |_, class| class == CLASS_BRIDGE) else { skip!("no root port") };
    let guest = create()?;
    let denied = |rid, why| -> TestResult {
        let answer = reason(ASSIGN, rid, guest);
        ensure!(answer == (Answer::Denied, why), "DEVICE_ASSIGN({rid:#x}): {answer:?}, not {why}");
        Ok(())
    };
    denied(edu.function.rid, NO_RESET)?;
    denied(bridge.rid, BRIDGE)?;
    denied(0x100, NOT_ON_ROOT_BUS)?;
    denied(0xf8, UNKNOWN)?;
    denied(0x1_0000, UNKNOWN)?;
    let rid = nvme.function.rid;
    ensure!(reason(ASSIGN, rid, 31).0 == Answer::InvalidParameter, "a guest that does not exist");
    ensure!(reason(RETURN, rid, 0) == (Answer::Denied, UNKNOWN), "it is the host's");
    for (base, why) in [
        (edu.bar, BAR_OVERLAPS),
        (edu.bar + 0x4000, BAR_OVERLAPS),
        (0, BAR_OUTSIDE),
        (ctx.machine.gicd, BAR_OUTSIDE),
        (ctx.machine.window32.base - 0x4000, BAR_OUTSIDE),
        (page() & !0x3fff, BAR_OUTSIDE),
    ] {
        nvme.function.set_bar(0, base, true);
        denied(rid, why)?;
    }
    nvme.function.set_bar(0, nvme.bar(), true);
    // The bus behind the root port gets the number of the root bus; then the root port's window overlaps the BAR.
    let Some(port) = Bridge::find(ctx.machine, 1) else { skip!("no root port") };
    port.set_secondary_bus(0);
    denied(rid, BUS_NUMBERS)?;
    port.set_secondary_bus(1);
    let window = bridge.config(0x20);
    let was = mmio::read32(window);
    let base = low32(nvme.bar() >> 20);
    mmio::write32(window, base << 20 | base << 4);
    denied(rid, BAR_OVERLAPS)?;
    mmio::write32(window, was);
    assign(nvme.function, guest)?;
    return_function(nvme.function)?;
    check_isolation(ctx)
}

payload_test!(t68_calls_out_of_order, Runs::HYP);
/// A function is assigned twice, to two guests, and to a destroyed guest; it is taken back while it is in transition;
/// its guest is destroyed while it is in transition.
fn t68_calls_out_of_order(ctx: &Ctx) -> TestResult {
    let nvme = find_nvme(ctx)?;
    let rid = nvme.function.rid;
    let destroy = |guest| -> TestResult {
        let answer = Answer::of(Hypercall::VmDestroy.raw(guest, 0)[0]);
        ensure!(answer == Answer::Success, "VM_DESTROY: {answer:?}");
        Ok(())
    };
    let (one, two) = (create()?, create()?);
    ensure!(reason(ASSIGN, rid, one).0 == Answer::Busy, "it was assigned without a reset");
    ensure!(reason(ASSIGN, rid, two) == (Answer::Denied, NOT_THE_HOSTS), "in transition to another guest");
    return_function(nvme.function)?;
    ensure!(reason(ASSIGN, rid, one).0 == Answer::Busy, "it was assigned without a reset");
    destroy(one)?;
    ensure!(until_done(ASSIGN, rid, one) == Answer::Denied, "it was assigned to a destroyed guest");
    let three = create()?;
    ensure!(three != one, "the handle of a guest is reused while a function is in transition to it");
    return_function(nvme.function)?;
    ensure!(create()? == one, "the handle stays in use");
    assign(nvme.function, two)?;
    ensure!(reason(ASSIGN, rid, two) == (Answer::Denied, NOT_THE_HOSTS), "given twice");
    ensure!(reason(ASSIGN, rid, three) == (Answer::Denied, NOT_THE_HOSTS), "assigned to another guest");
    destroy(two)?;
    ensure!(create()? != two, "the handle of a guest is reused while it has a function");
    return_function(nvme.function)?;
    ensure!(reason(RETURN, rid, 0) == (Answer::Denied, UNKNOWN), "returned twice");
    check_isolation(ctx)
}

payload_test!(t68_bus_numbers, Runs::HYP);
/// While a function is away no bridge gets the number of the root bus, by accesses of any size.
fn t68_bus_numbers(ctx: &Ctx) -> TestResult {
    let nvme = find_nvme(ctx)?;
    let Some(bridge) = pci::find(ctx.machine, |_, class| class == CLASS_BRIDGE) else { skip!("no root port") };
    let guest = create()?;
    let register = bridge.config(0x18);
    let was = mmio::read32(register);
    assign(nvme.function, guest)?;
    mmio::write32(register, 0);
    mmio::write16(register, 0);
    mmio::write16(register + 2, 0);
    for byte in 0..3 {
        mmio::write8(register + byte, 0);
    }
    let now = mmio::read32(register);
    crate::println!("ATTACK {}: {}", ctx.name, if now == was { "blocked" } else { "landed" });
    ensure!(now == was, "the bus numbers were {was:#x} and are {now:#x}");
    // The host can write the bridge's other registers.
    let line = bridge.config(0x3c);
    mmio::write8(line, 0x5a);
    ensure!(mmio::read8(line) == 0x5a, "the host cannot write the bridge's other registers");
    return_function(nvme.function)?;
    mmio::write32(register, 0x0002_0200);
    ensure!(mmio::read32(register) == 0x0002_0200, "bus numbers cannot be changed after all functions were returned");
    mmio::write32(register, was);
    Setup::new(ctx, Mode::Stage1)?.control(ctx)?;
    check_isolation(ctx)
}
