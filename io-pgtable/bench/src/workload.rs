//! The workloads of the comparison: set-up and tear-down are not measured.

use std::hint::black_box;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::subject::{SYNCS, Subject, TLBI};

const PAGE: u64 = 4096;
const BLOCK: u64 = 0x20_0000;
const GIB: u64 = 0x4000_0000;
const PAGES: u64 = GIB / PAGE;
const ROUNDS: u64 = 200;

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    Map4kEach,
    Map4kB16,
    Map4kBulk,
    Map2mEach,
    Map2mBulk,
    Map1gMu64,
    Unmap4kEach,
    Unmap4kBulk,
    SplitFirst,
    Churn,
    Mix1To64,
    I2p4k,
}

/// What the row's target is: ratio to the best peer, instructions per operation; and what Linux 7.3 or 6.1 (the better of
/// what the project was given) needed in nanoseconds on the machine where the best crate needed `crate_ns`.
pub(crate) struct Target {
    pub(crate) ratio: f64,
    pub(crate) insns: f64,
    pub(crate) linux_ns: Option<f64>,
}

impl Workload {
    pub(crate) const ALL: [Self; 12] = [
        Self::Map4kEach,
        Self::Map4kB16,
        Self::Map4kBulk,
        Self::Map2mEach,
        Self::Map2mBulk,
        Self::Map1gMu64,
        Self::Unmap4kEach,
        Self::Unmap4kBulk,
        Self::SplitFirst,
        Self::Churn,
        Self::Mix1To64,
        Self::I2p4k,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Map4kEach => "map4k_each",
            Self::Map4kB16 => "map4k_b16",
            Self::Map4kBulk => "map4k_bulk",
            Self::Map2mEach => "map2m_each",
            Self::Map2mBulk => "map2m_bulk",
            Self::Map1gMu64 => "map1g_mu64",
            Self::Unmap4kEach => "unmap4k_each",
            Self::Unmap4kBulk => "unmap4k_bulk",
            Self::SplitFirst => "split_first",
            Self::Churn => "churn",
            Self::Mix1To64 => "mix1_64",
            Self::I2p4k => "i2p_4k",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|workload| workload.name() == name)
    }

    /// Targets and Linux's figures, in nanoseconds of the machine on which `map4k_each` of the ax crate took 5.76.
    pub(crate) fn target(self) -> Target {
        let (ratio, insns, linux_ns) = match self {
            Self::Map4kEach => (0.60, 110.0, Some(10.3)),
            Self::Map4kB16 => (0.30, 20.0, Some(1.48)),
            Self::Map4kBulk => (0.08, 2.0, Some(0.94)),
            Self::Map2mEach => (0.70, 118.0, Some(9.0)),
            Self::Map2mBulk => (0.06, 2.0, Some(1.06)),
            Self::Map1gMu64 => (0.11, 11.0, Some(3.74)),
            Self::Unmap4kEach => (0.75, 105.0, Some(10.4)),
            Self::Unmap4kBulk => (0.07, 1.0, Some(2.54)),
            Self::SplitFirst => (0.40, 1700.0, None),
            Self::Churn => (0.29, 265.0, Some(35.0)),
            Self::Mix1To64 => (0.29, 533.0, Some(153.0)),
            Self::I2p4k => (0.95, 45.0, Some(14.3)),
        };
        Target { ratio, insns, linux_ns }
    }

    /// Whether a subject can run it.
    pub(crate) fn possible<S: Subject>(self) -> bool {
        self != Self::SplitFirst || S::SPLITS
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) ns: f64,
    pub(crate) ops: u64,
    pub(crate) tlbi: u64,
    pub(crate) syncs: u64,
}

impl Sample {
    pub(crate) fn ns_per_op(&self) -> f64 {
        self.ns / self.ops as f64
    }
}

/// The measured region: its name is what callgrind is told to look for.
#[inline(never)]
pub(crate) fn measured_region(body: &mut dyn FnMut()) {
    body();
}

fn measure(ops: u64, mut body: impl FnMut()) -> Sample {
    let before = (TLBI.load(Ordering::Relaxed), SYNCS.load(Ordering::Relaxed));
    let start = Instant::now();
    measured_region(&mut body);
    let ns = start.elapsed().as_nanos() as f64;
    let after = (TLBI.load(Ordering::Relaxed), SYNCS.load(Ordering::Relaxed));
    Sample { ns, ops, tlbi: after.0 - before.0, syncs: after.1 - before.1 }
}

/// Xorshift: the same order for every subject.
struct Random(u64);

