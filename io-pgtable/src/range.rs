//! The range of a call (a run to be mapped, or a span to be unmapped), and the part of it that one descriptor covers.

use crate::desc;
use crate::granule::{At, Granule, Level};

/// A contiguous piece of a mapping. Addresses are within the input and output space.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) iova: u64,
    pub(crate) pa: u64,
    pub(crate) size: u64,
    /// Attribute bits of every leaf.
    pub(crate) bits: u64,
    /// Leaf sizes that may be used.
    pub(crate) sizes: u64,
}

impl Run {
    /// Number of leaves of level `L` at the start of the run, up to `max`.
    #[inline]
    pub(crate) fn leaves<G: Granule, L: Level>(&self, max: usize) -> usize {
        let aligned = (self.iova | self.pa) & At::<G, L>::OFFSET == 0;
        if !At::<G, L>::LEAF || self.sizes & At::<G, L>::SIZE == 0 || !aligned {
            return 0;
        }
        usize::try_from(self.size.wrapping_shr(At::<G, L>::SHIFT)).map_or(max, |n| n.min(max))
    }

    /// The part covered by the descriptor of level `L` that covers the start.
    #[inline]
    pub(crate) fn head<G: Granule, L: Level>(&self) -> Self {
        let room = At::<G, L>::SIZE.wrapping_sub(self.iova & At::<G, L>::OFFSET);
        Self { size: self.size.min(room), ..*self }
    }

    /// The rest after the first `size` bytes.
    #[inline]
    pub(crate) fn after(&self, size: u64) -> Self {
        Self {
            iova: self.iova.wrapping_add(size),
            pa: self.pa.wrapping_add(size),
            size: self.size.wrapping_sub(size),
            ..*self
        }
    }

    /// The first leaf descriptor of level `L`.
    #[inline]
    pub(crate) fn desc<L: Level>(&self) -> u64 {
        self.pa | self.bits | if L::LAST { desc::PAGE } else { desc::BLOCK }
    }
}

/// A range of input addresses, never empty.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) start: u64,
    /// The last byte, so that the end of the address space needs no special case.
    pub(crate) last: u64,
}

impl Span {
    /// The part covered by the descriptor of level `L` that covers the start.
    #[inline]
    pub(crate) fn head<G: Granule, L: Level>(self) -> Self {
        Self { start: self.start, last: self.last.min(self.start | At::<G, L>::OFFSET) }
    }

    /// The rest after `head`; `None` at the end.
    #[inline]
    pub(crate) fn after(self, head: Self) -> Option<Self> {
        (head.last < self.last).then(|| Self { start: head.last.wrapping_add(1), last: self.last })
    }

    /// Whether the span is exactly the range of one descriptor of level `L`. It must not exceed that range.
    #[inline]
    pub(crate) fn whole<G: Granule, L: Level>(self) -> bool {
        self.start & At::<G, L>::OFFSET == 0 && self.last & At::<G, L>::OFFSET == At::<G, L>::OFFSET
    }
}

/// Bytes that `n` descriptors of level `L` cover.
#[inline]
pub(crate) fn size_of_leaves<G: Granule, L: Level>(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(0).wrapping_shl(At::<G, L>::SHIFT)
}

/// Index of the descriptor of `iova` in a table of level `L` that is not a concatenated root.
#[inline]
pub(crate) fn index_in<G: Granule, L: Level>(iova: u64) -> usize {
    let index = iova.wrapping_shr(At::<G, L>::SHIFT);
    usize::try_from(index).unwrap_or(0) & G::ENTRIES.wrapping_sub(1)
}
