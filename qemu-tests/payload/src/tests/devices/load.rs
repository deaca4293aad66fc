//! Repeated hand-overs while three other CPUs access the function, let `edu` read the guest's page, and change the
//! owners of pages.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::mutex::SpinMutex;

use super::{HAND_OVERS_UNDER_LOAD, assign, create, donate, end, host_reaches, return_function, working_nvme};
use crate::edu::{Direction, Edu};
use crate::firmware::{Answer, Hypercall};
use crate::mem::{PAGE, page};
use crate::num::u64_of;
use crate::outcome::TestResult;
use crate::random::Random;
use crate::setup::Ctx;
use crate::tests::drivers::nvme_round_trip;
use crate::tests::registers::check_isolation;
use crate::vectors::catch;
use crate::{cpu, ensure, mmio, println, time};

/// Content of the guest's page.
const SECRET: u64 = 0x5ec2_e75e_c2e7_0002;
/// Content of the buffer of `edu` before a read.
const CANARY: u64 = 0xca9a_11e5_0dd5_ca9b;
/// Content of its own page before the buffer is copied there.
const MARK: u64 = 0x3a4b_3a4b_3a4b_3a4c;
/// Number of rounds after which the devices are used and `edu` is also assigned.
const USE_EVERY: u64 = 32;
/// Longest pause of the other CPUs, in microseconds. The pause is random, so that every CPU gets the locks.
const PAUSE_US: u64 = 2_000;

/// Time for which the guest has the function.
const KEPT_US: u64 = 5_000;

/// State of the NVMe: `4 * round` plus one of these.
const HOSTS: u64 = 0;
const GUESTS: u64 = 2;

static SEED: AtomicU64 = AtomicU64::new(0);
static STOP: AtomicBool = AtomicBool::new(false);
static NVME_PLACE: AtomicU64 = AtomicU64::new(HOSTS);
/// Odd while the guest owns the page.
static SECRET_PLACE: AtomicU64 = AtomicU64::new(0);
/// Accesses with a wrong result.
static WRONG: AtomicU64 = AtomicU64::new(0);
/// Number of accesses to the function, of reads by `edu`, and of changes of owners.
static ACCESSES: AtomicU64 = AtomicU64::new(0);
static READS: AtomicU64 = AtomicU64::new(0);
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// The addresses that the other CPUs use.
static NVME_CONFIG: AtomicU64 = AtomicU64::new(0);
static NVME_BAR: AtomicU64 = AtomicU64::new(0);
static NEIGHBOUR_CONFIG: AtomicU64 = AtomicU64::new(0);
/// Bus addresses of the secret, and the address and bus address of `edu`'s own page.
static SECRET_BUS: AtomicU64 = AtomicU64::new(0);
static OWN: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// Held by the CPU that uses `edu`.
static EDU: SpinMutex<Option<Edu>> = SpinMutex::new(None);

fn random(index: u64) -> Random {
    Random::new(SEED.load(Ordering::SeqCst).wrapping_mul(0x1_0001) + index)
}

fn wrong(what: &str, value: u64) {
    println!("wrong: {what}: {value:#x}");
    WRONG.fetch_add(1, Ordering::SeqCst);
}

/// Loads from configuration space and the BAR of the NVMe: absent while a guest has it, the function's values while it
/// is the host's.
fn look(index: u64) -> u64 {
    let mut random = random(index);
    let [config, bar, neighbour] =
        [&NVME_CONFIG, &NVME_BAR, &NEIGHBOUR_CONFIG].map(|address| address.load(Ordering::SeqCst));
    while !STOP.load(Ordering::SeqCst) {
        let before = NVME_PLACE.load(Ordering::SeqCst);
        let (id, aborted) = catch(|| mmio::read32(config));
        let (value, refused) = catch(|| mmio::read32(bar + 8));
        let stable = NVME_PLACE.load(Ordering::SeqCst) == before;
        match before % 4 {
            GUESTS if stable => {
                if id != u32::MAX || aborted.is_some() {
                    wrong("configuration space of a guest's function", u64::from(id));
                }
                if refused.is_none() {
                    wrong("a BAR of a guest's function", u64::from(value));
                }
                ACCESSES.fetch_add(1, Ordering::SeqCst);
            }
            HOSTS if stable && id == u32::MAX => wrong("configuration space of the host's function", u64::from(id)),
            _ => {}
        }
        if mmio::read32(neighbour) == u32::MAX {
            wrong("configuration space of another function", 0);
        }
        time::delay_us(random.below(PAUSE_US));
    }
    0
}

