//! The shadow table alone: with entries of the test, and memory and hardware that log all accesses.

use std::collections::BTreeMap;
use std::vec::Vec;

use io_pgtable::Pa;

use super::audit::StrtabFinding;
use super::*;
use crate::command::{Command, Depth};
use crate::error::SmmuError;
use crate::smmu::budget::{self, Budget, Unfinished};
use crate::smmu::fake::{Block, Did, Machine, Queue, SID_BITS, features};
use crate::smmu::ste::{CheckedEntry, Group};
use crate::smmu::stream::{Cursor, GROUP, HostEntries};
use crate::spec::registers::idr0;
use crate::spec::ste::{dw0, dw1, l1std};
use crate::spec::{get32, get64};
use crate::stage2::Stage2Cfg;

const FIXED: Fixed = Fixed { dw1: 0 };
const ST_LINEAR: u32 = 0;

fn words() -> Stage2Words {
    let cfg = Stage2Cfg { ttb: Pa(0x4000), t0sz: 24, sl0: 1, irgn: 1, orgn: 1, sh: 3, tg: 0, ps: 2, vmid: 7 };
    Stage2Words::new(&cfg)
}

/// Creates a table.
fn new(machine: &Machine, st_level: u32, initial: Shared) -> Result<ShadowTable<Block>, NoMemory> {
    let mut table = ShadowTable::unused();
    table.init(machine, &features(st_level), words(), FIXED, initial, StreamOwner::Host)?;
    Ok(table)
}

/// A table in which every stream has `initial`, and hardware for it; nothing is in the log.
fn table(st_level: u32, initial: Shared) -> (ShadowTable<Block>, Queue) {
    let machine = Machine::new();
    let table = new(&machine, st_level, initial).unwrap();
    machine.did();
    (table, Queue::new(&machine))
}

/// A two-level table without descriptors.
fn empty() -> (ShadowTable<Block>, Queue) {
    table(idr0::ST_TWO_LEVEL, Shared::None)
}

/// A stage-1 entry with this context descriptor table and these attributes.
fn nested(pointer: u64, dss: u64) -> Ste {
    Ste { dw0: put64(dw0::V, 1) | put64(dw0::CONFIG, dw0::CONFIG_NESTED) | pointer, dw1: put64(dw1::S1DSS, dss) }
}

/// The address of the entry of `sid`, as hardware computes it from the two registers.
fn address(table: &ShadowTable<Block>, machine: &Machine, sid: u64) -> Option<u64> {
    let base = table.base() & mask64(strtab_base::ADDR);
    if get32(strtab_base_cfg::FMT, table.cfg()) == strtab_base_cfg::LINEAR {
        return Some(base + sid * 64);
    }
    let split = get32(strtab_base_cfg::SPLIT, table.cfg());
    let descriptor = machine.word(base + (sid >> split) * 8);
    let entries = (1 << get64(l1std::SPAN, descriptor)) / 2;
    let within = sid & ((1 << split) - 1);
    (within < entries).then(|| (descriptor & mask64(l1std::L2PTR)) + within * 64)
}

/// The entry that hardware finds for `sid`: its first four words; `None` for C_BAD_STREAMID.
fn seen(table: &ShadowTable<Block>, machine: &Machine, sid: u64) -> Option<[u64; 4]> {
    let at = address(table, machine, sid)?;
    Some([0, 8, 16, 24].map(|word| machine.word(at + word)))
}

fn full(ste: Ste) -> Option<[u64; 4]> {
    Some([ste.dw0, ste.dw1, words().dw2, words().dw3])
}

/// Checked entries, by StreamID.
#[derive(Default)]
struct Host(BTreeMap<u32, Ste>);

impl Entries for Host {
    fn group(&mut self, budget: &mut Budget, sid: u32, count: usize) -> Result<Group, Unfinished> {
        budget.charge(budget::ENTRY * u32::try_from(count).unwrap())?;
        let mut group = Group { targets: [FIXED.invalid(); GROUP], entries: HostEntries::None, until: 0 };
        for (at, target) in (sid..).zip(group.targets.iter_mut()).take(count) {
            if let Some(ste) = self.0.get(&at) {
                *target = *ste;
                group.entries = HostEntries::Some;
            }
        }
        Ok(group)
    }
}

