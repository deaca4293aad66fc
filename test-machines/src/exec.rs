//! Runs other programs without standard input; errors include the program's output.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Maximum number of lines shown of a failed program's output.
const SHOWN_LINES: usize = 40;

/// Runs a program to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started or fails; the error has the end of its output.
pub fn output(command: &mut Command) -> Result<String> {
    let finished = capture(command)?;
    if finished.status.success() {
        return Ok(String::from_utf8_lossy(&finished.stdout).into_owned());
    }
    bail!("`{}` failed ({}):\n{}", shown(command), finished.status, tail(&finished))
}

/// Runs a program to its end, with any exit status.
///
/// # Errors
/// When it cannot be started.
pub fn capture(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{}`", shown(command)))
}

/// The status of a program killed by [`within`].
pub const TIMED_OUT: i32 = 124;

/// `command`, killed with its child processes after `seconds`; its status is then [`TIMED_OUT`].
pub fn within(command: &Command, seconds: u32) -> Command {
    let mut timed = Command::new("timeout");
    timed.arg("--kill-after=5").arg(seconds.to_string()).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(name, value),
            None => timed.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        timed.current_dir(folder);
    }
    timed
}

/// The command line for messages.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    // Cargo is shown without the toolchain path.
    let program = if program.ends_with("cargo") { Path::new("cargo") } else { program };
    let mut line = program.to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        let arg = arg.to_string_lossy();
        if arg.contains([' ', '"', '$', '*']) {
            line.push_str(&format!("'{arg}'"));
        } else {
            line.push_str(&arg);
        }
    }
    line
}

/// The end of a program's output, errors last.
pub fn tail(finished: &Output) -> String {
    let mut text = String::from_utf8_lossy(&finished.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&finished.stderr));
    last_lines(&text, SHOWN_LINES)
}

/// The last `count` lines of a text.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines.get(from..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_reported_with_its_status_and_output() {
        let error = output(Command::new("sh").args(["-c", "echo because >&2; exit 3"]))
            .map(|_| ())
            .map_err(|error| error.to_string());
        let text = error.err().unwrap_or_default();
        assert!(text.contains("exit status: 3"), "{text}");
        assert!(text.contains("because"), "{text}");
    }

    #[test]
    fn a_timeout_kills_the_program() {
        let mut long = Command::new("sh");
        long.args(["-c", "sleep 60; true"]);
        let ended = capture(&mut within(&long, 1)).map(|output| output.status.code());
        assert_eq!(ended.ok(), Some(Some(TIMED_OUT)));
        let mut quick = Command::new("sh");
        quick.args(["-c", "echo $WORD"]).env("WORD", "kept");
        assert_eq!(output(&mut within(&quick, 60)).ok().as_deref(), Some("kept\n"));
    }

    #[test]
    fn programs_have_no_standard_input() {
        let text = output(Command::new("sh").args(["-c", "read line || echo none"]));
        assert_eq!(text.ok().as_deref(), Some("none\n"));
    }

    #[test]
    fn last_lines_keeps_the_end() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a", 5), "a");
    }
}
