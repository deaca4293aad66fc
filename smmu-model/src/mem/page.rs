//! Pages of words that have a past.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{PAGE, Time};
use crate::by_address::ByAddress;

pub(super) type Pages = ByAddress<Arc<Page>>;

#[derive(Clone)]
pub(super) struct Page {
    pub(super) words: [u64; WORDS],
    /// By number, the words that a cache may know otherwise: the values they had, and from when.
    pub(super) past: BTreeMap<usize, Vec<(Time, u64)>>,
    /// Another one after each change: pages with the same stamp are the same.
    pub(super) stamp: u64,
}

const WORDS: usize = 512;

impl Page {
    const EMPTY: Self = Self { words: [0; WORDS], past: BTreeMap::new(), stamp: 0 };

    /// Whether some of its past was over at `before`.
    pub(super) fn forgets(&self, before: Time) -> bool {
        self.past
            .values()
            .any(|values| dead_before(values, before) > 0 || matches!(values[..], [only] if only.0 <= before))
    }
}

/// How many of a word's values were overwritten at `before`.
pub(super) fn dead_before(values: &[(Time, u64)], before: Time) -> usize {
    values.iter().skip(1).take_while(|next| next.0 <= before).count()
}

pub(super) fn load(pages: &Pages, word: u64) -> u64 {
    pages.get(&(word / PAGE)).map_or(0, |page| page.words[index_of(word)])
}

pub(super) fn store(pages: &mut Pages, word: u64, value: u64, stamp: u64) -> &mut Page {
    let page = Arc::make_mut(pages.entry(word / PAGE).or_insert_with(|| Arc::new(Page::EMPTY)));
    page.words[index_of(word)] = value;
    page.stamp = stamp;
    page
}

pub(super) fn index_of(word: u64) -> usize {
    usize::try_from((word % PAGE) / 8).unwrap_or(0)
}
