//! The other crates, each with its own stage-2 descriptors and the same memory.

mod ax;
mod generic;
mod paging;

pub(crate) use ax::Ax;
pub(crate) use generic::Generic;
pub(crate) use paging::Paging;

/// Attribute bits of a normal read-write stage-2 leaf, as every subject writes them.
pub(crate) const LEAF: u64 = 0b1111 << 2 | 0b11 << 6 | 0b11 << 8 | 1 << 10;
/// Output address bits.
pub(crate) const ADDR: u64 = 0x0000_ffff_ffff_f000;
