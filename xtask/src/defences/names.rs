//! Checks that the tests that a patch names exist, so that a renamed test is detected before `cargo xtask threats`
//! runs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Defence;

/// Folder of the payload tests, relative to the checkout's root.
const PAYLOAD: &str = "qemu-tests";

/// Checks that the sources at `root` contain every test that the header of `defence` names.
///
/// # Errors
/// Names the first test that they do not contain.
pub(super) fn check(root: &Path, defence: &Defence) -> Result<()> {
    let tests = defence.tests.iter().map(|test| (test.package.as_str(), test.name.as_str()));
    for (package, test) in tests.chain(defence.payload.iter().map(|test| (PAYLOAD, test.as_str()))) {
        let function = test.rsplit("::").next().unwrap_or(test);
        ensure!(
            contains(&root.join(package), function)?,
            "{package} has no test {test}: correct `Caught by:` or `Payload:`"
        );
    }
    Ok(())
}

/// Whether a Rust source in or below `folder` contains the word `name`.
fn contains(folder: &Path, name: &str) -> Result<bool> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let found = if path.is_dir() {
            path.file_name().is_some_and(|folder| folder != "target") && contains(&path, name)?
        } else {
            path.extension().is_some_and(|extension| extension == "rs") && has_word(&fs::read_to_string(&path)?, name)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_word(text: &str, name: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkout::Checkout;
    use crate::defences;

    #[test]
    fn every_test_that_a_patch_names_exists_and_another_name_is_refused() -> Result<()> {
        let checkout = Checkout::find()?;
        for mut defence in defences::all(&checkout)? {
            check(checkout.root(), &defence)?;
            for test in &mut defence.tests {
                test.name.push_str("_renamed");
            }
            for test in &mut defence.payload {
                test.push_str("_renamed");
            }
            let error = check(checkout.root(), &defence).map_err(|error| error.to_string());
            assert!(error.is_err_and(|text| text.contains("_renamed")), "{}", defence.word);
        }
        Ok(())
    }
}
