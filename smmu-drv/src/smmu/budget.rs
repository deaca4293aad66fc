//! The per-trap budget: all work that the host can cause repeatedly is charged here before it is done.
//!
//! A trap that has used up its budget saves its progress and returns; the host repeats the same store. A single charge
//! is smaller than the budget, so every trap makes progress.

use core::ops::RangeInclusive;

use host_access::budget::{self, Spent};

use crate::error::SmmuError;
use crate::smmu::index::HOST_CMDQS;
use crate::smmu::stream;

/// Units of one trap, unless [`ProbeConfig::trap_budget`](crate::ProbeConfig::trap_budget) has another value; one is
/// about the work of one command.
pub const TRAP: u32 = 1024;
/// Valid values of `trap_budget`; the minimum is the charge of the most expensive step.
pub const RANGE: RangeInclusive<u32> = LARGEST..=16 * TRAP;
/// A command of the host: fetched, checked, put into EL2's queue.
pub const COMMAND: u32 = 1;
/// An entry of the host's stream table: fetched, checked, compared with its shadow entry.
pub const ENTRY: u32 = 1;
/// A block of StreamIDs that is checked, or set to a shared table.
pub const BLOCK: u32 = 1;
/// A claim, or a failed attempt to claim, of one page of the host: the page is mapped, unmapped, and invalidated in
/// every CPU's TLB.
pub const PAGE: u32 = 8;
/// A CMD_SYNC in EL2's queue.
pub const SYNC: u32 = 16;
/// Charge of a CMD_SYNC if batches are issued twice.
pub(super) const SYNC_TWICE: u32 = 2 * SYNC;
/// A level-2 table of EL2: allocated, filled, published.
pub const TABLE: u32 = 256;
/// A record of hardware's event queue.
pub const EVENT: u32 = 4;

/// Maximum charge of a record: a page of each level of the host's table, and one of its queue.
pub(super) const RECORD: u32 = EVENT + 3 * PAGE;

/// Charge of a command if batches of up to `most` commands are issued twice, each time with a CMD_SYNC.
pub(super) const fn command_twice(most: u32) -> u32 {
    let batch = if most == 0 { 1 } else { most };
    (2 * COMMAND).saturating_add(SYNC_TWICE.div_ceil(batch))
}

/// Charge of the most expensive command: a queue of two entries has room for one command and its CMD_SYNC.
const MAX_COMMAND_COST: u32 = command_twice(1);
/// A claim of the host's largest command queue.
const QUEUE: u32 = PAGE << (HOST_CMDQS + 4 - 12);
/// An update of entries: three stores, each synchronised.
const UPDATE: u32 = 3 * SYNC_TWICE;

/// Steps that start again from their beginning if the budget is not sufficient, with their maximum charge, which is
/// that of parts whose batches are issued twice. Longer work is split into these steps, with a cursor.
const STEPS: [(&str, u32); 9] = [
    ("a command of a queue that must be claimed", MAX_COMMAND_COST + QUEUE + SYNC_TWICE + PAGE),
    ("an entry", MAX_COMMAND_COST + QUEUE + 2 * PAGE + ENTRY + UPDATE),
    ("a group of entries", MAX_COMMAND_COST + 2 * PAGE + stream::GROUP_U32 * ENTRY + UPDATE),
    // The entries are in tables of at least 64 entries, each on its own page.
    ("a private table", MAX_COMMAND_COST + PAGE + (stream::BLOCK / 64) * PAGE + stream::BLOCK * ENTRY + TABLE),
    ("a group of shared entries", BLOCK + stream::GROUP_U32 * ENTRY + UPDATE),
    ("the end of a change of mode", SYNC_TWICE),
    ("a change of CMDQEN", QUEUE),
    ("a change of EVENTQEN", PAGE + RECORD),
    ("a record", RECORD),
];

/// The charge of the most expensive step.
const LARGEST: u32 = {
    let (mut largest, mut rest): (u32, &[(&str, u32)]) = (0, &STEPS);
    while let [(_, most), others @ ..] = rest {
        if *most > largest {
            largest = *most;
        }
        rest = others;
    }
    largest
};
const _: () = assert!(LARGEST <= TRAP, "each step fits in one full budget");

