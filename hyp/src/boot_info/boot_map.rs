//! Computes how the boot table maps a range as normal memory: whole gigabytes, or blocks of 2 MiB.
//!
//! Before EL2 has its own tables it uses a boot table, in which the assembly makes the blocks of the image and of the
//! device tree's start normal memory and all others device memory. All memory that boot writes must be mapped as
//! normal: data written with device attributes can be hidden or overwritten by a stale cache line. Pure.

use super::range::PhysRange;

/// Bytes of a level-1 and of a level-2 block.
pub const GIGABYTE: u64 = 1 << 30;
/// Bytes of a level-2 block.
pub const BLOCK: u64 = 2 << 20;
/// End of the addresses that the boot table maps from the start, and that it can map as normal memory.
pub const LIMIT: u64 = 512 * GIGABYTE;
/// End of the addresses that the boot table can map: it has four levels.
pub const DEVICE_LIMIT: u64 = 1 << 48;
/// Maximum number of regions of 512 GiB above the first in which boot maps devices; `BOOT_HIGH` of head.S.
pub const HIGH_REGIONS: usize = 4;

/// The part of one gigabyte to map as normal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The whole gigabyte.
    Whole,
    /// The level-2 blocks from the first number up to the second, not included.
    Blocks(u64, u64),
}

/// The parts to map as normal for `range`: the number of each gigabyte that it overlaps, with its part. `None` if it
/// ends beyond the boot table.
#[must_use]
pub fn parts(range: &PhysRange) -> Option<impl Iterator<Item = (u64, Part)> + use<>> {
    let (start, end) = (range.base().0, range.end().0);
    if end > LIMIT {
        return None;
    }
    Some((start / GIGABYTE..end.div_ceil(GIGABYTE)).map(move |gigabyte| {
        let base = gigabyte.saturating_mul(GIGABYTE);
        let within = |address: u64| address.saturating_sub(base).min(GIGABYTE);
        let (from, to) = (within(start), within(end));
        let part =
            if (from, to) == (0, GIGABYTE) { Part::Whole } else { Part::Blocks(from / BLOCK, to.div_ceil(BLOCK)) };
        (gigabyte, part)
    }))
}

/// The regions of 512 GiB above the first that `range` overlaps. `None` if it ends above the boot table's limit.
#[must_use]
pub fn regions(range: &PhysRange) -> Option<impl Iterator<Item = u64> + use<>> {
    let (start, end) = (range.base().0, range.end().0);
    if end > DEVICE_LIMIT {
        return None;
    }
    Some((start / LIMIT).max(1)..end.div_ceil(LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use io_pgtable::Pa;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn of(start: u64, end: u64) -> Vec<(u64, Part)> {
        parts(&PhysRange::between(Pa(start), Pa(end)).unwrap()).unwrap().collect()
    }

    /// 128 GiB of memory: the pool is larger than a gigabyte, and does not fit next to the image.
    #[test]
    fn a_large_pool_is_normal_in_every_gigabyte_it_overlaps() {
        let parts = of(0x4060_0000, 0xc280_0000);
        assert_eq!(parts, [(1, Part::Blocks(3, 512)), (2, Part::Whole), (3, Part::Blocks(0, 20))]);
    }

    #[test]
    fn a_device_tree_across_a_boundary_is_normal_on_both_sides() {
        assert_eq!(of(0x7fff_f000, 0x8000_1000), [(1, Part::Blocks(511, 512)), (2, Part::Blocks(0, 1))]);
    }

    #[test]
    fn ranges_beyond_the_table_are_refused() {
        assert!(parts(&PhysRange::between(Pa(LIMIT - 4096), Pa(LIMIT)).unwrap()).is_some());
        assert!(parts(&PhysRange::between(Pa(LIMIT - 4096), Pa(LIMIT + 1)).unwrap()).is_none());
    }

    #[test]
    fn devices_are_mapped_in_every_region_that_they_overlap() {
        let of =
            |start, end| regions(&PhysRange::between(Pa(start), Pa(end)).unwrap()).map(Iterator::collect::<Vec<_>>);
        assert_eq!(of(0x800_0000, 0x900_0000), Some(Vec::new()));
        assert_eq!(of(LIMIT - 0x1000, LIMIT), Some(Vec::new()));
        assert_eq!(of(LIMIT, LIMIT + 1), Some([1].to_vec()));
        assert_eq!(of(0x800_0000, LIMIT + 1), Some([1].to_vec()));
        assert_eq!(of(3 * LIMIT - 1, 4 * LIMIT + 1), Some([2, 3, 4].to_vec()));
        assert_eq!(of(DEVICE_LIMIT - 1, DEVICE_LIMIT), Some([511].to_vec()));
        assert_eq!(of(DEVICE_LIMIT - 1, DEVICE_LIMIT + 1), None);
    }

    proptest! {
        /// Exactly the blocks that the range overlaps are normal.
        #[test]
        fn exactly_the_blocks_of_the_range(start in 0..(4 * GIGABYTE), bytes in 1..(3 * GIGABYTE)) {
            let end = start + bytes;
            let parts = of(start, end);
            for block in 0..(8 * GIGABYTE / BLOCK) {
                let touched = start < (block + 1) * BLOCK && block * BLOCK < end;
                let normal = parts.iter().any(|(gigabyte, part)| match *part {
                    Part::Whole => block / 512 == *gigabyte,
                    Part::Blocks(from, to) => block / 512 == *gigabyte && (from..to).contains(&(block % 512)),
                });
                prop_assert_eq!(normal, touched, "block {}", block);
            }
        }
    }
}
