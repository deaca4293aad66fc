//! Random ownership changes from all CPUs, during continuous transfers of a disk and `edu` to the same pages: a
//! transfer must never reach a page of EL2 or a guest, and must always reach a page of the host.
//!
//! `transitions=N`, `transfers=N` (the disk's, at pages that are not the host's and as many at the host's) and `seed=N`
//! on the command line set length and random seed; the defaults are short enough for every test run. On a machine with two
//! SMMUs the disk is behind the first and `edu` behind the second. At the end
//! everything is returned (pages, shares, guests) and the host's SMMUs are off. EL2's last lines have the result of its
//! pool and table checks.

pub mod change;
pub mod disk;
pub mod pages;
pub mod slow;

use core::sync::atomic::Ordering;

use crate::num::u64_of;
use crate::outcome::TestResult;
use crate::random::Random;
use crate::registry::{Clock, Runs};
use crate::setup::{Ctx, Mode, Setup};
use crate::smmu::spec::{Cmd, Ste, cr0};
use crate::sysreg::MAX_CPUS;
use crate::tests::drivers::{find_nvme, nvme_round_trip};
use crate::tests::registers::check_isolation;
use crate::{cpu, ensure, fail, payload_test, println, sysreg, time};
use change::{FAILURE, Failure, MADE, STOP};
use disk::Disk;
use slow::EduProbe;

/// Default numbers of transitions, and of transfers of each kind.
const DEFAULT: (u64, u64) = (2_000, 200);
/// Poll interval of the CPU with the devices' drivers, in microseconds.
const POLL_US: u64 = 200;
/// Polls per ownership change by that CPU.
const POLLS_PER_CHANGE: u64 = 6;
/// Number of wrong transfers at which the run ends.
const ENOUGH_WRONG: u64 = 16;
/// Interval of progress lines, in microseconds.
const PROGRESS_US: u64 = 5_000_000;
/// Timeout without a transition, in microseconds.
const TIMEOUT_US: u64 = 120_000_000;

fn number(ctx: &Ctx, name: &str, default: u64) -> u64 {
    ctx.machine.argument(name).and_then(|text| text.parse().ok()).unwrap_or(default)
}

payload_test!(stress_ownership, Runs::HYP, cpus = 1, clock = Clock::Real);
/// See the module's documentation.
fn stress_ownership(ctx: &Ctx) -> TestResult {
    let count = ctx.machine.cpu_count.min(MAX_CPUS);
    let transitions = number(ctx, "transitions", DEFAULT.0);
    let transfers = number(ctx, "transfers", DEFAULT.1);
    let mut nvme = find_nvme(ctx)?;
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.smmu.borrow_mut().set_ste(nvme.function.sid, setup.stage1.ste())?;
    nvme_round_trip(&mut nvme, |pa| setup.bus(pa))?;
    pages::init(&setup);
    let mut disk = Disk::new(nvme, &setup, ctx.seed ^ 0xd15c)?;
    let second = ctx.machine.second.map(|_| Setup::second(ctx, Mode::Stage1)).transpose()?;
    let mut slow = EduProbe::new(second.as_ref().unwrap_or(&setup));
    for index in 1..count {
        cpu::start(ctx.machine, index)?;
        cpu::send(index, change::change_until_stopped, ctx.seed.wrapping_mul(0x1_0001) + u64_of(index));
    }
    let mut random = Random::new(ctx.seed);
    let begin = sysreg::cntvct();
    let mut progress = Progress { made: 0, at: begin, printed: begin };
    while !STOP.load(Ordering::SeqCst) {
        disk.poll()?;
        slow.poll(&mut random)?;
        if random.below(POLLS_PER_CHANGE) == 0 {
            let mut broken = Ok(());
            let made = change::change(&mut random, &mut || {
                broken = disk.poll();
                time::delay_us(POLL_US);
                if broken.is_ok() { Ok(()) } else { Err(Failure::Disk) }
            });
            broken?;
            if made.is_err() {
                break;
            }
        }
        progress.check(&disk)?;
        // The emulator's disk also needs some of the build machine's time.
        time::delay_us(POLL_US);
        let least = disk.tally.blocked.min(disk.tally.through);
        let enough = MADE.load(Ordering::SeqCst) >= transitions && least >= transfers;
        if enough || disk.tally.wrong + slow.wrong >= ENOUGH_WRONG {
            STOP.store(true, Ordering::SeqCst);
        }
    }
    disk.finish()?;
    for index in 1..count {
        cpu::wait(index)?;
    }
    slow.finish()?;
    report(&disk, &slow, begin)?;
    check_isolation(ctx)?;
    for setup in second.iter().chain([&setup]) {
        setup.smmu.borrow().off()?;
    }
    Ok(())
}

