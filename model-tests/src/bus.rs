//! The driver's `Platform` on the SMMU model: registers, EL2 memory, time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use io_pgtable::Pa;
use smmu_drv::platform::{DmaBuffer, Platform, WiredIrq};
use smmu_model::{Memory, Model, WriteBuffer};

use crate::layout;

/// A hook called at every barrier and register write of the driver: the only points at which new state becomes visible
/// to hardware.
pub type StoreHook = Rc<RefCell<Option<Box<dyn FnMut(&Model)>>>>;

/// A word of EL2's buffers whose reads return a corrupted value, and the flipped bits.
pub type Damage = Rc<Cell<Option<(u64, u64)>>>;

/// EL2's pool: power-of-two blocks, with allocation failures on request.
#[derive(Clone, Default)]
pub struct Pool(Rc<PoolState>);

#[derive(Default)]
struct PoolState {
    used: Cell<u64>,
    free: RefCell<Vec<(u64, u64)>>,
    refuse: Cell<bool>,
    live: Cell<u64>,
    allocations: Cell<u64>,
    /// Dropped buffers are not freed.
    no_free: Cell<bool>,
}

/// The free blocks of a pool, and the blocks that were never used.
pub(crate) struct Buffers {
    used: u64,
    free: Vec<(u64, u64)>,
    live: u64,
}

impl Pool {
    /// Allocations that succeeded.
    #[must_use]
    pub fn allocations(&self) -> u64 {
        self.0.allocations.get()
    }

    /// Makes every later allocation fail.
    pub fn exhaust(&self) {
        self.0.refuse.set(true);
    }

    /// Makes allocations succeed again.
    pub fn refill(&self) {
        self.0.refuse.set(false);
    }

    /// Bytes allocated now.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.0.live.get()
    }

    /// Whether `other` is a handle to this pool.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Calls `what`. The buffers that it drops are not freed: they are copies, or belong to a discarded machine.
    pub(crate) fn without_free(&self, what: impl FnOnce()) {
        self.0.no_free.set(true);
        what();
        self.0.no_free.set(false);
    }

    /// The current free lists.
    pub(crate) fn buffers(&self) -> Buffers {
        Buffers { used: self.0.used.get(), free: self.0.free.borrow().clone(), live: self.0.live.get() }
    }

    /// Restores the free lists and ends allocation failures.
    pub(crate) fn set_buffers(&self, buffers: &Buffers) {
        self.0.used.set(buffers.used);
        self.0.free.borrow_mut().clone_from(&buffers.free);
        self.0.live.set(buffers.live);
        self.0.refuse.set(false);
    }

    fn alloc(&self, bytes: u64) -> Option<u64> {
        if self.0.refuse.get() {
            return None;
        }
        let mut free = self.0.free.borrow_mut();
        let pa = if let Some(at) = free.iter().position(|(_, size)| *size == bytes) {
            free.swap_remove(at).0
        } else {
            let start = (layout::POOL + self.0.used.get()).next_multiple_of(bytes);
            let end = start + bytes;
            if end > layout::POOL + layout::POOL_BYTES {
                return None;
            }
            self.0.used.set(end - layout::POOL);
            start
        };
        self.0.live.set(self.0.live.get() + bytes);
        self.0.allocations.set(self.0.allocations.get() + 1);
        Some(pa)
    }

    fn free(&self, pa: u64, bytes: u64) {
        self.0.free.borrow_mut().push((pa, bytes));
        self.0.live.set(self.0.live.get() - bytes);
    }
}

/// The platform of one SMMU's driver.
#[derive(Clone)]
pub struct Bus(Rc<BusState>);

/// The address of a page that was read, and its words.
type Read = (u64, Box<[u64; 512]>);

struct BusState {
    model: Rc<RefCell<Model>>,
    mem: Memory,
    stores: Rc<WriteBuffer>,
    pool: Pool,
    clock: Cell<u64>,
    store_hook: StoreHook,
    irqs: Rc<RefCell<Vec<WiredIrq>>>,
    skip_cleans: Rc<Cell<bool>>,
    damage: Damage,
    /// The pages of its buffers that the driver has read since [`Bus::reads`] began; they are not written during that
    /// call.
    read: RefCell<Option<Vec<Read>>>,
}

impl Bus {
    /// A bus to `model`; `stores` is the write buffer of EL2's CPUs, for all SMMUs.
    #[must_use]
    pub fn new(
        model: Rc<RefCell<Model>>,
        stores: Rc<WriteBuffer>,
        pool: Pool,
        store_hook: StoreHook,
        irqs: Rc<RefCell<Vec<WiredIrq>>>,
        skip_cleans: Rc<Cell<bool>>,
        damage: Damage,
    ) -> Self {
        let mem = model.borrow().mem().clone();
        Self(Rc::new(BusState {
            model,
            mem,
            stores,
            pool,
            clock: Cell::default(),
            store_hook,
            irqs,
            skip_cleans,
            damage,
            read: RefCell::default(),
        }))
    }

    fn call_hook(&self) {
        call_hook(&self.0.model, &self.0.store_hook);
    }

    /// Calls `what`; returns its result, and the pages of buffers that the driver read, each with its stamp.
    pub(crate) fn reads<T>(&self, what: impl FnOnce() -> T) -> (T, Vec<(u64, u64)>) {
        self.0.read.replace(Some(Vec::new()));
        let result = what();
        let read = self.0.read.take().unwrap_or_default();
        (result, read.into_iter().map(|(page, _)| (page, self.0.mem.cpu_stamp(page))).collect())
    }

