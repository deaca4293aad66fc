//! Unsafe code is allowed only in listed modules, each with its reason. A new module with unsafe code fails the check
//! until it is listed with a reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use test_machines::progress::{say, step};

use crate::check::Action;
use crate::checkout::Checkout;

/// The list, with one module per line: its path, a colon, the reason.
const INVENTORY: &str = "xtask/unsafe-modules.txt";
/// Crates that must forbid unsafe code.
const FORBID: [&str; 7] = [
    "host-access/src/lib.rs",
    "smmu-drv/src/lib.rs",
    "gic-guard/src/lib.rs",
    "shadow-s2/src/lib.rs",
    "mem-protect/src/lib.rs",
    "smmu-conformance/src/lib.rs",
    "acpi-machine/src/lib.rs",
];
/// A folder of packages without a Cargo.toml of its own.
const EXAMPLES: &str = "examples";
/// Placeholder that `--fix` writes for a missing reason.
const NO_REASON: &str = "REASON MISSING";

/// Compares the modules with unsafe code to the committed list.
///
/// # Errors
/// Lists each module that is not in the list, is in the list although it has no unsafe code, or has no reason.
pub(crate) fn check(checkout: &Checkout, action: Action) -> Result<()> {
    step("Checking the unsafe inventory", || {
        let found = scan(checkout)?;
        let path = checkout.root().join(INVENTORY);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let mut listed = parse(&text);
        if action == Action::Fix {
            listed.retain(|module, _| found.contains(module));
            for module in &found {
                listed.entry(module.clone()).or_insert_with(|| NO_REASON.to_owned());
            }
            fs::write(&path, render(&text, &listed)).with_context(|| format!("cannot write {INVENTORY}"))?;
            say(&format!("wrote {INVENTORY}"));
        }
        let mut wrong = compare(&found, &listed);
        for library in FORBID {
            let source = fs::read_to_string(checkout.root().join(library)).unwrap_or_default();
            if !source.contains("#![forbid(unsafe_code)]") {
                wrong.push(format!("{library} does not contain #![forbid(unsafe_code)]"));
            }
        }
        if !wrong.is_empty() {
            bail!("{}", wrong.join("; "));
        }
        Ok(())
    })
}

fn compare(found: &[String], listed: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for module in found {
        match listed.get(module) {
            None => wrong.push(format!(
                "{module} has unsafe code and is not in {INVENTORY}: move the code into a listed module, or add a line `{module}: reason`"
            )),
            Some(reason) if reason.is_empty() || reason == NO_REASON => {
                wrong.push(format!("{module} has no reason in {INVENTORY}"));
            }
            Some(_) => {}
        }
    }
    for module in listed.keys().filter(|module| !found.contains(module)) {
        wrong.push(format!("{module} is in {INVENTORY} but has no unsafe code: remove the line"));
    }
    wrong
}

fn parse(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| line.split_once(':').unwrap_or((line, "")))
        .map(|(module, reason)| (module.trim().to_owned(), reason.trim().to_owned()))
        .collect()
}

fn render(old: &str, listed: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for line in old.lines().take_while(|line| line.starts_with('#')) {
        text.push_str(line);
        text.push('\n');
    }
    for (module, reason) in listed {
        text.push_str(&format!("{module}: {reason}\n"));
    }
    text
}

/// Every Rust file of the checkout, tracked or new, with the keyword `unsafe`.
fn scan(checkout: &Checkout) -> Result<Vec<String>> {
    let mut files = Vec::new();
    let packages: Vec<PathBuf> = fs::read_dir(checkout.root())?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("Cargo.toml").is_file() || path.ends_with(EXAMPLES))
        .collect();
    for package in packages {
        rust_files(&package, checkout.target(), &mut files)?;
    }
    let mut found = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        if has_unsafe(&text) {
            let name = file.strip_prefix(checkout.root()).unwrap_or(&file);
            found.push(name.to_string_lossy().into_owned());
        }
    }
    found.sort();
    Ok(found)
}

fn rust_files(dir: &Path, target: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if path != target && name != "target" && !name.starts_with('.') {
                rust_files(&path, target, into)?;
            }
        } else if name.ends_with(".rs") {
            into.push(path);
        }
    }
    Ok(())
}

