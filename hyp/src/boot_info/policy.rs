//! The registers that the host gets. An allow-list: a node is given if it is known not to be a DMA master, if it is
//! behind an SMMU, or if EL2's command line allows it. All other registers, described or not, are unmapped in the
//! host's stage 2.

mod allowed;
pub(super) mod bindings;
mod bus;
mod classes;
mod draft;
mod nodes;
mod references;
mod ruled;
mod verdict;

use super::error::BootError;
use super::gic::{Doorbell, Its};
use super::named::{Name, Named, Part};
use super::platform::Platform;
use super::range::RangeSet;
use super::rules::Rule;
use super::tree::{NodeId, is_at};
use arrayvec::ArrayVec;
use core::fmt;
use draft::Draft;
use io_pgtable::Pa;
pub use verdict::{Given, Verdict, Withheld};

/// Maximum number of nodes with registers.
pub const DECISIONS_MAX: usize = 512;
/// Maximum number of separate ranges of the host's registers.
pub const MMIO_MAX: usize = 64;
/// Maximum number of ranges of the host's registers before they are merged.
pub const GIVEN_MAX: usize = 128;
/// Maximum number of separate ranges of flash with code of UEFI firmware.
pub const CODE_MAX: usize = 4;
/// Maximum number of withheld ranges.
pub const WITHHELD_MAX: usize = 768;
/// Maximum number of ranges of withheld buses.
pub const BUSES_MAX: usize = 128;

/// A node and the decision about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The node.
    pub node: NodeId,
    /// The decision.
    pub verdict: Verdict,
    /// The other user of its page, if that is the reason.
    pub shares: Option<Name>,
}

impl Default for Decision {
    fn default() -> Self {
        Self { node: NodeId::default(), verdict: Verdict::Withheld(Withheld::Unknown), shares: None }
    }
}

/// A decision in words.
#[derive(Clone, Debug)]
pub struct Shown<'a> {
    verdict: Verdict,
    shares: Option<Named<'a>>,
    rule: Option<Rule<'a>>,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.rule, &self.shares) {
            (Some(rule), _) => write!(f, "by the board's policy: {}", rule.reason),
            (None, Some(other)) => write!(f, "{}: {other}", self.verdict),
            (None, None) => self.verdict.fmt(f),
        }
    }
}

/// The decisions for a platform.
#[derive(Clone, Debug, Default)]
pub struct MmioPolicy {
    decisions: ArrayVec<Decision, DECISIONS_MAX>,
    given: ArrayVec<Part<Name>, GIVEN_MAX>,
    windows: ArrayVec<Part<Name>, GIVEN_MAX>,
    withheld: ArrayVec<Part<Name>, WITHHELD_MAX>,
    buses: ArrayVec<Part<Name>, BUSES_MAX>,
    mmio: RangeSet<MMIO_MAX>,
    /// A bit for each rule that matched a node.
    rules_used: u128,
    code: RangeSet<CODE_MAX>,
}

