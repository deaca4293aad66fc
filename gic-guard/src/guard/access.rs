//! The host's register accesses.

use host_access::access::{AccessSize, Part};
use host_access::budget::Budget;
use host_access::memory::HostMemory;

use super::{Guard, Stop};
use crate::budget::TRAP;
use crate::emul::{gicr, gits};
use crate::its::Enable;
use crate::platform::{Frame, Platform};
use crate::spec::gicr as gicr_reg;
use crate::spec::gits as gits_reg;
use crate::spec::{get32, low32, put32, union32};
use crate::stats::bump;

/// The result of an emulated store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum WriteOutcome {
    /// Complete: advance the PC.
    Done,
    /// The budget of one trap is used up and progress is saved: return without advancing the PC, so that pending
    /// interrupts are taken and the host repeats the store.
    Again,
}

fn enable(bit: u32) -> Enable {
    if bit == 1 { Enable::On } else { Enable::Off }
}

/// The value of a register after a store of `value` to `part` of it. `before` reads the register if the other part is
/// unchanged.
fn stored(part: Part, value: u64, before: impl FnOnce() -> Option<u64>) -> Option<u64> {
    let before = match part {
        Part::Word | Part::Double => 0,
        Part::Low | Part::High => before()?,
    };
    Some(part.merge(before, value))
}

impl<P: Platform> Guard<P> {
    /// Emulates a load of the host: `offset` bytes from the base of `frame`.
    ///
    /// Never fails: a load that no policy row allows returns zero and is counted.
    pub fn mmio_read(&mut self, frame: Frame, offset: u32, size: AccessSize) -> u64 {
        self.count_exit(frame);
        let answer = match frame {
            Frame::Its(n) => {
                gits::search(offset, size).and_then(|(register, part)| Some(part.of(self.read_its(n, register)?)))
            }
            Frame::Rd(n) => {
                gicr::search(offset, size).and_then(|(register, part)| Some(part.of(self.read_rd(n, register)?)))
            }
        };
        answer.unwrap_or_else(|| {
            bump(&mut self.stats.denied_accesses);
            0
        })
    }

    /// Emulates a store of the host: `offset` bytes from the base of `frame`.
    ///
    /// Never fails: a store that no policy row allows is ignored and counted. After [`WriteOutcome::Again`] the host
    /// must repeat the store.
    pub fn mmio_write<H: HostMemory>(
        &mut self,
        host: &mut H,
        frame: Frame,
        offset: u32,
        size: AccessSize,
        value: u64,
    ) -> WriteOutcome {
        self.count_exit(frame);
        self.budget = Budget::new(TRAP);
        // A job of an earlier trap is completed first, so registers change only between jobs.
        let result = self.finish_job(host).and_then(|()| match frame {
            Frame::Its(n) => self.store_its(host, n, offset, size, value),
            Frame::Rd(n) => self.store_rd(host, n, offset, size, value),
        });
        self.disable_when_idle();
        if result == Err(Stop::Budget) {
            bump(&mut self.stats.budget_exits);
            return WriteOutcome::Again;
        }
        WriteOutcome::Done
    }

    fn count_exit(&mut self, frame: Frame) {
        bump(match frame {
            Frame::Its(_) => &mut self.stats.its_exits,
            Frame::Rd(_) => &mut self.stats.rd_exits,
        });
    }

    /// Completes a job of an earlier trap, and continues the command queue that the job belongs to.
    fn finish_job<H: HostMemory>(&mut self, host: &mut H) -> Result<(), Stop> {
        if self.job.is_none() {
            return Ok(());
        }
        let result = self.run_job(host);
        self.complete_all();
        result?;
        for its in &mut self.its {
            if its.hardware.failed().is_none() {
                its.regs.creadr = its.regs.head;
            }
        }
        Ok(())
    }

    fn read_its(&self, n: usize, register: gits::Register) -> Option<u64> {
        let its = self.its.get(n)?;
        Some(match register {
            gits::Register::Ctlr => {
                let on = its.regs.enabled == Enable::On;
                let quiescent = if on { 0 } else { its.hardware.quiescent(&self.platform) };
                let enabled = put32(gits_reg::ctlr::ENABLED, u32::from(on));
                u64::from(union32([enabled, put32(gits_reg::ctlr::QUIESCENT, quiescent)]))
            }
            gits::Register::Iidr => u64::from(self.platform.read32(its.hardware.frame(), gits_reg::IIDR)),
            gits::Register::Pidr2 => u64::from(self.platform.read32(its.hardware.frame(), gits_reg::PIDR2)),
            gits::Register::Typer => its.typer(),
            gits::Register::Cbaser => its.regs.cbaser,
            gits::Register::Cwriter => its.regs.cwriter,
            gits::Register::Creadr => its.regs.read_creadr(),
            gits::Register::Statusr => 0,
            gits::Register::Baser0
            | gits::Register::Baser1
            | gits::Register::Baser2
            | gits::Register::Baser3
            | gits::Register::Baser4
            | gits::Register::Baser5
            | gits::Register::Baser6
            | gits::Register::Baser7 => its.regs.baser(register.baser()?),
        })
    }

