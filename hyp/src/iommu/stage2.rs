//! The IOMMU stage 2 of the host's streams and of each guest's, and their invalidation on every SMMU at once.

use super::{Smmus, guest_vmid};
use crate::memory::host_s2::{self, HOST_VMID};
use crate::memory::tables::PoolTables;
use io_pgtable::{Cfg, CfgError, Ipa, Pa};
use mem_protect::{DmaStage2, GuestId, GuestTables, Leaf, MAX_GUESTS, Owner, PageMap, PageRange, TableError};
use shadow_s2::{Invalidate, InvalidateError, Plan, ShadowS2, SnapshotError};
use smmu_drv::{DmaConfig, Stage2Cfg};

/// Bytes of an ITS translater page.
pub const TRANSLATER: u64 = 0x1_0000;

/// The window if there is no table: only page 0, since a range is never empty.
const NO_WINDOW: PageRange = match PageRange::new(0, 1) {
    Some(range) => range,
    None => panic!("one page is a range"), // At compile time.
};

/// The table that every shadow STE of the host points to, and those of guests. The build without isolation has none,
/// and revokes nothing.
pub struct DmaTable {
    shadow: Option<ShadowS2<PoolTables>>,
    config: Option<Cfg>,
    guests: [Option<GuestTable>; MAX_GUESTS as usize],
}

/// The table of one guest's devices.
struct GuestTable {
    shadow: ShadowS2<PoolTables>,
    smmus: GuestSmmus,
}

/// Whether SMMUs may cache entries of a guest's table.
#[derive(Clone, Copy)]
enum GuestSmmus {
    /// No stream has used the table: no SMMU can cache an entry of it.
    Unused,
    /// Streams use it or used it, with this VMID.
    Used(u16),
}

impl Invalidate for GuestSmmus {
    fn invalidate(&mut self, plan: &Plan) -> Result<(), InvalidateError> {
        match *self {
            Self::Unused => Ok(()),
            Self::Used(vmid) => Smmus { vmid }.invalidate(plan),
        }
    }
}

impl DmaTable {
    /// An empty table.
    ///
    /// # Errors
    /// [`CfgError`]; nothing is allocated then.
    pub fn new(config: &DmaConfig) -> Result<Self, CfgError> {
        let shadow = Some(ShadowS2::new(config.table(), PoolTables)?);
        Ok(Self { shadow, config: Some(config.table()), guests: [const { None }; MAX_GUESTS as usize] })
    }

    /// No table: the build without isolation.
    pub fn none() -> Self {
        Self { shadow: None, config: None, guests: [const { None }; MAX_GUESTS as usize] }
    }

    /// Maps the host's pages according to `map`, and the pages that its devices write to raise interrupts.
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

    /// The stage 2 of `guest`, to be assigned to a stream; `None` if the guest has no table.
    #[cold]
    pub fn use_for(&mut self, guest: GuestId) -> Option<Stage2Cfg> {
        let vmid = guest_vmid(guest);
        let table = self.guest_mut(guest)?;
        table.smmus = GuestSmmus::Used(vmid);
        Some(Stage2Cfg::of(&table.shadow.config(), vmid))
    }

    /// Bytes in tables now.
    pub fn table_bytes(&self) -> usize {
        let guests = self.guests.iter().flatten().map(|guest| guest.shadow.table().table_bytes());
        let host = self.shadow.as_ref().map_or(0, |shadow| shadow.table().table_bytes());
        guests.fold(host, usize::saturating_add)
    }

    fn guest_mut(&mut self, guest: GuestId) -> Option<&mut GuestTable> {
        self.guests.get_mut(usize::from(guest.handle()))?.as_mut()
    }

    fn guest(&self, guest: GuestId) -> Option<&GuestTable> {
        self.guests.get(usize::from(guest.handle()))?.as_ref()
    }
}

impl DmaStage2 for DmaTable {
    fn revoke(&mut self, range: PageRange) -> Result<(), TableError> {
        let Some(shadow) = &mut self.shadow else { return Ok(()) };
        shadow.revoke(range, &mut Smmus::of_host())
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
            let _ = shadow.coalesce(range, &mut Smmus::of_host());
        }
    }

    fn window(&self) -> PageRange {
        let limit = self.shadow.as_ref().map_or(0, |shadow| shadow.limit().0);
        PageRange::covering(Ipa(0), limit).unwrap_or(NO_WINDOW)
    }

    fn guest_tables(&self) -> GuestTables {
        if self.config.is_some() { GuestTables::Each } else { GuestTables::None }
    }

    #[cold]
    fn create_guest(&mut self, guest: GuestId) -> Result<(), TableError> {
        let Some(config) = self.config else { return Ok(()) };
        let slot = self.guests.get_mut(usize::from(guest.handle())).ok_or(TableError::NoMemory)?;
        let shadow = ShadowS2::new(config, PoolTables).map_err(|_| TableError::NoMemory)?;
        *slot = Some(GuestTable { shadow, smmus: GuestSmmus::Unused });
        Ok(())
    }

    #[cold]
    fn end_guest(&mut self, guest: GuestId) -> Result<(), TableError> {
        let Some(slot) = self.guests.get_mut(usize::from(guest.handle())) else { return Ok(()) };
        if let Some(GuestTable { smmus: GuestSmmus::Used(vmid), .. }) = slot {
            super::retire(*vmid).map_err(|_| TableError::NotCompleted)?;
        }
        if let Some(table) = slot.take() {
            table.shadow.destroy();
        }
        Ok(())
    }

    fn grant_guest(&mut self, guest: GuestId, range: PageRange) -> Result<(), TableError> {
        match self.guest_mut(guest) {
            Some(table) => table.shadow.grant(range),
            None => Ok(()),
        }
    }

    fn revoke_guest(&mut self, guest: GuestId, range: PageRange) -> Result<(), TableError> {
        match self.guest_mut(guest) {
            Some(table) => table.shadow.revoke_mapped(range, &mut table.smmus),
            None => Ok(()),
        }
    }

    fn next_guest_leaf(&self, guest: GuestId, from: Ipa) -> Option<Leaf> {
        host_s2::next_leaf(self.guest(guest)?.shadow.table(), from)
    }
}
