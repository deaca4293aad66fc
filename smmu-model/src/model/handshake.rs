//! Registers whose writes take effect later: CR0, GBPA, IRQ_CTRL, and the acknowledgement of errors
//! [IHI 0070G 6.3.9, 6.3.14, 6.3.16, 7.5].

use super::Model;
use super::regs::ADDR;
use crate::arch::regs as r;
use crate::config::Pace;
use crate::hazard::Hazard;
use crate::mem::Time;
use crate::view::Strtab;

impl Model {
    pub(crate) fn set_cr0(&mut self, value: u32) {
        let mut known = r::CR0_SMMUEN | r::CR0_EVENTQEN | r::CR0_CMDQEN;
        if self.config().pri {
            known |= r::CR0_PRIQEN;
        }
        if self.config().ats {
            known |= r::CR0_ATSCHK;
        }
        if self.config().vmw {
            known |= r::CR0_VMW;
        }
        let value = value & known;
        let cr0 = self.regs.cr0;
        let in_flight = cr0.written ^ cr0.acked;
        let again = (value ^ cr0.written) & in_flight;
        if again != 0 {
            self.hazard(Hazard::UnacknowledgedCr0);
        }
        // A field in transition keeps the first new value [6.3.9].
        let before = self.possible_translation();
        self.regs.cr0.written = (value & !in_flight) | (cr0.written & in_flight);
        if self.config().pace == Pace::Eager {
            self.apply_cr0();
        }
        self.translation_changed(before);
    }

    /// Makes the last CR0 write take effect.
    pub(crate) fn apply_cr0(&mut self) {
        let before = self.possible_translation();
        let was = self.regs.cr0.acked;
        self.regs.cr0.acked = self.regs.cr0.written;
        let now = self.regs.cr0.acked;
        if was & r::CR0_CMDQEN != 0 && now & r::CR0_CMDQEN == 0 {
            self.drop_cached_commands();
        }
        if was & r::CR0_SMMUEN != 0 && now & r::CR0_SMMUEN == 0 {
            self.terminate_stalls();
        }
        self.translation_changed(before);
    }

    /// Whether translation may be on.
    pub(crate) fn possible_translation(&self) -> bool {
        self.regs.cr0.maybe(r::CR0_SMMUEN)
    }

    fn translation_changed(&mut self, before: bool) {
        let after = self.possible_translation();
        if before == after {
            return;
        }
        let now = self.mem().tick();
        if after {
            if self.timeline.enabled.is_empty() {
                // Nothing from before the first time that translation was on can be in a cache.
                self.mem().drop_history(self.observer, now);
            }
            self.timeline.enabled.push((now, None));
        } else if let Some(last) = self.timeline.enabled.last_mut() {
            last.1 = Some(now);
        }
    }

    pub(crate) fn strtab_changed(&mut self) {
        let now: Time = self.mem().tick();
        if let Some(last) = self.strtab.last_mut() {
            if last.base == self.regs.strtab_base & ADDR & !0x3f && last.cfg == self.regs.strtab_cfg {
                return;
            }
            last.end = Some(now);
        }
        let base = self.regs.strtab_base & ADDR & !0x3f;
        self.strtab.push(Strtab { base, cfg: self.regs.strtab_cfg, start: now, end: None });
    }

    pub(crate) fn set_gbpa(&mut self, value: u32) {
        if self.regs.gbpa_update || value & r::GBPA_UPDATE == 0 {
            self.hazard(Hazard::Gbpa);
            return;
        }
        self.regs.gbpa.written = value & 0x001f_3f1f;
        self.regs.gbpa_update = true;
        if self.config().pace == Pace::Eager {
            self.apply_gbpa();
        }
    }

    /// Makes the last GBPA write take effect.
    pub(crate) fn apply_gbpa(&mut self) {
        self.regs.gbpa.acked = self.regs.gbpa.written;
        self.regs.gbpa_update = false;
    }

    pub(crate) fn set_irq_ctrl(&mut self, value: u32) {
        let known = r::IRQ_GERROR | r::IRQ_EVENTQ | if self.config().pri { r::IRQ_PRIQ } else { 0 };
        if self.regs.irq_ctrl.pending() && value & known != self.regs.irq_ctrl.written {
            self.hazard(Hazard::UnacknowledgedIrqCtrl);
            return;
        }
        self.regs.irq_ctrl.written = value & known;
        if self.config().pace == Pace::Eager {
            self.regs.irq_ctrl.acked = value & known;
        }
    }

    pub(crate) fn set_gerrorn(&mut self, value: u32) {
        let active = self.regs.gerror ^ self.regs.gerrorn;
        let toggled = (value ^ self.regs.gerrorn) & r::GERROR_ALL;
        if toggled & !active != 0 {
            self.hazard(Hazard::Gerrorn);
        }
        self.regs.gerrorn ^= toggled;
        if toggled & r::GERROR_CMDQ != 0 {
            self.drop_cached_commands();
        }
    }
}
