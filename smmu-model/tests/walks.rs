//! Stream tables, context descriptors, both stages, and the event for each way to fail.

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

fn nested_rig(config: Config) -> Rig {
    let mut rig = Rig::on(config);
    rig.map_pages();
    rig.map_host_tables();
    rig.stage1(VA, DATA + 0x3000);
    rig.install(SID, nested());
    rig
}

#[test]
fn each_config_does_what_it_says() {
    let mut rig = nested_rig(Config::qemu());
    assert_eq!(rig.write(VA + 5, 7), Transfer::Done);
    assert_eq!(rig.mem.cpu_read8(DATA + 0x3005), 7);
    let mut data = [0];
    assert_eq!(rig.smmu.dma_read(SID, None, VA + 5, &mut data), Transfer::Done);
    assert_eq!(data, [7]);
    rig.cmd(S12_VMALL);
    rig.install(SID, s2_only());
    assert_eq!(rig.write(DATA + 0x10, 1), Transfer::Done);
    assert_eq!(kind(&rig.write(SECRET, 1)), Some(e::F_TRANSLATION));
    rig.install(SID, bypass());
    assert_eq!(rig.write(SECRET, 2), Transfer::Done);
    assert_eq!(kind(&rig.write(1 << 45, 2)), Some(e::F_ADDR_SIZE));
    rig.install(SID, abort());
    assert_eq!(rig.write(SECRET, 3), Transfer::Aborted(None));
    rig.install(SID, [0, 0, 0, 0]);
    assert_eq!(kind(&rig.write(SECRET, 3)), Some(e::C_BAD_STE));
    rig.install(SID, s1_only());
    assert_eq!(rig.write(VA, 9), Transfer::Done);
    assert_eq!(rig.mem.cpu_read8(DATA + 0x3000), 9);
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
        let mut rig = nested_rig(Config::qemu());
        rig.install(SID, ste);
        rig.cmd(S12_VMALL);
        rig.sync();
        assert_eq!(kind(&rig.write(VA, 1)), Some(e::C_BAD_STE), "{why}");
        assert!(rig.smmu.reach(SID).is_empty(), "{why}");
    }
    let mut narrow = nested_rig(Config { vmid16: false, ..Config::qemu() });
    narrow.install(SID, set(2, 0, 0x100));
    assert_eq!(kind(&narrow.write(VA, 1)), Some(e::C_BAD_STE));
    let mut no_s2 = Rig::on(Config { stage2: false, ..Config::qemu() });
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
        let mut rig = nested_rig(Config::qemu());
        rig.mem.cpu_write64(CDS, (cd(S1_ROOT)[0] & !clear) | set);
        rig.cmd([u64::from(SID) << 32 | 5, 1]);
        rig.cmd(S12_VMALL);
        rig.sync();
        assert_eq!(kind(&rig.write(VA, 1)), Some(e::C_BAD_CD), "{why}");
    }
}

#[test]
fn stage_2_guards_descriptors_and_tables_of_stage_1() {
    // The context descriptor is in memory that stage 2 does not map.
    let mut rig = nested_rig(Config::qemu());
    let mut ste = nested();
    ste[0] = SECRET | 0b1111;
    rig.install(SID, ste);
    rig.cmd(S12_VMALL);
    rig.sync();
    let Transfer::Aborted(Some(event)) = rig.write(VA, 1) else { panic!("it was not aborted") };
    assert_eq!((event.kind, event.stage2, event.class, event.ipa), (e::F_TRANSLATION, true, e::Class::Cd, SECRET));
    // The stage 1 root table is in memory that stage 2 does not map.
    let mut rig = nested_rig(Config::qemu());
    rig.mem.cpu_write64(CDS + 8, SECRET);
    rig.cmd([u64::from(SID) << 32 | 6, 0]);
    rig.sync();
    rig.cmd(S12_VMALL);
    rig.sync();
    let Transfer::Aborted(Some(event)) = rig.write(VA, 1) else { panic!("it was not aborted") };
    assert_eq!((event.kind, event.stage2, event.class), (e::F_TRANSLATION, true, e::Class::Tt));
    // The stage 1 output is in memory that stage 2 does not map.
    let mut rig = nested_rig(Config::qemu());
    rig.stage1(VA, SECRET);
    rig.cmd(NH_ALL);
    rig.sync();
    let Transfer::Aborted(Some(event)) = rig.write(VA, 1) else { panic!("it was not aborted") };
    assert_eq!((event.class, event.ipa, event.input), (e::Class::In, SECRET, VA));
}

