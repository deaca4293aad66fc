//! A reference model of ownership: an abstract state, to which the specification of each call of the host is applied.
//!
//! The `ghost` build has it in addition to the real map, and compares the two after every trap. It shares only the
//! types that it compares with the rest of this crate. Each page has one of the states of [`Page`]. A call that
//! succeeds changes the state of its pages as specified; if the specification refuses the call, that is a finding.

use crate::audit::Lost;
use crate::error::Error;
use crate::finding::{Finding, Page, Table};
use crate::map::{MAX_RAM_RANGES, PageMap};
use crate::ownership::Ownership;
use crate::page::{GuestId, MAX_GUESTS, Owner, PageInfo};
use crate::range::{PageRange, UncheckedRange};
use crate::traits::{DmaStage2, GuestTables, HostStage2, Leaf, PageOps};
use crate::transition::Transition;

/// Number of pages that are compared together.
const CHUNK: usize = 64;

/// State of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum GuestState {
    #[default]
    None,
    Alive,
    Dying,
}

/// The abstract state of all RAM.
#[derive(Debug)]
pub struct Ghost<'m> {
    sections: [Option<(PageRange, usize)>; MAX_RAM_RANGES],
    pages: &'m mut [Page],
    guests: [GuestState; 256],
}

impl<'m> Ghost<'m> {
    /// Starts from the real map at boot, which an audit has just compared with both tables. `storage` needs
    /// one [`Page`] for each page of RAM; `None` if it is too small.
    pub fn new(map: &PageMap<'_>, storage: &'m mut [Page]) -> Option<Self> {
        let mut sections = [None; MAX_RAM_RANGES];
        let mut base = 0_usize;
        for (section, range) in sections.iter_mut().zip(map.ram()) {
            *section = Some((range, base));
            let end = base.checked_add(usize::try_from(range.count()).ok()?)?;
            for (page, pfn) in storage.get_mut(base..end)?.iter_mut().zip(range.pfns()) {
                *page = match map.owner(pfn) {
                    Owner::Host => Page::Host,
                    Owner::Hyp => Page::HypBoot,
                    Owner::Guest(guest) => Page::Guest(guest.handle()),
                    Owner::Device => Page::Nobody,
                };
            }
            base = end;
        }
        Some(Self { sections, pages: storage, guests: [GuestState::None; 256] })
    }

    fn page(&mut self, pfn: u64) -> Option<&mut Page> {
        let (range, base) =
            self.sections.iter().flatten().find(|(range, _)| range.first() <= pfn && pfn < range.end())?;
        let index = base.checked_add(usize::try_from(pfn.checked_sub(range.first())?).ok()?)?;
        self.pages.get_mut(index)
    }

    fn guest_state(&mut self, handle: u64) -> Option<&mut GuestState> {
        self.guests.get_mut(usize::try_from(handle).ok()?)
    }

    /// Records that `vm_create` returned this handle.
    ///
    /// # Errors
    /// [`Finding::GuestState`] if a guest with this handle exists or still has pages.
    fn created(&mut self, handle: u64) -> Result<(), Finding> {
        let in_use = self
            .pages
            .iter()
            .any(|page| matches!(page, Page::Guest(g) | Page::SharedWithGuest(g) if u64::from(*g) == handle));
        match self.guest_state(handle) {
            Some(guest_state) if *guest_state != GuestState::Alive && !in_use => {
                *guest_state = GuestState::Alive;
                Ok(())
            }
            _ => Err(Finding::GuestState(handle)),
        }
    }

    /// Records that `vm_destroy` of this handle succeeded.
    ///
    /// # Errors
    /// [`Finding::GuestState`] if there was no such guest, or it was already destroyed.
    fn destroyed(&mut self, handle: u64) -> Result<(), Finding> {
        match self.guest_state(handle) {
            Some(guest_state) if *guest_state == GuestState::Alive => {
                *guest_state = GuestState::Dying;
                Ok(())
            }
            _ => Err(Finding::GuestState(handle)),
        }
    }

