//! Armv8 LPAE page tables, stage 1 and stage 2, for CPUs and IOMMUs.
//!
//! One engine serves a hypervisor's CPU stage 2, its own EL2 stage 1 and the tables of an SMMUv3: the descriptors,
//! start levels, quirks and configuration outputs are those of Linux's `io-pgtable-arm`. The crate accesses memory only
//! through [`TableMemory`] and maintains TLBs only through [`TlbOps`], so the same code runs at EL2 and on the build
//! machine.
//!
//! The example needs the feature `heap`, which has `HeapMemory`.
//!
//! ```
//! # #[cfg(not(feature = "heap"))] fn main() {}
//! # #[cfg(feature = "heap")] fn main() -> Result<(), Box<dyn core::error::Error>> {
//! use io_pgtable::{Attrs, Bbm, Cfg, HeapMemory, Iova, IoPgtable, Pa, Prot, S2, TlbError, TlbOps, TlbRange};
//!
//! /// A driver issues commands; this example prints them.
//! struct Tlb;
//!
//! impl TlbOps for Tlb {
//!     fn invalidate(&mut self, range: TlbRange) {
//!         println!("invalidate {} bytes at {}", range.size, range.iova);
//!     }
//!     fn sync(&mut self) -> Result<(), TlbError> {
//!         Ok(())
//!     }
//! }
//!
//! // A 40-bit stage 2 with 4K pages, for walkers with break-before-make level 2.
//! let memory = HeapMemory::new(Pa(0x8000_0000), 1 << 20);
//! let cfg = Cfg { bbm: Bbm::Level2, ..Cfg::new(40, 40) };
//! let mut table = IoPgtable::<S2, _>::new(&cfg, memory)?;
//! let out = table.config();
//! assert_eq!((out.start_level, out.vtcr_el2()), (1, 0x8002_3558));
//!
//! // A gigabyte is one block until a page in it is unmapped.
//! table.map(Iova(0x4000_0000), Pa(0x4000_0000), 1 << 30, Attrs::normal(Prot::RWX))?;
//! assert_eq!(table.lookup(Iova(0x4020_1000)).map(|leaf| leaf.size), Some(1 << 30));
//! table.unmap(Iova(0x4020_1000), 0x1000, &mut Tlb)?;
//! assert_eq!(table.iova_to_phys(Iova(0x4020_1000)), None);
//! assert_eq!(table.iova_to_phys(Iova(0x4020_2345)), Some(Pa(0x4020_2345)));
//! table.destroy(&mut Tlb)?;
//! # Ok(())
//! # }
//! ```
//!
//! Guarantees for callers:
//!
//! - **All or nothing.** [`IoPgtable::map`] and [`IoPgtable::unmap`] check the whole range and allocate every table
//!   they need before their first store: after an error the table is unchanged (one exception, a TLB timeout: see
//!   [`UnmapError::Tlb`]).
//! - **Always valid for a walker.** Live descriptors change by single 64-bit stores; a table is complete and visible
//!   before it is linked. A concurrent walker sees the old or the new translation, or, only with [`Bbm::Level0`], a fault.
//! - **Deferred free.** A table is freed after the invalidation that covers it has completed, or never.
//! - **No panic.** Every invalid address, size and attribute combination returns an error.
//!
//! Requirements and deviations:
//!
//! - Table descriptors carry a count in bits that the architecture ignores there (bits 11:2 and 58:55, Arm ARM DDI 0487
//!   D8.3.1.1). `FEAT_HAFT` and 52-bit addresses use some of these bits: leave `HAFT` and `DS` clear.
//! - Two deviations from Linux: no-execute at stage 2 is XN\[1:0\] = 0b10 where Linux writes 0b11, which lets EL1 execute
//!   on hardware with `FEAT_XNX`; and a table that becomes empty is freed, where Linux keeps it.
//!
//! The modules: `desc`, `granule`, `regime` and `out` are layouts. `range` is arithmetic on the range of a call. `pte`
//! has all unsafe code. `chain` has the lists of unlinked tables. `map` and `unmap` first check, then apply changes
//! that cannot fail, with `build` and `split` for new tables; `fast` handles their common case in one pass. `coalesce`
//! and `destroy` also change tables; `walk` reads them; `pages` has Linux's `map_pages` and `unmap_pages`.
#![no_std]
#![deny(unsafe_code)]
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
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(any(test, feature = "heap"))]
extern crate std;

// The walker of the integration tests uses the crate by its public name.
#[cfg(test)]
extern crate self as io_pgtable;

mod addr;
mod attrs;
mod build;
mod cfg;
mod chain;
mod coalesce;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
mod desc;
mod destroy;
mod error;
mod fast;
mod granule;
mod map;
#[cfg(test)]
mod observed;
mod out;
mod pages;
mod pte;
mod range;
mod regime;
mod split;
mod table;
mod tlb;
mod unmap;
mod walk;

pub use addr::{Iova, Ipa, Pa};
pub use attrs::{Attrs, MemType, Prot};
pub use cfg::{Bbm, Cfg, Quirks};
pub use error::{CfgError, MapError, UnmapError};
pub use granule::{G4K, G16K, G64K, Granule};
pub use out::{MAIR, S1Cfg, S2Cfg, WalkAttrs};
pub use pte::TableMemory;
#[cfg(any(test, feature = "heap"))]
pub use pte::heap::HeapMemory;
pub use regime::{El2, Regime, S1, S2};
pub use table::IoPgtable;
pub use tlb::{NoTlb, TlbError, TlbOps, TlbRange, TlbScope};
pub use walk::{Extent, Extents, Leaf, Leaves};
