//! Devices that cannot start a transaction.

use super::bindings::plain;
use super::verdict::Given;
use crate::boot_info::platform::Platform;
use crate::boot_info::tree::NodeRef;

/// Why the host gets `node`, for which the tree names no IOMMU.
pub(super) fn non_master(platform: &Platform<'_>, node: &NodeRef<'_, '_>) -> Option<Given> {
    if node.id == platform.gic.node {
        return Some(Given::Gic);
    }
    if platform.gic.its.iter().any(|its| its.node == node.id) {
        return Some(Given::Its);
    }
    plain(node)
}
