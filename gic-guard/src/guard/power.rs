//! Stops the GIC's writes to memory before power-off or reset, and checks its state after a CPU was off.

use super::Guard;
use crate::error::ItsError;
use crate::its::Enable;
use crate::platform::Platform;

impl<P: Platform> Guard<P> {
    /// Checks whether ITSs, and redistributor `rd` of the CPU that wakes, have lost their registers, and programs them
    /// again or marks them as failed. Called before the host runs on a CPU that was off or suspended.
    pub fn check_alive(&mut self, rd: Option<usize>) {
        for its in &mut self.its {
            // A failed ITS stays failed, with its first error.
            let _ = its.hardware.check_alive(&self.platform);
        }
        if let Some(rd) = rd.and_then(|rd| self.rds.get_mut(rd)) {
            rd.check_alive(&self.platform);
        }
    }

    /// Disables every ITS permanently and waits until it is quiescent; the host's accesses are still emulated.
    /// Redistributors keep their tables, which are in EL2's memory: no memory is freed.
    ///
    /// # Errors
    /// An ITS does not become quiescent; the others are still disabled.
    pub fn quiesce(&mut self) -> Result<(), ItsError> {
        let mut result = Ok(());
        for its in &mut self.its {
            let done = its.hardware.follow(&self.platform, Enable::Off);
            its.regs.enabled = Enable::Off;
            result = result.and(done);
        }
        self.quiesced = true;
        result
    }
}
