//! Snapshots of a machine: restoring one is cheaper than a new take-over.
//!
//! Objects stay in place and their content is restored: memory by pages ([`smmu_model::mem::Saved`]), the SMMUs and
//! the drivers from copies. The ownership map is created again, and both stage 2 tables too if they may have changed:
//! no page changed its owner before the snapshot, so they equal those of a new machine.

use mem_protect::PageMap;
use smmu_drv::HostedSmmu;
use smmu_model::{Model, mem};

use crate::bus::{Buffers, Bus};
use crate::machine::{El2, Machine};
use crate::owner::Owner;

/// A snapshot.
pub struct Snapshot {
    mem: mem::Saved,
    models: Vec<Model>,
    buffers: Buffers,
    clocks: Vec<u64>,
    drivers: Vec<HostedSmmu<Bus, Owner>>,
    pool: crate::Pool,
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        // These are copies: do not free their buffers.
        let drivers = &mut self.drivers;
        self.pool.without_free(|| drivers.clear());
    }
}

impl Machine {
    /// Takes a snapshot, right after take-over and before any host action.
    ///
    /// # Panics
    /// Without EL2, when there are claims, or when a page has changed its owner.
    pub fn snapshot(&mut self) -> Snapshot {
        assert_eq!(self.claims(), 0, "claims cannot be copied");
        let Some(El2 { owner, drivers }) = &self.el2 else { panic!("no EL2") };
        assert_eq!(owner.stats(), mem_protect::Stats::default(), "pages changed their owner");
        let drivers = drivers.borrow();
        Snapshot {
            mem: self.mem.save(),
            models: self.models.iter().map(|model| model.borrow().clone()).collect(),
            buffers: self.pool.buffers(),
            clocks: drivers.iter().map(|smmu| smmu.platform().time()).collect(),
            drivers: drivers.clone(),
            pool: self.pool.clone(),
        }
    }

    /// Restores `snapshot`. The store hook is removed, and the test settings are those of a new machine of this thread.
    ///
    /// # Panics
    /// If the snapshot is from another machine.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        assert!(self.pool.is(&snapshot.pool), "a snapshot of another machine");
        *self.store_hook.borrow_mut() = None;
        self.reset_settings();
        let Some(El2 { owner, drivers }) = self.el2.take() else { panic!("no EL2") };
        self.pool.without_free(|| drivers.borrow_mut().clone_from(&snapshot.drivers));
        self.pool.set_buffers(&snapshot.buffers);
        self.mem.restore(&snapshot.mem);
        for (model, was) in self.models.iter().zip(&snapshot.models) {
            model.borrow_mut().clone_from(was);
        }
        for (smmu, time) in drivers.borrow().iter().zip(&snapshot.clocks) {
            smmu.platform().set_time(*time);
        }
        let only_claims = owner.has_only_claims();
        let (map, cpu, dma, _) = owner.into_inner().into_parts();
        let storage = PageMap::into_storage(map);
        let owner = if only_claims {
            self.new_owner(storage, cpu, dma)
        } else {
            self.protect(storage, dma.into_mirror(), drivers.clone())
        };
        self.el2 = Some(El2 { owner, drivers });
    }
}
