//! The workloads of the comparison: set-up and tear-down are not measured.

#![allow(unsafe_code)]

use std::hint::black_box;
use std::sync::atomic::Ordering;

use crate::peers::{Ax, Generic, Paging};
use crate::subject::{SYNCS, Subject, TLBI};

const GIB: u64 = 0x4000_0000;
/// Pages of a run: 1 GiB of 4 KiB pages.
const PAGES: u64 = 0x4_0000;
/// Blocks of a run: 64 GiB of 2 MiB blocks.
const BLOCKS: u64 = 0x8000;
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

/// Target of a row: ratio to the best peer, and instructions per operation. Also the time that Linux 7.3 or 6.1 (the
/// better of the two) needed, in nanoseconds, on a machine where the best crate needed `crate_ns`.
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

    /// Targets and Linux's figures, in nanoseconds on the machine where `map4k_each` of the ax crate took 5.76 ns.
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

    /// The crates that do the same work as the row requires; its ratio is to the best of these. The others run for
    /// orientation: aarch64-paging's `RootTable` frees tables without TLB maintenance, and ax-page-table-multiarch
    /// cannot split.
    pub(crate) fn peers(self) -> &'static [&'static str] {
        match self {
            Self::Unmap4kEach | Self::Unmap4kBulk => &[Ax::NAME, Generic::NAME],
            Self::SplitFirst | Self::Churn | Self::Mix1To64 => &[Generic::NAME, Paging::NAME],
            _ => &[Ax::NAME, Generic::NAME, Paging::NAME],
        }
    }

    /// Whether a subject can run this workload.
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

/// The measured region; callgrind identifies it by its name.
#[inline(never)]
pub(crate) fn measured_region(body: &mut dyn FnMut()) {
    body();
}

#[repr(C)]
#[derive(Default)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

unsafe extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

/// Nanoseconds that this thread has run: the time of other processes is not included.
fn thread_time() -> f64 {
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    let mut time = Timespec::default();
    // SAFETY: (1) the pointer is to a live value of the type that the call writes.
    let failed = unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0, "no CPU clock");
    time.seconds as f64 * 1e9 + time.nanoseconds as f64
}

fn measure(ops: u64, mut body: impl FnMut()) -> Sample {
    let before = (TLBI.load(Ordering::Relaxed), SYNCS.load(Ordering::Relaxed));
    let start = thread_time();
    measured_region(&mut body);
    let ns = thread_time() - start;
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
fn ops<S: Subject>(workload: Workload) -> u64 {
    match workload {
        Workload::Map4kEach
        | Workload::Map4kB16
        | Workload::Map4kBulk
        | Workload::Unmap4kEach
        | Workload::Unmap4kBulk
        | Workload::I2p4k => PAGES,
        Workload::Map2mEach | Workload::Map2mBulk => BLOCKS,
        Workload::Map1gMu64 => 64 * ROUNDS,
        Workload::SplitFirst => PAGES * S::PAGE / S::BLOCK,
        Workload::Churn => PAGES / 4,
        Workload::Mix1To64 => PAGES / 16,
    }
}

/// Runs one workload once on a fresh table. Misaligned output addresses prevent larger leaves.
pub(crate) fn run<S: Subject>(workload: Workload, bits: u32) -> Sample {
    let (page, block, space) = (S::PAGE, S::BLOCK, PAGES * S::PAGE);
    // Every subject gets the same pages in the same order, regardless of their last use.
    crate::arena::divide(page as usize);
    let mut table = S::new(bits);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let ops = ops::<S>(workload);
    match workload {
        Workload::Map4kEach => measure(ops, || each(&mut table, space, page, page)),
        Workload::Map4kB16 => measure(ops, || each(&mut table, space, 16 * page, page)),
        Workload::Map4kBulk => measure(ops, || each(&mut table, space, space, page)),
        Workload::Map2mEach => measure(ops, || each(&mut table, BLOCKS * block, block, block)),
        Workload::Map2mBulk => measure(ops, || each(&mut table, BLOCKS * block, BLOCKS * block, block)),
        Workload::Map1gMu64 => giants(table, ops),
        Workload::Unmap4kEach => {
            table.map(0, page, space, page);
            measure(ops, || {
                for index in 0..PAGES {
                    table.unmap(index * page, page, page);
                }
            })
        }
        Workload::Unmap4kBulk => {
            table.map(0, page, space, page);
            measure(ops, || table.unmap(0, black_box(space), page))
        }
        Workload::SplitFirst => {
            table.map(0, block, space, block);
            let holes: Vec<u64> = (0..ops).map(|i| i * block + random.below(block / page) * page).collect();
            measure(ops, || holes.iter().for_each(|&iova| table.hole(iova)))
        }
        Workload::Churn => {
            pages(&mut table, &mut random);
            let order: Vec<u64> = (0..ops).map(|_| random.below(PAGES) * page).collect();
            measure(ops, || {
                for &iova in &order {
                    table.unmap(iova, page, page);
                    table.map(iova, iova + block, page, page);
                }
            })
        }
        Workload::Mix1To64 => {
            pages(&mut table, &mut random);
            let mut range = || {
                let n = 1 + random.below(64);
                (random.below(PAGES - n) * page, n * page)
            };
            let order: Vec<(u64, u64)> = (0..ops).map(|_| range()).collect();
            measure(ops, || {
                for &(iova, size) in &order {
                    table.unmap(iova, size, page);
                    table.map(iova, iova + block, size, page);
                }
            })
        }
        Workload::I2p4k => {
            table.map(0, page, space, page);
            let order: Vec<u64> = (0..ops).map(|_| random.below(space)).collect();
            measure(ops, || {
                let sum = order.iter().fold(0u64, |sum, &iova| sum.wrapping_add(table.translate(iova)));
                black_box(sum);
            })
        }
    }
}

/// Maps and unmaps 64 of the largest blocks.
#[inline]
fn giants<S: Subject>(mut table: S, ops: u64) -> Sample {
    let (page, block) = (S::PAGE, S::BLOCK);
    // Blocks of 1 GiB with 4K pages; with other granules the only block size.
    let giant = if page == 0x1000 { GIB } else { block };
    let size = 64 * giant;
    table.map(0, 0, giant, giant);
    measure(ops, move || {
        for _ in 0..ROUNDS {
            table.map(black_box(size), size, size, giant);
            table.unmap(black_box(size), size, giant);
        }
    })
}

/// Maps `total` bytes, `step` bytes per call, in leaves of `leaf` bytes.
#[inline]
fn each<S: Subject>(table: &mut S, total: u64, step: u64, leaf: u64) {
    let mut iova = 0;
    while iova < total {
        table.map(iova, iova + leaf, step, leaf);
        iova += step;
    }
}

/// Maps all pages: split from blocks if the subject can split, so that table memory is as fragmented as that of a
/// long-running host.
fn pages<S: Subject>(table: &mut S, random: &mut Random) {
    let (page, block, space) = (S::PAGE, S::BLOCK, PAGES * S::PAGE);
    if !S::SPLITS {
        return table.map(0, block + page, space, page);
    }
    table.map(0, block, space, block);
    for index in 0..space / block {
        let iova = index * block + random.below(block / page) * page;
        table.hole(iova);
        table.map(iova, iova + block, page, page);
    }
}

/// Bytes of tables for 1 GiB of pages.
pub(crate) fn table_pages<S: Subject>() -> usize {
    let before = crate::arena::used();
    let mut table = S::new(40);
    table.map(0, S::PAGE, GIB, S::PAGE);
    let used = crate::arena::used() - before;
    drop(table);
    used
}
