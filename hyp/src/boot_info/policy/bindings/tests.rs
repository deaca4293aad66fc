use std::collections::BTreeSet;
use std::string::{String, ToString};
use std::vec::Vec;

use super::*;

const PAGE: &str = include_str!("../../../../../docs/boot.md");

/// The page's table is the code's: row by row, in its order, and nothing else.
#[test]
fn the_page_has_the_table() {
    let rows: Vec<String> = BINDINGS.iter().map(ToString::to_string).collect();
    let table = PAGE.split("| binding | decision | reason |\n|---|---|---|\n").nth(1).expect("the page has no table");
    let written: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    assert_eq!(written, rows, "docs/boot.md must have these rows:\n{}", rows.join("\n"));
}

#[test]
fn no_binding_is_twice_in_the_table() {
    let names: BTreeSet<_> = BINDINGS.iter().map(|row| row.compatible).collect();
    assert_eq!(names.len(), BINDINGS.len());
}

/// A variant of a device that is no master may be one; a variant of one that is withheld is no better.
#[test]
fn only_a_given_binding_is_compared_with_the_most_specific_string() {
    for row in BINDINGS {
        let first = matches!(row.decision, Decision::Given(_));
        assert_eq!(row.matching == Matching::First, first, "{row}");
    }
}
