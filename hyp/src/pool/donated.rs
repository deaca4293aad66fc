//! Pages that the host donated: a list of the free ones, and two bits a page that say whether a page is donated and whether it is free.
//!
//! The bits live apart from the pages, since what a page in use holds may be chosen by the host and must not pass for a list link.
#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

use crate::arch::PAGE;
use io_pgtable::Pa;

/// Ranges of RAM that can donate.
pub const MAX_RAM_RANGES: usize = 16;

/// Bits of one word of a bitmap.
const WORD: u64 = 64;

/// Bytes of the two bitmaps for `pages` pages.
pub fn bitmap_bytes(pages: u64) -> u64 {
    pages.div_ceil(WORD).saturating_mul(8 * 2)
}

/// One range of RAM.
#[derive(Clone, Copy)]
struct Section {
    first: u64,
    count: u64,
    bitmaps: Pa,
}

/// Which of the two bitmaps.
#[derive(Clone, Copy)]
enum Map {
    Donated,
    Free,
}

/// The donated pages of the pool.
pub struct Donated {
    sections: [Section; MAX_RAM_RANGES],
    used: usize,
    /// First free page, 0 for none. A free page holds the addresses of its successor and its predecessor.
    head: u64,
    donated: u64,
    free: u64,
}

impl Donated {
    pub const fn new() -> Self {
        Self {
            sections: [Section { first: 0, count: 0, bitmaps: Pa(0) }; MAX_RAM_RANGES],
            used: 0,
            head: 0,
            donated: 0,
            free: 0,
        }
    }

    /// Knows the pages `[first, first + count)` from now on. More than [`MAX_RAM_RANGES`] ranges are ignored, so that their pages cannot be donated.
    ///
    /// # Safety
    /// As [`super::expect_donations`].
    pub unsafe fn add_section(&mut self, first: u64, count: u64, bitmaps: Pa) {
        if let Some(section) = self.sections.get_mut(self.used) {
            *section = Section { first, count, bitmaps };
            self.used = self.used.saturating_add(1);
        }
    }

    /// Address of the word and mask of page number `page` in `map`.
    fn bit(&self, page: u64, map: Map) -> Option<(*mut u64, u64)> {
        let section = self
            .sections
            .iter()
            .take(self.used)
            .find(|s| page.checked_sub(s.first).is_some_and(|index| index < s.count))?;
        let index = page.checked_sub(section.first)?;
        let offset = match map {
            Map::Donated => 0,
            Map::Free => section.count.div_ceil(WORD).checked_mul(8)?,
        };
        let word = section.bitmaps.0.checked_add(offset)?.checked_add((index / WORD).checked_mul(8)?)?;
        Some((word as *mut u64, 1_u64.wrapping_shl(u32::try_from(index % WORD).ok()?)))
    }

    fn is_set(&self, page: u64, map: Map) -> bool {
        // SAFETY: (1) the word lies in the bitmap of its section, which only this structure uses.
        self.bit(page, map).is_some_and(|(word, mask)| unsafe { word.read() } & mask != 0)
    }

    fn set(&mut self, page: u64, map: Map) {
        if let Some((word, mask)) = self.bit(page, map) {
            // SAFETY: (1) the word lies in the bitmap of its section, which only this structure uses.
            unsafe { word.write(word.read() | mask) };
        }
    }

    fn clear(&mut self, page: u64, map: Map) {
        if let Some((word, mask)) = self.bit(page, map) {
            // SAFETY: (1) the word lies in the bitmap of its section, which only this structure uses.
            unsafe { word.write(word.read() & !mask) };
        }
    }

    /// Adds the page at address `page`.
    ///
    /// # Safety
    /// As [`super::donate`].
    pub unsafe fn insert(&mut self, page: u64) {
        if self.is_set(page / PAGE, Map::Donated) {
            return;
        }
        self.set(page / PAGE, Map::Donated);
        self.donated = self.donated.saturating_add(1);
        // SAFETY: (1) the caller gave the page up.
        unsafe { self.link(page) };
    }

    /// Takes `page` back if it is a donated one; `false` if it is not.
    ///
    /// # Safety
    /// As [`super::free`].
    pub unsafe fn push_back(&mut self, page: u64) -> bool {
        if !self.is_set(page / PAGE, Map::Donated) {
            return false;
        }
        // SAFETY: (1) the caller gave the page up.
        unsafe { self.link(page) };
        true
    }

    /// # Safety
    /// The page is mapped and used by nobody.
    unsafe fn link(&mut self, page: u64) {
        let words = page as *mut u64;
        // SAFETY: (1) the page is free, so its words are ours; (2) so is the head's, which is on the list.
        unsafe {
            words.write(self.head);
            words.add(1).write(0);
            if self.head != 0 {
                (self.head as *mut u64).add(1).write(page);
            }
        }
        self.head = page;
        self.free = self.free.saturating_add(1);
        self.set(page / PAGE, Map::Free);
    }

    fn unlink(&mut self, page: u64) {
        let words = page as *mut u64;
        // SAFETY: (1) the page and its neighbours are on the list of free pages, whose first two words are links.
        unsafe {
            let (next, previous) = (words.read(), words.add(1).read());
            if previous == 0 {
                self.head = next;
            } else {
                (previous as *mut u64).write(next);
            }
            if next != 0 {
                (next as *mut u64).add(1).write(previous);
            }
        }
        self.free = self.free.saturating_sub(1);
        self.clear(page / PAGE, Map::Free);
    }

    /// Takes one free page for EL2's use.
    pub fn pop(&mut self) -> Option<u64> {
        let page = self.head;
        if page == 0 {
            return None;
        }
        self.unlink(page);
        Some(page)
    }

    /// Takes the pages out for good: all, or none and `false` unless every one is donated and free.
    pub fn remove(&mut self, first: u64, count: u64) -> bool {
        let pages = first..first.saturating_add(count);
        if !pages.clone().all(|page| self.is_set(page, Map::Free)) {
            return false;
        }
        for page in pages {
            self.unlink(page.saturating_mul(PAGE));
            self.clear(page, Map::Donated);
            self.donated = self.donated.saturating_sub(1);
        }
        true
    }

    /// Bytes donated, and of those the free ones.
    pub fn level(&self) -> (u64, u64) {
        (self.donated.saturating_mul(PAGE), self.free.saturating_mul(PAGE))
    }
}
