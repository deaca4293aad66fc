//! Several CPUs at once: ownership changes on one of them while the others use adjacent pages, program the SMMU, and do
//! disk DMA.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::mutex::SpinMutex;

use crate::edu::Direction;
use crate::firmware::{Answer, Hypercall};
use crate::image;
use crate::mem::{BLOCK, PAGE, alloc, page};
use crate::mmio;
use crate::num::{align_down, low32, u64_of};
use crate::nvme::{Nvme, SECTOR, Transfer};
use crate::outcome::TestResult;
use crate::registry::{Clock, Runs};
use crate::setup::{Ctx, Mode, Setup};
use crate::smmu::spec::{Cmd, Ste};
use crate::sysreg::MAX_CPUS;
use crate::tests::commands::{Answers, ILLEGAL_WORDS};
use crate::tests::drivers::{find_nvme, nvme_round_trip};
use crate::tests::ownership::{donate, take_back};
use crate::tests::registers::check_isolation;
use crate::{cpu, ensure, fail, payload_test, println, sysreg};

static STOP: AtomicBool = AtomicBool::new(false);

payload_test!(t49_split_while_in_use, Runs::EITHER, cpus = 2, clock = Clock::Real);
/// One CPU donates single pages of a block and requests their return; the others read and write the rest of the block
/// during that time.
fn t49_split_while_in_use(ctx: &Ctx) -> TestResult {
    let count = ctx.machine.cpu_count.min(MAX_CPUS);
    let block = alloc(4 * BLOCK, BLOCK);
    for index in 1..count {
        cpu::start(ctx.machine, index)?;
        // Each CPU has its own page in every 64 KiB; CPU 0 donates the others.
        cpu::send(index, use_block, block | u64_of(index));
    }
    for round in 0..200_u64 {
        let donated = block + round % 4 * BLOCK + (round * 37 % 32) * 0x1_0000 + 0xf000;
        donate(donated, 1)?;
        take_back(donated, 1)?;
    }
    STOP.store(true, Ordering::SeqCst);
    for index in 1..count {
        let rounds = cpu::wait(index)?;
        println!("CPU {index}: {rounds} rounds");
        ensure!(rounds > 0, "CPU {index} found a wrong word");
    }
    Ok(())
}

payload_test!(t49_split_around_the_caller, Runs::EITHER);
/// The block that is split and coalesced contains the calling CPU's own code and stack.
fn t49_split_around_the_caller(_ctx: &Ctx) -> TestResult {
    let image = image::range();
    let donated = align_down(image.end - 1, BLOCK) + BLOCK - PAGE;
    ensure!(donated >= image.end, "the image ends in the last page of its block");
    for _ in 0..200 {
        mmio::write64(donated, 1);
        donate(donated, 1)?;
        take_back(donated, 1)?;
    }
    println!("page {:#x}, image {:#x}..{:#x}", donated, image.start, image.end);
    Ok(())
}

/// Writes and reads pages of the block until stopped; returns the number of rounds, 0 after a wrong word.
fn use_block(argument: u64) -> u64 {
    let (block, cpu) = (argument & !0xfff, argument & 0xfff);
    let mut rounds = 0;
    while !STOP.load(Ordering::SeqCst) || rounds == 0 {
        for chunk in 0..128 {
            let addr = block + chunk * 0x1_0000 + cpu * PAGE;
            mmio::write64(addr, rounds ^ addr);
            if mmio::read64(addr) != rounds ^ addr {
                return 0;
            }
        }
        rounds += 1;
    }
    rounds
}

static NVME: SpinMutex<Option<Nvme>> = SpinMutex::new(None);
/// Even while the host owns the attacked page, odd while EL2 owns it.
static OWNER: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);
static BLOCKED: AtomicU64 = AtomicU64::new(0);
static LANDED: AtomicU64 = AtomicU64::new(0);

payload_test!(nvme_donated, Runs::EITHER);
/// The NVMe writes to a page that it has used and that then was donated to EL2.
fn nvme_donated(ctx: &Ctx) -> TestResult {
    let mut nvme = find_nvme(ctx)?;
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.smmu.borrow_mut().set_ste(nvme.function.sid, setup.stage1.ste())?;
    nvme_round_trip(&mut nvme, |pa| setup.bus(pa))?;
    let attacked = page();
    let (bus, own) = (setup.bus(attacked), setup.bus(setup.own));
    ensure!(nvme.write_lands(bus, own, setup.own)?, "the page is not reachable while it is the host's");
    println!("CONTROL {}: ok", ctx.name);
    donate(attacked, 1)?;
    let attack = crate::setup::Attack::begin();
    let landed = nvme.write_lands(bus, own, setup.own)?;
    attack.check(ctx, landed.into())?;
    ensure!(nvme.write_lands(setup.bus(page()), own, setup.own)?, "NVMe does not work afterwards");
    Ok(())
}

