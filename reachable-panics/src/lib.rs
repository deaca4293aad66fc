#![doc = include_str!("../README.md")]

mod decode;
mod graph;
mod image;
pub mod list;
pub mod stack;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

pub use crate::graph::Entry;
use crate::graph::Reach;
use crate::image::Image;

/// The result for an image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reachable {
    panics: BTreeMap<String, String>,
    functions: usize,
}

impl Reachable {
    /// Each reachable panic by its key (see [`list`]), with one path to it: the functions from an entry point on, and the
    /// address of the instruction.
    pub fn panics(&self) -> &BTreeMap<String, String> {
        &self.panics
    }

    /// Number of reached functions. If it is much smaller than the number in the program, the graph is incomplete.
    pub fn functions(&self) -> usize {
        self.functions
    }
}

/// Finds the panics that `entries` reach in the ELF file `elf`, whose linker map is `map`. Functions whose names start
/// with one of `panics` count as panics, in addition to those of the standard library.
///
/// # Errors
/// When the file or the map cannot be read, they are not from the same link, an entry point is missing, a static holds a
/// function pointer, or reached code forms an address in an unknown way.
pub fn find(elf: &[u8], map: &str, entries: &[Entry<'_>], panics: &[&str]) -> Result<Reachable> {
    let image = Image::read(elf, map)?;
    let mut starts = Vec::new();
    for entry in entries {
        starts.extend(entry.addresses(&image).with_context(|| format!("the image has no symbol for {entry:?}"))?);
    }
    let reach = Reach::from(&image, starts.into_iter(), panics);
    ensure!(
        reach.lost().is_empty(),
        "cannot follow the addresses formed at {:x?}: reachable-panics does not support the code at this address",
        reach.lost()
    );
    let mut found = BTreeMap::new();
    for site in reach.sites() {
        let path = reach.path(site.pc);
        let key = list::key(&site, path.last().copied().unwrap_or("?"));
        found.entry(key).or_insert_with(|| format!("{} (at {:#x})", path.join(" -> "), site.pc));
    }
    Ok(Reachable { panics: found, functions: reach.functions() })
}
