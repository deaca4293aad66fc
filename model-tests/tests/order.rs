//! Stores that no barrier orders become visible in any order, and any of them may not be visible yet: an observer that
//! sees the store that publishes a structure must see the complete structure.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use model_tests::host::{ABORT, BYPASS, Host, INVALID, ON, QUEUES, STAGE1, Shape};
use model_tests::layout::{HOST_DATA, IOVA, SID};
use model_tests::{Machine, Setup};
use smmu_model::{Config, Model, Pace, Snoop, Transfer};

/// Another stream of the same block, the stream whose entry changes, and a stream of a block that the host's table
/// does not cover.
const SIDS: [u32; 3] = [0, SID, 256];

/// The effect of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Nothing,
    Translates([u64; 2]),
    Passes,
}

fn effect(entry: &[u64]) -> Effect {
    match entry[0] & 0xf {
        word if word & 1 == 0 || word & 8 == 0 => Effect::Nothing,
        0b1101 | 0b1111 => Effect::Translates([entry[2], entry[3]]),
        _ => Effect::Passes,
    }
}

/// Records the effects of all entries that hardware may read, at every barrier and register write.
fn record_effects(m: &Machine) -> Rc<RefCell<BTreeSet<Effect>>> {
    let seen: Rc<RefCell<BTreeSet<Effect>>> = Rc::default();
    let log = seen.clone();
    let look = move |model: &Model| {
        for sid in SIDS {
            log.borrow_mut().extend(model.entries(sid).iter().map(|entry| effect(entry)));
        }
    };
    *m.store_hook.borrow_mut() = Some(Box::new(look));
    seen
}

fn configs() -> [Config; 5] {
    let two_level = Config { sid_bits: 9, ..Config::qemu() };
    let linear = Config { two_level: false, ..two_level.clone() };
    [
        two_level.clone(),
        Config { pace: Pace::Lazy, seed: 61, sid_bits: 9, ..Config::full() },
        Config { snoop: Snoop::NonCoherent, ..two_level },
        linear.clone(),
        Config { snoop: Snoop::NonCoherent, pace: Pace::Lazy, seed: 2, ..linear },
    ]
}

#[test]
fn t61_tables_are_linked_after_their_entries_are_visible() {
    for config in configs() {
        let mut m = Machine::new(&Setup::guarded().with(config.clone()));
        // Every entry that translates must have the stage 2 fields of the first one.
        let stage2: BTreeSet<Effect> = m.models[0].borrow().entries(0).iter().map(|entry| effect(entry)).collect();
        assert!(matches!(stage2.first(), Some(Effect::Translates(_))) && stage2.len() == 1, "{stage2:x?}");
        let seen = record_effects(&m);
        let shape = if config.two_level { Shape::TwoLevel } else { Shape::Linear };
        let mut host = Host::enable(&mut m, 0, shape);
        host.context(&m);
        host.map(&m, IOVA, HOST_DATA);
        for _ in 0..2 {
            for words in [INVALID, ABORT, STAGE1, BYPASS] {
                host.install(&mut m, SID, words);
            }
            // The table is freed and allocated again. Freed memory contains bypass entries.
            if shape == Shape::TwoLevel {
                for descriptor in [0, host.l2() | 9] {
                    m.mem.cpu_write64(host.strtab(), descriptor);
                    m.mem.clean(host.strtab()..host.strtab() + 8);
                    host.cmd(&mut m, [4, 31]);
                    host.sync(&mut m);
                }
            }
            host.cr0(&mut m, QUEUES);
            host.cr0(&mut m, ON);
            m.models[0].borrow_mut().drop_caches();
        }
        *m.store_hook.borrow_mut() = None;
        let other: Vec<Effect> = seen.borrow().iter().copied().filter(|effect| !stage2.contains(effect)).collect();
        assert_eq!(other, [Effect::Nothing], "{config:?}");
        host.install(&mut m, SID, BYPASS);
        assert_eq!(m.dma_write(0, SID, HOST_DATA, 1), Transfer::Done, "{config:?}");
        assert_eq!(m.models[0].borrow_mut().take_hazards(), [], "{config:?}");
    }
}
