//! The actions of a hostile host, its devices and its hardware.
//!
//! Every field value is valid: indices are taken modulo the number of choices. So any byte string is a valid run, and a
//! fuzzer may mutate it freely.

use mem_protect::{Transition, UncheckedRange};
use smmu_drv::AccessSize;

use super::value::{Address, Reg, Value};

/// An entry of the host's stream table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Invalid.
    Invalid,
    /// Abort without an event.
    Abort,
    /// Bypass.
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
    /// Any values of dwords 0 and 1.
    Words([Value; 2]),
}

/// A command of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cmd {
    /// CMD_SYNC that signals completion by CONS alone.
    Sync,
    /// CMD_SYNC that signals completion by a store.
    SyncMsi {
        /// Address of the store.
        to: Value,
        /// Value of the store.
        data: u8,
    },
    /// CMD_CFGI_STE.
    CfgiSte {
        /// Index in [`super::SIDS`].
        sid: u8,
        /// Leaf.
        leaf: u8,
    },
    /// CMD_CFGI_STE_RANGE.
    CfgiRange {
        /// Index in [`super::SIDS`].
        sid: u8,
        /// Range.
        range: u8,
    },
    /// CMD_CFGI_ALL.
    CfgiAll,
    /// CMD_TLBI_NH_ALL.
    NhAll,
    /// Any command words.
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

/// A request of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Write a byte.
    Write,
    /// Read a byte.
    Read,
    /// Write a byte in a Translated transaction.
    Translated,
    /// ATS translation request.
    Translation,
}

