//! The `smmu_drv::Platform` of this machine: registers, queue and table memory, clock, and the host's wired
//! interrupts.
//!
//! One of the modules that may use `unsafe`: it accesses registers and buffers by offset.
#![allow(unsafe_code)]

use crate::pool_buffer::PoolBuffer;
use crate::{arch, gic};
use aarch64_cpu::asm::barrier;
use hyp::boot_info::gic::Spi;
use hyp::boot_info::smmu::SmmuNode;
use smmu_drv::platform::{Platform, WiredIrq};

/// Bytes of the two register pages.
pub const REGISTERS: u64 = 0x2_0000;

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
    type Place<T: 'static> = &'static mut T;

    fn read32(&self, offset: u32) -> u32 {
        // SAFETY: (1) the address is a register of this SMMU, mapped as device memory only for EL2.
        self.register(offset, 4).map_or(0, |pa| unsafe { (pa as *const u32).read_volatile() })
    }

    fn write32(&self, offset: u32, value: u32) {
        if let Some(pa) = self.register(offset, 4) {
            // SAFETY: (1) the address is a register of this SMMU, mapped as device memory only for EL2.
            unsafe { (pa as *mut u32).write_volatile(value) };
        }
    }

    fn read64(&self, offset: u32) -> u64 {
        // SAFETY: (1) the address is a register of this SMMU, mapped as device memory only for EL2.
        self.register(offset, 8).map_or(0, |pa| unsafe { (pa as *const u64).read_volatile() })
    }

    fn write64(&self, offset: u32, value: u64) {
        if let Some(pa) = self.register(offset, 8) {
            // SAFETY: (1) the address is a register of this SMMU, mapped as device memory only for EL2.
            unsafe { (pa as *mut u64).write_volatile(value) };
        }
    }

    fn alloc(&self, size: usize) -> Option<PoolBuffer> {
        PoolBuffer::alloc(size)
    }

    fn dsb(&self) {
        barrier::dsb(barrier::SY);
    }

    fn now_us(&self) -> u64 {
        arch::now_us()
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