/// Refreshes everything, trap by trap; returns their number.
fn refresh(table: &mut ShadowTable<Block>, queue: &mut Queue, host: &mut Host) -> usize {
    let mut cursor = Cursor::at(0);
    for trap in 1..20 {
        let mut budget = Budget::for_one_trap();
        match table.refresh(queue, &mut budget, host, &mut cursor, u64::MAX) {
            Ok(()) => return trap,
            Err(unfinished) => assert_eq!(unfinished, Unfinished::Budget),
        }
    }
    panic!("the refresh does not end");
}

/// A table in which stream 5 has `ste`, and no invalidation is pending.
fn with(ste: Ste) -> (ShadowTable<Block>, Queue) {
    let (mut table, mut queue) = empty();
    refresh(&mut table, &mut queue, &mut Host(BTreeMap::from([(5, ste)])));
    table.synchronised();
    queue.machine.did();
    (table, queue)
}

fn enter(table: &mut ShadowTable<Block>, queue: &mut Queue, sid: u32, ste: Ste) -> Result<Entered, Unfinished> {
    table.enter(queue, &mut Budget::for_one_trap(), sid, Depth::Leaf, CheckedEntry::Entry(ste))
}

#[test]
fn every_stream_has_the_initial_configuration_of_the_table() {
    for st_level in [ST_LINEAR, idr0::ST_TWO_LEVEL] {
        for (initial, expected) in [
            (Shared::Stage2, full(FIXED.stage2())),
            (Shared::Abort, full(FIXED.abort())),
            (Shared::None, if st_level == ST_LINEAR { full(FIXED.invalid()) } else { None }),
        ] {
            let (table, queue) = table(st_level, initial);
            assert_eq!(get32(strtab_base_cfg::LOG2SIZE, table.cfg()), SID_BITS);
            for sid in 0..1 << SID_BITS {
                assert_eq!(seen(&table, &queue.machine, sid), expected, "{initial:?} {sid}");
            }
            assert_eq!(table.audit(), Ok(()));
        }
    }
}

#[test]
fn without_memory_no_table_is_created_and_all_memory_is_freed() {
    for st_level in [ST_LINEAR, idr0::ST_TWO_LEVEL] {
        let machine = Machine::new();
        let needed = {
            let _table = new(&machine, st_level, Shared::Abort).unwrap();
            machine.live()
        };
        for allowed in 0..needed {
            machine.allow(allowed);
            let made = new(&machine, st_level, Shared::Abort);
            assert_eq!((made.err(), machine.live()), (Some(NoMemory), 0), "{allowed}");
        }
    }
}

#[test]
fn two_used_words_change_through_an_abort() {
    let (old, new) = (nested(0x1000, 0), nested(0x2000, 1));
    let (mut table, mut queue) = with(old);
    let at = address(&table, &queue.machine, 5).unwrap();
    assert_eq!(enter(&mut table, &mut queue, 5, new), Ok(Entered::Done));
    let invalidation = Did::Push(Command::CfgiSte { sid: 5, depth: Depth::Leaf });
    assert_eq!(
        queue.machine.did(),
        [
            Did::Store(at, FIXED.abort().dw0),
            invalidation,
            Did::Sync,
            Did::Store(at + 8, new.dw1),
            invalidation,
            Did::Sync,
            Did::Store(at, new.dw0),
            invalidation,
            // The host's own command, whose CMD_SYNC completes both.
            invalidation,
        ]
    );
    assert_eq!(seen(&table, &queue.machine, 5), full(new));
}

#[test]
fn dword_0_of_a_new_entry_is_stored_last() {
    let new = nested(0x2000, 1);
    for old in [FIXED.invalid(), FIXED.abort()] {
        let (mut table, mut queue) = with(old);
        let at = address(&table, &queue.machine, 5).unwrap();
        enter(&mut table, &mut queue, 5, new).unwrap();
        let stores: Vec<_> = queue.machine.did().into_iter().filter(|did| matches!(did, Did::Store(..))).collect();
        assert_eq!(stores, [Did::Store(at + 8, new.dw1), Did::Store(at, new.dw0)]);
    }
    // In the other direction one store is sufficient: dword 1 is then unused.
    let (mut table, mut queue) = with(new);
    let at = address(&table, &queue.machine, 5).unwrap();
    enter(&mut table, &mut queue, 5, FIXED.invalid()).unwrap();
    let invalidation = Did::Push(Command::CfgiSte { sid: 5, depth: Depth::Leaf });
    assert_eq!(queue.machine.did(), [Did::Store(at, 0), invalidation]);
}

