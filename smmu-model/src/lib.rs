//! An adversarial SMMUv3 model for tests: it chooses the worst behaviour that the architecture allows.
//!
//! The model is written from Arm IHI 0070 (edition G) and shares no constant and no walker with the driver: a wrong bit
//! position on one side fails a test. It is adversarial in three ways:
//!
//! - **Time.** Register handshakes and commands take effect at any later legal moment ([`Pace`]), chosen by a seed.
//! - **Caches.** Memory keeps the history of every word ([`mem`]). Every structure, walk-cache entry and TLB entry,
//!   combined or not, stays usable until an invalidation that must remove it has been consumed and a later SYNC has
//!   completed ([`item`], [`inval`]). [`Model::dma_read`] and [`Model::dma_write`] use the oldest cached information
//!   that succeeds.
//! - **The oracle.** [`Model::reach`] returns the bytes that a stream can reach in any legal behaviour, whether or not
//!   a transaction accessed them.
//!
//! Software errors do not stop the model; they are recorded as [`Hazard`]s.
//!
//! ```
//! use smmu_model::{Config, Model, Region, Snoop, Transfer, mem::Memory};
//!
//! let memory = Memory::new(Snoop::Coherent);
//! memory.add(0x4000_0000, 0x10_0000, Region::Ram);
//! let mut smmu = Model::new(Config::qemu(), memory.clone());
//!
//! // After reset all transactions bypass the SMMU.
//! assert_eq!(smmu.dma_write(8, None, 0x4000_0000, &[1, 2, 3, 4]), Transfer::Done);
//! assert!(smmu.can_reach(8, 0x4000_0000).is_some());
//!
//! // With GBPA.ABORT they abort.
//! smmu.write32(0x44, 1 << 31 | 1 << 20);
//! assert_eq!(smmu.dma_write(8, None, 0x4000_0000, &[9]), Transfer::Aborted(None));
//! assert!(smmu.can_reach(8, 0x4000_0000).is_none());
//! assert_eq!(memory.cpu_read32(0x4000_0000), 0x0403_0201);
//! ```
#![forbid(unsafe_code)]

pub mod arch;
mod config;
mod context;
mod hash;
mod hazard;
pub mod inval;
pub mod item;
mod mapped;
pub mod mem;
mod model;
mod reach;
mod reach_entries;
mod source;
mod stage1;
mod stage2;
mod stages;
mod strtab;
mod tables;
mod transaction;
mod view;
mod write_buffer;

pub use config::{Bbml, Cache, Config, Httu, Pace, Res0, StallModel};
pub use hazard::Hazard;
pub use mapped::Mapped;
pub use mem::{Memory, MmioWrite, Region, Snoop};
pub use model::{AtsReply, Basis, Injection, Irq, Model, Originated, PageRequest, Reach, Recorded, Transfer};
pub use reach::{Reachable, Via};
pub use transaction::Access;
pub use write_buffer::WriteBuffer;
