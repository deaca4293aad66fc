//! The decisions about nodes by their binding, in one table. docs/boot.md has it too, and a test compares the two.
//! A kind of device that is not in it is withheld unless it is behind an SMMU, or a rule of the board's author gives
//! it.

use super::verdict::{Given, Withheld};
use crate::boot_info::error::BootError;
use crate::boot_info::gic::PRE_ITS;
use crate::boot_info::memory::is_no_map;
use crate::boot_info::tree::NodeRef;

#[cfg(test)]
mod tests;

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binding {
    /// The string of the binding; empty for every node that `matching` finds.
    pub(super) compatible: &'static str,
    /// Which nodes have the binding.
    pub(super) matching: Matching,
    /// A condition on the node's other properties.
    pub(super) having: Having,
    /// The decision.
    pub(super) decision: Decision,
}

/// How the `compatible` strings of a node are compared with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matching {
    /// Its first, most specific string is the row's: a variant may be a DMA master.
    First,
    /// Any of its strings is the row's: a variant of a withheld device is withheld too.
    Any,
    /// As `Any`, and the node is memory reserved for firmware (`no-map`).
    KeptMemory,
}

/// A condition on the other properties of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Having {
    /// No condition.
    Anything,
    /// The node has this property.
    With(&'static str),
    /// The node does not have this property.
    Without(&'static str),
}

/// The decision about a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The host gets its registers if the tree names no IOMMU for it.
    Given(Given),
    /// Its registers are withheld, also behind an SMMU, unless `allow=` names the node.
    Withheld(Withheld),
    /// Its registers are withheld, also behind an SMMU, and `allow=` cannot give the node.
    Never {
        /// The reason.
        why: Withheld,
        /// What `allow=` may name, for the message.
        expected: &'static str,
    },
    /// None: each child node gets its own decision.
    Bus,
    /// The node has no `compatible` in the host's tree, so no driver finds it; nodes that refer to it are withheld.
    Hidden,
}

const fn given(compatible: &'static str, why: Given) -> Binding {
    let decision = Decision::Given(why);
    Binding { compatible, matching: Matching::First, having: Having::Anything, decision }
}

const fn withheld(compatible: &'static str, why: Withheld) -> Binding {
    let decision = Decision::Withheld(why);
    Binding { compatible, matching: Matching::Any, having: Having::Anything, decision }
}

/// The table. The first row that matches a node applies.
pub(super) const BINDINGS: [Binding; 18] = [
    given("arm,pl011", Given::Uart),
    given("arm,sbsa-uart", Given::Uart),
    given("ns16550", Given::Uart),
    given("ns16550a", Given::Uart),
    given("snps,dw-apb-uart", Given::Uart),
    given("arm,pl031", Given::Rtc),
    given("arm,pl061", Given::Gpio),
    // Only the loader in firmware writes these two, for flash that the firmware uses at EL1.
    given("portcullis,firmware-code", Given::FirmwareCode),
    given("portcullis,firmware-variables", Given::FirmwareVariables),
    Binding {
        compatible: "qemu,fw-cfg-mmio",
        matching: Matching::Any,
        having: Having::Anything,
        decision: Decision::Never {
            why: Withheld::FwCfg,
            expected: "a node through which the host cannot read EL2's command line",
        },
    },
    withheld("cfi-flash", Withheld::Flash),
    withheld("qemu,platform", Withheld::PlatformBus),
    withheld("arm,smmu-v3-pmcg", Withheld::Pmcg),
    withheld("nvidia,tegra264-cmdqv", Withheld::Cmdqv),
    Binding {
        compatible: "arm,gic-v3-its",
        matching: Matching::Any,
        having: Having::With(PRE_ITS),
        decision: Decision::Never {
            why: Withheld::PreIts,
            expected: "a node other than an ITS whose doorbell is in another device",
        },
    },
    Binding {
        compatible: "virtio,mmio",
        matching: Matching::Any,
        having: Having::Without("iommus"),
        decision: Decision::Withheld(Withheld::VirtioMmio),
    },
    Binding {
        compatible: "simple-bus",
        matching: Matching::Any,
        having: Having::With("ranges"),
        decision: Decision::Bus,
    },
    // The row for all memory reserved for firmware (qcom,cmd-db, arm,scmi-shmem, ramoops, ...): EL2 cannot share it.
    Binding { compatible: "", matching: Matching::KeptMemory, having: Having::Anything, decision: Decision::Hidden },
];

