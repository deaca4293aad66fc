//! QEMU's `virt` machine with EDK2: its tables, its memory map and its GCD spaces, each of which a test can change.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::build::*;
use crate::*;

pub(super) const MIB: u64 = 1 << 20;
pub(super) const OWN: Range = Range { base: 0x7400_0000, size: 32 * MIB };
pub(super) const WB: u64 = 0xf;
pub(super) const RUNTIME: u64 = 1 << 63;
pub(super) const ECAM: u64 = 0x40_1000_0000;
pub(super) const SMMU: u64 = 0x905_0000;
pub(super) const FLASH: Range = Range { base: 0x400_0000, size: 64 * MIB };
pub(super) const CODE: Range = Range { base: 0, size: 64 * MIB };
pub(super) const RTC: Range = Range { base: 0x901_0000, size: 0x1000 };

/// An owned version of [`Firmware`].
#[derive(Clone)]
pub(super) struct Machine {
    pub(super) tables: Vec<Vec<u8>>,
    pub(super) memory: Vec<MemoryEntry>,
    pub(super) spaces: Vec<SpaceEntry>,
    pub(super) apertures: Vec<Aperture>,
    pub(super) registers: Vec<Registers>,
    pub(super) own: Range,
    pub(super) command_line: String,
}

impl Machine {
    pub(super) fn describe(&self) -> Result<Description, Error> {
        let tables: Vec<&[u8]> = self.tables.iter().map(Vec::as_slice).collect();
        describe(&Firmware {
            tables: &tables,
            memory: &self.memory,
            spaces: &self.spaces,
            apertures: &self.apertures,
            registers: &self.registers,
            own: self.own,
            command_line: &self.command_line,
        })
    }

    /// Replaces the table that has the signature of `table`.
    pub(super) fn with(mut self, table: Vec<u8>) -> Self {
        self.tables.retain(|old| old[..4] != table[..4]);
        self.tables.push(table);
        self
    }

    #[track_caller]
    pub(super) fn refused(&self, words: &[&str]) {
        match self.describe() {
            Ok(_) => panic!("accepted, not refused for {words:?}"),
            Err(error) => {
                let message = error.to_string();
                assert!(words.iter().all(|word| message.contains(word)), "{message}, not {words:?}");
                assert!(!error.remedy.is_empty() && message.contains(error.remedy));
            }
        }
    }
}

/// The interrupt controller and `cpus` CPUs.
pub(super) fn controller(cpus: u64) -> Vec<Vec<u8>> {
    let mut entries = vec![gicd(0x800_0000, 3)];
    entries.extend((0..cpus).map(|cpu| gicc(cpu, 1, 0)));
    entries.extend([gicr(0x80a_0000, 0xf6_0000), its(0, 0x808_0000)]);
    entries
}

/// IORT in which bus 0 is behind one SMMU.
pub(super) fn one_smmu() -> Iort {
    let mut iort = Iort::default();
    let group = iort.group(0);
    let smmu = iort.smmu(SMMU, 106, &[(0, 0x1_0000, 0, group, 0)]);
    iort.root_complex(0, &[(0, 0x100, 0, smmu, 0), (0x100, 0xff00, 0x100, group, 0)]);
    iort
}

/// IORT with two SMMUs; buses 8 to 10 are behind the second one.
pub(super) fn two_smmus() -> Iort {
    let mut iort = Iort::default();
    let group = iort.group(0);
    let first = iort.smmu(0xc00_0000, 144, &[(0, 0x1_0000, 0, group, 0)]);
    let second = iort.smmu(0xc02_0000, 148, &[(0, 0x1_0000, 0, group, 0)]);
    let rest = [(0x100, 0x700, 0x100, group, 0), (0xb00, 0xf500, 0xb00, group, 0)];
    let mut maps = vec![(0, 0x100, 0, first, 0), (0x800, 0x300, 0x800, second, 0)];
    maps.extend(rest);
    iort.root_complex(0, &maps);
    iort
}

