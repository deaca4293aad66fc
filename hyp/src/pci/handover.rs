//! The steps of giving a function to a guest and of taking it back.
//!
//! A function is the host's, a guest's, or on its way. On its way nobody has it: its configuration space and its BARs are out of
//! the host's reach, its stream aborts, bus mastering is off, and it is reset. A call does what can be done at once; where the
//! function needs time the answer is [`Error::Busy`], and the same call is made again. No call waits.
//!
//! ```text
//! host ──assign──► draining ──► resetting ──► guest's stage 2, bus mastering on
//!   ▲                 ▲                          │
//!   └── BARs, configuration space ◄── resetting ◄── draining ◄──give back──┘
//! ```
//!
//! A step that fails leaves the function on its way: giving back ends that, and tries what failed again.

use super::bars::{self, BARS};
use super::config::{ConfigSpace, read16};
use super::inspect::{Function, Refusal, inspect};
use super::machine::{Error, Machine};
use super::messages;
use super::reset::PENDING_US;
use super::segment::{DeviceId, Segment, Stream};
use super::spec::{self, command};
use crate::boot_info::PhysRange;
use crate::boot_info::cmdline::{NO_RESET_MAX, PciKind};
use arrayvec::ArrayVec;
use mem_protect::GuestId;

/// Functions that can be away at once.
pub const MOST_AWAY: usize = 16;

/// Whom a function is for at the end of its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The guest that it is counted for.
    Guest,
    /// The host.
    Host,
}

/// What is done with a function on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its stream may be its old owner's, or bus mastering on.
    Stopping,
    /// Transactions that it has begun end, until this time at most.
    Draining(u64),
    /// It is reset, until this time.
    Resetting(u64),
    /// It has been reset.
    Reset,
}

/// Where a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// With the guest that it is counted for.
    Guest,
    /// On its way.
    Moving(To, Phase),
}

/// Whose the stream of a function that is away has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamIs {
    /// The guest's.
    Guests(GuestId),
    /// Nobody's.
    Blocked,
    /// A step failed: it may be anybody's who had it.
    Unknown,
}

/// A function that is away, and what is known of it.
#[derive(Clone, Debug)]
pub struct Away {
    id: DeviceId,
    guest: GuestId,
    function: Function,
    hosts: Hosts,
    place: Place,
}

/// Which registers of a function the host has, still or again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hosts([bool; BARS]);

impl Away {
    /// Which function it is.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// Its stream, and whose that has to be.
    #[must_use]
    pub fn stream(&self) -> (Stream, StreamIs) {
        let is = match self.place {
            Place::Guest => StreamIs::Guests(self.guest),
            Place::Moving(_, Phase::Draining(_) | Phase::Resetting(_) | Phase::Reset) => StreamIs::Blocked,
            Place::Moving(_, Phase::Stopping) => StreamIs::Unknown,
        };
        (self.function.stream, is)
    }

    /// Its registers that the host must not reach.
    pub fn registers(&self) -> impl Iterator<Item = PhysRange> {
        self.function.registers.iter().zip(self.hosts.0).filter(|(_, hosts)| !hosts).map(|(range, _)| *range)
    }
}

/// Every function that is away; all others are the host's.
#[derive(Debug)]
pub struct Devices {
    away: ArrayVec<Away, MOST_AWAY>,
    no_reset: ArrayVec<PciKind, NO_RESET_MAX>,
}

impl Default for Devices {
    fn default() -> Self {
        Self::new()
    }
}

impl Devices {
    /// All are the host's.
    #[must_use]
    pub const fn new() -> Self {
        Self { away: ArrayVec::new_const(), no_reset: ArrayVec::new_const() }
    }

    /// Kinds of functions that may be given away without a reset.
    pub fn allow_without_reset(&mut self, kinds: &[PciKind]) {
        self.no_reset = kinds.iter().take(self.no_reset.capacity()).copied().collect();
    }

    /// The functions that are away.
    #[must_use]
    pub fn away(&self) -> &[Away] {
        &self.away
    }

    /// Whether `id` is away.
    #[must_use]
    pub fn is_away(&self, id: DeviceId) -> bool {
        self.away.iter().any(|away| away.id == id)
    }

    /// Whether a function of `segment` is away, so that its configuration space traps.
    #[must_use]
    pub fn traps(&self, segment: u32) -> bool {
        self.away.iter().any(|away| away.id.segment == segment)
    }

