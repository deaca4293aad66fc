//! Take-over: from the first write on, no transaction reaches memory outside stage 2, for every state in which firmware
//! can leave the SMMU.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::cell::Cell;
use std::rc::Rc;

use common::{Board, POOL, POOL_SIZE, RAM, Rig, Stage2, firmware, r};
use smmu_drv::{Platform, ProbeError, Probed, TakeOverError};
use smmu_model::{Config, Injection, Model, Pace, Snoop, StallModel, Transfer};

fn configs() -> Vec<Config> {
    let mut all = Vec::new();
    for seed in 1..3 {
        for pace in [Pace::Eager, Pace::Lazy] {
            let base = Config { pace, seed, ..Config::qemu() };
            all.push(base.clone());
            all.push(Config { two_level: false, sid_bits: 10, ..base.clone() });
            all.push(Config { snoop: Snoop::NonCoherent, ..base.clone() });
            all.push(Config { ril: false, vmid16: false, ..base.clone() });
            all.push(Config { pace, seed, ..Config::full() });
        }
    }
    all
}

#[test]
fn every_stream_reaches_host_memory_only() {
    for config in configs() {
        let mut rig = Rig::new(config.clone());
        assert_eq!(rig.dma_write(8, RAM + 0x1000, 5), Transfer::Done, "{config:?}");
        assert_ne!(rig.dma_write(8, POOL, 5), Transfer::Done);
        for sid in [0, 8, 255, 256, (1 << config.sid_bits) - 1] {
            assert!(!rig.el2_reachable(sid), "{config:?}");
        }
        assert_eq!(rig.hazards(), [], "{config:?}");
    }
}

/// Firmware left the SMMU enabled, with its own tables and queues.
fn left_on(board: &Board) {
    let mut model = board.0.model.borrow_mut();
    let mem = &board.0.mem;
    let strtab = RAM + 0x50_0000;
    for sid in 0..16 {
        mem.cpu_write64(strtab + sid * 64, common::dw0(common::CONFIG_BYPASS, 0));
        mem.cpu_write64(strtab + sid * 64 + 8, 1 << 44);
    }
    mem.clean(strtab..strtab + 1024);
    let settle = |model: &mut Model| model.run_to_idle();
    model.write32(r::CR1, 0xd75);
    model.write32(r::CR2, 2);
    model.write64(r::STRTAB_BASE, strtab);
    model.write32(r::STRTAB_BASE_CFG, 4);
    model.write64(r::CMDQ_BASE, (RAM + 0x60_0000) | 8);
    model.write64(r::EVENTQ_BASE, (RAM + 0x61_0000) | 7);
    settle(&mut model);
    model.write32(r::CR0, 8 | 4);
    settle(&mut model);
    model.write32(r::CR0, 8 | 4 | 1);
    settle(&mut model);
    model.write32(r::IRQ_CTRL, 5);
    settle(&mut model);
    for sid in 0..16 {
        assert_eq!(model.dma_write(sid, None, RAM, &[1]), Transfer::Done);
        assert!(model.can_reach(sid, POOL).is_some());
    }
    model.take_hazards();
}

#[test]
fn t08_el2_memory_stays_unreachable_while_firmware_state_is_replaced() {
    for config in configs() {
        let probe = firmware(&config);
        let board = Board::new(config.clone());
        left_on(&board);
        // After EL2's memory has become unreachable, it stays unreachable.
        let closed = Rc::new(Cell::new(false));
        let seen = Rc::clone(&closed);
        *board.0.watch.borrow_mut() = Some(Box::new(move |model: &Model| {
            let open = [0, 15].into_iter().any(|sid| model.can_reach_any(sid, POOL..POOL + POOL_SIZE).is_some());
            assert!(!(open && seen.get()), "EL2's memory is reachable again: {:?}", model.can_reach(0, POOL));
            seen.set(!open);
        }));
        let rig = Rig::on(board, probe);
        assert!(closed.get());
        assert!(!rig.el2_reachable(3));
        assert_eq!(rig.hazards(), [], "{config:?}");
    }
}

#[test]
fn hardware_interrupts_and_msis_start_disabled() {
    let board = Board::new(Config::full());
    {
        let mut model = board.0.model.borrow_mut();
        model.write64(0x68, 0x5000_0000);
        model.write64(0xb0, 0x5000_0000);
        model.write64(0xd0, 0x5000_0000);
    }
    let probe = firmware(&Config::full());
    let rig = Rig::on(board, probe);
    for offset in [0x68, 0xb0, 0xd0] {
        assert_eq!(rig.board.read64(offset), 0);
    }
    assert_eq!(rig.board.read32(r::IRQ_CTRLACK), 0);
}

#[test]
fn tables_and_queues_have_the_attributes_of_hardwares_coherency() {
    // Inner shareable and write-back if the SMMU snoops, otherwise outer shareable and non-cacheable; CR2: RECINVSID,
    // PTM.
    for (snoop, cr1) in [(Snoop::Coherent, 0xd75), (Snoop::NonCoherent, 0x820)] {
        let rig = Rig::new(Config { snoop, ..Config::qemu() });
        assert_eq!((rig.board.read32(r::CR1), rig.board.read32(r::CR2)), (cr1, 6));
    }
}

