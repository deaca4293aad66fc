//! The threads of a schedule: CPUs of the host, its devices, and the SMMUs.

use std::cell::Cell;

use mem_protect::{Error, GuestId, PAGE_BYTES, Transition, UncheckedRange};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use smmu_model::Transfer;
use smmu_model::arch::regs as r;

use crate::streams;
use crate::world::{RAM, SIDS, World, scheduling_point, world};

/// log2 of the number of entries of each queue.
const LOG2_QUEUE: u32 = 6;
/// StreamID whose entry is always a bypass on the normal SMMU.
const SID: u32 = 1;
/// The SMMU whose tables and queues the host attacks, and the one that it uses as a correct host does.
const ATTACKED: usize = 0;
const NORMAL: usize = 1;
/// Pages that the first CPU donates and shares.
const CHANGING: [u64; 4] = [16, 17, 18, 40];
/// A page that never changes owner.
const CONSTANT: u64 = 24;
/// The value that EL2 writes to donated pages.
const SECRET: u64 = 0x5ec7_e75e_c7e7_5ec7;

const BYPASS: [u64; 2] = [0b1001, 0];
const ABORT: [u64; 2] = [1, 0];
/// An entry with the host's own stage 2.
const STAGE2: [u64; 2] = [0b1101, 0];
const ENTRIES: [[u64; 2]; 4] = [BYPASS, ABORT, STAGE2, [0, 0]];

const QUEUES: u32 = r::CR0_CMDQEN | r::CR0_EVENTQEN;
const ON: u32 = QUEUES | r::CR0_SMMUEN;

thread_local! {
    /// Index of the last command for the attacked SMMU.
    static LAST_SLOT: Cell<u32> = const { Cell::new(0) };
}

fn page(number: u64) -> u64 {
    RAM + number * PAGE_BYTES
}

/// Addresses of the host's tables and queues for SMMU `n`.
struct Addresses {
    tables: [u64; 2],
    cmdq: u64,
    evtq: u64,
}

fn addresses(n: usize) -> Addresses {
    let first = if n == ATTACKED { 0 } else { 8 };
    Addresses { tables: [page(first), page(first + 1)], cmdq: page(first + 2), evtq: page(first + 3) }
}

/// The host's driver of one SMMU.
struct Driver {
    n: usize,
    prod: u32,
}

impl Driver {
    /// Enables queues and translation as Linux does; every stream bypasses.
    fn enable(world: &World, n: usize) -> Self {
        let at = addresses(n);
        for table in at.tables {
            let words: Vec<_> = (table..table + 4096).step_by(64).map(|entry| (entry, BYPASS[0])).collect();
            world.mem.store_at_once(&words);
        }
        world.write32(n, r::CR1, 0xd75);
        world.write64(n, r::STRTAB_BASE, at.tables[0]);
        world.write32(n, r::STRTAB_BASE_CFG, 6);
        world.write64(n, r::CMDQ_BASE, at.cmdq | u64::from(LOG2_QUEUE));
        world.write64(n, r::EVENTQ_BASE, at.evtq | u64::from(LOG2_QUEUE));
        world.write32(n, r::CR0, ON);
        let mut driver = Self { n, prod: 0 };
        driver.commands(world, &[[4, 31], [0x46, 0]]);
        driver
    }

    /// Queues commands and writes CMDQ_PROD; the queue may be disabled or stopped by an error.
    fn commands(&mut self, world: &World, commands: &[[u64; 2]]) {
        for command in commands {
            let slot = addresses(self.n).cmdq + u64::from(self.prod % (1 << LOG2_QUEUE)) * 16;
            world.store(slot, command[0]);
            world.store(slot + 8, command[1]);
            if self.n == ATTACKED {
                LAST_SLOT.set(self.prod);
            }
            self.prod = (self.prod + 1) % (2 << LOG2_QUEUE);
        }
        world.write32(self.n, r::CMDQ_PROD, self.prod);
        for _ in commands {
            let gerror = world.read32(self.n, r::GERROR);
            if (gerror ^ world.read32(self.n, r::GERRORN)) & r::GERROR_CMDQ == 0 {
                return;
            }
            // As Linux does: replace the command that stopped the queue with a CMD_SYNC.
            let cons = world.read32(self.n, r::CMDQ_CONS) % (1 << LOG2_QUEUE);
            let slot = addresses(self.n).cmdq + u64::from(cons) * 16;
            world.store(slot + 8, 0);
            world.store(slot, 0x46);
            world.write32(self.n, r::GERRORN, gerror);
        }
    }
}

fn range(number: u64) -> UncheckedRange {
    UncheckedRange { pfn: page(number) / PAGE_BYTES, count: 1 }
}

