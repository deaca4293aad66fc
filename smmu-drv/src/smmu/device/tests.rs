//! The device alone: with a register file that acknowledges changes, and consumes commands unless it is stuck.

use std::vec::Vec;

use super::*;
use crate::command::Depth;
use crate::fault::FaultRecord;
use crate::smmu::budget::{self, Budget};
use crate::smmu::fake::{Did, Machine, features};
use crate::spec::commands::CMD_SIZE;
use crate::spec::events::{self as ev, EventType};
use crate::spec::registers::{gbpa, gerror::Gerror, idr0, queue_base, queue_index};
use crate::spec::{get32, mask64, put32, put64};
use io_pgtable::Ipa;

const VMID: u16 = 7;
const TABLE: TableRegisters = TableRegisters { base: 0x8000, cfg: 10 };
const LIVE: Cr0 = Cr0::SMMUEN.union(Cr0::CMDQEN).union(Cr0::EVENTQEN);

/// Acknowledges enables, completes updates, consumes commands.
fn responds(machine: &Machine, offset: u32, value: u64) {
    match offset {
        reg::CR0 => machine.set(reg::CR0ACK, value),
        reg::IRQ_CTRL => machine.set(reg::IRQ_CTRLACK, value),
        reg::GBPA => machine.set(reg::GBPA, value & !u64::from(put32(gbpa::UPDATE, 1))),
        reg::CMDQ_PROD => machine.set(reg::CMDQ_CONS, value),
        _ => {}
    }
}

/// As [`responds`], but no command is consumed once SMMUEN is set.
fn gets_stuck(machine: &Machine, offset: u32, value: u64) {
    if offset != reg::CMDQ_PROD || machine.register(reg::CR0ACK) & u64::from(Cr0::SMMUEN.bits()) == 0 {
        responds(machine, offset, value);
    }
}

fn take_over(machine: &Machine) -> Result<Device<Machine>, TakeOverError> {
    Device::take_over(machine.clone(), features(idr0::ST_TWO_LEVEL), (Issue::Once, Timeouts::default()), TABLE)
}

/// Both halves of an invalidation of [`VMID`].
fn invalidate(device: &mut Device<Machine>, stale: Stale) -> Result<(), SmmuError> {
    device.tlb_submit(VMID, stale)?;
    device.sync()
}

/// A device, with an empty log.
fn device(machine: &Machine) -> Device<Machine> {
    let device = take_over(machine).unwrap();
    machine.did();
    device
}

/// The written registers, with their values.
fn writes(did: &[Did]) -> Vec<(u32, u64)> {
    did.iter()
        .filter_map(|did| if let Did::Write(offset, value) = did { Some((*offset, *value)) } else { None })
        .collect()
}

/// Commands in the queue from `from` to before `to`, first words.
fn commands(machine: &Machine, from: u64, to: u64) -> Vec<u64> {
    let base = machine.register(reg::CMDQ_BASE) & mask64(queue_base::ADDR);
    (from..to).map(|index| machine.word(base + index * u64::try_from(CMD_SIZE).unwrap())).collect()
}

fn encoded(commands: &[Command]) -> Vec<u64> {
    commands.iter().map(|command| command.encode().0[0]).collect()
}

#[test]
fn all_transactions_abort_during_take_over() {
    let machine = Machine::reacting(responds);
    take_over(&machine).unwrap();
    let writes = writes(&machine.did());
    let at = |register: u32| writes.iter().position(|(offset, _)| *offset == register).unwrap();
    let abort = put32(gbpa::ABORT, 1) | put32(gbpa::UPDATE, 1);
    assert_eq!(writes[..2], [(reg::GBPA, u64::from(abort)), (reg::CR0, 0)], "aborts before SMMUEN is cleared");
    assert_eq!(writes.last(), Some(&(reg::CR0, u64::from(LIVE.bits()))));
    let enables: Vec<_> = writes.iter().filter(|(offset, _)| *offset == reg::CR0).map(|(_, value)| *value).collect();
    let first = u64::from(Cr0::CMDQEN.bits());
    assert_eq!(enables, [0, first, first | u64::from(Cr0::EVENTQEN.bits()), u64::from(LIVE.bits())]);
    assert_eq!((machine.register(reg::STRTAB_BASE), machine.register(reg::STRTAB_BASE_CFG)), (TABLE.base, 10));
    // Everything is invalidated between the two.
    let enabled = writes.iter().position(|write| *write == (reg::CR0, first)).unwrap();
    let invalidated = writes.iter().rposition(|(offset, _)| *offset == reg::CMDQ_PROD).unwrap();
    assert!(at(reg::STRTAB_BASE) < enabled && at(reg::CMDQ_BASE) < enabled && enabled < invalidated);
    assert!(invalidated < at(reg::EVENTQ_BASE));
    let all = [Command::CfgiAll, Command::Sync, Command::TlbiNsnhAll, Command::Sync];
    assert_eq!(commands(&machine, 0, 4), encoded(&all));
}

