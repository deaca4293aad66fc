//! Checks whether a function can be assigned to a guest, and saves the registers that a reset clears. Each refusal has
//! its own reason.

use super::bars::{self, BARS, BusRange};
use super::config::{ConfigSpace, capability, extended, header_type, read16};
use super::numbering;
use super::reset::{self, Reset};
use super::rid::{FUNCTIONS, Rid};
use super::segment::{Known, Segment, Stream};
use super::spec::{self, capability, express, extended};
use crate::boot_info::PhysRange;
use crate::boot_info::cmdline::PciKind;
use crate::boot_info::range::PAGE_SIZE;
use arrayvec::ArrayVec;
use host_access::field::get32;

/// Why a function cannot be assigned to a guest. The number is returned in X1 together with `DENIED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Refusal {
    /// The function did not exist at boot, does not exist now, or was replaced by another one.
    UnknownFunction = 1,
    /// It is behind a bridge, and the host can change the bus number.
    NotOnRootBus = 2,
    /// It is a bridge.
    NotAnEndpoint = 3,
    /// Its device has other functions, or can have virtual functions, which are not isolated from each other.
    SharedDevice = 4,
    /// It has no reset.
    NoReset = 5,
    /// A BAR is not set, is outside the bridge's windows, or contains registers that the host does not get; or the
    /// function has addresses without a BAR, or resizable BARs.
    BarOutside = 6,
    /// A BAR does not begin and end at page boundaries.
    BarNotPages = 7,
    /// A BAR overlaps another one, or a window of a bridge.
    BarOverlaps = 8,
    /// It can have a second RequesterID, or shares its StreamID.
    SharedStream = 9,
    /// It does not belong to the host now: another guest has it, or it is in transition.
    NotTheHosts = 10,
    /// A bridge leads to a bus with the number of the root bus or to too many buses; or a function responds on a bus
    /// that is behind no bridge.
    BusNumbers = 11,
    /// The maximum number of functions is already away.
    TooMany = 12,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::UnknownFunction,
        Self::NotOnRootBus,
        Self::NotAnEndpoint,
        Self::SharedDevice,
        Self::NoReset,
        Self::BarOutside,
        Self::BarNotPages,
        Self::BarOverlaps,
        Self::SharedStream,
        Self::NotTheHosts,
        Self::BusNumbers,
        Self::TooMany,
    ];

    /// The number in X1.
    #[must_use]
    pub const fn number(self) -> u64 {
        // Field-less with an explicit representation: the discriminant is the number.
        self as u64
    }
}

/// The host's values in a function's header, which a reset clears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The command register.
    pub command: u16,
    /// Cache line size, in the low byte.
    pub header: u32,
    /// All BARs.
    pub bars: [u32; BARS],
    /// The expansion ROM.
    pub rom: u32,
    /// The interrupt line, in the low byte.
    pub interrupt: u32,
}

/// A function that can be assigned to a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its RequesterID.
    pub rid: Rid,
    /// Vendor and device ID.
    pub id: u32,
    /// Its stream.
    pub stream: Stream,
    /// Its reset method.
    pub reset: Reset,
    /// The pages of its BARs, as the CPU sees them.
    pub registers: ArrayVec<PhysRange, BARS>,
    /// Its header.
    pub saved: Saved,
}

