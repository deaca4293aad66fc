//! Conversion of fault records for the host: an allow-list of event types, each record built from its fields.
//!
//! The host's SMMU has only stage 1, so a stage-2 fault is converted to the record of such an SMMU for an address
//! without memory:
//!
//! - of a CD fetch (CLASS=CD): the fetch gets an external abort, F_CD_FETCH [S 7.3.10];
//! - of a stage-1 walk (CLASS=TT): the walk gets an external abort, F_WALK_EABT with S2=0, CLASS=TT [S 7.3.12];
//! - above the emulated output size, the SMMU would have terminated it before any access [S 3.4]: a CD whose
//!   L1CD.L2Ptr is out of range is C_BAD_SUBSTREAMID [S 3.4.3], all other addresses F_ADDR_SIZE with S2=0. Hardware's
//!   output size may be larger, so EL2 checks this. A CD.TTB out of range would be C_BAD_CD: hardware does not
//!   distinguish it from the lower tables, so its fault is converted like theirs.
//! - of the transaction itself (CLASS=IN): the SMMU has translated it; the abort comes from the interconnect, and
//!   the SMMU records nothing. So the host gets no record; EL2 logs it as a blocked access.
//!
//! The reported fetch addresses are IPAs that the host chose itself. Faults of EL2's own structures (F_STE_FETCH,
//! aborts on stage-2 walks) are not reported. Types of hidden features cannot occur and are not reported.

use super::VirtualSmmu;
use super::fetch::HostEntry;
use super::strtab::Walk;
use crate::fault::{Class, FaultRecord, Stage};
use crate::platform::HostMemory;
use crate::smmu::budget::Budget;
use crate::spec::events::{self as ev, EventType, RawEvent};
use crate::spec::registers::cr2::Cr2;
use crate::spec::{mask64, put64, union64};

/// The host's record for a record of hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostEvent {
    /// No record.
    Hidden,
    /// This record.
    Show(RawEvent),
    /// The shadow entry is missing or invalid: the host's record depends on the host's table.
    Configuration,
}

/// SubstreamID and StreamID.
const IDENTITY: u64 = union64([mask64(ev::SSV), mask64(ev::SSID), mask64(ev::SID)]);
/// Type, SubstreamID and StreamID.
const HEADER: u64 = union64([mask64(ev::ID), IDENTITY]);
/// Attributes of the transaction.
const ATTRIBUTES: u64 = union64([mask64(ev::PNU), mask64(ev::IND), mask64(ev::RNW)]);

/// Converts one record; pure. `beyond` are the address bits above the emulated output size.
pub(super) fn convert(record: &FaultRecord, beyond: u64) -> HostEvent {
    let Some(kind) = record.kind else {
        return HostEvent::Hidden;
    };
    let RawEvent([word0, word1, word2, word3]) = record.raw;
    let header = word0 & HEADER;
    match kind {
        EventType::BadStreamId | EventType::BadSte => HostEvent::Configuration,
        EventType::StreamDisabled | EventType::BadSubstreamId | EventType::BadCd => {
            HostEvent::Show(RawEvent([header, 0, 0, 0]))
        }
        EventType::Uut => HostEvent::Show(RawEvent([header, word1 & ATTRIBUTES, word2, 0])),
        EventType::CdFetch => HostEvent::Show(RawEvent([header, 0, 0, word3 & mask64(ev::FETCH_ADDR)])),
        EventType::WalkEabt
        | EventType::Translation
        | EventType::AddrSize
        | EventType::Access
        | EventType::Permission
        | EventType::TlbConflict => translation(kind, record, beyond),
        EventType::SteFetch
        | EventType::BadAtsTreq
        | EventType::TranslForbidden
        | EventType::CfgConflict
        | EventType::PageRequest
        | EventType::VmsFetch => HostEvent::Hidden,
    }
}

