//! The state of PCI hosts at boot, which the host cannot change later.

use super::bars::{self, BusRange, Sizes};
use super::config::{ConfigSpace, header_type};
use super::numbering;
use super::rid::{CONFIG_BYTES, DEVICES, FUNCTIONS, Rid};
use super::spec;
use crate::boot_info::PhysRange;
use crate::boot_info::pci::{IOMMU_MAP_MAX, IdRange, MemoryWindow, PciHost, WINDOWS_MAX};
use crate::boot_info::power::Switch;
use arrayvec::ArrayVec;
use io_pgtable::{Ipa, Pa};

/// Maximum number of stored functions of a root bus. If a bus has more, none of its functions can be given to guests.
pub const MOST_FUNCTIONS: usize = 64;
/// Configuration space of a bus, in bytes.
const BUS_BYTES: u64 = CONFIG_BYTES * (DEVICES as u64) * (FUNCTIONS as u64);

/// A function of the machine: `segment << 16 | RequesterID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceId {
    /// Its segment.
    pub segment: u32,
    /// Its RequesterID.
    pub rid: Rid,
}

impl DeviceId {
    /// Decodes a caller's number; `None` if the segment has more than 32 bits.
    #[must_use]
    pub fn of(number: u64) -> Option<Self> {
        let rid = Rid::new(u16::try_from(number & 0xffff).unwrap_or(0));
        Some(Self { segment: u32::try_from(number >> 16).ok()?, rid })
    }
}

/// A stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Index of its SMMU.
    pub smmu: u8,
    /// Its StreamID.
    pub sid: u32,
}

/// A function of the root bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its RequesterID.
    pub rid: Rid,
    /// Vendor and device ID.
    pub id: u32,
    /// The sizes of its BARs.
    pub sizes: Sizes,
}

/// A PCI host.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Its number.
    pub number: u32,
    /// Its first and last bus; the first is the root.
    pub buses: (u8, u8),
    /// Configuration space, also of buses above the last one.
    pub area: Area,
    /// Whether the host must not change the bus numbers: its accesses to configuration space then always trap.
    pub fixed_numbers: bool,
    /// Windows of memory space.
    pub windows: ArrayVec<MemoryWindow, WINDOWS_MAX>,
    /// StreamIDs of its requesters.
    pub ids: ArrayVec<IdRange, IOMMU_MAP_MAX>,
    /// Streams of masters outside this segment.
    pub others: ArrayVec<Others, MOST_OTHERS>,
    /// The functions of the root bus; `None` if there are too many functions or outside streams, or another root bus.
    pub functions: Option<ArrayVec<Known, MOST_FUNCTIONS>>,
}

/// Maximum number of stored stream ranges outside a segment.
pub const MOST_OTHERS: usize = 128;

/// Consecutive streams of one SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Others {
    /// The first one.
    pub first: Stream,
    /// Number of them.
    pub count: u32,
}

impl Segment {
    /// A PCI host of the device tree, without its functions; `None` if its configuration space ends inside a bus or is
    /// larger than 256 buses, or if another node can switch it off: EL2's own loads would abort.
    #[must_use]
    pub fn new(host: &PciHost) -> Option<Self> {
        let (first, last) = host.buses;
        let bytes_to = |last: u8| u64::from(last).checked_sub(u64::from(first))?.checked_add(1)?.checked_mul(BUS_BYTES);
        let size = host.ecam.size();
        let whole = bytes_to(last)? <= size && size <= bytes_to(u8::MAX)?;
        (whole && host.switch == Switch::Nobody).then(|| Self {
            number: host.segment,
            buses: host.buses,
            area: Area { range: host.ecam, first_bus: first },
            fixed_numbers: host.has_fixed_bus_numbers(),
            windows: host.memory.clone(),
            ids: host.ids.clone(),
            others: ArrayVec::new(),
            functions: None,
        })
    }

