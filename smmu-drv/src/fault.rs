//! Fault records, decoded for the console.

use core::fmt;

use io_pgtable::{Iova, Ipa};

use crate::spec::events::{self as ev, EventType, RawEvent};
use crate::spec::{get64, mask64};

/// Maximum number of records that are kept for the console until they are taken; others are only counted.
pub const FAULT_LOG: usize = 16;

/// Stage of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Stage 1: the host's tables.
    One,
    /// Stage 2: EL2's tables. An isolation fault.
    Two,
}

/// The access that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A context descriptor.
    Cd,
    /// A stage-1 table.
    Tt,
    /// The transaction's own data.
    In,
    /// A reserved encoding.
    Reserved,
}

/// Direction of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The device read.
    Read,
    /// The device wrote.
    Write,
}

/// One decoded event record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultRecord {
    /// Type; `None` for an encoding that the architecture does not define.
    pub kind: Option<EventType>,
    /// The record as hardware wrote it.
    pub raw: RawEvent,
    /// StreamID.
    pub sid: u32,
    /// SubstreamID, when the transaction had one.
    pub ssid: Option<u32>,
    /// Stage, class, direction and addresses, for types that have them.
    pub detail: Option<FaultDetail>,
}

/// The part of a record that only translation faults have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultDetail {
    /// Stage that faulted.
    pub stage: Stage,
    /// The access that failed.
    pub class: Class,
    /// Direction of the transaction.
    pub direction: Direction,
    /// Address that the device used.
    pub iova: Iova,
    /// IPA that stage 2 does not map; only for stage-2 faults. The low 12 bits are zero.
    pub ipa: Option<Ipa>,
}

impl FaultRecord {
    /// Decodes a record.
    pub fn decode(raw: RawEvent) -> Self {
        let RawEvent([word0, word1, word2, word3]) = raw;
        let kind = EventType::from_bits(get64(ev::ID, word0));
        let ssid = (get64(ev::SSV, word0) == 1).then(|| narrow(get64(ev::SSID, word0)));
        let has_detail = match kind {
            Some(
                EventType::Translation
                | EventType::AddrSize
                | EventType::Access
                | EventType::Permission
                | EventType::WalkEabt
                | EventType::TlbConflict,
            ) => true,
            Some(
                EventType::Uut
                | EventType::BadStreamId
                | EventType::SteFetch
                | EventType::BadSte
                | EventType::BadAtsTreq
                | EventType::StreamDisabled
                | EventType::TranslForbidden
                | EventType::BadSubstreamId
                | EventType::CdFetch
                | EventType::BadCd
                | EventType::CfgConflict
                | EventType::PageRequest
                | EventType::VmsFetch,
            )
            | None => false,
        };
        let detail = has_detail.then(|| {
            let stage = if get64(ev::S2, word1) == 1 { Stage::Two } else { Stage::One };
            let class = match get64(ev::CLASS, word1) {
                ev::CLASS_CD => Class::Cd,
                ev::CLASS_TT => Class::Tt,
                ev::CLASS_IN => Class::In,
                _ => Class::Reserved,
            };
            FaultDetail {
                stage,
                class,
                direction: if get64(ev::RNW, word1) == 1 { Direction::Read } else { Direction::Write },
                iova: Iova(word2),
                ipa: (stage == Stage::Two && kind != Some(EventType::WalkEabt)).then_some(Ipa(word3 & mask64(ev::IPA))),
            }
        });
        Self { kind, raw, sid: narrow(get64(ev::SID, word0)), ssid, detail }
    }
}

fn narrow(value: u64) -> u32 {
    crate::spec::low32(value)
}

impl fmt::Display for FaultRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Some(kind) => f.write_str(kind.name())?,
            None => write!(f, "event {:#x}", get64(ev::ID, self.raw.0[0]))?,
        }
        write!(f, " sid={:#x}", self.sid)?;
        if let Some(ssid) = self.ssid {
            write!(f, " ssid={ssid:#x}")?;
        }
        let Some(detail) = self.detail else {
            return Ok(());
        };
        let stage = match detail.stage {
            Stage::One => 1,
            Stage::Two => 2,
        };
        let class = match detail.class {
            Class::Cd => "CD",
            Class::Tt => "TT",
            Class::In => "IN",
            Class::Reserved => "reserved",
        };
        write!(f, " stage={stage} class={class}")?;
        if let Some(ipa) = detail.ipa {
            write!(f, " ipa={ipa:#x}")?;
        }
        let direction = match detail.direction {
            Direction::Read => "read",
            Direction::Write => "write",
        };
        write!(f, " iova={:#x} {direction}", detail.iova)
    }
}
