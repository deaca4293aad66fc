//! Consumption of the host's command queue: each command is fetched once, under a claim of its page, and checked.

use host_access::memory::HostMemory;
use io_pgtable::Ipa;

use super::{Guard, Stop};
use crate::budget;
use crate::emul::decide::decide;
use crate::its::Enable;
use crate::platform::Platform;
use crate::spec::commands::RawCmd;
use crate::stats::bump;

/// Bytes of a page of the host's queue.
const PAGE: u64 = 0x1000;

/// The page of the host's queue that is claimed.
struct Window<C> {
    page: u64,
    claim: C,
}

impl<P: Platform> Guard<P> {
    /// Consumes commands of ITS `its` until the queue is empty, a job must continue in another trap, or the budget is
    /// used up. GITS_CREADR passes commands that hardware has executed.
    ///
    /// # Errors
    /// [`Stop::Budget`]: the host must repeat its store.
    pub(super) fn consume<H: HostMemory>(&mut self, host: &mut H, its: usize) -> Result<(), Stop> {
        let mut window = None;
        let result = self.consume_in(host, its, &mut window);
        if let Some(Window { claim, .. }) = window {
            host.release(claim);
        }
        // Consumed commands are executed before the host sees a new CREADR; the command of a job is consumed when the
        // job is done.
        let completed = self.complete(its);
        let idle = self.job.is_none();
        if let Ok(its) = self.its_mut(its)
            && completed.is_ok()
            && idle
        {
            its.regs.creadr = its.regs.head;
        }
        match result {
            Err(Stop::Budget) => Err(Stop::Budget),
            // The host sees that CREADR does not advance.
            Ok(()) | Err(Stop::Failed) => Ok(()),
        }
    }

    fn consume_in<H: HostMemory>(
        &mut self,
        host: &mut H,
        its: usize,
        window: &mut Option<Window<H::Claim>>,
    ) -> Result<(), Stop> {
        loop {
            self.run_job(host)?;
            if self.is_closed(its) || !self.its(its)?.regs.has_command() {
                return Ok(());
            }
            self.budget.charge(budget::COMMAND)?;
            let Some(raw) = self.fetch(host, its, window)? else {
                self.its_mut(its)?.regs.stalled = true;
                return Ok(());
            };
            let intid_bits = self.lpis.as_ref().map_or(0, super::Lpis::intid_bits);
            match decide(raw, &self.its(its)?.view(intid_bits)) {
                Ok(request) => {
                    // Done before the command is marked as read: if the budget is too small, the next trap reads it
                    // again.
                    self.charge_request(its, &request)?;
                    self.advance(its)?;
                    self.execute(host, its, request)?;
                }
                Err(_) => {
                    self.advance(its)?;
                    self.ignore();
                }
            }
        }
    }

    fn advance(&mut self, its: usize) -> Result<(), Stop> {
        bump(&mut self.stats.host_commands);
        self.its_mut(its)?.regs.advance();
        Ok(())
    }

    /// The next command; `None` if the queue is not in the host's own memory.
    fn fetch<H: HostMemory>(
        &mut self,
        host: &mut H,
        its: usize,
        window: &mut Option<Window<H::Claim>>,
    ) -> Result<Option<RawCmd>, Stop> {
        let regs = &self.its(its)?.regs;
        let address = regs.queue_base().wrapping_add(regs.head);
        let sharing = regs.queue_sharing();
        let page = address & !PAGE.wrapping_sub(1);
        if window.as_ref().is_none_or(|window| window.page != page) {
            self.budget.charge(budget::PAGE)?;
            if let Some(Window { claim, .. }) = window.take() {
                host.release(claim);
            }
            let claimed = host.claim(Ipa(page), PAGE, sharing);
            self.count_claim(claimed.as_ref().map(|_| ()).map_err(|error| *error));
            *window = claimed.ok().map(|claim| Window { page, claim });
        }
        let Some(Window { claim, .. }) = window else { return Ok(None) };
        let at = address.wrapping_sub(page);
        let low = host.read_pair(claim, at);
        let high = host.read_pair(claim, at.saturating_add(16));
        Ok(low.zip(high).map(|([a, b], [c, d])| RawCmd([a, b, c, d])))
    }

    /// Disables the ITS in hardware when the host has disabled it and no work is left.
    pub(super) fn disable_when_idle(&mut self) {
        if self.job.is_some() {
            return;
        }
        for its in &mut self.its {
            if its.regs.enabled == Enable::Off {
                // An ITS that does not respond is failed.
                let _ = its.hardware.follow(&self.platform, Enable::Off);
            }
        }
    }
}
