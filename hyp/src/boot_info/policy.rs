//! Which registers the host gets. An allow-list: a node is given when it is known to be unable to reach memory by
//! itself, or when an SMMU stands between it and memory, or when the person who starts the machine says so on EL2's
//! command line. Everything else, described or not, stays unmapped in the host's stage 2.

mod verdict;

use super::array::Array;
use super::error::BootError;
use super::gic::Its;
use super::memory::is_memory;
use super::pci::{self, Upstream};
use super::platform::Platform;
use super::range::{PhysRange, RangeSet};
use super::smmu::is_smmu;
use super::tree::{NodeId, NodeRef, Reg, is_at};
use io_pgtable::Pa;
pub use verdict::{Given, Verdict, Withheld};

/// How many nodes with registers are accepted.
pub const DECISIONS_MAX: usize = 512;
/// How many separate ranges of registers the host can get.
pub const MMIO_MAX: usize = 64;
const GIVEN_REGS_MAX: usize = 128;
const WITHHELD_MAX: usize = 256;

/// A node and what is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The node.
    pub node: NodeId,
    /// What is done.
    pub verdict: Verdict,
}

impl Default for Decision {
    fn default() -> Self {
        Self { node: NodeId::default(), verdict: Verdict::Withheld(Withheld::Unknown) }
    }
}

/// A range of registers and the decision that gives it.
#[derive(Clone, Copy, Debug, Default)]
struct GivenReg {
    decision: usize,
    range: PhysRange,
}

/// The decisions for a platform.
#[derive(Clone, Copy, Debug)]
pub struct MmioPolicy {
    decisions: Array<Decision, DECISIONS_MAX>,
    mmio: RangeSet<MMIO_MAX>,
}

impl MmioPolicy {
    /// Decides about every node of `platform` that has registers.
    ///
    /// # Errors
    /// [`BootError::BadOption`] for an `allow=` that names no such node, or an SMMU or EL2's console;
    /// [`BootError::Unsupported`] when the interrupt controller cannot be given; [`BootError::Property`];
    /// [`BootError::TooMany`].
    pub fn decide<'a>(platform: &Platform<'a>) -> Result<Self, BootError<'a>> {
        let mut draft = Draft::default();
        let mut allows_met = Array::<&'a str, { super::cmdline::ALLOW_MAX }>::new();
        platform.tree.walk(&mut |node| {
            let allow = platform.options.allow.iter().find(|path| is_at(node, path)).copied();
            let Some(verdict) = draft.classify(platform, node, allow)? else {
                return Ok(());
            };
            if let Some(word) = allow {
                // Paths are unique, so there are at most as many as options.
                let _ = allows_met.push(word);
            }
            draft.record(platform, node, verdict)
        })?;
        if let Some(word) = platform.options.allow.iter().find(|path| !allows_met.contains(path)) {
            return Err(BootError::BadOption { word, expected: "the full path of a node that has registers" });
        }
        draft.settle(platform)
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

    /// Whether the host finds `node` disabled.
    #[must_use]
    pub fn is_withheld(&self, node: NodeId) -> bool {
        matches!(self.verdict(node), Some(Verdict::Withheld(_)))
    }

    /// The pages that devices write to raise interrupts, of every ITS that the host gets: the only registers that DMA
    /// may reach.
    pub fn translaters<'p>(&'p self, platform: &'p Platform<'_>) -> impl Iterator<Item = Pa> + 'p {
        platform.gic.its.iter().filter(|frame| !self.is_withheld(frame.node)).map(Its::translater)
    }

    /// What to map in the host's stage 2 as device memory: whole pages, apart from memory, SMMUs and EL2's console.
    #[must_use]
    pub fn mmio(&self) -> &RangeSet<MMIO_MAX> {
        &self.mmio
    }
}

#[derive(Default)]
struct Draft {
    decisions: Array<Decision, DECISIONS_MAX>,
    given: Array<GivenReg, GIVEN_REGS_MAX>,
    withheld: RangeSet<WITHHELD_MAX>,
}

