//! The record kept for every page of RAM, and the states that follow from it.
//!
//! Only two facts are stored: who owns the page and who borrows it. The four page states are answers to the question
//! "what is this page to *that* owner", so that the two sides of a transition can never disagree.

use static_assertions::{const_assert, const_assert_eq};

/// How many guests can exist at one time.
pub const MAX_GUESTS: u8 = 32;
/// How many claims a page can carry at one time.
pub const MAX_PINS: u16 = 1024;

/// Who owns or borrows a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The untrusted host and the devices behind its streams.
    Host,
    /// EL2.
    Hyp,
    /// A guest; the number is its handle.
    Guest(GuestId),
    /// Nobody's memory: device registers, holes, memory that firmware keeps. No transition applies to it.
    Device,
}

/// Handle of a guest that exists or existed: below [`MAX_GUESTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestId(u8);

impl GuestId {
    /// The guest with this handle; `None` for a number that no guest can have.
    #[must_use]
    pub fn new(handle: u64) -> Option<Self> {
        u8::try_from(handle).ok().filter(|&n| n < MAX_GUESTS).map(Self)
    }

    /// The handle as a number.
    #[must_use]
    pub fn handle(self) -> u8 {
        self.0
    }
}

/// What a page is to one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageState {
    /// Owned, and nobody else may reach it.
    Owned,
    /// Owned, and lent to one other.
    SharedOwned,
    /// Somebody else's, lent to this one.
    SharedBorrowed,
    /// Not this one's at all.
    NoPage,
}

/// Why EL2 has a page: decides whether it can ever go back to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HypUse {
    /// Image, stacks, tables and memory reserved at boot: never given back.
    Boot,
    /// Donated by the host: given back on request when the pool does not use it.
    Donated,
}

/// The record of one page. All zeroes is a page of the host that is neither lent nor claimed, so that zeroed memory is a
/// valid map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PageInfo {
    owner: u8,
    borrower: u8,
    pins: u16,
}
const_assert_eq!(size_of::<PageInfo>(), 4);

// Codes of `owner`. A guest's code is GUEST plus its handle.
const HOST: u8 = 0;
const HYP_BOOT: u8 = 1;
const HYP_DONATED: u8 = 2;
const DEVICE: u8 = 3;
const GUEST: u8 = 16;
// Code of `borrower`, besides HYP_BOOT and the guests' codes.
const NOBODY: u8 = 0;
const_assert!(MAX_GUESTS <= u8::MAX - GUEST);

impl PageInfo {
    /// A page of `owner`, neither lent nor claimed; of EL2's as reserved at boot.
    #[must_use]
    pub fn owned_by(owner: Owner) -> Self {
        Self { owner: code(owner), borrower: NOBODY, pins: 0 }
    }

    /// A page that EL2 has for the reason `why`.
    #[must_use]
    pub fn hyp(why: HypUse) -> Self {
        let owner = match why {
            HypUse::Boot => HYP_BOOT,
            HypUse::Donated => HYP_DONATED,
        };
        Self { owner, borrower: NOBODY, pins: 0 }
    }

    /// Who owns the page. A code that no constructor makes reads as [`Owner::Device`]: nobody gets such a page.
    #[must_use]
    pub fn owner(self) -> Owner {
        match self.owner {
            HOST => Owner::Host,
            HYP_BOOT | HYP_DONATED => Owner::Hyp,
            other => guest(other).map_or(Owner::Device, Owner::Guest),
        }
    }

    /// Who borrows the page, if anybody.
    #[must_use]
    pub fn borrower(self) -> Option<Owner> {
        match self.borrower {
            HYP_BOOT => Some(Owner::Hyp),
            other => guest(other).map(Owner::Guest),
        }
    }

    /// Why EL2 has the page; `None` if EL2 does not own it.
    #[must_use]
    pub fn hyp_use(self) -> Option<HypUse> {
        match self.owner {
            HYP_BOOT => Some(HypUse::Boot),
            HYP_DONATED => Some(HypUse::Donated),
            _ => None,
        }
    }

