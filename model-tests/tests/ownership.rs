//! DMA to pages of other owners, also with a cached entry from before the change of owner.

use mem_protect::{DmaStage2, Error, PageRange, Transition, UncheckedRange};
use model_tests::host::{ABORT, BYPASS, Host, STAGE1, Shape};
use model_tests::layout::{
    BAR, ECAM, EL2, GIC, HOST_DATA, IOVA, ITS, RAM, RAM_BYTES, SECRET, SID, SIDS, SMMU, TABLES, TRANSLATER, UART,
};
use model_tests::{Defect, Machine, Setup, Verdict, assert_landed, detects_defects, twice, twice_with};
use smmu_model::{Bbml, Config, MmioWrite, Pace, Transfer};

fn configs() -> [(&'static str, Config); 4] {
    [
        ("blocks", Config::qemu()),
        ("pages only", Config { bbml: Bbml::Level0, ..Config::qemu() }),
        ("no range invalidation", Config { ril: false, ..Config::qemu() }),
        ("lazy", Config { pace: Pace::Lazy, seed: 3, ..Config::full() }),
    ]
}

#[test]
fn t01_dma_to_el2() {
    for target in [EL2, SECRET, TABLES, EL2 + 0x20_0000, RAM + RAM_BYTES - 8] {
        // Through the host's own stage 1, through a bypass entry, and with SMMUEN = 0.
        twice(|m| {
            Host::with_stage1(m, IOVA, target & !0xfff);
            m.dma_write(0, SID, IOVA + (target & 0xfff), 0xee).into()
        });
        twice(|m| {
            let mut host = Host::enable(m, 0, Shape::Linear);
            host.install(m, SID, BYPASS);
            m.dma_read(0, SID, target).0.into()
        });
        twice(|m| m.dma_write(0, SID, target, 0xee).into());
    }
}

#[test]
fn t01_the_attack_is_recorded() {
    let mut m = Machine::new(&Setup::guarded());
    Host::with_stage1(&mut m, IOVA, SECRET);
    let _ = m.dma_write(0, SID, IOVA, 1);
    let line = m.driver(0, |smmu, host| {
        smmu.poll_events(host);
        smmu.take_fault().map(|fault| fault.to_string())
    });
    let ipa = format!("ipa={SECRET:#x}");
    let line = line.unwrap_or_default();
    assert!(line.starts_with("F_TRANSLATION sid=0x8 stage=2 class=IN") && line.contains(&ipa), "{line}");
}

fn donate_after_use(m: &mut Machine) -> Verdict {
    Host::with_stage1(m, IOVA, HOST_DATA);
    assert_eq!(m.dma_write(0, SID, IOVA, 1), Transfer::Done);
    assert_eq!(m.donate(HOST_DATA, 1), Ok(()));
    m.dma_write(0, SID, IOVA, 2).into()
}

#[test]
fn t02_dma_to_a_donated_page() {
    for (_, config) in configs() {
        twice_with(config, donate_after_use);
    }
    for defect in [Defect::NoUnmap, Defect::NoInvalidate, Defect::WrongPage] {
        let mut m = Machine::new(&Setup::guarded());
        m.set_defect(defect);
        assert_eq!(donate_after_use(&mut m), Verdict::Landed, "{defect:?}");
        assert!(m.isolated(&SIDS).is_err(), "{defect:?}");
    }
}

#[test]
fn t03_dma_to_a_guests_page() {
    let donate = |m: &mut Machine| {
        Host::with_stage1(m, IOVA, HOST_DATA);
        m.mem.cpu_write64(HOST_DATA, 0x1111);
        assert_eq!(m.dma_write(0, SID, IOVA, 1), Transfer::Done);
        let Ok(Some(guest)) = m.owner().apply(Transition::VmCreate) else { panic!("no guest") };
        let page = UncheckedRange { pfn: HOST_DATA / 4096, count: 1 };
        let handle = u64::from(guest.handle());
        assert_eq!(m.owner().apply(Transition::HostDonateGuest(page, handle)), Ok(None));
        handle
    };
    let mut open = Machine::new(&Setup::guarded());
    open.set_defect(Defect::NoInvalidate);
    donate(&mut open);
    assert_eq!(open.dma_write(0, SID, IOVA, 2), Transfer::Done, "the attack does not land");

    let mut m = Machine::new(&Setup::guarded());
    let handle = donate(&mut m);
    assert!(matches!(m.dma_write(0, SID, IOVA, 2), Transfer::Aborted(_)));
    assert_eq!(m.isolated(&SIDS), Ok(()));
    m.mem.cpu_write64(HOST_DATA, 0xdead);
    let page = UncheckedRange { pfn: HOST_DATA / 4096, count: 1 };
    assert_eq!(m.owner().apply(Transition::HostReclaimPage(page)), Err(Error::GuestAlive));
    assert_eq!(m.owner().apply(Transition::VmDestroy(handle)), Ok(None));
    assert_eq!(m.owner().apply(Transition::HostReclaimPage(page)), Ok(None));
    assert_eq!(m.mem.cpu_read64(HOST_DATA), 0, "it is returned zeroed");
    assert_eq!(m.dma_write(0, SID, IOVA, 3), Transfer::Done);
}

#[test]
fn t04_stale_translations() {
    type Path = fn(&mut Machine);
    let both: Path = |m| {
        Host::with_stage1(m, IOVA, HOST_DATA);
    };
    let stage2: Path = |m| {
        let mut host = Host::enable(m, 0, Shape::TwoLevel);
        host.install(m, SID, BYPASS);
        host.map(m, HOST_DATA, HOST_DATA);
    };
    let off: Path = |_| {};
    for (name, config) in configs() {
        for (path, iova) in [(both, IOVA), (stage2, HOST_DATA), (off, HOST_DATA)] {
            let attack = |m: &mut Machine| {
                path(m);
                assert_eq!(m.dma_write(0, SID, iova, 1), Transfer::Done);
                assert_eq!(m.donate(HOST_DATA, 1), Ok(()));
                m.dma_write(0, SID, iova, 2)
            };
            let mut without = Machine::new(&Setup::guarded().with(config.clone()));
            without.set_defect(Defect::NoInvalidate);
            assert_eq!(attack(&mut without), Transfer::Done, "{name}: the test needs a cached entry");
            let mut m = Machine::new(&Setup::guarded().with(config.clone()));
            assert!(matches!(attack(&mut m), Transfer::Aborted(_)), "{name}");
            assert_eq!(m.isolated(&SIDS), Ok(()), "{name}");
        }
    }
}

#[test]
fn t05_donate_while_the_hosts_smmu_is_off() {
    for (_, config) in configs() {
        twice_with(config, |m| {
            let mut host = Host::prepare(m, 0, Shape::Linear);
            host.context(m);
            host.map(m, IOVA, HOST_DATA);
            host.write_ste(m, SID, STAGE1);
            assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Done);
            assert_eq!(m.donate(HOST_DATA, 1), Ok(()));
            host.cr0(m, model_tests::host::ON);
            let direct = m.dma_write(0, SID, HOST_DATA, 2);
            if Verdict::from(m.dma_write(0, SID, IOVA, 2)) == Verdict::Landed { Verdict::Landed } else { direct.into() }
        });
    }
}

