//! The IOMMU stage 2 of the host's streams, and its invalidation on every SMMU at once.

use super::Smmus;
use crate::memory::host_s2::{self, HOST_VMID};
use crate::memory::tables::PoolTables;
use io_pgtable::{CfgError, Ipa, Pa};
use mem_protect::{DmaStage2, Leaf, Owner, PageMap, PageRange, TableError};
use shadow_s2::{ShadowS2, SnapshotError};
use smmu_drv::{DmaConfig, Stage2Cfg};

/// Bytes of an ITS translater page.
pub const TRANSLATER: u64 = 0x1_0000;

/// The window if there is no table: page 0 alone, since a range is never empty.
const NO_WINDOW: PageRange = match PageRange::new(0, 1) {
    Some(range) => range,
    None => panic!("one page is a range"), // At compile time.
};

/// The table that every shadow STE points to. The build without isolation has none, and revokes nothing.
pub struct DmaTable {
    shadow: Option<ShadowS2<PoolTables>>,
}

impl DmaTable {
    /// An empty table.
    ///
    /// # Errors
    /// [`CfgError`]; nothing is allocated then.
    pub fn new(config: &DmaConfig) -> Result<Self, CfgError> {
        Ok(Self { shadow: Some(ShadowS2::new(config.table(), PoolTables)?) })
    }

    /// No table: the build without isolation.
    pub fn none() -> Self {
        Self { shadow: None }
    }

    /// Maps what the host owns according to `map`, and the pages that its devices write to raise interrupts.
    ///
    /// # Errors
    /// [`SnapshotError`]; the table must not be used then.
    pub fn snapshot(&mut self, map: &PageMap<'_>, translaters: impl Iterator<Item = Pa>) -> Result<(), SnapshotError> {
        let Some(shadow) = &mut self.shadow else { return Ok(()) };
        let memory = map.runs_of(Owner::Host);
        shadow.snapshot(memory, translaters.filter_map(|page| PageRange::covering(Ipa(page.0), TRANSLATER)))
    }

    /// The stage-2 fields of every shadow STE.
    pub fn config(&self) -> Option<Stage2Cfg> {
        Some(Stage2Cfg::of(&self.shadow.as_ref()?.config(), HOST_VMID))
    }

    /// Bytes in tables now.
    pub fn table_bytes(&self) -> usize {
        self.shadow.as_ref().map_or(0, |shadow| shadow.table().table_bytes())
    }
}

impl DmaStage2 for DmaTable {
    fn revoke(&mut self, range: PageRange) -> Result<(), TableError> {
        let Some(shadow) = &mut self.shadow else { return Ok(()) };
        shadow.revoke(range, &mut Smmus)
    }

    fn grant(&mut self, range: PageRange) -> Result<(), TableError> {
        let Some(shadow) = &mut self.shadow else { return Ok(()) };
        shadow.grant(range)
    }

    fn next_leaf(&self, from: Ipa) -> Option<Leaf> {
        host_s2::next_leaf(self.shadow.as_ref()?.table(), from)
    }

    fn coalesce(&mut self, range: PageRange) {
        // A block that stays split costs one table. After a timeout of an SMMU `ShadowS2` has an invalidation pending.
        if let Some(shadow) = &mut self.shadow {
            let _ = shadow.coalesce(range, &mut Smmus);
        }
    }

    fn window(&self) -> PageRange {
        let limit = self.shadow.as_ref().map_or(0, |shadow| shadow.limit().0);
        PageRange::covering(Ipa(0), limit).unwrap_or(NO_WINDOW)
    }
}
