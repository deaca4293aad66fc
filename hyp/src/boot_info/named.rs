//! Contents of address ranges, and their names in messages.

use core::fmt;

use super::path::{NodeId, Path};
use super::range::PhysRange;

/// The content of an address range, for messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Name {
    /// Memory of the host.
    #[default]
    Memory,
    /// EL2's image.
    Image,
    /// EL2's pool.
    Pool,
    /// EL2's own device tree.
    Dtb,
    /// The device tree that EL2 writes for the host.
    HostDtb,
    /// The host's kernel, with the size in its header.
    Kernel,
    /// The host's ramdisk.
    Ramdisk,
    /// Memory reserved with `no-map`.
    Reservation,
    /// The page of an ITS that devices write to.
    Doorbell,
    /// Registers of a node, or its windows (`ranges`).
    Node(NodeId),
}

/// A [`Name`] with the device tree, for display.
#[derive(Clone, Debug, PartialEq)]
pub struct Named<'a> {
    pub(super) name: Name,
    pub(super) path: Option<Path<'a>>,
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.name {
            Name::Memory => "the host's memory",
            Name::Image => "EL2's image",
            Name::Pool => "EL2's pool",
            Name::Dtb => "EL2's device tree",
            Name::HostDtb => "the host's device tree",
            Name::Kernel => "the kernel",
            Name::Ramdisk => "the ramdisk",
            Name::Reservation => "memory reserved with no-map",
            Name::Doorbell => "the page of an ITS that devices write to",
            Name::Node(_) => "",
        };
        match &self.path {
            Some(path) if what.is_empty() => write!(f, "{path}"),
            Some(path) => write!(f, "{what} of {path}"),
            None => f.write_str(what),
        }
    }
}

/// A named address range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part<N> {
    /// The addresses.
    pub range: PhysRange,
    /// The name, for messages.
    pub name: N,
}
