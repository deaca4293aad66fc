//! The end of a run: one line on EL2's console that only EL2 can write, then power off.
//!
//! The line repeats the token that the runner gave EL2, so that neither an exit status nor text on the host's console
//! can stand for it.
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

use crate::arch::{self, Conduit, Failed};
use crate::{console, iommu};
use core::fmt;
use hyp::smccc;
use spin::Once;

/// Bytes of the longest token.
const TOKEN_MAX: usize = 128;

static TOKEN: Once<Token> = Once::new();

/// The runner's token.
struct Token {
    text: [u8; TOKEN_MAX],
    len: usize,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The host called PSCI SYSTEM_OFF.
    SystemOff,
    /// The host called PSCI SYSTEM_RESET.
    SystemReset,
    /// EL2 refused to start the host.
    Boot,
    /// EL2 found a bug of its own.
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

/// Keeps the runner's token; longer ones are cut.
pub fn set_token(token: &str) {
    TOKEN.call_once(|| {
        let mut text = [0; TOKEN_MAX];
        let len = token.len().min(TOKEN_MAX);
        if let (Some(to), Some(from)) = (text.get_mut(..len), token.as_bytes().get(..len)) {
            to.copy_from_slice(from);
        }
        Token { text, len }
    });
}

fn token() -> &'static str {
    TOKEN
        .get()
        .and_then(|token| token.text.get(..token.len))
        .and_then(|text| core::str::from_utf8(text).ok())
        .unwrap_or("none")
}

/// The last line of a run, for `reason`.
struct Line(Reason);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.0 {
            Reason::SystemOff | Reason::SystemReset => "ok",
            Reason::Boot | Reason::Panic => "error",
        };
        let totals = iommu::final_totals();
        write!(
            f,
            "exit token={} status={status} reason={} smmu_exits={} dma_faults={}",
            token(),
            self.0,
            totals.exits,
            totals.faults
        )
    }
}

/// Ends the run as the host asked, after DMA is quiet. `reason` is one of the host's.
pub fn requested(reason: Reason) -> ! {
    if console::dropped() > 0 {
        console::line(format_args!(
            "{} bytes of this console were dropped because nobody took them",
            console::dropped()
        ));
    }
    console::line(format_args!("{}", Line(reason)));
    if reason == Reason::SystemReset {
        // Comes back only from firmware that cannot reset: then the power goes off instead.
        arch::smc([u64::from(smccc::SYSTEM_RESET), 0, 0, 0]);
    }
    arch::end_run(Failed::No, Conduit::Smc)
}

/// Refuses to start, with the reason and the remedy. `conduit` reaches the firmware that ends the run.
pub fn refuse(why: fmt::Arguments<'_>, conduit: Conduit) -> ! {
    console::line(format_args!("error: {why}"));
    console::line(format_args!("{}", Line(Reason::Boot)));
    arch::end_run(Failed::Yes, conduit)
}

/// Refuses to go on because of what firmware withholds, from any state.
pub fn withheld(what: &dyn fmt::Display) -> ! {
    console::emergency(format_args!("error: {what}"));
    console::emergency(format_args!("{}", Line(Reason::Boot)));
    arch::end_run(Failed::Yes, Conduit::Smc)
}

/// Ends the run after a bug of EL2, from any state.
pub fn broken(why: fmt::Arguments<'_>) -> ! {
    console::emergency(format_args!("error: {why}"));
    console::emergency(format_args!("{}", Line(Reason::Panic)));
    arch::end_run(Failed::Yes, Conduit::Smc)
}
