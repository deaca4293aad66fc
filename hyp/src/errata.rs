//! CPU errata that affect isolation, and how each is handled.
//!
//! Checked against two sources: Linux 7.2 (`arm64_repeat_tlbi_list` and the errata below KVM, with their texts) and
//! Arm's notices as documented in TF-A (advisory TFV-17 for CVE-2025-10263; MIDR values). Errata that Linux works
//! around but EL2 need not are in docs/cpu-errata.md, each with the reason.
//!
//! Each core is checked when it enters EL2, before it runs the host ([`of`]). The core names in the device tree are
//! not trusted.

/// Variant and revision: the n and the m of rnpm.
pub type Revision = (u8, u8);

/// Workaround for an erratum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workaround {
    /// Every broadcast TLBI and DSB is repeated once, on every core.
    RepeatTlbi,
    /// The core never runs the host; as the boot CPU it ends the boot.
    Refuse,
    /// HCR_EL2 is written between a DSB and an ISB, on every core.
    HcrBetweenBarriers,
}

/// Condition besides the part number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// No condition.
    Always,
    /// Streaming SVE (ID_AA64PFR1_EL1.SME).
    Sme,
    /// It is not the first hardware thread of its core (MPIDR_EL1.Aff0).
    LaterThread,
}

/// Parts that have an erratum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The name.
    pub name: &'static str,
    /// MIDR_EL1.Implementer.
    pub implementer: u8,
    /// MIDR_EL1.PartNum, lowest and highest: the same number except for families.
    pub numbers: (u16, u16),
    /// Affected revisions, first and last.
    pub revisions: (Revision, Revision),
}

/// An erratum of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erratum {
    /// The affected part.
    pub part: Part,
    /// Condition besides the part number.
    pub when: Condition,
    /// The erratum's number.
    pub number: &'static str,
    /// The workaround.
    pub workaround: Workaround,
}

/// ID registers of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core {
    /// MIDR_EL1.
    pub midr: u64,
    /// MPIDR_EL1.
    pub mpidr: u64,
    /// ID_AA64PFR1_EL1.
    pub pfr1: u64,
}

const ARM: u8 = 0x41;
const CAVIUM: u8 = 0x43;
const BROADCOM: u8 = 0x42;
const NVIDIA: u8 = 0x4e;
const QUALCOMM: u8 = 0x51;
const MICROSOFT: u8 = 0x6d;
const AMPERE: u8 = 0xc0;
/// Arm's implementer number for prototypes.
const PROTOTYPE: u8 = 0x3f;

const ANY: (Revision, Revision) = ((0, 0), (15, 15));

const fn repeat(
    name: &'static str,
    implementer: u8,
    number: u16,
    revisions: (Revision, Revision),
    erratum: &'static str,
) -> Erratum {
    let part = Part { name, implementer, numbers: (number, number), revisions };
    Erratum { part, when: Condition::Always, number: erratum, workaround: Workaround::RepeatTlbi }
}

const fn family(name: &'static str, implementer: u8, numbers: (u16, u16), erratum: &'static str) -> Erratum {
    Erratum { part: Part { name, implementer, numbers, revisions: ANY }, ..repeat(name, implementer, 0, ANY, erratum) }
}

const fn refuse(
    name: &'static str,
    implementer: u8,
    number: u16,
    revisions: (Revision, Revision),
    when: Condition,
    erratum: &'static str,
) -> Erratum {
    Erratum {
        part: Part { name, implementer, numbers: (number, number), revisions },
        when,
        number: erratum,
        workaround: Workaround::Refuse,
    }
}

