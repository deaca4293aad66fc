//! ax-page-table-multiarch. It has no concatenated roots: its 40-bit row is a three-level table of 39 bits, which favours it.

#![allow(unsafe_code)]

use ax_memory_addr_06::{PhysAddr, VirtAddr};
use ax_page_table_entry::{GenericPTE, MappingFlags};
use ax_page_table_multiarch::{PageSize, PageTable64, PagingHandler, PagingMetaData};

use super::{ADDR, LEAF};
use crate::arena;
use crate::subject::{SYNCS, Subject, TLBI, count};

#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Pte(u64);

impl GenericPTE for Pte {
    #[inline]
    fn new_page(paddr: PhysAddr, _flags: MappingFlags, is_huge: bool) -> Self {
        Self(paddr.as_usize() as u64 & ADDR | LEAF | if is_huge { 1 } else { 3 })
    }
    #[inline]
    fn new_table(paddr: PhysAddr) -> Self {
        Self(paddr.as_usize() as u64 & ADDR | 3)
    }
    #[inline]
    fn paddr(&self) -> PhysAddr {
        PhysAddr::from((self.0 & ADDR) as usize)
    }
    #[inline]
    fn flags(&self) -> MappingFlags {
        MappingFlags::READ | MappingFlags::WRITE
    }
    fn set_paddr(&mut self, paddr: PhysAddr) {
        self.0 = self.0 & !ADDR | paddr.as_usize() as u64 & ADDR;
    }
    fn set_flags(&mut self, _flags: MappingFlags, _is_huge: bool) {}
    #[inline]
    fn bits(self) -> usize {
        self.0 as usize
    }
    #[inline]
    fn is_unused(&self) -> bool {
        self.0 == 0
    }
    #[inline]
    fn is_present(&self) -> bool {
        self.0 & 1 != 0
    }
    #[inline]
    fn is_huge(&self) -> bool {
        self.0 & 3 == 1
    }
    #[inline]
    fn clear(&mut self) {
        self.0 = 0;
    }
}

pub(crate) struct Meta<const LEVELS: usize>;

impl<const LEVELS: usize> PagingMetaData for Meta<LEVELS> {
    const LEVELS: usize = LEVELS;
    const PA_MAX_BITS: usize = 48;
    const VA_MAX_BITS: usize = if LEVELS == 3 { 39 } else { 48 };
    type VirtAddr = VirtAddr;

    #[inline]
    fn flush_tlb(_vaddr: Option<VirtAddr>) {
        count(&TLBI);
        count(&SYNCS);
    }
}

pub(crate) struct Handler;

impl PagingHandler for Handler {
    #[inline]
    fn alloc_frames(num: usize, _align: usize) -> Option<PhysAddr> {
        if num == 1 { arena::alloc().map(|pa| PhysAddr::from(pa as usize)) } else { None }
    }
    #[inline]
    fn dealloc_frames(paddr: PhysAddr, _num: usize) {
        arena::free(paddr.as_usize() as u64);
    }
    #[inline]
    fn phys_to_virt(paddr: PhysAddr) -> VirtAddr {
        VirtAddr::from(arena::ptr(paddr.as_usize() as u64).expose_provenance())
    }
}

type Table<const LEVELS: usize> = PageTable64<Meta<LEVELS>, Pte, Handler>;

/// Three levels for the 40-bit row, four for 48 bits.
pub(crate) enum Ax {
    Three(Table<3>),
    Four(Table<4>),
}

fn page_size(leaf: u64) -> PageSize {
    match leaf {
        0x1000 => PageSize::Size4K,
        0x20_0000 => PageSize::Size2M,
        _ => PageSize::Size1G,
    }
}

macro_rules! with {
    ($self:expr, $table:ident => $call:expr) => {
        match $self {
            Self::Three($table) => $call,
            Self::Four($table) => $call,
        }
    };
}

impl Subject for Ax {
    const NAME: &'static str = "ax-page-table-multiarch";
    const SPLITS: bool = false;

    fn new(bits: u32) -> Self {
        const NO_MEMORY: &str = "no memory";
        if bits == 40 {
            Self::Three(Table::try_new().unwrap_or_else(|_| unreachable!("{NO_MEMORY}")))
        } else {
            Self::Four(Table::try_new().unwrap_or_else(|_| unreachable!("{NO_MEMORY}")))
        }
    }

    #[inline]
    fn map(&mut self, iova: u64, pa: u64, size: u64, leaf: u64) {
        let flags = MappingFlags::READ | MappingFlags::WRITE;
        let (va, target) = (VirtAddr::from(iova as usize), PhysAddr::from(pa as usize));
        let delta = (pa as usize).wrapping_sub(iova as usize);
        let done = with!(self, table => if size == leaf {
            table.cursor().map(va, target, page_size(leaf), flags)
        } else {
            table.cursor().map_region(va, |va| PhysAddr::from(va.as_usize().wrapping_add(delta)), size as usize, flags, true)
        });
        assert!(done.is_ok(), "map {iova:#x}");
    }

    #[inline]
    fn unmap(&mut self, iova: u64, size: u64, leaf: u64) {
        let va = VirtAddr::from(iova as usize);
        let done = with!(self, table => if size == leaf {
            table.cursor().unmap(va).is_ok()
        } else {
            table.cursor().unmap_region(va, size as usize).is_ok()
        });
        assert!(done, "unmap {iova:#x}");
    }

    fn hole(&mut self, _iova: u64) {
        unreachable!("it cannot split");
    }

    #[inline]
    fn translate(&self, iova: u64) -> u64 {
        let va = VirtAddr::from(iova as usize);
        with!(self, table => table.query(va).map_or(0, |(pa, _, _)| pa.as_usize() as u64))
    }
}
