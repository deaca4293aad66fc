//! TLB maintenance of every CPU.
//!
//! The invalidate functions only issue instructions; [`complete`] waits, and applies the erratum workaround. One of
//! the modules that may use `unsafe`: instructions with effects that the compiler does not know.

use aarch64_cpu::asm::barrier;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use io_pgtable::Pa;

/// Whether a core that needs TLBI and DSB twice has entered EL2 (`hyp::errata`).
static REPEAT: AtomicBool = AtomicBool::new(false);
/// Number of repetitions of TLBI and DSB.
static REPEATED: AtomicU64 = AtomicU64::new(0);

/// Makes every CPU repeat its TLB maintenance. Called by a core with the erratum, before its stage 2 is enabled.
pub fn repeat_from_now_on() {
    REPEAT.store(true, Ordering::Relaxed);
    // Orders the store before this core's first walk for the host: a CPU that does not see the store has changed its tables before that walk.
    barrier::dsb(barrier::SY);
}

/// Number of times that [`complete`] repeated TLBI and DSB.
pub fn repeated() -> u64 {
    REPEATED.load(Ordering::Relaxed)
}

/// Invalidates EL2's translation of the page at `va`, after the stores that changed it.
pub fn invalidate_el2_page(va: u64) {
    // Orders the store to the descriptor before the invalidation.
    barrier::dsb(barrier::ISHST);
    // SAFETY: (1) dropping a cached translation only costs a walk.
    unsafe { asm!("tlbi vae2is, {}", in(reg) va >> 12, options(nostack, preserves_flags)) };
}

/// Invalidates the host's stage-2 translation of the page at `ipa`, but not combined entries.
pub fn invalidate_ipa(ipa: u64) {
    // SAFETY: (1) dropping a cached translation only costs a walk.
    unsafe { asm!("tlbi ipas2e1is, {}", in(reg) ipa >> 12, options(nostack, preserves_flags)) };
}

/// Invalidates all combined entries of the host, after the stage-2 ones.
pub fn invalidate_combined() {
    // Completes the stage-2 invalidations before the next one: a walk could still combine a stale stage-2 entry.
    barrier::dsb(barrier::ISH);
    // SAFETY: (1) dropping a cached translation only costs a walk.
    unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) };
}

/// Invalidates every translation of the host, of both stages.
pub fn invalidate_host() {
    // SAFETY: (1) dropping a cached translation only costs a walk.
    unsafe { asm!("tlbi vmalls12e1is", options(nostack, preserves_flags)) };
}

/// Clears a descriptor in the root of the host's stage 2 and invalidates: when this returns, no address that it covers
/// is mapped for any CPU of the host. The caller ensures that no other CPU changes that table afterwards.
pub fn clear_root_descriptor(descriptor: Pa) {
    // SAFETY: (1) the address is that of a descriptor in the root of the host's table: 8 bytes, aligned, mapped, never freed; (2) all other
    // accesses, also those of EL2's table code on a CPU that is not parked yet, are atomic 64-bit accesses, and they find an invalid
    // descriptor.
    unsafe { AtomicU64::from_ptr(descriptor.0 as *mut u64) }.store(0, Ordering::Relaxed);
    super::clean_to_poc(descriptor.0, size_of::<u64>() as u64);
    invalidate_host();
    complete();
}

/// Waits until the issued invalidations are complete on every CPU, including every access that used an invalidated
/// translation.
#[inline]
pub fn complete() {
    barrier::dsb(barrier::ISH);
    // After the DSB: see docs/cpu-errata.md for a core that enters EL2 during this.
    if REPEAT.load(Ordering::Relaxed) {
        repeat();
    }
    barrier::isb(barrier::SY);
}

/// Any broadcast invalidation and its DSB complete the accesses that the first ones did not wait for (Arm's notice
/// 112137); this one is of a page that EL2 does not map.
#[cold]
fn repeat() {
    // SAFETY: (1) dropping a cached translation only costs a walk.
    unsafe { asm!("tlbi vale2is, xzr", options(nostack, preserves_flags)) };
    barrier::dsb(barrier::ISH);
    REPEATED.fetch_add(1, Ordering::Relaxed);
}
