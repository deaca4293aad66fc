//! Whether a function can be given away, and what has to be kept of it. One reason for each refusal.

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

/// Why a function cannot be given away. The numbers are in X1 beside `DENIED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Refusal {
    /// No such function was there at boot, or it is gone, or another one is in its place.
    UnknownFunction = 1,
    /// It is behind a bridge, whose bus number the host can change.
    NotOnRootBus = 2,
    /// It is a bridge.
    NotAnEndpoint = 3,
    /// Its device has other functions, or can have virtual ones: nothing keeps them apart.
    SharedDevice = 4,
    /// It has no reset.
    NoReset = 5,
    /// A BAR is not set, or outside the windows of its bridge, or its registers are not the host's, or it has addresses
    /// without a BAR, or BARs that can be resized.
    BarOutside = 6,
    /// A BAR does not begin and end with a page.
    BarNotPages = 7,
    /// A BAR overlaps another one, or a window of a bridge.
    BarOverlaps = 8,
    /// It can have a second RequesterID, or shares its StreamID.
    SharedStream = 9,
    /// It is not the host's now: it is another guest's, or on its way.
    NotTheHosts = 10,
    /// A bridge has, or hides behind it, a bus with the number of the root bus, or more buses than are looked at; or a
    /// function answers on a bus that no bridge leads to.
    BusNumbers = 11,
    /// So many functions are away already that there is no room for another one.
    TooMany = 12,
}

impl Refusal {
    /// All of them.
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

/// What the host had in a function's header, and what a reset takes from it.
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

/// A function that can be given away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its RequesterID.
    pub rid: Rid,
    /// Vendor and device ID.
    pub id: u32,
    /// Its stream.
    pub stream: Stream,
    /// How it is reset.
    pub reset: Reset,
    /// The pages of its BARs, as the CPU sees them.
    pub registers: ArrayVec<PhysRange, BARS>,
    /// Its header.
    pub saved: Saved,
}

/// Whether `rid` of `segment` can be given away, while the host reaches no configuration space.
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

/// Whether no other function of the device is there, now or at boot.
fn is_alone(config: &impl ConfigSpace, rid: Rid) -> bool {
    let first = Rid::of(rid.bus(), rid.device(), 0);
    rid.function() == 0
        && get32(spec::MULTI_FUNCTION, config.read32(first, spec::HEADER)) == 0
        && (1..FUNCTIONS).all(|other| !super::config::exists(config, Rid::of(rid.bus(), rid.device(), other)))
}

/// Its stream, which no other RequesterID has, and besides which it has none.
fn own_stream(config: &impl ConfigSpace, segment: &Segment, rid: Rid) -> Result<Stream, Refusal> {
    let stream = segment.stream(rid).ok_or(Refusal::SharedStream)?;
    let has_phantoms = capability(config, rid, capability::EXPRESS).is_some_and(|at| {
        get32(express::PHANTOM, config.read32(rid, at.saturating_add(express::DEVICE_CAPABILITIES))) != 0
    });
    if has_phantoms || segment.requesters_of(stream) != 1 { Err(Refusal::SharedStream) } else { Ok(stream) }
}

/// The pages of the BARs, which overlap nothing else on the bus.
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
        // There are as many places as BARs.
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
