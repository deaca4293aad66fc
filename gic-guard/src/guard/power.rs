//! Before power-off or reset: stops all writes of the GIC to memory.

use super::Guard;
use crate::error::ItsError;
use crate::its::Enable;
use crate::platform::Platform;

impl<P: Platform> Guard<P> {
    /// Disables every ITS permanently and waits until it is quiescent; the host's accesses are still emulated.
    /// Redistributors keep EL2's tables: no memory is freed.
    ///
    /// # Errors
    /// An ITS does not become quiescent; the others are disabled nevertheless.
    pub fn quiesce(&mut self) -> Result<(), ItsError> {
        let mut result = Ok(());
        for its in self.its.iter_mut().flatten() {
            let done = its.hardware.follow(&self.platform, Enable::Off);
            its.regs.enabled = Enable::Off;
            result = result.and(done);
        }
        self.quiesced = true;
        result
    }
}
