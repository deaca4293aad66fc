//! The graph on small hand-written images.

use object::SectionKind;

use super::*;
use crate::image::Bytes;

pub(crate) const TEXT: u64 = 0x4020_0000;
const DATA: u64 = 0x4020_8000;

pub(crate) const RET: u32 = 0xd65f_03c0;
pub(crate) const NOP: u32 = 0xd503_201f;
const BRK: u32 = 0xd420_0020;
const BR_X10: u32 = 0xd61f_0140;
pub(crate) const BLR_X8: u32 = 0xd63f_0100;

/// `BL`, or `B` if `opcode` is 0, from word `from` to word `to` of the code.
pub(crate) fn branch(opcode: u32, from: u32, to: u32) -> u32 {
    opcode | (to.wrapping_sub(from) & 0x3ff_ffff)
}
pub(crate) const BL: u32 = 0x9400_0000;
const B: u32 = 0x1400_0000;

/// `ADR x<reg>` at word `from` of the code, to byte `offset` of the data.
fn adr(reg: u32, from: u32, offset: u32) -> u32 {
    let distance = u32::try_from(DATA - TEXT).unwrap_or(0) + offset - from * 4;
    0x1000_0000 | (distance & 3) << 29 | (distance >> 2) << 5 | reg
}

/// Functions of the given words, one after the other, and objects of the given doublewords.
pub(crate) fn image(functions: &[(&str, &[u32])], objects: &[&[u64]]) -> Image {
    let mut code = Vec::new();
    let mut named = BTreeMap::new();
    let end = |bytes: &Vec<u8>, start: u64| start + u64::try_from(bytes.len()).unwrap_or(0);
    for (name, words) in functions {
        let start = end(&code, TEXT);
        code.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        let range = start..end(&code, TEXT);
        let sized = !name.starts_with("asm");
        named.insert(start, Function { name: (*name).to_owned(), range, sized });
    }
    let mut data = Vec::new();
    let mut extents = BTreeMap::new();
    for words in objects {
        let start = end(&data, DATA);
        data.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        extents.insert(start, start..end(&data, DATA));
    }
    Image {
        text: Bytes { start: TEXT, data: code, kind: SectionKind::Text },
        data: vec![Bytes { start: DATA, data, kind: SectionKind::ReadOnlyData }],
        functions: named,
        objects: extents,
    }
}

/// The panics that the first instruction reaches: function and call.
fn panics_of(image: &Image) -> Vec<(String, String)> {
    let reach = Reach::from(image, [TEXT].into_iter(), &[]);
    assert!(reach.lost().is_empty());
    let last = |pc| reach.path(pc).last().copied().unwrap_or("?").to_owned();
    reach.sites().into_iter().map(|site| (last(site.pc), site.call)).collect()
}

fn pair(function: &str, call: &str) -> (String, String) {
    (function.to_owned(), call.to_owned())
}

const PANIC: (&str, &[u32]) = ("core::panicking::panic_fmt", &[BRK]);

#[test]
fn a_panic_is_found_through_calls_with_its_path() {
    let image =
        image(&[("a", &[branch(BL, 0, 2), RET]), ("b", &[branch(B, 2, 3)]), ("c", &[branch(BL, 3, 4)]), PANIC], &[]);
    let reach = Reach::from(&image, [TEXT].into_iter(), &[]);
    let sites = reach.sites();
    assert_eq!(sites.len(), 1);
    assert_eq!(sites.first().map(|site| site.call.as_str()), Some("panic_fmt"));
    assert_eq!(reach.path(TEXT + 12), ["a", "b", "c"]);
}

#[test]
fn unreferenced_code_is_not_reached() {
    // A panic does not return, `RET` has no successor, and a function ends at its symbol's size.
    let image = image(&[("a", &[NOP, RET, BRK]), ("b", &[branch(BL, 3, 4)]), PANIC], &[]);
    assert_eq!(panics_of(&image), []);
    let image = self::image(&[("a", &[branch(BL, 0, 2), BRK]), PANIC], &[]);
    assert_eq!(panics_of(&image), [pair("a", "panic_fmt")]);
    // A function that starts with a panic does not return either.
    let image = self::image(&[("a", &[branch(BL, 0, 2), BRK]), ("b", &[NOP, branch(BL, 3, 4)]), PANIC], &[]);
    assert_eq!(panics_of(&image), [pair("b", "panic_fmt")]);
}

