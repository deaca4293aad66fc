//! Random ownership changes from all CPUs but one, while that one has the disk transfer to the same pages all the time:
//! never does a transfer reach a page that is EL2's, always one that is the host's.
//!
//! `transitions=N`, `transfers=N` (the disk's, to pages of EL2's and as many to the host's) and `seed=N` on the command line
//! set the length and the course; the default is short enough for every test run.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::Once;

use crate::boot::MAX_CPUS;
use crate::edu::{Direction, Edu};
use crate::firmware::{Answer, Hypercall};
use crate::lab::{Ctx, Lab, Mode};
use crate::mem::{BLOCK, PAGE, alloc, page};
use crate::mmio;
use crate::num::{u64_of, usize_of};
use crate::nvme::{DISK_WORD, Nvme};
use crate::outcome::TestResult;
use crate::random::Random;
use crate::registry::{Clock, Runs};
use crate::tests::drivers::find_nvme;
use crate::tests::registers::still_sound;
use crate::{cpu, ensure, payload_test, println, sysreg};

/// Pages that change hands: two blocks' worth would be too many to be hit often, so every 16th page of eight blocks.
const PAGES: usize = 256;
/// Distance between two of them.
const STRIDE: u64 = 16 * PAGE;
/// Longest range of one call, in pages.
const LONGEST: u64 = 8;
/// Transitions unless the command line says otherwise.
const DEFAULT_TRANSITIONS: u64 = 2_000;
/// Longest that a run may take, in microseconds.
const PATIENCE_US: u64 = 3_600_000_000;

/// Low bits of a page's word: who has it. The rest counts its changes, so that an observer knows that nothing happened.
const OWNER: u64 = 3;
const HOST: u64 = 0;
const MOVING: u64 = 1;
const HYP: u64 = 2;
const SHARED: u64 = 3;
const CHANGE: u64 = 4;

/// Fills pages before they are given away.
const STALE: u64 = 0x57a1_e57a_1e57_a1e5;
/// Reported as a failure: a page came back with something in it.
const LEAK: u64 = 1;

static WORDS: [AtomicU64; PAGES] = [const { AtomicU64::new(HOST) }; PAGES];
static STOP: AtomicBool = AtomicBool::new(false);
static MADE: AtomicU64 = AtomicU64::new(0);
static FAILED: AtomicU64 = AtomicU64::new(0);
static BLOCKED: AtomicU64 = AtomicU64::new(0);
static THROUGH: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);
static ARENA: Once<u64> = Once::new();

fn number(ctx: &Ctx, name: &str, default: u64) -> u64 {
    ctx.machine.argument(name).and_then(|text| text.parse().ok()).unwrap_or(default)
}

payload_test!(stress_ownership, Runs::HYP, cpus = 2, clock = Clock::Real);
/// See the module's text.
fn stress_ownership(ctx: &Ctx) -> TestResult {
    let count = ctx.machine.cpu_count.min(MAX_CPUS);
    let transitions = number(ctx, "transitions", DEFAULT_TRANSITIONS);
    let transfers = number(ctx, "transfers", 1);
    let arena = *ARENA.call_once(|| alloc(u64_of(PAGES) * STRIDE, BLOCK));
    let mut nvme = find_nvme(ctx)?;
    let lab = Lab::new(ctx, Mode::Stage1)?;
    lab.smmu.borrow_mut().set_ste(nvme.function.sid, lab.stage1.ste())?;
    crate::tests::drivers::nvme_round_trip(&mut nvme, |pa| lab.bus(pa))?;
    for offset in (0..u64_of(PAGES) * STRIDE).step_by(4096) {
        lab.bus(arena + offset);
    }
    for index in 1..count {
        cpu::start(ctx.machine, index)?;
        cpu::send(index, change_hands, ctx.seed.wrapping_mul(0x1_0001) + u64_of(index));
    }
    let begin = sysreg::cntvct();
    let own = page();
    let own_bus = lab.bus(own);
    let mut random = Random::new(ctx.seed);
    let mut reader = SlowReader::new(lab.edu, |pa| lab.bus(pa));
    let mut rounds = 0_u64;
    while !STOP.load(Ordering::SeqCst) {
        transfer(&mut nvme, &mut random, |pa| lab.bus(pa), (own_bus, own))?;
        rounds += 1;
        reader.poll(&mut random, |pa| lab.bus(pa))?;
        let reached = |counter: &AtomicU64, least| counter.load(Ordering::SeqCst) >= least;
        if reached(&MADE, transitions) && reached(&BLOCKED, transfers) && reached(&THROUGH, transfers) {
            STOP.store(true, Ordering::SeqCst);
        }
        ensure!(sysreg::cntvct() - begin < sysreg::ticks(PATIENCE_US), "not done in time");
    }
    for index in 1..count {
        cpu::wait(index)?;
    }
    let failed = FAILED.load(Ordering::SeqCst);
    ensure!(failed == 0, "a transition failed: {:?}", Answer::of(failed));
    lab.edu.finish()?;
    give_back_everything(arena)?;
    let us = (sysreg::cntvct() - begin) * 1_000_000 / sysreg::cntfrq();
    let [made, blocked, through, wrong] = [&MADE, &BLOCKED, &THROUGH, &WRONG].map(|count| count.load(Ordering::SeqCst));
    let (edu, edu_blocked, edu_through) = (reader.reads, reader.blocked, reader.through);
    println!(
        "STRESS transitions={made} transfers={rounds} blocked={blocked} through={through} wrong={wrong} edu={edu} \
         edu_blocked={edu_blocked} edu_through={edu_through} us={us}"
    );
    ensure!(wrong == 0, "{wrong} transfers had the wrong result");
    ensure!(blocked > 0 && through > 0, "no transfer hit a page at rest");
    still_sound(ctx)
}

