//! Execution of commands [IHI 0069 H.b, 5.3].

use super::Model;
use super::its::Device;
use crate::Hazard;

impl Model {
    fn wrong(&self, opcode: u64, what: &'static str) {
        self.memory.report(Hazard::Command(opcode, what));
    }

    fn unpredictable(&self, opcode: u64, what: &'static str) {
        self.memory.report(Hazard::Unpredictable(opcode, what));
    }

    /// The redistributor of RDbase in `word`.
    fn rd_named(&self, word: u64) -> Option<usize> {
        let field = word & 0xf_ffff_ffff_0000;
        (0..self.config.cpus).find(|n| {
            let name = if self.config.addresses { self.config.rd_address(*n) } else { (*n as u64) << 16 };
            name == field
        })
    }

    /// Bits that a command does not define.
    fn reserved(words: [u64; 4]) -> bool {
        let device = !0xffff_ffff_0000_00ff;
        let masks: [u64; 4] = match words[0] & 0xff {
            0x01 => [device, !0xffff_ffff, !0xffff, !0],
            0x03 | 0x04 | 0x0c | 0x0f => [device, !0xffff_ffff, !0, !0],
            0x05 => [!0xff, !0, !0xf_ffff_ffff_0000, !0],
            0x08 => [device, !0x1f, !(1 << 63 | 0xf_ffff_ffff_ff00), !0],
            0x09 => [!0xff, !0, !(1 << 63 | 0xf_ffff_ffff_ffff), !0],
            0x0a => [device, 0, !0xffff, !0],
            0x0d => [!0xff, !0, !0xffff, !0],
            0x0e => [!0xff, !0, !0xf_ffff_ffff_0000, !0xf_ffff_ffff_0000],
            _ => [!0; 4],
        };
        words.iter().zip(masks).any(|(word, mask)| word & mask != 0)
    }

    pub(crate) fn execute(&mut self, n: usize, words: [u64; 4]) {
        let opcode = words[0] & 0xff;
        let device = words[0] >> 32;
        let event = words[1] & 0xffff_ffff;
        let icid = words[2] & 0xffff;
        let valid = words[2] >> 63 == 1;
        if Self::reserved(words) {
            self.wrong(opcode, "reserved bits, or an opcode that does not exist");
        }
        match opcode {
            0x08 => self.mapd(n, device, valid, (words[1] & 0x1f) + 1, words[2] & 0xf_ffff_ffff_ff00),
            0x09 => self.mapc(n, icid, valid, words[2]),
            0x0a => self.mapti(n, device, event, words[1] >> 32, icid),
            0x01 => self.movi(n, device, event, icid),
            0x0e => match (self.rd_named(words[2]), self.rd_named(words[3])) {
                (Some(from), Some(to)) if self.rds[from].enabled && self.rds[to].enabled => self.transfer_all(from, to),
                _ => self.wrong(opcode, "MOVALL between redistributors that do not exist or are off"),
            },
            0x05 => match self.rd_named(words[2]) {
                Some(_) => self.flush(n),
                None => self.wrong(opcode, "SYNC with a redistributor that does not exist"),
            },
            0x0d => match self.collection(n, icid) {
                Some(rd) if self.rds[rd].enabled => self.reread(rd),
                _ => self.wrong(opcode, "INVALL of a collection that is not mapped, or is off"),
            },
            0x03 | 0x04 | 0x0c | 0x0f => self.of_event(n, opcode, device, event),
            _ => {}
        }
    }

    fn late(&mut self, n: usize, at: u64, word: u64) {
        self.its[n].late.push((at & !7, word));
    }

    fn mapd(&mut self, n: usize, device: u64, valid: bool, bits: u64, itt: u64) {
        let Some(at) = self.entry(n, 0, device).filter(|_| device < 1 << self.config.device_bits) else {
            return self.wrong(8, "MAPD beyond the device table");
        };
        if valid && bits > u64::from(self.config.event_bits) {
            return self.wrong(8, "MAPD with too many EventIDs");
        }
        if let Some(before) = self.its[n].devices.remove(&device) {
            if !before.events.is_empty() {
                self.unpredictable(8, "MAPD of a device that has events");
            }
            let bytes = self.config.itt_bytes() << before.bits;
            self.its[n].given_up.push((before.itt, bytes));
            // An interrupt translation that was in progress may still write its table.
            self.late(n, before.itt, 0);
        }
        self.late(n, at, if valid { 1 << 63 | itt | bits } else { 0 });
        if valid {
            self.its[n].devices.insert(device, Device { itt, bits, events: Default::default() });
        }
    }

