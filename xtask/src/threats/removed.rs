//! Attacks on builds without a defence, removed by a patch.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use test_machines::exec::{self, TIMED_OUT};
use test_machines::progress::{counted, say, step};

use crate::defences::{Defence, Tree};
use crate::images;
use crate::threats::table::{End, Found};

/// Timeout of tests on the build machine, in seconds: an attack without its defence may hang.
const TIMEOUT_S: u32 = 300;

/// A hypervisor without one defence.
pub(crate) struct Image {
    /// Name of the defence.
    pub(crate) word: String,
    /// The payload tests that must fail.
    pub(crate) tests: Vec<String>,
    /// The file QEMU boots.
    pub(crate) file: PathBuf,
}

/// Runs the tests on the build machine that the patches list, each in the copy without its defence, and records their
/// results in `found`.
///
/// # Errors
/// When a patch does not apply, or lists a test that is not in `found`. A package that does not build without the
/// defence counts as passed without it, which is wrong.
pub(crate) fn model(tree: &Tree, defences: &[Defence], found: &mut [Found]) -> Result<()> {
    let with_tests: Vec<_> = defences.iter().filter(|defence| !defence.tests.is_empty()).collect();
    for (number, defence) in with_tests.iter().enumerate() {
        let title = format!("Attacking the model without {} ({} of {})", defence.word, number + 1, with_tests.len());
        step(&title, || {
            tree.remove(defence)?;
            let mut packages: Vec<&str> = defence.tests.iter().map(|test| test.package.as_str()).collect();
            packages.dedup();
            packages.into_iter().try_for_each(|package| one_package(tree, defence, package, found))
        })?;
    }
    tree.restore()
}

fn one_package(tree: &Tree, defence: &Defence, package: &str, found: &mut [Found]) -> Result<()> {
    let names: Vec<&str> =
        defence.tests.iter().filter(|test| test.package == package).map(|test| test.name.as_str()).collect();
    let targets = targets(&tree.checkout().root().join(package), &names)?;
    let mut cargo = tree.checkout().cargo();
    cargo.args(["test", "--quiet", "--no-run", "-p", package]).args(&targets);
    let built = exec::output(&mut cargo).map_err(|error| format!("the copy does not build: {error:#}"));
    let mut cargo = tree.checkout().cargo();
    cargo.args(["test", "--no-fail-fast", "-p", package]).args(&targets);
    cargo.args(["--", "--exact"]).args(&names);
    let output = exec::capture(&mut exec::within(&cargo, TIMEOUT_S))?;
    let text = String::from_utf8_lossy(&output.stdout);
    for name in names {
        let test = found
            .iter_mut()
            .find(|test| test.test == name && test.name == format!("{package}: {name}"))
            .with_context(|| format!("{} lists {name} of {package}, which is not a test", defence.file.display()))?;
        let end = match &built {
            Err(error) => (End::PassedWithoutDefence, error.clone()),
            Ok(_) => end(&text, name).unwrap_or_else(|| match output.status.code() {
                Some(TIMED_OUT) => (End::Detected, format!("the test did not end within {TIMEOUT_S} s")),
                _ => (End::Detected, "the test program ended early".to_owned()),
            }),
        };
        note(test, &defence.word, end);
    }
    Ok(())
}

/// The test programs of the package at `root` that have `tests`: each omitted program saves a minute per patch.
///
/// # Errors
/// When a source cannot be read.
fn targets(root: &Path, tests: &[&str]) -> Result<Vec<String>> {
    let mut targets = Vec::new();
    let folder = root.join("tests");
    let entries = if folder.is_dir() { fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()? } else { Vec::new() };
    let mut elsewhere: Vec<&str> = tests.to_vec();
    for entry in entries {
        let path = entry.path();
        let source = if path.is_dir() { path.join("main.rs") } else { path.clone() };
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| source.is_file()) else { continue };
        let text = fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
        let known = elsewhere.len();
        elsewhere.retain(|test| !text.contains(&format!("fn {test}(")));
        if elsewhere.len() < known {
            targets.extend(["--test".to_owned(), name.to_owned()]);
        }
    }
    // The test is in a module of one of these programs, or in the library.
    if !elsewhere.is_empty() {
        targets.push("--lib".to_owned());
    }
    Ok(targets)
}

