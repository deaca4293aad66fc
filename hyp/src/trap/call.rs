//! Calls of the host: hypercalls by HVC, firmware calls by SMC.

use super::Frame;
use super::locks::with_ownership;
use crate::exit::Reason;
use crate::ownership::{MAX_PAGES, is_hosts};
use crate::{arch, console, host, iommu, psci};
use aarch64_cpu::registers::{Readable, TPIDR_EL2};
use hyp::hvc::{self, Features, Services, Stat};
use hyp::smccc::{self, Decision, Psci};
use io_pgtable::Ipa;
use mem_protect::{Error, GuestId, Transition};

/// Index of this CPU.
fn this_cpu() -> usize {
    usize::try_from(TPIDR_EL2.get()).unwrap_or(0)
}

/// `HVC`: the return address is already the next instruction.
#[inline(never)]
pub fn hvc(frame: &mut Frame) {
    let answer = hvc::dispatch([frame.get(0), frame.get(1), frame.get(2), frame.get(3)], &mut Calls);
    frame.answer(answer.registers());
    if console::waits() {
        console::drain();
    }
}

/// What the hypercalls ask of this machine, each under the locks that it needs.
struct Calls;

impl Services for Calls {
    fn max_pages(&self) -> u64 {
        MAX_PAGES
    }

    #[inline]
    fn transition(&mut self, transition: Transition) -> Result<Option<GuestId>, Error> {
        #[cfg(feature = "ghost")]
        return with_ownership(|ownership| crate::watch::apply(ownership, transition));
        #[cfg(not(feature = "ghost"))]
        with_ownership(|ownership| ownership.apply(transition))
    }

    fn features(&self) -> Features {
        host::features()
    }

    fn iommu_stat(&mut self, stat: Stat) -> u64 {
        poll();
        host::stat(stat)
    }

    fn iommu_trace(&mut self) {
        poll();
        iommu::print_state();
    }
}

/// Drains the event queues and prints the faults.
fn poll() {
    with_ownership(|ownership| iommu::poll(ownership.memory_mut()));
    iommu::print_kept_faults();
}

/// `SMC`: the immediate is ignored, as SMCCC has only zero.
#[inline(never)]
pub fn smc(frame: &mut Frame) {
    let function = low32(frame.get(0));
    // The 32-bit calling convention takes W registers, whatever their upper halves hold.
    let wide = function & 1 << 30 != 0;
    let arg = |n| if wide { frame.get(n) } else { frame.get(n) & u64::from(u32::MAX) };
    let args = [arg(1), arg(2), arg(3)];
    match smccc::decide(function, low32(frame.get(1))) {
        Decision::Answer(value) => frame.set(0, value.cast_unsigned()),
        Decision::Relay => frame.answer(relay(function, args)),
        Decision::RelayPromise(promise) => {
            let [answer, ..] = relay(function, args);
            frame.set(0, promise.kept(smccc::status(answer)).cast_unsigned());
        }
        Decision::Psci(call) => frame.set(0, power(call, args).cast_unsigned()),
    }
}

fn relay(function: u32, [a, b, c]: [u64; 3]) -> [u64; 4] {
    arch::smc([u64::from(smccc::identifier(function)), a, b, c])
}

fn power(call: Psci, [a, b, c]: [u64; 3]) -> i64 {
    match call {
        Psci::CpuOn => psci::cpu_on(a, b, c, entry_is_hosts),
        Psci::AffinityInfo => psci::affinity_info(a, b),
        Psci::CpuOff => psci::cpu_off(this_cpu()),
        Psci::CpuSuspend => psci::cpu_suspend(this_cpu(), low32(a), b, c, entry_is_hosts),
        Psci::SystemOff => with_ownership(|ownership| host::stop(Reason::SystemOff, ownership)),
        Psci::SystemReset => with_ownership(|ownership| host::stop(Reason::SystemReset, ownership)),
    }
}

/// Whether a CPU may start or resume at `entry`.
fn entry_is_hosts(entry: Ipa) -> bool {
    with_ownership(|ownership| is_hosts(ownership, entry))
}

fn low32(value: u64) -> u32 {
    // Masked to 32 bits, so the conversion never falls back.
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0)
}
