//! Commands that a host can put into its queue.

use model_tests::host::{ASID, BYPASS, Host, LOG2_QUEUE, ON, Shape, cd};
use model_tests::layout::{
    BAR, EL2, GIC, HOST_DATA, HOST_FLAG, HOST_S1, IOVA, RAM, RAM_BYTES, SECRET, SID, SIDS, TRANSLATER, UART,
};
use model_tests::{Machine, Setup, Verdict, twice_with};
use smmu_drv::{AccessSize, WriteOutcome};
use smmu_model::arch::regs as r;
use smmu_model::inval::Scope;
use smmu_model::{Config, Injection, Pace, Transfer};

#[test]
fn t10_completion_by_store_anywhere() {
    let config = Config { msi: true, ..Config::qemu() };
    for (name, target) in [("EL2", SECRET), ("its second word", SECRET + 4)] {
        twice_with(config.clone(), |m| {
            let mut host = Host::enable(m, 0, Shape::Linear);
            host.sync_msi(m, target, 0xbad);
            let done = m.read32(0, r::CMDQ_CONS) & 0xf_ffff == host.prod;
            assert!(done, "{name}: the SYNC completes");
            if m.secret_intact() { Verdict::Blocked } else { Verdict::Landed }
        });
    }
    for (name, target) in [
        ("donated", HOST_DATA),
        ("EL2's first word", EL2),
        ("GIC", GIC),
        ("translater", TRANSLATER + 0x40),
        ("UART", UART),
        ("BAR", BAR),
        ("nothing", 0x1000),
        ("above RAM", RAM + RAM_BYTES),
    ] {
        let mut m = Machine::new(&Setup::guarded().with(config.clone()));
        let mut host = Host::enable(&mut m, 0, Shape::Linear);
        if name == "donated" {
            assert_eq!(m.donate(HOST_DATA, 1), Ok(()));
        }
        let before = m.mem.cpu_read64(target & !7);
        let _ = m.mem.take_mmio_writes();
        host.sync_msi(&mut m, target, 0xbad);
        assert_eq!(m.mem.cpu_read64(target & !7), before, "{name}");
        assert_eq!(m.mem.take_mmio_writes(), [], "{name}");
        assert_eq!(m.read32(0, r::CMDQ_CONS) & 0xf_ffff, host.prod, "{name}: it completes");
        let active = m.read32(0, r::GERROR) ^ m.read32(0, r::GERRORN);
        assert_eq!(active, r::GERROR_MSI_CMDQ, "{name}: the abort is reported");
        m.write32(0, r::GERRORN, r::GERROR_MSI_CMDQ);
        // An address above the output size is truncated; the result is in the host's own memory.
        host.sync_msi(&mut m, HOST_FLAG | 1 << 50, 0x77);
        assert_eq!(m.mem.cpu_read32(HOST_FLAG), 0x77, "{name}");
        assert_eq!(m.read32(0, r::GERROR) ^ m.read32(0, r::GERRORN), 0, "{name}");
    }
}

#[test]
fn a_sync_orders_the_commands_before_and_after_it() {
    // Linux removes a context in this order: the descriptor, then its translations [IHI 0070G 4.7.3].
    let configs = [Config::qemu(), Config::full(), Config { pace: Pace::Lazy, seed: 5, ..Config::full() }];
    // Hardware may refuse the first command; EL2 then invalidates everything.
    for (config, refused) in configs.into_iter().flat_map(|config| [(config.clone(), 0), (config, 1)]) {
        let mut m = Machine::new(&Setup::guarded().with(config));
        let mut host = Host::with_stage1(&mut m, IOVA, HOST_DATA);
        assert_eq!(m.dma_write(0, SID, IOVA, 1), Transfer::Done);
        // The same ASID, with tables that map nothing.
        host.context_words(&m, cd(HOST_S1 + 0x3000));
        let stale = m.models[0].borrow_mut().dma_write(SID, None, IOVA, &[2]);
        assert_eq!(stale, Transfer::Done, "the descriptor is cached");
        let completion = |address: u64| [1 << 12 | 0x46 | 7 << 32, address];
        let set =
            [[u64::from(SID) << 32 | 5, 1], completion(HOST_FLAG), [ASID << 48 | 0x11, 0], completion(HOST_FLAG + 4)];
        for cmd in set {
            host.queue(&m, cmd);
        }
        for _ in 0..refused {
            m.models[0].borrow_mut().inject(Injection::CommandError(1));
        }
        host.write_prod(&mut m);
        assert_eq!(m.driver(0, |smmu, _| smmu.stats().cmdq_recoveries), refused);
        assert_eq!(m.read32(0, r::CMDQ_CONS) & 0xf_ffff, host.prod);
        assert_eq!([HOST_FLAG, HOST_FLAG + 4].map(|at| m.mem.cpu_read32(at)), [7; 2]);
        assert_ne!(m.dma_write(0, SID, IOVA, 3), Transfer::Done, "the TLB was filled again from the stale descriptor");
    }
}