/// A hypercall; it holds the ownership lock from begin to end.
fn call(world: &World, transition: Transition) -> Result<Option<GuestId>, Error> {
    world.ownership().lock().apply(transition)
}

/// EL2 writes into a page that was donated to it.
fn write_secret(world: &World, number: u64) {
    world.mem.store_at_once(&[(page(number), SECRET), (page(number) + 8, SECRET)]);
    world.foreign.borrow_mut().insert(page(number));
    world.check();
}

/// Checks that a donated page was not written, before it is returned.
fn check_secret(world: &World, number: u64) {
    assert_eq!(world.mem.cpu_read64(page(number) + 8), SECRET, "a device wrote to page {number}");
    world.foreign.borrow_mut().remove(&page(number));
}

/// Checks that a returned page is zeroed, and that the host's CPUs and devices can access it.
fn check_returned(world: &World, number: u64) {
    assert_eq!(world.mem.cpu_read64(page(number)), 0, "page {number} is not zeroed");
    assert!(world.store(page(number), 0), "the host's CPU cannot access page {number}");
    check_dma(world, number);
}

/// Checks that a device behind the normal SMMU reaches a page of the host.
fn check_dma(world: &World, number: u64) {
    let transfer = world.models[NORMAL].borrow_mut().dma_write(SID, None, page(number) + 16, &[0xaa]);
    assert_eq!(transfer, Transfer::Done, "page {number} belongs to the host, and its device faults");
}

/// Donates pages to EL2 and guests, shares and returns them.
fn transitions(rounds: usize) {
    let world = world();
    for _ in 0..rounds {
        let number = CHANGING[thread_rng().gen_range(0..CHANGING.len())];
        match thread_rng().gen_range(0..4) {
            0 | 1 => {
                assert_eq!(call(&world, Transition::HostDonateHyp(range(number))), Ok(None));
                write_secret(&world, number);
                scheduling_point();
                check_secret(&world, number);
                assert_eq!(call(&world, Transition::HypDonateHost(range(number))), Ok(None));
                check_returned(&world, number);
            }
            2 => {
                let Ok(Some(guest)) = call(&world, Transition::VmCreate) else { panic!("no guest") };
                let handle = u64::from(guest.handle());
                assert_eq!(call(&world, Transition::HostDonateGuest(range(number), handle)), Ok(None));
                write_secret(&world, number);
                assert_eq!(call(&world, Transition::VmDestroy(handle)), Ok(None));
                check_secret(&world, number);
                assert_eq!(call(&world, Transition::HostReclaimPage(range(number))), Ok(None));
                check_returned(&world, number);
            }
            _ => {
                assert_eq!(call(&world, Transition::HostShareHyp(range(number))), Ok(None));
                check_dma(&world, number);
                assert_eq!(call(&world, Transition::HostUnshareHyp(range(number))), Ok(None));
                check_dma(&world, number);
            }
        }
    }
}

/// Changes and invalidates entries, and invalidates translations, each with a CMD_SYNC.
fn commands(rounds: usize, mut driver: Driver) {
    let world = world();
    for _ in 0..rounds {
        let sid = SIDS[thread_rng().gen_range(0..SIDS.len())];
        let invalidate = match thread_rng().gen_range(0..4) {
            0 => [0x30, 0],
            1 => [u64::from(sid) << 32 | 3, 1],
            2 if driver.n == ATTACKED => [4, 31],
            _ => [0x28, 0],
        };
        if driver.n == ATTACKED {
            let words = ENTRIES[thread_rng().gen_range(0..ENTRIES.len())];
            let entry = addresses(ATTACKED).tables[0] + u64::from(sid) * 64;
            world.store(entry + 8, words[1]);
            world.store(entry, words[0]);
        }
        driver.commands(&world, &[invalidate, [u64::from(sid) << 32 | 3, 1], [0x46, 0]]);
    }
}

/// Disables and enables queues and translation, moves the stream table, and donates the page of a disabled queue.
fn enables(rounds: usize) {
    let world = world();
    for _ in 0..rounds {
        let at = addresses(ATTACKED);
        match thread_rng().gen_range(0..3) {
            0 => {
                let value = [0, QUEUES, ON, r::CR0_SMMUEN][thread_rng().gen_range(0..4)];
                world.write32(ATTACKED, r::CR0, value);
            }
            1 => {
                world.write32(ATTACKED, r::CR0, QUEUES);
                world.write64(ATTACKED, r::STRTAB_BASE, at.tables[thread_rng().gen_range(0..2)]);
                world.write32(ATTACKED, r::CR0, ON);
            }
            _ => {
                world.write32(ATTACKED, r::CR0, thread_rng().gen_range(0..2) * ON);
                let number = (at.evtq - RAM) / PAGE_BYTES;
                match call(&world, Transition::HostDonateHyp(range(number))) {
                    Ok(_) => {
                        write_secret(&world, number);
                        world.write32(ATTACKED, r::CR0, ON);
                        check_secret(&world, number);
                        assert_eq!(call(&world, Transition::HypDonateHost(range(number))), Ok(None));
                        check_returned(&world, number);
                    }
                    Err(error) => assert_eq!(error, Error::Claimed),
                }
                world.write32(ATTACKED, r::CR0, ON);
            }
        }
        let _ = world.read32(ATTACKED, r::EVENTQ_PROD);
    }
}

