//! Registers: every offset and size, all kinds of values, enables in any order.

use mem_protect::Error;
use model_tests::host::{ABORT, BYPASS, Host, ON, QUEUES, Shape};
use model_tests::layout::{EL2, HOST_CMDQ, HOST_DATA, HOST_EVTQ, IOVA, RAM, RAM_BYTES, SECRET, SID, SIDS};
use model_tests::{Machine, Rng, Setup, Verdict, assert_landed, twice, twice_with};
use smmu_drv::AccessSize;
use smmu_model::arch::{event as e, regs as r};
use smmu_model::{Config, Transfer};

/// Every feature, but few streams: a change of SMMUEN walks over all of them.
fn full() -> Config {
    Config { sid_bits: 10, ..Config::full() }
}

/// One of the host's streams faults, so that an event is recorded.
fn fault(m: &mut Machine) {
    let _ = m.dma_write(0, 9, HOST_DATA, 1);
}

#[test]
fn t11_msi_configuration_of_hardware() {
    let config = Config { msi: true, ..Config::qemu() };
    for cfg in [r::EVENTQ_IRQ_CFG0, r::GERROR_IRQ_CFG0] {
        twice_with(config.clone(), |m| {
            let mut host = Host::enable(m, 0, Shape::Linear);
            m.write32(0, r::IRQ_CTRL, 0);
            m.settle();
            m.write64(0, cfg, SECRET);
            m.write32(0, cfg + 8, 0xbad);
            m.write32(0, r::IRQ_CTRL, r::IRQ_GERROR | r::IRQ_EVENTQ);
            m.settle();
            fault(m);
            let _ = host.events(m);
            host.cmd(m, [0xff, 0]);
            if m.secret_intact() { Verdict::Blocked } else { Verdict::Landed }
        });
    }
}

#[test]
fn t12_event_queue_in_foreign_memory() {
    // Bases are aligned to the queue's size, so a queue is either all in EL2's memory or all outside.
    for (base, log2) in [(SECRET & !0xfff, 7), (SECRET & !0x1f, 0), (EL2, 19)] {
        twice(|m| {
            let mut host = Host::prepare(m, 0, Shape::Linear);
            host.cr0(m, r::CR0_CMDQEN);
            m.write64(0, r::EVENTQ_BASE, base | log2);
            m.write32(0, r::EVENTQ_PROD, 0);
            m.write32(0, r::EVENTQ_CONS, 0);
            m.write32(0, r::CR0, ON);
            m.settle();
            let foreign =
                |m: &Machine| (EL2..EL2 + 0x4000).step_by(8).map(|pa| m.mem.cpu_read64(pa)).collect::<Vec<_>>();
            let before = foreign(m);
            for _ in 0..300 {
                fault(m);
                let _ = m.read32(0, r::EVENTQ_PROD);
                m.write32(0, r::EVENTQ_CONS, 0);
            }
            if foreign(m) == before { Verdict::Blocked } else { Verdict::Landed }
        });
    }
}

#[test]
fn t12_queue_bases_outside_host_memory() {
    let bases = [
        0,
        EL2,
        SECRET,
        EL2 - 16,
        RAM - 0x1000,
        RAM + RAM_BYTES,
        0x000f_ffff_ffff_ffe0,
        0x00ff_ffff_ffff_ffe0,
        u64::MAX,
        HOST_CMDQ + 0x20,
        HOST_EVTQ + 0x7e0,
    ];
    for base in bases {
        for log2 in [0, 1, 7, 8, 9, 19, 20, 31] {
            let mut m = Machine::new(&Setup::guarded());
            Host::prepare(&mut m, 0, Shape::Linear);
            m.write32(0, r::CR0, 0);
            m.write64(0, r::CMDQ_BASE, base & !0x1f | log2);
            m.write64(0, r::EVENTQ_BASE, base & !0x1f | log2);
            m.write64(0, r::PRIQ_BASE, base & !0x1f | log2);
            m.write64(0, r::STRTAB_BASE, base);
            m.write32(0, r::STRTAB_BASE_CFG, u32::try_from(log2).unwrap_or(0));
            m.write32(0, r::CR0, u32::MAX);
            m.write32(0, r::CMDQ_PROD, 3);
            fault(&mut m);
            let _ = m.read32(0, r::EVENTQ_PROD);
            assert_eq!(m.isolated(&SIDS), Ok(()), "{base:#x} {log2}");
            assert!(m.secret_intact());
            // A disabled queue has no claims, and works with a new configuration.
            m.write32(0, r::CR0, 0);
            assert_eq!(m.claims(), 0, "{base:#x} {log2}");
            let mut host = Host::enable(&mut m, 0, Shape::Linear);
            host.install(&mut m, SID, BYPASS);
            assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Done);
        }
    }
}