#[test]
fn an_illegal_command_is_repaired_without_a_write_of_prod() {
    // The error interrupt is masked. The host polls CONS and replaces the command with a CMD_SYNC that completes in
    // its own slot.
    for log2 in [LOG2_QUEUE, 8] {
        let mut m = Machine::new(&Setup::guarded());
        let mut host = Host::enable(&mut m, 0, Shape::Linear);
        let (entries, queue) = (1_u32 << log2, host.cmdq());
        m.write32(0, r::CR0, 0);
        m.write64(0, r::CMDQ_BASE, queue | u64::from(log2));
        m.write32(0, r::CMDQ_PROD, 0);
        m.write32(0, r::CMDQ_CONS, 0);
        m.write32(0, r::IRQ_CTRL, 0);
        host.cr0(&mut m, ON);
        let bad = entries - 1;
        for n in 0..bad {
            m.mem.cpu_write64(queue + u64::from(n) * 16, ASID << 48 | 0x11);
            m.mem.cpu_write64(queue + u64::from(n) * 16 + 8, 0);
        }
        let slot = queue + u64::from(bad) * 16;
        m.mem.cpu_write64(slot, 0xff);
        m.write32(0, r::CMDQ_PROD, entries);
        assert_eq!(m.read32(0, r::CMDQ_CONS), bad | r::CERROR_ILL << r::CONS_ERR_SHIFT);
        // Nothing is consumed while the error is active, however often the host reads CONS.
        m.mem.cpu_write64(slot + 8, slot);
        m.mem.cpu_write64(slot, 0x1234 << 32 | 1 << 12 | 0x46);
        assert_eq!(m.read32(0, r::CMDQ_CONS) & 0xf_ffff, bad);
        assert_eq!(m.mem.cpu_read32(slot), 1 << 12 | 0x46);
        let gerror = m.read32(0, r::GERROR);
        m.write32(0, r::GERRORN, gerror);
        m.settle();
        assert_eq!(m.read32(0, r::CMDQ_CONS) & 0xf_ffff, entries, "consumption resumes");
        assert_eq!(m.mem.cpu_read32(slot), 0x1234, "the completion is in the slot");
        assert_eq!(m.read32(0, r::GERROR) ^ m.read32(0, r::GERRORN), 0);
        host.prod = 0;
    }
}

