//! Minimal GIC support for sleeping: the virtual timer's PPI becomes pending at the boot CPU, which ends WFI. It stays
//! masked and is acknowledged only in [`interrupted`].
#![allow(unsafe_code)]

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::machine::Machine;
use crate::mmio;
use crate::sysreg;

const GICD_CTLR: u64 = 0x0;
/// ARE and group 1 of the non-secure view.
const GICD_CTLR_ENABLE: u32 = 1 << 4 | 1 << 1;
const GICR_WAKER: u64 = 0x14;
const GICR_WAKER_SLEEP: u32 = 1 << 1;
const GICR_WAKER_ASLEEP: u32 = 1 << 2;
const GICR_IGROUPR0: u64 = 0x1_0080;
const GICR_ISENABLER0: u64 = 0x1_0100;
/// The EL1 virtual timer.
const PPI_VIRTUAL_TIMER: u32 = 27;

static READY: AtomicBool = AtomicBool::new(false);

/// Lets the boot CPU's virtual timer end a WFI.
pub fn init(machine: &Machine) {
    if machine.gicd == 0 || machine.gicr == 0 {
        return;
    }
    let (gicd, gicr) = (machine.gicd, machine.gicr);
    mmio::write32(gicd + GICD_CTLR, mmio::read32(gicd + GICD_CTLR) | GICD_CTLR_ENABLE);
    mmio::write32(gicr + GICR_WAKER, mmio::read32(gicr + GICR_WAKER) & !GICR_WAKER_SLEEP);
    if !sysreg::poll_us(100_000, || mmio::read32(gicr + GICR_WAKER) & GICR_WAKER_ASLEEP == 0) {
        return;
    }
    mmio::write32(gicr + GICR_IGROUPR0, mmio::read32(gicr + GICR_IGROUPR0) | 1 << PPI_VIRTUAL_TIMER);
    mmio::write32(gicr + GICR_ISENABLER0, 1 << PPI_VIRTUAL_TIMER);
    // SAFETY: (1) only this CPU's interface is set up; (2) interrupts stay masked in PSTATE, so none is ever taken.
    unsafe {
        asm!(
            "msr S3_0_C12_C12_5, {one}", // ICC_SRE_EL1
            "isb",
            "msr S3_0_C4_C6_0, {mask}", // ICC_PMR_EL1
            "msr S3_0_C12_C12_7, {one}", // ICC_IGRPEN1_EL1
            "isb",
            one = in(reg) 1_u64, mask = in(reg) 0xff_u64, options(nostack),
        );
    }
    READY.store(true, Ordering::SeqCst);
}

/// Makes the virtual timer's interrupt pending at `deadline`. Returns whether the GIC is set up.
pub fn arm(deadline: u64) -> bool {
    if !READY.load(Ordering::SeqCst) || sysreg::cpu_index() != 0 {
        return false;
    }
    // SAFETY: (1) the virtual timer belongs to this CPU and has no other use.
    unsafe {
        asm!(
            "msr cntv_cval_el0, {deadline}",
            "msr cntv_ctl_el0, {on}",
            "isb",
            deadline = in(reg) deadline, on = in(reg) 1_u64, options(nostack),
        );
    }
    true
}

/// Switches the virtual timer off.
pub fn disarm() {
    // SAFETY: (1) as in [`arm`].
    unsafe { asm!("msr cntv_ctl_el0, xzr", "isb", options(nostack)) };
}

/// Counter when the timer's interrupt was taken; 0 before.
static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Runs `body` with interrupts enabled and a timer that fires at `deadline`. Returns the time at which its interrupt
/// was taken, if that was within a second after `body` returned.
pub fn interrupted(deadline: u64, body: impl FnOnce()) -> Option<u64> {
    TAKEN.store(0, Ordering::SeqCst);
    if !arm(deadline) {
        return None;
    }
    // SAFETY: (1) the vectors take the timer's interrupt, the only one enabled; (2) the mask is restored below.
    unsafe { asm!("msr daifclr, #2", "isb", options(nostack)) };
    body();
    sysreg::poll_us(1_000_000, || TAKEN.load(Ordering::SeqCst) != 0);
    // SAFETY: (1) restores the former mask.
    unsafe { asm!("msr daifset, #2", "isb", options(nostack)) };
    disarm();
    Some(TAKEN.load(Ordering::SeqCst)).filter(|taken| *taken != 0)
}

/// Handles the timer's interrupt: records the time, disables the timer and completes the interrupt. Called by the
/// vectors.
pub fn take() {
    TAKEN.store(sysreg::cntvct(), Ordering::SeqCst);
    disarm();
    // SAFETY: (1) acknowledges and completes only the interrupt that this CPU has just taken.
    unsafe {
        asm!(
            "mrs {id}, S3_0_C12_C12_0", // ICC_IAR1_EL1
            "msr S3_0_C12_C12_1, {id}", // ICC_EOIR1_EL1
            "isb",
            id = out(reg) _, options(nostack),
        );
    }
}

/// Sleeps until the virtual counter reaches `deadline` or an interrupt is pending. Returns whether the GIC is set up.
pub fn sleep_until(deadline: u64) -> bool {
    let armed = arm(deadline);
    if armed {
        sysreg::wfi();
        disarm();
    }
    armed
}

/// No interrupt is pending.
pub const NONE: u64 = 1023;

/// The pending interrupt of highest priority at this CPU, [`NONE`] if there is none; it is completed.
pub fn take_pending() -> u64 {
    let id: u64;
    // SAFETY: (1) acknowledges and completes an interrupt that is masked in PSTATE; nothing else uses it.
    unsafe {
        asm!(
            "dsb sy",
            "mrs {id}, S3_0_C12_C12_0", // ICC_IAR1_EL1
            "dsb sy",
            "msr S3_0_C12_C12_1, {id}", // ICC_EOIR1_EL1
            "isb",
            id = out(reg) id, options(nostack),
        );
    }
    id
}
