//! Take-over after firmware, after a reset, and of an SMMU that does not snoop.

use std::cell::RefCell;
use std::rc::Rc;

use model_tests::host::{BYPASS, Host, STAGE1, Shape};
use model_tests::layout::{HOST_DATA, HOST_STRTAB, IOVA, SECRET, SID, SIDS};
use model_tests::{Machine, Setup, StoreHook, Verdict, assert_landed};
use smmu_drv::AccessSize;
use smmu_model::arch::regs as r;
use smmu_model::{Config, Model, Pace, Snoop, Transfer, Via};

/// State of firmware that left a bypass entry and enabled queues.
fn firmware(model: &mut Model) {
    let mem = model.mem().clone();
    mem.cpu_write64(HOST_STRTAB + u64::from(SID) * 64, BYPASS[0]);
    mem.clean(HOST_STRTAB..HOST_STRTAB + 4096);
    model.write64(r::STRTAB_BASE, HOST_STRTAB);
    model.write32(r::STRTAB_BASE_CFG, 6);
    model.write64(r::EVENTQ_BASE, HOST_DATA | 7);
    model.write64(r::CMDQ_BASE, (HOST_DATA + 0x1_0000) | 7);
    if model.config().msi {
        model.write64(r::EVENTQ_IRQ_CFG0, SECRET);
        model.write32(r::EVENTQ_IRQ_CFG1, 0xbad);
    }
    model.write32(r::IRQ_CTRL, r::IRQ_EVENTQ | r::IRQ_GERROR);
    model.write32(r::CR0, r::CR0_SMMUEN | r::CR0_CMDQEN | r::CR0_EVENTQEN);
    model.run_to_idle();
    assert_eq!(model.dma_write(SID, None, SECRET + 64, &[1]), Transfer::Done);
    model.take_hazards();
}

#[test]
fn t08_firmware_left_the_smmu_enabled() {
    for config in [Config::qemu(), Config::full(), Config { pace: Pace::Lazy, seed: 11, ..Config::full() }] {
        // At each store of EL2, records whether a device can reach the secret.
        let open: Rc<RefCell<Vec<bool>>> = Rc::default();
        let log = open.clone();
        let look = move |model: &Model| {
            let reach = model.can_reach(SID, SECRET).map(|reach| reach.via);
            assert_ne!(reach, Some(Via::Disabled), "it bypasses while it is disabled");
            log.borrow_mut().push(reach.is_some());
        };
        let store_hook: StoreHook = Rc::new(RefCell::new(Some(Box::new(look))));
        let m = Machine::with_store_hook(&Setup::guarded().with(config), firmware, store_hook);
        let open = open.borrow();
        let blocked = open.iter().position(|open| !open).unwrap_or(open.len());
        assert!(open.first() == Some(&true), "the test needs firmware's bypass entry");
        assert!(blocked < open.len(), "it is blocked after take-over");
        assert!(open.iter().skip(blocked).all(|open| !open), "it stays blocked");
        assert_eq!(m.isolated(&SIDS), Ok(()));
        assert_eq!(m.models[0].borrow_mut().take_hazards(), []);
    }
}

#[test]
fn t08_disabling_the_smmu_before_gbpa_abort_allows_dma() {
    let m = Machine::after_firmware(&Setup::bare(), firmware);
    let mut model = m.models[0].borrow_mut();
    model.write32(r::CR0, 0);
    model.run_to_idle();
    assert_eq!(model.can_reach(SID, SECRET).map(|r| r.via), Some(Via::Disabled));
}

#[test]
fn t09_reset_while_running() {
    for config in [Config::qemu(), Config { pace: Pace::Lazy, seed: 5, ..Config::full() }] {
        let mut m = Machine::new(&Setup::guarded().with(config));
        let mut host = Host::with_stage1(&mut m, IOVA, HOST_DATA);
        m.models[0].borrow_mut().lose_power();
        assert!(m.isolated(&SIDS).is_err(), "after reset every transaction bypasses");
        // The next trap programs it again.
        let prod = host.prod;
        m.write32(0, r::CMDQ_PROD, prod);
        assert_eq!(m.isolated(&SIDS), Ok(()));
        assert_eq!(m.dma_write(0, SID, IOVA, 1), Transfer::Done, "the host's own DMA still works");
        host.install(&mut m, SID, STAGE1);
        // So does the next revocation.
        m.models[0].borrow_mut().lose_power();
        assert_eq!(m.donate(HOST_DATA, 1), Ok(()));
        assert_eq!(m.isolated(&SIDS), Ok(()));
        assert!(matches!(m.dma_write(0, SID, IOVA, 2), Transfer::Aborted(_)));
        assert_eq!(m.driver(0, |smmu, _| smmu.stats().reprograms), 2);
    }
}

