//! The seeds of fuzzing, named after the actions of the host. `fuzz/corpus/gic` contains them as files; a test compares
//! them, and can write them again.

mod hardware;

use super::action::{Action, Run};
use hardware::{failing, many_events, no_memory, power, quiet, suspend};

const MAPD: u8 = 0;
const UNMAPD: u8 = 2;
const MAPC: u8 = 3;
const UNMAPC: u8 = 5;
const MAPTI: u8 = 6;
const MOVI: u8 = 11;
const MOVALL: u8 = 13;
const INV: u8 = 14;
const INVALL: u8 = 16;
const INT: u8 = 17;
const CLEAR: u8 = 18;
const DISCARD: u8 = 19;
const SYNC: u8 = 22;
/// Machines.
const QEMU: u8 = 0;
const TWO_ITSS: u8 = 1;
const NON_COHERENT: u8 = 3;
const FAILING: u8 = 0xc0;
const REFUSED: u8 = 0xe0;

/// The index of the boundary value `number`.
fn edge(number: u8) -> u8 {
    0x80 | number
}

fn command(what: u8, device: u8, event: u8, lpi: u8, icid: u8) -> Action {
    Action::Command { what, device, event, lpi, icid }
}

fn post() -> Action {
    Action::Post { its: 0, how: 0, times: 0 }
}

/// Linux's start of an ITS and two CPUs, whose collections are 0 and 1.
fn start() -> Vec<Action> {
    let mut actions = vec![
        Action::StartIts { its: 0 },
        Action::StartCpu { cpu: 0 },
        Action::StartCpu { cpu: 1 },
        Action::Configure { lpi: 0, byte: 0xa1 },
        Action::Configure { lpi: 1, byte: 0xa1 },
    ];
    for cpu in 0..2 {
        actions.extend([command(MAPC, 0, 0, cpu, cpu), command(SYNC, 0, 0, cpu, 0), command(INVALL, 0, 0, 0, cpu)]);
    }
    actions.push(post());
    actions
}

/// A device with an interrupt, which is raised and delivered.
fn device() -> Vec<Action> {
    let mut actions = start();
    actions.extend([
        command(MAPD, 3, 3, 0, 0),
        command(MAPTI, 3, 0, 0, 0),
        command(MAPTI, 3, 1, 1, 1),
        command(INV, 3, 0, 0, 0),
        command(SYNC, 0, 0, 0, 0),
        post(),
        Action::Raise { its: 0, device: 3, event: 0, count: 1 },
        command(INT, 3, 0, 0, 0),
        command(CLEAR, 3, 1, 0, 0),
        command(MAPTI, 3, 4, 4, 0),
        command(DISCARD, 3, 4, 0, 0),
        post(),
    ]);
    actions
}

fn with(mut first: Vec<Action>, then: impl IntoIterator<Item = Action>) -> Vec<Action> {
    first.extend(then);
    first
}

/// Accesses to every register of the frame `frame`, with several values and sizes.
fn registers(frame: u8, rows: u8) -> Vec<Action> {
    let mut actions = start();
    for at in (0..rows).chain(0x80..0x88) {
        for (n, value) in (0x20_u8..0xf0).step_by(0x17).enumerate() {
            let size = u8::try_from(n % 2).unwrap_or(0) | u8::try_from(n % 4).unwrap_or(0) << 4;
            actions.push(Action::Store { frame, at, size, value, low: 0xf });
            if n < 2 {
                actions.push(Action::Load { frame, at, size: u8::try_from(n).unwrap_or(0) });
            }
        }
    }
    actions.push(Action::Load { frame, at: 0, size: 2 });
    actions.truncate(256);
    actions
}

/// Base registers of tables and of the queue are written with the address of index `place`; then the ITS and LPIs are
/// enabled.
fn bases(place: u8) -> Vec<Action> {
    let mut actions = vec![Action::EnableIts { its: 0, on: 0 }, Action::EnableLpis { cpu: 0, on: 0 }];
    // GITS_BASER0 and 1, GITS_CBASER, GICR_PROPBASER, GICR_PENDBASER.
    for (frame, at, kind, low) in [(0, 7, 5, 0), (0, 8, 4, 0), (0, 4, 6, 0xf), (0x40, 5, 7, 15), (0x40, 6, 8, 0)] {
        actions.push(Action::Store { frame, at, size: 0, value: kind << 4 | place, low });
    }
    actions.extend([Action::EnableLpis { cpu: 0, on: 1 }, Action::EnableIts { its: 0, on: 1 }]);
    actions.extend([command(MAPD, 3, 3, 0, 0), command(MAPC, 0, 0, 0, 0), command(MAPTI, 3, 0, 0, 0)]);
    actions.extend([post(), Action::Raise { its: 0, device: 3, event: 0, count: 2 }]);
    actions
}