    /// Finds the functions of the root bus and measures their BARs: at boot, before the host uses them. `others`
    /// are the streams of masters outside this segment, `None` if they are not known.
    pub fn enumerate(&mut self, config: &mut impl ConfigSpace, others: impl IntoIterator<Item = Option<Others>>) {
        for other in others {
            if other.is_none_or(|other| self.others.try_push(other).is_err()) {
                return;
            }
        }
        if numbering::unreached_function(config, self.buses, self.area.last_bus()).is_some() {
            return;
        }
        let mut found = ArrayVec::<Rid, MOST_FUNCTIONS>::new();
        for rid in numbering::functions(config, self.buses.0) {
            if found.try_push(rid).is_err() {
                return;
            }
        }
        let known = found.iter().map(|&rid| Known {
            rid,
            id: config.read32(rid, spec::ID),
            sizes: match header_type(config, rid) {
                spec::TYPE_ENDPOINT | spec::TYPE_BRIDGE => bars::measure(config, rid),
                _ => Sizes::default(),
            },
        });
        self.functions = Some(known.collect());
    }

    /// The function `rid` of the root bus.
    #[must_use]
    pub fn known(&self, rid: Rid) -> Option<&Known> {
        self.functions.as_ref()?.iter().find(|known| known.rid == rid)
    }

    /// The stream of `rid`.
    #[must_use]
    pub fn stream(&self, rid: Rid) -> Option<Stream> {
        self.ids.iter().find_map(|range| {
            let skip = u32::from(rid.bits()).checked_sub(range.rid).filter(|skip| *skip < range.count)?;
            Some(Stream { smmu: range.smmu, sid: range.sid.checked_add(skip)? })
        })
    }

    /// Number of RequesterIDs, and of ranges of other masters, that have the stream `stream`.
    #[must_use]
    pub fn requesters_of(&self, stream: Stream) -> u8 {
        let own =
            self.ids.iter().map(|ids| Others { first: Stream { smmu: ids.smmu, sid: ids.sid }, count: ids.count });
        let all = own.chain(self.others.iter().copied());
        all.filter(|range| range.has(stream)).fold(0_u8, |sum, _| sum.saturating_add(1))
    }

    /// CPU addresses of `size` bytes at bus address `base`, if one window contains all of them and no other window
    /// contains any.
    #[must_use]
    pub fn cpu_range(&self, base: u64, size: u64) -> Option<PhysRange> {
        let range = BusRange { base, size };
        let mut shown = self.windows.iter().filter(|window| {
            let size = window.cpu.size();
            BusRange { base: window.bus, size }.overlaps(&range)
        });
        let window = shown.next().filter(|_| shown.next().is_none())?;
        let at = window.cpu.base().0.checked_add(base.checked_sub(window.bus)?)?;
        PhysRange::new(Pa(at), size).filter(|range| window.cpu.contains(range))
    }
}

impl Others {
    fn has(self, stream: Stream) -> bool {
        let skip = stream.sid.checked_sub(self.first.sid);
        self.first.smmu == stream.smmu && skip.is_some_and(|skip| skip < self.count)
    }
}

/// The addresses of configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// The whole range.
    pub range: PhysRange,
    /// Its first bus.
    pub first_bus: u8,
}

impl Area {
    /// Its last bus.
    #[must_use]
    pub fn last_bus(self) -> u8 {
        let more = self.range.size().saturating_sub(1) / BUS_BYTES;
        u8::try_from(more).unwrap_or(u8::MAX).saturating_add(self.first_bus)
    }

    /// The function and the register at `ipa`.
    #[must_use]
    pub fn register(self, ipa: Ipa) -> Option<(Rid, u16)> {
        let offset = ipa.0.checked_sub(self.range.base().0).filter(|offset| *offset < self.range.size())?;
        let rid = u16::try_from(offset / CONFIG_BYTES).ok()?.checked_add(u16::from(self.first_bus) << 8)?;
        Some((Rid::new(rid), u16::try_from(offset % CONFIG_BYTES).ok()?))
    }

    /// The address of the register at `offset` of `rid`; `None` outside configuration space.
    #[must_use]
    pub fn address(self, rid: Rid, offset: u16) -> Option<Pa> {
        let index = u64::from(rid.bits()).checked_sub(u64::from(self.first_bus) << 8)?;
        let at = index.checked_mul(CONFIG_BYTES)?.checked_add(u64::from(offset))?;
        (u64::from(offset) < CONFIG_BYTES && at < self.range.size())
            .then(|| self.range.base().0.checked_add(at).map(Pa))?
    }
}
