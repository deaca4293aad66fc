//! EL2's locks under shuttle, with a check of their order; with a [`Fault`] one of them is not taken.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use shuttle::thread::{self, ThreadId};

use crate::faults::{Fault, fault};
use crate::world::scheduling_point;

/// Ranks in the order of docs/locking.md: a lock is taken only while holding locks of lower rank.
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
    /// The locks that each CPU holds, in the order in which it took them. All threads of shuttle run on one system
    /// thread.
    static HELD: RefCell<HashMap<ThreadId, Vec<Rank>>> = RefCell::new(HashMap::new());
}

/// Clears the locks that an earlier schedule held.
pub(crate) fn clear() {
    HELD.with_borrow_mut(HashMap::clear);
}

/// One lock with the data that it protects.
pub(crate) struct Lock<T> {
    rank: Rank,
    gate: shuttle::sync::Mutex<()>,
    data: RefCell<T>,
}

/// A held lock.
pub(crate) struct Guard<'l, T> {
    // Dropped in this order.
    data: RefMut<'l, T>,
    _held: Held,
    _gate: Option<shuttle::sync::MutexGuard<'l, ()>>,
}

/// An entry of [`HELD`].
struct Held(ThreadId);

impl Held {
    /// Records that this CPU takes a lock of `rank`, before it waits for it; checks the order.
    fn new(rank: Rank) -> Self {
        let me = thread::current().id();
        HELD.with_borrow_mut(|held| {
            let mine = held.entry(me).or_default();
            let above = mine.iter().max().copied();
            let in_order = above.is_none_or(|above| above < rank);
            assert!(in_order || fault() == Fault::SmmuFirstUnchecked, "lock order: {rank:?} under {above:?}");
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
    /// A free lock.
    pub(crate) fn new(rank: Rank, data: T) -> Self {
        Self { rank, gate: shuttle::sync::Mutex::new(()), data: RefCell::new(data) }
    }

    /// Waits for the lock.
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        let held = Held::new(self.rank);
        let gate = if fault() == Fault::LeftOut(self.rank) {
            scheduling_point();
            None
        } else {
            Some(self.gate.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
        };
        // Fails if another CPU is inside.
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
