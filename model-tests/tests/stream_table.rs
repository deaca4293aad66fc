//! Stream tables with illegal fields, that change while EL2 reads them, or that point outside the host's memory.

use model_tests::host::{ABORT, BYPASS, Host, LOG2_STREAMS, ON, QUEUES, STAGE1, Shape, cd};
use model_tests::layout::{EL2, HOST_DATA, HOST_L2, HOST_S1, IOVA, RAM, SECRET, SID, SIDS, UART};
use model_tests::{Machine, Setup, twice, twice_with};
use smmu_drv::AccessSize;
use smmu_model::arch::{event as e, regs as r};
use smmu_model::{Config, Model, Pace, Transfer};

fn invalidate(host: &mut Host, m: &mut Machine, sid: u32) {
    host.cmd(m, [u64::from(sid) << 32 | 3, 0]);
    host.sync(m);
}

#[test]
fn a_range_of_streams_is_invalidated_anywhere_in_a_block() {
    let mut m = Machine::new(&Setup::guarded());
    let mut host = Host::enable(&mut m, 0, Shape::TwoLevel);
    let mut aborts = [false; 256];
    for sid in 0..256 {
        host.write_ste(&m, sid, BYPASS);
    }
    host.cmd(&mut m, [4, 31]);
    host.sync(&mut m);
    // Ranges across the ends of groups and pages, and the last stream of the block alone.
    for (sid, range) in [(62, 0), (36, 1), (61, 2), (250, 1), (200, 4), (255, 0), (128, 6)] {
        let count = 2_u32 << range;
        let first = sid / count * count;
        for sid in first..first + count {
            host.write_ste(&m, sid, ABORT);
            aborts[sid as usize] = true;
        }
        host.cmd(&mut m, [u64::from(sid) << 32 | 4, range]);
        host.sync(&mut m);
        for (sid, aborted) in (0..).zip(aborts) {
            let passes = m.dma_write(0, sid, HOST_DATA, 1) == Transfer::Done;
            assert_eq!(passes, !aborted, "stream {sid} after {count} from {first}");
        }
        m.models[0].borrow_mut().drop_caches();
    }
    assert_eq!(m.models[0].borrow_mut().take_hazards(), []);
}

#[test]
fn t15_entries_change_between_check_and_use() {
    // Another CPU rewrites each word of the entry, and of the level-1 descriptor, right after EL2 fetched it.
    for shape in [Shape::Linear, Shape::TwoLevel] {
        let mut m = Machine::new(&Setup::guarded());
        let mut host = Host::enable(&mut m, 0, shape);
        host.context(&m);
        host.map(&m, IOVA, HOST_DATA);
        host.install(&mut m, SID, ABORT);
        let entry = host.ste_at(SID);
        let strtab = host.strtab();
        host.write_ste(&m, SID, BYPASS);
        let mem = m.mem.clone();
        let fetches = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let log = fetches.clone();
        *m.load_hook().borrow_mut() = Some(Box::new(move |pa| {
            if pa == entry {
                log.borrow_mut().push(pa);
                mem.cpu_write64(pa, SECRET | 0b1111);
            } else if pa == entry + 8 {
                log.borrow_mut().push(pa);
                mem.cpu_write64(pa, u64::MAX);
            } else if pa == strtab && shape == Shape::TwoLevel {
                log.borrow_mut().push(pa);
                mem.cpu_write64(pa, EL2 | 9);
            }
        }));
        invalidate(&mut host, &mut m, SID);
        *m.load_hook().borrow_mut() = None;
        let fetches = fetches.borrow();
        let times = |pa: u64| fetches.iter().filter(|at| **at == pa).count();
        assert_eq!((times(entry), times(entry + 8)), (1, 1), "{shape:?}: each word is fetched once");
        assert_eq!(m.mem.cpu_read64(entry), SECRET | 0b1111, "the test needs a change in between");
        assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Done, "{shape:?}: the checked words are used");
        assert_eq!(m.isolated(&SIDS), Ok(()), "{shape:?}");
    }
}