impl Binding {
    /// Whether the row matches `node`, if that is a device.
    fn is_of(&self, node: &NodeRef<'_, '_>) -> bool {
        let strings = match self.matching {
            Matching::First => node.compatible() == Some(self.compatible),
            Matching::Any => node.is_compatible(self.compatible),
            Matching::KeptMemory => false,
        };
        strings && self.having.of(node)
    }
}

impl Having {
    fn of(self, node: &NodeRef<'_, '_>) -> bool {
        match self {
            Self::Anything => true,
            Self::With(property) => node.has(property),
            Self::Without(property) => !node.has(property),
        }
    }
}

/// The reason why `node` is withheld although it may be behind an SMMU.
pub(super) fn known_bad(node: &NodeRef<'_, '_>) -> Option<Withheld> {
    let why = |row: &Binding| match row.decision {
        Decision::Withheld(why) | Decision::Never { why, .. } => Some(why).filter(|_| row.is_of(node)),
        Decision::Given(_) | Decision::Bus | Decision::Hidden => None,
    };
    BINDINGS.iter().find_map(why)
}

/// What `allow=` may name, if it cannot give `node`.
pub(super) fn allow_cannot_give(node: &NodeRef<'_, '_>) -> Option<&'static str> {
    let expected = |row: &Binding| match row.decision {
        Decision::Never { expected, .. } => Some(expected).filter(|_| row.is_of(node)),
        Decision::Given(_) | Decision::Withheld(_) | Decision::Bus | Decision::Hidden => None,
    };
    BINDINGS.iter().find_map(expected)
}

/// Why the host gets `node`, for which the tree names no IOMMU.
pub(super) fn given_without_iommu(node: &NodeRef<'_, '_>) -> Option<Given> {
    let why = |row: &Binding| match row.decision {
        Decision::Given(why) => Some(why).filter(|_| row.is_of(node)),
        Decision::Withheld(_) | Decision::Never { .. } | Decision::Bus | Decision::Hidden => None,
    };
    BINDINGS.iter().find_map(why)
}

/// Whether `node` has the binding of a bus.
pub(super) fn bus(node: &NodeRef<'_, '_>) -> bool {
    BINDINGS.iter().any(|row| row.decision == Decision::Bus && row.is_of(node))
}

/// Whether `node` is a UART that the host gets: the UART cannot start a transaction; a variant of it may.
pub(in crate::boot_info) fn is_plain_uart(node: &NodeRef<'_, '_>) -> bool {
    given_without_iommu(node) == Some(Given::Uart)
}

/// Whether `node` is memory that no driver of the host may find.
///
/// # Errors
/// [`BootError::Property`] when its `status` is malformed.
pub(in crate::boot_info) fn is_hidden<'a>(node: &NodeRef<'a, '_>) -> Result<bool, BootError<'a>> {
    let row = |row: &Binding| {
        row.matching == Matching::KeptMemory
            && row.decision == Decision::Hidden
            && (row.compatible.is_empty() || node.is_compatible(row.compatible))
            && row.having.of(node)
    };
    Ok(is_no_map(node)? && BINDINGS.iter().any(row))
}

impl core::fmt::Display for Binding {
    /// As a row of the table in docs/boot.md.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match (self.matching, self.compatible) {
            (Matching::First, name) => write!(f, "| `{name}`, most specific")?,
            (Matching::Any, name) => write!(f, "| `{name}`, any")?,
            (Matching::KeptMemory, "") => write!(f, "| memory reserved with `no-map`, with any `compatible`")?,
            (Matching::KeptMemory, name) => write!(f, "| memory reserved with `no-map`, `{name}`")?,
        }
        match self.having {
            Having::Anything => {}
            Having::With(property) => write!(f, ", with `{property}`")?,
            Having::Without(property) => write!(f, ", without `{property}`")?,
        }
        match self.decision {
            Decision::Given(why) => write!(f, " | given | {why} |"),
            Decision::Withheld(why) => write!(f, " | withheld | {why} |"),
            Decision::Never { why, .. } => write!(f, " | withheld, also from `allow=` | {why} |"),
            Decision::Bus => write!(f, " | no decision | a bus: each child node has its own decision |"),
            Decision::Hidden => {
                write!(f, " | without `compatible` | EL2 cannot share it: nodes that refer to it are withheld |")
            }
        }
    }
}
