//! The host's general-purpose registers while EL2 handles a trap.

use static_assertions::const_assert_eq;

/// X0 to X30, in the order in which the vector saves them.
#[repr(C)]
pub struct Frame {
    x: [u64; 31],
    /// Keeps the stack pointer 16-byte aligned.
    _pad: u64,
}
const_assert_eq!(size_of::<Frame>(), 256);

impl Frame {
    /// Content of X`n`; register 31 is XZR.
    pub fn get(&self, n: u8) -> u64 {
        self.x.get(usize::from(n)).copied().unwrap_or(0)
    }

    /// Sets X0 to X3.
    pub fn answer(&mut self, values: [u64; 4]) {
        if let Some(first) = self.x.first_chunk_mut() {
            *first = values;
        }
    }

    /// Sets X`n`; a write to register 31 (XZR) is dropped.
    pub fn set(&mut self, n: u8, value: u64) {
        if let Some(x) = self.x.get_mut(usize::from(n)) {
            *x = value;
        }
    }
}
