//! Guests with devices: their domains and the owners of streams.
//!
//! The EL2 of these tests. A domain belongs to one guest: a VMID and a table with the guest's pages. It is created for
//! the guest's first stream, and ends when its VMID is retired on every SMMU. A page is mapped in the table after it
//! was unmapped for the host, and unmapped, with an invalidation on every SMMU, before the host gets it.

use std::collections::BTreeSet;

use io_pgtable::Ipa;
use mem_protect::{Error, GuestId, GuestLife, Owner as PageOwner, PAGE_BYTES, PageRange, Transition, UncheckedRange};
use smmu_drv::{AssignError, RetireError, SmmuError, Stage2Cfg, Stale, StreamOwner, StreamRange};

use super::Machine;
use super::guest_table::GuestTable;
use crate::defects::Defect;
use crate::layout;
use crate::owner::narrowed;

/// VMIDs of domains: few, so that they are reused.
const VMIDS: [u16; 3] = [2, 3, 4];

/// A domain of this machine; a number is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DomainId(u32);

/// An owner of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamUser {
    /// The host.
    Host,
    /// The guest of a domain.
    Domain(DomainId),
}

/// Why a stream was not assigned to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAssigned {
    /// The guest is not alive, or there is no free VMID.
    NoDomain,
    /// The driver refused.
    Refused(AssignError),
}

struct Domain {
    id: DomainId,
    guest: GuestId,
    /// Whether the guest was destroyed.
    dying: bool,
    vmid: u16,
    area: usize,
    table: GuestTable,
}

/// Streams that changed their owner.
#[derive(Clone, Debug)]
struct Given {
    streams: StreamRange,
    /// Empty for a blocked stream; several if hardware failed during the last change.
    users: BTreeSet<StreamUser>,
    /// Hardware failed during the last change: each of `users` may be the owner, or none.
    failed: bool,
}

/// The domains of a machine.
#[derive(Default)]
pub(crate) struct Domains {
    list: Vec<Domain>,
    /// For each SMMU, in the order of time: the last change of a stream is valid.
    given: Vec<Vec<Given>>,
    /// Number of changes.
    changes: u64,
    made: u32,
}

impl Domains {
    /// Number of changes of domains and of streams' owners.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    fn get(&self, id: DomainId) -> Option<&Domain> {
        self.list.iter().find(|domain| domain.id == id)
    }

    /// The last change of owner of stream `sid` of SMMU `n`, if it changed.
    fn given(&self, n: usize, sid: u32) -> Option<&Given> {
        let covers = |given: &&Given| (given.streams.first()..=given.streams.last()).contains(&sid);
        self.given.get(n).and_then(|given| given.iter().rev().find(covers))
    }

    /// The owners of stream `sid` of SMMU `n`.
    pub(super) fn users(&self, n: usize, sid: u32) -> BTreeSet<StreamUser> {
        self.given(n, sid).map_or_else(|| BTreeSet::from([StreamUser::Host]), |given| given.users.clone())
    }

    /// The owners of stream `sid` that the driver of SMMU `n` may report.
    fn owners(&self, n: usize, sid: u32) -> Vec<StreamOwner> {
        let users = self.users(n, sid);
        let blocked = users.is_empty() || self.given(n, sid).is_some_and(|given| given.failed);
        let owner = |user| match user {
            StreamUser::Host => StreamOwner::Host,
            StreamUser::Domain(id) => StreamOwner::Domain(self.get(id).map_or(0, |domain| domain.vmid)),
        };
        users.into_iter().map(owner).chain(blocked.then_some(StreamOwner::Blocked)).collect()
    }

    /// The guest of a domain, if page `pfn` is in its table.
    pub(super) fn guest_with_page(&self, id: DomainId, pfn: u64) -> Option<GuestId> {
        self.get(id).filter(|domain| domain.table.may_reach(pfn)).map(|domain| domain.guest)
    }

    /// Records the end of a change of owner.
    fn record(&mut self, n: usize, streams: StreamRange, next: Option<StreamUser>, end: Result<(), AssignError>) {
        self.changes += 1;
        if self.given.len() <= n {
            self.given.resize_with(n + 1, Vec::new);
        }
        let overlaps =
            |given: &Given| given.streams.first() <= streams.last() && given.streams.last() >= streams.first();
        let mut users: BTreeSet<_> = next.into_iter().collect();
        match end {
            Ok(()) => self.given[n]
                .retain(|given| given.streams.first() < streams.first() || given.streams.last() > streams.last()),
            Err(AssignError::Failed(_)) => {
                // Each stream reaches nothing, or the memory of its old owner, or that of its new owner.
                users.insert(StreamUser::Host);
                users
                    .extend(self.given[n].iter().filter(|given| overlaps(given)).flat_map(|given| given.users.clone()));
            }
            Err(_) => return,
        }
        self.given[n].push(Given { streams, users, failed: end.is_err() });
    }
}

