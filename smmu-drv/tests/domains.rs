//! Streams that belong to a separate domain, or to no owner, on an SMMU with streams of a hostile host.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::cell::Cell;
use std::rc::Rc;

use common::{
    ABORT, BUF, BYPASS, Board, CFGI_ALL, GBPA_ABORT, GBPA_UPDATE, GUEST, RAM, Rig, Stage2, VMID, aborted, cfgi_ste,
    cfgi_ste_range, enable_two_level, firmware, l1, l2_ste, r,
};
use io_pgtable::{Ipa, Pa};
use smmu_drv::{
    AssignError, ProbeConfig, Probed, RetireError, Smmu, SmmuError, Stale, StreamOwner, StreamRange, Unassigned,
};
use smmu_model::{Config, Injection, Pace, Transfer};

/// The stream that changes its owner, and one that the host keeps.
const SID: u32 = 8;
const NEXT: u32 = 9;
/// The guest's VMID.
const VM: u16 = 2;

fn one() -> StreamRange {
    StreamRange::one(SID)
}

/// A guest with one page at [`GUEST`].
fn guest(rig: &Rig, vmid: u16) -> Stage2 {
    let mut stage2 = Stage2::of_guest(rig.mem(), vmid);
    stage2.map(GUEST);
    stage2
}

fn machines() -> Vec<Config> {
    let lazy = |seed| Config { pace: Pace::Lazy, seed, ..Config::qemu() };
    let linear = Config { two_level: false, sid_bits: 10, ..Config::qemu() };
    vec![Config::qemu(), lazy(1), lazy(2), Config { pace: Pace::Lazy, ..linear.clone() }, linear]
}

/// The host configures bypass for both streams.
fn started(config: Config) -> Rig {
    let mut rig = Rig::new(config);
    rig.enable_linear(5);
    [SID, NEXT].into_iter().for_each(|sid| rig.set_ste(sid, BYPASS));
    assert_eq!(rig.dma_write(SID, BUF, 1), Transfer::Done);
    rig
}

fn check(rig: &Rig) {
    assert_eq!(rig.smmu.audit(&rig.host), Ok(()));
    assert_eq!(rig.hazards(), []);
}

/// Checks that the stream can reach the guest's page and no memory of the host.
fn is_guests(rig: &mut Rig, what: &str) {
    assert!(rig.can_reach(SID, GUEST), "{what}");
    assert!(!rig.can_reach(SID, BUF), "{what}");
    assert_eq!(rig.dma_write(SID, GUEST, 1), Transfer::Done, "{what}");
    assert!(aborted(&rig.dma_write(SID, BUF, 1)), "{what}");
    check(rig);
}

fn assign(rig: &mut Rig, streams: StreamRange, stage2: &Stage2) -> Result<(), AssignError> {
    rig.smmu.block(&mut rig.host, streams)?;
    rig.smmu.assign(streams, &stage2.cfg())
}

fn release(rig: &mut Rig, streams: StreamRange) -> Result<(), AssignError> {
    rig.smmu.block(&mut rig.host, streams)?;
    rig.smmu.release(&mut rig.host, streams)
}

#[test]
fn t68_accesses_of_the_host_do_not_change_an_assigned_stream() {
    for config in machines() {
        let mut rig = started(config);
        let stage2 = guest(&rig, VM);
        assign(&mut rig, one(), &stage2).unwrap();
        assert_eq!((rig.smmu.owner(SID), rig.smmu.owner(NEXT)), (StreamOwner::Domain(VM), StreamOwner::Host));
        is_guests(&mut rig, "assigned");
        let stage1 = rig.context(1);
        for ste in [BYPASS, ABORT, stage1, [0; 8]] {
            rig.ste(SID, ste);
            rig.ste(NEXT, ste);
            for command in [cfgi_ste(SID), cfgi_ste_range(SID, 3), CFGI_ALL] {
                rig.issue(&[
                    command,
                    cfgi_ste(NEXT),
                    [5 | u64::from(SID) << 32, 1],
                    [6 | u64::from(SID) << 32, 0],
                    [0x10, 0],
                ]);
                is_guests(&mut rig, "after an entry of the host");
                assert_eq!(rig.can_reach(NEXT, BUF), ste == BYPASS || ste == stage1);
                assert!(!rig.can_reach(NEXT, GUEST));
            }
        }
        // The mode of all streams changes: bypass, abort, the table again.
        rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
        is_guests(&mut rig, "SMMUEN off");
        assert!(rig.can_reach(NEXT, BUF));
        rig.write(r::GBPA, GBPA_UPDATE | GBPA_ABORT);
        is_guests(&mut rig, "GBPA.ABORT");
        assert!(!rig.can_reach(NEXT, BUF));
        rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
        is_guests(&mut rig, "SMMUEN on");
    }
}

