//! Tests each refusal: its message contains the table, the value and a remedy.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::build::*;
use super::virt::*;
use crate::*;

/// The machine with the byte at `at` of a table changed, and a valid checksum.
fn byte(signature: &[u8; 4], at: usize, value: u8) -> Machine {
    let mut machine = virt();
    let table = machine.tables.iter_mut().find(|table| &table[..4] == signature).unwrap();
    table[at] = value;
    sum(table);
    machine
}

#[test]
fn missing_and_duplicate_tables_are_refused() {
    for signature in [b"FACP", b"APIC", b"GTDT", b"IORT"] {
        let name = core::str::from_utf8(signature).unwrap();
        let mut machine = virt();
        machine.tables.retain(|table| &table[..4] != signature);
        machine.refused(&[name, "there is no"]);
    }
    for index in 0..virt().tables.len() {
        let mut machine = virt();
        let again = machine.tables[index].clone();
        let name = core::str::from_utf8(&again[..4]).unwrap().to_string();
        machine.tables.push(again);
        if ["DSDT", "PPTT"].contains(&name.as_str()) {
            assert!(machine.describe().is_ok(), "{name} is not read");
        } else {
            machine.refused(&[&name, "two tables"]);
        }
    }
    let mut many = virt();
    many.tables.resize(257, table(b"SSDT", 2, &[]));
    many.refused(&["256 tables", "0x101"]);
    let mut without = virt();
    without.tables.retain(|table| &table[..4] != b"MCFG");
    without.refused(&["behind no SMMUv3"]);
    without.apertures.clear();
    assert!(without.describe().is_ok(), "a machine without PCI");
}

#[test]
fn wrong_lengths_checksums_and_revisions_are_refused() {
    for (signature, revisions) in [
        (b"FACP", &[5, 6][..]),
        (b"APIC", &[3, 4, 5, 6, 7]),
        (b"GTDT", &[2, 3]),
        (b"MCFG", &[1]),
        (b"SPCR", &[2, 3, 4]),
        (b"IORT", &[0, 1, 3, 5, 6, 7]),
    ] {
        let name = core::str::from_utf8(signature).unwrap();
        for revision in 0..=255 {
            let machine = byte(signature, 8, revision);
            if revisions.contains(&revision) {
                assert!(machine.describe().is_ok(), "{name} {revision}");
            } else {
                machine.refused(&[name, "offset 0x8", "revision"]);
            }
        }
        let place = virt().tables.iter().position(|table| &table[..4] == signature).unwrap();
        let mut wrong = virt();
        wrong.tables[place][9] ^= 1;
        wrong.refused(&[name, "offset 0x9", "checksum"]);
        let mut longer = virt();
        longer.tables[place].push(0);
        longer.refused(&[name, "offset 0x4", "length"]);
        for length in 0..longer.tables[place].len() - 1 {
            let mut shorter = virt();
            shorter.tables[place].truncate(length);
            let fits = (4..36).contains(&length);
            if length < 4 {
                // The table now has no signature.
                assert!(shorter.describe().is_err() || matches!(signature, b"MCFG" | b"SPCR"));
            } else {
                shorter.refused(&[name, if fits { "header" } else { "length" }]);
                sum(&mut shorter.tables[place]);
                // A table of entries may end after an entry.
                let may = matches!(signature, b"APIC" | b"MCFG" | b"FACP" | b"GTDT");
                assert!(shorter.describe().is_err() || may && length >= 44, "{name} of {length:#x} bytes");
            }
        }
    }
    let mut huge = virt();
    huge.tables[0] = vec![];
    assert!(huge.describe().is_ok(), "an empty table has no signature");
}

#[test]
fn cpus_that_psci_does_not_start_are_refused() {
    virt().with(fadt(0)).refused(&["FACP", "0x81", "PSCI"]);
    virt().with(fadt(3)).refused(&["FACP", "HVC", "0x3", "virtualization=on"]);
    virt().with(fadt(9)).refused(&["FACP", "unknown", "0x9"]);
    let mut entries = controller(2);
    entries.push(gicc(1, 1, 0));
    virt().with(madt(&entries)).refused(&["APIC", "two CPUs", "0x1"]);
    virt().with(madt(&controller(0))).refused(&["no CPU"]);
    entries[1] = gicc(1 << 31, 1, 0);
    virt().with(madt(&entries)).refused(&["APIC", "affinity", "0x80000000"]);
    byte(b"GTDT", 64, 32).refused(&["GTDT", "offset 0x40", "PPI", "0x20"]);
}

