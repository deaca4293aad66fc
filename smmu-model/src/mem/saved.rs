//! Saved states of memory, to restore.

use std::sync::Arc;

use super::page::{Page, Pages};
use super::{Inner, Memory};

/// A saved state of a [`Memory`], with its history. Two are equal if the memories are indistinguishable.
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

/// Whether these pages have the same content and history; a missing page is zero.
fn same(a: &Pages, b: &Pages) -> bool {
    let alike = |a: Option<&Arc<Page>>, b: Option<&Arc<Page>>| match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a.is_like(b),
        (Some(only), None) | (None, Some(only)) => only.is_like(&Page::EMPTY),
        (None, None) => true,
    };
    a.keys().chain(b.keys()).all(|page| alike(a.get(page), b.get(page)))
}

impl Memory {
    /// Saves the current state.
    #[must_use]
    pub fn save(&self) -> Saved {
        Saved(self.lock().clone())
    }

    /// Restores `saved`, including its time.
    pub fn restore(&self, saved: &Saved) {
        let mut guard = self.lock();
        let m = &mut *guard;
        let Inner { now, snoop, regions, cpu, poc, mmio, floors, dropped_before, stamp: _, pending } = &saved.0;
        (m.now, m.snoop, m.dropped_before) = (*now, *snoop, *dropped_before);
        m.regions.clone_from(regions);
        m.mmio.clone_from(mmio);
        m.floors.clone_from(floors);
        m.pending.clone_from(pending);
        put_back(&mut m.cpu, cpu);
        put_back(&mut m.poc, poc);
    }
}

/// Makes `pages` those of `saved`: what was not stored to is still shared with them.
fn put_back(pages: &mut Pages, saved: &Pages) {
    pages.retain(|number, page| match saved.get(number) {
        Some(old) => {
            if !Arc::ptr_eq(page, old) {
                page.clone_from(old);
            }
            true
        }
        None => false,
    });
    if pages.len() < saved.len() {
        pages.extend(saved.iter().map(|(number, page)| (*number, page.clone())));
    }
}