fn translation(kind: EventType, record: &FaultRecord, beyond: u64) -> HostEvent {
    let RawEvent([word0, word1, word2, word3]) = record.raw;
    let Some(detail) = record.detail else {
        return HostEvent::Hidden;
    };
    let header = |kind: EventType| union64([word0 & IDENTITY, put64(ev::ID, kind.bits())]);
    if detail.stage == Stage::One {
        let fetched = if kind == EventType::WalkEabt { word3 & mask64(ev::FETCH_ADDR) } else { 0 };
        return HostEvent::Show(RawEvent([
            word0 & HEADER,
            word1 & union64([ATTRIBUTES, mask64(ev::CLASS)]),
            word2,
            fetched,
        ]));
    }
    let Some(ipa) = detail.ipa else {
        // An external abort of a stage-2 walk.
        return HostEvent::Hidden;
    };
    if ipa.0 & beyond != 0 {
        return above_output_size(kind, detail.class, record);
    }
    match (kind, detail.class) {
        (EventType::TlbConflict, _) | (_, Class::In | Class::Reserved) => HostEvent::Hidden,
        (_, Class::Cd) => HostEvent::Show(RawEvent([header(EventType::CdFetch), 0, 0, ipa.0])),
        (_, Class::Tt) => HostEvent::Show(RawEvent([
            header(EventType::WalkEabt),
            union64([word1 & ATTRIBUTES, put64(ev::CLASS, ev::CLASS_TT)]),
            word2,
            ipa.0,
        ])),
    }
}

/// A stage-2 fault above the emulated output size.
fn above_output_size(kind: EventType, class: Class, record: &FaultRecord) -> HostEvent {
    let RawEvent([word0, word1, word2, _]) = record.raw;
    let typed = |kind: EventType, identity: u64| union64([word0 & identity, put64(ev::ID, kind.bits())]);
    match (kind, class) {
        (EventType::TlbConflict, _) | (_, Class::Reserved) => HostEvent::Hidden,
        // SubstreamID is always valid in this type, which has no SSV [S 7.3.9].
        (_, Class::Cd) => {
            HostEvent::Show(RawEvent([typed(EventType::BadSubstreamId, IDENTITY & !mask64(ev::SSV)), 0, 0, 0]))
        }
        (_, Class::In | Class::Tt) => HostEvent::Show(RawEvent([
            typed(EventType::AddrSize, IDENTITY),
            word1 & union64([ATTRIBUTES, mask64(ev::CLASS)]),
            word2,
            0,
        ])),
    }
}

impl<C> VirtualSmmu<C> {
    /// The host's record for a shadow entry that is missing or invalid. The reason is in the host's table, which may have another size
    /// or split than the shadow table, or be outside the host's memory.
    pub(super) fn reclassify<H: HostMemory<Claim = C>>(
        &self,
        host_mem: &mut H,
        walk: &mut Walk<C>,
        budget: &mut Budget,
        record: &FaultRecord,
    ) -> Option<RawEvent> {
        let RawEvent([word0, ..]) = record.raw;
        let typed = |kind: EventType, word3: u64| {
            RawEvent([union64([word0 & IDENTITY, put64(ev::ID, kind.bits())]), 0, 0, word3])
        };
        let recorded = self.regs.cr2.contains(Cr2::RECINVSID);
        let bad_stream_id = || recorded.then(|| typed(EventType::BadStreamId, 0));
        if record.sid.checked_shr(self.view.sid_bits).unwrap_or(0) != 0 {
            return bad_stream_id();
        }
        match self.host_entry(host_mem, walk, budget, record.sid) {
            HostEntry::OutOfRange => bad_stream_id(),
            HostEntry::Unreadable(address) => Some(typed(EventType::SteFetch, address & mask64(ev::FETCH_ADDR))),
            HostEntry::BadSte => Some(typed(EventType::BadSte, 0)),
            // The entry is valid but has no shadow entry: not invalidated yet, or EL2 had no memory for it.
            HostEntry::Legal => match record.kind {
                Some(EventType::BadStreamId) => bad_stream_id(),
                _ => Some(typed(EventType::BadSte, 0)),
            },
        }
    }
}

#[cfg(test)]
mod tests;