#[test]
fn t68_a_stream_never_reaches_memory_of_two_owners() {
    for config in machines() {
        let mut rig = started(config);
        let stage2 = guest(&rig, VM);
        let both = Rc::new(Cell::new(0));
        let seen = both.clone();
        *rig.board.0.watch.borrow_mut() = Some(Box::new(move |model| {
            if model.can_reach(SID, BUF).is_some() && model.can_reach(SID, GUEST).is_some() {
                seen.set(seen.get() + 1);
            }
        }));
        for _ in 0..4 {
            assign(&mut rig, one(), &stage2).unwrap();
            assert!(!rig.can_reach(SID, BUF) && rig.can_reach(SID, GUEST));
            release(&mut rig, one()).unwrap();
            assert!(rig.can_reach(SID, BUF) && !rig.can_reach(SID, GUEST));
            assert_eq!(rig.dma_write(SID, BUF, 1), Transfer::Done);
        }
        assert_eq!(both.get(), 0, "publications at which both could be reached");
        check(&rig);
    }
}

#[test]
fn t68_a_released_stream_has_the_hosts_current_entry() {
    for config in machines() {
        let mut rig = started(config);
        let stage2 = guest(&rig, VM);
        let stage1 = rig.context(1);
        for (ste, reaches) in [(BYPASS, true), (ABORT, false), (stage1, true), ([0; 8], false)] {
            assign(&mut rig, one(), &stage2).unwrap();
            rig.set_ste(SID, ste);
            release(&mut rig, one()).unwrap();
            assert_eq!(rig.smmu.owner(SID), StreamOwner::Host);
            assert_eq!((rig.can_reach(SID, BUF), rig.can_reach(SID, GUEST)), (reaches, false), "{ste:x?}");
            check(&rig);
        }
        // While translation is off it behaves as all streams.
        for (gbpa, reaches) in [(0, true), (GBPA_ABORT, false)] {
            assign(&mut rig, one(), &stage2).unwrap();
            rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
            rig.write(r::GBPA, GBPA_UPDATE | gbpa);
            release(&mut rig, one()).unwrap();
            assert_eq!((rig.can_reach(SID, BUF), rig.can_reach(SID, GUEST)), (reaches, false));
            check(&rig);
        }
    }
}

#[test]
fn blocks_of_a_two_level_table_keep_foreign_streams() {
    let mut rig = Rig::new(Config::qemu());
    enable_two_level(&mut rig, 8, 12);
    let stage2 = guest(&rig, VM);
    let live = |rig: &Rig| rig.board.0.live_bytes.get();
    let before = live(&rig);
    // The host has no level-2 table for the block yet: EL2 allocates one for the guest's stream.
    assign(&mut rig, one(), &stage2).unwrap();
    assert_eq!(live(&rig), before + 0x4000);
    is_guests(&mut rig, "no table of the host");
    assert!(aborted(&rig.dma_write(NEXT, BUF, 1)));
    l2_ste(&rig, 8, NEXT, BYPASS);
    l1(&rig, 8, NEXT, 9);
    rig.issue(&[cfgi_ste(NEXT)]);
    assert_eq!(rig.dma_write(NEXT, BUF, 1), Transfer::Done);
    is_guests(&mut rig, "the host added its table");
    l1(&rig, 8, NEXT, 0);
    rig.issue(&[CFGI_ALL]);
    assert!(aborted(&rig.dma_write(NEXT, BUF, 1)));
    is_guests(&mut rig, "the host removed its table");
    assert_eq!(live(&rig), before + 0x4000);
    // The table is freed with the last foreign stream.
    release(&mut rig, one()).unwrap();
    assert_eq!(live(&rig), before);
    assert!(aborted(&rig.dma_write(SID, GUEST, 1)));
    check(&rig);
}

