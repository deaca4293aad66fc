//! The developer tool of Portcullis: `cargo xtask --help`.
//!
//! Each command is one module. The library `test-machines` has the contents of machines, and runs and evaluates them.
//! All commands use [`images`] to build images, and [`setup`] to install toolchains and cargo subcommands.

mod bench;
mod boards;
mod check;
mod checkout;
mod defences;
mod demo;
mod deny;
mod efi;
mod fuzz;
mod images;
mod linux;
mod miri;
mod msrv;
mod mutants;
mod setup;
mod stress;
mod test;
mod threats;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use test_machines::progress::say;

use crate::checkout::Checkout;

/// Build, boot, attack and check Portcullis
///
/// Every command works from any folder of the checkout, installs what is missing, never prompts, and exits with a
/// non-zero status on any failure. Except for system packages and Rust components, everything built or downloaded is
/// below target/.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Demo(demo::Args),
    Test(test::Args),
    Linux(linux::Args),
    Check(check::Args),
    Advisories(deny::Args),
    Bench(bench::Args),
    Boards(boards::Args),
    Efi(efi::Args),
    Fuzz(fuzz::Args),
    Miri(miri::Args),
    Msrv(msrv::Args),
    Mutants(mutants::Args),
    Stress(stress::Args),
    Threats(threats::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = Checkout::find().and_then(|checkout| match cli.command {
        Task::Demo(args) => demo::main(&checkout, &args),
        Task::Test(args) => test::main(&checkout, &args),
        Task::Linux(args) => linux::main(&checkout, &args),
        Task::Check(args) => check::main(&checkout, &args),
        Task::Advisories(args) => deny::main(&checkout, &args),
        Task::Bench(args) => bench::main(&checkout, &args),
        Task::Boards(args) => boards::main(&checkout, &args),
        Task::Efi(args) => efi::main(&checkout, &args),
        Task::Fuzz(args) => fuzz::main(&checkout, &args),
        Task::Miri(args) => miri::main(&checkout, &args),
        Task::Msrv(args) => msrv::main(&checkout, &args),
        Task::Mutants(args) => mutants::main(&checkout, &args),
        Task::Stress(args) => stress::main(&checkout, &args),
        Task::Threats(args) => threats::main(&checkout, &args),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
