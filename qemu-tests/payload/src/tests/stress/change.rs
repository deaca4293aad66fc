//! One random change of ownership, by any CPU: a call that must succeed, on pages that this CPU has taken.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::mutex::SpinMutex;

use super::pages::{GUESTS, LONGEST, Owner, PAGES, Taken};
use crate::edu::EDU_WORD;
use crate::firmware::{Answer, Hypercall};
use crate::num::{u64_of, usize_of};
use crate::nvme::DISK_WORD;
use crate::random::Random;
use crate::{mmio, sysreg};

/// One in so many looks at a living guest's page ends the guest.
const LOOKS_PER_LIFE: u64 = 6;

/// Everybody is to stop.
pub static STOP: AtomicBool = AtomicBool::new(false);
/// Changes made so far.
pub static MADE: AtomicU64 = AtomicU64::new(0);
/// The first thing that went wrong.
pub static FAILURE: SpinMutex<Option<Failure>> = SpinMutex::new(None);

/// What went wrong with a change.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    /// A call was refused.
    Refused(Hypercall, u64, Answer),
    /// A page came back with this word in it.
    Leak(u64, u64),
    /// The disk stopped working meanwhile.
    Disk,
}

fn fail(failure: Failure) -> Failure {
    FAILURE.lock().get_or_insert(failure);
    STOP.store(true, Ordering::SeqCst);
    failure
}

/// A guest's life. Its lock is held across the calls that name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    None,
    Alive(u64),
    Dying(u64),
}

static LIVES: [SpinMutex<Life>; GUESTS] = [const { SpinMutex::new(Life::None) }; GUESTS];
/// Pages that name each guest.
static NAMED: [AtomicU64; GUESTS] = [const { AtomicU64::new(0) }; GUESTS];

/// The handle of a guest that can be given pages, made if there is none; `None` while the last one has pages left.
fn living(life: &mut Life, guest: usize) -> Result<Option<u64>, Failure> {
    match *life {
        Life::Alive(handle) => return Ok(Some(handle)),
        Life::Dying(_) if NAMED[guest].load(Ordering::SeqCst) > 0 => return Ok(None),
        Life::Dying(_) | Life::None => {}
    }
    let created = Hypercall::VmCreate.raw(0, 0);
    if Answer::of(created[0]) != Answer::Success {
        return Err(fail(Failure::Refused(Hypercall::VmCreate, 0, Answer::of(created[0]))));
    }
    *life = Life::Alive(created[1]);
    Ok(Some(created[1]))
}

fn end(life: &mut Life) -> Result<(), Failure> {
    if let Life::Alive(handle) = *life {
        let answer = Answer::of(Hypercall::VmDestroy.raw(handle, 0)[0]);
        if answer != Answer::Success {
            return Err(fail(Failure::Refused(Hypercall::VmDestroy, handle, answer)));
        }
        *life = Life::Dying(handle);
    }
    Ok(())
}

