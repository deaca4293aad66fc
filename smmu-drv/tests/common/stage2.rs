//! The stage 2 that EL2 gives the driver.

use io_pgtable::Pa;
use smmu_drv::Stage2Cfg;
use smmu_model::Memory;

use super::*;

/// A stage 2 of tests: identity, 4K leaves, 40 bits, two concatenated level-1 tables.
pub struct Stage2 {
    mem: Memory,
    root: u64,
    next: u64,
    vmid: u16,
}

impl Stage2 {
    /// The stage 2 of a guest with `vmid`, which maps nothing yet. Different VMIDs have different tables.
    pub fn of_guest(mem: &Memory, vmid: u16) -> Self {
        let root = POOL + 0x4_0000 + u64::from(vmid % 8) * 0x1_0000;
        Self { mem: mem.clone(), root, next: root + 0x2000, vmid }
    }

    pub fn new(mem: &Memory) -> Self {
        let root = POOL;
        let mut table = Self { mem: mem.clone(), root, next: POOL + 0x2000, vmid: VMID };
        // 4K leaves around BUF, 2M blocks elsewhere.
        let mut block = RAM;
        while block < RAM + RAM_SIZE {
            if block == BUF {
                for page in (block..block + 0x20_0000).step_by(4096) {
                    table.map(page);
                }
            } else {
                let page = table.entry(block, true).unwrap() & !0xfff;
                let (l1, l2) = (block >> 30 & 0x3ff, block >> 21 & 0x1ff);
                let l2_table = mem.cpu_read64(root + l1 * 8) & 0x00ff_ffff_f000;
                assert_eq!(mem.cpu_read64(l2_table + l2 * 8) & 0x00ff_ffff_f000, page);
                table.store(l2_table + l2 * 8, block | 1 << 10 | 3 << 8 | 3 << 6 | 0xf << 2 | 1);
            }
            block += 0x20_0000;
        }
        table
    }

    fn entry(&mut self, ipa: u64, create: bool) -> Option<u64> {
        let mut table = self.root;
        for shift in [30, 21] {
            let index = if shift == 30 { ipa >> 30 & 0x3ff } else { ipa >> shift & 0x1ff };
            let at = table + index * 8;
            let desc = self.mem.cpu_read64(at);
            if desc & 1 == 0 {
                if !create {
                    return None;
                }
                let new = self.next;
                self.next += 4096;
                self.store(at, new | 3);
                table = new;
            } else {
                table = desc & 0x00ff_ffff_f000;
            }
        }
        Some(table + (ipa >> 12 & 0x1ff) * 8)
    }

    fn store(&self, at: u64, value: u64) {
        self.mem.cpu_write64(at, value);
        self.mem.clean(at..at + 8);
    }

    pub fn map(&mut self, ipa: u64) {
        let at = self.entry(ipa, true).unwrap();
        self.store(at, ipa | 1 << 10 | 3 << 8 | 3 << 6 | 0xf << 2 | 3);
    }

    pub fn unmap(&mut self, ipa: u64) {
        if let Some(at) = self.entry(ipa, false) {
            self.store(at, 0);
        }
    }

    /// Replaces the 2M block at `block` by a table without `hole`.
    pub fn split(&mut self, block: u64, hole: u64) {
        let table = self.next;
        self.next += 4096;
        for page in (block..block + 0x20_0000).step_by(4096) {
            let desc = if page == hole { 0 } else { page | 1 << 10 | 3 << 8 | 3 << 6 | 0xf << 2 | 3 };
            self.store(table + (page >> 12 & 0x1ff) * 8, desc);
        }
        let l2 = self.mem.cpu_read64(self.root + (block >> 30 & 0x3ff) * 8) & 0x00ff_ffff_f000;
        self.store(l2 + (block >> 21 & 0x1ff) * 8, table | 3);
    }

    pub fn cfg(&self) -> Stage2Cfg {
        self.cfg_of(40)
    }

    /// For addresses of `bits` bits, 32 to 42: the same tables, of which a larger or smaller part is used.
    pub fn cfg_of(&self, bits: u8) -> Stage2Cfg {
        let (irgn, orgn, sh) = (1, 1, 3);
        let ps = [32, 36, 40, 42].iter().rposition(|&size| size <= bits).unwrap() as u8;
        Stage2Cfg { ttb: Pa(self.root), t0sz: 64 - bits, sl0: 1, irgn, orgn, sh, tg: 0, ps, vmid: self.vmid }
    }
}
