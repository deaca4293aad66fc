//! Attacks by the host, and by DMA that began before a function changed its owner.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{assign, create, donate, end, host_reaches, return_function, succeed, working_nvme};
use crate::edu::Direction;
use crate::firmware::{Answer, Hypercall};
use crate::mem::{PAGE, page};
use crate::num::u64_of;
use crate::outcome::{Fail, TestResult};
use crate::pci::COMMAND;
use crate::registry::Runs;
use crate::setup::{Ctx, Mode, Seen, Setup};
use crate::smmu::spec::{Cmd, Ste};
use crate::tests::drivers::nvme_round_trip;
use crate::tests::registers::check_isolation;
use crate::{cpu, ensure, fail, mmio, payload_test, println, time};

/// Content of the guest's page.
const SECRET: u64 = 0x5ec2_e75e_c2e7_0001;
/// Content of the buffer of `edu` before an attack.
const CANARY: u64 = 0xca9a_11e5_0dd5_ca9a;
/// Longer than a transfer of `edu`.
const TRANSFER_US: u64 = 150_000;

/// Prints the attack's line and checks that it did not land.
fn check(ctx: &Ctx, landed: impl Into<crate::setup::Landed>) -> TestResult {
    let landed = landed.into() == crate::setup::Landed::Yes;
    println!("ATTACK {}: {}", ctx.name, if landed { "landed" } else { "blocked" });
    ensure!(!landed, "the attack landed");
    Ok(())
}

/// Starts a read of the guest's page by `edu`, assigns `edu` to the guest and takes it back; returns the word in its
/// buffer.
fn read_across(setup: &Setup, guest: u64, secret: u64) -> Result<u64, Fail> {
    let own = setup.bus(setup.own);
    mmio::write64(setup.own, CANARY);
    setup.edu.transfer(Direction::FromMemory, own, 0, 8)?;
    // A guest's table is an identity map: the address is the guest's page while the guest owns the stream.
    setup.edu.start(Direction::FromMemory, secret, 0, 8);
    assign(setup.edu.function, guest)?;
    time::delay_us(TRANSFER_US);
    return_function(setup.edu.function)?;
    setup.edu.function.enable();
    time::delay_us(TRANSFER_US);
    mmio::write64(setup.own, !CANARY);
    setup.edu.transfer(Direction::ToMemory, own, 0, 8)?;
    Ok(mmio::read64(setup.own))
}

payload_test!(t68_dma_started_before, Runs::HYP, el2 = "no-reset=1234:11e8");
/// A transfer that the host started before a guest got the function does not access memory while the guest has it.
fn t68_dma_started_before(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let guest = create()?;
    let secret = page();
    mmio::fill(secret, PAGE, SECRET);
    donate(secret, guest)?;
    let word = read_across(&setup, guest, secret)?;
    println!("the buffer of edu contains {word:#x}");
    check(ctx, word == SECRET)?;
    ensure!(word == CANARY || word == 0, "the buffer of edu contains neither its old content nor zero");
    end(guest, secret)?;
    setup.control(ctx)?;
    check_isolation(ctx)
}

payload_test!(t68_dma_across_the_return, Runs::HYP, el2 = "no-reset=1234:11e8");
/// A write that began while page and function were the host's. In between the page belongs to a guest, and is then
/// returned zeroed. The function is returned later, and must not complete the old write.
fn t68_dma_across_the_return(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let guest = create()?;
    let attacked = page();
    let bus = setup.bus(attacked);
    let mut late = 0;
    for pause in [0, 30_000, 90_000] {
        mmio::write64(setup.own, SECRET);
        setup.edu.transfer(Direction::FromMemory, setup.bus(setup.own), 0, 8)?;
        setup.edu.start(Direction::ToMemory, bus, 0, 8);
        time::delay_us(pause);
        donate(attacked, guest)?;
        assign(setup.edu.function, guest)?;
        end(guest, attacked)?;
        return_function(setup.edu.function)?;
        setup.edu.function.enable();
        time::delay_us(TRANSFER_US);
        late += u64::from(mmio::find_other(attacked, PAGE, 0).is_some());
        ensure!(create()? == guest, "the guest's handle stays in use");
    }
    check(ctx, late != 0)?;
    setup.control(ctx)?;
    check_isolation(ctx)
}