#[test]
fn t06_dma_to_devices() {
    for target in [GIC, ITS, SMMU, UART, BAR, ECAM] {
        let attack = |m: &mut Machine| {
            Host::with_stage1(m, IOVA, target);
            let _ = m.dma_write(0, SID, IOVA, 1);
            if m.mem.take_mmio_writes().is_empty() { Verdict::Blocked } else { Verdict::Landed }
        };
        twice(attack);
    }
    // MSIs reach the translater.
    let mut m = Machine::new(&Setup::guarded());
    Host::with_stage1(&mut m, IOVA, TRANSLATER);
    assert_eq!(m.dma_write(0, SID, IOVA + 0x40, 5), Transfer::Done);
    assert_eq!(m.mem.take_mmio_writes(), [MmioWrite { pa: TRANSLATER + 0x40, value: 5, size: 1 }]);
}

#[test]
fn t07_the_hosts_smmu_is_off() {
    use smmu_model::arch::regs::{GBPA, GBPA_ABORT, GBPA_UPDATE};
    twice(|m| {
        m.write32(0, GBPA, GBPA_UPDATE);
        m.dma_write(0, SID, SECRET, 1).into()
    });
    let mut m = Machine::new(&Setup::guarded());
    assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Done, "the host's own memory");
    m.write32(0, GBPA, GBPA_ABORT | GBPA_UPDATE);
    assert_eq!(m.read32(0, GBPA) & (GBPA_ABORT | GBPA_UPDATE), GBPA_ABORT);
    assert_eq!(m.dma_write(0, SID, HOST_DATA, 2), Transfer::Aborted(None));
    assert!(m.models[0].borrow().reach(SID).is_empty());
    m.write32(0, GBPA, GBPA_UPDATE);
    assert_eq!(m.dma_write(0, SID, HOST_DATA, 3), Transfer::Done);
    // Enabled and disabled again: GBPA.ABORT keeps its value.
    let mut host = Host::prepare(&mut m, 0, Shape::Linear);
    m.write32(0, GBPA, GBPA_ABORT | GBPA_UPDATE);
    host.cr0(&mut m, model_tests::host::ON);
    host.install(&mut m, SID, BYPASS);
    assert_eq!(m.dma_write(0, SID, HOST_DATA, 3), Transfer::Done);
    host.cr0(&mut m, model_tests::host::QUEUES);
    assert_eq!(m.dma_write(0, SID, HOST_DATA, 4), Transfer::Aborted(None));
}

