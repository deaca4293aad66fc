//! The invalidation of one transition, for every SMMU: one plan for any number of pages.

use core::fmt;

use io_pgtable::{Ipa, TlbError, TlbOps, TlbRange};

/// The translations to invalidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every translation of the host's stage 2.
    All,
    /// Every translation of an address in the range, of every level.
    Range {
        /// First address.
        start: Ipa,
        /// Size in bytes, whole pages.
        bytes: u64,
    },
}

/// One invalidation, for every SMMU that walks the table.
///
/// Complete means: no translation in a configuration cache, IOTLB or combined stage-1-and-2 entry uses the old state,
/// no walk cache entry points to a table that was replaced or removed, and transactions that used them are complete.
/// For SMMUv3 that is TLBI_S2_IPA, SYNC, TLBI_NH_ALL, SYNC (TLBI_S2_IPA need not remove a combined entry), or
/// TLBI_S12_VMALL, SYNC (IHI 0070, 4.4.3 and 4.7.3), with Leaf=0 and no TTL hint: a stale block entry has the level
/// at which it was inserted (4.4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The translations to invalidate.
    pub target: Target,
}

impl Plan {
    /// Invalidates everything.
    #[must_use]
    pub const fn everything() -> Self {
        Self { target: Target::All }
    }
}

/// Every SMMU that walks the table.
pub trait Invalidate {
    /// Executes `plan` and returns when it is complete on every SMMU. It may invalidate more than requested.
    ///
    /// # Errors
    /// [`InvalidateError`] if an SMMU did not complete it in time, or had failed earlier: old translations must be
    /// assumed to be in use. The others may have completed it.
    fn invalidate(&mut self, plan: &Plan) -> Result<(), InvalidateError>;
}

/// An SMMU did not complete an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidateError;

impl fmt::Display for InvalidateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an SMMU did not complete an invalidation")
    }
}

impl core::error::Error for InvalidateError {}

/// Collects the ranges of one table operation into one plan.
pub(crate) struct Collector<'a, I> {
    smmus: &'a mut I,
    plan: Option<Plan>,
    /// Number of issued plans.
    pub(crate) issued: u64,
}

impl<'a, I: Invalidate> Collector<'a, I> {
    pub(crate) fn new(smmus: &'a mut I) -> Self {
        Self { smmus, plan: None, issued: 0 }
    }
}

impl<I: Invalidate> TlbOps for Collector<'_, I> {
    fn invalidate(&mut self, range: TlbRange) {
        let new = Target::Range { start: Ipa(range.iova.0), bytes: range.size };
        self.plan = Some(match self.plan {
            None => Plan { target: new },
            Some(old) => Plan { target: covering_range(old.target, new) },
        });
    }

    fn sync(&mut self) -> Result<(), TlbError> {
        match self.plan.take() {
            None => Ok(()),
            Some(plan) => {
                self.issued = self.issued.saturating_add(1);
                self.smmus.invalidate(&plan).map_err(|InvalidateError| TlbError)
            }
        }
    }
}

/// The smallest range that covers both.
fn covering_range(a: Target, b: Target) -> Target {
    match (a, b) {
        (Target::Range { start: Ipa(a), bytes: a_bytes }, Target::Range { start: Ipa(b), bytes: b_bytes }) => {
            let start = a.min(b);
            let end = a.saturating_add(a_bytes).max(b.saturating_add(b_bytes));
            Target::Range { start: Ipa(start), bytes: end.saturating_sub(start) }
        }
        (Target::All, _) | (_, Target::All) => Target::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use io_pgtable::{Iova, TlbScope};
    use std::vec::Vec;

    #[derive(Default)]
    struct Record(Vec<Plan>);

    impl Invalidate for Record {
        fn invalidate(&mut self, plan: &Plan) -> Result<(), InvalidateError> {
            self.0.push(*plan);
            Ok(())
        }
    }

    fn range(iova: u64, size: u64, granule: u64, scope: TlbScope) -> TlbRange {
        TlbRange { iova: Iova(iova), size, granule, scope }
    }

    #[test]
    fn ranges_of_one_sync_become_one_plan_that_covers_them() {
        let pieces =
            [range(0x5000, 0x1000, 0x1000, TlbScope::Leaf), range(0x20_0000, 0x20_0000, 0x20_0000, TlbScope::Table)];
        let plan = Plan { target: Target::Range { start: Ipa(0x5000), bytes: 0x3f_b000 } };
        for order in [[0, 1], [1, 0]] {
            let mut record = Record::default();
            let mut collector = Collector::new(&mut record);
            collector.sync().unwrap();
            for index in order {
                collector.invalidate(pieces[index]);
            }
            collector.sync().unwrap();
            collector.sync().unwrap();
            assert_eq!(collector.issued, 1);
            assert_eq!(record.0, [plan]);
        }
    }
}
