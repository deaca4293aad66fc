//! The `gic_guard::Platform` of this machine: registers of ITSs and redistributors, memory, clock.
//!
//! One of the modules that may use `unsafe`: it turns register offsets into accesses.
#![allow(unsafe_code)]

use super::frames;
use crate::arch;
use crate::pool_buffer::PoolBuffer;
use aarch64_cpu::asm::barrier;
use gic_guard::{Frame, Platform};
use hyp::gic_frames::FRAME;
use io_pgtable::Pa;

/// The platform of the machine's GIC.
pub struct GicPlatform;

impl GicPlatform {
    /// Address of the register at `offset`: in the first 64 KiB of an ITS, or in any frame of a redistributor. The
    /// offset is checked against the access size.
    fn register(frame: Frame, offset: u32, size: u64) -> Option<u64> {
        let offset = u64::from(offset);
        let range = frames::range_of(frame)?;
        let end = match frame {
            Frame::Its(_) => FRAME,
            Frame::Rd(_) => range.size(),
        };
        let fits = offset.is_multiple_of(size) && offset.checked_add(size)? <= end;
        fits.then(|| range.base().0.wrapping_add(offset))
    }
}

/// GICR_TYPER of the RD frame at `base`, at boot.
///
/// # Safety
/// `register` is the GICR_TYPER of a redistributor, mapped as device memory.
pub unsafe fn read_typer(register: Pa) -> u64 {
    // SAFETY: (1) by the caller's contract this is a register, mapped as device memory; (2) the read has no side
    // effect.
    unsafe { (register.0 as *const u64).read_volatile() }
}

impl Platform for GicPlatform {
    type Buffer = PoolBuffer;

    fn read32(&self, frame: Frame, offset: u32) -> u32 {
        // SAFETY: (1) the address is a register of the GIC, mapped as device memory for EL2 alone.
        Self::register(frame, offset, 4).map_or(0, |pa| unsafe { (pa as *const u32).read_volatile() })
    }

    fn write32(&self, frame: Frame, offset: u32, value: u32) {
        if let Some(pa) = Self::register(frame, offset, 4) {
            // SAFETY: (1) the address is a register of the GIC, mapped as device memory for EL2 alone.
            unsafe { (pa as *mut u32).write_volatile(value) };
        }
    }

    fn read64(&self, frame: Frame, offset: u32) -> u64 {
        // SAFETY: (1) the address is a register of the GIC, mapped as device memory for EL2 alone.
        Self::register(frame, offset, 8).map_or(0, |pa| unsafe { (pa as *const u64).read_volatile() })
    }

    fn write64(&self, frame: Frame, offset: u32, value: u64) {
        if let Some(pa) = Self::register(frame, offset, 8) {
            // SAFETY: (1) the address is a register of the GIC, mapped as device memory for EL2 alone.
            unsafe { (pa as *mut u64).write_volatile(value) };
        }
    }

    fn snoops(&self) -> bool {
        frames::snoops()
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
}