impl Random {
    #[inline]
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// Operations in one run of a workload.
pub(crate) fn ops(workload: Workload) -> u64 {
    match workload {
        Workload::Map4kEach
        | Workload::Map4kB16
        | Workload::Map4kBulk
        | Workload::Unmap4kEach
        | Workload::Unmap4kBulk
        | Workload::I2p4k => PAGES,
        Workload::Map2mEach | Workload::Map2mBulk => 64 * GIB / BLOCK,
        Workload::Map1gMu64 => 64 * ROUNDS,
        Workload::SplitFirst => GIB / BLOCK,
        Workload::Churn => PAGES / 4,
        Workload::Mix1To64 => PAGES / 16,
    }
}

/// Runs one workload once on a fresh table. Misaligned output addresses keep larger leaves out.
pub(crate) fn run<S: Subject>(workload: Workload, bits: u32) -> Sample {
    let mut table = S::new(bits);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    match workload {
        Workload::Map4kEach => measure(ops(workload), || each(&mut table, GIB, PAGE, PAGE)),
        Workload::Map4kB16 => measure(ops(workload), || each(&mut table, GIB, 16 * PAGE, PAGE)),
        Workload::Map4kBulk => measure(ops(workload), || each(&mut table, GIB, GIB, PAGE)),
        Workload::Map2mEach => measure(ops(workload), || each(&mut table, 64 * GIB, BLOCK, BLOCK)),
        Workload::Map2mBulk => measure(ops(workload), || each(&mut table, 64 * GIB, 64 * GIB, BLOCK)),
        Workload::Map1gMu64 => {
            table.map(0, 0, GIB, GIB);
            measure(ops(workload), || {
                for _ in 0..ROUNDS {
                    table.map(black_box(64 * GIB), 64 * GIB, 64 * GIB, GIB);
                    table.unmap(black_box(64 * GIB), 64 * GIB, GIB);
                }
            })
        }
        Workload::Unmap4kEach => {
            table.map(0, PAGE, GIB, PAGE);
            measure(ops(workload), || {
                for page in 0..PAGES {
                    table.unmap(page * PAGE, PAGE, PAGE);
                }
            })
        }
        Workload::Unmap4kBulk => {
            table.map(0, PAGE, GIB, PAGE);
            measure(ops(workload), || table.unmap(0, black_box(GIB), PAGE))
        }
        Workload::SplitFirst => {
            table.map(0, BLOCK, GIB, BLOCK);
            let holes: Vec<u64> = (0..GIB / BLOCK).map(|i| i * BLOCK + random.below(512) * PAGE).collect();
            measure(ops(workload), || holes.iter().for_each(|&iova| table.hole(iova)))
        }
        Workload::Churn => {
            pages(&mut table, &mut random);
            let order: Vec<u64> = (0..PAGES / 4).map(|_| random.below(PAGES) * PAGE).collect();
            measure(ops(workload), || {
                for &iova in &order {
                    table.unmap(iova, PAGE, PAGE);
                    table.map(iova, iova + BLOCK, PAGE, PAGE);
                }
            })
        }
        Workload::Mix1To64 => {
            pages(&mut table, &mut random);
            let order: Vec<(u64, u64)> = (0..PAGES / 16)
                .map(|_| {
                    let n = 1 + random.below(64);
                    (random.below(PAGES - n) * PAGE, n * PAGE)
                })
                .collect();
            measure(ops(workload), || {
                for &(iova, size) in &order {
                    table.unmap(iova, size, PAGE);
                    table.map(iova, iova + BLOCK, size, PAGE);
                }
            })
        }
        Workload::I2p4k => {
            table.map(0, PAGE, GIB, PAGE);
            let order: Vec<u64> = (0..PAGES).map(|_| random.below(GIB)).collect();
            measure(ops(workload), || {
                let sum = order.iter().fold(0u64, |sum, &iova| sum.wrapping_add(table.translate(iova)));
                black_box(sum);
            })
        }
    }
}

/// Maps `total` bytes, `step` bytes a call, in leaves of `leaf` bytes.
#[inline]
fn each<S: Subject>(table: &mut S, total: u64, step: u64, leaf: u64) {
    let mut iova = 0;
    while iova < total {
        table.map(iova, iova + leaf, step, leaf);
        iova += step;
    }
}

/// A gigabyte in pages: split from blocks where the subject can, so that the memory is what a long-running host has.
fn pages<S: Subject>(table: &mut S, random: &mut Random) {
    if !S::SPLITS {
        return table.map(0, BLOCK + PAGE, GIB, PAGE);
    }
    table.map(0, BLOCK, GIB, BLOCK);
    for block in 0..GIB / BLOCK {
        let iova = block * BLOCK + random.below(512) * PAGE;
        table.hole(iova);
        table.map(iova, iova + BLOCK, PAGE, PAGE);
    }
}

/// Bytes of tables for 1 GiB of pages.
pub(crate) fn table_pages<S: Subject>() -> usize {
    let before = crate::arena::used();
    let mut table = S::new(40);
    table.map(0, PAGE, GIB, PAGE);
    let used = crate::arena::used() - before;
    drop(table);
    used
}
