//! Builders of tables, byte by byte from the specifications. They share no constant with the parsers.

use std::vec;
use std::vec::Vec;

/// A table with this body after its header, and with a valid checksum.
pub(super) fn table(signature: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = signature.to_vec();
    bytes.extend((36 + body.len() as u32).to_le_bytes());
    bytes.extend([revision, 0]);
    bytes.extend(b"TESTS TEST    ");
    bytes.extend([0; 12]);
    bytes.extend(body);
    sum(&mut bytes);
    bytes
}

/// Updates the length and the checksum.
pub(super) fn sum(bytes: &mut [u8]) {
    let length = bytes.len() as u32;
    if let Some(place) = bytes.get_mut(4..8) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    if bytes.len() > 9 {
        bytes[9] = 0;
        bytes[9] = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    }
}

/// Fields of a structure, by their offsets.
pub(super) struct Fields(pub(super) Vec<u8>);

impl Fields {
    pub(super) fn new(length: usize) -> Self {
        Self(vec![0; length])
    }

    pub(super) fn u8(mut self, at: usize, value: u8) -> Self {
        self.0[at] = value;
        self
    }

    pub(super) fn u16(mut self, at: usize, value: u16) -> Self {
        self.0[at..at + 2].copy_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn u32(mut self, at: usize, value: u32) -> Self {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn u64(mut self, at: usize, value: u64) -> Self {
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
        self
    }
}

/// A FADT whose ARM_BOOT_ARCH is `arch`.
pub(super) fn fadt(arch: u16) -> Vec<u8> {
    table(b"FACP", 6, &Fields::new(276 - 36).u16(129 - 36, arch).0)
}

/// A GTDT with the usual interrupts.
pub(super) fn gtdt() -> Vec<u8> {
    let body = Fields::new(104 - 36).u32(48 - 36, 29).u32(56 - 36, 30).u32(64 - 36, 27).u32(72 - 36, 26);
    table(b"GTDT", 3, &body.u32(96 - 36, 28).0)
}

/// Entries of a MADT.
pub(super) fn gicc(mpidr: u64, flags: u32, gicr: u64) -> Vec<u8> {
    Fields::new(80).u8(0, 0xb).u8(1, 80).u32(12, flags).u64(60, gicr).u64(68, mpidr).0
}

pub(super) fn gicd(base: u64, version: u8) -> Vec<u8> {
    Fields::new(24).u8(0, 0xc).u8(1, 24).u64(8, base).u8(20, version).0
}

pub(super) fn gicr(base: u64, size: u32) -> Vec<u8> {
    Fields::new(16).u8(0, 0xe).u8(1, 16).u64(4, base).u32(12, size).0
}

pub(super) fn its(id: u32, base: u64) -> Vec<u8> {
    Fields::new(20).u8(0, 0xf).u8(1, 20).u32(4, id).u64(8, base).0
}

pub(super) fn madt(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![0; 8];
    entries.iter().for_each(|entry| body.extend(entry));
    table(b"APIC", 4, &body)
}

/// Base, segment, first and last bus of each area.
pub(super) fn mcfg(areas: &[(u64, u16, u8, u8)]) -> Vec<u8> {
    let mut body = vec![0; 8];
    for &(base, segment, first, last) in areas {
        body.extend(Fields::new(16).u64(0, base).u16(8, segment).u8(10, first).u8(11, last).0);
    }
    table(b"MCFG", 1, &body)
}

/// A console: interface type, register width, access size, address.
pub(super) fn spcr(kind: u8, width: u8, access: u8, address: u64) -> Vec<u8> {
    let body = Fields::new(80 - 36).u8(0, kind).u8(41 - 36, width).u8(43 - 36, access);
    table(b"SPCR", 2, &body.u64(44 - 36, address).0)
}

/// A mapping: first input, number of inputs, first output, offset of the node, flags.
pub(super) type Map = (u32, u64, u32, u32, u32);

/// A builder of an IORT.
#[derive(Clone, Default)]
pub(super) struct Iort {
    nodes: Vec<u8>,
    count: u32,
}

impl Iort {
    /// Adds a node with these bytes after its header; returns its offset in the table.
    pub(super) fn add(&mut self, kind: u8, revision: u8, data: &[u8], maps: &[Map]) -> u32 {
        let at = self.nodes.len() as u32 + 48;
        let own = 16 + data.len();
        let length = own + 20 * maps.len();
        let offset = if maps.is_empty() { 0 } else { own as u32 };
        let header = Fields::new(16).u8(0, kind).u16(1, length as u16).u8(3, revision);
        let header = header.u32(4, self.count).u32(8, maps.len() as u32).u32(12, offset);
        self.nodes.extend(header.0);
        self.nodes.extend(data);
        for &(first, count, output, reference, flags) in maps {
            let map = Fields::new(20).u32(0, first).u32(4, (count - 1) as u32).u32(8, output);
            self.nodes.extend(map.u32(12, reference).u32(16, flags).0);
        }
        self.count += 1;
        at
    }

    /// A group of one ITS.
    pub(super) fn group(&mut self, its: u32) -> u32 {
        self.add(0, 1, &Fields::new(8).u32(0, 1).u32(4, its).0, &[])
    }

    /// An SMMUv3 whose four interrupts begin at `interrupt`, in QEMU's order: event, PRI, sync, global error.
    pub(super) fn smmu(&mut self, base: u64, interrupt: u32, maps: &[Map]) -> u32 {
        self.add(4, 4, &smmu(base, interrupt).0, maps)
    }

    /// A root complex of a segment.
    pub(super) fn root_complex(&mut self, segment: u32, maps: &[Map]) -> u32 {
        self.add(2, 3, &root_complex(segment).0, maps)
    }

    pub(super) fn done(&self) -> Vec<u8> {
        self.done_as(3)
    }

    pub(super) fn done_as(&self, revision: u8) -> Vec<u8> {
        let mut body = Fields::new(12).u32(0, self.count).u32(4, 48).0;
        body.extend(&self.nodes);
        table(b"IORT", revision, &body)
    }
}

/// The bytes of an SMMUv3 node after the header.
pub(super) fn smmu(base: u64, interrupt: u32) -> Fields {
    let wired = |at: u32| if interrupt == 0 { 0 } else { interrupt + at };
    let fields = Fields::new(52).u64(0, base).u32(8, 1).u32(28, wired(0)).u32(32, wired(1));
    fields.u32(36, wired(3)).u32(40, wired(2))
}

/// The bytes of a root complex node after the header.
pub(super) fn root_complex(segment: u32) -> Fields {
    Fields::new(20).u32(0, 1).u8(7, 3).u32(12, segment).u8(16, 64)
}
