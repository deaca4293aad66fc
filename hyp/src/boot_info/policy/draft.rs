//! The decisions in progress: node by node in tree order, then revised where they conflict.

use super::bindings::{allow_cannot_give, known_bad};
use super::classes::by_upstream;
use super::nodes::{Use, claims, is_bus, is_master};
use super::{
    BUSES_MAX, CODE_MAX, DECISIONS_MAX, Decision, GIVEN_MAX, Given, MMIO_MAX, MmioPolicy, Verdict, WITHHELD_MAX,
    Withheld,
};
use crate::boot_info::error::BootError;
use crate::boot_info::memory::{is_framebuffer, is_memory, is_reservation};
use crate::boot_info::modules::is_module;
use crate::boot_info::named::{Name, Part};
use crate::boot_info::overlap::overlap;
use crate::boot_info::pci::{self, Upstream};
use crate::boot_info::platform::Platform;
use crate::boot_info::range::PhysRange;
use crate::boot_info::smmu::is_smmu;
use crate::boot_info::tree::{NodeId, NodeRef};
use arrayvec::ArrayVec;

/// A range of a given node.
#[derive(Clone, Copy, Debug, Default)]
struct NodeRange {
    decision: u16,
    usage: Use,
    range: PhysRange,
}

/// The policy with the state needed to compute it. Large, so it is updated in place: the boot stack is small.
#[derive(Default)]
pub(super) struct Draft {
    policy: MmioPolicy,
    /// For each decision, the index of the decision about the nearest node above.
    above: ArrayVec<Option<u16>, DECISIONS_MAX>,
    /// The ranges that the host gets.
    mapped: ArrayVec<NodeRange, GIVEN_MAX>,
    /// Ranges of a given node that the host does not get; withheld if the node's decision is revised.
    unmapped: ArrayVec<NodeRange, GIVEN_MAX>,
}

