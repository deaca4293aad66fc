//! PCI functions that are given to guests and taken back, as pure logic.
//!
//! | module | holds |
//! |---|---|
//! | `spec` | registers of configuration space |
//! | `config` | access to it, by a trait |
//! | `segment` | what boot found: windows, StreamIDs, the functions of the root bus and the sizes of their BARs |
//! | `inspect`, `numbering`, `bars`, `reset` | whether a function can be given away |
//! | `messages` | what a function sends of its own accord, and is switched off |
//! | `machine` | the rest of the machine, by a trait |
//! | `handover` | the steps of giving and taking back, and the state between them |
//! | `ecam`, `bridge` | what the host may do in configuration space meanwhile |
//!
//! Only functions on the root bus are given: a function behind a bridge has the bus number that the host gives the bridge.
//! While one is away, the whole configuration space traps, so that the host cannot give the number of the root bus to
//! another bus, which would give its devices the RequesterIDs of the root bus.

pub mod bars;
pub mod bridge;
pub mod config;
pub mod ecam;
pub mod handover;
pub mod inspect;
pub mod machine;
pub mod messages;
pub mod numbering;
pub mod reset;
pub mod rid;
pub mod segment;
pub mod spec;
#[cfg(test)]
mod tests;

pub use handover::Devices;
pub use inspect::Refusal;
pub use machine::{Error, Machine};
pub use rid::Rid;
pub use segment::{DeviceId, Segment, Stream};
