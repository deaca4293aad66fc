//! What a hostile host, its devices and its hardware can do in one step.
//!
//! Everything here has a meaning for every value of its fields: numbers are taken modulo what there is. So any string of
//! bytes is a run, and a fuzzer may cut and paste as it likes.

use mem_protect::{Transition, UncheckedRange};
use smmu_drv::AccessSize;
use smmu_drv::emul::table::Register;

use crate::layout as l;

/// Places that mean something to somebody: the host's structures, pages that change hands, EL2, devices, nowhere.
pub const PLACES: [u64; 28] = [
    l::HOST_STRTAB,
    l::HOST_L2,
    l::HOST_CMDQ,
    l::HOST_EVTQ,
    l::HOST_CD,
    l::HOST_S1,
    l::HOST_S1 + 0x1000,
    l::HOST_S1 + 0x2000,
    l::HOST_FLAG,
    l::VICTIM,
    l::VICTIM + 0x1f_f000,
    l::VICTIM + 0x20_0000,
    l::EL2 - 0x1000,
    l::EL2,
    l::SECRET,
    l::TABLES,
    l::POOL,
    l::GIC,
    l::ITS,
    l::TRANSLATER,
    l::SMMU,
    l::UART,
    l::BAR,
    l::ECAM,
    0,
    1 << 40,
    l::RAM + l::RAM_BYTES,
    !0xfff,
];

/// StreamIDs that devices have: edges of tables and of blocks, and one that is too large for most machines.
pub const SIDS: [u32; 8] = [0, l::SID, 9, 63, 255, 256, 511, 0x1_0000];

/// An address: a place, and a word after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Which of [`PLACES`].
    pub place: u8,
    /// How many words after it.
    pub word: u16,
}

impl Spot {
    /// The start of a place; the first one where it is none of [`PLACES`].
    #[must_use]
    pub fn at(pa: u64) -> Self {
        let place = PLACES.iter().position(|place| *place == pa).unwrap_or(0);
        Self { place: u8::try_from(place).unwrap_or(0), word: 0 }
    }

    /// Its address.
    #[must_use]
    pub fn pa(self) -> u64 {
        pick(&PLACES, self.place).wrapping_add(u64::from(self.word) * 8)
    }
}

/// A 64-bit value, short where it is small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A small one.
    Small(u8),
    /// 32 bits.
    Word(u32),
    /// Any.
    Wide(u64),
    /// A pointer with flags in its low and its top byte.
    Pointer {
        /// Where to.
        to: Spot,
        /// Bits `[7:0]`.
        low: u8,
        /// Bits `[63:56]`.
        top: u8,
    },
}

impl Value {
    /// The shortest that means `value`.
    #[must_use]
    pub fn of(value: u64) -> Self {
        if let Ok(small) = u8::try_from(value) {
            return Self::Small(small);
        }
        u32::try_from(value).map_or(Self::Wide(value), Self::Word)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        match self {
            Self::Small(value) => value.into(),
            Self::Word(value) => value.into(),
            Self::Wide(value) => value,
            Self::Pointer { to, low, top } => to.pa() | u64::from(low) | u64::from(top) << 56,
        }
    }
}

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// A row of the policy, or the word after it.
    Row {
        /// Number of the row.
        row: u8,
        /// How far into it.
        half: Half,
    },
    /// An offset of either page.
    Raw(u32),
}

/// Which word of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The first.
    Low,
    /// The second, or what lies after a 32-bit register.
    High,
}

impl At {
    /// The offset from the base of page 0.
    #[must_use]
    pub fn offset(self) -> u32 {
        match self {
            Self::Raw(offset) => offset,
            Self::Row { row, half } => {
                let offset = pick(Register::ROWS, row).1;
                if half == Half::High { offset + 4 } else { offset }
            }
        }
    }
}

