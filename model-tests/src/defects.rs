//! Tests of what must not go wrong, run without the part of the tests' EL2 that keeps it from going wrong: then an assertion has to
//! notice.
//!
//! Attacks with a victim run in [`crate::twice()`]. The others have no victim; what shows that such a test looks is that it fails
//! without the defence. Here a machine can do without what the tests' own EL2 does: a part of a revocation, or of a change of owner.
//! Defences of the driver are removed by patches (`xtask/defences`), which name the tests that have to fail.

use std::cell::Cell;

/// Which step of a revocation is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Defect {
    /// Nothing.
    #[default]
    None,
    /// The IOMMU's table is not changed.
    NoUnmap,
    /// The table changes, but no SMMU is invalidated.
    NoInvalidate,
    /// Only the first SMMU is invalidated.
    FirstSmmuOnly,
    /// The wrong page is invalidated.
    WrongPage,
    /// Only a single page is invalidated.
    OnePage,
}

impl Defect {
    /// Every one, with its name.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::NoUnmap, "no-unmap"),
        (Self::NoInvalidate, "no-invalidate"),
        (Self::FirstSmmuOnly, "first-smmu-only"),
        (Self::WrongPage, "wrong-page"),
        (Self::OnePage, "one-page"),
    ];

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(defence, _)| defence)
    }
}

/// Printed by a test that runs an attack without its defence; parsed by `cargo xtask threats`.
pub(crate) const UNDEFENDED: &str = "attack run without its defence";

thread_local! {
    /// Defences disabled in new machines of this thread, separated by commas.
    static DEFECTS: Cell<&'static str> = const { Cell::new("") };
}

/// Names of the page operations at a change of owner.
const PAGES: [&str; 2] = ["not-zeroed", "not-cleaned"];

/// Whether the defence `word` is disabled in new machines.
pub(crate) fn has_defect(word: &str) -> bool {
    DEFECTS.get().split(',').any(|name| name == word)
}

/// Names of the defences disabled in new machines.
pub(crate) fn names() -> &'static str {
    DEFECTS.get()
}

/// The step of revocations that new machines skip.
pub(crate) fn revocation_defect() -> Defect {
    Defect::ALL.into_iter().find(|(_, word)| has_defect(word)).map_or(Defect::None, |(defence, _)| defence)
}

/// Whether there is a defence that `word` names.
fn is_known(word: &str) -> bool {
    Defect::named(word).is_some() || PAGES.contains(&word)
}

/// Runs `with` with the defences `words` (comma separated) disabled in new machines of this thread.
///
/// # Panics
/// There is no such defence.
pub fn with_defects<T>(words: &'static str, with: impl FnOnce() -> T) -> T {
    assert!(words.split(',').all(is_known), "the tests' EL2 cannot do without {words}");
    let before = DEFECTS.replace(words);
    let result = with();
    DEFECTS.set(before);
    result
}
