//! The devices that the host mapped, and their events.
//!
//! A device has an ITT, which hardware reads and writes, and a buffer of records, one for each event, which only EL2
//! reads.

use arrayvec::ArrayVec;
use host_access::memory::DmaBuffer;

use crate::limits::MAX_DEVICES;

/// The state of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The host has mapped it.
    Mapped,
    /// The host has unmapped it; hardware may still use its ITT.
    Leaving,
    /// Hardware refused to unmap the device: its memory is never used again.
    Kept,
}

/// A device.
pub(crate) struct Device<B> {
    pub(crate) its: usize,
    pub(crate) id: u32,
    /// EventIDs below this.
    pub(crate) events: u32,
    /// Number of events that have a record.
    pub(crate) live: u32,
    pub(crate) state: State,
    pub(crate) itt: B,
    pub(crate) records: B,
}

/// An event that the host mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) lpi: u32,
    /// The host's collection.
    pub(crate) icid: u16,
    /// The redistributor that the event is mapped to in hardware; `None` if it is not mapped in hardware.
    pub(crate) rd: Option<usize>,
}

impl Record {
    /// LPI, collection, redistributor plus one, and a byte that is never zero.
    fn encode(self) -> u64 {
        let [a, b, c, d] = self.lpi.to_le_bytes();
        let [e, f] = self.icid.to_le_bytes();
        let rd = self.rd.and_then(|rd| u8::try_from(rd).ok()?.checked_add(1)).unwrap_or(0);
        u64::from_le_bytes([a, b, c, d, e, f, rd, 1])
    }

    fn decode(word: u64) -> Option<Self> {
        let [a, b, c, d, e, f, rd, there] = word.to_le_bytes();
        (there != 0).then(|| Self {
            lpi: u32::from_le_bytes([a, b, c, d]),
            icid: u16::from_le_bytes([e, f]),
            rd: usize::from(rd).checked_sub(1),
        })
    }
}

fn offset(event: u32) -> usize {
    usize::try_from(event).unwrap_or(usize::MAX).saturating_mul(8)
}

impl<B: DmaBuffer> Device<B> {
    /// The record of `event`.
    pub(crate) fn record(&self, event: u32) -> Option<Record> {
        if event >= self.events {
            return None;
        }
        Record::decode(self.records.read64(offset(event)))
    }

    /// Sets the record of `event`.
    pub(crate) fn set_record(&mut self, event: u32, record: Option<Record>) {
        if event >= self.events {
            return;
        }
        let before = self.record(event).is_some();
        self.records.write64(offset(event), record.map_or(0, Record::encode));
        self.live = match (before, record.is_some()) {
            (false, true) => self.live.saturating_add(1),
            (true, false) => self.live.saturating_sub(1),
            (true, true) | (false, false) => self.live,
        };
    }
}

/// All devices.
pub(crate) struct Devices<B> {
    /// As many as were in use at the same time.
    slots: ArrayVec<Option<Device<B>>, MAX_DEVICES>,
}

impl<B: DmaBuffer> Devices<B> {
    pub(crate) const fn new() -> Self {
        Self { slots: ArrayVec::new_const() }
    }

    /// The slot of the mapped device `id` of `its`.
    pub(crate) fn find(&self, its: usize, id: u32) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|d| d.id == id && d.its == its && d.state == State::Mapped))
    }

    /// The first slot, at `from` or later, whose device is mapped.
    pub(crate) fn next_mapped(&self, from: usize) -> Option<usize> {
        let rest = self.slots.get(from..)?;
        let found = rest.iter().position(|slot| slot.as_ref().is_some_and(|d| d.state == State::Mapped))?;
        from.checked_add(found)
    }

    pub(crate) fn get(&self, slot: usize) -> Option<&Device<B>> {
        self.slots.get(slot)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut Device<B>> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// A free slot.
    pub(crate) fn vacancy(&mut self) -> Option<&mut Option<Device<B>>> {
        let free = self.slots.iter().position(Option::is_none);
        let at = match free {
            Some(at) => at,
            None => {
                self.slots.try_push(None).ok()?;
                self.slots.len().checked_sub(1)?
            }
        };
        self.slots.get_mut(at)
    }

    /// Empties a slot.
    pub(crate) fn take(&mut self, slot: usize) -> Option<Device<B>> {
        self.slots.get_mut(slot)?.take()
    }

    /// All devices.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Device<B>> {
        self.slots.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for rd in [None, Some(0), Some(63)] {
            let record = Record { lpi: 0xffff, icid: 511, rd };
            assert_eq!(Record::decode(record.encode()), Some(record));
        }
        assert_eq!(Record::decode(0), None);
    }
}