/// Lets `edu` read the guest's page, which must land only while the page is the host's.
fn read(index: u64) -> u64 {
    let mut random = random(index);
    let (own, own_bus) = (OWN[0].load(Ordering::SeqCst), OWN[1].load(Ordering::SeqCst));
    while !STOP.load(Ordering::SeqCst) {
        time::delay_us(random.below(PAUSE_US));
        let held = EDU.lock();
        let Some(edu) = *held else { continue };
        let copied = (|| {
            mmio::write64(own, CANARY);
            edu.transfer(Direction::FromMemory, own_bus, 0, 8)?;
            let before = SECRET_PLACE.load(Ordering::SeqCst);
            edu.transfer(Direction::FromMemory, SECRET_BUS.load(Ordering::SeqCst), 0, 8)?;
            let stable = SECRET_PLACE.load(Ordering::SeqCst) == before && before % 2 == 1;
            mmio::write64(own + 8, MARK);
            edu.transfer(Direction::ToMemory, own_bus + 8, 0, 8)?;
            Ok::<bool, &'static str>(stable)
        })();
        drop(held);
        let word = mmio::read64(own + 8);
        match copied {
            Err(why) => println!("wrong: {why}"),
            Ok(_) if word == MARK => wrong("edu cannot access its own page", word),
            Ok(true) if word == CANARY || word == 0 => {
                READS.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            Ok(true) => wrong("edu read the guest's page", word),
            Ok(false) => continue,
        }
        WRONG.fetch_add(1, Ordering::SeqCst);
    }
    0
}

/// Donates pages to EL2 and to guests that are created and destroyed.
fn change(index: u64) -> u64 {
    let mut random = random(index);
    let own = page();
    let answered = |call: Hypercall, answer: Answer| {
        // EL2 may be short of memory or of handles.
        if !matches!(answer, Answer::Success | Answer::Busy | Answer::NoMemory) {
            println!("wrong: {call:?}: {answer:?}");
            WRONG.fetch_add(1, Ordering::SeqCst);
        }
        answer == Answer::Success
    };
    let insist = |call: Hypercall, make: &dyn Fn() -> Answer| {
        while !answered(call, make()) && WRONG.load(Ordering::SeqCst) == 0 {
            time::delay_us(PAUSE_US);
        }
    };
    while !STOP.load(Ordering::SeqCst) {
        mmio::fill(own, PAGE, SECRET);
        let mut returned = false;
        if answered(Hypercall::HostDonateHyp, Hypercall::HostDonateHyp.call(own, 1)) {
            insist(Hypercall::HypDonateHost, &|| Hypercall::HypDonateHost.call(own, 1));
            returned = true;
        }
        let created = Hypercall::VmCreate.raw(0, 0);
        if answered(Hypercall::VmCreate, Answer::of(created[0])) {
            let guest = created[1];
            let given = answered(Hypercall::HostDonateGuest, Hypercall::HostDonateGuest.call_for(own, 1, guest));
            insist(Hypercall::VmDestroy, &|| Answer::of(Hypercall::VmDestroy.raw(guest, 0)[0]));
            if given {
                insist(Hypercall::HostReclaimPage, &|| Hypercall::HostReclaimPage.call(own, 1));
                returned = true;
            }
        }
        if returned {
            CHANGES.fetch_add(1, Ordering::SeqCst);
            if let Some(at) = mmio::find_other(own, PAGE, 0) {
                wrong("a returned page is not zero", at);
            }
        }
        time::delay_us(random.below(PAUSE_US));
    }
    0
}

/// Hand-overs of the NVMe, `transitions=` on the command line, and one of `edu` in every [`USE_EVERY`] rounds.
pub(super) fn hand_overs(ctx: &Ctx) -> TestResult {
    let (mut nvme, lab) = working_nvme(ctx)?;
    let count = ctx.machine.argument("transitions").and_then(|text| text.parse().ok()).unwrap_or(HAND_OVERS_UNDER_LOAD);
    let secret = page();
    let root_port = crate::pci::find(ctx.machine, |_, class| class == crate::pci::CLASS_BRIDGE);
    NEIGHBOUR_CONFIG.store(root_port.map_or(nvme.function.config(0), |port| port.config(0)), Ordering::SeqCst);
    ensure!(root_port.is_some(), "no other function on the bus");
    SEED.store(ctx.seed, Ordering::SeqCst);
    NVME_CONFIG.store(nvme.function.config(0), Ordering::SeqCst);
    NVME_BAR.store(nvme.bar(), Ordering::SeqCst);
    SECRET_BUS.store(lab.bus(secret), Ordering::SeqCst);
    OWN[0].store(lab.own, Ordering::SeqCst);
    OWN[1].store(lab.bus(lab.own), Ordering::SeqCst);
    *EDU.lock() = Some(lab.edu);
    for (index, work) in [look, read, change].into_iter().enumerate() {
        cpu::start(ctx.machine, index + 1)?;
        cpu::send(index + 1, work, u64_of(index));
    }
    for round in 0..count {
        mmio::fill(secret, PAGE, SECRET);
        let guest = create()?;
        donate(secret, guest)?;
        SECRET_PLACE.fetch_add(1, Ordering::SeqCst);
        NVME_PLACE.fetch_add(1, Ordering::SeqCst);
        assign(nvme.function, guest)?;
        NVME_PLACE.fetch_add(1, Ordering::SeqCst);
        time::delay_us(KEPT_US);
        let reached = host_reaches(nvme.function, nvme.bar());
        ensure!(reached == 0, "round {round}: the host can access {reached} registers of the guest's function");
        if round % USE_EVERY == 1 {
            let edu = EDU.lock();
            assign(lab.edu.function, guest)?;
            return_function(lab.edu.function)?;
            lab.edu.function.enable();
            drop(edu);
        }
        NVME_PLACE.fetch_add(1, Ordering::SeqCst);
        let ends_first = round % 2 == 0;
        if ends_first {
            SECRET_PLACE.fetch_add(1, Ordering::SeqCst);
            end(guest, secret)?;
        }
        return_function(nvme.function)?;
        NVME_PLACE.fetch_add(1, Ordering::SeqCst);
        if !ends_first {
            SECRET_PLACE.fetch_add(1, Ordering::SeqCst);
            end(guest, secret)?;
        }
        if round % USE_EVERY == 0 {
            nvme.function.enable();
            nvme_round_trip(&mut nvme, |pa| lab.bus(pa))?;
            println!(
                "PROGRESS hand-overs={round} accesses={} reads={}",
                ACCESSES.load(Ordering::SeqCst),
                READS.load(Ordering::SeqCst)
            );
        }
        ensure!(WRONG.load(Ordering::SeqCst) == 0, "round {round}: another CPU had a wrong result");
    }
    STOP.store(true, Ordering::SeqCst);
    for index in 1..4 {
        cpu::wait(index)?;
        // Under -icount an idle CPU in a polling loop would take time from the others.
        cpu::stop(ctx.machine, index)?;
    }
    let [accesses, reads, changes, wrong] =
        [&ACCESSES, &READS, &CHANGES, &WRONG].map(|count| count.load(Ordering::SeqCst));
    println!(
        "{count} hand-overs, {accesses} accesses, {reads} reads of edu, {changes} changes of owners, {wrong} wrong"
    );
    ensure!(wrong == 0, "{wrong} wrong results");
    ensure!(accesses > 0 && reads > 0 && changes > count, "the other CPUs did not reach their minimum numbers");
    nvme.function.enable();
    nvme_round_trip(&mut nvme, |pa| lab.bus(pa))?;
    lab.control(ctx)?;
    check_isolation(ctx)?;
    Ok(lab.smmu.borrow().off()?)
}
