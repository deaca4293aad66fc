//! Entries that a revocation invalidates, and the state after one that fails with an SMMU.

use mem_protect::Error;
use model_tests::host::{BYPASS, Host, Shape};
use model_tests::layout::{HOST_DATA, SECRET, SID, SIDS, TABLES};
use model_tests::{Defect, Machine, Setup, Verdict, detects_defects};
use smmu_drv::SmmuError;
use smmu_model::{Bbml, Config, Injection, Pace, Snoop, Transfer, Via};

#[test]
fn t46_one_page_of_a_cached_block() {
    let mut m = Machine::new(&Setup::guarded());
    let block = m.models[0].borrow().can_reach(SID, HOST_DATA).map(|r| r.size);
    assert_eq!(block, Some(0x20_0000), "the test needs a block");
    let mut host = Host::enable(&mut m, 0, Shape::Linear);
    host.install(&mut m, SID, BYPASS);
    for page in 0..3 {
        assert_eq!(m.dma_write(0, SID, HOST_DATA + page * 4096, 1), Transfer::Done);
    }
    assert_eq!(m.donate(HOST_DATA + 4096, 1), Ok(()));
    assert!(matches!(m.dma_write(0, SID, HOST_DATA + 4096, 2), Transfer::Aborted(_)));
    assert_eq!(m.dma_write(0, SID, HOST_DATA, 2), Transfer::Done);
    assert_eq!(m.isolated(&SIDS), Ok(()));
    // The pages are returned. The block is coalesced while its pages are cached; then one of its pages is donated
    // again.
    assert_eq!(m.return_pages(HOST_DATA + 4096, 1), Ok(()));
    assert_eq!(m.models[0].borrow().can_reach(SID, HOST_DATA + 4096).map(|r| r.via), Some(Via::Stage2));
    assert_eq!(m.dma_write(0, SID, HOST_DATA + 4096, 3), Transfer::Done);
    assert_eq!(m.donate(HOST_DATA + 2 * 4096, 1), Ok(()));
    assert!(matches!(m.dma_write(0, SID, HOST_DATA + 2 * 4096, 2), Transfer::Aborted(_)));
    assert_eq!(m.isolated(&SIDS), Ok(()));
    m.models[0].borrow_mut().check_break_before_make(SID);
    assert_eq!(m.models[0].borrow_mut().take_hazards(), []);
}

#[test]
fn t46_a_range_needs_all_its_pages_invalidated() {
    for (defect, landed) in [(Defect::OnePage, true), (Defect::None, false)] {
        let mut m = Machine::new(&Setup::guarded().with(Config { bbml: Bbml::Level0, ..Config::qemu() }));
        m.set_defect(defect);
        assert_eq!(m.dma_write(0, SID, HOST_DATA + 5 * 4096, 1), Transfer::Done);
        assert_eq!(m.donate(HOST_DATA, 40), Ok(()));
        assert_eq!(Verdict::from(m.dma_write(0, SID, HOST_DATA + 5 * 4096, 2)) == Verdict::Landed, landed);
        assert_eq!(m.isolated(&SIDS).is_err(), landed);
    }
}

#[test]
fn t47_an_smmu_that_stops_responding() {
    type Fail = fn(&mut Machine);
    let kinds: [(&str, Fail); 2] = [
        ("SYNC never completes", |m| m.models[0].borrow_mut().inject(Injection::SyncNever)),
        ("service failure", |m| m.models[0].borrow_mut().fail()),
    ];
    for (name, fail) in kinds {
        let mut m = Machine::new(&Setup::guarded());
        let mut host = Host::enable(&mut m, 0, Shape::Linear);
        host.install(&mut m, SID, BYPASS);
        assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Done);
        fail(&mut m);
        assert_eq!(m.donate(HOST_DATA, 1), Err(Error::NotCompleted), "{name}");
        assert_eq!(m.donate(HOST_DATA + 4096, 1), Err(Error::NotCompleted), "{name}: later revocations are refused");
        assert_eq!(m.isolated(&SIDS), Ok(()), "{name}: the page is still the host's");
        assert!(m.driver(0, |smmu, _| smmu.failed()).is_some(), "{name}");
        // The host's accesses are still emulated.
        host.cmd(&mut m, [0x46, 0]);
        let _ = m.read32(0, smmu_model::arch::regs::GERROR);
    }
}

#[test]
fn t47_a_command_error_on_el2s_queue() {
    for (code, name) in [(1, "CERROR_ILL"), (2, "CERROR_ABT")] {
        let mut m = Machine::new(&Setup::guarded());
        assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Done);
        m.models[0].borrow_mut().inject(Injection::CommandError(code));
        assert_eq!(m.donate(HOST_DATA, 1), Ok(()), "{name}");
        assert!(matches!(m.dma_write(0, SID, HOST_DATA, 2), Transfer::Aborted(_)), "{name}");
        assert_eq!(m.isolated(&SIDS), Ok(()), "{name}");
        assert_eq!(m.driver(0, |smmu, _| smmu.stats().cmdq_recoveries), 1, "{name}");
        // An SMMU whose queue fails repeatedly is marked as failed.
        for _ in 0..64 {
            m.models[0].borrow_mut().inject(Injection::CommandError(code));
        }
        assert_eq!(m.donate(HOST_DATA + 0x1000, 1), Err(Error::NotCompleted), "{name}");
        assert_eq!(m.driver(0, |smmu, _| smmu.failed()), Some(SmmuError::CommandRejected), "{name}");
        assert_eq!(m.isolated(&SIDS), Ok(()), "{name}");
    }
}

