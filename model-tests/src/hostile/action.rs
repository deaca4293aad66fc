//! The actions of a hostile host, its devices and its hardware.
//!
//! Every field value is valid: indices are taken modulo the number of choices. So any byte string is a valid run, and a
//! fuzzer may mutate it freely.

use mem_protect::{Transition, UncheckedRange};
use smmu_drv::AccessSize;

use super::value::{Reg, Spot, Value};

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
        /// Which of [`super::SIDS`].
        sid: u8,
        /// Leaf.
        leaf: u8,
    },
    /// CMD_CFGI_STE_RANGE.
    CfgiRange {
        /// Which of [`super::SIDS`].
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

/// The placeholder for the range of a transition in [`TRANSITIONS`].
pub const NO_RANGE: UncheckedRange = UncheckedRange { pfn: 0, count: 0 };

/// The transitions, in encoding order.
pub const TRANSITIONS: [Transition; 10] = [
    Transition::HostDonateHyp(NO_RANGE),
    Transition::HypDonateHost(NO_RANGE),
    Transition::HostShareHyp(NO_RANGE),
    Transition::HostUnshareHyp(NO_RANGE),
    Transition::VmCreate,
    Transition::VmDestroy(0),
    Transition::HostDonateGuest(NO_RANGE, 0),
    Transition::HostShareGuest(NO_RANGE, 0),
    Transition::HostUnshareGuest(NO_RANGE, 0),
    Transition::HostReclaimPage(NO_RANGE),
];

/// A device request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// To write a byte.
    Write,
    /// To read a byte.
    Read,
    /// To write a byte in a Translated transaction.
    Translated,
    /// An ATS translation.
    Translation,
}

/// Faults that are not caused by the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EL2's pool is empty.
    NoMemory,
    /// EL2's pool has memory again.
    Memory,
    /// Allocations of table pages fail, after as many as [`Action::Fault`]'s `arg` says.
    NoTables,
    /// Allocations of table pages succeed again.
    Tables,
    /// The SMMU loses its power and gets it back; then a trap.
    PowerLoss,
    /// Hardware refuses the next command.
    CommandError,
    /// Hardware cannot write the next event.
    EventAbort,
    /// No CMD_SYNC completes any more.
    SyncNever,
    /// Service failure mode.
    Failure,
    /// EL2 stops all streams permanently.
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
        at: Reg,
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
        at: Reg,
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
    /// A CPU never repeats its store.
    Abandon {
        /// Which CPU.
        cpu: u8,
    },
    /// A store of the host to memory; ignored if the memory is not the host's.
    Store {
        /// Where.
        to: Spot,
        /// What.
        value: Value,
    },
    /// Another CPU stores right after EL2's next read of this word.
    Race {
        /// The word.
        at: Spot,
        /// The new value.
        value: Value,
    },
    /// The host writes an entry of its stream table.
    Ste {
        /// Which SMMU's.
        smmu: u8,
        /// Which of [`super::SIDS`].
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
    WriteProd {
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
        /// Pages after [`crate::layout::IOVA`].
        page: u8,
        /// Where to.
        to: Spot,
    },
    /// Pages change owner.
    Transition {
        /// How: one of [`TRANSITIONS`].
        how: Transition,
        /// An address in the first page.
        page: Value,
        /// How many: one of 8 numbers.
        count: u8,
    },
    /// A device sends a request.
    Dma {
        /// Behind which SMMU.
        smmu: u8,
        /// Which of [`super::SIDS`].
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
    /// Hardware drops its caches.
    DropCaches,
    /// Hardware records an event of any type, with any fields.
    Record {
        /// Which SMMU.
        smmu: u8,
        /// Type.
        kind: u8,
        /// Which of [`super::SIDS`].
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
    /// A bit flip in EL2's own stream table as read by EL2: the audit must detect it.
    Damage {
        /// Whose table.
        smmu: u8,
        /// Which of [`super::SIDS`].
        sid: u8,
        /// Dword of the entry; beyond them, the level-1 descriptor.
        word: u8,
        /// Bit.
        bit: u8,
    },
    /// The host queues pairs of commands; each CMD_CFGI_STE has the StreamID of the one before plus one.
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
    SteRange {
        /// Whose table.
        smmu: u8,
        /// Contents.
        entry: Entry,
        /// How many streams.
        count: u8,
    },
    /// The host writes level-1 descriptors of consecutive tables.
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
    /// Devices of many consecutive streams write a byte each.
    ManyDma {
        /// Which SMMU.
        smmu: u8,
        /// First StreamID.
        sid: u8,
        /// How many.
        count: u8,
    },
    /// EL2 gives streams to a guest, which it makes if there is none.
    Assign {
        /// Which SMMU.
        smmu: u8,
        /// The first: which of [`super::SIDS`].
        sid: u8,
        /// How many: one of 8 numbers.
        count: u8,
        /// Which of the guests.
        guest: u8,
    },
    /// EL2 takes streams from their owner.
    Block {
        /// Which SMMU.
        smmu: u8,
        /// The first: which of [`super::SIDS`].
        sid: u8,
        /// How many: one of 8 numbers.
        count: u8,
    },
    /// EL2 gives streams to the host.
    Release {
        /// Which SMMU.
        smmu: u8,
        /// The first: which of [`super::SIDS`].
        sid: u8,
        /// How many: one of 8 numbers.
        count: u8,
    },
    /// EL2 ends a domain, if it has no streams: another guest can have its VMID.
    Retire {
        /// Which of the domains.
        domain: u8,
    },
    /// A page of a guest enters its table of DMA, or leaves it.
    GuestPage {
        /// Which of the guests.
        guest: u8,
        /// An address in the page.
        page: Value,
        /// Bit 0: it enters.
        how: u8,
    },
    /// Injects a fault.
    Fault {
        /// Where.
        smmu: u8,
        /// What.
        what: Fault,
        /// How.
        arg: u8,
    },
}