payload_test!(t68_host_cannot_access_a_guests_function, Runs::HYP);
/// Configuration space and BARs of a guest's function, by the CPU; its BAR and the guest's page by DMA; and the host's
/// entry and commands for its stream.
fn t68_host_cannot_access_a_guests_function(ctx: &Ctx) -> TestResult {
    let (nvme, setup) = working_nvme(ctx)?;
    let guest = create()?;
    let secret = page();
    mmio::fill(secret, PAGE, SECRET);
    donate(secret, guest)?;
    assign(nvme.function, guest)?;
    let mut reached = host_reaches(nvme.function, nvme.bar());
    println!("{reached} accesses of the CPU landed");
    reached += u64::from(setup.read(secret)? == Seen::Value(SECRET));
    let iova = 0x18_0000_0000;
    setup.stage1.map_page(iova, nvme.bar());
    mmio::write64(setup.own, 0);
    let own = setup.bus(setup.own);
    setup.edu.transfer(Direction::FromMemory, own, 0, 8)?;
    setup.edu.transfer(Direction::FromMemory, iova + 8, 0, 4)?;
    setup.edu.transfer(Direction::ToMemory, own, 0, 8)?;
    reached += u64::from(mmio::read64(setup.own) != 0);
    {
        let mut smmu = setup.smmu.borrow_mut();
        for ste in [Ste::bypass(), Ste::abort(), setup.stage1.ste()] {
            smmu.set_ste(nvme.function.sid, ste)?;
        }
        smmu.command(Cmd::cfgi_all());
        smmu.sync()?;
    }
    check(ctx, reached != 0)?;
    let command = setup.edu.function.config(COMMAND);
    ensure!(mmio::read16(command) & 6 == 6, "a neighbour's command register changed");
    return_function(nvme.function)?;
    end(guest, secret)?;
    setup.control(ctx)?;
    check_isolation(ctx)
}

payload_test!(t69_destroyed_with_a_device, Runs::HYP);
/// A guest is destroyed while it has a function: its page is reclaimed, zeroed, before the function is returned. Its
/// handle, and so its VMID, is used again only after that.
fn t69_destroyed_with_a_device(ctx: &Ctx) -> TestResult {
    let (nvme, setup) = working_nvme(ctx)?;
    for _ in 0..8 {
        let guest = create()?;
        let secret = page();
        mmio::fill(secret, PAGE, SECRET);
        donate(secret, guest)?;
        assign(nvme.function, guest)?;
        end(guest, secret)?;
        let next = create()?;
        ensure!(next != guest, "handle {guest} is reused while its function is away");
        return_function(nvme.function)?;
        let again = create()?;
        ensure!(again == guest, "handle {guest} stays in use, the next one is {again}");
        for handle in [next, again] {
            succeed(Hypercall::VmDestroy, Answer::of(Hypercall::VmDestroy.raw(handle, 0)[0]))?;
        }
        ensure!(setup.write_lands(secret)?, "the page is not reachable after it was returned");
    }
    setup.control(ctx)?;
    check_isolation(ctx)
}

static STOP: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);
static FUNCTION: AtomicU64 = AtomicU64::new(0);

/// Work of another CPU: creates and destroys guests with a page, and makes calls about the function.
fn interfere(_: u64) -> u64 {
    let own = page();
    while !STOP.load(Ordering::SeqCst) {
        let created = Hypercall::VmCreate.raw(0, 0);
        if Answer::of(created[0]) == Answer::Success {
            let guest = created[1];
            let _ = Hypercall::HostDonateGuest.call_for(own, 1, guest);
            let _ = Hypercall::DeviceAssign.raw(FUNCTION.load(Ordering::SeqCst), guest);
            let _ = Hypercall::VmDestroy.raw(guest, 0);
            let _ = Hypercall::HostReclaimPage.call(own, 1);
        }
        let _ = Hypercall::DeviceReturn.raw(FUNCTION.load(Ordering::SeqCst), 0);
        CALLS.fetch_add(1, Ordering::SeqCst);
        // Lets the other CPUs take the locks.
        time::delay_us(500);
    }
    0
}

/// Three CPUs interfere with each hand-over of the NVMe: with every order of calls EL2's audits agree, and the function
/// is returned completely.
pub(super) fn under_load(ctx: &Ctx) -> TestResult {
    const ROUNDS: u64 = 8;
    let (mut nvme, setup) = working_nvme(ctx)?;
    FUNCTION.store(u64::from(nvme.function.rid), Ordering::SeqCst);
    for index in 1..4 {
        cpu::start(ctx.machine, index)?;
        cpu::send(index, interfere, u64_of(index));
    }
    let (mut given, mut lost) = (0, 0);
    for _ in 0..ROUNDS {
        let guest = create()?;
        match super::until_done(Hypercall::DeviceAssign, nvme.function.rid, guest) {
            Answer::Success => given += 1,
            Answer::Denied | Answer::Busy => lost += 1,
            answer => fail!("DEVICE_ASSIGN: {answer:?}"),
        }
        setup.control(ctx)?;
        succeed(Hypercall::VmDestroy, Answer::of(Hypercall::VmDestroy.raw(guest, 0)[0]))?;
    }
    STOP.store(true, Ordering::SeqCst);
    for index in 1..4 {
        cpu::wait(index)?;
    }
    match super::until_done(Hypercall::DeviceReturn, nvme.function.rid, 0) {
        Answer::Success | Answer::Denied => {}
        answer => fail!("DEVICE_RETURN: {answer:?}"),
    }
    println!("assigned {given} times, refused {lost} times, {} rounds of the other CPUs", CALLS.load(Ordering::SeqCst));
    nvme.function.enable();
    nvme_round_trip(&mut nvme, |pa| setup.bus(pa))?;
    setup.control(ctx)?;
    check_isolation(ctx)
}
