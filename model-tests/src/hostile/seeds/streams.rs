//! Seeds in which streams are assigned to guests and released, while the host and the devices act.

use mem_protect::Transition;
use smmu_drv::AccessSize::Word;
use smmu_model::arch::regs as r;

use super::{EVENTS, Named, SID, WRITE_PROD, dma, fault, own, queue, start, write};
use crate::hostile::action::{Action, Cmd, Entry, Fault, NO_RANGE, Request};
use crate::hostile::value::Value;
use crate::layout::HOST_DATA;

/// A second page of the host, donated to a second guest.
const OTHER: u64 = HOST_DATA + 0x20_0000;

pub(super) fn all() -> Named {
    let mut out = vec![
        ("streams-fail-while-they-are-assigned", 0, failures()),
        ("streams-fail-while-they-are-assigned-on-slow-hardware", 1, failures()),
        ("streams-of-whole-blocks", 0, blocks()),
        ("streams-of-whole-blocks-in-a-linear-table", 3, blocks()),
        ("streams-of-whole-blocks-of-a-large-table", 14, blocks()),
        ("streams-of-a-guest-on-two-smmus", 5, two_smmus()),
        ("streams-of-a-guest-on-two-slow-smmus", 11, two_smmus()),
    ];
    out.extend([("streams-of-a-guest", 0, entries()), ("streams-of-a-guest-without-snooping", 4, entries())]);
    out
}

pub(super) fn with_registers() -> Named {
    vec![("streams-of-a-guest-while-the-smmu-is-off", 0, off()), ("streams-of-a-guest-on-slow-hardware", 1, off())]
}

pub(super) fn with_commands() -> Named {
    vec![("streams-of-a-guest", 0, entries()), ("streams-of-a-guest-on-slow-hardware", 8, entries())]
}

pub(super) fn with_entries() -> Named {
    vec![
        ("streams-of-a-guest", 0, entries()),
        ("streams-of-a-guest-in-a-linear-table", 3, entries()),
        ("streams-of-a-guest-in-a-small-table", 13, entries()),
        ("streams-of-whole-blocks", 0, blocks()),
    ]
}

pub(super) fn with_transitions() -> Named {
    vec![
        ("streams-of-a-guest-that-is-destroyed", 0, destroyed()),
        ("streams-of-a-guest-that-is-destroyed-on-slow-hardware", 1, destroyed()),
        ("streams-of-a-guest-that-is-destroyed-without-ranges", 2, destroyed()),
        ("streams-of-a-guest-on-two-smmus", 5, two_smmus()),
        ("streams-and-a-vmid-that-is-used-again", 0, vmid_again()),
        ("streams-and-a-vmid-that-is-used-again-on-slow-hardware", 12, vmid_again()),
    ]
}

fn assign(smmu: u8, sid: u8, count: u8, guest: u8) -> Action {
    Action::Assign { smmu, sid, count, guest }
}

fn release(smmu: u8, sid: u8, count: u8) -> Action {
    Action::Release { smmu, sid, count }
}

fn block(smmu: u8, sid: u8, count: u8) -> Action {
    Action::Block { smmu, sid, count }
}

const CREATE: Action = Action::Transition { how: Transition::VmCreate, page: Value::Small(0), count: 0 };
const DESTROY: Action = Action::Transition { how: Transition::VmDestroy(0), page: Value::Small(0), count: 0 };
const RETIRE: Action = Action::Retire { domain: 0 };

/// The host's stream bypasses; a guest gets a page, and then the stream.
fn assigned() -> Vec<Action> {
    vec![
        start(0),
        Action::Ste { smmu: 0, sid: SID, entry: Entry::Bypass },
        queue(Cmd::CfgiSte { sid: SID, leaf: 1 }),
        queue(Cmd::Sync),
        WRITE_PROD,
        dma(HOST_DATA, Request::Write),
        CREATE,
        own(Transition::HostDonateGuest(NO_RANGE, 0), HOST_DATA),
        assign(0, SID, 0, 0),
        dma(HOST_DATA, Request::Write),
        dma(OTHER, Request::Read),
    ]
}

/// All kinds of entries and commands of the host, for a stream that is assigned to a guest.
fn entries() -> Vec<Action> {
    let mut out = assigned();
    for entry in [Entry::Bypass, Entry::Stage1, Entry::Abort, Entry::Invalid, Entry::Bypass] {
        out.extend([
            Action::Ste { smmu: 0, sid: SID, entry },
            queue(Cmd::CfgiSte { sid: SID, leaf: 1 }),
            queue(Cmd::CfgiRange { sid: 0, range: 4 }),
            queue(Cmd::CfgiAll),
            queue(Cmd::NhAll),
            queue(Cmd::Any([Value::of(8 << 32 | 0x05), Value::Small(1)])),
            queue(Cmd::Sync),
            WRITE_PROD,
            dma(HOST_DATA, Request::Write),
            dma(OTHER, Request::Translated),
            EVENTS,
        ]);
    }
    out.extend([block(0, SID, 0), dma(HOST_DATA, Request::Write), WRITE_PROD, release(0, SID, 0)]);
    out.extend([dma(OTHER, Request::Write), EVENTS]);
    out
}

