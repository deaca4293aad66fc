//! The linked image: its code, its functions, and the extent of every object in its constant and initialised data.
//!
//! Symbols name the functions. Constants have no names, but the compiler puts each in its own section, so the linker's
//! map has their extents. Without them the graph would read a vtable together with the next one, and reach code that
//! is not called.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use object::read::elf::ElfFile64;
use object::{Endianness, Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

/// A symbol of assembly or the compiler.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    /// Its demangled name, without the hash.
    pub(crate) name: String,
    /// Addresses of its instructions.
    pub(crate) range: Range<u64>,
    /// Whether the symbol has a size; assembly may continue into the next symbol.
    pub(crate) sized: bool,
}

/// Bytes of the image at an address.
#[derive(Debug)]
pub(crate) struct Bytes {
    pub(crate) start: u64,
    pub(crate) data: Vec<u8>,
    pub(crate) kind: SectionKind,
}

impl Bytes {
    fn get<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let from = usize::try_from(at.checked_sub(self.start)?).ok()?;
        self.data.get(from..from.checked_add(N)?)?.try_into().ok()
    }
}

/// The image, in the form that the graph reads.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) text: Bytes,
    pub(crate) data: Vec<Bytes>,
    /// By address.
    pub(crate) functions: BTreeMap<u64, Function>,
    /// Input sections of the data, by address.
    pub(crate) objects: BTreeMap<u64, Range<u64>>,
}

impl Image {
    /// Reads an ELF file and the map that the linker wrote with it.
    ///
    /// # Errors
    /// When one of them cannot be parsed, or they are not from the same link.
    pub(crate) fn read(elf: &[u8], map: &str) -> Result<Self> {
        let file: ElfFile64<'_, Endianness> = ElfFile64::parse(elf).context("cannot read the image")?;
        let mut text = None;
        let mut data = Vec::new();
        for section in file.sections() {
            let bytes = || -> Result<Bytes> {
                Ok(Bytes { start: section.address(), data: section.data()?.to_vec(), kind: section.kind() })
            };
            match section.kind() {
                SectionKind::Text if text.is_none() => text = Some(bytes()?),
                SectionKind::Text => bail!("the image has two sections of code"),
                SectionKind::ReadOnlyData | SectionKind::Data | SectionKind::ReadOnlyString => data.push(bytes()?),
                _ => {}
            }
        }
        let text = text.context("the image has no code")?;
        let mut image = Self { text, data, functions: BTreeMap::new(), objects: objects(map) };
        let code = image.code();
        image.objects.retain(|start, _| !code.contains(start));
        image.functions = functions(&file, code);
        image.agree()?;
        Ok(image)
    }

    /// Addresses of the code.
    pub(crate) fn code(&self) -> Range<u64> {
        let size = u64::try_from(self.text.data.len()).unwrap_or(0);
        self.text.start..self.text.start.saturating_add(size)
    }

    /// The instruction at `pc`.
    pub(crate) fn instruction(&self, pc: u64) -> Option<u32> {
        self.text.get(pc).map(u32::from_le_bytes)
    }

    /// The doubleword at `at`, of code or of data.
    pub(crate) fn word(&self, at: u64) -> Option<u64> {
        let bytes = self.text.get(at).or_else(|| self.data.iter().find_map(|part| part.get(at)));
        bytes.map(u64::from_le_bytes)
    }

    /// The text of `len` bytes at `at`.
    pub(crate) fn string(&self, at: u64, len: u64) -> Option<String> {
        let part = self.data.iter().find(|part| part.get::<1>(at).is_some())?;
        let from = usize::try_from(at.checked_sub(part.start)?).ok()?;
        let bytes = part.data.get(from..from.checked_add(usize::try_from(len).ok()?)?)?;
        String::from_utf8(bytes.to_vec()).ok()
    }

    /// The function that has the instruction at `pc`.
    pub(crate) fn function(&self, pc: u64) -> Option<&Function> {
        self.functions.range(..=pc).next_back().map(|(_, function)| function).filter(|f| f.range.contains(&pc))
    }