#[test]
fn permissions_of_both_stages_hold() {
    let mut rig = nested_rig(Config::qemu());
    let s1 = S1_L3 + ((VA >> 12) & 511) * 8;
    rig.mem.cpu_write64(s1, (DATA + 0x3000) | S1_LEAF | 1 << 7 | 3);
    rig.cmd(NH_ALL);
    rig.sync();
    assert_eq!(kind(&rig.write(VA, 1)), Some(e::F_PERMISSION));
    assert_eq!(rig.smmu.dma_read(SID, None, VA, &mut [0]), Transfer::Done);
    rig.stage1(VA, DATA + 0x3000);
    rig.mem.cpu_write64(rig.s2_page(3), (DATA + 0x3000) | (S2_LEAF & !(2 << 6)) | 3);
    rig.cmd(S12_VMALL);
    rig.sync();
    let Transfer::Aborted(Some(event)) = rig.write(VA, 1) else { panic!("it was not aborted") };
    assert_eq!((event.kind, event.stage2), (e::F_PERMISSION, true));
    assert!(!rig.smmu.can_reach(SID, DATA + 0x3000).is_some_and(|r| r.write));
    // With S2PTW tables must not be in Device memory.
    rig.mem.cpu_write64(S2_L2 + ((CDS >> 21) & 511) * 8, (CDS & !0x1f_ffff) | (S2_LEAF & !0x3c) | 1);
    let mut ste = nested();
    ste[2] |= 1 << 54;
    rig.install(SID, ste);
    rig.cmd(S12_VMALL);
    rig.sync();
    let Transfer::Aborted(Some(event)) = rig.write(VA, 1) else { panic!("it was not aborted") };
    assert_eq!((event.kind, event.class), (e::F_PERMISSION, e::Class::Cd));
}

#[test]
fn two_level_tables_respect_span_and_size() {
    let mut rig = Rig::new(Config::qemu());
    rig.map_pages();
    rig.queues();
    let l2 = RAM + 0x3_0000;
    rig.smmu.write64(r::STRTAB_BASE, STRTAB);
    rig.smmu.write32(r::STRTAB_BASE_CFG, 12 | 8 << 6 | 1 << 16);
    rig.smmu.write32(r::CR2, r::CR2_RECINVSID);
    // StreamIDs 0x100 to 0x107.
    rig.mem.cpu_write64(STRTAB + 8, l2 | 4);
    for (at, word) in (l2 + 5 * 64..).step_by(8).zip(s2_only()) {
        rig.mem.cpu_write64(at, word);
    }
    rig.cr0(r::CR0_CMDQEN | r::CR0_EVENTQEN | r::CR0_SMMUEN);
    let write = |rig: &mut Rig, sid| rig.smmu.dma_write(sid, None, DATA, &[1]);
    assert_eq!(write(&mut rig, 0x105), Transfer::Done);
    assert_eq!(kind(&write(&mut rig, 0x104)), Some(e::C_BAD_STE));
    for bad in [0x108, 0x0, 0x205, 0x1105] {
        assert_eq!(kind(&write(&mut rig, bad)), Some(e::C_BAD_STREAMID), "{bad:#x}");
        assert!(rig.smmu.reach(bad).is_empty());
    }
    // A leaf invalidation keeps the level 1 descriptor.
    rig.mem.cpu_write64(STRTAB + 8, 0);
    rig.cmd([0x105 << 32 | 3, 1]);
    rig.sync();
    assert_eq!(write(&mut rig, 0x105), Transfer::Done);
    rig.cmd([0x105 << 32 | 3, 0]);
    rig.sync();
    assert_eq!(kind(&write(&mut rig, 0x105)), Some(e::C_BAD_STREAMID));
    for bad in [12, 10, 31] {
        rig.mem.cpu_write64(STRTAB + 8, l2 | bad);
        rig.cmd([4, 31]);
        rig.sync();
        assert_eq!(kind(&write(&mut rig, 0x105)), Some(e::C_BAD_STREAMID), "span {bad}");
    }
}