    /// Applies `transition`, for which the real map returned `result`, to the abstract state, and checks its pages in
    /// both tables.
    ///
    /// # Errors
    /// The specification refuses the transition, or a table differs from the result.
    pub fn apply<S: HostStage2, D: DmaStage2, P: PageOps>(
        &mut self,
        ownership: &Ownership<'_, S, D, P>,
        transition: Transition,
        result: Result<Option<GuestId>, Error>,
    ) -> Result<(), Finding> {
        match (transition, result) {
            (Transition::VmCreate, Ok(Some(guest))) => self.created(guest.handle().into()),
            (Transition::VmDestroy(handle), Ok(_)) => self.destroyed(handle),
            (_, Ok(_)) => {
                let Some(range) = transition.range() else { return Ok(()) };
                self.succeeded(transition, range)?;
                check_tables(ownership, transition, range)
            }
            (_, Err(Error::NotCompleted | Error::Inconsistent)) => {
                if let Some(range) = transition.range() {
                    self.copy_owner_from_map(ownership.map(), range);
                }
                Ok(())
            }
            (_, Err(_)) => Ok(()),
        }
    }

    /// Applies a transition of pages that succeeded.
    ///
    /// # Errors
    /// [`Finding::Forbidden`] for the first page for which the specification refuses it.
    fn succeeded(&mut self, transition: Transition, range: UncheckedRange) -> Result<(), Finding> {
        for pfn in pfns(range) {
            let was = self.page(pfn).copied();
            match was.and_then(|was| self.next(transition, was)) {
                Some(next) => {
                    if let Some(page) = self.page(pfn) {
                        *page = next;
                    }
                }
                None => return Err(Finding::Forbidden { transition, pfn, was }),
            }
        }
        if range.count == 0 { Err(Finding::Forbidden { transition, pfn: range.pfn, was: None }) } else { Ok(()) }
    }

    /// The specification of every transition: the new state of a page, or `None` if the transition must be refused.
    fn next(&mut self, transition: Transition, was: Page) -> Option<Page> {
        match (transition, was) {
            (Transition::HostShareHyp(_), Page::Host) => Some(Page::SharedWithHyp),
            (Transition::HostUnshareHyp(_), Page::SharedWithHyp) => Some(Page::Host),
            (Transition::HostDonateHyp(_), Page::Host) => Some(Page::HypDonated),
            (Transition::HypDonateHost(_), Page::HypDonated) => Some(Page::Host),
            (Transition::HostShareGuest(_, handle), Page::Host) => self.alive(handle).map(Page::SharedWithGuest),
            (Transition::HostUnshareGuest(_, handle), Page::SharedWithGuest(guest)) => {
                (u64::from(guest) == handle).then_some(Page::Host)
            }
            (Transition::HostDonateGuest(_, handle), Page::Host) => self.alive(handle).map(Page::Guest),
            (Transition::HostReclaimPage(_), Page::Guest(guest)) => {
                (self.guest_state(guest.into()).copied() == Some(GuestState::Dying)).then_some(Page::Host)
            }
            _ => None,
        }
    }

    fn alive(&mut self, handle: u64) -> Option<u8> {
        u8::try_from(handle).ok().filter(|_| self.guest_state(handle).copied() == Some(GuestState::Alive))
    }

    /// Takes the owner of these pages from the real map, because an SMMU did not complete an invalidation during their
    /// transition.
    fn copy_owner_from_map(&mut self, map: &PageMap<'_>, range: UncheckedRange) {
        for pfn in pfns(range) {
            let owner = map.owner(pfn);
            if let Some(page) = self.page(pfn) {
                *page = match (owner, *page) {
                    (Owner::Host, _) => Page::Host,
                    (_, was) => was,
                };
            }
        }
    }

