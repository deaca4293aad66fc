//! Executes the host's requests on hardware's tables.

use host_access::memory::{ClaimError, HostMemory};

use super::devices::{Device, Record, State};
use super::job::{Job, Then, pages};
use super::{Guard, Stop};
use crate::budget;
use crate::command::{Command, Event};
use crate::emul::decide::Request;
use crate::its::Enable;
use crate::platform::Platform;
use crate::stats::bump;
use crate::store;
use host_access::memory::DmaBuffer;

impl<P: Platform> Guard<P> {
    /// Charges the maximum cost of `request`, except for jobs, which are charged for each step.
    ///
    /// # Errors
    /// The budget is too small, and nothing was done.
    pub(super) fn charge_request(&mut self, its: usize, request: &Request) -> Result<(), Stop> {
        let units = match request {
            // If the device is mapped, a job unmaps it first.
            Request::Mapd { device, .. } if self.devices.find(its, *device).is_some() => 2 * budget::COMMAND,
            Request::Mapd { device, bits } => self.map_cost(its, *device, *bits)?,
            Request::Mapti { .. } => 5 * budget::COMMAND + budget::PAGE + budget::SYNC,
            Request::Inv(_) => 2 * budget::COMMAND + budget::PAGE,
            Request::Movi { .. } => 5 * budget::COMMAND + budget::PAGE + budget::SYNC,
            Request::Sync { .. } => budget::SYNC,
            Request::Movall { .. } => budget::MOVALL,
            Request::Unmapd { .. }
            | Request::Mapc { .. }
            | Request::Unmapc { .. }
            | Request::Invall { .. }
            | Request::Int(_)
            | Request::Clear(_)
            | Request::Discard(_) => 2 * budget::COMMAND,
        };
        Ok(self.budget.charge(units)?)
    }

    /// The cost of [`Guard::map_device`] in a trap.
    pub(super) fn map_cost(&self, its: usize, device: u32, bits: u32) -> Result<u32, Stop> {
        let its = self.its(its)?;
        let bytes =
            itt_bytes(bits).saturating_add(record_bytes(bits)).saturating_add(its.hardware.tables.missing(device));
        Ok(pages(bytes).saturating_add(2 * budget::COMMAND))
    }

    /// Executes `request`, or starts a job that executes it.
    ///
    /// # Errors
    /// The ITS is failed.
    pub(super) fn execute<H: HostMemory>(&mut self, host: &mut H, its: usize, request: Request) -> Result<(), Stop> {
        match request {
            Request::Mapd { device, bits } => match self.devices.find(its, device) {
                // All events of the device are unmapped first [G 5.3].
                Some(slot) => self.start_unmap(slot, Then::Map(bits)),
                None => self.map_device(its, device, bits)?,
            },
            Request::Unmapd { device } => match self.devices.find(its, device) {
                Some(slot) => self.start_unmap(slot, Then::Nothing),
                None => self.ignore(),
            },
            Request::Mapc { icid, processor } => match self.rd_of(processor) {
                Some(rd) => self.map_collection(its, icid, Some(rd))?,
                None => self.ignore(),
            },
            Request::Unmapc { icid } => self.map_collection(its, icid, None)?,
            Request::Mapti { event, lpi, icid } => self.map_event(host, its, event, lpi, icid)?,
            Request::Movi { event, icid } => self.move_event(host, its, event, icid)?,
            Request::Movall { from, to } => self.move_all(its, from, to)?,
            Request::Inv(event) => self.invalidate(host, its, event)?,
            Request::Invall { icid } => match self.reachable(its, icid) {
                Some(rd) => {
                    self.collection_in_hardware(its, rd)?;
                    self.job = Some(Job::Invall { its, rd, word: 0 });
                }
                None => self.ignore(),
            },
            Request::Int(event) => self.forward(its, event, Command::Int(event))?,
            Request::Clear(event) => self.forward(its, event, Command::Clear(event))?,
            Request::Discard(event) => match self.devices.find(its, event.device) {
                Some(slot) if self.record(slot, event.event).is_some() => self.remove_event(slot, event.event)?,
                Some(_) | None => self.ignore(),
            },
            Request::Sync { processor } => match self.rd_of(processor) {
                Some(rd) if self.rd(rd).is_some_and(super::Rd::is_on) => {
                    let target = self.target(its, rd)?;
                    self.push(its, Command::Sync(target))?;
                }
                Some(_) | None => {}
            },
        }
        Ok(())
    }

    /// A command that does nothing.
    pub(super) fn ignore(&mut self) {
        bump(&mut self.stats.ignored_commands);
    }

    pub(super) fn count_claim(&mut self, answer: Result<(), ClaimError>) {
        if answer.is_err() {
            bump(&mut self.stats.claims_refused);
        }
    }

