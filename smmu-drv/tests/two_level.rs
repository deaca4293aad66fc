//! Stream tables of two levels: the formats of the host, and the tables that are allocated and freed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{
    BUF, BYPASS, C_BAD_STE, C_BAD_STREAMID, CFGI_ALL, Rig, STRTAB, aborted, cfgi_ste, cfgi_ste_range, cfgi_ste_walk,
    enable_two_level, l1, l2_ste, r, record, two_level_cfg,
};
use smmu_drv::{AccessSize, WriteOutcome};
use smmu_model::{Config, Pace, Transfer};

#[test]
fn two_level_tables_of_every_split_and_span() {
    for split in [6, 8, 10] {
        for config in [Config::qemu(), Config { two_level: true, sid_bits: 12, pace: Pace::Lazy, ..Config::qemu() }] {
            let mut rig = Rig::new(config);
            enable_two_level(&mut rig, split, 12);
            let sid = 0x108;
            assert!(aborted(&rig.dma_write(sid, BUF, 1)));
            assert_eq!(rig.events(), [record(C_BAD_STREAMID, sid)]);
            // As Linux does: the level-2 table appears, then one entry is invalidated, leaf only.
            l2_ste(&rig, split, sid, BYPASS);
            l2_ste(&rig, split, sid + 1, BYPASS);
            l1(&rig, split, sid, u64::from(split) + 1);
            rig.issue(&[cfgi_ste(sid)]);
            assert_eq!(rig.dma_write(sid, BUF, 1), Transfer::Done, "split {split}");
            assert_eq!(rig.dma_write(sid + 1, BUF, 1), Transfer::Done);
            assert!(aborted(&rig.dma_write(sid + 2, BUF, 1)));
            assert_eq!(rig.events(), [record(C_BAD_STE, sid + 2)]);
            // The table shrinks to its first entries: the rest is out of range for the host, although the shadow is not.
            l1(&rig, split, sid, 1);
            rig.issue(&[CFGI_ALL]);
            assert!(aborted(&rig.dma_write(sid, BUF, 1)));
            assert_eq!(rig.events(), [record(C_BAD_STREAMID, sid)]);
            // A span larger than the split is out of range.
            l1(&rig, split, sid, u64::from(split) + 2);
            rig.issue(&[cfgi_ste_walk(sid)]);
            assert!(aborted(&rig.dma_write(sid, BUF, 1)));
            // The table grows again.
            l1(&rig, split, sid, u64::from(split) + 1);
            rig.issue(&[cfgi_ste_range(sid, 3)]);
            assert_eq!(rig.dma_write(sid, BUF, 1), Transfer::Done);
            assert_eq!(rig.hazards(), []);
        }
    }
}

#[test]
fn every_stream_of_a_block_has_an_entry() {
    let streams = [0, 1, 0x7f, 0x80, 0xff, 0x100, 0x17f, 0x180, 0x1ff, 0x3ff];
    for config in [Config::qemu(), Config { two_level: false, sid_bits: 10, ..Config::qemu() }] {
        let mut rig = Rig::new(config);
        for sid in streams {
            assert_eq!(rig.dma_write(sid, BUF, 1), Transfer::Done, "{sid:#x}, translation off");
        }
        rig.enable_linear(10);
        for sid in streams {
            assert!(aborted(&rig.dma_write(sid, BUF, 1)));
            rig.set_ste(sid, BYPASS);
            assert_eq!(rig.dma_write(sid, BUF, 1), Transfer::Done, "{sid:#x}");
        }
        for sid in [2, 0x7e, 0x81, 0xfe, 0x102, 0x3fe] {
            assert!(aborted(&rig.dma_write(sid, BUF, 1)), "{sid:#x}");
        }
    }
}

#[test]
fn without_two_levels_the_format_is_ignored() {
    let mut rig = Rig::new(Config { two_level: false, sid_bits: 10, ..Config::qemu() });
    assert_eq!(rig.read(r::IDR0) >> 27 & 3, 0);
    rig.mem().cpu_write(STRTAB, &[0; 64 << 10]);
    rig.ste(0x105, BYPASS);
    enable_two_level_format(&mut rig);
    assert_eq!(rig.dma_write(0x105, BUF, 1), Transfer::Done, "an entry of a linear table");
    assert!(aborted(&rig.dma_write(0x106, BUF, 1)));
    assert_eq!(rig.events(), [record(C_BAD_STE, 0x106)]);
}

/// STRTAB_BASE_CFG.FMT says 2-level, of a table of 2^10 streams.
fn enable_two_level_format(rig: &mut Rig) {
    rig.enable_queues();
    rig.write64(r::STRTAB_BASE, STRTAB);
    rig.write(r::STRTAB_BASE_CFG, two_level_cfg(10, 8));
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
}

