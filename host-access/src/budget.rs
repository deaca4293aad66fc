//! The per-trap budget: work that a host can cause repeatedly is charged before it is done.
//!
//! A trap that has used up its budget saves its progress and returns; the host repeats the same store.

/// Units left in a trap.
#[derive(Clone, Copy, Debug)]
pub struct Budget(u32);

/// The next step costs more units than are left: the next trap continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent;

impl Budget {
    /// A budget of `units`.
    pub const fn new(units: u32) -> Self {
        Self(units)
    }

    /// Charges `units` for the next step.
    ///
    /// # Errors
    /// [`Spent`] if fewer units are left; nothing is charged then.
    #[inline]
    pub fn charge(&mut self, units: u32) -> Result<(), Spent> {
        match self.0.checked_sub(units) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => Err(Spent),
        }
    }

    /// Whether `units` are left.
    pub const fn covers(self, units: u32) -> bool {
        self.0 >= units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_made_in_full_or_not_at_all() {
        let mut budget = Budget::new(8);
        assert_eq!(budget.charge(7), Ok(()));
        assert_eq!(budget.charge(2), Err(Spent));
        assert!(budget.covers(1) && !budget.covers(2));
        assert_eq!(budget.charge(1), Ok(()));
        assert_eq!(budget.charge(1), Err(Spent));
    }
}
