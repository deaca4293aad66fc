//! DMA and page ownership: pages of other owners are inaccessible after the hypercall has returned, also with cached
//! translations and transfers in flight.

use crate::edu::Direction;
use crate::firmware::{self, Answer, Hypercall, Stat};
use crate::mem::{BLOCK, PAGE, alloc, page};
use crate::mmio;
use crate::outcome::TestResult;
use crate::registry::Runs;
use crate::setup::{Attack, AttackedMemory, Ctx, Expect, Landed, Mode, Seen, Setup};
use crate::smmu::spec::{cr0, reg};
use crate::{ensure, fail, payload_test};

/// Donates `pages` pages to EL2.
pub fn donate(base: u64, pages: u64) -> TestResult {
    let answer = Hypercall::HostDonateHyp.call(base, pages);
    ensure!(answer == Answer::Success, "HOST_DONATE_HYP({base:#x}, {pages}): {answer:?}");
    Ok(())
}

/// Requests the return of `pages` pages and checks that they are zero.
pub fn take_back(base: u64, pages: u64) -> TestResult {
    let answer = Hypercall::HypDonateHost.call(base, pages);
    ensure!(answer == Answer::Success, "HYP_DONATE_HOST({base:#x}, {pages}): {answer:?}");
    let other = mmio::find_other(base, pages * PAGE, 0);
    ensure!(other.is_none(), "the returned page is not zero at {other:x?}");
    Ok(())
}

payload_test!(t01_el2_memory_by_dma, Runs::HYP);
/// DMA reads of and writes to all parts of EL2's memory, in every mode of the host's SMMU.
fn t01_el2_memory_by_dma(ctx: &Ctx) -> TestResult {
    let Some(hole) = ctx.machine.hole() else {
        fail!("the device tree gives all RAM to the host");
    };
    let mut setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let attack = Attack::begin();
    for mode in [Mode::Stage1, Mode::Bypass, Mode::Off] {
        setup.switch(mode)?;
        let step = ((hole.end - hole.start) / 8).max(PAGE) & !(PAGE - 1);
        for addr in (hole.start..hole.end).step_by(crate::num::usize_of(step)) {
            let seen = setup.read(addr + 0x38)?;
            ensure!(seen == Seen::Nothing, "{mode:?}: EL2's memory at {addr:#x} reads {seen:x?}");
            ensure!(!setup.write_lands(addr + 0x38)?, "{mode:?}: EL2's memory at {addr:#x} is written");
        }
        let last = hole.end - 8;
        ensure!(!setup.write_lands(last)?, "{mode:?}: EL2's memory at {last:#x} is written");
    }
    let attacked = AttackedMemory::el2(ctx)?;
    attack.check(ctx, (setup.read(attacked.known)? == Seen::Value(attacked.content)).into())
}

/// Accesses a page by DMA, donates it, attacks it, and requests its return.
fn donate_and_attack(ctx: &Ctx, setup: &Setup, attacked: u64, cache_first: CacheFirst) -> TestResult {
    if cache_first == CacheFirst::Yes {
        ensure!(setup.write_lands(attacked + 0x800)?, "the page is not reachable while it is the host's");
    }
    donate(attacked, 1)?;
    let attack = Attack::begin();
    let landed = setup.write_lands(attacked + 0x808)?;
    attack.check(ctx, landed.into())?;
    if ctx.expect == Expect::Blocked {
        take_back(attacked, 1)?;
        ensure!(setup.write_lands(attacked + 0x800)?, "the page is not reachable after it was returned");
        mmio::fill(attacked, PAGE, 0);
    }
    Ok(())
}

/// Whether the device uses a page before it is donated, so that its translation is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CacheFirst {
    Yes,
    No,
}

payload_test!(t02_donated_page, Runs::EITHER);
/// DMA to a page donated after boot that the device never used.
fn t02_donated_page(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    donate_and_attack(ctx, &setup, page(), CacheFirst::No)
}

payload_test!(t03_guests_page, Runs::EITHER);
/// A page that the device used, and that then was donated to a guest; after the guest is destroyed it is reclaimed,
/// zeroed and reachable.
fn t03_guests_page(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let attacked = page();
    ensure!(setup.write_lands(attacked + 0x800)?, "the page is not reachable while it is the host's");
    let created = Hypercall::VmCreate.raw(0, 0);
    ensure!(Answer::of(created[0]) == Answer::Success, "VM_CREATE: {:?}", Answer::of(created[0]));
    let guest = created[1];
    let answer = Hypercall::HostDonateGuest.call_for(attacked, 1, guest);
    ensure!(answer == Answer::Success, "HOST_DONATE_GUEST: {answer:?}");
    let attack = Attack::begin();
    let landed = setup.write_lands(attacked + 0x808)?;
    attack.check(ctx, landed.into())?;
    let destroyed = Answer::of(Hypercall::VmDestroy.raw(guest, 0)[0]);
    ensure!(destroyed == Answer::Success, "VM_DESTROY: {destroyed:?}");
    if ctx.expect == Expect::Blocked {
        ensure!(
            !setup.write_lands(attacked + 0x810)?,
            "the destroyed guest's page is reachable before it is reclaimed"
        );
    }
    let answer = Hypercall::HostReclaimPage.call(attacked, 1);
    ensure!(answer == Answer::Success, "HOST_RECLAIM_PAGE: {answer:?}");
    let other = mmio::find_other(attacked, PAGE, 0);
    ensure!(other.is_none(), "the returned page is not zero at {other:x?}");
    ensure!(setup.write_lands(attacked + 0x800)?, "the page is not reachable after it was returned");
    Ok(())
}

