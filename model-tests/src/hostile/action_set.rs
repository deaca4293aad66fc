//! The action set of each fuzz target.

use super::setups::{LARGE, MACHINES, MEDIUM};
use super::value::pick;

/// An action set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionSet {
    /// All actions.
    Everything,
    /// Register accesses.
    Registers,
    /// Commands and events.
    Commands,
    /// Stream table contents and formats.
    StreamTable,
    /// Changes of owner between traps and DMA.
    Transitions,
    /// Bulk actions: expensive traps.
    Costs,
}

/// The kinds of actions, in encoding order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Resume,
    Abandon,
    Store,
    Race,
    Ste,
    Queue,
    WriteProd,
    Start,
    Repair,
    Events,
    Context,
    Map,
    Transition,
    Dma,
    Time,
    Interrupt,
    DropCaches,
    Fault,
    Record,
    Damage,
    Fill,
    SteRange,
    Level1,
    ManyDma,
    Assign,
    Block,
    Release,
    Retire,
    GuestPage,
}

use Kind as K;

/// The kinds of actions that change the owner of streams. They use bytes that do not occur in files that were committed
/// before these kinds existed, so that such files decode as before.
const STREAMS: [Kind; 5] = [K::Assign, K::Block, K::Release, K::Retire, K::GuestPage];
/// The bytes of [`STREAMS`], each kind several times.
const STREAM_BYTES: std::ops::RangeInclusive<u8> = 0xe8..=0xf7;

impl ActionSet {
    /// All action sets, with the names of their fuzz targets.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Everything, "hostile_host"),
        (Self::Registers, "registers"),
        (Self::Commands, "commands"),
        (Self::StreamTable, "stream_table"),
        (Self::Transitions, "transitions"),
        (Self::Costs, "costs"),
    ];

    /// Committed files use this encoding: with another number of kinds their bytes would select other actions.
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Everything => &[
                K::Read,
                K::Write,
                K::Resume,
                K::Abandon,
                K::Store,
                K::Race,
                K::Ste,
                K::Queue,
                K::WriteProd,
                K::Start,
                K::Repair,
                K::Events,
                K::Context,
                K::Map,
                K::Transition,
                K::Dma,
                K::Time,
                K::Interrupt,
                K::DropCaches,
                K::Fault,
                K::Record,
                K::Damage,
            ],
            Self::Registers => &[
                K::Write,
                K::Read,
                K::Queue,
                K::WriteProd,
                K::Start,
                K::Write,
                K::Resume,
                K::Dma,
                K::Store,
                K::Transition,
                K::Interrupt,
                K::Fault,
            ],
            Self::Commands => &[
                K::Queue,
                K::WriteProd,
                K::Start,
                K::Repair,
                K::Events,
                K::Dma,
                K::Ste,
                K::Write,
                K::Race,
                K::Resume,
                K::Store,
                K::Transition,
                K::Interrupt,
                K::Context,
                K::Time,
                K::Fault,
                K::Record,
            ],
            Self::StreamTable => &[
                K::Ste,
                K::Store,
                K::Queue,
                K::WriteProd,
                K::Start,
                K::Race,
                K::Write,
                K::Dma,
                K::Transition,
                K::Resume,
                K::Context,
                K::Map,
                K::DropCaches,
                K::Fault,
                K::Events,
                K::Record,
                K::Damage,
            ],
            Self::Transitions => &[
                K::Transition,
                K::Transition,
                K::Transition,
                K::Dma,
                K::Start,
                K::Ste,
                K::Queue,
                K::WriteProd,
                K::Map,
                K::Context,
                K::Write,
                K::Resume,
                K::DropCaches,
                K::Time,
                K::Repair,
                K::Events,
                K::Fault,
                K::Record,
            ],
            Self::Costs => &[
                K::Fill,
                K::WriteProd,
                K::SteRange,
                K::Level1,
                K::Start,
                K::Write,
                K::ManyDma,
                K::Events,
                K::Ste,
                K::Queue,
                K::Resume,
                K::Store,
                K::Transition,
                K::Repair,
                K::Record,
            ],
        }
    }

    /// The machine that a byte selects. The largest one is slow and only used to measure the work of one trap.
    pub(super) fn machine(self, byte: u8) -> u8 {
        let machine = byte % MACHINES;
        if machine == LARGE && self != Self::Costs { MEDIUM } else { machine }
    }

    /// A byte that selects this machine.
    pub(super) fn machine_byte(machine: u8) -> u8 {
        if machine == MEDIUM { LARGE } else { machine }
    }

    /// Whether streams change their owner. Such a change is not a trap, so the set of expensive traps omits it.
    fn has_streams(self) -> bool {
        self != Self::Costs
    }

    pub(super) fn kind(self, byte: u8) -> Kind {
        if self.has_streams() && STREAM_BYTES.contains(&byte) {
            return pick(&STREAMS, byte - STREAM_BYTES.start());
        }
        pick(self.kinds(), byte)
    }

    pub(super) fn byte(self, kind: Kind) -> Option<u8> {
        if let Some(at) = STREAMS.iter().position(|known| *known == kind) {
            return u8::try_from(at).ok().filter(|_| self.has_streams()).map(|at| STREAM_BYTES.start() + at);
        }
        self.kinds().iter().position(|known| *known == kind).and_then(|at| u8::try_from(at).ok())
    }
}
