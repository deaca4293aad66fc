//! Memory of EL2, which a device walks, and memory of the host, which is claimed while EL2 reads it.
//!
//! Emulations have no pointers to memory. Memory of EL2 is a [`DmaBuffer`], memory of the host is a
//! claim: pages that the host owns and whose owner cannot change while they are claimed.

use io_pgtable::{Ipa, Pa};

/// EL2 memory that the device reads or writes: naturally aligned, zeroed when allocated, accessed by offset only.
///
/// Every access is single-copy atomic and volatile: the device accesses the memory concurrently.
///
/// # Caches
/// EL2 maps the memory as normal, write-back and inner shareable, and there is no other mapping of it. For a device
/// that snoops that is sufficient: [`DmaBuffer::clean`] and [`DmaBuffer::invalidate`] are not called. For a device
/// that does not, the driver calls `clean` after its stores and before the barrier of the platform, and `invalidate`
/// before it reads data that the device wrote. CPU and device never write to the same line between these two calls, so
/// an `invalidate` may also clean.
pub trait DmaBuffer {
    /// Physical address of the first byte.
    fn pa(&self) -> Pa;
    /// Size in bytes.
    fn size(&self) -> usize;
    /// Reads the 64-bit word at byte `offset`; 0 outside the buffer or when `offset` is not a multiple of 8.
    fn read64(&self, offset: usize) -> u64;
    /// Reads the eight words from byte `offset` on, each as [`DmaBuffer::read64`] does: audits read every entry of
    /// every table.
    fn read_entry(&self, offset: usize) -> [u64; 8] {
        core::array::from_fn(|word| self.read64(offset.saturating_add(word.saturating_mul(8))))
    }
    /// Writes the 64-bit word at byte `offset`; ignored outside the buffer or when `offset` is not a multiple of 8.
    fn write64(&mut self, offset: usize, value: u64);
    /// Cleans the lines of `len` bytes at `offset` to the point of coherency; complete at the next barrier of the platform.
    fn clean(&self, offset: usize, len: usize);
    /// Invalidates the lines of `len` bytes at `offset`; complete on return: the next read is from memory.
    fn invalidate(&self, offset: usize, len: usize);
}

/// Host memory, accessed only through claims. The implementor owns the page ownership map, already locked.
///
/// Accesses are single-copy atomic and volatile: a hostile host writes to the memory at the same time. A claim
/// prevents a change of owner; the host can still write.
///
/// # Caches
/// EL2 maps the host's memory as normal, write-back and inner shareable. That is coherent with a host, and with a
/// device, that uses it in the same way ([`Sharing::Cacheable`]). If the host's queues and tables are non-cacheable
/// ([`Sharing::Memory`]), a line in EL2's cache may be stale: it is cleaned and invalidated to the point of coherency,
/// and that is complete, before each read and write, and again after each write.
pub trait HostMemory {
    /// A claimed range: host-owned normal memory that cannot change its owner until released.
    type Claim;

    /// Claims `size` bytes from `ipa` (any alignment; whole pages are claimed), with the cacheability `sharing` for
    /// every access to the claim.
    ///
    /// # Errors
    /// Nothing is claimed then.
    fn claim(&mut self, ipa: Ipa, size: u64, sharing: Sharing) -> Result<Self::Claim, ClaimError>;
    /// Ends a claim.
    fn release(&mut self, claim: Self::Claim);
    /// Whether every page of the claim still belongs to the host and is still claimed in the ownership map: false only
    /// after a defect of EL2. For audits.
    fn holds(&self, claim: &Self::Claim) -> bool;
    /// Fetches the little-endian 64-bit word at byte `offset` of the claim exactly once; `None` outside it or
    /// unaligned.
    fn read64(&self, claim: &Self::Claim, offset: u64) -> Option<u64>;
    /// Fetches two words in the same way, at a multiple of 16: a command, or dwords 0 and 1 of an entry. Cache
    /// maintenance, where the cacheability needs it, is done once for both.
    fn read_pair(&self, claim: &Self::Claim, offset: u64) -> Option<[u64; 2]> {
        Some([self.read64(claim, offset)?, self.read64(claim, offset.checked_add(8)?)?])
    }
    /// Stores a little-endian 64-bit word with one access; `None` outside the claim or unaligned, and nothing is
    /// stored.
    fn write64(&mut self, claim: &Self::Claim, offset: u64, value: u64) -> Option<()>;
    /// Stores the four words of an event record, in ascending order, at a multiple of 32, otherwise as
    /// [`HostMemory::write64`]. Cache maintenance, where the cacheability needs it, is done once for all four.
    fn write_record(&mut self, claim: &Self::Claim, offset: u64, record: [u64; 4]) -> Option<()> {
        for (word, at) in record.into_iter().zip([0_u64, 8, 16, 24]) {
            self.write64(claim, offset.checked_add(at)?, word)?;
        }
        Some(())
    }
    /// Stores a little-endian 32-bit word with one access; `None` outside the claim or unaligned, and nothing is
    /// stored.
    fn write32(&mut self, claim: &Self::Claim, offset: u64, value: u32) -> Option<()>;
}

/// Cacheability of host memory that a device, and so EL2, accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Cacheable, like EL2's own mapping: coherent.
    Cacheable,
    /// Non-cacheable: EL2 cleans and invalidates the line before a read, and before and after a write.
    Memory,
}

/// Why host memory could not be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// The range is empty, or its end wraps around the address space.
    BadRange,
    /// A page of the range is not normal memory that the host owns.
    NotOwned,
    /// EL2 has no memory to map it, or the claim count of a page is at its limit.
    NoMemory,
}

impl core::fmt::Display for ClaimError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::BadRange => "the range is empty or wraps around the address space",
            Self::NotOwned => "a page of the range is not normal memory of the host",
            Self::NoMemory => "no memory to map the page, or it has the maximum number of claims",
        })
    }
}

impl core::error::Error for ClaimError {}
