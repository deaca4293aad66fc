//! Checks a command of the host: one exhaustive match, a pure function.
//!
//! Bits that a command does not define are ignored, as [S 4.1.5] allows: forwarded commands are rebuilt from their fields, so
//! these bits are never written to hardware. Values that are illegal on the emulated SMMU are CERROR_ILL.

use super::ids::HostIds;
use crate::command::{Command, Depth, Extent, Granule};
use crate::spec::commands::{self as cmd, Opcode, RawCmd, cfgi, sync, tlbi};
use crate::spec::registers::idr0;
use crate::spec::{get32, get64, low32, mask64};

/// The host's features on which the check of a command depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandView {
    /// StreamID bits.
    pub sid_bits: u32,
    /// SubstreamID bits.
    pub ssid_bits: u32,
    /// Range invalidation.
    pub ranges: Ranges,
    /// 16-bit ASIDs; 8-bit ones otherwise.
    pub asid_mask: u16,
    /// Completion by MSI.
    pub msi: MsiCompletion,
    /// VMID of the host's streams.
    pub vmid: u16,
}

/// Whether IDR3.RIL is shown to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// It is shown.
    Shown,
    /// It is hidden: the fields are ignored.
    Hidden,
}

/// Whether IDR0.MSI is shown to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsiCompletion {
    /// It is shown.
    Shown,
    /// It is hidden: the fields are ignored.
    Hidden,
}

impl CommandView {
    /// The view of a host with the ID registers `ids`, whose streams have `vmid`.
    pub fn new(ids: &HostIds, vmid: u16) -> Self {
        Self {
            sid_bits: ids.sid_bits(),
            ssid_bits: ids.ssid_bits(),
            ranges: if ids.ril() { Ranges::Shown } else { Ranges::Hidden },
            asid_mask: if get32(idr0::ASID16, ids.idr0) == 1 { 0xffff } else { 0xff },
            msi: if ids.msi() { MsiCompletion::Shown } else { MsiCompletion::Hidden },
            vmid,
        }
    }
}

/// StreamIDs whose configuration changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One stream.
    One {
        /// The StreamID.
        sid: u32,
        /// Whether its level-1 descriptor changed too.
        depth: Depth,
    },
    /// 2^log2 streams from `first` on; `first` is aligned, `log2` is at most the number of StreamID bits minus one.
    Range {
        /// The first StreamID.
        first: u32,
        /// log2 of the number of streams.
        log2: u32,
    },
    /// All streams.
    All,
}

/// How a CMD_SYNC of the host signals its completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// By CONS alone.
    None,
    /// By the wired interrupt.
    Wired,
    /// By a 32-bit store, and by the wired interrupt, which is raised regardless of the address [S 4.7.3].
    Msi {
        /// MSIAddress, not truncated to OAS yet; word aligned.
        address: u64,
        /// MSIData.
        data: u32,
    },
}

/// The handling of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// CERROR_ILL.
    Illegal,
    /// Accept it without effect.
    Drop,
    /// Re-shadow the host's entries, then invalidate.
    Reshadow(Scope),
    /// Queue this for hardware.
    Forward(Command),
    /// Complete all earlier commands, then signal.
    Sync(Signal),
}

/// Checks one command.
pub fn decide(raw: RawCmd, view: &CommandView) -> Decision {
    let [word0, word1] = raw.0;
    let Some(opcode) = Opcode::from_bits(get64(cmd::OPCODE, word0)) else {
        return Decision::Illegal;
    };
    match opcode {
        Opcode::PrefetchConfig | Opcode::PrefetchAddr => prefetch(word0),
        Opcode::CfgiSte => cfgi_ste(word0, word1, view),
        Opcode::CfgiSteRange => cfgi_range(word0, word1, view),
        Opcode::CfgiCd => cfgi_cd(word0, word1, view),
        Opcode::CfgiCdAll => match stream(word0, view) {
            Stream::Secure => Decision::Illegal,
            Stream::OutOfRange => Decision::Drop,
            Stream::Ok(sid) => Decision::Forward(Command::CfgiCdAll { sid }),
        },
        // Limited to the host's VMID: the host must not invalidate translations of other owners.
        Opcode::TlbiNhAll | Opcode::TlbiNsnhAll => Decision::Forward(Command::TlbiNhAll { vmid: view.vmid }),
        Opcode::TlbiNhAsid => Decision::Forward(Command::TlbiNhAsid { vmid: view.vmid, asid: asid(word0, view) }),
        Opcode::TlbiNhVa => match extent(word0, word1, view) {
            None => Decision::Illegal,
            Some(extent) => Decision::Forward(Command::TlbiNhVa {
                vmid: view.vmid,
                asid: asid(word0, view),
                va: word1 & mask64(tlbi::VA),
                extent,
                depth: depth(word1),
            }),
        },
        Opcode::TlbiNhVaa => match extent(word0, word1, view) {
            None => Decision::Illegal,
            Some(extent) => Decision::Forward(Command::TlbiNhVaa {
                vmid: view.vmid,
                va: word1 & mask64(tlbi::VA),
                extent,
                depth: depth(word1),
            }),
        },
        // They need HYP, stage 2, ATS, PRI, stalls, MPAM or DPT, which are hidden from the host.
        Opcode::TlbiEl2All
        | Opcode::TlbiEl2Asid
        | Opcode::TlbiEl2Va
        | Opcode::TlbiEl2Vaa
        | Opcode::TlbiS12Vmall
        | Opcode::TlbiS2Ipa
        | Opcode::AtcInv
        | Opcode::PriResp
        | Opcode::Resume
        | Opcode::StallTerm
        | Opcode::CfgiVmsPidm
        | Opcode::DptiAll
        | Opcode::DptiPa => Decision::Illegal,
        // Illegal on a non-secure queue.
        Opcode::TlbiEl3All
        | Opcode::TlbiEl3Va
        | Opcode::TlbiSEl2All
        | Opcode::TlbiSEl2Asid
        | Opcode::TlbiSEl2Va
        | Opcode::TlbiSEl2Vaa
        | Opcode::TlbiSS12Vmall
        | Opcode::TlbiSS2Ipa
        | Opcode::TlbiSnhAll => Decision::Illegal,
        Opcode::Sync => completion(word0, word1, view),
    }
}

