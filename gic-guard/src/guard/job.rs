//! Work that may take several traps: a walk over events or LPIs, with a cursor.
//!
//! There is one job at most. A command that starts a job is read once; GITS_CREADR passes the command when the job is
//! done.

use host_access::memory::{DmaBuffer, HostMemory};

use super::devices::State;
use super::{Guard, Stop};
use crate::budget;
use crate::command::{Command, Event};
use crate::its::{Completion, Enable};
use crate::limits::{MAX_ITS, MAX_RDS};
use crate::platform::Platform;

/// The next step after a device is unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing.
    Nothing,
    /// The device is mapped again, with this many EventID bits.
    Map(u32),
    /// All other devices of its ITS are unmapped too.
    Others,
}

/// The progress of unmapping a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Events from this one on must be discarded.
    Discard(u32),
    /// Redistributors from this one on must be synchronised; one SYNC covers one redistributor.
    Sync(usize),
    /// The device must still be unmapped in hardware.
    Unmap,
}

/// A job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Unmaps the device of `slot`.
    Unmap { slot: usize, phase: Phase, then: Then },
    /// Updates every event's mapping in hardware, of one ITS or of all, starting with this event; then synchronises
    /// redistributor `sync`.
    Follow { its: Option<usize>, slot: usize, event: u32, sync: Option<usize> },
    /// Copies the configuration of all LPIs from bitmap word `word` on; then hardware reads the configuration of
    /// redistributor `rd`.
    Invall { its: usize, rd: usize, word: u32 },
}

impl<P: Platform> Guard<P> {
    /// Continues the job until it is done.
    ///
    /// # Errors
    /// [`Stop::Budget`]: the cursor is saved. The job of a failed ITS ends.
    pub(super) fn run_job<H: HostMemory>(&mut self, host: &mut H) -> Result<(), Stop> {
        while let Some(job) = self.job {
            let result = match job {
                Job::Unmap { slot, phase, then } => self.unmap_step(slot, phase, then),
                Job::Follow { its, slot, event, sync } => self.update_step(host, its, slot, event, sync),
                Job::Invall { its, rd, word } => self.invall_step(host, its, rd, word),
            };
            match result {
                Ok(next) => self.job = next,
                Err(Stop::Budget) => return Err(Stop::Budget),
                // Its devices and their memory are not changed. A walk over all ITSs continues with the next
                // device.
                Err(Stop::Failed) => {
                    self.job = match job {
                        Job::Follow { its: None, slot, sync, .. } => {
                            let slot = slot.saturating_add(1);
                            Some(Job::Follow { its: None, slot, event: 0, sync })
                        }
                        Job::Follow { its: Some(_), .. } | Job::Unmap { .. } | Job::Invall { .. } => None,
                    };
                }
            }
        }
        Ok(())
    }

    /// Starts to unmap the device of `slot`.
    pub(super) fn start_unmap(&mut self, slot: usize, then: Then) {
        if let Some(device) = self.devices.get_mut(slot) {
            device.state = State::Leaving;
            self.job = Some(Job::Unmap { slot, phase: Phase::Discard(0), then });
        }
    }

    /// Starts to unmap all devices of `its`.
    pub(super) fn start_unmap_all(&mut self, its: usize) {
        let mut from = 0;
        while let Some(slot) = self.devices.next_mapped(from) {
            if self.devices.get(slot).is_some_and(|device| device.its == its) {
                return self.start_unmap(slot, Then::Others);
            }
            from = slot.saturating_add(1);
        }
    }

    fn unmap_step(&mut self, slot: usize, phase: Phase, then: Then) -> Result<Option<Job>, Stop> {
        let Some(device) = self.devices.get(slot) else { return Ok(None) };
        let (its, id) = (device.its, device.id);
        match phase {
            Phase::Discard(event) => {
                if device.live == 0 || event >= device.events {
                    return Ok(Some(Job::Unmap { slot, phase: Phase::Sync(0), then }));
                }
                self.budget.charge(budget::EVENT.saturating_add(budget::COMMAND))?;
                self.remove_event(slot, event)?;
                Ok(Some(Job::Unmap { slot, phase: Phase::Discard(event.saturating_add(1)), then }))
            }
            Phase::Sync(rd) => {
                let found = (rd..MAX_RDS).find(|rd| self.its(its).is_ok_and(|its| its.hardware.is_mapped(*rd)));
                let Some(rd) = found else { return Ok(Some(Job::Unmap { slot, phase: Phase::Unmap, then })) };
                self.budget.charge(budget::SYNC)?;
                let target = self.target(its, rd)?;
                self.push(its, Command::Sync(target))?;
                Ok(Some(Job::Unmap { slot, phase: Phase::Sync(rd.saturating_add(1)), then }))
            }
            Phase::Unmap => {
                let units = self.release_cost(slot, then)?;
                self.budget.charge(units)?;
                self.release_device(its, slot, id)?;
                match then {
                    Then::Nothing => {}
                    Then::Map(bits) => self.map_device(its, id, bits)?,
                    Then::Others => {
                        self.job = None;
                        self.start_unmap_all(its);
                        return Ok(self.job);
                    }
                }
                Ok(None)
            }
        }
    }

