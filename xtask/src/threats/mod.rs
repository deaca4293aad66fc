//! `cargo xtask threats`: runs the attacks of every row of the catalogue, without the row's defence and with it.

mod model;
mod payload;
mod removed;
mod rows;
mod table;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{ValueEnum, ValueHint};
use test_machines::packages;
use test_machines::payload::Images;
use test_machines::progress::{counted, say};

use crate::checkout::Checkout;
use crate::defences::{self, Defence, Tree};
use crate::images::{self, Isolation};
use crate::threats::payload::Programs;
use crate::threats::rows::{Layers, ROWS, rows_of};
use crate::threats::table::Row;

/// Run every attack of the catalogue, without its defence and with it
///
/// Tests on the build machine (M) attack the driver on an adversarial model of the SMMU.
/// Payload tests (Q) attack under QEMU: without the one defence that should stop them, and
/// under Portcullis. In the column "without", `landed` means that the attack reached a byte
/// of another owner, and `detected` that an assertion failed, EL2 panicked or the machine
/// hung; in the column "with", `blocked` means that neither happened. It is an error if a row has no test
/// in one of its layers, none that runs without its defence, or a test that passes without
/// it; exempted rows are shown with the reason. About 15 minutes on two idle cores; all
/// packages with tests are built, also for a single row.
///
/// Examples:
///   cargo xtask threats
///   cargo xtask threats --row 13,25
///   cargo xtask threats --layer model
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Only these rows, 1 to 70, with commas between them
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=70))]
    row: Vec<u8>,
    /// Only tests of this kind
    #[arg(long, value_enum)]
    layer: Option<Layer>,
    /// QEMU to use instead of the installed one; 11 selects the QEMU of Debian 13, which is fetched into target/
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    qemu: Option<PathBuf>,
}

/// The place where tests run.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Layer {
    /// On the build machine
    Model,
    /// Under QEMU
    Payload,
}

/// Runs the command.
///
/// # Errors
/// When a build fails or a row is wrong, with the number of wrong rows.
pub(crate) fn main(checkout: &Checkout, args: &Args) -> Result<()> {
    let asked = match args.layer {
        None => Layers::Both,
        Some(Layer::Model) => Layers::Model,
        Some(Layer::Payload) => Layers::Payload,
    };
    let defences =
        defences::all(checkout)?.into_iter().filter_map(|defence| only(defence, &args.row)).collect::<Vec<_>>();
    let tree = Tree::new(checkout)?;
    let mut model = if asked.model() { model::run(checkout, &args.row)? } else { Vec::new() };
    if asked.model() {
        removed::model(&tree, &defences, &mut model)?;
    }
    let payload = if asked.payload() {
        payload::run(checkout, &build(checkout, args, &tree, &defences)?, &args.row)?
    } else {
        Vec::new()
    };
    println!("row  where attack and its tests {:56}without  with       what was missing, how it was detected", "");
    let mut wrong = 0;
    let rows: Vec<Row<'_>> = ROWS
        .into_iter()
        .filter(|(number, ..)| args.row.is_empty() || args.row.contains(number))
        .map(|row| Row::new(row, &model, &payload))
        .collect();
    for row in &rows {
        for line in row.lines(asked) {
            println!("{line}");
        }
        wrong += usize::from(row.wrong(asked).is_some());
    }
    if wrong > 0 {
        bail!("{wrong} of {} rows are wrong", rows.len());
    }
    say(&format!("{}, all correct", counted(rows.len(), "row")));
    Ok(())
}

/// The defence with its tests on the build machine, of these rows only; `None` if it is in none of them. No rows are all
/// rows.
fn only(mut defence: Defence, rows: &[u8]) -> Option<Defence> {
    if !rows.is_empty() {
        let about = |all: &[u8]| all.iter().any(|row| rows.contains(row));
        if !about(&defence.rows) {
            return None;
        }
        defence.tests.retain(|test| about(&rows_of(&test.name)));
    }
    Some(defence)
}

fn build(checkout: &Checkout, args: &Args, tree: &Tree, defences: &[Defence]) -> Result<Programs> {
    let images = Images {
        qemu: packages::qemu::ensure(checkout.work(), args.qemu.as_deref())?,
        payload: images::payload(checkout)?,
        without_isolation: Some(images::hyp(checkout, Isolation::Off)?),
        hyp: Some(images::hyp(checkout, Isolation::On)?),
    };
    Ok(Programs { images, removed: removed::images(tree, defences)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defences::patch::CargoTest;

    #[test]
    fn tests_of_rows_that_are_not_run_are_left_out() {
        let tests = ["tests::t64_overlap", "tests::t70_machine"];
        let defence = || Defence {
            word: "word".to_owned(),
            what: "what".to_owned(),
            rows: vec![64],
            tests: tests.iter().map(|name| CargoTest { package: "hyp".into(), name: (*name).into() }).collect(),
            payload: Vec::new(),
            file: PathBuf::from("word.patch"),
        };
        let names = |rows: &[u8]| {
            let defence = only(defence(), rows)?;
            Some(defence.tests.into_iter().map(|test| test.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]), Some(tests.map(str::to_owned).to_vec()));
        assert_eq!(names(&[64, 2]), Some(vec!["tests::t64_overlap".to_owned()]));
        assert_eq!(names(&[70]), None);
    }
}
