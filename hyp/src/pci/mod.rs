//! PCI functions that are assigned to guests and returned, as pure logic.
//!
//! | module | content |
//! |---|---|
//! | `spec` | registers of configuration space |
//! | `config` | access to it, by a trait |
//! | `segment` | results of boot: windows, StreamIDs, the functions of the root bus and the sizes of their BARs |
//! | `inspect`, `numbering`, `bars`, `reset` | whether a function can be assigned to a guest |
//! | `messages` | disabling of MSIs, ATS, PRI and PASIDs |
//! | `machine` | the rest of the machine, by a trait |
//! | `handover` | the steps that assign and return a function, and the state between them |
//! | `ecam`, `bridge` | the host's accesses to configuration space while a function is away |
//! | `fixed_buses` | the host's accesses, always, if SMMUs do not cover all buses |
//!
//! Only functions on the root bus can be given to guests: the host controls the bus number behind a bridge.
//! While a function is away, all of configuration space traps. Otherwise the host could give another bus the number of
//! the root bus, and the devices there would have RequesterIDs of the root bus.

pub mod bars;
pub mod bridge;
pub mod config;
pub mod ecam;
pub mod fixed_buses;
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
