//! Take-over, and loss of state: all addresses in hardware are from EL2.
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
fn t45p_nothing_is_allocated_before_the_gic_is_quiescent() {
    let left = Config { its: 3, cpus: 4, left_on: Some(RAM), ..Config::qemu() };
    for config in [left, Config { left_on: None, flushing: true, ..left }, Config { flushing: true, ..left }] {
        let mut rig = take_over(config).unwrap();
        assert_eq!(rig.board.0.was_quiet.get(), Some(true), "{config:?}");
        rig.check();
    }
    // If hardware does not become quiescent, nothing is allocated.
    for config in [Config { never_quiescent: true, ..left }, Config { clearable: false, ..left }] {
        let (board, mut guard, _) = bare(config);
        let rds = rds(config);
        assert!(guard.take_over(&gic_guard::Config { its: config.its, rds: &rds, intid_bits: 16 }).is_err());
        assert_eq!(board.0.was_quiet.get(), None, "{config:?}");
    }
}

#[test]
fn t45p_a_redistributor_with_too_few_address_bits_is_refused() {
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
fn t45g_tables_are_restored_before_lpis_after_a_redistributor_lost_state() {
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
fn t45g_a_redistributor_with_tables_of_others_has_no_lpis() {
    let mut rig = Rig::linux(Config::qemu());
    rig.model().lose_power(1, |config| config.rd_address_bits = 32);
    rig.set_rd32(1, r::CTLR, 1 << 24 | 1);
    assert_eq!(rig.model().read32(Place::Rd(1), 0) & 1, 0, "its GICR_PENDBASER lacks upper address bits");
    rig.check();
    // The firmware enabled LPIs.
    let mut rig = Rig::linux(Config::qemu());
    rig.model().lose_power(1, |_| {});
    // The tables of firmware, at the addresses that `lose_power` leaves in the registers, are not checked here.
    let tables = [0xdead_0000, 0xbeef_0000];
    for table in tables {
        rig.board.memory().give(table, 0x1_0000);
    }
    rig.model().write32(Place::Rd(1), 0, 1);
    for table in tables {
        rig.board.memory().take(table);
    }
    rig.set_rd32(1, r::CTLR, 1);
    assert_eq!(rig.model().read32(Place::Rd(1), 0) & 1, 0);
    rig.check();
    assert_eq!(
        rig.read(Frame::Rd(0), r::CTLR, gic_guard::AccessSize::Word) & 1,
        1,
        "the other redistributor continues"
    );
}

#[test]
fn t45p_a_resident_vpe_is_removed_before_allocation() {
    let left = Config { virtual_lpis: true, resident: Some(RAM), cpus: 3, ..Config::qemu() };
    let mut rig = take_over(left).unwrap();
    assert_eq!(rig.board.0.was_quiet.get(), Some(true));
    for cpu in 0..3 {
        assert_eq!(rig.model().read64(Place::Rd(cpu), 0x2_0078) >> 60, 0, "Valid and Dirty");
        assert_eq!(rig.model().read64(Place::Rd(cpu), 0x2_0070) >> 63, 0);
    }
    rig.check();
    let busy = take_over(Config { stays_busy: true, ..left }).err();
    assert_eq!(busy, Some(TakeOverError::RdResident(0)));
}

#[test]
fn t45p_an_its_that_lost_its_registers_is_restored_or_fails() {
    let prepare = || {
        let mut rig = Rig::linux(Config { its: 2, ..Config::qemu() });
        rig.configure(8192, ON);
        rig.post(0, &[mapd(8, 4), mapti(8, 0, 8192, 1), sync(1)]);
        rig
    };
    // Without a loss nothing changes.
    let mut rig = prepare();
    rig.guard.check_alive(Some(1));
    assert_eq!(rig.raise(0, 8, 0), [(1, 8192)]);
    // The ITS, which Linux had disabled as at suspend, and the redistributor have lost their state.
    rig.set_its32(0, r::CTLR, 0);
    rig.model().lose_its(0);
    rig.model().lose_power(1, |_| {});
    rig.guard.check_alive(Some(1));
    rig.check();
    assert_eq!(rig.model().read32(Place::Rd(1), 0) & 1, 1, "EnableLPIs");
    rig.set_its32(0, r::CTLR, 1);
    assert_eq!(rig.raise(0, 8, 0), [(1, 8192)]);
    rig.post(0, &[mapd(9, 4), sync(0)]);
    // Firmware has enabled the ITS.
    rig.set_its32(0, r::CTLR, 0);
    rig.model().lose_its(0);
    rig.model().write32(Place::Its(0), 0, 1);
    rig.guard.check_alive(None);
    assert_eq!(rig.model().read32(Place::Its(0), 0) & 1, 0);
    assert_eq!(rig.guard.failed(0), None);
    rig.check();
    // The ITS lost its state while it was enabled: data that it had not written to memory is lost. The other ITS
    // continues.
    let mut rig = prepare();
    rig.model().lose_its(0);
    rig.guard.check_alive(None);
    assert_eq!(rig.guard.failed(0), Some(gic_guard::ItsError::Lost));
    rig.guard.check_alive(None);
    let tail = rig.queue(0, &[mapd(10, 4)]);
    rig.set_its64(0, r::CWRITER, tail);
    assert_eq!(rig.model().read32(Place::Its(0), 0) & 1, 0, "the ITS stays disabled");
    rig.post(1, &[mapd(8, 4), mapti(8, 0, 8193, 0), sync(0)]);
    // Collections that are stored only in hardware.
    let mut rig = Rig::linux(Config { collection_table: false, ..Config::qemu() });
    rig.set_its32(0, r::CTLR, 0);
    rig.model().lose_its(0);
    rig.guard.check_alive(None);
    assert_eq!(rig.guard.failed(0), Some(gic_guard::ItsError::Lost));
}

#[test]
fn t44_a_gic_that_wrongly_reports_snooping_gets_no_shareable_table() {
    let shareability = |snoops| {
        let (board, mut guard, _) = bare(Config::qemu());
        board.0.reported_snooping.set(snoops);
        let rds = rds(Config::qemu());
        guard.take_over(&gic_guard::Config { its: 1, rds: &rds, intid_bits: 16 }).unwrap();
        let mut model = board.0.model.borrow_mut();
        let registers = [(Place::Its(0), 0x80), (Place::Its(0), 0x100), (Place::Its(0), 0x108), (Place::Rd(0), 0x70)];
        registers.map(|(place, offset)| model.read64(place, offset) >> 10 & 3)
    };
    assert_eq!(shareability(true), [1; 4]);
    assert_eq!(shareability(false), [0; 4]);
}