#[test]
fn structures_outside_memory_are_fetch_faults() {
    let mut rig = Rig::new(Config::qemu());
    rig.queues();
    rig.smmu.write64(r::STRTAB_BASE, 0x1_0000_0000);
    rig.smmu.write32(r::STRTAB_BASE_CFG, 6);
    rig.cr0(r::CR0_CMDQEN | r::CR0_EVENTQEN | r::CR0_SMMUEN);
    assert_eq!(kind(&rig.write(DATA, 1)), Some(e::F_STE_FETCH));
    let mut rig = nested_rig(Config::qemu());
    rig.mem.cpu_write64(S2_ROOT + (DATA >> 30) * 8, 0x1_0000_0003);
    rig.cmd([4, 31]);
    rig.cmd(S12_VMALL);
    rig.sync();
    assert_eq!(kind(&rig.write(VA, 1)), Some(e::F_WALK_EABT));
}

fn with_substreams(dss: u64) -> Rig {
    let config = Config { bbml: Bbml::Level2, ..Config::full() };
    let mut rig = nested_rig(config);
    let mut ste = nested();
    ste[0] |= 3 << 59;
    ste[1] |= dss;
    ste[2] = (ste[2] & !(7 << 48)) | 4 << 48;
    rig.install(SID, ste);
    rig.cmd([4, 31]);
    rig.cmd(S12_VMALL);
    rig.sync();
    rig
}

#[test]
fn substreams_choose_context_descriptors() {
    let mut rig = with_substreams(0b00);
    for (at, word) in (CDS + 5 * 64..).step_by(8).zip(cd(S1_ROOT)) {
        rig.mem.cpu_write64(at, word);
    }
    rig.cmd([4, 31]);
    rig.sync();
    let write = |rig: &mut Rig, ssid| rig.smmu.dma_write(SID, ssid, VA, &[1]);
    assert_eq!(write(&mut rig, Some(5)), Transfer::Done);
    assert_eq!(kind(&write(&mut rig, Some(6))), Some(e::C_BAD_CD));
    assert_eq!(kind(&write(&mut rig, Some(8))), Some(e::C_BAD_SUBSTREAMID));
    assert_eq!(kind(&write(&mut rig, None)), Some(e::F_STREAM_DISABLED));
    let mut rig = with_substreams(0b10);
    assert_eq!(write(&mut rig, None), Transfer::Done);
    assert_eq!(kind(&write(&mut rig, Some(0))), Some(e::F_STREAM_DISABLED));
    let mut rig = with_substreams(0b01);
    assert_eq!(rig.smmu.dma_write(SID, None, DATA, &[1]), Transfer::Done, "stage 2 only");
    assert_eq!(kind(&write(&mut rig, None)), Some(e::F_TRANSLATION));
}

#[test]
fn two_level_context_tables() {
    let mut rig = nested_rig(Config::full());
    let l1 = CDS + 0x1000;
    let mut ste = nested();
    ste[0] = l1 | 0b1111 | 1 << 4 | 8 << 59;
    rig.mem.cpu_write64(l1 + 8, CDS | 1);
    rig.install(SID, ste);
    rig.cmd([4, 31]);
    rig.cmd(S12_VMALL);
    rig.sync();
    let write = |rig: &mut Rig, ssid| rig.smmu.dma_write(SID, Some(ssid), VA, &[1]);
    assert_eq!(write(&mut rig, 0x40), Transfer::Done);
    assert_eq!(kind(&write(&mut rig, 0x80)), Some(e::C_BAD_SUBSTREAMID));
    // A cached level 1 descriptor survives a leaf invalidation.
    rig.mem.cpu_write64(l1 + 8, 0);
    rig.cmd([u64::from(SID) << 32 | 0x40 << 12 | 5, 1]);
    rig.sync();
    assert_eq!(write(&mut rig, 0x40), Transfer::Done);
    rig.cmd([u64::from(SID) << 32 | 0x40 << 12 | 5, 0]);
    rig.sync();
    assert_eq!(kind(&write(&mut rig, 0x40)), Some(e::C_BAD_SUBSTREAMID));
}

