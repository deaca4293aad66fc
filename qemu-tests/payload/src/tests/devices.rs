//! PCI functions that are assigned to guests and returned: the host's access to them, and DMA that started before.

pub mod attacks;
pub mod fixed_buses;
mod load;
pub mod refused;

use crate::firmware::{Answer, Hypercall};
use crate::mem::{PAGE, page};
use crate::mmio;
use crate::nvme::Nvme;
use crate::outcome::{Fail, Kind, TestResult};
use crate::pci::{BAR0, COMMAND, COMMAND_MASTER, COMMAND_MEMORY, Function};
use crate::registry::{Clock, Runs};
use crate::setup::{Ctx, Mode, Setup};
use crate::tests::drivers::{find_nvme, nvme_round_trip};
use crate::tests::registers::check_isolation;
use crate::vectors::catch;
use crate::{ensure, payload_test, println, time};

/// Maximum number of calls for one hand-over.
const MOST_CALLS: u64 = 100;
/// Default number of hand-overs of the loop (`transitions=N` on the command line).
const HAND_OVERS: u64 = 200;
/// Default number of hand-overs while other CPUs interfere.
const HAND_OVERS_UNDER_LOAD: u64 = 12;

/// Makes a call that is refused; returns X0 and X1.
pub fn reason(call: Hypercall, function: u32, guest: u64) -> (Answer, u64) {
    let result = call.raw(u64::from(function), guest);
    (Answer::of(result[0]), result[1])
}

/// Repeats `call` while it returns BUSY; returns the last answer.
pub fn until_done(call: Hypercall, function: u32, guest: u64) -> Answer {
    for _ in 0..MOST_CALLS {
        let (answer, us) = reason(call, function, guest);
        if answer != Answer::Busy {
            return answer;
        }
        time::delay_us(us);
    }
    Answer::Busy
}

/// Assigns a function to a guest.
pub fn assign(function: Function, guest: u64) -> TestResult {
    let answer = until_done(Hypercall::DeviceAssign, function.rid, guest);
    ensure!(answer == Answer::Success, "DEVICE_ASSIGN({:#x}, {guest}): {answer:?}", function.rid);
    Ok(())
}

/// Takes a function back from a guest.
pub fn return_function(function: Function) -> TestResult {
    let answer = until_done(Hypercall::DeviceReturn, function.rid, 0);
    ensure!(answer == Answer::Success, "DEVICE_RETURN({:#x}): {answer:?}", function.rid);
    Ok(())
}

/// A new guest.
pub fn create() -> Result<u64, Fail> {
    let created = Hypercall::VmCreate.raw(0, 0);
    match Answer::of(created[0]) {
        Answer::Success => Ok(created[1]),
        answer => Err(Fail::new(Kind::Failed, format_args!("VM_CREATE: {answer:?}"))),
    }
}

/// Checks that a call succeeded.
pub fn succeed(call: Hypercall, answer: Answer) -> TestResult {
    ensure!(answer == Answer::Success, "{call:?}: {answer:?}");
    Ok(())
}

/// Donates a page to a guest.
pub fn donate(page: u64, guest: u64) -> TestResult {
    succeed(Hypercall::HostDonateGuest, Hypercall::HostDonateGuest.call_for(page, 1, guest))
}

/// Destroys a guest and reclaims its page, which must be zero.
pub fn end(guest: u64, page: u64) -> TestResult {
    succeed(Hypercall::VmDestroy, Answer::of(Hypercall::VmDestroy.raw(guest, 0)[0]))?;
    succeed(Hypercall::HostReclaimPage, Hypercall::HostReclaimPage.call(page, 1))?;
    let other = mmio::find_other(page, PAGE, 0);
    ensure!(other.is_none(), "the returned page is not zero at {other:x?}");
    Ok(())
}

/// Accesses configuration space and BARs of a function that is away; returns the number of accesses that landed.
pub fn host_reaches(function: Function, bar: u64) -> u64 {
    let mut landed = 0;
    for offset in [0, COMMAND, BAR0, 0x34, 0x80, 0xffc] {
        let (value, caught) = catch(|| mmio::read32(function.config(offset)));
        landed += u64::from(caught.is_none() && value != u32::MAX);
    }
    let command = function.config(COMMAND);
    let (_, caught) = catch(|| mmio::write16(command, COMMAND_MEMORY | COMMAND_MASTER));
    // An absent function ignores the store.
    landed += u64::from(caught.is_some());
    for at in [bar, bar + 8, bar + PAGE - 8] {
        landed += u64::from(catch(|| mmio::read32(at)).1.is_none());
        landed += u64::from(catch(|| mmio::write32(at, 0)).1.is_none());
    }
    landed
}

