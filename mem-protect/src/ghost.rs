//! A second opinion on ownership: an abstract state that follows the calls of the host by their specification alone.
//!
//! The `ghost` build keeps it beside the real map and compares the two after every trap. It shares no code with
//! the rest of this crate but the types it compares: a page is one of a few words here, and a call that
//! succeeds moves pages from one word to another or is itself the disagreement.

use crate::map::{MAX_RAM_RANGES, PageMap};
use crate::page::{Owner, PageInfo};
use crate::range::PageRange;
use core::fmt;

/// Pages that are told apart from others at a time.
const CHUNK: usize = 64;

/// What a page is, in the words of the specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Page {
    /// The host's alone.
    #[default]
    Host,
    /// The host's, lent to EL2.
    LentToHyp,
    /// The host's, lent to the guest with this handle.
    LentToGuest(u8),
    /// EL2's since boot.
    HypBoot,
    /// EL2's by donation.
    HypDonated,
    /// The guest's with this handle.
    Guest(u8),
    /// Nobody's: firmware keeps it.
    Nobody,
}

/// A call that the real map says has succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `host_share_hyp`.
    ShareHyp,
    /// `host_unshare_hyp`.
    UnshareHyp,
    /// `host_donate_hyp`.
    DonateHyp,
    /// `hyp_donate_host`.
    HypDonateHost,
    /// `host_share_guest` with this handle.
    ShareGuest(u64),
    /// `host_unshare_guest` with this handle.
    UnshareGuest(u64),
    /// `host_donate_guest` with this handle.
    DonateGuest(u64),
    /// `host_reclaim_page`.
    Reclaim,
}

/// Why the abstract and the real state disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A call succeeded that the specification refuses for this page.
    Forbidden {
        /// The call.
        call: Call,
        /// Page number.
        pfn: u64,
        /// What the page was.
        was: Option<Page>,
    },
    /// The real map has another owner or borrower for this page.
    Differs {
        /// Page number.
        pfn: u64,
        /// What the specification says.
        expected: Page,
        /// Owner in the real map.
        owner: Owner,
    },
    /// A guest was created or destroyed out of turn.
    Life(u64),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden { call, pfn, was } => {
                write!(f, "{call:?} of page {pfn:#x} succeeded, but the page was {was:?}")
            }
            Self::Differs { pfn, expected, owner } => {
                write!(f, "page {pfn:#x} should be {expected:?}, but its owner is {owner:?}")
            }
            Self::Life(handle) => write!(f, "guest {handle} was created or destroyed out of turn"),
        }
    }
}

/// Life of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Life {
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
    guests: [Life; 256],
}

