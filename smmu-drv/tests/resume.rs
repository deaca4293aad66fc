//! `resume` after the power was off: once transactions abort, they abort until the earlier configuration is restored.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::cell::Cell;
use std::rc::Rc;

use common::{BUF, BYPASS, Board, GUEST, POOL, POOL_SIZE, RAM, RAM_SIZE, Rig, Stage2, aborted, dw0, firmware, r};
use smmu_drv::{Probed, SmmuError, Stale, StreamRange};
use smmu_model::{Config, Injection, Model, Pace, Snoop, Transfer};

/// Streams of the host, with stage 2 only and with both stages; a stream of a guest; a stream without an owner.
const BOTH: u32 = 11;
const SID: u32 = 8;
const GUESTS: u32 = 9;
const BLOCKED: u32 = 10;
const VM: u16 = 2;
/// A page that was revoked from the host while the power was off, without an invalidation.
const GONE: u64 = BUF + 0x1000;

fn configs() -> Vec<Config> {
    let mut all = Vec::new();
    for seed in 1..4 {
        for pace in [Pace::Eager, Pace::Lazy] {
            let base = Config { pace, seed, ..Config::qemu() };
            all.push(Config { two_level: false, sid_bits: 10, ..base.clone() });
            all.push(Config { snoop: Snoop::NonCoherent, ..base.clone() });
            all.push(Config { pace, seed, ..Config::full() });
            all.push(base);
        }
    }
    all
}

/// A host, a guest, and active devices; then the power is switched off and on again.
fn off(config: Config) -> Rig {
    let mut rig = Rig::new(config);
    rig.enable_linear(5);
    rig.set_ste(SID, BYPASS);
    let nested = rig.context(1);
    rig.set_ste(BOTH, nested);
    rig.write(r::IRQ_CTRL, 4);
    let mut guest = Stage2::of_guest(rig.mem(), VM);
    guest.map(GUEST);
    for sid in [GUESTS, BLOCKED] {
        rig.smmu.block(&mut rig.host, StreamRange::one(sid)).unwrap();
    }
    rig.smmu.assign(StreamRange::one(GUESTS), &guest.cfg()).unwrap();
    for (sid, iova) in [(SID, GONE), (SID, BUF), (BOTH, 0), (GUESTS, GUEST)] {
        assert_eq!(rig.dma_write(sid, iova, 1), Transfer::Done);
    }
    rig.board.0.model.borrow_mut().lose_power();
    rig.s2.unmap(GONE);
    let model = rig.board.0.model.borrow();
    assert!([SID, BOTH, GUESTS, BLOCKED].into_iter().all(|sid| model.can_reach(sid, POOL).is_some()));
    drop(model);
    rig
}

/// Whether each stream reaches at most the memory of its owner.
fn confined(model: &Model) -> bool {
    let reach = |sid, start, end| model.can_reach_any(sid, start..end).is_some();
    let host = |sid| !reach(sid, POOL, POOL + POOL_SIZE) && !reach(sid, GONE, GONE + 0x1000);
    let (ram, end) = (RAM + RAM_SIZE, POOL + POOL_SIZE);
    let guest = !reach(GUESTS, RAM, ram) && !reach(GUESTS, POOL, GUEST) && !reach(GUESTS, GUEST + 0x1000, end);
    host(SID) && host(BOTH) && guest && !reach(BLOCKED, RAM, ram) && !reach(BLOCKED, POOL, end)
}

/// Every device tries to access memory that it must not reach, on a copy of the SMMU. Returns whether an access
/// succeeded.
fn attack(model: &Model) -> bool {
    let mut model = model.clone();
    let tries = [(SID, POOL), (SID, GONE), (BOTH, POOL), (GUESTS, BUF), (GUESTS, GUEST + 0x1000), (BLOCKED, BUF)];
    tries.into_iter().any(|(sid, at)| model.dma_write(sid, None, at, &[0xbd]) == Transfer::Done)
}

