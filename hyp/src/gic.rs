//! GIC access of EL2: only sets an SPI of the host pending.
//!
//! The distributor belongs to the host; setting a pending bit is a single write that disturbs no other interrupt. One
//! of the modules that may use `unsafe`.
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering};
use hyp::boot_info::gic::Spi;

/// `GICD_ISPENDR<n>`: one bit per interrupt, write one to set (Arm IHI 0069, H.b).
const GICD_ISPENDR: u64 = 0x200;
/// `GICD_TYPER` and its LPIS bit.
const GICD_TYPER: u64 = 0x4;
const GICD_TYPER_LPIS: u32 = 1 << 17;
/// Interrupts of GICD_ISPENDR in all.
const INTIDS: u32 = 1020;

static DISTRIBUTOR: AtomicU64 = AtomicU64::new(0);

/// Stores the distributor's physical address `base`, mapped for EL2.
pub fn init(base: u64) {
    DISTRIBUTOR.store(base, Ordering::Relaxed);
}

/// Whether the GIC has LPIs (`GICD_TYPER.LPIS`), whose tables are at addresses chosen by the host.
pub fn has_lpis() -> bool {
    let base = DISTRIBUTOR.load(Ordering::Relaxed);
    if base == 0 {
        return false;
    }
    // SAFETY: (1) the register is in the distributor's page, which EL2 maps as device memory; (2) the read has no side
    // effect.
    unsafe { (base.wrapping_add(GICD_TYPER) as *const u32).read_volatile() & GICD_TYPER_LPIS != 0 }
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
