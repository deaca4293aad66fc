//! What a concurrent walker sees: after every single store to a live table, an independent walker looks at the addresses
//! that an operation may and may not change, through the caches and in memory.

#[path = "../tests/common/mod.rs"]
mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::vec::Vec;

use common::{NotSnooping, Random, Snooping, Walker, operations};

use crate::pte::observer::observe;
use crate::{Attrs, Bbm, Cfg, G4K, G16K, Granule, HeapMemory, IoPgtable, Iova, NoTlb, Pa, Prot, S2};

/// An address and what a walker may find there during the operation.
struct Probe {
    iova: u64,
    old: Option<u64>,
    new: Option<u64>,
}

/// Whether anything but the old and the new translation is allowed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    Nothing,
    Fault,
}

struct Watch {
    walker: Walker,
    mem: HeapMemory,
    probes: Vec<Probe>,
    between: Between,
    /// Stores seen, and faults that were neither the old nor the new state.
    stores: usize,
    faults: usize,
}

impl Watch {
    fn look(&mut self) {
        self.stores += 1;
        for probe in &self.probes {
            let cached = self.walker.translate(&Snooping(&self.mem), probe.iova).pa();
            let stored = self.walker.translate(&NotSnooping(&self.mem), probe.iova).pa();
            for seen in [cached, stored] {
                if seen == probe.old || seen == probe.new {
                    continue;
                }
                assert!(
                    seen.is_none() && self.between == Between::Fault,
                    "{:#x}: {seen:x?}, old {:x?}, new {:x?}",
                    probe.iova,
                    probe.old,
                    probe.new,
                );
                self.faults += 1;
            }
        }
    }
}

struct Run {
    stores: usize,
    faults: usize,
}

fn run<G: Granule>(bbm: Bbm, seed: u64) -> Run {
    let mem = HeapMemory::new(Pa(0x1000_0000), 16 << 20);
    let cfg = Cfg { bbm, coherent_walk: false, ..Cfg::new(40, 40) };
    let mut table = IoPgtable::<S2<G>, _>::new(&cfg, mem.clone()).unwrap();
    let out = table.config();
    let walker = Walker::stage2(out.ttb.0, out.vtcr_el2());
    let block = (0..48).map(|bit| 1u64 << bit).filter(|size| G::LEAF_SIZES & size != 0).nth(1).unwrap();
    let mut random = Random(seed);
    let attrs = Attrs::normal(Prot::RWX);
    let (mut stores, mut faults) = (0, 0);
    for _ in 0..operations(400) {
        let start = random.below(4 * block / G::PAGE) * G::PAGE;
        let size = match random.below(3) {
            0 => (1 + random.below(8)) * G::PAGE,
            1 => block + random.below(16) * G::PAGE,
            _ => 2 * block - start % block,
        };
        let mapped = table.translate(Iova(start), size).map(|extent| extent.size).sum::<u64>();
        let mapping = mapped == 0;
        if !mapping && mapped != size {
            table.translate(Iova(start), size).collect::<Vec<_>>().into_iter().for_each(|extent| {
                table.unmap(extent.iova, extent.size, &mut NoTlb).unwrap();
            });
            continue;
        }
        // Inside the range, at its edges, and in what the blocks around it map.
        let edges = [start, start + size / 2, start + size - 1];
        let around = [start.saturating_sub(1), start + size, start + size + block, start & !(block - 1)];
        let probes = edges.into_iter().chain(around).map(|iova| {
            let old = table.iova_to_phys(Iova(iova)).map(|pa| pa.0);
            let inside = iova >= start && iova - start < size;
            let new = match (inside, mapping) {
                (true, true) => Some(iova + block),
                (true, false) => None,
                (false, _) => old,
            };
            Probe { iova, old, new }
        });
        // Faults in between are for splits under break-before-make and nothing else.
        let between = if bbm == Bbm::Level0 && !mapping { Between::Fault } else { Between::Nothing };
        let probes = probes.collect();
        let watch = Rc::new(RefCell::new(Watch { walker, mem: mem.clone(), probes, between, stores: 0, faults: 0 }));
        let observer = Rc::clone(&watch);
        observe(
            move || observer.borrow_mut().look(),
            || {
                if mapping {
                    table.map(Iova(start), Pa(start + block), size, attrs).unwrap();
                } else {
                    table.unmap(Iova(start), size, &mut NoTlb).unwrap();
                }
            },
        );
        let watch = watch.borrow();
        for probe in &watch.probes {
            assert_eq!(watch.walker.translate(&NotSnooping(&mem), probe.iova).pa(), probe.new, "{:#x}", probe.iova);
        }
        stores += watch.stores;
        faults += watch.faults;
    }
    Run { stores, faults }
}

#[test]
fn at_level_2_a_walker_sees_old_or_new() {
    let run = run::<G4K>(Bbm::Level2, 11);
    assert_eq!(run.faults, 0);
    assert!(run.stores > 0);
}

#[test]
fn at_level_1_a_walker_sees_old_or_new() {
    assert_eq!(run::<G4K>(Bbm::Level1, 12).faults, 0);
}

#[test]
#[cfg_attr(miri, ignore = "the same code as 4K, on larger tables: hours")]
fn at_level_1_with_16k_a_walker_sees_old_or_new() {
    assert_eq!(run::<G16K>(Bbm::Level1, 13).faults, 0);
}

#[test]
fn at_level_0_a_walker_may_fault_while_a_block_is_split() {
    let run = run::<G4K>(Bbm::Level0, 14);
    assert!(cfg!(miri) || run.faults > 0, "the test does not see what it is for");
}