impl Draft {
    fn classify<'a>(
        &self,
        platform: &Platform<'a>,
        node: &NodeRef<'a, '_>,
        allow: Option<&'a str>,
    ) -> Result<Option<Verdict>, BootError<'a>> {
        if is_memory(node) || node.parent().is_some_and(|p| p.is_top("reserved-memory")) {
            return Ok(None);
        }
        let mut registers = false;
        if node.on_visible_bus() {
            for reg in node.reg()? {
                registers |= matches!(reg?, Reg::Visible(_));
            }
        }
        let master = node.has("iommus") || node.has("iommu-map");
        if !registers && !master && known_bad(node) != Some(Withheld::PlatformBus) {
            return Ok(None);
        }
        let withheld = |reason| Ok(Some(Verdict::Withheld(reason)));
        if !node.enabled() {
            return withheld(Withheld::Disabled);
        }
        let el2_console = platform.uarts.el2.is_some_and(|u| u.node == node.id);
        if is_smmu(node) || el2_console {
            if let Some(word) = allow {
                return Err(BootError::BadOption { word, expected: "a node other than an SMMU or EL2's console" });
            }
            return if el2_console { withheld(Withheld::El2Console) } else { Ok(Some(Verdict::Emulated)) };
        }
        if let Some(word) = allow {
            if known_bad(node) == Some(Withheld::FwCfg) {
                return Err(BootError::BadOption {
                    word,
                    expected: "a node that does not show EL2's command line to the host",
                });
            }
            return Ok(Some(Verdict::Given(Given::Allowed)));
        }
        if self.under_withheld(node) {
            return withheld(Withheld::Parent);
        }
        if let Some(reason) = known_bad(node) {
            return withheld(reason);
        }
        if let Some(host) = platform.pci.iter().find(|p| p.node == node.id) {
            return Ok(Some(match host.upstream {
                Upstream::Smmu { first } => Verdict::Given(Given::Pci { smmu: first }),
                Upstream::Nothing => Verdict::Withheld(Withheld::NoIommuMap),
                Upstream::Partly => Verdict::Withheld(Withheld::IommuMapPartly),
                Upstream::Foreign => Verdict::Withheld(Withheld::ForeignIommu),
            }));
        }
        Ok(Some(match pci::iommus(node, &platform.smmus)? {
            Upstream::Smmu { first } => Verdict::Given(Given::BehindSmmu { smmu: first }),
            Upstream::Foreign | Upstream::Partly => Verdict::Withheld(Withheld::ForeignIommu),
            Upstream::Nothing => {
                non_master(platform, node).map_or(Verdict::Withheld(Withheld::Unknown), Verdict::Given)
            }
        }))
    }

    fn under_withheld(&self, node: &NodeRef<'_, '_>) -> bool {
        let mut above = node.parent();
        while let Some(parent) = above {
            if self.decisions.iter().any(|d| d.node == parent.id && matches!(d.verdict, Verdict::Withheld(_))) {
                return true;
            }
            above = parent.parent();
        }
        false
    }

    fn record<'a>(
        &mut self,
        platform: &Platform<'a>,
        node: &NodeRef<'a, '_>,
        verdict: Verdict,
    ) -> Result<(), BootError<'a>> {
        let decision = self.decisions.len();
        self.decisions
            .push(Decision { node: node.id, verdict })
            .map_err(|_| BootError::TooMany { what: "device tree nodes with registers", limit: DECISIONS_MAX })?;
        if !node.on_visible_bus() {
            return Ok(());
        }
        if !matches!(verdict, Verdict::Given(_)) {
            for reg in node.reg()? {
                if let Reg::Visible(range) = reg? {
                    self.withhold(&range)?;
                }
            }
            return Ok(());
        }
        if node.id == platform.gic.node {
            // The legacy CPU interface frames that may follow are EL2's business.
            self.give(decision, platform.gic.distributor)?;
            return platform.gic.redistributors.iter().try_for_each(|r| self.give(decision, *r));
        }
        if let Some(host) = platform.pci.iter().find(|p| p.node == node.id) {
            self.give(decision, host.ecam)?;
            return host.windows.iter().try_for_each(|w| self.give(decision, *w));
        }
        for reg in node.reg()? {
            if let Reg::Visible(range) = reg? {
                self.give(decision, range)?;
            }
        }
        Ok(())
    }

    fn give<'a>(&mut self, decision: usize, range: PhysRange) -> Result<(), BootError<'a>> {
        self.given
            .push(GivenReg { decision, range: range.page_rounded() })
            .map_err(|_| BootError::TooMany { what: "register ranges for the host", limit: GIVEN_REGS_MAX })
    }

    fn withhold<'a>(&mut self, range: &PhysRange) -> Result<(), BootError<'a>> {
        self.withheld
            .insert(range.page_rounded())
            .map_err(|_| BootError::TooMany { what: "separate withheld register ranges", limit: WITHHELD_MAX })
    }

    /// Takes back what cannot be given in whole pages, until nothing more changes.
    fn settle<'a>(mut self, platform: &Platform<'a>) -> Result<MmioPolicy, BootError<'a>> {
        loop {
            let conflict = self.given.iter().find_map(|reg| {
                let still_given =
                    self.decisions.get(reg.decision).is_some_and(|d| matches!(d.verdict, Verdict::Given(_)));
                if !still_given {
                    None
                } else if platform.memory.ram.overlaps(&reg.range) {
                    Some((reg.decision, Withheld::OverlapsRam))
                } else if self.withheld.overlaps(&reg.range) {
                    Some((reg.decision, Withheld::SharesPage))
                } else {
                    None
                }
            });
            let Some((at, reason)) = conflict else { break };
            if let Some(decision) = self.decisions.get_mut(at) {
                decision.verdict = Verdict::Withheld(reason);
            }
            let given = self.given;
            given.iter().filter(|reg| reg.decision == at).try_for_each(|reg| self.withhold(&reg.range))?;
        }
        let mut policy = MmioPolicy { decisions: self.decisions, mmio: RangeSet::new() };
        if policy.is_withheld(platform.gic.node) {
            return Err(BootError::Unsupported {
                path: platform.path(platform.gic.node),
                what: "its registers share pages with memory or with something that is withheld",
                remedy: "correct the device tree",
            });
        }
        for reg in &self.given {
            if policy.decisions.get(reg.decision).is_some_and(|d| matches!(d.verdict, Verdict::Given(_))) {
                policy.mmio.insert(reg.range).map_err(|_| BootError::TooMany {
                    what: "separate register ranges for the host",
                    limit: MMIO_MAX,
                })?;
            }
        }
        Ok(policy)
    }
}

