//! Loads and stores: values, guards, and the effects of each change of an enable.

use super::*;
use crate::fault::FaultRecord;
use crate::smmu::stream::Cursor;
use crate::spec::events::{self as ev, EventType, RawEvent};
use crate::spec::registers::queue_index;

#[test]
fn a_64_bit_register_can_be_stored_and_loaded_in_halves() {
    let mut host = Host::new();
    assert_eq!(host.store64(reg::STRTAB_BASE, 0x12_3456_7000), [Effect::Done]);
    host.store(reg::STRTAB_BASE + 4, 0x34);
    assert_eq!((host.load(reg::STRTAB_BASE), host.load(reg::STRTAB_BASE + 4)), (0x3456_7000, 0x34));
    host.store(reg::STRTAB_BASE, 0x8000_0040);
    assert_eq!(host.smmu.load(reg::STRTAB_BASE, AccessSize::Double), Some(0x34_8000_0040));
}

#[test]
fn a_64_bit_access_of_two_registers_is_emulated_and_others_are_counted() {
    let mut host = Host::running();
    let both = host.smmu.stores(reg::CMDQ_PROD, AccessSize::Double, 3 << 32 | 5).unwrap();
    assert_eq!(both.map(|store| store.value), [5, 3]);
    assert_eq!(both.map(|store| host.ask(store)), [Ok(Effect::Commands), Ok(Effect::Done)]);
    assert_eq!(host.smmu.load(reg::CMDQ_PROD, AccessSize::Double), Some(5), "CONS is guarded");
    let before = *host.smmu.stats();
    assert_eq!(host.smmu.stores(reg::IDR6 + 4, AccessSize::Word, 1), None);
    assert_eq!(host.smmu.load(reg::CR0, AccessSize::Byte), Some(0));
    assert_eq!(host.smmu.stats().denied_accesses, before.denied_accesses + 2);
    // Their values depend on the host's memory, and are known only after hardware's records were taken.
    let exits = host.smmu.stats().exits;
    assert_eq!(host.smmu.load(reg::EVENTQ_PROD, AccessSize::Word), None);
    assert_eq!(host.smmu.load(reg::EVENTQ_PROD, AccessSize::Double), None);
    assert_eq!(host.smmu.stats().exits, exits);
}

#[test]
fn cmdqen_claims_the_queue_and_guards_its_registers() {
    let mut host = Host::running();
    assert_eq!(host.memory.claimed(), [(CMDQ, 16 << CMDQ_LOG2)]);
    assert_eq!(host.load(reg::CR0ACK), Cr0::CMDQEN.bits());
    host.store64(reg::CMDQ_BASE, 0xf000);
    host.store(reg::CMDQ_CONS, 3);
    assert_eq!((host.load(reg::CMDQ_BASE), host.load(reg::CMDQ_CONS)), (low32(CMDQ) | CMDQ_LOG2, 0));
    assert_eq!(host.store(reg::CR0, 0), [Effect::Commands]);
    assert_eq!((host.memory.claimed(), host.load(reg::CR0ACK)), (Vec::new(), 0));
    host.store(reg::CMDQ_CONS, 3);
    assert_eq!(host.load(reg::CMDQ_CONS), 3);
}

#[test]
fn a_change_of_eventqen_takes_earlier_records_first() {
    let mut host = Host::running();
    assert_eq!(host.store(reg::IRQ_CTRL, IrqCtrl::EVENTQ_IRQEN.bits()), [Effect::Done], "there is no queue yet");
    let on = Cr0::CMDQEN.union(Cr0::EVENTQEN);
    // The change is not acknowledged before hardware's records are taken.
    let store = host.smmu.store(reg::CR0, AccessSize::Word, u64::from(on.bits())).unwrap();
    assert_eq!(host.ask(store), Ok(Effect::DrainBeforeChange));
    assert_eq!(host.load(reg::CR0ACK), Cr0::CMDQEN.bits());
    assert_eq!(host.store(reg::CR0, on.bits()), [Effect::DrainBeforeChange, Effect::Interrupts, Effect::Commands]);
    assert_eq!(host.smmu.wanted_irqs(), IrqCtrl::EVENTQ_IRQEN);
    assert_eq!(host.load(reg::CR0ACK), on.bits());
    assert_eq!(host.store(reg::CR0, 0), [Effect::DrainBeforeChange, Effect::Interrupts, Effect::Commands]);
    assert_eq!((host.smmu.wanted_irqs(), host.memory.claimed()), (IrqCtrl::empty(), Vec::new()));
}

#[test]
fn smmuen_is_acknowledged_when_all_streams_have_changed() {
    let mut host = Host::running();
    let on = Cr0::CMDQEN.union(Cr0::SMMUEN).bits();
    let store = host.smmu.store(reg::CR0, AccessSize::Word, u64::from(on)).unwrap();
    assert_eq!(host.ask(store), Ok(Effect::DrainBeforeChange));
    host.smmu.begin_draining();
    host.smmu.end_draining();
    assert_eq!(host.ask(store), Ok(Effect::ChangeMode));
    assert_eq!(host.smmu.change(), Some((Mode::Table, Cursor::at(0))));
    host.smmu.save_change(Cursor::at(0x200));
    assert_eq!(host.ask(store), Ok(Effect::ChangeMode), "the trap's budget is used up");
    assert_eq!(host.smmu.change(), Some((Mode::Table, Cursor::at(0x200))));
    assert_eq!(host.load(reg::CR0ACK), Cr0::CMDQEN.bits());
    host.smmu.streams_changed();
    assert_eq!(host.ask(store), Ok(Effect::Commands));
    assert_eq!((host.load(reg::CR0ACK), host.smmu.change()), (on, None));
    // SMMUEN is cleared: records of streams without the new mode are also taken after the change.
    let off = host.store(reg::CR0, Cr0::CMDQEN.bits());
    use Effect::{ChangeMode, Commands, DrainBeforeChange};
    assert_eq!(off, [DrainBeforeChange, ChangeMode, DrainBeforeChange, Commands]);
}

