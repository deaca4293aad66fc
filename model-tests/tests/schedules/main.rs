//! Transitions of pages, concurrent with traps of the host's driver, its stores to memory, DMA and the SMMU's own
//! work, under schedules that shuttle chooses.
//!
//! The driver, the ownership map and the IOMMU's tables are the real ones, and the locks are those of docs/locking.md,
//! taken as `hyp` takes them. The scheduler may switch at every register access, every load and store of EL2 and every
//! poll: devices and other CPUs also act during a trap, not only between two traps.
//!
//! `PORTCULLIS_SCHEDULES=N` runs N schedules of each kind, from `PORTCULLIS_SEED=N` on.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod bus;
mod cpus;
mod faults;
mod locks;
mod streams;
mod tables;
mod world;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use faults::{Fault, set_fault};
use locks::Rank;
use world::Shape;

/// Stack size of a thread in bytes: the model's walks and the driver need a large stack.
const STACK: usize = 1 << 18;
/// Number of steps of a schedule after which a thread is assumed to wait forever.
const STEPS: usize = 200_000;
/// Number of changes of priority in a schedule.
const CHANGES: usize = 3;

/// The selection of threads.
#[derive(Clone, Copy, Debug)]
enum Choice {
    /// At random, at every scheduling point.
    Random,
    /// By priorities that change a few times.
    Priorities,
}

fn number(name: &str) -> Option<usize> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn run(shape: Shape, choice: Choice, fault: Fault, seed: u64, schedules: usize) {
    fn with(scheduler: impl Scheduler + 'static, shape: Shape, fault: Fault) {
        let mut config = Config::new();
        config.stack_size = STACK;
        config.max_steps = MaxSteps::FailAfter(STEPS);
        config.silence_warnings = true;
        // A schedule has thousands of steps: its seed is enough to repeat it.
        config.failure_persistence = FailurePersistence::None;
        Runner::new(scheduler, config).run(move || {
            set_fault(fault);
            let world = world::boot(shape);
            cpus::run_all(&world);
            world.ended.set(true);
        });
    }
    match choice {
        Choice::Random => with(RandomScheduler::new_from_seed(seed, schedules), shape, fault),
        Choice::Priorities => with(PctScheduler::new_from_seed(seed, CHANGES, schedules), shape, fault),
    }
}

/// Runs schedules of an EL2 without a defect.
fn finds_nothing(shape: Shape, choice: Choice, schedules: usize) {
    let schedules = number("PORTCULLIS_SCHEDULES").unwrap_or(schedules);
    let seed = number("PORTCULLIS_SEED").and_then(|seed| u64::try_from(seed).ok()).unwrap_or(1);
    let end = catch_unwind(AssertUnwindSafe(|| run(shape, choice, Fault::None, seed, schedules)));
    if let Err(why) = end {
        eprintln!("{shape:?}, {choice:?}: PORTCULLIS_SEED={seed} PORTCULLIS_SCHEDULES={schedules}");
        resume_unwind(why);
    }
}

/// Checks that some schedule fails with `fault`, with a message that contains `words`.
fn is_detected(fault: Fault, words: &str) {
    for (seed, choice) in (1..).zip([Choice::Random, Choice::Priorities]) {
        let end = catch_unwind(AssertUnwindSafe(|| run(Shape::Leaves, choice, fault, seed, 100)));
        set_fault(Fault::None);
        if let Err(why) = end {
            let text = why.downcast_ref::<String>().map(String::as_str).or_else(|| why.downcast_ref::<&str>().copied());
            let text = text.unwrap_or("something");
            assert!(text.contains(words), "{fault:?} is detected, but by {text}");
            println!("attack run without its defence: {fault:?}: {}", text.lines().collect::<Vec<_>>().join(" "));
            return;
        }
    }
    panic!("no schedule detects {fault:?}");
}

#[test]
fn t38_pages_change_owner_within_traps() {
    finds_nothing(Shape::Leaves, Choice::Random, 20);
    finds_nothing(Shape::Leaves, Choice::Priorities, 20);
}

#[test]
fn t38_t41_two_level_tables_change_within_transitions() {
    finds_nothing(Shape::TwoLevel, Choice::Random, 10);
    finds_nothing(Shape::TwoLevel, Choice::Priorities, 10);
}

#[test]
fn t38_t46_blocks_are_split_within_traps() {
    finds_nothing(Shape::Block, Choice::Random, 10);
    finds_nothing(Shape::Block, Choice::Priorities, 10);
}

#[test]
fn t69_assignments_race_revocations() {
    finds_nothing(Shape::Leaves, Choice::Random, 12);
    finds_nothing(Shape::TwoLevel, Choice::Priorities, 8);
}

#[test]
fn a_missing_lock_is_detected() {
    is_detected(Fault::LeftOut(Rank::Ownership), "two CPUs at once: Ownership");
    is_detected(Fault::LeftOut(Rank::Smmu), "two CPUs at once: Smmu");
}

#[test]
fn a_wrong_lock_order_is_detected_and_can_deadlock() {
    is_detected(Fault::SmmuFirst, "lock order: Ownership under Some(Smmu)");
    is_detected(Fault::SmmuFirstUnchecked, "deadlock");
}

#[test]
fn t04_an_invalidation_before_the_table_changes_is_detected() {
    is_detected(Fault::InvalidateFirst, "foreign");
}

#[test]
fn t34_a_skipped_smmu_is_detected() {
    is_detected(Fault::OneSmmu, "foreign");
}
