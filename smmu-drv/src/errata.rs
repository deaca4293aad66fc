//! Known SMMU errata, as listed in Linux, and how each is handled.
//!
//! Most need no workaround, since the broken feature is never shown to the host or never used. SMMUs with the others
//! are refused at probe: without nesting there is no isolation. Some parts have no ID register value: they are
//! identified by a `compatible` string or a property in the device tree.

use crate::spec::get32;
use crate::spec::registers::iidr;

/// Major and minor revision: the n and the m of rnpm.
pub type Revision = (u32, u32);

/// Revisions of a part that have an erratum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revisions {
    /// Every revision before this one.
    Before(Revision),
    /// The revisions from the first to the second, both included.
    Between(Revision, Revision),
    /// All revisions.
    All,
}

impl Revisions {
    /// Whether `revision` has the erratum.
    pub fn contain(self, revision: Revision) -> bool {
        match self {
            Self::Before(fixed) => revision < fixed,
            Self::Between(first, last) => first <= revision && revision <= last,
            Self::All => true,
        }
    }
}

/// Workaround for an erratum.
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
    /// Revisions with the erratum.
    pub revisions: Revisions,
    /// Arm's numbers for it.
    pub numbers: &'static str,
    /// The workaround.
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

/// Every erratum that affects this driver, in the order of docs/smmu-emulation.md.
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

/// Kind of the name in the device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One of the `compatible` strings of the SMMU's node.
    Compatible,
    /// A property of the SMMU's node.
    Property,
}

/// Workaround for an erratum identified by the device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedAnswer {
    /// The SMMU is refused: see [`ProbeError::NamedErratum`](crate::ProbeError::NamedErratum).
    Refused,
    /// Each batch of invalidations is issued again after its CMD_SYNC, with another CMD_SYNC.
    Repeated,
    /// CMD_PREFETCH_* is never sent, on any part.
    PrefetchDropped,
}

/// An erratum identified by the device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    /// The string or the name of the property.
    pub name: &'static str,
    /// Kind of the name.
    pub place: Place,
    /// The workaround.
    pub answer: NamedAnswer,
}

const fn named(name: &'static str, place: Place, answer: NamedAnswer) -> Named {
    Named { name, place, answer }
}

/// All such errata, in the order of docs/smmu-emulation.md: those that Linux's driver handles.
pub const NAMED: [Named; 3] = [
    named("nvidia,tegra264-smmu", Place::Compatible, NamedAnswer::Repeated),
    named("cavium,cn9900-broken-page1-regspace", Place::Property, NamedAnswer::Refused),
    named("hisilicon,broken-prefetch-cmd", Place::Property, NamedAnswer::PrefetchDropped),
];

/// Number of times that a batch of invalidations is issued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Issue {
    /// Once, as the architecture requires.
    #[default]
    Once,
    /// Twice: again after its CMD_SYNC has completed. For the erratum of `nvidia,tegra264-smmu` in [`NAMED`]: an entry
    /// can survive an invalidation that races with traffic on it.
    Twice,
}

/// Quirks of one SMMU, from the device tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// Number of times that a batch of invalidations is issued.
    pub issue: Issue,
    /// The name of the erratum for which the SMMU is refused, if any.
    pub refused: Option<&'static str>,
}

impl Quirks {
    /// The quirks of an SMMU whose node has the names of [`NAMED`] for which `has` returns true.
    pub fn of(has: impl Fn(&Named) -> bool) -> Self {
        let mut quirks = Self::default();
        for named in NAMED.iter().filter(|named| has(named)) {
            match named.answer {
                NamedAnswer::Refused => quirks.refused = Some(named.name),
                NamedAnswer::Repeated => quirks.issue = Issue::Twice,
                NamedAnswer::PrefetchDropped => {}
            }
        }
        quirks
    }
}