impl Machine {
    /// The domain of a live guest; created if it has none yet.
    fn domain_for(&mut self, guest: GuestId) -> Option<DomainId> {
        let known = self.domains.list.iter().find(|domain| domain.guest == guest && !domain.dying);
        if let Some(domain) = known {
            return Some(domain.id);
        }
        let used = |vmid: u16| self.domains.list.iter().any(|domain| domain.vmid == vmid);
        let vmid = VMIDS.into_iter().find(|vmid| !used(*vmid))?;
        // Another area than that of the previous domain, so that the same VMID gets another table.
        let areas = usize::try_from(layout::GUEST_TABLES_BYTES / layout::GUEST_TABLE_BYTES).unwrap_or(1);
        let first = usize::try_from(self.domains.made).unwrap_or(0);
        let free = |area: &usize| self.domains.list.iter().all(|domain| domain.area != *area);
        let area = (first..first + areas).map(|area| area % areas).find(free)?;
        let mut table = GuestTable::new(self.mem.clone(), area);
        let owner = self.owner();
        if owner.guest_life(guest) != GuestLife::Alive {
            return None;
        }
        let pages = owner.map().runs_of(PageOwner::Guest(guest)).flat_map(PageRange::pfns);
        pages.for_each(|pfn| table.map(pfn));
        self.domains.changes += 1;
        self.domains.made += 1;
        let id = DomainId(self.domains.made);
        self.domains.list.push(Domain { id, guest, dying: false, vmid, area, table });
        Some(id)
    }

    /// The stage 2 of the host's streams.
    fn host_stage2(&mut self) -> Stage2Cfg {
        let vmid = self.setup.vmid;
        self.owner().dma().config(vmid)
    }

    /// Assigns streams of SMMU `n` to a guest.
    ///
    /// # Errors
    /// See [`NotAssigned`].
    pub fn assign(&mut self, n: usize, streams: StreamRange, guest: GuestId) -> Result<(), NotAssigned> {
        let id = self.domain_for(guest).ok_or(NotAssigned::NoDomain)?;
        let host = self.host_stage2();
        let domain = self.domains.get(id).ok_or(NotAssigned::NoDomain)?;
        let config = domain.table.config(host, domain.vmid);
        self.block(n, streams).map_err(NotAssigned::Refused)?;
        let end = self.driver(n, |smmu, _| smmu.assign(streams, &config));
        self.domains.record(n, streams, Some(StreamUser::Domain(id)), end);
        end.map_err(NotAssigned::Refused)
    }

