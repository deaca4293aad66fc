//! Several SMMUs that invalidate at the same time: while EL2 waits, all of them make progress.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::cell::Cell;
use std::rc::Rc;

use common::{BUF, Board, firmware};
use io_pgtable::Ipa;
use smmu_drv::{Probed, Smmu, Stale};
use smmu_model::{Config, Pace};

const VM: u16 = 2;
/// One page: an invalidation by IPA, a CMD_SYNC, an invalidation of combined entries, a CMD_SYNC.
const PAGE: Stale = Stale::Range { ipa: Ipa(BUF), size: 4096 };

/// SMMUs with a common clock. Each makes a step after its number of ticks in `periods`, while EL2 waits for any of
/// them.
struct Machine {
    boards: Vec<Board>,
    smmus: Vec<Smmu<Board>>,
    ticks: Rc<Cell<u64>>,
}

impl Machine {
    fn new(periods: &[u64]) -> Self {
        let ticks = Rc::new(Cell::new(0_u64));
        let config = |seed| Config { pace: Pace::Manual, seed, ..Config::qemu() };
        let boards: Vec<Board> = (0..).zip(periods).map(|(seed, _)| Board::new(config(seed))).collect();
        for board in &boards {
            let (clock, periods) = (ticks.clone(), periods.to_vec());
            let all = boards.iter().map(|board| Rc::downgrade(&board.0)).collect::<Vec<_>>();
            *board.0.on_relax.borrow_mut() = Some(Box::new(move || {
                clock.set(clock.get() + 1);
                for (board, period) in all.iter().zip(&periods) {
                    if clock.get().is_multiple_of(*period) {
                        board.upgrade().unwrap().model.borrow_mut().step();
                    }
                }
            }));
        }
        let take_over = |board: &Board| {
            Probed::probe(board.clone(), firmware(&config(0))).unwrap().take_over(Default::default()).unwrap()
        };
        let smmus = boards.iter().map(take_over).collect();
        let machine = Self { boards, smmus, ticks };
        machine.ticks.set(0);
        machine
    }

    /// Number of commands and CMD_SYNCs that `what` sent to each SMMU, and the number of ticks.
    fn count(&mut self, what: impl FnOnce(&mut [Smmu<Board>])) -> (Vec<(u64, u64)>, u64) {
        let given = |smmus: &mut Vec<Smmu<Board>>| {
            smmus.iter_mut().map(|smmu| (smmu.stats().forwarded_commands, smmu.stats().syncs)).collect::<Vec<_>>()
        };
        let before = given(&mut self.smmus);
        self.ticks.set(0);
        what(&mut self.smmus);
        let after = given(&mut self.smmus);
        for board in &self.boards {
            assert!(!board.0.model.borrow_mut().step(), "work is left when the wait is over");
            assert_eq!(board.0.model.borrow_mut().take_hazards(), []);
        }
        let counts = before.into_iter().zip(after).map(|(old, new)| (new.0 - old.0, new.1 - old.1)).collect();
        (counts, self.ticks.get())
    }
}

fn one_after_the_other(smmus: &mut [Smmu<Board>]) {
    for smmu in smmus {
        smmu.tlb_invalidate(VM, PAGE).unwrap();
    }
}

fn at_the_same_time(smmus: &mut [Smmu<Board>]) {
    for smmu in smmus.iter_mut() {
        smmu.tlb_submit(VM, PAGE).unwrap();
    }
    for smmu in smmus {
        smmu.tlb_wait().unwrap();
    }
}

#[test]
fn a_revocation_takes_as_long_as_the_slowest_smmu() {
    // The slowest SMMU makes a step every nine ticks.
    let periods = [3, 9, 5, 2, 7, 4, 8, 6];
    let alone = |period| Machine::new(&[period]).count(one_after_the_other).1;
    for smmus in [1, 2, 4, 8] {
        let periods = &periods[..smmus];
        let sum: u64 = periods.iter().map(|period| alone(*period)).sum();
        let slowest = periods.iter().map(|period| alone(*period)).max().unwrap();
        let (counts, ticks) = Machine::new(periods).count(at_the_same_time);
        let (commands, syncs) = counts[0];
        assert_eq!(counts, vec![(2, 2); smmus], "commands and CMD_SYNCs of each");
        assert!(ticks <= slowest + 9, "{ticks} ticks, the slowest alone {slowest}");
        let (counts, one_by_one) = Machine::new(periods).count(one_after_the_other);
        // `cargo xtask bench scaling` reads these lines.
        println!(
            "SCALING smmus={smmus} commands={commands} syncs={syncs} ticks={ticks} slowest={slowest} one_by_one={one_by_one}"
        );
        assert!(one_by_one <= sum, "{one_by_one} ticks, each alone {sum}");
        assert_eq!(counts, vec![(2, 2); smmus]);
        assert!(smmus == 1 || ticks < one_by_one, "{ticks} ticks, one after the other {one_by_one}");
    }
}
