//! Shared libraries of a dynamically linked guest program, from unpacked packages.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{Dyn, FileHeader};

/// Library folders of Debian's packages for arm64.
const FOLDERS: [&str; 3] = ["lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib"];

/// A file for `lib`, with the name in programs' `DT_NEEDED` entries.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Library {
    /// For example `libz.so.1`.
    pub name: String,
    /// Its ELF.
    pub bytes: Vec<u8>,
}

/// All libraries that `program` needs, directly or not, and the dynamic linker.
///
/// # Errors
/// When a library is not below `root`, or a file is not an ELF file.
pub fn libraries(root: &Path, program: &[u8]) -> Result<Vec<Library>> {
    let files = index(root);
    let mut found: Vec<Library> = Vec::new();
    let mut wanted = needed(program).context("the program")?;
    while let Some(name) = wanted.pop() {
        if found.iter().any(|library| library.name == name) {
            continue;
        }
        let path = files.get(&name).with_context(|| format!("no {name} in {}", root.display()))?;
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        wanted.extend(needed(&bytes).with_context(|| path.display().to_string())?);
        found.push(Library { name, bytes });
    }
    Ok(found)
}

fn index(root: &Path) -> BTreeMap<String, PathBuf> {
    let mut files = BTreeMap::new();
    for entry in FOLDERS.iter().filter_map(|folder| fs::read_dir(root.join(folder)).ok()).flatten().flatten() {
        files.entry(entry.file_name().to_string_lossy().into_owned()).or_insert_with(|| entry.path());
    }
    files
}

/// The names in an ELF's `DT_NEEDED` entries.
fn needed(elf: &[u8]) -> Result<Vec<String>> {
    let header = FileHeader64::<Endianness>::parse(elf).context("not a 64-bit ELF")?;
    let endian = header.endian()?;
    let sections = header.sections(endian, elf)?;
    let Some((entries, strings)) = sections.dynamic(endian, elf)? else {
        return Ok(Vec::new());
    };
    let strings = sections.strings(endian, elf, strings)?;
    let names = entries.iter().filter(|entry| entry.tag(endian) == DT_NEEDED);
    names.map(|entry| Ok(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_names_its_libraries() -> Result<()> {
        // The test itself is a dynamically linked program of the build machine.
        let names = needed(&fs::read(std::env::current_exe()?)?)?;
        assert!(names.iter().any(|name| name.starts_with("libc.so")), "{names:?}");
        Ok(())
    }

    #[test]
    fn a_missing_library_is_reported_with_its_name() -> Result<()> {
        let text = libraries(Path::new("/nonexist"), &fs::read(std::env::current_exe()?)?);
        let text = text.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.ends_with("in /nonexist"), "{text}");
        assert!(needed(b"no elf").is_err());
        Ok(())
    }
}
