//! The ownership map: one record for every page of RAM, which may be several ranges.

use crate::error::Error;
use crate::page::{Owner, PageInfo};
use crate::range::PageRange;

/// Maximum separate ranges of RAM.
pub const MAX_RAM_RANGES: usize = 16;

/// One range of RAM, and the start of its records in the storage.
#[derive(Clone, Copy, Debug)]
struct Section {
    range: PageRange,
    base: usize,
}

/// Owner, borrower and claims of every page of RAM. A page that is not RAM has no record: its owner is
/// [`Owner::Device`].
#[derive(Debug)]
pub struct PageMap<'m> {
    sections: [Option<Section>; MAX_RAM_RANGES],
    pages: &'m mut [PageInfo],
}

/// Why the map could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapSetupError {
    /// There is no RAM.
    NoRam,
    /// More than [`MAX_RAM_RANGES`] ranges.
    TooManyRanges,
    /// The ranges overlap or are not in ascending order.
    Unsorted,
    /// The storage has fewer records than there are pages.
    StorageTooSmall,
}

impl core::fmt::Display for MapSetupError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoRam => "the machine describes no RAM",
            Self::TooManyRanges => "the machine describes more RAM ranges than the ownership map can hold",
            Self::Unsorted => "the machine's RAM ranges overlap or are out of order",
            Self::StorageTooSmall => "the storage of the ownership map is too small for the machine's RAM",
        })
    }
}

impl core::error::Error for MapSetupError {}

impl<'m> PageMap<'m> {
    /// Bytes of storage that the map of `pages` pages needs; `None` if they do not fit in a `usize`.
    #[must_use]
    pub fn storage_bytes(pages: u64) -> Option<usize> {
        usize::try_from(pages).ok()?.checked_mul(size_of::<PageInfo>())
    }

    /// A map of `ram`, which is in ascending order; the host owns every page. The storage is cleared.
    ///
    /// # Errors
    /// See [`MapSetupError`]; the storage is then unused.
    pub fn new(storage: &'m mut [PageInfo], ram: &[PageRange]) -> Result<Self, MapSetupError> {
        let mut sections = [None; MAX_RAM_RANGES];
        let mut base = 0_usize;
        let mut previous_end = 0;
        if ram.is_empty() {
            return Err(MapSetupError::NoRam);
        }
        if ram.len() > sections.len() {
            return Err(MapSetupError::TooManyRanges);
        }
        for (section, &range) in sections.iter_mut().zip(ram) {
            if range.first() < previous_end {
                return Err(MapSetupError::Unsorted);
            }
            *section = Some(Section { range, base });
            previous_end = range.end();
            base = usize::try_from(range.count())
                .ok()
                .and_then(|count| base.checked_add(count))
                .ok_or(MapSetupError::StorageTooSmall)?;
        }
        let pages = storage.get_mut(..base).ok_or(MapSetupError::StorageTooSmall)?;
        pages.fill(PageInfo::default());
        Ok(Self { sections, pages })
    }