    /// What the page is to `who`.
    #[must_use]
    pub fn state(self, who: Owner) -> PageState {
        if self.owner() == who {
            if self.borrower().is_none() { PageState::Owned } else { PageState::SharedOwned }
        } else if self.borrower() == Some(who) {
            PageState::SharedBorrowed
        } else {
            PageState::NoPage
        }
    }

    /// How many claims hold the page.
    #[must_use]
    pub fn pins(self) -> u16 {
        self.pins
    }

    /// The same page lent to `who`. The host and nobody's memory borrow nothing: they leave the page unlent.
    #[must_use]
    pub(super) fn lent_to(self, who: Owner) -> Self {
        let borrower = match who {
            Owner::Hyp | Owner::Guest(_) => code(who),
            Owner::Host | Owner::Device => NOBODY,
        };
        Self { borrower, ..self }
    }

    /// The same page, lent to nobody.
    #[must_use]
    pub(super) fn unlent(self) -> Self {
        Self { borrower: NOBODY, ..self }
    }

    /// The same page with one more claim; `None` at [`MAX_PINS`].
    #[must_use]
    pub(super) fn pinned(self) -> Option<Self> {
        let pins = self.pins.checked_add(1).filter(|&pins| pins <= MAX_PINS)?;
        Some(Self { pins, ..self })
    }

    /// The same page with one claim less; `None` if it had none.
    #[must_use]
    pub(super) fn unpinned(self) -> Option<Self> {
        Some(Self { pins: self.pins.checked_sub(1)?, ..self })
    }
}

fn code(owner: Owner) -> u8 {
    match owner {
        Owner::Host => HOST,
        Owner::Hyp => HYP_BOOT,
        Owner::Device => DEVICE,
        // Cannot overflow: handles are below MAX_GUESTS, asserted above.
        Owner::Guest(GuestId(n)) => GUEST.wrapping_add(n),
    }
}

fn guest(code: u8) -> Option<GuestId> {
    code.checked_sub(GUEST).map(u64::from).and_then(GuestId::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroed_memory_is_the_hosts() {
        let page = PageInfo::default();
        assert_eq!(page, PageInfo::owned_by(Owner::Host));
        assert_eq!((page.owner(), page.borrower(), page.pins()), (Owner::Host, None, 0));
    }

    #[test]
    fn every_owner_round_trips_and_the_states_are_complementary() {
        let guests = (0..u64::from(MAX_GUESTS)).map(|n| Owner::Guest(GuestId::new(n).unwrap()));
        let owners: std::vec::Vec<_> = [Owner::Host, Owner::Hyp, Owner::Device].into_iter().chain(guests).collect();
        for &owner in &owners {
            let page = PageInfo::owned_by(owner);
            assert_eq!(page.owner(), owner);
            for &who in &owners {
                let alone = page.state(who);
                assert_eq!(alone, if who == owner { PageState::Owned } else { PageState::NoPage });
                if who == owner || matches!(who, Owner::Host | Owner::Device) {
                    continue;
                }
                let lent = page.lent_to(who);
                assert_eq!(lent.state(owner), PageState::SharedOwned);
                assert_eq!(lent.state(who), PageState::SharedBorrowed);
                assert_eq!(lent.unlent(), page);
            }
        }
    }

    #[test]
    fn every_code_that_is_not_made_here_is_nobodys() {
        for code in 0..=u8::MAX {
            let page = PageInfo { owner: code, borrower: 0, pins: 0 };
            let known = matches!(code, 0..=2) || (GUEST..GUEST + MAX_GUESTS).contains(&code);
            assert_eq!(page.owner() == Owner::Device, !known, "{code}");
        }
        assert_eq!(GuestId::new(u64::from(MAX_GUESTS)), None);
        assert_eq!(GuestId::new(u64::MAX), None);
    }

    #[test]
    fn pins_are_limited() {
        let mut page = PageInfo::default();
        for _ in 0..MAX_PINS {
            page = page.pinned().unwrap();
        }
        assert_eq!(page.pinned(), None);
        for _ in 0..MAX_PINS {
            page = page.unpinned().unwrap();
        }
        assert_eq!(page.unpinned(), None);
    }
}
