//! MCFG: the addresses of configuration space (PCI Firmware Specification 3.3, 4.1.2).

use alloc::vec::Vec;

use crate::error::{Error, FIRMWARE};
use crate::range::Range;
use crate::table::{HEADER, Table};

const FIRST: usize = HEADER + 8;
const ENTRY: usize = 16;
/// Size in bytes of the configuration space of a bus.
pub(crate) const BUS: u64 = 1 << 20;
/// Maximum number of entries.
const AREAS_MAX: usize = 64;

/// Configuration space of a range of buses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    /// Address of the configuration space of bus 0, even if the area begins at another bus.
    pub(crate) base: u64,
    pub(crate) segment: u16,
    pub(crate) first: u8,
    pub(crate) last: u8,
}

impl Area {
    /// Configuration space of the buses `first` to `last`.
    pub(crate) fn of(&self, first: u8, last: u8) -> Range {
        let buses = u64::from(last.saturating_sub(first)).saturating_add(1);
        Range { base: self.base.saturating_add(u64::from(first).saturating_mul(BUS)), size: buses.saturating_mul(BUS) }
    }

    /// The configuration space of all buses of the area.
    pub(crate) fn whole(&self) -> Range {
        self.of(self.first, self.last)
    }
}

/// Reads the table, if there is one.
pub(crate) fn read(mcfg: &Option<Table<'_>>) -> Result<Vec<Area>, Error> {
    let mut areas = Vec::<Area>::new();
    let Some(mcfg) = mcfg else { return Ok(areas) };
    mcfg.expect(&[1], FIRST)?;
    let mut at = FIRST;
    while at < mcfg.len() {
        let entry = mcfg.part(at, ENTRY)?;
        let area = Area { base: entry.u64(0)?, segment: entry.u16(8)?, first: entry.u8(10)?, last: entry.u8(11)? };
        if area.first > area.last {
            return Err(entry.bad(10, area.first.into(), "the first bus number is above the last one", FIRMWARE));
        }
        if !area.base.is_multiple_of(BUS) || area.whole().end().is_none() {
            let problem = "configuration space is not at a boundary of 1 MiB, or wraps";
            return Err(entry.bad(0, area.base, problem, FIRMWARE));
        }
        let same = |other: &Area| {
            other.segment == area.segment && other.first <= area.last && area.first <= other.last
                || other.whole().overlaps(&area.whole())
        };
        if areas.iter().any(same) {
            return Err(entry.bad(0, area.base, "two entries have the configuration space of the same bus", FIRMWARE));
        }
        if areas.len() >= AREAS_MAX {
            return Err(entry.bad(0, area.base, "there are more than 64 entries", FIRMWARE));
        }
        areas.push(area);
        at = at.saturating_add(ENTRY);
    }
    Ok(areas)
}
