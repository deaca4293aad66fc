//! `edu` as a second master: 100 ms per transfer, with another StreamID. It translates its address when the transfer
//! runs.
//!
//! So it may write to pages at any time, also during a change of owner; returned pages are checked for its data. No
//! CPU waits for it.

use super::pages::{self, Owner, PAGES};
use crate::edu::{Direction, EDU_WORD, Edu};
use crate::mem::{PAGE, page};
use crate::mmio;
use crate::num::{u64_of, usize_of};
use crate::outcome::TestResult;
use crate::random::Random;
use crate::setup::Setup;
use crate::{ensure, println};

/// Content of the device's buffer before a read.
const BEFORE: u64 = 0xbef0_bef0_bef0_bef0;
/// Content of the host's own page before the buffer is copied to it.
const MARK: u64 = 0x3a4b_3a4b_3a4b_3a4b;
/// Offset of the used word of a page: in the sector that the disk does not use.
const WORD: u64 = PAGE - 64;

/// The current transfer.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Loads a known word into the device's buffer.
    Load,
    /// Writes the buffer to the page.
    WriteToPage,
    /// Loads [`BEFORE`] into the buffer: it stays there if the next read is refused.
    Before,
    /// Reads the page into the buffer.
    ReadBack,
    /// Copies the buffer to the host's own page.
    Return,
}

/// The device and its current probe.
pub struct EduProbe<'l> {
    edu: Edu,
    setup: &'l Setup,
    own: (u64, u64),
    step: Step,
    index: usize,
    seen: u64,
    unchanged: bool,
    word: u64,
    /// Number of transfers to pages.
    pub transfers: u64,
    /// Number of those to pages that were never the host's during the transfer, which transferred no data.
    pub blocked: u64,
    /// Number of those to pages that were always the host's during the transfer, which transferred all data.
    pub through: u64,
    /// Number of those with the wrong result.
    pub wrong: u64,
}

impl<'l> EduProbe<'l> {
    /// Starts the first transfer.
    pub fn new(setup: &'l Setup) -> Self {
        let own = page();
        let (edu, own, step) = (setup.edu, (own, setup.bus(own)), Step::Load);
        let (transfers, blocked, through, wrong) = (0, 0, 0, 0);
        let slow = Self {
            edu,
            setup,
            own,
            step,
            index: 0,
            seen: 0,
            unchanged: false,
            word: EDU_WORD,
            transfers,
            blocked,
            through,
            wrong,
        };
        slow.load_from_own_page(EDU_WORD);
        slow
    }

    fn load_from_own_page(&self, word: u64) {
        mmio::write64(self.own.0, word);
        self.edu.start(Direction::FromMemory, self.own.1, 0, 8);
    }

    fn reach(&mut self, direction: Direction) {
        self.transfers += 1;
        self.edu.start(direction, self.setup.bus(pages::address(self.index)) + WORD, 0, 8);
    }

    /// Starts the next transfer if the last one has ended, and checks its result.
    ///
    /// # Errors
    /// The device does not reach the host's own page.
    pub fn poll(&mut self, random: &mut Random) -> TestResult {
        if !self.edu.is_idle() {
            return Ok(());
        }
        self.step = match self.step {
            Step::Load => {
                self.index = usize_of(random.below(u64_of(PAGES)));
                self.seen = pages::word(self.index);
                self.reach(Direction::ToMemory);
                Step::WriteToPage
            }
            Step::WriteToPage => {
                self.load_from_own_page(BEFORE);
                Step::Before
            }
            Step::Before => {
                self.reach(Direction::FromMemory);
                Step::ReadBack
            }
            Step::ReadBack => {
                self.unchanged = pages::word(self.index) == self.seen;
                mmio::write64(self.own.0 + 8, MARK);
                self.edu.start(Direction::ToMemory, self.own.1 + 8, 0, 8);
                Step::Return
            }
            Step::Return => {
                let shown = mmio::read64(self.own.0 + 8);
                ensure!(shown != MARK, "edu does not reach the host's own page");
                self.check(shown);
                self.word = EDU_WORD | (self.word + 1) & 0xffff_ffff;
                self.load_from_own_page(self.word);
                Step::Load
            }
        };
        Ok(())
    }

    /// Checks the data read against the page's owner during the probe.
    fn check(&mut self, shown: u64) {
        let owner = Owner::of(self.seen);
        match (owner.is_reachable(), shown) {
            _ if !self.unchanged => {}
            (None, _) => {}
            (Some(true), word) if word == self.word => self.through += 2,
            (Some(false), BEFORE | 0) => self.blocked += 2,
            (Some(_), shown) => {
                println!("wrong: page {} of {owner:?}: edu wrote {:#x}, read {shown:#x}", self.index, self.word);
                self.wrong += 2;
            }
        }
    }

    /// Waits for the end of the current transfer.
    ///
    /// # Errors
    /// Timeout.
    pub fn finish(&self) -> TestResult {
        Ok(self.edu.finish()?)
    }
}