#[test]
fn every_granule_walks() {
    // (S2TG, granule shift, T0SZ, SL0, number of levels). 16K starts at level 1, 64K at level 2.
    for (tg, shift, t0sz, sl0, levels) in [(2u64, 14u32, 24u64, 2u64, 3u32), (1, 16, 24, 1, 2)] {
        let mut rig = Rig::on(Config::qemu());
        let stride = shift - 3;
        let target = DATA;
        let mut table = RAM + 0x80_0000;
        let root = table;
        for level in (4 - levels)..4 {
            let at = table + ((target >> (shift + (3 - level) * stride)) & ((1 << stride) - 1)) * 8;
            if level == 3 {
                rig.mem.cpu_write64(at, target | S2_LEAF | 3);
            } else {
                table += 0x10_0000;
                rig.mem.cpu_write64(at, table | 3);
            }
        }
        let word = VMID | t0sz << 32 | sl0 << 38 | tg << 46 | 4 << 48 | 1 << 51 | 1 << 58;
        rig.install(SID, [0b1101, 0, word, root]);
        assert_eq!(rig.write(target + 3, 1), Transfer::Done, "TG {tg}");
        let reach = rig.smmu.can_reach(SID, target).map(|r| r.size);
        assert_eq!(reach, Some(1 << shift));
        assert_eq!(kind(&rig.write(target + (1 << shift), 1)), Some(e::F_TRANSLATION));
    }
}

#[test]
fn concatenated_roots_are_one_table() {
    // 40 bits from level 1: two tables of 512.
    let mut rig = Rig::on(Config::qemu());
    let root = RAM + 0x80_0000;
    let ipa = 0x80_4000_0000u64;
    rig.mem.cpu_write64(root + (ipa >> 30) * 8, (DATA & !0x3fff_ffff) | S2_LEAF | 1);
    let word = VMID | 24 << 32 | 1 << 38 | 4 << 48 | 1 << 51 | 1 << 58;
    rig.install(SID, [0b1101, 0, word, root]);
    assert_eq!(rig.write(ipa + (DATA & 0x3fff_ffff), 1), Transfer::Done);
    assert_eq!(rig.mem.cpu_read8(DATA), 1);
    assert_eq!(kind(&rig.write(1 << 40, 1)), Some(e::F_TRANSLATION));
}

#[test]
fn access_flags_fault_or_are_set_by_hardware() {
    let mut rig = nested_rig(Config::qemu());
    let clear = |rig: &mut Rig, word: u64| {
        let page = rig.s2_page(3);
        rig.mem.cpu_write64(page, (DATA + 0x3000) | word | 3);
        rig.cmd(S12_VMALL);
        rig.sync();
    };
    clear(&mut rig, S2_LEAF & !(1 << 10));
    assert_eq!(kind(&rig.write(VA, 1)), Some(e::F_ACCESS));
    let mut rig = nested_rig(Config { httu: Httu::Dirty, ..Config::qemu() });
    let mut ste = nested();
    ste[2] |= 1 << 56 | 1 << 55;
    rig.install(SID, ste);
    clear(&mut rig, (S2_LEAF & !(1 << 10 | 2 << 6)) | 1 << 51);
    assert_eq!(rig.smmu.dma_read(SID, None, VA, &mut [0]), Transfer::Done);
    assert_eq!(rig.mem.cpu_read64(rig.s2_page(3)) & (1 << 10 | 3 << 6), 1 << 10 | 1 << 6);
    assert_eq!(rig.write(VA, 1), Transfer::Done);
    assert_eq!(rig.mem.cpu_read64(rig.s2_page(3)) & (3 << 6), 3 << 6);
}

