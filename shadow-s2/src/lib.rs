//! The IOMMU stage 2, an identity map of the owner's pages: each change of an owner changes the table and invalidates
//! every SMMU.
//!
//! A hypervisor that gives devices the same view of memory as their owner's CPUs keeps one stage-2 table for all
//! streams of the host. [`ShadowS2`] is that table, with these guarantees:
//!
//! - **A revocation is complete when it returns.** [`ShadowS2::revoke`] unmaps, issues one [`Plan`] through
//!   [`Invalidate`], and reports success only after every SMMU has completed it.
//! - **A failure changes no owner.** If memory for tables is missing, nothing changes. If an SMMU does not complete an
//!   invalidation, the pages are mapped again, detached tables are never reused, and each further revocation first
//!   retries an invalidation of everything. If an SMMU failed permanently, the retry never succeeds, and every later
//!   revocation fails.
//! - **No break-before-make.** Blocks larger than a page are used only where every SMMU can replace them while they are
//!   in use (`SMMU_IDR3.BBML` = 2), so that host DMA next to a revoked page never faults.
//!
//! The crate accesses no SMMU and owns no memory: tables live in an [`io_pgtable::TableMemory`], invalidations go to
//! the caller's [`Invalidate`].
//!
//! ```
//! use io_pgtable::{Bbm, Cfg, HeapMemory, Ipa, Pa};
//! use shadow_s2::{Invalidate, InvalidateError, PageRange, Plan, ShadowS2};
//!
//! /// Counts the invalidations.
//! struct Smmus(u32);
//! impl Invalidate for Smmus {
//!     fn invalidate(&mut self, _plan: &Plan) -> Result<(), InvalidateError> {
//!         self.0 += 1;
//!         Ok(())
//!     }
//! }
//!
//! let memory = HeapMemory::new(Pa(0), 1 << 20);
//! let mut shadow = ShadowS2::new(Cfg { bbm: Bbm::Level2, ..Cfg::new(40, 40) }, memory).unwrap();
//! let ram = PageRange::covering(Ipa(0x4000_0000), 0x4000_0000).unwrap();
//! shadow.snapshot([ram], []).unwrap();
//!
//! let mut smmus = Smmus(0);
//! let page = PageRange::covering(Ipa(0x4020_1000), 0x1000).unwrap();
//! shadow.revoke(page, &mut smmus).unwrap();
//! assert_eq!(smmus.0, 1);
//! assert_eq!(shadow.leaf(Ipa(0x4020_1000)), None);
//! assert!(shadow.leaf(Ipa(0x4020_2000)).is_some());
//! shadow.grant(page).unwrap();
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing))]

#[cfg(test)]
extern crate std;

mod audit;
mod error;
mod plan;
mod range;
mod table;

#[cfg(test)]
mod tests;

pub use audit::{Disagreement, Finding};
pub use error::{SnapshotError, TableError};
pub use plan::{Invalidate, InvalidateError, Plan, Target};
pub use range::{PAGE_BYTES, PAGE_SHIFT, PFN_LIMIT, PageRange};
pub use table::{ShadowS2, Stats};
