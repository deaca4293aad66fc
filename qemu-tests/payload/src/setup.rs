//! Attack set-up: an SMMU, a DMA device, own pages, and the check whether a transfer landed.

use core::cell::RefCell;

use crate::edu::{Direction, Edu};
use crate::firmware::{self, Stat};
use crate::machine::Machine;
use crate::mem::{PAGE, page};
use crate::mmio;
use crate::outcome::{Fail, Kind, TestResult};
use crate::pci::Bridge;
use crate::println;
use crate::smmu::spec::{GBPA_ABORT, Ste, reg};
use crate::smmu::stage1::Stage1;
use crate::smmu::{Format, Smmu, SmmuError};

/// Expected result of an attack on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Isolation blocks it.
    Blocked,
    /// Without isolation it lands.
    Landed,
}

/// Context of a test.
pub struct Ctx {
    /// The machine.
    pub machine: &'static Machine,
    /// Expected result of attacks.
    pub expect: Expect,
    /// Seed for tests with random input.
    pub seed: u64,
    /// Name of the running test.
    pub name: &'static str,
}

/// The host's SMMU mode for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// SMMUEN=0, GBPA bypass.
    Off,
    /// SMMUEN=0, GBPA abort.
    OffAbort,
    /// SMMUEN=1, a bypass entry.
    Bypass,
    /// SMMUEN=1, stage 1.
    Stage1,
}

/// Result of a DMA read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The word.
    Value(u64),
    /// No data: the device's buffer still has its canary, or zeroes after an aborted read.
    Nothing,
}

/// Content of the device's buffer before a read.
const CANARY: u64 = 0xca9a_11e5_0dd5_ca9a;
/// XORed into a page's address to get its IOVA, so that a transfer proves that stage 1 translated.
const IOVA_FLIP: u64 = 0x20_0000_0000;
/// Marks the payload's own words in attacked memory.
pub const MARK: u64 = 0x600d_dead_5afe_b0b0;

impl From<SmmuError> for Fail {
    fn from(error: SmmuError) -> Self {
        Self::new(Kind::Failed, format_args!("SMMU: {error:?}"))
    }
}

/// The SMMU and the DMA device that an attack uses.
pub struct Setup {
    /// The device.
    pub edu: Edu,
    /// The SMMU; in a cell, as [`Setup::bus`] maps addresses through a shared reference.
    pub smmu: RefCell<Smmu>,
    /// The device's address space.
    pub stage1: Stage1,
    /// A page of the host for copies of the device's buffer.
    pub own: u64,
    mode: Mode,
}

impl Setup {
    /// Finds the devices and sets the SMMU up.
    ///
    /// # Errors
    /// A device is missing (a skip), or the SMMU does not work.
    pub fn new(ctx: &Ctx, mode: Mode) -> Result<Self, Fail> {
        Self::with_format(ctx, mode, Format::TwoLevel)
    }

    /// As [`Setup::new`], with the format of the stream table.
    ///
    /// # Errors
    /// As [`Setup::new`].
    pub fn with_format(ctx: &Ctx, mode: Mode, format: Format) -> Result<Self, Fail> {
        if ctx.machine.smmu == 0 {
            return Err(Fail::new(Kind::Skipped, format_args!("no SMMU in the device tree")));
        }
        let edu = Edu::find(ctx.machine).ok_or_else(|| Fail::new(Kind::Skipped, format_args!("no edu device")))?;
        Self::of(edu, Smmu::new(ctx.machine, format), mode)
    }

    /// As [`Setup::new`], with the second SMMU and the `edu` behind its root port.
    ///
    /// # Errors
    /// As [`Setup::new`].
    pub fn second(ctx: &Ctx, mode: Mode) -> Result<Self, Fail> {
        let missing = |what| Fail::new(Kind::Skipped, format_args!("no {what}"));
        let second = ctx.machine.second.ok_or_else(|| missing("second SMMU in the device tree"))?;
        // Its bus keeps the number from `pci::number_buses`. The device's BAR has 1 MiB.
        Bridge::find_on(ctx.machine, second.bus, 1).ok_or_else(|| missing("root port behind the second SMMU"))?;
        let edu = Edu::find_on(ctx.machine, second.bus + 1).ok_or_else(|| missing("edu behind the second SMMU"))?;
        let mut smmu = Smmu::at(second.smmu, Format::TwoLevel);
        smmu.strtab.add_leaf(edu.function.sid >> 8);
        Self::of(edu, smmu, mode)
    }

    fn of(edu: Edu, smmu: Smmu, mode: Mode) -> Result<Self, Fail> {
        let setup = Self { edu, smmu: RefCell::new(smmu), stage1: Stage1::new(), own: page(), mode };
        setup.enter(mode)?;
        Ok(setup)
    }

    /// Sets the SMMU up from reset.
    fn enter(&self, mode: Mode) -> TestResult {
        let mut smmu = self.smmu.borrow_mut();
        match mode {
            Mode::Off | Mode::OffAbort => {
                smmu.off()?;
                smmu.set_gbpa(if mode == Mode::Off { 0 } else { GBPA_ABORT })?;
            }
            Mode::Bypass => {
                smmu.start()?;
                smmu.set_ste(self.edu.function.sid, Ste::bypass())?;
            }
            Mode::Stage1 => {
                smmu.start()?;
                smmu.set_ste(self.edu.function.sid, self.stage1.ste())?;
            }
        }
        Ok(())
    }

    /// Changes the mode.
    ///
    /// # Errors
    /// The SMMU does not work.
    pub fn switch(&mut self, mode: Mode) -> TestResult {
        self.mode = mode;
        self.enter(mode)
    }