#[test]
fn stage_1_hardware_updates_need_stage_2_write_permission() {
    let mut rig = nested_rig(Config { httu: Httu::Dirty, ..Config::qemu() });
    let s1 = S1_L3 + ((VA >> 12) & 511) * 8;
    rig.mem.cpu_write64(CDS, cd(S1_ROOT)[0] | 1 << 43 | 1 << 42);
    rig.mem.cpu_write64(s1, (DATA + 0x3000) | (S1_LEAF & !(1 << 10)) | 1 << 51 | 1 << 7 | 3);
    rig.cmd([4, 31]);
    rig.cmd(S12_VMALL);
    rig.sync();
    assert_eq!(rig.write(VA, 1), Transfer::Done);
    assert_eq!(rig.mem.cpu_read64(s1) & (1 << 10 | 1 << 7), 1 << 10, "AF set, now writable");
    // The same, with the tables read-only at stage 2.
    rig.mem.cpu_write64(s1, (DATA + 0x3000) | (S1_LEAF & !(1 << 10)) | 1 << 51 | 1 << 7 | 3);
    rig.mem.cpu_write64(S2_L2 + ((CDS >> 21) & 511) * 8, (CDS & !0x1f_ffff) | (S2_LEAF & !(2 << 6)) | 1);
    rig.cmd([4, 31]);
    rig.cmd(S12_VMALL);
    rig.sync();
    let Transfer::Aborted(Some(event)) = rig.write(VA, 1) else { panic!("it was not aborted") };
    assert_eq!((event.kind, event.stage2, event.class), (e::F_PERMISSION, true, e::Class::Tt));
    assert_eq!(rig.mem.cpu_read64(s1) & 1 << 10, 0);
}

#[test]
fn a_stalled_transaction_waits_for_resume() {
    let mut rig = nested_rig(Config { stall: StallModel::Both, term_model: false, ..Config::qemu() });
    rig.mem.cpu_write64(CDS, cd(S1_ROOT)[0] | 1 << 44);
    rig.cmd([4, 31]);
    rig.cmd(S12_VMALL);
    rig.sync();
    let Transfer::Stalled(stag) = rig.write(VA + 0x1000, 7) else { panic!("no stall") };
    assert_eq!(rig.mem.cpu_read64(EVENTQ + 8) & (1 << 31 | 0xffff), 1 << 31 | u64::from(stag));
    rig.stage1(VA + 0x1000, DATA + 0x3000);
    rig.mem.cpu_write64(CDS, cd(S1_ROOT)[0] | 1 << 44);
    rig.cmd([u64::from(SID + 1) << 32 | 1 << 12 | 0x44, u64::from(stag)]);
    assert_eq!(rig.smmu.stalled(), 1, "the STAG belongs to another stream");
    rig.cmd([u64::from(SID) << 32 | 1 << 12 | 0x44, u64::from(stag)]);
    assert_eq!(rig.smmu.take_completions(), [(stag, Transfer::Done)]);
    assert_eq!(rig.mem.cpu_read8(DATA + 0x3000), 7);
    let Transfer::Stalled(stag) = rig.write(VA + 0x5000, 7) else { panic!("no stall") };
    rig.cmd([u64::from(SID) << 32 | 0x45, 0]);
    assert_eq!(rig.smmu.take_completions(), [(stag, Transfer::Aborted(None))]);
    // STE.S1STALLD forbids stalls.
    let mut ste = nested();
    ste[1] |= 1 << 27;
    rig.install(SID, ste);
    assert_eq!(kind(&rig.write(VA + 0x6000, 7)), Some(e::C_BAD_CD));
}

#[test]
fn a_context_without_recording_terminates_without_an_event() {
    let mut rig = nested_rig(Config { stall: StallModel::Both, term_model: false, ..Config::qemu() });
    rig.mem.cpu_write64(CDS, cd(S1_ROOT)[0] & !(1 << 45 | 1 << 46));
    rig.cmd([4, 31]);
    rig.cmd(S12_VMALL);
    rig.sync();
    assert_eq!(rig.write(VA + 0x7000, 1), Transfer::RazWi);
    let mut data = [5];
    assert_eq!(rig.smmu.dma_read(SID, None, VA + 0x7000, &mut data), Transfer::RazWi);
    assert_eq!((data, rig.smmu.take_events().len()), ([0], 0));
}
