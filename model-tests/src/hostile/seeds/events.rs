//! Seeds with every event type, with queue overflow, and with corrupted reads of EL2's own tables.

use super::{EVENTS, Named, SID, base, dma, fault, start, write};
use crate::hostile::action::{Action, Entry, Fault, Request};
use crate::hostile::value::Value;
use crate::layout::{EL2, HOST_STRTAB};
use smmu_drv::AccessSize::{Double, Word};
use smmu_model::arch::regs as r;

/// Event types [IHI 0070 7.3]; one is undefined.
const TYPES: [u8; 21] = [
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x11, 0x12, 0x13, 0x20, 0x21, 0x24, 0x25,
    0x00, 0xe0,
];

fn record(kind: u8, sid: u8, ssid: u8, syndrome: u8) -> Action {
    let (input, fetched) = (Value::Word(0x4100_1000), Value::Word(0x4200_2000));
    Action::Record { smmu: 0, kind, sid, ssid, syndrome, input, fetched }
}

pub(super) fn all() -> Named {
    let interrupt = Action::Interrupt { smmu: 0 };
    let flood = |count| std::iter::repeat_n(record(0x10, SID, 0, 2), count);
    let mut full = vec![start(0)];
    full.extend(flood(12));
    full.extend([interrupt, EVENTS, interrupt]);
    let mut longer = vec![start(0)];
    longer.extend(flood(130));
    longer.extend([interrupt, EVENTS, EVENTS]);
    let mut queue_off: Vec<_> = flood(3).collect();
    queue_off.extend([interrupt, start(0), EVENTS]);
    vec![
        ("every-event", 0, every()),
        ("every-event-with-all-features", 1, every()),
        ("events-fill-the-hosts-queue", 0, full.clone()),
        ("events-fill-hardwares-queue", 9, full),
        ("a-whole-queue-of-events", 0, longer),
        ("events-with-the-queue-off", 0, queue_off),
        (
            "an-event-is-not-written",
            0,
            vec![start(0), fault(Fault::EventAbort), dma(0, Request::Write), dma(8, Request::Write), EVENTS],
        ),
        ("entries-that-hardware-does-not-find", 0, not_found(0)),
        ("entries-that-hardware-does-not-find-in-two-levels", 0, not_found(1)),
        ("damage-to-a-table-of-two-levels", 0, damage()),
        ("damage-to-a-linear-table", 3, damage()),
    ]
}

fn every() -> Vec<Action> {
    let mut out = vec![start(0)];
    for kind in TYPES {
        // CLASS and S2 determine how a translation fault is handled; the other bits must have no effect.
        for syndrome in if matches!(kind, 0x0b..0x21) { 0..8 } else { 0x7f..0x80_u8 } {
            out.push(record(kind, SID, syndrome, syndrome));
            if syndrome % 4 == 3 {
                out.push(EVENTS);
            }
        }
    }
    out
}

/// Missing entries, with tables in memory of the host and in memory of others.
fn not_found(shape: u8) -> Vec<Action> {
    let mut out = Vec::new();
    for cr2 in [0, 2] {
        out.extend([
            start(shape),
            write(r::CR0, Word, Value::Small(0)),
            write(r::CR2, Word, Value::Small(cr2)),
            write(r::CR0, Word, Value::Small(0xd)),
            Action::Ste { smmu: 0, sid: 2, entry: Entry::Bypass },
        ]);
        out.extend([2, 4].into_iter().flat_map(|kind| [1, 2, 3, 5, 7].map(|sid| record(kind, sid, 0, 0))));
        out.push(EVENTS);
    }
    out.extend([
        write(r::CR0, Word, Value::Small(0)),
        write(r::STRTAB_BASE, Double, base(EL2, 0)),
        write(r::CR0, Word, Value::Small(0xd)),
        record(4, SID, 0, 0),
        dma(0, Request::Write),
        EVENTS,
        write(r::CR0, Word, Value::Small(0)),
        write(r::STRTAB_BASE, Double, base(HOST_STRTAB, 0)),
        // The level-1 descriptor is in memory of the host, its table is not.
        Action::Store {
            to: super::Address::at(HOST_STRTAB),
            value: Value::Pointer { to: super::Address::at(EL2), low: 9, top: 0 },
        },
        write(r::CR0, Word, Value::Small(0xd)),
        record(4, SID, 0, 0),
        EVENTS,
    ]);
    out
}

fn damage() -> Vec<Action> {
    let mut out = vec![Action::Damage { smmu: 0, sid: SID, word: 0, bit: 0 }, start(1)];
    for entry in [Entry::Bypass, Entry::Stage1] {
        out.extend([
            Action::Ste { smmu: 0, sid: SID, entry },
            super::queue(super::Cmd::CfgiSte { sid: SID, leaf: 1 }),
            super::queue(super::Cmd::Sync),
            super::WRITE_PROD,
        ]);
        for (word, bit) in [(0, 2), (0, 3), (0, 56), (1, 28), (1, 63), (2, 0), (3, 12), (4, 0), (7, 63), (8, 0), (8, 4)]
        {
            out.push(Action::Damage { smmu: 0, sid: SID, word, bit });
        }
    }
    out
}
