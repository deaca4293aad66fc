//! Guests as owners of pages: which exist, and how many pages each owns or borrows.
//!
//! A handle is reused only when no page refers to it, so that a new guest never gets an old one's pages.

use crate::error::Error;
use crate::page::{GuestId, MAX_GUESTS};

/// State of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GuestLife {
    /// The handle is free.
    #[default]
    Free,
    /// Created: it can get pages.
    Alive,
    /// Destroyed, but some page still refers to it.
    Dying,
}

/// One guest: its state, and how many pages refer to it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Guest {
    pub(crate) life: GuestLife,
    pub(crate) owned: u64,
    pub(crate) borrowed: u64,
}

impl Guest {
    /// Frees the handle of a dying guest that owns and borrows no page.
    pub(crate) fn free_if_unused(&mut self) {
        if self.life == GuestLife::Dying && self.owned == 0 && self.borrowed == 0 {
            self.life = GuestLife::Free;
        }
    }
}

/// Every guest, by handle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Guests([Guest; MAX_GUESTS as usize]);

impl Guests {
    pub(crate) fn get(&self, id: GuestId) -> Guest {
        self.0.get(usize::from(id.handle())).copied().unwrap_or_default()
    }

    pub(crate) fn get_mut(&mut self, id: GuestId) -> Option<&mut Guest> {
        self.0.get_mut(usize::from(id.handle()))
    }

    /// The guest `handle`, alive or dying.
    pub(crate) fn existing(&self, handle: u64) -> Result<GuestId, Error> {
        GuestId::new(handle).filter(|&id| self.get(id).life != GuestLife::Free).ok_or(Error::NoSuchGuest)
    }

    /// The guest `handle`, if alive.
    pub(crate) fn alive(&self, handle: u64) -> Result<GuestId, Error> {
        let id = self.existing(handle)?;
        match self.get(id).life {
            GuestLife::Alive => Ok(id),
            GuestLife::Dying => Err(Error::GuestDying),
            GuestLife::Free => Err(Error::NoSuchGuest),
        }
    }
}
