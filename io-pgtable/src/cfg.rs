//! Input configuration, as in Linux's `struct io_pgtable_cfg`.

bitflags::bitflags! {
    /// Deviations from the default format, named as Linux's `IO_PGTABLE_QUIRK_*`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Quirks: u8 {
        /// `ARM_NS`: set NS and NSTable in stage-1 descriptors.
        const NS = 1 << 0;
        /// `ARM_TTBR1`: a stage 1 for the upper address range (every bit from `ias` up is one).
        const TTBR1 = 1 << 1;
        /// `ARM_OUTER_WBWA`: a walker that does not snoop but uses the outer cache; stage 1 only.
        const OUTER_WBWA = 1 << 2;
        /// `ARM_HD`: hardware manages the dirty state of writable stage-1 mappings (DBM).
        const HD = 1 << 3;
        /// `ARM_S2FWB`: stage-2 memory types are encoded for `HCR_EL2.FWB` = 1 or `STE.S2FWB` = 1.
        const S2FWB = 1 << 4;
        /// `NO_WARN`: accepted by every regime. It has no effect, since errors are returned and never printed.
        const NO_WARN = 1 << 5;
    }
}

/// How a live block may be replaced by a table: the lowest break-before-make level of all walkers.
///
/// `FEAT_BBM` of a CPU is in `ID_AA64MMFR2_EL1.BBM`, of an SMMU in `SMMU_IDR3.BBML`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bbm {
    /// Invalid descriptor, invalidation and sync, new descriptor. Accesses to the rest of the block may fault in
    /// between.
    #[default]
    Level0,
    /// The block is marked nT and invalidated first, so that no TLB has it when the table replaces it.
    ///
    /// The table always has the translation, but whether hardware faults on a block marked nT is left to the
    /// implementation (Arm ARM DDI 0487 D8.7.3, R_MRRPW): if that is not acceptable, omit block sizes from
    /// `page_sizes`.
    Level1,
    /// The table replaces the block by one store, and the block is invalidated afterwards.
    Level2,
}

/// Configuration of a table.
///
/// ```
/// use io_pgtable::{Bbm, Cfg};
/// let cfg = Cfg { bbm: Bbm::Level2, ..Cfg::new(40, 40) };
/// assert!(cfg.coherent_walk);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cfg {
    /// Input address size in bits, 32 to 48.
    pub ias: u32,
    /// Output address size in bits: 32, 36, 40, 42, 44 or 48. Tables are also below it.
    pub oas: u32,
    /// Leaf sizes that may be used, one bit for each size in bytes; 0 means all sizes of the granule. The page size
    /// must be among them, and no size between two others may be missing (a split needs it).
    pub page_sizes: u64,
    /// Whether the walker snoops the caches of the CPU that writes the table.
    pub coherent_walk: bool,
    /// Format quirks.
    pub quirks: Quirks,
    /// Break-before-make policy.
    pub bbm: Bbm,
}

impl Cfg {
    /// A coherent walker, all leaf sizes, no quirks, [`Bbm::Level0`].
    #[must_use]
    pub const fn new(ias: u32, oas: u32) -> Self {
        Self { ias, oas, page_sizes: 0, coherent_walk: true, quirks: Quirks::empty(), bbm: Bbm::Level0 }
    }
}