#[test]
fn t16_fields_that_the_host_must_not_set() {
    // Without EL2 the host's own stage 2 (Config 0b110) reaches any address.
    twice(|m| {
        let mut host = Host::enable(m, 0, Shape::Linear);
        let root = HOST_S1 + 0x8000;
        m.mem
            .cpu_write64(root + (SECRET >> 30) * 8, (SECRET & !0x3fff_ffff) | 1 << 10 | 3 << 6 | 3 << 8 | 0xf << 2 | 1);
        let at = host.ste_at(SID);
        m.mem.cpu_write64(at + 16, 25 << 32 | 1 << 38 | 4 << 48 | 1 << 51);
        m.mem.cpu_write64(at + 24, root);
        host.install(m, SID, [0b1101, 0]);
        m.dma_write(0, SID, SECRET, 1).into()
    });
    // EATS = full ATS: Translated transactions are permitted.
    twice_with(Config::full(), |m| {
        let mut host = Host::enable(m, 0, Shape::Linear);
        let shown = m.read32(0, r::IDR0) & 1 << 10 != 0;
        host.cr0(m, if shown { ON | r::CR0_ATSCHK } else { ON });
        host.context(m);
        host.install(m, SID, [STAGE1[0], 0b01 << 28]);
        m.models[0].borrow_mut().dma_write_translated(SID, SECRET, &[1]).into()
    });
    // All other fields, one by one: no effect on the shadow entry, or C_BAD_STE.
    let fields = [
        (1, 0b10 << 30),           // STRW = EL2
        (1, 0b01 << 30),           // STRW reserved
        (1, 0b11 << 28),           // EATS
        (1, 1 << 25),              // S2FWB
        (1, 1 << 12),              // DRE
        (1, 0xf << 13),            // CONT
        (1, 1 << 17),              // DCP
        (1, 1 << 18),              // PPAR
        (1, 1 << 24 | 1 << 26),    // S1PIE, S1MPAM
        (1, 0xff << 32 | 1 << 36), // MemAttr, MTCFG
        (1, 0xf << 37),            // ALLOCCFG
        (1, 0b11 << 44),           // SHCFG
        (1, 0xf << 46 | 0xf << 50),
        (2, 0xffff), // S2VMID
        (2, u64::MAX),
        (3, SECRET), // S2TTB
        (3, u64::MAX),
        (4, u64::MAX),
        (5, u64::MAX), // VMSPtr
        (6, u64::MAX),
        (7, u64::MAX),
        (0, 0b11 << 4), // S1Fmt reserved
    ];
    for config in [Config::qemu(), Config::full()] {
        for (word, bits) in fields {
            let mut m = Machine::new(&Setup::guarded().with(config.clone()));
            let mut host = Host::with_stage1(&mut m, IOVA, HOST_DATA);
            let at = host.ste_at(SID);
            let old = m.mem.cpu_read64(at + word * 8);
            m.mem.cpu_write64(at + word * 8, old | bits);
            m.models[0].borrow_mut().take_events();
            invalidate(&mut host, &mut m, SID);
            let end = m.dma_write(0, SID, IOVA, 1);
            let bad = matches!(end, Transfer::Aborted(Some(event)) if event.kind == e::C_BAD_STE);
            assert!(end == Transfer::Done || bad, "word {word} {bits:#x}: {end:?}");
            assert_eq!(m.isolated(&SIDS), Ok(()), "word {word} {bits:#x}");
            let model = m.models[0].borrow();
            assert!(model.invalidations().iter().all(|i| !format!("{:?}", i.scope).contains("vmid: 65535")));
            drop(model);
            assert_eq!(m.models[0].borrow_mut().take_hazards(), [], "word {word} {bits:#x}");
        }
    }
}

#[test]
fn t18_stream_ids_and_spans() {
    // Without EL2 hardware reads entries from any memory that a level-1 descriptor points to.
    let attack = |m: &mut Machine| {
        // Data in EL2's memory that would decode as a bypass entry.
        m.mem.cpu_write64(EL2 + 0x8000 + u64::from(SID) * 64, 0b1001);
        let mut host = Host::enable(m, 0, Shape::TwoLevel);
        m.mem.cpu_write64(host.strtab(), (EL2 + 0x8000) | 9);
        invalidate(&mut host, m, SID);
        m.dma_write(0, SID, HOST_DATA, 1).into()
    };
    twice(attack);

    let mut m = Machine::new(&Setup::guarded());
    let mut host = Host::enable(&mut m, 0, Shape::TwoLevel);
    let strtab = host.strtab();
    for pointer in [0, EL2, EL2 - 64, SECRET, UART, 0x1000, RAM + 0x3ff_ffc0, 1 << 43, 0x00ff_ffff_ffff_ffc0, HOST_L2] {
        for span in [0, 1, 2, 9, 10, 11, 12, 31] {
            m.mem.cpu_write64(strtab, pointer | span);
            for sid in [0, 1, SID, 255, 256, 1023, 1024, 0xffff, 0x1_0000, u32::MAX] {
                host.cmd(&mut m, [u64::from(sid) << 32 | 3, u64::from(sid) & 1]);
            }
            host.sync(&mut m);
            assert_eq!(m.isolated(&[0, SID, 255, 256, 1023, 1024, 0xffff]), Ok(()), "{pointer:#x} span {span}");
        }
        m.models[0].borrow_mut().drop_caches();
    }
    // A valid table works again.
    m.mem.cpu_write64(strtab, host.l2() | 9);
    host.install(&mut m, SID, BYPASS);
    assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Done);
    assert_eq!(m.claims(), 2, "only the two queues are claimed");
}

#[test]
fn t18_a_table_in_foreign_memory_is_a_fetch_fault() {
    let mut m = Machine::new(&Setup::guarded());
    let mut host = Host::enable(&mut m, 0, Shape::TwoLevel);
    m.mem.cpu_write64(host.strtab(), (EL2 + 0x8000) | 9);
    invalidate(&mut host, &mut m, SID);
    assert!(matches!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Aborted(_)));
    let events = host.events(&mut m);
    let kinds: Vec<u64> = events.iter().map(|event| event[0] & 0xff).collect();
    assert_eq!(kinds, [u64::from(e::F_STE_FETCH)]);
}

