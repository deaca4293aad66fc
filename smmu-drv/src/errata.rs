//! Errata of known parts, those that Linux knows: what becomes of an SMMU that has one.
//!
//! Most cost nothing here, since the feature that is broken is never shown to the host or never used. The rest is refused at probe: where
//! nesting is broken there is no isolation.

use crate::spec::get32;
use crate::spec::registers::iidr;

/// Major and minor revision: the n and the m of rnpm.
pub type Revision = (u32, u32);

/// Revisions of a part that have an erratum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revisions {
    /// Every one before this.
    Before(Revision),
    /// These, both included.
    Between(Revision, Revision),
    /// Every one so far.
    All,
}

impl Revisions {
    /// Whether `revision` is one of them.
    pub fn contain(self, revision: Revision) -> bool {
        match self {
            Self::Before(mended) => revision < mended,
            Self::Between(first, last) => first <= revision && revision <= last,
            Self::All => true,
        }
    }
}

/// What the driver does about an erratum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The SMMU is refused: see [`ProbeError::NestingErratum`](crate::ProbeError::NestingErratum).
    Refused,
    /// SMMU_IDR0.SEV is hidden, on every part.
    WakeUpHidden,
    /// SMMU_IDR0.BTM is hidden and SMMU_CR2.PTM is 1, on every part: broadcast maintenance is not used.
    BroadcastOff,
}

/// An erratum of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erratum {
    /// Name of the part.
    pub part: &'static str,
    /// Its SMMU_IIDR.ProductID; the implementer is Arm.
    pub product: u32,
    /// Revisions that have it.
    pub revisions: Revisions,
    /// Arm's numbers for it.
    pub numbers: &'static str,
    /// What is done about it.
    pub answer: Answer,
}

const fn erratum(
    part: &'static str,
    product: u32,
    revisions: Revisions,
    numbers: &'static str,
    answer: Answer,
) -> Erratum {
    Erratum { part, product, revisions, numbers, answer }
}

/// Every erratum that matters here, in the order of docs/smmu-emulation.md.
pub const ERRATA: [Erratum; 4] = [
    erratum("MMU-600", iidr::MMU_600, Revisions::Before((2, 0)), "1209401", Answer::Refused),
    erratum("MMU-600", iidr::MMU_600, Revisions::Between((0, 0), (0, 2)), "1076982", Answer::WakeUpHidden),
    erratum("MMU-700", iidr::MMU_700, Revisions::Before((1, 1)), "2268618, 2812531", Answer::Refused),
    erratum("MMU-700", iidr::MMU_700, Revisions::All, "2812531", Answer::BroadcastOff),
];

/// Errata of the SMMU whose SMMU_IIDR is `iidr`.
pub fn of(iidr: u32) -> impl Iterator<Item = &'static Erratum> {
    let arm = get32(iidr::IMPLEMENTER, iidr) == iidr::ARM;
    let revision = (get32(iidr::VARIANT, iidr), get32(iidr::REVISION, iidr));
    let product = get32(iidr::PRODUCTID, iidr);
    ERRATA.iter().filter(move |erratum| arm && erratum.product == product && erratum.revisions.contain(revision))
}
