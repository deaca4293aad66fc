//! The command queue: consumption in order at any later time, execution, and errors [IHI 0070G 4, 7.1].

use super::{Injection, Irq, Model};
use crate::arch::cmd::{self, Cmd};
use crate::arch::{bits, regs as r, truncate};
use crate::config::{Res0, StallModel};
use crate::hazard::Hazard;
use crate::inval::{ByAddress, Invalidation, Regime, Scope, VmidMatch};
use crate::item::Regimes;

/// Result of one command.
enum Outcome {
    Done,
    Error(u32),
    /// The SYNC stays in the queue.
    Stuck,
}

impl Model {
    pub(crate) fn set_cmdq_prod(&mut self, value: u32) {
        let mask = self.cmdq_mask();
        let value = value & r::QUEUE_INDEX;
        let (prod, cons) = (self.regs.cmdq_prod & mask, self.regs.cmdq_cons & mask);
        let size = mask.div_ceil(2);
        if self.regs.cr0.maybe(r::CR0_CMDQEN) {
            let pending = prod.wrapping_sub(cons) & mask;
            let then = value.wrapping_sub(cons) & mask;
            let error = self.cmdq_error();
            if then > size || (then < pending && !error) {
                self.hazard(Hazard::CmdqIndex);
            }
        }
        self.regs.cmdq_prod = value;
        self.cache_commands();
    }

    /// Index and wrap bits of the configured queue.
    fn cmdq_mask(&self) -> u32 {
        let log2 = u32::try_from(bits(self.regs.cmdq_base, 4, 0)).unwrap_or(0).min(self.config().cmdq_bits);
        (2 << log2) - 1
    }

    fn cmdq_slot(&self, index: u32) -> u64 {
        let size = self.cmdq_mask().div_ceil(2);
        let base = self.regs.cmdq_base & 0x00ff_ffff_ffff_ffe0 & !(u64::from(size) * 16 - 1);
        truncate(base, self.config().oas_bits()) + u64::from(index & (size - 1)) * 16
    }

    fn cmdq_error(&self) -> bool {
        (self.regs.gerror ^ self.regs.gerrorn) & r::GERROR_CMDQ != 0
    }

    /// Commands may be fetched as soon as they are submitted; software must not change them afterwards.
    fn cache_commands(&mut self) {
        let mask = self.cmdq_mask();
        let (prod, mut at) = (self.regs.cmdq_prod & mask, self.regs.cmdq_cons & mask);
        if prod.wrapping_sub(at) & mask > mask.div_ceil(2) {
            return;
        }
        while at != prod {
            let slot = self.cmdq_slot(at);
            if let (Ok(low), Ok(high)) = (self.mem().dev_read64(slot), self.mem().dev_read64(slot + 8)) {
                self.fetched.entry(at).or_insert([low, high]);
            }
            at = (at + 1) & mask;
        }
    }

    pub(crate) fn drop_cached_commands(&mut self) {
        self.fetched.clear();
    }

    /// Whether a command could be consumed now.
    pub(crate) fn cmdq_ready(&self) -> bool {
        let mask = self.cmdq_mask();
        self.regs.cr0.acked & r::CR0_CMDQEN != 0
            && !self.cmdq_error()
            && self.regs.gerror & r::GERROR_SFM == self.regs.gerrorn & r::GERROR_SFM
            && self.regs.cmdq_prod & mask != self.regs.cmdq_cons & mask
            && self.regs.cmdq_prod.wrapping_sub(self.regs.cmdq_cons) & mask <= mask.div_ceil(2)
            && !self.sync_stuck
    }

    /// Consumes one command if one may be consumed. Returns whether it did.
    pub fn consume(&mut self) -> bool {
        if !self.cmdq_ready() || self.ends_now() {
            return false;
        }
        let mask = self.cmdq_mask();
        let index = self.regs.cmdq_cons & mask;
        let slot = self.cmdq_slot(index);
        let fetched = self.mem().dev_read64(slot).and_then(|low| Ok([low, self.mem().dev_read64(slot + 8)?]));
        let outcome = match fetched {
            Err(_) => (Outcome::Error(r::CERROR_ABT), [0; 2]),
            Ok(cmd) => {
                if self.fetched.remove(&index).is_some_and(|was| was != cmd) {
                    self.hazard(Hazard::CommandChanged);
                }
                (self.execute(cmd), cmd)
            }
        };
        match outcome {
            (Outcome::Done, _) => {
                self.regs.cmdq_cons = (self.regs.cmdq_cons & !mask) | ((index + 1) & mask);
                self.commands += 1;
                true
            }
            (Outcome::Stuck, _) => false,
            (Outcome::Error(code), cmd) => {
                self.hazard(Hazard::CommandError { code, cmd });
                let cons = self.regs.cmdq_cons & r::QUEUE_INDEX;
                self.regs.cmdq_cons = cons | code << r::CONS_ERR_SHIFT;
                self.raise_gerror(r::GERROR_CMDQ);
                self.drop_cached_commands();
                true
            }
        }
    }

