//! A field of an ID register: signedness, highest supported value, and the controls that enable it.

use super::Control;

/// The order of the values of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Unsigned: 0 is not implemented.
    Unsigned,
    /// Signed: negative is not implemented.
    Signed,
    /// A number or an enumeration without a feature: shown unchanged.
    Number,
    /// A version of the Performance Monitors (DDI 0487, D24.1.3.2): unsigned, but 0xf is IMPLEMENTATION DEFINED and is
    /// shown as 0.
    Pmu,
}

/// One field of an ID register.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its architectural name.
    pub name: &'static str,
    /// Lowest bit.
    pub lsb: u32,
    /// Number of bits.
    pub width: u32,
    /// The order of its values.
    pub order: Order,
    /// The highest value that is shown to the host. Zero hides an unsigned field.
    pub known: u8,
    /// Control bits for the visible feature.
    pub allows: &'static [Allow],
}

/// Bits of one control that enable a feature.
#[derive(Clone, Copy, Debug)]
pub struct Allow {
    /// Minimum visible value.
    pub from: u8,
    /// The register.
    pub control: Control,
    /// The bits: set if ones enable, cleared if ones trap ([`Control::traps`]).
    pub bits: u64,
}

impl Field {
    /// This field of a register with the value `value`.
    #[must_use]
    pub const fn of(&self, value: u64) -> u8 {
        // At most eight bits wide.
        (value.wrapping_shr(self.lsb) & self.mask()).to_le_bytes()[0]
    }

    pub(super) const fn mask(&self) -> u64 {
        1_u64.wrapping_shl(self.width).wrapping_sub(1)
    }

    /// The visible value for hardware value `value`.
    #[must_use]
    pub const fn shown(&self, value: u8) -> u8 {
        let all_ones = self.mask().to_le_bytes()[0];
        match self.order {
            Order::Number => value,
            Order::Pmu if value == all_ones => 0,
            // The upper half of the values is negative: lower than every implemented value.
            Order::Signed if value > all_ones / 2 => value,
            Order::Unsigned | Order::Signed | Order::Pmu => {
                if value < self.known {
                    value
                } else {
                    self.known
                }
            }
        }
    }
}

pub(super) const fn up(name: &'static str, lsb: u32, known: u8) -> Field {
    Field { name, lsb, width: 4, order: Order::Unsigned, known, allows: &[] }
}

pub(super) const fn signed(name: &'static str, lsb: u32, known: u8) -> Field {
    Field { name, lsb, width: 4, order: Order::Signed, known, allows: &[] }
}

pub(super) const fn number(name: &'static str, lsb: u32) -> Field {
    Field { name, lsb, width: 4, order: Order::Number, known: 0, allows: &[] }
}

pub(super) const fn bit(name: &'static str, lsb: u32) -> Field {
    Field { name, lsb, width: 1, order: Order::Unsigned, known: 1, allows: &[] }
}

pub(super) const fn pmu(name: &'static str, lsb: u32, known: u8, allows: &'static [Allow]) -> Field {
    Field { name, lsb, width: 4, order: Order::Pmu, known, allows }
}

/// `field` with its controls.
pub(super) const fn with(field: Field, allows: &'static [Allow]) -> Field {
    Field { allows, ..field }
}

pub(super) const fn allow(from: u8, control: Control, bits: u64) -> Allow {
    Allow { from, control, bits }
}
