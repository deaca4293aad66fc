//! `cargo xtask mutants`: changes one operator or return value at a time and checks that a test fails. A survivor is
//! either a missing test or an equivalent mutant; the latter are listed with the reason.

mod module;
mod shard;
mod survivors;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use module::Module;
use shard::Shard;
use survivors::Survivors;
use test_machines::exec;
use test_machines::progress::say;

use crate::checkout::Checkout;
use crate::setup::tools;
use crate::test::results::TestResults;

/// The version of cargo-mutants that is installed.
const VERSION: &str = "27.1.0";
/// Maximum number of listed equivalent mutants.
const MAX_SURVIVORS: usize = 15;
/// Path of their list, relative to the root of the checkout.
const LIST: &str = "xtask/equivalent-mutants.txt";

/// Mutate the driver, the ownership map and the guard of the GIC and check that a test fails
///
/// Runs cargo-mutants in two rounds: the package's own tests, which are fast and catch
/// most, then the tests on the model of the SMMU or of the GIC for the rest. Mutants that survive both must be
/// listed in xtask/equivalent-mutants.txt with the reason why they are equivalent. All 900
/// mutants take about an hour on two idle cores with --jobs 2: 3 to 5 s each in the first
/// round, a minute where a test hangs, which counts as caught, and a minute in the second
/// round. The first run builds cargo-mutants into target/ as well: 1 to 5 minutes. Results
/// are kept in target/ and --continue resumes from them. They are keyed by file and line:
/// start again after a change of the product.
///
/// Examples:
///   cargo xtask mutants ste
///   cargo xtask mutants --continue --jobs 2
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Only these modules
    #[arg(value_enum, value_name = "MODULE")]
    modules: Vec<Module>,
    /// Keep the results of an earlier run, and test only the rest
    #[arg(long = "continue")]
    resume: bool,
    /// List the mutants and end
    #[arg(long)]
    list: bool,
    /// Mutants tested at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
    /// Only part K of N parts of the mutants, K from 0 to N-1
    #[arg(long, value_name = "K/N")]
    shard: Option<Shard>,
}

/// The tests of a round.
#[derive(Clone, Copy)]
enum Round {
    /// The tests of the mutated package.
    Own,
    /// The tests on the SMMU model, for mutants that survive the package's own.
    Model,
}

impl Round {
    const BOTH: [Self; 2] = [Self::Own, Self::Model];

    fn whose(self) -> &'static str {
        match self {
            Self::Own => "its own tests",
            Self::Model => "the tests on the model",
        }
    }

    /// Timeout of the tests, in seconds. On an idle machine they take 5 and 50.
    fn timeout_s(self) -> &'static str {
        match self {
            Self::Own => "60",
            Self::Model => "300",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When set-up fails, a test fails without any change, or a survivor is not listed.
pub(crate) fn main(checkout: &Checkout, args: &Args) -> Result<()> {
    let program = tools::ensure(checkout, "cargo-mutants", VERSION, tools::Build::Release)?;
    let modules = if args.modules.is_empty() { Module::ALL.as_slice() } else { &args.modules };
    let mut survivors = Survivors::read(&checkout.root().join(LIST))?;
    survivors.require_at_most(MAX_SURVIVORS)?;
    let mut results = TestResults::default();
    for module in modules {
        let run = Run { checkout, program: &program, args, module: *module };
        if args.list {
            print!("{}", exec::output(&mut run.command(Round::Own)?)?);
            continue;
        }
        run.both_rounds(&mut survivors, &mut results)?;
    }
    if args.list {
        return Ok(());
    }
    if args.modules.is_empty() && args.shard.is_none() {
        for stale in survivors.unseen() {
            results
                .fail("list of survivors", &format!("{LIST} lists `{stale}`, but it did not survive: remove the line"));
        }
    }
    if results.failed() > 0 {
        bail!("{} mutants survived that {LIST} does not list: write a test that fails with them", results.failed());
    }
    Ok(())
}

struct Run<'r> {
    checkout: &'r Checkout,
    program: &'r Path,
    args: &'r Args,
    module: Module,
}

