//! A queue of the host: its geometry from the registers, and the claim of its memory.

use io_pgtable::Ipa;

use crate::platform::{ClaimError, HostMemory, Sharing};
use crate::smmu::budget;
use crate::smmu::index::Indices;
use crate::spec::registers::queue_base;
use crate::spec::{get64, low32, mask64};

/// Geometry of a queue, limited to the sizes in the host's ID registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// First byte, aligned to the queue's size.
    base: u64,
    indices: Indices,
    /// Bytes.
    size: u64,
}

impl Geometry {
    /// From a `*Q_BASE` register. The address is aligned down to the queue's size [S 6.3.26].
    pub(super) fn new(register: u64, entry_log2: u32, max_log2: u32, address_mask: u64) -> Self {
        let log2 = low32(get64(queue_base::LOG2SIZE, register)).min(max_log2);
        let size = 1_u64.checked_shl(log2.saturating_add(entry_log2)).unwrap_or(32).max(32);
        let base = register & mask64(queue_base::ADDR) & address_mask & !size.wrapping_sub(1);
        Self { base, indices: Indices::new(log2), size }
    }

    /// Charge of a claim of it.
    pub(super) fn cost(&self) -> u32 {
        let pages = u32::try_from(self.size.div_ceil(4096)).unwrap_or(u32::MAX);
        pages.saturating_mul(budget::PAGE)
    }

    /// Its indices.
    #[inline]
    pub(super) fn indices(&self) -> Indices {
        self.indices
    }

    /// Byte offset of `address` in the queue, if it is in it.
    #[inline]
    pub(super) fn offset_of(&self, address: u64) -> Option<u64> {
        address.checked_sub(self.base).filter(|offset| *offset < self.size)
    }
}

/// A queue's memory.
#[derive(Clone)]
pub(super) enum HostQueue<C> {
    /// Disabled: nothing is claimed.
    Off,
    /// Enabled, but not in host-owned memory: an access first tries the claim again, and aborts if that fails.
    Unreachable(Geometry),
    /// Enabled and claimed.
    On(Geometry, C),
}

impl<C> HostQueue<C> {
    /// Claims the queue's memory. Any earlier claim must have been released.
    pub(super) fn enable<H: HostMemory<Claim = C>>(
        host_mem: &mut H,
        geometry: Geometry,
        sharing: Sharing,
    ) -> (Self, Result<(), ClaimError>) {
        match host_mem.claim(Ipa(geometry.base), geometry.size, sharing) {
            Ok(claim) => (Self::On(geometry, claim), Ok(())),
            Err(error) => (Self::Unreachable(geometry), Err(error)),
        }
    }

    /// Releases the claim, if there is one.
    pub(super) fn disable<H: HostMemory<Claim = C>>(&mut self, host_mem: &mut H) {
        if let Self::On(_, claim) = core::mem::replace(self, Self::Off) {
            host_mem.release(claim);
        }
    }

    /// Geometry while enabled.
    pub(super) fn geometry(&self) -> Option<Geometry> {
        match self {
            Self::Off => None,
            Self::Unreachable(geometry) | Self::On(geometry, _) => Some(*geometry),
        }
    }
}
