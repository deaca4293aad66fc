//! Commands that EL2 itself issues. Each is built from its fields: no bit pattern of the host is written to hardware.
//!
//! At a non-zero reserved bit hardware may report CERROR_ILL and stop the queue [S 4.1.5].

use io_pgtable::Ipa;

use crate::spec::commands::{self as cmd, Opcode, RawCmd, cfgi, sync, tlbi};
use crate::spec::{mask64, put64, union64};

/// The entries that an invalidation covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Intermediate entries too (Leaf == 0).
    Walk,
    /// Last-level entries only (Leaf == 1).
    Leaf,
}

impl Depth {
    fn bit(self) -> u64 {
        match self {
            Self::Walk => 0,
            Self::Leaf => 1,
        }
    }
}

/// Translation granule of a range invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granule {
    /// 4K.
    K4,
    /// 16K.
    K16,
    /// 64K.
    K64,
}

impl Granule {
    fn bits(self) -> u64 {
        match self {
            Self::K4 => tlbi::TG_4K,
            Self::K16 => tlbi::TG_16K,
            Self::K64 => tlbi::TG_64K,
        }
    }
}

/// Extent of an invalidation by address [S 4.4.1.1].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The address alone, any granule and level (TG == 0).
    Single,
    /// (num + 1) << scale granules, with a level hint.
    Range {
        /// Granule.
        granule: Granule,
        /// 0 to 31.
        num: u64,
        /// 0 to 31.
        scale: u64,
        /// 0: any level.
        ttl: u64,
    },
}

/// A command for EL2's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// CMD_CFGI_STE.
    CfgiSte {
        /// StreamID.
        sid: u32,
        /// Depth.
        depth: Depth,
    },
    /// CMD_CFGI_STE_RANGE over 2^(range + 1) StreamIDs; `range` is 0 to 30.
    CfgiSteRange {
        /// A StreamID in the range.
        sid: u32,
        /// log2 of the count, minus one.
        range: u32,
    },
    /// CMD_CFGI_ALL.
    CfgiAll,
    /// CMD_CFGI_CD.
    CfgiCd {
        /// StreamID.
        sid: u32,
        /// SubstreamID.
        ssid: u32,
        /// Depth.
        depth: Depth,
    },
    /// CMD_CFGI_CD_ALL.
    CfgiCdAll {
        /// StreamID.
        sid: u32,
    },
    /// CMD_TLBI_NH_ALL.
    TlbiNhAll {
        /// VMID.
        vmid: u16,
    },
    /// CMD_TLBI_NH_ASID.
    TlbiNhAsid {
        /// VMID.
        vmid: u16,
        /// ASID.
        asid: u16,
    },
    /// CMD_TLBI_NH_VA.
    TlbiNhVa {
        /// VMID.
        vmid: u16,
        /// ASID.
        asid: u16,
        /// Virtual address.
        va: u64,
        /// Extent.
        extent: Extent,
        /// Depth.
        depth: Depth,
    },
    /// CMD_TLBI_NH_VAA.
    TlbiNhVaa {
        /// VMID.
        vmid: u16,
        /// Virtual address.
        va: u64,
        /// Extent.
        extent: Extent,
        /// Depth.
        depth: Depth,
    },
    /// CMD_TLBI_S2_IPA.
    TlbiS2Ipa {
        /// VMID.
        vmid: u16,
        /// Address.
        ipa: Ipa,
        /// Extent.
        extent: Extent,
        /// Depth.
        depth: Depth,
    },
    /// CMD_TLBI_S12_VMALL.
    TlbiS12Vmall {
        /// VMID.
        vmid: u16,
    },
    /// CMD_TLBI_NSNH_ALL.
    TlbiNsnhAll,
    /// CMD_TLBI_EL2_ALL.
    TlbiEl2All,
    /// CMD_SYNC without completion signal.
    Sync,
}

