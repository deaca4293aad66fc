//! A host that maps its queues and tables non-cacheable, on an SMMU that could snoop.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use common::{BUF, C_BAD_STE, CMDQ, EVTQ, L2TAB, Rig, STRTAB, r, record, sync_irq, two_level_cfg};
use smmu_model::Transfer;

/// Write-back, inner shareable: tables and queues.
const CACHED: u64 = 0xd75;

/// Sets the host's CR1, and fills EL2's cache with the earlier content of memory.
fn rig(cr1: u64) -> Rig {
    let mut rig = Rig::qemu();
    rig.write(r::CR1, cr1);
    // The old content, which EL2 read earlier.
    let words = (CMDQ..CMDQ + 0x1000).chain(STRTAB..STRTAB + 0x400).chain(L2TAB..L2TAB + 0x4000).step_by(8);
    *rig.host.cached.borrow_mut() = Some(words.map(|at| (at, 0)).collect::<BTreeMap<_, _>>());
    rig.enable_queues();
    rig
}

/// Sets up a stream table with one or two levels, in which stream 9 bypasses, and enables translation.
fn translate(rig: &mut Rig, levels: u32) {
    rig.mem().cpu_write(STRTAB, &[0; 0x400]);
    let table = if levels == 1 { STRTAB } else { L2TAB };
    rig.store(table + 9 * 64, common::BYPASS[0]);
    rig.write64(r::STRTAB_BASE, STRTAB);
    if levels == 2 {
        rig.mem().cpu_write(STRTAB, &(L2TAB | 9).to_le_bytes());
    }
    rig.write(r::STRTAB_BASE_CFG, if levels == 1 { 4 } else { two_level_cfg(10, 8) });
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
}

#[test]
fn non_cacheable_queues_and_tables_are_accessed_in_memory() {
    // Non-cacheable; cacheable inside only; write-through; non-shareable, which differs from EL2's attributes.
    for queues in [0, 0b1, 0b1010, 0b0101] {
        for tables in [0, 0b1, 0b1010, 0b0101] {
            for levels in [1, 2] {
                let mut rig = rig(tables << 6 | queues);
                translate(&mut rig, levels);
                assert_eq!(rig.dma_write(9, BUF, 1), Transfer::Done, "tables {tables:#b}, {levels} levels");
                rig.queue(sync_irq(0x77, BUF + 0x100));
                rig.issue(&[common::CFGI_ALL, common::cfgi_ste(9)]);
                assert_eq!(rig.mem().cpu_read64(BUF + 0x100) & 0xffff_ffff, 0x77, "the completion is in memory");
                rig.dma_write(10, BUF, 1);
                assert_eq!(rig.events(), [record(C_BAD_STE, 10)], "queues {queues:#b}");
                assert_eq!(rig.dma_write(9, BUF, 1), Transfer::Done);
            }
        }
    }
}

#[test]
fn cacheable_queues_and_tables_need_no_maintenance() {
    // EL2's cache could differ from memory only if the host accessed memory without caches; here EL2 must use its
    // cache.
    let mut rig = Rig::qemu();
    rig.write(r::CR1, CACHED);
    *rig.host.cached.borrow_mut() = Some(BTreeMap::new());
    rig.enable_queues();
    translate(&mut rig, 1);
    rig.issue(&[common::cfgi_ste(9)]);
    rig.dma_write(10, BUF, 1);
    rig.read(r::EVENTQ_PROD);
    let cached = rig.host.cached.borrow();
    let cached = cached.as_ref().unwrap();
    for at in [CMDQ, STRTAB + 9 * 64, EVTQ] {
        assert!(cached.contains_key(&at), "{at:#x}");
    }
    assert_eq!(cached[&EVTQ], 4 | 10 << 32);
}

#[test]
fn without_snooping_memory_is_accessed_for_any_cr1() {
    let mut rig = Rig::new(smmu_model::Config { snoop: smmu_model::Snoop::NonCoherent, ..smmu_model::Config::qemu() });
    rig.write(r::CR1, CACHED);
    *rig.host.cached.borrow_mut() = Some((CMDQ..CMDQ + 0x1000).step_by(8).map(|at| (at, 0)).collect());
    rig.enable_queues();
    rig.issue(&[common::CFGI_ALL]);
}
