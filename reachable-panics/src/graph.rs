//! The code reachable from entry points: instruction by instruction, through calls, jump tables and pointers.
//!
//! The graph is an over-approximation. A jump through a register inside a function reaches all of that function. A
//! function is reached, whether it is called or not, if reached code forms its address, or refers to a constant that
//! contains its address. The graph relies on one property: no static holds a function pointer or a trait object, so
//! reached code has also formed every pointer that is called. `image` checks that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use crate::decode::{Instruction, Reg, decode};
use crate::image::{Function, Image};

/// Vectors of AArch64: 16 entries of 0x80 bytes.
const VECTORS: u64 = 16;
const VECTOR_SIZE: u64 = 0x80;
/// `core::panic::Location`: a text's address and length, line, column.
const LOCATION_SIZE: u64 = 24;

/// A reachable panic.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Site {
    /// Address of the instruction.
    pub(crate) pc: u64,
    /// The call: the last part of the called function's name, or the instruction.
    pub(crate) call: String,
    /// How the instruction is reached.
    pub(crate) entered: Entered,
    /// File and line passed to the panic, if any.
    pub(crate) location: Option<(String, u32)>,
}

/// How an instruction is reached.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Entered {
    /// By the previous instruction, a branch or a pointer.
    Directly,
    /// At most by a jump table of its function.
    ByJumpTable,
}

/// Whether a call of this function is a panic: it does not return, and its body is not followed.
///
/// A missing name only makes the report less precise: the panic handler is reached anyway.
fn panics(name: &str, more: &[&str]) -> bool {
    let starts = [
        "core::panicking::",
        "core::option::unwrap_failed",
        "core::option::expect_failed",
        "core::result::unwrap_failed",
        "core::slice::index::slice_index_fail",
        "core::str::slice_error_fail",
        "core::cell::panic_already",
    ];
    starts.iter().chain(more).any(|start| name.starts_with(start))
        || ["len_mismatch_fail", "rust_begin_unwind"].iter().any(|part| name.contains(part))
}

/// An entry point of the image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entry<'a> {
    /// The 16 exception vectors of AArch64 that start at this symbol.
    Vectors(&'a str),
    /// The function of this name.
    Function(&'a str),
}

impl Entry<'_> {
    /// Addresses of its first instructions; none if the image does not have that symbol.
    pub(crate) fn addresses(self, image: &Image) -> Option<Vec<u64>> {
        let (name, count) = match self {
            Self::Vectors(name) => (name, VECTORS),
            Self::Function(name) => (name, 1),
        };
        let start = image.functions.values().find(|function| function.name == name)?.range.start;
        Some((0..count).map(|n| start.saturating_add(n.saturating_mul(VECTOR_SIZE))).collect())
    }
}

/// The part of the image reachable from some entry points.
#[derive(Debug)]
pub(crate) struct Reach<'a> {
    image: &'a Image,
    /// Names of functions that panic, in addition to those of the standard library.
    more: &'a [&'a str],
    /// Reached instructions, including those still to be processed.
    seen: BTreeSet<u64>,
    /// The reached instructions that are not reached only by a jump table.
    directly: BTreeSet<u64>,
    queue: VecDeque<u64>,
    /// Constants.
    objects: BTreeSet<u64>,
    /// The first caller of each function.
    parents: BTreeMap<u64, Option<u64>>,
    /// The functions that each function calls, jumps to, or has the address of.
    callees: BTreeMap<u64, BTreeSet<u64>>,
    sites: BTreeMap<u64, String>,
    /// Locations that may be passed at an instruction.
    locations: BTreeMap<u64, BTreeSet<(String, u32)>>,
    /// ADRP pages without a known use.
    lost: BTreeSet<u64>,
}

