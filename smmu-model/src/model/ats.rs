//! ATS: translation requests, and Translated transactions [IHI 0070G 3.9].

use super::{Model, Transfer};
use crate::arch::event::{self, Class};
use crate::arch::regs as r;
use crate::item::Item;
use crate::stages::{CachedSte, Lookup, SteKind};
use crate::transaction::{Access, End, Request, Transaction, blank};

/// Answer to an ATS translation request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtsReply {
    /// The address to use in Translated transactions.
    Granted {
        /// PA, or IPA under split-stage ATS.
        address: u64,
    },
    /// No access (R = W = 0).
    NoAccess,
    /// Unsupported Request or Completer Abort.
    Refused,
}

impl Model {
    /// An ATS translation request.
    pub fn ats_translate(&mut self, sid: u32, ssid: Option<u32>, iova: u64, access: Access) -> AtsReply {
        self.streams.insert(sid);
        if !self.config().ats || !self.regs.cr0.is(r::CR0_SMMUEN) {
            return AtsReply::Refused;
        }
        let request = Request { sid, ssid, address: iova, access };
        let found = {
            let view = self.view();
            let mut ends = view.lookup(sid).into_iter().filter_map(|lookup| match lookup {
                Lookup::Found(ste) => Some(ste),
                Lookup::BadStreamId(_) | Lookup::Abort(..) => None,
            });
            ends.find(|ste| view.usable_at(&Item::live(vec![], vec![ste.item.clone()])))
        };
        let Some(CachedSte { kind: SteKind::Translate(stages), .. }) = found else {
            return AtsReply::Refused;
        };
        match stages.eats {
            0b01 => match self.choose(request) {
                End::Pass { pa, updates } => {
                    self.apply(&updates);
                    AtsReply::Granted { address: pa & !0xfff }
                }
                End::Stall { .. } | End::Terminate { .. } => AtsReply::NoAccess,
            },
            // Split stage: the endpoint gets the IPA. A hostile device can also send any other IPA.
            0b10 => AtsReply::Granted { address: iova & !0xfff },
            _ => {
                let event = blank(event::F_BAD_ATS_TREQ, &request, Class::In);
                self.record(event);
                AtsReply::Refused
            }
        }
    }

    /// The device behind `sid` writes `data` in a transaction that is marked Translated.
    pub fn dma_write_translated(&mut self, sid: u32, address: u64, data: &[u8]) -> Transfer {
        self.streams.insert(sid);
        let request = Request { sid, ssid: None, address, access: Access::Write };
        if !self.config().ats || !self.regs.cr0.is(r::CR0_SMMUEN) {
            return Transfer::Aborted(None);
        }
        let write_at = |model: &mut Self, pa: u64| {
            if model.mem().dev_write(pa, data).is_err() { Transfer::Aborted(None) } else { Transfer::Done }
        };
        if self.regs.cr0.maybe_clear(r::CR0_ATSCHK) {
            return write_at(self, address);
        }
        let ends = {
            let view = self.view();
            let streams = self.streams.clone();
            let walk = Transaction { view: &view, request, streams: &streams };
            let mut ends = walk.translated();
            ends.retain(|outcome| view.usable_at(&outcome.item));
            ends
        };
        let best = ends.into_iter().min_by_key(|o| u8::from(!matches!(o.end, End::Pass { .. })));
        match best.map(|outcome| outcome.end) {
            Some(End::Pass { pa, .. }) => write_at(self, pa),
            Some(end) => self.refuse(end, request, data),
            None => Transfer::Aborted(None),
        }
    }
}