#[test]
fn malformed_interrupt_controllers_are_refused() {
    let with = |entry: Vec<u8>| {
        let mut entries = controller(2);
        entries.push(entry);
        virt().with(madt(&entries))
    };
    with(gicd(0x100_0000, 3)).refused(&["second distributor", "0x1000000"]);
    with(its(0, 0x100_0000)).refused(&["two ITSs"]);
    with(gicr(0x80b_0000, 0x2_0000)).refused(&["two redistributors", "0x80b0000"]);
    with(gicr(0x1000_0000, 0)).refused(&["region of redistributors"]);
    with(gicr(0x1000_0000, 0x1_0000)).refused(&["128 KiB", "0x10000"]);
    with(gicc(7, 1, 0x1000_0000)).refused(&["in no region", "0x10000000"]);
    with(vec![0, 8, 0, 0, 0, 0, 0, 0]).refused(&["APIC", "type", "unknown"]);
    with(vec![0x10, 0]).refused(&["APIC"]);
    with(vec![0xb, 2]).refused(&["APIC", "ends before"]);
    assert!(with(Fields::new(24).u8(0, 0xd).u8(1, 24).u64(8, 0xd00_0000).0).describe().is_ok());
    let mut entries = controller(1);
    entries[0] = gicd(0x800_0000, 2);
    virt().with(madt(&entries)).refused(&["not a GICv3", "gic-version=3"]);
    entries.remove(0);
    virt().with(madt(&entries)).refused(&["no distributor"]);
    virt().with(madt(&[gicd(0x800_0000, 3), gicc(0, 1, 0)])).refused(&["no redistributor"]);
}

#[test]
fn malformed_configuration_space_is_refused() {
    virt().with(mcfg(&[(ECAM, 0, 5, 4)])).refused(&["MCFG", "offset 0x36", "last"]);
    virt().with(mcfg(&[(ECAM + 4096, 0, 0, 255)])).refused(&["1 MiB"]);
    virt().with(mcfg(&[(u64::MAX << 20, 0, 0, 255)])).refused(&["wraps"]);
    virt().with(mcfg(&[(ECAM, 0, 0, 9), (ECAM + (1 << 30), 0, 9, 9)])).refused(&["same bus"]);
    virt().with(mcfg(&[(ECAM, 0, 0, 9), (ECAM, 1, 9, 9)])).refused(&["same bus"]);
    let many: Vec<_> = (0..65).map(|n| (ECAM + (u64::from(n) << 28), n, 0, 255)).collect();
    virt().with(mcfg(&many)).refused(&["64 entries"]);
    let mut other = virt().with(mcfg(&[(ECAM, 7, 0, 255)]));
    other.refused(&["behind no SMMUv3"]);
    other.apertures.clear();
    let notes = other.describe().unwrap().notes;
    assert!(notes.iter().any(|note| note.to_string().contains("not in IORT")));
}

/// The machine with an IORT of an SMMU, changed, and a root complex with these mappings; the group's node is at 48, the
/// SMMU's at 72.
fn iort(smmu_node: Fields, maps: &[Map]) -> Machine {
    let mut iort = Iort::default();
    let group = iort.group(0);
    assert_eq!((group, iort.add(4, 4, &smmu_node.0, &[(0, 0x1_0000, 0, group, 0)])), (48, 72));
    iort.root_complex(0, maps);
    virt().with(iort.done())
}

