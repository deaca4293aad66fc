//! Why a boot is refused: each message names the value that was found and what the person who started it can do.

use core::fmt;

use io_pgtable::Pa;

use super::module_kind::ModuleKind;
use super::named::Named;
use super::range::PhysRange;
use super::tree::path::Path;

/// A reason not to boot. Nothing was changed when it is returned, except the destination of
/// [`write_host_dtb`](super::fdt_edit::write_host_dtb), which then holds no usable tree.
#[derive(Clone, Debug, PartialEq)]
pub enum BootError<'a> {
    /// What x0 pointed to does not start like a device tree.
    NotADtb {
        /// The first 32 bits found there.
        magic: u32,
    },
    /// A total size that is invalid, or more than the boot protocol's 2 MiB.
    DtbSize {
        /// Bytes claimed.
        size: u32,
    },
    /// The structure is malformed.
    Dtb {
        /// What is wrong, as a sentence.
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
        /// What is wrong, as a predicate.
        problem: &'static str,
    },
    /// More of something than there is room for.
    TooMany {
        /// What.
        what: &'static str,
        /// How many fit.
        limit: usize,
    },
    /// The machine lacks something that isolation needs.
    Missing {
        /// What.
        what: &'static str,
        /// How to get it.
        remedy: &'static str,
    },
    /// The machine has it in a form that EL2 cannot use.
    Unsupported {
        /// The node.
        path: Path<'a>,
        /// What about it.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Every SMMU is disabled.
    SmmuDisabled {
        /// The first SMMU.
        smmu: Path<'a>,
        /// The node that says so: the SMMU, or one above it.
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
    /// Two nodes with one phandle: references are ambiguous.
    SamePhandle {
        /// The phandle.
        phandle: u32,
        /// The first node.
        first: Path<'a>,
        /// The second node.
        second: Path<'a>,
    },
    /// The finished plan has an overlap between something of the host and something withheld from it.
    PlanOverlap {
        /// The first thing.
        first: Named<'a>,
        /// Where it is.
        first_range: PhysRange,
        /// The second thing.
        second: Named<'a>,
        /// Where it is.
        second_range: PhysRange,
    },
    /// The finished plan places something outside the host's memory that must be in it.
    PlanOutside {
        /// What.
        name: Named<'a>,
        /// Where it is.
        range: PhysRange,
    },
    /// Two boot modules of one kind.
    DuplicateModule {
        /// Which kind.
        kind: ModuleKind,
        /// The first node.
        first: Path<'a>,
        /// The second node.
        second: Path<'a>,
    },
    /// Something lies outside the machine's memory.
    NotInRam {
        /// What.
        what: &'static str,
        /// Its address range.
        range: PhysRange,
        /// The end of the machine's memory.
        ram_end: Pa,
    },
    /// Two things were loaded over each other.
    Overlap {
        /// The first thing.
        first: &'static str,
        /// Where it is.
        first_range: PhysRange,
        /// The second thing, to be loaded elsewhere.
        second: &'static str,
        /// Where it is.
        second_range: PhysRange,
    },
    /// The kernel module is not what the arm64 boot protocol calls an Image.
    KernelImage {
        /// What is wrong with it, with a remedy.
        problem: &'static str,
        /// The value found.
        value: u64,
    },
    /// The kernel is not at a 2 MiB boundary plus its text offset.
    KernelMisaligned {
        /// Where it was loaded.
        address: Pa,
        /// The text offset its header asks for.
        text_offset: u64,
    },
    /// No free stretch of memory is large enough.
    NoRoom {
        /// For what.
        what: &'static str,
        /// Bytes wanted in one piece.
        wanted: u64,
        /// All of the machine's memory, in bytes.
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
        /// What is expected.
        expected: &'static str,
    },
    /// The destination of the host's device tree is too small.
    HostDtbRoom {
        /// Bytes there.
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
            Self::TooMany { what, limit } => write!(f, "more than {limit} {what}: this build has no room for them"),
            Self::Missing { what, remedy } => write!(f, "no {what}: {remedy}"),
            Self::Unsupported { path, what, remedy } => write!(f, "{path}: {what}: {remedy}"),
            Self::SmmuDisabled { smmu, by, status } => write!(
                f,
                "no SMMUv3 that is enabled: {smmu}: {by} has status \"{status}\": if the board has it and nothing else \
                 uses it, enable it in the device tree"
            ),
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
            | Self::HostDtbRoom { .. }
            | Self::TokenLeft { .. } => self.fmt_loaded(f),
        }
    }
}

impl BootError<'_> {
    /// What is wrong with the modules, their place or EL2's command line; an error for every other variant.
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
                "too little memory: no free {wanted:#x} bytes in one piece for {what} among {ram:#x} bytes of memory; \
                 give the machine more memory, or leave more room between the modules"
            ),
            Self::UnknownOption { word } => write!(
                f,
                "unknown option '{word}' on EL2's command line: the options are token=, allow=, pool= and cmdq=; \
                 the host kernel's parameters belong to the kernel module's bootargs"
            ),
            Self::BadOption { word, expected } => {
                write!(f, "option '{word}' on EL2's command line: expected {expected}")
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
