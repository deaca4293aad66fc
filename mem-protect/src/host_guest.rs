//! Transitions between the host and guests: create, destroy, share, unshare, donate, reclaim; and guests' devices.

use crate::error::Error;
use crate::guest::{Guest, GuestLife};
use crate::host::GrantFailure;
use crate::ownership::Ownership;
use crate::page::{GuestId, MAX_GUESTS, Owner, PageInfo, PageState};
use crate::range::UncheckedRange;
use crate::traits::{DmaStage2, HostStage2, PageOps};

impl<S: HostStage2, D: DmaStage2, P: PageOps> Ownership<'_, S, D, P> {
    /// Creates a guest without pages and returns its handle.
    ///
    /// # Errors
    /// [`Error::TooManyGuests`], [`Error::NoMemory`] (for the table of its devices); nothing changed.
    pub(crate) fn vm_create(&mut self) -> Result<GuestId, Error> {
        let id = (0..u64::from(MAX_GUESTS))
            .filter_map(GuestId::new)
            .find(|&id| self.guests.get(id).life == GuestLife::Free)
            .ok_or(Error::TooManyGuests)?;
        let guest = self.guests.get_mut(id).ok_or(Error::TooManyGuests)?;
        self.dma.create_guest(id)?;
        *guest = Guest { life: GuestLife::Alive, ..Guest::default() };
        Ok(id)
    }

    /// Destroys a guest. It keeps its pages until [`Ownership::host_reclaim_page`] zeroes them; pages shared with it
    /// are unshared with [`Ownership::host_unshare_guest`], and its devices are returned like those of an existing
    /// guest. The handle is free when the guest owns and borrows no page and has no device.
    ///
    /// # Errors
    /// [`Error::NoSuchGuest`], [`Error::GuestDying`]; nothing changed.
    pub(crate) fn vm_destroy(&mut self, handle: u64) -> Result<(), Error> {
        let id = self.guests.alive(handle)?;
        self.count(id, |guest| guest.life = GuestLife::Dying);
        Ok(())
    }

    /// Counts a device for a guest: its handle stays in use until [`Ownership::guest_loses_device`].
    ///
    /// # Errors
    /// [`Error::NoSuchGuest`], [`Error::GuestDying`]; nothing changed.
    pub fn guest_gets_device(&mut self, handle: u64) -> Result<GuestId, Error> {
        let id = self.guests.alive(handle)?;
        self.count(id, |guest| guest.devices = guest.devices.saturating_add(1));
        Ok(id)
    }

    /// Subtracts a device from a guest's count. No stream of the device may use the guest's table any more.
    pub fn guest_loses_device(&mut self, id: GuestId) {
        self.count(id, |guest| guest.devices = guest.devices.saturating_sub(1));
    }

    /// State of the guest with this handle.
    #[must_use]
    pub fn guest_life(&self, id: GuestId) -> GuestLife {
        self.guests.get(id).life
    }

    /// Shares pages of the host with a guest: host OWNED becomes SHARED_OWNED. The host and its devices keep their
    /// access.
    ///
    /// # Errors
    /// [`Error::BadRange`], [`Error::NotRam`], [`Error::NoSuchGuest`], [`Error::GuestDying`], [`Error::WrongState`],
    /// [`Error::Claimed`]; nothing changed.
    pub(crate) fn host_share_guest(&mut self, range: UncheckedRange, handle: u64) -> Result<(), Error> {
        let range = range.check(self.max_pages)?;
        let id = self.guests.alive(handle)?;
        self.check_state(range, Owner::Host, PageState::Owned)?;
        self.check_unclaimed(range)?;
        self.memory.set(range, |page| page.shared_with(Owner::Guest(id)));
        self.count(id, |guest| guest.borrowed = guest.borrowed.saturating_add(range.count()));
        Ok(())
    }

    /// Unshares pages shared with a guest, which may be dying: host SHARED_OWNED becomes OWNED.
    ///
    /// # Errors
    /// [`Error::BadRange`], [`Error::NotRam`], [`Error::NoSuchGuest`], [`Error::WrongState`], [`Error::Claimed`];
    /// nothing changed.
    pub(crate) fn host_unshare_guest(&mut self, range: UncheckedRange, handle: u64) -> Result<(), Error> {
        let range = range.check(self.max_pages)?;
        let id = self.guests.existing(handle)?;
        self.check_state(range, Owner::Host, PageState::SharedOwned)?;
        self.check_state(range, Owner::Guest(id), PageState::SharedBorrowed)?;
        self.check_unclaimed(range)?;
        self.memory.set(range, PageInfo::unshared);
        self.count(id, |guest| guest.borrowed = guest.borrowed.saturating_sub(range.count()));
        Ok(())
    }

    /// Reclaims pages of one guest that was destroyed: they are unmapped from its devices, zeroed, and returned to the
    /// host.
    ///
    /// # Errors
    /// [`Error::BadRange`], [`Error::NotRam`], [`Error::WrongState`] (not pages of one guest), [`Error::GuestAlive`],
    /// [`Error::NoMemory`], [`Error::NotCompleted`]: the guest keeps the pages, but they may be zeroed and unmapped from
    /// its devices already. [`Error::Inconsistent`]: the same, or the host owns the pages.
    pub(crate) fn host_reclaim_page(&mut self, range: UncheckedRange) -> Result<(), Error> {
        let range = range.check(self.max_pages)?;
        let Owner::Guest(id) = self.memory.map.owner(range.first()) else {
            return Err(self.memory.map.pages(range).err().unwrap_or(Error::WrongState));
        };
        self.check_state(range, Owner::Guest(id), PageState::Owned)?;
        if self.guests.get(id).life != GuestLife::Dying {
            return Err(Error::GuestAlive);
        }
        self.memory.pages.map(range).map_err(|_| Error::NoMemory)?;
        if let Err(error) = self.dma.revoke_guest(id, range) {
            self.memory.pages.unmap(range);
            return Err(error.into());
        }
        self.memory.pages.zero(range);
        self.memory.pages.unmap(range);
        let answer = match self.grant_host(range) {
            Ok(()) => Ok(()),
            Err(GrantFailure::RolledBack(error)) => {
                // If there is no memory, the pages stay unmapped for the devices of the guest, which was destroyed.
                let _ = self.dma.grant_guest(id, range);
                return Err(error);
            }
            Err(GrantFailure::HostKeeps) => Err(Error::Inconsistent),
        };
        self.memory.set(range, |_| PageInfo::owned_by(Owner::Host));
        self.count(id, |guest| guest.owned = guest.owned.saturating_sub(range.count()));
        self.coalesce(range);
        answer
    }

    /// Changes the counts of guest `id`, and frees its handle if it was destroyed and they are zero. It stays in use if
    /// an SMMU may still cache entries of the guest.
    pub(crate) fn count(&mut self, id: GuestId, change: impl FnOnce(&mut Guest)) {
        let Some(guest) = self.guests.get_mut(id) else { return };
        change(guest);
        if guest.can_be_freed() && self.dma.end_guest(id).is_ok() {
            guest.life = GuestLife::Free;
        }
    }
}
