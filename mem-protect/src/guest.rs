//! Guests as owners of pages and devices: which exist, and how many each owns or borrows.
//!
//! A handle is reused only when no page and no device refers to it, so that a new guest never gets a page or device of
//! an old one.

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
    /// Destroyed, but some page or device still refers to it, or an SMMU may still cache entries of its VMID.
    Dying,
}

/// One guest: its state, and how many pages and devices refer to it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Guest {
    pub(crate) life: GuestLife,
    pub(crate) owned: u64,
    pub(crate) borrowed: u64,
    pub(crate) devices: u64,
}

impl Guest {
    /// Whether it was destroyed and no page or device refers to it any more.
    pub(crate) fn can_be_freed(self) -> bool {
        self.life == GuestLife::Dying && self.owned == 0 && self.borrowed == 0 && self.devices == 0
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

    /// The guest with this handle, alive or dying.
    pub(crate) fn existing(&self, handle: u64) -> Result<GuestId, Error> {
        GuestId::new(handle).filter(|&id| self.get(id).life != GuestLife::Free).ok_or(Error::NoSuchGuest)
    }

    /// The guest with this handle, if alive.
    pub(crate) fn alive(&self, handle: u64) -> Result<GuestId, Error> {
        let id = self.existing(handle)?;
        match self.get(id).life {
            GuestLife::Alive => Ok(id),
            GuestLife::Dying => Err(Error::GuestDying),
            GuestLife::Free => Err(Error::NoSuchGuest),
        }
    }
}