/// The host changes SMMUEN and GBPA while one stream is assigned to a guest.
fn off() -> Vec<Action> {
    let mut out = assigned();
    for value in [0, 1 << 20, 0] {
        out.extend([
            write(r::CR0, Word, Value::of(0xc)),
            write(r::GBPA, Word, Value::of(1 << 31 | value)),
            dma(HOST_DATA, Request::Write),
            dma(OTHER, Request::Write),
            write(r::CR0, Word, Value::of(0xd)),
        ]);
    }
    out.extend([write(r::CR0, Word, Value::of(0xc)), release(0, SID, 0), dma(OTHER, Request::Write)]);
    out
}

/// Streams of a block, and of parts of two blocks, among those of the host.
fn blocks() -> Vec<Action> {
    let mut out = assigned();
    for (sid, count) in [(4, 6), (5, 6), (5, 7), (4, 3), (3, 5)] {
        out.extend([
            block(0, sid, count),
            Action::Ste { smmu: 0, sid, entry: Entry::Bypass },
            queue(Cmd::CfgiAll),
            queue(Cmd::Sync),
            WRITE_PROD,
            assign(0, sid, count, 0),
            Action::Dma { smmu: 0, sid, ssid: 0, request: Request::Write, iova: Value::of(HOST_DATA) },
            Action::Damage { smmu: 0, sid, word: 2, bit: 3 },
            Action::Damage { smmu: 0, sid, word: 0, bit: 1 },
            release(0, sid, 0),
            RETIRE,
        ]);
    }
    out
}

/// A guest is destroyed during DMA; its pages are reclaimed one by one.
fn destroyed() -> Vec<Action> {
    let mut out = assigned();
    out.extend([
        own(Transition::HostDonateGuest(NO_RANGE, 0), OTHER),
        dma(OTHER, Request::Write),
        Action::GuestPage { guest: 0, page: Value::of(OTHER), how: 0 },
        Action::GuestPage { guest: 0, page: Value::of(OTHER), how: 1 },
        dma(OTHER, Request::Write),
        DESTROY,
        dma(OTHER, Request::Write),
        own(Transition::HostReclaimPage(NO_RANGE), OTHER),
        dma(OTHER, Request::Write),
        RETIRE,
        own(Transition::HostReclaimPage(NO_RANGE), HOST_DATA),
        dma(HOST_DATA, Request::Write),
        release(0, SID, 0),
        RETIRE,
        dma(HOST_DATA, Request::Write),
    ]);
    out
}

/// The stream is assigned to two guests in turn, with the same VMID, and no page is unmapped; then both are destroyed.
fn vmid_again() -> Vec<Action> {
    let mut out = assigned();
    out.extend([CREATE, own(Transition::HostDonateGuest(NO_RANGE, 0), OTHER)]);
    // Hardware drops its caches after every fourth check. A block of three actions per guest shifts that check to each
    // of the four positions.
    for guest in [1, 0, 1, 0, 1, 0, 1, 0] {
        out.extend([block(0, SID, 0), RETIRE, assign(0, SID, 0, guest)]);
        let (own, other) = if guest == 0 { (HOST_DATA, OTHER) } else { (OTHER, HOST_DATA) };
        out.extend([dma(own, Request::Write), dma(other, Request::Read)]);
    }
    out.extend([DESTROY, DESTROY, block(0, SID, 0), RETIRE]);
    for page in [OTHER, HOST_DATA] {
        out.extend([own(Transition::HostReclaimPage(NO_RANGE), page), dma(page, Request::Write)]);
    }
    out.extend([release(0, SID, 0), dma(OTHER, Request::Write), dma(HOST_DATA, Request::Write)]);
    out
}

/// One guest has streams of two SMMUs; the streams are released one SMMU after the other.
fn two_smmus() -> Vec<Action> {
    let mut out = assigned();
    let second = |iova| Action::Dma { smmu: 1, sid: 2, ssid: 0, request: Request::Write, iova: Value::of(iova) };
    out.extend([
        assign(1, 2, 3, 0),
        second(HOST_DATA),
        Action::GuestPage { guest: 0, page: Value::of(HOST_DATA), how: 0 },
        second(HOST_DATA),
        Action::GuestPage { guest: 0, page: Value::of(HOST_DATA), how: 1 },
        second(HOST_DATA),
        release(0, SID, 0),
        RETIRE,
        DESTROY,
        own(Transition::HostReclaimPage(NO_RANGE), HOST_DATA),
        second(HOST_DATA),
        block(1, 2, 3),
        RETIRE,
    ]);
    out
}

/// Memory, power and hardware fail while streams change their owner.
fn failures() -> Vec<Action> {
    let mut out = assigned();
    for what in [Fault::NoMemory, Fault::PowerLoss, Fault::MemoryRestored, Fault::CommandError, Fault::EventAbort] {
        out.extend([fault(what), release(0, SID, 0), dma(OTHER, Request::Write)]);
        out.extend([assign(0, 5, 0, 0), fault(what), assign(0, SID, 0, 0), dma(HOST_DATA, Request::Write)]);
        out.push(release(0, 5, 0));
    }
    out.extend([fault(Fault::SyncNever), release(0, SID, 0), RETIRE, assign(0, 2, 0, 0), DESTROY]);
    out.push(own(Transition::HostReclaimPage(NO_RANGE), HOST_DATA));
    out
}