    /// The cost, in a trap, of freeing the device's memory and of allocating memory for the next step.
    fn release_cost(&self, slot: usize, then: Then) -> Result<u32, Stop> {
        let Some(device) = self.devices.get(slot) else { return Ok(0) };
        let freed = pages(device.itt.size().saturating_add(device.records.size()));
        let mapped = match then {
            Then::Map(bits) => self.map_cost(device.its, device.id, bits)?,
            Then::Nothing | Then::Others => 0,
        };
        Ok(freed.saturating_add(mapped).saturating_add(2 * budget::COMMAND + budget::SYNC))
    }

    /// Unmaps the device, whose events are unmapped, in hardware, and frees its memory once hardware does not use it
    /// any more.
    fn release_device(&mut self, its: usize, slot: usize, id: u32) -> Result<(), Stop> {
        self.push(its, Command::Unmapd { device: id })?;
        // All writes to the ITT must be complete before the memory is freed: by a SYNC or, if no redistributor can be
        // its target, by making the ITS quiescent.
        let synced = self.sync_target(its);
        if let Some(rd) = synced {
            let target = self.target(its, rd)?;
            self.push(its, Command::Sync(target))?;
        }
        let completion = self.complete(its)?;
        if synced.is_none() {
            self.pause(its)?;
        }
        // If hardware ever refused a command, it may still have mappings that EL2 has removed.
        let sure = completion == Completion::All && self.its(its)?.hardware.ring.stalls == 0;
        if sure {
            if let Some(device) = self.devices.take(slot) {
                self.store.free(device.itt);
                self.store.free(device.records);
            }
        } else if let Some(device) = self.devices.get_mut(slot) {
            device.state = State::Kept;
        }
        Ok(())
    }

    /// Disables the ITS until it is quiescent, then enables it again.
    #[cold]
    fn pause(&mut self, its: usize) -> Result<(), Stop> {
        let its = self.its.get_mut(its).ok_or(Stop::Failed)?;
        its.hardware.follow(&self.platform, Enable::Off)?;
        Ok(its.hardware.follow(&self.platform, its.regs.enabled)?)
    }

    fn update_step<H: HostMemory>(
        &mut self,
        host: &mut H,
        only: Option<usize>,
        slot: usize,
        event: u32,
        sync: Option<usize>,
    ) -> Result<Option<Job>, Stop> {
        let Some(slot) = self.devices.next_mapped(slot) else {
            self.sync_all(only, sync)?;
            return Ok(None);
        };
        let next_device = Some(Job::Follow { its: only, slot: slot.saturating_add(1), event: 0, sync });
        let Some(device) = self.devices.get(slot) else { return Ok(next_device) };
        let skipped = only.is_some_and(|its| its != device.its) || device.live == 0 || self.is_closed(device.its);
        if skipped || event >= device.events {
            self.budget.charge(budget::EVENT)?;
            return Ok(next_device);
        }
        self.budget.charge(budget::EVENT)?;
        if let Err(stop) = self.update_event(host, slot, event) {
            self.job = Some(Job::Follow { its: only, slot, event, sync });
            return Err(stop);
        }
        Ok(Some(Job::Follow { its: only, slot, event: event.saturating_add(1), sync }))
    }

    /// SYNC with `rd` on each ITS of a walk.
    fn sync_all(&mut self, only: Option<usize>, rd: Option<usize>) -> Result<(), Stop> {
        let Some(rd) = rd else { return Ok(()) };
        let about = |its: &usize| only.is_none_or(|only| only == *its);
        let concerned = |guard: &Self, its: usize| {
            guard.its(its).is_ok_and(|its| its.hardware.failed().is_none() && its.hardware.is_mapped(rd))
        };
        let units = (0..MAX_ITS)
            .filter(|its| about(its) && concerned(self, *its))
            .fold(0_u32, |units, _| units.saturating_add(budget::SYNC));
        self.budget.charge(units)?;
        for its in (0..MAX_ITS).filter(about) {
            if concerned(self, its) {
                let target = self.target(its, rd)?;
                // An ITS that does not respond here is failed; the other ITSs are still synchronised.
                let _ = self.push(its, Command::Sync(target));
            }
        }
        Ok(())
    }

    fn invall_step<H: HostMemory>(
        &mut self,
        host: &mut H,
        its: usize,
        rd: usize,
        word: u32,
    ) -> Result<Option<Job>, Stop> {
        let Some(lpis) = &mut self.lpis else { return Ok(None) };
        if word >= lpis.words() {
            self.budget.charge(budget::COMMAND)?;
            let icid = u16::try_from(rd).unwrap_or(u16::MAX);
            self.push(its, Command::Invall { icid })?;
            return Ok(None);
        }
        self.budget.charge(budget::EVENT)?;
        if lpis.taken(word) != 0 {
            self.budget.charge(budget::PAGE.saturating_mul(2))?;
            let copied = lpis.copy_word(host, word);
            self.count_claim(copied);
        }
        Ok(Some(Job::Invall { its, rd, word: word.saturating_add(1) }))
    }

    /// The interrupt of `event` of the device of `slot`.
    pub(super) fn event_of(&self, slot: usize, event: u32) -> Event {
        Event { device: self.devices.get(slot).map_or(0, |device| device.id), event }
    }
}

/// The cost of allocating or freeing `bytes` in a trap.
pub(super) fn pages(bytes: usize) -> u32 {
    u32::try_from(bytes >> 12).unwrap_or(u32::MAX).saturating_mul(budget::ALLOC)
}