#[test]
fn t12_commands_from_foreign_memory() {
    let mut m = Machine::new(&Setup::guarded());
    let mut host = Host::prepare(&mut m, 0, Shape::Linear);
    host.cr0(&mut m, 0);
    m.write64(0, r::CMDQ_BASE, EL2 | 4);
    m.write32(0, r::CMDQ_PROD, 1);
    m.write32(0, r::CMDQ_CONS, 0);
    m.write32(0, r::CR0, r::CR0_CMDQEN);
    assert_eq!(host.cerror(&mut m), Some(r::CERROR_ABT));
    assert_eq!(m.read32(0, r::CMDQ_CONS) & 0xf_ffff, 0);
}

#[test]
fn t13_the_event_queues_page_is_donated() {
    let attack = |m: &mut Machine| {
        let mut host = Host::enable(m, 0, Shape::Linear);
        let page = host.evtq();
        let answer = m.donate(page, 1);
        let before: Vec<u64> = (page..page + 4096).step_by(8).map(|pa| m.mem.cpu_read64(pa)).collect();
        fault(m);
        let _ = m.read32(0, r::EVENTQ_PROD);
        let after: Vec<u64> = (page..page + 4096).step_by(8).map(|pa| m.mem.cpu_read64(pa)).collect();
        let written = before != after;
        host.cr0(m, r::CR0_CMDQEN);
        (answer, written)
    };
    let mut bare = Machine::new(&Setup::bare());
    let landed = attack(&mut bare) == (Ok(()), true);
    assert_landed(if landed { Verdict::Landed } else { Verdict::Blocked });
    let mut m = Machine::new(&Setup::guarded());
    let (answer, written) = attack(&mut m);
    assert_eq!((answer, written), (Err(Error::Claimed), true), "the donation is refused");
    // With the queue off the page can be donated, and is not written any more.
    let page = HOST_EVTQ;
    assert_eq!(m.donate(page, 1), Ok(()));
    let content: Vec<u64> = (page..page + 4096).step_by(8).map(|pa| m.mem.cpu_read64(pa)).collect();
    m.write32(0, r::CR0, ON);
    for _ in 0..4 {
        fault(&mut m);
        let _ = m.read32(0, r::EVENTQ_PROD);
    }
    let after: Vec<u64> = (page..page + 4096).step_by(8).map(|pa| m.mem.cpu_read64(pa)).collect();
    assert_eq!(content, after);
    assert_ne!((m.read32(0, r::GERROR) ^ m.read32(0, r::GERRORN)) & r::GERROR_EVENTQ_ABT, 0);
}

#[test]
fn t24_inconsistent_queue_indices() {
    let mut m = Machine::new(&Setup::guarded());
    let mut host = Host::enable(&mut m, 0, Shape::Linear);
    let page = host.cmdq();
    // No error other than that of the indices stops the queue.
    for _ in 0..128 {
        host.queue(&m, [0x46, 0]);
    }
    let loads = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let log = loads.clone();
    *m.load_hook().borrow_mut() = Some(Box::new(move |pa| log.borrow_mut().push(pa)));
    for prod in [0, 1, 127, 128, 129, 255, 256, 0x1ff, 0xffff, 0xf_ffff, u32::MAX, 0x8000_0000, 64, 3] {
        m.write32(0, r::CMDQ_PROD, prod);
        m.write32(0, r::CMDQ_CONS, prod.rotate_left(3));
        if host.cerror(&mut m).is_some() {
            let gerror = m.read32(0, r::GERROR);
            m.write32(0, r::GERRORN, gerror);
        }
    }
    *m.load_hook().borrow_mut() = None;
    let outside: Vec<u64> = loads
        .borrow()
        .iter()
        .copied()
        .filter(|pa| !(page..page + 2048).contains(pa) && !(host.strtab()..host.strtab() + 4096).contains(pa))
        .collect();
    assert_eq!(outside, [0u64; 0], "no fetch outside the queue");
    assert_eq!(m.isolated(&SIDS), Ok(()));
    // With a new configuration the queue works.
    let mut host = Host::enable(&mut m, 0, Shape::Linear);
    host.install(&mut m, SID, BYPASS);
    assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Done);
    assert_eq!(m.models[0].borrow_mut().take_hazards(), []);
}

#[test]
fn t26_the_hosts_queue_is_off_while_a_page_is_donated() {
    twice(|m| {
        let mut host = Host::with_stage1(m, IOVA, HOST_DATA);
        assert_eq!(m.dma_write(0, SID, IOVA, 1), Transfer::Done);
        host.cr0(m, r::CR0_SMMUEN);
        assert_eq!(m.donate(HOST_DATA, 1), Ok(()));
        m.dma_write(0, SID, IOVA, 2).into()
    });
}

