//! The machine's PCI functions: hypercalls that assign them to guests and return them, and the host's accesses to
//! configuration space while a function is away.
//!
//! Lock order: ownership, then the lock of this module, then one SMMU. See docs/locking.md.

mod config;
mod machine;

use crate::arch::PAGE;
use crate::iommu::{self, streams::Stream};
use crate::ownership::HostOwnership;
use arrayvec::ArrayVec;
use config::Ecam;
use core::fmt;
use hyp::boot_info::cmdline::{NO_RESET_MAX, PciKind};
use hyp::boot_info::pci::{PCI_MAX, PciHost, Streams};
use hyp::esr::Size;
use hyp::hvc::DeviceCall;
use hyp::pci::ecam::{self, Answer};
use hyp::pci::fixed_buses::{self, BusNumberError};
use hyp::pci::handover::RequiredOwner;
use hyp::pci::rid::CONFIG_BYTES;
use hyp::pci::segment::Others;
use hyp::pci::{self, DeviceId, Devices, Error, Refusal, Rid, Segment};
use io_pgtable::Ipa;
use machine::Locked;
use smmu_drv::StreamOwner;
use spin::Once;
use spin::mutex::TicketMutex;

/// The PCI hosts that were given to the host.
static SEGMENTS: [Once<Segment>; PCI_MAX] = [const { Once::new() }; PCI_MAX];
static STATE: TicketMutex<State> = TicketMutex::new(State { devices: Devices::new(), taken: [false; PCI_MAX] });

struct State {
    devices: Devices,
    /// For each segment: whether its configuration space is unmapped from the host.
    taken: [bool; PCI_MAX],
}

/// A register of configuration space.
#[derive(Clone, Copy)]
pub struct Register {
    index: usize,
    rid: Rid,
    offset: u16,
}

/// Results of the boot about PCI.
pub struct Found {
    /// The PCI hosts that were given to the host. EL2 maps their configuration space.
    pub hosts: ArrayVec<PciHost, PCI_MAX>,
    /// Streams of all masters.
    pub streams: Streams,
    /// Kinds of functions that may be assigned to guests without a reset.
    pub no_reset: ArrayVec<PciKind, NO_RESET_MAX>,
}

/// Finds the functions of the root buses and measures their BARs; called once, before the host runs.
pub fn init(found: &Found) {
    for (index, place) in (0..found.hosts.len()).zip(&SEGMENTS) {
        add(found, index, place);
    }
    STATE.lock().devices.allow_without_reset(&found.no_reset);
}

/// Checks the bus numbers of a PCI host whose bus numbers the host must not change; called at boot, when all addresses
/// below the limit of the boot table are device memory.
///
/// # Errors
/// The first function with a bus number outside, or with virtual functions; `None` if EL2 cannot use configuration
/// space: it is above the limit, incomplete, or another node can switch the PCI host off.
pub fn check_numbers(host: &PciHost) -> Result<(), Option<BusNumberError>> {
    if !host.has_fixed_bus_numbers() {
        return Ok(());
    }
    let segment = Segment::new(host).ok_or(None)?;
    if segment.area.range.end().0 > hyp::boot_info::boot_map::LIMIT {
        return Err(None);
    }
    fixed_buses::check(&Ecam(segment.area), segment.buses).map_err(Some)
}

/// Its stack frame is large, and is freed when it returns.
#[inline(never)]
fn add(found: &Found, index: usize, place: &Once<Segment>) {
    let Some(host) = found.hosts.get(index) else { return };
    let Some(mut segment) = Segment::new(host) else { return };
    if let Some(taken) = STATE.lock().taken.get_mut(index) {
        // Boot did not map it.
        *taken = segment.fixed_numbers;
    }
    let streams = found.streams.iter().flatten().filter(|one| one.map_of != Some(host.node));
    let others = streams.map(|one| {
        let first = pci::Stream { smmu: one.smmu, sid: one.sid };
        Some(Others { first, count: one.count })
    });
    let unknown = found.streams.is_none().then_some(None);
    segment.enumerate(&mut Ecam(segment.area), others.chain(unknown));
    place.call_once(|| segment);
}

/// Whether this EL2 can assign functions to guests.
pub fn is_supported() -> bool {
    segments().next().is_some()
}

/// The segments, each with its index.
fn segments() -> impl Iterator<Item = (usize, &'static Segment)> {
    SEGMENTS.iter().enumerate().filter_map(|(index, segment)| Some((index, segment.get()?)))
}

/// Executes a call.
///
/// # Errors
/// See [`Error`].
#[cold]
#[inline(never)]
pub fn call(ownership: &mut HostOwnership, call: DeviceCall) -> Result<(), Error> {
    let (number, handle) = match call {
        DeviceCall::Assign(number, handle) => (number, Some(handle)),
        DeviceCall::Return(number) => (number, None),
    };
    let unknown = Error::Refused(Refusal::UnknownFunction);
    let id = DeviceId::of(number).ok_or(unknown)?;
    let (index, segment) = segments().find(|(_, segment)| segment.number == id.segment).ok_or(unknown)?;
    let State { devices, taken } = &mut *STATE.lock();
    let taken = taken.get_mut(index).ok_or(unknown)?;
    let mut machine = Locked { ownership, taken };
    match handle {
        Some(handle) => devices.assign(&mut machine, segment, id, handle),
        None => devices.return_to_host(&mut machine, segment, id),
    }
}

