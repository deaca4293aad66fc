//! The kernel modules to load, and their order. A Debian package has no
//! modules.dep (it is made when the package is installed), so dependencies are read
//! from the modules themselves.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, SectionHeader};

/// A module, decompressed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Module {
    /// Its name with underscores.
    pub name: String,
    /// Its ELF.
    pub bytes: Vec<u8>,
}

/// Returns `wanted` and all their dependencies, in the order of loading. Built-in modules are skipped.
///
/// # Errors
/// When one is neither a file nor built in, or cannot be read.
pub fn closure(modules: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut tree = Tree {
        files: index(&modules.join("kernel"))?,
        builtin: fs::read_to_string(modules.join("modules.builtin"))
            .unwrap_or_default()
            .lines()
            .filter_map(module_name)
            .collect(),
        loaded: Vec::new(),
    };
    for name in wanted {
        tree.visit(name, 0)?;
    }
    Ok(tree.loaded)
}

/// More than the depth of any chain of dependencies: a cycle ends at this depth.
const MAX_DEPTH: u32 = 16;

struct Tree {
    files: BTreeMap<String, PathBuf>,
    builtin: Vec<String>,
    loaded: Vec<Module>,
}

impl Tree {
    fn visit(&mut self, name: &str, depth: u32) -> Result<()> {
        let done = self.loaded.iter().any(|module| module.name == name);
        if done || self.builtin.iter().any(|builtin| builtin == name) {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            bail!("the modules' dependencies form a cycle at {name}");
        }
        let path = self.files.get(name).with_context(|| format!("the kernel has no module {name}"))?.clone();
        let bytes = read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        for dependency in depends(&bytes).with_context(|| format!("in {}", path.display()))? {
            self.visit(&dependency, depth + 1)?;
        }
        self.loaded.push(Module { name: name.to_owned(), bytes });
        Ok(())
    }
}

fn index(dir: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if let Some(name) = module_name(&path.to_string_lossy()) {
                files.insert(name, path);
            }
        }
    }
    Ok(files)
}

/// `kernel/drivers/x/virtio-blk.ko.xz` is the module `virtio_blk`.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let stem = file.strip_suffix(".xz").unwrap_or(file).strip_suffix(".ko")?;
    Some(stem.replace('-', "_"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|ext| ext == "xz") {
        let mut bytes = Vec::new();
        let mut file = BufReader::new(fs::File::open(path)?);
        if let Err(error) = lzma_rs::xz_decompress(&mut file, &mut bytes) {
            bail!("not an xz file that can be decompressed: {error:?}");
        }
        return Ok(bytes);
    }
    Ok(fs::read(path)?)
}

/// Reads `depends=` from the module's `.modinfo` section.
fn depends(elf: &[u8]) -> Result<Vec<String>> {
    let header = FileHeader64::<Endianness>::parse(elf).context("not a 64-bit ELF")?;
    let endian = header.endian()?;
    let sections = header.sections(endian, elf)?;
    let (_, section) = sections.section_by_name(endian, b".modinfo").context("no .modinfo section")?;
    let data = section.data(endian, elf)?;
    Ok(parse_depends(data))
}

fn parse_depends(modinfo: &[u8]) -> Vec<String> {
    modinfo
        .split(|byte| *byte == 0)
        .filter_map(|field| field.strip_prefix(b"depends="))
        .flat_map(|list| list.split(|byte| *byte == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_names_use_underscores() {
        assert_eq!(module_name("kernel/drivers/block/virtio-blk.ko.xz").as_deref(), Some("virtio_blk"));
        assert_eq!(module_name("kernel/fs/x.ko").as_deref(), Some("x"));
        assert_eq!(module_name("kernel/fs/x.txt"), None);
    }

    #[test]
    fn depends_is_a_list_that_may_be_empty() {
        assert_eq!(parse_depends(b"license=GPL\0depends=nvme-core,uio\0name=x\0"), ["nvme_core", "uio"]);
        assert!(parse_depends(b"depends=\0").is_empty());
    }
}
