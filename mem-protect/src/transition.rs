//! A transition as a value: decoded from a hypercall, executed by [`Ownership::apply`], and checked by
//! [`Ghost`](crate::ghost::Ghost).

use crate::error::Error;
use crate::host::Recipient;
use crate::ownership::Ownership;
use crate::page::GuestId;
use crate::range::UncheckedRange;
use crate::traits::{DmaStage2, HostStage2, PageOps};

/// One change of the owner or the sharing of pages, or of the state of a guest. Its numbers are unchecked values of the
/// caller:
/// [`Ownership::apply`] checks them. A `u64` is the handle of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Share pages of the host with EL2.
    HostShareHyp(UncheckedRange),
    /// Unshare pages shared with EL2.
    HostUnshareHyp(UncheckedRange),
    /// Donate pages of the host to EL2's pool.
    HostDonateHyp(UncheckedRange),
    /// Return donated pages that the pool does not use to the host, zeroed.
    HypDonateHost(UncheckedRange),
    /// Create a guest.
    VmCreate,
    /// Destroy a guest.
    VmDestroy(u64),
    /// Donate pages of the host to a guest.
    HostDonateGuest(UncheckedRange, u64),
    /// Share pages of the host with a guest.
    HostShareGuest(UncheckedRange, u64),
    /// Unshare pages shared with a guest.
    HostUnshareGuest(UncheckedRange, u64),
    /// Reclaim pages of a guest that was destroyed, zeroed.
    HostReclaimPage(UncheckedRange),
}

impl Transition {
    /// Its name in docs/ownership.md.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostShareHyp(_) => "host_share_hyp",
            Self::HostUnshareHyp(_) => "host_unshare_hyp",
            Self::HostDonateHyp(_) => "host_donate_hyp",
            Self::HypDonateHost(_) => "hyp_donate_host",
            Self::VmCreate => "vm_create",
            Self::VmDestroy(_) => "vm_destroy",
            Self::HostDonateGuest(..) => "host_donate_guest",
            Self::HostShareGuest(..) => "host_share_guest",
            Self::HostUnshareGuest(..) => "host_unshare_guest",
            Self::HostReclaimPage(_) => "host_reclaim_page",
        }
    }

    /// The pages of the transition, if it has any.
    #[must_use]
    pub const fn range(self) -> Option<UncheckedRange> {
        match self {
            Self::HostShareHyp(range)
            | Self::HostUnshareHyp(range)
            | Self::HostDonateHyp(range)
            | Self::HypDonateHost(range)
            | Self::HostDonateGuest(range, _)
            | Self::HostShareGuest(range, _)
            | Self::HostUnshareGuest(range, _)
            | Self::HostReclaimPage(range) => Some(range),
            Self::VmCreate | Self::VmDestroy(_) => None,
        }
    }

    /// The same transition with these numbers, if it has numbers: for tests that choose the kind first.
    #[must_use]
    pub const fn with(self, range: UncheckedRange, handle: u64) -> Self {
        match self {
            Self::HostShareHyp(_) => Self::HostShareHyp(range),
            Self::HostUnshareHyp(_) => Self::HostUnshareHyp(range),
            Self::HostDonateHyp(_) => Self::HostDonateHyp(range),
            Self::HypDonateHost(_) => Self::HypDonateHost(range),
            Self::VmCreate => Self::VmCreate,
            Self::VmDestroy(_) => Self::VmDestroy(handle),
            Self::HostDonateGuest(..) => Self::HostDonateGuest(range, handle),
            Self::HostShareGuest(..) => Self::HostShareGuest(range, handle),
            Self::HostUnshareGuest(..) => Self::HostUnshareGuest(range, handle),
            Self::HostReclaimPage(_) => Self::HostReclaimPage(range),
        }
    }
}

impl<S: HostStage2, D: DmaStage2, P: PageOps> Ownership<'_, S, D, P> {
    /// Executes `transition`, for all pages or for none. Returns the guest that it created, if it creates one. When a
    /// donation returns `Ok`, no CPU and no stream of the host reaches the pages.
    ///
    /// # Errors
    /// [`Error::BadRange`], [`Error::NotRam`], [`Error::NoSuchGuest`], [`Error::GuestDying`], [`Error::GuestAlive`],
    /// [`Error::WrongState`], [`Error::Claimed`], [`Error::InUse`], [`Error::TooManyGuests`]: nothing changed.
    /// [`Error::NoMemory`], [`Error::NotCompleted`]: the pages keep their owner; a return or a reclaim may have zeroed
    /// them. [`Error::Inconsistent`]: the same, or, after a return or a reclaim, the host owns the pages.
    pub fn apply(&mut self, transition: Transition) -> Result<Option<GuestId>, Error> {
        match transition {
            Transition::HostShareHyp(range) => self.host_share_hyp(range)?,
            Transition::HostUnshareHyp(range) => self.host_unshare_hyp(range)?,
            Transition::HostDonateHyp(range) => self.host_donate(range, Recipient::Pool)?,
            Transition::HypDonateHost(range) => self.hyp_donate_host(range)?,
            Transition::VmCreate => return self.vm_create().map(Some),
            Transition::VmDestroy(handle) => self.vm_destroy(handle)?,
            Transition::HostDonateGuest(range, handle) => self.host_donate(range, Recipient::Guest(handle))?,
            Transition::HostShareGuest(range, handle) => self.host_share_guest(range, handle)?,
            Transition::HostUnshareGuest(range, handle) => self.host_unshare_guest(range, handle)?,
            Transition::HostReclaimPage(range) => self.host_reclaim_page(range)?,
        }
        Ok(None)
    }
}
