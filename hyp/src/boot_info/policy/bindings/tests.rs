use std::collections::BTreeSet;
use std::string::{String, ToString};
use std::vec::Vec;

use super::*;

const PAGE: &str = include_str!("../../../../../docs/boot.md");

/// The table on the page has exactly the rows of the code, in the same order.
#[test]
fn boot_md_has_the_table_of_bindings() {
    let rows: Vec<String> = BINDINGS.iter().map(ToString::to_string).collect();
    let table = PAGE.split("| binding | decision | reason |\n|---|---|---|\n").nth(1).expect("the page has no table");
    let written: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    assert_eq!(written, rows, "docs/boot.md must have these rows:\n{}", rows.join("\n"));
}

#[test]
fn every_binding_has_one_row() {
    let names: BTreeSet<_> = BINDINGS.iter().map(|row| row.compatible).collect();
    assert_eq!(names.len(), BINDINGS.len());
}

/// A variant of a device that is not a DMA master may be one. A variant of a withheld device is withheld too.
#[test]
fn only_a_given_binding_is_compared_with_the_most_specific_string() {
    for row in BINDINGS {
        let first = matches!(row.decision, Decision::Given(_));
        assert_eq!(row.matching == Matching::First, first, "{row}");
    }
}