    /// The address by which the device reaches `pa` in this mode; with stage 1, maps it in the host's stage 1.
    pub fn bus(&self, pa: u64) -> u64 {
        if self.mode != Mode::Stage1 {
            return pa;
        }
        let iova = pa ^ IOVA_FLIP;
        self.stage1.map_page(iova & !(PAGE - 1), pa & !(PAGE - 1));
        iova
    }

    /// DMA write of `word` to physical address `pa`. The caller checks whether it landed.
    ///
    /// # Errors
    /// The device timed out.
    pub fn write(&self, pa: u64, word: u64) -> TestResult {
        mmio::write64(self.own, word);
        self.edu.transfer(Direction::FromMemory, self.bus(self.own), 0, 8)?;
        self.edu.transfer(Direction::ToMemory, self.bus(pa), 0, 8)?;
        Ok(())
    }

    /// DMA read of the word at physical address `pa`.
    ///
    /// # Errors
    /// The device timed out, or DMA to the host's own page failed.
    pub fn read(&self, pa: u64) -> Result<Seen, Fail> {
        let own = self.bus(self.own);
        mmio::write64(self.own, CANARY);
        self.edu.transfer(Direction::FromMemory, own, 0, 8)?;
        self.edu.transfer(Direction::FromMemory, self.bus(pa), 0, 8)?;
        mmio::write64(self.own + 8, MARK);
        self.edu.transfer(Direction::ToMemory, own + 8, 0, 8)?;
        Ok(match mmio::read64(self.own + 8) {
            MARK => return Err("DMA to the host's own page does not work".into()),
            CANARY | 0 => Seen::Nothing,
            value => Seen::Value(value),
        })
    }

    /// Whether DMA can write a new word to `pa` and read it back.
    ///
    /// # Errors
    /// As [`Setup::read`].
    pub fn write_lands(&self, pa: u64) -> Result<bool, Fail> {
        let word = MARK ^ pa;
        self.write(pa, word)?;
        Ok(self.read(pa)? == Seen::Value(word))
    }

    /// The control: DMA to and from an unused page of the host, checked by the CPU. Prints its line.
    ///
    /// # Errors
    /// The transfer failed.
    pub fn control(&self, ctx: &Ctx) -> TestResult {
        let page = page();
        let word = MARK ^ page;
        self.write(page + 0x10, word)?;
        crate::ensure!(mmio::read64(page + 0x10) == word, "control: DMA write to an own page did not arrive");
        mmio::write64(page + 0x20, !word);
        crate::ensure!(self.read(page + 0x20)? == Seen::Value(!word), "control: DMA read of an own page failed");
        println!("CONTROL {}: ok", ctx.name);
        Ok(())
    }
}

/// Counts faults during an attack, and checks its result.
pub struct Attack {
    faults_before: u64,
}

impl Attack {
    /// Starts counting.
    pub fn begin() -> Self {
        Self { faults_before: firmware::stat(Stat::Faults) }
    }

    /// Prints the attack's line and compares it with the expected result; a blocked one must have been recorded by EL2.
    ///
    /// # Errors
    /// The attack had the wrong result.
    pub fn check(self, ctx: &Ctx, landed: Landed) -> TestResult {
        let recorded = firmware::stat(Stat::Faults).saturating_sub(self.faults_before);
        println!("ATTACK {}: {}", ctx.name, if landed == Landed::Yes { "landed" } else { "blocked" });
        match (ctx.expect, landed) {
            (Expect::Blocked, Landed::Yes) => crate::fail!("the attack landed"),
            (Expect::Landed, Landed::No) => crate::fail!("the attack was blocked, but should have landed"),
            (Expect::Blocked, Landed::No) => crate::ensure!(recorded > 0, "blocked, but EL2 recorded no DMA fault"),
            (Expect::Landed, Landed::Yes) => {}
        }
        Ok(())
    }
}

/// Whether an attack landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landed {
    /// It did.
    Yes,
    /// It did not.
    No,
}

impl From<bool> for Landed {
    fn from(landed: bool) -> Self {
        if landed { Self::Yes } else { Self::No }
    }
}

/// Addresses in memory of another owner: a word with known content, and one that is safe to overwrite.
#[derive(Clone, Copy, Debug)]
pub struct AttackedMemory {
    /// A word with a known content.
    pub known: u64,
    /// Its content.
    pub content: u64,
    /// An unused word.
    pub unused: u64,
}

/// Offset of the magic word of an arm64 Image header, and the value of its eight bytes ("ARM\x64", then no PE header).
const IMAGE_MAGIC: (u64, u64) = (0x38, 0x644d_5241);
/// Offset of a reserved word of an arm64 Image header.
const IMAGE_RESERVED: u64 = 0x28;

impl AttackedMemory {
    /// EL2's image, whose header is still in memory; without a hypervisor, a page of the host.
    pub fn el2(ctx: &Ctx) -> Result<Self, Fail> {
        let image = ctx.machine.el2_image();
        let base = if !ctx.machine.under_hypervisor() {
            let scratch = page();
            mmio::write64(scratch + IMAGE_MAGIC.0, IMAGE_MAGIC.1);
            scratch
        } else if ctx.machine.is_ram(image) {
            return Err(Fail::new(
                Kind::Failed,
                format_args!("the device tree gives {image:#x}, EL2's image, to the host"),
            ));
        } else {
            image
        };
        Ok(Self { known: base + IMAGE_MAGIC.0, content: IMAGE_MAGIC.1, unused: base + IMAGE_RESERVED })
    }
}

/// Whether the host has enabled the SMMU (SMMUEN as the host reads it).
pub fn is_enabled(smmu: &Smmu) -> bool {
    smmu.read(reg::CR0ACK) & 1 != 0
}
