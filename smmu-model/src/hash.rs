//! Maps and sets keyed by addresses, with a cheap hash: tests and fuzzing spend much of their time here.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map whose keys consist of addresses and other numbers.
pub(crate) type ByKey<K, T> = HashMap<K, T, BuildHasherDefault<AddressHasher>>;
/// A set of such keys.
pub(crate) type SetOf<K> = HashSet<K, BuildHasherDefault<AddressHasher>>;

/// Multiplicative hash. It need not be resistant to chosen keys.
#[derive(Default)]
pub(crate) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((*byte).into());
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(u64::from_ne_bytes(i64::try_from(value).unwrap_or(0).to_ne_bytes()));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}