    /// Compares every page with the real map.
    ///
    /// # Errors
    /// [`Finding::Differs`] for the first page that differs.
    pub fn compare(&self, map: &PageMap<'_>) -> Result<(), Finding> {
        for (range, base) in self.sections.iter().flatten() {
            let real = map.pages(*range).unwrap_or_default();
            let expected = self.pages.get(*base..).unwrap_or_default();
            // Nearly every page belongs to the host and is not shared: many are compared at a time, without decoding
            // each one.
            let chunks = expected.chunks(CHUNK).zip(real.chunks(CHUNK)).zip(range.pfns().step_by(CHUNK));
            let marked = chunks.filter(|((expected, real), _)| !(all_host(expected) && PageInfo::are_plain(real)));
            let pages = marked.flat_map(|((expected, real), first)| expected.iter().zip(real).zip(first..));
            for ((&expected, page), pfn) in pages {
                let agrees = match expected {
                    Page::Host => page.owner() == Owner::Host && page.borrower().is_none(),
                    Page::SharedWithHyp => page.owner() == Owner::Host && page.borrower() == Some(Owner::Hyp),
                    Page::SharedWithGuest(guest) => page.owner() == Owner::Host && is_guest(page.borrower(), guest),
                    Page::HypBoot | Page::HypDonated => page.owner() == Owner::Hyp,
                    Page::Guest(guest) => is_guest(Some(page.owner()), guest),
                    Page::Nobody => page.owner() == Owner::Device,
                };
                if !agrees {
                    return Err(Finding::Differs { pfn, expected, owner: page.owner() });
                }
            }
        }
        Ok(())
    }
}

fn pfns(range: UncheckedRange) -> core::ops::Range<u64> {
    range.pfn..range.pfn.saturating_add(range.count)
}

/// Change of the host's access to pages by a transition that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Access ends.
    Taken,
    /// Access begins.
    Given,
    /// No change. A rollback of an earlier call may have left pages unmapped.
    Kept,
}

/// The mapping of a page in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mapping {
    None,
    Identity,
    Other,
}

impl Mapping {
    fn of(leaf: Option<Leaf>, page: PageRange) -> Self {
        match leaf.filter(|leaf| leaf.ipa == page.ipa()) {
            None => Self::None,
            Some(leaf) if leaf.pa == page.pa() => Self::Identity,
            Some(_) => Self::Other,
        }
    }
}

/// Checks the pages of a successful transition in both tables: they must be identity-mapped if they are the host's
/// now, otherwise unmapped.
///
/// Pages that were already the host's may be unmapped if failed calls explain it ([`Ownership::explains`]).
fn check_tables<S: HostStage2, D: DmaStage2, P: PageOps>(
    ownership: &Ownership<'_, S, D, P>,
    transition: Transition,
    range: UncheckedRange,
) -> Result<(), Finding> {
    let access = match transition {
        Transition::HostDonateHyp(_) | Transition::HostDonateGuest(..) => Access::Taken,
        Transition::HypDonateHost(_) | Transition::HostReclaimPage(_) => Access::Given,
        Transition::HostShareHyp(_)
        | Transition::HostUnshareHyp(_)
        | Transition::HostShareGuest(..)
        | Transition::HostUnshareGuest(..)
        | Transition::VmCreate
        | Transition::VmDestroy(_) => Access::Kept,
    };
    let window = ownership.dma().window();
    let mut lost = Lost::default();
    for page in pfns(range).filter_map(PageRange::page) {
        let cpu = Mapping::of(ownership.cpu().next_leaf(page.ipa()), page);
        let dma = window.contains(page).then(|| Mapping::of(ownership.dma().next_leaf(page.ipa()), page));
        for (table, mapping) in [(Table::Cpu, Some(cpu)), (Table::Dma, dma)] {
            let agrees = match (access, mapping) {
                (_, None) => true,
                (Access::Taken, Some(mapping)) => mapping == Mapping::None,
                (Access::Given | Access::Kept, Some(Mapping::Identity)) => true,
                (Access::Kept, Some(Mapping::None)) => {
                    lost.add(table, 1);
                    ownership.explains(lost)
                }
                (Access::Given | Access::Kept, Some(Mapping::None | Mapping::Other)) => false,
            };
            if !agrees {
                return Err(Finding::Reach { transition, pfn: page.first(), table });
            }
        }
    }
    check_guest_tables(ownership, transition, range)
}

