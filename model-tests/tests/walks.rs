//! Accesses that the SMMU makes for the host's streams: context descriptors, stage 1 tables, Access flags.

use model_tests::host::{ASID, Host, LEAF, ON, STAGE1, Shape, cd};
use model_tests::layout::{BAR, EL2, GIC, HOST_CD, HOST_DATA, HOST_S1, IOVA, ITS, SECRET, SID, SIDS, UART};
use model_tests::{Machine, Setup, Verdict, assert_landed, twice, twice_with};
use smmu_model::arch::{event as e, regs as r};
use smmu_model::{Access, AtsReply, Config, Httu, Injection, Transfer};

fn stage2_fault(transfer: &Transfer) -> Option<e::Class> {
    match transfer {
        Transfer::Aborted(Some(event)) if event.stage2 => Some(event.class),
        _ => None,
    }
}

/// A context descriptor and a table in EL2's memory, for attacks that make hardware use them.
fn el2_tables(m: &Machine) -> u64 {
    let base = EL2 + 0x4000;
    for (at, word) in (base..).step_by(8).zip(cd(base + 0x1000)) {
        m.mem.cpu_write64(at, word);
    }
    m.mem.cpu_write64(base + 0x1000 + ((IOVA >> 30) & 511) * 8, (base + 0x2000) | 3);
    m.mem.cpu_write64(base + 0x2000 + ((IOVA >> 21) & 511) * 8, (base + 0x3000) | 3);
    m.mem.cpu_write64(base + 0x3000 + ((IOVA >> 12) & 511) * 8, HOST_DATA | LEAF);
    base
}

#[test]
fn t20_configuration_and_tables_in_foreign_memory() {
    type Point = fn(&mut Machine, &mut Host, u64);
    let points: [(&str, Point, e::Class); 4] = [
        ("S1ContextPtr", |m, host, tables| host.install(m, SID, [tables | 0b1011, 0]), e::Class::Cd),
        (
            "TTB0",
            |m, host, tables| {
                host.context_words(m, cd(tables + 0x1000));
                host.install(m, SID, STAGE1);
            },
            e::Class::Tt,
        ),
        (
            "level 2 table",
            |m, host, tables| {
                m.mem.cpu_write64(HOST_S1 + ((IOVA >> 30) & 511) * 8, (tables + 0x2000) | 3);
                host.install(m, SID, STAGE1);
            },
            e::Class::Tt,
        ),
        (
            "level 3 table",
            |m, host, tables| {
                m.mem.cpu_write64(HOST_S1 + 0x1000 + ((IOVA >> 21) & 511) * 8, (tables + 0x3000) | 3);
                host.install(m, SID, STAGE1);
            },
            e::Class::Tt,
        ),
    ];
    for (name, point, class) in points {
        let attack = |m: &mut Machine| {
            let tables = el2_tables(m);
            let mut host = Host::enable(m, 0, Shape::Linear);
            host.context(m);
            host.map(m, IOVA, HOST_DATA);
            point(m, &mut host, tables);
            let end = m.dma_write(0, SID, IOVA, 1);
            if let Transfer::Aborted(_) = end {
                assert_eq!(stage2_fault(&end), Some(class), "{name}");
                let wanted = if class == e::Class::Cd { e::F_CD_FETCH } else { e::F_WALK_EABT };
                let kinds: Vec<u64> = host.events(m).iter().map(|event| event[0] & 0xff).collect();
                assert_eq!(kinds, [u64::from(wanted)], "{name}: the host gets the event of an SMMU with stage 1 only");
            }
            end.into()
        };
        twice(attack);
    }
}

#[test]
fn t20_two_level_context_tables_in_foreign_memory() {
    twice_with(Config::full(), |m| {
        let tables = el2_tables(m);
        let mut host = Host::enable(m, 0, Shape::Linear);
        m.mem.cpu_write64(HOST_CD + 0x1000, tables | 1);
        host.install(m, SID, [(HOST_CD + 0x1000) | 0b1011 | 1 << 4 | 7 << 59, 0]);
        m.models[0].borrow_mut().dma_write(SID, Some(0), IOVA, &[1]).into()
    });
}

