//! The memory for the host's devices, which is limited.

use host_access::memory::DmaBuffer;

use crate::limits::MAX_DEVICE_BYTES;
use crate::platform::Platform;

/// Counts bytes against a limit: [`MAX_DEVICE_BYTES`], or less.
pub(crate) struct Store {
    used: usize,
    limit: usize,
}

/// The size of a block for `bytes`.
pub(crate) fn block(bytes: usize) -> usize {
    bytes.max(0x1000).checked_next_power_of_two().unwrap_or(usize::MAX)
}

impl Store {
    pub(crate) const fn new() -> Self {
        Self { used: 0, limit: MAX_DEVICE_BYTES }
    }

    /// Lowers the limit; allocated blocks stay.
    pub(crate) fn lower_limit(&mut self, bytes: usize) {
        self.limit = self.limit.min(bytes);
    }

    /// A block of at least `bytes`, zeroed; `None` at the limit, or when the pool is empty.
    pub(crate) fn alloc<P: Platform>(&mut self, platform: &P, bytes: usize) -> Option<P::Buffer> {
        let size = block(bytes);
        let used = self.used.checked_add(size).filter(|used| *used <= self.limit)?;
        let buffer = platform.alloc(size)?;
        self.used = used;
        Some(buffer)
    }

    /// Frees a block that hardware does not use any more.
    pub(crate) fn free<B: DmaBuffer>(&mut self, buffer: B) {
        self.used = self.used.saturating_sub(buffer.size());
    }
}