    /// The record of `event` of the device of `slot`.
    pub(super) fn record(&self, slot: usize, event: u32) -> Option<Record> {
        self.devices.get(slot)?.record(event)
    }

    /// Maps a device that is not mapped. Without memory, or beyond a limit, the device stays unmapped.
    pub(super) fn map_device(&mut self, its: usize, id: u32, bits: u32) -> Result<(), Stop> {
        if self.allocate_device(its, id, bits)?.is_none() {
            bump(&mut self.stats.limited_commands);
        }
        Ok(())
    }

    fn allocate_device(&mut self, n: usize, id: u32, bits: u32) -> Result<Option<()>, Stop> {
        let its = self.its.get_mut(n).ok_or(Stop::Failed)?;
        let hardware = &mut its.hardware;
        let Some(vacancy) = self.devices.vacancy() else { return Ok(None) };
        if hardware.tables.reach(&self.platform, &mut self.store, id).is_err() {
            return Ok(None);
        }
        // The smaller block first: freeing it again costs less than the allocation that failed, which was charged.
        let Some(records) = self.store.alloc(&self.platform, record_bytes(bits)) else {
            return Ok(None);
        };
        let Some(itt) = self.store.alloc(&self.platform, itt_bytes(bits)) else {
            self.store.free(records);
            return Ok(None);
        };
        let pa = itt.pa();
        let events = 1_u32.checked_shl(bits).unwrap_or(0);
        *vacancy = Some(Device { its: n, id, events, live: 0, state: State::Mapped, itt, records });
        self.push(n, Command::Mapd { device: id, itt: pa, bits })?;
        Ok(Some(()))
    }

    /// The redistributor that currently receives the events of the host's collection `icid`.
    fn reachable(&self, its: usize, icid: u16) -> Option<usize> {
        let rd = self.its(its).ok()?.collection(icid)?;
        self.rd(rd).is_some_and(|rd| rd.is_on() && rd.enabled == Enable::On).then_some(rd)
    }

    /// Maps the collection of redistributor `rd` in hardware, unless it is mapped. It is never unmapped.
    fn collection_in_hardware(&mut self, its: usize, rd: usize) -> Result<(), Stop> {
        if self.its(its)?.hardware.is_mapped(rd) {
            return Ok(());
        }
        let target = self.target(its, rd)?;
        let icid = u16::try_from(rd).unwrap_or(u16::MAX);
        self.push(its, Command::Mapc { icid, target })?;
        self.push(its, Command::Sync(target))?;
        self.its_mut(its)?.hardware.set_mapped(rd);
        Ok(())
    }

    fn map_collection(&mut self, n: usize, icid: u16, rd: Option<usize>) -> Result<(), Stop> {
        let its = self.its_mut(n)?;
        let before = its.collection(icid);
        if before != rd {
            its.set_collection(icid, rd);
            self.job = Some(Job::Follow { its: Some(n), slot: 0, event: 0, sync: before });
        }
        Ok(())
    }

    fn map_event<H: HostMemory>(
        &mut self,
        host: &mut H,
        its: usize,
        event: Event,
        lpi: u32,
        icid: u16,
    ) -> Result<(), Stop> {
        let Some(slot) = self.devices.find(its, event.device) else {
            self.ignore();
            return Ok(());
        };
        let fits = self.devices.get(slot).is_some_and(|device| event.event < device.events);
        // A mapped event keeps its LPI, and an LPI keeps its event.
        let taken =
            !fits || self.record(slot, event.event).is_some() || !self.lpis.as_mut().is_some_and(|lpis| lpis.take(lpi));
        if taken {
            self.ignore();
            return Ok(());
        }
        if let Some(device) = self.devices.get_mut(slot) {
            device.set_record(event.event, Some(Record { lpi, icid, rd: None }));
        }
        self.apply_event(host, slot, event.event)
    }

    fn move_event<H: HostMemory>(&mut self, host: &mut H, its: usize, event: Event, icid: u16) -> Result<(), Stop> {
        let slot = self.devices.find(its, event.device);
        let record = slot.and_then(|slot| self.record(slot, event.event));
        let mapped = self.its(its)?.collection(icid).is_some();
        let (Some(slot), Some(record), true) = (slot, record, mapped) else {
            self.ignore();
            return Ok(());
        };
        if let Some(device) = self.devices.get_mut(slot) {
            device.set_record(event.event, Some(Record { icid, ..record }));
        }
        self.apply_event(host, slot, event.event)
    }