#[test]
fn blocked_streams_abort_and_need_no_table() {
    for config in machines() {
        let mut rig = started(config);
        let before = rig.board.0.live_bytes.get();
        rig.smmu.block(&mut rig.host, one()).unwrap();
        assert!(!rig.can_reach(SID, BUF) && rig.can_reach(NEXT, BUF));
        rig.set_ste(SID, BYPASS);
        rig.issue(&[CFGI_ALL]);
        assert!(!rig.can_reach(SID, BUF));
        check(&rig);
        // A whole block of streams, with streams at the end of the previous block and the start of the next one.
        for first in [0x100, 0x80] {
            let streams = StreamRange::new(first, 0x100).unwrap();
            rig.smmu.block(&mut rig.host, streams).unwrap();
            check(&rig);
            rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
            let reached: Vec<_> = (0..0x200).map(|sid| rig.can_reach(sid, BUF)).collect();
            let expected: Vec<_> = (0..0x200).map(|sid| sid != SID && !(first..first + 0x100).contains(&sid)).collect();
            assert_eq!(reached, expected);
            release(&mut rig, streams).unwrap();
            rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
        }
        release(&mut rig, one()).unwrap();
        assert_eq!(rig.dma_write(SID, BUF, 1), Transfer::Done);
        assert!(rig.board.0.live_bytes.get() <= before);
        check(&rig);
    }
}

#[test]
fn t69_a_vmid_can_be_reused_after_it_was_retired() {
    for config in machines() {
        let mut rig = started(config);
        let (first, mut second) = (guest(&rig, VM), Stage2::of_guest(rig.mem(), VM + 1));
        second.map(GUEST + 0x1000);
        assign(&mut rig, one(), &first).unwrap();
        assert_eq!(rig.dma_write(SID, GUEST, 1), Transfer::Done);
        let other = smmu_drv::Stage2Cfg { vmid: VM, ttb: Pa(first.cfg().ttb.0 + 0x8000), ..second.cfg() };
        assert_eq!(rig.smmu.assign(one(), &first.cfg()), Err(AssignError::NotBlocked));
        assert_eq!(rig.smmu.release(&mut rig.host, one()), Err(AssignError::NotBlocked));
        rig.smmu.block(&mut rig.host, StreamRange::one(NEXT)).unwrap();
        assert_eq!(rig.smmu.assign(StreamRange::one(NEXT), &other), Err(AssignError::VmidInUse));
        // An invalidation by one VMID would not remove entries cached with the other.
        for table in [first.cfg(), rig.s2.cfg()] {
            let same = smmu_drv::Stage2Cfg { vmid: VM + 2, ..table };
            assert_eq!(rig.smmu.assign(StreamRange::one(NEXT), &same), Err(AssignError::VmidInUse));
        }
        assert_eq!(rig.smmu.retire(VM), Err(RetireError::InUse));
        assert_eq!((rig.smmu.retire(VMID), rig.smmu.retire(77)), (Err(RetireError::InUse), Ok(())));
        let of_host = smmu_drv::Stage2Cfg { vmid: VMID, ..second.cfg() };
        assert_eq!(rig.smmu.assign(one(), &of_host), Err(AssignError::VmidInUse));
        is_guests(&mut rig, "refusals change nothing");
        rig.smmu.block(&mut rig.host, one()).unwrap();
        // Entries are still cached: the VMID must not be used with another table before it was retired.
        let again = smmu_drv::Stage2Cfg { vmid: VM, ..second.cfg() };
        assert_eq!(rig.smmu.assign(one(), &again), Err(AssignError::VmidInUse));
        rig.smmu.retire(VM).unwrap();
        rig.smmu.assign(one(), &again).unwrap();
        assert!(!rig.can_reach(SID, GUEST), "a translation of the earlier domain is cached");
        assert!(rig.can_reach(SID, GUEST + 0x1000));
        check(&rig);
    }
}

