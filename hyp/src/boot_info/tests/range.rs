use std::format;
use std::vec::Vec;

use io_pgtable::Pa;
use proptest::prelude::*;

use super::virt::range;
use crate::boot_info::{PhysRange, RangeSet};

#[test]
fn a_range_neither_wraps_nor_leaves_the_physical_address_space() {
    assert!(PhysRange::new(Pa(u64::MAX), 2).is_none());
    assert!(PhysRange::new(Pa(1 << 52), 1).is_none());
    assert!(PhysRange::new(Pa((1 << 52) - 1), 1).is_some());
    assert!(PhysRange::between(Pa(2), Pa(1)).is_none());
}

#[test]
fn page_rounding_goes_outwards_for_registers_and_inwards_for_memory() {
    assert_eq!(range(0x1001, 0x1000).page_rounded(), range(0x1000, 0x2000));
    assert_eq!(range(0x1001, 0x1fff).whole_pages(), Some(range(0x2000, 0x1000)));
    assert_eq!(range(0x1001, 0xffe).whole_pages(), None);
}

#[test]
fn removing_from_a_full_set_can_fail_and_changes_nothing() {
    let mut set = RangeSet::<1>::new();
    set.insert(range(0, 0x3000)).unwrap();
    assert!(set.remove(&range(0x1000, 0x1000)).is_err());
    assert!(set.insert(range(0x8000, 1)).is_err());
    assert_eq!(format!("{set}"), "0x0..0x3000");
}

proptest! {
    #[test]
    fn a_set_of_ranges_is_a_set_of_bytes(steps in prop::collection::vec((any::<bool>(), 0u64..64, 0u64..16), 0..24)) {
        let mut set = RangeSet::<64>::new();
        let mut bytes = [false; 80];
        for (insert, base, size) in steps {
            let changed = range(base, size);
            if insert { set.insert(changed).unwrap() } else { set.remove(&changed).unwrap() }
            bytes[base as usize..(base + size) as usize].fill(insert);
        }
        for (at, byte) in bytes.iter().enumerate() {
            prop_assert_eq!(set.contains(&range(at as u64, 1)), *byte);
        }
        let ranges: Vec<_> = set.iter().collect();
        prop_assert!(ranges.windows(2).all(|w| w[0].end() < w[1].base()));
        prop_assert!(ranges.iter().all(|r| !r.is_empty()));
    }
}
