//! The end of a run after a bug of EL2: one CPU ends it, and no other CPU changes a table of the host any more.
//!
//! The CPU that ends the run may hold any lock, and so may a CPU that waits for it: every wait here is bounded.

use core::sync::atomic::{AtomicU64, Ordering};
use spin::mutex::{TicketMutex, TicketMutexGuard};

/// Whether the run is ending, and on which CPU.
pub struct Ending(AtomicU64);

/// The action of a CPU that found a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// End the run: this CPU is the first.
    Ends,
    /// Power off immediately: this CPU failed while it ended the run.
    EndsAtOnce,
    /// Park: another CPU ends it.
    Parks,
}

impl Default for Ending {
    fn default() -> Self {
        Self::new()
    }
}

impl Ending {
    /// The run continues.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The run is ending, on the CPU with this `MPIDR_EL1`, which is not 0 (bit 31 is one).
    pub fn begin(&self, mpidr: u64) -> Role {
        match self.0.compare_exchange(0, mpidr, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => Role::Ends,
            Err(first) if first == mpidr => Role::EndsAtOnce,
            Err(_) => Role::Parks,
        }
    }

    /// Whether the run is ending on some CPU.
    #[inline]
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::SeqCst) != 0
    }

    /// Whether the run ends on another CPU than the one with this `MPIDR_EL1`.
    #[inline]
    pub fn has_begun_elsewhere(&self, mpidr: u64) -> bool {
        let ends = self.0.load(Ordering::SeqCst);
        ends != 0 && ends != mpidr
    }

    /// Takes `lock`. `None` if the run ends, which is checked with the lock held; the caller must then park.
    #[inline]
    pub fn lock<'l, T>(&self, lock: &'l TicketMutex<T>) -> Option<TicketMutexGuard<'l, T>> {
        let guard = lock.lock();
        if self.has_begun() { None } else { Some(guard) }
    }

    /// After [`Ending::begin`]: takes `lock` after all CPUs that hold it or wait for it. The caller never releases it.
    ///
    /// `None` if no `time_is_left`: its holder is this CPU, or waits for one of this CPU's locks, or for hardware.
    pub fn take<'l, T>(
        &self,
        lock: &'l TicketMutex<T>,
        mut time_is_left: impl FnMut() -> bool,
    ) -> Option<TicketMutexGuard<'l, T>> {
        loop {
            let guard = lock.try_lock();
            if guard.is_some() || !time_is_left() {
                return guard;
            }
            core::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{thread, vec::Vec};

    #[test]
    fn one_cpu_ends_the_run_and_prints_once() {
        let ending = Ending::new();
        assert!(!ending.has_begun());
        let roles = [0x8000_0001, 0x8000_0000, 0x8000_0001].map(|cpu| ending.begin(cpu));
        assert_eq!(roles, [Role::Ends, Role::Parks, Role::EndsAtOnce]);
        assert!(ending.has_begun());
    }

    #[test]
    fn a_lock_is_taken_once_released_or_the_wait_times_out() {
        let (ending, lock) = (Ending::new(), TicketMutex::new(()));
        let guard = ending.lock(&lock);
        assert!(guard.is_some());
        assert_eq!(ending.begin(1 << 31), Role::Ends);
        let mut left = 10;
        let taken = ending.take(&lock, || {
            left -= 1;
            left > 0
        });
        assert!(taken.is_none() && left == 0, "it waits while there is time");
        drop(guard);
        assert!(ending.lock(&lock).is_none(), "no CPU gets the lock later");
        assert!(ending.take(&lock, || false).is_some(), "no time is needed");
    }

    #[test]
    fn the_cpu_that_ends_the_run_does_not_park() {
        let (ending, this, other) = (Ending::new(), 0x8000_0001, 0x8000_0000);
        assert!(!ending.has_begun_elsewhere(this));
        assert_eq!(ending.begin(this), Role::Ends);
        assert!(!ending.has_begun_elsewhere(this) && ending.has_begun_elsewhere(other));
    }

    /// A descriptor that three CPUs write under the lock, continuously, and the CPU that ends the run clears.
    #[test]
    fn t57_a_descriptor_cleared_by_the_ending_cpu_stays_cleared() {
        for _ in 0..20 {
            let (ending, lock, root) = (Ending::new(), TicketMutex::new(()), AtomicU64::new(0));
            thread::scope(|cpus| {
                let donations: Vec<_> = (0..3)
                    .map(|_| {
                        cpus.spawn(|| {
                            // Bounded, in case of an error in the test.
                            for _ in 0..2000 {
                                let Some(_guard) = ending.lock(&lock) else { break };
                                root.store(root.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
                            }
                        })
                    })
                    .collect();
                while root.load(Ordering::Relaxed) < 10 {
                    thread::yield_now();
                }
                assert_eq!(ending.begin(1 << 31), Role::Ends);
                let held = std::iter::repeat_with(|| ending.take(&lock, || true)).find(Option::is_some);
                root.store(0, Ordering::Relaxed);
                thread::yield_now();
                assert_eq!(root.load(Ordering::Relaxed), 0, "while the lock is held");
                drop(held);
                donations.into_iter().for_each(|cpu| assert!(cpu.join().is_ok()));
                assert_eq!(root.load(Ordering::Relaxed), 0);
            });
        }
    }
}
