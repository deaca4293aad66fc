//! The header of a defence patch.
//!
//! Lines `Key: value` before the diff; `git apply` ignores them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// A test on the build machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CargoTest {
    /// Package.
    pub(crate) package: String,
    /// Name, with the module path, as the test program lists it.
    pub(crate) name: String,
}

/// A defence, and the tests that must fail without it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Defence {
    /// Name, which is also the name of the file.
    pub(crate) word: String,
    /// Description of the removed defence.
    pub(crate) what: String,
    /// Rows of the catalogue of attacks.
    pub(crate) rows: Vec<u8>,
    /// Tests on the build machine that fail with the patch.
    pub(crate) tests: Vec<CargoTest>,
    /// Payload tests that land or fail with the patch.
    pub(crate) payload: Vec<String>,
    /// The patch.
    pub(crate) file: PathBuf,
}

impl Defence {
    /// Reads the header of `file`.
    ///
    /// # Errors
    /// When a line or key is wrong.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let word = file.file_stem().and_then(|stem| stem.to_str()).context("the file's name is not UTF-8")?;
        let (what, rows, tests, payload) = parse(&text).with_context(|| format!("{}", file.display()))?;
        Ok(Self { word: word.to_owned(), what, rows, tests, payload, file: file.to_owned() })
    }
}

type Header = (String, Vec<u8>, Vec<CargoTest>, Vec<String>);

fn parse(text: &str) -> Result<Header> {
    let (mut what, mut rows, mut tests, mut payload) = (None, Vec::new(), Vec::new(), Vec::new());
    for line in text.lines().take_while(|line| !line.starts_with("diff ") && !line.starts_with("--- ")) {
        if line.trim().is_empty() {
            continue;
        }
        let (key, value) =
            line.split_once(':').with_context(|| format!("`{line}` is not a line `Key: value` of a header"))?;
        let value = value.trim();
        match key {
            "What" => what = Some(value.to_owned()),
            "Rows" => rows = value.split_whitespace().map(row).collect::<Result<_>>()?,
            "Caught by" => {
                let (package, name) = value
                    .split_once(' ')
                    .with_context(|| format!("`Caught by: {value}` is not a package and a test"))?;
                tests.push(CargoTest { package: package.to_owned(), name: name.trim().to_owned() });
            }
            "Payload" => payload.push(value.to_owned()),
            _ => bail!("`{key}` is not a key: the keys are What, Rows, Caught by and Payload"),
        }
    }
    let what = what.context("no line `What:`, which describes the removed defence")?;
    ensure!(!rows.is_empty(), "no line `Rows:`, which lists rows of the catalogue (T01 ...)");
    ensure!(!tests.is_empty() || !payload.is_empty(), "neither `Caught by:` nor `Payload:`: no test would detect it");
    Ok((what, rows, tests, payload))
}

fn row(word: &str) -> Result<u8> {
    let number = word.strip_prefix('T').filter(|digits| digits.len() == 2).and_then(|digits| digits.parse().ok());
    number.with_context(|| format!("`{word}` is not a row: write T01 to T99"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
What: a check is missing
Rows: T01 T64
Caught by: hyp boot_info::tests::t64_overlap
Payload: t01_el2_memory

diff --git a/x b/x
What: not read any more
";

    #[test]
    fn a_header_names_the_defence_and_its_tests() {
        let (what, rows, tests, payload) = parse(GOOD).expect("good");
        let test = CargoTest { package: "hyp".into(), name: "boot_info::tests::t64_overlap".into() };
        assert_eq!((what.as_str(), rows, tests), ("a check is missing", vec![1, 64], vec![test]));
        assert_eq!(payload, ["t01_el2_memory"]);
    }

    #[test]
    fn each_key_is_required_and_other_keys_are_errors() {
        for (without, complaint) in [
            (GOOD.replace("What: a check is missing\n", ""), "What"),
            (GOOD.replace("Rows: T01 T64\n", ""), "Rows"),
            (GOOD.replace("T64", "64"), "not a row"),
            (GOOD.replace("Caught by", "Caught").replace("Payload: t01_el2_memory\n", ""), "not a key"),
            ("What: x\nRows: T01\ndiff a b\n".to_owned(), "no test would detect it"),
            (GOOD.replace("Caught by: hyp boot_info::tests::t64_overlap", "Caught by: hyp"), "a package and a test"),
        ] {
            let error = parse(&without).map(|_| ()).map_err(|error| format!("{error:#}"));
            assert!(error.as_ref().is_err_and(|text| text.contains(complaint)), "{complaint}: {error:?}");
        }
    }
}