    /// Returns its storage, for another map.
    #[must_use]
    pub fn into_storage(self) -> &'m mut [PageInfo] {
        self.pages
    }

    /// The ranges of RAM, in ascending order.
    pub fn ram(&self) -> impl Iterator<Item = PageRange> {
        self.sections.iter().flatten().map(|section| section.range)
    }

    /// The record of page `pfn`; `None` if it is not RAM.
    #[must_use]
    pub fn page(&self, pfn: u64) -> Option<PageInfo> {
        PageRange::page(pfn).and_then(|range| self.pages(range).ok()).and_then(|pages| pages.first().copied())
    }

    /// The owner of page `pfn`.
    #[must_use]
    pub fn owner(&self, pfn: u64) -> Owner {
        self.page(pfn).map_or(Owner::Device, PageInfo::owner)
    }

    /// The records of `range`, in order.
    ///
    /// # Errors
    /// [`Error::NotRam`] unless one range of RAM contains all of it.
    pub fn pages(&self, range: PageRange) -> Result<&[PageInfo], Error> {
        let at = self.locate(range)?;
        self.pages.get(at).ok_or(Error::NotRam)
    }

    /// The records of `range`, mutable.
    ///
    /// # Errors
    /// [`Error::NotRam`] unless one range of RAM contains all of it.
    pub(crate) fn pages_mut(&mut self, range: PageRange) -> Result<&mut [PageInfo], Error> {
        let at = self.locate(range)?;
        self.pages.get_mut(at).ok_or(Error::NotRam)
    }

    /// Sets `owner` for the RAM in `range` at boot, before the host's tables exist; addresses outside RAM are
    /// skipped.
    pub fn reserve(&mut self, range: PageRange, owner: Owner) {
        let Self { sections, pages } = self;
        for section in sections.iter().flatten() {
            let first = range.first().max(section.range.first());
            let end = range.end().min(section.range.end());
            let Some(part) = end.checked_sub(first).and_then(|count| PageRange::new(first, count)) else { continue };
            if let Some(records) = section.index(part).and_then(|at| pages.get_mut(at)) {
                records.fill(PageInfo::owned_by(owner));
            }
        }
    }

    /// The pages of `owner`, as the longest runs within each range of RAM, in ascending order.
    pub fn runs_of(&self, owner: Owner) -> impl Iterator<Item = PageRange> {
        self.sections.iter().flatten().flat_map(move |section| Runs { map: self, rest: Some(section.range), owner })
    }

    fn locate(&self, range: PageRange) -> Result<core::ops::Range<usize>, Error> {
        self.sections
            .iter()
            .flatten()
            .find(|section| section.range.contains(range))
            .and_then(|section| section.index(range))
            .ok_or(Error::NotRam)
    }
}

impl Section {
    /// Indices of the records of `range`; `None` outside the section.
    fn index(&self, range: PageRange) -> Option<core::ops::Range<usize>> {
        let skip = usize::try_from(range.first().checked_sub(self.range.first())?).ok()?;
        let start = self.base.checked_add(skip)?;
        let end = start.checked_add(usize::try_from(range.count()).ok()?)?;
        Some(start..end)
    }
}

/// Iterator of [`PageMap::runs_of`] over one range of RAM.
struct Runs<'a, 'm> {
    map: &'a PageMap<'m>,
    rest: Option<PageRange>,
    owner: Owner,
}

impl Iterator for Runs<'_, '_> {
    type Item = PageRange;

    fn next(&mut self) -> Option<PageRange> {
        let rest = self.rest.take()?;
        let pages = self.map.pages(rest).ok()?;
        let skip = gap_length(pages, self.owner)?;
        let tail = pages.get(skip..)?;
        let first = rest.first().checked_add(u64::try_from(skip).ok()?)?;
        let run = PageRange::new(first, u64::try_from(run_length(tail, self.owner)).ok()?)?;
        self.rest = rest.end().checked_sub(run.end()).and_then(|count| PageRange::new(run.end(), count));
        Some(run)
    }
}

/// Number of leading `pages` that do not belong to `owner`; `None` if no page belongs to it. Checked many pages at a
/// time.
fn gap_length(pages: &[PageInfo], owner: Owner) -> Option<usize> {
    const STRIDE: usize = 64;
    let (strides, _) = pages.as_chunks::<STRIDE>();
    let others = match owner {
        Owner::Host => strides.iter().take_while(|stride| PageInfo::none_is_hosts(*stride)).count(),
        Owner::Hyp | Owner::Guest(_) | Owner::Device => 0,
    };
    let crossed = others.saturating_mul(STRIDE);
    let more = pages.get(crossed..)?.iter().position(|page| page.is_owned_by(owner))?;
    Some(crossed.saturating_add(more))
}

