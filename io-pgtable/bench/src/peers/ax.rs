//! ax-page-table-multiarch, with stage-2 descriptors that encode its mapping flags in the same way as its own
//! descriptors.
//!
//! It has no concatenated roots. Three levels resolve 39 bits, so both of its tables have four levels.

#![allow(unsafe_code)]

use ax_memory_addr_06::{PhysAddr, VirtAddr};
use ax_page_table_entry::{GenericPTE, MappingFlags};
use ax_page_table_multiarch::{PageSize, PageTable64, PagingHandler, PagingMetaData};

use super::ADDR;
use crate::arena;
use crate::subject::{SYNCS, Subject, TLBI, count};

#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Pte(u64);

const READ: u64 = 1 << 6;
const WRITE: u64 = 1 << 7;
const XN: u64 = 1 << 54;
const ATTR: u64 = 0b1111 << 2;
const NORMAL: u64 = 0b1111 << 2 | 0b11 << 8;
const UNCACHED: u64 = 0b0101 << 2 | 0b10 << 8;
const DEVICE: u64 = 0b0001 << 2 | 0b10 << 8;
const AF: u64 = 1 << 10;

#[inline]
fn encode(flags: MappingFlags) -> u64 {
    let mut bits = AF;
    bits |= if flags.contains(MappingFlags::READ) { READ } else { 0 };
    bits |= if flags.contains(MappingFlags::WRITE) { WRITE } else { 0 };
    bits |= if flags.contains(MappingFlags::EXECUTE) { 0 } else { XN };
    bits | if flags.contains(MappingFlags::DEVICE) {
        DEVICE
    } else if flags.contains(MappingFlags::UNCACHED) {
        UNCACHED
    } else {
        NORMAL
    }
}

#[inline]
fn decode(bits: u64) -> MappingFlags {
    let mut flags = MappingFlags::empty();
    flags.set(MappingFlags::READ, bits & READ != 0);
    flags.set(MappingFlags::WRITE, bits & WRITE != 0);
    flags.set(MappingFlags::EXECUTE, bits & XN == 0);
    flags.set(MappingFlags::DEVICE, bits & ATTR == DEVICE & ATTR);
    flags.set(MappingFlags::UNCACHED, bits & ATTR == UNCACHED & ATTR);
    flags
}

impl GenericPTE for Pte {
    #[inline]
    fn new_page(paddr: PhysAddr, flags: MappingFlags, is_huge: bool) -> Self {
        Self(paddr.as_usize() as u64 & ADDR | encode(flags) | if is_huge { 1 } else { 3 })
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
        decode(self.0)
    }
    fn set_paddr(&mut self, paddr: PhysAddr) {
        self.0 = self.0 & !ADDR | paddr.as_usize() as u64 & ADDR;
    }
    fn set_flags(&mut self, flags: MappingFlags, is_huge: bool) {
        self.0 = self.0 & ADDR | encode(flags) | if is_huge { 1 } else { 3 };
    }
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

pub(crate) struct Meta;

impl PagingMetaData for Meta {
    const LEVELS: usize = 4;
    const PA_MAX_BITS: usize = 48;
    const VA_MAX_BITS: usize = 48;
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

/// A four-level table.
pub(crate) struct Ax(PageTable64<Meta, Pte, Handler>);

fn page_size(leaf: u64) -> PageSize {
    match leaf {
        0x1000 => PageSize::Size4K,
        0x20_0000 => PageSize::Size2M,
        _ => PageSize::Size1G,
    }
}

const FLAGS: MappingFlags = MappingFlags::READ.union(MappingFlags::WRITE).union(MappingFlags::EXECUTE);

impl Subject for Ax {
    const NAME: &'static str = "ax-page-table-multiarch";
    const SPLITS: bool = false;

    fn new(_bits: u32) -> Self {
        Self(PageTable64::try_new().unwrap_or_else(|_| unreachable!("no memory")))
    }

    #[inline]
    fn map(&mut self, iova: u64, pa: u64, size: u64, leaf: u64) {
        let (va, target) = (VirtAddr::from(iova as usize), PhysAddr::from(pa as usize));
        let delta = (pa as usize).wrapping_sub(iova as usize);
        let flags = FLAGS;
        let mut cursor = self.0.cursor();
        let done = if size == leaf {
            cursor.map(va, target, page_size(leaf), flags)
        } else {
            let to = |va: VirtAddr| PhysAddr::from(va.as_usize().wrapping_add(delta));
            cursor.map_region(va, to, size as usize, flags, true)
        };
        assert!(done.is_ok(), "map {iova:#x}");
    }

    #[inline]
    fn unmap(&mut self, iova: u64, size: u64, leaf: u64) {
        let va = VirtAddr::from(iova as usize);
        let mut cursor = self.0.cursor();
        let done = if size == leaf { cursor.unmap(va).map(drop) } else { cursor.unmap_region(va, size as usize) };
        assert!(done.is_ok(), "unmap {iova:#x}");
    }

    fn hole(&mut self, _iova: u64) {
        unreachable!("it cannot split");
    }

    #[inline]
    fn translate(&self, iova: u64) -> u64 {
        self.0.query(VirtAddr::from(iova as usize)).map_or(0, |(pa, _, _)| pa.as_usize() as u64)
    }
}