#[test]
fn t21_hardware_updates_of_foreign_pages() {
    let config = Config { httu: Httu::Dirty, ..Config::qemu() };
    twice_with(config, |m| {
        let mut host = Host::enable(m, 0, Shape::Linear);
        host.context_words(m, {
            let mut words = cd(HOST_S1);
            words[0] |= 1 << 43 | 1 << 42;
            words
        });
        host.map(m, IOVA, HOST_DATA);
        // The level 3 table is in the page that is donated; Access flag and dirty state of its leaf are clear.
        let page = HOST_DATA + 0x8000;
        let old = (HOST_DATA | LEAF | 1 << 7 | 1 << 51) & !(1 << 10);
        m.mem.cpu_write64(page + ((IOVA >> 12) & 511) * 8, old);
        m.mem.cpu_write64(HOST_S1 + 0x1000 + ((IOVA >> 21) & 511) * 8, page | 3);
        host.install(m, SID, STAGE1);
        assert_eq!(m.donate(page, 1), Ok(()));
        let before = m.mem.cpu_read64(page + ((IOVA >> 12) & 511) * 8);
        let _ = m.dma_write(0, SID, IOVA, 1);
        if m.mem.cpu_read64(page + ((IOVA >> 12) & 511) * 8) == before { Verdict::Blocked } else { Verdict::Landed }
    });
}

#[test]
fn t32_ats_with_the_feature_hidden() {
    // Without the check Translated transactions reach any address.
    twice_with(Config::full(), |m| {
        let mut host = Host::enable(m, 0, Shape::Linear);
        host.context(m);
        host.map(m, IOVA, HOST_DATA);
        host.install(m, SID, STAGE1);
        m.models[0].borrow_mut().dma_write_translated(SID, SECRET, &[1]).into()
    });
    let mut m = Machine::new(&Setup::guarded().with(Config::full()));
    assert_eq!(m.read32(0, r::IDR0) & (1 << 10 | 1 << 16), 0, "ATS and PRI are hidden");
    let mut host = Host::with_stage1(&mut m, IOVA, HOST_DATA);
    assert_eq!(m.models[0].borrow_mut().ats_translate(SID, None, IOVA, Access::Read), AtsReply::Refused);
    for cmd in [[0x40, 0], [0x41, 0]] {
        host.cmd(&mut m, cmd);
        assert_eq!(host.cerror(&mut m), Some(r::CERROR_ILL), "{cmd:x?}");
        host.repair(&mut m);
        assert_eq!(host.cerror(&mut m), None);
    }
    assert_eq!(m.models[0].borrow_mut().read32(r::CR0) & r::CR0_ATSCHK, r::CR0_ATSCHK);
    // The host cannot disable the check.
    host.cr0(&mut m, ON);
    m.write32(0, r::CR0, ON | 1 << 4 | 1 << 10);
    assert_eq!(m.models[0].borrow_mut().read32(r::CR0) & r::CR0_ATSCHK, r::CR0_ATSCHK);
    let _ = Injection::AtcTimeout;
}

#[test]
fn t55_only_ram_and_the_translater_are_mapped() {
    for target in [GIC, ITS, UART, BAR, 0x0902_0000, 0x0a00_0000, 0x0904_0000, 0x8_0000_0000] {
        let mut m = Machine::new(&Setup::guarded());
        Host::with_stage1(&mut m, IOVA, target);
        assert_eq!(stage2_fault(&m.dma_write(0, SID, IOVA, 1)), Some(e::Class::In), "{target:#x}");
        assert!(m.models[0].borrow().can_reach(SID, target).is_none(), "{target:#x}");
    }
    // Without EL2 all these addresses are reachable.
    let mut bare = Machine::new(&Setup::bare());
    Host::with_stage1(&mut bare, IOVA, UART);
    assert_landed(bare.dma_write(0, SID, IOVA, 1));
}

#[test]
fn t59_stalls() {
    let stalling = |m: &mut Machine| {
        let mut host = Host::with_stage1(m, IOVA, HOST_DATA);
        host.context_words(m, {
            let mut words = cd(HOST_S1);
            words[0] |= 1 << 44;
            words
        });
        host.cmd(m, [u64::from(SID) << 32 | 6, 0]);
        host.sync(m);
        host.flush(m);
        m.dma_write(0, SID, IOVA + 0x5000, 1)
    };
    let config = Config { term_model: false, ..Config::full() };
    let mut bare = Machine::new(&Setup::bare().with(config.clone()));
    assert!(matches!(stalling(&mut bare), Transfer::Stalled(_)), "the attack does not land");
    let mut m = Machine::new(&Setup::guarded().with(config));
    let end = stalling(&mut m);
    assert!(matches!(&end, Transfer::Aborted(Some(event)) if event.kind == e::C_BAD_CD), "{end:?}");
    assert_eq!(m.models[0].borrow().stalled(), 0);
    // The commands for stalled transactions are also illegal.
    let mut host = Host::enable(&mut m, 0, Shape::Linear);
    for cmd in [[0x44 | 1 << 12, 0], [0x45, 0]] {
        host.cmd(&mut m, cmd);
        assert_eq!(host.cerror(&mut m), Some(r::CERROR_ILL));
        host.repair(&mut m);
    }
    assert_eq!(m.isolated(&SIDS), Ok(()));
    let _ = ASID;
}