/// Tables with small pages, with one and two levels, and a queue with other attributes.
fn pages() -> Vec<Action> {
    let mut actions = vec![Action::StartCpu { cpu: 0 }];
    for kind in [6_u8, 9, 4] {
        actions.push(Action::EnableIts { its: 0, on: 0 });
        for at in [7, 8] {
            actions.push(Action::Store { frame: 0, at, size: 0, value: kind << 4 | at, low: 0 });
        }
        actions.push(Action::Store { frame: 0, at: 4, size: 0, value: kind << 4, low: 0xf });
        actions.push(Action::EnableIts { its: 0, on: 1 });
        actions.extend([command(MAPC, 0, 0, 0, 0), command(MAPD, 3, 3, 0, 0), command(MAPTI, 3, 0, 0, 0)]);
        actions.extend([command(MAPC, 0, 0, 0, 0x86), command(MAPD, 0x81, 3, 0, 0), post()]);
        // A 32-bit store of 0 to GITS_BASER removes the table.
        actions.push(Action::EnableIts { its: 0, on: 0 });
        actions.push(Action::Store { frame: 0, at: 7, size: 0x21, value: 0, low: 0 });
        actions.push(Action::EnableIts { its: 0, on: 1 });
    }
    actions
}

/// Every command, with numbers inside and outside their ranges, before and after the device is mapped.
fn commands() -> Vec<Action> {
    let mut actions = start();
    for mapped in [false, true] {
        if mapped {
            actions.extend([command(MAPC, 0, 0, 0, 0), command(MAPD, 3, 3, 0, 0)]);
            // INTIDs of every kind, each mapped to a different event.
            actions.extend((0..10).map(|n| command(MAPTI, 3, 4 + n, edge(n), 0)));
            actions.push(command(MAPTI, 3, 0, 0, 0));
        }
        for what in 0..32 {
            actions.push(command(what, 3, 0, 0, 1));
            actions.push(command(what, 3, 1, what % 3, 0));
            actions.push(command(what, 3, 2, edge(what % 10), 0));
            actions.push(command(what, 3, edge(what % 9), what, 0));
            actions.push(command(what, edge(what % 10), edge(what % 9), edge(what % 10), edge(what % 9)));
        }

        actions.push(post());
    }
    actions
}

/// Commands about collections and their CPUs.
fn collections() -> Vec<Action> {
    with(
        device(),
        [
            command(MAPC, 0, 0, 1, 0),
            command(MOVI, 3, 0, 0, 1),
            command(MOVALL, 0, 0, 0, 1),
            command(MOVALL, 0, 0, 1, 1),
            command(MOVALL, 0, 0, 0x80, 1),
            command(MAPC, 0, 0, 7, 2),
            command(MOVI, 3, 0, 0, 3),
            command(MOVI, 4, 0, 0, 1),
            command(UNMAPC, 0, 0, 0, 1),
            command(INVALL, 0, 0, 0, 1),
            command(SYNC, 0, 0, 9, 0),
            post(),
            Action::Raise { its: 0, device: 3, event: 0, count: 1 },
            command(MAPC, 0, 0, 1, 1),
            post(),
            Action::Raise { its: 0, device: 3, event: 0, count: 1 },
        ],
    )
}

/// EnableLPIs of both CPUs in every order, with a device that raises interrupts after each step.
fn enables() -> Vec<Action> {
    let mut actions = device();
    let raise = Action::Raise { its: 0, device: 3, event: 0, count: 1 };
    for (cpu, on) in [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0x20), (0, 0x21), (1, 0), (0, 0), (0, 1)] {
        actions.extend([Action::EnableLpis { cpu, on }, raise, command(INVALL, 0, 0, 0, cpu), post()]);
    }
    actions.extend([Action::EnableIts { its: 0, on: 0 }, raise, Action::EnableIts { its: 0, on: 1 }, raise]);
    actions
}