    fn mapc(&mut self, n: usize, icid: u64, valid: bool, word: u64) {
        if !valid {
            let live = self.its[n].devices.values().any(|device| device.events.values().any(|(to, _)| *to == icid));
            if live {
                self.unpredictable(9, "MAPC with V = 0 of a collection that has events");
            }
        }
        let rd = self.rd_named(word);
        if icid >> self.config.collection_bits != 0 {
            return self.wrong(9, "MAPC of a collection beyond CIDbits");
        }
        if valid && rd.is_none_or(|rd| !self.rds[rd].enabled) {
            return self.wrong(9, "MAPC to a redistributor that does not exist or is off");
        }
        let rd = rd.unwrap_or(0);
        if !self.config.collection_table {
            self.its[n].collections.insert(icid, rd);
            return;
        }
        match self.entry(n, 1, icid) {
            Some(at) => self.late(n, at, if valid { 1 << 63 | rd as u64 } else { 0 }),
            None => self.wrong(9, "MAPC beyond the collection table"),
        }
    }

    fn mapti(&mut self, n: usize, device: u64, event: u64, lpi: u64, icid: u64) {
        if !(8192..1 << 16).contains(&lpi) {
            return self.wrong(10, "MAPTI of an INTID that is not an LPI");
        }
        if self.collection(n, icid).is_none() {
            return self.wrong(10, "MAPTI to a collection that is not mapped");
        }
        let others = self.its.iter().flat_map(|its| its.devices.values()).flat_map(|device| device.events.values());
        if others.into_iter().any(|(_, taken)| *taken == lpi) {
            self.unpredictable(10, "MAPTI of an LPI that is mapped");
        }
        let entry = self.config.itt_bytes();
        let Some(found) = self.its[n].devices.get_mut(&device) else {
            return self.wrong(10, "MAPTI of a device that is not mapped");
        };
        if event >= 1 << found.bits {
            return self.wrong(10, "MAPTI beyond the translation table");
        }
        let at = found.itt + event * entry;
        if found.events.insert(event, (icid, lpi)).is_some() {
            self.unpredictable(10, "MAPTI of an event that is mapped");
        }
        self.late(n, at, 1 << 63 | icid << 32 | lpi);
    }

    fn movi(&mut self, n: usize, device: u64, event: u64, icid: u64) {
        let Some(to) = self.collection(n, icid) else {
            return self.wrong(1, "MOVI to a collection that is not mapped");
        };
        let entry = self.config.itt_bytes();
        let Some((itt, slot)) =
            self.its[n].devices.get_mut(&device).and_then(|device| Some((device.itt, device.events.get_mut(&event)?)))
        else {
            return self.wrong(1, "MOVI of an event that is not mapped");
        };
        let before = core::mem::replace(&mut slot.0, icid);
        let lpi = slot.1;
        if let Some(from) = self.collection(n, before) {
            self.transfer(from, to, lpi);
        }
        self.late(n, itt + event * entry, 1 << 63 | icid << 32 | lpi);
    }

    /// INT, CLEAR, INV, DISCARD.
    fn of_event(&mut self, n: usize, opcode: u64, device: u64, event: u64) {
        let entry = self.config.itt_bytes();
        let found = self.its[n].devices.get(&device).and_then(|device| Some((device.itt, *device.events.get(&event)?)));
        let Some((itt, (icid, lpi))) = found else {
            return self.wrong(opcode, "a command about an event that is not mapped");
        };
        let Some(rd) = self.collection(n, icid) else {
            return self.wrong(opcode, "a command about a collection that is not mapped");
        };
        match opcode {
            0x03 => self.pend(rd, lpi),
            0x0c => self.reread(rd),
            0x04 => self.unpend(rd, lpi),
            _ => {
                self.unpend(rd, lpi);
                if let Some(device) = self.its[n].devices.get_mut(&device) {
                    device.events.remove(&event);
                }
                self.late(n, itt + event * entry, 0);
            }
        }
    }

    /// Device `device` writes `event` to the translation register of ITS `n`.
    pub fn translate(&mut self, n: usize, device: u64, event: u64) {
        // Interrupts are dropped while a required table is not valid.
        let kinds = [0, 2];
        let complete =
            kinds.iter().all(|number| self.its_baser(n, *number) == 0 || self.its_baser(n, *number) >> 63 == 1);
        if !self.its[n].enabled || !complete || self.entry(n, 0, device).is_none() {
            return;
        }
        let Some(found) = self.its[n].devices.get(&device) else { return };
        // The ITS reads the table entry also when the event is not mapped.
        let at = found.itt + event.min((1 << found.bits) - 1) * self.config.itt_bytes();
        let target = found.events.get(&event).copied();
        self.memory.device_read(at, "a translation table");
        if let Some((icid, lpi)) = target
            && let Some(rd) = self.collection(n, icid)
        {
            self.pend(rd, lpi);
        }
    }
}