payload_test!(t04_stale_stage1, Runs::EITHER);
/// A page used through stage 1, then donated.
fn t04_stale_stage1(ctx: &Ctx) -> TestResult {
    stale(ctx, Mode::Stage1)
}

payload_test!(t04_stale_bypass, Runs::EITHER);
/// A page used by a bypass stream, then donated.
fn t04_stale_bypass(ctx: &Ctx) -> TestResult {
    stale(ctx, Mode::Bypass)
}

payload_test!(t04_stale_off, Runs::EITHER);
/// A page used with the host's SMMU off, then donated.
fn t04_stale_off(ctx: &Ctx) -> TestResult {
    stale(ctx, Mode::Off)
}

fn stale(ctx: &Ctx, mode: Mode) -> TestResult {
    let setup = Setup::new(ctx, mode)?;
    setup.control(ctx)?;
    let attacked = page();
    donate_and_attack(ctx, &setup, attacked, CacheFirst::Yes)?;
    if ctx.expect == Expect::Blocked {
        // Repeats it: a page that was mapped on its return must also be revocable.
        donate_and_attack(ctx, &setup, attacked, CacheFirst::Yes)?;
    }
    Ok(())
}

payload_test!(t46_stale_block, Runs::EITHER);
/// One page of a block that is cached as a block, in the host's stage 1 and in stage 2: the page is inaccessible,
/// adjacent pages stay accessible.
fn t46_stale_block(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let block = alloc(BLOCK, BLOCK);
    let iova = 0x30_0000_0000;
    setup.stage1.map_block(iova, block);
    let reaches = |offset: u64| -> Result<bool, crate::outcome::Fail> {
        let word = 0xb10c_0000_0000_0000 | offset;
        mmio::write64(setup.own, word);
        setup.edu.transfer(Direction::FromMemory, setup.bus(setup.own), 0, 8)?;
        setup.edu.transfer(Direction::ToMemory, iova + offset, 0, 8)?;
        mmio::write64(setup.own, 0);
        setup.edu.transfer(Direction::FromMemory, setup.bus(setup.own), 0, 8)?;
        setup.edu.transfer(Direction::FromMemory, iova + offset, 0, 8)?;
        setup.edu.transfer(Direction::ToMemory, setup.bus(setup.own), 0, 8)?;
        Ok(mmio::read64(setup.own) == word)
    };
    let attacked = 0x5_3000;
    for offset in [0, attacked, attacked + PAGE, BLOCK - PAGE] {
        ensure!(reaches(offset)?, "{offset:#x} of the block is not reachable while it is the host's");
    }
    let rounds = if ctx.expect == Expect::Blocked { 2 } else { 1 };
    for _ in 0..rounds {
        donate(block + attacked, 1)?;
        let attack = Attack::begin();
        let landed = reaches(attacked + 8)?;
        attack.check(ctx, landed.into())?;
        for offset in [0, attacked - PAGE, attacked + PAGE, BLOCK - PAGE] {
            ensure!(reaches(offset)?, "{offset:#x} of the block was unmapped with the adjacent page");
        }
        if ctx.expect == Expect::Blocked {
            take_back(block + attacked, 1)?;
            ensure!(reaches(attacked + 8)?, "the page is not reachable after it was returned");
            ensure!(reaches(attacked + PAGE)?, "the adjacent page is not reachable after it was returned");
        }
    }
    Ok(())
}

payload_test!(t05_donate_while_off, Runs::EITHER);
/// The page is donated with the host's SMMU off, and attacked after the SMMU is enabled.
fn t05_donate_while_off(ctx: &Ctx) -> TestResult {
    let mut setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let attacked = page();
    ensure!(setup.write_lands(attacked + 0x800)?, "the page is not reachable while it is the host's");
    setup.switch(Mode::Off)?;
    ensure!(setup.write_lands(attacked + 0x800)?, "the page is not reachable with the SMMU off");
    donate(attacked, 1)?;
    setup.switch(Mode::Stage1)?;
    let attack = Attack::begin();
    let landed = setup.write_lands(attacked + 0x808)?;
    attack.check(ctx, landed.into())
}