    /// The object that has the byte at `at`.
    pub(crate) fn object(&self, at: u64) -> Option<Range<u64>> {
        self.objects.range(..=at).next_back().map(|(_, object)| object.clone()).filter(|object| object.contains(&at))
    }

    /// Checks that every function pointer in the data is in an object of the map, and that no static starts with one.
    fn agree(&self) -> Result<()> {
        let code = self.code();
        for part in &self.data {
            for at in (part.start..).step_by(8) {
                let Some(word) = part.get(at).map(u64::from_le_bytes) else { break };
                let function = code.contains(&word) && self.functions.contains_key(&word);
                ensure!(
                    !function || self.object(at).is_some(),
                    "the linker's map has no entry for {at:#x}: stale map?"
                );
                ensure!(!function || part.kind != SectionKind::Data, "the static at {at:#x} holds a function pointer");
            }
        }
        ensure!(!self.functions.is_empty(), "the image has no symbols");
        Ok(())
    }
}

fn functions(file: &ElfFile64<'_, Endianness>, code: Range<u64>) -> BTreeMap<u64, Function> {
    let mut found: BTreeMap<u64, Function> = BTreeMap::new();
    // `$x` and `$d` mark the starts of code and data in a section.
    let begins = |mark: &str| -> BTreeSet<u64> {
        let marks =
            file.symbols().filter(|symbol| symbol.name().is_ok_and(|name| name.split('.').next() == Some(mark)));
        marks.map(|symbol| symbol.address()).collect()
    };
    let (codes, constants) = (begins("$x"), begins("$d"));
    for symbol in file.symbols() {
        let name = symbol.name().unwrap_or_default();
        let (start, kind) = (symbol.address(), symbol.kind());
        let constant = constants.range(..=start).next_back() > codes.range(..=start).next_back();
        let label = matches!(kind, SymbolKind::Label | SymbolKind::Unknown) && !constant;
        if !code.contains(&start) || name.is_empty() || name.starts_with('$') || !(kind == SymbolKind::Text || label) {
            continue;
        }
        let function =
            Function { name: plain(name), range: start..start.saturating_add(symbol.size()), sized: symbol.size() > 0 };
        let known = found.entry(start).or_insert_with(|| function.clone());
        if function.sized && !known.sized {
            *known = function;
        }
    }
    // Assembly: up to the next symbol.
    let mut next = code.end;
    for function in found.values_mut().rev() {
        if !function.sized {
            function.range.end = next;
        }
        next = function.range.start;
    }
    found
}

/// A symbol's name as written in the source, without the hash.
fn plain(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}

/// Input sections that a linker map of LLD lists: address, load address, size, alignment, `file:(section)`.
fn objects(map: &str) -> BTreeMap<u64, Range<u64>> {
    let mut found = BTreeMap::new();
    for line in map.lines() {
        let mut words = line.split_whitespace();
        let mut number = || words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
        let (Some(start), Some(_), Some(size)) = (number(), number(), number()) else { continue };
        let section = line.rsplit_once(":(").map(|(_, section)| section);
        if section.is_some_and(|name| !name.starts_with(".debug") && !name.starts_with(".text")) && size > 0 {
            found.insert(start, start..start.saturating_add(size));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_extents_of_data_are_read_from_the_map() {
        let map = "             VMA              LMA     Size Align Out     In      Symbol\n\
                   40201000         40201000     2b2b4  4096 .text\n\
                   40201000         40201000       40     4         a.o:(.text._ZN1a1bE)\n\
                   40201000         40201000       40     1                 _ZN1a1bE\n\
                   4022d4d8         4022d4d8       18     8         a.o:(.rodata..Lanon.7.2)\n\
                   4022d4d8         4022d4d8        0     1                 $d.1\n\
                   0                0              20     1         a.o:(.debug_str)\n";
        let objects = objects(map);
        assert_eq!(objects, [(0x4022_d4d8, 0x4022_d4d8..0x4022_d4f0)].into());
    }

    #[test]
    fn hashes_are_removed_from_names() {
        assert_eq!(plain("_ZN3hyp4trap4call3hvc17h4e792a4795226e86E"), "hyp::trap::call::hvc");
        assert_eq!(plain("el2_vectors"), "el2_vectors");
    }
}