impl Run<'_> {
    fn command(&self, round: Round) -> Result<std::process::Command> {
        let mut mutants = std::process::Command::new(self.program);
        mutants.current_dir(self.checkout.root()).args(["mutants", "--no-config", "--colors", "never"]);
        mutants.args(["--package", self.module.package()]);
        for file in self.module.files() {
            mutants.args(["--file", file]);
        }
        if let Some(shard) = &self.args.shard {
            mutants.args(["--shard", &shard.to_string()]);
        }
        if self.args.list {
            mutants.arg("--list");
            return Ok(mutants);
        }
        mutants.arg("--output").arg(self.checkout.work_dir("mutants")?.join(self.module.name()));
        mutants.args(["--jobs", &self.args.jobs.to_string(), "--timeout", round.timeout_s(), "--no-shuffle"]);
        // The examples in the documentation are not run: each must be linked, and they are not meant to detect defects.
        mutants.arg("--cargo-arg=--tests");
        match round {
            Round::Own => mutants.args(["--test-package", self.module.package()]),
            Round::Model => mutants.args(["--test-package", self.module.model_tests()]),
        };
        if self.resumes(round) {
            mutants.arg("--iterate");
        }
        // Each job builds in a copy of the checkout: with a common build folder they would wait for each other.
        mutants.stdin(Stdio::null()).env_remove("CARGO_TARGET_DIR");
        // No debug information, which would take most of the build time.
        mutants.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_PROFILE_TEST_DEBUG", "0").env("CARGO_INCREMENTAL", "1");
        Ok(mutants)
    }

    /// Whether a round tests only mutants that no test caught before.
    fn resumes(&self, round: Round) -> bool {
        match round {
            Round::Own => self.args.resume,
            Round::Model => true,
        }
    }

    /// Folder of cargo-mutants' results.
    fn results(&self) -> Result<PathBuf> {
        Ok(self.checkout.work_dir("mutants")?.join(self.module.name()).join("mutants.out"))
    }

    fn both_rounds(&self, survivors: &mut Survivors, results: &mut TestResults) -> Result<()> {
        let name = self.module.name();
        let folder = self.results()?;
        for round in Round::BOTH {
            if self.resumes(round) {
                count_hangs_as_caught(&folder)?;
            }
            let mut command = self.command(round)?;
            say(&format!("{name}, by {}: {}", round.whose(), exec::shown(&command)));
            let status = command.status().with_context(|| format!("cannot start `{}`", exec::shown(&command)))?;
            match status.code() {
                Some(ALL_CAUGHT) => break,
                Some(SOME_SURVIVED | SOME_HUNG) => {}
                _ => bail!("cargo-mutants ended with {status}: the tests fail or do not build without any change"),
            }
        }
        let lines = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
        let missed = lines("missed.txt");
        for mutant in missed.lines().filter(|mutant| !survivors.mark_seen(mutant)) {
            results.fail(name, mutant);
        }
        println!(
            "{name}: {} left in the last round, of which {} listed",
            missed.lines().count(),
            survivors.seen_count()
        );
        Ok(())
    }
}

/// Counts mutants with a hanging test as caught: cargo-mutants itself would test them in every round.
fn count_hangs_as_caught(results: &Path) -> Result<()> {
    let Ok(hung) = fs::read_to_string(results.join("timeout.txt")) else { return Ok(()) };
    let caught = results.join("caught.txt");
    let mut noticed = fs::read_to_string(&caught).unwrap_or_default();
    for mutant in hung.lines() {
        if !noticed.lines().any(|line| line == mutant) {
            noticed.push_str(mutant);
            noticed.push('\n');
        }
    }
    fs::write(&caught, noticed).with_context(|| format!("cannot write {}", caught.display()))
}

/// Exit status of cargo-mutants.
const ALL_CAUGHT: i32 = 0;
const SOME_SURVIVED: i32 = 2;
const SOME_HUNG: i32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_file_of_a_module_exists_and_is_in_one_module() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default();
        let mut seen = HashSet::new();
        for file in Module::ALL.iter().flat_map(|module| module.files()) {
            assert!(seen.insert(file), "{file} is in two modules");
            assert!(file.contains('*') || root.join(file).is_file(), "{file} does not exist");
        }
    }

    #[test]
    fn a_hanging_mutant_counts_as_caught_once() -> Result<()> {
        let results = std::env::temp_dir().join(format!("portcullis-hangs-{}", std::process::id()));
        fs::create_dir_all(&results)?;
        count_hangs_as_caught(&results)?;
        fs::write(results.join("caught.txt"), "a.rs:1:1: x\n")?;
        fs::write(results.join("timeout.txt"), "b.rs:1:1: y\n")?;
        count_hangs_as_caught(&results)?;
        count_hangs_as_caught(&results)?;
        let noticed = fs::read_to_string(results.join("caught.txt"))?;
        fs::remove_dir_all(&results)?;
        assert_eq!(noticed, "a.rs:1:1: x\nb.rs:1:1: y\n");
        Ok(())
    }

    #[test]
    fn the_committed_list_can_be_read_and_is_short_enough() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default();
        let list = Survivors::read(&root.join(LIST)).and_then(|list| list.require_at_most(MAX_SURVIVORS));
        assert!(list.is_ok(), "{list:?}");
    }
}
