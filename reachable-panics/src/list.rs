//! The committed list of panics. Each line is a panic and its reason, `key: reason`, or a comment that begins with
//! `#`.

use std::collections::BTreeMap;

use crate::graph::{Entered, Site};

/// Placeholder that `--fix` writes for a missing reason.
const NO_REASON: &str = "REASON MISSING";

/// The key of a list line: the panic and its location.
///
/// Third-party code has fixed line numbers for each version, so the key has the line; for our own code it has only the
/// file. Without a location the key has the function that contains the call after inlining, except for a panic that
/// only a jump table could reach: the compiler generates that one for a value that an enum cannot have, and it moves
/// with every inlining.
pub(crate) fn key(site: &Site, function: &str) -> String {
    match &site.location {
        Some((file, line)) => match pinned(file) {
            Some(file) => format!("{file}:{line} {}", site.call),
            None => format!("{file} {}", site.call),
        },
        None if site.entered == Entered::ByJumpTable => format!("in jump tables {}", site.call),
        None => format!("in {function} {}", site.call),
    }
}

/// The file of a dependency or of the standard library, without machine- and version-specific parts.
fn pinned(file: &str) -> Option<String> {
    if let Some((_, inside)) = file.split_once("/library/") {
        return Some(inside.to_owned());
    }
    let (_, inside) = file.split_once("/registry/src/")?;
    let mut parts = inside.splitn(3, '/').skip(1);
    let (package, path) = (parts.next()?, parts.next()?);
    let name = package.rsplit_once('-').map_or(package, |(name, _)| name);
    Some(format!("{name}/{path}"))
}

/// Reads the list: the key, a colon and a space, the reason.
pub fn parse(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .map(|line| line.split_once(": ").unwrap_or((line, "")))
        .map(|(key, reason)| (key.trim().to_owned(), reason.trim().to_owned()))
        .collect()
}

/// Writes the list with the old header; missing reasons get the placeholder.
pub fn render<'a>(old: &str, keys: impl Iterator<Item = &'a String>) -> String {
    let listed = parse(old);
    let mut text = String::new();
    for line in old.lines().take_while(|line| line.starts_with('#')) {
        text.push_str(line);
        text.push('\n');
    }
    for key in keys {
        let reason = listed.get(key).map_or(NO_REASON, String::as_str);
        text.push_str(&format!("{key}: {reason}\n"));
    }
    text
}

/// The differences between the panics in `found`, each with a path to it, and the list in `file`: panics that are not
/// listed or have no reason, and lines without a panic. Empty if they agree.
pub fn compare(found: &BTreeMap<String, String>, listed: &BTreeMap<String, String>, file: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (key, path) in found {
        match listed.get(key) {
            None => wrong.push(format!(
                "`{key}` is reached by {path}: change the code, or add a line `{key}: reason` to {file}"
            )),
            Some(reason) if reason.is_empty() || reason == NO_REASON => {
                wrong.push(format!("`{key}`, reached by {path}, has no reason in {file}"));
            }
            Some(_) => {}
        }
    }
    for key in listed.keys().filter(|key| !found.contains_key(*key)) {
        wrong.push(format!("`{key}` is in {file} but is not reached: remove the line"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(file: &str) -> Site {
        Site {
            pc: 0,
            call: "panic_bounds_check".to_owned(),
            entered: Entered::Directly,
            location: Some((file.to_owned(), 7)),
        }
    }

    #[test]
    fn lines_are_in_the_key_for_dependencies_only() {
        let core = site("/rustc/0123abcd/library/core/src/slice/index.rs");
        assert_eq!(key(&core, "f"), "core/src/slice/index.rs:7 panic_bounds_check");
        let other = site("/home/a/.cargo/registry/src/index.x-1/arm-gic-0.6.1/src/a.rs");
        assert_eq!(key(&other, "f"), "arm-gic/src/a.rs:7 panic_bounds_check");
        assert_eq!(key(&site("hyp/src/pool.rs"), "f"), "hyp/src/pool.rs panic_bounds_check");
        let bare = Site { location: None, ..core };
        assert_eq!(key(&bare, "f::g"), "in f::g panic_bounds_check");
        assert_eq!(key(&Site { entered: Entered::ByJumpTable, ..bare }, "f::g"), "in jump tables panic_bounds_check");
    }

    #[test]
    fn new_stale_and_unexplained_panics_are_reported() {
        let listed = parse("# head\na.rs:1 x: never\nb.rs x: REASON MISSING\nin <A as B>::c brk: gone\n");
        let found = ["a.rs:1 x", "b.rs x", "c.rs x"].map(|key| (key.to_owned(), "v -> f".to_owned())).into();
        let wrong = compare(&found, &listed, "list.txt");
        assert_eq!(wrong.len(), 3);
        assert!(wrong.iter().any(|text| text.starts_with("`c.rs x` is reached by v -> f")));
        assert!(wrong.iter().any(|text| text.starts_with("`in <A as B>::c brk` is in")));
    }

    #[test]
    fn a_written_list_keeps_head_and_reasons() {
        let old = "# why\na x: never\nb x: gone\n";
        let keys = ["a x".to_owned(), "c x".to_owned()];
        assert_eq!(render(old, keys.iter()), "# why\na x: never\nc x: REASON MISSING\n");
    }
}
