//! Granules and levels as types, so that every shift and mask of a walk is a constant.

mod private {
    pub trait Sealed {}
}

/// A translation granule: the size of a page and of a table.
pub trait Granule: private::Sealed + Copy + Send + Sync + 'static {
    /// log2 of the page size in bytes.
    const PAGE_SHIFT: u32;
    /// Leaf sizes in bytes, one bit each.
    const LEAF_SIZES: u64;
    /// Encoding in `TCR.TG0` and `VTCR.TG0`.
    const TG0: u8;
    /// Encoding in `TCR.TG1`.
    const TG1: u8;
    /// Address bits that one level resolves.
    const BITS: u32 = Self::PAGE_SHIFT.wrapping_sub(3);
    /// Page size, and size of a table, in bytes.
    const PAGE: u64 = 1u64.wrapping_shl(Self::PAGE_SHIFT);
    /// Size of a table in bytes.
    const TABLE_BYTES: usize = 1usize.wrapping_shl(Self::PAGE_SHIFT);
    /// Descriptors in a table.
    const ENTRIES: usize = 1usize.wrapping_shl(Self::BITS);
}

macro_rules! granule {
    ($(#[$doc:meta])* $name:ident, $shift:literal, $sizes:expr, $tg0:literal, $tg1:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name;
        impl private::Sealed for $name {}
        impl Granule for $name {
            const PAGE_SHIFT: u32 = $shift;
            const LEAF_SIZES: u64 = $sizes;
            const TG0: u8 = $tg0;
            const TG1: u8 = $tg1;
        }
    };
}
granule!(
    /// 4 KiB pages, 2 MiB and 1 GiB blocks.
    G4K, 12, 1 << 12 | 1 << 21 | 1 << 30, 0b00, 0b10
);
granule!(
    /// 16 KiB pages, 32 MiB blocks.
    G16K, 14, 1 << 14 | 1 << 25, 0b10, 0b01
);
granule!(
    /// 64 KiB pages, 512 MiB blocks.
    G64K, 16, 1 << 16 | 1 << 29, 0b01, 0b11
);

/// A lookup level, 0 (root of a full walk) to 3 (pages).
pub(crate) trait Level: private::Sealed {
    /// Its number, 0 to 3.
    const N: u32;
    /// Whether all its leaves are pages.
    const LAST: bool;
    /// The next level; the last level itself at the last level.
    type Next: Level;
}

macro_rules! level {
    ($name:ident, $n:literal, $last:literal, $next:ident) => {
        #[doc = concat!("Level ", stringify!($n), ".")]
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name;
        impl private::Sealed for $name {}
        impl Level for $name {
            const N: u32 = $n;
            const LAST: bool = $last;
            type Next = $next;
        }
    };
}
level!(L0, 0, false, L1);
level!(L1, 1, false, L2);
level!(L2, 2, false, L3);
level!(L3, 3, true, L3);

/// Geometry of one level of one granule.
pub(crate) struct At<G, L>(core::marker::PhantomData<(G, L)>);

impl<G: Granule, L: Level> At<G, L> {
    /// log2 of the bytes that one descriptor covers.
    pub(crate) const SHIFT: u32 = shift(G::PAGE_SHIFT, G::BITS, L::N);
    /// Bytes that one descriptor covers.
    pub(crate) const SIZE: u64 = 1u64.wrapping_shl(Self::SHIFT);
    /// Address bits below those that the descriptor resolves.
    pub(crate) const OFFSET: u64 = Self::SIZE.wrapping_sub(1);
    /// Whether a leaf is possible at this level: a block or page size of the granule.
    pub(crate) const LEAF: bool = G::LEAF_SIZES & Self::SIZE != 0;
}

/// log2 of the bytes that a descriptor of `level` covers.
pub(crate) const fn shift(page_shift: u32, bits: u32, level: u32) -> u32 {
    let below = 3u32.wrapping_sub(level);
    page_shift.wrapping_add(bits.wrapping_mul(below))
}
