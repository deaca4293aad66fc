//! The check of the finished plan:
//!
//! > No range that EL2 owns, emulates or withholds overlaps a range of the host, for any description of the machine.
//!
//! [`Plan`] is plain data, ranges with names, independent of the source of the machine description. [`check`] builds
//! one from the results of the device tree parser, independent of how they were computed.

mod gather;

pub use super::named::{Name, Named, Part};
use super::range::PhysRange;
pub use gather::check;

/// The address ranges of the host and of EL2 when the host starts.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'p, N> {
    /// Memory that the host owns and its devices can access.
    pub memory: &'p [Part<N>],
    /// Data in host memory passed to the host.
    pub loaded: &'p [Part<N>],
    /// Registers that the host can access.
    pub registers: &'p [Part<N>],
    /// Windows of bridges mapped for the host; the host configures the BARs there.
    pub windows: &'p [Part<N>],
    /// Registers that the host's devices can access.
    pub doorbells: &'p [Part<N>],
    /// Memory of EL2.
    pub own: &'p [Part<N>],
    /// Memory that EL2 uses until the host starts, and then overwrites.
    pub scrubbed: &'p [Part<N>],
    /// Registers that only EL2 uses: its console, SMMUs.
    pub devices: &'p [Part<N>],
    /// Withheld ranges.
    pub withheld: &'p [Part<N>],
    /// Windows of withheld buses. A separately described register block may be in one: bus `ranges` are often larger
    /// than needed.
    pub buses: &'p [Part<N>],
}

/// An error in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict<N> {
    /// Two parts have a page in common.
    Overlap(Part<N>, Part<N>),
    /// A part that must be in the host's memory is not.
    Outside(Part<N>),
}

impl<N: Copy> Plan<'_, N> {
    /// Checks the plan. Mappings have page granularity, so a common page is an overlap.
    ///
    /// # Errors
    /// The first [`Conflict`].
    pub fn check(&self) -> Result<(), Conflict<N>> {
        let not_hosts = [self.own, self.devices, self.withheld];
        for (one, others) in [
            (self.memory, [self.registers, self.windows, self.doorbells, self.buses].as_slice()),
            (self.memory, &not_hosts),
            (self.registers, &not_hosts),
            (self.windows, &not_hosts),
            (self.windows, &[self.buses]),
            (self.doorbells, &not_hosts),
            // EL2's memory must not overlap registers.
            (self.own, &[self.devices, self.withheld, self.buses, self.scrubbed]),
            (self.scrubbed, &[self.devices, self.withheld]),
        ] {
            for first in one {
                others.iter().try_for_each(|other| apart(first, other, PhysRange::page_rounded))?;
            }
        }
        for mut list in [self.own, self.devices] {
            while let Some((first, rest)) = list.split_first() {
                apart(first, rest, PhysRange::page_rounded)?;
                list = rest;
            }
        }
        // Kernel and ramdisk may share a page.
        let mut files = self.loaded;
        while let Some((first, rest)) = files.split_first() {
            apart(first, rest, PhysRange::clone)?;
            apart(first, self.scrubbed, PhysRange::clone)?;
            files = rest;
        }
        match self.loaded.iter().chain(self.scrubbed).find(|part| !self.is_memory(&part.range)) {
            Some(part) => Err(Conflict::Outside(*part)),
            None => Ok(()),
        }
    }

    /// Whether all of `range` is the host's memory, in one range or several adjacent ones.
    fn is_memory(&self, range: &PhysRange) -> bool {
        if range.is_empty() {
            return true;
        }
        let mut reached = range.base();
        // Each iteration advances past at least one range.
        for _ in self.memory {
            let piece = self.memory.iter().find(|part| part.range.base() <= reached && reached < part.range.end());
            match piece {
                Some(part) => reached = part.range.end(),
                None => return false,
            }
            if reached >= range.end() {
                return true;
            }
        }
        false
    }
}

/// Checks that `first` does not overlap any of `others`, after each range is rounded by `whole`.
fn apart<N: Copy>(first: &Part<N>, others: &[Part<N>], whole: fn(&PhysRange) -> PhysRange) -> Result<(), Conflict<N>> {
    let range = whole(&first.range);
    match others.iter().find(|other| whole(&other.range).overlaps(&range)) {
        Some(second) => Err(Conflict::Overlap(*first, *second)),
        None => Ok(()),
    }
}