impl MmioPolicy {
    /// Decides about every node of `platform` with registers or windows.
    ///
    /// # Errors
    /// [`BootError::BadOption`] for an `allow=` with a path that does not exist, an SMMU or EL2's console, and for a
    /// `withhold=` with the interrupt controller, or with a node that the host would not get;
    /// [`BootError::Rule`] for a rule of the board's author that cannot be followed, [`BootError::Missing`] if the
    /// rules were not read; [`BootError::Unsupported`] when the interrupt controller cannot be given;
    /// [`BootError::Property`]; [`BootError::TooMany`].
    #[inline(never)] // Its stack frame is large, and is freed when it returns.
    pub fn decide<'a>(platform: &Platform<'a>) -> Result<Self, BootError<'a>> {
        let rules = ruled::of(platform)?;
        let mut draft = Draft::default();
        for range in &platform.memory.no_map {
            draft.withhold(Name::Reservation, range)?;
        }
        let (allows, withholds) = (&platform.options.allow, &platform.options.withhold);
        let mut used = ArrayVec::<&'a str, { 2 * super::cmdline::ALLOW_MAX }>::new();
        platform.tree.walk(&mut |node| {
            let word_for = |paths: &[&'a str]| paths.iter().find(|path| is_at(node, path)).copied();
            let (allow, withhold) = (word_for(allows), word_for(withholds));
            draft.withhold_parents(platform, node)?;
            let verdict = draft.classify(platform, node, allow)?;
            let Some(verdict) = ruled::withheld(platform, node, verdict)? else {
                return draft.withhold_bus(node);
            };
            for word in [allow, withhold].into_iter().flatten() {
                if used.contains(&word) {
                    return Err(BootError::BadOption {
                        word,
                        expected: "the full path of one node; this one matches two",
                    });
                }
                // Cannot fail: at most one entry for each option.
                let _ = used.try_push(word);
            }
            let verdict = match withhold {
                None => verdict,
                Some(_) if ruled::excludes(platform, node, verdict) => Verdict::Withheld(Withheld::CommandLine),
                Some(_) if matches!(verdict, Verdict::Given(_)) && node.id != platform.gic.node => {
                    Verdict::Withheld(Withheld::CommandLine)
                }
                Some(word) => {
                    let expected = "a node that the host would get, other than the interrupt controller";
                    return Err(BootError::BadOption { word, expected });
                }
            };
            draft.record(platform, node, verdict)
        })?;
        if let Some(word) = allows.iter().chain(withholds).find(|path| !used.contains(path)) {
            return Err(BootError::BadOption { word, expected: "the full path of a node that has registers" });
        }
        draft.withhold_dependents()?;
        draft.withhold_references(platform)?;
        draft.withhold_dependents()?;
        draft.check_allowed(platform)?;
        draft.check_rules(platform, rules)?;
        draft.finish(platform)
    }

    /// A decision in words, with the name of the other node in the same page.
    pub fn shown<'a>(&self, platform: &Platform<'a>, decision: &Decision) -> Shown<'a> {
        let path = |name| if let Name::Node(node) = name { Some(platform.path(node)) } else { None };
        let rule = match decision.verdict {
            Verdict::Given(Given::Rule { line }) | Verdict::Withheld(Withheld::Rule { line }) => {
                platform.rules.and_then(|rules| rules.on_line(line))
            }
            Verdict::Given(_) | Verdict::Emulated | Verdict::Withheld(_) => None,
        };
        let shares = decision.shares.map(|name| Named { name, path: path(name) });
        Shown { verdict: decision.verdict, shares, rule }
    }

    /// The rules of the board's author that matched no node: a policy may be for several boards.
    pub fn unused_rules<'p, 'a>(&'p self, platform: &Platform<'a>) -> impl Iterator<Item = Rule<'a>> + use<'p, 'a> {
        let used = |number: u32| self.rules_used.checked_shr(number).unwrap_or(0) & 1 == 1;
        let rules = (0u32..=u32::MAX).zip(platform.rules.unwrap_or_default().iter());
        rules.filter(move |(number, _)| !used(*number)).map(|(_, rule)| rule)
    }

    /// All decisions in the order of the tree.
    #[must_use]
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// The decision about `node`; `None` for a node without registers.
    #[must_use]
    pub fn verdict(&self, node: NodeId) -> Option<Verdict> {
        self.decisions.iter().find(|d| d.node == node).map(|d| d.verdict)
    }

    /// Whether `node` is disabled in the host's tree.
    #[must_use]
    pub fn is_withheld(&self, node: NodeId) -> bool {
        matches!(self.verdict(node), Some(Verdict::Withheld(_)))
    }

    /// The pages that devices write to raise interrupts, of every given ITS: the only registers that DMA
    /// may reach.
    pub fn translaters<'p>(&'p self, platform: &'p Platform<'_>) -> impl Iterator<Item = Pa> + 'p {
        let given = |its: &&Its| its.doorbell == Doorbell::Own && !self.is_withheld(its.node);
        platform.gic.its.iter().filter(given).map(Its::translater)
    }

    /// The registers to map in the host's stage 2 as device memory: whole pages without withheld or emulated
    /// registers. [`plan::check`](super::plan::check) checks overlaps with memory.
    #[must_use]
    pub fn mmio(&self) -> &RangeSet<MMIO_MAX> {
        &self.mmio
    }

    /// Flash that UEFI firmware executes: the host's stage 2 maps it as readable and executable, not writable. It is
    /// not in [`MmioPolicy::mmio`].
    #[must_use]
    pub fn code(&self) -> &RangeSet<CODE_MAX> {
        &self.code
    }

    /// The registers of given nodes: those in [`MmioPolicy::mmio`] and [`MmioPolicy::code`], and configuration space to
    /// which the host's accesses trap.
    #[must_use]
    pub fn given(&self) -> &[Part<Name>] {
        &self.given
    }

    /// The windows of bridges among [`MmioPolicy::mmio`].
    #[must_use]
    pub fn windows(&self) -> &[Part<Name>] {
        &self.windows
    }

    /// The ranges that the host does not get: registers of withheld or emulated nodes, windows of withheld bridges,
    /// and firmware's reservations.
    #[must_use]
    pub fn withheld(&self) -> &[Part<Name>] {
        &self.withheld
    }

    /// Windows of withheld buses. Memory and windows must not overlap them; a separately described register block
    /// may.
    #[must_use]
    pub fn buses(&self) -> &[Part<Name>] {
        &self.buses
    }
}
