//! The disk with many commands in flight: each probe writes to a page by DMA, reads it back by DMA, and checks the
//! data.
//!
//! A page that is not the host's must return neither the probe's data nor its owner's canary (QEMU's disk reads zeroes
//! where it has no access). A page of the host must return exactly the written data.

use core::ops::Range;

use super::pages::{self, Owner, PAGES};
use crate::edu::Direction;
use crate::mem::page;
use crate::num::{low32, u64_of, usize_of};
use crate::nvme::{DISK_WORD, Nvme, NvmeError, SECTOR, Transfer};
use crate::outcome::{Fail, TestResult};
use crate::random::Random;
use crate::setup::Setup;
use crate::{ensure, mmio, println, sysreg};

/// Concurrent probes, one command each.
const PROBES: usize = 6;
/// Number of sectors of a page that the disk uses; the other device uses the last one.
const SECTORS: u64 = 7;
/// First sectors on the disk of the data that probes write, four per probe, and of the data that they read.
const SOURCES: Range<u32> = 1024..2048;
const SCRATCH: u32 = 4096;
/// Different words for each probe.
const WORDS: u64 = 4;
/// Timeout without any completion, in microseconds.
const TIMEOUT_US: u64 = 60_000_000;
/// Maximum number of printed wrong results.
const PRINTED: u64 = 8;

/// Results of transfers to pages that did not change during the transfer, and errors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Number of commands to a page that was not the host's while they were in flight, which transferred no data.
    pub blocked: u64,
    /// Number of commands that transferred all data, to pages that the host owned while the commands were in flight.
    pub through: u64,
    /// Number of commands to pages that changed owner while they were in flight.
    pub undecided: u64,
    /// Number of commands with the wrong result.
    pub wrong: u64,
}

/// Number of commands of a probe to the page.
const NAMING: u64 = 2;

/// State of a probe: the event that it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// No event: it can begin.
    Idle,
    /// The disk's write to the page.
    WriteToPage,
    /// The disk's read of the page.
    ReadBack,
    /// The disk's return of the data that it read.
    Return,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    step: Step,
    index: usize,
    seen: u64,
    /// Whether the page did not change during the probe.
    unchanged: bool,
    refused: bool,
    bus: u64,
    sectors: u64,
    round: u64,
    /// A page of the host for this probe, and its bus address.
    own: (u64, u64),
}

/// The driver.
pub struct Disk<'l> {
    nvme: Nvme,
    setup: &'l Setup,
    probes: [Probe; PROBES],
    random: Random,
    last: u64,
    /// Results of the probes.
    pub tally: Tally,
}

impl<'l> Disk<'l> {
    /// Writes the words to the disk, which must work.
    ///
    /// # Errors
    /// The disk does not work.
    pub fn new(mut nvme: Nvme, setup: &'l Setup, seed: u64) -> Result<Self, Fail> {
        let probes = core::array::from_fn(|_| {
            let own = page();
            let (step, own) = (Step::Idle, (own, setup.bus(own)));
            Probe { step, index: 0, seen: 0, unchanged: true, refused: false, bus: 0, sectors: 1, round: 0, own }
        });
        let staging = page();
        for number in 0..PROBES {
            for round in 0..WORDS {
                mmio::fill(staging, SECTORS * SECTOR, source_word(number, round));
                nvme.write(source(number, round), low32(SECTORS), setup.bus(staging))?;
            }
        }
        Ok(Self { nvme, setup, probes, random: Random::new(seed), last: sysreg::cntvct(), tally: Tally::default() })
    }

    /// Handles completions, continues their probes, and starts new ones.
    ///
    /// # Errors
    /// The disk has stopped working.
    pub fn poll(&mut self) -> TestResult {
        self.take_completions()?;
        for number in 0..PROBES {
            if self.probes[number].step == Step::Idle {
                self.begin(number);
            }
        }
        self.nvme.ring();
        Ok(())
    }

    /// Waits until all probes have ended.
    ///
    /// # Errors
    /// As [`Disk::poll`].
    pub fn finish(&mut self) -> TestResult {
        while self.probes.iter().any(|probe| probe.step != Step::Idle) {
            self.take_completions()?;
            self.nvme.ring();
        }
        Ok(())
    }

