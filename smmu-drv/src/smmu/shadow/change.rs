//! The order in which a live stream table entry changes.
//!
//! Hardware reads an entry as separate 64-bit words, so only one dword may change between two invalidations that are
//! synchronised [S 3.21.3]. Every step below leaves an entry that behaves as the old one, as the new one, or as an
//! abort; the abort is used only if no order of single stores works.

use crate::smmu::ste::Ste;
use crate::spec::ste::{dw0, dw1};
use crate::spec::{get64, mask64, put64, union64};

/// One 64-bit store into a live entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SteStore {
    /// Store to dword 0.
    Dw0(u64),
    /// Store to dword 1.
    Dw1(u64),
}

/// Bits of dword 1 that hardware uses when dword 0 has this value.
fn used(word0: u64) -> u64 {
    if get64(dw0::V, word0) == 0 {
        return 0;
    }
    match get64(dw0::CONFIG, word0) {
        dw0::CONFIG_S2 | dw0::CONFIG_BYPASS => union64([mask64(dw1::MEV), mask64(dw1::SHCFG)]),
        dw0::CONFIG_NESTED | dw0::CONFIG_S1 => u64::MAX,
        _ => 0,
    }
}

/// The next store in the change from `now` to `target`; `None` if they are equivalent for hardware.
///
/// After each store the entry must be invalidated and synchronised before the next one. At most three are needed.
pub fn next_store(now: Ste, target: Ste) -> Option<SteStore> {
    let differs = now.dw1 ^ target.dw1;
    let matters = differs & used(target.dw0);
    if matters == 0 {
        return (now.dw0 != target.dw0).then_some(SteStore::Dw0(target.dw0));
    }
    if differs & used(now.dw0) == 0 || now.dw0 == target.dw0 {
        return Some(SteStore::Dw1(target.dw1));
    }
    Some(SteStore::Dw0(union64([put64(dw0::V, 1), put64(dw0::CONFIG, dw0::CONFIG_ABORT)])))
}

impl Ste {
    /// The entry after `step`.
    pub fn after(self, store: SteStore) -> Self {
        match store {
            SteStore::Dw0(dw0) => Self { dw0, ..self },
            SteStore::Dw1(dw1) => Self { dw1, ..self },
        }
    }
}

#[cfg(test)]
mod tests;
