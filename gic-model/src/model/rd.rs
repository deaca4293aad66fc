//! Redistributors [IHI 0069 H.b, 12.11].

use super::Model;
use crate::{Config, Hazard};

/// A redistributor.
pub(crate) struct Rd {
    pub(crate) enabled: bool,
    pub(crate) dpg: u32,
    pub(crate) waker: u32,
    pub(crate) propbaser: u64,
    pub(crate) pendbaser: u64,
    pub(crate) delivered: Vec<u32>,
    /// Number of reads until RWP is 0.
    pub(crate) rwp: u32,
    pub(crate) vpropbaser: u64,
    pub(crate) vpendbaser: u64,
    /// Number of reads until GICR_VPENDBASER.Dirty is 0.
    pub(crate) dirty: u32,
}

/// Attributes: shareability and both cacheabilities.
const ATTRIBUTES: u64 = 0b11 << 10 | 0b111 << 7 | 0b111 << 56;

impl Rd {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            enabled: config.left_on.is_some(),
            dpg: 0,
            waker: 0b110,
            propbaser: config.left_on.map_or(0, |table| table | 15),
            pendbaser: 0,
            delivered: Vec::new(),
            rwp: if config.flushing { 3 } else { 0 },
            vpropbaser: config.resident.map_or(0, |table| 1 << 63 | table),
            vpendbaser: config.resident.map_or(0, |table| 1 << 63 | table),
            dirty: 0,
        }
    }

    /// Tables of virtual LPIs that are in use.
    pub(crate) fn virtual_tables(&self) -> Option<u64> {
        (self.vpendbaser >> 63 == 1 || self.dirty > 0 || self.vpropbaser >> 63 == 1)
            .then_some(self.vpendbaser & ((1 << 52) - 1) & !0xffff)
    }

    /// LPIs below this have a configuration.
    pub(crate) fn intids(&self) -> u64 {
        let bits = (self.propbaser & 0x1f) + 1;
        if bits < 14 { 0 } else { 1 << bits.min(16) }
    }

    pub(crate) fn config_base(&self) -> u64 {
        self.propbaser & ((1 << 52) - 1) & !0xfff
    }

    pub(crate) fn pending_base(&self) -> u64 {
        self.pendbaser & ((1 << 52) - 1) & !0xffff
    }
}

impl Model {
    pub(crate) fn rd_typer(&self, n: usize) -> u64 {
        let last = u64::from(n + 1 == self.rds.len());
        let four = if self.config.virtual_lpis { 1 << 1 | 1 << 7 | 1 << 26 } else { 0 };
        // Optional features of a GIC: DirectLPI, Dirty, DPGS.
        u64::from(self.config.physical)
            | four
            | 1 << 2
            | 1 << 3
            | last << 4
            | 1 << 5
            | (n as u64) << 8
            | 1 << 24
            | (n as u64) << 32
    }

    pub(crate) fn rd_ctlr(&mut self, n: usize) -> u32 {
        let stays = self.config.stays_busy;
        let rd = &mut self.rds[n];
        let rwp = u32::from(rd.rwp > 0 || stays);
        rd.rwp = rd.rwp.saturating_sub(1);
        u32::from(rd.enabled) | u32::from(self.config.clearable) << 1 | 1 << 2 | rwp << 3 | rd.dpg << 24
    }

    pub(crate) fn vpendbaser(&mut self, n: usize) -> u64 {
        let rd = &mut self.rds[n];
        let dirty = u64::from(rd.dirty > 0);
        rd.dirty = rd.dirty.saturating_sub(u32::from(!self.config.stays_busy));
        rd.vpendbaser | dirty << 60
    }

    pub(crate) fn set_vpendbaser(&mut self, n: usize, value: u64) {
        let rd = &mut self.rds[n];
        if rd.vpendbaser >> 63 == 1 && value >> 63 == 0 {
            rd.dirty = 3;
            rd.vpendbaser &= !(1 << 63);
        } else {
            self.memory.report(Hazard::InUse("GICR_VPENDBASER"));
        }
    }

    pub(crate) fn set_vpropbaser(&mut self, n: usize, value: u64) {
        if self.rds[n].vpendbaser >> 63 == 1 || self.rds[n].dirty > 0 {
            self.memory.report(Hazard::InUse("GICR_VPROPBASER while a vPE is resident"));
        }
        self.rds[n].vpropbaser = value;
    }

    /// Models a power cycle of ITS `n`: its registers have their reset values, and late writes are lost.
    pub fn lose_its(&mut self, n: usize) {
        let its = &mut self.its[n];
        (its.enabled, its.stalled) = (false, false);
        (its.cbaser, its.cwriter, its.creadr) = (0, 0, 0);
        its.baser = [0; 8];
        its.late.clear();
        its.collections.clear();
    }

