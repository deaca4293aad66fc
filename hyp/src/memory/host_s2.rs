//! The host's CPU stage 2: an identity map of the host's memory and registers.

use super::tables::PoolTables;
use crate::arch::setup::HostStage2Regs;
use crate::arch::tlb;
use crate::stopping;
use io_pgtable::{
    Attrs, Cfg, CfgError, IoPgtable, Iova, Ipa, MemType, Pa, Prot, S2, TlbError, TlbOps, TlbRange, TlbScope,
};
use mem_protect::{HostStage2, Leaf, LeafKind, PageRange, TableError};

/// VMID of the host, on the CPUs and in every SMMU.
pub const HOST_VMID: u16 = 1;
/// Above this number of pages, invalidating all translations costs less than page by page.
const TLBI_PAGES: u64 = 64;

/// Bits of an address below a page, and per level of the table.
const PAGE_BITS: u32 = 12;
const INDEX_BITS: u32 = 9;

/// The host's table.
pub struct HostTable {
    table: IoPgtable<S2, PoolTables>,
}

impl HostTable {
    /// An empty table with `bits` input and output address bits.
    ///
    /// # Errors
    /// [`CfgError`]; nothing is allocated then.
    pub fn new(bits: u32, pa_bits: u32) -> Result<Self, CfgError> {
        // Break-before-make is used on every CPU, also if it has FEAT_BBM: a CPU that faults on the invalid descriptor
        // retries its access.
        Ok(Self { table: IoPgtable::new(&Cfg::new(bits, pa_bits), PoolTables)? })
    }

    /// Gives the host the device registers at `pa`.
    ///
    /// # Errors
    /// See [`TableError`]; then nothing is mapped.
    pub fn map_device(&mut self, pa: Pa, size: u64) -> Result<(), TableError> {
        self.table.map(Iova(pa.0), pa, size, Attrs::device(Prot::RW)).map_err(TableError::from)
    }

    /// Gives the host flash that it executes and does not write.
    ///
    /// # Errors
    /// See [`TableError`]; then nothing is mapped.
    pub fn map_code(&mut self, pa: Pa, size: u64) -> Result<(), TableError> {
        let attributes = Attrs::normal_nc(Prot::READ.union(Prot::EXEC));
        self.table.map(Iova(pa.0), pa, size, attributes).map_err(TableError::from)
    }

    /// The CPUs' register values for this table.
    pub fn registers(&self) -> HostStage2Regs {
        let config = self.table.config();
        HostStage2Regs { vttbr: config.ttb.0 | u64::from(HOST_VMID) << 48, vtcr: config.vtcr_el2() }
    }

    /// Address of the root descriptor of `ipa`, if it is valid.
    pub fn root_descriptor(&self, ipa: Ipa) -> Option<Pa> {
        let config = self.table.config();
        let shift =
            PAGE_BITS.checked_add(INDEX_BITS.checked_mul(3_u32.checked_sub(u32::from(config.start_level))?)?)?;
        let offset = ipa.0.checked_shr(shift)?.checked_mul(8)?;
        self.is_mapped(ipa).then(|| config.ttb.0.checked_add(offset).map(Pa)).flatten()
    }

    /// Size of all tables in bytes.
    pub fn table_bytes(&self) -> usize {
        self.table.table_bytes()
    }

    /// Whether `ipa` is mapped.
    pub fn is_mapped(&self, ipa: Ipa) -> bool {
        self.table.iova_to_phys(ipa.into()).is_some()
    }
}

impl HostStage2 for HostTable {
    fn unmap(&mut self, range: PageRange) -> Result<(), TableError> {
        stop_at_the_end();
        self.table.unmap(range.ipa().into(), range.bytes(), &mut CpuTlb).map_err(TableError::from)
    }

    fn map(&mut self, range: PageRange) -> Result<(), TableError> {
        stop_at_the_end();
        let mapped = self.table.map(range.ipa().into(), range.pa(), range.bytes(), Attrs::normal(Prot::RWX));
        mapped.map_err(TableError::from)
    }

    fn next_leaf(&self, from: Ipa) -> Option<Leaf> {
        next_leaf(&self.table, from)
    }

    fn coalesce(&mut self, range: PageRange) {
        stop_at_the_end();
        // A block that stays split costs one table.
        let _ = self.table.coalesce_range(range.ipa().into(), range.bytes(), &mut CpuTlb);
    }
}

/// Parks, without releasing locks, if another CPU ends the run and may have cleared a root descriptor of this table: a
/// transition that was waiting for an SMMU must not map addresses of that descriptor again.
#[inline]
fn stop_at_the_end() {
    if stopping::ending().has_begun() {
        stopping::park();
    }
}

/// The first leaf of a stage-2 table at or after `from`, cut so that it does not start below `from`.
pub fn next_leaf(table: &IoPgtable<S2, PoolTables>, from: Ipa) -> Option<Leaf> {
    let end = 1_u64.checked_shl(table.cfg().ias)?;
    let leaf = table.leaves(from.into(), end.checked_sub(from.0)?).next()?;
    let skip = from.0.saturating_sub(leaf.iova.0);
    Some(Leaf {
        ipa: Ipa(leaf.iova.0.saturating_add(skip)),
        pa: Pa(leaf.pa.0.saturating_add(skip)),
        bytes: leaf.size.saturating_sub(skip),
        kind: match leaf.attrs.mem {
            MemType::Normal => LeafKind::Normal,
            // Flash, which is not memory.
            MemType::NormalNc | MemType::Device => LeafKind::Device,
        },
    })
}

/// The CPUs' TLBs, for the host's stage 2.
struct CpuTlb;

impl TlbOps for CpuTlb {
    fn invalidate(&mut self, range: TlbRange) {
        // This is during a split: until the new table is linked, accesses of other CPUs fault and are retried.
        let pages = range.size.checked_div(range.granule).unwrap_or(u64::MAX);
        if range.scope == TlbScope::Table || pages > TLBI_PAGES {
            tlb::invalidate_host();
            return;
        }
        for n in 0..pages {
            tlb::invalidate_ipa(range.iova.0.saturating_add(n.saturating_mul(range.granule)));
        }
        tlb::invalidate_combined();
    }

    fn sync(&mut self) -> Result<(), TlbError> {
        tlb::complete();
        Ok(())
    }
}