#[test]
fn a_register_that_is_not_acknowledged_ends_the_take_over() {
    fn ignores_cr0(machine: &Machine, offset: u32, value: u64) {
        if offset != reg::CR0 {
            responds(machine, offset, value);
        }
    }
    let machine = Machine::reacting(ignores_cr0);
    machine.set(reg::CR0ACK, 1);
    assert_eq!(take_over(&machine).err(), Some(TakeOverError::NoAck(reg::CR0)));
    assert_eq!(get32(gbpa::ABORT, u32::try_from(machine.register(reg::GBPA)).unwrap()), 1);
    machine.allow(1);
    machine.did();
    assert_eq!(take_over(&machine).err(), Some(TakeOverError::NoMemory));
    assert_eq!((machine.did(), machine.live()), (Vec::new(), 0), "nothing is written and no memory is kept");
}

#[test]
fn stale_translations_are_invalidated_by_ipa_and_then_by_vmid() {
    let machine = Machine::reacting(responds);
    let mut device = device(&machine);
    let from = machine.register(reg::CMDQ_PROD);
    invalidate(&mut device, Stale::Range { ipa: Ipa(0x5000), size: 0x2000 }).unwrap();
    let page = |ipa| Command::TlbiS2Ipa {
        vmid: VMID,
        ipa: Ipa(ipa),
        extent: crate::command::Extent::Single,
        depth: Depth::Walk,
    };
    let wanted = [page(0x5000), page(0x6000), Command::Sync, Command::TlbiNhAll { vmid: VMID }, Command::Sync];
    assert_eq!(commands(&machine, from, from + 5), encoded(&wanted));
    assert_eq!(machine.register(reg::CMDQ_PROD), from + 5);
    invalidate(&mut device, Stale::All).unwrap();
    let all = [Command::TlbiS12Vmall { vmid: VMID }, Command::Sync];
    assert_eq!(commands(&machine, from + 5, from + 7), encoded(&all));
}

#[test]
fn commands_are_stored_before_a_barrier_and_the_barrier_before_prod() {
    let machine = Machine::reacting(responds);
    let mut device = device(&machine);
    device.push(Command::CfgiAll).unwrap();
    assert!(writes(&machine.did()).is_empty(), "not visible before it is submitted");
    device.sync().unwrap();
    let did = machine.did();
    assert!(matches!(did[..], [Did::Store(..), Did::Store(..), Did::Dsb, Did::Write(reg::CMDQ_PROD, 6)]), "{did:?}");
    // Nothing is queued after the CMD_SYNC: there is no second CMD_SYNC.
    device.push(Command::CfgiAll).unwrap();
    device.queue_sync().unwrap();
    device.queue_sync().unwrap();
    device.submit();
    assert_eq!(machine.register(reg::CMDQ_PROD), 8);
}

#[test]
fn a_queue_that_does_not_advance_fails_the_device() {
    let machine = Machine::reacting(gets_stuck);
    let mut device = device(&machine);
    device.push(Command::CfgiAll).unwrap();
    assert_eq!(device.sync(), Err(SmmuError::SyncTimeout));
    machine.did();
    assert_eq!(device.failed(), Some(SmmuError::SyncTimeout));
    assert!(!device.is_alive());
    assert_eq!(device.push(Command::CfgiAll), Err(SmmuError::SyncTimeout));
    assert_eq!(invalidate(&mut device, Stale::All), Err(SmmuError::SyncTimeout));
    assert_eq!(device.set_irq_ctrl(IrqCtrl::EVENTQ_IRQEN), IrqCtrl::empty());
    assert_eq!(machine.did(), [], "immediately, without a wait");
    // The SMMU has lost power: it is set to abort and not programmed.
    machine.set(reg::CR0ACK, 0);
    machine.set(reg::GBPA, 0);
    assert_eq!(device.recover(), Err(SmmuError::SyncTimeout));
    let abort = put32(gbpa::ABORT, 1) | put32(gbpa::UPDATE, 1);
    assert_eq!(writes(&machine.did()), [(reg::GBPA, u64::from(abort))]);
}