#[test]
fn t34_two_smmus() {
    let attack = |defect| {
        let mut m = Machine::new(&Setup { smmus: 2, ..Setup::guarded() });
        m.set_defect(defect);
        for n in 0..2 {
            let mut host = Host::enable(&mut m, n, Shape::Linear);
            host.install(&mut m, SID, BYPASS);
            assert_eq!(m.dma_write(n, SID, HOST_DATA, 1), Transfer::Done);
        }
        assert_eq!(m.donate(HOST_DATA, 3), Ok(()));
        let landed = Verdict::from(m.dma_write(1, SID, HOST_DATA, 2));
        (landed, m.isolated(&SIDS).is_ok())
    };
    assert_eq!(attack(Defect::FirstSmmuOnly), (Verdict::Landed, false));
    assert_eq!(attack(Defect::None), (Verdict::Blocked, true));
}

#[test]
fn t35_no_memory() {
    let mut all_refused = 0;
    for (name, config) in configs() {
        let mut m = Machine::new(&Setup::guarded().with(config));
        let mut host = Host::enable(&mut m, 0, Shape::Linear);
        host.install(&mut m, SID, BYPASS);
        // Donates every second page, until there is no memory for another table.
        m.owner().dma().fail_tables_after(Some(1));
        let mut refused = 0;
        for page in (0..2048).step_by(2) {
            match m.donate(HOST_DATA + page * 4096, 1) {
                Ok(()) => {}
                Err(Error::NoMemory) => {
                    refused += 1;
                    assert_eq!(
                        m.dma_write(0, SID, HOST_DATA + page * 4096, 1),
                        Transfer::Done,
                        "{name}: it is still the host's"
                    );
                }
                Err(error) => panic!("{name}: {error}"),
            }
            if page % 128 == 0 {
                assert_eq!(m.isolated(&[SID]), Ok(()), "{name}");
                m.models[0].borrow_mut().drop_caches();
            }
        }
        m.owner().dma().fail_tables_after(None);
        all_refused += refused;
        if refused > 0 {
            assert_eq!(m.donate(HOST_DATA + 2046 * 4096, 1), Ok(()), "{name}: works with memory again");
        }
        assert_eq!(m.isolated(&SIDS), Ok(()), "{name}");
    }
    assert!(all_refused > 0, "memory never ran out");
}

#[test]
fn t35_no_memory_for_stream_tables() {
    let mut m = Machine::new(&Setup::guarded());
    let mut host = Host::prepare(&mut m, 0, Shape::TwoLevel);
    host.write_ste(&m, SID, BYPASS);
    m.pool.exhaust();
    host.cr0(&mut m, model_tests::host::ON);
    assert!(matches!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Aborted(_)), "no table, no DMA");
    assert_eq!(m.isolated(&SIDS), Ok(()));
    m.pool.refill();
    host.install(&mut m, SID, BYPASS);
    assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Done);
}