#[test]
fn atschk_is_set_before_smmuen() {
    let rig = Rig::new(Config::full());
    assert_eq!(rig.board.read32(r::CR0ACK), 0x1d);
    let rig = Rig::qemu();
    assert_eq!(rig.board.read32(r::CR0ACK), 0xd);
}

#[test]
fn unsupported_smmus_are_refused_without_a_write() {
    let broken = |iidr: u32| Config { iidr, ..Config::qemu() };
    type Expected = fn(&ProbeError) -> bool;
    let cases: [(Config, Expected); 9] = [
        (Config { stage2: false, ..Config::qemu() }, |e| matches!(e, ProbeError::NotNested(_))),
        (Config { stage1: false, ..Config::qemu() }, |e| matches!(e, ProbeError::NotNested(_))),
        (Config { presets: true, ..Config::qemu() }, |e| matches!(e, ProbeError::Preset(_))),
        (Config { aarch64: false, ..Config::qemu() }, |e| matches!(e, ProbeError::NoAarch64(_))),
        (Config { gran4k: false, ..Config::qemu() }, |e| matches!(e, ProbeError::No4K(_))),
        (Config { stall: StallModel::Forced, ..Config::qemu() }, |e| matches!(e, ProbeError::StallForced(_))),
        (Config { cmdq_bits: 2, ..Config::qemu() }, |e| matches!(e, ProbeError::QueueTooSmall(_))),
        // MMU-600 r1p0, MMU-700 r1p0.
        (broken(0x4831_043b), |e| matches!(e, ProbeError::NestingErratum(_))),
        (broken(0x4871_043b), |e| matches!(e, ProbeError::NestingErratum(_))),
    ];
    for (config, expected) in cases {
        let board = Board::new(config.clone());
        let error = Probed::probe(board.clone(), firmware(&config)).err().unwrap();
        assert!(expected(&error), "{config:?}: {error}");
        assert_eq!(board.0.mmio.get(), 0);
        assert!(error.to_string().contains("SMMU_I"), "{error}");
    }
    for iidr in [0x4832_043b, 0x4871_143b, 0x4831_0000] {
        assert!(Probed::probe(Board::new(broken(iidr)), firmware(&Config::qemu())).is_ok(), "{iidr:#x}");
    }
}

#[test]
fn t47_unresponsive_hardware_is_reported_in_bounded_time() {
    for injection in [Injection::GbpaNever, Injection::Cr0Never, Injection::SyncNever] {
        let config = Config { pace: Pace::Lazy, ..Config::qemu() };
        let board = Board::new(config.clone());
        board.0.model.borrow_mut().inject(injection);
        let s2 = Stage2::new(&board.0.mem);
        let error = Probed::probe(board.clone(), firmware(&config))
            .unwrap()
            .take_over_with_host::<common::Host>(s2.cfg(), Default::default())
            .err()
            .unwrap();
        assert!(matches!(error, TakeOverError::NoAck(_) | TakeOverError::Invalidation), "{error}");
        assert!(board.0.clock.get() < 5_000_000);
    }
}

#[test]
fn allocation_failure_leaves_the_smmu_untouched_and_frees_everything() {
    for config in [Config::qemu(), Config { two_level: false, sid_bits: 10, ..Config::qemu() }] {
        for budget in 0.. {
            let board = Board::new(config.clone());
            board.0.allocations.set(budget);
            let s2 = Stage2::new(&board.0.mem);
            match Probed::probe(board.clone(), firmware(&config))
                .unwrap()
                .take_over_with_host::<common::Host>(s2.cfg(), Default::default())
            {
                Ok(_) => break,
                Err(error) => {
                    assert_eq!(error, TakeOverError::NoMemory);
                    assert_eq!(board.0.mmio.get(), 0);
                    assert_eq!(board.0.live_bytes.get(), 0);
                }
            }
        }
    }
}

#[test]
fn a_stage_2_that_hardware_would_not_accept_is_refused() {
    let probe = || Probed::probe(Board::new(Config::qemu()), firmware(&Config::qemu())).unwrap();
    let good = Stage2::new(&Board::new(Config::qemu()).0.mem).cfg();
    let bad = [
        smmu_drv::Stage2Cfg { t0sz: 15, ..good },
        smmu_drv::Stage2Cfg { t0sz: 16, ..good },
        smmu_drv::Stage2Cfg { t0sz: 40, ..good },
        smmu_drv::Stage2Cfg { tg: 1, ..good },
        smmu_drv::Stage2Cfg { sl0: 3, ..good },
        smmu_drv::Stage2Cfg { ps: 5, ..good },
        smmu_drv::Stage2Cfg { ttb: io_pgtable::Pa(0x8), ..good },
        smmu_drv::Stage2Cfg { ttb: io_pgtable::Pa(1 << 44), ..good },
    ];
    for cfg in bad {
        assert!(
            matches!(
                probe().take_over_with_host::<common::Host>(cfg, Default::default()),
                Err(TakeOverError::BadStage2(_))
            ),
            "{cfg:?}"
        );
    }
    let narrow = Config { vmid16: false, ..Config::qemu() };
    let probed = Probed::probe(Board::new(narrow.clone()), firmware(&narrow)).unwrap();
    assert!(
        probed
            .take_over_with_host::<common::Host>(smmu_drv::Stage2Cfg { vmid: 256, ..good }, Default::default())
            .is_err()
    );
}