    fn position(&self, id: DeviceId) -> Option<usize> {
        self.away.iter().position(|away| away.id == id)
    }

    /// Gives a function of `segment` to the guest `handle`, or continues to.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn assign(
        &mut self,
        machine: &mut impl Machine,
        segment: &Segment,
        id: DeviceId,
        handle: u64,
    ) -> Result<(), Error> {
        match self.position(id) {
            None => self.begin(machine, segment, id, handle),
            Some(at) => {
                let away = self.away.get_mut(at).ok_or(Error::Io)?;
                match away.place {
                    Place::Moving(To::Guest, phase) if u64::from(away.guest.handle()) == handle => {
                        if !machine.is_alive(away.guest) {
                            return Err(Error::GuestDying);
                        }
                        away.advance(machine, segment, phase)?;
                        away.enter(machine, segment)
                    }
                    Place::Moving(..) | Place::Guest => Err(Error::Refused(Refusal::NotTheHosts)),
                }
            }
        }
    }

    fn begin(&mut self, machine: &mut impl Machine, segment: &Segment, id: DeviceId, handle: u64) -> Result<(), Error> {
        if self.away.is_full() {
            return Err(Error::Refused(Refusal::TooMany));
        }
        let trapped = self.traps(id.segment);
        if !trapped {
            machine.take_config(segment)?;
        }
        let config = machine.config(segment);
        let found = inspect(&config, segment, id.rid, &self.no_reset)
            .map_err(Error::Refused)
            .and_then(|function| Ok((function, machine.guest_gets_device(handle)?)));
        let (function, guest) = match found {
            Ok(found) => found,
            Err(error) => {
                if !trapped {
                    machine.give_config(segment);
                }
                return Err(error);
            }
        };
        let hosts = Hosts([true; BARS]);
        let place = Place::Moving(To::Guest, Phase::Stopping);
        let at = self.away.len();
        // There is room, as checked above.
        let _ = self.away.try_push(Away { id, guest, function, hosts, place });
        let away = self.away.get_mut(at).ok_or(Error::Io)?;
        if let Err(error) = away.take_registers(machine) {
            // Nothing else was done: it is the host's again if its registers are.
            // Otherwise it can only come back: the host may still have some of them.
            away.place = Place::Moving(To::Host, Phase::Stopping);
            if away.give_registers(machine).is_ok() {
                self.forget(machine, segment, at);
            }
            return Err(error);
        }
        away.advance(machine, segment, Phase::Stopping)?;
        // A reset takes time, so that this is not reached; if it were, the function would be ready.
        away.enter(machine, segment)
    }

    /// Takes a function back, or continues to.
    ///
    /// # Errors
    /// [`Refusal::UnknownFunction`] if it is not away; see [`Error`].
    pub fn give_back(&mut self, machine: &mut impl Machine, segment: &Segment, id: DeviceId) -> Result<(), Error> {
        let at = self.position(id).ok_or(Error::Refused(Refusal::UnknownFunction))?;
        let away = self.away.get_mut(at).ok_or(Error::Io)?;
        let phase = match away.place {
            Place::Guest => Phase::Stopping,
            Place::Moving(_, phase) => phase,
        };
        away.place = Place::Moving(To::Host, phase);
        away.advance(machine, segment, phase)?;
        away.leave(machine, segment)?;
        self.forget(machine, segment, at);
        Ok(())
    }

    /// A function is the host's, with its registers: its configuration space too.
    fn forget(&mut self, machine: &mut impl Machine, segment: &Segment, at: usize) {
        let Some(away) = self.away.swap_pop(at) else { return };
        machine.guest_loses_device(away.guest);
        if !self.traps(away.id.segment) {
            machine.give_config(segment);
        }
    }
}

impl Away {
    fn take_registers(&mut self, machine: &mut impl Machine) -> Result<(), Error> {
        for (range, hosts) in self.function.registers.iter().zip(&mut self.hosts.0) {
            machine.take_registers(*range)?;
            *hosts = false;
        }
        Ok(())
    }

    fn give_registers(&mut self, machine: &mut impl Machine) -> Result<(), Error> {
        for (range, hosts) in self.function.registers.iter().zip(&mut self.hosts.0) {
            if !*hosts {
                machine.give_registers(*range)?;
                *hosts = true;
            }
        }
        Ok(())
    }

