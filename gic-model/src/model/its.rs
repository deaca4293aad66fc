//! ITS registers and the command queue [IHI 0069 H.b, 12.19 and 5.3].

use std::collections::BTreeMap;

use super::Model;
use crate::{Config, Hazard};

/// An ITS.
pub(crate) struct Its {
    pub(crate) enabled: bool,
    pub(crate) cbaser: u64,
    pub(crate) cwriter: u64,
    pub(crate) creadr: u64,
    pub(crate) stalled: bool,
    pub(crate) baser: [u64; 8],
    /// Number of reads of GITS_CTLR until Quiescent is 1.
    busy: u32,
    executed: u64,
    pub(crate) stalls: u32,
    unstalled: u32,
    /// Writes to tables that have not reached memory.
    pub(crate) late: Vec<(u64, u64)>,
    /// Address and size of translation tables that were unmapped; the ITS can use them until the next SYNC.
    pub(crate) given_up: Vec<(u64, u64)>,
    /// Cached device table entries by DeviceID, and cached translation entries by event.
    pub(crate) devices: BTreeMap<u64, Device>,
    /// Collections that the ITS holds itself, without a table.
    pub(crate) collections: BTreeMap<u64, usize>,
}

/// A device as cached by the ITS.
#[derive(Clone)]
pub(crate) struct Device {
    pub(crate) itt: u64,
    pub(crate) bits: u64,
    /// Collection and LPI of each event.
    pub(crate) events: BTreeMap<u64, (u64, u64)>,
}

impl Its {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            enabled: config.left_on.is_some(),
            cbaser: 0,
            cwriter: 0,
            creadr: 0,
            stalled: false,
            baser: [0; 8],
            busy: 0,
            executed: 0,
            stalls: 0,
            unstalled: 0,
            late: Vec::new(),
            given_up: Vec::new(),
            devices: BTreeMap::new(),
            collections: BTreeMap::new(),
        }
    }

    /// Whether this command is one of the first `count`, which do not stall.
    fn unstalled(&mut self, count: u32) -> bool {
        self.unstalled = self.unstalled.saturating_add(1);
        self.unstalled <= count
    }

    pub(crate) fn ring(&self) -> u64 {
        self.cbaser & ((1 << 52) - 1) & !0xfff
    }

    pub(crate) fn ring_bytes(&self) -> u64 {
        ((self.cbaser & 0xff) + 1) * 4096
    }
}

impl Model {
    pub(crate) fn its_typer(&self) -> u64 {
        let config = &self.config;
        let four = if config.virtual_lpis { 1 << 1 | 1 << 37 | 1 << 39 | 1 << 40 } else { 0 };
        let hcc = if config.collection_table { 0 } else { 16 };
        u64::from(config.physical)
            | four
            | (config.itt_entry - 1) << 4
            | u64::from(config.event_bits - 1) << 8
            | u64::from(config.device_bits - 1) << 13
            | u64::from(config.addresses) << 19
            | hcc << 24
            | u64::from(config.collection_bits - 1) << 32
            | 1 << 36
            // UMSI and other fields that only GICv4.1 has.
            | 1 << 44
    }

    pub(crate) fn its_ctlr(&mut self, n: usize) -> u32 {
        let quiet = !self.its[n].enabled && self.its[n].busy == 0 && !self.config.never_quiescent;
        self.its[n].busy = self.its[n].busy.saturating_sub(1);
        if quiet {
            self.flush(n);
        }
        u32::from(self.its[n].enabled) | u32::from(quiet) << 31
    }

    /// Whether no ITS and no redistributor can access memory.
    pub fn is_quiet(&self) -> bool {
        self.its.iter().all(|its| !its.enabled && its.busy == 0)
            && self.rds.iter().all(|rd| !rd.enabled && rd.rwp == 0 && rd.virtual_tables().is_none())
    }

    pub(crate) fn set_its_ctlr(&mut self, n: usize, value: u32) {
        let enable = value & 1 == 1;
        if self.its[n].enabled && !enable {
            self.its[n].busy = u32::try_from(self.random(4)).unwrap_or(0);
        }
        if enable && self.config.stays_quiet {
            self.memory.report(Hazard::Enabled);
        }
        self.its[n].enabled = enable;
    }

