//! CPU access: assembly, barriers, cache and TLB maintenance, system registers that are not in the register crate.
//!
//! One of the modules that may use `unsafe`: each function contains one instruction sequence with effects that the
//! compiler does not know.
#![allow(unsafe_code)]

#[allow(clippy::arithmetic_side_effects)]
pub mod boot_table;
pub mod features;
#[allow(clippy::arithmetic_side_effects)] // `+` combines fields of registers there.
pub mod setup;
pub mod tlb;
pub mod uefi;

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, Readable};
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};
use hyp::cpu::withheld::Withheld;
use hyp::esr;
use io_pgtable::Pa;

global_asm!(
    ".equ HAND_OVER_ENTRY, {entry}",
    ".equ HAND_OVER_VERSION, {version}",
    entry = const hand_over::ENTRY_OFFSET,
    version = const hand_over::VERSION,
);
global_asm!(include_str!("head.S"));
global_asm!(include_str!("vectors.S"));
global_asm!(include_str!("uefi.S"));

unsafe extern "C" {
    fn leave(failed: u64, hvc: u64) -> !;
    fn enter_host(context: u64, entry: u64, spsr: u64, stack_top: u64) -> !;
    fn switch_tables(mair: u64, tcr: u64, ttbr: u64, sctlr: u64);
    fn secondary_entry();
    static el2_vectors: u8;
    static __image_start: u8;
    static __text_end: u8;
    static text_size: u64;
    static __rodata_end: u8;
    static __data_end: u8;
    static __boot_stack_guard: u8;
    static __stacks_start: u8;
    static __stacks_end: u8;
    static __image_end: u8;
}

/// Maximum CPUs (one stack each); `MAX_CPUS` of link.ld.
pub const MAX_CPUS: usize = 16;
/// Translation granule of every table of EL2, in bytes.
pub const PAGE: u64 = 4096;

macro_rules! symbol {
    ($name:ident) => {
        // Taking the address of a linker symbol reads nothing.
        (&raw const $name).addr() as u64
    };
}

/// The ends of the image's sections, in ascending order; each is a page boundary.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// First byte of code.
    pub start: u64,
    /// End of code.
    pub text_end: u64,
    /// End of constants.
    pub rodata_end: u64,
    /// First guard page: below it are initialised data, zeroed data and the boot table.
    pub boot_stack_guard: u64,
    /// Bottom of the per-CPU stacks, which is the top of the boot stack.
    pub stacks_start: u64,
    /// End of the per-CPU stacks.
    pub stacks_end: u64,
    /// Guard page plus stack of one CPU, in bytes.
    pub stack_stride: u64,
    /// End of the image in memory.
    pub end: u64,
}

/// The section addresses of the image.
pub fn image() -> Image {
    Image {
        start: symbol!(__image_start),
        text_end: symbol!(__text_end),
        rodata_end: symbol!(__rodata_end),
        boot_stack_guard: symbol!(__boot_stack_guard),
        stacks_start: symbol!(__stacks_start),
        stacks_end: symbol!(__stacks_end),
        stack_stride: symbol!(__stacks_end)
            .wrapping_sub(symbol!(__stacks_start))
            .checked_div(MAX_CPUS as u64)
            .unwrap_or(0),
        end: symbol!(__image_end),
    }
}

/// Top of the stack of CPU `index`.
pub fn stack_top(index: usize) -> u64 {
    let image = image();
    // Every index has a stack, so this does not saturate.
    image.stacks_start.saturating_add((index as u64).saturating_add(1).saturating_mul(image.stack_stride))
}

/// Address of the exception vectors.
pub fn vectors() -> u64 {
    symbol!(el2_vectors)
}

/// Address at which a CPU that firmware started enters EL2.
pub fn secondary_entry_pa() -> u64 {
    secondary_entry as *const () as u64
}

/// The instruction that calls PSCI firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// Secure monitor call.
    Smc,
    /// Hypervisor call: the machine was started below EL2.
    Hvc,
}