impl Command {
    /// The StreamID of a command for one stream; `None` for ranges and for other commands.
    pub(crate) fn stream(self) -> Option<u32> {
        match self {
            Self::CfgiSte { sid, .. } | Self::CfgiCd { sid, .. } | Self::CfgiCdAll { sid } => Some(sid),
            Self::CfgiSteRange { .. }
            | Self::CfgiAll
            | Self::TlbiNhAll { .. }
            | Self::TlbiNhAsid { .. }
            | Self::TlbiNhVa { .. }
            | Self::TlbiNhVaa { .. }
            | Self::TlbiS2Ipa { .. }
            | Self::TlbiS12Vmall { .. }
            | Self::TlbiNsnhAll
            | Self::TlbiEl2All
            | Self::Sync => None,
        }
    }

    /// Its encoding; every bit outside the fields is zero.
    pub fn encode(self) -> RawCmd {
        match self {
            Self::CfgiSte { sid, depth } => {
                RawCmd([union64([op(Opcode::CfgiSte), stream(sid)]), put64(cfgi::LEAF, depth.bit())])
            }
            Self::CfgiSteRange { sid, range } => {
                RawCmd([union64([op(Opcode::CfgiSteRange), stream(sid)]), put64(cfgi::RANGE, u64::from(range))])
            }
            Self::CfgiAll => RawCmd([op(Opcode::CfgiSteRange), put64(cfgi::RANGE, cfgi::RANGE_ALL)]),
            Self::CfgiCd { sid, ssid, depth } => RawCmd([
                union64([op(Opcode::CfgiCd), stream(sid), put64(cmd::SSID, u64::from(ssid))]),
                put64(cfgi::LEAF, depth.bit()),
            ]),
            Self::CfgiCdAll { sid } => RawCmd([union64([op(Opcode::CfgiCdAll), stream(sid)]), 0]),
            Self::TlbiNhAll { vmid } => RawCmd([union64([op(Opcode::TlbiNhAll), tag(vmid)]), 0]),
            Self::TlbiNhAsid { vmid, asid } => RawCmd([union64([op(Opcode::TlbiNhAsid), tag(vmid), space(asid)]), 0]),
            Self::TlbiNhVa { vmid, asid, va, extent, depth } => by_address(
                union64([op(Opcode::TlbiNhVa), tag(vmid), space(asid)]),
                va & mask64(tlbi::VA),
                extent,
                depth,
            ),
            Self::TlbiNhVaa { vmid, va, extent, depth } => {
                by_address(union64([op(Opcode::TlbiNhVaa), tag(vmid)]), va & mask64(tlbi::VA), extent, depth)
            }
            Self::TlbiS2Ipa { vmid, ipa, extent, depth } => {
                by_address(union64([op(Opcode::TlbiS2Ipa), tag(vmid)]), ipa.0 & mask64(tlbi::IPA), extent, depth)
            }
            Self::TlbiS12Vmall { vmid } => RawCmd([union64([op(Opcode::TlbiS12Vmall), tag(vmid)]), 0]),
            Self::TlbiNsnhAll => RawCmd([op(Opcode::TlbiNsnhAll), 0]),
            Self::TlbiEl2All => RawCmd([op(Opcode::TlbiEl2All), 0]),
            Self::Sync => RawCmd([union64([op(Opcode::Sync), put64(sync::CS, sync::CS_NONE)]), 0]),
        }
    }
}

fn op(opcode: Opcode) -> u64 {
    put64(cmd::OPCODE, opcode.bits())
}

fn stream(sid: u32) -> u64 {
    put64(cmd::SID, u64::from(sid))
}

fn tag(vmid: u16) -> u64 {
    put64(tlbi::VMID, u64::from(vmid))
}

fn space(asid: u16) -> u64 {
    put64(tlbi::ASID, u64::from(asid))
}

fn by_address(word0: u64, address: u64, extent: Extent, depth: Depth) -> RawCmd {
    let leaf = put64(tlbi::LEAF, depth.bit());
    match extent {
        Extent::Single => RawCmd([word0, union64([address, leaf])]),
        Extent::Range { granule, num, scale, ttl } => RawCmd([
            union64([word0, put64(tlbi::NUM, num), put64(tlbi::SCALE, scale)]),
            union64([address, leaf, put64(tlbi::TTL, ttl), put64(tlbi::TG, granule.bits())]),
        ]),
    }
}