/// Every erratum with a workaround, in the order of docs/cpu-errata.md.
pub const ERRATA: [Erratum; 35] = [
    // CVE-2025-10263: a store across a page boundary may be observed after TLBI and DSB. All revisions.
    repeat("Cortex-A76", ARM, 0xd0b, ANY, "4193800"),
    repeat("Cortex-A76AE", ARM, 0xd0e, ANY, "4193801"),
    repeat("Cortex-A77", ARM, 0xd0d, ANY, "4193798"),
    repeat("Cortex-A78", ARM, 0xd41, ANY, "4193791"),
    repeat("Cortex-A78AE", ARM, 0xd42, ANY, "4193793"),
    repeat("Cortex-A78C", ARM, 0xd4b, ANY, "4193794"),
    repeat("Cortex-A710", ARM, 0xd47, ANY, "4193788"),
    repeat("Cortex-X1", ARM, 0xd44, ANY, "4193791"),
    repeat("Cortex-X1C", ARM, 0xd4c, ANY, "4193792"),
    repeat("Cortex-X2", ARM, 0xd48, ANY, "4193788"),
    repeat("Cortex-X3", ARM, 0xd4e, ANY, "4193786"),
    repeat("Cortex-X4", ARM, 0xd82, ANY, "4118414"),
    repeat("Cortex-X925", ARM, 0xd85, ANY, "4193781"),
    repeat("C1-Ultra", ARM, 0xd8c, ANY, "4193780"),
    repeat("C1-Premium", ARM, 0xd90, ANY, "4193780"),
    repeat("Neoverse-N1", ARM, 0xd0c, ANY, "4193800"),
    repeat("Neoverse-N2", ARM, 0xd49, ANY, "4193789"),
    repeat("Neoverse-V1", ARM, 0xd40, ANY, "4193790"),
    repeat("Neoverse-V2", ARM, 0xd4f, ANY, "4193787"),
    repeat("Neoverse-V3", ARM, 0xd84, ANY, "4193784"),
    repeat("Neoverse-V3AE", ARM, 0xd83, ANY, "4193784"),
    repeat("Azure Cobalt 100", MICROSOFT, 0xd49, ANY, "4193789"),
    repeat("Olympus", NVIDIA, 0x010, ANY, "T410-OLY-1029"),
    // Older errata with the same workaround. 1286807 of Cortex-A76 is covered above.
    repeat("Cortex-A55", ARM, 0xd05, ANY, "2441007"),
    repeat("Cortex-A510", ARM, 0xd46, ((0, 0), (1, 1)), "2441009"),
    repeat("Falkor", QUALCOMM, 0x800, ((0, 0), (0, 0)), "1009"),
    family("Kryo", QUALCOMM, (0x200, 0x2ff), "1009"),
    // Cores derived from those above, but not listed for all of their errata: an extra repetition is harmless.
    family("Kryo 3xx Silver", QUALCOMM, (0x803, 0x803), "2441007"),
    family("Kryo 4xx Gold and Silver", QUALCOMM, (0x804, 0x805), "1286807, 2441007"),
    family("Rainier", PROTOTYPE, (0x412, 0x412), "4193800"),
    // TLBI and DSB do not wait for stores in streaming mode; some r1p2 are fixed, but only REVIDR_EL1 shows
    // it.
    refuse("C1-Pro", ARM, 0xd8b, ((0, 0), (1, 2)), Condition::Sme, "4193714"),
    // The host's write to TTBR0_EL1 may cause a spurious data abort in any thread of the core, also at EL2.
    refuse("ThunderX2", CAVIUM, 0x0af, ANY, Condition::LaterThread, "219"),
    refuse("Vulcan", BROADCOM, 0x516, ANY, Condition::LaterThread, "219"),
    // Cleaning a line, as EL2 does for SMMUs that do not snoop, may corrupt the line.
    refuse("Cortex-A53", ARM, 0xd03, ((0, 0), (0, 2)), Condition::Always, "826319"),
    // Loads and stores in flight while HCR_EL2 changes: EL2 changes it on entry only, between a DSB and an ISB.
    Erratum { workaround: Workaround::HcrBetweenBarriers, ..repeat("AmpereOne", AMPERE, 0xac4, ANY, "AC04_CPU_23") },
];

/// Errata of `core`.
pub fn of(core: Core) -> impl Iterator<Item = &'static Erratum> {
    ERRATA.iter().filter(move |erratum| erratum.part.is(core.midr) && erratum.when.holds(core))
}

impl Part {
    /// Whether MIDR_EL1 `midr` is this part in an affected revision.
    fn is(&self, midr: u64) -> bool {
        let field = |shift: u32, bits: u64| u16::try_from(midr >> shift & bits).unwrap_or(u16::MAX);
        let nibble = |shift| u8::try_from(midr >> shift & 0xf).unwrap_or(u8::MAX);
        let (first, last) = self.numbers;
        let (oldest, newest) = self.revisions;
        let (number, revision) = (field(midr::PART, 0xfff), (nibble(midr::VARIANT), nibble(midr::REVISION)));
        field(midr::IMPLEMENTER, 0xff) == u16::from(self.implementer)
            && (first..=last).contains(&number)
            && (oldest..=newest).contains(&revision)
    }
}

impl Condition {
    /// Whether the condition is true for `core`.
    fn holds(self, core: Core) -> bool {
        match self {
            Self::Always => true,
            Self::Sme => core.pfr1 >> PFR1_SME & 0xf != 0,
            Self::LaterThread => core.mpidr & MPIDR_AFF0 != 0,
        }
    }
}

/// First bits of the fields of MIDR_EL1 (DDI 0487 L.a, D24.2.138).
mod midr {
    pub(super) const IMPLEMENTER: u32 = 24;
    pub(super) const VARIANT: u32 = 20;
    pub(super) const PART: u32 = 4;
    pub(super) const REVISION: u32 = 0;
}

