//! ATS: translation requests, Translated transactions, and ATSCHK.

mod common;

use common::*;
use smmu_model::arch::{event as e, regs as r};
use smmu_model::{Access, AtsReply, Config, Transfer, Via};

const ON: u32 = r::CR0_CMDQEN | r::CR0_EVENTQEN | r::CR0_SMMUEN;

fn rig(eats: u64) -> Rig {
    let mut rig = Rig::on(Config::full());
    rig.cr0(ON | r::CR0_ATSCHK);
    rig.map_pages();
    rig.map_host_tables();
    rig.stage1(0x10_0000, DATA + 0x3000);
    let mut ste = nested();
    ste[1] |= eats << 28;
    rig.install(SID, ste);
    rig.cmd([4, 31]);
    rig.sync();
    rig
}

#[test]
fn without_atschk_translated_traffic_reaches_everything() {
    let mut rig = rig(0);
    rig.cr0(ON);
    assert_eq!(rig.smmu.dma_write_translated(SID, SECRET, &[1]), Transfer::Done);
    assert_eq!(rig.smmu.can_reach(SID, SECRET).map(|r| r.via), Some(Via::AtsUnchecked));
}

#[test]
fn with_atschk_the_entry_decides() {
    let mut off = rig(0);
    assert!(matches!(
        off.smmu.dma_write_translated(SID, SECRET, &[1]),
        Transfer::Aborted(Some(event)) if event.kind == e::F_TRANSL_FORBIDDEN
    ));
    assert!(off.smmu.can_reach(SID, SECRET).is_none());
    assert_eq!(off.smmu.ats_translate(SID, None, 0x10_0000, Access::Read), AtsReply::Refused);
    assert!(off.smmu.take_events().iter().any(|event| event.kind == e::F_BAD_ATS_TREQ));

    let mut full = rig(0b01);
    let granted = AtsReply::Granted { address: DATA + 0x3000 };
    assert_eq!(full.smmu.ats_translate(SID, None, 0x10_0000, Access::Write), granted);
    assert_eq!(full.smmu.ats_translate(SID, None, 0x20_0000, Access::Write), AtsReply::NoAccess);
    assert_eq!(full.smmu.dma_write_translated(SID, SECRET, &[1]), Transfer::Done);
    assert_eq!(full.smmu.can_reach(SID, SECRET).map(|r| r.via), Some(Via::AtsFull));

    let mut split = rig(0b10);
    assert_eq!(split.smmu.dma_write_translated(SID, DATA + 0x3000, &[1]), Transfer::Done);
    assert!(matches!(split.smmu.dma_write_translated(SID, SECRET, &[1]), Transfer::Aborted(_)));
    assert!(split.smmu.can_reach(SID, SECRET).is_none());
}

#[test]
fn an_implementation_without_ats_has_no_translated_traffic() {
    let mut rig = Rig::on(Config::qemu());
    rig.install(SID, bypass());
    assert_eq!(rig.smmu.dma_write_translated(SID, SECRET, &[1]), Transfer::Aborted(None));
    assert_eq!(rig.smmu.ats_translate(SID, None, 0, Access::Read), AtsReply::Refused);
}
