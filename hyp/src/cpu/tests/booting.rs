//! The table compared with Linux's requirements for entering the kernel at EL1 if there is an EL2
//! (Documentation/arch/arm64/booting.rst, as of Linux 7.0): each entry that concerns EL2, in the order of that page.
//!
//! Requirements without an ID field are in `arch/setup.rs`: `CNTHCTL_EL2.EL1PCTEN`, `CNTVOFF_EL2`,
//! `ICC_SRE_EL2`, `ZCR_EL2.LEN`, `SMCR_EL2.LEN`, `GCSCR_EL2`, `GCSCR_EL1`, `GCSCRE0_EL1`. Its requirements for EL3 are
//! in `withheld.rs` and docs/boot.md.

use super::super::*;
use super::{Fake, field};

/// How EL2 meets a requirement.
enum Answer {
    /// These bits of a control are ones.
    Ones(fn(&Controls) -> u64, u64),
    /// These bits of a control are zeroes.
    Zeroes(fn(&Controls) -> u64, u64),
    /// The feature is hidden.
    Hidden,
}
use Answer::{Hidden, Ones, Zeroes};

/// ID field value of the feature, and the requirement.
const ENTRIES: &[(Id, &str, u64, Answer)] = &[
    (ids::PFR2, "GCIE", 1, Hidden),
    (ids::ISAR1, "APA", 1, Ones(|c| c.hcr, 1 << 40)),
    (ids::ISAR1, "API", 1, Ones(|c| c.hcr, 1 << 41)),
    (ids::ISAR2, "APA3", 1, Ones(|c| c.hcr, 0b11 << 40)),
    (ids::PFR0, "AMU", 1, Hidden),
    (ids::PFR0, "FP", 0, Zeroes(|c| c.cptr, 1 << 10)),
    (ids::PFR0, "SVE", 1, Zeroes(|c| c.cptr, 1 << 8)),
    (ids::PFR1, "SME", 1, Zeroes(|c| c.cptr, 1 << 12)),
    (ids::PFR1, "SME", 1, Ones(|c| c.hfgrtr, 0b11 << 54)),
    (ids::PFR1, "SME", 1, Ones(|c| c.hfgwtr, 0b11 << 54)),
    (ids::SMFR0, "FA64", 1, Ones(|c| c.smcr, 1 << 31)),
    (ids::PFR1, "MTE", 2, Ones(|c| c.hcr, 1 << 56)),
    (ids::PFR1, "SME", 2, Ones(|c| c.smcr, 1 << 30)),
    (ids::DFR0, "BRBE", 1, Hidden),
    // FEAT_PMUv3p9 is shown as the revision before it, which has no such registers.
    (ids::DFR0, "PMUVer", 9, Zeroes(|c| c.mdcr, 0b11 << 5)),
    // HDFGxTR2_EL2.nPMSDSFR_EL1 depends on PMSIDR_EL1: arch/setup.rs.
    (ids::DFR0, "PMSVer", 4, Ones(|c| c.mdcr, 0b11 << 12)),
    // Not HCRX_EL2.MCE2: the host takes these exceptions itself, since EL2 never migrates it between CPUs.
    (ids::ISAR2, "MOPS", 1, Ones(|c| c.hcrx, 1 << 11)),
    (ids::MMFR3, "TCRX", 1, Ones(|c| c.hcrx, 1 << 14)),
    (ids::MMFR3, "S1PIE", 1, Ones(|c| c.hfgrtr, 0b11 << 57)),
    (ids::MMFR3, "S1PIE", 1, Ones(|c| c.hfgwtr, 0b11 << 57)),
    (ids::PFR1, "GCS", 1, Ones(|c| c.hcrx, 1 << 22)),
    (ids::PFR1, "GCS", 1, Ones(|c| c.hfgitr, 0b111 << 57)),
    (ids::PFR1, "GCS", 1, Ones(|c| c.hfgrtr, 0b11 << 52)),
    (ids::PFR1, "GCS", 1, Ones(|c| c.hfgwtr, 0b11 << 52)),
    // Not on the page, but set by the kernel itself when it boots at EL2.
    (ids::PFR2, "FPMR", 1, Ones(|c| c.hcrx, 1 << 23)),
    (ids::MMFR3, "SCTLRX", 1, Ones(|c| c.hcrx, 1 << 15)),
    (ids::MMFR3, "S1POE", 1, Ones(|c| c.hfgrtr, 0b11 << 59)),
    (ids::MMFR3, "S1POE", 1, Ones(|c| c.hfgwtr, 0b11 << 59)),
    (ids::DFR0, "PMSVer", 3, Ones(|c| c.hdfgrtr, 1 << 62)),
    (ids::DFR0, "PMSVer", 3, Ones(|c| c.hdfgwtr, 1 << 62)),
    (ids::PFR0, "MPAM", 1, Hidden),
    (ids::ISAR1, "LS64", 1, Hidden),
];

#[test]
fn t66_every_requirement_of_linux_is_met_or_its_feature_is_hidden() {
    for (id, name, value, answer) in ENTRIES {
        let cpu = Fake::all(0).with(*id, name, *value);
        let controls = Controls::of(&cpu);
        let shown = field(*id, name).of(shown(&cpu, *id));
        match answer {
            Ones(control, bits) => assert_eq!(control(&controls) & bits, *bits, "{name} {value}"),
            Zeroes(control, bits) => assert_eq!(control(&controls) & bits, 0, "{name} {value}"),
            Hidden => assert_eq!(shown, 0, "{name} {value}"),
        }
        assert!(matches!(answer, Hidden) || shown == field(*id, name).shown(u8::try_from(*value).unwrap()));
    }
}