#[test]
fn t09_every_access_detects_an_smmu_that_lost_its_state() {
    let sizes = [AccessSize::Byte, AccessSize::Half, AccessSize::Word, AccessSize::Double];
    // Linux reads CR0 first when it resumes. The others are examples of each kind of offset in both pages.
    let listed =
        [r::CR0, r::CR0ACK, r::GBPA, r::GERROR, r::CMDQ_CONS, r::IDR0, r::IIDR, r::STRTAB_BASE, r::EVENTQ_PROD];
    for offset in listed.into_iter().chain([r::EVENTQ_CONS, 0x100, 0xffc, 0x1_fffc]) {
        for size in sizes {
            for load in [true, false] {
                let mut m = Machine::new(&Setup::guarded());
                Host::with_stage1(&mut m, IOVA, HOST_DATA);
                assert_eq!(m.donate(HOST_DATA + 0x1000, 1), Ok(()));
                m.models[0].borrow_mut().lose_power();
                assert!(m.isolated(&SIDS).is_err(), "after reset every transaction bypasses");
                if load {
                    let _ = m.read(0, offset, size);
                } else if matches!(offset, r::CR0ACK | r::IDR0 | r::IIDR | r::GERROR | 0x100..) {
                    // Offsets that the host may write are tested above.
                    m.write(0, offset, size, u64::MAX);
                } else {
                    continue;
                }
                assert_eq!(m.isolated(&SIDS), Ok(()), "{offset:#x} {size:?}, load: {load}");
                assert!(matches!(m.dma_write(0, SID, HOST_DATA + 0x1000, 1), Transfer::Aborted(_)), "{offset:#x}");
                assert_eq!(m.driver(0, |smmu, _| smmu.stats().reprograms), 1);
            }
        }
    }
}

/// On a CPU that resumes, EL2's check runs before any instruction of the host.
#[test]
fn t09_a_cpu_that_resumes_checks_the_smmu_before_the_host_runs() {
    let mut m = Machine::new(&Setup::guarded());
    Host::with_stage1(&mut m, IOVA, HOST_DATA);
    assert_eq!(m.driver(0, |smmu, _| smmu.check_alive()), Ok(()));
    assert_eq!(m.driver(0, |smmu, _| smmu.stats().reprograms), 0);
    assert_eq!(m.donate(HOST_DATA + 0x1000, 1), Ok(()));
    m.models[0].borrow_mut().lose_power();
    assert!(m.isolated(&SIDS).is_err(), "after reset every transaction bypasses");
    assert_eq!(m.driver(0, |smmu, _| smmu.check_alive()), Ok(()));
    assert_eq!(m.isolated(&SIDS), Ok(()));
    assert!(matches!(m.dma_write(0, SID, HOST_DATA + 0x1000, 1), Transfer::Aborted(_)));
    assert_eq!(m.driver(0, |smmu, _| smmu.stats().reprograms), 1);
}

#[test]
fn t44_a_walker_that_does_not_snoop() {
    let config = Config { snoop: Snoop::NonCoherent, ..Config::qemu() };
    let run = |skip: bool| {
        let mut m = Machine::new(&Setup::guarded().with(config.clone()));
        let mut host = Host::with_stage1(&mut m, IOVA, HOST_DATA);
        assert_eq!(m.dma_write(0, SID, IOVA, 1), Transfer::Done);
        m.skip_cleans.set(skip);
        host.install(&mut m, SID, model_tests::host::ABORT);
        m.dma_write(0, SID, IOVA, 2)
    };
    let stale = std::panic::catch_unwind(|| run(true));
    // Without cache cleans the walker reads old tables.
    assert_landed(stale.map_or(Verdict::Landed, |end| {
        if end == Transfer::Aborted(None) { Verdict::Blocked } else { Verdict::Landed }
    }));
    assert_eq!(run(false), Transfer::Aborted(None));

    let mut m = Machine::new(&Setup::guarded().with(config));
    let mut host = Host::enable(&mut m, 0, Shape::Linear);
    host.install(&mut m, SID, BYPASS);
    assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Done);
    assert_eq!(m.donate(HOST_DATA, 1), Ok(()));
    assert!(matches!(m.dma_write(0, SID, HOST_DATA, 2), Transfer::Aborted(_)));
    assert_eq!(m.isolated(&SIDS), Ok(()));
    // EL2 reads event records of an SMMU that does not snoop from memory, not from stale cache lines.
    let events = host.events(&mut m);
    assert_eq!(events.len(), 0, "the host gets no record of a stage 2 fault");
    let faults = m.driver(0, |smmu, _| std::iter::from_fn(|| smmu.take_fault()).count());
    assert_eq!(faults, 1);
}

#[test]
fn t39_everything_aborts_before_power_off() {
    for config in [Config::qemu(), Config { two_level: false, sid_bits: 8, ..Config::full() }] {
        let mut m = Machine::new(&Setup::guarded().with(config));
        let mut host = Host::with_stage1(&mut m, IOVA, HOST_DATA);
        assert_eq!(m.dma_write(0, SID, IOVA, 1), Transfer::Done);
        assert_eq!(m.driver(0, |smmu, _| smmu.quiesce()), Ok(()));
        let quiet = |m: &mut Machine| {
            for sid in SIDS {
                assert!(m.models[0].borrow().reach(sid).is_empty());
                assert!(matches!(m.dma_write(0, sid, HOST_DATA, 2), Transfer::Aborted(_)));
            }
        };
        quiet(&mut m);
        // The host cannot enable it again.
        host.write_ste(&m, SID, BYPASS);
        host.cmd(&mut m, [u64::from(SID) << 32 | 3, 1]);
        host.cmd(&mut m, [4, 31]);
        m.write32(0, r::CR0, 0);
        m.write32(0, r::GBPA, r::GBPA_UPDATE);
        m.write32(0, r::CR0, model_tests::host::ON);
        quiet(&mut m);
        assert_eq!(m.isolated(&SIDS), Ok(()));
    }
}
