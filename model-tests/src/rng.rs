//! Pseudo-random numbers for the tests.

/// A sequence of pseudo-random numbers (xorshift64*).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The sequence of `seed`, which is not 0.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The upper 32 bits of the next number.
    pub fn next32(&mut self) -> u32 {
        u32::try_from(self.next64() >> 32).unwrap_or(0)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u8) -> u8 {
        u8::try_from(self.next64() % u64::from(limit)).unwrap_or(0)
    }

    /// One of `choices`, of which there are at most 255.
    pub fn one<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.below(u8::try_from(choices.len()).unwrap_or(u8::MAX)))]
    }
}
