//! A cache of machines: each is built once and restored to its snapshot for every run.
//!
//! The result of a run must not depend on whether the machine is new or restored.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::audits::Audited;
use super::setups;
use super::watch::{Seen, Watch};
use crate::defence;
use crate::machine::Machine;
use crate::snapshot::Snapshot;

/// Parameters of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    machine: u8,
    /// Which of its take-overs.
    seed: u8,
    missing: &'static str,
}

/// A machine, new or restored.
pub(super) struct Ready {
    kind: Kind,
    pub(super) m: Machine,
    pub(super) watch: Watch,
    /// The snapshot, with the store hook's state.
    start: (Snapshot, Seen),
    /// What was audited then.
    audited: Audited,
}

/// Maximum cached machines per thread.
const MOST: usize = 96;
/// Ways in which hardware behaves during take-over, for each machine; what it does afterwards is decided by the whole seed of a run.
const TAKE_OVERS: u8 = 4;

thread_local! {
    /// Those that were used last come last.
    static STOCK: RefCell<VecDeque<Ready>> = const { RefCell::new(VecDeque::new()) };
}

impl Ready {
    /// The machine that two bytes of a run mean, right after take-over.
    pub(super) fn take(machine: u8, seed: u8) -> Self {
        let kind = Kind { machine: setups::number(machine), seed: seed % TAKE_OVERS, missing: defence::words() };
        let kept = STOCK.with_borrow_mut(|stock| {
            let at = stock.iter().rposition(|ready| ready.kind == kind)?;
            stock.remove(at)
        });
        let ready = kept.map_or_else(|| Self::new(kind), Self::restored);
        ready.m.models.iter().for_each(|model| model.borrow_mut().choose_by(seed.into()));
        ready
    }

    /// As it was right after take-over.
    fn restored(mut self) -> Self {
        self.m.restore(&self.start.0);
        self.watch.restore(&self.start.1);
        *self.m.spy.borrow_mut() = Some(self.watch.look());
        self
    }

    fn new(kind: Kind) -> Self {
        let setup = setups::setup(kind.machine, kind.seed);
        let watch = Watch::default();
        let mut m = Machine::watched(&setup, setups::firmware(kind.machine), watch.spy());
        let start = (m.snapshot(), watch.seen());
        let mut audited = Audited::default();
        // A finding here is reported again by the first check of the run.
        if audited.audit(&mut m).is_err() {
            audited = Audited::default();
        }
        Self { kind, m, watch, start, audited }
    }

    /// The audit cache right after take-over, if there was no finding.
    pub(super) fn audited(&self) -> Audited {
        self.audited.clone()
    }

    /// Keeps it for another run.
    pub(super) fn keep(self) {
        STOCK.with_borrow_mut(|stock| {
            if stock.len() >= MOST {
                stock.pop_front();
            }
            stock.push_back(self);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Diet, Play, Run, Summary, seeds};
    use super::*;
    use crate::Defence;
    use crate::hostile::Finding;
    use smmu_model::mem;

    /// Result of a run on this machine, and the memory after it.
    fn end(ready: Ready, run: &Run) -> (Ready, Result<Summary, Finding>, mem::Saved) {
        let mut play = Play::new(ready, Defence::Whole);
        let result = play.run(run);
        let memory = play.on.m.mem.save();
        (play.on, result, memory)
    }

    #[test]
    fn a_run_on_a_machine_that_was_played_on_is_the_run_on_a_new_one() {
        let all: Vec<Run> =
            seeds::all().into_iter().map(|(_, _, run)| run).filter(|run| run.actions.len() < 100).collect();
        for machine in 0..=setups::LESS_LARGE {
            let kind = Kind { machine, seed: machine * 17, missing: "" };
            let mut used = Ready::new(kind);
            for run in all.iter().skip(usize::from(machine)).step_by(14) {
                let (_, result, memory) = end(Ready::new(kind), run);
                let (again, second, after) = end(used.restored(), run);
                assert_eq!(result, second, "machine {machine}: {run:x?}");
                assert!(memory == after, "machine {machine}: {run:x?} leaves another memory");
                used = again;
            }
        }
    }

    #[test]
    fn bytes_mean_the_same_machine_each_time() {
        let run = Run::decode(Diet::Costs, &[7, 3]);
        Ready::take(run.machine, run.seed).keep();
        let taken = Ready::take(run.machine + 2 * setups::MACHINES, run.seed + TAKE_OVERS);
        assert_eq!(taken.kind, Kind { machine: 7, seed: 3, missing: "" });
        assert!(STOCK.with_borrow(VecDeque::is_empty), "it was made anew");
    }
}
