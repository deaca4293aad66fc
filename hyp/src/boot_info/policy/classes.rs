//! Devices that are given or withheld because of their `compatible` string.

use super::verdict::{Given, Withheld};
use crate::boot_info::gic::PRE_ITS;
use crate::boot_info::platform::Platform;
use crate::boot_info::tree::NodeRef;
use crate::boot_info::uart::is_plain;

/// Devices that are withheld even if they are behind an SMMU in the tree, in any of their `compatible` strings.
pub(super) fn known_bad(node: &NodeRef<'_, '_>) -> Option<Withheld> {
    [
        ("qemu,fw-cfg-mmio", Withheld::FwCfg),
        ("cfi-flash", Withheld::Flash),
        ("qemu,platform", Withheld::PlatformBus),
        ("arm,smmu-v3-pmcg", Withheld::Pmcg),
        ("nvidia,tegra264-cmdqv", Withheld::Cmdqv),
    ]
    .iter()
    .find(|(compatible, _)| node.is_compatible(compatible))
    .map(|&(_, reason)| reason)
    .or_else(|| (node.is_compatible("arm,gic-v3-its") && node.has(PRE_ITS)).then_some(Withheld::PreIts))
    .or_else(|| (node.is_compatible("virtio,mmio") && !node.has("iommus")).then_some(Withheld::VirtioMmio))
}

/// Devices that cannot start a transaction, by their most specific `compatible` string: a variant may be a master.
pub(super) fn non_master(platform: &Platform<'_>, node: &NodeRef<'_, '_>) -> Option<Given> {
    if node.id == platform.gic.node {
        return Some(Given::Gic);
    }
    if platform.gic.its.iter().any(|its| its.node == node.id) {
        return Some(Given::Its);
    }
    match node.compatible()? {
        name if is_plain(name) => Some(Given::Uart),
        "arm,pl031" => Some(Given::Rtc),
        "arm,pl061" => Some(Given::Gpio),
        // Written by the loader in firmware only, for flash that this firmware uses at EL1.
        "portcullis,firmware-code" => Some(Given::FirmwareCode),
        "portcullis,firmware-variables" => Some(Given::FirmwareVariables),
        _ => None,
    }
}