#[test]
fn queues_of_every_size_wrap() {
    const QUEUE: u64 = RAM + 0x80_0000;
    for log2 in [1, 4, 8, 12, 14_u32] {
        let mut m = Machine::new(&Setup::guarded());
        assert_eq!(m.read32(0, r::IDR1) >> 21 & 31, 14, "the largest size");
        let mut host = Host::enable(&mut m, 0, Shape::Linear);
        m.write32(0, r::CR0, 0);
        m.write64(0, r::CMDQ_BASE, QUEUE | u64::from(log2));
        m.write32(0, r::CMDQ_PROD, 0);
        m.write32(0, r::CMDQ_CONS, 0);
        host.cr0(&mut m, ON);
        let entries = 1 << log2;
        let mut prod = 0;
        // Wraps twice, full each time, with a completion in the queue itself.
        for round in 0..5_u32 {
            let count = if round == 4 { entries / 2 } else { entries };
            for n in 0..count {
                let slot = QUEUE + u64::from((prod + n) % entries) * 16;
                let last = [1 << 12 | 0x46 | u64::from(round + 1) << 32, slot];
                let cmd = if n + 1 == count { last } else { [ASID << 48 | 0x11, 0] };
                m.mem.cpu_write64(slot, cmd[0]);
                m.mem.cpu_write64(slot + 8, cmd[1]);
            }
            prod = (prod + count) % (2 * entries);
            let traps = trap_by_trap(&mut m, prod, "a full queue");
            assert!(traps >= count / 1024, "2^{log2}: {traps} traps");
            assert_eq!(m.read32(0, r::CMDQ_CONS), prod, "2^{log2}, round {round}");
            let slot = QUEUE + u64::from((prod + entries - 1) % entries) * 16;
            assert_eq!(m.mem.cpu_read32(slot), round + 1, "2^{log2}, round {round}: the completion is in its slot");
        }
        assert_eq!(m.models[0].borrow_mut().take_hazards(), []);
        m.write32(0, r::CR0, 0);
        assert_eq!(m.claims(), 0);
    }
    // The boot option can limit the maximum.
    let mut m = Machine::new(&Setup { cmdq_log2: 4, ..Setup::guarded() });
    assert_eq!(m.read32(0, r::IDR1) >> 21 & 31, 4);
    m.write64(0, r::CMDQ_BASE, QUEUE | 31);
    m.write32(0, r::CMDQ_PROD, 0xffff_ffff);
    assert_eq!(m.read32(0, r::CMDQ_PROD), 31);
}

#[test]
fn t14_commands_change_between_check_and_use() {
    let mut m = Machine::new(&Setup::guarded());
    let mut host = Host::with_stage1(&mut m, IOVA, HOST_DATA);
    let queue = host.cmdq();
    let mem = m.mem.clone();
    let fetched = std::rc::Rc::new(std::cell::RefCell::new(std::collections::BTreeMap::new()));
    let log = fetched.clone();
    *m.load_hook().borrow_mut() = Some(Box::new(move |pa| {
        if (queue..queue + (16 << LOG2_QUEUE)).contains(&pa) {
            *log.borrow_mut().entry(pa).or_insert(0) += 1;
            // Overwrites the command with a reserved opcode.
            mem.cpu_write64(pa, 0xffff_ffff_ffff_ffff);
        }
    }));
    for cmd in [[7 << 48 | 0x11, 0], [u64::from(SID) << 32 | 5, 1], [u64::from(SID) << 32 | 3, 1], [0x46, 0]] {
        host.queue(&m, cmd);
    }
    host.write_prod(&mut m);
    *m.load_hook().borrow_mut() = None;
    assert_eq!(host.cerror(&mut m), None, "the checked words were sent");
    assert_eq!(m.read32(0, r::CMDQ_CONS) & 0xf_ffff, host.prod);
    let fetched = fetched.borrow();
    assert_eq!(fetched.len(), 8);
    // No word is fetched twice.
    assert!(fetched.values().all(|times| *times == 1), "{fetched:x?}");
    assert_eq!(m.models[0].borrow_mut().take_hazards(), []);
    assert_eq!(m.isolated(&SIDS), Ok(()));
}

#[test]
fn t19_ranges_and_everything_repeatedly() {
    for shape in [Shape::Linear, Shape::TwoLevel] {
        let mut m = Machine::new(&Setup::guarded());
        let mut host = Host::enable(&mut m, 0, shape);
        for round in 0..8 {
            host.write_ste(&m, SID, if round % 2 == 0 { BYPASS } else { [1, 0] });
            for log2 in [0, 5, 7, 15, 31] {
                host.queue(&m, [u64::from(SID) << 32 | 4, log2]);
                host.queue(&m, [4, 31]);
            }
            for _ in 0..24 {
                host.queue(&m, [4, 31]);
                host.queue(&m, [0x46, 0]);
            }
            trap_by_trap(&mut m, host.prod, "ranges");
            m.settle();
            assert_eq!(m.read32(0, r::CMDQ_CONS) & 0xf_ffff, host.prod);
            let passes = m.dma_write(0, SID, HOST_DATA, 1) == Transfer::Done;
            assert_eq!(passes, round % 2 == 0, "{shape:?}");
            m.models[0].borrow_mut().drop_caches();
        }
        assert_eq!(m.isolated(&SIDS), Ok(()), "{shape:?}");
        assert_eq!(m.models[0].borrow_mut().take_hazards(), [], "{shape:?}");
    }
}

