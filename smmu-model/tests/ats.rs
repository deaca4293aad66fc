//! ATS: translation requests, Translated transactions, and ATSCHK.

mod common;

use common::*;
use smmu_model::arch::{event as e, regs as r};
use smmu_model::{Access, AtsReply, Config, Transfer, Via};

const ON: u32 = r::CR0_CMDQEN | r::CR0_EVENTQEN | r::CR0_SMMUEN;

fn machine(eats: u64) -> Machine {
    let mut machine = Machine::on(Config::full());
    machine.cr0(ON | r::CR0_ATSCHK);
    machine.map_pages();
    machine.map_host_tables();
    machine.stage1(0x10_0000, DATA + 0x3000);
    let mut ste = nested();
    ste[1] |= eats << 28;
    machine.install(SID, ste);
    machine.cmd([4, 31]);
    machine.sync();
    machine
}

#[test]
fn without_atschk_translated_transactions_reach_everything() {
    let mut machine = machine(0);
    machine.cr0(ON);
    assert_eq!(machine.smmu.dma_write_translated(SID, SECRET, &[1]), Transfer::Done);
    assert_eq!(machine.smmu.can_reach(SID, SECRET).map(|r| r.via), Some(Via::AtsUnchecked));
}

#[test]
fn with_atschk_eats_determines_translated_transactions() {
    let mut off = machine(0);
    assert!(matches!(
        off.smmu.dma_write_translated(SID, SECRET, &[1]),
        Transfer::Aborted(Some(event)) if event.kind == e::F_TRANSL_FORBIDDEN
    ));
    assert!(off.smmu.can_reach(SID, SECRET).is_none());
    assert_eq!(off.smmu.ats_translate(SID, None, 0x10_0000, Access::Read), AtsReply::Refused);
    assert!(off.smmu.take_events().iter().any(|event| event.kind == e::F_BAD_ATS_TREQ));

    let mut full = machine(0b01);
    let granted = AtsReply::Granted { address: DATA + 0x3000 };
    assert_eq!(full.smmu.ats_translate(SID, None, 0x10_0000, Access::Write), granted);
    assert_eq!(full.smmu.ats_translate(SID, None, 0x20_0000, Access::Write), AtsReply::NoAccess);
    assert_eq!(full.smmu.dma_write_translated(SID, SECRET, &[1]), Transfer::Done);
    assert_eq!(full.smmu.can_reach(SID, SECRET).map(|r| r.via), Some(Via::AtsFull));

    let mut split = machine(0b10);
    assert_eq!(split.smmu.dma_write_translated(SID, DATA + 0x3000, &[1]), Transfer::Done);
    assert!(matches!(split.smmu.dma_write_translated(SID, SECRET, &[1]), Transfer::Aborted(_)));
    assert!(split.smmu.can_reach(SID, SECRET).is_none());
}

#[test]
fn without_ats_translated_transactions_abort() {
    let mut machine = Machine::on(Config::qemu());
    machine.install(SID, bypass());
    assert_eq!(machine.smmu.dma_write_translated(SID, SECRET, &[1]), Transfer::Aborted(None));
    assert_eq!(machine.smmu.ats_translate(SID, None, 0, Access::Read), AtsReply::Refused);
}
