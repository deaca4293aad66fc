//! Seeds with every command, in every variant that the policy distinguishes.

use super::{EVENTS, Named, REPAIR, SID, WRITE_PROD, base, fault, own, queue, start, write};
use crate::hostile::action::{Action, Cmd, Entry, Fault, NO_RANGE};
use crate::hostile::value::{Address, Value};
use crate::layout::{EL2, HOST_CMDQ, HOST_DATA, HOST_FLAG, HOST_L2, HOST_STRTAB, IOVA};
use mem_protect::Transition;
use smmu_drv::AccessSize::{Double, Word};
use smmu_model::arch::regs as r;

/// Opcodes of all Security states [IHI 0070 4.1.3], and an undefined one.
const OPCODES: [u8; 40] = [
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x10, 0x11, 0x12, 0x13, 0x18, 0x1a, 0x20, 0x21, 0x22, 0x23, 0x28,
    0x2a, 0x30, 0x40, 0x41, 0x42, 0x44, 0x45, 0x46, 0x50, 0x51, 0x52, 0x53, 0x55, 0x58, 0x5a, 0x5b, 0x60, 0x70, 0x73,
    0x80, 0xff,
];
/// SSec.
const SECURE: u64 = 1 << 10;

fn any(first: u64, second: u64) -> Action {
    queue(Cmd::Any([Value::of(first), Value::of(second)]))
}

/// Submits each command by itself, and repairs the queue if the command stops it.
fn one_by_one(commands: impl IntoIterator<Item = Action>) -> Vec<Action> {
    let mut out = vec![start(0)];
    for command in commands {
        out.extend([command, WRITE_PROD, REPAIR]);
    }
    out
}

pub(super) fn all() -> Named {
    let opcodes = || OPCODES.map(u64::from);
    let streams = [1_u64, 2, 3, 4, 5, 6];
    let secure = one_by_one(streams.map(|opcode| any(opcode | SECURE, 0)));
    let far = one_by_one(streams.map(|opcode| any(opcode | 0x1_0000 << 32, 3)));
    let substreams = one_by_one([1_u64, 2, 63, 64, 0xf_ffff].map(|ssid| any(5 | ssid << 12, 1)));
    vec![
        ("every-opcode", 0, one_by_one(opcodes().map(|opcode| any(opcode, 0)))),
        ("every-opcode-with-all-features", 1, one_by_one(opcodes().map(|opcode| any(opcode, 0x1001)))),
        ("secure-streams", 0, secure),
        ("streams-out-of-range", 0, far),
        ("substreams", 6, substreams),
        ("ranges-of-addresses", 0, one_by_one(ranges())),
        ("ranges-of-addresses-without-ril", 2, one_by_one(ranges())),
        ("ranges-of-streams", 0, one_by_one(stream_ranges())),
        ("completions", 0, one_by_one(completions())),
        ("completions-without-msi", 8, one_by_one(completions())),
        ("completions-with-all-features", 1, one_by_one(completions())),
        ("seventeen-syncs", 0, many([], 20)),
        ("syncs-after-work", 0, many((0..3).map(|_| Cmd::CfgiRange { sid: 0, range: 7 }), 100)),
        ("syncs-and-all-streams", 9, alternating()),
        ("all-streams-last", 0, vec![start(0), queue(Cmd::CfgiAll), WRITE_PROD, queue(Cmd::CfgiAll), WRITE_PROD]),
        ("all-streams-of-a-large-table", 7, large()),
        ("no-sync-completes", 0, failing(Fault::SyncNever)),
        ("service-failure", 0, failing(Fault::Failure)),
        ("hardware-refuses-a-command", 0, failing(Fault::CommandError)),
        ("quiesced-while-commands-are-queued", 0, failing(Fault::Quiesce)),
        ("hardware-refuses-too-many-commands", 0, refusing()),
        ("hardware-stops-while-commands-are-queued", 9, stopping(16, &[queue(Cmd::NhAll)])),
        ("hardware-stops-before-an-entry-changes", 9, stopping(15, &[entry(Entry::Bypass), ONE])),
        ("hardware-stops-after-an-entry-changed", 9, stopping(14, &[entry(Entry::Stage1), ONE, queue(Cmd::NhAll)])),
        ("hardware-stops-between-two-stores-to-an-entry", 9, stopping(15, &[entry(Entry::Stage1), ONE, ONE])),
        ("hardware-stops-before-all-streams", 9, stopping(16, &[queue(Cmd::CfgiAll)])),
        ("hardware-stops-among-all-streams", 9, stopping(12, &[entry(Entry::Bypass), queue(Cmd::CfgiAll)])),
        ("hardware-stops-before-a-sync", 9, stopping(15, &[queue(Cmd::CfgiAll), queue(Cmd::Sync)])),
        ("hardware-stops-before-two-levels", 0, stopping_two_levels()),
        ("a-queue-in-el2", 0, foreign_queue()),
        ("a-command-changes-after-it-was-fetched", 0, changing()),
    ]
}

