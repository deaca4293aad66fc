//! Invalidations, and the entries that each of them must remove [IHI 0070G 4.3, 4.4, 16.2].
//!
//! The model never removes more than a command must remove, so its caches keep as much as the architecture allows.

use crate::arch::desc::Granule;
use crate::mem::Time;

/// The translation regime of a TLB entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Regime {
    /// NS-EL1, with its VMID.
    El1 {
        /// STE.S2VMID, or 0 without stage 2.
        vmid: u32,
    },
    /// NS-EL2 without E2H: no ASID.
    El2,
    /// NS-EL2-E2H.
    El2E2h,
}

/// ASID tag of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AsidTag {
    /// Non-global.
    Asid(u32),
    /// Global, or the regime has no ASIDs.
    Global,
    /// Any ASID that the host can choose: the one for which the fewest invalidations remove the entry.
    Any,
}

/// Addresses that an entry translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// First address.
    pub base: u64,
    /// log2 of the size in bytes; 64 for everything.
    pub shift: u32,
}

impl Span {
    /// The span of size `1 << shift` that `address` is in.
    #[must_use]
    pub fn around(address: u64, shift: u32) -> Self {
        if shift >= 64 { Self { base: 0, shift: 64 } } else { Self { base: address >> shift << shift, shift } }
    }

    /// Whether some address is both in the span and in `first..=last`.
    #[must_use]
    pub fn overlaps(self, first: u64, last: u64) -> bool {
        let end = if self.shift >= 64 { u64::MAX } else { self.base | ((1 << self.shift) - 1) };
        self.base <= last && first <= end
    }
}

/// Whether an entry is from a table descriptor or a leaf, and its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Depth {
    /// A table descriptor found at this level.
    Table(u32),
    /// A block or page found at this level.
    Leaf(u32),
    /// A leaf at the level at which the fewest invalidations remove it.
    AnyLeaf,
}

/// The invalidation tag of a cached item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tag {
    /// Not cached: a fetch at this moment, or a group of other items.
    None,
    /// A level 1 stream table descriptor for the StreamIDs `first..first + count`.
    L1Std {
        /// First StreamID.
        first: u32,
        /// log2 of the number of StreamIDs.
        split: u32,
    },
    /// The entry of a StreamID.
    Ste {
        /// StreamID.
        sid: u32,
    },
    /// A level 1 context descriptor.
    L1Cd {
        /// StreamID it was fetched for.
        sid: u32,
        /// Index in the level 1 table.
        index: u32,
        /// log2 of the number of CDs below it.
        split: u32,
    },
    /// A context descriptor.
    Cd {
        /// StreamID it was fetched for.
        sid: u32,
        /// Index in the table.
        ssid: u32,
    },
    /// Stage 1 information: a walk-cache entry, a VA to IPA entry, or a combined VA to PA entry.
    S1 {
        /// Regime.
        regime: Regime,
        /// ASID.
        asid: AsidTag,
        /// Input addresses; `None` where the host chooses the address.
        span: Option<Span>,
        /// Level.
        depth: Depth,
        /// Granule of the stage 1 tables; `None` where the host chooses it.
        granule: Option<Granule>,
    },
    /// Stage 2 information.
    S2 {
        /// VMID.
        vmid: u32,
        /// Input addresses (IPAs).
        span: Span,
        /// Level.
        depth: Depth,
        /// Granule of the stage 2 tables.
        granule: Granule,
    },
}

/// The entries that an invalidation by address selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByAddress {
    /// First address.
    pub first: u64,
    /// Last address.
    pub last: u64,
    /// Only last-level entries must be removed.
    pub leaf: bool,
    /// TG and TTL of the command, where TG is not 0: entries of another granule or level may stay.
    pub hint: Option<(u64, u64)>,
    /// The architecture guarantees nothing for these operands: the command removes no entry.
    pub removes_nothing: bool,
}

