//! Stream tables, context descriptors, both stages, and the event for each kind of failure.

mod common;

use common::*;
use smmu_model::arch::{event as e, regs as r};
use smmu_model::{Bbml, Config, Httu, StallModel, Transfer};

const VA: u64 = 0x10_0000;

fn kind(transfer: &Transfer) -> Option<u8> {
    match transfer {
        Transfer::Aborted(Some(event)) => Some(event.kind),
        _ => None,
    }
}

fn nested_machine(config: Config) -> Machine {
    let mut machine = Machine::on(config);
    machine.map_pages();
    machine.map_host_tables();
    machine.stage1(VA, DATA + 0x3000);
    machine.install(SID, nested());
    machine
}

#[test]
fn each_value_of_config_has_its_effect() {
    let mut machine = nested_machine(Config::qemu());
    assert_eq!(machine.write(VA + 5, 7), Transfer::Done);
    assert_eq!(machine.mem.cpu_read8(DATA + 0x3005), 7);
    let mut data = [0];
    assert_eq!(machine.smmu.dma_read(SID, None, VA + 5, &mut data), Transfer::Done);
    assert_eq!(data, [7]);
    machine.cmd(S12_VMALL);
    machine.install(SID, s2_only());
    assert_eq!(machine.write(DATA + 0x10, 1), Transfer::Done);
    assert_eq!(kind(&machine.write(SECRET, 1)), Some(e::F_TRANSLATION));
    machine.install(SID, bypass());
    assert_eq!(machine.write(SECRET, 2), Transfer::Done);
    assert_eq!(kind(&machine.write(1 << 45, 2)), Some(e::F_ADDR_SIZE));
    machine.install(SID, abort());
    assert_eq!(machine.write(SECRET, 3), Transfer::Aborted(None));
    machine.install(SID, [0, 0, 0, 0]);
    assert_eq!(kind(&machine.write(SECRET, 3)), Some(e::C_BAD_STE));
    machine.install(SID, s1_only());
    assert_eq!(machine.write(VA, 9), Transfer::Done);
    assert_eq!(machine.mem.cpu_read8(DATA + 0x3000), 9);
}

#[test]
fn illegal_entries_are_c_bad_ste() {
    let set = |word: usize, clear: u64, set: u64| {
        let mut ste = nested();
        ste[word] = (ste[word] & !clear) | set;
        ste
    };
    for (why, ste) in [
        ("S2T0SZ 40 without STT", set(2, 0x3f << 32, 40 << 32)),
        ("S2T0SZ below 64 - IAS", set(2, 0x3f << 32, 19 << 32)),
        ("S2SL0 level 2 cannot start 39 bits", set(2, 3 << 38, 0)),
        ("S2SL0 reserved", set(2, 3 << 38, 3 << 38)),
        ("S2TG reserved", set(2, 3 << 46, 3 << 46)),
        ("AArch32 stage 2", set(2, 1 << 51, 0)),
        ("S2ENDI", set(2, 0, 1 << 52)),
        ("S2HA without HTTU", set(2, 0, 1 << 56)),
        ("S2S without stall", set(2, 0, 1 << 57)),
        ("S1STALLD without stall", set(1, 0, 1 << 27)),
        ("S2TTB beyond S2PS", set(3, 0, 1 << 46)),
    ] {
        let mut machine = nested_machine(Config::qemu());
        machine.install(SID, ste);
        machine.cmd(S12_VMALL);
        machine.sync();
        assert_eq!(kind(&machine.write(VA, 1)), Some(e::C_BAD_STE), "{why}");
        assert!(machine.smmu.reach(SID).is_empty(), "{why}");
    }
    let mut narrow = nested_machine(Config { vmid16: false, ..Config::qemu() });
    narrow.install(SID, set(2, 0, 0x100));
    assert_eq!(kind(&narrow.write(VA, 1)), Some(e::C_BAD_STE));
    let mut no_s2 = Machine::on(Config { stage2: false, ..Config::qemu() });
    no_s2.install(SID, s2_only());
    assert_eq!(kind(&no_s2.write(VA, 1)), Some(e::C_BAD_STE));
}