/// The result of the test `name`, from the output of its program; `None` if it has none.
fn end(text: &str, name: &str) -> Option<(End, String)> {
    let line = text.lines().find_map(|line| line.strip_prefix("test ")?.strip_prefix(name)?.strip_prefix(" ... "))?;
    match line {
        "ok" => Some((End::PassedWithoutDefence, "it passes".to_owned())),
        _ => Some((End::Detected, message(text, name))),
    }
}

/// The first line that a failed test printed after the location of its panic.
fn message(text: &str, name: &str) -> String {
    let printed = text.split_once(&format!("---- {name} stdout ----")).map_or("", |(_, rest)| rest);
    let panic = printed.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
    panic.unwrap_or("an assertion failed").trim().to_owned()
}

/// Merges another result: a test that passes without one defence keeps that result, whatever the results without
/// others.
pub(crate) fn note(test: &mut Found, word: &str, (end, why): (End, String)) {
    if test.without == End::PassedWithoutDefence {
        return;
    }
    test.without = end;
    test.reason = Some(format!("{word}: {why}"));
}

/// Builds a hypervisor without each of the `defences` whose patches list payload tests.
///
/// # Errors
/// When a patch does not apply, the patched sources do not build, or a patch does not change the image.
pub(crate) fn images(tree: &Tree, defences: &[Defence]) -> Result<Vec<Image>> {
    let with_payload: Vec<_> = defences.iter().filter(|defence| !defence.payload.is_empty()).collect();
    if with_payload.is_empty() {
        return Ok(Vec::new());
    }
    say(&format!("Building an EL2 without each of {} ...", counted(with_payload.len(), "defence")));
    tree.restore()?;
    let whole = fs::read(images::hyp_of(tree.checkout(), "hyp-whole")?)?;
    let (mut built, mut wrong) = (Vec::new(), Vec::new());
    for defence in with_payload {
        tree.remove(defence)?;
        match images::hyp_of(tree.checkout(), &format!("hyp-without-{}", defence.word)) {
            Ok(file) if fs::read(&file)? == whole => {
                wrong.push(format!("{} does not change EL2's image", defence.word))
            }
            Ok(file) => built.push(Image { word: defence.word.clone(), tests: defence.payload.clone(), file }),
            Err(error) => wrong.push(format!("EL2 without {} does not build: {error:#}", defence.word)),
        }
    }
    tree.restore()?;
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(built)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_test_is_detected_with_its_reason() {
        let text = "\
running 2 tests
test t61_a ... ok
test m::t61_b ... FAILED

failures:

---- m::t61_b stdout ----

thread 'm::t61_b' (1) panicked at m.rs:1:1:
a page is open
note: run with
";
        assert_eq!(end(text, "t61_a").map(|end| end.0), Some(End::PassedWithoutDefence));
        assert_eq!(end(text, "m::t61_b"), Some((End::Detected, "a page is open".to_owned())));
        assert_eq!(end(text, "t61_c"), None);
    }

    #[test]
    fn a_test_that_passes_without_one_defence_keeps_that_result() {
        let mut test =
            Found { name: "x".into(), test: "x".into(), without: End::NotRun, with: End::Blocked, reason: None };
        note(&mut test, "one", (End::Detected, "y".into()));
        assert_eq!((test.without, test.reason.as_deref()), (End::Detected, Some("one: y")));
        note(&mut test, "two", (End::PassedWithoutDefence, "it passes".into()));
        note(&mut test, "three", (End::Detected, "y".into()));
        assert_eq!((test.without, test.reason.as_deref()), (End::PassedWithoutDefence, Some("two: it passes")));
    }

    #[test]
    fn only_programs_with_a_listed_test_are_built() -> Result<()> {
        let root = std::env::temp_dir().join(format!("portcullis-targets-{}", std::process::id()));
        fs::create_dir_all(root.join("tests/two"))?;
        fs::write(root.join("tests/one.rs"), "fn t01_a() {}")?;
        fs::write(root.join("tests/two/main.rs"), "fn t02_b() {}")?;
        let of = |tests: &[&str]| targets(&root, tests);
        let ends = (of(&["t01_a"])?, of(&["t02_b", "m::t03_c"])?, targets(&root.join("none"), &["t01_a"])?);
        fs::remove_dir_all(&root)?;
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(ends, (words("--test one"), words("--test two --lib"), words("--lib")));
        Ok(())
    }
}
