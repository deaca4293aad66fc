//! Runs each attack or test twice: without its defence, where it must land or fail, and with it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use smmu_model::{Config, Transfer};

use crate::defects::{UNDEFENDED, with_defects};
use crate::layout::SIDS;
use crate::machine::{Breach, Machine};
use crate::setup::Setup;

/// Result of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The attacker read or wrote a byte of another owner.
    Landed,
    /// No byte of another owner was read or written.
    Blocked,
}

impl From<Transfer> for Verdict {
    fn from(transfer: Transfer) -> Self {
        match transfer {
            Transfer::Done => Self::Landed,
            Transfer::RazWi | Transfer::Aborted(_) | Transfer::Stalled(_) => Self::Blocked,
        }
    }
}

impl From<Result<(), Breach>> for Verdict {
    fn from(isolated: Result<(), Breach>) -> Self {
        if isolated.is_err() { Self::Landed } else { Self::Blocked }
    }
}

/// Runs `attack` on a machine without EL2, where it must land, and on one with EL2, where it must not.
pub fn twice(attack: impl Fn(&mut Machine) -> Verdict) {
    twice_with(Config::qemu(), attack);
}

/// The same with another SMMU configuration.
pub fn twice_with(config: Config, attack: impl Fn(&mut Machine) -> Verdict) {
    let mut bare = Machine::new(&Setup::bare().with(config.clone()));
    assert_eq!(attack(&mut bare), Verdict::Landed, "the attack does not land without EL2");
    println!("{UNDEFENDED}");
    let mut guarded = Machine::new(&Setup::guarded().with(config));
    assert_eq!(attack(&mut guarded), Verdict::Blocked, "the attack lands under EL2");
    assert!(guarded.secret_intact(), "EL2's memory changed");
    assert_eq!(guarded.isolated(&SIDS), Ok(()));
    for model in &guarded.models {
        assert_eq!(model.borrow_mut().take_hazards(), [], "the driver misused the SMMU");
    }
}

/// Runs `test` with each of `defects`, where it must fail, then without one. An entry may name several defects,
/// separated by commas.
///
/// # Panics
/// When `test` passes with a defect, or fails without one.
pub fn detects_defects(defects: &[&'static str], test: impl Fn()) {
    for words in defects {
        let end = with_defects(words, || catch_unwind(AssertUnwindSafe(&test)));
        let Err(payload) = end else { panic!("the test passes with the defect {words}") };
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("an assertion failed");
        println!("{UNDEFENDED}: {words}: {}", text.lines().collect::<Vec<_>>().join(" "));
    }
    test();
}

/// Checks that an attack without its defence landed.
///
/// # Panics
/// If it did not land.
pub fn assert_landed(verdict: impl Into<Verdict>) {
    assert_eq!(verdict.into(), Verdict::Landed, "the attack does not land without its defence");
    println!("{UNDEFENDED}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defects::has_defect;
    use crate::layout::HOST_DATA;

    #[test]
    fn new_machines_have_the_named_defects_during_the_call() {
        let donated = || {
            let mut m = Machine::new(&Setup::guarded());
            assert_eq!(m.donate(HOST_DATA, 1), Ok(()));
            assert_eq!(m.isolated(&[0]), Ok(()));
        };
        detects_defects(&["no-unmap", "no-invalidate,not-zeroed"], donated);
        assert!(!has_defect("no-unmap"));
    }

    #[test]
    #[should_panic(expected = "passes with the defect not-zeroed")]
    fn a_test_that_passes_with_a_defect_is_reported() {
        detects_defects(&["not-zeroed"], || {});
    }
}
