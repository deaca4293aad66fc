//! The `smmu_drv::Platform` of this machine: registers, queue and table memory, clock, and the host's wired
//! interrupts.
//!
//! One of the modules that may use `unsafe`: it turns register offsets and buffer offsets into accesses.
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]
#![allow(unsafe_code)]

use crate::{arch, gic, pool};
use aarch64_cpu::asm::barrier;
use hyp::boot_info::gic::Spi;
use hyp::boot_info::smmu::SmmuNode;
use io_pgtable::Pa;
use smmu_drv::platform::{DmaBuffer, Platform, WiredIrq};

/// Bytes of the two register pages.
pub const REGISTERS: u64 = 0x2_0000;
const US_PER_S: u64 = 1_000_000;

/// The platform of one SMMU.
pub struct SmmuPlatform {
    base: u64,
    eventq: Option<Spi>,
    gerror: Option<Spi>,
    cmdq_sync: Option<Spi>,
}

impl SmmuPlatform {
    /// The SMMU of a device-tree node, whose registers EL2 maps and the host does not.
    pub fn new(node: &SmmuNode) -> Self {
        let wired = &node.interrupts;
        Self {
            base: node.range.base().0,
            eventq: wired.eventq.or(wired.combined),
            gerror: wired.gerror.or(wired.combined),
            cmdq_sync: wired.cmdq_sync.or(wired.combined),
        }
    }

    /// Address of the register at `offset`, checked against the two pages and the access size.
    fn register(&self, offset: u32, size: u64) -> Option<u64> {
        let offset = u64::from(offset);
        (offset.is_multiple_of(size) && offset.saturating_add(size) <= REGISTERS)
            .then(|| self.base.wrapping_add(offset))
    }
}

impl Platform for SmmuPlatform {
    type Buffer = PoolBuffer;

    fn read32(&self, offset: u32) -> u32 {
        // SAFETY: (1) the address is a register of this SMMU, mapped as device memory for EL2 alone.
        self.register(offset, 4).map_or(0, |pa| unsafe { (pa as *const u32).read_volatile() })
    }

    fn write32(&self, offset: u32, value: u32) {
        if let Some(pa) = self.register(offset, 4) {
            // SAFETY: (1) the address is a register of this SMMU, mapped as device memory for EL2 alone.
            unsafe { (pa as *mut u32).write_volatile(value) };
        }
    }

    fn read64(&self, offset: u32) -> u64 {
        // SAFETY: (1) the address is a register of this SMMU, mapped as device memory for EL2 alone.
        self.register(offset, 8).map_or(0, |pa| unsafe { (pa as *const u64).read_volatile() })
    }

    fn write64(&self, offset: u32, value: u64) {
        if let Some(pa) = self.register(offset, 8) {
            // SAFETY: (1) the address is a register of this SMMU, mapped as device memory for EL2 alone.
            unsafe { (pa as *mut u64).write_volatile(value) };
        }
    }

    fn alloc(&self, size: usize) -> Option<PoolBuffer> {
        let pa = pool::alloc(size)?;
        // Clean the zeroes to memory now, so that no dirty line is written back later over data of the SMMU.
        arch::clean_and_invalidate(pa.0, size as u64);
        Some(PoolBuffer { pa, size })
    }

    fn dsb(&self) {
        barrier::dsb(barrier::SY);
    }

    fn now_us(&self) -> u64 {
        let hz = arch::counter_hz();
        let ticks = arch::counter();
        // Split to avoid an overflow.
        let (seconds, rest) = (ticks.checked_div(hz).unwrap_or(0), ticks.checked_rem(hz).unwrap_or(0));
        let rest = rest.wrapping_mul(US_PER_S).checked_div(hz).unwrap_or(0);
        seconds.wrapping_mul(US_PER_S).wrapping_add(rest)
    }

    fn relax(&self) {
        core::hint::spin_loop();
    }

    fn raise(&self, irq: WiredIrq) {
        let spi = match irq {
            WiredIrq::Eventq => self.eventq,
            WiredIrq::Gerror => self.gerror,
            WiredIrq::CmdqSync => self.cmdq_sync,
        };
        if let Some(spi) = spi {
            gic::set_pending(spi);
        }
    }
}

/// A block of the pool that an SMMU reads or writes; freed when dropped.
pub struct PoolBuffer {
    pa: Pa,
    size: usize,
}

impl PoolBuffer {
    fn word(&self, offset: usize) -> Option<*mut u64> {
        let fits = offset.is_multiple_of(8) && offset.checked_add(8)? <= self.size;
        fits.then(|| (self.pa.0 as *mut u64).wrapping_byte_add(offset))
    }
}

impl PoolBuffer {
    /// Address and length of `len` bytes at `offset`, cut to the block.
    fn part(&self, offset: usize, len: usize) -> Option<(u64, u64)> {
        let len = len.min(self.size.checked_sub(offset)?);
        Some((self.pa.0.checked_add(offset as u64)?, len as u64))
    }
}

impl DmaBuffer for PoolBuffer {
    fn pa(&self) -> Pa {
        self.pa
    }

    fn size(&self) -> usize {
        self.size
    }

    fn read64(&self, offset: usize) -> u64 {
        // SAFETY: (1) the word lies in the block, which this value owns; (2) volatile, since the SMMU may write it.
        self.word(offset).map_or(0, |word| unsafe { word.read_volatile() })
    }

    fn write64(&mut self, offset: usize, value: u64) {
        if let Some(word) = self.word(offset) {
            // SAFETY: (1) the word lies in the block, which this value owns; (2) volatile, since the SMMU reads it.
            unsafe { word.write_volatile(value) };
        }
    }

    fn clean(&self, offset: usize, len: usize) {
        if let Some((start, len)) = self.part(offset, len) {
            arch::clean_to_poc(start, len);
        }
    }

    fn invalidate(&self, offset: usize, len: usize) {
        // The CPU never writes what the SMMU writes, so clean-and-invalidate is safe at line boundaries.
        if let Some((start, len)) = self.part(offset, len) {
            arch::clean_and_invalidate(start, len);
        }
    }
}

impl Drop for PoolBuffer {
    fn drop(&mut self) {
        // SAFETY: (1) the block came from the pool with this size; (2) the driver drops a buffer only after its
        // invalidation in the SMMU is complete.
        unsafe { pool::free(self.pa, self.size) };
    }
}
