//! The steps that assign a function to a guest and return it to the host.
//! A function belongs to the host, belongs to a guest, or is in transition. In transition it belongs to nobody: its
//! configuration space and BARs are unmapped from the host, its stream aborts, bus mastering is off, and the function
//! is reset. A call does the steps that are possible immediately. If the function needs time, the call returns
//! [`Error::Busy`], and the caller repeats it. No call waits.
//!
//! ```text
//! host ──assign──► draining ──► resetting ──► guest's stage 2, bus mastering on
//!   ▲                 ▲                          │
//!   └── BARs, configuration space ◄── resetting ◄── draining ◄──give back──┘
//! ```
//! If a step fails, the function stays in transition. A call that returns the function then repeats the failed step.

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

/// Maximum number of functions that are away: a guest's or in transition.
pub const MOST_AWAY: usize = 16;

/// The next owner of a function in transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextOwner {
    /// The guest in `Away::guest`.
    Guest,
    /// The host.
    Host,
}

/// The current step of a function in transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its stream may still have its old owner, or bus mastering may be on.
    Stopping,
    /// Its pending transactions complete, or this time passes.
    Draining(u64),
    /// Its reset is complete at this time.
    Resetting(u64),
    /// It has been reset.
    Reset,
}

/// The state of a function that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It belongs to the guest in `Away::guest`.
    Guest,
    /// It is in transition to its next owner.
    InTransition(NextOwner, Phase),
}

/// The required owner of the stream of a function that is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequiredOwner {
    /// The guest's.
    Guest(GuestId),
    /// Nobody's.
    Nobody,
    /// A step failed: the owner may be the old one, the next one, or nobody.
    Unknown,
}

/// A function that is away, with its state.
#[derive(Clone, Debug)]
pub struct Away {
    id: DeviceId,
    guest: GuestId,
    function: Function,
    hosts: HostAccess,
    state: State,
}

/// For each range of a function's registers, whether the host has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HostAccess([bool; BARS]);

impl Away {
    /// The function's number.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// Its stream, and the required owner of the stream.
    #[must_use]
    pub fn stream(&self) -> (Stream, RequiredOwner) {
        let is = match self.state {
            State::Guest => RequiredOwner::Guest(self.guest),
            State::InTransition(_, Phase::Draining(_) | Phase::Resetting(_) | Phase::Reset) => RequiredOwner::Nobody,
            State::InTransition(_, Phase::Stopping) => RequiredOwner::Unknown,
        };
        (self.function.stream, is)
    }

    /// Its registers that must not be mapped for the host.
    pub fn registers(&self) -> impl Iterator<Item = PhysRange> {
        self.function.registers.iter().zip(self.hosts.0).filter(|(_, hosts)| !hosts).map(|(range, _)| *range)
    }
}

/// Every function that is away; all others belong to the host.
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
    /// No function is away.
    #[must_use]
    pub const fn new() -> Self {
        Self { away: ArrayVec::new_const(), no_reset: ArrayVec::new_const() }
    }

    /// Kinds of functions that may be assigned to guests without a reset.
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

    /// Assigns a function of `segment` to the guest `handle`, or continues an earlier call.
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
                match away.state {
                    State::InTransition(NextOwner::Guest, phase) if u64::from(away.guest.handle()) == handle => {
                        if !machine.is_alive(away.guest) {
                            return Err(Error::GuestDying);
                        }
                        away.advance(machine, segment, phase)?;
                        away.give_to_guest(machine, segment)
                    }
                    State::InTransition(..) | State::Guest => Err(Error::Refused(Refusal::NotTheHosts)),
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
            machine.unmap_config(segment)?;
        }
        let config = machine.config(segment);
        let found = inspect(&config, segment, id.rid, &self.no_reset)
            .map_err(Error::Refused)
            .and_then(|function| Ok((function, machine.guest_gets_device(handle)?)));
        let (function, guest) = match found {
            Ok(found) => found,
            Err(error) => {
                if !trapped {
                    machine.map_config(segment);
                }
                return Err(error);
            }
        };
        let hosts = HostAccess([true; BARS]);
        let state = State::InTransition(NextOwner::Guest, Phase::Stopping);
        let at = self.away.len();
        // Cannot fail, as checked above.
        let _ = self.away.try_push(Away { id, guest, function, hosts, state });
        let away = self.away.get_mut(at).ok_or(Error::Io)?;
        if let Err(error) = away.unmap_registers(machine) {
            // No other step was done. If the host gets all registers back, the function belongs to the host again.
            // Otherwise the function can only be returned, since some registers may still be mapped for the host.
            away.state = State::InTransition(NextOwner::Host, Phase::Stopping);
            if away.map_registers(machine).is_ok() {
                self.remove_entry(machine, segment, at);
            }
            return Err(error);
        }
        away.advance(machine, segment, Phase::Stopping)?;
        // Not reached, since a reset takes time.
        away.give_to_guest(machine, segment)
    }

    /// Takes a function back, or continues an earlier call.
    ///
    /// # Errors
    /// [`Refusal::UnknownFunction`] if it is not away; see [`Error`].
    pub fn return_to_host(&mut self, machine: &mut impl Machine, segment: &Segment, id: DeviceId) -> Result<(), Error> {
        let at = self.position(id).ok_or(Error::Refused(Refusal::UnknownFunction))?;
        let away = self.away.get_mut(at).ok_or(Error::Io)?;
        let phase = match away.state {
            State::Guest => Phase::Stopping,
            State::InTransition(_, phase) => phase,
        };
        away.state = State::InTransition(NextOwner::Host, phase);
        away.advance(machine, segment, phase)?;
        away.give_to_host(machine, segment)?;
        self.remove_entry(machine, segment, at);
        Ok(())
    }

    /// Removes the entry of a function whose registers are all mapped for the host again, and maps configuration space
    /// if no other function of the segment is away.
    fn remove_entry(&mut self, machine: &mut impl Machine, segment: &Segment, at: usize) {
        let Some(away) = self.away.swap_pop(at) else { return };
        machine.guest_loses_device(away.guest);
        if !self.traps(away.id.segment) {
            machine.map_config(segment);
        }
    }
}

