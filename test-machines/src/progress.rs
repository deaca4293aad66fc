//! Progress output: on a terminal a spinner with the elapsed time, otherwise one line at the start and one at the end.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Steps shorter than this get no line at the end.
const MIN_REPORTED: Duration = Duration::from_secs(2);

/// Calls `work` with progress output `what`.
///
/// # Errors
/// Those of `work`, unchanged.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    let spinner = stderr().is_terminal().then(|| {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    });
    if spinner.is_none() {
        say(&format!("{what} ..."));
    }
    let result = work();
    let took = started.elapsed();
    if let Some(bar) = spinner {
        bar.finish_and_clear();
    }
    match &result {
        Ok(_) if took >= MIN_REPORTED => {
            say(&format!("{what}: done in {:.1} s", took.as_secs_f64()));
        }
        Ok(_) => {}
        Err(_) => say(&format!("{what}: failed after {:.1} s", took.as_secs_f64())),
    }
    result
}

/// A number with its noun: `1 row`, `2 rows`.
pub fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// Prints one progress line to standard error; results go to standard output.
pub fn say(line: &str) {
    eprintln!("xtask: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nouns_are_plural_unless_the_number_is_one() {
        assert_eq!([counted(0, "row"), counted(1, "row"), counted(2, "row")], ["0 rows", "1 row", "2 rows"]);
    }
}