impl<'m> Ghost<'m> {
    /// Starts from the real map as it is at boot, when it has just been checked against both tables. `storage` needs
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
        Some(Self { sections, pages: storage, guests: [Life::None; 256] })
    }

    fn page(&mut self, pfn: u64) -> Option<&mut Page> {
        let (range, base) =
            self.sections.iter().flatten().find(|(range, _)| range.first() <= pfn && pfn < range.end())?;
        let index = base.checked_add(usize::try_from(pfn.checked_sub(range.first())?).ok()?)?;
        self.pages.get_mut(index)
    }

    fn life(&mut self, handle: u64) -> Option<&mut Life> {
        self.guests.get_mut(usize::try_from(handle).ok()?)
    }

    /// `vm_create` returned this handle.
    ///
    /// # Errors
    /// [`Violation::Life`] if a guest with this handle exists or has pages left.
    pub fn created(&mut self, handle: u64) -> Result<(), Violation> {
        let named = self
            .pages
            .iter()
            .any(|page| matches!(page, Page::Guest(g) | Page::LentToGuest(g) if u64::from(*g) == handle));
        match self.life(handle) {
            Some(life) if *life != Life::Alive && !named => {
                *life = Life::Alive;
                Ok(())
            }
            _ => Err(Violation::Life(handle)),
        }
    }

    /// `vm_destroy` of this handle succeeded.
    ///
    /// # Errors
    /// [`Violation::Life`] if there was no such living guest.
    pub fn destroyed(&mut self, handle: u64) -> Result<(), Violation> {
        match self.life(handle) {
            Some(life) if *life == Life::Alive => {
                *life = Life::Dying;
                Ok(())
            }
            _ => Err(Violation::Life(handle)),
        }
    }

    /// A call on `count` pages from page number `first` succeeded.
    ///
    /// # Errors
    /// [`Violation::Forbidden`] for the first page for which it must not.
    pub fn succeeded(&mut self, call: Call, first: u64, count: u64) -> Result<(), Violation> {
        for pfn in first..first.saturating_add(count) {
            let was = self.page(pfn).copied();
            match was.and_then(|was| self.next(call, was)) {
                Some(next) => {
                    if let Some(page) = self.page(pfn) {
                        *page = next;
                    }
                }
                None => return Err(Violation::Forbidden { call, pfn, was }),
            }
        }
        if count == 0 { Err(Violation::Forbidden { call, pfn: first, was: None }) } else { Ok(()) }
    }

    /// The specification of every call: what a page becomes, or nothing if the call must refuse it.
    fn next(&mut self, call: Call, was: Page) -> Option<Page> {
        match (call, was) {
            (Call::ShareHyp, Page::Host) => Some(Page::LentToHyp),
            (Call::UnshareHyp, Page::LentToHyp) => Some(Page::Host),
            (Call::DonateHyp, Page::Host) => Some(Page::HypDonated),
            (Call::HypDonateHost, Page::HypDonated) => Some(Page::Host),
            (Call::ShareGuest(handle), Page::Host) => self.alive(handle).map(Page::LentToGuest),
            (Call::UnshareGuest(handle), Page::LentToGuest(guest)) => {
                (u64::from(guest) == handle).then_some(Page::Host)
            }
            (Call::DonateGuest(handle), Page::Host) => self.alive(handle).map(Page::Guest),
            (Call::Reclaim, Page::Guest(guest)) => {
                (self.life(guest.into()).copied() == Some(Life::Dying)).then_some(Page::Host)
            }
            _ => None,
        }
    }

    fn alive(&mut self, handle: u64) -> Option<u8> {
        u8::try_from(handle).ok().filter(|_| self.life(handle).copied() == Some(Life::Alive))
    }

    /// An SMMU did not answer during a call on these pages: what became of them is the real map's word.
    pub fn unknown(&mut self, map: &PageMap<'_>, first: u64, count: u64) {
        for pfn in first..first.saturating_add(count) {
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
    /// [`Violation::Differs`] for the first page that differs.
    pub fn compare(&self, map: &PageMap<'_>) -> Result<(), Violation> {
        for (range, base) in self.sections.iter().flatten() {
            let real = map.pages(*range).unwrap_or_default();
            let expected = self.pages.get(*base..).unwrap_or_default();
            // Nearly every page is the host's alone: told many at a time, without decoding any.
            let chunks = expected.chunks(CHUNK).zip(real.chunks(CHUNK)).zip(range.pfns().step_by(CHUNK));
            let marked = chunks.filter(|((expected, real), _)| !(all_host(expected) && PageInfo::are_plain(real)));
            let pages = marked.flat_map(|((expected, real), first)| expected.iter().zip(real).zip(first..));
            for ((&expected, page), pfn) in pages {
                let agrees = match expected {
                    Page::Host => page.owner() == Owner::Host && page.borrower().is_none(),
                    Page::LentToHyp => page.owner() == Owner::Host && page.borrower() == Some(Owner::Hyp),
                    Page::LentToGuest(guest) => page.owner() == Owner::Host && is_guest(page.borrower(), guest),
                    Page::HypBoot | Page::HypDonated => page.owner() == Owner::Hyp,
                    Page::Guest(guest) => is_guest(Some(page.owner()), guest),
                    Page::Nobody => page.owner() == Owner::Device,
                };
                if !agrees {
                    return Err(Violation::Differs { pfn, expected, owner: page.owner() });
                }
            }
        }
        Ok(())
    }
}

/// Whether all of them are the host's. Without a branch for each, since all of RAM is looked at after each trap.
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

    fn world(check: impl FnOnce(&mut Ghost<'_>, &mut PageMap<'_>)) {
        let mut storage = vec![PageInfo::default(); 16];
        let mut map = PageMap::new(&mut storage, &[PageRange::new(8, 16).unwrap()]).unwrap();
        map.reserve(PageRange::new(8, 2).unwrap(), Owner::Hyp);
        let mut pages = vec![Page::default(); 16];
        let mut ghost = Ghost::new(&map, &mut pages).unwrap();
        check(&mut ghost, &mut map);
    }

    #[test]
    fn it_starts_where_the_map_is() {
        world(|ghost, map| assert_eq!(ghost.compare(map), Ok(())));
    }

    #[test]
    fn a_donation_that_the_map_does_not_show_is_a_disagreement() {
        world(|ghost, map| {
            ghost.succeeded(Call::DonateHyp, 12, 2).unwrap();
            assert!(matches!(ghost.compare(map), Err(Violation::Differs { pfn: 12, .. })));
            map.reserve(PageRange::new(12, 2).unwrap(), Owner::Hyp);
            assert_eq!(ghost.compare(map), Ok(()));
        });
    }

    #[test]
    fn success_that_the_specification_forbids_is_a_disagreement() {
        world(|ghost, _| {
            assert!(ghost.succeeded(Call::DonateHyp, 8, 1).is_err(), "EL2's own page");
            assert!(ghost.succeeded(Call::HypDonateHost, 8, 1).is_err(), "a boot page");
            assert!(ghost.succeeded(Call::DonateHyp, 24, 1).is_err(), "beyond RAM");
            assert!(ghost.succeeded(Call::DonateHyp, 12, 0).is_err(), "nothing at all");
            assert!(ghost.succeeded(Call::DonateGuest(3), 12, 1).is_err(), "no such guest");
            ghost.created(3).unwrap();
            ghost.succeeded(Call::DonateGuest(3), 12, 1).unwrap();
            assert!(ghost.succeeded(Call::Reclaim, 12, 1).is_err(), "its guest lives");
            ghost.destroyed(3).unwrap();
            assert!(ghost.created(3).is_err(), "the handle still names a page");
            ghost.succeeded(Call::Reclaim, 12, 1).unwrap();
            ghost.created(3).unwrap();
        });
    }
}
