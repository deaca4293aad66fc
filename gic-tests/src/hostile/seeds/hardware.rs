//! Runs in which hardware fails or loses its state, or EL2 has no memory.

use super::super::action::Action;
use super::{INT, INV, MAPC, MAPD, MAPTI, MOVALL, MOVI, SYNC, UNMAPD, command, device, post, start, with};

/// A redistributor that loses its state.
pub(super) fn power() -> Vec<Action> {
    with(
        device(),
        [
            Action::LosePower { cpu: 0, how: 0 },
            Action::EnableLpis { cpu: 0, on: 0x21 },
            command(INV, 3, 0, 0, 0),
            command(MOVI, 3, 0, 0, 1),
            post(),
            Action::LosePower { cpu: 1, how: 0 },
            Action::EnableLpis { cpu: 1, on: 0x40 },
            Action::EnableLpis { cpu: 1, on: 1 },
            Action::LosePower { cpu: 0, how: 1 },
            Action::EnableLpis { cpu: 0, on: 1 },
            Action::EnableLpis { cpu: 0, on: 0 },
            Action::EnableLpis { cpu: 0, on: 1 },
            command(SYNC, 0, 0, 0, 0),
            command(MAPC, 0, 0, 0, 3),
            command(UNMAPD, 3, 0, 0, 0),
            post(),
        ],
    )
}

/// EL2 has no memory at one of the allocations for a device.
pub(super) fn no_memory() -> Vec<Action> {
    let mut actions = start();
    for left in [0, 1, 2, 3, 1] {
        actions.extend([
            Action::Pool { left },
            command(MAPD, 2, 2, 0, 0),
            command(MAPD, 0x81, 2, 0, 0),
            post(),
            Action::Pool { left: 255 },
            command(UNMAPD, 2, 0, 0, 0),
            post(),
        ]);
    }
    actions.extend([Action::Limit { to: 3 }, Action::Many { what: MAPD, device: 0, event: 5, count: 60, step: 1 }]);
    actions
}

/// An ITS loses its registers: while it is off, as when Linux suspends, and while it is on.
pub(super) fn suspend() -> Vec<Action> {
    let mut actions = device();
    for how in [0, 1] {
        actions.extend([
            Action::Wake { its: 1, cpu: 0, how: 0 },
            Action::EnableIts { its: 0, on: 0 },
            Action::Wake { its: 0, cpu: 1, how },
            Action::EnableIts { its: 0, on: 1 },
            command(INV, 3, 0, 0, 0),
            post(),
            Action::Raise { its: 0, device: 3, event: 0, count: 1 },
        ]);
    }
    with(actions, [Action::Wake { its: 0, cpu: 0, how: 0 }, command(INV, 3, 0, 0, 0), post(), post()])
}

/// EL2 makes the GIC quiescent; the host continues.
pub(super) fn quiet() -> Vec<Action> {
    with(
        device(),
        [
            Action::Quiesce {},
            command(INV, 3, 0, 0, 0),
            command(UNMAPD, 3, 0, 0, 0),
            post(),
            Action::EnableIts { its: 0, on: 1 },
            Action::EnableLpis { cpu: 0, on: 0 },
            Action::EnableLpis { cpu: 0, on: 1 },
            post(),
            Action::Raise { its: 0, device: 3, event: 0, count: 1 },
        ],
    )
}

/// Hardware fails in the way `what`, after the number `after` of commands.
pub(super) fn failing(what: u8, after: u8) -> Vec<Action> {
    with(
        device(),
        [
            Action::Fail { what, after },
            command(INV, 3, 0, 0, 0),
            command(MAPTI, 3, 2, 2, 0),
            post(),
            post(),
            Action::EnableIts { its: 0, on: 0 },
            Action::EnableIts { its: 0, on: 1 },
            command(MAPD, 3, 5, 0, 0),
            post(),
            command(UNMAPD, 3, 0, 0, 0),
            Action::EnableLpis { cpu: 0, on: 0 },
            Action::EnableLpis { cpu: 0, on: 1 },
            command(MAPD, 3, 5, 0, 0),
            post(),
            Action::Load { frame: 0, at: 0, size: 1 },
        ],
    )
}

/// A device with many events is unmapped and mapped again after hardware may have failed.
pub(super) fn many_events() -> Vec<Action> {
    with(
        start(),
        [
            command(MAPD, 5, 0x80, 0, 0),
            Action::Many { what: MAPTI, device: 5, event: 0, count: 127, step: 6 },
            Action::Many { what: MOVI, device: 5, event: 0, count: 255, step: 0x0a },
            Action::Many { what: INV, device: 5, event: 0, count: 255, step: 2 },
            Action::Many { what: INT, device: 5, event: 0, count: 255, step: 2 },
            command(MAPC, 0, 0, 1, 0),
            command(MAPC, 0, 0, 0, 1),
            command(MAPD, 5, 2, 0, 0),
            command(MOVALL, 0, 0, 0, 1),
            command(SYNC, 0, 0, 0, 0),
            post(),
            Action::EnableLpis { cpu: 0, on: 0 },
            Action::EnableLpis { cpu: 1, on: 0 },
            Action::StartIts { its: 0 },
        ],
    )
}
