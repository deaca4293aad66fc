//! Nothing that a host does may panic EL2. The lints see the source of our crates; this sees what was linked: dependencies, the standard
//! library, overflow checks in code that was generated. It lists every panic that the exception vectors still reach and compares the list
//! with a committed one, where each has its reason.

mod decode;
mod graph;
mod image;
mod list;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use test_machines::exec;
use test_machines::progress::{say, step};

use crate::check::Action;
use crate::check::panics::graph::Reach;
use crate::check::panics::image::Image;
use crate::check::panics::list::LIST;
use crate::checkout::Checkout;
use crate::setup::rust::{self, BARE_METAL};

/// The symbol of EL2's exception vectors.
const VECTORS: &str = "el2_vectors";
/// The map that the hypervisor's build script makes the linker write.
const MAP: &str = "hyp.map";

/// Compares the panics that EL2's exception vectors reach with the committed list.
///
/// # Errors
/// Naming each panic that is not listed, with a way there, or that is listed without need or without a reason.
pub(super) fn check(checkout: &Checkout, action: Action) -> Result<()> {
    rust::ensure_target(checkout)?;
    step("Checking for panics that a host can reach", || {
        let (elf, map) = build(checkout)?;
        let elf = fs::read(&elf).with_context(|| format!("cannot read {}", elf.display()))?;
        let map = fs::read_to_string(&map).with_context(|| format!("cannot read {}", map.display()))?;
        let found = find(&Image::read(&elf, &map)?)?;
        let path = checkout.root().join(LIST);
        let mut text = fs::read_to_string(&path).unwrap_or_default();
        if action == Action::Fix {
            text = list::render(&text, found.keys());
            fs::write(&path, &text).with_context(|| format!("cannot write {LIST}"))?;
            say(&format!("wrote {LIST}"));
        }
        let wrong = list::compare(&found, &list::parse(&text));
        if !wrong.is_empty() {
            bail!("{}", wrong.join("\n"));
        }
        Ok(())
    })
}

/// Panics that the vectors reach, each with a way there.
fn find(image: &Image) -> Result<BTreeMap<String, String>> {
    let reach = Reach::from_vectors(image, VECTORS).with_context(|| format!("the image has no symbol {VECTORS}"))?;
    ensure!(
        reach.lost().is_empty(),
        "cannot follow the addresses formed at {:x?}: teach xtask/src/check/panics about that code",
        reach.lost()
    );
    // A trap handler is hundreds of functions away from few: fewer mean that the graph is broken, not that EL2 is small.
    ensure!(reach.functions() > 20, "only {} functions are reached from {VECTORS}", reach.functions());
    let mut found = BTreeMap::new();
    for site in reach.sites() {
        let path = reach.path(site.pc);
        let key = list::key(&site, path.last().copied().unwrap_or("?"));
        found.entry(key).or_insert_with(|| format!("{} (at {:#x})", path.join(" -> "), site.pc));
    }
    Ok(found)
}

/// Builds the hypervisor that is shipped; returns its ELF file and the linker's map of the same link.
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
    Ok((elf.context("cargo names no image")?, map.context("cargo names no output of hyp's build script")?))
}