/// ID_AA64PFR1_EL1.SME.
const PFR1_SME: u32 = 24;
/// MPIDR_EL1.Aff0: the thread, on cores with several threads.
const MPIDR_AFF0: u64 = 0xff;

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const PAGE: &str = include_str!("../../docs/cpu-errata.md");

    /// The workarounds for a core without SME, as the first thread of its core.
    fn workarounds(midr: u64) -> Vec<Workaround> {
        of(Core { midr, mpidr: 0x8000_0000, pfr1: 0 }).map(|erratum| erratum.workaround).collect()
    }

    /// MIDR values of TF-A's CPU files, which are a second source for the part numbers; revisions r0p0 to r3p1.
    #[test]
    fn t62_cores_of_the_notice_repeat_in_every_revision() {
        let notice = [
            0x410f_d0b0,
            0x410f_d0e0,
            0x410f_d0d0,
            0x410f_d410,
            0x410f_d420,
            0x410f_d4b0,
            0x410f_d470,
            0x410f_d440,
            0x410f_d4c0,
            0x410f_d480,
            0x410f_d4e0,
            0x410f_d820,
            0x410f_d850,
            0x410f_d8c0,
            0x410f_d900,
            0x410f_d0c0,
            0x410f_d490,
            0x410f_d400,
            0x410f_d4f0,
            0x410f_d840,
            0x410f_d830,
            0x6d0f_d490,
            0x4e0f_0100,
            0x410f_d050,
        ];
        for midr in notice {
            for revision in [0, 1, 1 << 20, 3 << 20 | 1, 0xf << 20 | 0xf] {
                assert_eq!(workarounds(midr | revision), [Workaround::RepeatTlbi], "{:#x}", midr | revision);
            }
        }
    }

    #[test]
    fn t62_fixed_revisions_need_no_workaround() {
        let a510 = |variant: u64, revision: u64| workarounds(0x410f_d460 | variant << 20 | revision);
        assert_eq!(a510(0, 0), [Workaround::RepeatTlbi]);
        assert_eq!(a510(0, 9), [Workaround::RepeatTlbi]);
        assert_eq!(a510(1, 1), [Workaround::RepeatTlbi]);
        assert_eq!((a510(1, 2), a510(2, 0)), (Vec::new(), Vec::new()));
        assert_eq!(workarounds(0x510f_8000), [Workaround::RepeatTlbi]);
        assert_eq!(workarounds(0x510f_8001), []);
        assert_eq!(workarounds(0x511f_2110), [Workaround::RepeatTlbi]);
    }

    /// QEMU's `max`, Cortex-A53, A57, A72, A520, A64FX, Neoverse N3, and a part of another vendor with one of Arm's
    /// part numbers.
    #[test]
    fn other_cores_have_no_erratum() {
        for midr in
            [0x000f_0510, 0x410f_d034, 0x411f_d070, 0x410f_d083, 0x410f_d800, 0x461f_0010, 0x410f_d8e0, 0x480f_d0b0]
        {
            assert_eq!(workarounds(midr), [], "{midr:#x}");
        }
    }

    #[test]
    fn a_core_without_a_workaround_is_refused_in_affected_revisions_only() {
        let core =
            |midr, mpidr, pfr1| of(Core { midr, mpidr, pfr1 }).map(|erratum| erratum.workaround).collect::<Vec<_>>();
        assert_eq!(core(0x411f_d8b2, 0, 1 << 24), [Workaround::Refuse]);
        assert_eq!((core(0x411f_d8b2, 0, 0), core(0x411f_d8b3, 0, 1 << 24)), (Vec::new(), Vec::new()));
        assert_eq!(core(0x431f_0af1, 0x8100_0001, 0), [Workaround::Refuse]);
        assert_eq!(core(0x431f_0af1, 0x8100_0100, 0), []);
        assert_eq!(core(0x420f_5160, 3, 0), [Workaround::Refuse]);
        assert_eq!(
            (core(0x410f_d032, 0, 0).as_slice(), core(0x410f_d033, 0, 0)),
            (&[Workaround::Refuse][..], Vec::new())
        );
    }

    #[test]
    fn every_erratum_is_on_the_page() {
        for Erratum { part, number, .. } in &ERRATA {
            let row = std::format!("| {} | {number} |", part.name);
            assert!(PAGE.lines().any(|line| line.starts_with(&row)), "docs/cpu-errata.md has no row {row}");
        }
        let rows = PAGE
            .lines()
            .skip_while(|line| !line.starts_with("| part |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        assert_eq!(rows.count(), ERRATA.len());
    }
}
