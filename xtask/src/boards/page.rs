//! Prints details of one board.

use std::collections::BTreeMap;

use super::Board;
use super::evaluated::evaluate;
use super::fill::Author;

/// Prints the details, with the author's options and rules.
pub(super) fn print(board: &Board, author: Author<'_>) {
    let outcome = evaluate(&board.bytes, author);
    println!("{}: {}", board.name, outcome.line());
    for note in &outcome.notes {
        println!("  boot loader: {note}");
    }
    let Ok(accepted) = &outcome.verdict else {
        if !outcome.smmu {
            println!("  the tree contains no arm,smmu-v3, enabled or disabled");
        }
        return;
    };
    for smmu in &accepted.smmus {
        println!("  emulated: {smmu}");
    }
    for (path, why) in &accepted.given {
        println!("  given: {path}: {why}");
    }
    let mut reasons = BTreeMap::<&str, Vec<&str>>::new();
    for (path, why) in &accepted.withheld {
        reasons.entry(why).or_default().push(path);
    }
    for (why, paths) in &reasons {
        println!("  withheld: {why}: {}", paths.len());
        for path in paths {
            println!("    {path}");
        }
    }
    for rule in &accepted.unused {
        println!("  policy: {rule}");
    }
    println!(
        "  The host does not get withheld devices. If a device is not a DMA master and cannot stop or redirect one, \
         give it with allow=PATH on EL2's command line, or give its kind with a rule; try them here with --el2-append and \
         --policy."
    );
}
