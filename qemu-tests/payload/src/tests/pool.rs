//! Exhausted pool of EL2: the caller gets an error, existing state is unchanged, and returned memory is usable.
//!
//! These tests boot EL2 with the smallest possible pool, about 2 MiB (450 pages).

use crate::edu::Edu;
use crate::firmware::{Answer, Hypercall};
use crate::mem::{BLOCK, PAGE, alloc_dirty, left, page};
use crate::num::u64_of;
use crate::outcome::{Fail, TestResult};
use crate::pci::Bridge;
use crate::registry::Runs;
use crate::setup::{Ctx, Mode, Setup};
use crate::smmu::spec::{Cmd, Ste};
use crate::tests::ownership::{donate, take_back};
use crate::tests::registers::check_isolation;
use crate::vectors::catch;
use crate::{ensure, fail, mmio, payload_test, println, skip};

/// The donated page of block `block`.
fn page_of(base: u64, block: u64) -> u64 {
    base + block * BLOCK + PAGE
}

/// Its content before the donation.
const CONTENT: u64 = 0x35c0_17e1_7000_0000;

/// Donates a page of each block with `call` until NO_MEMORY; returns the number of pages.
fn give_until_refused(base: u64, blocks: u64, mut call: impl FnMut(u64) -> Answer) -> Result<u64, Fail> {
    for block in 0..blocks {
        let attacked = page_of(base, block);
        mmio::fill(attacked, PAGE, CONTENT | block);
        match call(attacked) {
            Answer::Success => {}
            Answer::NoMemory => {
                println!("{block} pages of as many blocks are donated, the next page is refused");
                return Ok(block);
            }
            other => return Err(Fail::new(crate::outcome::Kind::Failed, format_args!("page {block}: {other:?}"))),
        }
    }
    Err(Fail::new(crate::outcome::Kind::Failed, format_args!("the pool is not exhausted by {blocks} pages")))
}

/// The refused page is still accessible to the host's CPU and device; a donated one is inaccessible to both.
fn nothing_else_changed(setup: &Setup, base: u64, given: u64) -> TestResult {
    let refused = page_of(base, given);
    ensure!(mmio::find_other(refused, PAGE, CONTENT | given).is_none(), "the refused page has changed");
    ensure!(setup.write_lands(refused + 0x100)?, "the device cannot access the refused page");
    for block in [0, given / 2, given - 1] {
        let (value, caught) = catch(|| mmio::read64(page_of(base, block)));
        ensure!(
            caught.is_some_and(|caught| caught.is_data_abort()),
            "the CPU reads {value:#x} in donated page {block}"
        );
        ensure!(!setup.write_lands(page_of(base, block) + 0x100)?, "the device reaches donated page {block}");
        // The host owns the rest of its block.
        let other = page_of(base, block) + PAGE;
        mmio::write64(other, block);
        ensure!(mmio::read64(other) == block, "the rest of block {block} has changed");
        ensure!(setup.write_lands(other + 0x100)?, "the device cannot access the rest of block {block}");
    }
    Ok(())
}

payload_test!(t35_pool_exhaustion, Runs::HYP, el2 = "pool=2M");
/// A page of every block is donated to a guest: the tables of the split blocks exhaust the pool.
fn t35_pool_exhaustion(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Bypass)?;
    setup.control(ctx)?;
    let blocks = left() / BLOCK - 8;
    let base = alloc_dirty(blocks * BLOCK, BLOCK);
    // Done twice, to show that returned memory is usable.
    let mut rounds = [0; 2];
    for round in &mut rounds {
        let created = Hypercall::VmCreate.raw(0, 0);
        ensure!(Answer::of(created[0]) == Answer::Success, "VM_CREATE: {:?}", Answer::of(created[0]));
        let guest = created[1];
        let given =
            give_until_refused(base, blocks, |attacked| Hypercall::HostDonateGuest.call_for(attacked, 1, guest))?;
        nothing_else_changed(&setup, base, given)?;
        let again = Hypercall::HostDonateGuest.call_for(page_of(base, given), 1, guest);
        ensure!(again == Answer::NoMemory, "the refused page is accepted the second time: {again:?}");
        let destroyed = Answer::of(Hypercall::VmDestroy.raw(guest, 0)[0]);
        ensure!(destroyed == Answer::Success, "VM_DESTROY: {destroyed:?}");
        for block in 0..given {
            let answer = Hypercall::HostReclaimPage.call(page_of(base, block), 1);
            ensure!(answer == Answer::Success, "HOST_RECLAIM_PAGE of page {block}: {answer:?}");
            ensure!(mmio::find_other(page_of(base, block), PAGE, 0).is_none(), "page {block} was not zeroed");
        }
        donate(page_of(base, given), 1)?;
        take_back(page_of(base, given), 1)?;
        *round = given;
    }
    ensure!(rounds[0] == rounds[1], "the pool has shrunk: {rounds:?}");
    check_isolation(ctx)
}