#[test]
fn a_store_waits_for_the_invalidation_of_the_one_before_it() {
    let (mut table, mut queue) = with(FIXED.stage2());
    enter(&mut table, &mut queue, 5, FIXED.abort()).unwrap();
    queue.machine.did();
    enter(&mut table, &mut queue, 5, FIXED.stage2()).unwrap();
    assert_eq!(queue.machine.did().first(), Some(&Did::Sync));
    // Not if it is already complete.
    table.synchronised();
    enter(&mut table, &mut queue, 5, FIXED.abort()).unwrap();
    assert!(matches!(queue.machine.did()[..], [Did::Store(..), Did::Push(_)]));
}

#[test]
fn a_table_is_complete_before_its_descriptor_is_stored() {
    let (mut table, mut queue) = empty();
    let mut host = Host(BTreeMap::from([(0x105, nested(0x1000, 1))]));
    refresh(&mut table, &mut queue, &mut host);
    let did = queue.machine.did();
    let l1 = table.base() & mask64(strtab_base::ADDR);
    let linked = did.iter().position(|did| matches!(did, Did::Store(at, _) if *at == l1 + 8)).unwrap();
    let barrier = did.iter().rposition(|did| *did == Did::Dsb).unwrap();
    let filled = address(&table, &queue.machine, 0x100).unwrap()..address(&table, &queue.machine, 0x1ff).unwrap() + 64;
    let last = did.iter().rposition(|did| matches!(did, Did::Store(at, _) if filled.contains(at))).unwrap();
    assert!(last < barrier && barrier < linked, "{last} {barrier} {linked}");
    let invalidation = Did::Push(Command::CfgiSteRange { sid: 0x100, range: 7 });
    assert_eq!(did.get(linked + 1..), Some(&[invalidation][..]));
    assert_eq!(seen(&table, &queue.machine, 0x105), full(nested(0x1000, 1)));
    assert_eq!(seen(&table, &queue.machine, 0x104), full(FIXED.invalid()));
    assert_eq!(seen(&table, &queue.machine, 0x005), None);
}

#[test]
fn a_detached_table_is_kept_until_its_invalidation_is_complete() {
    let (mut table, mut queue) = with(nested(0x1000, 1));
    let live = queue.machine.live();
    refresh(&mut table, &mut queue, &mut Host::default());
    assert_eq!(seen(&table, &queue.machine, 5), None);
    assert!(queue.machine.did().contains(&Did::Push(Command::CfgiSteRange { sid: 0, range: 7 })));
    assert_eq!(queue.machine.live(), live, "hardware may have the descriptor cached");
    table.synchronised();
    assert_eq!(queue.machine.live(), live - 1);
    assert_eq!(table.audit(), Ok(()));
}

#[test]
fn a_table_whose_invalidation_is_not_queued_yet_outlives_a_sync() {
    let (mut table, mut queue) = with(nested(0x1000, 1));
    let live = queue.machine.live();
    let mut budget = Budget::for_one_trap();
    assert_eq!(table.share(&mut queue, &mut budget, &mut Cursor::at(0), u64::MAX, Shared::Abort), Ok(()));
    assert_eq!(seen(&table, &queue.machine, 5), full(FIXED.abort()));
    table.synchronised();
    assert_eq!(queue.machine.live(), live);
    queue.machine.did();
    assert_eq!(table.finish(&mut queue, &mut budget), Ok(()));
    assert_eq!(queue.machine.did(), [Did::Push(Command::CfgiAll), Did::Sync]);
    assert_eq!(queue.machine.live(), live - 1);
}

#[test]
fn without_memory_the_streams_of_a_block_abort_and_others_are_unchanged() {
    let (mut table, mut queue) = with(nested(0x1000, 1));
    queue.machine.allow(0);
    let mut host = Host(BTreeMap::from([(5, nested(0x1000, 1)), (0x100, nested(0x3000, 0))]));
    refresh(&mut table, &mut queue, &mut host);
    assert_eq!(seen(&table, &queue.machine, 0x100), None);
    assert_eq!(seen(&table, &queue.machine, 5), full(nested(0x1000, 1)));
    assert_eq!((table.no_memory(), table.audit()), (1, Ok(())));
    // With memory again the same refresh succeeds.
    queue.machine.allow(1);
    refresh(&mut table, &mut queue, &mut host);
    assert_eq!(seen(&table, &queue.machine, 0x100), full(nested(0x3000, 0)));
}

