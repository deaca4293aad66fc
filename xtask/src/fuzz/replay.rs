//! Replays one input and prints its actions.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use test_machines::exec;

use super::removed::{Removal, RemovedBy};
use super::{Target, run};

/// The target of an input: the only one in `targets`, or the one whose folder contains the input.
///
/// # Errors
/// When the file does not exist, or the target cannot be determined.
pub(super) fn target(targets: &[Target], input: &Path) -> Result<Target> {
    let file = input.canonicalize().with_context(|| format!("--replay: cannot find {}", input.display()))?;
    ensure!(file.is_file(), "--replay: {} is not a file", input.display());
    let folder = file.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    match targets {
        [only] => Ok(*only),
        many => many
            .iter()
            .copied()
            .find(|target| Some(target.name()) == folder.as_deref())
            .context("add the input's target: `cargo xtask fuzz TARGET --replay FILE`"),
    }
}

/// Runs an input, without a defence if one is named.
///
/// # Errors
/// When the program cannot be started, or with the finding.
pub(super) fn main(programs: &Path, target: Target, input: &Path, without: Option<Removal>) -> Result<()> {
    let mut command = Command::new(programs.join(target.name()));
    if let Some(Removal { word, by: RemovedBy::Tests, .. }) = without {
        command.env("PORTCULLIS_WITHOUT", word);
    }
    let finished = exec::capture(command.arg("-detect_leaks=0").arg(input).env("PORTCULLIS_SHOW", "1"))?;
    print!("{}", String::from_utf8_lossy(&finished.stdout));
    if !finished.status.success() {
        bail!("{}", run::finding(&String::from_utf8_lossy(&finished.stderr)));
    }
    println!("nothing found");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_target_is_given_or_found_from_the_folder() -> Result<()> {
        let root = std::env::temp_dir().join(format!("portcullis-replay-{}", std::process::id()));
        let folder = root.join("registers");
        fs::create_dir_all(&folder)?;
        let (inside, outside) = (folder.join("input"), root.join("input"));
        fs::write(&inside, "")?;
        fs::write(&outside, "")?;
        let of = |targets: &[Target], file: &Path| target(targets, file).map_err(|error| error.to_string());
        let ends = [
            of(&Target::ALL, &inside),
            of(&[Target::Commands], &inside),
            of(&[Target::Commands], &outside),
            of(&Target::ALL, &outside),
            of(&[Target::Commands], &folder),
            of(&[Target::Commands], &folder.join("none")),
        ];
        fs::remove_dir_all(&root)?;
        assert_eq!(ends[..3], [Ok(Target::Registers), Ok(Target::Commands), Ok(Target::Commands)]);
        for (end, why) in ends[3..].iter().zip(["add the input's target", "is not a file", "cannot find"]) {
            assert!(end.as_ref().is_err_and(|text| text.contains(why)), "{end:?}");
        }
        Ok(())
    }
}
