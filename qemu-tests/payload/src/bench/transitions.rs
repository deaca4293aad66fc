//! Ownership changes by number of pages: EL2 instructions, SMMU commands and SYNCs.

use super::count;
use super::counts_instructions;
use crate::firmware::{Answer, Hypercall, Stat, stat};
use crate::mem::{BLOCK, PAGE, alloc_dirty, left};
use crate::outcome::{Fail, TestResult};
use crate::registry::Runs;
use crate::setup::Ctx;
use crate::{bench_line, ensure, payload_test, println};

/// The measured numbers of pages, each in memory that was not used since boot.
const PAGES: [u64; 13] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 4096, 32_768, 262_144];

/// Cost of one or several calls.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    instructions: u64,
    commands: u64,
    syncs: u64,
    calls: u64,
}

/// Makes `call` for `pages` pages at `base`, with the fewest possible hypercalls.
fn transition(call: Hypercall, base: u64, pages: u64, cap: u64) -> Result<Cost, Fail> {
    let before = (stat(Stat::Commands), stat(Stat::Syncs));
    let mut cost = Cost::default();
    let mut done = 0;
    while done < pages {
        let now = (pages - done).min(cap);
        let (plain, _) = count::nothing(call.id(), (base >> 12) + done, now);
        let (ticks, x0) = count::hvc(call.id(), (base >> 12) + done, now);
        let answer = Answer::of(x0);
        ensure!(answer == Answer::Success, "{call:?} of {now} pages after {done}: {answer:?}");
        cost.instructions += ticks - plain;
        cost.calls += 1;
        done += now;
    }
    cost.commands = stat(Stat::Commands) - before.0;
    cost.syncs = stat(Stat::Syncs) - before.1;
    Ok(cost)
}

payload_test!(bench_transitions, Runs::ON_REQUEST);
/// Donations of 1 to 262,144 contiguous pages and, up to the limit of one call, their return. Needs more than 2 GiB of
/// memory for the largest; skips sizes that do not fit.
fn bench_transitions(ctx: &Ctx) -> TestResult {
    measure(ctx, &PAGES)
}

payload_test!(bench_revoke_once, Runs::ON_REQUEST);
/// Only one page and a whole block, for hosts of other sizes.
fn bench_revoke_once(ctx: &Ctx) -> TestResult {
    measure(ctx, &[1, 512])
}

fn measure(ctx: &Ctx, counts: &[u64]) -> TestResult {
    counts_instructions(ctx)?;
    let cap = Hypercall::Version.raw(0, 0)[2];
    ensure!(cap > 0, "no pages per call");
    for &pages in counts {
        let bytes = pages * PAGE;
        if bytes + BLOCK > left() {
            println!("no memory for {pages} pages");
            continue;
        }
        // The first page of an unused block, so that the smaller counts split it.
        let base = alloc_dirty(bytes.max(BLOCK), BLOCK);
        let donated = transition(Hypercall::HostDonateHyp, base, pages, cap)?;
        bench_line!(donated.instructions, 1, "instructions", "el2_insns.donate_{pages}");
        bench_line!(donated.commands, 1, "commands", "revoke.{pages}.commands");
        bench_line!(donated.syncs, 1, "syncs", "revoke.{pages}.syncs");
        bench_line!(donated.calls, 1, "calls", "revoke.{pages}.calls");
        if pages > cap {
            continue;
        }
        if pages == 1 {
            // The block is already split: only a leaf is unmapped.
            let again = transition(Hypercall::HostDonateHyp, base + PAGE, 1, cap)?;
            bench_line!(again.instructions, 1, "instructions", "el2_insns.donate_1_again");
            bench_line!(again.commands, 1, "commands", "revoke.1_again.commands");
            bench_line!(again.syncs, 1, "syncs", "revoke.1_again.syncs");
        }
        let back = transition(Hypercall::HypDonateHost, base, pages, cap)?;
        bench_line!(back.instructions, 1, "instructions", "el2_insns.return_{pages}");
    }
    Ok(())
}
