//! Power states of the host's CPUs: EL2 handles every start, suspend and stop, so that no CPU runs without stage 2.
//!
//! Firmware starts and resumes a CPU at EL2's own entry; the host's entry point is stored here during that time.

use crate::arch::{self, MAX_CPUS};
use crate::{gic, iommu, log};
use aarch64_cpu::asm::{self, barrier};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use hyp::smccc::{self, INVALID_ADDRESS, INVALID_PARAMETERS, Power, StateFormat};
use io_pgtable::Ipa;
use spin::Once;
use spin::mutex::TicketMutex;

/// Affinity fields of an MPIDR.
const AFFINITY: u64 = 0xff_00ff_ffff;
/// PSTATE at the host's entry points: EL1 with its own stack pointer, all interrupts masked.
pub const ENTRY_PSTATE: u64 = 0x3c5;

static CPUS: [Cpu; MAX_CPUS] =
    [const { Cpu { mpidr: AtomicU64::new(u64::MAX), entry: AtomicU64::new(0), context: AtomicU64::new(0) } }; MAX_CPUS];
static FORMAT: Once<StateFormat> = Once::new();
static STATES: TicketMutex<[Power; MAX_CPUS]> = TicketMutex::new([Power::Off; MAX_CPUS]);

struct Cpu {
    mpidr: AtomicU64,
    entry: AtomicU64,
    context: AtomicU64,
}

/// Registers a CPU with this MPIDR; `index` follows the order of the device tree.
///
/// # Errors
/// There are more CPUs than EL2 has stacks for ([`MAX_CPUS`]).
pub fn register(index: usize, mpidr: u64) -> Result<(), TooManyCpus> {
    CPUS.get(index).ok_or(TooManyCpus)?.mpidr.store(mpidr & AFFINITY, Ordering::Relaxed);
    Ok(())
}

/// There are more CPUs than EL2 has stacks for.
#[derive(Clone, Copy, Debug)]
pub struct TooManyCpus;

/// Reads firmware's format of the states of `CPU_SUSPEND`; called once, before the host runs.
pub fn init() {
    let [features, ..] = arch::smc([u64::from(smccc::PSCI_FEATURES), u64::from(smccc::CPU_SUSPEND_64), 0, 0]);
    FORMAT.call_once(|| StateFormat::of(smccc::status(features)));
}

/// Index of the CPU with this MPIDR.
pub fn index_of(mpidr: u64) -> Option<usize> {
    CPUS.iter().position(|cpu| cpu.mpidr.load(Ordering::Relaxed) == mpidr & AFFINITY)
}

/// Marks CPU `index` as running.
pub fn mark_on(index: usize) {
    if let Some(state) = STATES.lock().get_mut(index) {
        *state = Power::On;
    }
}

/// The host's entry point and X0 for CPU `index`.
pub fn entry_of(index: usize) -> (u64, u64) {
    CPUS.get(index).map_or((0, 0), |cpu| (cpu.entry.load(Ordering::Acquire), cpu.context.load(Ordering::Acquire)))
}

fn set_entry(index: usize, entry: u64, context: u64) {
    if let Some(cpu) = CPUS.get(index) {
        cpu.entry.store(entry, Ordering::Release);
        cpu.context.store(context, Ordering::Release);
    }
    // Orders the two stores before the firmware call that starts the CPU which loads them.
    barrier::dsb(barrier::SY);
}

/// `CPU_ON`; `is_hosts` returns whether the host owns an address. Firmware is always called with the 64-bit function,
/// since EL2's own entry point may need it.
pub fn cpu_on(target: u64, entry: u64, context: u64, is_hosts: impl FnOnce(Ipa) -> bool) -> i64 {
    let Some(index) = index_of(target).filter(|_| target & !AFFINITY == 0) else { return INVALID_PARAMETERS };
    if entry & 3 != 0 || !is_hosts(Ipa(entry)) {
        return INVALID_ADDRESS;
    }
    let mut states = STATES.lock();
    let Some(state) = states.get_mut(index) else { return INVALID_PARAMETERS };
    if let Some(answer) = state.cpu_on() {
        return answer;
    }
    set_entry(index, entry, context);
    // If firmware refuses, for example because the CPU is still turning off, no start is pending.
    let [status, ..] = arch::smc([u64::from(smccc::CPU_ON_64), target, arch::secondary_entry_pa(), index as u64]);
    if smccc::status(status) == 0 {
        *state = Power::Pending;
    }
    smccc::status(status)
}

/// `AFFINITY_INFO`. Firmware handles levels above CPUs.
pub fn affinity_info(target: u64, level: u64) -> i64 {
    let firmware = || {
        let [state, ..] = arch::smc([u64::from(smccc::AFFINITY_INFO_64), target, level, 0]);
        smccc::status(state)
    };
    if level != 0 {
        return firmware();
    }
    let Some(index) = index_of(target).filter(|_| target & !AFFINITY == 0) else { return INVALID_PARAMETERS };
    // Called with the lock held, so that CPU_ON is entirely before or after.
    let states = STATES.lock();
    states.get(index).map_or(INVALID_PARAMETERS, |power| power.affinity_info(firmware))
}

/// Records that a CPU must not run the host and stays off. It is never turned on again, so this is logged once.
pub fn refuse_cpu(index: usize, why: &dyn fmt::Display) -> ! {
    set_state(index, Power::Refused);
    log!("CPU {index} stays off: {why}");
    loop {
        arch::smc([u64::from(smccc::CPU_OFF), 0, 0, 0]);
        asm::wfi();
    }
}

/// `CPU_OFF` of CPU `index`; returns only if firmware refuses.
pub fn cpu_off(index: usize) -> i64 {
    set_state(index, Power::Off);
    let [status, ..] = arch::smc([u64::from(smccc::CPU_OFF), 0, 0, 0]);
    set_state(index, Power::On);
    smccc::status(status)
}

fn set_state(index: usize, power: Power) {
    if let Some(state) = STATES.lock().get_mut(index) {
        *state = power;
    }
}

/// `CPU_SUSPEND` of CPU `index`, as [`cpu_on`]; returns after a standby state, or if firmware refuses.
pub fn cpu_suspend(
    index: usize,
    power_state: u32,
    entry: u64,
    context: u64,
    is_hosts: impl FnOnce(Ipa) -> bool,
) -> i64 {
    let format = FORMAT.get().copied().unwrap_or(StateFormat::Original);
    if let Some(answer) = format.refusal(power_state, entry, |entry| is_hosts(Ipa(entry))) {
        return answer;
    }
    set_entry(index, entry, context);
    let [status, ..] =
        arch::smc([u64::from(smccc::CPU_SUSPEND_64), u64::from(power_state), arch::secondary_entry_pa(), index as u64]);
    // An SMMU or the GIC may also lose its state in a standby state of a cluster or system. A CPU that resumes from a
    // power-down state does this check at its entry point.
    iommu::check_alive();
    gic::guard::check_alive(CPUS.get(index).map_or(u64::MAX, |cpu| cpu.mpidr.load(Ordering::Relaxed)));
    smccc::status(status)
}
