//! Coverage of the driver and of the guard of the GIC by the corpora: runs the targets, built with coverage counters, on
//! every input.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use test_machines::exec;
use test_machines::progress::step;

use super::{Target, build, run};
use crate::checkout::Checkout;
use crate::setup::rust;

/// Modules whose coverage is added up: a folder, and modules in it, or all of its modules if the list is empty.
struct Part {
    folder: &'static str,
    modules: &'static [&'static str],
}

/// The emulation, the queues and the stream table of the driver.
const DRIVER: Part = Part {
    folder: "smmu-drv/src/",
    modules: &["smmu/emul/", "smmu/device/el2_cmdq.rs", "smmu/device/el2_eventq.rs", "smmu/shadow/"],
};
/// The guard of the GIC.
const GUARD: Part = Part { folder: "gic-guard/src/", modules: &[] };
/// Minimum percentage of reached regions of a part.
const WANTED: u64 = 95;
/// Number of inputs that one process runs.
const AT_ONCE: usize = 100;

/// Prints regions reached per module.
///
/// # Errors
/// When the tools are missing, or coverage is below [`WANTED`] per cent.
pub(super) fn print(checkout: &Checkout, targets: &[Target], jobs: u8) -> Result<()> {
    rust::ensure_llvm_tools(checkout)?;
    let tools = tools(checkout)?;
    let folder = checkout.work_dir("fuzz/coverage")?;
    let programs = step("Building the fuzz targets with counters", || build_counting(checkout, targets, &folder))?;
    let profiles = folder.join("profiles");
    if profiles.is_dir() {
        fs::remove_dir_all(&profiles)?;
    }
    let mut runs = Vec::new();
    for target in targets {
        for inputs in run::inputs(checkout, *target)?.chunks(AT_ONCE) {
            let mut command = Command::new(programs.join(target.name()));
            command.arg("-detect_leaks=0").args(inputs).env("LLVM_PROFILE_FILE", profiles.join("%p-%m.profraw"));
            runs.push(command);
        }
    }
    step("Running every input", || at_once(runs, jobs))?;
    let merged = folder.join("all.profdata");
    let raw: Vec<PathBuf> = fs::read_dir(&profiles)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    exec::output(Command::new(tools.join("llvm-profdata")).args(["merge", "-sparse", "-o"]).arg(&merged).args(raw))?;
    let mut export = Command::new(tools.join("llvm-cov"));
    export.args(["export", "-summary-only", "-instr-profile"]).arg(&merged);
    for (number, target) in targets.iter().enumerate() {
        if number > 0 {
            export.arg("-object");
        }
        export.arg(programs.join(target.name()));
    }
    let export = serde_json::from_str(&exec::output(&mut export)?)?;
    let guard = targets.contains(&Target::Gic).then(|| report(&export, &GUARD));
    let driver = targets.iter().any(|target| *target != Target::Gic).then(|| report(&export, &DRIVER));
    guard.into_iter().chain(driver).collect()
}

/// Runs `commands`, `jobs` at a time.
fn at_once(commands: Vec<Command>, jobs: u8) -> Result<()> {
    let waiting = Mutex::new(commands);
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let worker = || {
        while let Some(mut command) = next() {
            exec::output(&mut command)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")))
    })
}

/// Builds the targets with the compiler's instrumentation and without libFuzzer's.
fn build_counting(checkout: &Checkout, targets: &[Target], folder: &Path) -> Result<PathBuf> {
    let mut cargo = checkout.cargo();
    cargo.args(["build", "--release", "--manifest-path"]).arg(checkout.root().join("fuzz/Cargo.toml"));
    cargo.args(targets.iter().flat_map(|target| ["--bin", target.name()]));
    cargo.env("CARGO_TARGET_DIR", folder).env("RUSTFLAGS", "-Cinstrument-coverage");
    // Build scripts are instrumented too; send their profiles elsewhere.
    cargo.env("LLVM_PROFILE_FILE", folder.join("build/%p-%m.profraw"));
    exec::output(&mut cargo)?;
    Ok(folder.join("release"))
}

/// The folder of the pinned toolchain's llvm-cov.
fn tools(checkout: &Checkout) -> Result<PathBuf> {
    let sysroot = exec::output(Command::new("rustc").current_dir(checkout.root()).args(["--print", "sysroot"]))?;
    Ok(Path::new(sysroot.trim()).join("lib/rustlib").join(build::host(checkout)?).join("bin"))
}

/// Regions of a module: all, and those that were reached.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Regions {
    all: u64,
    reached: u64,
}

impl Regions {
    fn percent(self) -> u64 {
        (self.reached * 100).checked_div(self.all).unwrap_or(0)
    }
}

/// The files of the part, with their regions.
fn regions<'e>(export: &'e Value, part: &Part) -> Option<Vec<(&'e str, Regions)>> {
    let files = export.pointer("/data/0/files")?.as_array()?;
    let mut out = Vec::new();
    for file in files {
        let Some((_, name)) = file.get("filename")?.as_str()?.split_once(part.folder) else { continue };
        if !part.modules.is_empty() && !part.modules.iter().any(|module| name.starts_with(module)) {
            continue;
        }
        let number =
            |key| file.pointer("/summary/regions").and_then(|regions| regions.get(key)).and_then(Value::as_u64);
        out.push((name, Regions { all: number("count")?, reached: number("covered")? }));
    }
    Some(out)
}

fn report(export: &Value, part: &Part) -> Result<()> {
    let files = regions(export, part).context("llvm-cov's report has an unknown format")?;
    let mut total = Regions::default();
    println!("{:24} {:>8} {:>8}  %", part.folder, "regions", "reached");
    for (name, Regions { all, reached }) in &files {
        println!("{name:24} {all:8} {reached:8}  {}", Regions { all: *all, reached: *reached }.percent());
        total = Regions { all: total.all + all, reached: total.reached + reached };
    }
    println!("{:24} {:8} {:8}  {}", "together", total.all, total.reached, total.percent());
    if total.percent() < WANTED {
        bail!(
            "{} % of the regions of {} are reached, {WANTED} % are required: fuzz longer, or extend the actions",
            total.percent(),
            part.folder
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_modules_of_the_part_are_added_up() {
        let file = |name: &str, count: u64, covered: u64| serde_json::json!({"filename": format!("/x/{name}"), "summary": {"regions": {"count": count, "covered": covered}}});
        let export = serde_json::json!({"data": [{"files": [file("smmu-drv/src/smmu/emul/mod.rs", 10, 9), file("smmu-drv/src/smmu/probe.rs", 5, 0), file("smmu-drv/src/smmu/device/el2_cmdq.rs", 4, 4), file("gic-guard/src/guard/rd.rs", 100, 95)]}]});
        let found = regions(&export, &DRIVER).unwrap_or_default();
        assert_eq!(
            found,
            [
                ("smmu/emul/mod.rs", Regions { all: 10, reached: 9 }),
                ("smmu/device/el2_cmdq.rs", Regions { all: 4, reached: 4 })
            ]
        );
        assert!(report(&export, &DRIVER).is_err());
        assert!(report(&export, &GUARD).is_ok());
        assert_eq!(Regions { all: 200, reached: 189 }.percent(), 94);
    }
}
