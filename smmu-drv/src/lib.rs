//! An SMMUv3 driver for a hypervisor with an untrusted host: driver, shadow structures and register emulation.
//!
//! The host keeps its own, unmodified driver. Every access to the SMMU's registers traps, and this crate emulates an SMMU with
//! stage 1 only. Hardware uses the host's stage 1 together with EL2's stage 2. See `docs/smmu-emulation.md` for the
//! register, command and STE tables.
//!
//! ```text
//! Probed::probe ── refuses SMMUs that cannot isolate; writes nothing
//!    │ take_over_with_host(stage 2)
//! HostedSmmu ── mmio_read / mmio_write   the host's accesses
//!    ├─── tlb_invalidate_host            a page changes its owner; with several SMMUs tlb_submit, then tlb_wait
//!    ├─── assign / block / release       a stream changes its owner
//!    ├─── poll_events / take_fault       faults of devices
//!    └─── quiesce                        before power-off
//! ```
//!
//! Without a host, [`Probed::take_over`] gives an [`Smmu`]: its streams abort until they are assigned to a domain, which is a VMID
//! and a stage 2. Both take-overs get a [`Storage`], which is large and must not move.
//!
//! The checks are pure functions, which can be called directly:
//!
//! ```
//! use smmu_drv::emul::command::{CommandView, Decision, MsiCompletion, Ranges, decide};
//! use smmu_drv::command::Command;
//! use smmu_drv::spec::commands::RawCmd;
//!
//! let view = CommandView {
//!     sid_bits: 16,
//!     ssid_bits: 0,
//!     ranges: Ranges::Shown,
//!     asid_mask: 0xffff,
//!     msi: MsiCompletion::Shown,
//!     vmid: 1,
//! };
//! // The host invalidates everything: only translations with its own VMID.
//! assert_eq!(decide(RawCmd([0x30, 0]), &view), Decision::Forward(Command::TlbiNhAll { vmid: 1 }));
//! // The host must not invalidate stage 2: CERROR_ILL.
//! assert_eq!(decide(RawCmd([0x28, 0]), &view), Decision::Illegal);
//! ```
//!
//! The crate accesses no memory itself: it accesses hardware, EL2's memory and the host's memory through the traits of
//! [`platform`].
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]
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

#[cfg(test)]
extern crate std;

pub mod command;
mod dma_config;
pub mod errata;
mod error;
pub mod fault;
mod features;
mod limits;
pub mod platform;
mod smmu;
pub mod spec;
mod stage2;
mod stats;

pub use dma_config::DmaConfig;
pub use error::SmmuError;
pub use fault::FaultRecord;
pub use features::{Coherency, Features, IdRegisters};
pub use limits::{OutOfRange, Timeouts};
pub use platform::{ClaimError, DmaBuffer, HostMemory, Platform, Sharing, WiredIrq};
pub use smmu::emul::ids::{HostIds, MsiAdvert};
pub use smmu::emul::table::AccessSize;
pub use smmu::shadow::MAX_L2 as MAX_LEVEL2;
pub use smmu::shadow::assign::{AssignError, MAX_ASSIGNED, RetireError};
pub use smmu::shadow::owners::{MAX_DOMAINS, MAX_RANGES, StreamOwner, StreamRange};
pub use smmu::{
    Fault, Fixed, HOST_CMDQS, HostedSmmu, MemoryNeeded, ProbeConfig, ProbeError, Probed, ReadsAs, Smmu, SmmuFinding,
    Stale, Ste, Storage, StorageOf, TakeOverError, Unassigned, WriteOutcome, budget, emul, memory_needed, shadow,
};
pub use stage2::{Stage2Cfg, Stage2Words};
pub use stats::Stats;
