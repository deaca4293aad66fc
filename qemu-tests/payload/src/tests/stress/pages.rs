//! The pages that change hands: who has each of them, and who may touch that word.
//!
//! A CPU that moves pages takes their words first, so that a word always says what EL2 must think. Pages that the disk has transfers
//! under way to are marked: a page is given away only when none is under way to it, as an honest host does it, since QEMU resolves an address
//! when a transfer begins and may move the data after the page has changed hands (see docs/threat-model.md).

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::Once;

use crate::lab::Lab;
use crate::mem::{BLOCK, PAGE, alloc};
use crate::mmio;
use crate::num::{u64_of, usize_of};

/// Pages that change hands.
pub const PAGES: usize = 512;
/// Pages that lie side by side: the longest range of one call.
pub const LONGEST: usize = 8;
/// Distance between two runs of them, so that ten blocks or so are split and put together again.
const STRIDE: u64 = 0x5_0000;
/// Guests that live at a time.
pub const GUESTS: usize = 4;

/// Who has a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The host, all of it.
    Host,
    /// A CPU is about to change this, or has just done so.
    Moving,
    /// EL2's pool.
    Hyp,
    /// The host, which has lent it to EL2.
    LentToHyp,
    /// A guest, by its place in the list of guests.
    Guest(usize),
    /// The host, which has lent it to a guest.
    LentToGuest(usize),
}

impl Owner {
    const fn code(self) -> u64 {
        match self {
            Self::Host => 0,
            Self::Moving => 1,
            Self::Hyp => 2,
            Self::LentToHyp => 3,
            Self::Guest(guest) => 4 + u64_of(guest),
            Self::LentToGuest(guest) => 4 + u64_of(GUESTS + guest),
        }
    }

    /// What the low bits of a page's word say.
    pub const fn of(word: u64) -> Self {
        match word & OWNER {
            0 => Self::Host,
            1 => Self::Moving,
            2 => Self::Hyp,
            3 => Self::LentToHyp,
            code => {
                let place = usize_of(code) - 4;
                if place < GUESTS { Self::Guest(place) } else { Self::LentToGuest(place - GUESTS) }
            }
        }
    }

    /// Whether devices of the host must reach the page; unknown while it moves.
    pub const fn is_reachable(self) -> Option<bool> {
        match self {
            Self::Host | Self::LentToHyp | Self::LentToGuest(_) => Some(true),
            Self::Hyp | Self::Guest(_) => Some(false),
            Self::Moving => None,
        }
    }
}

/// Low bits of a page's word: its owner. The rest counts its changes, so that an observer knows that nothing happened.
const OWNER: u64 = 15;
const CHANGE: u64 = 16;

static WORDS: [AtomicU64; PAGES] = [const { AtomicU64::new(0) }; PAGES];
/// Whether the disk has transfers under way to each page.
static UNDER_WAY: [AtomicBool; PAGES] = [const { AtomicBool::new(false) }; PAGES];
static ARENA: Once<u64> = Once::new();

/// Takes the memory and makes all of it known to the devices; before anything else here.
pub fn init(lab: &Lab) {
    let arena = *ARENA.call_once(|| alloc(u64_of(PAGES / LONGEST) * STRIDE, BLOCK));
    for index in 0..PAGES {
        lab.bus(address(index));
    }
    crate::println!("{PAGES} pages from {arena:#x}");
}

/// Address of page `index`.
pub fn address(index: usize) -> u64 {
    let (run, place) = (u64_of(index / LONGEST), u64_of(index % LONGEST));
    ARENA.get().copied().unwrap_or(0) + run * STRIDE + place * PAGE
}

/// The word of page `index`: as long as it reads the same, nothing has happened to the page.
pub fn word(index: usize) -> u64 {
    WORDS[index].load(Ordering::SeqCst)
}

/// Transfers of the disk are about to begin. `None`, and nothing is counted, while the page moves or others are under way.
pub fn transfers_begin(index: usize) -> Option<u64> {
    if UNDER_WAY[index].swap(true, Ordering::SeqCst) {
        return None;
    }
    // In this order: whoever takes the page after this sees the mark.
    let seen = word(index);
    if Owner::of(seen) == Owner::Moving {
        transfers_ended(index);
        return None;
    }
    Some(seen)
}

/// The transfers that [`transfers_begin`] marked have ended.
pub fn transfers_ended(index: usize) {
    UNDER_WAY[index].store(false, Ordering::SeqCst);
}

/// Pages that one CPU has taken; it must [`Taken::release`] them.
pub struct Taken {
    /// The first of them.
    pub first: usize,
    /// How many there are.
    pub count: usize,
    /// Who has them.
    pub owner: Owner,
}

impl Taken {
    /// Takes page `first` and up to `most - 1` behind it that have the same owner, all of one run. `None` if it moves already.
    pub fn take(first: usize, most: usize) -> Option<Self> {
        let owner = Owner::of(word(first));
        let end = (first + most).min(first - first % LONGEST + LONGEST);
        let takes = |index: &usize| {
            let seen = word(*index);
            let moving = seen & !OWNER | Owner::Moving.code();
            Owner::of(seen) == owner
                && WORDS[*index].compare_exchange(seen, moving, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        if owner == Owner::Moving {
            return None;
        }
        let count = (first..end).take_while(takes).count();
        (count > 0).then_some(Self { first, count, owner })
    }

    /// Gives them to `owner`: whoever watches sees that something happened.
    pub fn release(self, owner: Owner) {
        for index in self.indices() {
            let moving = word(index);
            WORDS[index].store((moving & !OWNER).wrapping_add(CHANGE) | owner.code(), Ordering::SeqCst);
        }
    }

    /// Their numbers.
    pub fn indices(&self) -> core::ops::Range<usize> {
        self.first..self.first + self.count
    }

    /// Address of the first.
    pub fn base(&self) -> u64 {
        address(self.first)
    }

    /// Bytes of them all.
    pub fn bytes(&self) -> u64 {
        u64_of(self.count) * PAGE
    }

    /// Whether no transfer of the disk is under way to any of them; none begins while they are taken.
    pub fn is_quiet(&self) -> bool {
        UNDER_WAY[self.first..self.first + self.count].iter().all(|mark| !mark.load(Ordering::SeqCst))
    }

    /// Fills them with what nobody but their new owner may see.
    pub fn fill_with_canaries(&self) {
        for index in self.indices() {
            mmio::fill(address(index), PAGE, canary(index));
        }
    }
}

/// What fills page `index` before it is given away.
pub const fn canary(index: usize) -> u64 {
    0xca9a_0000_0000_0000 | u64_of(index)
}