#[test]
fn illegal_context_descriptors_are_c_bad_cd() {
    for (why, clear, set) in [
        ("V", 1 << 31, 0),
        ("AA64", 1 << 41, 0),
        ("ENDI", 0, 1 << 15),
        ("S without stall", 0, 1 << 44),
        ("A with TERM_MODEL", 1 << 46, 0),
        ("HA without HTTU", 0, 1 << 43),
        ("T0SZ", 0x3f, 15),
        ("TG0", 0, 3 << 6),
    ] {
        let mut machine = nested_machine(Config::qemu());
        machine.mem.cpu_write64(CDS, (cd(S1_ROOT)[0] & !clear) | set);
        machine.cmd([u64::from(SID) << 32 | 5, 1]);
        machine.cmd(S12_VMALL);
        machine.sync();
        assert_eq!(kind(&machine.write(VA, 1)), Some(e::C_BAD_CD), "{why}");
    }
}

#[test]
fn stage_2_applies_to_fetches_of_stage_1() {
    // The context descriptor is in memory that stage 2 does not map.
    let mut machine = nested_machine(Config::qemu());
    let mut ste = nested();
    ste[0] = SECRET | 0b1111;
    machine.install(SID, ste);
    machine.cmd(S12_VMALL);
    machine.sync();
    let Transfer::Aborted(Some(event)) = machine.write(VA, 1) else { panic!("it was not aborted") };
    assert_eq!((event.kind, event.stage2, event.class, event.ipa), (e::F_TRANSLATION, true, e::Class::Cd, SECRET));
    // The stage 1 root table is in memory that stage 2 does not map.
    let mut machine = nested_machine(Config::qemu());
    machine.mem.cpu_write64(CDS + 8, SECRET);
    machine.cmd([u64::from(SID) << 32 | 6, 0]);
    machine.sync();
    machine.cmd(S12_VMALL);
    machine.sync();
    let Transfer::Aborted(Some(event)) = machine.write(VA, 1) else { panic!("it was not aborted") };
    assert_eq!((event.kind, event.stage2, event.class), (e::F_TRANSLATION, true, e::Class::Tt));
    // The stage 1 output is in memory that stage 2 does not map.
    let mut machine = nested_machine(Config::qemu());
    machine.stage1(VA, SECRET);
    machine.cmd(NH_ALL);
    machine.sync();
    let Transfer::Aborted(Some(event)) = machine.write(VA, 1) else { panic!("it was not aborted") };
    assert_eq!((event.class, event.ipa, event.input), (e::Class::In, SECRET, VA));
}

#[test]
fn permissions_of_both_stages_are_checked() {
    let mut machine = nested_machine(Config::qemu());
    let s1 = S1_L3 + ((VA >> 12) & 511) * 8;
    machine.mem.cpu_write64(s1, (DATA + 0x3000) | S1_LEAF | 1 << 7 | 3);
    machine.cmd(NH_ALL);
    machine.sync();
    assert_eq!(kind(&machine.write(VA, 1)), Some(e::F_PERMISSION));
    assert_eq!(machine.smmu.dma_read(SID, None, VA, &mut [0]), Transfer::Done);
    machine.stage1(VA, DATA + 0x3000);
    machine.mem.cpu_write64(machine.s2_page(3), (DATA + 0x3000) | (S2_LEAF & !(2 << 6)) | 3);
    machine.cmd(S12_VMALL);
    machine.sync();
    let Transfer::Aborted(Some(event)) = machine.write(VA, 1) else { panic!("it was not aborted") };
    assert_eq!((event.kind, event.stage2), (e::F_PERMISSION, true));
    assert!(!machine.smmu.can_reach(SID, DATA + 0x3000).is_some_and(|r| r.write));
    // With S2PTW tables must not be in Device memory.
    machine.mem.cpu_write64(S2_L2 + ((CDS >> 21) & 511) * 8, (CDS & !0x1f_ffff) | (S2_LEAF & !0x3c) | 1);
    let mut ste = nested();
    ste[2] |= 1 << 54;
    machine.install(SID, ste);
    machine.cmd(S12_VMALL);
    machine.sync();
    let Transfer::Aborted(Some(event)) = machine.write(VA, 1) else { panic!("it was not aborted") };
    assert_eq!((event.kind, event.class), (e::F_PERMISSION, e::Class::Cd));
}

