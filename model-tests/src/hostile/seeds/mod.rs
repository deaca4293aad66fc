//! Seed runs for fuzzing: normal host behaviour, including the register accesses of two Linux kernels.
//!
//! `fuzz/corpus` has these runs as files. A test compares them, and can write them again.

mod commands;
mod events;
mod registers;
mod streams;
mod tables;

use mem_protect::Transition;
use smmu_drv::AccessSize;
use smmu_model::arch::regs as r;

use super::action::{Action, Cmd, Entry, Fault, NO_RANGE, Request};
use super::action_set::ActionSet;
use super::codec::Run;
use super::setups::MACHINES;
use super::value::{Address, Half, Reg, Value};
use crate::host::LOG2_QUEUE;
use crate::layout::{HOST_CMDQ, HOST_DATA, HOST_EVTQ, HOST_FLAG, HOST_L2, HOST_S1, HOST_STRTAB, IOVA};

/// Machines with a `typical` seed for every action set; the others have one for all actions.
const COMMON: u8 = 10;
/// Index of the attacking device's StreamID.
const SID: u8 = 1;

/// Every seed: its action set, the name of its file, and the run.
#[must_use]
pub fn all() -> Vec<(ActionSet, String, Run)> {
    let mut out = Vec::new();
    for (set, _) in ActionSet::ALL {
        for machine in 0..if set == ActionSet::Everything { MACHINES } else { COMMON } {
            let run = Run { machine: set.machine(machine), seed: 7, actions: typical(set) };
            out.push((set, format!("typical-{machine}"), run));
        }
    }
    for (name, text) in [
        ("linux-6.1", include_str!("../../../../smmu-drv/tests/data/linux-6.1.192-smmu.trace")),
        ("linux-6.12", include_str!("../../../../smmu-drv/tests/data/linux-6.12.117-smmu.trace")),
    ] {
        out.push((ActionSet::Registers, name.into(), Run { machine: 0, seed: 0, actions: trace(text) }));
    }
    out.push((ActionSet::Everything, "faults".into(), Run { machine: 1, seed: 3, actions: faults() }));
    for (set, seeds) in [
        (ActionSet::Registers, registers::all()),
        (ActionSet::Commands, commands::all()),
        (ActionSet::Everything, events::all()),
        (ActionSet::StreamTable, tables::all()),
        (ActionSet::Transitions, owners()),
        (ActionSet::Everything, streams::all()),
        (ActionSet::Registers, streams::with_registers()),
        (ActionSet::Commands, streams::with_commands()),
        (ActionSet::StreamTable, streams::with_entries()),
        (ActionSet::Transitions, streams::with_transitions()),
    ] {
        for (name, machine, actions) in seeds {
            // Encoding omits actions that are not in the set; so the run is replaced by the one that the bytes decode
            // to.
            let run = Run::decode(set, &Run { machine, seed: 1, actions }.encode(set));
            out.push((set, name.into(), run));
        }
    }
    out
}