/// One transfer to a random page, held against who had it before and after.
fn transfer(nvme: &mut Nvme, random: &mut Random, bus: impl Fn(u64) -> u64, (own_bus, own): (u64, u64)) -> TestResult {
    let index = usize_of(random.below(u64_of(PAGES)));
    let victim = address(index) + random.below(8) * 512;
    let before = WORDS[index].load(Ordering::SeqCst);
    let landed = nvme.write_lands(bus(victim), own_bus, own)?;
    if WORDS[index].load(Ordering::SeqCst) == before {
        let counter = match (before & OWNER, landed) {
            (HYP, false) => &BLOCKED,
            (HOST | SHARED, true) => &THROUGH,
            (MOVING, _) => return Ok(()),
            _ => &WRONG,
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

fn address(index: usize) -> u64 {
    // Runs of eight neighbours, so that ranges can be moved; the runs are far apart.
    let (run, place) = (u64_of(index) / LONGEST, u64_of(index) % LONGEST);
    ARENA.get().copied().unwrap_or(0) + run * LONGEST * STRIDE + place * PAGE
}

/// Takes the pages `first..first + count` from state `from`; all or none.
fn take(first: usize, count: usize, from: u64) -> bool {
    let words = &WORDS[first..first + count];
    for (done, slot) in words.iter().enumerate() {
        let word = slot.load(Ordering::SeqCst);
        let taken = word & OWNER == from
            && slot.compare_exchange(word, word - from + MOVING, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if !taken {
            for undo in &words[..done] {
                undo.fetch_add(from.wrapping_sub(MOVING), Ordering::SeqCst);
            }
            return false;
        }
    }
    true
}

fn release(first: usize, count: usize, to: u64) {
    for word in &WORDS[first..first + count] {
        let moving = word.load(Ordering::SeqCst);
        word.store(moving - MOVING + CHANGE + to, Ordering::SeqCst);
    }
}

/// Whether a page that came back holds anything but zeros: what the disk has written since does not count.
fn leaks(base: u64, bytes: u64) -> bool {
    let foreign = |word: u64| word != 0 && word >> 48 != DISK_WORD >> 48;
    (0..bytes).step_by(8).any(|offset| foreign(mmio::read64(base + offset)))
}

/// Makes random transitions until all are made; the work of a secondary.
fn change_hands(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let mut made = 0;
    while !STOP.load(Ordering::SeqCst) {
        let first = usize_of(random.below(u64_of(PAGES)));
        let room = LONGEST - u64_of(first) % LONGEST;
        let count = usize_of(1 + random.below(room));
        let (from, to, call) = match random.below(4) {
            0 => (HOST, SHARED, Hypercall::HostShareHyp),
            1 => (SHARED, HOST, Hypercall::HostUnshareHyp),
            2 => (HOST, HYP, Hypercall::HostDonateHyp),
            _ => (HYP, HOST, Hypercall::HypDonateHost),
        };
        if !take(first, count, from) {
            sysreg::relax();
            continue;
        }
        if to == HYP {
            mmio::fill(address(first), u64_of(count) * PAGE, STALE);
        }
        let answer = call.raw(address(first) >> 12, u64_of(count))[0];
        let leaks = from == HYP && leaks(address(first), u64_of(count) * PAGE);
        if answer != 0 || leaks {
            FAILED.store(if answer != 0 { answer } else { LEAK }, Ordering::SeqCst);
            STOP.store(true, Ordering::SeqCst);
        }
        release(first, count, to);
        made += 1;
        MADE.fetch_add(1, Ordering::SeqCst);
    }
    made
}

/// `edu` beside the disk: a tenth of a second for a transfer, but another kind of master with another StreamID. It reads
/// pages that change hands, three transfers for each, and nobody waits for it.
struct SlowReader {
    edu: Edu,
    own: u64,
    own_bus: u64,
    step: Step,
    index: usize,
    before: u64,
    still: bool,
    reads: u64,
    blocked: u64,
    through: u64,
}

/// The transfer that runs.
#[derive(Clone, Copy)]
enum Step {
    /// Sets the device's buffer to what a blocked read leaves there.
    Canary,
    /// Reads the page.
    Read,
    /// Shows the buffer in the host's own page.
    Show,
}

const CANARY: u64 = 0xca9a_12ca_9a12_ca9a;
const MARK: u64 = 0x3a4b_3a4b_3a4b_3a4b;

impl SlowReader {
    fn new(edu: Edu, bus: impl Fn(u64) -> u64) -> Self {
        let own = page();
        let own_bus = bus(own);
        let (step, index, before, still) = (Step::Canary, 0, 0, false);
        let reader = Self { edu, own, own_bus, step, index, before, still, reads: 0, blocked: 0, through: 0 };
        reader.set_canary();
        reader
    }

    fn set_canary(&self) {
        mmio::write64(self.own, CANARY);
        self.edu.start(Direction::FromMemory, self.own_bus, 0, 8);
    }

    /// Goes on to the next transfer if the last one has ended, and judges what came of it.
    fn poll(&mut self, random: &mut Random, bus: impl Fn(u64) -> u64) -> TestResult {
        if !self.edu.is_idle() {
            return Ok(());
        }
        self.step = match self.step {
            Step::Canary => {
                self.index = usize_of(random.below(u64_of(PAGES)));
                self.before = WORDS[self.index].load(Ordering::SeqCst);
                self.edu.start(Direction::FromMemory, bus(address(self.index)), 0, 8);
                Step::Read
            }
            Step::Read => {
                self.reads += 1;
                self.still = WORDS[self.index].load(Ordering::SeqCst) == self.before;
                mmio::write64(self.own + 8, MARK);
                self.edu.start(Direction::ToMemory, self.own_bus + 8, 0, 8);
                Step::Show
            }
            Step::Show => {
                let seen = mmio::read64(self.own + 8);
                ensure!(seen != MARK, "edu does not reach the host's own page");
                self.judge(seen);
                self.set_canary();
                Step::Canary
            }
        };
        Ok(())
    }

    /// Holds what was read against who had the page all the time. A zero may be the host's or a refusal.
    fn judge(&mut self, seen: u64) {
        match (self.before & OWNER, seen) {
            _ if !self.still => {}
            (HYP, CANARY | 0) => self.blocked += 1,
            (HOST | SHARED, 0) | (MOVING, _) => {}
            (HYP, _) | (HOST | SHARED, CANARY) => {
                WRONG.fetch_add(1, Ordering::SeqCst);
            }
            _ => self.through += 1,
        }
    }
}

/// Ends all shares and donations.
fn give_back_everything(arena: u64) -> TestResult {
    for (index, word) in WORDS.iter().enumerate() {
        let call = match word.load(Ordering::SeqCst) & OWNER {
            HYP => Hypercall::HypDonateHost,
            SHARED => Hypercall::HostUnshareHyp,
            _ => continue,
        };
        let answer = call.call(address(index), 1);
        ensure!(answer == Answer::Success, "{call:?} of page {index} in the arena at {arena:#x}: {answer:?}");
        word.store(HOST, Ordering::SeqCst);
    }
    Ok(())
}
