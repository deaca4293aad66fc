//! A hierarchical bitmap: a set of small numbers that finds its next member in a few reads, even if it is large and
//! sparse.
//!
//! Three bitmaps. The first has one bit for each number. A bit of the second (third) is set if the word at that index
//! of the first (second) is not zero.

/// Bits of one word.
const WORD: u64 = 64;
/// Number of bitmap levels.
const LEVELS: usize = 3;

/// Number of words of a bitmap of `bits` bits.
pub(crate) const fn words(bits: u64) -> u64 {
    bits.div_ceil(WORD)
}

/// Number of words that [`Bits::new`] needs for numbers below `limit`.
pub(crate) const fn words_of_set(limit: u64) -> u64 {
    let first = words(limit);
    let second = words(first);
    first.saturating_add(second).saturating_add(words(second))
}

/// A set of numbers below a limit.
pub(crate) struct Bits {
    limit: u64,
    levels: [&'static mut [u64]; LEVELS],
}

impl Bits {
    /// An empty set of numbers below `limit`, kept in `words`; `None` if they are fewer than [`words_of_set`].
    pub(crate) fn new(limit: u64, words: &'static mut [u64]) -> Option<Self> {
        let mut rest = words;
        let mut bits = limit;
        let levels = [(); LEVELS].map(|()| {
            bits = self::words(bits);
            let (level, after) = core::mem::take(&mut rest).split_at_mut_checked(usize::try_from(bits).ok()?)?;
            rest = after;
            level.fill(0);
            Some(level)
        });
        let [Some(first), Some(second), Some(third)] = levels else { return None };
        Some(Self { limit, levels: [first, second, third] })
    }

    /// Whether `number` is in the set.
    pub(crate) fn has(&self, number: u64) -> bool {
        let [first, ..] = &self.levels;
        bit(first, number)
    }

    /// Adds `number`; ignored above the limit.
    pub(crate) fn insert(&mut self, number: u64) {
        if number >= self.limit {
            return;
        }
        let mut at = number;
        for level in &mut self.levels {
            set(level, at);
            at = at.checked_div(WORD).unwrap_or(0);
        }
    }

    /// Removes `number`.
    pub(crate) fn remove(&mut self, number: u64) {
        let mut at = number;
        for level in &mut self.levels {
            clear(level, at);
            if word(level, at) != 0 {
                return;
            }
            at = at.checked_div(WORD).unwrap_or(0);
        }
    }

    /// The first member at or above `from`. Reads at most two words per level, plus the remaining words of the top
    /// level, which has one word per 2^18 numbers.
    pub(crate) fn next(&self, from: u64) -> Option<u64> {
        let mut at = from;
        for (level, bits) in self.levels.iter().enumerate() {
            let ahead = word(bits, at).unbounded_shr(shift(at));
            if ahead != 0 {
                return Some(self.first_below(level, at.saturating_add(u64::from(ahead.trailing_zeros()))));
            }
            // The following words are represented by bits of the next level.
            at = at.checked_div(WORD)?.saturating_add(1);
        }
        let last = self.levels.last()?;
        let (index, found) = last.iter().enumerate().skip(usize::try_from(at).ok()?).find(|(_, word)| **word != 0)?;
        let bit = u64::try_from(index).ok()?.saturating_mul(WORD).saturating_add(u64::from(found.trailing_zeros()));
        Some(self.first_below(LEVELS.saturating_sub(1), bit))
    }

    /// The first number covered by bit `at` of level `level`.
    fn first_below(&self, level: usize, at: u64) -> u64 {
        let lower = self.levels.iter().take(level).rev();
        lower.fold(at, |at, bits| {
            let word = usize::try_from(at).ok().and_then(|at| bits.get(at)).copied().unwrap_or(0);
            at.saturating_mul(WORD).saturating_add(u64::from(word.trailing_zeros()))
        })
    }
}

fn shift(index: u64) -> u32 {
    u32::try_from(index % WORD).unwrap_or(0)
}

fn mask(index: u64) -> u64 {
    1_u64.unbounded_shl(shift(index))
}

fn word(bits: &[u64], index: u64) -> u64 {
    usize::try_from(index / WORD).ok().and_then(|at| bits.get(at)).copied().unwrap_or(0)
}

fn word_mut(bits: &mut [u64], index: u64) -> Option<&mut u64> {
    usize::try_from(index / WORD).ok().and_then(|at| bits.get_mut(at))
}

/// Whether bit `index` is set; false beyond the end.
pub(crate) fn bit(bits: &[u64], index: u64) -> bool {
    word(bits, index) & mask(index) != 0
}

/// Sets bit `index`, unless it is beyond the end.
pub(crate) fn set(bits: &mut [u64], index: u64) {
    if let Some(word) = word_mut(bits, index) {
        *word |= mask(index);
    }
}

/// Clears bit `index`.
pub(crate) fn clear(bits: &mut [u64], index: u64) {
    if let Some(word) = word_mut(bits, index) {
        *word &= !mask(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::collections::BTreeSet;
    use std::vec;

    fn set_of(limit: u64) -> Bits {
        let words = usize::try_from(words_of_set(limit)).unwrap();
        Bits::new(limit, Box::leak(vec![!0; words].into_boxed_slice())).unwrap()
    }

    #[test]
    fn too_few_words_make_no_set() {
        assert_eq!(words_of_set(65), 4);
        assert!(Bits::new(65, Box::leak(Box::new([0; 3]))).is_none());
        assert!(Bits::new(65, Box::leak(Box::new([0; 4]))).is_some());
    }

    #[test]
    fn the_last_number_of_a_large_set_is_found_and_nothing_after_it() {
        let limit = 1 << 20;
        let mut bits = set_of(limit);
        assert_eq!(bits.next(0), None);
        bits.insert(limit - 1);
        bits.insert(limit);
        for from in [0, 1, 63, 64, 4095, 4096, (1 << 18) - 1, 1 << 18, limit - 65, limit - 1] {
            assert_eq!(bits.next(from), Some(limit - 1), "{from}");
        }
        assert_eq!((bits.next(limit), bits.next(u64::MAX)), (None, None));
        bits.remove(limit - 1);
        assert_eq!(bits.next(0), None);
    }

    #[test]
    fn numbers_beyond_the_limit_are_ignored() {
        for limit in [1, 100, 4097, 1 << 20] {
            let mut bits = set_of(limit);
            for number in [limit, limit + 1, limit + 64, limit * 2, u64::MAX] {
                bits.insert(number);
                assert_eq!((bits.has(number), bits.next(0)), (false, None), "{number} of {limit}");
            }
        }
    }

    proptest! {
        /// Compared with a set of the standard library, for numbers close to each other and far apart.
        #[test]
        fn agrees_with_a_set(steps in prop::collection::vec((0..3_u8, 0..9_u64, 0..70_u64), 0..200)) {
            let mut bits = set_of(9 << 17);
            let mut real = BTreeSet::new();
            for (step, far, near) in steps {
                let number = (far << 17) + near;
                match step {
                    0 => {
                        bits.insert(number);
                        real.insert(number);
                    }
                    1 => {
                        bits.remove(number);
                        real.remove(&number);
                    }
                    _ => prop_assert_eq!(bits.next(number), real.range(number..).next().copied()),
                }
                prop_assert_eq!(bits.has(number), real.contains(&number));
            }
            prop_assert_eq!(bits.next(0), real.first().copied());
        }
    }
}