/// All events of large devices, each of which needs several traps; meanwhile another CPU stores.
fn large() -> Vec<Action> {
    let many = |what, device, event, count, step| Action::Many { what, device, event, count, step };
    with(
        start(),
        [
            // Unmaps 8,192 events, then all events that are mapped.
            command(MAPD, 5, 0x81, 0, 0),
            many(MAPTI, 5, 0, 127, 6),
            Action::Configure { lpi: 9, byte: 0xff },
            command(INVALL, 0, 0, 0, 0),
            Action::Post { its: 0, how: 0, times: 1 },
            Action::EnableLpis { cpu: 0, on: 2 },
            Action::EnableLpis { cpu: 1, on: 0 },
            command(MAPC, 0, 0, 1, 0),
            Action::Post { its: 0, how: 1, times: 1 },
            Action::Store { frame: 0x80, at: 4, size: 0, value: 0x60, low: 0xf },
            Action::Load { frame: 0, at: 6, size: 0 },
            Action::EnableLpis { cpu: 0, on: 1 },
            Action::EnableLpis { cpu: 1, on: 1 },
            post(),
            command(MAPD, 5, 2, 0, 0),
            Action::Post { its: 0, how: 0, times: 1 },
            command(UNMAPD, 5, 0, 0, 0),
            Action::Post { its: 0, how: 0, times: 1 },
            Action::EnableLpis { cpu: 1, on: 0 },
            Action::StartIts { its: 0 },
        ],
    )
}

/// Maps devices until the limit of memory is reached, and unmaps them.
fn flood() -> Vec<Action> {
    with(
        start(),
        [
            // Each device has 2^13 events.
            Action::Many { what: MAPD, device: 0, event: 0x81, count: 127, step: 1 },
            Action::Many { what: MAPD, device: 0x85, event: 0, count: 255, step: 1 },
            Action::Many { what: MAPD, device: 0x83, event: 0, count: 255, step: 1 },
            Action::Many { what: MAPD, device: 0x81, event: 1, count: 255, step: 1 },
            Action::Many { what: UNMAPD, device: 0, event: 0, count: 255, step: 1 },
            Action::Many { what: MAPD, device: 0, event: 0x81, count: 20, step: 1 },
            // Maps the same device repeatedly while it has events.
            Action::Many { what: MAPTI, device: 1, event: 0, count: 60, step: 6 },
            Action::Many { what: MAPD, device: 1, event: 0x81, count: 20, step: 0 },
            Action::StartIts { its: 0 },
        ],
    )
}

/// Two ITSs with the same DeviceIDs; a device is unmapped from one of them only.
fn two_itss() -> Vec<Action> {
    let second = 1 << 5;
    with(
        device(),
        [
            Action::StartIts { its: 1 },
            command(second | MAPC, 0, 0, 0, 0),
            command(second | MAPTI, 3, 2, 2, 0),
            command(second | INV, 3, 0, 0, 0),
            command(second | MAPD, 3, 4, 0, 0),
            command(second | MAPTI, 3, 0, 0, 0),
            command(second | MAPTI, 3, 0, 2, 0),
            command(second | DISCARD, 3, 1, 0, 0),
            command(second | SYNC, 0, 0, 0, 0),
            Action::Post { its: 1, how: 0, times: 0 },
            command(UNMAPD, 3, 0, 0, 0),
            post(),
            Action::Raise { its: 1, device: 3, event: 0, count: 2 },
            Action::EnableLpis { cpu: 0, on: 0 },
            command(second | UNMAPD, 3, 0, 0, 0),
            Action::Post { its: 1, how: 0, times: 0 },
            Action::EnableIts { its: 1, on: 0 },
        ],
    )
}

/// A queue that the host does not own or no longer owns, indices outside the queue, and Retry.
fn queue() -> Vec<Action> {
    with(
        device(),
        [
            Action::Donate { page: 1 },
            command(INV, 3, 0, 0, 0),
            post(),
            Action::Load { frame: 0, at: 6, size: 0 },
            Action::Donate { page: 0x80 },
            Action::Post { its: 0, how: 2, times: 0 },
            Action::Post { its: 0, how: 3, times: 0 },
            Action::Post { its: 0, how: 0xff, times: 0 },
            Action::Donate { page: 0 },
            command(INV, 3, 0, 0, 0),
            command(INVALL, 0, 0, 0, 0),
            post(),
            Action::Donate { page: 0x80 },
            Action::EnableIts { its: 0, on: 0 },
            // A queue of one page at the end of the memory.
            Action::Store { frame: 0, at: 4, size: 0, value: 0x67, low: 0 },
            Action::EnableIts { its: 0, on: 1 },
            Action::Post { its: 0, how: 0x7f, times: 0 },
            command(INV, 3, 0, 0, 0),
            Action::Post { its: 0, how: 1, times: 0 },
        ],
    )
}

