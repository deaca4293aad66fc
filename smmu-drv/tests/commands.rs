//! The commands that the host can give, and those that are CERROR_ILL.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{
    BUF, BYPASS, C_BAD_CD, C_BAD_STE, CERROR_ILL, CMDQ, CS_RESERVED, POOL, Rig, SYNC, cfgi_ste, cmdq_error, r, record,
    sync_cs,
};
use smmu_model::{Config, Pace, Transfer};

/// Issues one command and expects CERROR_ILL at it; repairs the queue as Linux does.
fn illegal(rig: &mut Rig, cmd: [u64; 2]) {
    let at = rig.prod;
    rig.queue(cmd);
    rig.queue(SYNC);
    rig.ring();
    assert_eq!(rig.read(r::CMDQ_CONS), cmdq_error(at, CERROR_ILL), "{cmd:x?}");
    assert_eq!(rig.read(r::GERROR) ^ rig.read(r::GERRORN), 1, "{cmd:x?}");
    // A new PROD does not restart the queue.
    rig.ring();
    assert_eq!(rig.read(r::CMDQ_CONS) & 0xfffff, u64::from(at));
    let slot = CMDQ + u64::from(at & 0xff) * 16;
    rig.store(slot, SYNC[0]);
    rig.store(slot + 8, SYNC[1]);
    let gerror = rig.read(r::GERROR);
    rig.write(r::GERRORN, gerror);
    assert_eq!(rig.read(r::CMDQ_CONS) & 0xfffff, u64::from(rig.prod), "{cmd:x?}");
}

/// The legal opcodes of an SMMU with only stage 1 and no optional feature, written independently of the driver.
fn legal(op: u64) -> bool {
    matches!(op, 1 | 2 | 3 | 4 | 5 | 6 | 0x10..=0x13 | 0x30 | 0x46)
}

#[test]
fn t22_t23_every_opcode_gets_the_architectures_answer() {
    for config in [Config::qemu(), Config { pace: Pace::Lazy, ..Config::full() }] {
        let mut rig = Rig::new(config);
        rig.enable_linear(4);
        for op in 0..=255 {
            if legal(op) {
                rig.issue(&[[op, 0]]);
            } else {
                illegal(&mut rig, [op, 0]);
            }
        }
        assert_eq!(rig.hazards(), []);
    }
}

#[test]
fn t23_t48_random_payloads_never_stop_el2s_own_queue() {
    for (seed, config) in [(1_u64, Config::qemu()), (2, Config::full()), (3, Config { ril: false, ..Config::qemu() })] {
        let mut rig = Rig::new(config);
        rig.enable_linear(4);
        let mut state = seed;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..3_000 {
            let op = random() % 0x80;
            // Another test has CFGI_STE_RANGE over all streams.
            let cmd = [random() & !0xff | op, if op == 4 { random() & !0x1c } else { random() }];
            rig.queue(cmd);
            rig.ring();
            if rig.read(r::GERROR) != rig.read(r::GERRORN) {
                let slot = CMDQ + (rig.read(r::CMDQ_CONS) & 0xff) * 16;
                rig.store(slot, SYNC[0]);
                rig.store(slot + 8, SYNC[1]);
                let gerror = rig.read(r::GERROR);
                rig.write(r::GERRORN, gerror);
            }
            assert_eq!(rig.read(r::CMDQ_CONS) & 0xfffff, u64::from(rig.prod), "{cmd:x?}");
        }
        assert_eq!(rig.smmu.stats().cmdq_recoveries, 0);
        assert_eq!(rig.hazards(), []);
    }
}

#[test]
fn secure_streams_and_reserved_encodings_are_illegal() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    for op in [1, 2, 3, 4, 5, 6] {
        illegal(&mut rig, [op | 1 << 10, 0]);
    }
    // Reserved completion signal.
    illegal(&mut rig, sync_cs(CS_RESERVED));
    // Reserved range fields, and levels that the granule does not have.
    for op in [0x12, 0x13] {
        for granule in 1..4 {
            illegal(&mut rig, [op, granule << 10]);
        }
        illegal(&mut rig, [op, 2 << 10 | 1 << 8]);
        rig.issue(&[[op | 3 << 12, 2 << 10 | 1 << 8]]);
        rig.issue(&[[op | 1 << 12, 1 << 10 | 0x4000_0000], [op, 1 << 10 | 3 << 8 | 0x4000_0000]]);
    }
}

#[test]
fn out_of_range_streams_have_no_effect() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    let dropped = rig.smmu.stats().dropped_commands;
    let far = 1 << 48;
    rig.issue(&[[3 | far, 1], [4 | far, 4], [5 | far, 0], [6 | far, 0], [5 | 1 << 12, 0]]);
    assert_eq!(rig.smmu.stats().dropped_commands, dropped + 5);
    assert_eq!(rig.hazards(), []);
}

#[test]
fn t59_stalls_are_refused() {
    let mut rig = Rig::new(Config::full());
    assert_eq!(rig.read(r::IDR0) >> 24 & 3, 1);
    rig.enable_linear(4);
    let ste = rig.context(1);
    // CD.S = 1.
    let cd = common::CDTAB + 64;
    let word = rig.mem().cpu_read64(cd);
    rig.store(cd, word | 1 << 44);
    rig.set_ste(8, ste);
    let transfer = rig.dma_write(8, 0x1000, 1);
    assert!(matches!(transfer, Transfer::Aborted(_)), "{transfer:?}");
    assert_eq!(rig.board.0.model.borrow().stalled(), 0);
    assert_eq!(rig.events(), [record(C_BAD_CD, 8)], "C_BAD_CD");
    // S1STALLD = 1 is illegal in the host's view.
    rig.set_ste(8, [ste[0], ste[1] | 1 << 27, 0, 0, 0, 0, 0, 0]);
    rig.dma_write(8, 0x1000, 1);
    assert_eq!(rig.events(), [record(C_BAD_STE, 8)], "C_BAD_STE");
    illegal(&mut rig, [0x44 | 8 << 32, 0]);
    illegal(&mut rig, [0x45 | 8 << 32, 0]);
}

#[test]
fn t32_ats_is_hidden_and_refused() {
    let mut rig = Rig::new(Config::full());
    rig.enable_linear(4);
    // EATS = full ATS, in a bypass and in a stage-1 entry.
    let ste = rig.context(1);
    for words in [BYPASS, ste] {
        rig.set_ste(8, [words[0], words[1] | 1 << 28, 0, 0, 0, 0, 0, 0]);
        let reply = rig.board.0.model.borrow_mut().ats_translate(8, None, BUF, smmu_model::Access::Write);
        assert_eq!(reply, smmu_model::AtsReply::Refused);
        let transfer = rig.board.0.model.borrow_mut().dma_write_translated(8, POOL, &[1]);
        assert!(matches!(transfer, Transfer::Aborted(_)));
    }
    illegal(&mut rig, [0x40 | 8 << 32, 0]);
    illegal(&mut rig, [0x41 | 8 << 32, 0]);
    let _ = cfgi_ste(0);
    assert!(rig.events().is_empty(), "types of hidden features are not shown");
}
