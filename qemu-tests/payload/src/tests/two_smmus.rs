//! A machine with two SMMUs, and `edu` behind each: attacks from both sides, and pages that both have cached.

use crate::mem::page;
use crate::outcome::{Fail, TestResult};
use crate::registry::Runs;
use crate::setup::{Attack, AttackedMemory, Ctx, Expect, Mode, Setup};
use crate::smmu::SmmuError;
use crate::smmu::spec::Cmd;
use crate::tests::ownership::{donate, take_back};
use crate::{ensure, fail, payload_test};

const MODES: [Mode; 3] = [Mode::Stage1, Mode::Bypass, Mode::Off];

/// Both SMMUs with their devices, which both work.
fn both(ctx: &Ctx, modes: [Mode; 2]) -> Result<[Setup; 2], Fail> {
    let setups = [Setup::new(ctx, modes[0])?, Setup::second(ctx, modes[1])?];
    control(ctx, &setups)?;
    Ok(setups)
}

fn control(ctx: &Ctx, setups: &[Setup; 2]) -> TestResult {
    setups.iter().try_for_each(|setup| setup.control(ctx))
}

payload_test!(t34_el2_memory_from_both_sides, Runs::ON_REQUEST);
/// DMA to EL2's image from behind each SMMU, in every combination of the host's modes of both.
fn t34_el2_memory_from_both_sides(ctx: &Ctx) -> TestResult {
    let mut setups = both(ctx, [Mode::Stage1; 2])?;
    let attacked = AttackedMemory::el2(ctx)?;
    for modes in MODES.into_iter().flat_map(|first| MODES.map(|second| [first, second])) {
        for (setup, mode) in setups.iter_mut().zip(modes) {
            setup.switch(mode)?;
        }
        for setup in &setups {
            let attack = Attack::begin();
            let landed = setup.write_lands(attacked.unused)?;
            if landed {
                setup.write(attacked.unused, 0)?;
            }
            attack.check(ctx, landed.into())?;
        }
    }
    control(ctx, &setups)
}

/// Both devices use a page, which is then donated; each attacks it. Then it is returned to both.
fn donate_and_attack(ctx: &Ctx, setups: &[Setup; 2]) -> TestResult {
    let attacked = page();
    for setup in setups {
        ensure!(setup.write_lands(attacked + 0x800)?, "the page is not reachable while it is the host's");
    }
    donate(attacked, 1)?;
    for setup in setups {
        let attack = Attack::begin();
        let landed = setup.write_lands(attacked + 0x808)?;
        attack.check(ctx, landed.into())?;
    }
    if ctx.expect == Expect::Blocked {
        take_back(attacked, 1)?;
        for setup in setups {
            ensure!(setup.write_lands(attacked + 0x800)?, "the page is not reachable after it was returned");
        }
    }
    Ok(())
}

payload_test!(t34_page_cached_by_both, Runs::ON_REQUEST);
/// A page that the devices behind both SMMUs have used, then donated, in every combination of the host's modes.
fn t34_page_cached_by_both(ctx: &Ctx) -> TestResult {
    let mut setups = both(ctx, [Mode::Stage1; 2])?;
    for modes in MODES.into_iter().flat_map(|first| MODES.map(|second| [first, second])) {
        for (setup, mode) in setups.iter_mut().zip(modes) {
            setup.switch(mode)?;
        }
        donate_and_attack(ctx, &setups)?;
    }
    Ok(())
}

payload_test!(t34_one_command_queue_stopped, Runs::ON_REQUEST);
/// The same while the host's command queue of one SMMU is stopped by an error: EL2 does not use it.
fn t34_one_command_queue_stopped(ctx: &Ctx) -> TestResult {
    /// No command has this opcode.
    const UNKNOWN: u64 = 0xff;
    let setups = both(ctx, [Mode::Bypass; 2])?;
    for setup in &setups {
        {
            let mut smmu = setup.smmu.borrow_mut();
            smmu.command(Cmd([UNKNOWN, 0]));
            match smmu.sync() {
                Err(SmmuError::Command(_)) => {}
                other => fail!("an unknown command: {other:?}"),
            }
        }
        donate_and_attack(ctx, &setups)?;
        let mut smmu = setup.smmu.borrow_mut();
        smmu.repair();
        smmu.drain()?;
    }
    control(ctx, &setups)
}