#[test]
fn two_level_tables_respect_span_and_size() {
    let mut machine = Machine::new(Config::qemu());
    machine.map_pages();
    machine.queues();
    let l2 = RAM + 0x3_0000;
    machine.smmu.write64(r::STRTAB_BASE, STRTAB);
    machine.smmu.write32(r::STRTAB_BASE_CFG, 12 | 8 << 6 | 1 << 16);
    machine.smmu.write32(r::CR2, r::CR2_RECINVSID);
    // StreamIDs 0x100 to 0x107.
    machine.mem.cpu_write64(STRTAB + 8, l2 | 4);
    for (at, word) in (l2 + 5 * 64..).step_by(8).zip(s2_only()) {
        machine.mem.cpu_write64(at, word);
    }
    machine.cr0(r::CR0_CMDQEN | r::CR0_EVENTQEN | r::CR0_SMMUEN);
    let write = |machine: &mut Machine, sid| machine.smmu.dma_write(sid, None, DATA, &[1]);
    assert_eq!(write(&mut machine, 0x105), Transfer::Done);
    assert_eq!(kind(&write(&mut machine, 0x104)), Some(e::C_BAD_STE));
    for bad in [0x108, 0x0, 0x205, 0x1105] {
        assert_eq!(kind(&write(&mut machine, bad)), Some(e::C_BAD_STREAMID), "{bad:#x}");
        assert!(machine.smmu.reach(bad).is_empty());
    }
    // A leaf invalidation keeps the level 1 descriptor.
    machine.mem.cpu_write64(STRTAB + 8, 0);
    machine.cmd([0x105 << 32 | 3, 1]);
    machine.sync();
    assert_eq!(write(&mut machine, 0x105), Transfer::Done);
    machine.cmd([0x105 << 32 | 3, 0]);
    machine.sync();
    assert_eq!(kind(&write(&mut machine, 0x105)), Some(e::C_BAD_STREAMID));
    for bad in [12, 10, 31] {
        machine.mem.cpu_write64(STRTAB + 8, l2 | bad);
        machine.cmd([4, 31]);
        machine.sync();
        assert_eq!(kind(&write(&mut machine, 0x105)), Some(e::C_BAD_STREAMID), "span {bad}");
    }
}

#[test]
fn structures_outside_memory_cause_fetch_faults() {
    let mut machine = Machine::new(Config::qemu());
    machine.queues();
    machine.smmu.write64(r::STRTAB_BASE, 0x1_0000_0000);
    machine.smmu.write32(r::STRTAB_BASE_CFG, 6);
    machine.cr0(r::CR0_CMDQEN | r::CR0_EVENTQEN | r::CR0_SMMUEN);
    assert_eq!(kind(&machine.write(DATA, 1)), Some(e::F_STE_FETCH));
    let mut machine = nested_machine(Config::qemu());
    machine.mem.cpu_write64(S2_ROOT + (DATA >> 30) * 8, 0x1_0000_0003);
    machine.cmd([4, 31]);
    machine.cmd(S12_VMALL);
    machine.sync();
    assert_eq!(kind(&machine.write(VA, 1)), Some(e::F_WALK_EABT));
}

fn with_substreams(dss: u64) -> Machine {
    let config = Config { bbml: Bbml::Level2, ..Config::full() };
    let mut machine = nested_machine(config);
    let mut ste = nested();
    ste[0] |= 3 << 59;
    ste[1] |= dss;
    ste[2] = (ste[2] & !(7 << 48)) | 4 << 48;
    machine.install(SID, ste);
    machine.cmd([4, 31]);
    machine.cmd(S12_VMALL);
    machine.sync();
    machine
}

#[test]
fn substreams_choose_context_descriptors() {
    let mut machine = with_substreams(0b00);
    for (at, word) in (CDS + 5 * 64..).step_by(8).zip(cd(S1_ROOT)) {
        machine.mem.cpu_write64(at, word);
    }
    machine.cmd([4, 31]);
    machine.sync();
    let write = |machine: &mut Machine, ssid| machine.smmu.dma_write(SID, ssid, VA, &[1]);
    assert_eq!(write(&mut machine, Some(5)), Transfer::Done);
    assert_eq!(kind(&write(&mut machine, Some(6))), Some(e::C_BAD_CD));
    assert_eq!(kind(&write(&mut machine, Some(8))), Some(e::C_BAD_SUBSTREAMID));
    assert_eq!(kind(&write(&mut machine, None)), Some(e::F_STREAM_DISABLED));
    let mut machine = with_substreams(0b10);
    assert_eq!(write(&mut machine, None), Transfer::Done);
    assert_eq!(kind(&write(&mut machine, Some(0))), Some(e::F_STREAM_DISABLED));
    let mut machine = with_substreams(0b01);
    assert_eq!(machine.smmu.dma_write(SID, None, DATA, &[1]), Transfer::Done, "stage 2 only");
    assert_eq!(kind(&write(&mut machine, None)), Some(e::F_TRANSLATION));
}