payload_test!(t26_donate_with_cmdq_off, Runs::EITHER);
/// The host's command queue is disabled: EL2's own invalidation does not depend on it.
fn t26_donate_with_cmdq_off(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let attacked = page();
    ensure!(setup.write_lands(attacked + 0x800)?, "the page is not reachable while it is the host's");
    // The attack's word is in the same page, which is already mapped, so no invalidation is needed.
    setup.smmu.borrow().set_cr0(cr0::SMMUEN | cr0::EVENTQEN)?;
    donate(attacked, 1)?;
    let attack = Attack::begin();
    let landed = setup.write_lands(attacked + 0x808)?;
    attack.check(ctx, landed.into())
}

payload_test!(t51_dma_in_flight, Runs::EITHER);
/// A transfer starts before the donation and accesses memory after it.
fn t51_dma_in_flight(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let attacked = page();
    ensure!(setup.write_lands(attacked + 0x800)?, "the page is not reachable while it is the host's");
    let word = 0x1a7e_1a7e_1a7e_1a7e;
    mmio::write64(setup.own, word);
    setup.edu.transfer(Direction::FromMemory, setup.bus(setup.own), 0, 8)?;
    let attack = Attack::begin();
    setup.edu.start(Direction::ToMemory, setup.bus(attacked) + 0x808, 0, 8);
    donate(attacked, 1)?;
    setup.edu.finish()?;
    let landed = setup.read(attacked + 0x808)? == Seen::Value(word);
    attack.check(ctx, landed.into())?;
    if ctx.expect == Expect::Blocked {
        take_back(attacked, 1)?;
    }
    Ok(())
}

payload_test!(t51_reset_with_dma_in_flight, Runs::HYP);
/// A reset while a transfer is in flight: EL2 quiesces DMA and the run ends with `ok`.
fn t51_reset_with_dma_in_flight(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    setup.edu.start(Direction::ToMemory, setup.bus(page()), 0, 8);
    crate::println!("TEST {}: PASS", ctx.name);
    firmware::system_reset()
}

payload_test!(t07_off_reaches_host_memory_only, Runs::HYP);
/// With the host's SMMU off, its own memory is reachable and EL2's is not; with GBPA.ABORT no memory is.
fn t07_off_reaches_host_memory_only(ctx: &Ctx) -> TestResult {
    let mut setup = Setup::new(ctx, Mode::Off)?;
    setup.control(ctx)?;
    let attacked = AttackedMemory::el2(ctx)?;
    let attack = Attack::begin();
    ensure!(setup.read(attacked.known)? == Seen::Nothing, "EL2's image is read");
    ensure!(!setup.write_lands(attacked.unused)?, "EL2's image is written");
    setup.switch(Mode::OffAbort)?;
    ensure!(setup.read(attacked.known).is_err(), "memory is reachable with GBPA.ABORT");
    setup.switch(Mode::Off)?;
    attack.check(ctx, Landed::No)?;
    setup.control(ctx)
}

payload_test!(t06_mmio_by_dma, Runs::ALL);
/// DMA to the registers of the SMMU, the GIC and the UART, and to configuration space.
fn t06_mmio_by_dma(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let machine = ctx.machine;
    // Words that are never zero: SMMU IDR0, GICD_PIDR2, UART PeriphID, vendor and device of PCI function 0, GITS_PIDR2.
    let words =
        [machine.smmu + reg::IDR0, machine.gicd + 0xffe8, machine.uart + 0xfe0, machine.ecam, machine.its + 0xffe8];
    let attack = Attack::begin();
    let mut landed = Landed::No;
    for (index, addr) in words.into_iter().enumerate() {
        let iova = 0x18_0000_0000 + crate::num::u64_of(index) * PAGE;
        setup.stage1.map_page(iova, addr & !(PAGE - 1));
        let canary = 0xca9a_0000_0000_0000;
        mmio::write64(setup.own, canary);
        let own = setup.bus(setup.own);
        setup.edu.transfer(Direction::FromMemory, own, 0, 8)?;
        setup.edu.transfer(Direction::FromMemory, iova | addr & (PAGE - 1), 0, 4)?;
        setup.edu.transfer(Direction::ToMemory, own, 0, 8)?;
        let word = crate::num::low32(mmio::read64(setup.own));
        crate::println!("{addr:#x} reads {word:#x} by DMA");
        if word != 0 {
            landed = Landed::Yes;
        }
    }
    attack.check(ctx, landed)
}

payload_test!(t43_event_flood, Runs::HYP);
/// Thousands of faulting transactions: they are counted, the work is bounded, and the device works afterwards.
fn t43_event_flood(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let before = firmware::stat(Stat::Faults);
    let Some(hole) = ctx.machine.hole() else {
        fail!("the device tree gives all RAM to the host");
    };
    for _ in 0..8 {
        setup.edu.transfer(Direction::ToMemory, setup.bus(hole.start), 0, 4096)?;
    }
    let seen = firmware::stat(Stat::Faults) - before;
    crate::println!("{seen} faults seen");
    ensure!(seen > 0, "no fault was counted");
    setup.control(ctx)
}
