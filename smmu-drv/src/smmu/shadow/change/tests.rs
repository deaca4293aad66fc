//! The order of stores, for every pair of kinds of entries.

use std::vec::Vec;

use super::*;
use crate::smmu::ste::Fixed;

/// The effect of an entry for hardware: unused fields have none.
fn behaviour(ste: Ste) -> (u64, u64) {
    if get64(dw0::V, ste.dw0) == 0 {
        return (0, 0);
    }
    match get64(dw0::CONFIG, ste.dw0) {
        dw0::CONFIG_S2 => (put64(dw0::CONFIG, dw0::CONFIG_S2) | 1, ste.dw1 & (mask64(dw1::MEV) | mask64(dw1::SHCFG))),
        dw0::CONFIG_NESTED => (ste.dw0, ste.dw1),
        _ => (1, 0),
    }
}

#[test]
fn t17_each_state_of_a_change_is_the_old_entry_the_new_entry_or_a_required_abort() {
    let fixed = Fixed { dw1: put64(dw1::SHCFG, dw1::SHCFG_INCOMING) };
    let mut entries = Vec::from([fixed.invalid(), fixed.abort(), fixed.stage2()]);
    let mev = mask64(dw1::MEV);
    let cached = put64(dw1::S1CIR, 1) | put64(dw1::S1COR, 1);
    for attributes in [0, mev, cached, put64(dw1::S1CSH, 2), put64(dw1::S1DSS, 1), mev | put64(dw1::S1DSS, 2)] {
        let dw1 = fixed.dw1 | attributes;
        entries.push(Ste { dw0: fixed.stage2().dw0, dw1: fixed.dw1 | attributes & mev });
        for table in [0x1000, 0x2000 | put64(dw0::S1CDMAX, 3)] {
            entries.push(Ste { dw0: put64(dw0::V, 1) | put64(dw0::CONFIG, dw0::CONFIG_NESTED) | table, dw1 });
        }
    }
    let abort = behaviour(fixed.abort());
    let mut breaks = 0;
    for &old in &entries {
        for &new in &entries {
            let mut now = old;
            let mut steps = 0;
            let mut broke = false;
            while let Some(step) = next_store(now, new) {
                // Hardware may have read the words before and after the store: one dword differs.
                let after = now.after(step);
                let changed = match step {
                    SteStore::Dw0(_) => now.dw1 == after.dw1,
                    SteStore::Dw1(_) => now.dw0 == after.dw0,
                };
                assert!(changed);
                now = after;
                steps += 1;
                let seen = behaviour(now);
                broke |= seen == abort && seen != behaviour(old) && seen != behaviour(new);
                assert!(seen == behaviour(old) || seen == behaviour(new) || seen == abort, "{old:?} -> {new:?}");
                assert!(steps <= 3);
            }
            assert_eq!(behaviour(now), behaviour(new), "{old:?} -> {new:?}");
            if broke {
                // An abort is needed only if both entries use dword 1 and the used bits differ in both dwords.
                assert!(get64(dw0::CONFIG, old.dw0) >= dw0::CONFIG_S2 && get64(dw0::CONFIG, new.dw0) >= dw0::CONFIG_S2);
                assert!(old.dw0 != new.dw0 && old.dw1 != new.dw1);
                breaks += 1;
            }
            if behaviour(old) == behaviour(new) && old.dw0 == new.dw0 {
                assert_eq!(steps, 0, "{old:?} -> {new:?}");
            }
        }
    }
    assert!(breaks > 0);
}