/// Number of leading `pages` that belong to `owner`. At boot most memory is one run of the host's, so it is checked
/// many pages at a time.
fn run_length(pages: &[PageInfo], owner: Owner) -> usize {
    const STRIDE: usize = 64;
    let (strides, _) = pages.as_chunks::<STRIDE>();
    let plain = match owner {
        Owner::Host => strides.iter().take_while(|stride| PageInfo::all_are_hosts(*stride)).count(),
        Owner::Hyp | Owner::Guest(_) | Owner::Device => 0,
    };
    let crossed = plain.saturating_mul(STRIDE);
    let left = pages.get(crossed..).unwrap_or_default();
    let more = left.iter().position(|page| !page.is_owned_by(owner)).unwrap_or(left.len());
    crossed.saturating_add(more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{vec, vec::Vec};

    fn range(first: u64, count: u64) -> PageRange {
        PageRange::new(first, count).unwrap()
    }

    #[test]
    fn refuses_bad_ram() {
        let mut storage = vec![PageInfo::default(); 64];
        let mut new = |ram: &[PageRange]| PageMap::new(&mut storage, ram).map(|_| ());
        assert_eq!(new(&[]), Err(MapSetupError::NoRam));
        assert_eq!(new(&[range(8, 8), range(15, 1)]), Err(MapSetupError::Unsorted));
        assert_eq!(new(&[range(8, 8), range(0, 1)]), Err(MapSetupError::Unsorted));
        assert_eq!(new(&[range(8, 65)]), Err(MapSetupError::StorageTooSmall));
        let many: Vec<_> = (0..17).map(|n| range(n * 2, 1)).collect();
        assert_eq!(new(&many), Err(MapSetupError::TooManyRanges));
        assert_eq!(new(&[range(8, 8), range(100, 56)]), Ok(()));
    }

    #[test]
    fn a_range_is_in_one_range_of_ram_or_is_not_ram() {
        let mut storage = vec![PageInfo::default(); 16];
        let map = PageMap::new(&mut storage, &[range(8, 8), range(100, 8)]).unwrap();
        assert!(map.pages(range(8, 8)).is_ok() && map.pages(range(107, 1)).is_ok());
        for (first, count) in [(7, 2), (15, 2), (16, 1), (99, 1), (107, 2), (8, 100), (0, 1)] {
            assert_eq!(map.pages(range(first, count)).err(), Some(Error::NotRam), "{first} {count}");
        }
        assert_eq!(map.owner(16), Owner::Device);
        assert_eq!(map.owner(u64::MAX), Owner::Device);
    }

    #[test]
    fn long_runs_with_shared_and_claimed_pages_stay_one_run() {
        let mut storage = vec![PageInfo::default(); 1000];
        let mut map = PageMap::new(&mut storage, &[range(0, 1000)]).unwrap();
        let runs = |map: &PageMap<'_>| map.runs_of(Owner::Host).map(|r| (r.first(), r.count())).collect::<Vec<_>>();
        for (pfn, page) in
            [(70, PageInfo::default().shared_with(Owner::Hyp)), (300, PageInfo::default().claimed().unwrap())]
        {
            map.pages_mut(range(pfn, 1)).unwrap()[0] = page;
        }
        assert_eq!(runs(&map), [(0, 1000)]);
        for hole in [999, 640, 639, 128, 1, 0] {
            map.reserve(range(hole, 1), Owner::Hyp);
        }
        assert_eq!(runs(&map), [(2, 126), (129, 510), (641, 358)]);
        assert_eq!(map.runs_of(Owner::Hyp).map(PageRange::count).sum::<u64>(), 6);
        // Long gaps, with a page of the host at any position in one of them.
        for page in [150, 191, 192, 993] {
            map.reserve(range(128, 872), Owner::Hyp);
            map.reserve(range(page, 1), Owner::Host);
            assert_eq!(runs(&map), [(2, 126), (page, 1)]);
        }
    }

    #[test]
    fn only_ram_is_reserved_and_runs_are_found() {
        let mut storage = vec![PageInfo::default(); 16];
        let mut map = PageMap::new(&mut storage, &[range(8, 8), range(100, 8)]).unwrap();
        map.reserve(range(14, 88), Owner::Hyp);
        map.reserve(range(0, 4), Owner::Hyp);
        map.reserve(range(10, 1), Owner::Device);
        let runs = |owner| map.runs_of(owner).map(|r| (r.first(), r.count())).collect::<Vec<_>>();
        assert_eq!(runs(Owner::Host), [(8, 2), (11, 3), (102, 6)]);
        assert_eq!(runs(Owner::Hyp), [(14, 2), (100, 2)]);
        assert_eq!(runs(Owner::Device), [(10, 1)]);
    }
}
