//! One random change of ownership, by any CPU: a call that must succeed, on pages that this CPU has locked.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::mutex::SpinMutex;

use super::pages::{GUESTS, LONGEST, LockedPages, Owner, PAGES};
use crate::edu::EDU_WORD;
use crate::firmware::{Answer, Hypercall};
use crate::num::{u64_of, usize_of};
use crate::nvme::DISK_WORD;
use crate::random::Random;
use crate::{mmio, time};

/// Average number of random picks of a guest's page after which the guest is destroyed.
const PICKS_PER_DESTRUCTION: u64 = 6;

/// Set to stop all CPUs.
pub static STOP: AtomicBool = AtomicBool::new(false);
/// Number of changes.
pub static MADE: AtomicU64 = AtomicU64::new(0);
/// The first failure.
pub static FAILURE: SpinMutex<Option<Failure>> = SpinMutex::new(None);

/// Failure of a change.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    /// A call was refused.
    Refused(Hypercall, u64, Answer),
    /// A returned page contained this word.
    Leak(u64, u64),
    /// The disk stopped working during the change.
    Disk,
}

fn fail(failure: Failure) -> Failure {
    FAILURE.lock().get_or_insert(failure);
    STOP.store(true, Ordering::SeqCst);
    failure
}

/// State of a guest. Its lock is held across calls with its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GuestState {
    None,
    Alive(u64),
    Dying(u64),
}

static GUEST_STATES: [SpinMutex<GuestState>; GUESTS] = [const { SpinMutex::new(GuestState::None) }; GUESTS];
/// Number of pages that belong to each guest or are shared with it.
static NAMED: [AtomicU64; GUESTS] = [const { AtomicU64::new(0) }; GUESTS];

/// The handle of a guest that can get pages; created if there is none. `None` while the last one still has pages.
fn alive_handle(state: &mut GuestState, guest: usize) -> Result<Option<u64>, Failure> {
    match *state {
        GuestState::Alive(handle) => return Ok(Some(handle)),
        GuestState::Dying(_) if NAMED[guest].load(Ordering::SeqCst) > 0 => return Ok(None),
        GuestState::Dying(_) | GuestState::None => {}
    }
    let created = Hypercall::VmCreate.raw(0, 0);
    if Answer::of(created[0]) != Answer::Success {
        return Err(fail(Failure::Refused(Hypercall::VmCreate, 0, Answer::of(created[0]))));
    }
    *state = GuestState::Alive(created[1]);
    Ok(Some(created[1]))
}

fn end(state: &mut GuestState) -> Result<(), Failure> {
    if let GuestState::Alive(handle) = *state {
        let answer = Answer::of(Hypercall::VmDestroy.raw(handle, 0)[0]);
        if answer != Answer::Success {
            return Err(fail(Failure::Refused(Hypercall::VmDestroy, handle, answer)));
        }
        *state = GuestState::Dying(handle);
    }
    Ok(())
}

