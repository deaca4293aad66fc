//! Seeds with every stream table format, and entries with every configuration.

use super::{EVENTS, Named, SID, WRITE_PROD, base, dma, fault, queue, start, write};
use crate::hostile::action::{Action, Cmd, Entry, Fault, Request};
use crate::hostile::value::{Address, Value};
use crate::layout::{EL2, HOST_CD, HOST_DATA, HOST_L2, HOST_STRTAB};
use smmu_drv::AccessSize::{Double, Word};
use smmu_model::arch::regs as r;

fn ste(first: u64, second: u64) -> [Action; 4] {
    let entry = Entry::Words([Value::of(first), Value::of(second)]);
    [Action::Ste { smmu: 0, sid: SID, entry }, queue(Cmd::CfgiSte { sid: SID, leaf: 1 }), queue(Cmd::Sync), WRITE_PROD]
}

pub(super) fn all() -> Named {
    vec![
        ("every-configuration", 0, configurations()),
        ("every-configuration-with-all-features", 1, configurations()),
        ("every-configuration-with-substreams", 6, configurations()),
        ("from-one-context-to-another", 1, contexts()),
        ("splits-and-spans", 0, splits()),
        ("splits-and-spans-without-snooping", 4, splits()),
        ("a-table-in-el2", 0, foreign(EL2)),
        ("a-table-outside-memory", 3, foreign(1 << 40)),
        ("formats-in-turn", 0, formats_in_turn(0)),
        ("formats-in-turn-in-a-large-table", 7, formats_in_turn(4)),
        ("no-memory-for-a-level-2-table", 0, no_memory(0)),
        ("no-memory-for-many-level-2-tables", 7, no_memory(4)),
        (
            "more-blocks-than-tables",
            7,
            vec![start(5), Action::Resume { cpu: 0 }, queue(Cmd::CfgiAll), queue(Cmd::Sync), WRITE_PROD],
        ),
        ("quiesced", 3, stopped()),
        ("quiesced-with-two-levels", 0, stopped()),
    ]
}

fn configurations() -> Vec<Action> {
    let mut out = vec![start(0)];
    for config in 0..8 {
        out.extend(ste(HOST_CD | config << 1 | 1, 0));
    }
    // S1STALLD; S1CSH; S1DSS.
    for dword in [1 << 27, 1 << 6, 3 << 6, 1, 2, 3, 1 << 19 | 2 << 6 | 0x14] {
        out.extend(ste(HOST_CD | 5 << 1 | 1 | 3 << 59, dword));
    }
    // S1Fmt, S1CDMax.
    for (format, log2) in [(0, 1), (0, 6), (0, 17), (1, 5), (1, 7), (2, 6), (2, 11), (3, 4)] {
        out.extend(ste(HOST_CD | 5 << 1 | 1 | format << 4 | log2 << 59, 1));
    }
    out.extend([dma(HOST_DATA, Request::Write), EVENTS]);
    out
}

/// Two entries with stage 1 that differ in both dwords.
fn contexts() -> Vec<Action> {
    let mut out = vec![start(0)];
    for (first, second) in [(HOST_CD | 11, 0), (HOST_CD | 0x40 | 11, 0x14), (HOST_CD | 11, 0x28), (HOST_CD | 11, 0x3c)]
    {
        out.extend(ste(first, second));
        out.push(dma(HOST_DATA, Request::Write));
    }
    out
}

fn splits() -> Vec<Action> {
    let mut out = vec![start(1)];
    for split in [6, 7, 8, 10] {
        out.extend([
            write(r::CR0, Word, Value::Small(0)),
            write(r::STRTAB_BASE_CFG, Word, Value::of(1 << 16 | split << 6 | 9)),
            write(r::CR0, Word, Value::Small(0xd)),
        ]);
        for (place, span) in [(HOST_L2, 9), (HOST_L2, 7), (HOST_L2, 0), (HOST_L2, 1), (EL2, 7), (HOST_L2, 4)] {
            out.extend([
                Action::Store {
                    to: Address::at(HOST_STRTAB),
                    value: Value::Pointer { to: Address::at(place), low: span, top: 0 },
                },
                Action::Ste { smmu: 0, sid: 0, entry: Entry::Bypass },
                queue(Cmd::CfgiSte { sid: 0, leaf: 0 }),
                queue(Cmd::CfgiSte { sid: SID, leaf: 0 }),
                queue(Cmd::Sync),
                WRITE_PROD,
            ]);
        }
        out.push(dma(HOST_DATA, Request::Read));
    }
    out
}

fn foreign(place: u64) -> Vec<Action> {
    vec![
        start(0),
        write(r::CR0, Word, Value::Small(0)),
        write(r::STRTAB_BASE, Double, base(place, 0)),
        write(r::CR0, Word, Value::Small(0xd)),
        queue(Cmd::CfgiSte { sid: SID, leaf: 1 }),
        queue(Cmd::CfgiAll),
        queue(Cmd::Sync),
        WRITE_PROD,
        dma(HOST_DATA, Request::Write),
        EVENTS,
        start(1),
        write(r::CR0, Word, Value::Small(0)),
        write(r::STRTAB_BASE, Double, base(place, 0)),
        write(r::CR0, Word, Value::Small(0xd)),
        queue(Cmd::CfgiAll),
        queue(Cmd::CfgiSte { sid: SID, leaf: 0 }),
        queue(Cmd::Sync),
        WRITE_PROD,
        dma(HOST_DATA, Request::Write),
        EVENTS,
    ]
}

/// Linear, 2-level, off, then linear and 2-level again; hardware keeps its caches between them.
fn formats_in_turn(larger: u8) -> Vec<Action> {
    let mut out = Vec::new();
    for shape in [0, 1, larger, larger | 1, 16, 1] {
        out.extend([start(shape), Action::Ste { smmu: 0, sid: SID, entry: Entry::Bypass }]);
        out.extend([queue(Cmd::CfgiAll), queue(Cmd::Sync), WRITE_PROD, dma(HOST_DATA, Request::Write)]);
    }
    out
}

fn no_memory(larger: u8) -> Vec<Action> {
    let mut out =
        vec![start(16), fault(Fault::NoMemory), start(larger | 1), queue(Cmd::CfgiAll), queue(Cmd::Sync), WRITE_PROD];
    out.extend([
        dma(HOST_DATA, Request::Write),
        EVENTS,
        fault(Fault::MemoryRestored),
        queue(Cmd::CfgiAll),
        queue(Cmd::Sync),
        WRITE_PROD,
    ]);
    out.extend([dma(HOST_DATA, Request::Write), EVENTS]);
    out
}

fn stopped() -> Vec<Action> {
    vec![
        start(1),
        Action::Ste { smmu: 0, sid: SID, entry: Entry::Bypass },
        queue(Cmd::CfgiAll),
        queue(Cmd::Sync),
        WRITE_PROD,
        fault(Fault::Quiesce),
        queue(Cmd::CfgiAll),
        queue(Cmd::CfgiSte { sid: SID, leaf: 1 }),
        queue(Cmd::Sync),
        WRITE_PROD,
        dma(HOST_DATA, Request::Write),
        start(0),
    ]
}