/// TLBI_NH_VA and TLBI_NH_VAA with every granule, with and without a range.
fn ranges() -> Vec<Action> {
    let mut out = Vec::new();
    for opcode in [0x12, 0x13] {
        for granule in 0..4_u64 {
            for (num, scale, ttl) in [(0, 0, 0), (3, 1, 0), (0, 0, 1), (0, 0, 3)] {
                out.push(any(opcode | num << 12 | scale << 20 | 7 << 48, IOVA | granule << 10 | ttl << 8 | 1));
            }
        }
    }
    out
}

fn stream_ranges() -> Vec<Action> {
    let ranges = [0, 3, 4, 7, 8, 9, 15, 31];
    let mut out: Vec<_> = ranges.iter().map(|range| queue(Cmd::CfgiRange { sid: SID, range: *range })).collect();
    out.extend(ranges.map(|range| any(4 | 0x2_0000 << 32, range.into())));
    out
}

/// CMD_SYNC with every kind of completion.
fn completions() -> Vec<Action> {
    let mut out: Vec<_> = (0..4_u64).map(|how| any(0x46 | how << 12, 0)).collect();
    for place in [HOST_FLAG, HOST_CMDQ, HOST_STRTAB] {
        out.push(queue(Cmd::SyncMsi { to: Value::Pointer { to: Address::at(place), low: 4, top: 0 }, data: 7 }));
    }
    // The store is to a page that is donated and then returned.
    let flag = || queue(Cmd::SyncMsi { to: Value::of(HOST_DATA), data: 9 });
    out.extend([
        own(Transition::HostDonateHyp(NO_RANGE), HOST_DATA),
        flag(),
        own(Transition::HypDonateHost(NO_RANGE), HOST_DATA),
        flag(),
    ]);
    out
}

fn many(before: impl IntoIterator<Item = Cmd>, syncs: usize) -> Vec<Action> {
    let mut out = vec![start(0)];
    out.extend(before.into_iter().chain(std::iter::repeat_n(Cmd::Sync, syncs)).map(queue));
    out.extend([WRITE_PROD, Action::Resume { cpu: 0 }, EVENTS]);
    out
}

fn alternating() -> Vec<Action> {
    let mut out = vec![start(8)];
    for _ in 0..20 {
        out.extend([queue(Cmd::CfgiAll), queue(Cmd::Sync)]);
    }
    out.extend([WRITE_PROD, Action::Resume { cpu: 0 }, Action::Resume { cpu: 0 }]);
    out
}

fn large() -> Vec<Action> {
    let mut out = vec![start(4), Action::Ste { smmu: 0, sid: SID, entry: Entry::Bypass }];
    out.extend([queue(Cmd::CfgiAll), queue(Cmd::Sync), queue(Cmd::CfgiAll), WRITE_PROD]);
    out.extend([Action::Resume { cpu: 0 }; 6]);
    out
}