/// Makes `call` on pages, which must succeed; `to` is the new owner.
fn call(locked: LockedPages, call: Hypercall, handle: u64, to: Owner) -> Result<(), Failure> {
    let answer = call.call_for(locked.base(), u64_of(locked.count), handle);
    if answer != Answer::Success {
        return Err(fail(Failure::Refused(call, locked.base(), answer)));
    }
    locked.release(to);
    MADE.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// As [`call`], for pages returned to the host: they must be zeroed.
fn call_back(locked: LockedPages, call: Hypercall) -> Result<(), Failure> {
    // A transfer that began earlier may reach the pages after the host owns them again.
    let idle = locked.has_no_transfers();
    let answer = call.call(locked.base(), u64_of(locked.count));
    if answer != Answer::Success {
        return Err(fail(Failure::Refused(call, locked.base(), answer)));
    }
    let late = |word: u64| word >> 48 == EDU_WORD >> 48 || !idle && word >> 48 == DISK_WORD >> 48;
    for addr in (locked.base()..locked.base() + locked.bytes()).step_by(8) {
        let word = mmio::read64(addr);
        if word != 0 && !late(word) {
            return Err(fail(Failure::Leak(addr, word)));
        }
    }
    locked.release(Owner::Host);
    MADE.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// Function that a CPU calls while it waits. [`Failure::Disk`] if it fails.
type Meanwhile<'f> = &'f mut dyn FnMut() -> Result<(), Failure>;

/// Waits until no disk transfer is in flight to pages that will be donated, and fills them. `meanwhile` must call the
/// disk's driver, if this CPU runs it.
fn prepare(locked: &LockedPages, meanwhile: Meanwhile<'_>) -> Result<(), Failure> {
    while !locked.has_no_transfers() {
        meanwhile()?;
    }
    locked.fill_with_canaries();
    Ok(())
}

/// Picks a random page, and changes it and adjacent ones, if that is possible now.
///
/// # Errors
/// The failure; all CPUs are stopped.
pub fn change(random: &mut Random, meanwhile: Meanwhile<'_>) -> Result<(), Failure> {
    let first = usize_of(random.below(u64_of(PAGES)));
    let most = usize_of(1 + random.below(u64_of(LONGEST)));
    let Some(locked) = LockedPages::take(first, most) else {
        return meanwhile();
    };
    match locked.owner {
        Owner::Host => donate_or_share(locked, random, meanwhile),
        Owner::Hyp => call_back(locked, Hypercall::HypDonateHost),
        Owner::SharedWithHyp => call(locked, Hypercall::HostUnshareHyp, 0, Owner::Host),
        Owner::Guest(guest) => {
            let state = &mut *GUEST_STATES[guest].lock();
            if random.below(PICKS_PER_DESTRUCTION) == 0 {
                end(state)?;
            }
            match state {
                GuestState::Dying(_) => reclaim(locked, guest),
                GuestState::Alive(_) | GuestState::None => {
                    let owner = locked.owner;
                    locked.release(owner);
                    Ok(())
                }
            }
        }
        Owner::SharedWithGuest(guest) => unshare(locked, guest),
        // The page cannot be locked at this point.
        Owner::Locked => Ok(()),
    }
}

fn reclaim(locked: LockedPages, guest: usize) -> Result<(), Failure> {
    let count = u64_of(locked.count);
    call_back(locked, Hypercall::HostReclaimPage)?;
    NAMED[guest].fetch_sub(count, Ordering::SeqCst);
    Ok(())
}

fn unshare(locked: LockedPages, guest: usize) -> Result<(), Failure> {
    let count = u64_of(locked.count);
    let state = GUEST_STATES[guest].lock();
    let (GuestState::Alive(handle) | GuestState::Dying(handle)) = *state else {
        return Err(fail(Failure::Refused(Hypercall::HostUnshareGuest, locked.base(), Answer::Denied)));
    };
    call(locked, Hypercall::HostUnshareGuest, handle, Owner::Host)?;
    NAMED[guest].fetch_sub(count, Ordering::SeqCst);
    Ok(())
}

/// Donates or shares pages of the host.
fn donate_or_share(locked: LockedPages, random: &mut Random, meanwhile: Meanwhile<'_>) -> Result<(), Failure> {
    let guest = usize_of(random.below(u64_of(GUESTS)));
    let (hypercall, to) = match random.below(4) {
        0 => return call(locked, Hypercall::HostShareHyp, 0, Owner::SharedWithHyp),
        1 => {
            prepare(&locked, meanwhile)?;
            return call(locked, Hypercall::HostDonateHyp, 0, Owner::Hyp);
        }
        2 => (Hypercall::HostShareGuest, Owner::SharedWithGuest(guest)),
        _ => {
            prepare(&locked, meanwhile)?;
            (Hypercall::HostDonateGuest, Owner::Guest(guest))
        }
    };
    let mut state = GUEST_STATES[guest].lock();
    let Some(handle) = alive_handle(&mut state, guest)? else {
        locked.release(Owner::Host);
        return Ok(());
    };
    // Done before another CPU can find the pages donated and return them.
    NAMED[guest].fetch_add(u64_of(locked.count), Ordering::SeqCst);
    call(locked, hypercall, handle, to)
}

/// Longest pause between two changes of a secondary, in microseconds. Without a pause the CPUs mostly wait for the
/// ticket lock, and with fewer host cores than CPUs the next one in turn is often not running.
const PAUSE_US: u64 = 4_000;
/// Poll interval of a secondary, in microseconds.
const POLL_US: u64 = 100;

/// The work of a secondary: changes until stopped.
pub fn change_until_stopped(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let mut wait = || {
        time::delay_us(POLL_US);
        Ok(())
    };
    while !STOP.load(Ordering::SeqCst) {
        if change(&mut random, &mut wait).is_err() {
            break;
        }
        time::delay_us(random.below(PAUSE_US));
    }
    0
}

/// Ends all shares, donations and guests. The other CPUs must have stopped, and no transfer may be in flight.
///
/// # Errors
/// As [`change`].
pub fn return_all() -> Result<(), Failure> {
    for state in &GUEST_STATES {
        end(&mut state.lock())?;
    }
    let mut first = 0;
    while first < PAGES {
        let Some(locked) = LockedPages::take(first, LONGEST) else {
            return Err(fail(Failure::Refused(Hypercall::Version, u64_of(first), Answer::Busy)));
        };
        first += locked.count;
        match locked.owner {
            Owner::Hyp => call_back(locked, Hypercall::HypDonateHost)?,
            Owner::SharedWithHyp => call(locked, Hypercall::HostUnshareHyp, 0, Owner::Host)?,
            Owner::Guest(guest) => reclaim(locked, guest)?,
            Owner::SharedWithGuest(guest) => unshare(locked, guest)?,
            Owner::Host | Owner::Locked => locked.release(Owner::Host),
        }
    }
    Ok(())
}