payload_test!(t38_everything_at_once, Runs::HYP, cpus = 4, clock = Clock::Real);
/// CPU 0 donates a page and requests its return; CPU 1 invalidates everything; CPU 2 changes a stream table entry; CPU
/// 3 lets the disk transfer to that page and to another. The transfer must never land while EL2 owns the page, and
/// always while the host owns it.
fn t38_everything_at_once(ctx: &Ctx) -> TestResult {
    let mut nvme = find_nvme(ctx)?;
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.smmu.borrow_mut().set_ste(nvme.function.sid, setup.stage1.ste())?;
    nvme_round_trip(&mut nvme, |pa| setup.bus(pa))?;
    let (attacked, other, own) = (page(), page(), page());
    for (slot, pa) in BUS.iter().zip([attacked, other, own]) {
        slot.store(setup.bus(pa), Ordering::SeqCst);
    }
    *NVME.lock() = Some(nvme);
    for index in 1..4 {
        cpu::start(ctx.machine, index)?;
    }
    let prod = setup.smmu.borrow().addr(crate::smmu::spec::reg::CMDQ_PROD);
    {
        // From now on only CPU 1 uses the command queue, with invalidations and SYNCs.
        let smmu = setup.smmu.borrow();
        for slot in 0..1 << smmu.cmdq.log2 {
            smmu.cmdq.overwrite(slot, if slot % 8 == 7 { Cmd::sync() } else { Cmd::cfgi_all() });
        }
        cpu::send(1, publish_until_stopped, prod | u64::from(smmu.cmdq.log2) << 48);
        cpu::send(2, change_entry, smmu.strtab.entry(0xf0));
    }
    cpu::send(3, transfer_until_stopped, own);
    let mut transitions = 0_u64;
    // The ghost build is slower: fewer transitions, more time.
    let [soon, deadline] = [20_000_000, 100_000_000].map(|us| sysreg::cntvct() + sysreg::ticks(us));
    let enough = || [&BLOCKED, &LANDED].iter().all(|count| count.load(Ordering::SeqCst) > ENOUGH);
    while transitions < 40 && sysreg::cntvct() < if transitions > ENOUGH && enough() { soon } else { deadline } {
        match Hypercall::HostDonateHyp.call(attacked, 1) {
            Answer::Success => {}
            other => fail!("HOST_DONATE_HYP: {other:?} after {transitions} transitions"),
        }
        OWNER.fetch_add(1, Ordering::SeqCst);
        wait_for_transfers();
        OWNER.fetch_add(1, Ordering::SeqCst);
        match Hypercall::HypDonateHost.call(attacked, 1) {
            Answer::Success => {}
            other => fail!("HYP_DONATE_HOST: {other:?} after {transitions} transitions"),
        }
        OWNER.fetch_add(2, Ordering::SeqCst);
        wait_for_transfers();
        OWNER.fetch_add(4, Ordering::SeqCst);
        transitions += 1;
    }
    STOP.store(true, Ordering::SeqCst);
    for index in 1..4 {
        cpu::wait(index)?;
    }
    let (wrong, blocked, through) =
        (WRONG.load(Ordering::SeqCst), BLOCKED.load(Ordering::SeqCst), LANDED.load(Ordering::SeqCst));
    println!("{transitions} transitions, {blocked} transfers blocked, {through} landed, {wrong} wrong");
    ensure!(wrong == 0, "{wrong} transfers had the wrong result");
    ensure!(transitions > ENOUGH && blocked > ENOUGH && through > ENOUGH, "too few transitions or transfers");
    setup.smmu.borrow().off()?;
    setup.smmu.borrow().acknowledge();
    check_isolation(ctx)
}

/// Minimum numbers of transitions, blocked transfers and landed transfers.
const ENOUGH: u64 = 5;

/// Bus addresses of the attacked page, of a page that the host keeps, and of the page through which the data is read
/// back.
static BUS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
static TRANSFERS: AtomicU64 = AtomicU64::new(0);

/// Waits until the disk has started and completed two transfers, at most a second.
fn wait_for_transfers() {
    let begin = TRANSFERS.load(Ordering::SeqCst);
    sysreg::poll_us(1_000_000, || TRANSFERS.load(Ordering::SeqCst) >= begin + 2);
}

fn publish_until_stopped(argument: u64) -> u64 {
    let (prod, entries) = (argument & 0xffff_ffff_ffff, 1_u32 << (argument >> 48));
    while !STOP.load(Ordering::SeqCst) {
        let cons = mmio::read32(prod + 4);
        mmio::write32(prod, cons.wrapping_add(entries / 4) & (2 * entries - 1));
    }
    0
}