/// An entry of the host's stream table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Invalid.
    Invalid,
    /// A silent abort.
    Abort,
    /// A bypass.
    Bypass,
    /// Stage 1 with the host's context descriptor.
    Stage1,
    /// Stage 1 with a table of context descriptors.
    Substreams {
        /// S1Fmt.
        format: u8,
        /// S1CDMax.
        log2: u8,
        /// S1DSS.
        default: u8,
    },
    /// Any dwords 0 and 1.
    Words([Value; 2]),
}

/// A command of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmd {
    /// CMD_SYNC, completing by CONS alone.
    Sync,
    /// CMD_SYNC with a store.
    SyncMsi {
        /// Where to.
        to: Value,
        /// What.
        data: u8,
    },
    /// CMD_CFGI_STE.
    CfgiSte {
        /// Which of [`SIDS`].
        sid: u8,
        /// Leaf.
        leaf: u8,
    },
    /// CMD_CFGI_STE_RANGE.
    CfgiRange {
        /// Which of [`SIDS`].
        sid: u8,
        /// Range.
        range: u8,
    },
    /// CMD_CFGI_ALL.
    CfgiAll,
    /// CMD_TLBI_NH_ALL.
    NhAll,
    /// Any opcode with any fields.
    Any([Value; 2]),
}

/// What stands for the range of a transition before a run names one.
pub const UNNAMED: UncheckedRange = UncheckedRange { pfn: 0, count: 0 };

/// The transitions, by their number in a run.
pub const TRANSITIONS: [Transition; 10] = [
    Transition::HostDonateHyp(UNNAMED),
    Transition::HypDonateHost(UNNAMED),
    Transition::HostShareHyp(UNNAMED),
    Transition::HostUnshareHyp(UNNAMED),
    Transition::VmCreate,
    Transition::VmDestroy(0),
    Transition::HostDonateGuest(UNNAMED, 0),
    Transition::HostShareGuest(UNNAMED, 0),
    Transition::HostUnshareGuest(UNNAMED, 0),
    Transition::HostReclaimPage(UNNAMED),
];

/// What a device asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// To write a byte.
    Write,
    /// To read a byte.
    Read,
    /// To write a byte at an address that it says is translated.
    Translated,
    /// An ATS translation.
    Translation,
}