/// The hardware fails before a batch with more CMD_SYNCs than are completed at once.
fn failing(what: Fault) -> Vec<Action> {
    let mut out = vec![start(0), queue(Cmd::CfgiAll), queue(Cmd::CfgiSte { sid: SID, leaf: 1 }), fault(what)];
    out.extend(std::iter::repeat_n(queue(Cmd::Sync), 20));
    out.extend([WRITE_PROD, REPAIR, queue(Cmd::NhAll), queue(Cmd::Sync), WRITE_PROD, EVENTS]);
    out
}

/// More errors than EL2 recovers from while it waits for one CMD_SYNC.
fn refusing() -> Vec<Action> {
    let mut out = vec![start(0)];
    out.extend(std::iter::repeat_n(fault(Fault::CommandError), 6));
    out.extend(std::iter::repeat_n(queue(Cmd::NhAll), 6));
    out.extend([queue(Cmd::Sync), WRITE_PROD, REPAIR, write(r::CR0, Word, Value::Small(0)), start(0)]);
    out
}

fn entry(entry: Entry) -> Action {
    Action::Ste { smmu: 0, sid: SID, entry }
}

const ONE: Action = Action::Queue { smmu: 0, cmd: Cmd::CfgiSte { sid: SID, leaf: 1 } };

/// Hardware stops consuming commands when `room` of its 16 slots are used; then the actions `rest` follow.
fn stopping(room: usize, rest: &[Action]) -> Vec<Action> {
    let mut out = vec![start(0), fault(Fault::Failure)];
    out.extend(std::iter::repeat_n(queue(Cmd::NhAll), room));
    out.push(WRITE_PROD);
    out.extend(rest);
    out.extend([WRITE_PROD, write(r::CR0, Word, Value::Small(0)), WRITE_PROD]);
    out
}

/// The same with a queue of 256 slots, and a level-1 descriptor that is set and cleared.
fn stopping_two_levels() -> Vec<Action> {
    let mut out = vec![start(1), fault(Fault::Failure)];
    for _ in 0..2 {
        out.extend(std::iter::repeat_n(queue(Cmd::NhAll), 126));
        out.push(WRITE_PROD);
    }
    for word in [0, 9] {
        out.push(Action::Store {
            to: Address::at(HOST_STRTAB),
            value: Value::Pointer { to: Address::at(HOST_L2), low: word, top: 0 },
        });
        out.extend([queue(Cmd::CfgiSte { sid: SID, leaf: 0 }), queue(Cmd::CfgiRange { sid: 0, range: 7 }), WRITE_PROD]);
    }
    out.extend([queue(Cmd::CfgiAll), WRITE_PROD, write(r::CR0, Word, Value::Small(0))]);
    out
}

fn foreign_queue() -> Vec<Action> {
    vec![
        start(16),
        write(r::CR0, Word, Value::Small(0)),
        write(r::CMDQ_BASE, Double, base(EL2, 3)),
        write(r::CR0, Word, Value::Small(0xd)),
        queue(Cmd::Sync),
        WRITE_PROD,
        write(r::GERRORN, Word, Value::Small(1)),
        WRITE_PROD,
        write(r::CR0, Word, Value::Small(0)),
        start(0),
    ]
}

/// Another CPU overwrites the command that EL2 just read with a CMD_SYNC.
fn changing() -> Vec<Action> {
    let change = |word| Action::Race { at: Address { word, ..Address::at(HOST_CMDQ) }, value: Value::Small(0x46) };
    vec![
        start(0),
        change(0),
        queue(Cmd::CfgiAll),
        WRITE_PROD,
        change(3),
        queue(Cmd::NhAll),
        WRITE_PROD,
        queue(Cmd::Sync),
        WRITE_PROD,
        change(6),
        queue(Cmd::CfgiSte { sid: SID, leaf: 1 }),
        WRITE_PROD,
    ]
}
