//! A list of up to `N` items without an allocator, which does not exist yet at boot: too large a count in a device
//! tree must give an error, not an overflow.

use core::fmt;
use core::ops::{Deref, DerefMut};

/// Up to `N` items, stored in place.
#[derive(Clone, Copy)]
pub struct Array<T, const N: usize> {
    items: [T; N],
    len: usize,
}

/// The list had `N` items already; it is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<T: Copy + Default, const N: usize> Array<T, N> {
    /// How many items fit.
    pub const CAPACITY: usize = N;

    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self { items: [T::default(); N], len: 0 }
    }

    /// Appends `item`.
    ///
    /// # Errors
    /// [`Full`] if the list has `N` items; it is unchanged.
    pub fn push(&mut self, item: T) -> Result<(), Full> {
        self.insert(self.len, item)
    }

    /// Inserts `item` before position `at`, which is at most the length.
    ///
    /// # Errors
    /// [`Full`] when `N` items are in or `at` is past the end; the list is unchanged.
    pub fn insert(&mut self, at: usize, item: T) -> Result<(), Full> {
        let longer = self.len.checked_add(1).ok_or(Full)?;
        let tail = self.items.get_mut(at..longer).ok_or(Full)?;
        tail.rotate_right(1);
        *tail.first_mut().ok_or(Full)? = item;
        self.len = longer;
        Ok(())
    }

    /// Takes out the item at `at`, or does nothing when there is none.
    pub fn remove(&mut self, at: usize) -> Option<T> {
        let tail = self.items.get_mut(at..self.len)?;
        let item = *tail.first()?;
        tail.rotate_left(1);
        self.len = self.len.saturating_sub(1);
        Some(item)
    }
}

impl<T: Copy + Default, const N: usize> Default for Array<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> Deref for Array<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.items.get(..self.len).unwrap_or(&[])
    }
}

impl<T, const N: usize> DerefMut for Array<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.items.get_mut(..self.len).unwrap_or(&mut [])
    }
}

impl<'s, T, const N: usize> IntoIterator for &'s Array<T, N> {
    type Item = &'s T;
    type IntoIter = core::slice::Iter<'s, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: fmt::Debug, const N: usize> fmt::Debug for Array<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: PartialEq, const N: usize> PartialEq for Array<T, N> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}
