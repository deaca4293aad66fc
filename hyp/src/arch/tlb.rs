//! TLB maintenance of every CPU.
//!
//! Each function that forgets something only issues; [`complete`] waits, and knows of the errata. One of the modules that may use
//! `unsafe`: instructions whose effect Rust cannot see.

use aarch64_cpu::asm::barrier;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use io_pgtable::Pa;

/// Whether a core that needs TLBI and DSB twice has entered EL2 (`hyp::errata`).
static REPEAT: AtomicBool = AtomicBool::new(false);
/// How often they were repeated.
static REPEATED: AtomicU64 = AtomicU64::new(0);

/// Has every CPU repeat its TLB maintenance from now on: called by a core that needs it, before its stage 2 is on.
pub fn repeat_from_now_on() {
    REPEAT.store(true, Ordering::Relaxed);
    // Orders the store before this core's first walk for the host, so that who does not see it has changed the tables before.
    barrier::dsb(barrier::SY);
}

/// How often [`complete`] repeated TLBI and DSB.
pub fn repeated() -> u64 {
    REPEATED.load(Ordering::Relaxed)
}

/// Forgets EL2's translation of the page at `va`, from before the stores that changed it.
pub fn invalidate_el2_page(va: u64) {
    // Orders the store to the descriptor before the invalidation.
    barrier::dsb(barrier::ISHST);
    // SAFETY: (1) dropping a cached translation only costs a walk.
    unsafe { asm!("tlbi vae2is, {}", in(reg) va >> 12, options(nostack, preserves_flags)) };
}

/// Forgets the host's stage-2 translation of the page at `ipa`, but not yet what stage 1 and 2 combined to.
pub fn invalidate_ipa(ipa: u64) {
    // SAFETY: (1) dropping a cached translation only costs a walk.
    unsafe { asm!("tlbi ipas2e1is, {}", in(reg) ipa >> 12, options(nostack, preserves_flags)) };
}

/// Forgets all combined translations of the host, after the stage-2 ones are gone.
pub fn invalidate_combined() {
    // Orders the end of the stage-2 invalidations before the next, lest a walk combine what is left of them.
    barrier::dsb(barrier::ISH);
    // SAFETY: (1) dropping a cached translation only costs a walk.
    unsafe { asm!("tlbi vmalle1is", options(nostack, preserves_flags)) };
}

/// Forgets every translation of the host, of both stages.
pub fn invalidate_host() {
    // SAFETY: (1) dropping a cached translation only costs a walk.
    unsafe { asm!("tlbi vmalls12e1is", options(nostack, preserves_flags)) };
}

/// Clears a descriptor in the root of the host's stage 2: what lies under it is gone for every CPU of the host when this returns, and stays
/// so as long as no other CPU changes that table. To see to that is the caller's part.
pub fn clear_root_descriptor(descriptor: Pa) {
    // SAFETY: (1) the address is that of a descriptor in the root of the host's table: 8 bytes, aligned, mapped, never freed; (2) whoever else
    // accesses it, EL2's table code on a CPU that has not come to a stop yet included, does so by atomic 64-bit accesses, and finds nothing
    // mapped there.
    unsafe { AtomicU64::from_ptr(descriptor.0 as *mut u64) }.store(0, Ordering::Relaxed);
    super::clean_to_poc(descriptor.0, size_of::<u64>() as u64);
    invalidate_host();
    complete();
}

/// Waits until what was issued is done on every CPU, and every access by a translation that is gone has been observed.
#[inline]
pub fn complete() {
    barrier::dsb(barrier::ISH);
    // After the DSB: see docs/cpu-errata.md for a core that enters meanwhile.
    if REPEAT.load(Ordering::Relaxed) {
        repeat();
    }
    barrier::isb(barrier::SY);
}

/// Any broadcast invalidation and its DSB end what the first ones left under way (Arm's notice 112137); this one names a page that EL2
/// does not map.
#[cold]
fn repeat() {
    // SAFETY: (1) dropping a cached translation only costs a walk.
    unsafe { asm!("tlbi vale2is, xzr", options(nostack, preserves_flags)) };
    barrier::dsb(barrier::ISH);
    REPEATED.fetch_add(1, Ordering::Relaxed);
}
