//! The audit: every address in hardware's registers and tables is in EL2's memory.

use host_access::memory::DmaBuffer;
use io_pgtable::Pa;

use super::Guard;
use crate::error::GicFinding;
use crate::platform::{Frame, Platform};

impl<P: Platform> Guard<P> {
    /// Checks that hardware's registers contain the addresses of EL2's tables, and that `owned` returns true for each
    /// table, so that it is in EL2's memory.
    ///
    /// # Errors
    /// The first difference, which is a defect. Nothing is changed.
    pub fn audit(&self, owned: impl Fn(Pa, usize) -> bool) -> Result<(), GicFinding> {
        for its in self.its.iter() {
            its.hardware.audit(&self.platform, &owned)?;
        }
        for device in self.devices.iter() {
            if !owned(device.itt.pa(), device.itt.size()) {
                return Err(GicFinding::NotOwned(Frame::Its(device.its), "an interrupt translation table"));
            }
        }
        let Some(lpis) = &self.lpis else { return Ok(()) };
        let (config, size) = lpis.config_table();
        if !owned(config, size) {
            return Err(GicFinding::NotOwned(Frame::Rd(0), "GICR_PROPBASER"));
        }
        for rd in self.rds.iter() {
            rd.audit(&self.platform, &owned)?;
        }
        Ok(())
    }
}
