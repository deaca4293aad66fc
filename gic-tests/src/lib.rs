//! A machine for tests of the guard of the GIC: the adversarial GIC model, EL2's memory, and a host that behaves like
//! Linux ([`Rig`]) or executes random actions ([`hostile`]).
//!
//! ```
//! use gic_tests::{Config, Rig, mapd, mapti, sync};
//!
//! let mut rig = Rig::linux(Config::qemu());
//! rig.configure(8192, 0xa1);
//! rig.post(0, &[mapd(8, 4), mapti(8, 0, 8192, 1), sync(1)]);
//! assert_eq!(rig.raise(0, 8, 0), [(1, 8192)]);
//! ```
#![forbid(unsafe_code)]
#![allow(clippy::missing_panics_doc, clippy::unwrap_used, reason = "test support: a panic is a failed test")]

mod audits;
mod board;
mod cmd;
mod host;
pub mod hostile;
mod layout;
pub mod r;
mod rig;

pub use board::{Board, Buffer, POOL, SharedState};
pub use cmd::{Cmd, clear, discard, int, inv, invall, mapc, mapd, mapi, mapti, movall, movi, sync, unmapc, unmapd};
pub use gic_model::{Config, Model};
pub use host::{Claim, Host, OnRead};
pub use layout::{COLLECTIONS, DEVICES, GUEST, ITT, PEND, PROP, RAM, RAM_SIZE, RING};
pub use rig::{Rig, bare, rds, take_over};
