//! Claims: the owner of claimed memory does not change, each word is fetched once, and writes stay inside the claim.

use io_pgtable::Ipa;
use smmu_drv::{ClaimError, HostMemory, Sharing};

use crate::{Violation, pattern, require};

const PAGE: u64 = 4096;

/// A page was not taken from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// Accesses of the host to `memory`, and your functions that change the owner of a page.
pub trait Host<H: HostMemory> {
    /// Reads the 64-bit word at `ipa` as the host, through a mapping with the cacheability `sharing`.
    fn read64(&mut self, memory: &mut H, ipa: Ipa, sharing: Sharing) -> u64;
    /// Writes the 64-bit word at `ipa` in the same way.
    fn write64(&mut self, memory: &mut H, ipa: Ipa, sharing: Sharing, value: u64);
    /// Takes the page at `ipa` from the host, as your hypervisor does for a donation.
    ///
    /// # Errors
    /// The hypervisor refuses, and the host still owns the page.
    fn take(&mut self, memory: &mut H, ipa: Ipa) -> Result<(), Refused>;
    /// Returns the page at `ipa` to the host.
    fn give_back(&mut self, memory: &mut H, ipa: Ipa);
    /// Number of 64-bit words fetched from memory of the host since the last call: count them in the function that
    /// contains the load.
    fn fetches(&mut self, memory: &H) -> u64;
}

/// Checks claims on two pages of the host, the one at `ipa` and the next one, and changes their content. `foreign` is a
/// page that the host does not own; both addresses must be multiples of the page size.
///
/// # Errors
/// The first violated contract.
pub fn check_host_memory<H: HostMemory, O: Host<H>>(
    memory: &mut H,
    host: &mut O,
    ipa: Ipa,
    foreign: Ipa,
) -> Result<(), Violation> {
    for sharing in [Sharing::Cacheable, Sharing::Memory] {
        check_reads(memory, host, ipa, sharing)?;
        check_writes(memory, host, ipa, sharing)?;
        check_records(memory, host, ipa, sharing)?;
    }
    check_owner(memory, host, ipa)?;
    check_refusals(memory, host, ipa, foreign)
}

/// The address `bytes` bytes after `ipa`.
fn after(ipa: Ipa, bytes: u64) -> Ipa {
    Ipa(ipa.0.wrapping_add(bytes))
}

fn claim<H: HostMemory>(memory: &mut H, ipa: Ipa, size: u64, sharing: Sharing) -> Result<H::Claim, Violation> {
    memory.claim(ipa, size, sharing).map_err(|_| Violation::ClaimRefused)
}

fn check_reads<H: HostMemory, O: Host<H>>(
    memory: &mut H,
    host: &mut O,
    ipa: Ipa,
    sharing: Sharing,
) -> Result<(), Violation> {
    // Two pages without the last word. The pages need not be consecutive in physical memory.
    let size = PAGE.wrapping_mul(2).wrapping_sub(8);
    let claim = claim(memory, ipa, size, sharing)?;
    let offsets = [0, PAGE.wrapping_sub(16), PAGE, size.wrapping_sub(16)];
    for round in 0..2 {
        for offset in offsets {
            let at = after(ipa, offset);
            let words = [pattern(offset.wrapping_add(round)), pattern(offset.wrapping_add(round.wrapping_add(7)))];
            host.write64(memory, at, sharing, words[0]);
            host.write64(memory, after(at, 8), sharing, words[1]);
            let _ = host.fetches(memory);
            let word = memory.read64(&claim, offset);
            require(host.fetches(memory) == 1, Violation::FetchedTwice)?;
            require(word == Some(words[0]), Violation::StaleRead)?;
            if offset.is_multiple_of(16) {
                let pair = memory.read_pair(&claim, offset);
                require(host.fetches(memory) == 2, Violation::FetchedTwice)?;
                require(pair == Some(words), Violation::StaleRead)?;
            }
        }
    }
    for offset in [size, size.wrapping_sub(4), 4, u64::MAX, u64::MAX.wrapping_sub(7)] {
        require(memory.read64(&claim, offset).is_none(), Violation::OutsideClaim)?;
    }
    require(memory.read_pair(&claim, size.wrapping_sub(8)).is_none(), Violation::OutsideClaim)?;
    memory.release(claim);
    Ok(())
}

