//! Every change of a stream table entry, as hardware may read it.

use model_tests::host::{Host, INVALID, STAGE1, Shape};
use model_tests::layout::{EL2, HOST_CD, HOST_DATA, IOVA, RAM, SECRET, SID, SIDS};
use model_tests::{Machine, Setup, Verdict};
use smmu_model::arch::regs as r;
use smmu_model::{Config, Model, Pace};

/// Words 0 and 1 of entries that differ in V, Config and S1DSS.
fn states() -> Vec<[u64; 2]> {
    let mut all = vec![INVALID, [STAGE1[0] & !1, 0]];
    for config in 0..8 {
        let word = if config & 1 == 1 { HOST_CD } else { 0 };
        all.push([word | config << 1 | 1, 0]);
    }
    for dss in 0..4 {
        all.push([HOST_CD | 0b1011 | 2 << 59, dss | 0x2a << 2]);
    }
    all.push(STAGE1);
    all
}

/// The fields of an entry that have an effect: none for an invalid or abort entry, few without stage 1.
fn effect(entry: &[u64]) -> (u64, u64) {
    match entry[0] & 0xf {
        word if word & 1 == 0 => (0, 0),
        word if word & 8 == 0 => (1, 0),
        0b1101 => (0b1101, entry[1] & (1 << 19)),
        _ => (entry[0], entry[1]),
    }
}

#[test]
fn t17_hardware_sees_the_old_or_the_new_entry() {
    for (config, shape) in
        [(Config::full(), Shape::Linear), (Config { two_level: false, sid_bits: 8, ..Config::full() }, Shape::Linear)]
    {
        let mut m = Machine::new(&Setup::guarded().with(config));
        let mut host = Host::enable(&mut m, 0, shape);
        host.context(&m);
        let now = |m: &Machine| m.models[0].borrow().entries(SID).iter().map(|entry| effect(entry)).collect::<Vec<_>>();
        for old in states() {
            for new in states() {
                host.install(&mut m, SID, old);
                m.models[0].borrow_mut().drop_caches();
                let before = now(&m);
                let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
                let log = seen.clone();
                let look = move |model: &Model| {
                    log.borrow_mut().extend(model.entries(SID).iter().map(|entry| effect(entry)));
                };
                *m.store_hook.borrow_mut() = Some(Box::new(look));
                host.install(&mut m, SID, new);
                *m.store_hook.borrow_mut() = None;
                m.models[0].borrow_mut().drop_caches();
                let after = now(&m);
                for entry in seen.borrow().iter() {
                    let known = before.contains(entry) || after.contains(entry) || *entry == (1, 0) || *entry == (0, 0);
                    assert!(known, "{old:x?} to {new:x?}: {entry:x?} is neither {before:x?} nor {after:x?}");
                }
            }
        }
    }
}

#[test]
fn t17_every_transition_of_an_entry() {
    for (config, shape) in [
        (Config::qemu(), Shape::Linear),
        (Config::full(), Shape::TwoLevel),
        (Config { two_level: false, sid_bits: 8, pace: Pace::Lazy, seed: 9, ..Config::full() }, Shape::Linear),
    ] {
        let mut m = Machine::new(&Setup::guarded().with(config));
        let mut host = Host::enable(&mut m, 0, shape);
        host.context(&m);
        host.map(&m, IOVA, HOST_DATA);
        for old in states() {
            for new in states() {
                host.install(&mut m, SID, old);
                m.models[0].borrow_mut().drop_caches();
                // At every store of EL2: hardware that reads the entry now reaches nothing of EL2's.
                let calls = std::rc::Rc::new(std::cell::Cell::new(0));
                let count = calls.clone();
                let look = move |model: &Model| {
                    count.set(count.get() + 1);
                    let reach = model.can_reach_any(SID, EL2..EL2 + 0x10_0000);
                    assert_eq!(reach, None, "{old:x?} to {new:x?}, store {}", count.get());
                };
                *m.store_hook.borrow_mut() = Some(Box::new(look));
                host.install(&mut m, SID, new);
                *m.store_hook.borrow_mut() = None;
                assert!(calls.get() > 0);
                let passes = |m: &mut Machine, iova| Verdict::from(m.dma_write(0, SID, iova, 1)) == Verdict::Landed;
                let wanted_bypass = new[0] & 0b1111 == 0b1001;
                assert_eq!(
                    passes(&mut m, HOST_DATA),
                    wanted_bypass
                        || new[0] & 0xf == 0b1011
                            && new[1] & 3 == 1
                            && new[0] >> 59 > 0
                            && m.models[0].borrow().config().ssid_bits > 0,
                    "{old:x?} to {new:x?}"
                );
            }
        }
        assert_eq!(m.isolated(&SIDS), Ok(()));
        assert_eq!(m.models[0].borrow_mut().take_hazards(), []);
    }
}

#[test]
fn t17_an_entry_written_in_the_wrong_order_is_detected() {
    // EL2 must not write a live entry word by word: one of the intermediate entries is a bypass without stage 2.
    let m = Machine::new(&Setup::bare());
    let mut model = m.models[0].borrow_mut();
    let table = RAM + 0x20_0000;
    model.write64(r::STRTAB_BASE, table);
    model.write32(r::STRTAB_BASE_CFG, 6);
    model.write32(r::CR0, r::CR0_SMMUEN);
    let at = table + u64::from(SID) * 64;
    assert!(model.can_reach(SID, SECRET).is_none());
    // V is set with a Config that only the last store corrects.
    m.mem.cpu_write64(at, 0b1001);
    m.mem.cpu_write64(at + 16, 1 | 25 << 32 | 1 << 38 | 4 << 48 | 1 << 51);
    m.mem.cpu_write64(at + 24, RAM + 0x21_0000);
    m.mem.cpu_write64(at, 0b1101);
    assert_eq!(model.can_reach(SID, SECRET).map(|r| r.via), Some(smmu_model::Via::Bypass));
}
