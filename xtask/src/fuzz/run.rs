//! Runs targets and parses libFuzzer's output.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use test_machines::exec;
use test_machines::progress::say;

use super::removed::{Removal, RemovedBy};
use super::{Args, Target};
use crate::checkout::Checkout;

/// An input that takes longer than this, in seconds, is a finding.
const TIMEOUT: u32 = 60;

/// Additional start corpus.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Corpus {
    /// Inputs kept by earlier runs.
    Kept,
    /// None: only the committed corpus is used.
    Fresh,
}

/// One run of one target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Job {
    pub(super) target: Target,
    pub(super) corpus: Corpus,
    /// The removed defence.
    pub(super) without: Option<Removal>,
}

/// Origin of an input with a finding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum By {
    /// It is a seed.
    Seed,
    /// A mutation.
    Mutation,
}

/// Result of one target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Outcome {
    target: &'static str,
    executions: u64,
    actions: u64,
    edges: u64,
    inputs: u64,
    seconds: u64,
    finding: Option<String>,
    by: By,
    without: Option<Removal>,
}

impl Outcome {
    /// The finding, and the input file.
    pub(super) fn finding(&self) -> Option<&str> {
        self.finding.as_deref()
    }

    /// The line for a run without a defence.
    pub(super) fn without(&self) -> String {
        let Self { target, executions, seconds, without, .. } = self;
        let without = without.map_or("nothing", |one| one.word);
        let (by, finding) = match (&self.finding, self.by) {
            (None, _) => ("-", "none"),
            (Some(finding), By::Seed) => ("seed", finding.as_str()),
            (Some(finding), By::Mutation) => ("mutation", finding.as_str()),
        };
        format!("{without:15} {target:13} {executions:10} {seconds:5}  {by:8}  {finding}")
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, executions, actions, edges, inputs, seconds, finding, .. } = self;
        let finding = finding.as_deref().unwrap_or("none");
        let a_second = executions / seconds.max(&1);
        write!(f, "{target:13} {executions:10} {a_second:8} {actions:11} {edges:8} {inputs:7} {seconds:7}  {finding}")
    }
}

