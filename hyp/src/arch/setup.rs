//! EL2 control registers of each CPU: the features that the host may use, and the traps.
//!
//! The values come from the table of ID fields (`hyp::cpu`): only features in the host's ID registers are enabled.
//! Buffers that a CPU writes (profiling and trace) use the EL1&0 regime, so stage 2 applies. The registers of every
//! feature of this CPU are written, even if the value is the reset value: after a warm reset they may be UNKNOWN.
//! Registers that EL2's own stage 1 depends on are written earlier, by head.S. Fields: Arm ARM, DDI 0487 issue L.a,
//! D24.2.

use super::{features, vectors};
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{
    CNTHCTL_EL2, CNTVOFF_EL2, CPTR_EL2, HCR_EL2, ICC_SRE_EL2, ICH_HCR_EL2, MDCR_EL2, MIDR_EL1, MPIDR_EL1, Readable,
    SCTLR_EL1, TPIDR_EL2, VBAR_EL2, VMPIDR_EL2, VTCR_EL2, VTTBR_EL2, Writeable,
};
use core::arch::asm;
use hyp::cpu::{Controls, Optional};

/// Register values for the host's stage 2.
#[derive(Clone, Copy, Debug)]
pub struct HostStage2Regs {
    /// `VTTBR_EL2`, with the VMID.
    pub vttbr: u64,
    /// `VTCR_EL2`.
    pub vtcr: u64,
}

/// `SCTLR_EL2` of a running EL2: MMU, caches, stack alignment checks, writable memory never executable, and the RES1
/// bits.
pub const SCTLR_EL2_RUNNING: u64 = 0x30c5_0830 | 1 | 1 << 2 | 1 << 3 | 1 << 12 | 1 << 19;

/// `SCTLR_EL1` at the host's entry: MMU and caches off, RES1 bits as in Armv8.0.
const SCTLR_EL1_ENTRY: u64 = 0x30d0_0800;

/// `HDFGxTR2_EL2.nPMSDSFR_EL1`.
const HDFG2_PMSDSFR: u64 = 1 << 19;
/// `MDCR_EL2.E2PB`, as the table sets it if the host may use profiling.
const MDCR_E2PB: u64 = 0b11 << 12;

