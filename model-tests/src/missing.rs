//! Tests of what must not go wrong, run without the part of the tests' EL2 that keeps it from going wrong: then an assertion has to
//! notice.
//!
//! Attacks with a victim run in [`crate::twice()`]. The others have no victim; what shows that such a test looks is that it fails
//! without the defence. Here a machine can do without what the tests' own EL2 does: a part of a revocation, or of a change of owner.
//! Defences of the driver are removed by patches (`xtask/defences`), which name the tests that have to fail.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::dma::Defence;
use crate::twice::UNDEFENDED;

thread_local! {
    /// Defences disabled in new machines of this thread, separated by commas.
    static MISSING: Cell<&'static str> = const { Cell::new("") };
}

/// Names of the steps of a revocation.
const REVOCATION: [(&str, Defence); 5] = [
    ("no-unmap", Defence::NoUnmap),
    ("no-invalidate", Defence::NoInvalidate),
    ("first-smmu-only", Defence::FirstSmmuOnly),
    ("wrong-page", Defence::WrongPage),
    ("one-page", Defence::OnePage),
];
/// Names of the page operations at a change of owner.
const PAGES: [&str; 2] = ["not-zeroed", "not-cleaned"];

/// Whether the defence `word` is disabled in new machines.
pub(crate) fn is_missing(word: &str) -> bool {
    MISSING.get().split(',').any(|missing| missing == word)
}

/// Names of the defences disabled in new machines.
pub(crate) fn words() -> &'static str {
    MISSING.get()
}

/// The step of revocations that new machines skip.
pub(crate) fn of_revocations() -> Defence {
    REVOCATION.iter().find(|(word, _)| is_missing(word)).map_or(Defence::Whole, |(_, defence)| *defence)
}

/// Whether there is a defence that `word` names.
fn is_known(word: &str) -> bool {
    REVOCATION.iter().any(|(known, _)| *known == word) || PAGES.contains(&word)
}

/// Runs `with` with the defences `words` (comma separated) disabled in new machines of this thread.
///
/// # Panics
/// There is no such defence.
pub fn lacking<T>(words: &'static str, with: impl FnOnce() -> T) -> T {
    assert!(words.split(',').all(is_known), "the tests' EL2 cannot do without {words}");
    let before = MISSING.replace(words);
    let result = with();
    MISSING.set(before);
    result
}

/// Runs `test` without each of `defences`, where it must fail, then with all. A comma-separated entry disables several
/// at once.
///
/// # Panics
/// When `test` passes without a defence, or fails with all of them.
pub fn caught_without(defences: &[&'static str], test: impl Fn()) {
    for words in defences {
        let end = lacking(words, || catch_unwind(AssertUnwindSafe(&test)));
        let Err(payload) = end else { panic!("the test passes without {words}") };
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("an assertion failed");
        println!("{UNDEFENDED}: {words}: {}", text.lines().collect::<Vec<_>>().join(" "));
    }
    test();
}

/// Reports the result of an attack run without isolation.
///
/// # Panics
/// If it did not land: the attack is ineffective.
pub fn undefended(verdict: impl Into<crate::Verdict>) {
    assert_eq!(verdict.into(), crate::Verdict::Landed, "the attack is none");
    println!("{UNDEFENDED}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::VICTIM;
    use crate::{Machine, Setup};

    #[test]
    fn a_machine_lacks_what_is_named_and_only_while_it_is() {
        let donated = || {
            let mut m = Machine::new(&Setup::guarded());
            assert_eq!(m.donate(VICTIM, 1), Ok(()));
            assert_eq!(m.isolated(&[0]), Ok(()));
        };
        caught_without(&["no-unmap", "no-invalidate,not-zeroed"], donated);
        assert!(!is_missing("no-unmap"));
    }

    #[test]
    #[should_panic(expected = "passes without not-zeroed")]
    fn a_test_that_does_not_look_is_found_out() {
        caught_without(&["not-zeroed"], || {});
    }
}
