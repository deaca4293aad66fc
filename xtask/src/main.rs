//! The one developer interface of Portcullis: `cargo xtask --help`.

mod checkout;
mod exec;
mod guest;
mod images;
mod linux;
mod progress;
mod setup;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::checkout::Checkout;
use crate::progress::say;

/// Builds, boots, attacks and checks Portcullis.
///
/// Every command works from any folder of the checkout, sets up what is missing, asks
/// nothing, and ends with a non-zero status when something is not as it should be.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Linux(linux::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = Checkout::find().and_then(|checkout| match cli.command {
        Task::Linux(args) => linux::main(&checkout, &args),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