impl<'a> Reach<'a> {
    /// Follows all code from `entries`; calls of functions whose names start with one of `panics` are panics too.
    pub(crate) fn from(image: &'a Image, entries: impl Iterator<Item = u64>, panics: &'a [&'a str]) -> Self {
        let mut reach = Self {
            image,
            more: panics,
            seen: BTreeSet::new(),
            directly: BTreeSet::new(),
            queue: VecDeque::new(),
            objects: BTreeSet::new(),
            parents: BTreeMap::new(),
            callees: BTreeMap::new(),
            sites: BTreeMap::new(),
            locations: BTreeMap::new(),
            lost: BTreeSet::new(),
        };
        for entry in entries {
            reach.go(entry, None);
        }
        while let Some(pc) = reach.queue.pop_front() {
            reach.step(pc);
        }
        reach
    }

    /// Reachable panics, by address.
    pub(crate) fn sites(&self) -> Vec<Site> {
        let mut all = Vec::new();
        for (pc, call) in &self.sites {
            let entered = if self.directly.contains(pc) { Entered::Directly } else { Entered::ByJumpTable };
            let site = |location| Site { pc: *pc, call: call.clone(), entered, location };
            match self.locations.get(pc) {
                Some(locations) => all.extend(locations.iter().cloned().map(|location| site(Some(location)))),
                None => all.push(site(None)),
            }
        }
        all
    }

    /// Number of reached functions.
    pub(crate) fn functions(&self) -> usize {
        self.parents.len()
    }

    /// Whether the instruction at `pc` is reached.
    pub(crate) fn reaches(&self, pc: u64) -> bool {
        self.seen.contains(&pc)
    }

    /// The functions that the function at `start` calls, jumps to, or has the address of, except itself.
    pub(crate) fn callees(&self, start: u64) -> impl Iterator<Item = u64> {
        self.callees.get(&start).into_iter().flatten().copied()
    }

    /// Instructions that compute an address without a known use: the graph may be incomplete.
    pub(crate) fn lost(&self) -> &BTreeSet<u64> {
        &self.lost
    }

    /// One call path from an entry point to the function of `pc`.
    pub(crate) fn path(&self, pc: u64) -> Vec<&'a str> {
        let mut path = Vec::new();
        let mut at = self.image.function(pc).map(|function| function.range.start);
        while let Some(start) = at {
            path.push(self.image.functions.get(&start).map_or("?", |function| function.name.as_str()));
            at = self.parents.get(&start).copied().flatten();
        }
        path.reverse();
        path
    }

    /// Marks the instruction at `pc` as reached from function `from`.
    fn go(&mut self, pc: u64, from: Option<&Function>) {
        let Some(function) = self.image.function(pc) else { return };
        let parent = from.map(|from| from.range.start);
        if parent != Some(function.range.start) {
            self.parents.entry(function.range.start).or_insert(parent);
            if let Some(parent) = parent {
                self.callees.entry(parent).or_default().insert(function.range.start);
            }
        }
        self.directly.insert(pc);
        self.see(pc);
    }

    fn see(&mut self, pc: u64) {
        if self.seen.insert(pc) {
            self.queue.push_back(pc);
        }
    }

    /// Handles a call of or jump to `to`: a panic, or more code.
    fn enter(&mut self, pc: u64, to: u64, from: &Function) {
        match self.image.functions.get(&to) {
            Some(function) if panics(&function.name, self.more) => {
                let call = function.name.rsplit("::").next().unwrap_or(&function.name);
                self.sites.insert(pc, call.to_owned());
            }
            _ => self.go(to, Some(from)),
        }
    }

    fn step(&mut self, pc: u64) {
        let Some(function) = self.image.function(pc) else { return };
        let Some(word) = self.image.instruction(pc) else { return };
        let instruction = decode(word, pc);
        match instruction {
            Instruction::Jump(to) | Instruction::Either(to) | Instruction::Call(to) => self.enter(pc, to, function),
            Instruction::Trap => {
                self.sites.insert(pc, if word >> 16 == 0 { "udf" } else { "brk" }.to_owned());
            }
            Instruction::Address(reg, at) => self.name(pc, reg, at),
            Instruction::Literal(reg, at) => {
                if let Some(at) = self.image.word(at) {
                    self.name(pc, reg, at);
                }
            }
            Instruction::Page(reg, page) => self.complete(pc, reg, page),
            _ => {}
        }
        for next in self.next(pc, instruction) {
            match instruction {
                Instruction::JumpRegister => self.see(next),
                _ => self.go(next, Some(function)),
            }
        }
    }

    /// Successors of the instruction at `pc` within the function.
    fn next(&self, pc: u64, instruction: Instruction) -> Vec<u64> {
        let Some(function) = self.image.function(pc) else { return Vec::new() };
        let on = Some(pc.saturating_add(4)).filter(|next| !function.sized || function.range.contains(next));
        let inside = |to: u64| Some(to).filter(|to| function.range.contains(to));
        match instruction {
            Instruction::Jump(to) => inside(to).into_iter().collect(),
            Instruction::Either(to) => on.into_iter().chain(inside(to)).collect(),
            // Any entry of a jump table.
            Instruction::JumpRegister if function.sized => function.range.clone().step_by(4).collect(),
            Instruction::Return | Instruction::Trap | Instruction::JumpRegister => Vec::new(),
            Instruction::Call(to) if self.ends(to) => Vec::new(),
            _ => on.into_iter().collect(),
        }
    }

    /// Whether `to` is the entry of a function whose call is a panic.
    fn panics(&self, to: u64) -> bool {
        self.image.functions.get(&to).is_some_and(|callee| panics(&callee.name, self.more))
    }

