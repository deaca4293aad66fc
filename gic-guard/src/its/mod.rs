//! One ITS: the hardware, with EL2's tables and queue, and the registers that the host sees.

mod hardware;
mod ids;
mod registers;
mod ring;
pub(crate) mod tables;

use host_access::memory::DmaBuffer;

use crate::emul::decide::CommandView;
use crate::limits::MAX_COLLECTIONS;
pub(crate) use hardware::{Hardware, disable};
pub(crate) use registers::{Enable, HostRegs, sharing};
pub(crate) use ring::Completion;

/// An ITS.
pub(crate) struct Its<B> {
    /// The hardware, which EL2 programs.
    pub(crate) hardware: Hardware<B>,
    /// The registers that the host sees.
    pub(crate) regs: HostRegs,
    /// The host's collections: for each its redistributor plus one, or zero. Hardware never sees this buffer.
    pub(crate) collections: B,
}

impl<B: DmaBuffer> Its<B> {
    /// The redistributor that the host mapped collection `icid` to.
    pub(crate) fn collection(&self, icid: u16) -> Option<usize> {
        let word = self.collections.read64(usize::from(icid).saturating_mul(8));
        usize::try_from(word).ok()?.checked_sub(1)
    }

    /// Maps the host's collection `icid`, or unmaps it.
    pub(crate) fn set_collection(&mut self, icid: u16, rd: Option<usize>) {
        let word = rd.and_then(|rd| u64::try_from(rd).ok()?.checked_add(1)).unwrap_or(0);
        self.collections.write64(usize::from(icid).saturating_mul(8), word);
    }

    /// Unmaps all of the host's collections.
    pub(crate) fn clear_collections(&mut self) {
        for offset in (0..self.collections.size()).step_by(8) {
            self.collections.write64(offset, 0);
        }
    }

    /// The limits that the host's commands are checked against.
    pub(crate) fn view(&self, intid_bits: u32) -> CommandView {
        let tables = &self.hardware.tables;
        let devices = u64::from(tables.devices()).min(self.regs.capacity(tables.device_register));
        let collections = match tables.collection_register {
            Some(n) => self.regs.capacity(n),
            None => u64::from(self.hardware.ids.hcc()),
        };
        CommandView {
            devices: u32::try_from(devices).unwrap_or(u32::MAX),
            event_bits: self.hardware.ids.event_bits(),
            collections: u32::try_from(collections).unwrap_or(u32::MAX).min(MAX_COLLECTIONS),
            intids: 1_u32.checked_shl(intid_bits).unwrap_or(0),
        }
    }

    /// GITS_TYPER of the host's view.
    pub(crate) fn typer(&self) -> u64 {
        self.hardware.ids.shown(self.hardware.tables.devices(), self.hardware.tables.collection_register)
    }
}