enum Stream {
    Ok(u32),
    OutOfRange,
    Secure,
}

fn secure(word0: u64) -> bool {
    get64(cmd::SSEC, word0) == 1
}

fn prefetch(word0: u64) -> Decision {
    if secure(word0) { Decision::Illegal } else { Decision::Drop }
}

fn exceeds(value: u64, bits: u32) -> bool {
    value.checked_shr(bits).unwrap_or(0) != 0
}

/// The command's StreamID. A StreamID out of range may have no effect [S 4.1.7].
fn stream(word0: u64, view: &CommandView) -> Stream {
    if secure(word0) {
        return Stream::Secure;
    }
    let sid = get64(cmd::SID, word0);
    if exceeds(sid, view.sid_bits) { Stream::OutOfRange } else { Stream::Ok(low32(sid)) }
}

fn depth(word1: u64) -> Depth {
    if get64(tlbi::LEAF, word1) == 1 { Depth::Leaf } else { Depth::Walk }
}

fn asid(word0: u64, view: &CommandView) -> u16 {
    u16::try_from(get64(tlbi::ASID, word0)).unwrap_or(0) & view.asid_mask
}

fn cfgi_ste(word0: u64, word1: u64, view: &CommandView) -> Decision {
    match stream(word0, view) {
        Stream::Secure => Decision::Illegal,
        Stream::OutOfRange => Decision::Drop,
        Stream::Ok(sid) => Decision::Reshadow(Scope::One { sid, depth: depth(word1) }),
    }
}

fn cfgi_range(word0: u64, word1: u64, view: &CommandView) -> Decision {
    if secure(word0) {
        return Decision::Illegal;
    }
    let log2 = low32(get64(cfgi::RANGE, word1)).saturating_add(1);
    if log2 >= view.sid_bits {
        // The range covers all StreamIDs; it begins at 0, if the StreamID is in range.
        let above = get64(cmd::SID, word0).checked_shr(log2).unwrap_or(0) != 0;
        return if above { Decision::Drop } else { Decision::Reshadow(Scope::All) };
    }
    let sid = get64(cmd::SID, word0);
    if exceeds(sid, view.sid_bits) {
        return Decision::Drop;
    }
    let first = low32(sid).checked_shr(log2).and_then(|index| index.checked_shl(log2)).unwrap_or(0);
    Decision::Reshadow(Scope::Range { first, log2 })
}

fn cfgi_cd(word0: u64, word1: u64, view: &CommandView) -> Decision {
    match stream(word0, view) {
        Stream::Secure => Decision::Illegal,
        Stream::OutOfRange => Decision::Drop,
        Stream::Ok(sid) => {
            let ssid = get64(cmd::SSID, word0);
            if exceeds(ssid, view.ssid_bits) {
                return Decision::Drop;
            }
            Decision::Forward(Command::CfgiCd { sid, ssid: low32(ssid), depth: depth(word1) })
        }
    }
}

/// The extent of an invalidation by address; `None` for the reserved encodings of [S 4.4.1.1].
fn extent(word0: u64, word1: u64, view: &CommandView) -> Option<Extent> {
    if view.ranges == Ranges::Hidden {
        return Some(Extent::Single);
    }
    let granule = match get64(tlbi::TG, word1) {
        tlbi::TG_4K => Granule::K4,
        tlbi::TG_16K => Granule::K16,
        tlbi::TG_64K => Granule::K64,
        _ => return Some(Extent::Single),
    };
    let num = get64(tlbi::NUM, word0);
    let scale = get64(tlbi::SCALE, word0);
    // IDR5.DS is 0: a level-1 leaf with the 16K granule is reserved, and handled as any level.
    let ttl = match (granule, get64(tlbi::TTL, word1)) {
        (Granule::K16, 1) => 0,
        (Granule::K4 | Granule::K16 | Granule::K64, ttl) => ttl,
    };
    if (num, scale, ttl) == (0, 0, 0) {
        return None;
    }
    Some(Extent::Range { granule, num, scale, ttl })
}

fn completion(word0: u64, word1: u64, view: &CommandView) -> Decision {
    match get64(sync::CS, word0) {
        // IDR0.SEV is 0: an event request is the same as none [S 4.7.3].
        sync::CS_NONE | sync::CS_SEV => Decision::Sync(Signal::None),
        sync::CS_IRQ => {
            let address = word1 & mask64(sync::MSIADDRESS);
            if address == 0 || view.msi == MsiCompletion::Hidden {
                Decision::Sync(Signal::Wired)
            } else {
                Decision::Sync(Signal::Msi { address, data: low32(get64(sync::MSIDATA, word0)) })
            }
        }
        _ => Decision::Illegal,
    }
}
