//! Every dependency must be usable under terms that fit MIT OR Apache-2.0.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use test_machines::exec;
use test_machines::progress::step;

use crate::checkout::Checkout;

/// Permissive licences: a dependency needs only these.
const ALLOWED: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "NCSA",
    "Unicode-3.0",
    "Zlib",
];
/// What every package of the workspace declares.
const OURS: &str = "MIT OR Apache-2.0";

/// Judges the licence of every package in the dependency graph.
///
/// # Errors
/// Naming each package whose licence does not fit.
pub(crate) fn check(checkout: &Checkout) -> Result<()> {
    step("Checking licences", || {
        let mut wrong = Vec::new();
        // The fuzz targets are a workspace of their own.
        for manifest in ["Cargo.toml", "fuzz/Cargo.toml"] {
            let mut cargo = checkout.cargo();
            cargo.args(["metadata", "--format-version", "1", "--quiet", "--manifest-path", manifest]);
            let metadata: Value = serde_json::from_str(&exec::output(&mut cargo)?)?;
            let packages =
                metadata.get("packages").and_then(Value::as_array).context("cargo metadata names no packages")?;
            wrong.extend(packages.iter().filter_map(complaint));
        }
        if !wrong.is_empty() {
            bail!("{}", wrong.join("; "));
        }
        Ok(())
    })
}

fn complaint(package: &Value) -> Option<String> {
    let text = |key: &str| package.get(key).and_then(Value::as_str);
    let name = text("name").unwrap_or("?");
    let licence = text("license").unwrap_or("");
    let ours = package.get("source").is_none_or(Value::is_null);
    if ours && licence != OURS {
        return Some(format!("{name} declares `{licence}`, should be `{OURS}`"));
    }
    let fits = Expression::parse(licence).is_some_and(|expression| expression.fits());
    (!fits).then(|| {
        format!("{name} is under `{licence}`: choose another dependency, or add a permissive licence to the list in xtask/src/check/licences.rs")
    })
}

/// An SPDX licence expression, as far as crates use them.
#[derive(Debug, Eq, PartialEq)]
enum Expression {
    One(String),
    Any(Vec<Expression>),
    All(Vec<Expression>),
}

impl Expression {
    fn parse(text: &str) -> Option<Self> {
        // Before SPDX expressions a slash meant a choice.
        let text = text.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let words: Vec<&str> = text.split_whitespace().collect();
        let (expression, rest) = Self::any(&words)?;
        rest.is_empty().then_some(expression)
    }

    fn any<'a>(words: &'a [&'a str]) -> Option<(Self, &'a [&'a str])> {
        let (first, mut rest) = Self::all(words)?;
        let mut parts = vec![first];
        while let Some(("OR", more)) = head(rest) {
            let (next, after) = Self::all(more)?;
            parts.push(next);
            rest = after;
        }
        Some((Self::Any(parts), rest))
    }

    fn all<'a>(words: &'a [&'a str]) -> Option<(Self, &'a [&'a str])> {
        let (first, mut rest) = Self::one(words)?;
        let mut parts = vec![first];
        while let Some(("AND", more)) = head(rest) {
            let (next, after) = Self::one(more)?;
            parts.push(next);
            rest = after;
        }
        Some((Self::All(parts), rest))
    }

    fn one<'a>(words: &'a [&'a str]) -> Option<(Self, &'a [&'a str])> {
        match head(words)? {
            ("(", more) => {
                let (inner, rest) = Self::any(more)?;
                match head(rest)? {
                    (")", after) => Some((inner, after)),
                    _ => None,
                }
            }
            (")" | "AND" | "OR" | "WITH", _) => None,
            (name, more) => match head(more) {
                Some(("WITH", after)) => {
                    let (exception, rest) = head(after)?;
                    Some((Self::One(format!("{name} WITH {exception}")), rest))
                }
                _ => Some((Self::One(name.to_owned()), more)),
            },
        }
    }

    fn fits(&self) -> bool {
        match self {
            Self::One(name) => ALLOWED.contains(&name.as_str()),
            Self::Any(parts) => parts.iter().any(Self::fits),
            Self::All(parts) => parts.iter().all(Self::fits),
        }
    }
}

fn head<'a>(words: &'a [&'a str]) -> Option<(&'a str, &'a [&'a str])> {
    words.split_first().map(|(first, rest)| (*first, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(text: &str) -> bool {
        Expression::parse(text).is_some_and(|expression| expression.fits())
    }

    #[test]
    fn a_choice_needs_one_permissive_side() {
        assert!(fits("MIT OR Apache-2.0"));
        assert!(fits("MIT/Apache-2.0"));
        assert!(fits("GPL-2.0-only OR MIT"));
        assert!(!fits("GPL-2.0-only"));
    }

    #[test]
    fn a_conjunction_needs_all_sides() {
        assert!(fits("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!fits("MIT AND LGPL-2.1-or-later"));
    }

    #[test]
    fn exceptions_belong_to_their_licence() {
        assert!(fits("Apache-2.0 WITH LLVM-exception OR MIT"));
        assert!(!fits("GPL-2.0-only WITH Classpath-exception-2.0"));
    }

    #[test]
    fn nothing_and_nonsense_do_not_fit() {
        for text in ["", "OR", "MIT OR", "(MIT", "MIT Apache-2.0"] {
            assert!(!fits(text), "{text}");
        }
    }

    #[test]
    fn our_own_packages_must_declare_our_licence() {
        let package = serde_json::json!({"name": "x", "license": "MIT", "source": null});
        assert!(complaint(&package).is_some());
        let other = serde_json::json!({"name": "x", "license": "MIT", "source": "registry"});
        assert!(complaint(&other).is_none());
    }
}
