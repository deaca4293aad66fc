//! The interface to the machine for the steps of a hand-over, and their errors.

use super::config::ConfigSpace;
use super::inspect::Refusal;
use super::segment::{Segment, Stream};
use crate::boot_info::PhysRange;
use mem_protect::GuestId;

/// Why a call is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The function cannot be given to a guest. Nothing changed.
    Refused(Refusal),
    /// The function needs this time in microseconds: repeat the call afterwards.
    Busy(u64),
    /// No guest has this handle. Nothing changed.
    NoSuchGuest,
    /// The guest was destroyed: a function in transition to it can only be returned.
    GuestDying,
    /// No memory for a table. The function belongs to the host, or is in transition.
    NoMemory,
    /// The function or an SMMU did not complete a step. The function is in transition.
    Io,
}

/// The machine's operations for the steps.
pub trait Machine {
    /// Configuration space of a segment.
    type Config: ConfigSpace;

    /// Configuration space of `segment`.
    fn config(&mut self, segment: &Segment) -> Self::Config;
    /// A clock that never goes backwards, in microseconds.
    fn now_us(&self) -> u64;
    /// Unmaps configuration space of `segment` from the host: from now on the host's accesses trap.
    ///
    /// # Errors
    /// [`Error::NoMemory`], [`Error::Io`]; nothing changed.
    fn unmap_config(&mut self, segment: &Segment) -> Result<(), Error>;
    /// Maps configuration space for the host again. If that fails, its accesses still trap and are emulated.
    fn map_config(&mut self, segment: &Segment);
    /// Unmaps the registers at `range` from the host's CPUs. They are never mapped for its streams.
    ///
    /// # Errors
    /// [`Error::NoMemory`], or [`Refusal::BarOutside`] if they are not mapped for the host; nothing changed.
    fn unmap_registers(&mut self, range: PhysRange) -> Result<(), Error>;
    /// Maps the registers for the host's CPUs again.
    ///
    /// # Errors
    /// [`Error::NoMemory`]; nothing changed.
    fn map_registers(&mut self, range: PhysRange) -> Result<(), Error>;
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
    /// Counts a device for a guest: its handle stays in use.
    ///
    /// # Errors
    /// [`Error::NoSuchGuest`], [`Error::GuestDying`].
    fn guest_gets_device(&mut self, handle: u64) -> Result<GuestId, Error>;
    /// Whether the guest is alive.
    fn is_alive(&self, guest: GuestId) -> bool;
    /// Subtracts a device from the guest's count.
    fn guest_loses_device(&mut self, guest: GuestId);
}