    fn move_all(&mut self, its: usize, from: u64, to: u64) -> Result<(), Stop> {
        let usable = |guard: &Self, processor| {
            guard.rd_of(processor).filter(|rd| guard.rd(*rd).is_some_and(|rd| rd.is_on() && rd.enabled == Enable::On))
        };
        let (Some(from), Some(to)) = (usable(self, from), usable(self, to)) else {
            self.ignore();
            return Ok(());
        };
        if from == to {
            return Ok(());
        }
        let (from, to) = (self.target(its, from)?, self.target(its, to)?);
        self.push(its, Command::Movall { from, to })
    }

    fn invalidate<H: HostMemory>(&mut self, host: &mut H, its: usize, event: Event) -> Result<(), Stop> {
        let slot = self.devices.find(its, event.device);
        let Some(record) = slot.and_then(|slot| self.record(slot, event.event)) else {
            self.ignore();
            return Ok(());
        };
        self.copy_config(host, record.lpi);
        if record.rd.is_some() {
            self.push(its, Command::Inv(event))?;
        }
        Ok(())
    }

    fn copy_config<H: HostMemory>(&mut self, host: &mut H, lpi: u32) {
        if let Some(lpis) = &mut self.lpis {
            let copied = lpis.copy(host, lpi);
            self.count_claim(copied);
        }
    }

    /// A command for an event that is mapped in hardware.
    fn forward(&mut self, its: usize, event: Event, command: Command) -> Result<(), Stop> {
        let slot = self.devices.find(its, event.device);
        let record = slot.and_then(|slot| self.record(slot, event.event));
        if record.is_some_and(|record| record.rd.is_some()) {
            return self.push(its, command);
        }
        self.ignore();
        Ok(())
    }

    /// Removes an event, if there is one, from hardware and from the records.
    pub(super) fn remove_event(&mut self, slot: usize, event: u32) -> Result<(), Stop> {
        let Some(record) = self.record(slot, event) else { return Ok(()) };
        if record.rd.is_some() {
            let its = self.devices.get(slot).ok_or(Stop::Failed)?.its;
            let of = self.event_of(slot, event);
            self.push(its, Command::Discard(of))?;
        }
        if let Some(device) = self.devices.get_mut(slot) {
            device.set_record(event, None);
        }
        if let Some(lpis) = &mut self.lpis {
            lpis.release(record.lpi);
        }
        Ok(())
    }

    /// As [`Guard::apply_event`], and charges for it.
    ///
    /// # Errors
    /// [`Stop::Budget`]: nothing was changed.
    pub(super) fn update_event<H: HostMemory>(&mut self, host: &mut H, slot: usize, event: u32) -> Result<(), Stop> {
        let Some(record) = self.record(slot, event) else { return Ok(()) };
        let its = self.devices.get(slot).ok_or(Stop::Failed)?.its;
        if record.rd == self.reachable(its, record.icid) {
            return Ok(());
        }
        self.budget.charge(4 * budget::COMMAND + budget::PAGE + budget::SYNC)?;
        self.apply_event(host, slot, event)
    }

    /// Updates hardware's mapping of an event to the values that the host has set.
    fn apply_event<H: HostMemory>(&mut self, host: &mut H, slot: usize, event: u32) -> Result<(), Stop> {
        let Some(record) = self.record(slot, event) else { return Ok(()) };
        let its = self.devices.get(slot).ok_or(Stop::Failed)?.its;
        let of = self.event_of(slot, event);
        let rd = self.reachable(its, record.icid);
        match (record.rd, rd) {
            (None, None) => return Ok(()),
            (Some(before), Some(now)) if before == now => return Ok(()),
            (Some(_), None) => self.push(its, Command::Discard(of))?,
            (before, Some(now)) => {
                self.collection_in_hardware(its, now)?;
                let icid = u16::try_from(now).unwrap_or(u16::MAX);
                if before.is_some() {
                    self.push(its, Command::Movi { event: of, icid })?;
                } else {
                    // The configuration byte is copied before hardware can read it for the first time.
                    self.copy_config(host, record.lpi);
                    self.push(its, Command::Mapti { event: of, lpi: record.lpi, icid })?;
                    self.push(its, Command::Inv(of))?;
                }
            }
        }
        if let Some(device) = self.devices.get_mut(slot) {
            device.set_record(event, Some(Record { rd, ..record }));
        }
        Ok(())
    }
}

/// Bytes of an ITT. Some ITSs write larger entries than GITS_TYPER.ITT_entry_size reports, so entries have the largest
/// size that the field can hold.
fn itt_bytes(bits: u32) -> usize {
    store::block(1_usize.checked_shl(bits).unwrap_or(usize::MAX).saturating_mul(16))
}

/// Bytes of the records.
fn record_bytes(bits: u32) -> usize {
    store::block(1_usize.checked_shl(bits).unwrap_or(usize::MAX).saturating_mul(8))
}