/// Ends the run: after success with PSCI SYSTEM_OFF, after a failure with an error status by semihosting, or with PSCI
/// if semihosting is not available.
pub fn end_run(failed: Failed, conduit: Conduit) -> ! {
    // SAFETY: (1) `leave` never returns and accesses only constants; (2) it runs at any exception level with
    // any MMU state.
    unsafe { leave(u64::from(failed == Failed::Yes), u64::from(conduit == Conduit::Hvc)) }
}

/// Whether a run ends in failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It ends in failure.
    Yes,
    /// Normal end, requested by the host.
    No,
}

/// Leaves EL2 for the host's EL1 with X0 = `context`; the stack of CPU `cpu` is reset.
pub fn start_host(cpu: usize, context: u64, entry: u64, spsr: u64) -> ! {
    // SAFETY: (1) only this CPU uses the stack; (2) the caller has set up every EL2 control, so EL1 runs under
    // stage 2.
    unsafe { enter_host(context, entry, spsr, stack_top(cpu)) }
}

/// The registers that enable EL2's stage 1; secondary CPUs load them with their MMU off.
#[repr(C)]
pub struct StageOneRegs {
    /// `MAIR_EL2`.
    pub mair: u64,
    /// `TCR_EL2`.
    pub tcr: u64,
    /// `TTBR0_EL2`.
    pub ttbr: u64,
    /// `SCTLR_EL2`.
    pub sctlr: u64,
}

#[unsafe(no_mangle)]
static mut SECONDARY_REGS: StageOneRegs = StageOneRegs { mair: 0, tcr: 0, ttbr: 0, sctlr: 0 };

/// Switches this CPU to the stage 1 in `regs` and saves it for CPUs that start later.
///
/// # Safety
/// The table must identity map the image with the permissions of its sections, and all memory that is referenced.
pub unsafe fn switch_stage1(regs: StageOneRegs) {
    // SAFETY: (1) called once, by the boot CPU, before another CPU runs, so there is no other access to the static;
    // (2) the table is valid by the caller's contract.
    unsafe {
        let slot = &raw mut SECONDARY_REGS;
        switch_tables(regs.mair, regs.tcr, regs.ttbr, regs.sctlr);
        *slot = regs;
        clean_to_poc(slot as u64, size_of::<StageOneRegs>() as u64);
    }
}

/// Calls firmware with the SMC instruction and returns X0 to X3.
#[cfg(target_arch = "aarch64")]
pub fn smc(args: [u64; 4]) -> [u64; 4] {
    let [mut x0, mut x1, mut x2, mut x3] = args;
    // SAFETY: (1) SMCCC preserves x18 and higher, and all registers that may change are declared; (2) the callers pass
    // only allow-listed functions.
    unsafe {
        asm!("smc #0", inout("x0") x0, inout("x1") x1, inout("x2") x2, inout("x3") x3,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _, out("x11") _,
            out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _);
    }
    [x0, x1, x2, x3]
}

/// For checks of these sources on another architecture, which lacks these registers. Never called.
#[cfg(not(target_arch = "aarch64"))]
pub fn smc(args: [u64; 4]) -> [u64; 4] {
    args
}

/// Bytes of the smallest data cache line of this system.
fn dcache_line() -> u64 {
    let ctr: u64;
    // SAFETY: (1) reading CTR_EL0 has no side effect.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    4 << ((ctr >> 16) & 0xf)
}

macro_rules! by_line {
    ($name:ident, $instruction:literal, $doc:literal) => {
        #[doc = $doc]
        pub fn $name(start: u64, len: u64) {
            let line = dcache_line();
            let mut va = start & line.wrapping_neg();
            while va < start.saturating_add(len) {
                // SAFETY: (1) maintenance by address changes no value that this CPU could observe through cacheable
                // mappings; (2) the range is memory that EL2 maps.
                unsafe { asm!(concat!($instruction, ", {}"), in(reg) va, options(nostack, preserves_flags)) };
                va = va.saturating_add(line);
            }
            barrier::dsb(barrier::SY);
        }
    };
}
by_line!(clean_to_poc, "dc cvac", "Cleans `len` bytes at `start` to the point of coherency.");
by_line!(clean_and_invalidate, "dc civac", "Cleans and invalidates `len` bytes at `start` to the point of coherency.");

