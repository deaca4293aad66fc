//! The oracle: all memory that hardware could access with the present contents of its registers and tables.

use super::Model;

/// Memory that hardware can access, and the register or table that contains its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// First byte.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// The register or table that contains the address.
    pub by: &'static str,
}

impl Model {
    /// All memory that the GIC can read or write.
    pub fn oracle(&self) -> Vec<Reach> {
        let mut all = Vec::new();
        for n in 0..self.its.len() {
            self.its_reach(n, &mut all);
        }
        for address in self.rds.iter().filter_map(super::rd::Rd::virtual_tables) {
            all.push(Reach { address, size: 0x1_0000, by: "GICR_VPENDBASER" });
        }
        for rd in self.rds.iter().filter(|rd| rd.enabled && rd.intids() > 0) {
            all.push(Reach { address: rd.config_base(), size: rd.intids() - 8192, by: "GICR_PROPBASER" });
            all.push(Reach { address: rd.pending_base(), size: rd.intids() / 8, by: "GICR_PENDBASER" });
        }
        all
    }

    /// The part of it that is not given to the GIC.
    pub fn foreign(&self) -> Vec<Reach> {
        let mut all = self.oracle();
        all.retain(|reach| !self.memory.is_given(reach.address, reach.size));
        all
    }

    fn its_reach(&self, n: usize, all: &mut Vec<Reach>) {
        let its = &self.its[n];
        if its.cbaser >> 63 == 1 {
            all.push(Reach { address: its.ring(), size: its.ring_bytes(), by: "GITS_CBASER" });
        }
        for number in 0..8 {
            let Some(table) = self.table(n, number) else { continue };
            all.push(Reach { address: table.base, size: table.bytes, by: "GITS_BASER" });
            if table.indirect {
                for (_, pointer) in self.memory.set(table.base, table.bytes) {
                    if pointer >> 63 == 1 {
                        let address = pointer & ((1 << 52) - 1) & !(table.page - 1);
                        all.push(Reach { address, size: table.page, by: "a level-1 table" });
                    }
                }
            }
        }
        let entry = self.config.itt_bytes();
        all.extend(its.devices.values().map(|device| Reach {
            address: device.itt,
            size: entry << device.bits,
            by: "MAPD",
        }));
        let left = its.given_up.iter();
        all.extend(left.map(|(address, size)| Reach {
            address: *address,
            size: *size,
            by: "a MAPD before the last SYNC",
        }));
        all.extend(its.late.iter().map(|(at, _)| Reach { address: *at, size: 8, by: "a late write" }));
    }
}
