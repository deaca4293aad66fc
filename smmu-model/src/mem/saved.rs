//! What memory was at one moment, to go back to.

use std::sync::Arc;

use super::page::{Page, Pages};
use super::{Inner, Memory};

/// What a [`Memory`] was at one moment, its past included. Two are equal if nobody can tell the memories from each other.
#[derive(Clone)]
pub struct Saved(Inner);

impl PartialEq for Saved {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&self.0, &other.0);
        (a.now, a.snoop, &a.floors, &a.mmio) == (b.now, b.snoop, &b.floors, &b.mmio)
            && a.regions == b.regions
            && same(&a.cpu, &b.cpu)
            && same(&a.poc, &b.poc)
    }
}

/// Whether these pages have the same content and past; one that is not there is zero.
fn same(a: &Pages, b: &Pages) -> bool {
    let alike = |a: Option<&Arc<Page>>, b: Option<&Arc<Page>>| match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b) || (a.words, &a.past) == (b.words, &b.past),
        (Some(only), None) | (None, Some(only)) => only.past.is_empty() && only.words.iter().all(|word| *word == 0),
        (None, None) => true,
    };
    a.keys().chain(b.keys()).all(|page| alike(a.get(page), b.get(page)))
}

impl Memory {
    /// What it is now.
    #[must_use]
    pub fn save(&self) -> Saved {
        Saved(self.lock().clone())
    }

    /// Makes it what it was when `saved` was made of it: also its time, which runs on from there.
    pub fn restore(&self, saved: &Saved) {
        let mut m = self.lock();
        let stamp = m.stamp;
        *m = saved.0.clone();
        m.stamp = stamp;
    }
}
