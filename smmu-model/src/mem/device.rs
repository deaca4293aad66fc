//! Memory as devices and walkers see it: the point of coherency, with history.

use super::page::index_of;
use super::{ExternalAbort, Memory, MmioWrite, Region, Time, Version, byte_of, wide};

impl Memory {
    /// The word at `pa` as a device reads it now.
    ///
    /// # Errors
    /// No region there.
    pub fn dev_read64(&self, pa: u64) -> Result<u64, ExternalAbort> {
        let m = self.lock();
        match m.region(pa) {
            Some(Region::Ram) => Ok(m.poc_get(pa & !7)),
            Some(Region::Mmio) => Ok(0),
            None => Err(ExternalAbort),
        }
    }

    /// Reads bytes as a device does.
    ///
    /// # Errors
    /// No region at one of the addresses.
    pub fn dev_read(&self, pa: u64, bytes: &mut [u8]) -> Result<(), ExternalAbort> {
        for (at, byte) in (pa..).zip(bytes) {
            *byte = self.dev_read64(at & !7)?.to_le_bytes()[byte_of(at)];
        }
        Ok(())
    }

    /// Stores bytes as a device does; a write to a device is logged.
    ///
    /// # Errors
    /// No region at one of the addresses; bytes before it are written.
    pub fn dev_write(&self, pa: u64, bytes: &[u8]) -> Result<(), ExternalAbort> {
        let mut m = self.lock();
        let mut at = pa;
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = usize::try_from(8 - (at & 7)).unwrap_or(8).min(rest.len());
            let (head, tail) = rest.split_at(room);
            match m.region(at) {
                None => return Err(ExternalAbort),
                Some(Region::Mmio) => {
                    let mut value = [0; 8];
                    value[..room].copy_from_slice(head);
                    m.mmio.push(MmioWrite { pa: at, value: u64::from_le_bytes(value), size: wide(room) });
                }
                Some(Region::Ram) => {
                    let mut word = m.poc_get(at & !7).to_le_bytes();
                    word[byte_of(at)..byte_of(at) + room].copy_from_slice(head);
                    m.dev_set(at & !7, u64::from_le_bytes(word));
                }
            }
            at += wide(room);
            rest = tail;
        }
        Ok(())
    }

    /// Replaces the word at `pa` if it is still `old`, as an atomic hardware update does. Returns whether it was.
    pub fn dev_compare_swap64(&self, pa: u64, old: u64, new: u64) -> bool {
        let mut m = self.lock();
        if m.region(pa) != Some(Region::Ram) || m.poc_get(pa & !7) != old {
            return false;
        }
        m.dev_set(pa & !7, new);
        true
    }

    /// Every value that the aligned word at `pa` had for a device since `from`, oldest first and the current one last,
    /// followed by the values of stores that no barrier has ordered.
    ///
    /// # Errors
    /// No region there.
    pub fn versions(&self, pa: u64, from: Time) -> Result<Vec<Version>, ExternalAbort> {
        self.lock().versions(pa & !7, from)
    }

    /// The same for each of the aligned words from `pa` on, up to eight, that lie in the same 64 bytes.
    ///
    /// # Errors
    /// No region there.
    pub fn versions_of_line(&self, pa: u64, from: Time) -> Result<Vec<Vec<Version>>, ExternalAbort> {
        let m = self.lock();
        (pa & !7..(pa | 63)).step_by(8).map(|word| m.versions(word, from)).collect()
    }

    /// Whether the 4096 bytes at `page` ever had a value other than zero for a device.
    #[must_use]
    pub fn ever_written(&self, page: u64) -> bool {
        self.lock().poc.get(page).is_some()
    }

    /// The words of the 4096 bytes at `page` for which some version is not zero, as offsets in bytes.
    #[must_use]
    pub fn used_words(&self, page: u64) -> Vec<u64> {
        let m = self.lock();
        let Some(page) = m.poc.get(page) else {
            return Vec::new();
        };
        let words = page.words().iter().enumerate();
        let used = words.filter(|(index, value)| **value != 0 || page.has_history(*index));
        used.map(|(index, _)| wide(index) * 8).collect()
    }

    /// The words of the 4096 bytes at `page` that are not zero now, with their offsets in bytes.
    #[must_use]
    pub fn words(&self, page: u64) -> Vec<(u64, u64)> {
        let m = self.lock();
        let Some(page) = m.poc.get(page) else { return Vec::new() };
        let words = page.words().iter().enumerate().filter(|(_, word)| **word != 0);
        words.map(|(index, word)| (wide(index) * 8, *word)).collect()
    }

    /// The words of the 4096 bytes at `page` with history, as offsets in bytes: caches may hold older values of them.
    #[must_use]
    pub fn words_with_history(&self, page: u64) -> Vec<u64> {
        let m = self.lock();
        m.poc.get(page).map_or_else(Vec::new, |page| page.words_with_history().map(|index| wide(index) * 8).collect())
    }

    /// The stamp of the 4096 bytes at `page`: it increases with each change of them or of their history.
    #[must_use]
    pub fn stamp(&self, page: u64) -> u64 {
        self.lock().stamp_of(page)
    }

    /// These pages, by address, each with the stamp of its last change; dropping history is not a change.
    #[must_use]
    pub fn with_value_stamps(&self, pages: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
        let m = self.lock();
        pages.into_iter().map(|page| (page, m.value_stamp(page))).collect()
    }

    /// Whether every value that can be read from these pages could be read when they had these stamps.
    #[must_use]
    pub fn has_no_new_values(&self, pages: &[(u64, u64)]) -> bool {
        let m = self.lock();
        pages.iter().all(|(page, stamp)| m.value_stamp(*page) == *stamp)
    }

    /// The stamp of the last change of the 4096 bytes at `page` as CPUs see them.
    #[must_use]
    pub fn cpu_stamp(&self, page: u64) -> u64 {
        self.lock().cpu_stamp(page)
    }

    /// Whether each of these pages, by address, still has this stamp for CPUs.
    #[must_use]
    pub fn unchanged_for_cpu(&self, pages: &[(u64, u64)]) -> bool {
        let m = self.lock();
        pages.iter().all(|(page, stamp)| m.cpu_stamp(*page) == *stamp)
    }

    /// Whether each of these pages, by address, still has this stamp.
    #[must_use]
    pub fn unchanged(&self, pages: &[(u64, u64)]) -> bool {
        let m = self.lock();
        pages.iter().all(|(page, stamp)| m.stamp_of(*page) == *stamp)
    }
}

impl super::Inner {
    fn versions(&self, word: u64, from: Time) -> Result<Vec<Version>, ExternalAbort> {
        match self.region(word) {
            None => return Err(ExternalAbort),
            Some(Region::Mmio) => {
                return Ok(vec![Version { value: 0, start: 0, end: None }]);
            }
            Some(Region::Ram) => {}
        }
        let page = self.poc.get(word);
        let zero = || vec![Version { value: 0, start: 0, end: None }];
        Ok(page.map_or_else(zero, |page| page.versions(index_of(word), from)))
    }
}
