//! Bus numbers. No other bus may have the number of the root bus: QEMU reads a function's bus number from the register
//! of the bridge above it, and a bridge from PCI Express to PCI may do the same.
//!
//! The buses are walked from the root. The range of each bridge must be inside the range of the bridge above it, and
//! must not overlap the ranges of other bridges on the same bus. Then the walk finds every bus.
//!
//! A function on a bus that the walk does not reach is behind another root bus, which is not in the device tree.

use super::bridge;
use super::config::{ConfigSpace, exists, header_type};
use super::rid::{DEVICES, FUNCTIONS, Rid};
use super::spec::{self, buses};
use arrayvec::ArrayVec;
use host_access::field::get32;

/// Maximum number of buses that are walked, to bound the time. More are refused.
pub const MOST_BUSES: usize = 32;

/// The existing functions of a bus, also of devices without function 0. One load for each possible function.
pub fn functions(config: &impl ConfigSpace, bus: u8) -> impl Iterator<Item = Rid> {
    (0..DEVICES)
        .flat_map(move |device| (0..FUNCTIONS).map(move |function| Rid::of(bus, device, function)))
        .filter(move |rid| exists(config, *rid))
}

/// The bus numbers that are in use.
#[derive(Default)]
struct Taken([u64; 4]);

impl Taken {
    /// Marks `number` as in use; `false` if it already is.
    fn take(&mut self, number: u8) -> bool {
        let Some(word) = self.0.get_mut(usize::from(number >> 6)) else { return false };
        let bit = 1_u64.wrapping_shl(u32::from(number));
        let free = *word & bit == 0;
        *word |= bit;
        free
    }

    fn has(&self, number: u8) -> bool {
        let word = self.0.get(usize::from(number >> 6)).copied().unwrap_or(0);
        word & 1_u64.wrapping_shl(u32::from(number)) != 0
    }
}

/// Checks the numbers of all buses from `first`, the root, to `last`, and that no function responds on a bus up to
/// `end` that the walk has not reached. At most 256 loads for each of [`MOST_BUSES`] buses, and 32 for every other one.
///
/// # Errors
/// A bridge whose numbers are wrong or that leads to too many buses, or a function on a bus that was not reached.
pub fn check(config: &impl ConfigSpace, (first, last): (u8, u8), end: u8) -> Result<(), Rid> {
    let walk = Walk::from(config, first, last);
    walk.wrong.or_else(|| walk.unreached_function(config, first, end, 1)).map_or(Ok(()), Err)
}

/// A function on a bus from `first` to `end` that no bridge leads to: it is behind another, unknown root bus. For boot,
/// when bridges may have no numbers yet. One load for each possible function.
pub fn unreached_function(config: &impl ConfigSpace, (first, last): (u8, u8), end: u8) -> Option<Rid> {
    Walk::from(config, first, last).unreached_function(config, first, end, FUNCTIONS)
}

/// The buses that were reached from the root.
struct Walk {
    reached: Taken,
    /// The first bridge with wrong numbers. The walk does not continue below it.
    wrong: Option<Rid>,
}

impl Walk {
    fn from(config: &impl ConfigSpace, first: u8, last: u8) -> Self {
        let mut walk = Self { reached: Taken::default(), wrong: None };
        let mut rest = ArrayVec::<(u8, u8), MOST_BUSES>::new();
        let _ = rest.try_push((first, last));
        // Each iteration walks a bus that was not walked before.
        for _ in 0..MOST_BUSES {
            let Some((bus, end)) = rest.pop() else { break };
            walk.reached.take(bus);
            let mut taken = Taken::default();
            for rid in functions(config, bus) {
                let header = header_type(config, rid);
                if header == spec::TYPE_ENDPOINT {
                    continue;
                }
                let below = behind(config, rid, header).filter(|&(secondary, subordinate)| {
                    secondary > bus && subordinate <= end && (secondary..=subordinate).all(|number| taken.take(number))
                });
                if below.is_none_or(|below| rest.try_push(below).is_err()) {
                    walk.wrong = walk.wrong.or(Some(rid));
                }
            }
        }
        let unwalked = rest.pop().map(|(bus, _)| Rid::of(bus, 0, 0));
        walk.wrong = walk.wrong.or(unwalked);
        walk
    }

    fn unreached_function(&self, config: &impl ConfigSpace, first: u8, end: u8, functions: u8) -> Option<Rid> {
        (first..=end).filter(|bus| !self.reached.has(*bus)).find_map(|bus| {
            let all = (0..DEVICES).flat_map(|device| (0..functions).map(move |function| (device, function)));
            all.map(|(device, function)| Rid::of(bus, device, function)).find(|rid| exists(config, *rid))
        })
    }
}

/// The buses behind a bridge, if its numbers are valid and no function behind it is hidden.
fn behind(config: &impl ConfigSpace, rid: Rid, header: u32) -> Option<(u8, u8)> {
    let numbers = config.read32(rid, spec::BUSES);
    let number = |field| u8::try_from(get32(field, numbers)).unwrap_or(0);
    let (secondary, subordinate) = (number(buses::SECONDARY), number(buses::SUBORDINATE));
    (header == spec::TYPE_BRIDGE && secondary <= subordinate && !bridge::hides(config, rid))
        .then_some((secondary, subordinate))
}
