//! The payload's own stage 1: an identity map with caches on, in 1 GiB blocks.
//!
//! RAM is normal write-back memory, all other addresses are device memory. 48-bit input addresses, two level-1 tables:
//! 0..512 GiB and 512..1024 GiB.
#![allow(unsafe_code)]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::machine::Machine;
use crate::mem::alloc;
use crate::mmio;
use crate::num::u64_of;
use crate::sysreg;

const GIB: u64 = 1 << 30;
const VALID_TABLE: u64 = 0b11;
const VALID_BLOCK: u64 = 0b01;
const AF: u64 = 1 << 10;
const SH_INNER: u64 = 3 << 8;
const UXN: u64 = 1 << 54;
const PXN: u64 = 1 << 53;
/// Index 0: device-nGnRE; index 1: normal write-back; index 2: normal non-cacheable.
const MAIR: u64 = 0x0044_ff04;
const ATTR_NORMAL: u64 = 1 << 2;

static ROOT: AtomicU64 = AtomicU64::new(0);

/// Builds the tables and enables the boot CPU's MMU. Needs the allocator.
pub fn init(machine: &Machine) {
    let root = alloc(4096, 4096);
    for half in 0..2_u64 {
        let table = alloc(4096, 4096);
        mmio::write64(root + half * 8, table | VALID_TABLE);
        for index in 0..512_u64 {
            let base = (half * 512 + index) * GIB;
            let ram = machine.ram().any(|range| range.start < base + GIB && base < range.end);
            let attributes = if ram { ATTR_NORMAL | SH_INNER } else { PXN | UXN };
            mmio::write64(table + index * 8, base | attributes | AF | VALID_BLOCK);
        }
    }
    ROOT.store(root, Ordering::SeqCst);
    enable();
}

/// Enables this CPU's MMU and caches, with the tables of [`init`].
pub fn enable() {
    let root = ROOT.load(Ordering::SeqCst);
    // T0SZ=16, inner shareable write-back walks, 4K granule, TTBR1 walks off, IPS as the hardware's PARange (at most
    // 48 bits).
    let ips = (sysreg::id_aa64mmfr0() & 0xf).min(5);
    let tcr = 16 | (1 << 8) | (1 << 10) | (3 << 12) | (1 << 23) | (2 << 30) | (ips << 32);
    let sctlr = sysreg::sctlr_el1() | 1 | (1 << 2) | (1 << 12);
    // SAFETY: (1) the tables map the image, the stacks and all RAM one to one, so execution continues at the same address;
    // (2) stale entries are invalidated before the MMU is on.
    unsafe {
        asm!(
            "dsb sy",
            "msr mair_el1, {mair}",
            "msr tcr_el1, {tcr}",
            "msr ttbr0_el1, {root}",
            "isb",
            "tlbi vmalle1",
            "dsb nsh",
            "isb",
            "msr sctlr_el1, {sctlr}",
            "isb",
            mair = in(reg) MAIR, tcr = in(reg) tcr, root = in(reg) root, sctlr = in(reg) sctlr,
            options(nostack),
        );
    }
}

/// Runs `body` with `root` as the table of the upper half of the address space (TTBR1_EL1), which the payload does not
/// use. Disables TTBR1 walks again.
pub fn with_ttbr1(root: u64, body: impl FnOnce()) {
    let tcr: u64;
    // SAFETY: (1) only TTBR1's half of the address space changes, which the payload does not use; (2) it is disabled
    // again below.
    unsafe {
        asm!(
            "mrs {tcr}, tcr_el1",
            "bic {t}, {tcr}, #(1 << 23)",
            "orr {t}, {t}, #(16 << 16)",
            "orr {t}, {t}, {tg1}",
            "msr ttbr1_el1, {root}",
            "msr tcr_el1, {t}",
            "isb",
            "tlbi vmalle1",
            "dsb nsh",
            "isb",
            tcr = out(reg) tcr, t = out(reg) _, root = in(reg) root, tg1 = in(reg) 2_u64 << 30,
            options(nostack),
        );
    }
    body();
    // SAFETY: (1) restores the value that was read above.
    unsafe {
        asm!("msr tcr_el1, {tcr}", "isb", "tlbi vmalle1", "dsb nsh", "isb", tcr = in(reg) tcr, options(nostack));
    }
}

/// First address that TTBR1 translates with the setting of [`with_ttbr1`].
pub const TTBR1_BASE: u64 = 0xffff_0000_0000_0000;

/// Calls the code at `addr` under `catch`, when the fetch must abort.
pub fn execute(addr: u64) {
    // SAFETY: (1) called only under `catch`: the fetch aborts, and control returns through the link register; (2) all
    // registers that a callee may change are declared.
    unsafe { asm!("blr {a}", a = in(reg) addr, clobber_abi("C"), options(nostack)) };
}

/// Cleans and invalidates by address to the point of coherency.
pub fn cache_clean_invalidate(addr: u64) {
    // SAFETY: (1) cache maintenance by address keeps memory's contents; an abort is caught by the caller.
    unsafe { asm!("dc civac, {a}", "dsb sy", a = in(reg) addr, options(nostack, preserves_flags)) };
}

/// Size in bytes of `count` pages.
pub fn pages(count: usize) -> u64 {
    u64_of(count) * 4096
}
