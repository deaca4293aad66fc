//! The host's stream table: where an entry lies, according to registers that the host wrote and memory that it may change.
//!
//! Every pointer is fetched once, and every fetch goes through a claim that lasts no longer than the fetch. An address above the
//! output size is not cut to it, which would make it another one: nothing is there to be claimed, and that is F_STE_FETCH, the
//! other behaviour that [S 3.4.3] allows.

use io_pgtable::Ipa;

use crate::emul::ids::HostIds;
use crate::platform::HostMemory;
use crate::spec::registers::{strtab_base, strtab_base_cfg};
use crate::spec::ste::{L1STD_SIZE, STE_SIZE, l1std};
use crate::spec::{get32, get64, mask64};

/// Geometry that the host programmed, cut to what its view of the SMMU supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostTable {
    base: u64,
    log2size: u32,
    /// StreamID bits of a level-2 table; `None` for a linear table.
    split: Option<u32>,
    /// Spans that are too long are cut.
    #[cfg(feature = "weakened")]
    any_span: bool,
}

/// Where a run of entries lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Located {
    /// No entry: C_BAD_STREAMID. The same holds for every StreamID below `until`.
    OutOfRange {
        /// First StreamID for which the question has to be asked again.
        until: u64,
    },
    /// The level-1 descriptor is not in host-owned memory: F_STE_FETCH at this address.
    Unreadable(u64),
    /// `count` consecutive entries from this address on; at least 1.
    At {
        /// Address of the first.
        address: u64,
        /// How many are known to follow in the same table.
        count: u64,
    },
}

impl HostTable {
    pub(crate) fn new(base: u64, cfg: u32, ids: &HostIds) -> Self {
        let written = get32(strtab_base_cfg::LOG2SIZE, cfg);
        let log2size = written.min(ids.sid_bits());
        let two_level = ids.two_level() && get32(strtab_base_cfg::FMT, cfg) == strtab_base_cfg::TWO_LEVEL;
        let split = two_level.then(|| match get32(strtab_base_cfg::SPLIT, cfg) {
            8 => 8,
            10 => 10,
            // Reserved values behave as 6 [S 6.3.25].
            _ => 6,
        });
        // The table is taken to be aligned to its size as written, or to 64 bytes [S 6.3.24].
        let log2bytes = match split {
            Some(split) => written.saturating_sub(split).saturating_add(3).max(6),
            None => written.saturating_add(6),
        };
        Self {
            base: base & mask64(strtab_base::ADDR) & !ones(log2bytes),
            log2size,
            split,
            #[cfg(feature = "weakened")]
            any_span: false,
        }
    }

    /// From now on a span that is too long is cut.
    #[cfg(feature = "weakened")]
    pub(crate) fn weaken_spans(&mut self) {
        self.any_span = true;
    }

    /// Finds the entry of `sid`.
    pub(crate) fn locate<H: HostMemory>(&self, host: &mut H, sid: u32) -> Located {
        let sid = u64::from(sid);
        let size = 1_u64.checked_shl(self.log2size).unwrap_or(0);
        if sid >= size {
            return Located::OutOfRange { until: u64::MAX };
        }
        let Some(split) = self.split else {
            return Located::At { address: at(self.base, sid, STE_SIZE), count: size.saturating_sub(sid) };
        };
        let index = sid.checked_shr(split).unwrap_or(0);
        let next = index.saturating_add(1).checked_shl(split).unwrap_or(u64::MAX);
        let address = at(self.base, index, L1STD_SIZE);
        let Some(descriptor) = fetch(host, address) else {
            return Located::Unreadable(address);
        };
        let span = get64(l1std::SPAN, descriptor);
        #[cfg(feature = "weakened")]
        let span = if self.any_span { span.min(u64::from(split).saturating_add(1)) } else { span };
        if span == 0 || span > u64::from(split).saturating_add(1) {
            return Located::OutOfRange { until: next };
        }
        let log2 = u32::try_from(span).unwrap_or(0).saturating_sub(1);
        let entries = 1_u64.checked_shl(log2).unwrap_or(0);
        let within = sid & ones(split);
        if within >= entries {
            return Located::OutOfRange { until: next };
        }
        let table = descriptor & mask64(l1std::L2PTR) & !ones(log2.saturating_add(6));
        let first_unmapped = sid.saturating_sub(within).saturating_add(entries).min(size);
        Located::At { address: at(table, within, STE_SIZE), count: first_unmapped.saturating_sub(sid) }
    }
}

fn ones(bits: u32) -> u64 {
    1_u64.checked_shl(bits).map_or(u64::MAX, |bit| bit.wrapping_sub(1))
}

/// Address of an element; bases have at most 52 bits and indices 32, so nothing wraps in practice.
fn at(base: u64, index: u64, size: usize) -> u64 {
    base.wrapping_add(index.wrapping_mul(u64::try_from(size).unwrap_or(0)))
}

/// Fetches one word of host memory, under a claim of its own.
fn fetch<H: HostMemory>(host: &mut H, address: u64) -> Option<u64> {
    let claim = host.claim(Ipa(address), 8).ok()?;
    let word = host.read64(&claim, 0);
    host.release(claim);
    word
}
