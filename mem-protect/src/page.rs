//! The record of every page of RAM, and the states derived from it.
//!
//! It has the owner and the borrower of the page. The page's state for each of them is derived, so the states of the
//! two sides of a transition always match.

use static_assertions::{const_assert, const_assert_eq};

/// Maximum number of guests.
pub const MAX_GUESTS: u8 = 32;
/// Maximum number of claims of a page.
pub const MAX_CLAIMS: u16 = 1024;

/// An owner or borrower of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The untrusted host and the devices behind its streams.
    Host,
    /// EL2.
    Hyp,
    /// A guest; the number is its handle.
    Guest(GuestId),
    /// No owner: device registers, unused addresses, memory reserved by firmware. No transition applies to them.
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

/// The state of a page for an owner or borrower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageState {
    /// Owned exclusively.
    Owned,
    /// Owned, and shared with one borrower.
    SharedOwned,
    /// Owned by another, shared with this borrower.
    SharedBorrowed,
    /// No access.
    NoPage,
}

/// Why EL2 owns a page: only donated pages can be returned to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HypUse {
    /// Image, stacks, tables and memory reserved at boot: never returned to the host.
    Boot,
    /// Donated by the host: returned on request if the pool does not use it.
    Donated,
}

/// The record of one page. Zero is a page of the host that is neither shared nor claimed, so zeroed memory is a
/// valid map.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct PageInfo(u32);
const_assert_eq!(size_of::<PageInfo>(), 4);

// Layout: owner in bits [7:0], borrower in bits [15:8], claims in bits [31:16].
const CODE: u32 = 0xff;
const BORROWER_SHIFT: u32 = 8;
const CLAIMS_SHIFT: u32 = 16;
const ONE_CLAIM: u32 = 1 << CLAIMS_SHIFT;

// Codes of the owner. The host's is zero, so that the codes of many pages can be compared at the same time. A guest's
// code is GUEST plus its handle.
const HOST: u32 = 0;
const HYP_BOOT: u32 = 1;
const HYP_DONATED: u32 = 2;
const DEVICE: u32 = 3;
const GUEST: u32 = 16;
// Code of the borrower, in addition to HYP_BOOT and the guests' codes.
const NOBODY: u32 = 0;
// Above GUEST, 240 codes fit in eight bits.
const_assert!(MAX_GUESTS <= 240);

impl PageInfo {
    /// Whether the host owns all these pages, and none is shared or claimed.
    #[must_use]
    pub fn are_plain(pages: &[Self]) -> bool {
        // Eight at a time, with one branch for all of them.
        let (eights, rest) = pages.as_chunks::<8>();
        let bits = |pages: &[Self; 8]| pages.iter().fold(0, |bits, page| bits | page.0);
        eights.iter().all(|pages| bits(pages) == 0) && rest.iter().all(|page| page.0 == 0)
    }

    /// A page of `owner`, neither shared nor claimed; for EL2 as reserved at boot.
    #[must_use]
    pub fn owned_by(owner: Owner) -> Self {
        Self(code(owner))
    }

    /// A page that EL2 owns for the reason `why`.
    #[must_use]
    pub fn hyp(why: HypUse) -> Self {
        match why {
            HypUse::Boot => Self(HYP_BOOT),
            HypUse::Donated => Self(HYP_DONATED),
        }
    }

    fn owner_code(self) -> u32 {
        self.0 & CODE
    }

    fn borrower_code(self) -> u32 {
        self.0 >> BORROWER_SHIFT & CODE
    }

    /// The owner of the page. An invalid code reads as [`Owner::Device`], to which no transition applies.
    #[must_use]
    pub fn owner(self) -> Owner {
        match self.owner_code() {
            HOST => Owner::Host,
            HYP_BOOT | HYP_DONATED => Owner::Hyp,
            other => guest(other).map_or(Owner::Device, Owner::Guest),
        }
    }

    /// Whether `who` owns the page: a fast check for walks over all RAM, which does not decode the record.
    #[must_use]
    pub fn is_owned_by(self, who: Owner) -> bool {
        match who {
            Owner::Host => self.owner_code() == HOST,
            Owner::Hyp => matches!(self.owner_code(), HYP_BOOT | HYP_DONATED),
            Owner::Guest(_) | Owner::Device => self.owner() == who,
        }
    }

    /// The borrower of the page, if any.
    #[must_use]
    pub fn borrower(self) -> Option<Owner> {
        match self.borrower_code() {
            HYP_BOOT => Some(Owner::Hyp),
            other => guest(other).map(Owner::Guest),
        }
    }

    /// Why EL2 owns the page; `None` if it does not.
    #[must_use]
    pub fn hyp_use(self) -> Option<HypUse> {
        match self.owner_code() {
            HYP_BOOT => Some(HypUse::Boot),
            HYP_DONATED => Some(HypUse::Donated),
            _ => None,
        }
    }

