//! The ghost build's check after every trap: ownership, both stage 2 tables and every SMMU's shadow must agree.
//!
//! Every SMMU is audited after every trap, and the pages of a hypercall are checked in both tables before it returns.
//! Checks of all RAM are done less often: the map against the abstract state after every hypercall, firmware call and
//! refused access and every 128th access to an SMMU register (which moves no page between owners), both tables against
//! the map after every 32nd of those.
//!
//! A difference is a bug of EL2 that may already let DMA through, so it ends the run with a report of the trap that
//! caused it.

use crate::ownership::HostOwnership;
use crate::{audit, devices, exit};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use hyp::esr::{self, Trap};
use mem_protect::ghost::Ghost;
use mem_protect::{Error, GuestId, Transition};
use spin::Once;
use spin::mutex::TicketMutex;

/// The abstract ownership state.
static GHOST: Once<TicketMutex<Ghost<'static>>> = Once::new();

/// Enables the check from a state that boot has just built; called once, before the host runs.
pub fn init(ghost: Ghost<'static>) {
    GHOST.call_once(|| TicketMutex::new(ghost));
}

/// Register accesses of SMMUs since the last comparison of all pages.
static ACCESSES: AtomicU64 = AtomicU64::new(0);
/// Register accesses of SMMUs for one comparison of all pages.
const ACCESSES_PER_COMPARISON: u64 = 128;

/// Comparisons since the last audit of both tables.
static COMPARISONS: AtomicU64 = AtomicU64::new(0);
/// Comparisons for one audit of both tables. The pages of a hypercall are checked in both immediately.
const COMPARISONS_PER_AUDIT: u64 = 32;

/// Checks the state that the trap with syndrome `esr` may have changed. Ends the run if something differs.
pub fn check(ownership: &HostOwnership, esr: u64) {
    let skip = matches!(esr::decode(esr), Trap::DataAbort(abort) if abort.access().is_some())
        && !ACCESSES.fetch_add(1, Ordering::Relaxed).is_multiple_of(ACCESSES_PER_COMPARISON);
    if !skip {
        compare(ownership, esr);
    }
    if let Err(finding) = audit::smmus(ownership) {
        report(&finding, esr);
    }
    if let Err(finding) = devices::audit(ownership) {
        report(&finding, esr);
    }
    if let Err(finding) = audit::gic(ownership) {
        report(&finding, esr);
    }
}

/// Compares every page of RAM in the map, the abstract state and both tables.
fn compare(ownership: &HostOwnership, esr: u64) {
    let Some(ghost) = GHOST.get().map(TicketMutex::lock) else { return };
    if let Err(violation) = ghost.compare(ownership.map()) {
        report(&violation, esr);
    }
    if !COMPARISONS.fetch_add(1, Ordering::Relaxed).is_multiple_of(COMPARISONS_PER_AUDIT) {
        return;
    }
    match audit::tables(ownership) {
        Err(finding) => report(&finding, esr),
        Ok(lost) if !ownership.explains(lost) => report(&format_args!("the host lost pages: {lost:?}"), esr),
        Ok(_) => {}
    }
}

fn report(what: &dyn fmt::Display, esr: u64) -> ! {
    exit::fatal(format_args!("ghost: {what}; seen after the trap with ESR {esr:#x}"))
}

/// Executes a transition and also applies it to the abstract state. Ends the run if the two differ.
pub fn apply(ownership: &mut HostOwnership, transition: Transition) -> Result<Option<GuestId>, Error> {
    let result = ownership.apply(transition);
    if let Some(mut ghost) = GHOST.get().map(TicketMutex::lock)
        && let Err(finding) = ghost.apply(ownership, transition, result)
    {
        exit::fatal(format_args!("ghost: {finding}"))
    }
    result
}