#[test]
fn t41_no_pointer_to_a_replaced_table_remains() {
    let mut rig = Rig::qemu();
    let before = rig.board.0.live_bytes.get();
    enable_two_level(&mut rig, 8, 16);
    for bus in 0..40 {
        l2_ste(&rig, 8, bus << 8, BYPASS);
        l1(&rig, 8, bus << 8, 9);
    }
    rig.issue(&[CFGI_ALL]);
    assert!(rig.board.0.live_bytes.get() > before);
    for bus in 0..40 {
        assert_eq!(rig.dma_write(bus << 8, BUF, 1), Transfer::Done);
        l1(&rig, 8, bus << 8, 0);
    }
    rig.issue(&[CFGI_ALL]);
    for bus in 0..40 {
        assert!(aborted(&rig.dma_write(bus << 8, BUF, 1)));
        assert!(!rig.can_reach(bus << 8, BUF));
    }
    assert_eq!(rig.board.0.live_bytes.get(), before, "the level-2 tables are added again");
    // A linear table after a 2-level one.
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
    rig.ste(3, BYPASS);
    rig.write(r::STRTAB_BASE_CFG, 4);
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
    assert_eq!(rig.dma_write(3, BUF, 1), Transfer::Done);
    assert!(aborted(&rig.dma_write(16, BUF, 1)));
    assert_eq!(rig.hazards(), []);
}

#[test]
fn t35_without_memory_streams_abort_and_recover() {
    let mut rig = Rig::qemu();
    enable_two_level(&mut rig, 8, 16);
    l2_ste(&rig, 8, 8, BYPASS);
    l1(&rig, 8, 8, 9);
    rig.board.0.allocations.set(0);
    rig.issue(&[cfgi_ste(8)]);
    assert!(aborted(&rig.dma_write(8, BUF, 1)));
    assert_eq!(rig.smmu.stats().strtab_no_memory, 1);
    rig.board.0.allocations.set(10);
    rig.issue(&[cfgi_ste(8)]);
    assert_eq!(rig.dma_write(8, BUF, 1), Transfer::Done);
    assert_eq!(rig.hazards(), []);
}

#[test]
fn a_change_of_mode_interrupted_by_another_cpu_frees_no_table_that_hardware_may_use() {
    let config = Config { sid_bits: 20, ..Config::qemu() };
    for target in [r::CMDQEN | r::EVENTQEN, r::CMDQEN | r::EVENTQEN | r::SMMUEN] {
        let mut rig = Rig::new(config.clone());
        enable_two_level(&mut rig, 8, 20);
        for block in [0, 1, 2] {
            l2_ste(&rig, 8, block << 8, BYPASS);
            l1(&rig, 8, block << 8, 9);
        }
        rig.issue(&[CFGI_ALL]);
        for block in [0, 1, 2] {
            assert_eq!(rig.dma_write(block << 8, BUF, 1), Transfer::Done);
        }
        if target & r::SMMUEN == 0 {
            // One CPU switches translation off; its store is not complete after one trap.
            let outcome = rig.smmu.mmio_write(&mut rig.host, r::CR0, AccessSize::Word, target);
            assert_eq!(outcome, WriteOutcome::Again);
            assert_eq!(rig.read(r::CR0ACK) & r::SMMUEN, r::SMMUEN, "not acknowledged yet");
        } else {
            // Alternatively it removes its level-2 tables.
            for block in [0, 1, 2] {
                l1(&rig, 8, block << 8, 0);
            }
            rig.queue(CFGI_ALL);
            let prod = u64::from(rig.prod);
            let outcome = rig.smmu.mmio_write(&mut rig.host, r::CMDQ_PROD, AccessSize::Word, prod);
            assert_eq!(outcome, WriteOutcome::Again);
        }
        // Another CPU's CMD_SYNC completes in between. Freed memory now holds entries that bypass.
        rig.queue(common::SYNC);
        let prod = u64::from(rig.prod);
        let _ = rig.smmu.mmio_write(&mut rig.host, r::CMDQ_PROD, AccessSize::Word, prod);
        for block in [0, 1, 2] {
            assert!(!rig.el2_reachable(block << 8));
        }
        rig.ring();
        rig.write(r::CR0, target);
        assert_eq!(rig.read(r::CR0ACK), target);
        for block in [0, 1, 2] {
            assert!(!rig.el2_reachable(block << 8));
        }
        assert_eq!(rig.hazards(), []);
    }
}
