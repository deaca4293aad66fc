//! The catalogue of attacks: the attack of each row, and where it must have a test. See docs/threat-model.md.

/// Where a row is tested.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Layers {
    /// On the build machine.
    Model,
    /// By the payload under QEMU.
    Payload,
    /// Both.
    Both,
    /// Not by this command, for this reason.
    Elsewhere(&'static str),
}

impl Layers {
    /// The letters in the table.
    pub(crate) fn letters(self) -> &'static str {
        match self {
            Self::Model => "M",
            Self::Payload => "Q",
            Self::Both => "M Q",
            Self::Elsewhere(_) => "-",
        }
    }

    /// Whether a test on the build machine is required.
    pub(crate) fn model(self) -> bool {
        matches!(self, Self::Model | Self::Both)
    }

    /// Whether a payload test is required.
    pub(crate) fn payload(self) -> bool {
        matches!(self, Self::Payload | Self::Both)
    }
}

use Layers::{Both, Elsewhere, Model, Payload};

/// Row, attack, where it must be tested.
pub(crate) const ROWS: [(u8, &str, Layers); 70] = [
    (1, "DMA to EL2's memory", Both),
    (2, "DMA to a page donated to EL2", Both),
    (3, "DMA to a guest's page", Both),
    (4, "a stale translation: cached, then donated", Both),
    (5, "donation while the host's SMMU is off, then on", Both),
    (6, "DMA to device registers", Both),
    (7, "the host's SMMU disabled", Both),
    (8, "firmware left the SMMU on", Model),
    (9, "an SMMU that loses its state at run time", Model),
    (10, "the MSI store of a CMD_SYNC to a foreign address", Both),
    (11, "MSI configuration with a foreign address", Both),
    (12, "queues and tables in foreign memory", Both),
    (13, "a queue's page donated while the queue is enabled", Both),
    (14, "commands changed between check and use", Both),
    (15, "entries of tables changed between check and use", Model),
    (16, "every field of a stream table entry", Both),
    (17, "every change from one configuration to another", Both),
    (18, "StreamIDs at and beyond the limits", Both),
    (19, "repeated invalidation of everything", Both),
    (20, "context descriptors and page tables in foreign memory", Both),
    (21, "hardware updates of access and dirty state", Model),
    (22, "invalidations of other owners' translations", Both),
    (23, "every opcode with random payloads", Both),
    (24, "inconsistent queue indices", Both),
    (25, "the most expensive queue content, from every CPU", Both),
    (26, "the host's command queue off during a donation", Both),
    (27, "enables toggled in any order", Both),
    (28, "control bits in any pattern", Both),
    (29, "every register offset at every size", Both),
    (30, "accesses that the syndrome does not describe", Payload),
    (31, "fetch, table walk and maintenance on withheld pages", Payload),
    (32, "ATS with the feature hidden", Model),
    (33, "register pages that are hidden", Both),
    (34, "two SMMUs", Model),
    (35, "no memory left", Both),
    (36, "hypercalls with bad ranges", Both),
    (37, "random hypercalls", Payload),
    (38, "transitions, invalidations, changes of STEs and DMA at once from several CPUs", Both),
    (39, "CPUs started, suspended and stopped to bypass EL2", Payload),
    (40, "masters behind no SMMU", Payload),
    (41, "stream tables that change format or size", Both),
    (42, "isolation disabled by command line or by root", Elsewhere("Linux boots: cargo xtask test --only linux")),
    (43, "floods of faults", Both),
    (44, "a walker that does not snoop", Model),
    (45, "the interrupt controller as a DMA master", Both),
    (46, "one page of a cached block", Both),
    (47, "an SMMU that does not respond", Model),
    (48, "commands with reserved bits", Model),
    (49, "a CPU block split while others use it", Payload),
    (50, "dirty lines and old contents at a change of owner", Model),
    (51, "DMA in flight while a page changes owner", Payload),
    (52, "queues, tables and messages in device registers", Both),
    (53, "profiling and debug buffers", Payload),
    (54, "firmware calls with memory addresses", Payload),
    (55, "undescribed registers", Both),
    (56, "PCI: windows and BARs over memory or other registers, peer-to-peer", Payload),
    (57, "EL2's console blocked, or its lines forged", Payload),
    (58, "boot input: overlaps, huge counts, malformed maps", Model),
    (59, "stalls", Model),
    (60, "the time of the longest hypercall", Payload),
    (61, "unordered stores, seen in another order", Model),
    (62, "accesses that complete after the TLB invalidation", Both),
    (63, "an SMMU whose invalidation races with traffic", Model),
    (64, "boot input with hidden overlaps", Model),
    (65, "the most expensive trap", Both),
    (66, "a CPU newer than EL2", Both),
    (67, "a second kernel (kexec, crash) with DMA in flight", Both),
    (68, "a device of another owner: the host's entries, commands, events and registers", Both),
    (69, "a VMID used again; a guest destroyed with a device", Both),
    (70, "firmware that continues as a part of the host (UEFI)", Model),
];

/// The rows in a test's name: `t02_t04_stale` is about rows 2 and 4. The module path is ignored.
pub(crate) fn rows_of(test: &str) -> Vec<u8> {
    let name = test.rsplit("::").next().unwrap_or(test);
    // A letter is a part of a row.
    let number = |word: &str| {
        let digits = word.strip_prefix('t')?.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
        Some(digits).filter(|digits| digits.len() == 2)?.parse().ok()
    };
    name.split('_').map_while(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_numbered_consecutively() {
        assert!(ROWS.iter().map(|row| row.0).eq(1..=70));
    }

    #[test]
    fn a_test_may_be_about_several_rows() {
        assert_eq!(rows_of("tests::t02_t04_t46_a_cached_block"), [2, 4, 46]);
        assert!(rows_of("the_t01_is_not_first").is_empty());
        assert!(rows_of("t1_short").is_empty());
    }
}