    /// Counts down to an injected end; whether it has come.
    fn ends_now(&mut self) -> bool {
        match self.take_injection(|i| matches!(i, Injection::FailAfter(_) | Injection::StopAfter(_))) {
            Some(Injection::FailAfter(0)) => self.fail(),
            Some(Injection::StopAfter(0)) => self.sync_stuck = true,
            Some(Injection::FailAfter(left)) => self.inject(Injection::FailAfter(left - 1)),
            Some(Injection::StopAfter(left)) => self.inject(Injection::StopAfter(left - 1)),
            Some(_) | None => {}
        }
        self.sync_stuck
    }

    fn execute(&mut self, cmd: Cmd) -> Outcome {
        let opcode = cmd::opcode(cmd);
        let config = self.config().clone();
        if let Some(Injection::CommandError(code)) = self.take_injection(|i| matches!(i, Injection::CommandError(_))) {
            return Outcome::Error(code);
        }
        let Some(defined) = cmd::defined(opcode, config.ril) else {
            return Outcome::Error(r::CERROR_ILL);
        };
        if cmd::ssec(cmd) && defined[0] & 1 << 10 != 0 {
            return Outcome::Error(r::CERROR_ILL);
        }
        if config.res0 == Res0::Checked && (cmd[0] & !defined[0] | cmd[1] & !defined[1]) != 0 {
            return Outcome::Error(r::CERROR_ILL);
        }
        let illegal = match opcode {
            cmd::CFGI_CD | cmd::CFGI_CD_ALL => !config.stage1,
            cmd::TLBI_NH_ALL | cmd::TLBI_NH_ASID => !config.stage1,
            cmd::TLBI_NH_VA | cmd::TLBI_NH_VAA => !config.stage1 || self.bad_range(cmd),
            cmd::TLBI_EL2_ALL | cmd::TLBI_EL2_ASID => !config.hyp,
            cmd::TLBI_EL2_VA | cmd::TLBI_EL2_VAA => !config.hyp || self.bad_range(cmd),
            cmd::TLBI_S12_VMALL => !config.stage2,
            cmd::TLBI_S2_IPA => !config.stage2 || self.bad_range(cmd),
            cmd::ATC_INV => !config.ats,
            cmd::PRI_RESP => !config.pri,
            cmd::RESUME | cmd::STALL_TERM => config.stall == StallModel::Terminate,
            cmd::SYNC => cmd::sync_cs(cmd) == 3,
            _ => false,
        };
        if illegal {
            return Outcome::Error(r::CERROR_ILL);
        }
        if opcode == cmd::SYNC {
            return self.sync(cmd);
        }
        if let Some(scope) = self.scope_of(cmd) {
            let consumed = self.mem().tick();
            if !self.races(scope) {
                self.timeline.invalidations.push(Invalidation { scope, consumed, completed: None });
            }
        }
        match opcode {
            cmd::RESUME => self.resume(cmd::sid(cmd), cmd::stag(cmd), cmd::resume_retry(cmd)),
            cmd::STALL_TERM => self.stall_term(cmd::sid(cmd)),
            cmd::ATC_INV => self.atc_invalidate(cmd::sid(cmd), cmd),
            _ => {}
        }
        Outcome::Done
    }

    /// Whether the invalidation is lost because of racing traffic (an erratum). The second one after a CMD_SYNC is
    /// not.
    fn races(&mut self, scope: Scope) -> bool {
        if !self.config().invalidations_race {
            return false;
        }
        let first = self.raced.iter().position(|raced| *raced == (scope, true));
        match first {
            Some(at) => _ = self.raced.swap_remove(at),
            None => self.raced.push((scope, false)),
        }
        first.is_none()
    }

    /// TG without a range or a level is Reserved; so is TTL 1 with 16 KiB granules [4.4.1.1].
    fn bad_range(&self, cmd: Cmd) -> bool {
        let (tg, ttl) = (cmd::tg(cmd), cmd::ttl(cmd));
        let ttl = if tg == 2 && ttl == 1 { 0 } else { ttl };
        self.config().ril && tg != 0 && ttl == 0 && cmd::num(cmd) == 0 && cmd::scale(cmd) == 0
    }

    fn by_address(&self, cmd: Cmd, address: u64) -> ByAddress {
        let leaf = cmd::leaf(cmd);
        let (tg, ttl) = (cmd::tg(cmd), cmd::ttl(cmd));
        if !self.config().ril || tg == 0 {
            return ByAddress { first: address, last: address | 0xfff, leaf, hint: None, removes_nothing: false };
        }
        let shift = match tg {
            1 => 12,
            2 => 14,
            _ => 16,
        };
        let stride = shift - 3;
        let units = u128::from(cmd::num(cmd) + 1) << cmd::scale(cmd).min(39);
        let size = units << shift;
        let last = u64::try_from((u128::from(address) + size - 1).min(u128::from(u64::MAX))).unwrap_or(u64::MAX);
        let align = match (tg, ttl) {
            (2, 1) | (_, 0 | 3) => shift,
            (_, 2) => shift + stride,
            _ => shift + 2 * stride,
        };
        let removes_nothing = address & ((1 << align) - 1) != 0;
        let ttl = if tg == 2 && ttl == 1 { 0 } else { ttl };
        ByAddress { first: address, last, leaf, hint: Some((tg, ttl)), removes_nothing }
    }