#[test]
fn t36_bad_ranges() {
    // Without the checks: EL2's memory is mapped for devices.
    let mut unchecked = Machine::new(&Setup::guarded());
    let Some(secret) = PageRange::page(SECRET / 4096) else { panic!("a page") };
    assert_eq!(unchecked.owner().dma_mut().grant(secret), Ok(()));
    assert_landed(unchecked.isolated(&SIDS));
    let pfn = HOST_DATA / 4096;
    let cases = [
        (pfn, 0, Error::BadRange),
        (pfn, 1 << 63, Error::BadRange),
        (u64::MAX, 2, Error::BadRange),
        (u64::MAX - 1, u64::MAX, Error::BadRange),
        (1 << 51, 1, Error::BadRange),
        (0, 1, Error::NotRam),
        (UART / 4096, 1, Error::NotRam),
        ((RAM + RAM_BYTES) / 4096, 1, Error::NotRam),
        ((RAM + RAM_BYTES) / 4096 - 1, 2, Error::NotRam),
        (EL2 / 4096, 1, Error::WrongState),
        (EL2 / 4096 - 1, 2, Error::WrongState),
    ];
    let mut m = Machine::new(&Setup::guarded());
    for (pfn, count, error) in cases {
        let range = UncheckedRange { pfn, count };
        assert_eq!(m.owner().apply(Transition::HostDonateHyp(range)), Err(error), "{pfn:#x}+{count:#x}");
        assert!(m.owner().apply(Transition::HypDonateHost(range)).is_err(), "{pfn:#x}+{count:#x}");
        assert!(m.owner().apply(Transition::HostReclaimPage(range)).is_err(), "{pfn:#x}+{count:#x}");
        assert!(m.owner().apply(Transition::HostShareHyp(range)).is_err(), "{pfn:#x}+{count:#x}");
    }
    assert_eq!(m.donate(HOST_DATA, 2), Ok(()));
    assert_eq!(m.donate(HOST_DATA + 4096, 1), Err(Error::WrongState), "twice");
    assert_eq!(m.return_pages(HOST_DATA, 2), Ok(()));
    assert_eq!(m.return_pages(HOST_DATA, 1), Err(Error::WrongState), "twice");
    assert_eq!(m.isolated(&SIDS), Ok(()));
    assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Done);
}

#[test]
fn t50_pages_are_cleaned_when_they_change_owner() {
    detects_defects(&["not-zeroed", "not-cleaned"], pages_are_cleaned_at_a_change_of_owner);
}

fn pages_are_cleaned_at_a_change_of_owner() {
    use smmu_model::Snoop;
    let mut m = Machine::new(&Setup::guarded().with(Config { snoop: Snoop::NonCoherent, ..Config::qemu() }));
    // The host leaves a dirty line, which must not overwrite EL2's data when it is written back.
    m.mem.cpu_write64(HOST_DATA, 0x0d17);
    assert_eq!(m.mem.dev_read64(HOST_DATA), Ok(0), "the test needs a dirty line");
    assert_eq!(m.donate(HOST_DATA, 1), Ok(()));
    assert_eq!(m.mem.dev_read64(HOST_DATA), Ok(0x0d17), "written back before EL2 uses the page");
    m.mem.cpu_write64(HOST_DATA + 8, 0x5ec7);
    assert_eq!(m.return_pages(HOST_DATA, 1), Ok(()));
    for word in (HOST_DATA..HOST_DATA + 4096).step_by(8) {
        assert_eq!(m.mem.dev_read64(word), Ok(0), "read at the point of coherency");
        assert_eq!(m.mem.cpu_read64(word), 0);
    }
    let mut host = Host::enable(&mut m, 0, Shape::Linear);
    host.install(&mut m, SID, BYPASS);
    assert_eq!(m.dma_read(0, SID, HOST_DATA + 8), (Transfer::Done, 0));
}

#[test]
fn t52_queues_and_tables_in_device_registers() {
    use smmu_model::arch::regs as r;
    for target in [GIC, TRANSLATER, UART, BAR, ECAM] {
        let attack = |m: &mut Machine| {
            let mut host = Host::prepare(m, 0, Shape::Linear);
            host.write_ste(m, SID, ABORT);
            host.cr0(m, r::CR0_CMDQEN);
            m.write64(0, r::EVENTQ_BASE, target | 4);
            m.write32(0, r::EVENTQ_PROD, 0);
            m.write32(0, r::EVENTQ_CONS, 0);
            host.cr0(m, model_tests::host::ON);
            let _ = m.dma_write(0, 9, HOST_DATA, 1);
            let _ = m.read32(0, r::EVENTQ_PROD);
            if m.mem.take_mmio_writes().is_empty() { Verdict::Blocked } else { Verdict::Landed }
        };
        twice(attack);
    }
}