/// An NVMe with stage 1 that works.
pub fn working_nvme(ctx: &Ctx) -> Result<(Nvme, Setup), Fail> {
    let mut nvme = find_nvme(ctx)?;
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.smmu.borrow_mut().set_ste(nvme.function.sid, setup.stage1.ste())?;
    nvme_round_trip(&mut nvme, |pa| setup.bus(pa))?;
    Ok((nvme, setup))
}

payload_test!(t68_nvme_assigned_and_returned, Runs::HYP);
/// The NVMe is assigned to a guest: the host cannot access its registers, and other functions still work. After its
/// return the NVMe is reset, its BAR is restored, and it works.
fn t68_nvme_assigned_and_returned(ctx: &Ctx) -> TestResult {
    let (mut nvme, setup) = working_nvme(ctx)?;
    let guest = create()?;
    let secret = page();
    mmio::fill(secret, PAGE, 0x5ec2_e700_0000_0001);
    donate(secret, guest)?;
    let first = reason(Hypercall::DeviceAssign, nvme.function.rid, guest);
    ensure!(first.0 == Answer::Busy && (1..=100_000).contains(&first.1), "it was assigned without a reset: {first:?}");
    ensure!(host_reaches(nvme.function, nvme.bar()) == 0, "the host can access it while it is in transition");
    assign(nvme.function, guest)?;
    ensure!(host_reaches(nvme.function, nvme.bar()) == 0, "the host can access it");
    setup.control(ctx)?;
    ensure!(mmio::read32(setup.edu.function.config(0)) != u32::MAX, "another function is absent");
    return_function(nvme.function)?;
    let (command, bar) = (mmio::read16(nvme.function.config(COMMAND)), mmio::read32(nvme.function.config(BAR0)));
    ensure!(command & COMMAND_MASTER == 0, "it is returned as a bus master: {command:#x}");
    ensure!(u64::from(bar & !0xf) == nvme.bar(), "BAR0 is {bar:#x}, and was {:#x}", nvme.bar());
    ensure!(mmio::read32(nvme.bar() + 0x14) & 1 == 0, "it was not reset: CC.EN is set");
    nvme.function.enable();
    nvme_round_trip(&mut nvme, |pa| setup.bus(pa))?;
    end(guest, secret)?;
    setup.control(ctx)?;
    check_isolation(ctx)
}

payload_test!(t68_hand_overs, Runs::HYP, el2 = "no-reset=1234:11e8");
/// NVMe and `edu` change owners repeatedly, together with pages, and are returned in every order.
fn t68_hand_overs(ctx: &Ctx) -> TestResult {
    let (mut nvme, setup) = working_nvme(ctx)?;
    let count = ctx.machine.argument("transitions").and_then(|text| text.parse().ok()).unwrap_or(HAND_OVERS);
    let secret = page();
    for round in 0..count {
        let guest = create()?;
        let functions =
            if round % 2 == 0 { [nvme.function, setup.edu.function] } else { [setup.edu.function, nvme.function] };
        if round % 3 == 0 {
            donate(secret, guest)?;
        }
        for function in functions {
            assign(function, guest)?;
        }
        if round % 3 != 0 {
            donate(secret, guest)?;
        }
        // The page is donated before, between or after the devices.
        if round % 4 == 0 {
            end(guest, secret)?;
        }
        return_function(functions[0])?;
        if matches!(round % 4, 1 | 2) {
            end(guest, secret)?;
        }
        return_function(functions[1])?;
        if round % 4 == 3 {
            end(guest, secret)?;
        }
        setup.edu.function.enable();
        nvme.function.enable();
        if round % 32 == 0 {
            nvme_round_trip(&mut nvme, |pa| setup.bus(pa))?;
            setup.control(ctx)?;
            println!("PROGRESS hand-overs={round}");
        }
    }
    nvme_round_trip(&mut nvme, |pa| setup.bus(pa))?;
    setup.control(ctx)?;
    check_isolation(ctx)?;
    Ok(setup.smmu.borrow().off()?)
}

payload_test!(t68_assigned_under_load, Runs::HYP, 4, Clock::Real, "no-reset=1234:11e8");
/// The same while other CPUs change owners of pages, destroy guests and read the functions' registers.
fn t68_assigned_under_load(ctx: &Ctx) -> TestResult {
    attacks::under_load(ctx)
}

payload_test!(t68_hand_overs_under_load, Runs::ON_REQUEST, 4, Clock::Real, "no-reset=1234:11e8");
/// The NVMe is assigned and returned repeatedly while one CPU accesses its registers, one lets `edu` read the guest's
/// page, and one changes the owners of pages: no access to memory or registers of another owner lands, and no hand-over
/// fails. For `cargo xtask stress`: each hand-over takes 0.2 s of real time.
fn t68_hand_overs_under_load(ctx: &Ctx) -> TestResult {
    load::hand_overs(ctx)
}
