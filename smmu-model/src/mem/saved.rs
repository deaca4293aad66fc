//! Saved states of memory, for restoring.

use super::{Inner, Memory};

/// A saved state of a [`Memory`], with its history. Two are equal if the memories are indistinguishable.
#[derive(Clone)]
pub struct Saved(Inner);

impl PartialEq for Saved {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&self.0, &other.0);
        (a.now, a.snoop, &a.floors, &a.mmio) == (b.now, b.snoop, &b.floors, &b.mmio)
            && a.regions == b.regions
            && a.cpu.is_equivalent(&b.cpu)
            && a.poc.is_equivalent(&b.poc)
    }
}

impl Memory {
    /// Saves the current state.
    #[must_use]
    pub fn save(&self) -> Saved {
        let mut m = self.lock();
        m.cpu.freeze();
        m.poc.freeze();
        Saved(m.clone())
    }

    /// Restores `saved`, including its time.
    pub fn restore(&self, saved: &Saved) {
        let mut guard = self.lock();
        let m = &mut *guard;
        let Inner { now, snoop, regions, cpu, poc, mmio, floors, dropped_before, stamp: _, pending } = &saved.0;
        (m.now, m.snoop, m.dropped_before) = (*now, *snoop, *dropped_before);
        m.regions.clone_from(regions);
        m.mmio.clone_from(mmio);
        m.floors.clone_from(floors);
        m.pending.clone_from(pending);
        m.cpu.restore(cpu);
        m.poc.restore(poc);
    }
}