impl Draft {
    /// Decides about `node`. `allow` is the `allow=` option that names it, if there is one. `None` if no decision is
    /// needed.
    pub(super) fn classify<'a>(
        &self,
        platform: &Platform<'a>,
        node: &NodeRef<'a, '_>,
        allow: Option<&'a str>,
    ) -> Result<Option<Verdict>, BootError<'a>> {
        let is_ram = is_memory(node) && node.enabled();
        if is_ram || is_reservation(node) || is_framebuffer(node) || is_module(node) {
            return Ok(None);
        }
        let under_withheld = self.below_withheld(self.above(node));
        let mut visible = false;
        claims(node, &mut |usage, _| {
            visible |= usage == Use::Registers || under_withheld || !node.enabled();
            Ok(())
        })?;
        if !visible && !is_master(node) && known_bad(node) != Some(Withheld::PlatformBus) {
            return Ok(None);
        }
        let withheld = |reason| Ok(Some(Verdict::Withheld(reason)));
        if !node.enabled() {
            return withheld(Withheld::Disabled);
        }
        if is_bus(node) && !under_withheld && !platform.providers.contains(node.id) {
            return Ok(None);
        }
        let el2_console = platform.uarts.el2.is_some_and(|u| u.node == node.id);
        if is_smmu(node) || el2_console {
            if let Some(word) = allow {
                return Err(BootError::BadOption { word, expected: "a node other than an SMMU or EL2's console" });
            }
            return if el2_console { withheld(Withheld::El2Console) } else { Ok(Some(Verdict::Emulated)) };
        }
        if platform.providers.contains(node.id) {
            if let Some(word) = allow {
                return Err(BootError::BadOption {
                    word,
                    expected: "a node that no SMMU's power, clock or reset depends on",
                });
            }
            return withheld(Withheld::SmmuDepends);
        }
        if let Some(word) = allow {
            return match allow_cannot_give(node) {
                Some(expected) => Err(BootError::BadOption { word, expected }),
                None => Ok(Some(Verdict::Given(Given::Allowed))),
            };
        }
        if under_withheld {
            return withheld(Withheld::Parent);
        }
        if let Some(reason) = known_bad(node) {
            return withheld(reason);
        }
        by_upstream(platform, node).map(Some)
    }

    /// Withholds the nodes above `node` if it is a master not behind an SMMU: access to a device's registers can
    /// start the DMA of its child nodes, also of disabled ones.
    pub(super) fn withhold_parents<'a>(
        &mut self,
        platform: &Platform<'a>,
        node: &NodeRef<'a, '_>,
    ) -> Result<(), BootError<'a>> {
        if !is_master(node) {
            return Ok(());
        }
        let upstream = match platform.pci.iter().find(|p| p.node == node.id) {
            Some(host) => host.upstream,
            None => pci::of_device(node, &platform.smmus)?,
        };
        let reason = match upstream {
            Upstream::Smmu { .. } | Upstream::Buses { .. } | Upstream::Nothing => return Ok(()),
            Upstream::Foreign => Withheld::ForeignIommu,
            Upstream::Partly => Withheld::IommuMapPartly,
        };
        let mut above = self.above(node);
        while let Some(at) = above {
            let on_the_smmu = |d: &Decision| {
                use Given::{BehindSmmu, Pci, PciBuses, Rule};
                matches!(d.verdict, Verdict::Given(Pci { .. } | PciBuses { .. } | BehindSmmu { .. } | Rule { .. }))
            };
            if self.decision(at).is_some_and(on_the_smmu) {
                self.withhold_decided(at, reason)?;
            }
            above = self.above_of(at);
        }
        Ok(())
    }

    /// Records the decision about `node`, with all its ranges.
    pub(super) fn record<'a>(
        &mut self,
        platform: &Platform<'a>,
        node: &NodeRef<'a, '_>,
        verdict: Verdict,
    ) -> Result<(), BootError<'a>> {
        let decision = u16::try_from(self.policy.decisions.len()).unwrap_or(u16::MAX);
        let full = || BootError::TooMany { what: "device tree nodes with registers", limit: DECISIONS_MAX };
        self.above.try_push(self.above(node)).map_err(|_| full())?;
        self.policy.decisions.try_push(Decision { node: node.id, verdict, shares: None }).map_err(|_| full())?;
        let given = matches!(verdict, Verdict::Given(_));
        let bridge = platform.pci.iter().find(|p| p.node == node.id);
        claims(node, &mut |usage, mut range| {
            let distributor = platform.gic.distributor;
            if node.id == platform.gic.node && range.base() == distributor.base() && range != distributor {
                if let Some(rest) = PhysRange::between(distributor.end(), range.end()) {
                    self.add_withheld(Name::Node(node.id), usage, &rest)?;
                }
                range = distributor;
            }
            let is_mapped = match (node.id == platform.gic.node, bridge) {
                // Later entries of `reg` are frames of the legacy CPU interface, which are not mapped.
                (true, _) => platform.gic.distributor == range || platform.gic.redistributors.contains(&range),
                (false, Some(host)) => host.ecam == range || host.windows.contains(&range),
                (false, None) => usage == Use::Registers,
            };
            let entry = NodeRange { decision, usage, range: range.page_rounded() };
            let list = match (given, is_mapped, usage, bridge) {
                (true, true, ..) => &mut self.mapped,
                // Neither mapped nor withheld.
                (true, false, Use::Bridge | Use::Bus, None) => &mut self.unmapped,
                (false, ..) | (true, false, ..) => return self.add_withheld(Name::Node(node.id), usage, &range),
            };
            list.try_push(entry)
                .map_err(|_| BootError::TooMany { what: "register ranges for the host", limit: GIVEN_MAX })
        })
    }

    /// Records `range` as withheld, independent of other nodes with the same addresses.
    pub(super) fn withhold<'a>(&mut self, name: Name, range: &PhysRange) -> Result<(), BootError<'a>> {
        self.add_withheld(name, Use::Registers, range)
    }

    pub(super) fn add_withheld<'a>(&mut self, name: Name, usage: Use, range: &PhysRange) -> Result<(), BootError<'a>> {
        let part = Part { range: *range, name };
        let known = |parts: &[Part<Name>]| parts.iter().any(|part| part.range.contains(range));
        match usage {
            Use::Registers | Use::Bridge if known(&self.policy.withheld) => Ok(()),
            Use::Registers | Use::Bridge => self
                .policy
                .withheld
                .try_push(part)
                .map_err(|_| BootError::TooMany { what: "withheld register ranges", limit: WITHHELD_MAX }),
            Use::Bus if known(&self.policy.buses) => Ok(()),
            Use::Bus => self
                .policy
                .buses
                .try_push(part)
                .map_err(|_| BootError::TooMany { what: "ranges of withheld buses", limit: BUSES_MAX }),
        }
    }

    /// Withholds nodes that share a page with withheld registers, and nodes below withheld nodes, until nothing
    /// changes.
    pub(super) fn withhold_dependents<'a>(&mut self) -> Result<(), BootError<'a>> {
        loop {
            let below = self.policy.decisions.iter().zip(self.above.iter()).position(|(decision, above)| {
                // SMMUs always belong to EL2, and `allow=` overrides.
                matches!(decision.verdict, Verdict::Given(why) if why != Given::Allowed) && self.below_withheld(*above)
            });
            let shares = || {
                let shared = |entry: &NodeRange| {
                    let overlaps = |parts: &[Part<Name>]| {
                        parts.iter().find(|part| part.range.overlaps(&entry.range)).map(|part| part.name)
                    };
                    if self.is_withheld(entry.decision) {
                        return None;
                    }
                    let other = overlaps(&self.policy.withheld);
                    let other = other.or_else(|| overlaps(&self.policy.buses).filter(|_| entry.usage == Use::Bridge));
                    other.map(|other| (entry.decision, Withheld::SharesPage, Some(other)))
                };
                self.mapped.iter().find_map(shared)
            };
            let below = below.and_then(|at| u16::try_from(at).ok());
            let Some((at, reason, other)) = below.map(|at| (at, Withheld::Parent, None)).or_else(shares) else {
                return Ok(());
            };
            self.withhold_decided(at, reason)?;
            if let Some(decision) = self.policy.decisions.get_mut(usize::from(at)) {
                decision.shares = other;
            }
        }
    }

    /// The final policy.
    pub(super) fn finish<'a>(mut self, platform: &Platform<'a>) -> Result<MmioPolicy, BootError<'a>> {
        if self.policy.is_withheld(platform.gic.node) {
            return Err(self.gic_withheld(platform));
        }
        let full = |limit| BootError::TooMany { what: "separate register ranges for the host", limit };
        for entry in &self.mapped {
            let decision = self.decision(entry.decision).filter(|_| !self.is_withheld(entry.decision));
            let Some(decision) = decision.copied() else {
                continue;
            };
            let part = Part { range: entry.range, name: Name::Node(decision.node) };
            let policy = &mut self.policy;
            let list = if entry.usage == Use::Bridge { &mut policy.windows } else { &mut policy.given };
            list.try_push(part).map_err(|_| full(GIVEN_MAX))?;
            let mapped = if decision.verdict == Verdict::Given(Given::FirmwareCode) {
                policy.code.insert(entry.range).map_err(|_| full(CODE_MAX))
            } else {
                policy.mmio.insert(entry.range).map_err(|_| full(MMIO_MAX))
            };
            mapped?;
        }
        // A range that can be written is never executable, independent of other nodes.
        for range in self.policy.code.clone().iter() {
            self.policy.mmio.remove(range).map_err(|_| full(MMIO_MAX))?;
        }
        for host in platform.pci.iter().filter(|host| host.has_fixed_bus_numbers()) {
            self.policy.mmio.remove(&host.ecam.page_rounded()).map_err(|_| full(MMIO_MAX))?;
        }
        Ok(self.policy)
    }

    /// The error if the interrupt controller, which the host needs, is withheld.
    fn gic_withheld<'a>(&self, platform: &Platform<'a>) -> BootError<'a> {
        let gic = Name::Node(platform.gic.node);
        let frames = || core::iter::once(&platform.gic.distributor).chain(platform.gic.redistributors.iter());
        let overlaps =
            |part: &&Part<Name>| part.name != gic && frames().any(|f| f.page_rounded().overlaps(&part.range));
        match self.policy.withheld.iter().find(overlaps) {
            Some(part) => {
                let frame = frames().find(|f| f.page_rounded().overlaps(&part.range)).copied().unwrap_or_default();
                overlap(platform, &Part { range: frame, name: gic }, part)
            }
            None => BootError::Unsupported {
                path: platform.path(platform.gic.node),
                what: "its registers overlap, or it is below a node that is withheld",
                remedy: "correct the device tree",
            },
        }
    }

    pub(super) fn withhold_decided<'a>(&mut self, at: u16, reason: Withheld) -> Result<(), BootError<'a>> {
        let Some(decision) = self.policy.decisions.get_mut(usize::from(at)) else { return Ok(()) };
        decision.verdict = Verdict::Withheld(reason);
        let name = Name::Node(decision.node);
        for n in 0..GIVEN_MAX {
            for entry in [self.mapped.get(n).copied(), self.unmapped.get(n).copied()].into_iter().flatten() {
                if entry.decision == at {
                    self.add_withheld(name, entry.usage, &entry.range)?;
                }
            }
        }
        Ok(())
    }

    /// The decision about `node`, if there is one, with its number.
    pub(super) fn verdict_at(&self, node: NodeId) -> Option<(u16, Verdict)> {
        let at = self.policy.decisions.iter().position(|decision| decision.node == node)?;
        let at = u16::try_from(at).ok()?;
        Some((at, self.decision(at)?.verdict))
    }

    /// Records that the rule with this number, from 0, matched a node.
    pub(super) fn use_rule(&mut self, number: usize) {
        self.policy.rules_used |= u32::try_from(number).ok().and_then(|number| 1u128.checked_shl(number)).unwrap_or(0);
    }

    pub(super) fn is_node_withheld(&self, node: NodeId) -> bool {
        self.policy.is_withheld(node)
    }

    /// The other user of the page, if a decision was made because of it.
    pub(super) fn shares(&self, at: u16) -> Option<Name> {
        self.decision(at)?.shares
    }

    /// The nearest withheld node above that of a decision.
    pub(super) fn withheld_above(&self, at: u16) -> Option<Name> {
        let mut above = self.above_of(at);
        while let Some(at) = above {
            if self.is_withheld(at) {
                return self.decision(at).map(|decision| Name::Node(decision.node));
            }
            above = self.above_of(at);
        }
        None
    }

    fn decision(&self, at: u16) -> Option<&Decision> {
        self.policy.decisions.get(usize::from(at))
    }

    fn above_of(&self, at: u16) -> Option<u16> {
        self.above.get(usize::from(at)).copied().flatten()
    }

    /// Whether the decision at `above`, or one about a node above that one, is `Withheld`.
    fn below_withheld(&self, mut above: Option<u16>) -> bool {
        while let Some(at) = above {
            if self.is_withheld(at) {
                return true;
            }
            above = self.above_of(at);
        }
        false
    }

    fn is_withheld(&self, at: u16) -> bool {
        self.decision(at).is_some_and(|d| matches!(d.verdict, Verdict::Withheld(_)))
    }

    /// The decision about the nearest node above `node` with a decision.
    fn above(&self, node: &NodeRef<'_, '_>) -> Option<u16> {
        let mut above = node.parent();
        while let Some(parent) = above {
            // The last ones are the nearest.
            if let Some(at) = self.policy.decisions.iter().rposition(|d| d.node == parent.id) {
                return u16::try_from(at).ok();
            }
            above = parent.parent();
        }
        None
    }
}