impl Away {
    fn unmap_registers(&mut self, machine: &mut impl Machine) -> Result<(), Error> {
        for (range, hosts) in self.function.registers.iter().zip(&mut self.hosts.0) {
            machine.unmap_registers(*range)?;
            *hosts = false;
        }
        Ok(())
    }

    fn map_registers(&mut self, machine: &mut impl Machine) -> Result<(), Error> {
        for (range, hosts) in self.function.registers.iter().zip(&mut self.hosts.0) {
            if !*hosts {
                machine.map_registers(*range)?;
                *hosts = true;
            }
        }
        Ok(())
    }

    /// Does the steps from `phase` on that are possible without waiting: `Ok` when the function has been reset.
    fn advance(&mut self, machine: &mut impl Machine, segment: &Segment, mut phase: Phase) -> Result<(), Error> {
        let State::InTransition(to, _) = self.state else { return Err(Error::Io) };
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
            self.state = State::InTransition(to, phase);
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

    /// Restores the BARs, which the reset has cleared.
    fn restore_bars(&self, config: &mut impl ConfigSpace) -> Result<(), Error> {
        let (rid, saved) = (self.function.rid, &self.function.saved);
        if config.read32(rid, spec::ID) != self.function.id {
            return Err(Error::Io);
        }
        // Decoding stays off until all BARs are written.
        self.stop(config)?;
        config.write32(rid, spec::ROM, 0);
        for (index, &bar) in (0..BARS).zip(&saved.bars) {
            config.write32(rid, bars::offset(index), bar);
        }
        let agrees = (0..BARS).zip(&saved.bars).all(|(index, &bar)| config.read32(rid, bars::offset(index)) == bar);
        if agrees { Ok(()) } else { Err(Error::Io) }
    }

    /// Gives the function to the guest, after its reset.
    fn give_to_guest(&mut self, machine: &mut impl Machine, segment: &Segment) -> Result<(), Error> {
        if self.function.registers.iter().zip(self.hosts.0).any(|(_, hosts)| hosts) {
            return Err(Error::Io);
        }
        let mut config = machine.config(segment);
        self.restore_bars(&mut config)?;
        if !messages::switch_off(&mut config, self.function.rid) {
            return Err(Error::Io);
        }
        // If an SMMU fails now, the stream's owner is unknown.
        self.state = State::InTransition(NextOwner::Guest, Phase::Stopping);
        machine.assign(self.function.stream, self.guest)?;
        self.state = State::Guest;
        config.write16(self.function.rid, spec::COMMAND, command::INTX_OFF | command::MEMORY | command::MASTER);
        Ok(())
    }

    /// Gives the function to the host, after its reset. Bus mastering stays off until the host's driver enables it.
    fn give_to_host(&mut self, machine: &mut impl Machine, segment: &Segment) -> Result<(), Error> {
        let mut config = machine.config(segment);
        self.restore_bars(&mut config)?;
        // If a later step fails, a repeated call begins by blocking the stream again.
        self.state = State::InTransition(NextOwner::Host, Phase::Stopping);
        machine.release(self.function.stream)?;
        self.map_registers(machine)?;
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
