//! EL2's own stage 1: identity mapped, with minimal permissions for each page.
//!
//! Code is never writable, data never executable, stacks end at unmapped pages, and a page of the host is mapped only
//! while it is claimed or donated. One of the modules that may use `unsafe`: it accesses pages by address.
#![allow(unsafe_code)]

use super::tables::PoolTables;
use crate::arch::{self, Image, StageOneRegs, tlb};
use crate::pool;
use io_pgtable::{Attrs, Cfg, CfgError, El2, IoPgtable, Iova, MapError, Pa, Prot, TlbError, TlbOps, TlbRange};
use mem_protect::{InUse, NoMemory, PageOps, PageRange};

/// EL2's table.
pub struct El2Table {
    table: IoPgtable<El2, PoolTables>,
}

/// Why EL2's table could not be built.
#[derive(Clone, Copy, Debug)]
pub enum BuildError {
    /// The configuration is impossible.
    Cfg(CfgError),
    /// A mapping failed.
    Map(MapError),
}

impl core::fmt::Display for BuildError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Cfg(error) => error.fmt(f),
            Self::Map(error) => error.fmt(f),
        }
    }
}

impl From<MapError> for BuildError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl El2Table {
    /// Maps the image by its sections, with addresses of `bits` bits.
    ///
    /// # Errors
    /// [`BuildError`]; the boot cannot continue.
    pub fn build(bits: u32, pa_bits: u32, image: &Image) -> Result<Self, BuildError> {
        let table = IoPgtable::new(&Cfg::new(bits, pa_bits), PoolTables).map_err(BuildError::Cfg)?;
        let mut new = Self { table };
        new.identity(image.start, image.text_end, Attrs::normal(Prot::READ | Prot::EXEC))?;
        new.identity(image.text_end, image.rodata_end, Attrs::normal(Prot::READ))?;
        new.identity(image.rodata_end, image.boot_stack_guard, Attrs::normal(Prot::RW))?;
        new.identity(image.boot_stack_guard.saturating_add(arch::PAGE), image.stacks_start, Attrs::normal(Prot::RW))?;
        let mut stack = image.stacks_start;
        while stack < image.stacks_end {
            let next = stack.saturating_add(image.stack_stride);
            new.identity(stack.saturating_add(arch::PAGE), next, Attrs::normal(Prot::RW))?;
            stack = next;
        }
        Ok(new)
    }

    /// Maps `[start, end)` as EL2's data.
    ///
    /// # Errors
    /// [`BuildError::Map`]; nothing of the range is mapped then.
    pub fn data(&mut self, start: u64, end: u64) -> Result<(), BuildError> {
        self.identity(start, end, Attrs::normal(Prot::RW))
    }

    /// Maps device registers.
    ///
    /// # Errors
    /// [`BuildError::Map`]; nothing of the range is mapped then.
    pub fn device(&mut self, start: u64, size: u64) -> Result<(), BuildError> {
        self.identity(start, start.saturating_add(size), Attrs::device(Prot::RW))
    }

    fn identity(&mut self, start: u64, end: u64, attrs: Attrs) -> Result<(), BuildError> {
        if start < end {
            self.table.map(Iova(start), Pa(start), end.saturating_sub(start), attrs)?;
        }
        Ok(())
    }

    /// The CPUs' register values for this table.
    pub fn registers(&self) -> StageOneRegs {
        let config = self.table.config();
        StageOneRegs {
            mair: config.mair,
            tcr: config.tcr_el2(),
            ttbr: config.ttb.0,
            sctlr: arch::setup::SCTLR_EL2_RUNNING,
        }
    }
}

impl PageOps for El2Table {
    fn map(&mut self, range: PageRange) -> Result<(), NoMemory> {
        // Page by page, never as a block, so that unmapping one page needs no memory.
        for page in range.pages() {
            if self.table.map(page.ipa().into(), page.pa(), arch::PAGE, Attrs::normal(Prot::RW)).is_err() {
                // A claimed page is already mapped.
                if let Some(mapped) =
                    page.first().checked_sub(range.first()).and_then(|count| PageRange::new(range.first(), count))
                {
                    PageOps::unmap(self, mapped);
                }
                return Err(NoMemory);
            }
        }
        Ok(())
    }

    fn unmap(&mut self, range: PageRange) {
        // Mapped page by page, so nothing is split and no memory is needed.
        let _ = self.table.unmap(range.ipa().into(), range.bytes(), &mut El2Tlb);
    }

    fn clean_invalidate(&mut self, range: PageRange) {
        arch::clean_and_invalidate(range.pa().0, range.bytes());
    }

    fn zero(&mut self, range: PageRange) {
        for page in range.pages() {
            // SAFETY: (1) the caller of this trait has mapped the pages and owns them.
            unsafe { arch::zero_page(page.pa()) };
        }
    }

    fn add_to_pool(&mut self, range: PageRange) {
        // SAFETY: (1) the pages are mapped and belong only to EL2, since the transition has completed.
        unsafe { pool::donate(range.first(), range.count()) };
    }

    fn remove_from_pool(&mut self, range: PageRange) -> Result<(), InUse> {
        if pool::remove_donated(range.first(), range.count()) { Ok(()) } else { Err(InUse) }
    }

    fn clean_invalidate_bytes(&self, pa: Pa, bytes: u64) {
        arch::clean_and_invalidate(pa.0, bytes);
    }

    fn load64(&self, pa: Pa) -> u64 {
        // SAFETY: (1) the page is claimed, so it is mapped; (2) `pa` is a multiple of 8; (3) volatile, since the host may write at the same time.
        unsafe { (pa.0 as *const u64).read_volatile() }
    }

    fn store64(&mut self, pa: Pa, value: u64) {
        // SAFETY: (1) the page is claimed, so it is mapped; (2) `pa` is a multiple of 8; (3) it is the host's memory,
        // not EL2's.
        unsafe { (pa.0 as *mut u64).write_volatile(value) };
    }

    fn store32(&mut self, pa: Pa, value: u32) {
        // SAFETY: (1) the page is claimed, so it is mapped; (2) `pa` is a multiple of 4; (3) it is the host's memory,
        // not EL2's.
        unsafe { (pa.0 as *mut u32).write_volatile(value) };
    }
}

/// EL2's own TLBs, on every CPU.
struct El2Tlb;

impl TlbOps for El2Tlb {
    fn invalidate(&mut self, range: TlbRange) {
        let mut va = range.iova.0;
        let end = va.saturating_add(range.size);
        while va < end {
            tlb::invalidate_el2_page(va);
            va = va.saturating_add(range.granule.max(arch::PAGE));
        }
    }

    fn sync(&mut self) -> Result<(), TlbError> {
        tlb::complete();
        Ok(())
    }
}
