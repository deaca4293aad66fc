//! The driver's platform: the model's registers, memory through a buffer of stores, and a clock.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use io_pgtable::Pa;
use smmu_drv::{DmaBuffer, Platform, WiredIrq};
use smmu_model::{Config, Injection, Memory, Model, Region, Snoop, WriteBuffer};

use super::*;

/// A function that inspects hardware's state.
pub type Watch = Box<dyn FnMut(&Model)>;

/// The state that the platform, its buffers and the test share.
pub struct World {
    pub model: RefCell<Model>,
    pub mem: Memory,
    /// EL2's stores to queues and tables that hardware may not see yet.
    pub stores: WriteBuffer,
    /// EVENTQ_PROD was read, and no barrier has ordered it before reads of the records.
    pub announced: Cell<bool>,
    pub clock: Cell<u64>,
    pub irqs: RefCell<Vec<WiredIrq>>,
    pub next: Cell<u64>,
    pub live_bytes: Cell<usize>,
    /// Sizes of everything that was ever allocated.
    pub allocated: RefCell<Vec<usize>>,
    /// Allocations that still succeed.
    pub allocations: Cell<usize>,
    /// Called after every register write of EL2.
    pub watch: RefCell<Option<Watch>>,
    /// Called at every step of a wait of EL2.
    pub on_relax: RefCell<Option<Box<dyn FnMut()>>>,
    pub mmio: Cell<u64>,
    /// Loads of EL2 from registers.
    pub loads: Cell<u64>,
    /// The value of GBPA while it is broken: a written value can be read, but the update never ends.
    pub broken_gbpa: Cell<Option<u32>>,
    /// A register of hardware, and the value that it always reads as.
    pub read_as: Cell<Option<(u32, u32)>>,
    /// Number of register writes after which no CMD_SYNC completes any more.
    pub stuck_after: Cell<Option<u64>>,
}

#[derive(Clone)]
pub struct Board(pub Rc<World>);

impl Board {
    pub fn new(config: Config) -> Self {
        let mem = Memory::new(config.snoop);
        mem.add(RAM, RAM_SIZE, Region::Ram);
        mem.add(POOL, POOL_SIZE, Region::Ram);
        mem.add(MMIO, 0x1000, Region::Mmio);
        let model = Model::new(config, mem.clone());
        Self(Rc::new(World {
            model: RefCell::new(model),
            stores: WriteBuffer::new(mem.clone()),
            announced: Cell::new(false),
            mem,
            clock: Cell::new(0),
            irqs: RefCell::new(Vec::new()),
            next: Cell::new(POOL + 0x10_0000),
            live_bytes: Cell::new(0),
            allocated: RefCell::default(),
            allocations: Cell::new(usize::MAX),
            watch: RefCell::new(None),
            on_relax: RefCell::new(None),
            mmio: Cell::new(0),
            loads: Cell::new(0),
            broken_gbpa: Cell::new(None),
            read_as: Cell::new(None),
            stuck_after: Cell::new(None),
        }))
    }

    /// Checks that a register write after which hardware accesses memory comes after a barrier, even if this model does not need it.
    fn check_order(&self, offset: u32, value: u32) {
        // Read only if needed: the model's time advances with each read.
        let enabled = || u64::from(self.0.model.borrow_mut().read32(r::CR0ACK));
        let stored = self.0.stores.has_stores();
        let unordered = match offset {
            r::CR0 => stored && value != 0,
            r::CMDQ_PROD | r::GERRORN => stored && enabled() & r::CMDQEN != 0,
            r::EVENTQ_CONS => self.0.stores.has_loads() && enabled() & r::EVENTQEN != 0,
            _ => false,
        };
        assert!(!unordered, "no barrier before the write of {value:#x} to register {offset:#x}");
    }

    fn after_write(&self) {
        self.0.mmio.set(self.0.mmio.get() + 1);
        if self.0.stuck_after.get() == Some(self.0.mmio.get()) {
            self.0.model.borrow_mut().inject(Injection::SyncNever);
        }
        if let Some(watch) = self.0.watch.borrow_mut().as_mut() {
            watch(&self.0.model.borrow());
        }
    }
}

