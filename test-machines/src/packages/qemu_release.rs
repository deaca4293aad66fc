//! QEMU 11 in addition to the installed QEMU: the package of Debian 13 with all its libraries, unpacked below the build
//! folder and run by its own dynamic linker. Nothing is installed, and no root is needed.
//!
//! Its `-cpu max` has features that QEMU 10 lacks, and Linux uses them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::packages::apt::{PrivateApt, Release, Side, ensure_unpacked};
use crate::work::WorkFolder;

/// The value of `--qemu` that selects it.
pub const NAME: &str = "11";
const PACKAGE: &str = "qemu-system-arm";
const PROGRAM: &str = "qemu-system-aarch64";
/// Dynamic linkers of the supported build machines, with the names that their ABIs define.
const LINKERS: [&str; 2] = ["usr/lib64/ld-linux-x86-64.so.2", "usr/lib/ld-linux-aarch64.so.1"];

/// Fetches QEMU 11 unless it exists; returns the program to start.
///
/// # Errors
/// When apt is missing, no mirror of Debian is known or responds, or this machine is of another architecture.
pub fn ensure(work: &WorkFolder) -> Result<PathBuf> {
    let dir = work.dir("")?.join("qemu-11");
    ensure_unpacked(work, &dir, "QEMU 11 of Debian 13", |into| {
        let fetched =
            PrivateApt::prepare(work, Side::Build, Release::Trixie).and_then(|apt| apt.unpack_closure(PACKAGE, into));
        fetched.context("QEMU 11 comes from Debian 13's backports; select another QEMU with --qemu FILE")?;
        make_startable(into)
    })?;
    Ok(dir.join(PROGRAM))
}

/// Adds the links that Debian's base system has, and a script that starts the program from any folder.
fn make_startable(dir: &Path) -> Result<()> {
    for name in ["lib", "lib64"] {
        let (link, target) = (dir.join(name), Path::new("usr").join(name));
        if dir.join(&target).is_dir() && !link.exists() {
            symlink(&target, &link).with_context(|| format!("cannot make {}", link.display()))?;
        }
    }
    let linker = LINKERS.into_iter().find(|path| dir.join(path).is_file());
    let linker =
        linker.context("QEMU 11 is supported on amd64 and arm64 only; select another QEMU with --qemu FILE")?;
    let libraries = library_folder(dir)?;
    let file = dir.join(PROGRAM);
    fs::write(&file, script(linker, &libraries))
        .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Folder of the libraries of this architecture, for example `usr/lib/x86_64-linux-gnu`.
fn library_folder(dir: &Path) -> Result<String> {
    let name = fs::read_dir(dir.join("usr/lib"))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|name| name.ends_with("-linux-gnu"));
    let name = name.with_context(|| format!("no libraries in {}", dir.display()))?;
    Ok(format!("usr/lib/{name}"))
}

/// `exec` keeps the process id, so killing the started process kills QEMU.
fn script(linker: &str, libraries: &str) -> String {
    format!(
        "#!/bin/sh\n\
         r=$(cd \"$(dirname \"$0\")\" && pwd)\n\
         QEMU_MODULE_DIR=$r/{libraries}/qemu exec \"$r/{linker}\" \\\n    \
             --library-path \"$r/{libraries}:$r/{libraries}/pulseaudio\" \\\n    \
             \"$r/usr/bin/{PROGRAM}\" -L \"$r/usr/share/qemu\" \"$@\"\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec;
    use std::process::Command;

    #[test]
    fn the_script_starts_the_program_from_any_folder() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("portcullis qemu {}", std::process::id()));
        for folder in ["usr/lib64", "usr/lib/x86_64-linux-gnu"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        let linker = dir.join("usr/lib64/ld-linux-x86-64.so.2");
        fs::write(&linker, "#!/bin/sh\necho \"$QEMU_MODULE_DIR\"; for a; do echo \"$a\"; done\n")?;
        fs::set_permissions(&linker, fs::Permissions::from_mode(0o755))?;
        make_startable(&dir)?;
        let text = exec::output(Command::new(dir.join(PROGRAM)).args(["-cpu", "max,a=b c"]))?;
        let root = dir.display();
        let libraries = format!("{root}/usr/lib/x86_64-linux-gnu");
        let wanted = format!(
            "{libraries}/qemu\n--library-path\n{libraries}:{libraries}/pulseaudio\n{root}/usr/bin/{PROGRAM}\n-L\n\
             {root}/usr/share/qemu\n-cpu\nmax,a=b c\n"
        );
        assert_eq!(text, wanted);
        assert!(fs::symlink_metadata(dir.join("lib64"))?.is_symlink());
        fs::remove_dir_all(&dir)?;
        Ok(())
    }

    #[test]
    fn another_architecture_gets_an_error_with_a_remedy() -> Result<()> {
        let dir = std::env::temp_dir().join(format!("portcullis-qemu-none-{}", std::process::id()));
        fs::create_dir_all(dir.join("usr/lib/riscv64-linux-gnu"))?;
        let text = make_startable(&dir).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains("--qemu FILE"), "{text}");
        fs::remove_dir_all(&dir)?;
        Ok(())
    }
}
