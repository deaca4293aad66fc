//! The interrupt controller. The distributor belongs to the host. EL2 uses it only to set an SPI pending: a single
//! write that affects no other interrupt. EL2 owns ITSs and redistributors ([`guard`]).
//!
//! One of the modules that may use `unsafe`.
#![allow(unsafe_code)]

pub mod frames;
pub mod guard;
mod platform;

pub use platform::read_typer;

use core::sync::atomic::{AtomicU64, Ordering};
use hyp::boot_info::gic::Spi;

/// `GICD_ISPENDR<n>`: one bit per interrupt, write one to set (Arm IHI 0069, H.b).
const GICD_ISPENDR: u64 = 0x200;
/// `GICD_TYPER`.
const GICD_TYPER: u64 = 0x4;
/// Number of interrupts in GICD_ISPENDR.
const INTIDS: u32 = 1020;

static DISTRIBUTOR: AtomicU64 = AtomicU64::new(0);

/// Stores the distributor's physical address `base`, mapped for EL2.
pub fn init(base: u64) {
    DISTRIBUTOR.store(base, Ordering::Relaxed);
}

/// `GICD_TYPER`; zero before [`init`].
pub fn typer() -> u32 {
    let base = DISTRIBUTOR.load(Ordering::Relaxed);
    if base == 0 {
        return 0;
    }
    // SAFETY: (1) the register is in the distributor's page, which EL2 maps as device memory; (2) the read has no side
    // effect.
    unsafe { (base.wrapping_add(GICD_TYPER) as *const u32).read_volatile() }
}

/// Makes `spi` pending, as a rising edge on its line would.
pub fn set_pending(spi: Spi) {
    let base = DISTRIBUTOR.load(Ordering::Relaxed);
    if base == 0 || spi.intid >= INTIDS {
        return;
    }
    let register = base.wrapping_add(GICD_ISPENDR).wrapping_add(u64::from(spi.intid / 32).wrapping_mul(4));
    // SAFETY: (1) the register is in the distributor's page, which EL2 maps as device memory; (2) the write only sets
    // one pending bit.
    unsafe { (register as *mut u32).write_volatile(1 << (spi.intid % 32)) };
}
