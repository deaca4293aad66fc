//! Revocations, grants and coalescing on several CPUs while devices translate, under schedules that shuttle chooses.
//!
//! The devices' SMMUs cache leaves and walk steps, and drop neither before an invalidation. Their walks read one
//! descriptor at a time, and stores may occur between any two reads. Two properties are checked: after a revocation
//! has returned, no transaction reaches the page, not even one that started long before; and a page that keeps its
//! owner never faults, during every change of pages next to it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use io_pgtable::{Bbm, Cfg, HeapMemory, Ipa, Pa};
use shadow_s2::{Invalidate, InvalidateError, PageRange, Plan, ShadowS2, TableError, Target};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Arc, Mutex};
use shuttle::thread;

const RAM: u64 = 0x4000_0000;
const PAGE: u64 = 4096;
const PAGES: u64 = 1024;
/// Ranges that are revoked and granted: first page and count. The last one spans two blocks.
const CHANGING: [(u64, u64); 3] = [(1, 1), (200, 3), (510, 4)];
/// Pages that are never revoked, one in each block.
const CONSTANT: [u64; 2] = [100, 900];

/// State of one SMMU.
#[derive(Default)]
struct Caches {
    /// Leaves: first address, size, output address.
    leaves: Vec<(u64, u64, u64)>,
    /// Walk steps: first address and size that a table covers, its address, its level.
    steps: Vec<(u64, u64, u64, u32)>,
    /// Number of invalidations: a walk during which one happened caches nothing.
    epoch: u64,
    /// Transactions in progress.
    running: BTreeSet<u64>,
    next: u64,
    /// From now on no invalidation completes.
    unresponsive: bool,
}

#[derive(Clone)]
struct Smmu(Arc<Mutex<Caches>>);

/// Every SMMU that walks the table.
#[derive(Clone)]
struct Smmus(Vec<Smmu>);

impl Smmu {
    /// Drops the translations of `plan`, then waits for the transactions that may have used them.
    fn complete(&self, plan: &Plan) -> Result<(), InvalidateError> {
        let (first, end) = match plan.target {
            Target::All => (0, u64::MAX),
            Target::Range { start: Ipa(start), bytes } => (start, start + bytes),
        };
        let kept = |start: u64, size: u64| start + size <= first || end <= start;
        let old = {
            let mut caches = self.0.lock().unwrap();
            if caches.unresponsive {
                return Err(InvalidateError);
            }
            caches.epoch += 1;
            caches.leaves.retain(|&(start, size, _)| kept(start, size));
            caches.steps.retain(|&(start, size, ..)| kept(start, size));
            caches.running.clone()
        };
        while !self.0.lock().unwrap().running.is_disjoint(&old) {
            thread::yield_now();
        }
        Ok(())
    }
}

impl Invalidate for Smmus {
    fn invalidate(&mut self, plan: &Plan) -> Result<(), InvalidateError> {
        let mut result = Ok(());
        for smmu in &self.0 {
            result = result.and(smmu.complete(plan));
        }
        result
    }
}

/// An independent walker: it shares no code with the crate under test.
struct Device {
    smmu: Smmu,
    memory: HeapMemory,
    root: u64,
    foreign: Arc<Mutex<BTreeSet<u64>>>,
}

impl Device {
    /// One transaction to page `page`; returns whether it was completed.
    fn transaction(&self, page: u64) -> bool {
        let ipa = RAM + page * PAGE;
        let (ticket, epoch, hit, step) = {
            let mut caches = self.smmu.0.lock().unwrap();
            let ticket = caches.next;
            caches.next += 1;
            caches.running.insert(ticket);
            let covers = |start: u64, size: u64| (start..start + size).contains(&ipa);
            let hit = caches.leaves.iter().find(|leaf| covers(leaf.0, leaf.1)).map(|leaf| leaf.2 + (ipa - leaf.0));
            let step = caches.steps.iter().filter(|s| covers(s.0, s.1)).max_by_key(|s| s.3).map(|s| (s.2, s.3));
            (ticket, caches.epoch, hit, step)
        };
        let output = hit.or_else(|| self.walk(ipa, step.unwrap_or((self.root, 1)), epoch));
        thread::yield_now();
        if let Some(pa) = output {
            assert_eq!(pa, ipa, "a walk resulted in another address");
            assert!(!self.foreign.lock().unwrap().contains(&page), "page {page} was reached after its revocation");
        }
        self.smmu.0.lock().unwrap().running.remove(&ticket);
        output.is_some()
    }