#[test]
fn malformed_smmus_are_refused() {
    let whole = &[(0, 0x1_0000, 0, 72, 0)];
    assert!(iort(smmu(SMMU, 106), whole).describe().is_ok());
    iort(smmu(SMMU + 0x1000, 106), whole).refused(&["IORT", "64 KiB", "0x9051000"]);
    iort(smmu(0, 106), whole).refused(&["IORT", "64 KiB"]);
    iort(smmu(u64::MAX << 16, 106), whole).refused(&["IORT"]);
    iort(smmu(SMMU, 106).u32(8, 1 << 5), whole).refused(&["flags", "0x20"]);
    iort(smmu(SMMU, 106).u32(24, 3), whole).refused(&["IORT", "model", "0x3"]);
    iort(smmu(SMMU, 106).u32(36, 20), whole).refused(&["interrupt", "0x14"]);
    let mut none = Iort::default();
    none.group(0);
    virt().with(none.done()).refused(&["no SMMUv3"]);
    let mut second = Iort::default();
    second.group(1);
    virt().with(second.done()).refused(&["MADT has no ITS", "0x1"]);
    let mut messages = Iort::default();
    let group = messages.group(0);
    messages.add(4, 5, &smmu(SMMU, 106).u32(8, 0x10).u32(48, 9).0, &[(0, 1, 0, group, 1)]);
    virt().with(messages.done()).refused(&["no mapping", "0x9"]);
    let mut elsewhere = Iort::default();
    elsewhere.group(0);
    let first = elsewhere.smmu(SMMU, 106, &[]);
    elsewhere.smmu(SMMU + 0x2_0000, 110, &[(0, 1, 0, first, 0)]);
    virt().with(elsewhere.done()).refused(&["no ITS group"]);
}

#[test]
fn t70_duplicate_and_invalid_mappings_of_requesters_are_refused() {
    let refused = |maps: &[Map], words: &[&str]| iort(smmu(SMMU, 106), maps).refused(words);
    refused(&[(0, 0x100, 0, 73, 0)], &["points to no node", "0x49"]);
    refused(&[(0, 0x100, 0, 72, 2)], &["flags", "0x2"]);
    refused(&[(0, 0x100, 0, 72, 0), (0xff, 0x100, 0, 72, 0)], &["two mappings", "0xff"]);
    // One of the two mappings bypasses the SMMU.
    refused(&[(0, 0x1_0000, 0, 72, 0), (0x80, 1, 0, 48, 0)], &["two mappings", "0x80"]);
    refused(&[(0, 0x1_0001, 0, 72, 0)], &["65536"]);
    refused(&[(0x1_0000, 1, 0, 72, 0)], &["65536", "0x10000"]);
    refused(&[(0, 0x100, u32::MAX - 4, 72, 0)], &["wrap"]);
    refused(&[(u32::MAX, 2, 0, 72, 0)], &["wrap"]);
    let itself = 72 + 16 + 52 + 20;
    refused(&[(0, 0x100, 0, itself, 0)], &["neither an SMMU nor an ITS group"]);
    let mut shared = iort(smmu(SMMU, 106), &[(0, 1, 0x77, 72, 1)]);
    shared.apertures.clear();
    let shared = shared.describe().unwrap();
    assert!(shared.notes.iter().any(|note| note.to_string().contains("have one StreamID")));
    assert!(!String::from_utf8_lossy(&shared.dtb).contains("pci@"), "a host whose requesters share a stream");
}

#[test]
fn malformed_iort_nodes_are_refused() {
    let with = |kind: u8, revision: u8, data: &[u8]| {
        let mut iort = super::virt::one_smmu();
        iort.add(kind, revision, data, &[]);
        virt().with(iort.done())
    };
    with(7, 0, &[0; 64]).refused(&["IORT", "type", "unknown", "0x7"]);
    with(6, 0, &[0; 64]).refused(&["unknown revision", "0x0"]);
    with(4, 6, &[0; 64]).refused(&["unknown revision", "0x6"]);
    with(6, 1, &[0; 64]).refused(&["no range of memory"]);
    with(0, 1, &[0; 8]).refused(&["no ITS"]);
    with(1, 4, &[0; 5]).refused(&["ends before"]);
    with(2, 3, &[0xff; 20]).refused(&["segment", "0xffffffff"]);
    let table = |change: fn(&mut Vec<u8>)| {
        let mut table = super::virt::one_smmu().done();
        change(&mut table);
        sum(&mut table);
        virt().with(table)
    };
    table(|bytes| bytes[36] = 4).refused(&["IORT", "ends before"]);
    table(|bytes| bytes[36] = 2).refused(&["after the last node"]);
    table(|bytes| bytes[38] = 1).refused(&["4096 nodes"]);
    table(|bytes| bytes[40] = 47).refused(&["inside the table's header", "0x2f"]);
    table(|bytes| bytes[49] = 15).refused(&["shorter than its header", "0xf"]);
    table(|bytes| bytes[72 + 12] = 15).refused(&["mappings is inside the node's header", "0xf"]);
    table(|bytes| bytes[72 + 8] = 2).refused(&["ends before"]);
    table(|bytes| bytes[72 + 11] = 0xff).refused(&["IORT"]);
}