#[test]
fn refused_assignments_change_nothing() {
    let mut rig = started(Config::qemu());
    let stage2 = guest(&rig, VM);
    let beyond = StreamRange::one(1 << 16);
    let many = StreamRange::new(0, 257).unwrap();
    for streams in [beyond, many, StreamRange::one(u32::MAX)] {
        assert_eq!(assign(&mut rig, streams, &stage2), Err(AssignError::Range));
        assert_eq!(rig.smmu.block(&mut rig.host, streams), Err(AssignError::Range));
        assert_eq!(release(&mut rig, streams), Err(AssignError::Range));
    }
    let wide = smmu_drv::Stage2Cfg { t0sz: 0, ..stage2.cfg() };
    assert!(matches!(rig.smmu.assign(one(), &wide), Err(AssignError::BadStage2(_))));
    // A stream in a block with a shared table, without memory for a private one.
    rig.board.0.allocations.set(0);
    assert_eq!(assign(&mut rig, StreamRange::one(0x300), &stage2), Err(AssignError::NoMemory));
    rig.board.0.allocations.set(usize::MAX);
    for n in 0..64 {
        rig.smmu.block(&mut rig.host, StreamRange::one(0x200 + 2 * n)).unwrap();
    }
    assert_eq!(assign(&mut rig, one(), &stage2), Err(AssignError::TooMany));
    // Streams that were blocked together are returned together, even while no range is free.
    rig.smmu.release(&mut rig.host, StreamRange::one(0x200)).unwrap();
    rig.smmu.block(&mut rig.host, StreamRange::one(0x200)).unwrap();
    assert_eq!((rig.smmu.owner(SID), rig.smmu.owner(0x300)), (StreamOwner::Host, StreamOwner::Host));
    assert_eq!(rig.dma_write(SID, BUF, 1), Transfer::Done);
    rig.smmu.quiesce().unwrap();
    assert_eq!(rig.smmu.assign(one(), &stage2.cfg()), Err(AssignError::Quiesced));
    assert_eq!(rig.smmu.release(&mut rig.host, one()), Err(AssignError::Quiesced));
    assert!(!rig.can_reach(SID, BUF));
    check(&rig);
}

#[test]
fn t69_a_stream_has_no_owner_after_a_failed_assignment() {
    let mut failed = 0;
    for after in 1..12 {
        let mut rig = started(Config::qemu());
        let stage2 = guest(&rig, VM);
        let writes = rig.board.0.mmio.get();
        rig.board.0.stuck_after.set(Some(writes + after));
        match assign(&mut rig, one(), &stage2) {
            Ok(()) => is_guests(&mut rig, "assigned"),
            Err(error) => {
                assert_eq!(error, AssignError::Failed(SmmuError::SyncTimeout));
                assert_ne!(rig.smmu.owner(SID), StreamOwner::Domain(VM));
                assert!(!rig.can_reach(SID, BUF) || !rig.can_reach(SID, GUEST), "after {after} writes");
                assert_eq!(rig.smmu.audit(&rig.host), Ok(()));
                assert_eq!(assign(&mut rig, one(), &stage2), Err(AssignError::Failed(SmmuError::SyncTimeout)));
                failed += 1;
            }
        }
    }
    assert!(failed >= 3, "each of three invalidations can fail, {failed} did");
}

#[test]
fn t69_hardware_that_fails_while_a_stream_leaves_its_domain_keeps_the_audit_clean() {
    let mut failed = 0;
    for after in 0..4 {
        let mut rig = started(Config::qemu());
        let stage2 = guest(&rig, VM);
        assign(&mut rig, one(), &stage2).unwrap();
        match after {
            0 => rig.board.0.model.borrow_mut().inject(Injection::SyncNever),
            _ => rig.board.0.stuck_after.set(Some(rig.board.0.mmio.get() + after)),
        }
        let blocked = rig.smmu.block(&mut rig.host, one());
        failed += u32::from(blocked.is_err());
        assert!(!rig.can_reach(SID, BUF), "after {after} writes");
        assert_eq!(rig.smmu.audit(&rig.host), Ok(()), "after {after} writes: {blocked:?}");
    }
    assert_eq!(failed, 2, "each of two invalidations can fail");
}

