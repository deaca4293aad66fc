//! Calls of the host: hypercalls by HVC, firmware calls by SMC.

use super::Frame;
use super::locks::with_ownership;
use crate::exit::Reason;
use crate::ownership::{MAX_PAGES, is_hosts};
use crate::{arch, console, devices, host, iommu, psci};
use aarch64_cpu::registers::{Readable, TPIDR_EL2};
use hyp::hvc::{Answer, DeviceCall, Request, Status};
use hyp::smccc::{self, Decision, Psci};
use io_pgtable::Ipa;

/// Index of this CPU.
fn this_cpu() -> usize {
    usize::try_from(TPIDR_EL2.get()).unwrap_or(0)
}

/// `HVC`: the return address is already the next instruction. Each call takes the locks that it needs.
#[inline(never)]
pub fn hvc(frame: &mut Frame) {
    let answer = match Request::decode([frame.get(0), frame.get(1), frame.get(2), frame.get(3)]) {
        Ok(Request::Version) => Answer::version(MAX_PAGES, host::features()),
        #[cfg(not(feature = "ghost"))]
        Ok(Request::Transition(transition)) => Answer::of(with_ownership(|ownership| ownership.apply(transition))),
        #[cfg(feature = "ghost")]
        Ok(Request::Transition(transition)) => {
            Answer::of(with_ownership(|ownership| crate::ghost::apply(ownership, transition)))
        }
        Ok(Request::IommuStats(stat)) => {
            poll();
            Answer::value(host::stat(stat))
        }
        Ok(Request::IommuTrace) => {
            poll();
            iommu::print_state();
            Answer::status(Status::Success)
        }
        Ok(Request::Device(call)) => device(call),
        Err(status) => Answer::status(status),
    };
    frame.answer(answer.registers());
    if console::waits() {
        console::drain();
    }
}

/// A hypercall about a PCI function.
#[cold]
#[inline(never)]
fn device(call: DeviceCall) -> Answer {
    if !devices::is_supported() {
        return Answer::status(Status::NotSupported);
    }
    Answer::of_device(with_ownership(|ownership| devices::call(ownership, call)))
}

/// Drains the event queues and prints the faults.
fn poll() {
    with_ownership(|ownership| iommu::poll(ownership.memory_mut()));
    iommu::print_faults();
}

/// `SMC`: the immediate is ignored, since SMCCC defines only zero.
#[inline(never)]
pub fn smc(frame: &mut Frame) {
    let function = low32(frame.get(0));
    // The 32-bit calling convention uses W registers; the upper halves are ignored.
    let wide = function & 1 << 30 != 0;
    let arg = |n| if wide { frame.get(n) } else { frame.get(n) & u64::from(u32::MAX) };
    let args = [arg(1), arg(2), arg(3)];
    match smccc::decide(function, low32(frame.get(1))) {
        Decision::Answer(value) => frame.set(0, value.cast_unsigned()),
        Decision::Relay => frame.answer(relay(function, args)),
        Decision::RelayFiltered(filter) => {
            let [answer, ..] = relay(function, args);
            frame.set(0, filter.apply(smccc::status(answer)).cast_unsigned());
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
    // Masked to 32 bits, so the conversion cannot fail.
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0)
}