/// Runs `jobs`, several at the same time; the outcomes are in the order of the jobs.
///
/// # Errors
/// When a job cannot be run.
pub(super) fn all(checkout: &Checkout, programs: &Path, jobs: &[Job], args: &Args) -> Result<Vec<Outcome>> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..args.jobs {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(number) else { break };
                    let outcome = one(checkout, programs, *job, args);
                    outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((number, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn one(checkout: &Checkout, programs: &Path, job: Job, args: &Args) -> Result<Outcome> {
    let Args { seconds, input_bytes, .. } = *args;
    let name = job.target.name();
    // Findings without a defence are kept apart from other runs.
    let area = job.without.map_or_else(|| "fuzz".to_owned(), |one| format!("fuzz/without/{}", one.word));
    let findings = checkout.work_dir(&format!("{area}/findings/{name}"))?;
    let kept = checkout.work_dir(&format!("{area}/corpus/{name}"))?;
    if job.corpus == Corpus::Fresh {
        fs::remove_dir_all(&kept)?;
        fs::create_dir_all(&kept)?;
    }
    let mut command = Command::new(programs.join(name));
    command.args([
        format!("-timeout={TIMEOUT}"),
        format!("-max_len={input_bytes}"),
        format!("-artifact_prefix={}/", findings.display()),
    ]);
    // The storage of ownership maps is leaked.
    command.args(["-detect_leaks=0", "-rss_limit_mb=8192", "-len_control=20", "-print_final_stats=1"]);
    command.arg(if seconds == 0 { "-runs=0".into() } else { format!("-max_total_time={seconds}") });
    command.arg(kept).arg(checkout.root().join("fuzz/corpus").join(name));
    match job.without {
        Some(Removal { word, by, .. }) => {
            if by == RemovedBy::Tests {
                command.env("PORTCULLIS_WITHOUT", word);
            }
            say(&format!("{name} without {word}, for at most {seconds} s"));
        }
        None => say(&format!("{name} for {seconds} s")),
    }
    let started = Instant::now();
    let finished = exec::capture(&mut command)?;
    let text = String::from_utf8_lossy(&finished.stderr);
    let finding = (!finished.status.success()).then(|| finding(&text));
    let (edges, inputs) = progress(&text);
    let executions = number_after(&text, "stat::number_of_executed_units:").unwrap_or_else(|| last_run(&text));
    let actions = number_after(&text, "stat::number_of_actions:").unwrap_or(0);
    let seconds = started.elapsed().as_secs();
    say(&format!(
        "{name} ended after {seconds} s and {executions} executions: {}",
        finding.as_deref().unwrap_or("nothing")
    ));
    Ok(Outcome {
        target: name,
        executions,
        actions,
        edges,
        inputs,
        seconds,
        finding,
        by: by(&text),
        without: job.without,
    })
}

/// libFuzzer prints INITED after the seeds.
fn by(text: &str) -> By {
    if text.lines().any(|line| line.starts_with('#') && line.contains("INITED")) { By::Mutation } else { By::Seed }
}

/// The panic message or libFuzzer's error, with the input file.
pub(super) fn finding(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let panic = lines.iter().position(|line| line.contains("panicked at")).and_then(|at| lines.get(at + 1));
    let error = lines.iter().find(|line| line.contains("ERROR: libFuzzer"));
    let file = lines.iter().find_map(|line| line.split_once("Test unit written to ")).map(|(_, file)| file);
    let what = panic.or(error).copied().unwrap_or("the program ended without a message");
    match file {
        Some(file) => format!("{what} ({file})"),
        None => what.to_owned(),
    }
}

/// Edges covered and inputs kept, from the last line of progress.
fn progress(text: &str) -> (u64, u64) {
    let last = text.lines().rev().find(|line| line.starts_with('#') && line.contains(" cov: "));
    let after = |word: &str| last.and_then(|line| number_after(line, word)).unwrap_or(0);
    (after("cov:"), after("corp:"))
}

/// Number of the last execution that libFuzzer reported.
fn last_run(text: &str) -> u64 {
    text.lines().rev().find_map(|line| number_after(line.strip_prefix('#').map(|_| line)?, "#")).unwrap_or(0)
}

fn number_after(text: &str, word: &str) -> Option<u64> {
    let (_, rest) = text.split_once(word)?;
    let rest = rest.trim_start();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..digits)?.parse().ok()
}

/// Every input for a target: committed, and found by runs on this machine.
///
/// # Errors
/// When a folder cannot be read.
pub(super) fn inputs(checkout: &Checkout, target: Target) -> Result<Vec<PathBuf>> {
    let name = target.name();
    let mut out = Vec::new();
    for folder in [checkout.root().join("fuzz/corpus").join(name), checkout.work_dir(&format!("fuzz/corpus/{name}"))?] {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            out.push(entry?.path());
        }
    }
    out.sort();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
#2\tINITED cov: 10 ft: 11 corp: 1/2b exec/s: 0 rss: 30Mb
#120\tDONE   cov: 3288 ft: 10075 corp: 103/10996b lim: 574 exec/s: 3 rss: 47Mb
stat::number_of_executed_units: 120
";

    #[test]
    fn progress_is_read_from_the_last_line() {
        assert_eq!(progress(LOG), (3288, 103));
        assert_eq!(number_after(LOG, "stat::number_of_executed_units:"), Some(120));
        assert_eq!(last_run(LOG), 120);
        assert_eq!((by(LOG), by("thread panicked")), (By::Mutation, By::Seed));
    }

    #[test]
    fn a_finding_is_the_panic_and_its_file() {
        let log = "thread '<unnamed>' panicked at x.rs:1:1:\nForeignAccess(\"a page\")\nnote: y\n\
                   Test unit written to /f/crash-1\n";
        assert_eq!(finding(log), "ForeignAccess(\"a page\") (/f/crash-1)");
        assert_eq!(
            finding("==1== ERROR: libFuzzer: timeout after 60 seconds"),
            "==1== ERROR: libFuzzer: timeout after 60 seconds"
        );
    }
}
