//! The same partitions linked for bare metal: the entry, registers by address, and memory in a static.
//!
//! It shows how to implement the traits. It is not a hypervisor: it has no exception vectors, no stage 2 for the CPUs
//! and no console. The MMU is off here, so all memory is accessed without caches, and no cache maintenance is needed
//! for an SMMU that does not snoop.
#![allow(unsafe_code)]

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use example_partitions::Partitions;
use io_pgtable::{Ipa, Pa, TableMemory};
use smmu_drv::{Coherency, DmaBuffer, Platform, ProbeConfig, Storage, Unassigned, WiredIrq};

/// Address of the SMMU's registers: take it from the device tree of your board.
const SMMU: usize = 0x905_0000;
/// VMID, page and StreamID of each guest.
const GUESTS: [(u16, u64, u32); 2] = [(1, 0x5000_0000, 8), (2, 0x5000_1000, 9)];
/// Bytes for queues and tables.
const POOL_BYTES: usize = 0x20_0000;

global_asm!(
    ".globl _start",
    "_start:",
    "adrp x0, {stack}",
    "add x0, x0, :lo12:{stack}",
    "add sp, x0, {bytes}",
    "bl {main}",
    "1: wfe",
    "b 1b",
    stack = sym STACK,
    bytes = const STACK_BYTES,
    main = sym start,
);

const STACK_BYTES: usize = 0x1_0000;

/// Memory that is accessed only through pointers.
#[repr(C, align(65536))]
struct Block<const BYTES: usize>(UnsafeCell<[u8; BYTES]>);

// SAFETY: (1) nothing borrows the content: it is accessed by pointers, by the one that was given a part of it.
unsafe impl<const BYTES: usize> Sync for Block<BYTES> {}

static STACK: Block<STACK_BYTES> = Block(UnsafeCell::new([0; STACK_BYTES]));
static POOL: Block<POOL_BYTES> = Block(UnsafeCell::new([0; POOL_BYTES]));
/// Bytes of the pool that are in use.
static USED: AtomicUsize = AtomicUsize::new(0);

/// Memory for the SMMU's lists, and whether it is in use.
struct Lists(UnsafeCell<Storage<Words>>, AtomicBool);

// SAFETY: (1) `storage` returns a reference to the content only once.
unsafe impl Sync for Lists {}

static LISTS: Lists = Lists(UnsafeCell::new(Storage::new()), AtomicBool::new(false));

fn storage() -> Option<&'static mut Storage<Words>> {
    // SAFETY: (1) only the first call executes this, so there is no other reference.
    (!LISTS.1.swap(true, Ordering::Relaxed)).then(|| unsafe { &mut *LISTS.0.get() })
}

/// Allocates zeroed memory from the pool, aligned to its size. It is never freed here.
fn alloc(size: usize) -> Option<usize> {
    let pool = POOL.0.get().addr();
    let take = |used: usize| {
        let start = pool.checked_add(used)?.checked_next_multiple_of(size)?;
        let end = start.checked_add(size)?.checked_sub(pool)?;
        (end <= POOL_BYTES).then_some(end)
    };
    let before = USED.try_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
    pool.checked_add(before)?.checked_next_multiple_of(size)
}

/// The memory for tables.
#[derive(Clone)]
struct Tables;

// SAFETY: (1) blocks of the pool are initialised, mapped one to one, aligned to their size; (2) each is allocated once.
unsafe impl TableMemory for Tables {
    fn alloc(&self, size: usize) -> Option<Pa> {
        alloc(size).map(|at| Pa(at as u64))
    }

    fn free(&self, _table: Pa, _size: usize) {}

    fn ptr(&self, table: Pa) -> NonNull<u64> {
        NonNull::new(table.0 as *mut u64).unwrap_or(NonNull::dangling())
    }

    fn clean(&self, _ptr: NonNull<u64>, _bytes: usize) {}

    fn publish(&self) {
        barrier();
    }
}

