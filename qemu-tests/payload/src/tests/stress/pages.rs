//! State of the pages in the stress test: owner and lock of each.
//!
//! A CPU locks the words of pages before it changes the pages, so that a word always has the owner that EL2 must have.
//! Pages with disk transfers in flight are marked: a page is donated only without transfers in flight, as a correct
//! host does, since QEMU resolves an address when a transfer begins and may transfer the data after the owner changed
//! (see docs/threat-model.md).

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::Once;

use crate::mem::{BLOCK, PAGE, alloc};
use crate::mmio;
use crate::num::{u64_of, usize_of};
use crate::setup::Setup;

/// Number of pages.
pub const PAGES: usize = 512;
/// Number of adjacent pages: the longest range of one call.
pub const LONGEST: usize = 8;
/// Distance between two ranges of adjacent pages, so that about ten blocks are split and coalesced.
const STRIDE: u64 = 0x5_0000;
/// Maximum number of guests.
pub const GUESTS: usize = 4;

/// Owner of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The host, not shared.
    Host,
    /// Locked by a CPU that is changing it.
    Locked,
    /// EL2's pool.
    Hyp,
    /// The host, shared with EL2.
    SharedWithHyp,
    /// A guest, by its index in the list of guests.
    Guest(usize),
    /// The host, shared with a guest.
    SharedWithGuest(usize),
}

impl Owner {
    const fn code(self) -> u64 {
        match self {
            Self::Host => 0,
            Self::Locked => 1,
            Self::Hyp => 2,
            Self::SharedWithHyp => 3,
            Self::Guest(guest) => 4 + u64_of(guest),
            Self::SharedWithGuest(guest) => 4 + u64_of(GUESTS + guest),
        }
    }

    /// Decodes the low bits of a page's word.
    pub const fn of(word: u64) -> Self {
        match word & OWNER {
            0 => Self::Host,
            1 => Self::Locked,
            2 => Self::Hyp,
            3 => Self::SharedWithHyp,
            code => {
                let place = usize_of(code) - 4;
                if place < GUESTS { Self::Guest(place) } else { Self::SharedWithGuest(place - GUESTS) }
            }
        }
    }

    /// Whether devices of the host must reach the page; `None` while it is locked.
    pub const fn is_reachable(self) -> Option<bool> {
        match self {
            Self::Host | Self::SharedWithHyp | Self::SharedWithGuest(_) => Some(true),
            Self::Hyp | Self::Guest(_) => Some(false),
            Self::Locked => None,
        }
    }
}

/// Low bits of a page's word: its owner. The rest is a change counter.
const OWNER: u64 = 15;
const CHANGE: u64 = 16;

static WORDS: [AtomicU64; PAGES] = [const { AtomicU64::new(0) }; PAGES];
/// Whether the disk has transfers in flight to each page.
static IN_FLIGHT: [AtomicBool; PAGES] = [const { AtomicBool::new(false) }; PAGES];
static ARENA: Once<u64> = Once::new();

/// Allocates the memory and maps it for the devices; call it first.
pub fn init(setup: &Setup) {
    let arena = *ARENA.call_once(|| alloc(u64_of(PAGES / LONGEST) * STRIDE, BLOCK));
    for index in 0..PAGES {
        setup.bus(address(index));
    }
    crate::println!("{PAGES} pages from {arena:#x}");
}

/// Address of page `index`.
pub fn address(index: usize) -> u64 {
    let (run, place) = (u64_of(index / LONGEST), u64_of(index % LONGEST));
    ARENA.get().copied().unwrap_or(0) + run * STRIDE + place * PAGE
}

/// The word of page `index`; it changes with each change of the page.
pub fn word(index: usize) -> u64 {
    WORDS[index].load(Ordering::SeqCst)
}

/// Marks the page before transfers of the disk. `None`, and it is not marked, while the page is in a transition or
/// other transfers are in flight.
pub fn transfers_begin(index: usize) -> Option<u64> {
    if IN_FLIGHT[index].swap(true, Ordering::SeqCst) {
        return None;
    }
    // The mark is first: a CPU that locks the page afterwards sees it.
    let seen = word(index);
    if Owner::of(seen) == Owner::Locked {
        transfers_ended(index);
        return None;
    }
    Some(seen)
}

/// Removes the mark of [`transfers_begin`] after the transfers have ended.
pub fn transfers_ended(index: usize) {
    IN_FLIGHT[index].store(false, Ordering::SeqCst);
}

/// Pages locked by one CPU; it must [`LockedPages::release`] them.
pub struct LockedPages {
    /// Index of the first page.
    pub first: usize,
    /// Number of pages.
    pub count: usize,
    /// Their owner when they were locked.
    pub owner: Owner,
}

impl LockedPages {
    /// Locks page `first` and up to `most - 1` following ones with the same owner, in one run. `None` if `first` is
    /// locked.
    pub fn take(first: usize, most: usize) -> Option<Self> {
        let owner = Owner::of(word(first));
        let end = (first + most).min(first - first % LONGEST + LONGEST);
        let takes = |index: &usize| {
            let seen = word(*index);
            let moving = seen & !OWNER | Owner::Locked.code();
            Owner::of(seen) == owner
                && WORDS[*index].compare_exchange(seen, moving, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        if owner == Owner::Locked {
            return None;
        }
        let count = (first..end).take_while(takes).count();
        (count > 0).then_some(Self { first, count, owner })
    }

    /// Unlocks them with the new `owner` and increments the change counters.
    pub fn release(self, owner: Owner) {
        for index in self.indices() {
            let moving = word(index);
            WORDS[index].store((moving & !OWNER).wrapping_add(CHANGE) | owner.code(), Ordering::SeqCst);
        }
    }

    /// Indices of the pages.
    pub fn indices(&self) -> core::ops::Range<usize> {
        self.first..self.first + self.count
    }

    /// Address of the first page.
    pub fn base(&self) -> u64 {
        address(self.first)
    }

    /// Size of all pages in bytes.
    pub fn bytes(&self) -> u64 {
        u64_of(self.count) * PAGE
    }

    /// Whether no transfer of the disk is in flight to any of them; none begins while they are locked.
    pub fn has_no_transfers(&self) -> bool {
        IN_FLIGHT[self.first..self.first + self.count].iter().all(|mark| !mark.load(Ordering::SeqCst))
    }

    /// Fills them with canaries that only the new owner may read.
    pub fn fill_with_canaries(&self) {
        for index in self.indices() {
            mmio::fill(address(index), PAGE, canary(index));
        }
    }
}

/// Fill pattern of page `index` before it is donated.
pub const fn canary(index: usize) -> u64 {
    0xca9a_0000_0000_0000 | u64_of(index)
}
