//! page-table-generic: the root of the 40-bit table has 1,024 descriptors, as in io-pgtable.

#![allow(unsafe_code)]

use page_table_generic::{FrameAllocator, MapConfig, PageTable, PageTableEntry, PhysAddr, TableMeta, VirtAddr};

use super::{ADDR, LEAF};
use crate::arena;
use crate::subject::{SYNCS, Subject, TLBI, count};

#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Pte(u64);

impl PageTableEntry for Pte {
    type PteConfig = u64;

    #[inline]
    fn new_page(paddr: PhysAddr, config: u64, is_huge: bool) -> Self {
        Self(paddr.as_usize() as u64 & ADDR | config | if is_huge { 1 } else { 3 })
    }
    #[inline]
    fn new_table(paddr: PhysAddr) -> Self {
        Self(paddr.as_usize() as u64 & ADDR | 3)
    }
    #[inline]
    fn paddr(&self, _is_dir: bool) -> PhysAddr {
        PhysAddr::from((self.0 & ADDR) as usize)
    }
    #[inline]
    fn config(&self, _is_dir: bool) -> u64 {
        self.0 & !ADDR & !3
    }
    #[inline]
    fn present(&self) -> bool {
        self.0 & 1 != 0
    }
    #[inline]
    fn huge(&self, is_dir: bool) -> bool {
        is_dir && self.0 & 3 == 1
    }
    #[inline]
    fn unused(&self) -> bool {
        self.0 == 0
    }
    #[inline]
    fn clear(&mut self) {
        self.0 = 0;
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Meta40;
#[derive(Clone, Copy)]
pub(crate) struct Meta48;

macro_rules! meta {
    ($name:ident, $bits:expr) => {
        impl TableMeta for $name {
            type P = Pte;
            const PAGE_SIZE: usize = 4096;
            const LEVEL_BITS: &[usize] = &$bits;
            const MAX_BLOCK_LEVEL: usize = 3;
            #[inline]
            fn flush(_vaddr: Option<VirtAddr>) {
                count(&TLBI);
                count(&SYNCS);
            }
        }
    };
}
meta!(Meta40, [10, 9, 9]);
meta!(Meta48, [9, 9, 9, 9]);

#[derive(Clone)]
pub(crate) struct Frames;

impl FrameAllocator for Frames {
    #[inline]
    fn alloc_frame(&self) -> Option<PhysAddr> {
        arena::alloc().map(|pa| PhysAddr::from(pa as usize))
    }
    #[inline]
    fn dealloc_frame(&self, frame: PhysAddr) {
        arena::free(frame.as_usize() as u64);
    }
    #[inline]
    fn phys_to_virt(&self, paddr: PhysAddr) -> *mut u8 {
        arena::ptr(paddr.as_usize() as u64).cast()
    }
    fn alloc_frames(&self, frames: usize, _align: usize) -> Option<PhysAddr> {
        match frames {
            1 => self.alloc_frame(),
            2 => Some(PhysAddr::from(arena::BASE as usize)),
            _ => None,
        }
    }
    fn dealloc_frames(&self, start: PhysAddr, frames: usize, _frame_size: usize) {
        if frames == 1 {
            self.dealloc_frame(start);
        }
    }
}

/// A table with one of two input sizes.
pub(crate) enum Generic {
    Bits40(PageTable<Meta40, Frames>),
    Bits48(PageTable<Meta48, Frames>),
}

macro_rules! with {
    ($self:expr, $table:ident => $call:expr) => {
        match $self {
            Self::Bits40($table) => $call,
            Self::Bits48($table) => $call,
        }
    };
}

impl Subject for Generic {
    const NAME: &'static str = "page-table-generic";
    const SPLITS: bool = true;

    fn new(bits: u32) -> Self {
        if bits == 40 {
            Self::Bits40(PageTable::new(Frames).unwrap_or_else(|_| unreachable!("no memory")))
        } else {
            Self::Bits48(PageTable::new(Frames).unwrap_or_else(|_| unreachable!("no memory")))
        }
    }

    #[inline]
    fn map(&mut self, iova: u64, pa: u64, size: u64, leaf: u64) {
        let config = MapConfig {
            vaddr: VirtAddr::from(iova as usize),
            paddr: PhysAddr::from(pa as usize),
            size: size as usize,
            pte: LEAF,
            allow_huge: leaf > 4096,
            flush: false,
        };
        let done = with!(self, table => table.map(&config));
        assert!(done.is_ok(), "map {iova:#x}: {done:?}");
    }

    #[inline]
    fn unmap(&mut self, iova: u64, size: u64, _leaf: u64) {
        let done = with!(self, table => table.unmap(VirtAddr::from(iova as usize), size as usize));
        assert!(done.is_ok(), "unmap {iova:#x}: {done:?}");
    }

    #[inline]
    fn hole(&mut self, iova: u64) {
        let va = VirtAddr::from(iova as usize);
        let done = with!(self, table => table
            .prepare_huge_split(va)
            .and_then(|deposit| table.split_huge_page_with(deposit).map(drop))
            .and_then(|()| table.unmap(va, 4096)));
        assert!(done.is_ok(), "split {iova:#x}: {done:?}");
    }

    #[inline]
    fn translate(&self, iova: u64) -> u64 {
        let va = VirtAddr::from(iova as usize);
        with!(self, table => table.translate_phys(va).map_or(0, |pa| pa.as_usize() as u64))
    }
}

impl Drop for Generic {
    fn drop(&mut self) {
        // SAFETY: (1) no walker exists on the build machine, and nothing else refers to the tables.
        unsafe { with!(self, table => table.deallocate()) }
    }
}
