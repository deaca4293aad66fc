//! An adversarial model of a GICv3's ITSs and redistributors for tests: it has the worst behaviour that the
//! architecture allows.
//!
//! The model is written from Arm IHI 0069 (issue H.b) and shares no constant with the guard: a wrong bit position on
//! one side fails a test. It is adversarial in four ways:
//!
//! - **Time.** Commands are executed when the queue is polled, a few at a time, as a seed chooses.
//! - **Writes.** What an ITS writes to a table may reach memory at any time up to the next SYNC; a table that software
//!   unmapped stays in use until then.
//! - **Reads.** Configuration bytes and table entries are read when an interrupt arrives, and cached until a command
//!   removes them.
//! - **The oracle.** [`Model::oracle`] lists all memory that hardware could read or write with the present contents
//!   of its registers and tables, whether or not it did.
//!
//! Errors of software are recorded as [`Hazard`]s: commands that are invalid or UNPREDICTABLE, registers written while
//! in use, and accesses outside the memory that [`Memory::give`] has given to the GIC.
//!
//! ```
//! use gic_model::{Config, Memory, Model, Place};
//!
//! let memory = Memory::new();
//! let mut gic = Model::new(Config::qemu(), memory.clone());
//! // A command queue in memory that is not the GIC's: reading it is a hazard.
//! gic.write64(Place::Its(0), 0x80, 1 << 63 | 0x4000_0000);
//! gic.write32(Place::Its(0), 0x0, 1);
//! gic.write64(Place::Its(0), 0x88, 0x20);
//! gic.settle();
//! assert!(!gic.hazards().is_empty());
//! ```
#![forbid(unsafe_code)]

mod config;
mod hazard;
mod memory;
mod model;

pub use config::Config;
pub use hazard::Hazard;
pub use memory::Memory;
pub use model::{Model, Place, Reach};
