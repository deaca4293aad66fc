//! Changes of the host's enables.

use host_access::memory::HostMemory;

use super::job::Job;
use super::{Guard, Stop};
use crate::its::Enable;
use crate::platform::Platform;

impl<P: Platform> Guard<P> {
    /// A store to GITS_CTLR.Enabled. Called again with the same value if the budget was used up.
    ///
    /// # Errors
    /// [`Stop::Budget`].
    pub(super) fn set_its_enable<H: HostMemory>(&mut self, host: &mut H, n: usize, enable: Enable) -> Result<(), Stop> {
        let quiesced = self.quiesced;
        let its = self.its_mut(n)?;
        let device = its.hardware.tables.device_register;
        let collection = its.hardware.tables.collection_register;
        if enable == Enable::Off {
            its.regs.enabled = Enable::Off;
            return Ok(());
        }
        if its.regs.enabled == Enable::Off {
            if quiesced || !its.regs.is_complete() || its.hardware.failed().is_some() {
                return Ok(());
            }
            // The host has set another table: the mappings of the old one are removed.
            if collection.is_some_and(|collection| its.regs.take_changed(collection)) {
                its.clear_collections();
                self.job = Some(Job::Follow { its: Some(n), slot: 0, event: 0, sync: None });
            }
            if self.its_mut(n)?.regs.take_changed(device) {
                self.start_unmap_all(n);
            }
            self.run_job(host)?;
            self.complete(n)?;
            let its = self.its.get_mut(n).ok_or(Stop::Failed)?;
            its.hardware.follow(&self.platform, Enable::On)?;
            its.regs.enabled = Enable::On;
        }
        self.consume(host, n)
    }

    /// A store to GICR_CTLR.EnableLPIs of redistributor `n`. Called again with the same value if the budget was used
    /// up.
    ///
    /// # Errors
    /// [`Stop::Budget`].
    pub(super) fn set_lpi_enable<H: HostMemory>(&mut self, host: &mut H, n: usize, enable: Enable) -> Result<(), Stop> {
        let Some(rd) = self.rds.get_mut(n) else { return Ok(()) };
        let Some(lpis) = &mut self.lpis else { return Ok(()) };
        if enable == Enable::On {
            rd.switch_on(&self.platform);
            if !rd.has_lpis() {
                return Ok(());
            }
        }
        if rd.enabled != enable {
            rd.enabled = enable;
            if enable == Enable::On {
                lpis.set_table(rd.propbaser);
            }
            self.job = Some(Job::Follow { its: None, slot: 0, event: 0, sync: Some(n) });
        }
        self.run_job(host)?;
        self.complete_all();
        Ok(())
    }

    /// Waits for every ITS; an ITS that does not respond is failed.
    pub(super) fn complete_all(&mut self) {
        for its in 0..self.its.len() {
            let _ = self.complete(its);
        }
    }
}