    pub(crate) fn set_cbaser(&mut self, n: usize, value: u64) {
        if self.its[n].enabled {
            self.memory.report(Hazard::InUse("GITS_CBASER while enabled"));
        }
        if value >> 63 == 1 && value & 0xf000 != 0 {
            self.memory.report(Hazard::Unaligned("GITS_CBASER"));
        }
        let value = if self.config.shareable { value } else { value & !(0b11 << 10) };
        self.its[n].cbaser = value;
        self.its[n].creadr = 0;
        self.its[n].stalled = false;
    }

    pub(crate) fn set_cwriter(&mut self, n: usize, value: u64) {
        let its = &mut self.its[n];
        let offset = value & 0xf_ffe0;
        if offset >= its.ring_bytes() || value & 0x1e != 0 || value >> 20 != 0 {
            self.memory.report(Hazard::InUse("GITS_CWRITER beyond the queue"));
            return;
        }
        if its.stalled && value & 1 == 1 {
            its.stalled = false;
        }
        its.cwriter = offset;
    }

    /// Type and entry size of a table: 1 is devices, 2 vPEs, 4 collections.
    fn kind(&self, number: usize) -> Option<(u64, u64)> {
        let config = &self.config;
        match number {
            0 => Some((1, config.device_entry)),
            1 if config.collection_table => Some((4, config.collection_entry)),
            2 if config.virtual_lpis => Some((2, 8)),
            _ => None,
        }
    }

    pub(crate) fn its_baser(&self, n: usize, number: usize) -> u64 {
        let Some((kind, entry)) = self.kind(number) else { return 0 };
        self.its[n].baser[number] | kind << 56 | (entry - 1) << 48
    }

    pub(crate) fn set_baser(&mut self, n: usize, number: usize, value: u64) {
        if self.its[n].enabled {
            self.memory.report(Hazard::InUse("GITS_BASER while enabled"));
        }
        let Some((kind, _)) = self.kind(number) else { return };
        let mut value = value & !(0b111 << 56 | 0b1_1111 << 48);
        if !(kind == 1 && self.config.indirect) {
            value &= !(1 << 62);
        }
        if let Some(page) = self.config.page_size {
            value = value & !(0b11 << 8) | page << 8;
        }
        if !self.config.shareable {
            value &= !(0b11 << 10);
        }
        self.its[n].baser[number] = value;
    }

    /// Executes at most `count` commands of ITS `n`.
    pub(crate) fn run(&mut self, n: usize, count: u64) {
        for _ in 0..count {
            let its = &self.its[n];
            let stopped = self.config.stops_after.is_some_and(|(which, after)| which == n && its.executed >= after);
            let idle = !its.enabled || its.cbaser >> 63 == 0 || its.stalled || its.creadr == its.cwriter;
            if stopped || idle {
                return;
            }
            let at = its.ring() + its.creadr;
            let words = [0, 8, 16, 24].map(|offset| self.memory.device_read(at + offset, "the command queue"));
            if let Some((opcode, times)) = self.config.stalls
                && words[0] & 0xff == opcode
                && !self.its[n].unstalled(self.config.stalls_after)
                && self.its[n].stalls < times
            {
                self.its[n].stalls += 1;
                self.its[n].stalled = true;
                return;
            }
            // A write that may be late may also reach memory at once.
            if self.random(3) == 0 {
                self.flush_writes(n);
            }
            self.execute(n, words);
            let its = &mut self.its[n];
            its.executed += 1;
            its.creadr = (its.creadr + 32) % its.ring_bytes();
        }
    }

    /// Late writes reach memory.
    pub(crate) fn flush_writes(&mut self, n: usize) {
        for (at, word) in core::mem::take(&mut self.its[n].late) {
            self.memory.device_write(at, word, "a table of the ITS");
        }
    }

    /// Has the effect of a SYNC: late writes reach memory, and the ITS no longer uses unmapped tables.
    pub(crate) fn flush(&mut self, n: usize) {
        self.flush_writes(n);
        self.its[n].given_up.clear();
    }
}