/// Words that change after EL2 has read them.
fn race() -> Vec<Action> {
    with(
        device(),
        [
            Action::Race { on: 1 },
            command(MAPD, 4, 4, 0, 0),
            command(MAPTI, 4, 0, 2, 0),
            command(MAPTI, 4, 1, 3, 1),
            command(MOVI, 4, 0, 0, 1),
            command(INVALL, 0, 0, 0, 0),
            post(),
            Action::Race { on: 0 },
        ],
    )
}

/// The file name and the run of every seed.
#[must_use]
pub fn all() -> Vec<(String, Run)> {
    let mut out = Vec::new();
    let mut add = |name: &str, machine, actions: Vec<Action>| {
        out.push((name.to_owned(), Run { machine, seed: 1, actions }));
    };
    for machine in 0..13 {
        add(&format!("a-device-{machine}"), machine, device());
        add(&format!("large-{machine}"), machine, large());
    }
    for place in [0, 8, 9, 11, 12, 14, 15] {
        add(&format!("tables-at-place-{place}"), QEMU, bases(place));
    }
    for (machine, place) in [(2, 9), (NON_COHERENT, 11), (5, 0)] {
        add(&format!("tables-at-place-{place}-machine-{machine}"), machine, bases(place));
    }
    add("every-register-of-an-its", QEMU, registers(0, 16));
    add("every-register-of-an-its-twice", TWO_ITSS, with(device(), registers(0, 16)[13..].to_vec()));
    add("every-register-of-a-redistributor", QEMU, registers(0x40, 10));
    add("registers-of-no-frame", QEMU, registers(1, 2));
    add("registers-of-no-redistributor", QEMU, registers(0x42, 2));
    for machine in [QEMU, TWO_ITSS, 2, NON_COHERENT, 5] {
        add(&format!("every-command-{machine}"), machine, commands());
        add(&format!("collections-{machine}"), machine, collections());
        add(&format!("enables-{machine}"), machine, enables());
    }
    add("flood", QEMU, flood());
    add("flood-of-many-ids", 6, flood());
    add("flood-of-a-flat-table", 11, flood());
    add("two-itss", TWO_ITSS, two_itss());
    add("two-itss-by-addresses", 2, two_itss());
    add("queue", QEMU, queue());
    add("race", QEMU, race());
    add("race-not-coherent", NON_COHERENT, race());
    add("power", QEMU, power());
    add("no-memory", QEMU, no_memory());
    add("no-memory-in-two-levels", 6, no_memory());
    add("quiet", QEMU, quiet());
    add("quiet-failing", FAILING, quiet());
    for (n, (what, after)) in [(0, 30), (1, 10), (0x41, 12), (1, 8), (2, 0), (3, 0), (0xf1, 5)].into_iter().enumerate()
    {
        add(&format!("hardware-fails-{n}"), QEMU, failing(what, after));
        add(&format!("hardware-fails-{n}-of-two"), TWO_ITSS, failing(what, after));
    }
    for n in 0..8 {
        add(&format!("failing-machine-{n}"), FAILING + n, with(two_itss(), enables()));
        add(&format!("many-events-failing-{n}"), FAILING + n, many_events());
    }
    for (n, after) in (0..64).step_by(7).enumerate() {
        let fail = Action::Fail { what: 0, after };
        add(&format!("many-events-until-{n}"), QEMU, with(vec![fail], many_events()));
    }
    for machine in [QEMU, TWO_ITSS, NON_COHERENT, 5, 12] {
        add(&format!("suspend-{machine}"), machine, suspend());
    }
    for n in 0..12 {
        add(&format!("refused-{n}"), REFUSED + n, Vec::new());
    }
    for machine in [QEMU, NON_COHERENT, 5] {
        add(&format!("many-events-{machine}"), machine, many_events());
        add(&format!("pages-{machine}"), machine, pages());
    }
    out
}
