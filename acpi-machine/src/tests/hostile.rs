//! Corrupted tables with valid checksums: either the machine is refused, or an accepted plan satisfies all checks.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use proptest::sample::Index;

use super::build::sum;
use super::el2::{evaluated, range};
use super::virt::*;
use crate::{Aperture, MemoryEntry, Range, SpaceEntry};

/// A random number generator, xorshift64*.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit.max(1)
    }

    /// A random byte, often a boundary value.
    fn byte(&mut self) -> u8 {
        match self.below(8) {
            0 => 0,
            1 => 1,
            2 => 0xff,
            3 => 0x80,
            4 => 0x10,
            _ => self.next() as u8,
        }
    }
}

fn damage(machine: &mut Machine, rng: &mut Rng) {
    let read = [1, 2, 4, 5, 6, 7, 7, 7, 2];
    let table = &mut machine.tables[read[rng.below(read.len())]];
    match rng.below(6) {
        0 => table.truncate(36 + rng.below(table.len() - 35)),
        1 => {
            let (from, to) = (36 + rng.below(table.len() - 36), 36 + rng.below(table.len() - 36));
            let count = rng.below(table.len() - from.max(to)).min(24);
            table.copy_within(from..from + count, to);
        }
        2 => {
            let more = rng.below(40);
            let bytes: Vec<u8> = (0..more).map(|_| rng.byte()).collect();
            table.extend(bytes);
        }
        _ => {
            for _ in 0..=rng.below(4) {
                let at = 36 + rng.below(table.len().max(37) - 36);
                if let Some(byte) = table.get_mut(at) {
                    *byte = rng.byte();
                }
            }
        }
    }
    sum(table);
}

/// An accepted plan must give the host neither EL2's memory nor SMMU registers.
fn check(dtb: &[u8], smmus: usize) {
    let Ok(plan) = evaluated(dtb) else { return };
    let own = range(OWN);
    assert!(!plan.policy.mmio().overlaps(&own) && !plan.policy.code().overlaps(&own));
    assert!(!plan.layout.host_ram.overlaps(&plan.layout.image) && !plan.layout.host_ram.overlaps(&plan.layout.pool));
    assert!(plan.platform.smmus.len() <= smmus);
    for smmu in &plan.platform.smmus {
        assert!(!plan.policy.mmio().overlaps(&smmu.range) && !plan.layout.host_ram.overlaps(&smmu.range));
    }
    for host in plan.platform.pci.iter().filter(|host| host.has_fixed_bus_numbers()) {
        assert!(!plan.policy.mmio().overlaps(&host.ecam));
    }
}

#[test]
fn t70_corrupted_machines_are_refused_or_isolated() {
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let (one, two) = (virt(), virt_two());
    let mut accepted = 0u32;
    for turn in 0..100_000u32 {
        let mut machine = if turn % 2 == 0 { one.clone() } else { two.clone() };
        for _ in 0..=rng.below(3) {
            damage(&mut machine, &mut rng);
        }
        if let Ok(description) = machine.describe() {
            accepted += 1;
            // EL2's own tests also corrupt trees; checking every 20th tree is enough here.
            if accepted.is_multiple_of(20) {
                check(&description.dtb, 8);
            }
        }
    }
    assert!(accepted > 5_000, "only {accepted} were accepted, too few for this test: corrupt less");
}

prop_compose! {
    fn numbers()(number in prop_oneof![
        Just(0u64), Just(4096), Just(u64::MAX), Just(!4095), Just(0x4000_0000), Just(OWN.base), Just(ECAM),
        Just(0x1000_0000), Just(SMMU), any::<u64>(), (0u64..1 << 40).prop_map(|n| n & !4095),
    ]) -> u64 { number }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn t70_random_maps_are_refused_or_isolated(
        memory in prop::collection::vec((0u32..20, numbers(), numbers(), any::<u64>()), 0..6),
        spaces in prop::collection::vec((0u32..8, numbers(), numbers(), any::<u64>()), 0..6),
        apertures in prop::collection::vec((0u16..2, 0u8..12, numbers(), numbers(), numbers()), 0..4),
        gone in any::<Index>(),
        own in (numbers(), numbers()),
        keep_own in any::<bool>(),
    ) {
        let mut machine = virt();
        machine.memory.remove(gone.index(virt().memory.len()));
        for (kind, base, pages, attributes) in memory {
            machine.memory.push(MemoryEntry { kind, base, pages: pages >> 12, attributes });
        }
        for (kind, base, size, attributes) in spaces {
            machine.spaces.push(SpaceEntry { kind, range: Range { base, size }, attributes });
        }
        for (segment, first_bus, base, size, bus) in apertures {
            machine.apertures.push(Aperture { segment, first_bus, cpu: Range { base, size }, bus });
        }
        if !keep_own {
            machine.own = Range { base: own.0, size: own.1 };
        }
        if let Ok(description) = machine.describe() {
            check(&description.dtb, 1);
        }
    }

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..200), which in 0usize..8) {
        let mut machine = virt();
        let mut table = machine.tables[which][..36].to_vec();
        table.extend(&bytes);
        sum(&mut table);
        machine.tables[which] = table;
        if let Ok(description) = machine.describe() {
            check(&description.dtb, 8);
        }
        machine.tables[which] = bytes;
        let _ = machine.describe();
    }
}
