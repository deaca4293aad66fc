//! The action set of each fuzz target.

use super::setups::{LARGE, LESS_LARGE, MACHINES};
use super::value::pick;

/// An action set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diet {
    /// All of them.
    Everything,
    /// Register accesses.
    Registers,
    /// Commands and events.
    Commands,
    /// Stream table contents and shapes.
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
    Ring,
    Start,
    Repair,
    Events,
    Context,
    Map,
    Own,
    Dma,
    Time,
    Interrupt,
    Forget,
    Trouble,
    Record,
    Damage,
    Fill,
    Spread,
    Level1,
    Storm,
}

use Kind as K;

impl Diet {
    /// Every one, with the name of its fuzz target.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Everything, "hostile_host"),
        (Self::Registers, "registers"),
        (Self::Commands, "commands"),
        (Self::StreamTable, "stream_table"),
        (Self::Transitions, "transitions"),
        (Self::Costs, "costs"),
    ];

    /// Add new kinds at the end: the encoding is used by committed files.
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
                K::Ring,
                K::Start,
                K::Repair,
                K::Events,
                K::Context,
                K::Map,
                K::Own,
                K::Dma,
                K::Time,
                K::Interrupt,
                K::Forget,
                K::Trouble,
                K::Record,
                K::Damage,
            ],
            Self::Registers => &[
                K::Write,
                K::Read,
                K::Queue,
                K::Ring,
                K::Start,
                K::Write,
                K::Resume,
                K::Dma,
                K::Store,
                K::Own,
                K::Interrupt,
                K::Trouble,
            ],
            Self::Commands => &[
                K::Queue,
                K::Ring,
                K::Start,
                K::Repair,
                K::Events,
                K::Dma,
                K::Ste,
                K::Write,
                K::Race,
                K::Resume,
                K::Store,
                K::Own,
                K::Interrupt,
                K::Context,
                K::Time,
                K::Trouble,
                K::Record,
            ],
            Self::StreamTable => &[
                K::Ste,
                K::Store,
                K::Queue,
                K::Ring,
                K::Start,
                K::Race,
                K::Write,
                K::Dma,
                K::Own,
                K::Resume,
                K::Context,
                K::Map,
                K::Forget,
                K::Trouble,
                K::Events,
                K::Record,
                K::Damage,
            ],
            Self::Transitions => &[
                K::Own,
                K::Own,
                K::Own,
                K::Dma,
                K::Start,
                K::Ste,
                K::Queue,
                K::Ring,
                K::Map,
                K::Context,
                K::Write,
                K::Resume,
                K::Forget,
                K::Time,
                K::Repair,
                K::Events,
                K::Trouble,
                K::Record,
            ],
            Self::Costs => &[
                K::Fill,
                K::Ring,
                K::Spread,
                K::Level1,
                K::Start,
                K::Write,
                K::Storm,
                K::Events,
                K::Ste,
                K::Queue,
                K::Resume,
                K::Store,
                K::Own,
                K::Repair,
                K::Record,
            ],
        }
    }

    /// The machine that a byte means. Only where the work of one trap is measured is the largest one worth its time.
    pub(super) fn machine(self, byte: u8) -> u8 {
        let machine = byte % MACHINES;
        if machine == LARGE && self != Self::Costs { LESS_LARGE } else { machine }
    }

    /// A byte that means this machine.
    pub(super) fn machine_byte(machine: u8) -> u8 {
        if machine == LESS_LARGE { LARGE } else { machine }
    }

    pub(super) fn kind(self, byte: u8) -> Kind {
        pick(self.kinds(), byte)
    }

    pub(super) fn byte(self, kind: Kind) -> Option<u8> {
        self.kinds().iter().position(|known| *known == kind).and_then(|at| u8::try_from(at).ok())
    }
}
