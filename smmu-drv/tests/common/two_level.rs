//! The host's stream table of two levels.

use super::*;

/// A 2-level host table: level 1 at STRTAB, level-2 tables at L2TAB.
pub fn enable_two_level(rig: &mut Rig, split: u32, log2: u32) {
    rig.enable_queues();
    rig.mem().cpu_write(STRTAB, &vec![0; 8 << (log2 - split)]);
    rig.write64(r::STRTAB_BASE, STRTAB);
    rig.write(r::STRTAB_BASE_CFG, u64::from(log2) | u64::from(split) << 6 | 1 << 16);
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
}

pub fn l2_ste(rig: &Rig, split: u32, sid: u32, words: [u64; 8]) {
    let table = L2TAB + (u64::from(sid >> split) << (split + 6));
    for (n, word) in words.into_iter().enumerate() {
        rig.store(table + u64::from(sid & ((1 << split) - 1)) * 64 + n as u64 * 8, word);
    }
}

pub fn l1(rig: &Rig, split: u32, sid: u32, span: u64) {
    let index = u64::from(sid >> split);
    let table = L2TAB + (index << (split + 6));
    rig.store(STRTAB + index * 8, if span == 0 { 0 } else { table | span });
}