/// Checks the SMMU after each register write; returns the number of writes after which a stream was not confined.
fn watch(board: &Board) -> Rc<Cell<u32>> {
    let open = Rc::new(Cell::new(0));
    let (seen, closed) = (Rc::clone(&open), Cell::new(false));
    *board.0.watch.borrow_mut() = Some(Box::new(move |model: &Model| {
        let is_closed = confined(model);
        assert!(is_closed || !closed.get(), "opened again: {:?}", model.can_reach(SID, POOL));
        assert!(!closed.get() || !attack(model), "a transaction lands");
        closed.set(is_closed);
        seen.set(seen.get() + u32::from(!is_closed));
    }));
    open
}

/// The registers as the host reads them.
fn registers(rig: &mut Rig) -> Vec<u64> {
    (0..0x200).chain((0x100a8..0x100b0).step_by(4)).step_by(4).map(|offset| rig.read(offset)).collect()
}

fn as_before(rig: &mut Rig) {
    assert!(confined(&rig.board.0.model.borrow()));
    for (sid, iova) in [(SID, BUF), (BOTH, 0), (GUESTS, GUEST)] {
        assert_eq!(rig.dma_write(sid, iova, 1), Transfer::Done, "{sid}");
    }
    for (sid, iova) in [(SID, GONE), (GUESTS, BUF), (BLOCKED, BUF), (0x1ff, BUF)] {
        assert!(aborted(&rig.dma_write(sid, iova, 1)), "{sid}");
    }
    assert_eq!((rig.smmu.audit(&rig.host), rig.hazards()), (Ok(()), vec![]));
}

#[test]
fn t09_dma_during_a_resume_reaches_only_memory_of_its_owner() {
    for config in configs() {
        let mut rig = off(config.clone());
        let open = watch(&rig.board);
        rig.smmu.resume().unwrap();
        // GBPA is set to abort before any other register is written.
        assert!(open.get() <= 1, "{config:?}: not confined after {} writes", open.get());
        *rig.board.0.watch.borrow_mut() = None;
        assert_eq!(rig.board.0.model.borrow_mut().read32(r::IRQ_CTRL), 4);
        as_before(&mut rig);
    }
}

#[test]
fn a_resume_does_not_change_the_hosts_registers() {
    for config in [Config::qemu(), Config::full()] {
        let mut rig = off(config);
        rig.smmu.resume().unwrap();
        let after = registers(&mut rig);
        // The power was not off.
        let before = registers(&mut rig);
        rig.smmu.resume().unwrap();
        assert_eq!((registers(&mut rig), after), (before.clone(), before));
        as_before(&mut rig);
        rig.set_ste(SID, [0; 8]);
        assert!(aborted(&rig.dma_write(SID, BUF, 1)), "the host's commands are executed");
        assert_eq!(rig.smmu.stats().reprograms, 2);
    }
}

#[test]
fn t09_resume_programs_an_smmu_that_seems_unchanged() {
    let mut rig = off(Config::qemu());
    // Other software enabled it with another table.
    let strtab = RAM + 0x50_0000;
    for sid in 0..16 {
        rig.mem().cpu_write64(strtab + sid * 64, dw0(common::CONFIG_BYPASS, 0));
    }
    {
        let mut model = rig.board.0.model.borrow_mut();
        model.write64(r::STRTAB_BASE, strtab);
        model.write32(r::STRTAB_BASE_CFG, 4);
        for on in [r::CMDQEN, r::CMDQEN | r::EVENTQEN, r::CMDQEN | r::EVENTQEN | r::SMMUEN] {
            model.write32(r::CR0, u32::try_from(on).unwrap());
            model.run_to_idle();
        }
    }
    assert_eq!(rig.smmu.check_alive(), Ok(()), "the check reads only one register");
    assert!(!confined(&rig.board.0.model.borrow()));
    rig.board.0.model.borrow_mut().take_hazards();
    rig.smmu.resume().unwrap();
    as_before(&mut rig);
}

