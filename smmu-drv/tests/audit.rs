//! The audit of an SMMU finds every wrong word in the table that hardware reads: every word of every entry in every table.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{ABORT, BYPASS, Board, CMDQ, EVTQ, GBPA_ABORT, GBPA_UPDATE, L2TAB, POOL, RAM, Rig, firmware, r};
use smmu_drv::shadow::audit::StrtabFinding;
use smmu_drv::{AccessSize, ProbeConfig, ReadsAs, SmmuFinding, WriteOutcome};
use smmu_model::{Config, Injection};

/// Address of hardware's stream table.
fn table(rig: &Rig) -> u64 {
    rig.board.0.model.borrow_mut().read64(r::STRTAB_BASE) & 0x00ff_ffff_ffff_ffc0
}

/// The level-2 table of a block of 256 streams.
fn level2(rig: &Rig, block: u64) -> u64 {
    rig.board.0.stores.read64(table(rig) + block * 8) & 0x00ff_ffff_ffff_ffc0
}

/// The result of the audit while the word at `at` is `value`.
fn found(rig: &Rig, at: u64, value: u64) -> Result<(), SmmuFinding> {
    let stores = &rig.board.0.stores;
    let before = stores.read64(at);
    stores.write64(at, value);
    let finding = rig.smmu.audit(&rig.host);
    stores.write64(at, before);
    assert_eq!(rig.smmu.audit(&rig.host), Ok(()));
    finding
}

/// Entries that a defect could leave in `table`, whose first stream is `first`; each is the only wrong entry.
fn check_entries(rig: &Rig, table: u64, entries: u64, first: u64) {
    let word = |entry: u64, n: u64| table + entry * 64 + n * 8;
    for entry in [0, 5, entries / 2, entries - 1] {
        let now = |n| rig.board.0.stores.read64(word(entry, n));
        let confined = |config: u64| 1 | config << 1;
        let wrong = |n, value, dw0| {
            let finding = SmmuFinding::Strtab(StrtabFinding::Entry { index: first + entry, dw0 });
            assert_eq!(found(rig, word(entry, n), value), Err(finding), "entry {entry}, word {n}: {value:#x}");
        };
        let right = |n, value| assert_eq!(found(rig, word(entry, n), value), Ok(()), "entry {entry}: {value:#x}");
        // Entries that every stream may have.
        for dw0 in [0, confined(0), confined(6), confined(7), confined(7) | 0xf8ff_ffff_ffff_fff0] {
            right(0, dw0);
        }
        // V = 0: hardware reads no other field.
        right(0, !1);
        // No stage 2, encodings that are reserved, and wrong fields.
        for config in 1..6 {
            wrong(0, confined(config), confined(config));
        }
        for bit in 56..59 {
            wrong(0, confined(7) | 1 << bit, confined(7) | 1 << bit);
        }
        if now(0) & 1 == 1 {
            // S1DSS, S1CIR, S1COR, S1CSH, MEV, S1STALLD, SHCFG.
            let allowed = 0xff | 1 << 19 | 1 << 27 | 3 << 44;
            right(1, allowed);
            for bit in (0..64).filter(|bit| allowed >> bit & 1 == 0) {
                wrong(1, now(1) | 1 << bit, now(0));
            }
        }
        // VMID and walk attributes, table address, and reserved fields.
        for (n, bit) in [(2, 0), (2, 32), (2, 54), (3, 12), (3, 47), (4, 0), (5, 63), (6, 1), (7, 1)] {
            wrong(n, now(n) ^ 1 << bit, now(0));
        }
    }
}

#[test]
fn the_audit_finds_every_unconfined_entry_of_a_linear_table() {
    let mut rig = Rig::new(Config { two_level: false, sid_bits: 10, ..Config::qemu() });
    check_entries(&rig, table(&rig), 1024, 0);
    rig.enable_linear(10);
    rig.set_ste(5, BYPASS);
    rig.set_ste(512, ABORT);
    check_entries(&rig, table(&rig), 1024, 0);
}

#[test]
fn the_audit_finds_every_unconfined_entry_of_two_levels() {
    let mut rig = Rig::qemu();
    let bypass = level2(&rig, 3);
    rig.write(r::GBPA, GBPA_UPDATE | GBPA_ABORT);
    let abort = level2(&rig, 3);
    assert_ne!(bypass, abort);
    for shared in [bypass, abort] {
        check_entries(&rig, shared, 256, 0);
    }
    rig.enable_linear(10);
    rig.set_ste(0x105, BYPASS);
    rig.set_ste(0x2ff, ABORT);
    for block in [1, 2] {
        check_entries(&rig, level2(&rig, block), 256, block * 256);
    }
    // Streams beyond the host's table have no descriptor; an entry there belongs to no stream.
    assert_eq!(level2(&rig, 200), 0);
}

