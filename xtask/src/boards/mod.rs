//! `cargo xtask boards`: EL2's decisions for the boards whose device trees are in Debian's kernel packages.

mod evaluated;
mod fill;
mod mutate;
mod page;
mod summary;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueHint;
use test_machines::packages::apt::ensure_trees;
use test_machines::progress::{counted, step};

use crate::checkout::Checkout;
use evaluated::evaluate;
use summary::Summary;

/// Print EL2's decisions for the device trees of real boards
/// Debian's arm64 kernel package has a device tree for each board that it supports. The command calls the functions of
/// a boot with each tree, and prints the decisions, or why the board is refused. If memory, the command line or the
/// modules are missing, which a boot loader adds, the command adds them and prints this. EL2 is not started, and
/// nothing was tested on that hardware.
///
/// Examples:
///   cargo xtask boards
///   cargo xtask boards --release 7.3 --all
///   cargo xtask boards --board imx95-19x19-evk
///   cargo xtask boards --file my-board.dtb
///   cargo xtask boards --file my-board.dtb --board my-board --policy my-board.policy
///   cargo xtask boards --enable-smmus --mutate 100000
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Debian kernel series of the device trees
    #[arg(long, value_parser = ["6.1", "6.12", "7.3"], default_value = "6.12")]
    release: String,
    /// A device tree instead of Debian's, or a folder of them
    #[arg(long, value_name = "FILE", value_hint = ValueHint::AnyPath, conflicts_with = "release")]
    file: Option<PathBuf>,
    /// Details of one board: every device with the reason, and what the board's author must do
    #[arg(long, value_name = "NAME")]
    board: Option<String>,
    /// A line for each board, not only for those with an SMMUv3
    #[arg(long)]
    all: bool,
    /// Enable every SMMUv3 in the trees, as firmware must: it is disabled in the trees of many boards
    #[arg(long)]
    enable_smmus: bool,
    /// Make this many random changes of trees, and check that EL2 neither panics nor hangs, and that the ranges in
    /// accepted plans do not overlap
    #[arg(long, value_name = "N", conflicts_with_all = ["board", "all"])]
    mutate: Option<u64>,
    /// Number of the first random change
    #[arg(long, default_value_t = 1, requires = "mutate")]
    seed: u64,
    /// Options of EL2's command line, for example allow=/soc/clock-controller@100000
    #[arg(long, value_name = "WORDS", default_value = "", allow_hyphen_values = true)]
    el2_append: String,
    /// File with rules of the board's author, as in the boot module (docs/boot.md)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    policy: Option<PathBuf>,
}

/// A device tree of a board.
struct Board {
    /// The file's path below the folder, without its extension.
    name: String,
    bytes: Vec<u8>,
}

/// Runs the command.
///
/// # Errors
/// When the trees cannot be fetched or read, or no board has the name.
pub(crate) fn main(checkout: &Checkout, args: &Args) -> Result<()> {
    let folder = match &args.file {
        Some(file) => file.clone(),
        None => ensure_trees(checkout.work(), &args.release)?.0,
    };
    let mut boards = read(&folder)?;
    if args.enable_smmus {
        boards.iter_mut().try_for_each(|board| fill::enable_smmus(&mut board.bytes))?;
    }
    let policy = args.policy.as_ref();
    let policy = policy.map(|file| fs::read(file).with_context(|| format!("cannot read {}", file.display())));
    let policy = policy.transpose()?;
    let author = fill::Author { options: &args.el2_append, policy: policy.as_deref() };
    if let Some(count) = args.mutate {
        return mutate::run(&boards, count, args.seed, author.policy);
    }
    if let Some(name) = &args.board {
        let found = boards.iter().filter(|board| is_named(board, name)).collect::<Vec<_>>();
        ensure!(!found.is_empty(), "there is no board {name}: `cargo xtask boards --all` lists them");
        found.iter().for_each(|board| page::print(board, author));
        return Ok(());
    }
    let mut summary = Summary::default();
    step(&format!("Evaluating {}", counted(boards.len(), "device tree")), || {
        for board in &boards {
            let evaluated = evaluate(&board.bytes, author);
            if args.all || evaluated.smmu || boards.len() == 1 {
                println!("{}: {}", board.name, evaluated.line());
            }
            summary.add(&evaluated);
        }
        Ok(())
    })?;
    println!("\n{summary}");
    Ok(())
}

/// Whether `name` is the board's name, or the last part of it.
fn is_named(board: &Board, name: &str) -> bool {
    board.name == name || board.name.ends_with(&format!("/{name}"))
}

/// The trees at and below `path`, in order of their names.
fn read(path: &Path) -> Result<Vec<Board>> {
    let mut files = Vec::new();
    if path.is_file() {
        files.push(path.to_owned());
    } else {
        collect(path, &mut files)?;
    }
    files.sort();
    if files.is_empty() {
        bail!("no .dtb file in {}", path.display());
    }
    let board = |file: &PathBuf| {
        let below = file.strip_prefix(path).ok().filter(|below| !below.as_os_str().is_empty()).unwrap_or(file);
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Board { name: below.with_extension("").display().to_string(), bytes })
    };
    files.iter().map(board).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "dtb") {
            files.push(path);
        }
    }
    Ok(())
}