/// The entries that an invalidation must remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// CFGI_STE.
    Ste {
        /// StreamID.
        sid: u32,
        /// Leaf = 1: level 1 descriptors may stay.
        leaf: bool,
    },
    /// CFGI_STE_RANGE, CFGI_ALL.
    SteRange {
        /// First StreamID.
        first: u32,
        /// Last StreamID.
        last: u32,
    },
    /// CFGI_CD.
    Cd {
        /// StreamID.
        sid: u32,
        /// SubstreamID.
        ssid: u32,
        /// Leaf = 1: level 1 descriptors may stay.
        leaf: bool,
    },
    /// CFGI_CD_ALL.
    CdAll {
        /// StreamID.
        sid: u32,
    },
    /// TLBI_NH_ALL.
    NhAll {
        /// VMID, and the number of its low bits that are ignored (VMW).
        vmid: VmidMatch,
    },
    /// TLBI_NH_ASID.
    NhAsid {
        /// VMID.
        vmid: VmidMatch,
        /// ASID.
        asid: u32,
    },
    /// TLBI_NH_VA.
    NhVa {
        /// VMID.
        vmid: VmidMatch,
        /// ASID.
        asid: u32,
        /// Addresses.
        by: ByAddress,
    },
    /// TLBI_NH_VAA.
    NhVaa {
        /// VMID.
        vmid: VmidMatch,
        /// Addresses.
        by: ByAddress,
    },
    /// TLBI_EL2_ALL.
    El2All,
    /// TLBI_EL2_ASID.
    El2Asid {
        /// ASID.
        asid: u32,
    },
    /// TLBI_EL2_VA (with an ASID under E2H) and TLBI_EL2_VAA.
    El2Va {
        /// The regime that CR2.E2H selects.
        regime: Regime,
        /// ASID; `None` for all.
        asid: Option<u32>,
        /// Addresses.
        by: ByAddress,
    },
    /// TLBI_S12_VMALL.
    S12Vmall {
        /// VMID.
        vmid: VmidMatch,
    },
    /// TLBI_S2_IPA.
    S2Ipa {
        /// VMID.
        vmid: VmidMatch,
        /// Addresses.
        by: ByAddress,
    },
    /// TLBI_NSNH_ALL.
    NsnhAll,
}

/// VMID operand under CR0.VMW [6.3.9.1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmidMatch {
    /// The operand.
    pub vmid: u32,
    /// Low bits that are ignored.
    pub wildcard: u32,
    /// Upper bits are not zero on an SMMU with 8-bit VMIDs: no entry must match.
    pub removes_nothing: bool,
}

impl VmidMatch {
    fn matches(self, vmid: u32) -> bool {
        !self.removes_nothing && (self.vmid >> self.wildcard) == (vmid >> self.wildcard)
    }
}

/// A consumed invalidation command.
#[derive(Clone, Copy, Debug)]
pub struct Invalidation {
    /// The entries that it must remove.
    pub scope: Scope,
    /// When it was consumed: information that was read before must be removed.
    pub consumed: Time,
    /// When a later SYNC completed; before that, entries may still be cached.
    pub completed: Option<Time>,
}

impl Invalidation {
    /// Whether it is complete at `at`, or `index`, its own, is in `inherited`.
    pub(crate) fn is_done(&self, index: usize, at: Time, inherited: &[usize]) -> bool {
        self.completed.is_some_and(|done| done <= at) || inherited.contains(&index)
    }

    /// Whether it removed every configuration entry, and was complete at `time`.
    pub(crate) fn is_all_config_before(&self, time: Time) -> bool {
        self.completed.is_some_and(|done| done <= time) && self.scope.is_all_config()
    }
}

impl ByAddress {
    fn hits(&self, span: Option<Span>, depth: Depth, granule: Option<Granule>) -> bool {
        let Some(span) = span else { return false };
        if self.removes_nothing || !span.overlaps(self.first, self.last) {
            return false;
        }
        let tables_go = !self.leaf;
        let Some((tg, ttl)) = self.hint else {
            return tables_go || !matches!(depth, Depth::Table(_));
        };
        if granule.is_none_or(|granule| granule.tlbi_tg() != tg) {
            return false;
        }
        match depth {
            Depth::AnyLeaf => ttl == 0,
            Depth::Leaf(level) => ttl == 0 || u64::from(level) == ttl,
            Depth::Table(level) => tables_go && (ttl == 0 || u64::from(level) < ttl),
        }
    }
}

