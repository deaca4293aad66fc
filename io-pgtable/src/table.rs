//! The table: creation, output configuration, allocation of tables.

use core::marker::PhantomData;

use crate::addr::{Iova, Pa};
use crate::cfg::{Cfg, Quirks};
use crate::desc;
use crate::error::CfgError;
use crate::granule::Granule;
use crate::pte::{Fresh, Table, TableMemory};
use crate::regime::{Regime, output_size};

/// The smallest allocation. A root can be smaller than a page, but few allocators support such sizes.
const MIN_ROOT_BYTES: usize = 4096;

/// A page table of regime `R` in memory `M`.
///
/// Dropping it leaks its tables, since a walker may still use them: use [`IoPgtable::destroy`].
#[derive(Debug)]
pub struct IoPgtable<R: Regime, M: TableMemory> {
    mem: M,
    root: Pa,
    /// Descriptors in the root, less one.
    root_mask: usize,
    start_level: u8,
    /// The checked configuration; `page_sizes` has no 0.
    cfg: Cfg,
    /// The bits from `ias` up, which are set in every input address of TTBR1; otherwise 0.
    top: u64,
    /// Masks of the bits that must be clear in every input address (without `top`) and output address.
    input_high: u64,
    output_high: u64,
    tables: usize,
    quarantined: usize,
    regime: PhantomData<R>,
}

/// Calls `$call` with `$level` bound to the type of the start level, inside an `impl` for a regime `R`.
///
/// Input sizes of 32 to 48 bits start at level 0 or 1 with 4K pages, at 1 or 2 with 64K pages: code for other start
/// levels is not generated.
macro_rules! from_start {
    ($table:expr, $level:ident => $call:expr) => {
        if <R::Granule as $crate::granule::Granule>::PAGE_SHIFT != 16 && $table.start_level() == 0 {
            type $level = $crate::granule::L0;
            $call
        } else if <R::Granule as $crate::granule::Granule>::PAGE_SHIFT == 12 || $table.start_level() == 1 {
            type $level = $crate::granule::L1;
            $call
        } else {
            type $level = $crate::granule::L2;
            $call
        }
    };
}
pub(crate) use from_start;

/// Start level and size of the root.
struct Shape {
    start_level: u8,
    root_bits: u32,
}

impl<R: Regime, M: TableMemory> IoPgtable<R, M> {
    /// Creates an empty table in `mem`.
    ///
    /// # Errors
    /// [`CfgError`] names the unsupported value; nothing is allocated then.
    pub fn new(cfg: &Cfg, mem: M) -> Result<Self, CfgError> {
        let mut cfg = *cfg;
        check::<R>(&mut cfg)?;
        let shape = shape::<R>(&cfg);
        let root_entries = 1usize.wrapping_shl(shape.root_bits);
        let root_mask = root_entries.wrapping_sub(1);
        let bytes = root_bytes(root_mask);
        let root = alloc_table(&mem, bytes, cfg.oas).ok_or(CfgError::NoMemory)?;
        let mut fresh = Fresh::at(&mem, root, root_mask);
        fresh.words().fill(0);
        if !cfg.coherent_walk {
            fresh.clean(&mem);
        }
        mem.publish();
        let top = if cfg.quirks.contains(Quirks::TTBR1) { u64::MAX.wrapping_shl(cfg.ias) } else { 0 };
        let start_level = shape.start_level;
        Ok(Self {
            mem,
            root,
            root_mask,
            start_level,
            cfg,
            top,
            input_high: u64::MAX.wrapping_shl(cfg.ias),
            output_high: u64::MAX.wrapping_shl(cfg.oas),
            tables: 1,
            quarantined: 0,
            regime: PhantomData,
        })
    }

    /// The configuration of the walker, to be programmed without changes.
    #[must_use]
    pub fn config(&self) -> R::Out {
        R::out(&self.cfg, self.root, self.start_level)
    }

    /// The input configuration, with the actual leaf sizes.
    #[inline]
    #[must_use]
    pub fn cfg(&self) -> &Cfg {
        &self.cfg
    }

    /// The memory of the table.
    #[inline]
    pub fn memory(&self) -> &M {
        &self.mem
    }