#[test]
fn two_level_context_tables() {
    let mut machine = nested_machine(Config::full());
    let l1 = CDS + 0x1000;
    let mut ste = nested();
    ste[0] = l1 | 0b1111 | 1 << 4 | 8 << 59;
    machine.mem.cpu_write64(l1 + 8, CDS | 1);
    machine.install(SID, ste);
    machine.cmd([4, 31]);
    machine.cmd(S12_VMALL);
    machine.sync();
    let write = |machine: &mut Machine, ssid| machine.smmu.dma_write(SID, Some(ssid), VA, &[1]);
    assert_eq!(write(&mut machine, 0x40), Transfer::Done);
    assert_eq!(kind(&write(&mut machine, 0x80)), Some(e::C_BAD_SUBSTREAMID));
    // A cached level 1 descriptor survives a leaf invalidation.
    machine.mem.cpu_write64(l1 + 8, 0);
    machine.cmd([u64::from(SID) << 32 | 0x40 << 12 | 5, 1]);
    machine.sync();
    assert_eq!(write(&mut machine, 0x40), Transfer::Done);
    machine.cmd([u64::from(SID) << 32 | 0x40 << 12 | 5, 0]);
    machine.sync();
    assert_eq!(kind(&write(&mut machine, 0x40)), Some(e::C_BAD_SUBSTREAMID));
}

#[test]
fn every_granule_is_walked() {
    // (S2TG, granule shift, T0SZ, SL0, number of levels). 16K starts at level 1, 64K at level 2.
    for (tg, shift, t0sz, sl0, levels) in [(2u64, 14u32, 24u64, 2u64, 3u32), (1, 16, 24, 1, 2)] {
        let mut machine = Machine::on(Config::qemu());
        let stride = shift - 3;
        let target = DATA;
        let mut table = RAM + 0x80_0000;
        let root = table;
        for level in (4 - levels)..4 {
            let at = table + ((target >> (shift + (3 - level) * stride)) & ((1 << stride) - 1)) * 8;
            if level == 3 {
                machine.mem.cpu_write64(at, target | S2_LEAF | 3);
            } else {
                table += 0x10_0000;
                machine.mem.cpu_write64(at, table | 3);
            }
        }
        let word = VMID | t0sz << 32 | sl0 << 38 | tg << 46 | 4 << 48 | 1 << 51 | 1 << 58;
        machine.install(SID, [0b1101, 0, word, root]);
        assert_eq!(machine.write(target + 3, 1), Transfer::Done, "TG {tg}");
        let reach = machine.smmu.can_reach(SID, target).map(|r| r.size);
        assert_eq!(reach, Some(1 << shift));
        assert_eq!(kind(&machine.write(target + (1 << shift), 1)), Some(e::F_TRANSLATION));
    }
}

#[test]
fn concatenated_roots_are_one_table() {
    // 40 bits from level 1: two tables of 512.
    let mut machine = Machine::on(Config::qemu());
    let root = RAM + 0x80_0000;
    let ipa = 0x80_4000_0000u64;
    machine.mem.cpu_write64(root + (ipa >> 30) * 8, (DATA & !0x3fff_ffff) | S2_LEAF | 1);
    let word = VMID | 24 << 32 | 1 << 38 | 4 << 48 | 1 << 51 | 1 << 58;
    machine.install(SID, [0b1101, 0, word, root]);
    assert_eq!(machine.write(ipa + (DATA & 0x3fff_ffff), 1), Transfer::Done);
    assert_eq!(machine.mem.cpu_read8(DATA), 1);
    assert_eq!(kind(&machine.write(1 << 40, 1)), Some(e::F_TRANSLATION));
}

#[test]
fn access_flags_fault_or_are_set_by_hardware() {
    let mut machine = nested_machine(Config::qemu());
    let clear = |machine: &mut Machine, word: u64| {
        let page = machine.s2_page(3);
        machine.mem.cpu_write64(page, (DATA + 0x3000) | word | 3);
        machine.cmd(S12_VMALL);
        machine.sync();
    };
    clear(&mut machine, S2_LEAF & !(1 << 10));
    assert_eq!(kind(&machine.write(VA, 1)), Some(e::F_ACCESS));
    let mut machine = nested_machine(Config { httu: Httu::Dirty, ..Config::qemu() });
    let mut ste = nested();
    ste[2] |= 1 << 56 | 1 << 55;
    machine.install(SID, ste);
    clear(&mut machine, (S2_LEAF & !(1 << 10 | 2 << 6)) | 1 << 51);
    assert_eq!(machine.smmu.dma_read(SID, None, VA, &mut [0]), Transfer::Done);
    assert_eq!(machine.mem.cpu_read64(machine.s2_page(3)) & (1 << 10 | 3 << 6), 1 << 10 | 1 << 6);
    assert_eq!(machine.write(VA, 1), Transfer::Done);
    assert_eq!(machine.mem.cpu_read64(machine.s2_page(3)) & (3 << 6), 3 << 6);
}

