//! Changes of a stream's owner by EL2, between any two actions of the host.

use mem_protect::{GuestId, Transition, UncheckedRange};
use smmu_drv::{AssignError, RetireError, SmmuError, StreamRange};
use smmu_model::{Cache, Transfer};

use super::value::{SIDS, pick};
use super::{Execution, Finding};
use crate::machine::{NotAssigned, StreamUser};

/// Numbers of streams: part of a block, a block, and one more than the maximum of one change of owner.
const COUNTS: [u32; 8] = [1, 1, 1, 2, 55, 64, 256, 257];

/// The streams that two bytes select.
pub(super) fn range(sid: u8, count: u8) -> StreamRange {
    let first = pick(&SIDS, sid);
    StreamRange::new(first, pick(&COUNTS, count)).unwrap_or(StreamRange::one(first))
}

impl Execution {
    pub(super) fn assign(&mut self, n: usize, streams: StreamRange, guest: u8) -> Result<(), Finding> {
        self.streams_change();
        if self.guests.is_empty() {
            self.transition(Transition::VmCreate, 0, 0);
        }
        let Some(guest) = self.guest(guest) else { return Ok(()) };
        match self.cached.m.assign(n, streams, guest) {
            Ok(()) => self.check_service(n, streams.first(), guest),
            Err(NotAssigned::NoDomain) => Ok(()),
            Err(NotAssigned::Refused(error)) => self.check_refusal(n, error),
        }
    }

    pub(super) fn block(&mut self, n: usize, streams: StreamRange) -> Result<(), Finding> {
        self.streams_change();
        self.cached.m.block(n, streams).or_else(|error| self.check_refusal(n, error))
    }

    pub(super) fn release(&mut self, n: usize, streams: StreamRange) -> Result<(), Finding> {
        self.streams_change();
        self.cached.m.release(n, streams).or_else(|error| self.check_refusal(n, error))
    }

    pub(super) fn retire(&mut self, domain: u8) -> Result<(), Finding> {
        self.streams_change();
        let domains = self.cached.m.domains();
        if domains.is_empty() {
            return Ok(());
        }
        match self.cached.m.retire(pick(&domains, domain)) {
            Ok(()) | Err(RetireError::InUse) => Ok(()),
            Err(RetireError::Failed(error)) => self.check_failure(error),
        }
    }

    pub(super) fn guest_page(&mut self, guest: u8, page: u64, how: u8) {
        self.streams_change();
        let Some(guest) = self.guest(guest) else { return };
        let (range, guest) = (UncheckedRange { pfn: page >> 12, count: 1 }, guest.handle().into());
        if how & 1 == 1 {
            self.cached.m.map_for_guest(range, guest);
        } else {
            // If it fails, the guest keeps the page.
            let _ = self.cached.m.unmap_for_guest(range, guest);
        }
    }

    fn guest(&self, number: u8) -> Option<GuestId> {
        (!self.guests.is_empty()).then(|| pick(&self.guests, number)).and_then(GuestId::new)
    }

    fn streams_change(&mut self) {
        self.last_check = None;
        self.audited.clear_tables();
    }

    /// A device may transfer only bytes of an owner of its stream. The host's streams have a stage 1; the oracle
    /// checks them.
    pub(super) fn check_transfer(&self, n: usize, sid: u32, pa: u64, transfer: &Transfer) -> Result<(), Finding> {
        let m = &self.cached.m;
        if *transfer != Transfer::Done || m.users(n, sid).contains(&StreamUser::Host) || m.may_reach(n, sid, pa) {
            return Ok(());
        }
        Err(Finding::ForeignAccess(format!("SMMU {n}: stream {sid:#x} reached {pa:#x}")))
    }

    /// A stream that was just assigned reaches a page of its guest.
    fn check_service(&self, n: usize, sid: u32, guest: GuestId) -> Result<(), Finding> {
        let Some(page) = self.cached.m.page_of(guest) else { return Ok(()) };
        let mut model = self.cached.m.models[n].borrow_mut();
        let cache = model.set_cache(Cache::None);
        let transfer = model.dma_read(sid, None, page, &mut [0]);
        model.set_cache(cache);
        if transfer == Transfer::Done {
            return Ok(());
        }
        Err(Finding::Stuck(format!(
            "SMMU {n}: stream {sid:#x} was assigned and does not reach {page:#x}: {transfer:?}"
        )))
    }

    /// Checks that the reason for a refused assignment is true.
    fn check_refusal(&self, n: usize, error: AssignError) -> Result<(), Finding> {
        match error {
            AssignError::Range | AssignError::NoMemory | AssignError::TooMany => Ok(()),
            AssignError::Quiesced if self.drivers[n].quiesced => Ok(()),
            AssignError::Failed(error) => self.check_failure(error),
            AssignError::BadStage2(_) | AssignError::VmidInUse | AssignError::NotBlocked | AssignError::Quiesced => {
                Err(Finding::Stuck(format!("SMMU {n}: {error}")))
            }
        }
    }

    fn check_failure(&self, error: SmmuError) -> Result<(), Finding> {
        if self.drivers.iter().any(|driver| driver.may_fail) {
            return Ok(());
        }
        Err(Finding::Stuck(format!("an SMMU failed while streams changed their owner: {error}")))
    }

    /// Gives every stream to the host and ends every domain, as long as hardware works.
    pub(super) fn release_all(&mut self) -> Result<(), Finding> {
        let usable = |driver: &super::Driver| !driver.may_fail && !driver.quiesced;
        for n in (0..self.drivers.len()).filter(|n| usable(&self.drivers[*n])).collect::<Vec<_>>() {
            for streams in self.cached.m.given(n) {
                self.streams_change();
                let released = self.cached.m.release(n, streams);
                released.map_err(|error| Finding::Stuck(format!("SMMU {n}: release {streams:x?}: {error}")))?;
            }
        }
        if self.drivers.iter().all(usable) {
            for domain in self.cached.m.domains() {
                let retired = self.cached.m.retire(domain);
                retired.map_err(|error| Finding::Stuck(format!("{domain:?}: {error:?}")))?;
            }
        }
        self.check()
    }
}
