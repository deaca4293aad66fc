//! A guest's table, and its invalidation on every SMMU.

use io_pgtable::{Attrs, IoPgtable, Ipa, MapError, Pa, Prot, S2, TableMemory, TlbError, TlbOps, TlbRange};
use smmu_drv::{Platform, Smmu, Stale};

use crate::{Error, PAGE};

/// The part of a guest that concerns its devices.
pub(crate) struct Guest<M: TableMemory> {
    /// No two tables have the same VMID.
    pub(crate) vmid: u16,
    /// The memory that its devices reach.
    pub(crate) table: IoPgtable<S2, M>,
}

impl<M: TableMemory> Guest<M> {
    pub(crate) fn map(&mut self, ipa: Ipa, pa: Pa) -> Result<(), Error> {
        self.table.map(ipa.into(), pa, PAGE, Attrs::normal(Prot::RW)).map_err(|error| match error {
            MapError::Overlap { .. } => Error::Mapping,
            MapError::NoMemory | MapError::Misaligned | MapError::OutOfRange | MapError::BadProt => Error::Table,
        })
    }
}

/// Invalidates translations of one VMID in all SMMUs.
pub(crate) struct Tlb<'a, P: Platform> {
    smmus: &'a mut [Smmu<P>],
    vmid: u16,
    stale: Option<Stale>,
}

impl<'a, P: Platform> Tlb<'a, P> {
    pub(crate) fn new(smmus: &'a mut [Smmu<P>], vmid: u16) -> Self {
        Self { smmus, vmid, stale: None }
    }
}

impl<P: Platform> TlbOps for Tlb<'_, P> {
    fn invalidate(&mut self, range: TlbRange) {
        self.stale = Some(Stale::with(self.stale, range));
    }

    /// Starts the invalidation on every SMMU before it waits for the first one, so that they run in parallel.
    fn sync(&mut self) -> Result<(), TlbError> {
        let Some(stale) = self.stale.take() else { return Ok(()) };
        let mut result = Ok(());
        for smmu in &mut *self.smmus {
            if smmu.tlb_submit(self.vmid, stale).is_err() {
                result = Err(TlbError);
            }
        }
        for smmu in &mut *self.smmus {
            if smmu.tlb_wait().is_err() {
                result = Err(TlbError);
            }
        }
        result
    }
}
