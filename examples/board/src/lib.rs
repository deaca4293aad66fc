//! The machine on which the examples run: memory, and modelled SMMUs with devices behind them.
//!
//! Only this crate depends on the model. At EL2 you implement [`Platform`] and `DmaBuffer` with registers and memory,
//! and `TableMemory` with your page allocator; `examples/partitions/src/bare.rs` has all three.
#![forbid(unsafe_code)]

mod buffer;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use io_pgtable::{HeapMemory, Pa};
use smmu_drv::{Coherency, Platform, WiredIrq};
use smmu_model::{Config, Hazard, Memory, Model, Region, Snoop, Transfer, WriteBuffer};

pub use buffer::Buffer;

/// Memory that is given to hosts and guests.
pub const RAM: u64 = 0x4000_0000;
/// Its size in bytes.
pub const RAM_BYTES: u64 = 0x400_0000;
/// The hypervisor's own memory: queues and stream tables.
pub const POOL: u64 = 0x8000_0000;
/// Its size in bytes.
pub const POOL_BYTES: u64 = 0x100_0000;
/// The hypervisor's own memory: stage-2 tables.
pub const TABLES: u64 = 0x9000_0000;
/// Its size in bytes.
pub const TABLES_BYTES: u64 = 0x20_0000;

/// Bytes of a cache line.
const LINE: u64 = 64;
/// Microseconds between two reads of the clock.
const TICK_US: u64 = 50;

/// State that all SMMUs of a machine share.
pub(crate) struct Shared {
    pub(crate) mem: Memory,
    /// Stores of the hypervisor that need not be visible to hardware before a barrier.
    pub(crate) stores: WriteBuffer,
    /// Lines that were written but not cleaned.
    pub(crate) dirty: RefCell<BTreeSet<u64>>,
    snoop: Snoop,
    /// The memory of tables, which is ordinary memory of this program: see [`Board::copy_tables`].
    tables: HeapMemory,
    /// The first free address of the pool.
    next: Cell<u64>,
    allocated: Cell<u64>,
    clock: Cell<u64>,
    irqs: RefCell<Vec<WiredIrq>>,
}

/// One SMMU of the machine, and the devices behind it. Clones are the same SMMU.
#[derive(Clone)]
pub struct Board {
    pub(crate) shared: Rc<Shared>,
    model: Rc<RefCell<Model>>,
}