fn change_entry(entry: u64) -> u64 {
    let mut round = 0_u64;
    while !STOP.load(Ordering::SeqCst) {
        let ste = if round.is_multiple_of(2) { Ste::bypass() } else { Ste::abort() };
        for (word, value) in ste.0.iter().enumerate() {
            mmio::write64(entry + u64_of(word) * 8, *value);
        }
        round += 1;
        sysreg::relax();
    }
    round
}

fn transfer_until_stopped(own_pa: u64) -> u64 {
    let mut guard = NVME.lock();
    let Some(nvme) = guard.as_mut() else {
        return 0;
    };
    let [attacked, other, own] = BUS.each_ref().map(|slot| slot.load(Ordering::SeqCst));
    while !STOP.load(Ordering::SeqCst) {
        let before = OWNER.load(Ordering::SeqCst);
        let landed = nvme.write_lands(attacked, own, own_pa);
        if OWNER.load(Ordering::SeqCst) == before {
            // The count is 8n+1 while EL2 owns the page, and 8n+4 while the host owns it again; otherwise it is
            // changing owner.
            match (before % 8, landed) {
                (1, Ok(false)) => BLOCKED.fetch_add(1, Ordering::SeqCst),
                (4, Ok(true)) => LANDED.fetch_add(1, Ordering::SeqCst),
                (1 | 4, _) => WRONG.fetch_add(1, Ordering::SeqCst),
                _ => 0,
            };
        }
        if nvme.write_lands(other, own, own_pa) != Ok(true) {
            WRONG.fetch_add(1, Ordering::SeqCst);
        }
        TRANSFERS.fetch_add(1, Ordering::SeqCst);
    }
    0
}

/// Number of sectors with the size of a command queue of 128 entries.
const RING_SECTORS: u32 = 4;
/// First sectors of a legal and an illegal queue image on the disk.
const RINGS: u32 = 64;
/// Number of concurrent transfers to the queue.
const WRITERS: u32 = 8;

payload_test!(t14_queue_changes_by_dma, Runs::HYP, cpus = 1, clock = Clock::Real);
/// A disk overwrites the whole queue with legal and illegal commands in turn while its entries are submitted: each
/// result is one of the two.
fn t14_queue_changes_by_dma(ctx: &Ctx) -> TestResult {
    let mut nvme = find_nvme(ctx)?;
    // The same addresses with the SMMU on and off.
    let setup = Setup::new(ctx, Mode::Bypass)?;
    let mut smmu = setup.smmu.borrow_mut();
    smmu.set_ste(nvme.function.sid, Ste::bypass())?;
    nvme_round_trip(&mut nvme, |pa| pa)?;
    let (ring, staging) = (smmu.cmdq.base, page());
    ensure!(1 << smmu.cmdq.log2 == RING_SECTORS * 32, "the queue has 2^{} entries", smmu.cmdq.log2);
    for (number, words) in [[0x04; 4], ILLEGAL_WORDS].iter().enumerate() {
        for (slot, entry) in (staging..staging + u64::from(RING_SECTORS) * SECTOR).step_by(16).enumerate() {
            mmio::write64(entry, words[slot % 4]);
            mmio::write64(entry + 8, 31);
        }
        nvme.write(RINGS + low32(u64_of(number)) * RING_SECTORS, RING_SECTORS, staging)?;
    }
    let transfer = |id: u32| Transfer {
        direction: Direction::ToMemory,
        lba: RINGS + id % 2 * RING_SECTORS,
        sectors: RING_SECTORS,
        prp: ring,
    };
    (0..WRITERS).for_each(|id| nvme.begin(id, transfer(id)));
    nvme.ring();
    let (mut answers, mut written) = (Answers::default(), 0);
    let deadline = sysreg::cntvct() + sysreg::ticks(60_000_000);
    while !(answers.has_each(50) && written >= 200) && sysreg::cntvct() < deadline {
        while let Some((id, result)) = nvme.completion() {
            result?;
            written += 1;
            nvme.begin(id, transfer(id));
        }
        nvme.acknowledge();
        nvme.ring();
        let prod = smmu.cmdq.prod() + 4;
        smmu.cmdq.set_prod(prod);
        answers.submit(&mut smmu)?;
    }
    println!("{answers}, the disk wrote the queue {written} times");
    ensure!(answers.has_each(50) && written >= 200, "too few results or disk writes");
    smmu.off()?;
    smmu.acknowledge();
    drop(smmu);
    check_isolation(ctx)
}