    /// Blocks streams of SMMU `n`.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn block(&mut self, n: usize, streams: StreamRange) -> Result<(), AssignError> {
        let end = self.driver(n, |smmu, owner| smmu.block(owner, streams));
        self.domains.record(n, streams, None, end);
        end
    }

    /// Releases streams of SMMU `n` to the host.
    ///
    /// # Errors
    /// See [`AssignError`].
    pub fn release(&mut self, n: usize, streams: StreamRange) -> Result<(), AssignError> {
        self.block(n, streams)?;
        let end = self.driver(n, |smmu, owner| smmu.release(owner, streams));
        self.domains.record(n, streams, Some(StreamUser::Host), end);
        end
    }

    /// The ranges of streams of SMMU `n` that were assigned, released or blocked, in the order of time.
    #[must_use]
    pub fn given(&self, n: usize) -> Vec<StreamRange> {
        self.domains.given.get(n).map_or_else(Vec::new, |given| given.iter().map(|given| given.streams).collect())
    }

    /// The VMID of a live guest's domain.
    #[must_use]
    pub fn vmid_of(&self, guest: GuestId) -> Option<u16> {
        self.domains.list.iter().find(|domain| domain.guest == guest && !domain.dying).map(|domain| domain.vmid)
    }

    /// The address of a page in the table of a live guest.
    #[must_use]
    pub fn page_of(&self, guest: GuestId) -> Option<u64> {
        let domain = self.domains.list.iter().find(|domain| domain.guest == guest && !domain.dying);
        domain.and_then(|domain| domain.table.first())
    }

    /// All domains, oldest first.
    #[must_use]
    pub fn domains(&self) -> Vec<DomainId> {
        self.domains.list.iter().map(|domain| domain.id).collect()
    }

    /// Retires a domain without streams: its VMID and its table are free.
    ///
    /// # Errors
    /// The error of the first SMMU that has one. The domain is kept.
    pub fn retire(&mut self, id: DomainId) -> Result<(), RetireError> {
        let Some(at) = self.domains.list.iter().position(|domain| domain.id == id) else { return Ok(()) };
        let vmid = self.domains.list[at].vmid;
        for n in 0..self.models.len() {
            self.driver(n, |smmu, _| smmu.retire(vmid))?;
        }
        self.domains.changes += 1;
        self.domains.list.remove(at).table.clear();
        Ok(())
    }

    /// A transition, with the guests' tables: see the module documentation.
    ///
    /// # Errors
    /// Those of the ownership map; [`Error::NotCompleted`] if an SMMU did not complete an invalidation.
    pub fn apply(&mut self, transition: Transition) -> Result<Option<GuestId>, Error> {
        if let Transition::HostReclaimPage(range) = transition
            && let Ok(range) = range.check(self.owner().max_pages())
        {
            let dying: Vec<_> =
                self.domains.list.iter().filter(|domain| domain.dying).map(|domain| domain.id).collect();
            dying.into_iter().try_for_each(|id| self.unmap_in_domain(id, range)).map_err(|_| Error::NotCompleted)?;
        }
        let made = self.owner().apply(transition)?;
        match transition {
            Transition::HostDonateGuest(range, handle) => self.map_for_guest(range, handle),
            Transition::VmDestroy(handle) => {
                let guest = GuestId::new(handle);
                let ended = self.domains.list.iter_mut().filter(|domain| Some(domain.guest) == guest);
                ended.for_each(|domain| domain.dying = true);
            }
            Transition::HostShareHyp(_)
            | Transition::HostUnshareHyp(_)
            | Transition::HostDonateHyp(_)
            | Transition::HypDonateHost(_)
            | Transition::VmCreate
            | Transition::HostShareGuest(..)
            | Transition::HostUnshareGuest(..)
            | Transition::HostReclaimPage(_) => {}
        }
        Ok(made)
    }

    /// Maps the pages of a range that belong to the guest, if it has a domain.
    pub fn map_for_guest(&mut self, range: UncheckedRange, handle: u64) {
        let (Some(guest), Ok(range)) = (GuestId::new(handle), range.check(self.owner().max_pages())) else { return };
        let map = self.owner().map();
        let pages: Vec<_> = range.pfns().filter(|pfn| map.owner(*pfn) == PageOwner::Guest(guest)).collect();
        let domain = self.domains.list.iter_mut().find(|domain| domain.guest == guest && !domain.dying);
        if let Some(domain) = domain {
            pages.into_iter().for_each(|pfn| domain.table.map(pfn));
            self.domains.changes += 1;
        }
    }

    /// Unmaps pages from the table of a live guest; they still belong to it.
    ///
    /// # Errors
    /// An SMMU may still have translations.
    pub fn unmap_for_guest(&mut self, range: UncheckedRange, handle: u64) -> Result<(), SmmuError> {
        let Ok(range) = range.check(self.owner().max_pages()) else { return Ok(()) };
        let known = |domain: &&Domain| u64::from(domain.guest.handle()) == handle && !domain.dying;
        let id = self.domains.list.iter().find(known).map(|domain| domain.id);
        id.map_or(Ok(()), |id| self.unmap_in_domain(id, range))
    }

    /// Changes the table, then invalidates every SMMU.
    fn unmap_in_domain(&mut self, id: DomainId, range: PageRange) -> Result<(), SmmuError> {
        let defect = self.defect.get();
        let Some(domain) = self.domains.list.iter_mut().find(|domain| domain.id == id) else { return Ok(()) };
        let pages = domain.table.pages(range.first(), range.end());
        if pages.is_empty() {
            return Ok(());
        }
        let vmid = domain.vmid;
        if defect != Defect::NoUnmap {
            domain.table.unmap(&pages);
        }
        self.domains.changes += 1;
        let (stale, count) =
            narrowed(defect, Stale::Range { ipa: Ipa(range.first() * PAGE_BYTES), size: range.bytes() });
        let Some(el2) = &self.el2 else { return Ok(()) };
        let mut drivers = el2.drivers.borrow_mut();
        let begun: Vec<_> = drivers.iter_mut().take(count).map(|smmu| smmu.tlb_submit(vmid, stale)).collect();
        let ended: Vec<_> = drivers.iter_mut().take(count).map(|smmu| smmu.tlb_wait()).collect();
        drop(drivers);
        begun.into_iter().chain(ended).collect::<Result<(), _>>()?;
        if let Some(domain) = self.domains.list.iter_mut().find(|domain| domain.id == id) {
            domain.table.invalidated(&pages);
        }
        Ok(())
    }

    /// The owners of stream `sid` of SMMU `n`: none, one, or several if hardware failed during a change.
    #[must_use]
    pub fn users(&self, n: usize, sid: u32) -> BTreeSet<StreamUser> {
        self.domains.users(n, sid)
    }

    /// Whether the byte at `pa` belongs to an owner of stream `sid` of SMMU `n`.
    #[must_use]
    pub fn may_reach(&self, n: usize, sid: u32, pa: u64) -> bool {
        self.domains.users(n, sid).into_iter().any(|user| self.first_not_of(user, pa, 1).is_none())
    }

    /// Whether the drivers have the same owners of these streams. If hardware failed during a change, a stream may
    /// have its old owner, the new one, or none.
    ///
    /// # Errors
    /// A message with the stream.
    pub fn owners_agree(&self, sids: &[u32]) -> Result<(), String> {
        let Some(el2) = &self.el2 else { return Ok(()) };
        for (n, smmu) in el2.drivers.borrow().iter().enumerate() {
            for sid in sids {
                let (owner, expected) = (smmu.owner(*sid), self.domains.owners(n, *sid));
                if !expected.contains(&owner) {
                    return Err(format!("SMMU {n}, stream {sid:#x}: {owner:?}, not {expected:?}"));
                }
            }
        }
        Ok(())
    }
}
