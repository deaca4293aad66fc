//! Layouts of the SMMUv3 architecture: offsets, fields, encodings.
//!
//! Section numbers are those of Arm IHI 0070 issue G ("[S x.y]"). Every position here was read in that document and
//! checked against a second, independent source: Linux's `arm-smmu-v3.h` or QEMU's `smmuv3-internal.h`. Policy is in
//! other modules; no other module of the crate shifts or masks a hardware word.

pub mod cd;
pub mod commands;
pub mod events;
pub mod registers;
pub mod ste;

pub use host_access::field::{Field32, Field64, get32, get64, mask32, mask64, put32, put64};
use host_access::field::{bits32, bits64};
pub(crate) use host_access::field::{high32, join, low32, replace32, union32, union64};