/// Checks the pages of a transition that succeeded in the tables of all guests: identity-mapped for the guest that owns
/// them now, and for no other.
fn check_guest_tables<S: HostStage2, D: DmaStage2, P: PageOps>(
    ownership: &Ownership<'_, S, D, P>,
    transition: Transition,
    range: UncheckedRange,
) -> Result<(), Finding> {
    if ownership.dma().guest_tables() == GuestTables::None {
        return Ok(());
    }
    let owner = match transition {
        Transition::HostDonateGuest(_, handle) => GuestId::new(handle),
        Transition::HostShareHyp(_)
        | Transition::HostUnshareHyp(_)
        | Transition::HostDonateHyp(_)
        | Transition::HypDonateHost(_)
        | Transition::HostShareGuest(..)
        | Transition::HostUnshareGuest(..)
        | Transition::HostReclaimPage(_)
        | Transition::VmCreate
        | Transition::VmDestroy(_) => None,
    };
    let window = ownership.dma().window();
    for page in pfns(range).filter_map(PageRange::page).filter(|page| window.contains(*page)) {
        for guest in (0..u64::from(MAX_GUESTS)).filter_map(GuestId::new) {
            let mapping = Mapping::of(ownership.dma().next_guest_leaf(guest, page.ipa()), page);
            let expected = if owner == Some(guest) { Mapping::Identity } else { Mapping::None };
            if mapping != expected {
                return Err(Finding::Reach { transition, pfn: page.first(), table: Table::Guest });
            }
        }
    }
    Ok(())
}

/// Whether the host owns all pages. It has no branch for each page, since all of RAM is compared after each trap.
fn all_host(pages: &[Page]) -> bool {
    pages.iter().fold(true, |all, page| all & matches!(page, Page::Host))
}

fn is_guest(owner: Option<Owner>, handle: u8) -> bool {
    matches!(owner, Some(Owner::Guest(guest)) if guest.handle() == handle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn pages(pfn: u64, count: u64) -> UncheckedRange {
        UncheckedRange { pfn, count }
    }

    fn world(check: impl FnOnce(&mut Ghost<'_>, &mut PageMap<'_>)) {
        let mut storage = vec![PageInfo::default(); 16];
        let mut map = PageMap::new(&mut storage, &[PageRange::new(8, 16).unwrap()]).unwrap();
        map.reserve(PageRange::new(8, 2).unwrap(), Owner::Hyp);
        let mut pages = vec![Page::default(); 16];
        let mut ghost = Ghost::new(&map, &mut pages).unwrap();
        check(&mut ghost, &mut map);
    }

    #[test]
    fn it_starts_with_the_state_of_the_map() {
        world(|ghost, map| assert_eq!(ghost.compare(map), Ok(())));
    }

    #[test]
    fn a_donation_that_the_map_does_not_show_is_found() {
        world(|ghost, map| {
            ghost.succeeded(Transition::HostDonateHyp(pages(12, 2)), pages(12, 2)).unwrap();
            assert!(matches!(ghost.compare(map), Err(Finding::Differs { pfn: 12, .. })));
            map.reserve(PageRange::new(12, 2).unwrap(), Owner::Hyp);
            assert_eq!(ghost.compare(map), Ok(()));
        });
    }

    #[test]
    fn success_of_a_forbidden_transition_is_found() {
        world(|ghost, _| {
            assert!(ghost.succeeded(Transition::HostDonateHyp(pages(8, 1)), pages(8, 1)).is_err(), "EL2's own page");
            assert!(ghost.succeeded(Transition::HypDonateHost(pages(8, 1)), pages(8, 1)).is_err(), "a boot page");
            assert!(ghost.succeeded(Transition::HostDonateHyp(pages(24, 1)), pages(24, 1)).is_err(), "beyond RAM");
            assert!(ghost.succeeded(Transition::HostDonateHyp(pages(12, 0)), pages(12, 0)).is_err(), "an empty range");
            assert!(
                ghost.succeeded(Transition::HostDonateGuest(pages(12, 1), 3), pages(12, 1)).is_err(),
                "no such guest"
            );
            ghost.created(3).unwrap();
            ghost.succeeded(Transition::HostDonateGuest(pages(12, 1), 3), pages(12, 1)).unwrap();
            assert!(
                ghost.succeeded(Transition::HostReclaimPage(pages(12, 1)), pages(12, 1)).is_err(),
                "its guest is alive"
            );
            ghost.destroyed(3).unwrap();
            assert!(ghost.created(3).is_err(), "a page still belongs to the guest");
            ghost.succeeded(Transition::HostReclaimPage(pages(12, 1)), pages(12, 1)).unwrap();
            ghost.created(3).unwrap();
        });
    }
}