    /// Walks from the table at `table`, whose descriptors are of level `level`.
    fn walk(&self, ipa: u64, (mut table, mut level): (u64, u32), epoch: u64) -> Option<u64> {
        const ADDR: u64 = 0x0000_ffff_ffff_f000;
        loop {
            thread::yield_now();
            let shift = 12 + 9 * (3 - level);
            // The root of a 40-bit stage 2 is two tables long; elsewhere the index has nine bits.
            let index = ipa >> shift & if level == 1 { 0x3ff } else { 0x1ff };
            let desc = self.memory.read64(Pa(table + index * 8)).expect("a table in the arena");
            let (start, size) = (ipa >> shift << shift, 1 << shift);
            let mut caches = self.smmu.0.lock().unwrap();
            let fresh = caches.epoch == epoch;
            match (desc & 3, level) {
                (3, 1 | 2) => {
                    (table, level) = (desc & ADDR, level + 1);
                    if fresh {
                        caches.steps.push((start, size, table, level));
                    }
                }
                (1, 1 | 2) | (3, 3) => {
                    let pa = desc & ADDR & !(size - 1);
                    if fresh {
                        caches.leaves.push((start, size, pa));
                    }
                    return Some(pa + (ipa - start));
                }
                _ => return None,
            }
        }
    }
}

fn pages(page: u64, count: u64) -> PageRange {
    PageRange::covering(Ipa(RAM + page * PAGE), count * PAGE).unwrap()
}

/// One run: two CPUs, two devices behind two SMMUs.
fn run(bbm: Bbm, failing: bool) {
    let memory = HeapMemory::new(Pa(0), 256 << 10);
    let mut shadow = ShadowS2::new(Cfg { bbm, ..Cfg::new(40, 40) }, memory.clone()).unwrap();
    shadow.snapshot([pages(0, PAGES)], []).unwrap();
    let root = shadow.config().ttb.0;
    let smmus = Smmus((0..2).map(|_| Smmu(Arc::default())).collect());
    let foreign: Arc<Mutex<BTreeSet<u64>>> = Arc::default();
    let shadow = Arc::new(Mutex::new(shadow));

    let mut threads = Vec::new();
    for smmu in &smmus.0 {
        let device = Device { smmu: smmu.clone(), memory: memory.clone(), root, foreign: foreign.clone() };
        threads.push(thread::spawn(move || {
            for _ in 0..6 {
                let (first, count) = CHANGING[thread_rng().gen_range(0..CHANGING.len())];
                device.transaction(first + thread_rng().gen_range(0..count));
                let page = CONSTANT[thread_rng().gen_range(0..CONSTANT.len())];
                assert!(device.transaction(page), "page {page} faulted and belongs to its owner");
            }
        }));
    }
    for cpu in 0..2 {
        let (shadow, foreign, mut smmus) = (shadow.clone(), foreign.clone(), smmus.clone());
        threads.push(thread::spawn(move || {
            for round in 0..3 {
                let (first, count) = CHANGING[if cpu == 0 { round } else { 2 - round }];
                if failing {
                    smmus.0[1].0.lock().unwrap().unresponsive = thread_rng().gen_bool(0.5);
                }
                let mine = {
                    let mut shadow = shadow.lock().unwrap();
                    // The other CPU may have revoked it.
                    let free = shadow.leaf(Ipa(RAM + first * PAGE)).is_some();
                    match shadow.revoke(pages(first, count), &mut smmus) {
                        Ok(()) => {
                            foreign.lock().unwrap().extend(first..first + count);
                            true
                        }
                        Err(TableError::NotMapped(_)) => {
                            assert!(!free);
                            false
                        }
                        Err(TableError::NotCompleted) => {
                            assert!(failing);
                            false
                        }
                        Err(error) => panic!("{error}"),
                    }
                };
                if mine {
                    thread::yield_now();
                    let mut shadow = shadow.lock().unwrap();
                    foreign.lock().unwrap().retain(|page| !(first..first + count).contains(page));
                    shadow.grant(pages(first, count)).unwrap();
                    let _ = shadow.coalesce(pages(first, count), &mut smmus);
                }
            }
        }));
    }
    for thread in threads {
        thread.join().unwrap();
    }
    let shadow = shadow.lock().unwrap();
    assert_eq!(shadow.audit([pages(0, PAGES)], &[]), Ok(()));
}

#[test]
fn t38_blocks_and_pages_change_owner_during_walks() {
    for bbm in [Bbm::Level0, Bbm::Level2] {
        shuttle::check_random(move || run(bbm, false), 300);
        shuttle::check_pct(move || run(bbm, false), 300, 3);
    }
}

#[test]
fn t38_t47_no_page_is_lost_when_an_smmu_fails_and_recovers() {
    for bbm in [Bbm::Level0, Bbm::Level2] {
        shuttle::check_random(move || run(bbm, true), 300);
    }
}
