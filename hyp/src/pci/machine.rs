//! The machine, as the steps of a hand-over use it, and what a step answers.

use super::config::ConfigSpace;
use super::inspect::Refusal;
use super::segment::{Segment, Stream};
use crate::boot_info::PhysRange;
use mem_protect::GuestId;

/// Why a call has not done what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The function cannot be given away. Nothing changed.
    Refused(Refusal),
    /// The function needs this much more time, in microseconds: make the same call again.
    Busy(u64),
    /// No guest has this handle. Nothing changed.
    NoSuchGuest,
    /// The guest was destroyed: what is on its way to it can only be given back.
    GuestDying,
    /// No memory for a table. The function is the host's, or on its way.
    NoMemory,
    /// The function or an SMMU does not do what it is told. It is on its way.
    Io,
}

/// The machine, as the steps use it.
pub trait Machine {
    /// Configuration space of a segment.
    type Config: ConfigSpace;

    /// Configuration space of `segment`.
    fn config(&mut self, segment: &Segment) -> Self::Config;
    /// A clock that never goes backwards, in microseconds.
    fn now_us(&self) -> u64;
    /// Takes configuration space of `segment` from the host: from now on its accesses trap.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Io`]; nothing changed.
    fn take_config(&mut self, segment: &Segment) -> Result<(), Error>;
    /// Gives it back. If that fails, accesses go on to trap, which the host does not notice.
    fn give_config(&mut self, segment: &Segment);
    /// Takes the registers at `range` from the host's CPUs. Its streams reach no registers.
    ///
    /// # Errors
    /// [`Error::NoMemory`], or [`Refusal::BarOutside`] if the host does not have them; nothing changed.
    fn take_registers(&mut self, range: PhysRange) -> Result<(), Error>;
    /// Gives them back.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; nothing changed.
    fn give_registers(&mut self, range: PhysRange) -> Result<(), Error>;
    /// Makes a stream abort; nobody owns it.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Io`].
    fn block(&mut self, stream: Stream) -> Result<(), Error>;
    /// Gives a stream that nobody owns the stage 2 of `guest`.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Io`].
    fn assign(&mut self, stream: Stream, guest: GuestId) -> Result<(), Error>;
    /// Gives a stream that nobody owns to the host.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Io`].
    fn release(&mut self, stream: Stream) -> Result<(), Error>;
    /// A guest gets a device: its handle stays in use.
    ///
    /// # Errors
    /// [`Error::NoSuchGuest`], [`Error::GuestDying`].
    fn guest_gets_device(&mut self, handle: u64) -> Result<GuestId, Error>;
    /// Whether the guest is alive.
    fn is_alive(&self, guest: GuestId) -> bool;
    /// A guest has a device less.
    fn guest_loses_device(&mut self, guest: GuestId);
}