/// The table that replaced the block of [`HOST_DATA`]: the one that a descriptor for this address points to.
fn table_of_host_data(m: &Machine) -> u64 {
    let index = ((HOST_DATA >> 21) & 511) * 8;
    let words = (TABLES..TABLES + 0x8_0000).step_by(4096).map(|page| m.mem.cpu_read64(page + index));
    let mut tables = words.filter(|word| word & 3 == 3).map(|word| word & 0xffff_ffff_f000);
    let Some(table) = tables.find(|table| (TABLES..TABLES + 0x8_0000).contains(table)) else { panic!("no table") };
    table
}

#[test]
fn t46_a_replaced_table_is_invalidated() {
    let mut m = Machine::new(&Setup::guarded());
    let mut host = Host::enable(&mut m, 0, Shape::Linear);
    host.install(&mut m, SID, BYPASS);
    assert_eq!(m.donate(HOST_DATA, 1), Ok(()));
    let table = table_of_host_data(&m);
    assert_eq!(m.dma_write(0, SID, HOST_DATA + 0x5000, 1), Transfer::Done);
    // Freed memory may get any content. Hardware with a cached descriptor of the table would reach the secret through
    // it.
    let write_leaf =
        |m: &mut Machine| m.mem.cpu_write64(table + 5 * 8, SECRET | 1 << 10 | 3 << 6 | 3 << 8 | 0xf << 2 | 3);
    write_leaf(&mut m);
    assert!(m.models[0].borrow().can_reach(SID, SECRET).is_some(), "the test needs the table in use");
    m.mem.cpu_write64(table + 5 * 8, (HOST_DATA + 0x5000) | 1 << 10 | 3 << 6 | 3 << 8 | 0xf << 2 | 3);
    m.models[0].borrow_mut().drop_caches();
    // The page is returned, the block is coalesced, the table is freed.
    assert_eq!(m.return_pages(HOST_DATA, 1), Ok(()));
    assert_eq!(
        m.models[0].borrow().can_reach(SID, HOST_DATA).map(|r| r.size),
        Some(0x20_0000),
        "the test needs a block"
    );
    write_leaf(&mut m);
    assert!(m.models[0].borrow().can_reach(SID, SECRET).is_none());
    assert_eq!(m.isolated(&SIDS), Ok(()));
}

/// Repeatedly revokes a page of a block that two SMMUs have cached: one SMMU fails one command later each time,
/// until the revocation is complete. Returns the number of commands after which it is.
fn one_of_two_smmus_fails(setup: &Setup, failing: usize, failure: fn(u32) -> Injection) -> u32 {
    for commands in 0..64 {
        let mut m = Machine::new(setup);
        for n in 0..2 {
            let mut host = Host::enable(&mut m, n, Shape::Linear);
            host.install(&mut m, SID, BYPASS);
            assert_eq!(m.dma_write(n, SID, HOST_DATA, 1), Transfer::Done);
        }
        m.models[failing].borrow_mut().inject(failure(commands));
        let result = m.donate(HOST_DATA, 1);
        let what = format!("{setup:?}: SMMU {failing} fails after {commands} commands: {result:?}");
        assert_eq!(m.isolated(&SIDS), Ok(()), "{what}");
        let reachable = [0, 1].map(|n| m.dma_write(n, SID, HOST_DATA, 2) == Transfer::Done);
        if result == Ok(()) {
            assert_eq!(reachable, [false; 2], "{what}");
            return commands;
        }
        assert_eq!(result, Err(Error::NotCompleted), "{what}");
        assert_eq!(m.owner().map().owner(HOST_DATA / 4096), mem_protect::Owner::Host, "{what}");
        let failed = [0, 1].map(|n| m.driver(n, |smmu, _| smmu.failed()).is_some());
        assert_eq!(failed, [failing == 0, failing == 1], "{what}");
        // No page can be revoked while one SMMU does not respond; the other one continues.
        assert_eq!(m.donate(HOST_DATA + 4096, 1), Err(Error::NotCompleted), "{what}");
        assert_eq!(m.dma_write(1 - failing, SID, HOST_DATA + 8192, 3), Transfer::Done, "{what}");
        assert_eq!(m.isolated(&SIDS), Ok(()), "{what}");
    }
    panic!("the revocation is never complete");
}

#[test]
fn t34_t47_one_of_two_smmus_fails_at_each_step_of_a_revocation() {
    detects_defects(&["first-smmu-only"], || {
        let configs = [
            Config::qemu(),
            Config { pace: Pace::Lazy, seed: 3, ..Config::full() },
            Config { bbml: Bbml::Level0, ril: false, ..Config::qemu() },
            Config { snoop: Snoop::NonCoherent, pace: Pace::Lazy, seed: 5, ..Config::qemu() },
        ];
        for config in configs {
            let setup = Setup { smmus: 2, ..Setup::guarded().with(config) };
            for failing in 0..2 {
                for failure in [Injection::FailAfter as fn(u32) -> Injection, Injection::StopAfter] {
                    let commands = one_of_two_smmus_fails(&setup, failing, failure);
                    assert!(commands > 1, "only {commands} commands");
                }
            }
        }
    });
}
