//! Configuration space of a PCI host, by its ECAM.
//!
//! One of the modules that may use `unsafe`: it turns RequesterIDs and offsets into accesses.
#![allow(unsafe_code)]

use hyp::pci::Rid;
use hyp::pci::config::ConfigSpace;
use hyp::pci::segment::Area;

/// Configuration space of a segment.
pub struct Ecam(pub Area);

impl Ecam {
    /// The address of `bytes` bytes at `offset`, checked against the ECAM and the access size.
    fn at(&self, rid: Rid, offset: u16, bytes: u16) -> Option<u64> {
        self.0.address(rid, offset).filter(|_| offset.is_multiple_of(bytes)).map(|pa| pa.0)
    }
}

impl ConfigSpace for Ecam {
    fn read32(&self, rid: Rid, offset: u16) -> u32 {
        // SAFETY: (1) the address lies in the ECAM of this segment, which EL2 maps as device memory; (2) it is a multiple
        // of the size.
        self.at(rid, offset, 4).map_or(u32::MAX, |pa| unsafe { (pa as *const u32).read_volatile() })
    }

    fn write32(&mut self, rid: Rid, offset: u16, value: u32) {
        if let Some(pa) = self.at(rid, offset, 4) {
            // SAFETY: (1) the address lies in the ECAM of this segment, which EL2 maps as device memory; (2) it is a
            // multiple of the size; (3) DMA that the store causes is translated by the function's SMMU.
            unsafe { (pa as *mut u32).write_volatile(value) };
        }
    }

    fn write16(&mut self, rid: Rid, offset: u16, value: u16) {
        if let Some(pa) = self.at(rid, offset, 2) {
            // SAFETY: (1) to (3) as in `write32`.
            unsafe { (pa as *mut u16).write_volatile(value) };
        }
    }

    fn write8(&mut self, rid: Rid, offset: u16, value: u8) {
        if let Some(pa) = self.at(rid, offset, 1) {
            // SAFETY: (1) to (3) as in `write32`.
            unsafe { (pa as *mut u8).write_volatile(value) };
        }
    }
}

impl Ecam {
    /// The host's load of `bytes` bytes at `offset`: one access of that size.
    pub fn host_load(&self, rid: Rid, offset: u16, bytes: u16) -> u64 {
        let Some(pa) = self.at(rid, offset, bytes) else { return u64::MAX };
        // SAFETY: (1) the address lies in the ECAM of this segment, which EL2 maps as device memory; (2) it is a multiple
        // of the size.
        unsafe {
            match bytes {
                1 => u64::from((pa as *const u8).read_volatile()),
                2 => u64::from((pa as *const u16).read_volatile()),
                _ => u64::from((pa as *const u32).read_volatile()),
            }
        }
    }

    /// The host's store of the lower `bytes` bytes of `value` at `offset`: one access of that size.
    pub fn host_store(&mut self, rid: Rid, offset: u16, bytes: u16, value: u64) {
        let [a, b, c, d, ..] = value.to_le_bytes();
        match bytes {
            1 => self.write8(rid, offset, a),
            2 => self.write16(rid, offset, u16::from_le_bytes([a, b])),
            _ => self.write32(rid, offset, u32::from_le_bytes([a, b, c, d])),
        }
    }
}