pub(super) fn memory(kind: u32, base: u64, size: u64) -> MemoryEntry {
    let runtime = if matches!(kind, kinds::RUNTIME_CODE | kinds::RUNTIME_DATA) { RUNTIME } else { 0 };
    MemoryEntry { kind, base, pages: size / 4096, attributes: WB | runtime }
}

pub(super) fn mmio(base: u64, size: u64, attributes: u64) -> SpaceEntry {
    SpaceEntry { kind: 3, range: Range { base, size }, attributes }
}

/// The machine with 1 GiB, 4 CPUs and one SMMU.
pub(super) fn virt() -> Machine {
    let own_end = OWN.base + OWN.size;
    Machine {
        tables: vec![
            table(b"DSDT", 2, &[0x10; 300]),
            fadt(1),
            madt(&controller(4)),
            table(b"PPTT", 2, &[0; 100]),
            gtdt(),
            mcfg(&[(ECAM, 0, 0, 255)]),
            spcr(3, 32, 3, 0x900_0000),
            one_smmu().done(),
        ],
        memory: vec![
            memory(kinds::CONVENTIONAL, 0x4000_0000, OWN.base - 0x4000_0000),
            memory(kinds::RESERVED, OWN.base, OWN.size),
            memory(kinds::BOOT_DATA, own_end, 8 * MIB),
            memory(kinds::LOADER_CODE, own_end + 8 * MIB, MIB),
            memory(kinds::RUNTIME_DATA, own_end + 9 * MIB, MIB),
            memory(kinds::RESERVED, own_end + 10 * MIB, 0x1_0000),
            memory(kinds::ACPI_RECLAIM, own_end + 10 * MIB + 0x1_0000, MIB - 0x1_0000),
            memory(kinds::RUNTIME_CODE, own_end + 11 * MIB, MIB),
            memory(kinds::BOOT_CODE, own_end + 12 * MIB, 0x8000_0000 - own_end - 12 * MIB),
            MemoryEntry { kind: kinds::MMIO, base: FLASH.base, pages: FLASH.size / 4096, attributes: 1 | RUNTIME },
            MemoryEntry { kind: kinds::MMIO, base: RTC.base, pages: 1, attributes: 1 | RUNTIME },
        ],
        spaces: vec![
            mmio(FLASH.base, FLASH.size, 1 | RUNTIME),
            mmio(RTC.base, RTC.size, 1 | RUNTIME),
            // Split at an allocated BAR.
            mmio(0x1000_0000, 0x10_0000, 1),
            mmio(0x1010_0000, 0x2eef_0000, 1),
            mmio(0x3eff_0000, 0x1_0000, 1),
            SpaceEntry { kind: 2, range: Range { base: 0x4000_0000, size: 1 << 30 }, attributes: 8 },
            mmio(ECAM, 256 * MIB, 1),
            mmio(0x80_0000_0000, 1 << 39, 1),
        ],
        apertures: vec![
            Aperture { segment: 0, first_bus: 0, cpu: Range { base: 0x1000_0000, size: 0x20_0000 }, bus: 0x1000_0000 },
            Aperture {
                segment: 0,
                first_bus: 0,
                cpu: Range { base: 0x80_0000_0000, size: 0x8000 },
                bus: 0x80_0000_0000,
            },
        ],
        registers: vec![
            Registers { range: CODE, used_as: Use::Code },
            Registers { range: FLASH, used_as: Use::Variables },
            Registers { range: RTC, used_as: Use::Clock },
        ],
        own: OWN,
        command_line: "token=5eC0ffee0123456789abcdef".to_string(),
    }
}

/// The same with two SMMUs, and a window of the second root bridge.
pub(super) fn virt_two() -> Machine {
    let mut machine = virt().with(two_smmus().done());
    machine.spaces[4] = mmio(0x3eff_0000, 0x1_0000, 1);
    machine
}
