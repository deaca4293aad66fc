//! Who looks on at every store of EL2, between what a trap begins with and what it ends with.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use smmu_model::Model;

use crate::bus::Spy;

/// What was seen. Copies share it.
#[derive(Clone, Default)]
pub(super) struct Watch(Rc<Seen>);

#[derive(Default)]
struct Seen {
    stores: Cell<u64>,
    /// SMMUs that were closed, by their addresses: from then on they have to be.
    closed: RefCell<BTreeSet<usize>>,
    opened: Cell<bool>,
}

impl Watch {
    /// The one that looks.
    pub(super) fn spy(&self) -> Spy {
        let seen = self.0.clone();
        Rc::new(RefCell::new(Some(Box::new(move |model: &Model| {
            seen.stores.set(seen.stores.get() + 1);
            let smmu = std::ptr::from_ref(model).addr();
            let mut closed = seen.closed.borrow_mut();
            if !model.is_open() {
                closed.insert(smmu);
            } else if closed.contains(&smmu) {
                seen.opened.set(true);
            }
        }))))
    }

    /// Stores of EL2 to registers and buffers so far.
    pub(super) fn stores(&self) -> u64 {
        self.0.stores.get()
    }

    /// An SMMU loses its power: until EL2 has closed it again, it is open.
    pub(super) fn power_lost(&self) {
        self.0.closed.borrow_mut().clear();
    }

    /// An SMMU that was closed was open again, for a moment at least, without having lost its power.
    pub(super) fn opened(&self) -> bool {
        self.0.opened.get()
    }
}