    /// Whether a call of `to` never returns: it panics, or its code leads without a branch to a panic or back into
    /// itself.
    fn ends(&self, to: u64) -> bool {
        let straight = |pc| self.image.instruction(pc).map(|word| (pc, decode(word, pc)));
        let Some(function) = self.image.functions.get(&to).filter(|function| function.sized) else { return false };
        let mut way = function.range.clone().step_by(4).filter_map(straight);
        use Instruction as I;
        let stop = way.find(|(_, instruction)| {
            let returns = matches!(instruction, I::CallRegister | I::JumpRegister | I::Return);
            returns || matches!(instruction, I::Jump(_) | I::Either(_) | I::Call(_))
        });
        match stop {
            _ if panics(&function.name, self.more) => true,
            // The path so far has no branch: a jump back into it is an endless loop.
            Some((pc, I::Jump(next))) if (to..=pc).contains(&next) => true,
            Some((_, I::Call(next) | I::Jump(next))) => self.panics(next),
            _ => false,
        }
    }

    /// Handles an instruction at `pc` that puts `address` into `reg`.
    fn name(&mut self, pc: u64, reg: Reg, address: u64) {
        self.point(address, self.image.function(pc));
        if let Some(location) = self.location(address) {
            let handed: Vec<u64> = self.uses(pc, reg).handed;
            for site in handed {
                self.locations.entry(site).or_default().insert(location.clone());
            }
        }
    }

    /// Handles a pointer to `address` in reached code or data.
    fn point(&mut self, address: u64, from: Option<&Function>) {
        if self.image.functions.contains_key(&address) {
            return self.go(address, from);
        }
        let Some(object) = self.image.object(address) else { return };
        if !self.objects.insert(object.start) {
            return;
        }
        let Range { start, end } = object;
        for at in (start.next_multiple_of(8)..end).step_by(8) {
            if let Some(word) = self.image.word(at) {
                self.point(word, from);
            }
        }
    }

    /// Finds the addresses that are formed from the page in `reg`.
    fn complete(&mut self, pc: u64, reg: Reg, page: u64) {
        let uses = self.uses(pc, reg);
        if uses.offsets.is_empty() {
            self.lost.insert(pc);
        }
        for (at, to, offset) in uses.offsets {
            let address = page.saturating_add(offset);
            match to {
                Some(to) => self.name(at, to, address),
                None => self.point(address, self.image.function(pc)),
            }
        }
    }

    /// Uses of `reg` after `pc`, on every path until it is overwritten.
    fn uses(&self, pc: u64, reg: Reg) -> Uses {
        let mut uses = Uses::default();
        let mut seen = BTreeSet::new();
        let instruction_at = |pc| self.image.instruction(pc).map_or(Instruction::Other, |word| decode(word, pc));
        let mut queue: Vec<(u64, Reg)> =
            self.next(pc, instruction_at(pc)).into_iter().map(|next| (next, reg)).collect();
        while let Some((pc, reg)) = queue.pop() {
            if !seen.insert((pc, reg)) {
                continue;
            }
            let instruction = instruction_at(pc);
            let mut kept = true;
            match instruction {
                Instruction::Sum(to, base, offset) => {
                    if base == reg {
                        uses.offsets.push((pc, Some(to), offset));
                    }
                    kept = to != reg;
                }
                Instruction::Load(to, base, offset) => {
                    if base == reg {
                        uses.offsets.push((pc, None, offset));
                    }
                    kept = to != reg;
                }
                Instruction::Store(base, offset) if base == reg => uses.offsets.push((pc, None, offset)),
                Instruction::Move(to, from) => {
                    if from == reg {
                        queue.extend(self.next(pc, instruction).into_iter().map(|next| (next, to)));
                    }
                    kept = to != reg;
                }
                Instruction::Address(to, _)
                | Instruction::Page(to, _)
                | Instruction::Literal(to, _)
                | Instruction::Overwrite(to) => kept = to != reg,
                Instruction::Call(to) | Instruction::Jump(to) if self.panics(to) => uses.handed.push(pc),
                // Callees may overwrite X0 to X18 and X30.
                Instruction::Call(_) | Instruction::CallRegister => kept = (19..30).contains(&reg),
                _ => {}
            }
            if kept {
                queue.extend(self.next(pc, instruction).into_iter().map(|next| (next, reg)));
            }
        }
        uses
    }

    /// The file and the line of the `Location` at `address`, if there is one.
    fn location(&self, address: u64) -> Option<(String, u32)> {
        let object = self.image.object(address)?;
        let word = |n: u64| self.image.word(address.saturating_add(n.saturating_mul(8)));
        if object != (address..address.saturating_add(LOCATION_SIZE)) {
            return None;
        }
        let file = self.image.string(word(0)?, word(1)?)?;
        let line = u32::try_from(word(2)? & u64::from(u32::MAX)).ok()?;
        file.ends_with(".rs").then_some((file, line))
    }
}

/// Uses of a register.
#[derive(Debug, Default)]
struct Uses {
    /// Instructions that add an offset, with the destination register and the offset; no register if they access
    /// memory.
    offsets: Vec<(u64, Option<Reg>, u64)>,
    /// Panics that it is passed to.
    handed: Vec<u64>,
}

#[cfg(test)]
pub(crate) mod tests;
