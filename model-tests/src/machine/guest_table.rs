//! The IOMMU stage 2 of one guest: its own pages at their physical addresses, in 4 KiB leaves.

use std::collections::BTreeSet;

use io_pgtable::Pa;
use mem_protect::PAGE_BYTES;
use smmu_drv::Stage2Cfg;
use smmu_model::Memory;

use crate::layout;

/// AF, inner shareable, read and write, normal write-back memory, a page [DDI 0487 D8.3].
const LEAF: u64 = 1 << 10 | 3 << 8 | 3 << 6 | 0xf << 2 | 3;
/// A table descriptor.
const TABLE: u64 = 3;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;
/// Bytes of the root: two concatenated level-1 tables.
const ROOT: u64 = 0x2000;

/// A table.
pub(super) struct GuestTable {
    mem: Memory,
    area: u64,
    /// The first address that no table uses.
    free: u64,
    /// Page numbers.
    mapped: BTreeSet<u64>,
    /// Pages that were unmapped, and whose invalidation failed on some SMMU.
    stale: BTreeSet<u64>,
}

impl GuestTable {
    /// A table without pages in area number `area`.
    pub(super) fn new(mem: Memory, area: usize) -> Self {
        let area = layout::GUEST_TABLES + u64::try_from(area).unwrap_or(0) * layout::GUEST_TABLE_BYTES;
        Self { mem, area, free: area + ROOT, mapped: BTreeSet::new(), stale: BTreeSet::new() }
    }

    /// The stage 2 of a stream: the host's configuration (at most 40 bits) with `vmid`, this root, and start level 1.
    pub(super) fn config(&self, host: Stage2Cfg, vmid: u16) -> Stage2Cfg {
        Stage2Cfg { ttb: Pa(self.area), sl0: 1, vmid, ..host }
    }

    /// Whether a stream with this table may reach page `pfn`.
    pub(super) fn may_reach(&self, pfn: u64) -> bool {
        self.mapped.contains(&pfn) || self.stale.contains(&pfn)
    }

    /// Address of the leaf of a page; with `make` missing tables are added while there is memory for them.
    fn leaf(&mut self, pfn: u64, make: bool) -> Option<u64> {
        let ipa = pfn * PAGE_BYTES;
        let mut table = self.area;
        for index in [ipa >> 30, ipa >> 21 & 0x1ff] {
            let at = table + index * 8;
            let descriptor = self.mem.cpu_read64(at);
            table = descriptor & ADDRESS;
            if descriptor == 0 {
                if !make || self.free >= self.area + layout::GUEST_TABLE_BYTES {
                    return None;
                }
                table = self.free;
                self.free += PAGE_BYTES;
                self.mem.store_at_once(&[(at, table | TABLE)]);
            }
        }
        Some(table + (ipa >> 12 & 0x1ff) * 8)
    }

    /// Maps a page, if there is memory for its tables and no earlier translation of it is left.
    pub(super) fn map(&mut self, pfn: u64) {
        if self.may_reach(pfn) {
            return;
        }
        if let Some(at) = self.leaf(pfn, true) {
            self.mem.store_at_once(&[(at, (pfn * PAGE_BYTES) | LEAF)]);
            self.mapped.insert(pfn);
        }
    }

    /// The address of the first mapped page.
    pub(super) fn first(&self) -> Option<u64> {
        self.mapped.first().map(|pfn| pfn * PAGE_BYTES)
    }

    /// The pages from `first` up to `end` that a stream may reach.
    pub(super) fn pages(&self, first: u64, end: u64) -> BTreeSet<u64> {
        self.mapped.range(first..end).chain(self.stale.range(first..end)).copied().collect()
    }

    /// Unmaps pages; SMMUs may still have translations of them until [`GuestTable::invalidated`].
    pub(super) fn unmap(&mut self, pages: &BTreeSet<u64>) {
        for pfn in pages {
            if let Some(at) = self.leaf(*pfn, false) {
                self.mem.store_at_once(&[(at, 0)]);
            }
            self.mapped.remove(pfn);
            self.stale.insert(*pfn);
        }
    }

    /// Records that no translation of these pages is left.
    pub(super) fn invalidated(&mut self, pages: &BTreeSet<u64>) {
        self.mapped.retain(|pfn| !pages.contains(pfn));
        self.stale.retain(|pfn| !pages.contains(pfn));
    }

    /// Clears its memory: no SMMU uses it any more.
    pub(super) fn clear(self) {
        let used: Vec<_> = (self.area..self.free).step_by(8).filter(|at| self.mem.cpu_read64(*at) != 0).collect();
        self.mem.store_at_once(&used.into_iter().map(|at| (at, 0)).collect::<Vec<_>>());
    }
}
