//! Shadow entries: the result of the check of a host's entry, and the entries of the table that hardware reads.

use crate::features::Features;
use crate::smmu::stream::{GROUP, HostEntries};
use crate::spec::ste::{dw0, dw1};
use crate::spec::{put64, union64};

/// The two dwords of a shadow entry that differ between streams. Only a check of a host's entry, or [`Fixed`], creates
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ste {
    /// V, Config and the context descriptor table.
    pub dw0: u64,
    /// Attributes of stage 1 and of events.
    pub dw1: u64,
}

/// How reads marked as instruction fetches are treated [S 5.2, INSTCFG].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadsAs {
    /// As instruction or data reads, as marked by the device.
    #[default]
    Incoming,
    /// As data reads.
    Data,
}

/// The dword 1 that does not depend on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Dword 1 of every entry.
    pub dw1: u64,
}

impl Fixed {
    /// SHCFG: shareability from the transaction, if hardware with `features` can override it. INSTCFG: from `reads`,
    /// if hardware can override it [S 5.2, SHCFG, INSTCFG].
    pub fn new(reads: ReadsAs, features: &Features) -> Self {
        let shareability = if features.attr_types_ovr() { put64(dw1::SHCFG, dw1::SHCFG_INCOMING) } else { 0 };
        let instcfg = match reads {
            ReadsAs::Data if features.attr_perms_ovr() => put64(dw1::INSTCFG, dw1::INSTCFG_DATA),
            ReadsAs::Data | ReadsAs::Incoming => 0,
        };
        Self { dw1: union64([shareability, instcfg]) }
    }

    /// A shadow entry with V = 0: hardware reports C_BAD_STE.
    pub fn invalid(self) -> Ste {
        Ste { dw0: 0, dw1: self.dw1 }
    }

    /// The shadow of an abort entry.
    pub fn abort(self) -> Ste {
        Ste { dw0: valid(dw0::CONFIG_ABORT), dw1: self.dw1 }
    }

    /// The shadow of a bypass entry: stage 2 only.
    pub fn stage2(self) -> Ste {
        Ste { dw0: valid(dw0::CONFIG_S2), dw1: self.dw1 }
    }
}

/// Dword 0 of a valid entry with only `config`.
pub(super) fn valid(config: u64) -> u64 {
    union64([put64(dw0::V, 1), put64(dw0::CONFIG, config)])
}

/// The checked entry of the host for one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckedEntry {
    /// The host has no entry for the stream, or it could not be read.
    Unmapped,
    /// Its shadow; an entry with V = 0 if the host's is invalid or illegal.
    Entry(Ste),
}

/// The checked entries of the host for consecutive streams, from one fetch.
pub(super) struct Group {
    /// Their shadows; entries with V = 0 for streams without an entry.
    pub(super) targets: [Ste; GROUP],
    /// Whether the host has any of these entries.
    pub(super) entries: HostEntries,
    /// There is no entry below this StreamID.
    pub(super) until: u64,
}
