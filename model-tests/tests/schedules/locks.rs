//! EL2's locks, under shuttle: who holds what, in which order, and what happens where one is left out.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use shuttle::thread::{self, ThreadId};

use crate::faults::{Fault, fault};
use crate::world::point;

/// Places in the order of docs/locking.md: a lock is taken only while holding locks of lower rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// The ownership map and its tables.
    Ownership,
    /// One SMMU; never two.
    Smmu,
    /// EL2's memory.
    Pool,
}

thread_local! {
    /// What each CPU holds, in the order in which it was taken. Shuttle's threads share one thread of the system.
    static HELD: RefCell<HashMap<ThreadId, Vec<Rank>>> = RefCell::new(HashMap::new());
}

/// Forgets what an earlier schedule held.
pub(crate) fn forget() {
    HELD.with_borrow_mut(HashMap::clear);
}

/// One lock and what it guards.
pub(crate) struct Lock<T> {
    rank: Rank,
    gate: shuttle::sync::Mutex<()>,
    data: RefCell<T>,
}

/// A lock that is held.
pub(crate) struct Guard<'l, T> {
    // Given up in this order.
    data: RefMut<'l, T>,
    _held: Held,
    _gate: Option<shuttle::sync::MutexGuard<'l, ()>>,
}

/// An entry of [`HELD`].
struct Held(ThreadId);

impl Held {
    /// Writes down that this CPU takes a lock of `rank`, which it then has to wait for.
    fn new(rank: Rank) -> Self {
        let me = thread::current().id();
        HELD.with_borrow_mut(|held| {
            let mine = held.entry(me).or_default();
            let above = mine.iter().max().copied();
            let in_order = above.is_none_or(|above| above < rank);
            assert!(in_order || fault() == Fault::SmmuFirstUnnoticed, "lock order: {rank:?} under {above:?}");
            mine.push(rank);
        });
        Self(me)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|held| held.get_mut(&self.0).and_then(Vec::pop));
    }
}

impl<T> Lock<T> {
    /// A lock that nobody holds.
    pub(crate) fn new(rank: Rank, data: T) -> Self {
        Self { rank, gate: shuttle::sync::Mutex::new(()), data: RefCell::new(data) }
    }

    /// Waits for the lock.
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        let held = Held::new(self.rank);
        let gate = if fault() == Fault::LeftOut(self.rank) {
            point();
            None
        } else {
            Some(self.gate.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
        };
        // What the lock is for: nobody else is inside.
        let Ok(data) = self.data.try_borrow_mut() else { panic!("two CPUs at once: {:?}", self.rank) };
        Guard { data, _held: held, _gate: gate }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}
