//! The end of a run: a line on EL2's console that only EL2 can write, then power-off.
//!
//! The line repeats the token that the runner gave EL2, so that neither an exit status nor text on the host's console
//! can replace it. If host and EL2 share a UART, EL2 unmaps it from the host first ([`ownership::take_console`]).
//! After a bug in EL2 one CPU ends the run, and the others park when they take the ownership lock.

use crate::arch::{self, Conduit, Failed};
use crate::{console, iommu, log, ownership, stopping};
use aarch64_cpu::registers::{MPIDR_EL1, Readable};
use arrayvec::ArrayString;
use core::fmt;
use hyp::ending::Role;
use hyp::smccc;
use spin::Once;

/// Bytes of the longest token of the runner.
const TOKEN_MAX: usize = 128;

static TOKEN: Once<ArrayString<TOKEN_MAX>> = Once::new();

/// Reason for the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The host called PSCI SYSTEM_OFF.
    SystemOff,
    /// The host called PSCI SYSTEM_RESET.
    SystemReset,
    /// EL2 refused to start the host.
    Boot,
    /// A bug in EL2.
    Panic,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SystemOff => "system_off",
            Self::SystemReset => "system_reset",
            Self::Boot => "boot",
            Self::Panic => "panic",
        })
    }
}

/// Stores the runner's token; a longer one is cut.
pub fn set_token(token: &str) {
    TOKEN.call_once(|| {
        let mut kept = ArrayString::new();
        for c in token.chars() {
            if kept.try_push(c).is_err() {
                break;
            }
        }
        kept
    });
}

fn token() -> &'static str {
    TOKEN.get().map_or("none", ArrayString::as_str)
}

/// Result of the audit at the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// No finding, and the host has all its pages.
    Clean,
    /// No one gained access, but the host lost pages.
    Lost,
    /// A finding, or the audit could not run.
    Failed,
    /// There was no audit.
    None,
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clean => "clean",
            Self::Lost => "lost",
            Self::Failed => "failed",
            Self::None => "none",
        })
    }
}

/// The last line of a run, for `reason`.
struct Line(Reason, Audit);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.0 {
            Reason::SystemOff | Reason::SystemReset => "ok",
            Reason::Boot | Reason::Panic => "error",
        };
        let totals = iommu::final_totals();
        write!(
            f,
            "exit token={} status={status} reason={} audit={} smmu_exits={} dma_faults={}",
            token(),
            self.0,
            self.1,
            totals.exits,
            totals.faults
        )
    }
}

/// Ends the run on this CPU; returns only on the first CPU, and only once.
fn begin() {
    match stopping::ending().begin(MPIDR_EL1.get()) {
        Role::Ends => ownership::take_console(),
        Role::EndsAtOnce => arch::end_run(Failed::Yes, Conduit::Smc),
        // The CPU does not release its locks: the ending CPU does not wait for them.
        Role::Parks => stopping::park(),
    }
}

/// Ends the run at the host's request. DMA is stopped, and the host has no access to the console. `reason` is one of
/// the host's.
pub fn requested(reason: Reason, audit: Audit) -> ! {
    let dropped = console::dropped();
    if dropped > 0 {
        log!("{dropped} bytes of this console were dropped because the transmitter was full");
    }
    console::last_line(format_args!("{}", Line(reason, audit)));
    if reason == Reason::SystemReset {
        // This returns only if firmware cannot reset: power off instead.
        arch::smc([u64::from(smccc::SYSTEM_RESET), 0, 0, 0]);
    }
    arch::end_run(Failed::No, Conduit::Smc)
}

/// Refuses to start, with the reason and the remedy. `conduit` is that of the firmware call that ends the run.
/// In a start from UEFI, before EL2 has changed a device, this returns to the firmware instead.
pub fn refuse(why: fmt::Arguments<'_>, conduit: Conduit) -> ! {
    arch::uefi::refuse(why);
    log!("error: {why}");
    console::last_line(format_args!("{}", Line(Reason::Boot, Audit::None)));
    arch::end_run(Failed::Yes, conduit)
}

/// Ends the boot because EL3 traps a register; callable in any state.
pub fn withheld(what: &dyn fmt::Display) -> ! {
    begin();
    console::print_final_lines(format_args!("error: {what}"), format_args!("{}", Line(Reason::Boot, Audit::None)));
    arch::end_run(Failed::Yes, Conduit::Smc)
}

/// Ends the run after a bug in EL2; callable in any state.
pub fn fatal(why: fmt::Arguments<'_>) -> ! {
    begin();
    console::print_final_lines(format_args!("error: {why}"), format_args!("{}", Line(Reason::Panic, Audit::None)));
    arch::end_run(Failed::Yes, Conduit::Smc)
}
