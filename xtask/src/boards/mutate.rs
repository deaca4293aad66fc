//! Random changes of real boards' trees: a boot must be refused, or its plan must be correct.

use std::panic;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use hyp::boot_info::{Early, Evaluated, PhysRange, fdt_edit, tree::Tree};
use test_machines::progress::step;

use super::Board;
use super::evaluated::with_plan;
use super::fill::{Author, Filled, fill};

/// If the decisions for a tree take longer than this, it counts as a hang.
const SLOW: Duration = Duration::from_secs(20);
/// A token that must not reach the host's tree.
const TOKEN: &str = "c0ffee00c0ffee11";
/// Values that often cause errors.
const VALUES: [u32; 14] =
    [0, 1, 2, 3, 4, 9, 0x1000, 0x1_0000, 0x4000_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_f000, 0xffff_fffc, u32::MAX];

/// Checks `count` trees, each one of `boards` with one to eight changes; `seed` is the number of the first.
///
/// # Errors
/// When an accepted plan is wrong or a tree takes too long. A panic ends the command with the number of the change.
pub(super) fn run(boards: &[Board], count: u64, seed: u64, policy: Option<&[u8]>) -> Result<()> {
    let options = format!("token={TOKEN}");
    let author = Author { options: &options, policy };
    let filled: Vec<(&str, Filled)> = boards
        .iter()
        .filter_map(|board| Some((board.name.as_str(), fill(&board.bytes, author).ok()?)))
        // Trees that are refused without a change reach less code.
        .filter(|(_, filled)| with_plan(filled, |_, _| ()).is_ok())
        .collect();
    ensure!(!filled.is_empty(), "none of the trees is accepted without a change: try --enable-smmus");
    let (mut accepted, mut slowest) = (0u64, (Duration::ZERO, String::new()));
    let slow = &mut slowest;
    step(&format!("Checking {count} changed trees of {} boards", filled.len()), || {
        for number in seed..seed.saturating_add(count) {
            let mut random = Random(number);
            let (name, original) = random.pick(&filled);
            let mut changed =
                Filled { dtb: original.dtb.clone(), policy: original.policy.clone(), notes: Vec::new(), ..*original };
            let place = format!("{name}, --seed {number} --mutate 1");
            for _ in 0..=random.below(8) {
                change(&mut random, &mut changed.dtb);
            }
            let hook = panic::take_hook();
            let shown = place.clone();
            panic::set_hook(Box::new(move |info| eprintln!("{shown}: {info}")));
            let start = Instant::now();
            let _ = Early::read(&changed.dtb);
            let held = with_plan(&changed, check);
            if start.elapsed() > slow.0 {
                *slow = (start.elapsed(), place.clone());
            }
            panic::set_hook(hook);
            match held {
                Ok(Ok(())) => accepted += 1,
                Ok(Err(problem)) => bail!("{place}: {problem}"),
                Err(_) => {}
            }
            ensure!(start.elapsed() < SLOW, "{place}: took {:?}", start.elapsed());
        }
        Ok(())
    })?;
    println!(
        "{count} changed trees of {} boards: {accepted} accepted, slowest {:?} ({})",
        filled.len(),
        slowest.0,
        slowest.1
    );
    Ok(())
}

/// Checks an accepted plan. Only its lists and the host's tree are used.
fn check(filled: &Filled, evaluated: &Evaluated<'_>) -> Result<(), String> {
    let (platform, policy, layout) = (&evaluated.platform, &evaluated.policy, &evaluated.layout);
    let own = [layout.image, layout.pool];
    let withheld = policy.withheld().iter().map(|part| part.range.page_rounded());
    let smmus = platform.smmus.iter().map(|smmu| smmu.range);
    let console = platform.uarts.el2.map(|uart| uart.range.page_rounded());
    let not_hosts: Vec<PhysRange> = withheld.chain(smmus).chain(console).chain(own).collect();
    let mmio: Vec<PhysRange> = policy.mmio().iter().copied().collect();
    let memory: Vec<PhysRange> = layout.host_ram.iter().copied().collect();
    apart("registers of the host", &mmio, "resources withheld from the host", &not_hosts)?;
    apart("memory of the host", &memory, "resources withheld from the host", &not_hosts)?;
    apart("memory of the host", &memory, "its registers", &mmio)?;
    let room = layout.kernel().map_or(0, |kernel| kernel.dtb.size());
    let mut out = vec![0xaa; usize::try_from(room).unwrap_or(0)];
    if let Ok(length) = fdt_edit::write_host_dtb(platform, policy, layout, &mut out) {
        Tree::parse(out.get(..length).unwrap_or_default()).map_err(|error| format!("the host's tree: {error}"))?;
        let whole = filled.dtb.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes());
        let left = out.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes());
        if platform.options.token == Some(TOKEN) && whole && left {
            return Err("the host's tree has the token".to_owned());
        }
    }
    Ok(())
}

fn apart(one: &str, ranges: &[PhysRange], other: &str, others: &[PhysRange]) -> Result<(), String> {
    for range in ranges {
        if let Some(over) = others.iter().find(|over| over.overlaps(range)) {
            return Err(format!("{one} at {range} and {other} at {over}"));
        }
    }
    Ok(())
}

/// Changes a cell or a byte, or moves a part of the tree, mostly in the structure.
fn change(random: &mut Random, dtb: &mut [u8]) {
    let cells = dtb.len() / 4;
    let at = 4 * random.below(cells);
    let from = 4 * random.below(cells);
    match random.below(6) {
        0 => put(dtb, at, *random.pick(&VALUES)),
        // A value from another place in the tree, so that addresses and phandles become equal.
        1 | 2 => {
            let value = dtb.get(from..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u32::from_be_bytes);
            put(dtb, at, value);
        }
        3 => {
            let value = dtb.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u32::from_be_bytes);
            put(dtb, at, value ^ 1 << random.below(32));
        }
        4 => {
            if let Some(byte) = dtb.get_mut(at + random.below(4)) {
                *byte = random.next().to_le_bytes()[0];
            }
        }
        _ => {
            let length = (4 * random.below(64)).min(dtb.len() - at.max(from));
            dtb.copy_within(from..from + length, at);
        }
    }
}

fn put(dtb: &mut [u8], at: usize, value: u32) {
    if let Some(cell) = dtb.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *cell = value.to_be_bytes();
    }
}

/// Reproducible pseudo-random numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(1);
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    fn pick<'s, T>(&mut self, from: &'s [T]) -> &'s T {
        &from[self.below(from.len())]
    }
}
