//! The demo's attacks by a device; the attack by the interrupt controller is in `its`. Each attack lands without
//! isolation, and must not land with isolation.

use crate::firmware::{Answer, Hypercall};
use crate::mem::{PAGE, page};
use crate::mmio;
use crate::outcome::TestResult;
use crate::registry::Runs;
use crate::setup::{Attack, AttackedMemory, Ctx, Expect, Mode, Seen, Setup};
use crate::{ensure, payload_test};

payload_test!(el2_read, Runs::ALL);
/// DMA read of EL2's image through the host's own stage 1.
fn el2_read(ctx: &Ctx) -> TestResult {
    read_el2(ctx, Mode::Stage1)
}

payload_test!(el2_write, Runs::ALL);
/// DMA write into EL2's image through the host's own stage 1.
fn el2_write(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    let attacked = AttackedMemory::el2(ctx)?;
    setup.control(ctx)?;
    let attack = Attack::begin();
    let landed = setup.write_lands(attacked.unused)?;
    if landed {
        // The word is reserved, but is restored.
        setup.write(attacked.unused, 0)?;
    }
    attack.check(ctx, landed.into())
}

payload_test!(stale_donated, Runs::EITHER);
/// DMA to a page that the device has used (so its translation is cached) and that was then donated to EL2.
fn stale_donated(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    let attacked = page();
    setup.control(ctx)?;
    ensure!(setup.write_lands(attacked + 0x800)?, "the page is not reachable while it is the host's");
    let answer = Hypercall::HostDonateHyp.call(attacked, 1);
    ensure!(answer == Answer::Success, "HOST_DONATE_HYP: {answer:?}");
    let attack = Attack::begin();
    let landed = setup.write_lands(attacked + 0x808)?;
    attack.check(ctx, landed.into())?;
    if ctx.expect == Expect::Blocked {
        let answer = Hypercall::HypDonateHost.call(attacked, 1);
        ensure!(answer == Answer::Success, "HYP_DONATE_HOST: {answer:?}");
        let other = mmio::find_other(attacked, PAGE, 0);
        ensure!(other.is_none(), "the returned page is not zero at {other:x?}");
        ensure!(setup.write_lands(attacked + 0x800)?, "the page is not reachable after it was returned");
    }
    Ok(())
}

payload_test!(smmu_off, Runs::ALL);
/// DMA read of EL2's image with the host's SMMU switched off.
fn smmu_off(ctx: &Ctx) -> TestResult {
    read_el2(ctx, Mode::Off)
}

payload_test!(bypass_stream, Runs::ALL);
/// DMA read of EL2's image by a stream with a bypass entry.
fn bypass_stream(ctx: &Ctx) -> TestResult {
    read_el2(ctx, Mode::Bypass)
}

fn read_el2(ctx: &Ctx, mode: Mode) -> TestResult {
    let setup = Setup::new(ctx, mode)?;
    let attacked = AttackedMemory::el2(ctx)?;
    setup.control(ctx)?;
    let attack = Attack::begin();
    let landed = setup.read(attacked.known)? == Seen::Value(attacked.content);
    attack.check(ctx, landed.into())
}
