//! Transactions: computes all legal outcomes and applies one of them.

use super::Model;
use crate::arch::event::Event;
use crate::arch::{bits, cmd, regs as r};
use crate::config::Cache;
use crate::item::Item;
use crate::stage2::Update;
use crate::transaction::{Access, End, Outcome, Request, Transaction};

/// Result of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// All bytes were transferred.
    Done,
    /// Terminated without an error: reads gave zero, writes were dropped.
    RazWi,
    /// The device got an abort; with the event, if there is one (recorded or not).
    Aborted(Option<Event>),
    /// It waits for CMD_RESUME with this STAG.
    Stalled(u16),
}

/// A transaction that waits.
#[derive(Clone, Debug)]
pub(crate) struct StalledTransaction {
    pub(crate) stag: u16,
    pub(crate) request: Request,
    pub(crate) data: Vec<u8>,
}

impl Model {
    /// The device behind `sid` reads `data.len()` bytes at `iova`.
    pub fn dma_read(&mut self, sid: u32, ssid: Option<u32>, iova: u64, data: &mut [u8]) -> Transfer {
        self.streams.insert(sid);
        let mut at = iova;
        let mut rest = data;
        while !rest.is_empty() {
            let room = usize::try_from(4096 - (at & 4095)).unwrap_or(1).min(rest.len());
            let (head, tail) = rest.split_at_mut(room);
            let request = Request { sid, ssid, address: at, access: Access::Read };
            match self.choose(request) {
                End::Pass { pa, updates } => {
                    self.apply(&updates);
                    if self.mem().dev_read(pa, head).is_err() {
                        return Transfer::Aborted(None);
                    }
                }
                end => {
                    if matches!(end, End::Terminate { razwi: true, .. }) {
                        head.fill(0);
                    }
                    return self.refuse(end, request, &[]);
                }
            }
            at = at.wrapping_add(u64::try_from(room).unwrap_or(0));
            rest = tail;
        }
        Transfer::Done
    }

    /// The device behind `sid` writes `data` at `iova`.
    pub fn dma_write(&mut self, sid: u32, ssid: Option<u32>, iova: u64, data: &[u8]) -> Transfer {
        self.streams.insert(sid);
        let mut at = iova;
        let mut rest = data;
        while !rest.is_empty() {
            let room = usize::try_from(4096 - (at & 4095)).unwrap_or(1).min(rest.len());
            let (head, tail) = rest.split_at(room);
            let request = Request { sid, ssid, address: at, access: Access::Write };
            match self.choose(request) {
                End::Pass { pa, updates } => {
                    self.apply(&updates);
                    if self.mem().dev_write(pa, head).is_err() {
                        return Transfer::Aborted(None);
                    }
                }
                end => return self.refuse(end, request, head),
            }
            at = at.wrapping_add(u64::try_from(room).unwrap_or(0));
            rest = tail;
        }
        Transfer::Done
    }

    pub(crate) fn apply(&mut self, updates: &[Update]) {
        for update in updates {
            self.mem().dev_compare_swap64(update.pa, update.old, update.new);
        }
    }

    pub(crate) fn refuse(&mut self, end: End, request: Request, data: &[u8]) -> Transfer {
        match end {
            End::Pass { .. } => Transfer::Done,
            End::Terminate { event, razwi } => {
                if let Some(event) = event {
                    self.record(event);
                }
                if razwi { Transfer::RazWi } else { Transfer::Aborted(event) }
            }
            End::Stall { mut event } => {
                let stag = self.next_stag;
                self.next_stag = self.next_stag.wrapping_add(1);
                event.stag = Some(stag);
                self.record(event);
                self.stalls.push(StalledTransaction { stag, request, data: data.to_vec() });
                Transfer::Stalled(stag)
            }
        }
    }

