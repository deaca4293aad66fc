//! A hook that checks the SMMUs at every store of EL2 within a trap.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use smmu_model::Model;

use crate::bus::StoreHook;

/// The hook. Clones share its state.
#[derive(Clone, Default)]
pub(super) struct BypassCheck(Rc<RefCell<State>>);

/// The observations of the hook.
#[derive(Clone, Default)]
pub(super) struct State {
    stores: u64,
    /// SMMUs, by address, that have been set to abort while SMMUEN is 0. They must not bypass later.
    aborting: BTreeSet<usize>,
    bypassed: bool,
}

impl BypassCheck {
    /// A hook for a machine.
    pub(super) fn hook(&self) -> StoreHook {
        Rc::new(RefCell::new(Some(self.new_hook())))
    }

    /// The function that the hook calls at each store.
    pub(super) fn new_hook(&self) -> Box<dyn FnMut(&Model)> {
        let state = self.0.clone();
        Box::new(move |model: &Model| {
            let mut state = state.borrow_mut();
            state.stores += 1;
            let smmu = std::ptr::from_ref(model).addr();
            if !model.may_bypass() {
                state.aborting.insert(smmu);
            } else if state.aborting.contains(&smmu) {
                state.bypassed = true;
            }
        })
    }

    /// The observations of the hook.
    pub(super) fn state(&self) -> State {
        self.0.borrow().clone()
    }

    /// Restores the state.
    pub(super) fn restore(&self, state: &State) {
        self.0.borrow_mut().clone_from(state);
    }

    /// Number of stores of EL2 to registers and buffers.
    pub(super) fn stores(&self) -> u64 {
        self.0.borrow().stores
    }

    /// After a power loss: the SMMU may bypass until EL2 sets it to abort again.
    pub(super) fn power_lost(&self) {
        self.0.borrow_mut().aborting.clear();
    }

    /// Whether an SMMU bypassed at a store although it had been set to abort and did not lose power.
    pub(super) fn bypassed(&self) -> bool {
        self.0.borrow().bypassed
    }
}