/// Faults that the host does not cause, and their ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EL2's pool is empty.
    NoMemory,
    /// EL2's pool has memory again.
    MemoryRestored,
    /// Allocations of table pages fail after `arg` more allocations (see [`Action::Fault`]).
    NoTables,
    /// Allocations of table pages succeed again.
    TablesRestored,
    /// The SMMU loses power and gets it back; then a trap follows.
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
        /// SMMU.
        smmu: u8,
        /// Register.
        at: Reg,
        /// Width.
        size: AccessSize,
    },
    /// A store of one of the host's CPUs. A CPU whose last store is not complete repeats that one instead.
    Write {
        /// CPU.
        cpu: u8,
        /// SMMU.
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
        /// CPU.
        cpu: u8,
    },
    /// A CPU never repeats its store.
    Abandon {
        /// CPU.
        cpu: u8,
    },
    /// A store of the host to memory; ignored if the memory is not the host's.
    Store {
        /// Address.
        to: Address,
        /// Value.
        value: Value,
    },
    /// Another CPU stores right after EL2's next read of this word.
    Race {
        /// The word.
        at: Address,
        /// The new value.
        value: Value,
    },
    /// The host writes an entry of its stream table.
    Ste {
        /// SMMU.
        smmu: u8,
        /// Index in [`super::SIDS`].
        sid: u8,
        /// The entry.
        entry: Entry,
    },
    /// The host puts a command into its queue.
    Queue {
        /// SMMU.
        smmu: u8,
        /// The command.
        cmd: Cmd,
    },
    /// The host writes CMDQ_PROD.
    WriteProd {
        /// CPU.
        cpu: u8,
        /// SMMU.
        smmu: u8,
    },
    /// The host programs an SMMU as a driver does.
    Start {
        /// SMMU.
        smmu: u8,
        /// Bit 0: two levels; bits `[3:1]`: log2 of the table size, relative to the default; bit 4: translation stays
        /// off.
        shape: u8,
    },
    /// The host overwrites the command that stopped its queue, and acknowledges the error.
    Repair {
        /// SMMU.
        smmu: u8,
    },
    /// The host empties its event queue.
    Events {
        /// SMMU.
        smmu: u8,
    },
    /// The host writes a context descriptor.
    Context {
        /// SubstreamID.
        ssid: u8,
        /// Address of the stage 1 table.
        table: Address,
    },
    /// The host maps a page in its stage 1.
    Map {
        /// Page number, counted from [`crate::layout::IOVA`].
        page: u8,
        /// Output address.
        to: Address,
    },
    /// Pages change owner.
    Transition {
        /// Index in [`TRANSITIONS`].
        how: Transition,
        /// An address in the first page.
        page: Value,
        /// Number of pages: one of 8.
        count: u8,
    },
    /// A device sends a request.
    Dma {
        /// SMMU of the device.
        smmu: u8,
        /// Index in [`super::SIDS`].
        sid: u8,
        /// SubstreamID plus one; 0 for none.
        ssid: u8,
        /// Kind of request.
        request: Request,
        /// Input address.
        iova: Value,
    },
    /// Time passes for the hardware.
    Time {
        /// Amount of time.
        steps: u8,
    },
    /// EL2 takes an event interrupt.
    Interrupt {
        /// SMMU.
        smmu: u8,
    },
    /// Hardware drops its caches.
    DropCaches,
    /// Hardware records an event of any type, with any fields.
    Record {
        /// SMMU.
        smmu: u8,
        /// Type.
        kind: u8,
        /// Index in [`super::SIDS`].
        sid: u8,
        /// SubstreamID plus one; 0 for none.
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
        /// SMMU of the table.
        smmu: u8,
        /// Index in [`super::SIDS`].
        sid: u8,
        /// Dword of the entry; 8 and more: the level-1 descriptor.
        word: u8,
        /// Bit.
        bit: u8,
    },
    /// The host queues pairs of commands; the StreamID of each CMD_CFGI_STE is one more than that of the previous one.
    Fill {
        /// SMMU.
        smmu: u8,
        /// First command of each pair.
        first: Cmd,
        /// Second command.
        second: Cmd,
        /// Number of pairs.
        count: u8,
    },
    /// The host writes the same entry for the first streams.
    SteRange {
        /// SMMU of the table.
        smmu: u8,
        /// Content of the entries.
        entry: Entry,
        /// Number of streams.
        count: u8,
    },
    /// The host writes level-1 descriptors of consecutive tables.
    Level1 {
        /// SMMU of the table.
        smmu: u8,
        /// The first table.
        to: Address,
        /// SPAN.
        span: u8,
        /// Number of descriptors.
        count: u8,
    },
    /// Devices of many consecutive streams write a byte each.
    ManyDma {
        /// SMMU of the devices.
        smmu: u8,
        /// First StreamID.
        sid: u8,
        /// Number of streams.
        count: u8,
    },
    /// EL2 assigns streams to a guest, and creates the guest if there is none.
    Assign {
        /// SMMU.
        smmu: u8,
        /// First stream: index in [`super::SIDS`].
        sid: u8,
        /// Number of streams: one of 8.
        count: u8,
        /// Guest.
        guest: u8,
    },
    /// EL2 blocks streams.
    Block {
        /// SMMU.
        smmu: u8,
        /// First stream: index in [`super::SIDS`].
        sid: u8,
        /// Number of streams: one of 8.
        count: u8,
    },
    /// EL2 releases streams to the host.
    Release {
        /// SMMU.
        smmu: u8,
        /// First stream: index in [`super::SIDS`].
        sid: u8,
        /// Number of streams: one of 8.
        count: u8,
    },
    /// EL2 retires a domain without streams: another guest can have its VMID.
    Retire {
        /// Domain.
        domain: u8,
    },
    /// A page of a guest is mapped in its IOMMU stage 2, or unmapped from it.
    GuestPage {
        /// Guest.
        guest: u8,
        /// An address in the page.
        page: Value,
        /// Bit 0: the page is mapped.
        how: u8,
    },
    /// Injects a fault.
    Fault {
        /// SMMU.
        smmu: u8,
        /// Fault.
        what: Fault,
        /// Parameter of the fault, for example the number of allocations that still succeed.
        arg: u8,
    },
}