    /// Chooses one of the legal outcomes according to the configuration of the model.
    pub(crate) fn choose(&mut self, request: Request) -> End {
        let mut all = self.outcomes(request);
        if self.config().cache == Cache::Random {
            let pick = usize::try_from(self.random()).unwrap_or(0) % all.len().max(1);
            if pick < all.len() {
                return all.swap_remove(pick).end;
            }
        }
        let rank = |outcome: &Outcome| {
            let kind = match outcome.end {
                End::Pass { .. } => 0,
                End::Stall { .. } => 1,
                End::Terminate { .. } => 2,
            };
            (kind, if kind == 0 { outcome.item.since() } else { u64::MAX - outcome.item.since() })
        };
        match all.into_iter().min_by_key(rank) {
            Some(outcome) => outcome.end,
            None => End::Terminate { event: None, razwi: false },
        }
    }

    /// Every legal outcome of a transaction that arrives now.
    pub(crate) fn outcomes(&self, request: Request) -> Vec<Outcome> {
        let mut out = Vec::new();
        let none = || Item::live(vec![], vec![]);
        if self.regs.cr0.maybe_clear(r::CR0_SMMUEN) {
            if self.regs.gbpa.maybe_clear(r::GBPA_ABORT) {
                let fits = request.address >> self.config().oas_bits() == 0;
                let end = if fits {
                    End::Pass { pa: request.address, updates: vec![] }
                } else {
                    End::Terminate { event: None, razwi: false }
                };
                out.push(Outcome { end, item: none() });
            }
            if self.regs.gbpa.maybe(r::GBPA_ABORT) {
                out.push(Outcome { end: End::Terminate { event: None, razwi: false }, item: none() });
            }
        }
        if self.regs.cr0.maybe(r::CR0_SMMUEN) {
            let view = self.view();
            let mut streams = self.streams.clone();
            streams.insert(request.sid);
            let walk = Transaction { view: &view, request, streams: &streams };
            let ends = walk.run();
            out.extend(ends.into_iter().filter(|outcome| view.usable_at(&outcome.item)));
        }
        out
    }

    pub(crate) fn resume(&mut self, sid: u32, stag: u32, retry: bool) {
        let wanted = |s: &StalledTransaction| u32::from(s.stag) == stag && s.request.sid == sid;
        let Some(at) = self.stalls.iter().position(wanted) else {
            return;
        };
        let stall = self.stalls.remove(at);
        let end = if retry { self.retry(&stall) } else { Transfer::Aborted(None) };
        self.completions.push((stall.stag, end));
    }

    fn retry(&mut self, stall: &StalledTransaction) -> Transfer {
        let Request { sid, ssid, address, access } = stall.request;
        match access {
            Access::Read => self.dma_read(sid, ssid, address, &mut [0; 8]),
            Access::Write => self.dma_write(sid, ssid, address, &stall.data),
        }
    }

    pub(crate) fn stall_term(&mut self, sid: u32) {
        let (gone, kept) = std::mem::take(&mut self.stalls).into_iter().partition(|s| s.request.sid == sid);
        self.stalls = kept;
        let gone: Vec<StalledTransaction> = gone;
        self.completions.extend(gone.into_iter().map(|s| (s.stag, Transfer::Aborted(None))));
    }

    pub(crate) fn terminate_stalls(&mut self) {
        let gone = std::mem::take(&mut self.stalls);
        self.completions.extend(gone.into_iter().map(|s| (s.stag, Transfer::Aborted(None))));
    }

    /// Results of stalled transactions since the last call, by STAG.
    pub fn take_completions(&mut self) -> Vec<(u16, Transfer)> {
        std::mem::take(&mut self.completions)
    }

    /// Number of transactions that wait.
    #[must_use]
    pub fn stalled(&self) -> usize {
        self.stalls.len()
    }

    pub(crate) fn atc_invalidate(&mut self, sid: u32, invalidation: cmd::Cmd) {
        // ATCs are in the endpoints: a hostile one may ignore invalidations, so nothing is removed.
        let _ = (sid, bits(invalidation[1], 5, 0));
    }
}
