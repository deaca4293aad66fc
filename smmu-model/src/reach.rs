//! Ranges of bytes that a stream can reach, and how.

/// How a byte can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Via {
    /// SMMUEN is 0, or may be 0, and GBPA does not abort.
    Disabled,
    /// The entry bypasses both stages.
    Bypass,
    /// The entry has no stage 2.
    Stage1Only,
    /// A TLB entry from a time when an entry with this VMID had no stage 2.
    StaleStage1Only,
    /// Translated transactions are not checked.
    AtsUnchecked,
    /// The entry permits Translated transactions.
    AtsFull,
    /// A stage 2 translation.
    Stage2,
    /// A combined stage 1 and 2 TLB entry.
    Combined,
}

/// A range of bytes that a stream can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reachable {
    /// First physical address.
    pub pa: u64,
    /// Size in bytes.
    pub size: u64,
    /// The IPA of the range.
    pub ipa: u64,
    /// The range can be written.
    pub write: bool,
    /// How the range is reached.
    pub via: Via,
    /// An entry that it is reached through has been overwritten in memory and is still in a cache.
    pub stale: bool,
}

impl Reachable {
    /// Whether it contains the byte at `pa`.
    #[must_use]
    pub fn contains(&self, pa: u64) -> bool {
        pa >= self.pa && pa - self.pa < self.size
    }
}