/// What goes wrong without the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// EL2's pool is empty.
    NoMemory,
    /// It is not any more.
    Memory,
    /// Allocations of table pages fail, after as many as `Trouble::arg` says.
    NoTables,
    /// They succeed again.
    Tables,
    /// The SMMU loses its power and gets it back; somebody traps.
    PowerLoss,
    /// Hardware refuses the next command.
    CommandError,
    /// Hardware cannot write the next event.
    EventAbort,
    /// No CMD_SYNC completes any more.
    SyncNever,
    /// Service failure mode.
    Failure,
    /// EL2 stops all streams for good.
    Quiesce,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A load of the host from an SMMU.
    Read {
        /// Which SMMU.
        smmu: u8,
        /// Register.
        at: At,
        /// Width.
        size: AccessSize,
    },
    /// A store of one of the host's CPUs. A CPU whose last store is not complete repeats that one instead.
    Write {
        /// Which CPU.
        cpu: u8,
        /// Which SMMU.
        smmu: u8,
        /// Register.
        at: At,
        /// Width.
        size: AccessSize,
        /// Value.
        value: Value,
    },
    /// A CPU repeats a store that is not complete.
    Resume {
        /// Which CPU.
        cpu: u8,
    },
    /// A CPU goes away and never repeats its store.
    Abandon {
        /// Which CPU.
        cpu: u8,
    },
    /// A store of the host to memory; nothing where the memory is not the host's.
    Store {
        /// Where.
        to: Spot,
        /// What.
        value: Value,
    },
    /// Another CPU stores right after EL2 next fetched this word.
    Race {
        /// The word.
        at: Spot,
        /// What it becomes.
        value: Value,
    },
    /// The host writes an entry of its stream table.
    Ste {
        /// Which SMMU's.
        smmu: u8,
        /// Which of [`SIDS`].
        sid: u8,
        /// The entry.
        entry: Entry,
    },
    /// The host puts a command into its queue.
    Queue {
        /// Which SMMU's.
        smmu: u8,
        /// The command.
        cmd: Cmd,
    },
    /// The host writes CMDQ_PROD.
    Ring {
        /// Which CPU.
        cpu: u8,
        /// Which SMMU.
        smmu: u8,
    },
    /// The host programs an SMMU as a driver does.
    Start {
        /// Which.
        smmu: u8,
        /// Bit 0: two levels; bits `[3:1]`: fewer or more streams; bit 4: translation stays off.
        shape: u8,
    },
    /// The host overwrites the command that stopped its queue, and acknowledges the error.
    Repair {
        /// Which SMMU.
        smmu: u8,
    },
    /// The host empties its event queue.
    Events {
        /// Which SMMU.
        smmu: u8,
    },
    /// The host writes a context descriptor.
    Context {
        /// SubstreamID.
        ssid: u8,
        /// Stage 1 table.
        table: Spot,
    },
    /// The host maps a page in its stage 1.
    Map {
        /// Pages after [`l::IOVA`].
        page: u8,
        /// Where to.
        to: Spot,
    },
    /// Memory changes its owner.
    Own {
        /// How: one of [`TRANSITIONS`].
        how: Transition,
        /// An address in the first page.
        page: Value,
        /// How many, in a code of 8.
        count: u8,
    },
    /// A device acts.
    Dma {
        /// Behind which SMMU.
        smmu: u8,
        /// Which of [`SIDS`].
        sid: u8,
        /// SubstreamID plus one, or none.
        ssid: u8,
        /// What.
        request: Request,
        /// Where.
        iova: Value,
    },
    /// Time passes for the hardware.
    Time {
        /// How much.
        steps: u8,
    },
    /// EL2 takes an event interrupt.
    Interrupt {
        /// Of which SMMU.
        smmu: u8,
    },
    /// Hardware forgets what it cached.
    Forget,
    /// Hardware records an event of any type, with any fields.
    Record {
        /// Which SMMU.
        smmu: u8,
        /// Type.
        kind: u8,
        /// Which of [`SIDS`].
        sid: u8,
        /// SubstreamID plus one, or none.
        ssid: u8,
        /// CLASS in bits `[1:0]`, then S2, RnW, InD, PnU, Stall.
        syndrome: u8,
        /// Input address.
        input: Value,
        /// IPA or fetch address.
        fetched: Value,
    },
    /// A bit flips in what EL2 reads of its own stream table: its audit has to notice.
    Damage {
        /// Whose table.
        smmu: u8,
        /// Which of [`SIDS`].
        sid: u8,
        /// Dword of the entry; beyond them, the level-1 descriptor.
        word: u8,
        /// Bit.
        bit: u8,
    },
    /// The host queues pairs of commands; those that name a stream name the next one each time.
    Fill {
        /// Which SMMU.
        smmu: u8,
        /// The first of each pair.
        first: Cmd,
        /// The second.
        second: Cmd,
        /// How many pairs.
        count: u8,
    },
    /// The host writes the same entry for the first streams.
    Spread {
        /// Whose table.
        smmu: u8,
        /// Contents.
        entry: Entry,
        /// How many streams.
        count: u8,
    },
    /// The host writes level-1 descriptors, of tables that follow each other.
    Level1 {
        /// Whose table.
        smmu: u8,
        /// The first table.
        to: Spot,
        /// SPAN.
        span: u8,
        /// How many.
        count: u8,
    },
    /// Devices of many streams try to transfer.
    Storm {
        /// Which SMMU.
        smmu: u8,
        /// First StreamID.
        sid: u8,
        /// How many.
        count: u8,
    },
    /// Something fails.
    Trouble {
        /// Where.
        smmu: u8,
        /// What.
        what: Trouble,
        /// How.
        arg: u8,
    },
}

/// The element that a number means.
pub(crate) fn pick<T: Copy>(from: &[T], index: u8) -> T {
    from[usize::from(index) % from.len()]
}