/// Seeds of one action set: name, machine, actions.
type Named = Vec<(&'static str, u8, Vec<Action>)>;

fn start(shape: u8) -> Action {
    Action::Start { smmu: 0, shape }
}

fn queue(cmd: Cmd) -> Action {
    Action::Queue { smmu: 0, cmd }
}

const WRITE_PROD: Action = Action::WriteProd { cpu: 0, smmu: 0 };
const REPAIR: Action = Action::Repair { smmu: 0 };
const EVENTS: Action = Action::Events { smmu: 0 };

fn write(offset: u32, size: AccessSize, value: Value) -> Action {
    Action::Write { cpu: 1, smmu: 0, at: Reg::Raw(offset), size, value }
}

fn dma(iova: u64, request: Request) -> Action {
    Action::Dma { smmu: 0, sid: SID, ssid: 0, request, iova: Value::of(iova) }
}

fn own(how: Transition, page: u64) -> Action {
    Action::Transition { how, page: Value::of(page), count: 0 }
}

/// A value for a base register: an address, RA or WA, and a size.
fn base(place: u64, low: u8) -> Value {
    Value::Pointer { to: Address::at(place), low, top: 0x40 }
}

fn fault(what: Fault) -> Action {
    Action::Fault { smmu: 0, what, arg: 1 }
}

/// A typical host: start, streams, DMA, a page that is donated and returned, an error and its repair, stop.
fn typical(set: ActionSet) -> Vec<Action> {
    let mut out = vec![
        start(0),
        Action::Context { ssid: 0, table: Address::at(HOST_S1) },
        Action::Map { page: 0, to: Address::at(HOST_DATA) },
        Action::Ste { smmu: 0, sid: SID, entry: Entry::Stage1 },
        queue(Cmd::CfgiSte { sid: SID, leaf: 1 }),
        queue(Cmd::Sync),
        WRITE_PROD,
        dma(IOVA, Request::Write),
        own(Transition::HostDonateHyp(NO_RANGE), HOST_DATA),
        dma(IOVA, Request::Read),
        own(Transition::HypDonateHost(NO_RANGE), HOST_DATA),
        dma(IOVA, Request::Write),
        EVENTS,
    ];
    match set {
        ActionSet::Everything => out.extend([
            Action::Interrupt { smmu: 0 },
            Action::DropCaches,
            Action::Read { smmu: 0, at: Reg::Row { row: 8, half: Half::Low }, size: AccessSize::Word },
            write(r::CR0, AccessSize::Word, Value::Small(0)),
        ]),
        ActionSet::Registers => out.extend([
            write(r::GBPA, AccessSize::Word, Value::of(1 << 31 | 1 << 20)),
            write(r::CR0, AccessSize::Word, Value::Small(0)),
            write(r::GBPA, AccessSize::Word, Value::of(1 << 31 | 1 << 20)),
            write(r::GBPA, AccessSize::Word, Value::of(1 << 31)),
            write(r::STRTAB_BASE, AccessSize::Double, Value::Pointer { to: Address::at(HOST_L2), low: 0, top: 0x40 }),
            write(r::STRTAB_BASE + 4, AccessSize::Word, Value::Small(1)),
            write(
                r::EVENTQ_IRQ_CFG0,
                AccessSize::Double,
                Value::Pointer { to: Address::at(HOST_FLAG), low: 0, top: 0 },
            ),
            write(0x1_1234, AccessSize::Half, Value::Small(1)),
        ]),
        ActionSet::Costs => out.extend([
            start(5),
            Action::SteRange { smmu: 0, entry: Entry::Bypass, count: 40 },
            Action::Level1 { smmu: 0, to: Address::at(HOST_L2), span: 9, count: 4 },
            Action::Fill { smmu: 0, first: Cmd::CfgiAll, second: Cmd::Sync, count: 2 },
            WRITE_PROD,
            Action::Fill { smmu: 0, first: Cmd::CfgiSte { sid: 0, leaf: 1 }, second: Cmd::NhAll, count: 9 },
            WRITE_PROD,
            Action::ManyDma { smmu: 0, sid: 6, count: 7 },
            EVENTS,
        ]),
        ActionSet::Commands => out.extend([
            queue(Cmd::SyncMsi { to: Value::Pointer { to: Address::at(HOST_FLAG), low: 0, top: 0 }, data: 5 }),
            queue(Cmd::SyncMsi { to: Value::Pointer { to: Address::at(HOST_CMDQ), low: 0, top: 0 }, data: 5 }),
            queue(Cmd::CfgiRange { sid: 2, range: 4 }),
            queue(Cmd::CfgiAll),
            // TLBI_NH_VA of a range, CFGI_CD.
            queue(Cmd::Any([Value::of(7 << 48 | 1 << 20 | 3 << 12 | 0x12), Value::of(IOVA | 1 << 10 | 1 << 8)])),
            queue(Cmd::Any([Value::of(8 << 32 | 0x05), Value::Small(1)])),
            queue(Cmd::Sync),
            WRITE_PROD,
            queue(Cmd::Any([Value::Small(0x20), Value::Small(0)])),
            WRITE_PROD,
            REPAIR,
            dma(0xdead_b000, Request::Write),
            EVENTS,
        ]),
        ActionSet::StreamTable => out.extend([
            start(1),
            Action::Ste { smmu: 0, sid: SID, entry: Entry::Bypass },
            Action::Ste { smmu: 0, sid: 3, entry: Entry::Substreams { format: 1, log2: 6, default: 1 } },
            queue(Cmd::CfgiSte { sid: SID, leaf: 0 }),
            queue(Cmd::CfgiAll),
            queue(Cmd::Sync),
            WRITE_PROD,
            Action::Store { to: Address::at(HOST_STRTAB), value: Value::Small(0) },
            queue(Cmd::CfgiSte { sid: SID, leaf: 0 }),
            queue(Cmd::Sync),
            WRITE_PROD,
            dma(HOST_DATA, Request::Write),
        ]),
        ActionSet::Transitions => out.extend([
            Action::Transition { how: Transition::VmCreate, page: Value::Small(0), count: 0 },
            own(Transition::HostDonateGuest(NO_RANGE, 0), HOST_DATA),
            Action::Transition { how: Transition::VmDestroy(0), page: Value::Small(0), count: 0 },
            own(Transition::HostReclaimPage(NO_RANGE), HOST_DATA),
            own(Transition::HostShareHyp(NO_RANGE), HOST_DATA),
            own(Transition::HostUnshareHyp(NO_RANGE), HOST_DATA),
            Action::Transition {
                how: Transition::HostDonateHyp(NO_RANGE),
                page: Value::of(HOST_DATA + 0x20_0000),
                count: 5,
            },
            Action::Transition { how: Transition::HostDonateHyp(NO_RANGE), page: Value::of(HOST_EVTQ), count: 0 },
        ]),
    }
    // Encoding omits actions that are not in the set; so the run is replaced by the one that the bytes decode to.
    Run::decode(set, &Run { machine: 0, seed: 0, actions: out }.encode(set)).actions
}

/// Pages change owner while hardware fails.
fn owners() -> Named {
    let mut refused = typical(ActionSet::Transitions);
    refused.extend([
        start(0),
        dma(HOST_DATA, Request::Write),
        fault(Fault::CommandError),
        own(Transition::HostDonateHyp(NO_RANGE), HOST_DATA),
        dma(HOST_DATA, Request::Write),
        own(Transition::HypDonateHost(NO_RANGE), HOST_DATA),
        fault(Fault::NoTables),
        own(Transition::HostDonateHyp(NO_RANGE), HOST_DATA + 0x20_0000),
        fault(Fault::TablesRestored),
        fault(Fault::PowerLoss),
        own(Transition::HostDonateHyp(NO_RANGE), HOST_DATA + 0x20_0000),
    ]);
    vec![
        ("hardware-refuses-an-invalidation", 0, refused.clone()),
        ("slow-hardware-refuses-an-invalidation", 1, refused),
    ]
}

/// A machine with one failure after another.
fn faults() -> Vec<Action> {
    let mut out = typical(ActionSet::Everything);
    for what in [Fault::PowerLoss, Fault::CommandError, Fault::NoMemory, Fault::MemoryRestored, Fault::EventAbort] {
        out.push(fault(what));
        out.extend(typical(ActionSet::Everything));
    }
    out
}

/// Lines `L index R|W offset size = value cpu phase` as actions.
///
/// The addresses of the traced kernel's structures are replaced by those of this host. The trace does not contain its
/// commands: each batch becomes CMD_CFGI_ALLs and a CMD_SYNC.
fn trace(text: &str) -> Vec<Action> {
    let mask = (2 << LOG2_QUEUE) - 1;
    let mut prod = 0;
    let mut out = vec![Action::Store {
        to: Address::at(HOST_STRTAB),
        value: Value::Pointer { to: Address::at(HOST_L2), low: 9, top: 0 },
    }];
    for line in text.lines().filter(|line| line.starts_with("L ")) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let hex = |at: usize| u64::from_str_radix(fields[at].trim_start_matches("0x"), 16).unwrap_or(0);
        let offset = u32::try_from(hex(3)).unwrap_or(0);
        let size = if fields[4] == "8" { AccessSize::Double } else { AccessSize::Word };
        let value = hex(6);
        let at = Reg::Raw(offset);
        if fields[2] == "R" {
            out.push(Action::Read { smmu: 0, at, size });
            continue;
        }
        let moved = |to, low| Value::Pointer { to: Address::at(to), low, top: 0x40 };
        let value = match offset {
            r::STRTAB_BASE => moved(HOST_STRTAB, 0),
            r::CMDQ_BASE => moved(HOST_CMDQ, 7),
            r::EVENTQ_BASE => moved(HOST_EVTQ, 7),
            r::CMDQ_PROD => {
                let new = value & mask;
                while prod != new {
                    prod = (prod + 1) & mask;
                    let cmd = if prod == new { Cmd::Sync } else { Cmd::CfgiAll };
                    out.push(Action::Queue { smmu: 0, cmd });
                }
                out.push(Action::WriteProd { cpu: 0, smmu: 0 });
                continue;
            }
            _ => Value::of(value),
        };
        out.push(Action::Write { cpu: 0, smmu: 0, at, size, value });
    }
    out
}
