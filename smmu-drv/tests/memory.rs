//! A take-over allocates the blocks of `memory_needed`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BYPASS, Board, Host, Rig, Stage2, firmware};
use smmu_drv::{MAX_LEVEL2, Probed, StreamRange, memory_needed};
use smmu_model::{Config, Snoop};

fn configs() -> Vec<Config> {
    let mut all = vec![Config::qemu(), Config::full(), Config { snoop: Snoop::NonCoherent, ..Config::qemu() }];
    for sid_bits in [0, 1, 5, 6, 8, 9, 16, 17, 20, 25, 26, 32] {
        all.push(Config { sid_bits, two_level: true, ..Config::qemu() });
    }
    for sid_bits in [0, 1, 5, 6, 8, 9, 12] {
        all.push(Config { sid_bits, two_level: false, ..Config::qemu() });
    }
    all.push(Config { cmdq_bits: 3, eventq_bits: 3, ..Config::qemu() });
    all
}

#[test]
fn a_take_over_allocates_the_blocks_of_memory_needed() {
    for config in configs() {
        let board = Board::new(config.clone());
        let probed = Probed::probe(board.clone(), firmware(&config)).unwrap();
        let needed = memory_needed(probed.features());
        assert!(needed.blocks().iter().all(|bytes| bytes.is_power_of_two() && *bytes >= 4096), "{needed:?}");
        let _smmu = probed.take_over(Default::default()).unwrap();
        assert_eq!(*board.0.allocated.borrow(), needed.blocks(), "{config:?}");
        assert_eq!(board.0.live_bytes.get(), needed.bytes());

        // The same with a host.
        let board = Board::new(config.clone());
        let s2 = Stage2::new(&board.0.mem);
        let probed = Probed::probe(board.clone(), firmware(&config)).unwrap();
        let _smmu = probed.take_over_with_host::<Host>(s2.cfg(), Default::default()).unwrap();
        assert_eq!(*board.0.allocated.borrow(), needed.blocks(), "{config:?}");
    }
}

#[test]
fn a_block_of_streams_needs_a_level_2_table_later() {
    let mut rig = Rig::qemu();
    let needed = memory_needed(rig.smmu.features());
    rig.enable_linear(8);
    rig.set_ste(9, BYPASS);
    rig.smmu.block(&mut rig.host, StreamRange::one(0x305)).unwrap();
    let later = rig.board.0.allocated.borrow()[needed.blocks().len()..].to_vec();
    assert_eq!(later, [needed.level2(); 2]);
    const { assert!(MAX_LEVEL2 >= 2) };
    let linear = Rig::new(Config { sid_bits: 10, two_level: false, ..Config::qemu() });
    assert_eq!(memory_needed(linear.smmu.features()).level2(), 0);
}
