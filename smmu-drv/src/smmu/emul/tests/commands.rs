//! Commands: their steps, and when CONS shows that they are consumed.

use super::*;
use crate::command::{Command, Depth};
use crate::smmu::budget::Costs;
use crate::smmu::ste::CheckedEntry;
use crate::smmu::stream::Cursor;
use crate::spec::commands::{cfgi, sync};
use crate::spec::get32;
use crate::spec::registers::{Cerror, queue_index, strtab_base_cfg};
use crate::spec::ste::dw0;

const COSTS: Costs = Costs { command: 1, sync: 16, queue_sync: 16 };

impl Host {
    /// Puts `commands` at the start of the queue, with PROD after them, and executes steps until one of kind `last`.
    fn queue(&mut self, commands: &[RawCmd]) {
        for (index, command) in (0..).zip(commands) {
            self.memory.put(CMDQ + index * 16, &command.0);
        }
        self.store(reg::CMDQ_PROD, u32::try_from(commands.len()).unwrap());
        assert!(self.smmu.begin_commands());
    }

    fn next(&mut self, budget: &mut Budget) -> CommandStep {
        self.smmu.next_command(&mut self.memory, budget, COSTS)
    }

    /// Every step of one trap.
    fn steps(&mut self) -> Vec<CommandStep> {
        let mut budget = Budget::for_one_trap();
        let mut steps = Vec::new();
        loop {
            steps.push(self.next(&mut budget));
            if let Some(CommandStep::Stop(_) | CommandStep::Complete | CommandStep::Refresh(..)) = steps.last() {
                return steps;
            }
        }
    }

    fn cons(&mut self) -> u32 {
        self.load(reg::CMDQ_CONS)
    }

    /// A virtual SMMU with translation enabled and a linear table of 2^6 entries.
    fn translating() -> Self {
        let mut host = Self::running();
        host.store64(reg::STRTAB_BASE, STRTAB);
        host.store(reg::STRTAB_BASE_CFG, put32(strtab_base_cfg::LOG2SIZE, 6));
        host.store(reg::CR0, Cr0::CMDQEN.union(Cr0::SMMUEN).bits());
        host
    }
}

fn plain(opcode: Opcode) -> RawCmd {
    RawCmd([op(opcode), 0])
}

fn sync_by(cs: u64) -> RawCmd {
    RawCmd([op(Opcode::Sync) | put64(sync::CS, cs), 0])
}

#[test]
fn commands_become_steps_with_the_hosts_vmid() {
    let mut host = Host::running();
    let leaf = RawCmd([op(Opcode::CfgiSte) | put64(cmd::SID, 9), put64(cfgi::LEAF, 1)]);
    host.queue(&[
        plain(Opcode::TlbiNsnhAll),
        leaf,
        plain(Opcode::PrefetchConfig),
        for_stream(Opcode::CfgiCdAll, 1 << 20),
        for_stream(Opcode::CfgiCdAll, 3),
        sync_by(sync::CS_NONE),
    ]);
    assert_eq!(
        host.steps(),
        [
            CommandStep::Forward(Command::TlbiNhAll { vmid: VMID }),
            CommandStep::Forward(Command::CfgiSte { sid: 9, depth: Depth::Leaf }),
            CommandStep::Forward(Command::CfgiCdAll { sid: 3 }),
            CommandStep::QueueSync,
            CommandStep::Stop(Stop::Empty),
        ]
    );
    assert_eq!((host.smmu.stats().host_commands, host.smmu.stats().dropped_commands), (6, 2));
}

#[test]
fn cons_and_interrupts_follow_the_completion_by_hardware() {
    let mut host = Host::running();
    let msi =
        RawCmd([op(Opcode::Sync) | put64(sync::CS, sync::CS_IRQ) | put64(sync::MSIDATA, 0x1234), CMDQ + 16 * 3 + 4]);
    host.queue(&[sync_by(sync::CS_IRQ), sync_by(sync::CS_IRQ), msi]);
    assert_eq!(
        host.steps(),
        [CommandStep::QueueSync, CommandStep::QueueSync, CommandStep::QueueSync, CommandStep::Stop(Stop::Empty)]
    );
    assert!(host.smmu.has_signals());
    assert_eq!((host.cons(), host.interrupts(), host.memory.words.get(&(CMDQ + 48))), (0, Vec::new(), None));
    host.smmu.complete(&mut host.memory);
    assert_eq!((host.cons(), host.interrupts()), (3, Vec::from([WiredIrq::CmdqSync])));
    assert_eq!(host.memory.words[&(CMDQ + 48)], 0x1234 << 32);
    assert!(!host.smmu.has_signals());
    assert_eq!(host.smmu.stats().msi_writes, 1);
}