/// Prints the numbers of the run; fails with the first error of a CPU or a device.
fn report(disk: &Disk<'_>, slow: &EduProbe<'_>, begin: u64) -> TestResult {
    let made = MADE.load(Ordering::SeqCst);
    let us = (sysreg::cntvct() - begin) * 1_000_000 / sysreg::cntfrq();
    if FAILURE.lock().is_none() {
        // Errors are reported below.
        let _ = change::return_all();
    }
    if let Some(failure) = *FAILURE.lock() {
        fail!("after {made} transitions: {failure:x?}");
    }
    let tally = disk.tally;
    println!(
        "STRESS transitions={made} blocked={} through={} undecided={} wrong={} edu={} edu_blocked={} edu_through={} us={us}",
        tally.blocked,
        tally.through,
        tally.undecided,
        tally.wrong + slow.wrong,
        slow.transfers,
        slow.blocked,
        slow.through
    );
    ensure!(tally.wrong + slow.wrong == 0, "{} transfers had the wrong result", tally.wrong + slow.wrong);
    Ok(())
}

payload_test!(t38_devices_at_once, Runs::HYP, cpus = 1, clock = Clock::Real);
/// Changes of ownership, entries, queues and commands by a single CPU, concurrent with transfers of the disk and
/// `edu`.
fn t38_devices_at_once(ctx: &Ctx) -> TestResult {
    let mut nvme = find_nvme(ctx)?;
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.smmu.borrow_mut().set_ste(nvme.function.sid, setup.stage1.ste())?;
    nvme_round_trip(&mut nvme, |pa| setup.bus(pa))?;
    pages::init(&setup);
    let mut disk = Disk::new(nvme, &setup, ctx.seed)?;
    let mut slow = EduProbe::new(&setup);
    let mut random = Random::new(ctx.seed);
    let begin = sysreg::cntvct();
    let mut progress = Progress { made: 0, at: begin, printed: begin };
    while MADE.load(Ordering::SeqCst) < 500 || disk.tally.blocked.min(disk.tally.through) < 100 {
        disk.poll()?;
        slow.poll(&mut random)?;
        let mut broken = Ok(());
        let made = change::change(&mut random, &mut || {
            broken = disk.poll();
            if broken.is_ok() { Ok(()) } else { Err(Failure::Disk) }
        });
        broken?;
        if let Err(failure) = made {
            fail!("{failure:x?}");
        }
        let mut smmu = setup.smmu.borrow_mut();
        let on = cr0::SMMUEN | cr0::EVENTQEN;
        match random.below(4) {
            0 => smmu.try_command(Cmd::cfgi_all())?,
            1 => smmu.set_ste(OTHER_STREAM, if random.below(2) == 0 { Ste::bypass() } else { Ste::abort() })?,
            2 => {
                smmu.set_cr0(on)?;
                smmu.start_cmdq(on)?;
            }
            _ => {
                smmu.set_cr0(cr0::SMMUEN | cr0::CMDQEN)?;
                smmu.set_cr0(on | cr0::CMDQEN)?;
            }
        }
        drop(smmu);
        progress.check(&disk)?;
    }
    disk.finish()?;
    slow.finish()?;
    if let Err(failure) = change::return_all() {
        fail!("{failure:x?}");
    }
    println!("{} transitions, {:?}", MADE.load(Ordering::SeqCst), disk.tally);
    ensure!(disk.tally.wrong + slow.wrong == 0, "{} transfers had the wrong result", disk.tally.wrong + slow.wrong);
    check_isolation(ctx)
}

/// A stream of bus 0 without a device.
const OTHER_STREAM: u32 = 0xf0;

/// Prints progress, and detects a stall.
struct Progress {
    made: u64,
    at: u64,
    printed: u64,
}

impl Progress {
    fn check(&mut self, disk: &Disk<'_>) -> TestResult {
        let (now, made) = (sysreg::cntvct(), MADE.load(Ordering::SeqCst));
        if made != self.made {
            (self.made, self.at) = (made, now);
        }
        ensure!(now - self.at < sysreg::ticks(TIMEOUT_US), "no transition for two minutes: {made} made");
        if now - self.printed > sysreg::ticks(PROGRESS_US) {
            self.printed = now;
            println!("PROGRESS transitions={made} blocked={} through={}", disk.tally.blocked, disk.tally.through);
        }
        Ok(())
    }
}