#[test]
fn t22_invalidations_of_other_owners_are_refused() {
    let vmid = Setup::guarded().vmid;
    let mut m = Machine::new(&Setup::guarded().with(Config::full()));
    let mut host = Host::with_stage1(&mut m, IOVA, HOST_DATA);
    for op in [0x18, 0x1a, 0x20, 0x21, 0x22, 0x23, 0x28, 0x2a, 0x50, 0x51, 0x52, 0x53, 0x58, 0x5a, 0x60, 0x70, 0x73] {
        host.cmd(&mut m, [op, 0]);
        assert_eq!(host.cerror(&mut m), Some(r::CERROR_ILL), "{op:#x}");
        host.repair(&mut m);
        assert_eq!(host.cerror(&mut m), None, "{op:#x}");
    }
    let before = m.models[0].borrow().invalidations().len();
    for (op, high) in [(0x10u64, 0u64), (0x11, 0), (0x12, IOVA), (0x13, IOVA), (0x30, 0)] {
        host.cmd(&mut m, [if op == 0x30 { op } else { op | 77 << 32 }, high]);
        assert_eq!(host.cerror(&mut m), None, "{op:#x}");
    }
    host.sync(&mut m);
    let model = m.models[0].borrow();
    for inval in &model.invalidations()[before..] {
        let named = match inval.scope {
            Scope::NhAll { vmid }
            | Scope::NhAsid { vmid, .. }
            | Scope::NhVa { vmid, .. }
            | Scope::NhVaa { vmid, .. } => vmid,
            other => panic!("{other:?} reached hardware"),
        };
        assert_eq!((named.vmid, named.wildcard), (u32::from(vmid), 0));
    }
    drop(model);
    assert_eq!(m.isolated(&SIDS), Ok(()));
}

/// Writes CMDQ_PROD and repeats the store until it is complete; checks the work of each trap. Returns the number of
/// traps.
fn trap_by_trap(m: &mut Machine, prod: u32, name: &str) -> u32 {
    let mut traps = 0;
    loop {
        let work = |m: &mut Machine| {
            let entries = m.driver(0, |smmu, _| smmu.stats().ste_updates);
            (m.models[0].borrow().commands(), entries)
        };
        let before = work(m);
        let prod = u64::from(prod);
        let outcome = m.driver(0, |smmu, owner| smmu.mmio_write(owner, r::CMDQ_PROD, AccessSize::Word, prod));
        let after = work(m);
        let (commands, entries) = (after.0 - before.0, after.1 - before.1);
        assert!(commands <= 4096, "{name}: {commands} commands in one trap");
        assert!(entries <= 1280, "{name}: {entries} entries in one trap");
        traps += 1;
        assert!(traps < 10_000, "{name}: the store is never complete");
        if outcome == WriteOutcome::Done {
            return traps;
        }
    }
}

#[test]
fn t25_a_queue_full_of_expensive_commands() {
    let work: [(&str, Vec<[u64; 2]>); 4] = [
        ("SYNC", vec![[0x46, 0]]),
        ("SYNC with a store", vec![[1 << 12 | 0x46, HOST_FLAG]]),
        ("CFGI_ALL, SYNC", vec![[4, 31], [0x46, 0]]),
        ("CFGI_STE_RANGE", vec![[4, 15], [4, 30]]),
    ];
    for (name, commands) in work {
        let mut m = Machine::new(&Setup::guarded());
        let mut host = Host::enable(&mut m, 0, Shape::TwoLevel);
        for _ in 0..(1 << LOG2_QUEUE) / commands.len() {
            for cmd in &commands {
                host.queue(&m, *cmd);
            }
        }
        let traps = trap_by_trap(&mut m, host.prod, name);
        assert_eq!(m.read32(0, r::CMDQ_CONS) & 0xf_ffff, host.prod, "{name}: after {traps} traps");
        assert_eq!(m.models[0].borrow_mut().take_hazards(), [], "{name}");
    }
}
