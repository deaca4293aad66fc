//! The hypercall interface: correct operation and errors.

use crate::firmware::{Answer, Hypercall, try_hvc};
use crate::machine::EL2_IMAGE;
use crate::mem::{BLOCK, PAGE, alloc, page};
use crate::outcome::TestResult;
use crate::random::Random;
use crate::registry::{Clock, Runs};
use crate::setup::Ctx;
use crate::sysreg::MAX_CPUS;
use crate::vectors::catch;
use crate::{cpu, ensure, fail, mmio, payload_test, println, sysreg};

payload_test!(hypercall_version, Runs::EITHER);
/// The version is 1 or later, and the maximum range is reported.
fn hypercall_version(_ctx: &Ctx) -> TestResult {
    let answer = Hypercall::Version.raw(0, 0);
    println!("version {:#x} max pages {} features {:#x}", answer[1], answer[2], answer[3]);
    ensure!(answer[0] == 0, "VERSION returns {:#x}", answer[0]);
    ensure!(answer[1] != 0, "version 0");
    ensure!(answer[2] >= 1, "no pages per call");
    Ok(())
}

/// Maximum number of pages of one call.
pub fn max_pages() -> u64 {
    Hypercall::Version.raw(0, 0)[2]
}

fn expect(call: Hypercall, addr: u64, pages: u64, wanted: Answer) -> TestResult {
    let answer = call.call(addr, pages);
    ensure!(answer == wanted, "{call:?}({addr:#x}, {pages}): {answer:?} instead of {wanted:?}");
    Ok(())
}

/// Checks that the call returns a defined error code.
fn refused(call: Hypercall, addr: u64, pages: u64) -> TestResult {
    match call.call(addr, pages) {
        Answer::Success => fail!("{call:?}({addr:#x}, {pages}) succeeds"),
        Answer::Unknown(value) => fail!("{call:?}({addr:#x}, {pages}) returns {value}"),
        _ => Ok(()),
    }
}

payload_test!(share_unshare, Runs::EITHER);
/// A shared page still belongs to the host: the host can read and write it, and its content is unchanged.
fn share_unshare(_ctx: &Ctx) -> TestResult {
    let base = alloc(4 * PAGE, PAGE);
    mmio::fill(base, 4 * PAGE, 0x5a5a);
    for pages in [1, 4] {
        expect(Hypercall::HostShareHyp, base, pages, Answer::Success)?;
        refused(Hypercall::HostShareHyp, base, pages)?;
        refused(Hypercall::HostDonateHyp, base, pages)?;
        ensure!(mmio::find_other(base, 4 * PAGE, 0x5a5a).is_none(), "content changed by sharing");
        mmio::write64(base, 0x5a5a);
        expect(Hypercall::HostUnshareHyp, base, pages, Answer::Success)?;
        refused(Hypercall::HostUnshareHyp, base, pages)?;
    }
    ensure!(mmio::find_other(base, 4 * PAGE, 0x5a5a).is_none(), "content changed by unsharing");
    Ok(())
}

payload_test!(donate_and_return, Runs::EITHER);
/// A donated page is inaccessible; it is returned zeroed and usable. The ranges are one page, several pages, and a
/// block.
fn donate_and_return(_ctx: &Ctx) -> TestResult {
    let block = alloc(2 * BLOCK, BLOCK);
    let room = max_pages();
    for (offset, pages) in [(0, 1), (3 * PAGE, 5), (BLOCK - 4 * PAGE, 8), (0, 512)] {
        let (base, pages) = (block + offset, pages.min(room));
        mmio::fill(base, pages * PAGE, 0xd0_d0d0);
        expect(Hypercall::HostDonateHyp, base, pages, Answer::Success)?;
        for page in [0, pages - 1] {
            let (value, caught) = catch(|| mmio::read64(base + page * PAGE));
            ensure!(
                caught.is_some_and(|caught| caught.is_data_abort()),
                "donated page {page} of {pages} reads {value:#x}"
            );
        }
        ensure!(mmio::read64(base + pages * PAGE) != u64::MAX, "the page after the range is not accessible");
        refused(Hypercall::HostDonateHyp, base, pages)?;
        refused(Hypercall::HostShareHyp, base, 1)?;
        expect(Hypercall::HypDonateHost, base, pages, Answer::Success)?;
        let other = mmio::find_other(base, pages * PAGE, 0);
        ensure!(other.is_none(), "returned page is not zero at {other:x?}");
        refused(Hypercall::HypDonateHost, base, pages)?;
    }
    Ok(())
}

payload_test!(t60_largest_range, Runs::EITHER);
/// The time of a call with the largest range is bounded, for donation and for return with zeroing.
fn t60_largest_range(_ctx: &Ctx) -> TestResult {
    let pages = max_pages();
    ensure!(pages <= 0x4_0000, "one call takes {pages} pages");
    let base = alloc(2 * pages * PAGE, BLOCK);
    // The host owns all of these pages: only the count is invalid.
    refused(Hypercall::HostDonateHyp, base, pages + 1)?;
    refused(Hypercall::HostDonateHyp, base, 2 * pages)?;
    for call in [Hypercall::HostDonateHyp, Hypercall::HypDonateHost] {
        let begin = sysreg::cntvct();
        expect(call, base, pages, Answer::Success)?;
        let us = (sysreg::cntvct() - begin) * 1_000_000 / sysreg::cntfrq();
        println!("{call:?} of {pages} pages: {us} us");
        ensure!(us < LONGEST_CALL_US, "{call:?} of {pages} pages took {us} us");
    }
    Ok(())
}