    fn read_rd(&self, n: usize, register: gicr::Register) -> Option<u64> {
        let rd = self.rd(n)?;
        let frame = Frame::Rd(n);
        Some(match register {
            gicr::Register::Ctlr => u64::from(rd.ctlr(&self.platform)),
            gicr::Register::Iidr => u64::from(self.platform.read32(frame, gicr_reg::IIDR)),
            gicr::Register::Pidr2 => u64::from(self.platform.read32(frame, gicr_reg::PIDR2)),
            gicr::Register::Typer => rd.typer(),
            gicr::Register::Waker => u64::from(rd.waker(&self.platform)),
            gicr::Register::Propbaser => rd.propbaser,
            gicr::Register::Pendbaser => rd.pendbaser,
            gicr::Register::Statusr | gicr::Register::Vpropbaser | gicr::Register::Vpendbaser => 0,
        })
    }

    fn deny(&mut self) -> Result<(), Stop> {
        bump(&mut self.stats.denied_accesses);
        Ok(())
    }

    fn store_its<H: HostMemory>(
        &mut self,
        host: &mut H,
        n: usize,
        offset: u32,
        size: AccessSize,
        value: u64,
    ) -> Result<(), Stop> {
        let Some((register, part)) = gits::search(offset, size) else { return self.deny() };
        let Some(value) = stored(part, value, || self.read_its(n, register)) else { return self.deny() };
        let Some(its) = self.its.get_mut(n) else { return self.deny() };
        let off = its.regs.enabled == Enable::Off;
        match register {
            gits::Register::Ctlr => {
                return self.set_its_enable(host, n, enable(get32(gits_reg::ctlr::ENABLED, low32(value))));
            }
            gits::Register::Cwriter => {
                its.regs.set_cwriter(value);
                return self.consume(host, n);
            }
            gits::Register::Cbaser if off => its.regs.set_cbaser(value),
            gits::Register::Baser0
            | gits::Register::Baser1
            | gits::Register::Baser2
            | gits::Register::Baser3
            | gits::Register::Baser4
            | gits::Register::Baser5
            | gits::Register::Baser6
            | gits::Register::Baser7
                if off =>
            {
                if let Some(number) = register.baser() {
                    its.regs.set_baser(number, value);
                }
            }
            gits::Register::Cbaser
            | gits::Register::Baser0
            | gits::Register::Baser1
            | gits::Register::Baser2
            | gits::Register::Baser3
            | gits::Register::Baser4
            | gits::Register::Baser5
            | gits::Register::Baser6
            | gits::Register::Baser7
            | gits::Register::Iidr
            | gits::Register::Typer
            | gits::Register::Statusr
            | gits::Register::Creadr
            | gits::Register::Pidr2 => {}
        }
        Ok(())
    }

    fn store_rd<H: HostMemory>(
        &mut self,
        host: &mut H,
        n: usize,
        offset: u32,
        size: AccessSize,
        value: u64,
    ) -> Result<(), Stop> {
        let Some((register, part)) = gicr::search(offset, size) else { return self.deny() };
        let Some(value) = stored(part, value, || self.read_rd(n, register)) else { return self.deny() };
        let Some(rd) = self.rds.get_mut(n) else { return self.deny() };
        match register {
            gicr::Register::Ctlr => {
                rd.set_dpg(&self.platform, get32(gicr_reg::ctlr::DPG, low32(value)));
                return self.set_lpi_enable(host, n, enable(get32(gicr_reg::ctlr::ENABLE_LPIS, low32(value))));
            }
            gicr::Register::Waker => rd.set_waker(&self.platform, low32(value)),
            gicr::Register::Propbaser => rd.set_propbaser(value),
            gicr::Register::Pendbaser => rd.set_pendbaser(value),
            gicr::Register::Iidr
            | gicr::Register::Typer
            | gicr::Register::Statusr
            | gicr::Register::Pidr2
            | gicr::Register::Vpropbaser
            | gicr::Register::Vpendbaser => {}
        }
        Ok(())
    }
}