/// Zeroes the page at `page`, which EL2 maps, and cleans and invalidates it to the point of coherency.
///
/// # Safety
/// The page is mapped writable for EL2 and not used elsewhere.
pub unsafe fn zero_page(page: Pa) {
    // SAFETY: (1) the caller owns the page; (2) its address is a multiple of its size.
    unsafe { core::ptr::write_bytes(page.0 as *mut u64, 0, 512) };
    clean_and_invalidate(page.0, PAGE);
}

macro_rules! host_register {
    ($($(#[doc = $doc:literal])? $name:ident = $reg:literal;)*) => {$(
        $(#[doc = $doc])?
        pub fn $name() -> u64 {
            let value: u64;
            // SAFETY: (1) the caller checked for the feature of this register; (2) the read has no side effect.
            unsafe { asm!(concat!("mrs {}, ", $reg), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }
    )*};
}
host_register! {
    /// The host's `SCTLR2_EL1`. Only with FEAT_SCTLR2.
    sctlr2_el1 = "s3_0_c1_c0_3";
    /// The host's `GCSCR_EL1`. Only with FEAT_GCS.
    gcscr_el1 = "s3_0_c2_c5_0";
}

/// The register whose access caused an exception at EL2, if `esr` and `elr` describe such an access and EL3 can trap
/// it.
pub fn withheld(esr: u64, elr: u64) -> Option<&'static Withheld> {
    // Computed from end and size: the start symbol is `_head`, and taking its address would count as a function
    // pointer in the panic check.
    let text_end = symbol!(__text_end);
    // SAFETY: (1) a constant of head.S, which nothing writes.
    let text = text_end.wrapping_sub(unsafe { text_size })..text_end;
    if esr::class(esr) != 0 || !elr.is_multiple_of(4) || !text.contains(&elr) {
        return None;
    }
    // SAFETY: (1) the address is a multiple of four inside EL2's code, which is mapped to itself and readable with the
    // MMU on and off; (2) code is never written.
    Withheld::of(unsafe { (elr as *const u32).read_volatile() })
}

/// Ticks of the physical counter, read in program order.
pub fn counter() -> u64 {
    let count: u64;
    // SAFETY: (1) reading the counter has no side effect; the barrier keeps it in program order.
    unsafe { asm!("isb", "mrs {}, cntpct_el0", out(reg) count, options(nostack, preserves_flags)) };
    count
}

/// Monotonic time in microseconds.
pub fn now_us() -> u64 {
    const US_PER_S: u64 = 1_000_000;
    let hz = counter_hz();
    let ticks = counter();
    // Split to avoid an overflow.
    let (seconds, rest) = (ticks.checked_div(hz).unwrap_or(0), ticks.checked_rem(hz).unwrap_or(0));
    let rest = rest.wrapping_mul(US_PER_S).checked_div(hz).unwrap_or(0);
    seconds.wrapping_mul(US_PER_S).wrapping_add(rest)
}

/// Ticks of the counter per second, from the boot CPU; 0 before [`keep_counter_hz`].
static COUNTER_HZ: AtomicU64 = AtomicU64::new(0);

/// Stores CNTFRQ_EL0 of this CPU for all CPUs. They share the counter, but firmware may leave the register zero on a
/// CPU that it starts later; then no wait on that CPU would end.
pub fn keep_counter_hz() {
    COUNTER_HZ.store(CNTFRQ_EL0.get(), Ordering::Relaxed);
}

/// Ticks of the [`counter`] per second.
pub fn counter_hz() -> u64 {
    match COUNTER_HZ.load(Ordering::Relaxed) {
        0 => CNTFRQ_EL0.get(),
        hz => hz,
    }
}

/// The [`counter`] in `ms` milliseconds.
pub fn deadline_ms(ms: u64) -> u64 {
    counter().saturating_add((counter_hz() / 1000).saturating_mul(ms))
}
