//! The device trees of real boards, as distributions ship them beside their kernels. Ignored by default: the folder with the
//! `.dtb` files is named by `PORTCULLIS_DTBS`, the file to write a line a board to by `PORTCULLIS_DTBS_REPORT`.
//!
//! Firmware completes such a tree: memory may be missing, and the modules are. So the test adds them. Each board is
//! tried twice: as it is, and with an SMMU, a GICv3 and PSCI where it has none, so that the rest of its tree is
//! checked too.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::string::String;
use std::vec::Vec;
use std::{env, fs, panic, println};

use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use dtoolkit::{Node, Property};
use io_pgtable::Pa;

use super::virt::*;
use crate::boot_info::memory::Memory;
use crate::boot_info::range::RangeSet;
use crate::boot_info::tree::Tree;
use crate::boot_info::{MmioPolicy, PhysRange, Platform, Request, layout, plan};

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "dtb") {
            found.push(path);
        }
    }
}

fn cell(node: &DeviceTreeNode, name: &str) -> Option<u32> {
    node.property(name).and_then(|p| p.value().first_chunk().map(|c| u32::from_be_bytes(*c)))
}

fn is_compatible(node: &DeviceTreeNode, wanted: &str) -> bool {
    node.property("compatible").is_some_and(|p| p.value().split(|&b| b == 0).any(|s| s == wanted.as_bytes()))
}

fn any(node: &DeviceTreeNode, wanted: &str) -> bool {
    is_compatible(node, wanted) || node.children().any(|child| any(child, wanted))
}

fn number(value: u64, cells: u32) -> Vec<u8> {
    value.to_be_bytes()[8 - 4 * cells as usize..].to_vec()
}

/// Adds 1 GiB of memory if the tree has less than 512 MiB.
fn fill_memory(tree: &mut DeviceTree) -> bool {
    let root = &mut tree.root;
    let (Some(a), Some(s)) = (cell(root, "#address-cells"), cell(root, "#size-cells")) else { return false };
    if !(1..=2).contains(&a) || !(1..=2).contains(&s) {
        return false;
    }
    let is_memory = |n: &DeviceTreeNode| n.property("device_type").is_some_and(|p| p.value() == b"memory\0");
    let names: Vec<String> = root.children().filter(|n| is_memory(n)).map(|n| n.name().into()).collect();
    let entry = 4 * (a + s) as usize;
    let mut largest = 0;
    let mut base = 0x8000_0000u64;
    for name in &names {
        let reg = root.child(name).and_then(|n| n.property("reg").map(|p| p.value().to_vec())).unwrap_or_default();
        for part in reg.chunks_exact(entry) {
            let read = |bytes: &[u8]| bytes.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
            let (address, size) = (read(&part[..4 * a as usize]), read(&part[4 * a as usize..]));
            largest = largest.max(size);
            base = if address == 0 { base } else { address };
        }
    }
    if largest >= 512 * MIB {
        return true;
    }
    for name in &names {
        root.remove_child(name);
    }
    let reg = [number(base, a), number(1024 * MIB, s)].concat();
    root.add_child(node("memory@0", &[("reg", reg), ("device_type", text(&["memory"]))]));
    true
}

/// Adds what EL2 requires, at addresses that boards do not use.
fn complete(tree: &mut DeviceTree) {
    let root = &mut tree.root;
    if !any(root, "arm,gic-v3") {
        let mut gic = virt(1, 1024 * MIB).root.child("intc@8000000").unwrap().clone();
        set(
            &mut gic,
            &[("reg", wide(&[0xf_f800_0000, 0x1_0000, 0xf_f80a_0000, 0xf6_0000])), ("phandle", cells(&[0xfff0]))],
        );
        gic.remove_child("its@8080000");
        let mut bus =
            node("added", &[("#address-cells", cells(&[2])), ("#size-cells", cells(&[2])), ("ranges", std::vec![])]);
        bus.add_child(gic);
        root.add_child(bus);
    }
    if !any(root, "arm,smmu-v3") {
        let mut smmu = virt(1, 1024 * MIB).root.child("smmuv3@9050000").unwrap().clone();
        set(&mut smmu, &[("reg", wide(&[0xf_f905_0000, 0x2_0000])), ("phandle", cells(&[0xfff1]))]);
        smmu.remove_property("interrupts");
        smmu.remove_property("interrupt-names");
        let mut bus =
            node("added2", &[("#address-cells", cells(&[2])), ("#size-cells", cells(&[2])), ("ranges", std::vec![])]);
        bus.add_child(smmu);
        root.add_child(bus);
    }
    root.remove_child("psci");
    root.add_child(node("psci", &[("method", text(&["smc"])), ("compatible", text(&["arm,psci-1.0"]))]));
    if let Some(cpus) = root.child_mut("cpus") {
        let names: Vec<String> = cpus.children().map(|n| n.name().into()).collect();
        for name in names {
            let cpu = cpus.child_mut(&name).unwrap();
            if cpu.property("enable-method").is_some() {
                set(cpu, &[("enable-method", text(&["psci"]))]);
            }
        }
    }
}