/// Whether the keyword occurs in code, not in a comment, a string or an identifier.
fn has_unsafe(source: &str) -> bool {
    code_only(source).split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
}

/// The source with comments and literals blanked. It applies the part of Rust's lexical rules that is needed for
/// that: nested comments, raw strings, and quotes that begin a lifetime.
fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    let mut after_word = false;
    while let Some(first) = rest.chars().next() {
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => text_literal(rest),
            'r' | 'b' | 'c' if !after_word => prefixed_literal(rest),
            '\'' => char_literal(rest),
            _ => 0,
        };
        if skipped > 0 {
            code.push(' ');
            rest = rest.get(skipped..).unwrap_or_default();
            after_word = false;
        } else {
            code.push(first);
            after_word = first.is_alphanumeric() || first == '_';
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    code
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth = depth.saturating_sub(1);
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            match rest.chars().next() {
                Some(c) => at += c.len_utf8(),
                None => break,
            }
        }
    }
    text.len()
}

fn text_literal(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br"…"`, `c"…"`, `b'…'`; 0 when it is an identifier.
fn prefixed_literal(text: &str) -> usize {
    let letters = text.find(|c: char| !matches!(c, 'r' | 'b' | 'c')).unwrap_or(text.len());
    let (prefix, rest) = text.split_at(letters);
    if !matches!(prefix, "r" | "b" | "c" | "br" | "cr") {
        return 0;
    }
    if prefix == "b" && rest.starts_with('\'') {
        return letters + char_literal(rest);
    }
    if !prefix.contains('r') {
        return if rest.starts_with('"') { letters + text_literal(rest) } else { 0 };
    }
    let hashes = rest.find(|c: char| c != '#').unwrap_or(rest.len());
    let Some(body) = rest.get(hashes..).filter(|body| body.starts_with('"')) else {
        return 0;
    };
    let end = format!("\"{}", "#".repeat(hashes));
    let inner = body.get(1..).unwrap_or_default();
    inner.find(&end).map_or(text.len(), |at| letters + hashes + 1 + at + end.len())
}

/// A character literal's length, 0 for a lifetime.
fn char_literal(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            chars.next();
            chars.find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1)
        }
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keyword_counts_only_in_code() {
        assert!(has_unsafe("fn f() { unsafe { g() } }"));
        assert!(has_unsafe("unsafe impl Send for X {}"));
        for harmless in [
            "// unsafe\n",
            "/* /* unsafe */ unsafe */ fn f() {}",
            "let a = \"unsafe\"; let b = \"\\\" unsafe\";",
            "let a = r#\"unsafe \" unsafe\"#;",
            "let a = b\"unsafe\"; let b = br\"unsafe\";",
            "#![forbid(unsafe_code)]",
            "#![deny(unsafe_op_in_unsafe_fn)]",
            "let q = '\"'; let s = \"unsafe\";",
            "let q = '\\''; // unsafe",
        ] {
            assert!(!has_unsafe(harmless), "{harmless}");
        }
    }

    #[test]
    fn code_after_lifetimes_and_identifiers_is_checked() {
        assert!(has_unsafe("fn f<'a>(x: &'a u8) { unsafe {} }"));
        assert!(has_unsafe("let br = b; unsafe {}"));
        assert!(has_unsafe("let bar = r; let c = \"x\"; unsafe {}"));
        assert!(has_unsafe("let x = b'\"'; unsafe {}"));
    }

    #[test]
    fn new_stale_and_unexplained_modules_are_reported() {
        let listed = parse("# head\na.rs: registers\nb.rs: REASON MISSING\nd.rs: gone\n");
        let found = ["a.rs", "b.rs", "c.rs"].map(str::to_owned);
        let wrong = compare(&found, &listed);
        assert_eq!(wrong.len(), 3);
        assert!(wrong.iter().any(|text| text.starts_with("c.rs")));
    }

    #[test]
    fn fix_keeps_the_first_lines_of_the_list() {
        let text = "# why\n# how\nb: x\n";
        assert_eq!(render(text, &parse(text)), text);
    }
}
