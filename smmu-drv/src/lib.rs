//! An SMMUv3 taken away from an untrusted host: driver, shadow structures and register emulation.
//!
//! The host keeps its own, unmodified driver. Every access to the SMMU's registers traps, and this crate answers it: as an
//! SMMU with stage 1 only, whose stage 1 the hardware really runs, under a stage 2 that is EL2's. See `docs/smmu-emulation.md`
//! for the register, command and STE tables.
//!
//! ```text
//! Probed::probe ── refuses what cannot be isolated; nothing written
//!    │ take_over(stage 2)
//! Smmu ── mmio_read / mmio_write     the host's accesses
//!    ├─── tlb_invalidate             a page changes its owner
//!    ├─── poll_events / take_fault   what devices tried
//!    └─── quiesce                    before power-off
//! ```
//!
//! The policy is pure functions, and can be asked directly:
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
//! // The host drops all its translations: of its own VMID.
//! assert_eq!(decide(RawCmd([0x30, 0]), &view), Decision::Forward(Command::TlbiNhAll { vmid: 1 }));
//! // Stage 2 is not the host's to invalidate: CERROR_ILL.
//! assert_eq!(decide(RawCmd([0x28, 0]), &view), Decision::Illegal);
//! ```
//!
//! The crate touches no memory itself: hardware, EL2's memory and the host's memory come through the traits of [`platform`].
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

pub mod budget;
mod cmdq;
pub mod command;
pub mod emul;
pub mod errata;
mod error;
mod evtq;
pub mod fault;
mod features;
mod hw;
mod invalidate;
pub mod platform;
mod probe;
mod smmu;
pub mod spec;
mod stats;
pub mod strtab;
mod takeover;

pub use emul::audit::SmmuFinding;
pub use emul::ids::{HOST_CMDQS, HostIds, MsiAdvert};
pub use error::SmmuError;
pub use fault::FaultRecord;
pub use features::{Coherency, Features, IdRegisters};
pub use invalidate::Stale;
pub use platform::{ClaimError, DmaBuffer, HostMemory, Platform, Sharing, WiredIrq};
pub use probe::{ProbeConfig, ProbeError, Probed, ReadsAs};
pub use smmu::{AccessSize, Smmu, WriteOutcome};
pub use stats::Stats;
pub use takeover::{Stage2Cfg, TakeOverError};