#[test]
fn a_completion_outside_the_hosts_memory_is_not_stored_and_reported() {
    let mut host = Host::running();
    host.memory.foreign.insert(0x5_0000 >> 12);
    host.queue(&[RawCmd([op(Opcode::Sync) | put64(sync::CS, sync::CS_IRQ) | put64(sync::MSIDATA, 1), 0x5_0000])]);
    host.steps();
    host.smmu.complete(&mut host.memory);
    assert_eq!(host.memory.words.get(&0x5_0000), None);
    assert_eq!((host.load(reg::GERROR), host.cons()), (Gerror::MSI_CMDQ_ABT_ERR.bits(), 1));
    assert_eq!(host.memory.claimed(), [(CMDQ, 16 << CMDQ_LOG2)]);
}

#[test]
fn an_illegal_command_stops_the_queue_until_it_is_acknowledged() {
    let mut host = Host::running();
    host.store(reg::IRQ_CTRL, IrqCtrl::GERROR_IRQEN.bits());
    host.queue(&[plain(Opcode::TlbiNhAll), plain(Opcode::TlbiS12Vmall), plain(Opcode::TlbiNhAll)]);
    let stop = Stop::Error(Cerror::Ill);
    assert_eq!(host.steps(), [CommandStep::Forward(Command::TlbiNhAll { vmid: VMID }), CommandStep::Stop(stop)]);
    host.smmu.complete(&mut host.memory);
    host.smmu.raise_cerror(Cerror::Ill);
    assert_eq!(host.cons(), 1 | put32(queue_index::ERR, 1), "CERROR_ILL at the command");
    assert_eq!((host.load(reg::GERROR), host.interrupts()), (Gerror::CMDQ_ERR.bits(), Vec::from([WiredIrq::Gerror])));
    assert!(!host.smmu.begin_commands());
    // The host replaces the command and acknowledges the error.
    host.memory.put(CMDQ + 16, &plain(Opcode::TlbiNhAll).0);
    assert_eq!(host.store(reg::GERRORN, Gerror::CMDQ_ERR.bits()), [Effect::Commands]);
    assert!(host.smmu.begin_commands());
    assert_eq!(host.steps().len(), 3);
    host.smmu.complete(&mut host.memory);
    assert_eq!((host.cons(), host.smmu.stats().illegal_commands), (3, 1));
}

#[test]
fn a_queue_outside_host_memory_is_cerror_abt_and_is_claimed_again() {
    let mut host = Host::new();
    host.memory.foreign.insert(CMDQ >> 12);
    host.store64(reg::CMDQ_BASE, CMDQ | put64(queue_base::LOG2SIZE, u64::from(CMDQ_LOG2)));
    host.store(reg::CR0, Cr0::CMDQEN.bits());
    host.queue(&[plain(Opcode::TlbiNhAll)]);
    assert_eq!(host.steps(), [CommandStep::Stop(Stop::Error(Cerror::Abt))]);
    host.memory.foreign.clear();
    assert_eq!(host.steps().first(), Some(&CommandStep::Forward(Command::TlbiNhAll { vmid: VMID })));
    assert_eq!(host.memory.claimed(), [(CMDQ, 16 << CMDQ_LOG2)]);
}

#[test]
fn a_batch_ends_with_the_budget_and_continues_in_the_next_trap() {
    let mut host = Host::running();
    host.queue(&[plain(Opcode::TlbiNhAll); 20]);
    let mut budget = Budget::for_one_trap();
    budget.charge(super::super::super::budget::TRAP - 7).unwrap();
    for _ in 0..7 {
        assert_eq!(host.next(&mut budget), CommandStep::Forward(Command::TlbiNhAll { vmid: VMID }));
    }
    assert_eq!(host.next(&mut budget), CommandStep::Stop(Stop::Budget));
    host.smmu.complete(&mut host.memory);
    assert_eq!(host.cons(), 7);
    assert!(host.smmu.begin_commands());
    assert_eq!(host.steps().len(), 14);
}