/// Checks whether `rid` of `segment` can be assigned to a guest. Configuration space must not be mapped for the host
/// during the call.
///
/// # Errors
/// See [`Refusal`]. Nothing was changed.
pub fn inspect(
    config: &impl ConfigSpace,
    segment: &Segment,
    rid: Rid,
    no_reset: &[PciKind],
) -> Result<Function, Refusal> {
    if rid.bus() != segment.buses.0 {
        return Err(Refusal::NotOnRootBus);
    }
    let known = segment.known(rid).ok_or(Refusal::UnknownFunction)?;
    if config.read32(rid, spec::ID) != known.id {
        return Err(Refusal::UnknownFunction);
    }
    if header_type(config, rid) != spec::TYPE_ENDPOINT {
        return Err(Refusal::NotAnEndpoint);
    }
    if !is_alone(config, rid) || extended(config, rid, extended::SRIOV) != Ok(None) {
        return Err(Refusal::SharedDevice);
    }
    let stream = own_stream(config, segment, rid)?;
    let reset = reset::find(config, rid, no_reset).ok_or(Refusal::NoReset)?;
    numbering::check(config, segment.buses, segment.area.last_bus()).map_err(|_| Refusal::BusNumbers)?;
    let registers = registers(config, segment, known)?;
    Ok(Function { rid, id: known.id, stream, reset, registers, saved: save(config, rid) })
}

/// Whether the device has no other function, now or at boot.
fn is_alone(config: &impl ConfigSpace, rid: Rid) -> bool {
    let first = Rid::of(rid.bus(), rid.device(), 0);
    rid.function() == 0
        && get32(spec::MULTI_FUNCTION, config.read32(first, spec::HEADER)) == 0
        && (1..FUNCTIONS).all(|other| !super::config::exists(config, Rid::of(rid.bus(), rid.device(), other)))
}

/// Its stream: the only one of this function, and of no other RequesterID.
fn own_stream(config: &impl ConfigSpace, segment: &Segment, rid: Rid) -> Result<Stream, Refusal> {
    let stream = segment.stream(rid).ok_or(Refusal::SharedStream)?;
    let has_phantoms = capability(config, rid, capability::EXPRESS).is_some_and(|at| {
        get32(express::PHANTOM, config.read32(rid, at.saturating_add(express::DEVICE_CAPABILITIES))) != 0
    });
    if has_phantoms || segment.requesters_of(stream) != 1 { Err(Refusal::SharedStream) } else { Ok(stream) }
}

/// The pages of the BARs, which must not overlap other ranges on the bus.
fn registers(
    config: &impl ConfigSpace,
    segment: &Segment,
    known: &Known,
) -> Result<ArrayVec<PhysRange, BARS>, Refusal> {
    let is_resizable = extended(config, known.rid, extended::RESIZABLE_BAR) != Ok(None);
    if is_resizable || capability(config, known.rid, capability::EA).is_some() {
        return Err(Refusal::BarOutside);
    }
    let mut pages = ArrayVec::new();
    let mut own = ArrayVec::<BusRange, BARS>::new();
    for (index, &size) in (0..BARS).zip(&known.sizes.bars).filter(|(_, size)| **size != 0) {
        let range = BusRange { base: bars::base(config, known.rid, index), size };
        if range.base == 0 {
            return Err(Refusal::BarOutside);
        }
        let cpu = segment.cpu_range(range.base, size).ok_or(Refusal::BarOutside)?;
        if !cpu.base().0.is_multiple_of(PAGE_SIZE) || !size.is_multiple_of(PAGE_SIZE) {
            return Err(Refusal::BarNotPages);
        }
        if own.iter().any(|other| other.overlaps(&range)) {
            return Err(Refusal::BarOverlaps);
        }
        // Cannot fail: at most one entry for each BAR.
        let _ = own.try_push(range);
        let _ = pages.try_push(cpu);
    }
    for other in segment.functions.iter().flatten().filter(|other| other.rid != known.rid) {
        let ranges = bars::ranges(config, other.rid, &other.sizes);
        if ranges.iter().any(|range| own.iter().any(|own| own.overlaps(range))) {
            return Err(Refusal::BarOverlaps);
        }
    }
    Ok(pages)
}

fn save(config: &impl ConfigSpace, rid: Rid) -> Saved {
    Saved {
        command: read16(config, rid, spec::COMMAND),
        header: config.read32(rid, spec::HEADER),
        bars: core::array::from_fn(|index| config.read32(rid, bars::offset(index))),
        rom: config.read32(rid, spec::ROM),
        interrupt: config.read32(rid, spec::INTERRUPT),
    }
}
