//! Tests of the payload's own drivers: an attack that fails because of a broken driver proves nothing.

use crate::edu::Edu;
use crate::mem::{PAGE, page};
use crate::mmio;
use crate::nvme::{Nvme, pattern};
use crate::outcome::{Fail, Kind, TestResult};
use crate::registry::Runs;
use crate::setup::{Ctx, Mode, Seen, Setup};
use crate::smmu::spec::event;
use crate::smmu::{Format, Smmu};
use crate::{ensure, fail, payload_test, println, skip};

payload_test!(edu_off, Runs::ALL);
/// `edu` transfers data with the SMMU off.
fn edu_off(ctx: &Ctx) -> TestResult {
    Setup::new(ctx, Mode::Off)?.control(ctx)
}

payload_test!(edu_bypass, Runs::ALL);
/// `edu` transfers data through a bypass entry.
fn edu_bypass(ctx: &Ctx) -> TestResult {
    Setup::new(ctx, Mode::Bypass)?.control(ctx)
}

payload_test!(edu_stage1, Runs::ALL);
/// `edu` transfers data through stage 1 and a two-level stream table.
fn edu_stage1(ctx: &Ctx) -> TestResult {
    Setup::new(ctx, Mode::Stage1)?.control(ctx)
}

payload_test!(edu_stage1_linear, Runs::ALL);
/// `edu` transfers data through stage 1 and a linear stream table.
fn edu_stage1_linear(ctx: &Ctx) -> TestResult {
    Setup::with_format(ctx, Mode::Stage1, Format::Linear)?.control(ctx)
}

payload_test!(gbpa_abort, Runs::ALL);
/// With SMMUEN=0 and GBPA.ABORT=1 the device can access no page, not even the host's own.
fn gbpa_abort(ctx: &Ctx) -> TestResult {
    let mut setup = Setup::new(ctx, Mode::Off)?;
    setup.control(ctx)?;
    setup.switch(Mode::OffAbort)?;
    mmio::write64(setup.own + 8, 7);
    match setup.read(setup.own + 16) {
        Err(_) => Ok(()),
        Ok(_) => fail!("DMA works although GBPA aborts"),
    }
}

payload_test!(stage1_fault_event, Runs::ALL);
/// The host's own stage-1 fault is reported in the host's event queue, with its StreamID and address.
fn stage1_fault_event(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let iova = 0x1234_5000;
    setup.stage1.map_page(iova, page());
    setup.stage1.unmap_page(iova);
    setup.edu.transfer(crate::edu::Direction::ToMemory, iova + 8, 0, 4)?;
    let Some(seen) = setup.smmu.borrow_mut().next_event() else {
        fail!("no event");
    };
    println!("event {seen:x?}");
    ensure!(seen.kind() == event::F_TRANSLATION, "event type {:#x}", seen.kind());
    ensure!(seen.sid() == setup.edu.function.sid, "StreamID {:#x}", seen.sid());
    ensure!(seen.address() == iova + 8, "input address {:#x}", seen.address());
    ensure!(!seen.is_stage2(), "a stage-1 fault reported as stage 2");
    Ok(())
}

payload_test!(unmap_revokes, Runs::ALL);
/// After an unmap with TLBI and SYNC the device does not reach the page: the host's own isolation works.
fn unmap_revokes(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    let attacked = page();
    let iova = setup.bus(attacked);
    ensure!(setup.write_lands(attacked)?, "mapped page not reachable");
    mmio::write64(attacked, 0);
    setup.stage1.unmap_page(iova);
    {
        let mut smmu = setup.smmu.borrow_mut();
        smmu.command(crate::smmu::spec::Cmd::tlbi_nh_va(crate::smmu::stage1::ASID, iova));
        smmu.sync()?;
    }
    setup.edu.transfer(crate::edu::Direction::ToMemory, iova, 0, 8)?;
    ensure!(mmio::read64(attacked) == 0, "unmapped page written");
    Ok(())
}

payload_test!(nvme_off, Runs::ALL);
/// NVMe data written to the disk can be read back, with the SMMU off.
fn nvme_off(ctx: &Ctx) -> TestResult {
    let mut nvme = find_nvme(ctx)?;
    let smmu = Smmu::new(ctx.machine, Format::TwoLevel);
    smmu.off()?;
    smmu.set_gbpa(0)?;
    nvme_round_trip(&mut nvme, |pa| pa)
}

payload_test!(nvme_stage1, Runs::ALL);
/// NVMe data written to the disk can be read back through stage 1.
fn nvme_stage1(ctx: &Ctx) -> TestResult {
    let mut nvme = find_nvme(ctx)?;
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.smmu.borrow_mut().set_ste(nvme.function.sid, setup.stage1.ste())?;
    nvme_round_trip(&mut nvme, |pa| setup.bus(pa))
}

/// Finds the NVMe, or skips the test.
pub fn find_nvme(ctx: &Ctx) -> Result<Nvme, Fail> {
    Nvme::find(ctx.machine).ok_or_else(|| Fail::new(Kind::Skipped, format_args!("no NVMe")))
}

/// Writes a page of data to the disk and reads it back into another page.
pub fn nvme_round_trip(nvme: &mut Nvme, to_bus: impl Fn(u64) -> u64) -> TestResult {
    for page in nvme.pages() {
        to_bus(page);
    }
    let (from, to) = (page(), page());
    for index in 0..512 {
        mmio::write64(from + crate::num::u64_of(index) * 8, pattern(1, index));
    }
    let result = (|| {
        nvme.enable(&to_bus)?;
        nvme.identify(to_bus(to))?;
        nvme.write(0, 8, to_bus(from))?;
        nvme.read(0, 8, to_bus(to))
    })();
    if let Err(error) = result {
        fail!("NVMe: {error:?}");
    }
    for index in 0..512 {
        let word = mmio::read64(to + crate::num::u64_of(index) * 8);
        ensure!(word == pattern(1, index), "word {index} of {PAGE:#x} bytes reads {word:#x}");
    }
    Ok(())
}

payload_test!(devices_present, Runs::ALL);
/// The machine has the devices that the other tests need.
fn devices_present(ctx: &Ctx) -> TestResult {
    if Edu::find(ctx.machine).is_none() {
        skip!("no edu");
    }
    let setup = Setup::new(ctx, Mode::Off)?;
    let own = setup.own;
    mmio::write64(own + 0x40, 0x1122_3344_5566_7788);
    ensure!(setup.read(own + 0x40)? == Seen::Value(0x1122_3344_5566_7788), "edu reads another value");
    Ok(())
}