    /// The page of `pa` out of the pages in `read`, and the index of the word at `pa`.
    fn read_of_page<'a>(&self, read: &'a mut Vec<Read>, pa: u64) -> (&'a [u64; 512], usize) {
        let page = pa & !0xfff;
        // A page is usually read sequentially.
        if read.last().is_none_or(|(known, _)| *known != page) {
            let known = read.iter().position(|(known, _)| *known == page);
            let entry = match known {
                Some(at) => read.swap_remove(at),
                None => (page, Box::new(self.0.stores.read_page(page))),
            };
            read.push(entry);
        }
        (&read[read.len() - 1].1, usize::try_from((pa - page) / 8).unwrap_or(0))
    }

    /// Microseconds since the first read of the clock.
    pub(crate) fn time(&self) -> u64 {
        self.0.clock.get()
    }

    /// Changes the time.
    pub(crate) fn set_time(&self, us: u64) {
        self.0.clock.set(us);
    }
}

fn call_hook(model: &Rc<RefCell<Model>>, store_hook: &StoreHook) {
    // The hook itself may have panicked: do not call it again while unwinding.
    if std::thread::panicking() {
        return;
    }
    if let Some(hook) = store_hook.borrow_mut().as_mut() {
        hook(&model.borrow());
    }
}

impl Platform for Bus {
    type Buffer = Buffer;
    type Place<T: 'static> = Box<T>;

    fn read32(&self, offset: u32) -> u32 {
        self.0.model.borrow_mut().read32(offset)
    }

    fn write32(&self, offset: u32, value: u32) {
        self.0.model.borrow_mut().write32(offset, value);
        self.call_hook();
    }

    fn read64(&self, offset: u32) -> u64 {
        self.0.model.borrow_mut().read64(offset)
    }

    fn write64(&self, offset: u32, value: u64) {
        self.0.model.borrow_mut().write64(offset, value);
        self.call_hook();
    }

    fn alloc(&self, size: usize) -> Option<Buffer> {
        let bytes = u64::try_from(size).ok()?;
        let pa = self.0.pool.alloc(bytes)?;
        self.0.stores.fill(pa..pa + bytes, 0);
        self.0.stores.clean(pa..pa + bytes);
        Some(Buffer { pa, bytes, bus: self.clone() })
    }

    fn dsb(&self) {
        // Each earlier store only added values that hardware may see, so one call of the hook checks all of them.
        self.call_hook();
        self.0.stores.barrier();
        self.call_hook();
    }

    fn now_us(&self) -> u64 {
        self.0.clock.set(self.0.clock.get() + 1);
        self.0.clock.get()
    }

    fn relax(&self) {
        self.0.clock.set(self.0.clock.get() + 500);
        self.0.model.borrow_mut().relax();
        self.call_hook();
    }

    fn raise(&self, irq: WiredIrq) {
        self.0.irqs.borrow_mut().push(irq);
    }
}

/// A block of the pool.
#[derive(Clone)]
pub struct Buffer {
    pa: u64,
    bytes: u64,
    bus: Bus,
}

impl Buffer {
    fn at(&self, offset: usize) -> Option<u64> {
        let offset = u64::try_from(offset).ok()?;
        (offset.is_multiple_of(8) && offset + 8 <= self.bytes).then(|| self.pa + offset)
    }

    fn range(&self, offset: usize, len: usize) -> std::ops::Range<u64> {
        let start = self.pa + u64::try_from(offset).unwrap_or(self.bytes).min(self.bytes);
        start..start.saturating_add(u64::try_from(len).unwrap_or(0)).min(self.pa + self.bytes)
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
        let Some(pa) = self.at(offset) else { return 0 };
        let flipped = self.bus.0.damage.get().filter(|(at, _)| *at == pa).map_or(0, |(_, bits)| bits);
        let word = self.bus.0.read.borrow_mut().as_mut().map(|read| {
            let (page, word) = self.bus.read_of_page(read, pa);
            page[word]
        });
        word.unwrap_or_else(|| self.bus.0.stores.read64(pa)) ^ flipped
    }

    fn read_entry(&self, offset: usize) -> [u64; 8] {
        let whole = self.at(offset).filter(|pa| pa.is_multiple_of(64) && self.bus.0.damage.get().is_none());
        if let Some((pa, read)) = whole.zip(self.bus.0.read.borrow_mut().as_mut()) {
            let (page, word) = self.bus.read_of_page(read, pa);
            if let Some(entry) = page[word..].first_chunk() {
                return *entry;
            }
        }
        std::array::from_fn(|word| self.read64(offset + word * 8))
    }

    fn write64(&mut self, offset: usize, value: u64) {
        if let Some(pa) = self.at(offset) {
            self.bus.0.stores.write64(pa, value);
        }
    }

    fn clean(&self, offset: usize, len: usize) {
        if self.bus.0.skip_cleans.get() {
            return;
        }
        self.bus.0.stores.clean(self.range(offset, len));
    }

    fn invalidate(&self, offset: usize, len: usize) {
        self.bus.0.mem.invalidate(self.range(offset, len));
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bus.0.pool.0.no_free.get() {
            return;
        }
        self.bus.call_hook();
        self.bus.0.stores.discard(&(self.pa..self.pa + self.bytes));
        // Freed memory may be reused with any content: the test fills it with bypass stream table entries.
        self.bus.0.mem.cpu_fill((self.pa..self.pa + self.bytes).step_by(64), 0b1001);
        self.bus.0.mem.clean(self.pa..self.pa + self.bytes);
        self.bus.call_hook();
        self.bus.0.pool.free(self.pa, self.bytes);
    }
}
