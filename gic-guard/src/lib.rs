//! A guard for the GICv3 of a hypervisor with an untrusted host: no register or table of the GIC ever contains an
//! address of the host's memory.
//!
//! An ITS and the redistributors read and write memory at addresses that software gives them, without translation by a
//! stage 2 or an SMMU. With this crate, all of these tables are in EL2's memory. The host uses its own, unmodified
//! driver: its accesses to the control frame of an ITS and to the RD frame of a redistributor trap, and the crate
//! emulates a GICv3. The host's GITS_BASER and GICR_*BASER registers are stored and read back, and never reach
//! hardware. See `docs/gic-emulation.md` for the registers and commands.
//!
//! ```text
//! Guard::new
//!    │ take_over      before the host runs: tables, queues; refuses hardware that it cannot control
//!    ├─── mmio_read / mmio_write     the host's accesses
//!    ├─── check_alive                a CPU wakes: ITSs and redistributors that lost their state
//!    ├─── audit                      every table of hardware is in EL2's memory
//!    └─── quiesce                    before power-off
//! ```
//!
//! The policy consists of pure functions, which can be called directly:
//!
//! ```
//! use gic_guard::emul::decide::{CommandView, Ignored, Request, decide};
//! use gic_guard::spec::commands::RawCmd;
//!
//! let view = CommandView { devices: 0x1_0000, event_bits: 11, collections: 512, intids: 0x1_0000 };
//! // MAPD of device 8 with 32 events: the address of the ITT is dropped.
//! let mapd = RawCmd([8 << 32 | 0x08, 4, 1 << 63 | 0x4000_0000, 0]);
//! assert_eq!(decide(mapd, &view), Ok(Request::Mapd { device: 8, bits: 5 }));
//! // VMAPP belongs to GICv4, which is hidden.
//! assert_eq!(decide(RawCmd([0x29, 0, 0, 0]), &view), Err(Ignored::Hidden));
//! ```
//! The crate accesses hardware, EL2's memory and the host's memory only through traits.
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

pub mod budget;
pub mod command;
pub mod emul;
mod error;
mod guard;
mod its;
pub mod limits;
pub mod platform;
pub mod spec;
mod stats;
mod store;
mod wait;

pub use error::{GicFinding, ItsError, TakeOverError};
pub use guard::{Config, Guard, RdConfig, WriteOutcome};
pub use host_access::access::AccessSize;
pub use host_access::memory::{ClaimError, DmaBuffer, HostMemory, Sharing};
pub use platform::{Frame, Platform};
pub use stats::Stats;