#[test]
fn the_audit_finds_every_unconfined_entry_of_a_detached_table() {
    // Until a CMD_SYNC completes, hardware may have the block's descriptor cached, or may not see the store that
    // cleared it.
    for sync_completes in [true, false] {
        // One trap detaches only the first of so many blocks.
        let mut rig = Rig::new(Config { sid_bits: if sync_completes { 20 } else { 10 }, ..Config::qemu() });
        rig.enable_linear(10);
        rig.set_ste(0x105, BYPASS);
        let detached = level2(&rig, 1);
        if !sync_completes {
            rig.board.0.model.borrow_mut().inject(Injection::SyncNever);
        }
        let outcome = rig.smmu.mmio_write(&mut rig.host, r::CR0, AccessSize::Word, 0);
        assert_eq!(outcome, if sync_completes { WriteOutcome::Again } else { WriteOutcome::Done });
        assert_ne!(level2(&rig, 1), detached);
        check_entries(&rig, detached, 256, 0);
        if sync_completes {
            rig.write(r::CR0, 0);
            // The table is freed: its memory has no entries now.
            assert_eq!(found(&rig, detached, 1 | 1 << 1), Ok(()));
        }
    }
}

#[test]
fn the_audit_finds_every_descriptor_that_names_a_foreign_table() {
    let mut rig = Rig::qemu();
    let bypass = rig.board.0.stores.read64(table(&rig));
    rig.enable_linear(10);
    rig.set_ste(0x105, BYPASS);
    rig.set_ste(0x205, BYPASS);
    let at = |block: u64| table(&rig) + block * 8;
    let descriptor = |block| rig.board.0.stores.read64(at(block));
    let foreign = |block: u32| Err(SmmuFinding::Strtab(StrtabFinding::Descriptor { block }));
    for block in [0, 1, 2, 3, 4, 255] {
        for right in [0, bypass] {
            assert_eq!(found(&rig, at(block.into()), right), Ok(()), "{block}");
        }
        for wrong in [RAM | 9, L2TAB | 9, POOL | 9, bypass - 1, bypass + 64, bypass ^ 1 << 40] {
            assert_eq!(found(&rig, at(block.into()), wrong), foreign(block), "{block} {wrong:#x}");
        }
    }
    // The private table of another block, and a part of its own table.
    assert_eq!(found(&rig, at(1), descriptor(2)), foreign(1));
    assert_eq!(found(&rig, at(200), descriptor(2)), foreign(200));
    assert_eq!(found(&rig, at(1), descriptor(1) - 1), foreign(1));
}

#[test]
fn the_audit_finds_a_queue_whose_memory_is_not_claimed() {
    let mut rig = Rig::qemu();
    rig.enable_linear(5);
    assert_eq!(rig.smmu.audit(&rig.host), Ok(()));
    for (page, queue) in [(CMDQ, "command queue"), (EVTQ, "event queue")] {
        rig.host.owned.remove(&(page / 4096));
        assert_eq!(rig.smmu.audit(&rig.host), Err(SmmuFinding::Unclaimed(queue)));
        rig.host.owned.insert(page / 4096);
    }
    // The memory of a disabled queue is not claimed.
    rig.write(r::CR0, 0);
    rig.host.owned.remove(&(CMDQ / 4096));
    rig.host.owned.remove(&(EVTQ / 4096));
    assert_eq!(rig.smmu.audit(&rig.host), Ok(()));
}

#[test]
fn findings_name_the_place_and_the_value() {
    for (finding, words) in [
        (SmmuFinding::Strtab(StrtabFinding::Descriptor { block: 0x12 }), "descriptor 0x12 "),
        (SmmuFinding::Strtab(StrtabFinding::Entry { index: 0x34, dw0: 9 }), "entry 0x34 is not confined (dword 0 0x9)"),
        (SmmuFinding::Unclaimed("event queue"), "the host's event queue is"),
    ] {
        assert!(finding.to_string().contains(words), "{finding}");
    }
}

/// `arm,instdata-override`: STE.INSTCFG is EL2's, in every entry or in none.
#[test]
fn the_audit_checks_instcfg() {
    const PERMS_OVR: u32 = 1 << 26;
    const INSTCFG_DATA: u64 = 2 << 50;
    for reads in [ReadsAs::Data, ReadsAs::Incoming] {
        let board = Board::new(Config::qemu());
        board.0.read_as.set(Some((r::IDR1, Config::qemu().idr1() | PERMS_OVR)));
        let mut rig = Rig::on(board, ProbeConfig { reads, ..firmware(&Config::qemu()) });
        assert_eq!(rig.smmu.audit(&rig.host), Ok(()), "{reads:?}: after take-over");
        rig.enable_linear(10);
        let nested = rig.context(1);
        for ste in [BYPASS, ABORT, nested] {
            rig.set_ste(9, ste);
            assert_eq!(rig.smmu.audit(&rig.host), Ok(()), "{reads:?}: {:#x}", ste[0]);
            let at = level2(&rig, 0) + 9 * 64;
            let (dw0, dw1) = (rig.board.0.stores.read64(at), rig.board.0.stores.read64(at + 8));
            let finding = SmmuFinding::Strtab(StrtabFinding::Entry { index: 9, dw0 });
            assert_eq!(found(&rig, at + 8, dw1 ^ INSTCFG_DATA), Err(finding), "{reads:?}: {:#x}", ste[0]);
        }
        assert_eq!(rig.smmu.quiesce(), Ok(()));
        assert_eq!(rig.smmu.audit(&rig.host), Ok(()), "{reads:?}: at the end");
    }
}
