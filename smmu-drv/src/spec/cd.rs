//! Context descriptors [S 5.3, 5.4]: read by hardware through stage 2, never by this crate.
//!
//! Only their sizes are used: they determine the alignment of `S1ContextPtr`.

/// Bytes of a context descriptor [S 5.4].
pub const CD_SIZE: usize = 64;
/// Log2 of the descriptors in a 4K leaf of a 2-level table [S 5.2, S1Fmt].
pub const LOG2_CDS_4K: u32 = 6;
/// Log2 of the descriptors in a 64K leaf of a 2-level table [S 5.2, S1Fmt].
pub const LOG2_CDS_64K: u32 = 10;
/// Log2 of the bytes of a context descriptor.
pub const LOG2_CD_SIZE: u32 = 6;
/// Log2 of the bytes of a level-1 context descriptor pointer [S 5.3].
pub const LOG2_L1CD_SIZE: u32 = 3;