impl Platform for Board {
    type Buffer = Buffer;
    type Place<T: 'static> = Box<T>;

    fn read32(&self, offset: u32) -> u32 {
        self.0.loads.set(self.0.loads.get() + 1);
        if offset == r::EVENTQ_PROD {
            self.0.announced.set(true);
        }
        if let (r::GBPA, Some(value)) = (offset, self.0.broken_gbpa.get()) {
            return value;
        }
        if let Some((register, value)) = self.0.read_as.get()
            && register == offset
        {
            return value;
        }
        self.0.model.borrow_mut().read32(offset)
    }
    fn write32(&self, offset: u32, value: u32) {
        self.check_order(offset, value);
        if let (r::GBPA, Some(old)) = (offset, self.0.broken_gbpa.get()) {
            assert!(old >> 31 == 0, "a write of GBPA while an update is under way");
            self.0.broken_gbpa.set(Some(value & (1 << 31 | 1 << 20)));
        } else {
            self.0.model.borrow_mut().write32(offset, value);
        }
        self.after_write();
    }
    fn read64(&self, offset: u32) -> u64 {
        self.0.model.borrow_mut().read64(offset)
    }
    fn write64(&self, offset: u32, value: u64) {
        self.0.model.borrow_mut().write64(offset, value);
        self.after_write();
    }
    fn alloc(&self, size: usize) -> Option<Buffer> {
        assert!(size.is_power_of_two() && size >= 4096, "{size}");
        let left = self.0.allocations.get().checked_sub(1)?;
        self.0.allocations.set(left);
        // Memory is never reused: accesses of a later owner are simulated when a buffer is freed, and the model's
        // history of every word stays short.
        let mask = size as u64 - 1;
        let pa = (self.0.next.get() + mask) & !mask;
        self.0.next.set(pa + size as u64);
        assert!(pa + size as u64 <= POOL + POOL_SIZE, "test pool too small");
        self.0.live_bytes.set(self.0.live_bytes.get() + size);
        self.0.allocated.borrow_mut().push(size);
        Some(Buffer { world: Rc::clone(&self.0), pa, size })
    }
    fn dsb(&self) {
        self.0.stores.barrier();
        self.0.announced.set(false);
    }
    fn now_us(&self) -> u64 {
        self.0.clock.set(self.0.clock.get() + 50);
        self.0.clock.get()
    }
    fn relax(&self) {
        self.0.model.borrow_mut().relax();
        if let Some(on_relax) = self.0.on_relax.borrow_mut().as_mut() {
            on_relax();
        }
        self.0.clock.set(self.0.clock.get() + 50);
    }
    fn raise(&self, irq: WiredIrq) {
        self.0.irqs.borrow_mut().push(irq);
    }
}

pub struct Buffer {
    world: Rc<World>,
    pa: u64,
    size: usize,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.world.live_bytes.set(self.world.live_bytes.get() - self.size);
        self.world.stores.discard(&(self.pa..self.pa + self.size as u64));
        // Fills freed memory with bypass entries, as a hostile later owner could.
        for at in (self.pa..self.pa + self.size as u64).step_by(64) {
            self.world.mem.cpu_write64(at, 1 | 4 << 1);
        }
    }
}

impl DmaBuffer for Buffer {
    fn pa(&self) -> Pa {
        Pa(self.pa)
    }
    fn size(&self) -> usize {
        self.size
    }
    fn read64(&self, offset: usize) -> u64 {
        if !offset.is_multiple_of(8) || offset + 8 > self.size {
            return 0;
        }
        assert!(!self.world.announced.get(), "no barrier between the read of EVENTQ_PROD and the read of a record");
        self.world.stores.read64(self.pa + offset as u64)
    }
    fn write64(&mut self, offset: usize, value: u64) {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.size, "a store at {offset:#x} of {:#x}", self.size);
        self.world.stores.write64(self.pa + offset as u64, value);
    }
    fn clean(&self, offset: usize, len: usize) {
        let from = self.pa + offset as u64;
        self.world.stores.clean(from..from + len as u64);
    }
    fn invalidate(&self, offset: usize, len: usize) {
        let from = self.pa + offset as u64;
        self.world.mem.invalidate(from..from + len as u64);
    }
}