#[test]
fn sixteen_completions_are_signalled_together() {
    let mut host = Host::running();
    host.queue(&[sync_by(sync::CS_NONE); 17]);
    let steps = host.steps();
    assert_eq!((steps.len(), steps.last()), (17, Some(&CommandStep::Complete)));
    host.smmu.complete(&mut host.memory);
    assert_eq!(host.cons(), 16);
    assert_eq!(host.steps(), [CommandStep::QueueSync, CommandStep::Stop(Stop::Empty)]);
}

#[test]
fn cfgi_ste_fetches_and_checks_the_hosts_entry() {
    let mut host = Host::translating();
    let bypass = put64(dw0::V, 1) | put64(dw0::CONFIG, dw0::CONFIG_BYPASS);
    let both_stages = put64(dw0::V, 1) | put64(dw0::CONFIG, dw0::CONFIG_NESTED);
    host.memory.put(STRTAB + 64 * 3, &[bypass, 0]);
    host.memory.put(STRTAB + 64 * 4, &[both_stages, 0]);
    host.queue(&[for_stream(Opcode::CfgiSte, 3), for_stream(Opcode::CfgiSte, 4), for_stream(Opcode::CfgiSte, 64)]);
    let fixed = host.smmu.rules.fixed();
    assert_eq!(
        host.steps(),
        [
            CommandStep::Enter(3, Depth::Walk, CheckedEntry::Entry(fixed.stage2())),
            CommandStep::Enter(4, Depth::Walk, CheckedEntry::Entry(fixed.invalid())),
            CommandStep::Enter(64, Depth::Walk, CheckedEntry::Unmapped),
            CommandStep::Stop(Stop::Empty),
        ]
    );
    assert_eq!((host.smmu.stats().ste_updates, host.smmu.stats().ste_illegal), (2, 1));
    assert_eq!(host.memory.claimed(), [(CMDQ, 16 << CMDQ_LOG2)], "the table is claimed while it is read");
}

#[test]
fn pending_work_of_a_command_is_done_before_the_next_command() {
    let mut host = Host::translating();
    let all = RawCmd([op(Opcode::CfgiSteRange), put64(cfgi::RANGE, cfgi::RANGE_ALL)]);
    host.queue(&[all, all, sync_by(sync::CS_NONE)]);
    let end = 1 << crate::smmu::fake::SID_BITS;
    assert_eq!(host.steps(), [CommandStep::Refresh(Cursor::at(0), end)], "one walk, before the CMD_SYNC");
    host.smmu.save_refresh(Cursor::at(0x100));
    assert_eq!(host.steps(), [CommandStep::Refresh(Cursor::at(0x100), end)]);
    assert_eq!(host.smmu.end_refresh(), Some(Command::CfgiAll));
    assert_eq!(host.steps(), [CommandStep::QueueSync, CommandStep::Stop(Stop::Empty)]);
    // For one stream: refresh its block, or retry the entry.
    host.smmu.refresh_block_of(0x105, Depth::Leaf);
    assert_eq!(host.steps(), [CommandStep::Refresh(Cursor::at(0x100), 0x200)]);
    assert_eq!(host.smmu.end_refresh(), Some(Command::CfgiSte { sid: 0x105, depth: Depth::Leaf }));
    host.smmu.retry_entry(3, Depth::Leaf);
    assert!(matches!(host.steps()[..], [CommandStep::Enter(3, Depth::Leaf, _), CommandStep::Stop(Stop::Empty)]));
}

#[test]
fn while_translation_is_off_only_the_invalidation_is_forwarded() {
    let mut host = Host::running();
    host.queue(&[RawCmd([op(Opcode::CfgiSteRange) | put64(cmd::SID, 0x20), put64(cfgi::RANGE, 3)])]);
    let nothing = CommandStep::Refresh(Cursor::at(0x100), 0x100);
    assert_eq!(host.steps(), [nothing]);
    host.smmu.save_refresh(Cursor::at(0x100));
    assert_eq!(host.smmu.end_refresh(), Some(Command::CfgiSteRange { sid: 0x20, range: 3 }));
    // The pending update of one entry, when SMMUEN was cleared before it: only its CMD_CFGI_STE.
    host.smmu.retry_entry(3, Depth::Leaf);
    assert_eq!(host.steps(), [nothing]);
    assert_eq!(host.smmu.end_refresh(), Some(Command::CfgiSte { sid: 3, depth: Depth::Leaf }));
    assert_eq!(host.steps(), [CommandStep::Stop(Stop::Empty)]);
    assert_eq!(get32(queue_index::ERR, host.cons()), 0);
}