    /// Number of bytes in tables, with the root and without quarantined tables.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        let below = self.tables.saturating_sub(1).saturating_mul(R::Granule::TABLE_BYTES);
        below.saturating_add(root_bytes(self.root_mask))
    }

    /// Bytes in tables that were detached when a TLB invalidation timed out; they are never freed.
    #[must_use]
    pub fn quarantined(&self) -> usize {
        self.quarantined
    }

    /// The level of the root.
    #[inline]
    pub(crate) fn start_level(&self) -> u8 {
        self.start_level
    }

    /// The root table.
    #[inline]
    pub(crate) fn root_table(&self) -> Table {
        Table::at(&self.mem, self.root, self.root_mask)
    }

    /// `iova` without the bits above `ias`, if `size` bytes from it (at least 1) are inside the input space.
    #[inline]
    pub(crate) fn input(&self, iova: Iova, size: u64) -> Option<u64> {
        let low = self.low(iova);
        let more = size.wrapping_sub(1);
        // The sum wraps around only if one of the two is already refused.
        ((low | more | low.wrapping_add(more)) & self.input_high == 0).then_some(low)
    }

    /// `iova` with its bits from `ias` up cleared if they are those of this table, and set otherwise.
    #[inline]
    pub(crate) fn low(&self, iova: Iova) -> u64 {
        iova.0 ^ self.top
    }

    /// The address whose bits below `ias` are `low`.
    #[inline]
    pub(crate) fn iova(&self, low: u64) -> Iova {
        Iova(low | self.top)
    }

    /// Whether `low`, from [`IoPgtable::low`], is in the input space and `pa` in the output space.
    #[inline]
    pub(crate) fn has_both(&self, low: u64, pa: u64) -> bool {
        (low & self.input_high) | (pa & self.output_high) == 0
    }

    /// Whether `pa` is in the output space.
    #[inline]
    pub(crate) fn has_output(&self, pa: u64) -> bool {
        pa & self.output_high == 0
    }

    /// Counts an allocated table.
    #[inline]
    pub(crate) fn count_table(&mut self) {
        self.tables = self.tables.saturating_add(1);
    }

    /// Frees a table that is not the root.
    #[inline]
    pub(crate) fn free_table(&mut self, pa: Pa) {
        self.tables = self.tables.saturating_sub(1);
        self.mem.free(pa, R::Granule::TABLE_BYTES);
    }

    /// Counts a table that is never freed, because a walker may still use it.
    #[inline]
    pub(crate) fn quarantine_table(&mut self) {
        self.tables = self.tables.saturating_sub(1);
        self.quarantined = self.quarantined.saturating_add(R::Granule::TABLE_BYTES);
    }

    /// Frees the root.
    pub(crate) fn free_root(self) {
        self.mem.free(self.root, root_bytes(self.root_mask));
    }

    /// The descriptor of a table at `pa` with `count` valid descriptors.
    #[inline]
    pub(crate) fn table_desc(&self, pa: Pa, count: u64) -> u64 {
        let ns = if self.cfg.quirks.contains(Quirks::NS) { desc::NS_TABLE } else { 0 };
        desc::with_count::<R::Granule>(pa.0 | desc::TABLE | ns, count)
    }
}

/// Allocates a table. If it is not aligned, or not below the output address size, it is freed and counts as out of
/// memory.
pub(crate) fn alloc_table<M: TableMemory>(mem: &M, bytes: usize, oas: u32) -> Option<Pa> {
    let pa = mem.alloc(bytes)?;
    let offset = u64::try_from(bytes).ok()?.wrapping_sub(1);
    let last = pa.0.checked_add(offset);
    if pa.0 & offset == 0 && last.is_some_and(|last| last.wrapping_shr(oas) == 0) {
        return Some(pa);
    }
    mem.free(pa, bytes);
    None
}

fn root_bytes(mask: usize) -> usize {
    mask.wrapping_add(1).wrapping_mul(size_of::<u64>()).max(MIN_ROOT_BYTES)
}

/// Checks the configuration against the format and the architecture, and computes the leaf sizes.
fn check<R: Regime>(cfg: &mut Cfg) -> Result<(), CfgError> {
    let sizes = R::Granule::LEAF_SIZES;
    output_size(cfg.oas)?;
    match cfg.ias {
        32..=48 => {}
        49..=56 => return Err(CfgError::Lpa(cfg.ias)),
        _ => return Err(CfgError::Ias(cfg.ias)),
    }
    if R::STAGE2 && cfg.ias > cfg.oas {
        return Err(CfgError::IasAboveOas { ias: cfg.ias, oas: cfg.oas });
    }
    let foreign = cfg.quirks.difference(R::QUIRKS);
    if !foreign.is_empty() {
        return Err(CfgError::Quirks(foreign));
    }
    if cfg.coherent_walk && cfg.quirks.contains(Quirks::OUTER_WBWA) {
        return Err(CfgError::Quirks(Quirks::OUTER_WBWA));
    }
    if cfg.page_sizes == 0 {
        cfg.page_sizes = sizes;
    }
    // Every size up to the largest requested one, so that each part of a split block can be a leaf.
    let largest = 63u32.wrapping_sub(cfg.page_sizes.leading_zeros());
    let wanted = sizes & u64::MAX.wrapping_shr(63u32.wrapping_sub(largest));
    if cfg.page_sizes != wanted {
        return Err(CfgError::PageSizes(cfg.page_sizes));
    }
    Ok(())
}

/// The start level as Linux's `arm_lpae_alloc_pgtable` chooses it, with concatenation where the architecture leaves no
/// choice (Arm ARM DDI 0487 K.a, R_DXBSH and R_SRKBC).
fn shape<R: Regime>(cfg: &Cfg) -> Shape {
    let bits = R::Granule::BITS;
    let index_bits = cfg.ias.wrapping_sub(R::Granule::PAGE_SHIFT);
    let levels = index_bits.div_ceil(bits);
    let mut start = 4u32.wrapping_sub(levels);
    let mut root_bits = index_bits.wrapping_sub(bits.wrapping_mul(levels.wrapping_sub(1)));
    let concatenate = match (R::Granule::PAGE_SHIFT, start) {
        (12, 0) => matches!(cfg.oas, 40 | 42),
        (14, 0) => cfg.oas == 48 || cfg.ias == 48,
        (14, 1) => cfg.oas == 40,
        _ => false,
    };
    if R::STAGE2 && concatenate {
        root_bits = root_bits.wrapping_add(bits);
        start = start.wrapping_add(1);
    }
    Shape { start_level: u8::try_from(start).unwrap_or(3), root_bits }
}

#[cfg(test)]
mod tests;