/// Another CPU of the host writes to the host's tables and queue at any time.
fn write_entries_and_commands(rounds: usize) {
    let world = world();
    for _ in 0..rounds {
        let at = addresses(ATTACKED);
        let words = ENTRIES[thread_rng().gen_range(0..ENTRIES.len())];
        let sid = u64::from(SIDS[thread_rng().gen_range(0..SIDS.len())]);
        match thread_rng().gen_range(0..4) {
            0 | 3 => {
                // These are most likely the commands that EL2 executes now.
                let index = LAST_SLOT.get().wrapping_sub(thread_rng().gen_range(0..3)) % (1 << LOG2_QUEUE);
                let slot = at.cmdq + u64::from(index) * 16;
                let command = [[0x46, 0], [4, 31], [0xff, 0], [0xff, 1]][thread_rng().gen_range(0..4)];
                world.store(slot + 8, command[1]);
                world.store(slot, command[0]);
            }
            which => {
                let entry = at.tables[which - 1] + sid * 64;
                world.store(entry, words[0]);
            }
        }
    }
}

/// Devices transfer and the SMMUs make progress at any time.
fn devices(rounds: usize) {
    let world = world();
    for _ in 0..rounds {
        scheduling_point();
        let number = CHANGING[thread_rng().gen_range(0..CHANGING.len())];
        let sid = SIDS[thread_rng().gen_range(0..SIDS.len())];
        for model in &world.models {
            let mut data = [0; 8];
            let transfer = model.borrow_mut().dma_read(sid, None, page(number), &mut data);
            let foreign = world.foreign.borrow().contains(&page(number));
            assert!(!(foreign && transfer == Transfer::Done), "a foreign page was read: {number}");
            let _ = model.borrow_mut().dma_write(sid, None, page(number) + 16, &[0xbb]);
            model.borrow_mut().step();
        }
        check_dma(&world, CONSTANT);
    }
}

/// One schedule on `world`: all threads at once, then a correct host.
pub(crate) fn run_all(world: &World) {
    let attacked = Driver::enable(world, ATTACKED);
    let normal = Driver::enable(world, NORMAL);
    for number in CHANGING {
        check_dma(world, number);
    }
    let threads = [
        thread::spawn(|| transitions(3)),
        thread::spawn(move || commands(3, attacked)),
        thread::spawn(move || commands(2, normal)),
        thread::spawn(|| enables(3)),
        thread::spawn(|| streams::assignments(2)),
        thread::spawn(|| write_entries_and_commands(24)),
        thread::spawn(|| devices(24)),
    ];
    for thread in threads {
        assert!(thread.join().is_ok());
    }
    // A correct host works on the attacked SMMU too.
    world.write32(ATTACKED, r::CR0, 0);
    Driver::enable(world, ATTACKED).commands(world, &[[0x30, 0], [0x46, 0]]);
    for number in CHANGING {
        for model in &world.models {
            let transfer = model.borrow_mut().dma_write(SID, None, page(number) + 24, &[0xcc]);
            assert_eq!(transfer, Transfer::Done, "page {number} is the host's");
        }
    }
    world.check();
    for n in [ATTACKED, NORMAL] {
        world.write32(n, r::CR0, 0);
    }
    let ownership = world.ownership().lock();
    assert_eq!(ownership.audit(mem_protect::Devices::default()), Ok(()));
    let claimed = (0..64).filter_map(|number| ownership.map().page(page(number) / PAGE_BYTES));
    assert_eq!(claimed.map(|page| u64::from(page.claims())).sum::<u64>(), 0, "claims leak");
    drop(ownership);
    for smmu in world.smmus() {
        let ownership = world.ownership().lock();
        let smmu = smmu.lock();
        assert_eq!(smmu.audit(ownership.memory()), Ok(()));
        assert_eq!(smmu.stats().cmdq_recoveries, 0, "hardware refused a command of EL2");
        assert_eq!(smmu.failed(), None);
    }
    for model in &world.models {
        assert_eq!(model.borrow_mut().take_hazards(), [], "the driver misused the SMMU");
    }
}