impl Scope {
    /// Whether an entry with `tag` must have been removed when the invalidation is complete.
    #[must_use]
    pub fn covers(&self, tag: &Tag) -> bool {
        match *tag {
            Tag::None => false,
            Tag::L1Std { first, split } => self.covers_l1std(first, split),
            Tag::Ste { sid } => match *self {
                Scope::Ste { sid: s, .. } => s == sid,
                Scope::SteRange { first, last } => (first..=last).contains(&sid),
                _ => false,
            },
            Tag::L1Cd { sid, index, split } => match *self {
                Scope::Cd { sid: s, ssid, leaf } => s == sid && !leaf && ssid >> split == index,
                _ => self.covers_cds_of(sid),
            },
            Tag::Cd { sid, ssid } => match *self {
                Scope::Cd { sid: s, ssid: x, .. } => s == sid && x == ssid,
                _ => self.covers_cds_of(sid),
            },
            Tag::S1 { regime, asid, span, depth, granule } => self.covers_s1(regime, asid, span, depth, granule),
            Tag::S2 { vmid, span, depth, granule } => match *self {
                Scope::S12Vmall { vmid: v } => v.matches(vmid),
                Scope::S2Ipa { vmid: v, by } => v.matches(vmid) && by.hits(Some(span), depth, Some(granule)),
                Scope::NsnhAll => true,
                _ => false,
            },
        }
    }

    fn covers_l1std(&self, first: u32, split: u32) -> bool {
        let last = first | ((1u32.checked_shl(split).unwrap_or(0)).wrapping_sub(1));
        match *self {
            Scope::Ste { sid, leaf } => !leaf && (first..=last).contains(&sid),
            Scope::SteRange { first: f, last: l } => f <= last && first <= l,
            _ => false,
        }
    }

    fn covers_cds_of(&self, sid: u32) -> bool {
        match *self {
            Scope::Ste { sid: s, .. } | Scope::CdAll { sid: s } => s == sid,
            Scope::SteRange { first, last } => (first..=last).contains(&sid),
            _ => false,
        }
    }

    fn covers_s1(
        &self,
        regime: Regime,
        tag: AsidTag,
        span: Option<Span>,
        depth: Depth,
        granule: Option<Granule>,
    ) -> bool {
        let vmid = match regime {
            Regime::El1 { vmid } => Some(vmid),
            Regime::El2 | Regime::El2E2h => None,
        };
        let vm = |m: VmidMatch| vmid.is_some_and(|vmid| m.matches(vmid));
        let by_asid = |asid: u32| tag == AsidTag::Asid(asid);
        let by_asid_or_global = |asid: u32| by_asid(asid) || tag == AsidTag::Global;
        match *self {
            Scope::NhAll { vmid } | Scope::S12Vmall { vmid } => vm(vmid),
            Scope::NsnhAll => vmid.is_some(),
            Scope::NhAsid { vmid, asid } => vm(vmid) && by_asid(asid),
            Scope::NhVa { vmid, asid, by } => vm(vmid) && by_asid_or_global(asid) && by.hits(span, depth, granule),
            Scope::NhVaa { vmid, by } => vm(vmid) && by.hits(span, depth, granule),
            Scope::El2All => vmid.is_none(),
            Scope::El2Asid { asid } => regime == Regime::El2E2h && by_asid(asid),
            Scope::El2Va { regime: w, asid, by } => {
                regime == w && asid.is_none_or(by_asid_or_global) && by.hits(span, depth, granule)
            }
            Scope::Ste { .. }
            | Scope::SteRange { .. }
            | Scope::Cd { .. }
            | Scope::CdAll { .. }
            | Scope::S2Ipa { .. } => false,
        }
    }

    /// Whether it removes every configuration entry.
    #[must_use]
    pub fn is_all_config(&self) -> bool {
        matches!(self, Scope::SteRange { first: 0, last: u32::MAX })
    }
}

#[cfg(test)]
mod tests;