    /// Goes on from `phase` as far as time allows: `Ok` when the function has been reset.
    fn advance(&mut self, machine: &mut impl Machine, segment: &Segment, mut phase: Phase) -> Result<(), Error> {
        let Place::Moving(to, _) = self.place else { return Err(Error::Io) };
        let mut config = machine.config(segment);
        loop {
            let now = machine.now_us();
            phase = match phase {
                Phase::Stopping => {
                    self.stop(&mut config)?;
                    machine.block(self.function.stream)?;
                    Phase::Draining(now.saturating_add(PENDING_US))
                }
                Phase::Draining(until) => {
                    if now < until && self.function.reset.is_pending(&config, self.function.rid) {
                        return Err(Error::Busy(until.saturating_sub(now)));
                    }
                    self.function.reset.start(&mut config, self.function.rid);
                    Phase::Resetting(now.saturating_add(self.function.reset.time_us()))
                }
                Phase::Resetting(until) => {
                    if now < until {
                        return Err(Error::Busy(until.saturating_sub(now)));
                    }
                    Phase::Reset
                }
                Phase::Reset => return Ok(()),
            };
            self.place = Place::Moving(to, phase);
        }
    }

    /// Switches off bus mastering and decoding.
    fn stop(&self, config: &mut impl ConfigSpace) -> Result<(), Error> {
        let rid = self.function.rid;
        config.write16(rid, spec::COMMAND, command::INTX_OFF);
        // The load also completes the store.
        let now = read16(config, rid, spec::COMMAND);
        if now & (command::MASTER | command::MEMORY | command::IO) == 0 { Ok(()) } else { Err(Error::Io) }
    }

    /// Writes the BARs to where they were, in the header that a reset has cleared.
    fn restore_bars(&self, config: &mut impl ConfigSpace) -> Result<(), Error> {
        let (rid, saved) = (self.function.rid, &self.function.saved);
        if config.read32(rid, spec::ID) != self.function.id {
            return Err(Error::Io);
        }
        // Nothing responds before all of them are written.
        self.stop(config)?;
        config.write32(rid, spec::ROM, 0);
        for (index, &bar) in (0..BARS).zip(&saved.bars) {
            config.write32(rid, bars::offset(index), bar);
        }
        let agrees = (0..BARS).zip(&saved.bars).all(|(index, &bar)| config.read32(rid, bars::offset(index)) == bar);
        if agrees { Ok(()) } else { Err(Error::Io) }
    }

    /// The guest gets it, after its reset.
    fn enter(&mut self, machine: &mut impl Machine, segment: &Segment) -> Result<(), Error> {
        if self.function.registers.iter().zip(self.hosts.0).any(|(_, hosts)| hosts) {
            return Err(Error::Io);
        }
        let mut config = machine.config(segment);
        self.restore_bars(&mut config)?;
        if !messages::switch_off(&mut config, self.function.rid) {
            return Err(Error::Io);
        }
        // If an SMMU fails now, nobody knows whose the stream is.
        self.place = Place::Moving(To::Guest, Phase::Stopping);
        machine.assign(self.function.stream, self.guest)?;
        self.place = Place::Guest;
        config.write16(self.function.rid, spec::COMMAND, command::INTX_OFF | command::MEMORY | command::MASTER);
        Ok(())
    }

    /// The host gets it, after its reset: bus mastering stays off until its driver switches it on.
    fn leave(&mut self, machine: &mut impl Machine, segment: &Segment) -> Result<(), Error> {
        let mut config = machine.config(segment);
        self.restore_bars(&mut config)?;
        // Whatever fails from here on, a repetition begins with blocking the stream again.
        self.place = Place::Moving(To::Host, Phase::Stopping);
        machine.release(self.function.stream)?;
        self.give_registers(machine)?;
        let (rid, saved) = (self.function.rid, &self.function.saved);
        let [cache_line, ..] = saved.header.to_le_bytes();
        let [line, ..] = saved.interrupt.to_le_bytes();
        config.write8(rid, spec::HEADER, cache_line);
        config.write8(rid, spec::INTERRUPT, line);
        config.write32(rid, spec::ROM, saved.rom);
        config.write16(rid, spec::COMMAND, saved.command & !command::MASTER);
        Ok(())
    }
}
