//! A cache of machines: each is built once and restored to its snapshot for every run.
//!
//! The result of a run must not depend on whether the machine is new or restored.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::audits::Audited;
use super::bypass_check::{BypassCheck, State};
use super::setups;
use crate::defects;
use crate::machine::Machine;
use crate::snapshot::Snapshot;

/// Parameters of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MachineKey {
    machine: u8,
    /// Index of its take-over, below [`TAKE_OVERS`].
    seed: u8,
    defects: &'static str,
}

/// A machine, new or restored.
pub(super) struct CachedMachine {
    key: MachineKey,
    pub(super) m: Machine,
    pub(super) bypass_check: BypassCheck,
    /// The snapshot, with the store hook's state.
    start: (Snapshot, State),
    /// The audit cache at the snapshot.
    audited: Audited,
}

/// Maximum cached machines per thread.
const MAX_MACHINES: usize = 96;
/// Number of take-overs of each machine: seeds of the hardware's choices during take-over. Its later choices follow
/// from the seed of the run.
const TAKE_OVERS: u8 = 4;

thread_local! {
    /// The most recently used machine is last.
    static CACHE: RefCell<VecDeque<CachedMachine>> = const { RefCell::new(VecDeque::new()) };
}

impl CachedMachine {
    /// The machine that the first two bytes of an input select, in its state right after take-over.
    pub(super) fn take(machine: u8, seed: u8) -> Self {
        let key = MachineKey { machine: setups::number(machine), seed: seed % TAKE_OVERS, defects: defects::names() };
        let kept = CACHE.with_borrow_mut(|cache| {
            let at = cache.iter().rposition(|machine| machine.key == key)?;
            cache.remove(at)
        });
        let machine = kept.map_or_else(|| Self::new(key), Self::restored);
        machine.m.models.iter().for_each(|model| model.borrow_mut().set_seed(seed.into()));
        machine
    }

    /// Restores the machine to its state right after take-over.
    fn restored(mut self) -> Self {
        self.m.restore(&self.start.0);
        self.bypass_check.restore(&self.start.1);
        *self.m.store_hook.borrow_mut() = Some(self.bypass_check.new_hook());
        self
    }

    fn new(key: MachineKey) -> Self {
        let setup = setups::setup(key.machine, key.seed);
        let bypass_check = BypassCheck::default();
        let mut m = Machine::with_store_hook(&setup, setups::firmware(key.machine), bypass_check.hook());
        let start = (m.snapshot(), bypass_check.state());
        let mut audited = Audited::default();
        // The first check of the run reports a finding of this audit again.
        if audited.audit(&mut m).is_err() {
            audited = Audited::default();
        }
        Self { key, m, bypass_check, start, audited }
    }

    /// The audit cache right after take-over, if there was no finding.
    pub(super) fn audited(&self) -> Audited {
        self.audited.clone()
    }

    /// Returns the machine to the cache.
    pub(super) fn put_back(self) {
        CACHE.with_borrow_mut(|cache| {
            if cache.len() >= MAX_MACHINES {
                cache.pop_front();
            }
            cache.push_back(self);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ActionSet, Execution, Run, Summary, seeds};
    use super::*;
    use crate::Defect;
    use crate::hostile::Finding;
    use smmu_model::mem;

    /// Result of a run on this machine, and the memory after it.
    fn end(machine: CachedMachine, run: &Run) -> (CachedMachine, Result<Summary, Finding>, mem::Saved) {
        let mut execution = Execution::new(machine, Defect::None);
        let result = execution.run(run);
        let memory = execution.cached.m.mem.save();
        (execution.cached, result, memory)
    }

    #[test]
    fn a_restored_machine_gives_the_same_result_as_a_new_one() {
        let all: Vec<Run> =
            seeds::all().into_iter().map(|(_, _, run)| run).filter(|run| run.actions.len() < 100).collect();
        for machine in 0..=setups::MEDIUM {
            let key = MachineKey { machine, seed: machine * 17, defects: "" };
            let mut used = CachedMachine::new(key);
            for run in all.iter().skip(usize::from(machine)).step_by(14) {
                let (_, result, memory) = end(CachedMachine::new(key), run);
                let (again, second, after) = end(used.restored(), run);
                assert_eq!(result, second, "machine {machine}: {run:x?}");
                assert!(memory == after, "machine {machine}: {run:x?} leaves a different memory");
                used = again;
            }
        }
    }

    #[test]
    fn equal_bytes_select_the_same_machine() {
        let run = Run::decode(ActionSet::Costs, &[7, 3]);
        CachedMachine::take(run.machine, run.seed).put_back();
        let taken = CachedMachine::take(run.machine + 2 * setups::MACHINES, run.seed + TAKE_OVERS);
        assert_eq!(taken.key, MachineKey { machine: 7, seed: 3, defects: "" });
        assert!(CACHE.with_borrow(VecDeque::is_empty), "the machine was not cached");
    }
}
