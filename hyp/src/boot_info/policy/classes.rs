//! Decisions about a node by the IOMMUs of its DMA, and about devices that cannot start a transaction.

use super::bindings::given_without_iommu;
use super::verdict::{Given, Verdict, Withheld};
use crate::boot_info::error::BootError;
use crate::boot_info::pci::{self, Upstream};
use crate::boot_info::platform::Platform;
use crate::boot_info::tree::NodeRef;

/// Decides about a node by the IOMMUs of its DMA.
pub(super) fn by_upstream<'a>(platform: &Platform<'a>, node: &NodeRef<'a, '_>) -> Result<Verdict, BootError<'a>> {
    if let Some(host) = platform.pci.iter().find(|p| p.node == node.id) {
        return Ok(match host.upstream {
            Upstream::Smmu { first } => Verdict::Given(Given::Pci { smmu: first }),
            Upstream::Buses { first } => Verdict::Given(Given::PciBuses { smmu: first }),
            Upstream::Nothing => Verdict::Withheld(Withheld::NoIommuMap),
            Upstream::Partly => Verdict::Withheld(Withheld::IommuMapPartly),
            Upstream::Foreign => Verdict::Withheld(Withheld::ForeignIommu),
        });
    }
    Ok(match pci::of_device(node, &platform.smmus)? {
        Upstream::Smmu { first } => Verdict::Given(Given::BehindSmmu { smmu: first }),
        Upstream::Foreign => Verdict::Withheld(Withheld::ForeignIommu),
        Upstream::Partly | Upstream::Buses { .. } => Verdict::Withheld(Withheld::IommuMapPartly),
        Upstream::Nothing => {
            let given = non_master(platform, node).or_else(|| by_rule(platform, node));
            given.map_or(Verdict::Withheld(Withheld::Unknown), Verdict::Given)
        }
    })
}

/// Why the host gets `node`, for which the tree names no IOMMU.
fn non_master(platform: &Platform<'_>, node: &NodeRef<'_, '_>) -> Option<Given> {
    if node.id == platform.gic.node {
        return Some(Given::Gic);
    }
    if platform.gic.its.iter().any(|its| its.node == node.id) {
        return Some(Given::Its);
    }
    given_without_iommu(node)
}

/// Why the host gets `node`, which is not in the table of bindings and for which the tree names no IOMMU.
fn by_rule(platform: &Platform<'_>, node: &NodeRef<'_, '_>) -> Option<Given> {
    let rule = platform.rules?.giving(node)?;
    Some(Given::Rule { line: rule.line })
}