/// Devices that are withheld even if the tree has them behind an SMMU, in any of their `compatible` strings.
fn known_bad(node: &NodeRef<'_, '_>) -> Option<Withheld> {
    [
        ("qemu,fw-cfg-mmio", Withheld::FwCfg),
        ("cfi-flash", Withheld::Flash),
        ("qemu,platform", Withheld::PlatformBus),
        ("arm,smmu-v3-pmcg", Withheld::Pmcg),
    ]
    .iter()
    .find(|(compatible, _)| node.is_compatible(compatible))
    .map(|&(_, reason)| reason)
    .or_else(|| (node.is_compatible("virtio,mmio") && !node.has("iommus")).then_some(Withheld::VirtioMmio))
}

/// Devices that cannot start a transaction, by their most specific `compatible` string: a variant may have learnt to.
fn non_master(platform: &Platform<'_>, node: &NodeRef<'_, '_>) -> Option<Given> {
    if node.id == platform.gic.node {
        return Some(Given::Gic);
    }
    if platform.gic.its.iter().any(|its| its.node == node.id) {
        return Some(Given::Its);
    }
    match node.compatible()? {
        "arm,pl011" => Some(Given::Uart),
        "arm,pl031" => Some(Given::Rtc),
        "arm,pl061" => Some(Given::Gpio),
        _ => None,
    }
}