#[test]
fn t41_the_table_changes_its_format() {
    let mut m = Machine::new(&Setup::guarded());
    let mut host = Host::enable(&mut m, 0, Shape::Linear);
    host.install(&mut m, SID, BYPASS);
    assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Done);
    // Changes to a two-level table, through SMMUEN = 0.
    host.cr0(&mut m, QUEUES);
    host.shape = Shape::TwoLevel;
    for word in (host.l2()..host.l2() + 0x4000).step_by(8) {
        m.mem.cpu_write64(word, 0);
    }
    m.mem.cpu_write64(host.strtab(), host.l2() | 9);
    m.write32(0, r::STRTAB_BASE_CFG, host.table_cfg());
    host.write_ste(&m, 0x55, BYPASS);
    host.cr0(&mut m, ON);
    assert!(matches!(m.dma_write(0, SID, HOST_DATA, 2), Transfer::Aborted(_)), "its entry is removed");
    assert_eq!(m.dma_write(0, 0x55, HOST_DATA, 2), Transfer::Done);
    // The memory of the old table is reused. Data in it that would decode as entries has no effect.
    for sid in 0..64 {
        m.mem.cpu_write64(host.strtab() + 512 + sid * 64, 0b1001);
    }
    host.cmd(&mut m, [4, 31]);
    host.sync(&mut m);
    assert!(matches!(m.dma_write(0, SID, HOST_DATA, 3), Transfer::Aborted(_)));
    // With SMMUEN = 0, the table grows, shrinks to one entry, and moves into EL2's memory.
    for (base, cfg) in
        [(host.strtab(), 16 | 8 << 6 | 1 << 16), (host.strtab(), 0), (EL2, LOG2_STREAMS), (u64::MAX, u32::MAX)]
    {
        host.cr0(&mut m, QUEUES);
        m.write64(0, r::STRTAB_BASE, base);
        m.write32(0, r::STRTAB_BASE_CFG, cfg);
        host.cr0(&mut m, ON);
        m.models[0].borrow_mut().drop_caches();
        assert_eq!(m.isolated(&[0, SID, 0x55, 0x155, 0xffff]), Ok(()), "{base:#x} {cfg:#x}");
    }
    // The registers are read-only while SMMUEN is 1.
    m.write64(0, r::STRTAB_BASE, SECRET);
    assert_ne!(m.read(0, r::STRTAB_BASE, AccessSize::Double) & !(1 << 62), SECRET);
    // The table is donated while it is in use: the checked entry stays, and the table is not read any more.
    host.cr0(&mut m, QUEUES);
    m.write64(0, r::STRTAB_BASE, host.strtab());
    m.write32(0, r::STRTAB_BASE_CFG, host.table_cfg());
    host.cr0(&mut m, ON);
    assert_eq!(m.dma_write(0, 0x55, HOST_DATA, 4), Transfer::Done);
    assert_eq!(m.donate(host.l2() & !0xfff, 4), Ok(()));
    invalidate(&mut host, &mut m, 0x55);
    assert!(matches!(m.dma_write(0, 0x55, HOST_DATA, 5), Transfer::Aborted(_)));
    assert_eq!(m.isolated(&SIDS), Ok(()));
    let _ = cd(0);
}

#[test]
fn t41_every_store_of_a_change_of_format() {
    for pace in [Pace::Eager, Pace::Lazy] {
        let mut m = Machine::new(&Setup::guarded().with(Config { pace, seed: 41, sid_bits: 9, ..Config::qemu() }));
        let mut host = Host::enable(&mut m, 0, Shape::TwoLevel);
        host.install(&mut m, SID, BYPASS);
        host.install(&mut m, 9, ABORT);
        // An entry without stage 2 breaks isolation.
        let look = |model: &Model| {
            for sid in [SID, 9] {
                let holes = model.entries(sid).into_iter().filter(|entry| matches!(entry[0] & 0xf, 0b1001 | 0b1011));
                assert_eq!(holes.count(), 0, "stream {sid}");
            }
        };
        *m.store_hook.borrow_mut() = Some(Box::new(look));
        for _ in 0..3 {
            // SMMUEN is cleared and set; the level-1 descriptor is cleared and set again. This frees old tables.
            host.cr0(&mut m, QUEUES);
            host.cr0(&mut m, ON);
            let strtab = host.strtab();
            m.mem.cpu_write64(strtab, 0);
            invalidate(&mut host, &mut m, SID);
            m.mem.cpu_write64(strtab, host.l2() | 9);
            invalidate(&mut host, &mut m, SID);
            assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Done);
            m.models[0].borrow_mut().drop_caches();
        }
        *m.store_hook.borrow_mut() = None;
        assert_eq!(m.isolated(&SIDS), Ok(()));
    }
}