/// Checks that `resume` fails, and that hardware aborts if it accepts GBPA.ABORT.
fn fails(rig: &mut Rig, what: &str) {
    assert_eq!(rig.smmu.resume(), Err(SmmuError::Reset), "{what}");
    assert_eq!(rig.smmu.failed(), Some(SmmuError::Reset));
    let closed = |rig: &Rig| {
        let model = rig.board.0.model.borrow();
        [SID, BOTH, GUESTS, BLOCKED].iter().all(|sid| model.can_reach_any(*sid, 0..u64::MAX).is_none())
    };
    assert!(closed(rig), "{what}");
    // It stays failed in later calls, and also if it loses its power again.
    assert_eq!(rig.smmu.tlb_invalidate_host(Stale::All), Err(SmmuError::Reset));
    assert_eq!(rig.smmu.resume(), Err(SmmuError::Reset));
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
    assert!(closed(rig), "{what}");
    rig.board.0.model.borrow_mut().lose_power();
    assert!(!closed(rig));
    assert_eq!(rig.smmu.resume(), Err(SmmuError::Reset));
    rig.board.0.model.borrow_mut().run_to_idle();
    assert!(closed(rig), "{what}");
}

#[test]
fn t09_a_failed_resume_leaves_the_smmu_aborting_and_failed() {
    for config in configs().into_iter().filter(|config| config.pace == Pace::Lazy) {
        for injection in [Injection::Cr0Never, Injection::SyncNever] {
            let mut rig = off(config.clone());
            rig.board.0.model.borrow_mut().inject(injection);
            fails(&mut rig, &format!("{injection:?} {config:?}"));
        }
    }
    // SMMUEN, its last write, takes effect, and is not acknowledged.
    let config = Config { pace: Pace::Lazy, ..Config::qemu() };
    let mut rig = off(config.clone());
    let start = rig.board.0.mmio.get();
    rig.smmu.resume().unwrap();
    let last = rig.board.0.mmio.get() - start;
    let mut rig = off(config);
    let (board, last) = (rig.board.clone(), rig.board.0.mmio.get() + last);
    let queues = u32::try_from(r::CMDQEN | r::EVENTQEN).unwrap();
    *rig.board.0.watch.borrow_mut() = Some(Box::new(move |_| {
        if board.0.mmio.get() == last {
            board.0.read_as.set(Some((r::CR0ACK, queues)));
        }
    }));
    fails(&mut rig, "the last write");
    // CMD_SYNC does not complete any more after each of its writes.
    let mut failed = 0;
    for n in 1..40 {
        let mut rig = off(Config { pace: Pace::Lazy, ..Config::qemu() });
        rig.board.0.stuck_after.set(Some(rig.board.0.mmio.get() + n));
        watch(&rig.board);
        if rig.smmu.resume().is_ok() {
            break;
        }
        failed += 1;
    }
    assert!(failed > 5, "{failed}");
}

#[test]
fn guests_have_their_devices_after_a_resume_without_a_host() {
    for config in configs() {
        let board = Board::new(config.clone());
        let mut smmu = Probed::probe(board.clone(), firmware(&config)).unwrap().take_over(Default::default()).unwrap();
        let mut guest = Stage2::of_guest(&board.0.mem, VM);
        guest.map(GUEST);
        smmu.assign(StreamRange::one(GUESTS), &guest.cfg()).unwrap();
        board.0.model.borrow_mut().lose_power();
        let (seen, closed) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(true)));
        let (was, is) = (Rc::clone(&seen), Rc::clone(&closed));
        *board.0.watch.borrow_mut() = Some(Box::new(move |model: &Model| {
            let open = model.can_reach(SID, GUEST).is_some() || model.can_reach(GUESTS, BUF).is_some();
            is.set(is.get() && !(open && was.get()));
            was.set(was.get() || !open);
        }));
        smmu.resume().unwrap();
        assert!(seen.get() && closed.get(), "{config:?}");
        let dma = |sid, at| board.0.model.borrow_mut().dma_write(sid, None, at, &[1]);
        assert_eq!(dma(GUESTS, GUEST), Transfer::Done);
        assert!(aborted(&dma(GUESTS, BUF)) && aborted(&dma(SID, GUEST)));
        assert_eq!((smmu.audit(), board.0.model.borrow_mut().take_hazards()), (Ok(()), vec![]));
    }
}