#[test]
fn gbpa_update_is_set_until_all_streams_have_changed() {
    let mut host = Host::new();
    let abort = put32(gbpa::ABORT, 1);
    assert_eq!(host.store(reg::GBPA, abort), [Effect::Done], "without UPDATE it is ignored");
    assert_eq!(host.load(reg::GBPA), 0);
    let update = abort | put32(gbpa::UPDATE, 1);
    let store = host.smmu.store(reg::GBPA, AccessSize::Word, u64::from(update)).unwrap();
    assert_eq!(host.ask(store), Ok(Effect::ChangeMode));
    assert_eq!((host.smmu.change(), host.load(reg::GBPA)), (Some((Mode::Abort, Cursor::at(0))), update));
    host.smmu.streams_changed();
    assert_eq!((host.ask(store), host.load(reg::GBPA)), (Ok(Effect::Done), abort));
    // After all streams were set to abort, no access changes them.
    host.smmu.quiesce();
    assert_eq!(host.store(reg::GBPA, put32(gbpa::UPDATE, 1)), [Effect::Done]);
}

#[test]
fn a_failure_is_reported_once_and_an_enabled_error_interrupts() {
    let mut host = Host::new();
    host.smmu.fail();
    assert_eq!((host.load(reg::GERROR), host.interrupts()), (Gerror::SFM_ERR.bits(), Vec::new()));
    host.smmu.fail();
    assert_eq!(host.load(reg::GERROR), Gerror::SFM_ERR.bits(), "a second toggle would clear it");
    host.store(reg::GERRORN, Gerror::SFM_ERR.bits());
    host.smmu.fail();
    assert_eq!(host.smmu.active_gerror(), Gerror::empty(), "acknowledged once for all");
    let mut host = Host::new();
    host.store(reg::IRQ_CTRL, IrqCtrl::GERROR_IRQEN.bits());
    host.smmu.fail();
    assert!(host.smmu.has_interrupts());
    assert_eq!((host.interrupts(), host.smmu.has_interrupts()), (Vec::from([WiredIrq::Gerror]), false));
}

#[test]
fn records_fill_the_hosts_queue_and_then_overflow_it() {
    let mut host = Host::running();
    host.store(reg::IRQ_CTRL, IrqCtrl::EVENTQ_IRQEN.bits());
    host.store(reg::CR0, Cr0::CMDQEN.union(Cr0::EVENTQEN).union(Cr0::SMMUEN).bits());
    let raw = |sid: u64| put64(ev::ID, EventType::BadCd.bits()) | put64(ev::SID, sid);
    for (sid, notify) in
        [(1, Notify::First), (2, Notify::Nothing), (3, Notify::Nothing), (4, Notify::Nothing), (5, Notify::Nothing)]
    {
        let mut source = Source::new(&mut host.memory, &mut host.smmu);
        source.record(&mut Budget::for_one_trap(), &FaultRecord::decode(RawEvent([raw(sid), 0, 0, 0])));
        assert_eq!(source.end(), notify, "{sid}");
    }
    assert_eq!(host.smmu.load_eventq(AccessSize::Word), u64::from(4 | put32(queue_index::OVERFLOW, 1)));
    for sid in 1..=4 {
        assert_eq!(host.memory.words[&(EVENTQ + (sid - 1) * 32)], raw(sid));
    }
    assert_eq!((host.smmu.stats().host_events, host.smmu.stats().host_events_lost), (4, 1));
    assert_eq!(host.store(reg::EVENTQ_CONS, 4 | put32(queue_index::OVERFLOW, 1)), [Effect::Events]);
    assert!(host.smmu.host_queue_is_empty());
}

#[test]
fn an_event_queue_outside_host_memory_reports_an_abort() {
    let mut host = Host::running();
    host.memory.foreign.insert(EVENTQ >> 12);
    host.store(reg::CR0, Cr0::CMDQEN.union(Cr0::EVENTQEN).union(Cr0::SMMUEN).bits());
    let record = FaultRecord::decode(RawEvent([put64(ev::ID, EventType::BadCd.bits()), 0, 0, 0]));
    let mut source = Source::new(&mut host.memory, &mut host.smmu);
    source.record(&mut Budget::for_one_trap(), &record);
    assert_eq!(source.end(), Notify::Nothing);
    assert_eq!(host.load(reg::GERROR), Gerror::EVENTQ_ABT_ERR.bits());
    // Its acknowledgement makes the queue writable: earlier records are not reported.
    assert_eq!(host.store(reg::GERRORN, Gerror::EVENTQ_ABT_ERR.bits()), [Effect::DrainBeforeChange, Effect::Commands]);
}
