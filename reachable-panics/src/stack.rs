//! The stack that a function and all its callees need.
//!
//! The frame of a function is the sum of the amounts that its instructions subtract from SP. The sum can be too large
//! if two of the instructions exclude each other, but never too small. There is no bound, which is an error, if an
//! instruction changes SP by an amount that it does not contain, calls a function through a register, or if a function
//! calls itself.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use crate::decode::{Instruction, Stack, decode, stack};
use crate::graph::{Entry, Reach};
use crate::image::{Function, Image};

/// The call path that needs most stack.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Deepest {
    /// The number of bytes that it needs.
    pub bytes: u64,
    /// The functions on the path, from the entry on, and the size of each frame.
    pub path: Vec<(String, u64)>,
}

/// Finds how much stack `function` needs in the ELF file `elf`, whose linker map is `map`. Code that only panics call
/// is ignored. Functions whose names begin with one of `panics` are panics, in addition to those of the standard
/// library.
///
/// # Errors
/// The errors of [`find`](crate::find), and code whose stack has no bound (see above).
pub fn deepest(elf: &[u8], map: &str, function: &str, panics: &[&str]) -> Result<Deepest> {
    of_image(&Image::read(elf, map)?, function, panics)
}

fn of_image(image: &Image, function: &str, panics: &[&str]) -> Result<Deepest> {
    let entries =
        Entry::Function(function).addresses(image).with_context(|| format!("the image has no function {function}"))?;
    let reach = Reach::from(image, entries.iter().copied(), panics);
    ensure!(reach.lost().is_empty(), "cannot follow the addresses formed at {:x?}", reach.lost());
    let entry = *entries.first().context("the function has no address")?;
    let mut search = Search { image, reach: &reach, known: BTreeMap::new() };
    let bytes = search.depth(entry)?;
    let mut path = Vec::new();
    let mut at = Some(entry);
    while let Some(start) = at {
        let known = search.known.get(&start).copied().flatten().context("a function on the path was not searched")?;
        path.push((image.functions.get(&start).map_or("?", |function| &function.name).to_owned(), known.frame));
        at = known.next;
    }
    Ok(Deepest { bytes, path })
}

/// The result for a function.
#[derive(Clone, Copy)]
struct Known {
    frame: u64,
    depth: u64,
    /// The callee that needs the most stack.
    next: Option<u64>,
}

struct Search<'a> {
    image: &'a Image,
    reach: &'a Reach<'a>,
    /// Results by address; `None` while the callees of the function are searched.
    known: BTreeMap<u64, Option<Known>>,
}

impl Search<'_> {
    /// The bytes that the function at `start` needs.
    fn depth(&mut self, start: u64) -> Result<u64> {
        let function = self.image.functions.get(&start).context("a function has no symbol")?;
        match self.known.get(&start) {
            Some(Some(known)) => return Ok(known.depth),
            Some(None) => bail!("{} calls itself", function.name),
            None => {}
        }
        self.known.insert(start, None);
        let frame = self.frame(function)?;
        let (mut most, mut next) = (0, None);
        for callee in self.reach.callees(start) {
            let depth = self.depth(callee)?;
            if next.is_none() || depth > most {
                (most, next) = (depth, Some(callee));
            }
        }
        let depth = frame.checked_add(most).context("no bound")?;
        self.known.insert(start, Some(Known { frame, depth, next }));
        Ok(depth)
    }

    /// The size of the function's own frame.
    fn frame(&self, function: &Function) -> Result<u64> {
        let mut bytes = 0_u64;
        for pc in function.range.clone().step_by(4).filter(|pc| self.reach.reaches(*pc)) {
            let Some(word) = self.image.instruction(pc) else { continue };
            match decode(word, pc) {
                Instruction::CallRegister => bail!("{} calls the function in a register, at {pc:#x}", function.name),
                Instruction::Call(to) if function.range.contains(&to) => bail!("{} calls itself", function.name),
                _ => {}
            }
            match stack(word) {
                Stack::Takes(more) => bytes = bytes.checked_add(more).context("no bound")?,
                Stack::Unknown => bail!("{} changes SP by an unknown amount, at {pc:#x}", function.name),
                Stack::Keeps => {}
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tests::{BL, BLR_X8, NOP, RET, TEXT, branch, image};

    const SUB_SP_4096: u32 = 0xd140_07ff;
    const SUB_SP_X9: u32 = 0xcb29_63ff;
    /// stp x29, x30, [sp, #-16]!
    const STP: u32 = 0xa9bf_7bfd;

    fn of(functions: &[(&str, &[u32])]) -> Result<Deepest> {
        of_image(&image(functions, &[]), "f", &[])
    }

    fn error(functions: &[(&str, &[u32])]) -> String {
        of(functions).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_path_with_the_most_stack_is_returned() {
        let deepest = of(&[
            ("f", &[STP, branch(BL, 1, 5), branch(BL, 2, 8), branch(BL, 3, 8), RET]),
            ("g", &[STP, branch(BL, 6, 8), RET]),
            ("h", &[SUB_SP_4096, RET]),
            ("not called", &[SUB_SP_4096, SUB_SP_4096, RET]),
        ]);
        let path = [("f", 16), ("g", 16), ("h", 4096)].map(|(name, bytes)| (name.to_owned(), bytes)).to_vec();
        assert_eq!(deepest.ok(), Some(Deepest { bytes: 4128, path }));
    }

    #[test]
    fn code_without_a_stack_bound_is_an_error() {
        assert!(error(&[("f", &[NOP, branch(BL, 1, 0), RET])]).contains("f calls itself"));
        assert!(
            error(&[("f", &[STP, branch(BL, 1, 3), RET]), ("g", &[branch(BL, 3, 0), RET])]).contains("f calls itself")
        );
        assert!(error(&[("f", &[BLR_X8, RET])]).contains("calls the function in a register"));
        assert!(error(&[("f", &[SUB_SP_X9, RET])]).contains(&format!("{TEXT:#x}")));
        assert!(error(&[("g", &[RET])]).contains("no function f"));
    }
}