/// Maximum host pages that one trap with the usual budget claims or tries to claim.
pub const MOST_PAGES: u32 = 128;
/// Maximum CMD_SYNCs that one trap sends to hardware: those charged, one at the end of a batch, and two of the
/// invalidation of everything that follows a rejected command; the last three are doubled if batches are issued twice.
pub const MOST_SYNCS: u32 = 70;
/// Maximum commands that one trap sends to hardware, without CMD_SYNC: one per host command, per group of entries, per
/// block.
pub const MOST_COMMANDS: u32 = 1032;
/// Maximum words of host memory that one trap reads: two per command and per entry, one per block.
pub const MOST_LOADS: u32 = 2048;
/// Maximum lines of host memory that one trap cleans and invalidates, if the host's memory is non-cacheable: one per
/// command, entry and block, at most four per event and two per completion, which are part of their charges.
pub const MOST_LINES: u32 = TRAP;
/// Maximum level-2 tables that one trap allocates.
pub const MOST_TABLES: u32 = 4;
/// Maximum records that one trap takes from hardware's event queue.
pub const MOST_EVENTS: u32 = 128;

/// The rows of docs/smmu-emulation.md: the work, its charge, and its maximum per trap.
pub const CHARGES: [(&str, u32, u32); 7] = [
    ("command", COMMAND, MOST_COMMANDS),
    ("entry", ENTRY, TRAP),
    ("block", BLOCK, TRAP),
    ("page", PAGE, MOST_PAGES),
    ("SYNC", SYNC, MOST_SYNCS),
    ("table", TABLE, MOST_TABLES),
    ("event", EVENT, MOST_EVENTS),
];

/// Units left in this trap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget(budget::Budget);

/// The current charges of work of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Costs {
    /// A command.
    pub(super) command: u32,
    /// A CMD_SYNC.
    pub(super) sync: u32,
    /// [`super::device`]'s `queue_sync`: a CMD_SYNC, or nothing if the last command is one.
    pub(super) queue_sync: u32,
}

/// Why work is unfinished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// The budget is used up; the next trap continues.
    Budget,
    /// Hardware failed.
    Failed(SmmuError),
}

impl From<SmmuError> for Unfinished {
    fn from(error: SmmuError) -> Self {
        Self::Failed(error)
    }
}

impl Budget {
    /// A full budget of `units`.
    pub(super) const fn new(units: u32) -> Self {
        Self(budget::Budget::new(units))
    }

    /// A budget of [`TRAP`] units.
    #[cfg(test)]
    pub(super) const fn for_one_trap() -> Self {
        Self::new(TRAP)
    }

    /// Charges `units` for the next step.
    ///
    /// # Errors
    /// [`Unfinished::Budget`] if fewer units are left; nothing is charged then.
    #[inline]
    pub(super) fn charge(&mut self, units: u32) -> Result<(), Unfinished> {
        self.0.charge(units).map_err(|Spent| Unfinished::Budget)
    }

    /// Whether `units` are left.
    pub(super) fn covers(self, units: u32) -> bool {
        self.0.covers(units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_follow_from_the_charges() {
        assert_eq!((MOST_PAGES, MOST_TABLES), (TRAP / PAGE, TRAP / TABLE));
        const { assert!(MOST_EVENTS <= TRAP / EVENT) };
        assert_eq!((MOST_SYNCS, MOST_COMMANDS, MOST_LOADS), (TRAP / SYNC + 6, TRAP / COMMAND + 8, 2 * TRAP));
    }

    #[test]
    fn a_charge_is_subtracted_in_full_or_not_at_all() {
        let mut budget = Budget::for_one_trap();
        assert_eq!(budget.charge(TRAP - 1), Ok(()));
        assert_eq!(budget.charge(2), Err(Unfinished::Budget));
        assert!(budget.covers(1) && !budget.covers(2));
        assert_eq!(budget.charge(1), Ok(()));
        assert_eq!(budget.charge(1), Err(Unfinished::Budget));
    }
}
