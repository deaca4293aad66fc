//! Why a boot is refused: each message has the wrong value and the remedy.

use core::fmt;

use io_pgtable::Pa;

use super::module_kind::ModuleKind;
use super::named::Named;
use super::path::Path;
use super::range::PhysRange;
use super::rule_kind::{Quoted, RuleKind, RuleRemedy};

/// A reason not to boot. Nothing was changed when it is returned, except the destination of
/// [`write_host_dtb`](super::fdt_edit::write_host_dtb), which then has no usable tree.
#[derive(Clone, Debug, PartialEq)]
pub enum BootError<'a> {
    /// The data at x0 is not a device tree.
    NotADtb {
        /// Its first 32 bits.
        magic: u32,
    },
    /// A total size that is invalid, or more than the boot protocol's 2 MiB.
    DtbSize {
        /// The size in the header, in bytes.
        size: u32,
    },
    /// The structure is malformed.
    Dtb {
        /// A description of the error.
        problem: &'static str,
        /// Where, in bytes from the start.
        offset: usize,
    },
    /// An invalid property.
    Property {
        /// The node.
        path: Path<'a>,
        /// The property.
        property: &'static str,
        /// The error, as a predicate.
        problem: &'static str,
    },
    /// More items than there is room for.
    TooMany {
        /// The items.
        what: &'static str,
        /// Their maximum number.
        limit: usize,
    },
    /// The machine lacks hardware or firmware that isolation needs.
    Missing {
        /// The missing part.
        what: &'static str,
        /// The remedy.
        remedy: &'static str,
    },
    /// The machine has a part that EL2 does not support.
    Unsupported {
        /// The node.
        path: Path<'a>,
        /// What is unsupported.
        what: &'static str,
        /// The remedy.
        remedy: &'static str,
    },
    /// Every SMMU is disabled.
    SmmuDisabled {
        /// The first SMMU.
        smmu: Path<'a>,
        /// The node with the `status`: the SMMU, or one above it.
        by: Path<'a>,
        /// The value of its `status`.
        status: &'a str,
    },
    /// Two nodes claim the same registers, or one node is listed twice.
    NodesOverlap {
        /// The first node.
        first: Path<'a>,
        /// The second node.
        second: Path<'a>,
        /// The second node's range.
        range: PhysRange,
    },
    /// Two nodes have one phandle, so references are ambiguous.
    SamePhandle {
        /// The phandle.
        phandle: u32,
        /// The first node.
        first: Path<'a>,
        /// The second node.
        second: Path<'a>,
    },
    /// In the finished plan a part of the host overlaps a part that is withheld from it.
    PlanOverlap {
        /// The first part.
        first: Named<'a>,
        /// Its range.
        first_range: PhysRange,
        /// The second part.
        second: Named<'a>,
        /// Its range.
        second_range: PhysRange,
    },
    /// The finished plan has a part outside the host's memory that must be in it.
    PlanOutside {
        /// The part.
        name: Named<'a>,
        /// Its range.
        range: PhysRange,
    },
    /// Two boot modules of one kind.
    DuplicateModule {
        /// The kind.
        kind: ModuleKind,
        /// The first node.
        first: Path<'a>,
        /// The second node.
        second: Path<'a>,
    },
    /// A part is outside the machine's memory.
    NotInRam {
        /// The part.
        what: &'static str,
        /// Its address range.
        range: PhysRange,
        /// The end of the machine's memory.
        ram_end: Pa,
    },
    /// Two parts overlap.
    Overlap {
        /// The first part.
        first: &'static str,
        /// Its range.
        first_range: PhysRange,
        /// The second part, to be loaded at another address.
        second: &'static str,
        /// Its range.
        second_range: PhysRange,
    },
    /// The kernel module is not an Image of the arm64 boot protocol.
    KernelImage {
        /// The error, with a remedy.
        problem: &'static str,
        /// The wrong value.
        value: u64,
    },
    /// The kernel is not at a 2 MiB boundary plus its text offset.
    KernelMisaligned {
        /// Its load address.
        address: Pa,
        /// The text offset in its header.
        text_offset: u64,
    },
    /// No free range of memory is large enough.
    NoRoom {
        /// The part that needs it.
        what: &'static str,
        /// Required contiguous bytes.
        wanted: u64,
        /// Size of the machine's memory in bytes.
        ram: u64,
    },
    /// EL2's command line has an unknown word.
    UnknownOption {
        /// The word.
        word: &'a str,
    },
    /// EL2's command line has an option whose value cannot be used.
    BadOption {
        /// The word.
        word: &'a str,
        /// The expected value.
        expected: &'static str,
    },
    /// The host would not get a node in an `allow=` option of EL2's command line.
    Allow {
        /// The path in it.
        path: &'a str,
        /// The reason.
        why: &'static str,
        /// The other node, if that is the reason.
        other: Option<Named<'a>>,
    },
    /// A line of the policy module is not a rule.
    RuleLine {
        /// The line, from 1.
        line: usize,
        /// The part of it that is wrong.
        value: &'a str,
        /// The expected text.
        expected: &'static str,
    },
    /// A rule of the policy module cannot be followed on this machine.
    Rule {
        /// Its line, from 1.
        line: u16,
        /// What it does.
        kind: RuleKind,
        /// The kind of device.
        compatible: &'a str,
        /// The node that it matches.
        node: Path<'a>,
        /// Why not.
        why: &'static str,
        /// The other node, if that is the reason.
        other: Option<Named<'a>>,
        /// The remedy.
        remedy: RuleRemedy,
    },
    /// The destination of the host's device tree is too small.
    HostDtbRoom {
        /// Its size in bytes.
        room: usize,
    },
    /// The run's token would be visible to the host.
    TokenLeft {
        /// Byte offset in the host's device tree.
        offset: usize,
    },
}