#[test]
fn an_entry_without_a_private_table_needs_its_block() {
    let (mut table, mut queue) = empty();
    assert_eq!(enter(&mut table, &mut queue, 5, nested(0x1000, 1)), Ok(Entered::NeedsBlock));
    let (mut table, mut queue) = with(nested(0x1000, 1));
    let mut budget = Budget::for_one_trap();
    let gone = table.enter(&mut queue, &mut budget, 5, Depth::Walk, CheckedEntry::Unmapped);
    assert_eq!(gone, Ok(Entered::NeedsBlock));
    assert_eq!(queue.machine.did(), []);
    // A linear table has an entry for each stream.
    let (mut table, mut queue) = self::table(ST_LINEAR, Shared::Stage2);
    let gone = table.enter(&mut queue, &mut budget, 5, Depth::Walk, CheckedEntry::Unmapped);
    assert_eq!((gone, seen(&table, &queue.machine, 5)), (Ok(Entered::Done), full(FIXED.invalid())));
}

#[test]
fn a_refresh_continues_where_the_budget_ended() {
    let entry = |sid: u32| nested(u64::from(sid + 1) << 12, u64::from(sid & 1));
    for st_level in [ST_LINEAR, idr0::ST_TWO_LEVEL] {
        let (mut table, mut queue) = self::table(st_level, Shared::Abort);
        let mut host = Host((0..1 << SID_BITS).map(|sid| (sid, entry(sid))).collect());
        let traps = refresh(&mut table, &mut queue, &mut host);
        assert!(traps > 1, "1024 entries and four tables are more than one trap's work");
        for sid in 0..1 << SID_BITS {
            assert_eq!(seen(&table, &queue.machine, sid), full(entry(u32::try_from(sid).unwrap())), "{sid}");
        }
    }
}

#[test]
fn a_failed_smmu_ends_a_change_with_its_error() {
    let (mut table, mut queue) = with(nested(0x1000, 0));
    queue.failed = Some(SmmuError::SyncTimeout);
    let error = Unfinished::Failed(SmmuError::SyncTimeout);
    assert_eq!(enter(&mut table, &mut queue, 5, nested(0x2000, 1)), Err(error));
    // The old entry, the new one, or an abort, in each of its words.
    assert_eq!(seen(&table, &queue.machine, 5), full(Ste { dw1: 0, ..FIXED.abort() }));
    assert_eq!(table.abort_all(&mut queue), Err(SmmuError::SyncTimeout));
    assert_eq!(table.finish(&mut queue, &mut Budget::for_one_trap()), Err(error));
    assert_eq!(table.audit(), Ok(()));
}

#[test]
fn all_streams_abort_after_abort_all() {
    for st_level in [ST_LINEAR, idr0::ST_TWO_LEVEL] {
        let (mut table, mut queue) = self::table(st_level, Shared::Stage2);
        refresh(&mut table, &mut queue, &mut Host(BTreeMap::from([(5, nested(0x1000, 1))])));
        queue.machine.did();
        assert_eq!(table.abort_all(&mut queue), Ok(()));
        assert_eq!(queue.machine.did().split_last().map(|(last, _)| *last), Some(Did::Sync));
        for sid in 0..1 << SID_BITS {
            let [word0, ..] = seen(&table, &queue.machine, sid).unwrap();
            assert_eq!(word0, FIXED.abort().dw0, "{sid}");
        }
    }
}

#[test]
fn the_audit_finds_unconfined_entries() {
    let (table, queue) = with(nested(0x1000, 1));
    let at = address(&table, &queue.machine, 5).unwrap();
    let entry = |dw0| Err(StrtabFinding::Entry { index: 5, dw0 });
    let ste = nested(0x1000, 1);
    let stage1_only = put64(dw0::V, 1) | put64(dw0::CONFIG, dw0::CONFIG_S1);
    for (word, planted, found) in [
        (0, stage1_only, entry(stage1_only)),
        (8, put64(dw1::EATS, 1), entry(ste.dw0)),
        (16, words().dw2 + 1, entry(ste.dw0)),
        (24, 0x5000, entry(ste.dw0)),
        (32, 1, entry(ste.dw0)),
    ] {
        let before = queue.machine.word(at + word);
        queue.machine.put(at + word, planted);
        assert_eq!(table.audit(), found, "word at {word}");
        queue.machine.put(at + word, before);
    }
    assert_eq!(table.audit(), Ok(()));
    let l1 = table.base() & mask64(strtab_base::ADDR);
    queue.machine.put(l1 + 8, queue.machine.word(l1));
    assert_eq!(table.audit(), Err(StrtabFinding::Descriptor { block: 1 }));
}
