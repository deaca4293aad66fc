//! Defects of the tests' own EL2: a step that is missing in a revocation or a change of owner.
//!
//! Each defect names tests that must fail with it. Defences of the driver are removed by patches (`xtask/defences`),
//! which also name the tests that must fail.

use std::cell::Cell;

/// A defect of revocations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Defect {
    /// None.
    #[default]
    None,
    /// The IOMMU stage 2 is not changed.
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
    /// All defects, with their names.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::NoUnmap, "no-unmap"),
        (Self::NoInvalidate, "no-invalidate"),
        (Self::FirstSmmuOnly, "first-smmu-only"),
        (Self::WrongPage, "wrong-page"),
        (Self::OnePage, "one-page"),
    ];

    /// The defect with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| *known == name).map(|(defence, _)| defence)
    }
}

/// Printed by a test that runs an attack without its defence; parsed by `cargo xtask threats`.
pub(crate) const UNDEFENDED: &str = "attack run without its defence";

thread_local! {
    /// Names of the defects of new machines of this thread, separated by commas.
    static DEFECTS: Cell<&'static str> = const { Cell::new("") };
}

/// Names of the defects in page operations at a change of owner.
const PAGES: [&str; 2] = ["not-zeroed", "not-cleaned"];

/// Whether new machines have the defect `word`.
pub(crate) fn has_defect(word: &str) -> bool {
    DEFECTS.get().split(',').any(|name| name == word)
}

/// Names of the defects of new machines, separated by commas.
pub(crate) fn names() -> &'static str {
    DEFECTS.get()
}

/// The defect of revocations on new machines.
pub(crate) fn revocation_defect() -> Defect {
    Defect::ALL.into_iter().find(|(_, word)| has_defect(word)).map_or(Defect::None, |(defence, _)| defence)
}

/// Whether `word` names a defect.
fn is_known(word: &str) -> bool {
    Defect::named(word).is_some() || PAGES.contains(&word)
}

/// Calls `with`; during the call new machines of this thread have the defects `words`, separated by commas.
///
/// # Panics
/// If there is no such defect.
pub fn with_defects<T>(words: &'static str, with: impl FnOnce() -> T) -> T {
    assert!(words.split(',').all(is_known), "the tests' EL2 has no defect named {words}");
    let before = DEFECTS.replace(words);
    let result = with();
    DEFECTS.set(before);
    result
}