/// The node, named `name`, without properties whose names are longer than the specification has them, and with node names cut.
fn cut_names(from: &DeviceTreeNode, name: &str) -> DeviceTreeNode {
    let mut short = DeviceTreeNode::new(name).unwrap();
    for property in from.properties().filter(|p| p.name().len() <= 31) {
        set(&mut short, &[(property.name(), property.value().to_vec())]);
    }
    for (at, child) in from.children().enumerate() {
        let (base, unit) = child.name().split_once('@').unwrap_or((child.name(), ""));
        let base = if base.len() > 31 { std::format!("{}-{at}", &base[..24]) } else { base.into() };
        let name = if unit.is_empty() { base } else { std::format!("{base}@{unit}") };
        short.add_child(cut_names(child, &name));
    }
    short
}

/// Boots the board; the message of a refusal.
fn try_boot(mut tree: DeviceTree) -> Result<String, String> {
    if !fill_memory(&mut tree) {
        return Err("(no cell counts)".into());
    }
    let bare = tree.to_dtb();
    let parsed = Tree::parse(&bare).map_err(|e| std::format!("{e}"))?;
    let memory = Memory::find(&parsed).map_err(|e| std::format!("{e}"))?;
    let mut free = RangeSet::<512>::new();
    memory.ram.iter().for_each(|r| free.insert(*r).unwrap());
    memory.reserved.iter().for_each(|r| free.remove(r).unwrap());
    let mut place = |size: u64| {
        let found = free.iter().find_map(|r| {
            let start = r.base().0.next_multiple_of(2 * MIB);
            PhysRange::new(Pa(start), size).filter(|p| r.contains(p))
        });
        found.inspect(|p| free.remove(p).unwrap())
    };
    let (Some(image), Some(dtb), Some(kernel), Some(ramdisk)) =
        (place(2 * MIB), place(2 * MIB), place(64 * MIB), place(16 * MIB))
    else {
        return Err("(no room for modules)".into());
    };
    let cells_two = [("#address-cells", cells(&[2])), ("#size-cells", cells(&[2]))];
    let root = &mut tree.root;
    if root.child("chosen").is_none() {
        root.add_child(node("chosen", &[]));
    }
    let chosen = root.child_mut("chosen").unwrap();
    set(chosen, &[("bootargs", text(&[&std::format!("token={TOKEN}")]))]);
    set(chosen, &cells_two);
    for (name, kind, range) in [("module@1", "multiboot,kernel", kernel), ("module@2", "multiboot,ramdisk", ramdisk)] {
        let reg = wide(&[range.base().0, range.size() / 2]);
        chosen.add_child(node(name, &[("compatible", text(&["multiboot,module", kind])), ("reg", reg)]));
    }
    let bytes = tree.to_dtb();
    let header = kernel_header(kernel.size());
    let request =
        Request { image, dtb: range(dtb.base().0, bytes.len() as u64), pool_size: 32 * MIB, kernel_header: &header };
    let refused = |e| std::format!("{e}");
    let platform = Platform::parse(&bytes).map_err(refused)?;
    let policy = MmioPolicy::decide(&platform).map_err(refused)?;
    let layout = layout::plan(&platform, &request).map_err(refused)?;
    plan::check(&platform, &policy, &layout).map_err(refused)?;
    let mut given = String::new();
    for decision in policy.decisions() {
        if !policy.is_withheld(decision.node) {
            write!(given, " {}={:?}", platform.path(decision.node), decision.verdict).unwrap();
        }
    }
    Ok(std::format!("{} decisions; given{given}", policy.decisions().len()))
}

#[test]
#[ignore = "needs a folder of device trees: PORTCULLIS_DTBS"]
fn real_boards_cause_no_panic() {
    let folder = env::var_os("PORTCULLIS_DTBS").expect("PORTCULLIS_DTBS");
    let mut found = Vec::new();
    files(Path::new(&folder), &mut found);
    found.sort();
    assert!(!found.is_empty(), "no device trees in {}", folder.display());
    let mut report = String::new();
    let (mut panics, mut long_names) = (0, 0);
    let mut accepted = [0, 0];
    for path in &found {
        let bytes = fs::read(path).unwrap();
        let name = path.strip_prefix(&folder).unwrap().display();
        // Names of more than 31 characters are truncated, since such trees are refused for that reason.
        let mut whole = DeviceTree::from_fdt(&Fdt::new_unchecked(&bytes));
        if Fdt::new(&bytes).is_err() {
            long_names += 1;
            whole.root = cut_names(&whole.root, whole.root.name());
        }
        for completed in [false, true] {
            let mut tree = whole.clone();
            if completed {
                complete(&mut tree);
            }
            let line = match panic::catch_unwind(|| try_boot(tree)) {
                Ok(Ok(line)) => {
                    accepted[usize::from(completed)] += 1;
                    std::format!("accepted: {line}")
                }
                Ok(Err(line)) => std::format!("refused: {line}"),
                Err(_) => {
                    panics += 1;
                    "panicked".into()
                }
            };
            writeln!(report, "{name} {}: {line}", if completed { "completed" } else { "as it is" }).unwrap();
        }
    }
    if let Some(file) = env::var_os("PORTCULLIS_DTBS_REPORT") {
        fs::write(file, &report).unwrap();
    }
    println!("{long_names} trees with names that are too long");
    println!("{} trees: {} accepted as they are, {} with what EL2 needs", found.len(), accepted[0], accepted[1]);
    assert_eq!(panics, 0);
}