payload_test!(t35_pool_allocates_donated_pages, Runs::HYP, el2 = "pool=2M");
/// As above, but the pages are donated to EL2, which allocates tables from them: they cannot be returned before those
/// tables are freed.
fn t35_pool_allocates_donated_pages(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Bypass)?;
    setup.control(ctx)?;
    let blocks = left() / BLOCK - 8;
    let base = alloc_dirty(blocks * BLOCK, BLOCK);
    let given = give_until_refused(base, blocks, |attacked| Hypercall::HostDonateHyp.call(attacked, 1))?;
    nothing_else_changed(&setup, base, given)?;
    let (mut kept, mut busy) = (given, 0);
    let mut back = [false; 1024];
    ensure!(given <= u64_of(back.len()), "{given} pages are more than this test counts");
    while kept > 0 {
        let before = kept;
        for (block, done) in (0..given).zip(&mut back).filter(|(_, done)| !**done) {
            match Hypercall::HypDonateHost.call(page_of(base, block), 1) {
                Answer::Success => {
                    let other = mmio::find_other(page_of(base, block), PAGE, 0);
                    ensure!(other.is_none(), "returned page {block} is not zero at {other:x?}");
                    (*done, kept) = (true, kept - 1);
                }
                Answer::Busy => busy += 1,
                other => fail!("HYP_DONATE_HOST of page {block}: {other:?}"),
            }
        }
        ensure!(kept < before, "{kept} pages of {given} were not returned");
    }
    println!("all {given} pages were returned; {busy} times a page was in use");
    ensure!(busy > 0, "no page was ever used as a table");
    check_isolation(ctx)
}

/// The last level-2 table of a stream table with 16 bits of StreamID.
const LAST: u32 = 0xff;

payload_test!(t35_stream_tables, Runs::HYP, el2 = "pool=2M");
/// The host's stream table has all level-2 tables: streams without memory for their table abort,
/// others keep working; with free memory, transitions and the aborted streams work again.
fn t35_stream_tables(ctx: &Ctx) -> TestResult {
    let mut setup = Setup::new(ctx, Mode::Bypass)?;
    let near = setup.edu;
    setup.control(ctx)?;
    let Some(bridge) = Bridge::find(ctx.machine, 4) else {
        skip!("no root port");
    };
    bridge.set_secondary_bus(LAST);
    let Some(far) = Edu::find_on(ctx.machine, LAST) else {
        skip!("no edu behind the root port");
    };
    ensure!(far.function.sid >> 8 == LAST, "StreamID {:#x}", far.function.sid);
    let base = {
        let mut smmu = setup.smmu.borrow_mut();
        // The host can use one table for all descriptors; EL2 needs a separate one for each.
        smmu.strtab.add_leaf(1);
        let base = smmu.strtab.base;
        let first = mmio::read64(base + 8);
        for upper in 2..u64::from(LAST) {
            mmio::write64(base + upper * 8, first);
        }
        smmu.try_command(Cmd::cfgi_all())?;
        smmu.strtab.add_leaf(LAST);
        smmu.command(Cmd::cfgi_ste_nonleaf(far.function.sid));
        smmu.set_ste(far.function.sid, Ste::bypass())?;
        base
    };
    setup.edu = far;
    ensure!(setup.read(setup.own).is_err(), "a stream works although there is no memory for its table");
    setup.edu = near;
    setup.control(ctx)?;
    let attacked_pages = alloc_dirty(16 * BLOCK, BLOCK);
    let given = give_until_refused(attacked_pages, 16, |attacked| Hypercall::HostDonateHyp.call(attacked, 1))?;
    let refused = page_of(attacked_pages, given);
    ensure!(mmio::find_other(refused, PAGE, CONTENT | given).is_none(), "the refused page has changed");
    ensure!(setup.write_lands(refused + 0x100)?, "the device cannot access the refused page");
    {
        let mut smmu = setup.smmu.borrow_mut();
        for upper in 1..u64::from(LAST) {
            mmio::write64(base + upper * 8, 0);
        }
        smmu.try_command(Cmd::cfgi_all())?;
        smmu.set_ste(far.function.sid, Ste::bypass())?;
    }
    setup.edu = far;
    setup.control(ctx)?;
    donate(refused, 1)?;
    ensure!(!setup.write_lands(refused + 0x100)?, "the device reaches a page of EL2");
    take_back(refused, 1)?;
    for block in (0..given).rev() {
        take_back(page_of(attacked_pages, block), 1)?;
    }
    donate(page(), 1)?;
    check_isolation(ctx)
}
