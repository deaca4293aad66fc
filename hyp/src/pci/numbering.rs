//! Bus numbers. No bus but the root bus may have its number: QEMU takes the number of a function's bus from the register of
//! the bridge above it, and so may a bridge from PCI Express to PCI.
//!
//! The buses are walked from the root. Each bridge has to have numbers of its own, inside those of the bridge above and
//! beside those of its neighbours: then no bus is hidden from the walk behind another one.

use super::config::{ConfigSpace, exists, header_type};
use super::rid::{DEVICES, FUNCTIONS, Rid};
use super::spec::{self, buses};
use arrayvec::ArrayVec;
use host_access::field::get32;

/// Buses that are walked at most: bounds the time. More are refused.
pub const MOST_BUSES: usize = 32;

/// The functions of a bus that exist.
pub fn functions(config: &impl ConfigSpace, bus: u8) -> impl Iterator<Item = Rid> {
    (0..DEVICES).flat_map(move |device| {
        let first = Rid::of(bus, device, 0);
        let count = if !exists(config, first) {
            0
        } else if get32(spec::MULTI_FUNCTION, config.read32(first, spec::HEADER)) == 1 {
            FUNCTIONS
        } else {
            1
        };
        (0..count).map(move |function| Rid::of(bus, device, function)).filter(move |rid| exists(config, *rid))
    })
}

/// Numbers that are taken.
#[derive(Default)]
struct Taken([u64; 4]);

impl Taken {
    /// Takes `number`; `false` if it is taken already.
    fn take(&mut self, number: u8) -> bool {
        let Some(word) = self.0.get_mut(usize::from(number >> 6)) else { return false };
        let bit = 1_u64.wrapping_shl(u32::from(number));
        let free = *word & bit == 0;
        *word |= bit;
        free
    }
}

/// Checks the numbers of all buses from `first`, the root, to `last`.
///
/// # Errors
/// A bridge whose numbers are not as they have to be, or behind which are too many buses.
pub fn check(config: &impl ConfigSpace, first: u8, last: u8) -> Result<(), Rid> {
    let mut rest = ArrayVec::<(u8, u8), MOST_BUSES>::new();
    let _ = rest.try_push((first, last));
    // Each round takes a bus that no round took before.
    while let Some((bus, end)) = rest.pop() {
        let mut taken = Taken::default();
        for rid in functions(config, bus) {
            let header = header_type(config, rid);
            if header == spec::TYPE_ENDPOINT {
                continue;
            }
            let numbers = config.read32(rid, spec::BUSES);
            let number = |field| u8::try_from(get32(field, numbers)).unwrap_or(0);
            let (secondary, subordinate) = (number(buses::SECONDARY), number(buses::SUBORDINATE));
            let inside =
                header == spec::TYPE_BRIDGE && secondary > bus && secondary <= subordinate && subordinate <= end;
            if !inside || !(secondary..=subordinate).all(|number| taken.take(number)) {
                return Err(rid);
            }
            rest.try_push((secondary, subordinate)).map_err(|_| rid)?;
        }
    }
    Ok(())
}
