//! The pages of RAM, by address. Saved pages are shared until they are written; only written ones are restored.

use std::sync::Arc;

use super::PAGE;
use super::page::{Page, index_of};

/// One view of all RAM: the [`Place`] of each page.
#[derive(Clone, Default)]
pub(super) struct Pages {
    areas: Vec<Area>,
    places: Vec<Place>,
    /// The places of pages that were ever written.
    written: Vec<u32>,
    /// The places of pages that are [`Place::Own`].
    own: Vec<u32>,
    /// Identifies the state that was last saved or restored.
    base: Arc<()>,
}

/// A range of RAM: its first page, its number of pages, and the place of the first.
#[derive(Clone, Copy)]
struct Area {
    first: u64,
    count: u64,
    place: usize,
}

#[derive(Clone, Default)]
enum Place {
    /// Zero.
    #[default]
    Empty,
    /// Unchanged since it was saved.
    Saved(Arc<Page>),
    /// Written since.
    Own(Box<Page>),
}

impl Place {
    fn page(&self) -> Option<&Page> {
        match self {
            Self::Empty => None,
            Self::Saved(page) => Some(page),
            Self::Own(page) => Some(page),
        }
    }
}

impl Pages {
    /// Adds RAM.
    pub(super) fn add(&mut self, base: u64, size: u64) {
        let count = size / PAGE;
        self.areas.push(Area { first: base / PAGE, count, place: self.places.len() });
        self.places.extend((0..count).map(|_| Place::Empty));
    }

    fn place(&self, pa: u64) -> Option<usize> {
        let page = pa / PAGE;
        let area = self.areas.iter().find(|area| page.wrapping_sub(area.first) < area.count)?;
        usize::try_from(page - area.first).ok().map(|skip| area.place + skip)
    }

    pub(super) fn is_ram(&self, pa: u64) -> bool {
        self.place(pa).is_some()
    }

    /// The page of `pa`, if it was ever written.
    pub(super) fn get(&self, pa: u64) -> Option<&Page> {
        self.places.get(self.place(pa)?)?.page()
    }

    /// The word at `pa`.
    pub(super) fn load(&self, pa: u64) -> u64 {
        self.get(pa).map_or(0, |page| page.word(index_of(pa)))
    }

    /// The page of `pa`, mutable; `None` outside RAM.
    pub(super) fn get_mut(&mut self, pa: u64) -> Option<&mut Page> {
        let at = self.place(pa)?;
        self.own(at)
    }

    /// As [`Pages::get_mut`]; also sets the page's stamp to `stamp`.
    pub(super) fn change(&mut self, pa: u64, stamp: u64) -> Option<&mut Page> {
        let page = self.get_mut(pa)?;
        page.changes(stamp);
        Some(page)
    }

    fn own(&mut self, at: usize) -> Option<&mut Page> {
        let place = self.places.get_mut(at)?;
        if !matches!(place, Place::Own(_)) {
            let number = u32::try_from(at).ok()?;
            let page = match place {
                Place::Saved(page) => Box::new(Page::clone(page)),
                Place::Empty | Place::Own(_) => {
                    self.written.push(number);
                    Box::new(Page::EMPTY)
                }
            };
            self.own.push(number);
            *place = Place::Own(page);
        }
        match place {
            Place::Own(page) => Some(page),
            Place::Empty | Place::Saved(_) => None,
        }
    }

    /// Calls `act` for every page that `which` selects.
    pub(super) fn each_mut(&mut self, which: impl Fn(&Page) -> bool, mut act: impl FnMut(&mut Page)) {
        for number in 0..self.written.len() {
            let Some(at) = self.written.get(number).and_then(|at| usize::try_from(*at).ok()) else { continue };
            if self.places.get(at).and_then(Place::page).is_some_and(&which)
                && let Some(page) = self.own(at)
            {
                act(page);
            }
        }
    }

    /// Prepares for cloning: the clone shares every page, and is the argument of [`Pages::restore`].
    pub(super) fn freeze(&mut self) {
        for at in self.own.drain(..).filter_map(|at| usize::try_from(at).ok()) {
            if let Some(place) = self.places.get_mut(at)
                && let Place::Own(page) = std::mem::take(place)
            {
                *place = Place::Saved(page.into());
            }
        }
        self.base = Arc::default();
    }

    /// Restores `saved`, a clone of the frozen pages.
    pub(super) fn restore(&mut self, saved: &Self) {
        if !Arc::ptr_eq(&self.base, &saved.base) {
            self.clone_from(saved);
            return;
        }
        for at in self.own.drain(..).filter_map(|at| usize::try_from(at).ok()) {
            if let (Some(place), Some(was)) = (self.places.get_mut(at), saved.places.get(at)) {
                place.clone_from(was);
            }
        }
        // Pages written since it was saved are at the end.
        self.written.truncate(saved.written.len());
    }

    /// Whether the pages have the same content and history; one that was never written is zero.
    pub(super) fn is_equivalent(&self, other: &Self) -> bool {
        let same = |(a, b): (&Place, &Place)| match (a, b) {
            (Place::Saved(a), Place::Saved(b)) if Arc::ptr_eq(a, b) => true,
            _ => match (a.page(), b.page()) {
                (Some(a), Some(b)) => a.is_equivalent(b),
                (Some(only), None) | (None, Some(only)) => only.is_equivalent(&Page::EMPTY),
                (None, None) => true,
            },
        };
        self.places.len() == other.places.len() && self.places.iter().zip(&other.places).all(same)
    }
}