#[test]
fn t27_enables_in_any_order() {
    let mut rng = Rng::new(5);
    let mut m = Machine::new(&Setup::guarded().with(full()));
    let mut host = Host::prepare(&mut m, 0, Shape::TwoLevel);
    host.write_ste(&m, SID, BYPASS);
    let bits = [r::CR0_SMMUEN, r::CR0_PRIQEN, r::CR0_EVENTQEN, r::CR0_CMDQEN, 1 << 4, 1 << 6];
    let mut value = QUEUES;
    for step in 0..200 {
        value ^= bits[usize::try_from(rng.next64()).unwrap_or(0) % bits.len()];
        m.write32(0, r::CR0, value);
        match rng.next64() % 5 {
            0 => fault(&mut m),
            1 => m.write32(0, r::CMDQ_PROD, u32::try_from(rng.next64() % 64).unwrap_or(0)),
            2 => m.write32(0, r::GBPA, r::GBPA_UPDATE | if rng.next64().is_multiple_of(2) { r::GBPA_ABORT } else { 0 }),
            3 => {
                let gerror = m.read32(0, r::GERROR);
                m.write32(0, r::GERRORN, gerror);
            }
            _ => {
                let _ = m.read32(0, r::EVENTQ_PROD);
            }
        }
        if step % 8 == 0 {
            assert_eq!(m.isolated(&SIDS), Ok(()), "step {step}");
            m.models[0].borrow_mut().drop_caches();
        }
    }
    m.write32(0, r::CR0, 0);
    assert_eq!(m.claims(), 0, "claims leak");
    assert_eq!(m.donate(HOST_CMDQ, 1), Ok(()));
    assert_eq!(m.donate(HOST_EVTQ, 1), Ok(()));
    assert_eq!(m.isolated(&SIDS), Ok(()));
    assert_eq!(m.models[0].borrow_mut().take_hazards(), []);
}

#[test]
fn t28_control_registers_are_filtered() {
    let mut m = Machine::new(&Setup::guarded().with(full()));
    Host::enable(&mut m, 0, Shape::Linear);
    let hardware = |m: &Machine, at| m.models[0].borrow_mut().read32(at);
    let (cr0, cr1, cr2) = (hardware(&m, r::CR0), hardware(&m, r::CR1), hardware(&m, r::CR2));
    assert_eq!(cr0 & r::CR0_ATSCHK, r::CR0_ATSCHK, "hardware has ATS: Translated traffic is checked");
    let mut rng = Rng::new(28);
    for value in
        [u32::MAX, 0, 1 << 4, 0x7 << 6, 1 << 10, 1 << 9, 1 << 31].into_iter().chain((0..40).map(|_| rng.next32()))
    {
        m.write32(0, r::CR0, value);
        m.write32(0, r::CR1, value);
        m.write32(0, r::CR2, value);
        assert_eq!(hardware(&m, r::CR0), cr0, "{value:#x}");
        assert_eq!(hardware(&m, r::CR1), cr1, "{value:#x}");
        assert_eq!(hardware(&m, r::CR2), cr2, "{value:#x}");
        assert_eq!(m.read32(0, r::CR0) & !(ON), 0, "{value:#x}: reserved and hidden bits read zero");
        assert_eq!(m.read32(0, r::CR2) & !(r::CR2_RECINVSID | r::CR2_PTM), 0);
        m.models[0].borrow_mut().drop_caches();
    }
    let mut host = Host::enable(&mut m, 0, Shape::Linear);
    host.install(&mut m, SID, ABORT);
    assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Aborted(None));
    // Without EL2 the host can clear ATSCHK, and Translated transactions are not checked.
    let mut bare = Machine::new(&Setup::bare().with(Config::full()));
    Host::enable(&mut bare, 0, Shape::Linear);
    assert_eq!(bare.models[0].borrow_mut().dma_write_translated(SID, SECRET, &[1]), Transfer::Done);
}

#[test]
fn t29_every_offset_and_size() {
    let sizes = [AccessSize::Byte, AccessSize::Half, AccessSize::Word, AccessSize::Double];
    for config in [Config { sid_bits: 10, ..Config::qemu() }, full()] {
        let mut m = Machine::new(&Setup::guarded().with(config));
        Host::enable(&mut m, 0, Shape::Linear);
        let mut rng = Rng::new(29);
        let interesting = (0..0x400).chain(0xfd0..0x1000).chain(0x1_0000..0x1_0200);
        let sampled = (0x1000..0x2_0000).step_by(61);
        for offset in interesting.chain(sampled) {
            for size in sizes {
                let _ = m.read(0, offset, size);
                for value in [0, u64::MAX, rng.next64()] {
                    m.write(0, offset, size, value);
                }
            }
            if offset % 256 == 0 {
                assert_eq!(m.isolated(&[0, SID]), Ok(()), "{offset:#x}");
                m.models[0].borrow_mut().drop_caches();
            }
        }
        assert!(m.secret_intact());
        assert_eq!(m.models[0].borrow_mut().take_hazards(), []);
        m.write32(0, r::CR0, 0);
        assert_eq!(m.claims(), 0);
        let mut host = Host::enable(&mut m, 0, Shape::Linear);
        host.install(&mut m, SID, BYPASS);
        assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Done);
    }
}