/// Makes `call` on pages, which must succeed; they are `to`'s then.
fn call(taken: Taken, call: Hypercall, handle: u64, to: Owner) -> Result<(), Failure> {
    let answer = call.call_for(taken.base(), u64_of(taken.count), handle);
    if answer != Answer::Success {
        return Err(fail(Failure::Refused(call, taken.base(), answer)));
    }
    taken.release(to);
    MADE.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// As [`call`], for pages that come back to the host: they must hold zeroes.
fn call_back(taken: Taken, call: Hypercall) -> Result<(), Failure> {
    // Transfers that began while the pages were not the host's may reach them from the moment on when they are.
    let quiet = taken.is_quiet();
    let answer = call.call(taken.base(), u64_of(taken.count));
    if answer != Answer::Success {
        return Err(fail(Failure::Refused(call, taken.base(), answer)));
    }
    let late = |word: u64| word >> 48 == EDU_WORD >> 48 || !quiet && word >> 48 == DISK_WORD >> 48;
    for addr in (taken.base()..taken.base() + taken.bytes()).step_by(8) {
        let word = mmio::read64(addr);
        if word != 0 && !late(word) {
            return Err(fail(Failure::Leak(addr, word)));
        }
    }
    taken.release(Owner::Host);
    MADE.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// What a CPU does while it waits. [`Failure::Disk`] if that fails.
type Meanwhile<'f> = &'f mut dyn FnMut() -> Result<(), Failure>;

/// Waits until no transfer of the disk is under way to pages that are to be given away, and fills them. `meanwhile` must let the
/// disk's driver go on, if it is this CPU's.
fn prepare(taken: &Taken, meanwhile: Meanwhile<'_>) -> Result<(), Failure> {
    while !taken.is_quiet() {
        meanwhile()?;
    }
    taken.fill_with_canaries();
    Ok(())
}

/// One look at a random page and a change of it and its neighbours, if one is possible now.
///
/// # Errors
/// What was not as it must be; everybody has been told to stop.
pub fn change(random: &mut Random, meanwhile: Meanwhile<'_>) -> Result<(), Failure> {
    let first = usize_of(random.below(u64_of(PAGES)));
    let most = usize_of(1 + random.below(u64_of(LONGEST)));
    let Some(taken) = Taken::take(first, most) else {
        return meanwhile();
    };
    match taken.owner {
        Owner::Host => leave(taken, random, meanwhile),
        Owner::Hyp => call_back(taken, Hypercall::HypDonateHost),
        Owner::LentToHyp => call(taken, Hypercall::HostUnshareHyp, 0, Owner::Host),
        Owner::Guest(guest) => {
            let life = &mut *LIVES[guest].lock();
            if random.below(LOOKS_PER_LIFE) == 0 {
                end(life)?;
            }
            match life {
                Life::Dying(_) => reclaim(taken, guest),
                Life::Alive(_) | Life::None => {
                    let owner = taken.owner;
                    taken.release(owner);
                    Ok(())
                }
            }
        }
        Owner::LentToGuest(guest) => end_loan(taken, guest),
        // Nobody takes those.
        Owner::Moving => Ok(()),
    }
}

fn reclaim(taken: Taken, guest: usize) -> Result<(), Failure> {
    let count = u64_of(taken.count);
    call_back(taken, Hypercall::HostReclaimPage)?;
    NAMED[guest].fetch_sub(count, Ordering::SeqCst);
    Ok(())
}

fn end_loan(taken: Taken, guest: usize) -> Result<(), Failure> {
    let count = u64_of(taken.count);
    let life = LIVES[guest].lock();
    let (Life::Alive(handle) | Life::Dying(handle)) = *life else {
        return Err(fail(Failure::Refused(Hypercall::HostUnshareGuest, taken.base(), Answer::Denied)));
    };
    call(taken, Hypercall::HostUnshareGuest, handle, Owner::Host)?;
    NAMED[guest].fetch_sub(count, Ordering::SeqCst);
    Ok(())
}

/// Pages of the host's that go somewhere else, or are lent.
fn leave(taken: Taken, random: &mut Random, meanwhile: Meanwhile<'_>) -> Result<(), Failure> {
    let guest = usize_of(random.below(u64_of(GUESTS)));
    let (hypercall, to) = match random.below(4) {
        0 => return call(taken, Hypercall::HostShareHyp, 0, Owner::LentToHyp),
        1 => {
            prepare(&taken, meanwhile)?;
            return call(taken, Hypercall::HostDonateHyp, 0, Owner::Hyp);
        }
        2 => (Hypercall::HostShareGuest, Owner::LentToGuest(guest)),
        _ => {
            prepare(&taken, meanwhile)?;
            (Hypercall::HostDonateGuest, Owner::Guest(guest))
        }
    };
    let mut life = LIVES[guest].lock();
    let Some(handle) = living(&mut life, guest)? else {
        taken.release(Owner::Host);
        return Ok(());
    };
    // Before anybody can see the pages there, and give them back.
    NAMED[guest].fetch_add(u64_of(taken.count), Ordering::SeqCst);
    call(taken, hypercall, handle, to)
}

/// Longest pause between two changes of a secondary, in microseconds. With none at all the CPUs do little but wait for the lock in
/// turns, and where the emulator has fewer cores than the machine has CPUs, it is the turn of one that does not run.
const PAUSE_US: u64 = 4_000;
/// Pause before a secondary looks again for what it waits for, in microseconds.
const LOOK_US: u64 = 100;

/// The work of a secondary: changes until everybody is to stop.
pub fn change_until_stopped(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let mut wait = || {
        sysreg::delay_us(LOOK_US);
        Ok(())
    };
    while !STOP.load(Ordering::SeqCst) {
        if change(&mut random, &mut wait).is_err() {
            break;
        }
        sysreg::delay_us(random.below(PAUSE_US));
    }
    0
}

/// Ends all loans, donations and guests. No other CPU makes changes any more, and no transfer is under way.
///
/// # Errors
/// As [`change`].
pub fn give_everything_back() -> Result<(), Failure> {
    for life in &LIVES {
        end(&mut life.lock())?;
    }
    let mut first = 0;
    while first < PAGES {
        let Some(taken) = Taken::take(first, LONGEST) else {
            return Err(fail(Failure::Refused(Hypercall::Version, u64_of(first), Answer::Busy)));
        };
        first += taken.count;
        match taken.owner {
            Owner::Hyp => call_back(taken, Hypercall::HypDonateHost)?,
            Owner::LentToHyp => call(taken, Hypercall::HostUnshareHyp, 0, Owner::Host)?,
            Owner::Guest(guest) => reclaim(taken, guest)?,
            Owner::LentToGuest(guest) => end_loan(taken, guest)?,
            Owner::Host | Owner::Moving => taken.release(Owner::Host),
        }
    }
    Ok(())
}