fn barrier() {
    // SAFETY: (1) a barrier changes no state.
    unsafe { asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Reads the CPU's counter and its frequency.
fn counter() -> (u64, u64) {
    let (now, hz): (u64, u64);
    // SAFETY: (1) both registers can be read at EL1 and EL2 without an effect.
    unsafe {
        asm!("isb", "mrs {}, cntpct_el0", "mrs {}, cntfrq_el0", out(reg) now, out(reg) hz, options(nomem, nostack));
    }
    (now, hz)
}

/// The SMMU.
struct Mmio;

impl Mmio {
    fn register<T>(offset: u32) -> *mut T {
        (SMMU as *mut T).wrapping_byte_add(offset as usize)
    }
}

impl Platform for Mmio {
    type Buffer = Words;
    type Place<T: 'static> = &'static mut T;

    fn read32(&self, offset: u32) -> u32 {
        // SAFETY: (1) the driver names registers of the SMMU's two pages, which are at this address.
        unsafe { Self::register::<u32>(offset).read_volatile() }
    }

    fn write32(&self, offset: u32, value: u32) {
        // SAFETY: (1) as in `read32`.
        unsafe { Self::register::<u32>(offset).write_volatile(value) };
    }

    fn read64(&self, offset: u32) -> u64 {
        // SAFETY: (1) as in `read32`.
        unsafe { Self::register::<u64>(offset).read_volatile() }
    }

    fn write64(&self, offset: u32, value: u64) {
        // SAFETY: (1) as in `read32`.
        unsafe { Self::register::<u64>(offset).write_volatile(value) };
    }

    fn alloc(&self, size: usize) -> Option<Words> {
        alloc(size).map(|start| Words { start, size })
    }

    fn dsb(&self) {
        barrier();
    }

    fn now_us(&self) -> u64 {
        let (now, hz) = counter();
        u64::try_from(u128::from(now).saturating_mul(1_000_000).checked_div(u128::from(hz)).unwrap_or(0)).unwrap_or(0)
    }

    fn relax(&self) {
        core::hint::spin_loop();
    }

    fn raise(&self, _irq: WiredIrq) {
        // There is no host.
    }
}

/// A block of the pool that the SMMU reads or writes.
struct Words {
    start: usize,
    size: usize,
}

impl Words {
    fn word(&self, offset: usize) -> Option<*mut u64> {
        let fits = offset.is_multiple_of(8) && offset.checked_add(8)? <= self.size;
        fits.then(|| (self.start as *mut u64).wrapping_byte_add(offset))
    }
}

impl DmaBuffer for Words {
    fn pa(&self) -> Pa {
        Pa(self.start as u64)
    }

    fn size(&self) -> usize {
        self.size
    }

    fn read64(&self, offset: usize) -> u64 {
        // SAFETY: (1) the word lies in the block, which this value owns; (2) volatile, since the SMMU writes it.
        self.word(offset).map_or(0, |word| unsafe { word.read_volatile() })
    }

    fn write64(&mut self, offset: usize, value: u64) {
        if let Some(word) = self.word(offset) {
            // SAFETY: (1) the word lies in the block, which this value owns; (2) volatile, since the SMMU reads it.
            unsafe { word.write_volatile(value) };
        }
    }

    fn clean(&self, _offset: usize, _len: usize) {}

    fn invalidate(&self, _offset: usize, _len: usize) {}
}

/// Takes the SMMU over.
#[inline(never)]
fn take_over() -> Option<Partitions<Mmio, Tables>> {
    let config = ProbeConfig { unassigned: Unassigned::Blocked, ..ProbeConfig::new(Coherency::NonCoherent) };
    Partitions::start([(Mmio, config, storage()?)], Tables, 40, 40).ok()
}

/// Takes the SMMU over, and gives each guest its page and its device. After an error no guest is started.
extern "C" fn start() {
    let Some(mut partitions) = take_over() else { return };
    for (vmid, page, sid) in GUESTS {
        let ready = partitions
            .create(vmid)
            .and_then(|()| partitions.map(vmid, Ipa(0x1_0000), Pa(page)))
            .and_then(|()| partitions.give(vmid, 0, sid));
        if ready.is_err() {
            return;
        }
    }
    // Replace this loop by your scheduler, which has to make these calls.
    loop {
        let mut refused = None;
        partitions.faults(|fault| refused = Some((fault.owner, fault.record.sid)));
        if let Some((smmu_drv::StreamOwner::Domain(vmid), sid)) = refused {
            let _ = partitions.revoke(vmid, Ipa(0x1_0000));
            let _ = partitions.destroy(vmid, &[(0, sid)]);
        }
        if partitions.check_alive().is_err() {
            return;
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