    fn take_completions(&mut self) -> TestResult {
        let mut taken = 0;
        while let Some((id, result)) = self.nvme.completion() {
            taken += 1;
            self.completed(usize_of(u64::from(id)) % PROBES, result)?;
        }
        let now = sysreg::cntvct();
        if taken > 0 {
            self.nvme.acknowledge();
            self.last = now;
        }
        ensure!(now - self.last < sysreg::ticks(TIMEOUT_US), "the disk has not completed a command for too long");
        Ok(())
    }

    fn begin(&mut self, number: usize) {
        let index = usize_of(self.random.below(u64_of(PAGES)));
        let (first, sectors) = match self.random.below(8) {
            0 => (0, SECTORS),
            _ => (self.random.below(SECTORS), 1),
        };
        let Some(seen) = pages::transfers_begin(index) else { return };
        let probe = &mut self.probes[number];
        (probe.index, probe.seen, probe.sectors, probe.refused) = (index, seen, sectors, false);
        probe.round = (probe.round + 1) % WORDS;
        probe.bus = self.setup.bus(pages::address(index)) + first * SECTOR;
        probe.step = Step::WriteToPage;
        let (bus, round) = (probe.bus, probe.round);
        self.move_sectors(number, Direction::ToMemory, source(number, round), bus);
    }

    fn move_sectors(&mut self, number: usize, direction: Direction, lba: u32, prp: u64) {
        let sectors = low32(self.probes[number].sectors);
        self.nvme.begin(low32(u64_of(number)), Transfer { direction, lba, sectors, prp });
    }

    fn completed(&mut self, number: usize, result: Result<(), NvmeError>) -> TestResult {
        let probe = &mut self.probes[number];
        let (bus, own, bytes) = (probe.bus, probe.own, probe.sectors * SECTOR);
        match probe.step {
            Step::WriteToPage => {
                probe.refused |= result.is_err();
                probe.step = Step::ReadBack;
                self.move_sectors(number, Direction::FromMemory, scratch(number), bus);
            }
            Step::ReadBack => {
                probe.refused |= result.is_err();
                probe.unchanged = pages::word(probe.index) == probe.seen;
                pages::transfers_ended(probe.index);
                probe.step = Step::Return;
                mmio::fill(own.0, bytes, !source_word(number, probe.round));
                self.move_sectors(number, Direction::ToMemory, scratch(number), own.1);
            }
            Step::Return => {
                result?;
                probe.step = Step::Idle;
                let probe = *probe;
                self.check(number, &probe);
            }
            Step::Idle => crate::fail!("the disk completed a command twice"),
        }
        Ok(())
    }

    fn check(&mut self, number: usize, probe: &Probe) {
        let bytes = probe.sectors * SECTOR;
        let word = source_word(number, probe.round);
        let landed = !probe.refused && mmio::find_other(probe.own.0, bytes, word).is_none();
        // After an error the page still has the data of the previous probe.
        let nothing = probe.refused || mmio::find_other(probe.own.0, bytes, 0).is_none();
        let owner = Owner::of(probe.seen);
        match (owner.is_reachable(), landed, nothing) {
            _ if !probe.unchanged => self.tally.undecided += NAMING,
            (Some(true), true, _) => self.tally.through += NAMING,
            (Some(false), false, true) => self.tally.blocked += NAMING,
            _ => {
                self.tally.wrong += NAMING;
                if self.tally.wrong <= NAMING * PRINTED {
                    let seen = mmio::read64(probe.own.0);
                    println!("wrong: page {} of {owner:?}: wrote {word:#x}, read {seen:#x}", probe.index);
                }
            }
        }
    }
}

fn source(number: usize, round: u64) -> u32 {
    SOURCES.start + low32((u64_of(number) * WORDS + round) * 8)
}

fn source_word(number: usize, round: u64) -> u64 {
    DISK_WORD | (u64_of(number) * WORDS + round + 1)
}

fn scratch(number: usize) -> u32 {
    SCRATCH + low32(u64_of(number) * 8)
}
