//! Before power-off or reset: the GIC writes no memory any more.

use super::Guard;
use crate::error::ItsError;
use crate::its::Enable;
use crate::platform::Platform;

impl<P: Platform> Guard<P> {
    /// Disables every ITS for good and waits until it is quiescent; the host's accesses are still emulated.
    /// Redistributors keep their tables, which stay EL2's: no memory is given back.
    ///
    /// # Errors
    /// An ITS that does not become quiescent; the others are disabled all the same.
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