fn check_writes<H: HostMemory, O: Host<H>>(
    memory: &mut H,
    host: &mut O,
    ipa: Ipa,
    sharing: Sharing,
) -> Result<(), Violation> {
    // Four words: the claim covers the middle two.
    let start = after(ipa, PAGE.wrapping_sub(16));
    let all = [0, 8, 16, 24].map(|offset| after(start, offset));
    for (at, n) in all.into_iter().zip(20..) {
        host.write64(memory, at, sharing, pattern(n));
    }
    let claim = claim(memory, after(start, 8), 16, sharing)?;
    let [outer, first, second, last] = all;
    require(memory.write64(&claim, 0, pattern(30)).is_some(), Violation::StoreLost)?;
    require(host.read64(memory, first, sharing) == pattern(30), Violation::StoreLost)?;
    require(host.read64(memory, second, sharing) == pattern(22), Violation::NeighbourChanged)?;
    require(memory.write32(&claim, 12, 0x1234_5678).is_some(), Violation::StoreLost)?;
    let word = host.read64(memory, second, sharing);
    require(word >> 32 == 0x1234_5678, Violation::StoreLost)?;
    require(low(word) == low(pattern(22)), Violation::NeighbourChanged)?;
    for offset in [16, 4, 12, u64::MAX, u64::MAX.wrapping_sub(7)] {
        require(memory.write64(&claim, offset, pattern(31)).is_none(), Violation::OutsideClaim)?;
    }
    for offset in [16, 2, u64::MAX.wrapping_sub(3)] {
        require(memory.write32(&claim, offset, 0).is_none(), Violation::OutsideClaim)?;
    }
    let kept = host.read64(memory, outer, sharing) == pattern(20) && host.read64(memory, last, sharing) == pattern(23);
    require(kept && host.read64(memory, first, sharing) == pattern(30), Violation::OutsideClaim)?;
    memory.release(claim);
    Ok(())
}

/// Event records: one at the end of a page, one at the beginning of the next.
fn check_records<H: HostMemory, O: Host<H>>(
    memory: &mut H,
    host: &mut O,
    ipa: Ipa,
    sharing: Sharing,
) -> Result<(), Violation> {
    let start = after(ipa, PAGE.wrapping_sub(32));
    let beyond = after(start, 64);
    host.write64(memory, beyond, sharing, pattern(40));
    let claim = claim(memory, start, 64, sharing)?;
    for (offset, n) in [(0, 41), (32, 51)] {
        let record = [0, 1, 2, 3].map(|word: u64| pattern(word.wrapping_add(n)));
        require(memory.write_record(&claim, offset, record).is_some(), Violation::StoreLost)?;
        for (word, at) in record.into_iter().zip([0_u64, 8, 16, 24]) {
            let at = after(start, at.wrapping_add(offset));
            require(host.read64(memory, at, sharing) == word, Violation::StoreLost)?;
        }
    }
    for offset in [64, u64::MAX.wrapping_sub(31)] {
        require(memory.write_record(&claim, offset, [0; 4]).is_none(), Violation::OutsideClaim)?;
    }
    require(host.read64(memory, beyond, sharing) == pattern(40), Violation::OutsideClaim)?;
    memory.release(claim);
    Ok(())
}

/// The low half of a word.
fn low(word: u64) -> u64 {
    word & 0xffff_ffff
}

fn check_owner<H: HostMemory, O: Host<H>>(memory: &mut H, host: &mut O, ipa: Ipa) -> Result<(), Violation> {
    let next = after(ipa, PAGE);
    // Two claims that share the second page.
    let both = claim(memory, after(ipa, 8), PAGE, Sharing::Cacheable)?;
    let second = claim(memory, next, 64, Sharing::Cacheable)?;
    require(memory.holds(&both) && memory.holds(&second), Violation::HoldsIsWrong)?;
    for page in [ipa, next] {
        require(host.take(memory, page) == Err(Refused), Violation::OwnerChanged)?;
    }
    memory.release(both);
    require(host.take(memory, next) == Err(Refused), Violation::ReleasedEarly)?;
    require(memory.holds(&second), Violation::ReleasedEarly)?;
    memory.release(second);
    for page in [ipa, next] {
        require(host.take(memory, page).is_ok(), Violation::ReleaseIgnored)?;
        require(memory.claim(page, 8, Sharing::Cacheable).is_err(), Violation::ClaimedForeign)?;
        host.give_back(memory, page);
    }
    Ok(())
}

fn check_refusals<H: HostMemory, O: Host<H>>(
    memory: &mut H,
    host: &mut O,
    ipa: Ipa,
    foreign: Ipa,
) -> Result<(), Violation> {
    let last = after(ipa, PAGE);
    // A range from the first page to the end of the address space: the host does not own all of it.
    let everything = u64::MAX.wrapping_sub(ipa.0);
    let wrong = [(foreign, 8), (ipa, 0), (ipa, u64::MAX), (Ipa(u64::MAX), 2), (ipa, everything)];
    for (at, size) in wrong {
        require(memory.claim(at, size, Sharing::Cacheable).is_err(), Violation::ClaimedForeign)?;
    }
    let empty = memory.claim(ipa, 0, Sharing::Cacheable).err();
    require(empty == Some(ClaimError::BadRange), Violation::ClaimedForeign)?;
    for page in [ipa, last] {
        require(host.take(memory, page).is_ok(), Violation::PagesStillClaimed)?;
        host.give_back(memory, page);
    }
    Ok(())
}