    pub(crate) fn set_rd_ctlr(&mut self, n: usize, value: u32) {
        self.rds[n].dpg = value >> 24 & 7;
        let enable = value & 1 == 1;
        let before = self.rds[n].enabled;
        if before && !enable {
            if self.config.clearable {
                self.rds[n].enabled = false;
                self.rds[n].rwp = 3;
            }
            return;
        }
        if !before && enable {
            let base = self.rds[n].pending_base();
            if self.rds[n].pendbaser >> 62 & 1 == 1 {
                let bytes = self.rds[n].intids() / 8;
                if !self.memory.set(base, bytes).is_empty() {
                    self.memory.report(Hazard::NotZero(base));
                }
            }
            self.rds[n].enabled = !self.config.stays_off;
            // The redistributor may read both tables at once.
            if self.rds[n].enabled && self.rds[n].intids() > 0 {
                let config = self.rds[n].config_base();
                self.memory.device_read(base, "a pending table");
                self.memory.device_read(config, "the configuration table");
            }
        }
    }

    /// Changes the configuration of the GIC.
    pub fn change(&mut self, change: impl FnOnce(&mut Config)) {
        change(&mut self.config);
    }

    /// Models a power cycle of redistributor `n`: its registers have unknown values, and LPIs are disabled. `change`
    /// changes the configuration of the GIC.
    pub fn lose_power(&mut self, n: usize, change: impl FnOnce(&mut Config)) {
        self.rds[n].enabled = false;
        self.rds[n].dpg = 0;
        self.rds[n].propbaser = 0xdead_0000 | 15;
        self.rds[n].pendbaser = 0xbeef_0000;
        change(&mut self.config);
    }

    fn attributes(&self, value: u64) -> u64 {
        if self.config.shareable { value } else { value & !(0b11 << 10) }
    }

    pub(crate) fn set_propbaser(&mut self, n: usize, value: u64) {
        if self.rds[n].enabled {
            self.memory.report(Hazard::InUse("GICR_PROPBASER while EnableLPIs is 1"));
        }
        let mask = ATTRIBUTES | ((1 << self.config.rd_address_bits) - 1) & !0xfff | 0x1f;
        let most = u64::from(self.config.rd_id_bits - 1);
        let bits = (value & 0x1f).min(most);
        self.rds[n].propbaser = self.attributes(value & mask & !0x1f | bits);
    }

    pub(crate) fn set_pendbaser(&mut self, n: usize, value: u64) {
        if self.rds[n].enabled {
            self.memory.report(Hazard::InUse("GICR_PENDBASER while EnableLPIs is 1"));
        }
        let mask = ATTRIBUTES | ((1 << self.config.rd_address_bits) - 1) & !0xffff | 1 << 62;
        self.rds[n].pendbaser = self.attributes(value & mask);
    }

    /// An LPI arrives at redistributor `n`: its pending bit is written, its configuration read, and it is delivered.
    pub(crate) fn pend(&mut self, n: usize, lpi: u64) {
        let rd = &self.rds[n];
        if !rd.enabled || lpi >= rd.intids() {
            return;
        }
        let at = rd.pending_base() + lpi / 64 * 8;
        let word = self.memory.device_read(at, "a pending table");
        self.memory.device_write(at, word | 1 << (lpi % 64), "a pending table");
        let config = self.memory.device_byte(rd.config_base() + lpi - 8192, "the configuration table");
        if config & 1 == 1 {
            self.memory.device_write(at, word & !(1 << (lpi % 64)), "a pending table");
            self.rds[n].delivered.push(u32::try_from(lpi).unwrap_or(0));
        }
    }

    /// The LPI is not pending any more.
    pub(crate) fn unpend(&mut self, n: usize, lpi: u64) {
        let rd = &self.rds[n];
        if rd.enabled && lpi < rd.intids() {
            let at = rd.pending_base() + lpi / 64 * 8;
            let word = self.memory.device_read(at, "a pending table");
            self.memory.device_write(at, word & !(1 << (lpi % 64)), "a pending table");
        }
    }

    /// Moves the pending state of an LPI from one redistributor to another.
    pub(crate) fn transfer(&mut self, from: usize, to: usize, lpi: u64) {
        let rd = &self.rds[from];
        if from == to || !rd.enabled || lpi >= rd.intids() {
            return;
        }
        let word = self.memory.device_read(rd.pending_base() + lpi / 64 * 8, "a pending table");
        if word >> (lpi % 64) & 1 == 1 {
            self.unpend(from, lpi);
            self.pend(to, lpi);
        }
    }

    /// Moves the pending state of all LPIs.
    pub(crate) fn transfer_all(&mut self, from: usize, to: usize) {
        let (base, bytes) = (self.rds[from].pending_base(), self.rds[from].intids() / 8);
        for (at, word) in self.memory.set(base, bytes) {
            for bit in (0..64).filter(|bit| word >> bit & 1 == 1) {
                self.transfer(from, to, (at - base) * 8 + bit);
            }
        }
    }

    /// Reads the configuration again and delivers all LPIs that are pending and enabled.
    pub(crate) fn reread(&mut self, n: usize) {
        let rd = &self.rds[n];
        if !rd.enabled {
            return;
        }
        let (base, bytes) = (rd.pending_base(), rd.intids() / 8);
        for (at, word) in self.memory.set(base, bytes) {
            for bit in (0..64).filter(|bit| word >> bit & 1 == 1) {
                self.pend(n, (at - base) * 8 + bit);
            }
        }
    }
}
