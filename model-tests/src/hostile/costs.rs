//! Expensive traps: bulk actions, the bound to check, and coverage feedback for the fuzzer.

use std::hint::black_box;

use super::action::Cmd;
use super::{Execution, Finding};
use crate::work::{BOUND, Work};

/// CMD_CFGI_STE.
const CFGI_STE: u64 = 3;

impl Execution {
    /// Queues pairs of commands; the StreamID of each CMD_CFGI_STE is one more than that of the previous one.
    pub(super) fn fill(&mut self, n: usize, pair: [Cmd; 2], count: u8) {
        for step in 0..u64::from(count % 128) {
            for [word0, word1] in pair.map(Cmd::words) {
                let next = if word0 & 0xff == CFGI_STE { step << 32 } else { 0 };
                self.queue(n, [word0.wrapping_add(next), word1]);
            }
        }
    }

    /// Writes level-1 descriptors of consecutive tables, from StreamID 0 on.
    pub(super) fn level1(&mut self, n: usize, to: u64, span: u8, count: u8) {
        let base = self.host(n).strtab();
        for index in 0..=u64::from(count) {
            self.store_if_hosts(base + index * 8, to.wrapping_add(index << 14) & !0x3f | u64::from(span & 0x1f));
        }
    }

    /// Checks the work of a trap since `before` against the bound.
    pub(super) fn bounded(&mut self, before: Work, offset: u32) -> Result<(), Finding> {
        let work = self.cached.m.work().since(before);
        mark_coverage(work);
        match work.excess() {
            // Each command that hardware rejects causes extra work.
            Some(_) if self.injected => Ok(()),
            Some(excess) => Err(Finding::Unbounded(format!("a trap at {offset:#x}: {excess}"))),
            None => Ok(()),
        }
    }
}

/// A separate code location for each sixteenth of each bound, so that more work counts as new coverage.
fn mark_coverage(work: Work) {
    for (part, ((_, done), (_, most))) in work.parts().into_iter().zip(BOUND.parts()).enumerate() {
        let sixteenth = usize::try_from(done * 16 / most).unwrap_or(15).min(15);
        visit(part * 16 + sixteenth);
    }
}

#[inline(never)]
fn seen<const N: usize>() {
    black_box(N);
}

macro_rules! places {
    ($($part:literal)*) => {
        fn visit(place: usize) {
            match place {
                $(
                    n if n == $part * 16 => seen::<{ $part * 16 }>(),
                    n if n == $part * 16 + 1 => seen::<{ $part * 16 + 1 }>(),
                    n if n == $part * 16 + 2 => seen::<{ $part * 16 + 2 }>(),
                    n if n == $part * 16 + 3 => seen::<{ $part * 16 + 3 }>(),
                    n if n == $part * 16 + 4 => seen::<{ $part * 16 + 4 }>(),
                    n if n == $part * 16 + 5 => seen::<{ $part * 16 + 5 }>(),
                    n if n == $part * 16 + 6 => seen::<{ $part * 16 + 6 }>(),
                    n if n == $part * 16 + 7 => seen::<{ $part * 16 + 7 }>(),
                    n if n == $part * 16 + 8 => seen::<{ $part * 16 + 8 }>(),
                    n if n == $part * 16 + 9 => seen::<{ $part * 16 + 9 }>(),
                    n if n == $part * 16 + 10 => seen::<{ $part * 16 + 10 }>(),
                    n if n == $part * 16 + 11 => seen::<{ $part * 16 + 11 }>(),
                    n if n == $part * 16 + 12 => seen::<{ $part * 16 + 12 }>(),
                    n if n == $part * 16 + 13 => seen::<{ $part * 16 + 13 }>(),
                    n if n == $part * 16 + 14 => seen::<{ $part * 16 + 14 }>(),
                    n if n == $part * 16 + 15 => seen::<{ $part * 16 + 15 }>(),
                )*
                _ => {}
            }
        }
    };
}

places! { 0 1 2 3 4 5 }