    /// State of the page for `who`.
    #[must_use]
    pub fn state(self, who: Owner) -> PageState {
        if self.owner() == who {
            if self.borrower_code() == NOBODY { PageState::Owned } else { PageState::SharedOwned }
        } else if self.borrower() == Some(who) {
            PageState::SharedBorrowed
        } else {
            PageState::NoPage
        }
    }

    /// Number of claims of the page.
    #[must_use]
    pub fn claims(self) -> u16 {
        u16::try_from(self.0 >> CLAIMS_SHIFT).unwrap_or(u16::MAX)
    }

    /// The same page shared with `who`. The host and `Device` cannot borrow: the page is then not shared.
    #[must_use]
    pub(crate) fn shared_with(self, who: Owner) -> Self {
        let borrower = match who {
            Owner::Hyp | Owner::Guest(_) => code(who),
            Owner::Host | Owner::Device => NOBODY,
        };
        Self(self.unshared().0 | borrower << BORROWER_SHIFT)
    }

    /// The same page, not shared.
    #[must_use]
    pub(crate) fn unshared(self) -> Self {
        Self(self.0 & !(CODE << BORROWER_SHIFT))
    }

    /// The same page with one more claim; `None` at [`MAX_CLAIMS`].
    #[must_use]
    pub(crate) fn claimed(self) -> Option<Self> {
        (self.claims() < MAX_CLAIMS).then(|| Self(self.0.wrapping_add(ONE_CLAIM)))
    }

    /// The same page with one claim fewer; `None` if it had none.
    #[must_use]
    pub(crate) fn unclaimed(self) -> Option<Self> {
        (self.claims() > 0).then(|| Self(self.0.wrapping_sub(ONE_CLAIM)))
    }

    /// Whether the host owns all of `pages`, including shared and claimed ones. It has no branch for each page.
    #[must_use]
    pub(crate) fn all_are_hosts(pages: &[Self]) -> bool {
        let (eights, rest) = pages.as_chunks::<8>();
        let codes = |pages: &[Self; 8]| pages.iter().fold(0, |codes, page| codes | page.owner_code());
        eights.iter().all(|pages| codes(pages) == HOST) && rest.iter().all(|page| page.owner_code() == HOST)
    }

    /// Whether the host owns none of `pages`. It has no branch for each page.
    #[must_use]
    pub(crate) fn none_is_hosts(pages: &[Self]) -> bool {
        let (eights, rest) = pages.as_chunks::<8>();
        let none = |pages: &[Self; 8]| pages.iter().fold(true, |none, page| none & (page.owner_code() != HOST));
        eights.iter().all(none) && rest.iter().all(|page| page.owner_code() != HOST)
    }
}

impl core::fmt::Debug for PageInfo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", self.owner())?;
        if let Some(borrower) = self.borrower() {
            write!(f, ", shared with {borrower:?}")?;
        }
        write!(f, ", {} claims", self.claims())
    }
}

fn code(owner: Owner) -> u32 {
    match owner {
        Owner::Host => HOST,
        Owner::Hyp => HYP_BOOT,
        Owner::Device => DEVICE,
        // Fits in eight bits: handles are below MAX_GUESTS, asserted above.
        Owner::Guest(GuestId(n)) => GUEST.wrapping_add(u32::from(n)),
    }
}

fn guest(code: u32) -> Option<GuestId> {
    code.checked_sub(GUEST).map(u64::from).and_then(GuestId::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroed_memory_is_the_hosts() {
        let page = PageInfo::default();
        assert_eq!(page, PageInfo::owned_by(Owner::Host));
        assert_eq!((page.owner(), page.borrower(), page.claims()), (Owner::Host, None, 0));
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
                let shared = page.shared_with(who);
                assert_eq!(shared.state(owner), PageState::SharedOwned);
                assert_eq!(shared.state(who), PageState::SharedBorrowed);
                assert_eq!(shared.unshared(), page);
            }
        }
    }

    #[test]
    fn invalid_codes_have_no_owner() {
        for code in 0..=CODE {
            let page = PageInfo(code);
            let known = matches!(code, 0..=2) || (GUEST..GUEST + u32::from(MAX_GUESTS)).contains(&code);
            assert_eq!(page.owner() == Owner::Device, !known, "{code}");
        }
        assert_eq!(GuestId::new(u64::from(MAX_GUESTS)), None);
        assert_eq!(GuestId::new(u64::MAX), None);
    }

    #[test]
    fn claims_are_limited() {
        let mut page = PageInfo::default();
        for _ in 0..MAX_CLAIMS {
            page = page.claimed().unwrap();
        }
        assert_eq!(page.claimed(), None);
        for _ in 0..MAX_CLAIMS {
            page = page.unclaimed().unwrap();
        }
        assert_eq!(page.unclaimed(), None);
    }
}
