//! The ghost build's check after every trap: ownership, both stage 2 tables and every SMMU's shadow must agree.
//!
//! Every SMMU is audited after every trap, and the pages of a hypercall are looked up in both tables before it returns.
//! What visits all of RAM is spread: the map against the abstract state after every hypercall, firmware call and
//! refused access and every 128th access to an SMMU register (which moves no page between owners), both tables against
//! the map after every 32nd of those.
//!
//! A disagreement is a bug of EL2 that may already let DMA through, so it ends the run with a report of the trap that
//! caused it.

#![deny(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects
)]

use crate::memory::HostOwnership;
use crate::{audit, exit, host};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use hyp::esr::{self, Trap};
use hyp::hvc::Transitions;
use mem_protect::ghost::{Call, Ghost, Violation};
use mem_protect::{DmaStage2, Error, GuestId, HostStage2, Leaf, PageRange, UncheckedRange};
use spin::Once;
use spin::mutex::{TicketMutex, TicketMutexGuard};

static WATCH: Once<TicketMutex<Watch>> = Once::new();

/// What the check knows besides the real state.
pub struct Watch {
    ghost: Ghost<'static>,
}

impl Watch {
    /// Starts from a state that boot has just built.
    pub const fn new(ghost: Ghost<'static>) -> Self {
        Self { ghost }
    }
}

/// Starts watching; called once, before the host runs.
pub fn init(watch: Watch) {
    WATCH.call_once(|| TicketMutex::new(watch));
}

/// Register accesses of SMMUs since the last comparison of all pages.
static ACCESSES: AtomicU64 = AtomicU64::new(0);
/// Register accesses of SMMUs for one comparison of all pages.
const ACCESSES_PER_COMPARISON: u64 = 128;

/// Comparisons since the last audit of both tables.
static COMPARISONS: AtomicU64 = AtomicU64::new(0);
/// Comparisons for one audit of both tables. The pages of a hypercall are looked up in both at once.
const COMPARISONS_PER_AUDIT: u64 = 32;

/// Checks what the trap with syndrome `esr` may have changed. Ends the run on a disagreement.
pub fn check(esr: u64) {
    let Some(ownership) = host::ownership() else { return };
    let skip = matches!(esr::decode(esr), Trap::DataAbort(abort) if abort.access().is_some())
        && !ACCESSES.fetch_add(1, Ordering::Relaxed).is_multiple_of(ACCESSES_PER_COMPARISON);
    if !skip {
        compare(&ownership, esr);
    }
    if let Err(finding) = audit::smmus(&ownership) {
        disagree(&finding, esr);
    }
}

/// Compares every page of RAM in the map, the abstract state and both tables.
fn compare(ownership: &HostOwnership, esr: u64) {
    let Some(watch) = WATCH.get().map(TicketMutex::lock) else { return };
    if let Err(violation) = watch.ghost.compare(ownership.map()) {
        disagree(&violation, esr);
    }
    if !COMPARISONS.fetch_add(1, Ordering::Relaxed).is_multiple_of(COMPARISONS_PER_AUDIT) {
        return;
    }
    match audit::tables(ownership) {
        Err(finding) => disagree(&finding, esr),
        Ok(lost) if !ownership.explains(lost) => disagree(&format_args!("the host lost pages: {lost:?}"), esr),
        Ok(_) => {}
    }
}

fn disagree(what: &dyn fmt::Display, esr: u64) -> ! {
    exit::broken(format_args!("ghost: {what}; seen after the trap with ESR {esr:#x}"))
}

