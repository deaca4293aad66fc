//! The driver's platform: at every access the scheduler may switch to other CPUs, devices and the SMMU.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use io_pgtable::Pa;
use shuttle::thread;
use smmu_drv::platform::{DmaBuffer, Platform, WiredIrq};

use crate::world::{POOL, POOL_BYTES, World, scheduling_point, world};

/// The platform of one SMMU's driver.
pub(crate) struct Bus {
    smmu: usize,
    clock: Cell<u64>,
}

impl Bus {
    /// The registers of SMMU number `smmu`.
    pub(crate) fn new(smmu: usize) -> Self {
        Self { smmu, clock: Cell::new(0) }
    }

    fn register<R>(&self, access: impl FnOnce(&mut smmu_model::Model) -> R) -> R {
        scheduling_point();
        access(&mut world().models[self.smmu].borrow_mut())
    }
}

impl Platform for Bus {
    type Buffer = Buffer;
    type Place<T: 'static> = Box<T>;

    fn read32(&self, offset: u32) -> u32 {
        self.register(|model| model.read32(offset))
    }

    fn write32(&self, offset: u32, value: u32) {
        self.register(|model| model.write32(offset, value));
    }

    fn read64(&self, offset: u32) -> u64 {
        self.register(|model| model.read64(offset))
    }

    fn write64(&self, offset: u32, value: u64) {
        self.register(|model| model.write64(offset, value));
    }

    fn alloc(&self, size: usize) -> Option<Buffer> {
        let bytes = u64::try_from(size).ok()?;
        let world = world();
        let pa = world.pool.lock().alloc(bytes)?;
        (pa..pa + bytes).step_by(8).for_each(|word| world.stores.write64(word, 0));
        Some(Buffer { pa, bytes, world })
    }

    fn dsb(&self) {
        scheduling_point();
        world().stores.barrier();
    }

    fn now_us(&self) -> u64 {
        self.clock.set(self.clock.get() + 1);
        self.clock.get()
    }

    fn relax(&self) {
        // Time passes: other threads run, and the SMMU makes progress.
        self.clock.set(self.clock.get() + 500);
        thread::yield_now();
        self.register(smmu_model::Model::relax);
    }

    fn raise(&self, _irq: WiredIrq) {}
}

/// EL2's memory for buffers, and the pages that the host donated.
#[derive(Default)]
pub(crate) struct Pool {
    used: u64,
    free: Vec<(u64, u64)>,
    /// Page numbers.
    pub(crate) donated: BTreeSet<u64>,
}

impl Pool {
    fn alloc(&mut self, bytes: u64) -> Option<u64> {
        // Memory that was never used comes first: the model keeps a history of each word.
        let start = (POOL + self.used).next_multiple_of(bytes);
        if start + bytes <= POOL + POOL_BYTES {
            self.used = start + bytes - POOL;
            return Some(start);
        }
        let at = self.free.iter().position(|(_, size)| *size == bytes)?;
        Some(self.free.swap_remove(at).0)
    }
}

/// A block of the pool.
pub(crate) struct Buffer {
    pa: u64,
    bytes: u64,
    world: Rc<World>,
}

impl Buffer {
    fn at(&self, offset: usize) -> Option<u64> {
        let offset = u64::try_from(offset).ok()?;
        (offset.is_multiple_of(8) && offset + 8 <= self.bytes).then(|| self.pa + offset)
    }
}

impl DmaBuffer for Buffer {
    fn pa(&self) -> Pa {
        Pa(self.pa)
    }

    fn size(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(0)
    }

    fn read64(&self, offset: usize) -> u64 {
        scheduling_point();
        self.at(offset).map_or(0, |pa| self.world.stores.read64(pa))
    }

    fn write64(&mut self, offset: usize, value: u64) {
        scheduling_point();
        if let Some(pa) = self.at(offset) {
            self.world.stores.write64(pa, value);
        }
    }

    // The SMMUs of these runs snoop.
    fn clean(&self, _offset: usize, _len: usize) {}

    fn invalidate(&self, _offset: usize, _len: usize) {}
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // After a failed schedule this runs outside the schedule's threads.
        if std::thread::panicking() || self.world.ended.get() {
            return;
        }
        // Freed memory may be reused with any content: the test fills it with bypass stream table entries.
        self.world.stores.discard(&(self.pa..self.pa + self.bytes));
        let words: Vec<_> = (self.pa..self.pa + self.bytes).step_by(64).map(|word| (word, 0b1001)).collect();
        self.world.mem.store_at_once(&words);
        self.world.pool.lock().free.push((self.pa, self.bytes));
    }
}
