//! Take-over, and redistributors that lose their state: hardware only has addresses from EL2.
#![allow(clippy::unwrap_used)]

use gic_guard::TakeOverError;
use gic_guard::platform::Frame;
use gic_model::Place;
use gic_tests::*;

const ON: u8 = 0xa1;

#[test]
fn t45p_the_command_queue_is_aligned_to_64_kib() {
    for its in 1..=3 {
        // After tables of 4 KiB, the next free address is aligned to 4 KiB only.
        let mut rig = Rig::linux(Config { its, page_size: Some(0), ..Config::qemu() });
        for n in 0..its {
            let cbaser = rig.model().read64(Place::Its(n), r::CBASER);
            assert_eq!(cbaser & 0xf000, 0, "ITS {n}: GITS_CBASER is {cbaser:#x}");
        }
        rig.check();
    }
}

#[test]
fn t45p_nothing_is_allocated_before_everything_is_quiet() {
    let left = Config { its: 3, cpus: 4, left_on: Some(RAM), ..Config::qemu() };
    for config in [left, Config { left_on: None, flushing: true, ..left }, Config { flushing: true, ..left }] {
        let mut rig = take_over(config).unwrap();
        assert_eq!(rig.board.0.was_quiet.get(), Some(true), "{config:?}");
        rig.check();
    }
    // Hardware that does not become quiescent got no memory.
    for config in [Config { never_quiescent: true, ..left }, Config { clearable: false, ..left }] {
        let (board, mut guard, _) = bare(config);
        let rds = rds(config);
        assert!(guard.take_over(&gic_guard::Config { its: config.its, rds: &rds, intid_bits: 16 }).is_err());
        assert_eq!(board.0.was_quiet.get(), None, "{config:?}");
    }
}

#[test]
fn t45p_a_redistributor_that_keeps_less_of_an_address_is_refused() {
    let qemu = Config::qemu();
    // The pool lies above 4 GiB.
    for config in [Config { rd_address_bits: 32, ..qemu }, Config { rd_id_bits: 15, ..qemu }] {
        assert_eq!(take_over(config).err(), Some(TakeOverError::RdUnusable(0)));
    }
    assert!(take_over(Config { rd_address_bits: 33, rd_id_bits: 16, ..qemu }).is_ok());
}

#[test]
fn t45p_an_its_with_fewer_collections_than_redistributors_is_refused() {
    let few = Config { collection_bits: 1, ..Config::qemu() };
    assert!(take_over(Config { cpus: 2, ..few }).is_ok());
    assert_eq!(take_over(Config { cpus: 3, ..few }).err(), Some(TakeOverError::Unusable(0)));
}

#[test]
fn t45g_a_redistributor_that_lost_its_state_gets_its_tables_before_lpis() {
    let mut rig = Rig::linux(Config::qemu());
    rig.configure(8192, ON);
    rig.post(0, &[mapd(8, 4), mapti(8, 0, 8192, 1), sync(1)]);
    for store in [1 << 24 | 1, 1 << 24, 2 << 24 | 1, 1] {
        rig.model().lose_power(1, |_| {});
        rig.set_rd32(1, r::CTLR, store);
        rig.check();
        assert_eq!(rig.model().read32(Place::Rd(1), 0) & 1, (store & 1) as u32, "{store:#x}");
    }
    assert_eq!(rig.raise(0, 8, 0), [(1, 8192)]);
}

#[test]
fn t45g_a_redistributor_that_came_back_with_other_tables_has_no_lpis() {
    let mut rig = Rig::linux(Config::qemu());
    rig.model().lose_power(1, |config| config.rd_address_bits = 32);
    rig.set_rd32(1, r::CTLR, 1 << 24 | 1);
    assert_eq!(rig.model().read32(Place::Rd(1), 0) & 1, 0, "it would use the address cut off");
    rig.check();
    // The firmware enabled LPIs.
    let mut rig = Rig::linux(Config::qemu());
    rig.model().lose_power(1, |_| {});
    // Its tables, as `lose_power` leaves their addresses, are its own affair.
    let tables = [0xdead_0000, 0xbeef_0000];
    tables.into_iter().for_each(|table| rig.board.memory().give(table, 0x1_0000));
    rig.model().write32(Place::Rd(1), 0, 1);
    tables.into_iter().for_each(|table| rig.board.memory().take(table));
    rig.set_rd32(1, r::CTLR, 1);
    assert_eq!(rig.model().read32(Place::Rd(1), 0) & 1, 0);
    rig.check();
    assert_eq!(rig.read(Frame::Rd(0), r::CTLR, gic_guard::AccessSize::Word) & 1, 1, "the other one goes on");
}
