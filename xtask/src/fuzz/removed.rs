//! The defences without which a target must have a finding.
//!
//! Most are removed from a copy of the sources by their patches in `xtask/defences`; parts of a revocation are omitted
//! by the EL2 of the tests.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Target, build};
use crate::checkout::Checkout;
use crate::defences::{self, Tree};

/// How a defence is removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RemovedBy {
    /// By the patch with its name.
    Patch,
    /// By the EL2 of the tests, if `PORTCULLIS_WITHOUT` contains its name.
    Tests,
}

/// One defence that can be removed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Removal {
    /// Its name.
    pub(super) word: &'static str,
    /// How it is removed.
    pub(super) by: RemovedBy,
    /// The target that must detect that it is missing.
    pub(super) target: Target,
}

macro_rules! removed {
    ($($name:ident $word:literal $by:ident $target:ident $what:literal;)*) => {
        /// A defence that can be removed.
        #[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
        pub(crate) enum Removed {
            /// Each defence in turn
            All,
            $(#[doc = $what] $name,)*
        }

        impl Removed {
            /// All defences.
            pub(super) const EACH: &[(Self, Removal)] =
                &[$((Self::$name, Removal { word: $word, by: RemovedBy::$by, target: Target::$target }),)*];

            /// The defence of this value.
            ///
            /// # Errors
            /// For `all`.
            pub(super) fn single(self) -> Result<Removal> {
                let each = Self::EACH.iter().find(|(defence, _)| *defence == self);
                each.map(|(_, one)| *one).context("--replay needs a single defence with --without")
            }
        }
    };
}

removed! {
    NoUnmap "no-unmap" Tests Transitions "Revocation: the IOMMU's table is not changed";
    NoInvalidate "no-invalidate" Tests Transitions "Revocation: no SMMU is invalidated";
    FirstSmmuOnly "first-smmu-only" Tests Transitions "Revocation: only the first SMMU is invalidated";
    WrongPage "wrong-page" Tests Transitions "Revocation: the wrong page is invalidated";
    OnePage "one-page" Tests Transitions "Revocation: only one of the revoked pages is invalidated";
    TakeOver "take-over" Patch HostileHost "Take-over: GBPA does not abort while the SMMU is off";
    Reset "reset" Patch HostileHost "Reset: an SMMU that lost its registers is not detected";
    Quiesce "quiesce" Patch HostileHost "Power-off: streams keep running";
    Cr0 "cr0" Patch Registers "Registers: the host's CR0 goes to hardware";
    Index "index" Patch Registers "Queues: CMDQ_PROD is not masked to the queue's size";
    Commands "commands" Patch Commands "Commands: hardware gets the host's command without a check";
    CommandsTwice "commands-twice" Patch Commands "Commands: they are fetched again after the check";
    Msi "msi" Patch Commands "Commands: hardware makes the store of a CMD_SYNC, to any address";
    Events "events" Patch Commands "Events: hardware's queue is never drained";
    Sync "sync" Patch Transitions "Queues: a CMD_SYNC timeout is treated as success";
    Entries "entries" Patch StreamTable "Entries: hardware gets the host's entry without a check";
    EntriesTwice "entries-twice" Patch StreamTable "Entries: they are fetched again after the check";
    FreedEarly "freed-early" Patch StreamTable "Entries: a level-2 table is freed before its invalidation is complete";
    ClaimsKept "claims-kept" Patch HostileHost "Claims: a disabled queue keeps its claim";
    PagesFree "pages-free" Patch Costs "Budget: claims are not charged";
    SyncsFree "syncs-free" Patch Costs "Budget: CMD_SYNCs are not charged";
    GicAfterPowerOff "gic-after-power-off" Patch Gic "GIC, power-off: commands are sent afterwards";
    GicBaserForwarded "gic-baser-forwarded" Patch Gic "GIC, tables: GITS_BASER of the host goes to hardware";
    GicBasesUnread "gic-bases-unread" Patch Gic "GIC, tables: the base registers of redistributors are not read back";
    GicCpuOff "gic-cpu-off" Patch Gic "GIC, commands: events go to redistributors that are off";
    GicDpgEnables "gic-dpg-enables" Patch Gic "GIC, registers: a store of DPG sets EnableLPIs without tables";
    GicEnableStays "gic-enable-stays" Patch Gic "GIC, registers: LPIs reach a CPU after the host disabled them";
    GicFetchedTwice "gic-fetched-twice" Patch Gic "GIC, commands: they are fetched again after the check";
    GicFreedBeforeSync "gic-freed-before-sync" Patch Gic "GIC, tables: a table is freed while hardware can use it";
    GicFreedThoughRefused "gic-freed-though-refused" Patch Gic "GIC, tables: a table is freed although hardware did not complete its unmapping";
    GicFreedWithoutSync "gic-freed-without-sync" Patch Gic "GIC, tables: a table is freed without a SYNC if LPIs are off on all CPUs";
    GicIttOfTheHost "gic-itt-of-the-host" Patch Gic "GIC, tables: translation tables are in the host's memory";
    GicItssMixed "gic-itss-mixed" Patch Gic "GIC, commands: devices of different ITSs are not distinguished";
    GicLpiTwice "gic-lpi-twice" Patch Gic "GIC, commands: two events can have one LPI";
    GicLpiUnchecked "gic-lpi-unchecked" Patch Gic "GIC, commands: the INTID is not checked";
    GicNoLimit "gic-no-limit" Patch Gic "GIC, memory: translation tables have no limit";
    GicNotQuiescent "gic-not-quiescent" Patch Gic "GIC, take-over: memory is given to hardware that still runs";
    GicPendbaserForwarded "gic-pendbaser-forwarded" Patch Gic "GIC, tables: GICR_PENDBASER of the host goes to hardware";
    GicQueueUnaligned "gic-queue-unaligned" Patch Gic "GIC, queue: it is only aligned to 4 KiB";
    GicUnlistedRegister "gic-unlisted-register" Patch Gic "GIC, registers: accesses without a row in the table reach hardware";
    GicWaitsEachTime "gic-waits-each-time" Patch Gic "GIC, waits: EL2 waits again for an ITS that failed";
}

/// Builds the targets, without the defence `one` if given. Returns the folder of the programs.
///
/// # Errors
/// When the patch does not apply, and the errors of [`build::targets`].
pub(super) fn programs(checkout: &Checkout, one: Option<Removal>) -> Result<PathBuf> {
    let Some(Removal { word, by: RemovedBy::Patch, .. }) = one else { return build::targets(checkout, checkout) };
    let patches = defences::all(checkout)?;
    let defence =
        patches.iter().find(|defence| defence.word == word).with_context(|| format!("no patch removes {word}"))?;
    let tree = Tree::new(checkout)?;
    tree.remove(defence)?;
    build::targets(checkout, tree.checkout())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_removable_defence_has_a_patch_or_is_in_the_tests() {
        let tests = include_str!("../../../model-tests/src/defects.rs");
        for (defence, Removal { word, by, .. }) in Removed::EACH {
            let patch = concat!(env!("CARGO_MANIFEST_DIR"), "/defences/").to_owned() + word + ".patch";
            let known = match by {
                RemovedBy::Patch => PathBuf::from(patch).is_file(),
                RemovedBy::Tests => tests.contains(&format!("\"{word}\"")),
            };
            assert!(known, "{word}");
            let shown = defence.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(shown.as_deref(), Some(*word));
        }
    }
}