#[test]
fn t70_el2s_memory_is_reserved_and_the_map_has_no_overlaps() {
    let with = |entry: MemoryEntry| {
        let mut machine = virt();
        machine.memory.push(entry);
        machine
    };
    with(memory(kinds::CONVENTIONAL, 0x5000_0000, 4096)).refused(&["UEFI memory map", "overlaps", "0x50000000"]);
    with(memory(kinds::CONVENTIONAL, 0xd000_0000, 0)).refused(&["empty"]);
    with(memory(kinds::CONVENTIONAL, 0xd000_0010, 4096)).refused(&["begin at a page boundary"]);
    with(memory(kinds::CONVENTIONAL, u64::MAX << 12, 8192)).refused(&["wraps"]);
    with(MemoryEntry { pages: u64::MAX, ..memory(7, 0xd000_0000, 0) }).refused(&["wraps"]);
    for kind in [13, 16, 0x7000_0000, 0x8000_0000, u32::MAX] {
        with(memory(kind, 0xd000_0000, 4096)).refused(&["unknown type", &std::format!("{kind:#x}")]);
    }
    with(memory(kinds::UNACCEPTED, 0xd000_0000, 4096)).refused(&["unaccepted"]);
    let uncached = MemoryEntry { attributes: 1, ..memory(kinds::CONVENTIONAL, 0xd000_0000, 4096) };
    for entry in [uncached, memory(kinds::UNUSABLE, 0xd000_0000, 4096), memory(kinds::PERSISTENT, 0xd000_0000, 4096)] {
        let description = with(entry).describe().unwrap();
        assert!(description.notes.iter().any(|note| note.value == 0xd000_0000));
        assert!(!String::from_utf8_lossy(&description.dtb).contains("memory@d0000000"));
    }
    let mut machine = virt();
    machine.memory.resize(4097, machine.memory[0]);
    machine.refused(&["4096 entries"]);
    for own in [
        Range { base: 0x5000_0000, size: MIB },
        Range { base: OWN.base, size: 0 },
        Range { base: OWN.base + 1, size: MIB },
        Range { base: OWN.base, size: MIB + 1 },
        Range { base: OWN.base - 4096, size: MIB },
        Range { base: OWN.base, size: OWN.size + 4096 },
        Range { base: OWN.base, size: !4095 },
    ] {
        Machine { own, ..virt() }.refused(&["EL2's memory", "EfiReservedMemoryType"]);
    }
}

#[test]
fn t70_registers_in_no_table_and_not_in_the_list_are_refused() {
    let mut unlisted = virt();
    unlisted.registers.retain(|entry| entry.used_as != Use::Clock);
    unlisted.refused(&["UEFI memory map", "runtime services", "0x9010000"]);
    unlisted.memory.retain(|entry| entry.kind != kinds::MMIO);
    unlisted.refused(&["GCD memory space map", "runtime services", "0x9010000"]);
    let with = |range: Range| {
        let mut machine = virt();
        machine.registers.push(Registers { range, used_as: Use::Clock });
        machine
    };
    with(Range { base: 0xd00_0800, size: 0x1000 }).refused(&["loader lists", "whole pages"]);
    with(Range { base: 0xd00_0000, size: 0 }).refused(&["whole pages"]);
    with(Range { base: 0u64.wrapping_sub(4096), size: 8192 }).refused(&["whole pages"]);
    for taken in [RTC.base, SMMU, 0x808_0000, 0x80a_0000, 0x900_0000, ECAM + MIB] {
        with(Range { base: taken, size: 0x1000 }).refused(&["same registers", &std::format!("{taken:#x}")]);
    }
}