macro_rules! write_sysreg {
    ($($(#[doc = $doc:literal])? $name:ident = $reg:literal;)*) => {$(
        $(#[doc = $doc])?
        fn $name(value: u64) {
            // SAFETY: (1) the caller checked for the feature of this register; (2) it controls EL1 and EL0, and no
            // state that Rust code in EL2 depends on.
            unsafe { asm!(concat!("msr ", $reg, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
        }
    )*};
}
write_sysreg! {
    vpidr = "vpidr_el2";
    hstr = "hstr_el2";
    actlr = "actlr_el2";
    cpacr_el1 = "cpacr_el1";
    mdscr_el1 = "mdscr_el1";
    tcr2_el1 = "s3_0_c2_c0_3";
    sctlr2_el1 = "s3_0_c1_c0_3";
    gcscr_el1 = "s3_0_c2_c5_0";
    gcscre0_el1 = "s3_0_c2_c5_2";
    zcr = "s3_4_c1_c2_0";
    trfcr = "s3_4_c1_c2_1";
    hcrx = "s3_4_c1_c2_2";
    smcr = "s3_4_c1_c2_6";
    hfgrtr = "s3_4_c1_c1_4";
    hfgwtr = "s3_4_c1_c1_5";
    hfgitr = "s3_4_c1_c1_6";
    hdfgrtr = "s3_4_c3_c1_4";
    hdfgwtr = "s3_4_c3_c1_5";
    hafgrtr = "s3_4_c3_c1_6";
    hdfgrtr2 = "s3_4_c3_c1_0";
    hdfgwtr2 = "s3_4_c3_c1_1";
    hfgrtr2 = "s3_4_c3_c1_2";
    hfgwtr2 = "s3_4_c3_c1_3";
    hfgitr2 = "s3_4_c3_c1_7";
    pmscr = "s3_4_c9_c9_0";
    mpamhcr = "s3_4_c10_c4_0";
    mpam2 = "s3_4_c10_c5_0";
    mpambw2 = "s3_4_c10_c5_4";
    mpam1_el1 = "s3_0_c10_c5_0";
    mpam0_el1 = "s3_0_c10_c5_1";
}

fn pmcr_n() -> u64 {
    let pmcr: u64;
    // SAFETY: (1) the caller checked for a PMU; (2) the read has no side effect.
    unsafe { asm!("mrs {}, pmcr_el0", out(reg) pmcr, options(nomem, nostack, preserves_flags)) };
    (pmcr >> 11) & 0x1f
}

/// Sets up this CPU, with EL2's CPU number `index`, for a host with the stage 2 `stage2`. Idempotent.
pub fn cpu(index: usize, stage2: HostStage2Regs) {
    TPIDR_EL2.set(index as u64);
    VBAR_EL2.set(vectors());
    let controls = features::controls();
    let optional = features::optional();
    vector_lengths(&controls);
    traps(&controls);
    partitions(&optional);
    debug_and_trace(&controls, &optional);
    fine_grained_traps(&controls);
    interrupts_and_time();
    vpidr(MIDR_EL1.get());
    VMPIDR_EL2.set(MPIDR_EL1.get());
    VTCR_EL2.set(stage2.vtcr);
    VTTBR_EL2.set(stage2.vttbr);
    entry_state();
    barrier::isb(barrier::SY);
    super::tlb::invalidate_host();
    super::tlb::complete();
}

/// EL1 control registers at the host's entry; an older kernel does not initialise some of them.
fn entry_state() {
    SCTLR_EL1.set(SCTLR_EL1_ENTRY);
    cpacr_el1(0);
    mdscr_el1(0);
    if features::tcrx() != 0 {
        tcr2_el1(0);
    }
    if features::sctlrx() != 0 {
        sctlr2_el1(0);
    }
    if features::gcs() != 0 {
        gcscr_el1(0);
        gcscre0_el1(0);
    }
}

fn traps(controls: &Controls) {
    // No memory access may be in progress while it changes (docs/cpu-errata.md).
    barrier::dsb(barrier::SY);
    HCR_EL2.set(controls.hcr);
    barrier::isb(barrier::SY);
    hstr(0);
    // With TIDCP and TACR: IMPLEMENTATION DEFINED registers, which may read or control cache content of EL2, trap.
    actlr(0);
    if features::hcx() != 0 {
        hcrx(controls.hcrx);
    }
}

/// All software runs in the default MPAM partition, and the host cannot select another.
fn partitions(optional: &Optional) {
    let Some(value) = optional.mpam2 else { return };
    mpam2(value);
    if let Some(value) = optional.mpamhcr {
        mpamhcr(value);
    }
    if let Some(value) = optional.mpambw2 {
        mpambw2(value);
    }
    mpam1_el1(0);
    mpam0_el1(0);
}

/// The host may use floating point, SVE and SME, with the full vector length.
fn vector_lengths(controls: &Controls) {
    CPTR_EL2.set(controls.cptr);
    barrier::isb(barrier::SY);
    if features::sve() != 0 {
        zcr(0xf);
    }
    if features::sme() != 0 {
        smcr(controls.smcr);
    }
}

/// Counters do not count at EL2, and writes to the CPU's buffers use the host's stage 2.
fn debug_and_trace(controls: &Controls, optional: &Optional) {
    let mut mdcr = controls.mdcr;
    if features::pmu() != 0 && features::pmu() != 0xf {
        mdcr |= pmcr_n() | 1 << 17;
        if features::pmu() >= 6 {
            mdcr |= 1 << 23;
        }
    }
    MDCR_EL2.set(mdcr);
    if let Some(value) = optional.pmscr {
        pmscr(value);
    }
    if let Some(value) = optional.trfcr {
        trfcr(value);
    }
}

/// Denied features have negative-polarity bits that no table row sets, or belong to AMU, which is trapped as a whole.
fn fine_grained_traps(controls: &Controls) {
    if features::fgt() == 0 {
        return;
    }
    hfgrtr(controls.hfgrtr);
    hfgwtr(controls.hfgwtr);
    hfgitr(controls.hfgitr);
    hdfgrtr(controls.hdfgrtr);
    hdfgwtr(controls.hdfgwtr);
    if features::amu() != 0 {
        hafgrtr(0);
    }
    if features::fgt() >= 2 {
        let sources = controls.mdcr & MDCR_E2PB != 0 && features::profiling_data_source();
        let debug = if sources { HDFG2_PMSDSFR } else { 0 };
        hdfgrtr2(debug);
        hdfgwtr2(debug);
        hfgrtr2(controls.hfgrtr2);
        hfgwtr2(controls.hfgwtr2);
        hfgitr2(0);
    }
}

fn interrupts_and_time() {
    CNTHCTL_EL2.write(CNTHCTL_EL2::EL1PCEN::SET + CNTHCTL_EL2::EL1PCTEN::SET);
    CNTVOFF_EL2.set(0);
    if features::gic() != 0 {
        // SRE, DFB, DIB and Enable: the host uses the system register interface without traps.
        ICC_SRE_EL2.set(0xf);
        barrier::isb(barrier::SY);
        ICH_HCR_EL2.set(0);
    }
}