#[test]
fn t29_both_halves_of_wide_registers() {
    let mut m = Machine::new(&Setup::guarded());
    m.write64(0, r::STRTAB_BASE, 0x4000_0040_1234_5640);
    assert_eq!(m.read32(0, r::STRTAB_BASE), 0x1234_5640);
    assert_eq!(m.read32(0, r::STRTAB_BASE + 4), 0x4000_0040);
    m.write32(0, r::STRTAB_BASE + 4, 7);
    assert_eq!(m.read(0, r::STRTAB_BASE, AccessSize::Double), 0x7_1234_5640);
    for size in [AccessSize::Byte, AccessSize::Half] {
        m.write(0, r::STRTAB_BASE, size, 0xff);
        assert_eq!(m.read(0, r::STRTAB_BASE, size), 0);
    }
    assert_eq!(m.read(0, r::STRTAB_BASE, AccessSize::Double), 0x7_1234_5640);
}

#[test]
fn t33_hidden_pages_are_absent() {
    let mut m = Machine::new(&Setup::guarded().with(full()));
    Host::enable(&mut m, 0, Shape::Linear);
    let hidden = [
        0x100, 0x108, 0x110, 0x118, 0x130, 0x180, 0x200, 0x208, 0x210, 0xc0, 0xd0, 0xd8, 0xdc, 0xe00, 0x4000, 0x8000,
        0x8020, 0x803c, 0x8080, 0x1_00c8, 0x1_00cc, 0x1_0a00,
    ];
    for offset in hidden {
        for size in [AccessSize::Word, AccessSize::Double] {
            m.write(0, offset, size, u64::MAX);
            assert_eq!(m.read(0, offset, size), 0, "{offset:#x}");
        }
    }
    assert_eq!(m.isolated(&SIDS), Ok(()));
    assert_eq!(m.models[0].borrow_mut().take_hazards(), []);
}

#[test]
fn t43_an_event_flood() {
    let mut m = Machine::new(&Setup::guarded());
    let mut host = Host::with_stage1(&mut m, IOVA, SECRET);
    for burst in 0..40 {
        for _ in 0..150 {
            assert!(matches!(m.dma_write(0, SID, IOVA, 1), Transfer::Aborted(_)));
        }
        let before = m.models[0].borrow().commands();
        m.driver(0, |smmu, owner| smmu.poll_events(owner));
        assert!(m.models[0].borrow().commands() - before < 16);
        let faults = m.driver(0, |smmu, _| smmu.stats().faults);
        assert!(faults <= (burst + 1) * 150 && faults >= (burst + 1) * 100, "{faults}");
    }
    let stats = m.driver(0, |smmu, _| smmu.stats());
    assert!(stats.event_overflows >= 39, "{stats:?}");
    let first =
        m.driver(0, |smmu, _| smmu.take_fault().map(|fault| (fault.record.sid, fault.record.kind.map(|k| k.name()))));
    assert_eq!(first, Some((SID, Some("F_TRANSLATION"))), "the first are kept");
    let kept = 1 + m.driver(0, |smmu, _| std::iter::from_fn(|| smmu.take_fault()).count());
    assert_eq!(kept, smmu_drv::fault::FAULT_LOG);
    assert_eq!(host.events(&mut m).len(), 0, "stage 2 faults are EL2's");
    // The host's own queue overflows exactly as hardware's.
    host.install(&mut m, SID, [0, 0]);
    for _ in 0..130 {
        let _ = m.dma_write(0, SID, IOVA, 1);
        let _ = m.read32(0, r::EVENTQ_PROD);
    }
    let prod = m.read32(0, r::EVENTQ_PROD);
    assert_eq!(prod & 0xff, 128, "the queue is full");
    let cons = m.read32(0, r::EVENTQ_CONS);
    assert_ne!((prod ^ cons) & r::QUEUE_OVERFLOW, 0, "and its overflow flag is set");
    let events = host.events(&mut m);
    assert_eq!(events.len(), 128);
    assert!(events.iter().all(|event| event[0] & 0xff == u64::from(e::C_BAD_STE)));
    let _ = m.dma_write(0, SID, IOVA, 1);
    assert_eq!(host.events(&mut m).len(), 1);
    assert_eq!(m.isolated(&SIDS), Ok(()));
}