#[test]
fn a_function_with_an_endless_loop_does_not_return() {
    let calls = |b: &[u32]| panics_of(&image(&[("a", &[branch(BL, 0, 2), BRK]), ("b", b)], &[]));
    assert_eq!(calls(&[NOP, branch(B, 3, 2)]), []);
    // A function with a forward jump, or with a branch before the loop, may return.
    assert_eq!(calls(&[branch(B, 2, 4), NOP, RET]), [pair("a", "brk")]);
    assert_eq!(calls(&[0xb400_0040, branch(B, 3, 2), RET]), [pair("a", "brk")]);
}

#[test]
fn assembly_can_continue_in_the_next_symbol() {
    let image = image(&[("asm_a", &[NOP]), ("asm_b", &[branch(BL, 1, 2)]), PANIC], &[]);
    assert_eq!(panics_of(&image), [pair("asm_b", "panic_fmt")]);
}

#[test]
fn both_successors_of_a_branch_are_reached() {
    // cbz x0, .+8
    let image = image(&[("a", &[0xb400_0040, RET, branch(BL, 2, 3)]), PANIC], &[]);
    assert_eq!(panics_of(&image), [pair("a", "panic_fmt")]);
}

#[test]
fn only_functions_with_pointers_to_them_are_reached() {
    // `a` refers to the first object, a table of methods that contains `b`. The second object refers to `c`.
    let c = TEXT + 16;
    let code: &[(&str, &[u32])] = &[("a", &[adr(0, 0, 0), BLR_X8, RET]), ("b", &[BRK]), ("c", &[BRK])];
    let found = image(code, &[&[0, 8, TEXT + 12], &[c, 0]]);
    assert_eq!(panics_of(&found), [pair("b", "brk")]);
    // An object reaches the objects that it points to.
    let found = image(code, &[&[0, 8, DATA + 24], &[c, 0]]);
    assert_eq!(panics_of(&found), [pair("c", "brk")]);
    // The address of a function itself.
    let found = image(&[("a", &[0x1000_0048, RET]), ("b", &[BRK])], &[]); // adr x8, .+8
    assert_eq!(panics_of(&found), [pair("b", "brk")]);
}

#[test]
fn pages_are_completed_where_their_register_is_used() {
    // adrp x8, .+0x8000; mov x9, x8; nop; add x0, x9, #8
    let code: &[(&str, &[u32])] = &[("a", &[0x9000_0048, 0xaa08_03e9, NOP, 0x9100_2120, RET]), ("b", &[BRK])];
    assert_eq!(panics_of(&image(code, &[&[0], &[TEXT + 20]])), [pair("b", "brk")]);
    // ldr x0, [x8]: the function that the object at the page points to may be called.
    let code: &[(&str, &[u32])] = &[("a", &[0x9000_0048, 0xf940_0100, RET]), ("b", &[BRK])];
    assert_eq!(panics_of(&image(code, &[&[TEXT + 12]])), [pair("b", "brk")]);
}

#[test]
fn a_page_without_a_known_use_is_reported() {
    // adrp x8, .+0x8000; mov x8, #1
    let image = image(&[("a", &[0x9000_0048, 0xd280_0028, RET])], &[]);
    assert_eq!(Reach::from(&image, [TEXT].into_iter(), &[]).lost().len(), 1);
}

#[test]
fn a_jump_table_can_reach_its_whole_function() {
    let image = image(&[("a", &[BR_X10, branch(BL, 1, 3), BRK]), PANIC], &[]);
    let reach = Reach::from(&image, [TEXT].into_iter(), &[]);
    let found: Vec<_> = reach.sites().into_iter().map(|site| (site.call, site.entered)).collect();
    assert_eq!(found, [("panic_fmt".to_owned(), Entered::ByJumpTable), ("brk".to_owned(), Entered::ByJumpTable)]);
}

#[test]
fn a_panic_is_reported_with_its_source_location() {
    let file = u64::from_le_bytes(*b"src/a.rs");
    let code: &[(&str, &[u32])] = &[("a", &[adr(0, 0, 8), branch(BL, 1, 2)]), PANIC];
    let image = image(code, &[&[file], &[DATA, 8, 7 | 3 << 32]]);
    let reach = Reach::from(&image, [TEXT].into_iter(), &[]);
    let found: Vec<_> = reach.sites().into_iter().filter_map(|site| site.location).collect();
    assert_eq!(found, [("src/a.rs".to_owned(), 7)]);
}
