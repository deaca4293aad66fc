//! Indices of queues [S 3.5.1]: index, wrap bit, overflow flag. No other module calculates with them.

use crate::spec::registers::queue_index;
use crate::spec::{mask32, put32};

/// log2 of the largest host command queue: 64 pages, half of the number that one trap may claim
/// ([`crate::smmu::budget::MOST_PAGES`]). Linux uses that size if it is offered, and needs at least 2^7.
pub const HOST_CMDQS: u32 = 14;
/// log2 of the largest host event queue: one page, as many records as EL2's own queue can have.
pub(super) const HOST_EVENTQS: u32 = 7;
/// Log2 of the bytes of a command.
pub(super) const CMD_LOG2: u32 = 4;
/// Log2 of the bytes of an event record.
pub(super) const EVENT_LOG2: u32 = 5;
/// The overflow flag of an event queue's PROD and CONS [S 7.4].
pub(super) const OVERFLOW: u32 = mask32(queue_index::OVERFLOW);

/// The indices of a queue of 2^n entries: the low n bits select an entry, the bit above them is the wrap bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Indices {
    /// Bits of an index and its wrap bit.
    mask: u32,
}

impl Indices {
    /// The indices of a queue of 2^`log2` entries; `log2` is at most 19 [S 6.3.2].
    pub(super) const fn new(log2: u32) -> Self {
        Self { mask: u32::MAX >> 31_u32.saturating_sub(log2) }
    }

    /// Number of entries; also the wrap bit.
    #[inline]
    pub(super) const fn entries(self) -> u32 {
        (self.mask >> 1).wrapping_add(1)
    }

    /// The index, with its wrap bit, in the value of a PROD or CONS register.
    #[inline]
    pub(super) const fn of(self, register: u32) -> u32 {
        register & self.mask
    }

    /// Bits of an index register of an event queue that can be stored: index, wrap bit, overflow flag [S 6.3.95].
    #[inline]
    pub(super) const fn with_overflow(self, register: u32) -> u32 {
        register & (self.mask | OVERFLOW)
    }

    /// The index after `index`.
    #[inline]
    pub(super) const fn next(self, index: u32) -> u32 {
        index.wrapping_add(1) & self.mask
    }

    /// Number of entries from `cons` to before `prod`; up to twice the size of the queue, if the indices are inconsistent.
    #[inline]
    pub(super) const fn used(self, prod: u32, cons: u32) -> u32 {
        prod.wrapping_sub(cons) & self.mask
    }

    /// Whether the queue is full: the same entry, the other wrap bit.
    #[inline]
    pub(super) const fn is_full(self, prod: u32, cons: u32) -> bool {
        (prod ^ cons) & self.mask == self.entries()
    }

    /// Whether the queue is empty; overflow flags are ignored.
    #[inline]
    pub(super) const fn is_empty(self, prod: u32, cons: u32) -> bool {
        (prod ^ cons) & self.mask == 0
    }

    /// Byte offset of the entry of `index`; entries have 2^`entry_log2` bytes, at most 32.
    #[inline]
    pub(super) const fn offset(self, index: u32, entry_log2: u32) -> u32 {
        (index & (self.mask >> 1)) << (entry_log2 & 31)
    }
}

/// `flag`, 0 or 1, at the position of the overflow flag.
pub(super) const fn overflow(flag: u32) -> u32 {
    put32(queue_index::OVERFLOW, flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_wrap_at_twice_the_size() {
        for log2 in 0..=19 {
            let indices = Indices::new(log2);
            let size = 1 << log2;
            assert_eq!(indices.entries(), size);
            assert_eq!(indices.next(2 * size - 1), 0);
            assert_eq!(indices.of(u32::MAX), 2 * size - 1);
            assert_eq!(indices.with_overflow(u32::MAX), 1 << 31 | (2 * size - 1));
            assert!(indices.is_full(size, 0) && indices.is_full(0, size) && indices.is_full(size | 1 << 31, 0));
            assert!(indices.is_empty(size, size) && indices.is_empty(1 << 31, 0) && !indices.is_empty(size, 0));
            assert_eq!((indices.used(0, 2 * size - 1), indices.used(size, 0), indices.used(0, 0)), (1, size, 0));
            assert_eq!((indices.offset(size, 4), indices.offset(2 * size - 1, 5)), (0, (size - 1) * 32));
        }
    }
}
