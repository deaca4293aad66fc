//! A host must not be able to make EL2 panic. The panics that the exception vectors reach in the linked image are
//! compared with a committed list, which has a reason for each (crate `reachable-panics`). The stack of a take-over is
//! read from the same image.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use reachable_panics::{Entry, find, list, stack};
use serde_json::Value;
use test_machines::exec;
use test_machines::progress::{say, step};

use crate::check::Action;
use crate::checkout::Checkout;
use crate::setup::rust::{self, BARE_METAL};

/// The committed list.
const LIST: &str = "xtask/reachable-panics.txt";
/// The hypervisor's function that ends a run at a panic.
const PANICS: [&str; 1] = ["hyp::exit::fatal"];
/// The function that takes an SMMU over, and the limit of its stack.
const TAKE_OVER: &str = "hyp::iommu::take_over";
const TAKE_OVER_STACK: u64 = 4096;
/// A trap handler reaches hundreds of functions. If fewer than this are found, the graph is incomplete.
const MIN_FUNCTIONS: usize = 20;
/// The symbol of EL2's exception vectors.
const VECTORS: &str = "el2_vectors";
/// The linker map, requested by the hypervisor's build script.
const MAP: &str = "hyp.map";

/// Compares the panics that EL2's exception vectors reach with the committed list.
///
/// # Errors
/// Lists each unlisted panic, with a call path, and each listed one that is not reached or has no reason.
pub(super) fn check(checkout: &Checkout, action: Action) -> Result<()> {
    rust::ensure_target(checkout)?;
    step("Checking for panics that a host can reach", || {
        let (elf, map) = build(checkout)?;
        let elf = fs::read(&elf).with_context(|| format!("cannot read {}", elf.display()))?;
        let map = fs::read_to_string(&map).with_context(|| format!("cannot read {}", map.display()))?;
        let found = find(&elf, &map, &[Entry::Vectors(VECTORS)], &PANICS)?;
        let functions = found.functions();
        ensure!(functions > MIN_FUNCTIONS, "only {functions} functions are reached from {VECTORS}");
        let found = found.panics();
        let path = checkout.root().join(LIST);
        let mut text = fs::read_to_string(&path).unwrap_or_default();
        if action == Action::Fix {
            text = list::render(&text, found.keys());
            fs::write(&path, &text).with_context(|| format!("cannot write {LIST}"))?;
            say(&format!("wrote {LIST}"));
        }
        check_stack(&elf, &map)?;
        let wrong = list::compare(found, &list::parse(&text), LIST);
        if !wrong.is_empty() {
            bail!("{}", wrong.join("\n"));
        }
        Ok(())
    })
}

/// Compares the stack that the take-over of an SMMU needs with its limit.
fn check_stack(elf: &[u8], map: &str) -> Result<()> {
    let deepest = stack::deepest(elf, map, TAKE_OVER, &PANICS)?;
    ensure!(
        deepest.bytes <= TAKE_OVER_STACK,
        "{TAKE_OVER} needs {} bytes of stack, more than {TAKE_OVER_STACK}: {:?}",
        deepest.bytes,
        deepest.path
    );
    Ok(())
}

/// Builds the release hypervisor; returns its ELF file and the linker's map of the same link.
fn build(checkout: &Checkout) -> Result<(PathBuf, PathBuf)> {
    let mut cargo = checkout.cargo();
    cargo.args(["build", "--quiet", "--release", "--target", BARE_METAL, "-p", "hyp", "--bin", "hyp"]);
    cargo.arg("--message-format=json-render-diagnostics");
    let messages = exec::output(&mut cargo)?;
    let (mut elf, mut map) = (None, None);
    for message in messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let text = |key: &str| message.get(key).and_then(Value::as_str);
        match text("reason") {
            Some("compiler-artifact") => elf = text("executable").map(PathBuf::from).or(elf),
            Some("build-script-executed") if text("package_id").is_some_and(|id| id.contains("/hyp#")) => {
                map = text("out_dir").map(|dir| PathBuf::from(dir).join(MAP));
            }
            _ => {}
        }
    }
    Ok((elf.context("cargo reports no image")?, map.context("cargo reports no output of hyp's build script")?))
}