impl fmt::Display for BootError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotADtb { magic } => write!(
                f,
                "x0 does not point to a device tree: it starts with {magic:#010x}, not 0xd00dfeed; \
                 start EL2 by the arm64 boot protocol (QEMU: -kernel with the raw Image, not the ELF file)"
            ),
            Self::DtbSize { size } => {
                write!(f, "device tree of {size:#x} bytes: it must have between 40 bytes and 2 MiB; pass an intact one")
            }
            Self::Dtb { problem, offset } => {
                write!(f, "malformed device tree: {problem} (offset {offset:#x}); pass an intact one")
            }
            Self::Property { path, property, problem } => {
                write!(f, "device tree: property {property} of {path} {problem}; correct the device tree")
            }
            Self::TooMany { what, limit } => write!(f, "more than {limit} {what}: this build does not support more"),
            Self::Missing { what, remedy } => write!(f, "no {what}: {remedy}"),
            Self::Unsupported { path, what, remedy } => write!(f, "{path}: {what}: {remedy}"),
            Self::SmmuDisabled { smmu, by, status } => {
                f.write_str("no SMMUv3 that is enabled: ")?;
                if smmu != by {
                    write!(f, "{smmu}: ")?;
                }
                write!(
                    f,
                    "{by} has status \"{status}\": if the board has it and nothing else uses it, enable it in the device tree"
                )
            }
            Self::NodesOverlap { first, second, range } => write!(
                f,
                "device tree: {second} at {range} overlaps {first}: one of them is wrong or listed twice; correct the device tree"
            ),
            Self::SamePhandle { phandle, first, second } => {
                write!(f, "{second} has the phandle {phandle:#x} of {first}; correct the device tree")
            }
            Self::PlanOverlap { first, first_range, second, second_range } => write!(
                f,
                "{first} at {first_range} overlaps {second} at {second_range}: the host would get access to both; \
                 correct the device tree"
            ),
            Self::PlanOutside { name, range } => {
                write!(
                    f,
                    "{name} at {range} is not in the host's memory; correct the device tree, or load it elsewhere"
                )
            }
            Self::DuplicateModule { kind, first, second } => {
                write!(f, "two {kind} modules, {first} and {second}: pass one of them only")
            }
            Self::NotInRam { .. }
            | Self::Overlap { .. }
            | Self::KernelImage { .. }
            | Self::KernelMisaligned { .. }
            | Self::NoRoom { .. }
            | Self::UnknownOption { .. }
            | Self::BadOption { .. }
            | Self::Allow { .. }
            | Self::RuleLine { .. }
            | Self::Rule { .. }
            | Self::HostDtbRoom { .. }
            | Self::TokenLeft { .. } => self.fmt_loaded(f),
        }
    }
}

impl BootError<'_> {
    /// Prints an error of the modules, their addresses or EL2's command line; returns an error for every other
    /// variant.
    fn fmt_loaded(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInRam { what, range, ram_end } => write!(
                f,
                "{what} at {range} is not in the machine's memory, which ends at {ram_end}: \
                 load it at a lower address or give the machine more memory"
            ),
            Self::Overlap { first, first_range, second, second_range } => write!(
                f,
                "{second} at {second_range} overlaps {first} at {first_range}: load {second} at {:#x} or above",
                first_range.end()
            ),
            Self::KernelImage { problem, value } => {
                write!(f, "kernel module: {problem} (found {value:#x})")
            }
            Self::KernelMisaligned { address, text_offset } => write!(
                f,
                "kernel module at {address}: it must lie {text_offset:#x} bytes above a multiple of 2 MiB; load it there"
            ),
            Self::NoRoom { what, wanted, ram } => write!(
                f,
                "too little memory: no free {wanted:#x} contiguous bytes for {what} in {ram:#x} bytes of memory; \
                 give the machine more memory, or leave more room between the modules"
            ),
            Self::UnknownOption { word } => write!(
                f,
                "unknown option '{word}' on EL2's command line: the options are token=, \
                 allow=, withhold=, console=, pool=, no-reset= and cmdq=; \
                 the host kernel's parameters belong to the kernel module's bootargs"
            ),
            Self::BadOption { word, expected } => {
                write!(f, "option '{word}' on EL2's command line: expected {expected}")
            }
            Self::Allow { path, why, other } => {
                write!(f, "option 'allow={path}' on EL2's command line: {why}")?;
                other.as_ref().map_or(Ok(()), |other| write!(f, ": {other}"))
            }
            Self::RuleLine { line, value, expected } => {
                write!(f, "line {line} of the policy module: '{}': expected {expected}", Quoted(value))
            }
            Self::Rule { line, kind, compatible, node, why, other, remedy } => {
                write!(f, "line {line} of the policy module, '{kind} {compatible}', and {node}: {why}")?;
                other.as_ref().map_or(Ok(()), |other| write!(f, ": {other}"))?;
                write!(f, "; {remedy}")
            }
            Self::HostDtbRoom { room } => {
                write!(f, "the host's device tree does not fit in {room:#x} bytes")
            }
            Self::TokenLeft { offset } => write!(
                f,
                "the run's token would be visible to the host at offset {offset:#x} of its device tree: \
                 do not use the token outside EL2's command line"
            ),
            _ => Err(fmt::Error),
        }
    }
}

impl core::error::Error for BootError<'_> {}
