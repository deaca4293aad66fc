//! Only layouts of the GICv3 architecture: offsets, fields, encodings.
//!
//! Section numbers are those of Arm IHI 0069 issue H.b ("[G x.y]"). Every position here was checked against two
//! independent sources: Arm's register descriptions, and the headers of Linux, QEMU or Xen. Policy is in other
//! modules; no other module of the crate shifts or masks a hardware word.

pub mod commands;
pub mod gicr;
pub mod gits;
pub mod tables;

pub use host_access::field::{
    Field32, Field64, bits32, bits64, get32, get64, low32, mask32, mask64, put32, put64, union32, union64,
};