/// The page bookkeeping with the abstract state beside it, both locked: what the hypercalls of the ghost build act on.
pub struct Watched(pub TicketMutexGuard<'static, HostOwnership>);

impl Watched {
    /// Lets the abstract state follow a call that answered `result`.
    fn follow(&self, call: Call, range: UncheckedRange, result: Result<(), Error>) -> Result<(), Error> {
        let Some(mut watch) = WATCH.get().map(TicketMutex::lock) else { return result };
        match result {
            Ok(()) => {
                if let Err(violation) = watch.ghost.succeeded(call, range.pfn, range.count) {
                    report(&violation);
                }
                self.look_up(call, range);
            }
            Err(Error::Dma | Error::Inconsistent) => watch.ghost.unknown(self.0.map(), range.pfn, range.count),
            Err(_) => {}
        }
        result
    }

    /// Looks the pages of a call that succeeded up in both tables: mapped to themselves if they are the host's now,
    /// absent if not.
    fn look_up(&self, call: Call, range: UncheckedRange) {
        let host = match call {
            Call::DonateHyp | Call::DonateGuest(_) => false,
            Call::ShareHyp
            | Call::UnshareHyp
            | Call::HypDonateHost
            | Call::ShareGuest(_)
            | Call::UnshareGuest(_)
            | Call::Reclaim => true,
        };
        let window = self.0.dma().window();
        for page in (range.pfn..range.pfn.saturating_add(range.count)).filter_map(PageRange::page) {
            let here = |leaf: Option<Leaf>| leaf.is_some_and(|leaf| leaf.ipa == page.ipa() && leaf.pa == page.pa());
            let cpu = here(self.0.cpu().next_leaf(page.ipa()));
            let dma = here(self.0.dma().next_leaf(page.ipa()));
            let reachable = cfg!(not(feature = "no-isolation")) && window.contains(page);
            if cpu != host || (reachable && dma != host) {
                exit::broken(format_args!(
                    "ghost: after {call:?} page {:#x} is mapped for the CPUs: {cpu}, for DMA: {dma}",
                    page.first()
                ));
            }
        }
    }

    fn follow_life(
        result: Result<u64, Error>,
        life: fn(&mut Ghost<'static>, u64) -> Result<(), Violation>,
    ) -> Result<u64, Error> {
        let handle = result?;
        if let Some(mut watch) = WATCH.get().map(TicketMutex::lock)
            && let Err(violation) = life(&mut watch.ghost, handle)
        {
            report(&violation);
        }
        Ok(handle)
    }
}

fn report(violation: &Violation) -> ! {
    exit::broken(format_args!("ghost: {violation}"))
}

impl Transitions for Watched {
    fn max_pages(&self) -> u64 {
        self.0.max_pages()
    }

    fn host_share_hyp(&mut self, range: UncheckedRange) -> Result<(), Error> {
        let result = self.0.host_share_hyp(range);
        self.follow(Call::ShareHyp, range, result)
    }

    fn host_unshare_hyp(&mut self, range: UncheckedRange) -> Result<(), Error> {
        let result = self.0.host_unshare_hyp(range);
        self.follow(Call::UnshareHyp, range, result)
    }

    fn host_donate_hyp(&mut self, range: UncheckedRange) -> Result<(), Error> {
        let result = self.0.host_donate_hyp(range);
        self.follow(Call::DonateHyp, range, result)
    }

    fn hyp_donate_host(&mut self, range: UncheckedRange) -> Result<(), Error> {
        let result = self.0.hyp_donate_host(range);
        self.follow(Call::HypDonateHost, range, result)
    }

    fn vm_create(&mut self) -> Result<GuestId, Error> {
        let guest = self.0.vm_create()?;
        Self::follow_life(Ok(guest.handle().into()), Ghost::created).map(|_| guest)
    }

    fn vm_destroy(&mut self, handle: u64) -> Result<(), Error> {
        let result = self.0.vm_destroy(handle).map(|()| handle);
        Self::follow_life(result, Ghost::destroyed).map(|_| ())
    }

    fn host_donate_guest(&mut self, range: UncheckedRange, handle: u64) -> Result<(), Error> {
        let result = self.0.host_donate_guest(range, handle);
        self.follow(Call::DonateGuest(handle), range, result)
    }

    fn host_share_guest(&mut self, range: UncheckedRange, handle: u64) -> Result<(), Error> {
        let result = self.0.host_share_guest(range, handle);
        self.follow(Call::ShareGuest(handle), range, result)
    }

    fn host_unshare_guest(&mut self, range: UncheckedRange, handle: u64) -> Result<(), Error> {
        let result = self.0.host_unshare_guest(range, handle);
        self.follow(Call::UnshareGuest(handle), range, result)
    }

    fn host_reclaim_page(&mut self, range: UncheckedRange) -> Result<(), Error> {
        let result = self.0.host_reclaim_page(range);
        self.follow(Call::Reclaim, range, result)
    }
}
