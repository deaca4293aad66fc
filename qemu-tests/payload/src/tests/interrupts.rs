//! The SMMU's wired interrupts: those of events and global errors reach the distributor if the host has enabled them.

use crate::edu::Direction;
use crate::mmio;
use crate::outcome::TestResult;
use crate::registry::Runs;
use crate::setup::{Ctx, Mode, Setup};
use crate::smmu::spec::{Cmd, reg};
use crate::{ensure, payload_test, println, sysreg};

const GICD_ISPENDR: u64 = 0x200;
const GICD_ICPENDR: u64 = 0x280;
const GICD_ICFGR: u64 = 0xc00;
/// IRQ_CTRL bits of the global error and the event queue.
const GERROR: u32 = 1 << 0;
const EVENTQ: u32 = 1 << 2;

/// Whether interrupt `number` is pending at the distributor; clears it.
fn take_pending(ctx: &Ctx, number: u32) -> bool {
    let (word, bit) = (u64::from(number / 32) * 4, 1 << (number % 32));
    let gicd = ctx.machine.gicd;
    let pending = sysreg::poll_us(1000, || mmio::read32(gicd + GICD_ISPENDR + word) & bit != 0);
    mmio::write32(gicd + GICD_ICPENDR + word, bit);
    pending
}

/// Whether interrupt `number` becomes pending at the distributor by `raise`, and not before.
pub(super) fn arrives(ctx: &Ctx, number: u32, raise: impl FnOnce()) -> bool {
    let before = take_pending(ctx, number);
    raise();
    !before && take_pending(ctx, number)
}

/// Makes interrupt `number` edge-triggered, as the device tree describes it.
fn set_edge(ctx: &Ctx, number: u32) {
    let config = ctx.machine.gicd + GICD_ICFGR + u64::from(number / 16) * 4;
    mmio::write32(config, mmio::read32(config) | 2 << (number % 16 * 2));
}

payload_test!(smmu_interrupts, Runs::ALL);
/// Enabled interrupts become pending, disabled ones do not.
fn smmu_interrupts(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let [eventq, _priq, _sync, gerror] = ctx.machine.smmu_interrupts;
    println!("event queue interrupt {eventq}, global error interrupt {gerror}");
    set_edge(ctx, eventq);
    set_edge(ctx, gerror);
    for enabled in [0, GERROR | EVENTQ] {
        setup.smmu.borrow().write(reg::IRQ_CTRL, enabled);
        take_pending(ctx, eventq);
        take_pending(ctx, gerror);
        // Causes a fault of the host's own stage 1.
        setup.edu.transfer(Direction::ToMemory, 0x1000, 0, 4)?;
        let mut smmu = setup.smmu.borrow_mut();
        let acknowledged = smmu.read(reg::IRQ_CTRLACK);
        ensure!(acknowledged == enabled, "IRQ_CTRLACK {acknowledged:#x} for {enabled:#x}");
        let event = take_pending(ctx, eventq);
        ensure!(event == (enabled != 0), "event queue interrupt pending is {event} with IRQ_CTRL {enabled:#x}");
        ensure!(smmu.next_event().is_some(), "no event");
        smmu.command(Cmd([0xee, 0]));
        ensure!(smmu.sync().is_err(), "opcode 0xee is accepted");
        let error = take_pending(ctx, gerror);
        ensure!(error == (enabled != 0), "global error interrupt pending is {error} with IRQ_CTRL {enabled:#x}");
        smmu.repair();
        smmu.drain()?;
    }
    Ok(())
}
