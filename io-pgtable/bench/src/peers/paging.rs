//! aarch64-paging. Its root is one table. Three levels resolve 39 bits, so both of its tables have four levels.
//!
//! `RootTable` maintains no TLB: it is the cheapest type of the crate, for tables that no walker uses yet.

#![allow(unsafe_code)]

use std::ptr::NonNull;

use aarch64_paging::descriptor::{PhysicalAddress, Stage2Attributes};
use aarch64_paging::paging::{Constraints, MemoryRegion, PageTable, RootTable, Stage2, Translation};

use crate::arena;
use crate::subject::Subject;

pub(crate) struct Arena;

impl Translation<Stage2Attributes> for Arena {
    #[inline]
    fn allocate_table(&mut self) -> (NonNull<PageTable<Stage2Attributes>>, PhysicalAddress) {
        let pa = arena::alloc().unwrap_or_else(|| unreachable!("no memory"));
        let ptr = NonNull::new(arena::ptr(pa)).unwrap_or(NonNull::dangling());
        // SAFETY: (1) the page is in the arena and was just taken from the free list.
        unsafe { ptr.as_ptr().write_bytes(0, 512) };
        (ptr.cast(), PhysicalAddress(pa as usize))
    }
    #[inline]
    unsafe fn deallocate_table(&mut self, table: NonNull<PageTable<Stage2Attributes>>) {
        let offset = table.as_ptr().addr() - arena::ptr(arena::BASE).addr();
        arena::free(arena::BASE + offset as u64);
    }
    #[inline]
    fn physical_to_virtual(&self, pa: PhysicalAddress) -> NonNull<PageTable<Stage2Attributes>> {
        NonNull::new(arena::ptr(pa.0 as u64)).unwrap_or(NonNull::dangling()).cast()
    }
}

/// A root table that is never activated.
pub(crate) struct Paging(RootTable<Stage2, Arena>);

fn attributes() -> Stage2Attributes {
    Stage2Attributes::VALID
        | Stage2Attributes::MEMATTR_NORMAL_INNER_WB
        | Stage2Attributes::MEMATTR_NORMAL_OUTER_WB
        | Stage2Attributes::S2AP_ACCESS_RW
        | Stage2Attributes::SH_INNER
        | Stage2Attributes::ACCESS_FLAG
}

fn region(iova: u64, size: u64) -> MemoryRegion {
    MemoryRegion::new(iova as usize, (iova + size) as usize)
}

impl Subject for Paging {
    const NAME: &'static str = "aarch64-paging";
    const SPLITS: bool = true;

    fn new(_bits: u32) -> Self {
        Self(RootTable::new(Arena, 0, Stage2))
    }

    #[inline]
    fn map(&mut self, iova: u64, pa: u64, size: u64, _leaf: u64) {
        let constraints = Constraints::NO_CONTIGUOUS_HINT;
        let done = self.0.map_range(&region(iova, size), PhysicalAddress(pa as usize), attributes(), constraints);
        assert!(done.is_ok(), "map {iova:#x}");
    }

    #[inline]
    fn unmap(&mut self, iova: u64, size: u64, _leaf: u64) {
        let constraints = Constraints::NO_CONTIGUOUS_HINT;
        let done = self.0.map_range(&region(iova, size), PhysicalAddress(0), Stage2Attributes::empty(), constraints);
        assert!(done.is_ok(), "unmap {iova:#x}");
    }

    #[inline]
    fn hole(&mut self, iova: u64) {
        self.unmap(iova, 4096, 4096);
    }

    #[inline]
    fn translate(&self, iova: u64) -> u64 {
        let mut found = 0;
        let page = iova & !0xfff;
        let walked = self.0.walk_range(
            &region(page, 4096),
            &mut |_range: &MemoryRegion,
                  descriptor: &aarch64_paging::descriptor::Descriptor<Stage2Attributes>,
                  level: usize| {
                if descriptor.is_valid() && (level == 3) == descriptor.is_table_or_page() {
                    let mask = (4096u64 << (9 * (3 - level))) - 1;
                    found = descriptor.output_address().0 as u64 | iova & mask;
                }
                Ok(())
            },
        );
        if walked.is_ok() { found } else { 0 }
    }
}
