//! Invalidations: they cover every SMMU and the whole range, are complete on return, and report failures.

use io_pgtable::Ipa;
use shadow_s2::{Invalidate, PageRange, Plan, Target};

use crate::{Violation, require};

/// Devices behind every SMMU, which use your table.
pub trait Devices {
    /// Maps `pages`, makes a device behind every SMMU access each of them, and unmaps them without any invalidation:
    /// afterwards devices can reach them only through old translations.
    fn use_and_unmap(&mut self, pages: PageRange);
    /// The number of an SMMU behind which a device still reaches the page at `ipa`.
    fn reached(&mut self, ipa: Ipa) -> Option<usize>;
    /// Makes the last SMMU stop completing invalidations.
    fn fail(&mut self);
}

/// Checks invalidations of `pages`, at least two, none of which is mapped in the table that the SMMUs walk.
///
/// # Errors
/// The first violated contract.
pub fn check_invalidate<I: Invalidate, D: Devices>(
    smmus: &mut I,
    devices: &mut D,
    pages: PageRange,
) -> Result<(), Violation> {
    let range = |pages: PageRange| Plan { target: Target::Range { start: pages.ipa(), bytes: pages.bytes() } };
    let first = pages.pages().next().unwrap_or(pages);
    for (pages, plan) in [(first, range(first)), (pages, range(pages)), (pages, Plan::everything())] {
        devices.use_and_unmap(pages);
        for page in pages.pages() {
            require(devices.reached(page.ipa()).is_some(), Violation::NothingCached)?;
        }
        smmus.invalidate(&plan).map_err(|_| Violation::Failed)?;
        for page in pages.pages() {
            if let Some(smmu) = devices.reached(page.ipa()) {
                return Err(Violation::OldTranslation(smmu));
            }
        }
    }
    devices.fail();
    for plan in [range(first), Plan::everything()] {
        require(smmus.invalidate(&plan).is_err(), Violation::FailureHidden)?;
    }
    Ok(())
}