/// Longest time of one hypercall, in microseconds of the instruction-counting clock (one microsecond is a thousand
/// instructions).
const LONGEST_CALL_US: u64 = 20_000;

payload_test!(t36_bad_ranges, Runs::EITHER);
/// Bad ranges return a specific error and change nothing.
fn t36_bad_ranges(ctx: &Ctx) -> TestResult {
    let own = alloc(4 * PAGE, PAGE);
    mmio::fill(own, 4 * PAGE, 0xbad_0bad);
    let ram_end = ctx.machine.ram_end();
    let top = !0xfff;
    let (calls, room) = ([Hypercall::HostShareHyp, Hypercall::HostDonateHyp], max_pages());
    for call in calls {
        refused(call, own, 0)?;
        refused(call, own, 1 << 63)?;
        refused(call, own, u64::MAX)?;
        refused(call, own, room + 1)?;
        refused(call, top, 1)?;
        refused(call, top, 2)?;
        refused(call, 0, 1)?;
        refused(call, ctx.machine.uart, 1)?;
        refused(call, ctx.machine.smmu, 1)?;
        refused(call, ctx.machine.gicd, 1)?;
        refused(call, ctx.machine.ecam, 1)?;
        refused(call, EL2_IMAGE, 1)?;
        refused(call, ram_end, 1)?;
        refused(call, ram_end - PAGE, 2)?;
        refused(call, 1 << 47, 1)?;
        // PFNs whose byte address does not fit 64 bits.
        for pfn in [u64::MAX, 1 << 52, 1 << 63, u64::MAX - 1] {
            ensure!(Answer::of(call.raw(pfn, 1)[0]) != Answer::Success, "{call:?} accepts pfn {pfn:#x}");
            ensure!(Answer::of(call.raw(pfn, 2)[0]) != Answer::Success, "{call:?} accepts pfn {pfn:#x} twice");
        }
    }
    if let Some(hole) = ctx.machine.hole() {
        // The last page of the host below EL2's memory, and a page of EL2.
        if hole.start > crate::machine::RAM_BASE {
            refused(Hypercall::HostDonateHyp, hole.start - PAGE, 2)?;
        }
        refused(Hypercall::HypDonateHost, hole.start, 1)?;
        refused(Hypercall::HypDonateHost, hole.end - PAGE, 1)?;
    }
    for call in [Hypercall::HypDonateHost, Hypercall::HostUnshareHyp] {
        refused(call, own, 1)?;
        refused(call, own, 0)?;
        refused(call, EL2_IMAGE, 1)?;
        refused(call, top, 2)?;
        refused(call, ctx.machine.uart, 1)?;
    }
    // A range with one bad page changes no page.
    expect(Hypercall::HostShareHyp, own + 2 * PAGE, 1, Answer::Success)?;
    refused(Hypercall::HostDonateHyp, own, 4)?;
    ensure!(mmio::find_other(own, 4 * PAGE, 0xbad_0bad).is_none(), "a refused donation changed a page");
    expect(Hypercall::HostUnshareHyp, own + 2 * PAGE, 1, Answer::Success)?;
    expect(Hypercall::HostDonateHyp, own, 4.min(room), Answer::Success)
}

payload_test!(t37_random_hypercalls, Runs::HYP, cpus = 1, clock = Clock::Real);
/// Random numbers in all registers, from every CPU at the same time: EL2 returns and does not crash.
fn t37_random_hypercalls(ctx: &Ctx) -> TestResult {
    let count = ctx.machine.cpu_count.min(MAX_CPUS);
    for index in 1..count {
        cpu::start(ctx.machine, index)?;
        cpu::send(index, random_calls, ctx.seed + crate::num::u64_of(index));
    }
    random_calls(ctx.seed);
    for index in 1..count {
        cpu::wait(index)?;
    }
    let own = page();
    expect(Hypercall::HostDonateHyp, own, 1, Answer::Success)?;
    expect(Hypercall::HypDonateHost, own, 1, Answer::Success)
}

fn random_calls(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    for round in 0..2000_u64 {
        let id = match round % 4 {
            // Function identifiers of the interface and adjacent ones.
            0 | 1 => 0xc600_0100 + random.below(0x20),
            2 => 0xc600_0000 + random.below(0x1_0000),
            // A nonexistent guest.
            _ => 0xc300_0000 | random.below(0x1_0000),
        };
        let mut args = [0; 7];
        for arg in &mut args {
            *arg = match random.below(4) {
                0 => random.below(16),
                1 => 1 << (20 + random.below(44)),
                2 => u64::MAX - random.below(16),
                // As a page number it is above all RAM, so that no page is donated by chance.
                _ => random.draw() | 1 << 40,
            };
        }
        let _ = try_hvc(id, args);
    }
    0
}

payload_test!(hvc_unknown, Runs::EITHER);
/// An unknown hypercall of any kind is NOT_SUPPORTED, and so is a fast call without the vendor's number.
fn hvc_unknown(_ctx: &Ctx) -> TestResult {
    for id in [0_u64, 1, 0xc600_01ff, 0x8600_0100, 0xc600_0fff, 0x4600_0100, 0xc500_0000, 0xffff_ffff] {
        match try_hvc(id, [0; 7]) {
            Ok(answer) => {
                let x0 = answer[0].cast_signed();
                ensure!(x0 == -1 || x0 == 0xffff_ffff, "HVC {id:#x} returns {x0:#x}");
            }
            Err(caught) => println!("HVC {id:#x} is undefined: {caught:x?}"),
        }
    }
    Ok(())
}
