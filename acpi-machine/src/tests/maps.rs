//! Compares the arithmetic of RequesterIDs with a table of all RequesterIDs.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use crate::coverage::{bounds, clipped, is_whole, runs};
use crate::iort::{Ids, sorted};

/// The stream of each RequesterID, computed without merging ranges.
fn all(ids: &[Ids]) -> Vec<Option<(usize, u32)>> {
    let mut all = vec![None; 1 << 16];
    for one in ids {
        for n in 0..one.count {
            all[(u64::from(one.first) + n) as usize] = Some((one.smmu, one.stream + n as u32));
        }
    }
    all
}

prop_compose! {
    fn some_ids()(cuts in prop::collection::btree_set(0u32..=0x1_0000, 0..12), smmus in prop::collection::vec(0usize..4, 12))
        -> Vec<Ids> {
        let cuts: Vec<u32> = cuts.into_iter().collect();
        let pieces = cuts.windows(2).zip(smmus);
        pieces.filter(|(_, smmu)| *smmu < 3).map(|(cut, smmu)| Ids {
            first: cut[0], count: u64::from(cut[1] - cut[0]), smmu: smmu % 2, stream: cut[0] + smmu as u32 % 2,
        }).collect()
    }
}

proptest! {
    #[test]
    fn merging_ranges_changes_no_stream(ids in some_ids(), turn in any::<prop::sample::Index>()) {
        let mut shuffled = ids.clone();
        if !shuffled.is_empty() {
            let at = turn.index(shuffled.len());
            shuffled.rotate_left(at);
        }
        let joined = sorted(shuffled).unwrap();
        prop_assert_eq!(all(&joined), all(&ids));
        prop_assert!(joined.len() <= ids.len());
    }

    #[test]
    fn a_duplicate_id_is_found(mut ids in some_ids(), again in any::<prop::sample::Index>()) {
        prop_assume!(!ids.is_empty());
        let one = ids[again.index(ids.len())];
        ids.push(Ids { first: one.first + (one.count as u32) / 2, count: 1, ..one });
        prop_assert!(sorted(ids).is_err());
    }

    #[test]
    fn ranges_contain_exactly_the_covered_buses(ids in some_ids(), first in 0u8..8, more in 0u8..=247) {
        let last = first + more;
        let table = all(&ids);
        let covered = |bus: u8| (0..256).all(|devfn| table[usize::from(bus) * 256 + devfn].is_some());
        let found = runs(&ids, first, last);
        for bus in 0..=255 {
            let inside = found.iter().filter(|(from, to)| (*from..=*to).contains(&bus)).count();
            prop_assert_eq!(inside, usize::from(covered(bus) && (first..=last).contains(&bus)));
        }
        prop_assert_eq!(is_whole(&ids), table.iter().all(Option::is_some));
        for (from, to) in found {
            let (start, end) = bounds(from, to);
            let part = all(&clipped(&ids, start, end));
            for (rid, stream) in part.iter().enumerate() {
                let inside = (start..end).contains(&(rid as u64));
                prop_assert_eq!(*stream, if inside { table[rid] } else { None });
            }
        }
    }
}