#[test]
fn stage_1_hardware_updates_need_stage_2_write_permission() {
    let mut machine = nested_machine(Config { httu: Httu::Dirty, ..Config::qemu() });
    let s1 = S1_L3 + ((VA >> 12) & 511) * 8;
    machine.mem.cpu_write64(CDS, cd(S1_ROOT)[0] | 1 << 43 | 1 << 42);
    machine.mem.cpu_write64(s1, (DATA + 0x3000) | (S1_LEAF & !(1 << 10)) | 1 << 51 | 1 << 7 | 3);
    machine.cmd([4, 31]);
    machine.cmd(S12_VMALL);
    machine.sync();
    assert_eq!(machine.write(VA, 1), Transfer::Done);
    assert_eq!(machine.mem.cpu_read64(s1) & (1 << 10 | 1 << 7), 1 << 10, "AF set, now writable");
    // The same, with the tables read-only at stage 2.
    machine.mem.cpu_write64(s1, (DATA + 0x3000) | (S1_LEAF & !(1 << 10)) | 1 << 51 | 1 << 7 | 3);
    machine.mem.cpu_write64(S2_L2 + ((CDS >> 21) & 511) * 8, (CDS & !0x1f_ffff) | (S2_LEAF & !(2 << 6)) | 1);
    machine.cmd([4, 31]);
    machine.cmd(S12_VMALL);
    machine.sync();
    let Transfer::Aborted(Some(event)) = machine.write(VA, 1) else { panic!("it was not aborted") };
    assert_eq!((event.kind, event.stage2, event.class), (e::F_PERMISSION, true, e::Class::Tt));
    assert_eq!(machine.mem.cpu_read64(s1) & 1 << 10, 0);
}

#[test]
fn a_stalled_transaction_waits_for_resume() {
    let mut machine = nested_machine(Config { stall: StallModel::Both, term_model: false, ..Config::qemu() });
    machine.mem.cpu_write64(CDS, cd(S1_ROOT)[0] | 1 << 44);
    machine.cmd([4, 31]);
    machine.cmd(S12_VMALL);
    machine.sync();
    let Transfer::Stalled(stag) = machine.write(VA + 0x1000, 7) else { panic!("no stall") };
    assert_eq!(machine.mem.cpu_read64(EVENTQ + 8) & (1 << 31 | 0xffff), 1 << 31 | u64::from(stag));
    machine.stage1(VA + 0x1000, DATA + 0x3000);
    machine.mem.cpu_write64(CDS, cd(S1_ROOT)[0] | 1 << 44);
    machine.cmd([u64::from(SID + 1) << 32 | 1 << 12 | 0x44, u64::from(stag)]);
    assert_eq!(machine.smmu.stalled(), 1, "the STAG belongs to another stream");
    machine.cmd([u64::from(SID) << 32 | 1 << 12 | 0x44, u64::from(stag)]);
    assert_eq!(machine.smmu.take_completions(), [(stag, Transfer::Done)]);
    assert_eq!(machine.mem.cpu_read8(DATA + 0x3000), 7);
    let Transfer::Stalled(stag) = machine.write(VA + 0x5000, 7) else { panic!("no stall") };
    machine.cmd([u64::from(SID) << 32 | 0x45, 0]);
    assert_eq!(machine.smmu.take_completions(), [(stag, Transfer::Aborted(None))]);
    // STE.S1STALLD forbids stalls.
    let mut ste = nested();
    ste[1] |= 1 << 27;
    machine.install(SID, ste);
    assert_eq!(kind(&machine.write(VA + 0x6000, 7)), Some(e::C_BAD_CD));
}

#[test]
fn a_context_without_recording_terminates_without_an_event() {
    let mut machine = nested_machine(Config { stall: StallModel::Both, term_model: false, ..Config::qemu() });
    machine.mem.cpu_write64(CDS, cd(S1_ROOT)[0] & !(1 << 45 | 1 << 46));
    machine.cmd([4, 31]);
    machine.cmd(S12_VMALL);
    machine.sync();
    assert_eq!(machine.write(VA + 0x7000, 1), Transfer::RazWi);
    let mut data = [5];
    assert_eq!(machine.smmu.dma_read(SID, None, VA + 0x7000, &mut data), Transfer::RazWi);
    assert_eq!((data, machine.smmu.take_events().len()), ([0], 0));
}
