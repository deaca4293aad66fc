//! From a request to its answer: one exhaustive match over the calls.

use super::abi::{Answer, Features, Request, Stat, Status, VERSION_MAJOR, VERSION_MINOR};
use mem_protect::{DmaStage2, Error, GuestId, HostStage2, Ownership, PageOps, UncheckedRange};

/// The page transitions, as the dispatcher calls them. [`Ownership`] implements it.
///
/// Ranges and handles are the host's word: the implementor checks them. Errors, and the state after each, are those of
/// the methods of [`Ownership`] with the same names.
pub trait Transitions {
    /// Most pages that one call takes.
    fn max_pages(&self) -> u64;
    /// Lends pages of the host to EL2.
    fn host_share_hyp(&mut self, range: UncheckedRange) -> Result<(), Error>;
    /// Ends a loan to EL2.
    fn host_unshare_hyp(&mut self, range: UncheckedRange) -> Result<(), Error>;
    /// Gives pages of the host to EL2's pool.
    fn host_donate_hyp(&mut self, range: UncheckedRange) -> Result<(), Error>;
    /// Gives unused donated pages back, zeroed.
    fn hyp_donate_host(&mut self, range: UncheckedRange) -> Result<(), Error>;
    /// Makes a guest.
    fn vm_create(&mut self) -> Result<GuestId, Error>;
    /// Ends a guest.
    fn vm_destroy(&mut self, handle: u64) -> Result<(), Error>;
    /// Gives pages of the host to a guest.
    fn host_donate_guest(&mut self, range: UncheckedRange, handle: u64) -> Result<(), Error>;
    /// Lends pages of the host to a guest.
    fn host_share_guest(&mut self, range: UncheckedRange, handle: u64) -> Result<(), Error>;
    /// Ends a loan to a guest.
    fn host_unshare_guest(&mut self, range: UncheckedRange, handle: u64) -> Result<(), Error>;
    /// Takes back the pages of a guest that was ended, zeroed.
    fn host_reclaim_page(&mut self, range: UncheckedRange) -> Result<(), Error>;
}

/// Forwards each method to the inherent one of the same name.
macro_rules! forward {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {$(
        fn $name(&mut self, $($arg: $ty),*) -> Result<$out, Error> {
            Ownership::$name(self, $($arg),*)
        }
    )*};
}

impl<S: HostStage2, D: DmaStage2, P: PageOps> Transitions for Ownership<'_, S, D, P> {
    fn max_pages(&self) -> u64 {
        Ownership::max_pages(self)
    }

    forward! {
        host_share_hyp(range: UncheckedRange) -> ();
        host_unshare_hyp(range: UncheckedRange) -> ();
        host_donate_hyp(range: UncheckedRange) -> ();
        hyp_donate_host(range: UncheckedRange) -> ();
        vm_create() -> GuestId;
        vm_destroy(handle: u64) -> ();
        host_donate_guest(range: UncheckedRange, handle: u64) -> ();
        host_share_guest(range: UncheckedRange, handle: u64) -> ();
        host_unshare_guest(range: UncheckedRange, handle: u64) -> ();
        host_reclaim_page(range: UncheckedRange) -> ();
    }
}

/// What stands behind the hypercalls.
pub trait Services {
    /// The page bookkeeping.
    type Pages: Transitions;

    /// Runs `call` with the page bookkeeping locked.
    fn with_pages<R>(&mut self, call: impl FnOnce(&mut Self::Pages) -> R) -> R;

    /// What this machine offers.
    fn features(&self) -> Features;

    /// Drains the event queues, prints new faults on EL2's console, and returns one counter, summed over all SMMUs.
    fn iommu_stat(&mut self, stat: Stat) -> u64;

    /// Prints the state of every SMMU on EL2's console.
    fn iommu_trace(&mut self);
}

/// Answers the hypercall in X0 to X3.
pub fn dispatch(registers: [u64; 4], services: &mut impl Services) -> Answer {
    match Request::decode(registers) {
        Ok(request) => answer(request, services),
        Err(status) => Answer::status(status),
    }
}

fn answer(request: Request, services: &mut impl Services) -> Answer {
    let done = match request {
        Request::Version => return version(services),
        Request::HostShareHyp(range) => services.with_pages(|p| p.host_share_hyp(range)),
        Request::HostUnshareHyp(range) => services.with_pages(|p| p.host_unshare_hyp(range)),
        Request::HostDonateHyp(range) => services.with_pages(|p| p.host_donate_hyp(range)),
        Request::HypDonateHost(range) => services.with_pages(|p| p.hyp_donate_host(range)),
        Request::VmCreate => {
            return match services.with_pages(Transitions::vm_create) {
                Ok(guest) => Answer::value(u64::from(guest.handle())),
                Err(error) => Answer::status(error.into()),
            };
        }
        Request::VmDestroy(handle) => services.with_pages(|p| p.vm_destroy(handle)),
        Request::HostDonateGuest(range, handle) => services.with_pages(|p| p.host_donate_guest(range, handle)),
        Request::HostShareGuest(range, handle) => services.with_pages(|p| p.host_share_guest(range, handle)),
        Request::HostUnshareGuest(range, handle) => services.with_pages(|p| p.host_unshare_guest(range, handle)),
        Request::HostReclaimPage(range) => services.with_pages(|p| p.host_reclaim_page(range)),
        Request::IommuStats(stat) => return Answer::value(services.iommu_stat(stat)),
        Request::IommuTrace => {
            services.iommu_trace();
            Ok(())
        }
    };
    Answer::status(done.map_or_else(Status::from, |()| Status::Success))
}

fn version(services: &mut impl Services) -> Answer {
    let version = u64::from(VERSION_MAJOR) << 16 | u64::from(VERSION_MINOR);
    let max_pages = services.with_pages(|pages| pages.max_pages());
    Answer { status: Status::Success, values: [version, max_pages, services.features().bits()] }
}