#[test]
fn an_smmu_that_lost_its_state_is_programmed_with_the_same_table() {
    let machine = Machine::reacting(responds);
    let mut device = device(&machine);
    assert_eq!(device.set_irq_ctrl(IrqCtrl::EVENTQ_IRQEN), IrqCtrl::EVENTQ_IRQEN);
    assert!(device.is_alive());
    for register in [reg::CR0ACK, reg::STRTAB_BASE, reg::IRQ_CTRL, reg::IRQ_CTRLACK] {
        machine.set(register, 0);
    }
    assert!(!device.is_alive());
    assert_eq!(device.recover(), Ok(()));
    assert!(device.is_alive());
    assert_eq!(machine.register(reg::STRTAB_BASE), TABLE.base);
    assert_eq!(machine.register(reg::IRQ_CTRL), u64::from(IrqCtrl::EVENTQ_IRQEN.bits()));
}

/// The StreamIDs of the records, and the number of overflows.
#[derive(Default)]
struct Seen(Vec<u32>, usize);

impl Sink for Seen {
    fn record(&mut self, _: &mut Budget, record: &FaultRecord) {
        self.0.push(record.sid);
    }
    fn lost(&mut self) {
        self.1 += 1;
    }
}

/// Hardware records faults of `count` streams, from index `from` on.
fn fault(machine: &Machine, from: u64, count: u64) {
    let base = machine.register(reg::EVENTQ_BASE) & mask64(queue_base::ADDR);
    for index in from..from + count {
        let word0 = put64(ev::ID, EventType::BadSte.bits()) | put64(ev::SID, index);
        machine.put(base + (index & 127) * 32, word0);
    }
    machine.set(reg::EVENTQ_PROD, from + count);
}

#[test]
fn records_are_taken_in_order_and_their_slots_freed() {
    let machine = Machine::reacting(responds);
    let mut device = device(&machine);
    let mut seen = Seen::default();
    assert_eq!(device.drain(&mut Budget::for_one_trap(), &mut seen), Remaining::Nothing);
    assert!(writes(&machine.did()).is_empty());
    fault(&machine, 0, 3);
    assert_eq!(device.drain(&mut Budget::for_one_trap(), &mut seen), Remaining::Nothing);
    assert_eq!((seen.0.as_slice(), seen.1), (&[0, 1, 2][..], 0));
    // The barrier orders the reads of the records before their slots are freed.
    let did = machine.did();
    let freed = did.iter().position(|did| *did == Did::Write(reg::EVENTQ_CONS, 3)).unwrap();
    assert_eq!(did.get(freed - 1), Some(&Did::Dsb));
}

#[test]
fn records_beyond_the_budget_are_taken_in_the_next_trap() {
    let machine = Machine::reacting(responds);
    let mut device = device(&machine);
    fault(&machine, 0, 100);
    device.mark_records();
    let mut seen = Seen::default();
    let mut budget = Budget::for_one_trap();
    budget.charge(budget::TRAP - budget::RECORD - budget::EVENT).unwrap();
    assert_eq!(device.drain(&mut budget, &mut seen), Remaining::Records);
    assert_eq!((seen.0.len(), device.is_past_mark()), (2, false));
    fault(&machine, 100, 20);
    assert_eq!(device.drain(&mut Budget::for_one_trap(), &mut seen), Remaining::Nothing);
    assert_eq!((seen.0.len(), device.is_past_mark()), (120, true));
}

#[test]
fn dropped_records_are_reported_and_acknowledged() {
    let machine = Machine::reacting(responds);
    let mut device = device(&machine);
    let mut seen = Seen::default();
    let overflow = u64::from(put32(queue_index::OVERFLOW, 1));
    machine.set(reg::EVENTQ_PROD, overflow);
    assert_eq!(device.drain(&mut Budget::for_one_trap(), &mut seen), Remaining::Nothing);
    assert_eq!((seen.1, machine.register(reg::EVENTQ_CONS)), (1, overflow));
    device.drain(&mut Budget::for_one_trap(), &mut seen);
    assert_eq!(seen.1, 1, "once");
    machine.set(reg::GERROR, u64::from(Gerror::EVENTQ_ABT_ERR.bits()));
    device.drain(&mut Budget::for_one_trap(), &mut seen);
    assert_eq!((seen.1, machine.register(reg::GERRORN)), (2, u64::from(Gerror::EVENTQ_ABT_ERR.bits())));
    machine.set(reg::GERROR, u64::from(Gerror::SFM_ERR.bits()));
    device.drain(&mut Budget::for_one_trap(), &mut seen);
    assert_eq!(device.failed(), Some(SmmuError::ServiceFailure));
}