impl Board {
    /// A machine with one SMMU that has been reset.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let mem = Memory::new(config.snoop);
        mem.add(RAM, RAM_BYTES, Region::Ram);
        mem.add(POOL, POOL_BYTES, Region::Ram);
        mem.add(TABLES, TABLES_BYTES, Region::Ram);
        let shared = Shared {
            stores: WriteBuffer::new(mem.clone()),
            dirty: RefCell::default(),
            snoop: config.snoop,
            tables: HeapMemory::new(Pa(TABLES), usize::try_from(TABLES_BYTES).unwrap_or(0)),
            next: Cell::new(POOL),
            allocated: Cell::new(0),
            clock: Cell::new(0),
            irqs: RefCell::default(),
            mem: mem.clone(),
        };
        Self { shared: Rc::new(shared), model: Rc::new(RefCell::new(Model::new(config, mem))) }
    }

    /// Another SMMU of the same machine, which has been reset; `config.snoop` must be the same.
    #[must_use]
    pub fn another(&self, config: Config) -> Self {
        let model = Model::new(config, self.shared.mem.clone());
        Self { shared: self.shared.clone(), model: Rc::new(RefCell::new(model)) }
    }

    /// Whether the machine's SMMUs snoop, as in firmware tables.
    #[must_use]
    pub fn coherency(&self) -> Coherency {
        if self.shared.snoop == Snoop::Coherent { Coherency::Coherent } else { Coherency::NonCoherent }
    }

    /// The memory for stage-2 tables.
    #[must_use]
    pub fn tables(&self) -> HeapMemory {
        self.shared.tables.clone()
    }

    /// The memory, as CPUs and devices see it.
    #[must_use]
    pub fn mem(&self) -> &Memory {
        &self.shared.mem
    }

    /// A device transfers `value` to `iova` as stream `sid`.
    pub fn dma_write(&self, sid: u32, iova: u64, value: u64) -> Transfer {
        self.copy_tables();
        self.model.borrow_mut().dma_write(sid, None, iova, &value.to_le_bytes())
    }

    /// Whether a device with stream `sid` could reach the byte at `pa` now in any way that the architecture allows,
    /// also with old translations in a TLB.
    #[must_use]
    pub fn reaches(&self, sid: u32, pa: u64) -> bool {
        self.copy_tables();
        self.model.borrow().can_reach(sid, pa).is_some()
    }

    /// Whether a device with stream `sid` could reach a byte of `range` now.
    #[must_use]
    pub fn reaches_any(&self, sid: u32, range: Range<u64>) -> bool {
        self.copy_tables();
        self.model.borrow().can_reach_any(sid, range).is_some()
    }

    /// Whether a device with stream `sid` could reach any memory of the machine now.
    #[must_use]
    pub fn reaches_anything(&self, sid: u32) -> bool {
        let memory = [(RAM, RAM_BYTES), (POOL, POOL_BYTES), (TABLES, TABLES_BYTES)];
        memory.into_iter().any(|(start, bytes)| self.reaches_any(sid, start..start + bytes))
    }

    /// The total number of bytes allocated from the pool.
    #[must_use]
    pub fn allocated(&self) -> u64 {
        self.shared.allocated.get()
    }

    /// Turns the SMMU's power off and on.
    pub fn lose_power(&self) {
        self.model.borrow_mut().lose_power();
    }

    /// Makes the SMMU stop completing CMD_SYNC.
    pub fn fail(&self) {
        self.model.borrow_mut().fail();
    }

    /// Errors of software since the last call.
    #[must_use]
    pub fn hazards(&self) -> Vec<Hazard> {
        self.model.borrow_mut().take_hazards()
    }

    /// Wired interrupts that were raised for the host, since the last call.
    #[must_use]
    pub fn irqs(&self) -> Vec<WiredIrq> {
        self.shared.irqs.take()
    }

    /// Writes the word at `pa` in the hypervisor's memory, as the SMMU does.
    pub fn device_write64(&self, pa: Pa, value: u64) {
        // Pending stores to the line are older than the write of the SMMU.
        self.shared.stores.discard(&(pa.0..pa.0 + 8));
        let _ = self.shared.mem.dev_write(pa.0, &value.to_le_bytes());
    }

    /// Executes a barrier of the CPU.
    pub fn barrier(&self) {
        self.shared.stores.barrier();
    }

    /// Writes back every dirty line, as a cache may do at any time.
    pub fn write_back(&self) {
        let lines = self.shared.dirty.take();
        for line in &lines {
            self.shared.stores.clean(*line..line + LINE);
        }
        self.shared.stores.barrier();
        // The whole line is written, over data that a device has written there in the meantime.
        for line in &lines {
            self.shared.mem.clean(*line..line + LINE);
        }
    }

    /// Copies tables, which are memory of this program, to the machine's memory, before hardware accesses it.
    fn copy_tables(&self) {
        let Shared { mem, tables, .. } = &*self.shared;
        let mut changed = Vec::new();
        for page in tables.touched() {
            for pa in (page.0..page.0 + 4096).step_by(8) {
                let word = if self.shared.snoop == Snoop::Coherent {
                    tables.read64(Pa(pa))
                } else {
                    tables.read64_poc(Pa(pa))
                };
                if let Some(word) = word.filter(|word| *word != mem.cpu_read64(pa)) {
                    changed.push((pa, word));
                }
            }
        }
        mem.store_at_once(&changed);
    }
}

impl Platform for Board {
    type Buffer = Buffer;
    type Place<T: 'static> = Box<T>;

    fn read32(&self, offset: u32) -> u32 {
        self.model.borrow_mut().read32(offset)
    }

    fn write32(&self, offset: u32, value: u32) {
        self.copy_tables();
        self.model.borrow_mut().write32(offset, value);
    }

    fn read64(&self, offset: u32) -> u64 {
        self.model.borrow_mut().read64(offset)
    }

    fn write64(&self, offset: u32, value: u64) {
        self.copy_tables();
        self.model.borrow_mut().write64(offset, value);
    }

    fn alloc(&self, size: usize) -> Option<Buffer> {
        let bytes = u64::try_from(size).ok()?;
        // Memory is never reused, and is zero at the start.
        let pa = self.shared.next.get().checked_next_multiple_of(bytes)?;
        let end = pa.checked_add(bytes).filter(|end| *end <= POOL + POOL_BYTES)?;
        self.shared.next.set(end);
        self.shared.allocated.set(self.shared.allocated.get() + bytes);
        Some(Buffer::new(self.shared.clone(), pa, size))
    }

    fn dsb(&self) {
        self.shared.stores.barrier();
    }

    fn now_us(&self) -> u64 {
        self.shared.clock.set(self.shared.clock.get() + TICK_US);
        self.shared.clock.get()
    }

    fn relax(&self) {
        self.model.borrow_mut().relax();
    }

    fn raise(&self, irq: WiredIrq) {
        self.shared.irqs.borrow_mut().push(irq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_take_over_devices_of_both_smmus_reach_all_memory() {
        for snoop in [Snoop::Coherent, Snoop::NonCoherent] {
            let config = || Config { snoop, ..Config::qemu() };
            let board = Board::new(config());
            let other = board.another(config());
            assert!(board.reaches_anything(8) && other.reaches_any(9, POOL..POOL + POOL_BYTES));
            assert_eq!(board.dma_write(8, RAM, 7), Transfer::Done);
            assert_eq!(other.dma_write(9, RAM + 8, 8), Transfer::Done);
            assert_eq!((other.mem().dev_read64(RAM), board.mem().dev_read64(RAM + 8)), (Ok(7), Ok(8)));
        }
    }
}