#[test]
fn t70_only_spaces_with_a_function_are_windows() {
    let with = |aperture: Aperture| {
        let mut machine = virt();
        machine.apertures.push(aperture);
        machine
    };
    let at = |base| Aperture { cpu: Range { base, size: 0x1000 }, bus: base, ..Aperture::default() };
    // Memory, flash, configuration space, registers in no space at all.
    for base in [0x5000_0000, FLASH.base, ECAM, 0x902_0000] {
        with(at(base)).refused(&["addresses of PCI functions", "no GCD space", &std::format!("{base:#x}")]);
    }
    with(Aperture { cpu: Range { base: 0x1000_0000, size: 1 << 40 }, ..at(0x1000_0000) }).refused(&["no GCD space"]);
    with(Aperture { bus: 0x2000_0000, ..at(0x1000_0000) }).refused(&["two root bridges"]);
    with(Aperture { segment: 1, ..at(0x1000_0000) }).refused(&["behind no SMMUv3"]);
    // A root bridge without an SMMU whose functions are in the window of another one.
    with(Aperture { first_bus: 3, ..at(0x1040_0000) }).refused(&["behind no SMMUv3", "0x10400000"]);
    with(Aperture { bus: 0, ..at(0x1000_1000) }).refused(&["wrap"]);
    assert!(with(Aperture { cpu: Range { base: 5, size: 0 }, ..Aperture::default() }).describe().is_ok());
    let mut wrapping = virt();
    wrapping.spaces.push(mmio(u64::MAX - 5, 4096, 0));
    wrapping.refused(&["GCD", "wraps"]);
    // Without an aperture the space is not a window.
    let mut none = virt();
    none.apertures.clear();
    let tree = super::tree::tree(&none);
    use dtoolkit::Node;
    assert!(tree.find_node("/pci@4010000000").unwrap().property("ranges").is_none());
    // Registers that no node has are in no window either.
    let mut hidden = super::virt::one_smmu();
    hidden.add(3, 3, &Fields::new(60).u64(0, 0x1100_0000).u64(8, 0x2_0000).0, &[]);
    hidden.add(5, 1, &Fields::new(24).u64(0, 0x1110_0000).u64(16, 0x1120_0000).0, &[]);
    hidden.add(5, 0, &Fields::new(16).u64(0, 0x1120_0000).0, &[]);
    let mut data = smmu(SMMU + 0x2_0000, 0);
    data = data.u64(16, 0x1130_0000);
    hidden.add(4, 4, &data.0, &[]);
    let mut entries = controller(1);
    entries.push(Fields::new(24).u8(0, 0xd).u8(1, 24).u64(8, 0x1140_0000).0);
    let mut machine = virt().with(hidden.done()).with(madt(&entries));
    machine.apertures[0].cpu = Range { base: 0x1200_0000, size: MIB };
    machine.apertures[0].bus = 0x1200_0000;
    let tree = super::tree::tree(&machine);
    let windows = super::tree::cells(&tree, "/pci@4010000000", "ranges");
    assert_eq!(windows[..7], [0x200_0000, 0, 0x1140_1000, 0, 0x1140_1000, 0, 0x3f00_0000 - 0x1140_1000]);
    for at in [0x1100_0000, 0x1110_0000, 0x1120_0000, 0x1130_0000, 0x1140_0000] {
        let mut inside = machine.clone();
        inside.apertures[0] = Aperture { cpu: Range { base: at, size: 0x1000 }, bus: at, ..Aperture::default() };
        inside.refused(&["no GCD space", &std::format!("{at:#x}")]);
    }
    let mut behind = virt();
    behind.apertures[0].first_bus = 3;
    behind.refused(&["behind no SMMUv3"]);
}

#[test]
fn invalid_command_lines_are_refused() {
    Machine { command_line: "console=none\n".to_string(), ..virt() }.refused(&["command line", "0xa", "printable"]);
    Machine { command_line: "a\0b".to_string(), ..virt() }.refused(&["printable"]);
    Machine { command_line: "é".to_string(), ..virt() }.refused(&["printable"]);
    Machine { command_line: "a".repeat(4097), ..virt() }.refused(&["4096"]);
}