/// An SMMU without a host, and its memory.
fn partitions(config: Config) -> (Board, Smmu<Board>) {
    let firmware = firmware(&config);
    let board = Board::new(config);
    let smmu = Probed::probe(board.clone(), firmware).unwrap().take_over(Default::default()).unwrap();
    (board, smmu)
}

#[test]
fn two_guests_can_have_devices_without_a_host() {
    for config in machines() {
        let (board, mut smmu) = partitions(config);
        let reach = |sid, pa| board.0.model.borrow().can_reach(sid, pa).is_some();
        let dma = |sid, pa: u64| board.0.model.borrow_mut().dma_write(sid, None, pa, &[1]);
        let open = |sid| (RAM..RAM + 0x100_0000).step_by(0x20_0000).any(|pa| reach(sid, pa)) || reach(sid, GUEST);
        assert!(![0, SID, NEXT, 0x1ff].into_iter().any(open), "after take-over");
        let (mut a, mut b) = (Stage2::of_guest(&board.0.mem, 2), Stage2::of_guest(&board.0.mem, 3));
        a.map(GUEST);
        b.map(GUEST + 0x1000);
        smmu.assign(one(), &a.cfg()).unwrap();
        smmu.assign(StreamRange::one(NEXT), &b.cfg()).unwrap();
        assert_eq!((dma(SID, GUEST), dma(NEXT, GUEST + 0x1000)), (Transfer::Done, Transfer::Done));
        assert!(!reach(SID, GUEST + 0x1000) && !reach(NEXT, GUEST));
        assert_eq!(smmu.audit(), Ok(()));
        // A page of one guest is revoked; the other guest's translations stay.
        a.unmap(GUEST);
        assert!(reach(SID, GUEST), "cached");
        smmu.tlb_invalidate(2, Stale::Range { ipa: Ipa(GUEST), size: 4096 }).unwrap();
        assert!(!reach(SID, GUEST) && reach(NEXT, GUEST + 0x1000));
        assert!(aborted(&dma(SID, GUEST)));
        smmu.poll_faults();
        assert_eq!(smmu.take_fault().map(|fault| fault.record.sid), Some(SID));
        // Power was off: after the SMMU was programmed again, the streams are confined as before.
        board.0.model.borrow_mut().lose_power();
        smmu.check_alive().unwrap();
        assert!(!reach(SID, GUEST + 0x1000) && reach(NEXT, GUEST + 0x1000));
        smmu.block(StreamRange::one(NEXT)).unwrap();
        smmu.retire(3).unwrap();
        assert!(!open(NEXT));
        assert_eq!((smmu.retire(2), smmu.audit()), (Err(RetireError::InUse), Ok(())));
        smmu.quiesce().unwrap();
        assert_eq!((smmu.audit(), board.0.model.borrow_mut().take_hazards()), (Ok(()), vec![]));
    }
}

#[test]
fn unassigned_streams_can_be_blocked_with_a_host() {
    let config = Config::qemu();
    let firmware = ProbeConfig { unassigned: Unassigned::Blocked, ..firmware(&config) };
    let mut rig = Rig::on(Board::new(config), firmware);
    assert!(!rig.can_reach(SID, BUF));
    rig.enable_linear(5);
    rig.set_ste(SID, BYPASS);
    rig.set_ste(NEXT, BYPASS);
    assert!(!rig.can_reach(SID, BUF) && !rig.can_reach(NEXT, BUF));
    release(&mut rig, one()).unwrap();
    assert!(rig.can_reach(SID, BUF) && !rig.can_reach(NEXT, BUF));
    rig.set_ste(SID, ABORT);
    assert!(!rig.can_reach(SID, BUF));
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
    assert!(rig.can_reach(SID, BUF) && !rig.can_reach(NEXT, BUF));
    rig.smmu.block(&mut rig.host, one()).unwrap();
    assert!(!rig.can_reach(SID, BUF));
    check(&rig);
}