/// The register of configuration space at `ipa`, if there is one.
#[cold]
pub fn locate(ipa: Ipa) -> Option<Register> {
    segments().find_map(|(index, segment)| {
        let (rid, offset) = segment.area.register(ipa)?;
        Some(Register { index, rid, offset })
    })
}

/// Whether the host's accesses to `register` trap. The caller holds the ownership lock, so the result stays valid.
pub fn traps(register: Register) -> bool {
    STATE.lock().taken.get(register.index).copied().unwrap_or(false)
}

const fn bytes(size: Size) -> u16 {
    match size {
        Size::Byte => 1,
        Size::Half => 2,
        Size::Word => 4,
        Size::Double => 8,
    }
}

impl Register {
    fn segment(self) -> Option<&'static Segment> {
        SEGMENTS.get(self.index)?.get()
    }

    /// Whether the function is away. Functions on buses outside `bus-range` always count as away.
    fn is_away(self) -> bool {
        let segment = self.segment().filter(|segment| self.rid.bus() <= segment.buses.1);
        let id = segment.map(|segment| DeviceId { segment: segment.number, rid: self.rid });
        id.is_none_or(|id| STATE.lock().devices.is_away(id))
    }
}

/// The host loads a register that traps.
#[cold]
pub fn read(register: Register, size: Size) -> u64 {
    let Some(segment) = register.segment() else { return u64::MAX };
    match ecam::load(|| register.is_away(), register.offset, bytes(size)) {
        Answer::Hardware => Ecam(segment.area).host_load(register.rid, register.offset, bytes(size)),
        Answer::Denied => {
            iommu::count_denied();
            u64::MAX
        }
    }
}

/// The host stores to a register that traps.
#[cold]
pub fn write(register: Register, size: Size, value: u64) {
    let Some(segment) = register.segment() else { return };
    let mut config = Ecam(segment.area);
    let (rid, access) = (register.rid, (register.offset, bytes(size)));
    let answer = if segment.fixed_numbers {
        fixed_buses::store(&config, || register.is_away(), rid, access, value)
    } else {
        ecam::store(&config, || register.is_away(), rid, access, value)
    };
    match answer {
        Answer::Hardware => config.host_store(rid, access.0, access.1, value),
        Answer::Denied => iommu::count_denied(),
    }
}

/// A finding of the audit: a defect of EL2.
#[derive(Clone, Copy, Debug)]
pub enum DeviceFinding {
    /// The host can access this page of a function that is away.
    Reach(Rid, Ipa),
    /// The stream of a function that is away has the wrong owner.
    Stream(Rid, StreamOwner),
}

impl fmt::Display for DeviceFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reach(rid, ipa) => write!(f, "the host can access {ipa} of function {rid}, which is away"),
            Self::Stream(rid, owner) => write!(f, "the stream of function {rid}, which is away, is {owner:?}"),
        }
    }
}

/// Checks that the host can access no register of a function that is away, and that its stream has the right owner.
///
/// # Errors
/// The first finding.
pub fn audit(ownership: &HostOwnership) -> Result<(), DeviceFinding> {
    let state = STATE.lock();
    for away in state.devices.away() {
        let id = away.id();
        let segment = segments().find(|(_, segment)| segment.number == id.segment);
        let config = segment.and_then(|(_, segment)| segment.area.address(id.rid, 0));
        let config = config.map(|pa| (Ipa(pa.0), CONFIG_BYTES));
        let registers = away.registers().map(|range| (Ipa(range.base().0), range.size()));
        for (ipa, size) in config.into_iter().chain(registers) {
            reaches_none(ownership, ipa, size).map_err(|ipa| DeviceFinding::Reach(id.rid, ipa))?;
        }
        let (stream, is) = away.stream();
        let owner = Stream { smmu: usize::from(stream.smmu), sid: stream.sid }.owner();
        let agrees = match is {
            RequiredOwner::Guest(guest) => owner == StreamOwner::Domain(iommu::guest_vmid(guest)),
            RequiredOwner::Nobody => owner == StreamOwner::Blocked,
            RequiredOwner::Unknown => true,
        };
        if !agrees {
            return Err(DeviceFinding::Stream(id.rid, owner));
        }
    }
    Ok(())
}

/// Checks that no page of the `size` bytes at `ipa` is mapped for the host's CPUs.
///
/// # Errors
/// The first page that is mapped.
fn reaches_none(ownership: &HostOwnership, ipa: Ipa, size: u64) -> Result<(), Ipa> {
    let mut at = ipa;
    while at.0 < ipa.0.saturating_add(size) {
        if ownership.cpu().is_mapped(at) {
            return Err(at);
        }
        at = Ipa(at.0.saturating_add(PAGE));
    }
    Ok(())
}