    fn scope_of(&self, cmd: Cmd) -> Option<Scope> {
        let vmid = self.vmid_match(cmd);
        let sid = cmd::sid(cmd);
        let e2h = self.regs.cr2 & r::CR2_E2H != 0;
        let regime = if e2h { Regime::El2E2h } else { Regime::El2 };
        let ssid = cmd::ssid(cmd);
        Some(match cmd::opcode(cmd) {
            // Out of range parameters may have no effect [4.1.7].
            cmd::CFGI_STE | cmd::CFGI_CD | cmd::CFGI_CD_ALL if sid >> self.config().sid_bits != 0 => {
                return None;
            }
            cmd::CFGI_CD if ssid >> self.config().ssid_bits != 0 => return None,
            cmd::CFGI_STE => Scope::Ste { sid, leaf: cmd::leaf(cmd) },
            cmd::CFGI_STE_RANGE => {
                let span = u32::try_from((2u64 << cmd::range(cmd)) - 1).unwrap_or(u32::MAX);
                Scope::SteRange { first: sid & !span, last: sid | span }
            }
            cmd::CFGI_CD => Scope::Cd { sid, ssid, leaf: cmd::leaf(cmd) },
            cmd::CFGI_CD_ALL => Scope::CdAll { sid },
            cmd::TLBI_NH_ALL => Scope::NhAll { vmid },
            cmd::TLBI_NH_ASID => Scope::NhAsid { vmid, asid: self.asid(cmd)? },
            cmd::TLBI_NH_VA => Scope::NhVa { vmid, asid: self.asid(cmd)?, by: self.by_address(cmd, cmd::va(cmd)) },
            cmd::TLBI_NH_VAA => Scope::NhVaa { vmid, by: self.by_address(cmd, cmd::va(cmd)) },
            cmd::TLBI_EL2_ALL => Scope::El2All,
            cmd::TLBI_EL2_ASID => Scope::El2Asid { asid: self.asid(cmd)? },
            cmd::TLBI_EL2_VA => {
                let asid = if e2h { Some(self.asid(cmd)?) } else { None };
                Scope::El2Va { regime, asid, by: self.by_address(cmd, cmd::va(cmd)) }
            }
            cmd::TLBI_EL2_VAA => Scope::El2Va { regime, asid: None, by: self.by_address(cmd, cmd::va(cmd)) },
            cmd::TLBI_S12_VMALL => Scope::S12Vmall { vmid },
            cmd::TLBI_S2_IPA => {
                let mut by = self.by_address(cmd, cmd::ipa(cmd));
                by.removes_nothing |= self.config().ril && self.config().single_ipa_void && by.hint.is_none();
                Scope::S2Ipa { vmid, by }
            }
            cmd::TLBI_NSNH_ALL => Scope::NsnhAll,
            _ => return None,
        })
    }

    fn asid(&self, cmd: Cmd) -> Option<u32> {
        let asid = cmd::asid(cmd);
        (self.config().asid16 || asid <= 0xff).then_some(asid)
    }

    fn vmid_match(&self, cmd: Cmd) -> VmidMatch {
        let vmid = cmd::vmid(cmd);
        let wildcard = match (self.regs.cr0.acked & r::CR0_VMW) >> 6 {
            low @ 1..=4 => low,
            _ => 0,
        };
        let removes_nothing = (!self.config().vmid16 && vmid > 0xff) || (!self.config().stage2 && vmid != 0);
        VmidMatch { vmid, wildcard, removes_nothing }
    }

    fn sync(&mut self, cmd: Cmd) -> Outcome {
        if self.injected(|i| matches!(i, Injection::SyncNever)) {
            self.sync_stuck = true;
            return Outcome::Stuck;
        }
        if let Some(Injection::AtcTimeout) = self.take_injection(|i| matches!(i, Injection::AtcTimeout)) {
            return Outcome::Error(r::CERROR_ATC_INV_SYNC);
        }
        let now = self.mem().tick();
        self.timeline.complete_before(now, now);
        self.syncs += 1;
        self.raced.retain(|raced| !raced.1);
        self.raced.iter_mut().for_each(|raced| raced.1 = true);
        let regimes = if self.config().hyp { Regimes::El1AndEl2 } else { Regimes::El1 };
        if let Some(before) = self.timeline.prune(regimes) {
            self.mem().drop_history(self.observer, before);
        }
        match cmd::sync_cs(cmd) {
            1 => {
                let address = truncate(cmd::sync_msi_address(cmd), self.config().oas_bits());
                if self.config().msi
                    && cmd::sync_msi_address(cmd) != 0
                    && self.message(address, cmd::sync_msi_data(cmd)).is_err()
                {
                    self.raise_gerror(r::GERROR_MSI_CMDQ);
                }
                self.raise_irq(Irq::CmdSync);
            }
            2 if self.config().sev => self.raise_irq(Irq::Event),
            _ => {}
        }
        Outcome::Done
    }
}
