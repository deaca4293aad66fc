//! A hook that checks the SMMUs at every store of EL2 within a trap.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use smmu_model::Model;

use crate::bus::Spy;

/// The hook. Clones share its state.
#[derive(Clone, Default)]
pub(super) struct Watch(Rc<RefCell<Seen>>);

/// What was seen.
#[derive(Clone, Default)]
pub(super) struct Seen {
    stores: u64,
    /// SMMUs that were set to abort, by address: they must never bypass later.
    closed: BTreeSet<usize>,
    opened: bool,
}

impl Watch {
    /// The hook function.
    pub(super) fn spy(&self) -> Spy {
        Rc::new(RefCell::new(Some(self.look())))
    }

    /// What it does at each store.
    pub(super) fn look(&self) -> Box<dyn FnMut(&Model)> {
        let seen = self.0.clone();
        Box::new(move |model: &Model| {
            let mut seen = seen.borrow_mut();
            seen.stores += 1;
            let smmu = std::ptr::from_ref(model).addr();
            if !model.is_open() {
                seen.closed.insert(smmu);
            } else if seen.closed.contains(&smmu) {
                seen.opened = true;
            }
        })
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> Seen {
        self.0.borrow().clone()
    }

    /// Restores the state.
    pub(super) fn restore(&self, seen: &Seen) {
        self.0.borrow_mut().clone_from(seen);
    }

    /// Stores of EL2 to registers and buffers so far.
    pub(super) fn stores(&self) -> u64 {
        self.0.borrow().stores
    }

    /// After a power loss: the SMMU may bypass until EL2 sets it to abort again.
    pub(super) fn power_lost(&self) {
        self.0.borrow_mut().closed.clear();
    }

    /// An SMMU bypassed at some store although it had been set to abort and did not lose its power.
    pub(super) fn opened(&self) -> bool {
        self.0.borrow().opened
    }
}
