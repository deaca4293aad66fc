//! A machine as it was at one moment, to go back to: a run then costs what it does, and not a take-over.
//!
//! Everything that refers to each other stays where it is, and its content is put back. Memory goes back page by page
//! ([`smmu_model::mem::Saved`]), the SMMUs and the drivers by copies. The ownership map is made anew, and
//! both stage 2 tables where somebody could change them: they are what they were, as nothing changed its owner before the
//! snapshot.

use mem_protect::PageMap;
use smmu_drv::Smmu;
use smmu_model::{Model, mem};

use crate::bus::{Buffers, Bus};
use crate::machine::{El2, Machine};
use crate::owner::Owner;

/// What a machine was.
pub struct Snapshot {
    mem: mem::Saved,
    models: Vec<Model>,
    buffers: Buffers,
    clocks: Vec<u64>,
    drivers: Vec<Smmu<Bus, Owner>>,
    pool: crate::Pool,
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        // These are copies: their buffers are not theirs to give back.
        let drivers = &mut self.drivers;
        self.pool.abandon(|| drivers.clear());
    }
}

impl Machine {
    /// What the machine is now: right after take-over, before the host did anything.
    ///
    /// # Panics
    /// Without EL2, or when the host has claims or gave pages away.
    pub fn snapshot(&mut self) -> Snapshot {
        assert_eq!(self.claims(), 0, "a claim has no copies");
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

    /// Makes the machine what it was when `snapshot` was made of it. Nobody looks on any more, and nothing is damaged or missing
    /// but what new machines of this thread lack.
    ///
    /// # Panics
    /// When the snapshot is another machine's.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        assert!(self.pool.is(&snapshot.pool), "another machine's");
        *self.spy.borrow_mut() = None;
        self.forget();
        let Some(El2 { owner, drivers }) = self.el2.take() else { panic!("no EL2") };
        self.pool.abandon(|| drivers.borrow_mut().clone_from(&snapshot.drivers));
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
            self.own(storage, cpu, dma)
        } else {
            self.protect(storage, dma.into_mirror(), drivers.clone())
        };
        self.el2 = Some(El2 { owner, drivers });
    }
}
