//! Independent oracle for accepted trees: uses another parser, and translates address ranges from bus to bus.

use std::collections::BTreeMap;
use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use dtoolkit::{Node, Property};

use crate::boot_info::policy::{Given, Verdict};
use crate::boot_info::{Layout, MmioPolicy, PhysRange, Platform};

/// First and last address.
type Span = (u128, u128);

/// A range of a bus: its bus address, its CPU address and its size.
type Segment = (u128, u128, u128);

struct Seen<'t> {
    node: &'t DeviceTreeNode,
    path: String,
    on: bool,
    registers: Vec<Span>,
    windows: Vec<Span>,
}

fn value(node: &DeviceTreeNode, name: &str) -> Option<Vec<u8>> {
    node.property(name).map(|p| p.value().to_vec())
}

fn okay(node: &DeviceTreeNode) -> bool {
    value(node, "status").is_none_or(|s| s == b"okay\0" || s == b"ok\0")
}

fn cells(node: &DeviceTreeNode, name: &str) -> Vec<u32> {
    let value = value(node, name).unwrap_or_default();
    value.chunks_exact(4).map(|c| u32::from_be_bytes(c.try_into().unwrap())).collect()
}

fn count(node: &DeviceTreeNode, name: &str) -> usize {
    cells(node, name).first().map_or(0, |&n| (n as usize).min(8))
}

fn join(cells: &[u32]) -> u128 {
    cells.iter().fold(0, |n, &c| n << 32 | u128::from(c))
}

fn is(node: &DeviceTreeNode, compatible: &str) -> bool {
    value(node, "compatible").is_some_and(|v| v.split(|&b| b == 0).any(|s| s == compatible.as_bytes()))
}

/// The CPU address of `size` bytes at `at`.
fn translate(segments: &[Segment], at: u128, size: u128) -> Vec<Span> {
    let through = |&(from, to, length): &Segment| {
        let (first, end) = (at.max(from), (at + size).min(from + length));
        (first < end).then(|| (first - from + to, end - from + to - 1))
    };
    segments.iter().filter_map(through).collect()
}

fn walk<'t>(
    node: &'t DeviceTreeNode,
    path: &str,
    on: bool,
    bus: &[Segment],
    counts: (usize, usize),
    seen: &mut Vec<Seen<'t>>,
) {
    let on = on && okay(node);
    let root = path.is_empty();
    let (address, size) = counts;
    let mut registers = Vec::new();
    if !root && (1..=2).contains(&address) && size > 0 {
        for entry in cells(node, "reg").chunks_exact(address + size) {
            registers.extend(translate(bus, join(&entry[..address]), join(&entry[address..])));
        }
    }
    let inner = (count(node, "#address-cells"), count(node, "#size-cells"));
    let mut windows = Vec::new();
    let mut shown = Vec::new();
    match value(node, "ranges").as_deref() {
        _ if root => shown = bus.to_vec(),
        Some([]) => shown = bus.to_vec(),
        Some(_) if (1..=2).contains(&address) && inner.0 > 0 => {
            for entry in cells(node, "ranges").chunks_exact(inner.0 + address + inner.1) {
                let (from, rest) = entry.split_at(inner.0);
                let (to, length) = rest.split_at(address);
                for (first, last) in translate(bus, join(to), join(length)) {
                    windows.push((first, last));
                    if inner.0 <= 2 {
                        // Supports only the usual case: the parent bus maps the whole entry.
                        shown.push((join(from), first, last - first + 1));
                    }
                }
            }
        }
        Some(_) | None => {}
    }
    let path_shown = if root { "/".to_string() } else { path.to_string() };
    seen.push(Seen { node, path: path_shown, on, registers, windows });
    for child in node.children() {
        walk(child, &format!("{path}/{}", child.name()), on, &shown, inner, seen);
    }
}

fn span(range: &PhysRange) -> Span {
    (u128::from(range.base().0), u128::from(range.end().0) - 1)
}

/// The first overlap, in pages, of `spans` with `others`.
fn overlap(spans: &[Span], others: &[Span]) -> Option<(Span, Span)> {
    let page = |address: u128| address >> 12;
    let touch = |a: &Span, b: &Span| page(a.0) <= page(b.1) && page(b.0) <= page(a.1);
    spans.iter().find_map(|a| others.iter().find(|b| touch(a, b)).map(|b| (*a, *b)))
}

/// Panics if `policy` does not follow the rules in `content`, or gives a DMA master by a rule.
pub(super) fn check_rules(dtb: &[u8], content: &[u8], platform: &Platform<'_>, policy: &MmioPolicy) {
    let tree = DeviceTree::from_fdt(&Fdt::new_unchecked(dtb));
    let mut seen = Vec::new();
    walk(&tree.root, "", true, &[(0, 0, 1 << 64)], (2, 2), &mut seen);
    let content = String::from_utf8(content.to_vec()).expect("rules that are not UTF-8 were accepted");
    let rules = |word: &str| -> Vec<String> {
        let lines = content.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
        lines.filter(|words| words.first() == Some(&word)).map(|words| words[1].to_string()).collect()
    };
    let (give, withhold) = (rules("give"), rules("withhold"));
    let verdicts: BTreeMap<String, Verdict> =
        policy.decisions().iter().map(|d| (platform.path(d.node).to_string(), d.verdict)).collect();
    for Seen { node, path, on, windows, .. } in &seen {
        let first = value(node, "compatible").and_then(|v| v.split(|&b| b == 0).next().map(<[u8]>::to_vec));
        let is_master = ["iommus", "iommu-map"].iter().any(|name| value(node, name).is_some());
        match verdicts.get(path) {
            Some(Verdict::Given(Given::Rule { .. })) => {
                assert!(give.iter().any(|name| first.as_deref() == Some(name.as_bytes())), "no rule gives {path}");
                let bridge = !windows.is_empty() && count(node, "#address-cells") == 3;
                assert!(*on && !is_master && !bridge, "{path} is disabled, or a DMA master");
                let bad = ["qemu,fw-cfg-mmio", "cfi-flash", "qemu,platform", "arm,smmu-v3", "virtio,mmio"];
                assert!(!bad.iter().any(|name| is(node, name)), "{path} is in the table of bindings");
            }
            Some(Verdict::Given(Given::Allowed)) => continue,
            Some(Verdict::Given(_) | Verdict::Withheld(_) | Verdict::Emulated) | None => {}
        }
        if let Some(Verdict::Given(_) | Verdict::Emulated) = verdicts.get(path) {
            assert!(!withhold.iter().any(|name| is(node, name)), "a rule withholds {path}");
        }
    }
}

/// Panics if `policy` or `layout` gives the host a range that `dtb` does not allow.
pub(super) fn check(dtb: &[u8], platform: &Platform<'_>, policy: &MmioPolicy, layout: &Layout) {
    let tree = DeviceTree::from_fdt(&Fdt::new_unchecked(dtb));
    let mut seen = Vec::new();
    let all = [(0, 0, 1 << 64)];
    walk(&tree.root, "", true, &all, (2, 2), &mut seen);

    let host_ram: Vec<Span> = layout.host_ram.iter().map(span).collect();
    let mmio: Vec<Span> = policy.mmio().iter().map(span).collect();
    let own = vec![span(&layout.image), span(&layout.pool)];
    assert_eq!(overlap(&host_ram, &mmio), None, "memory and registers");
    for (what, hosts) in [("memory", &host_ram), ("registers", &mmio)] {
        assert_eq!(overlap(&own, hosts), None, "EL2's memory and the host's {what}");
    }

    let verdicts: BTreeMap<String, Verdict> =
        policy.decisions().iter().map(|d| (platform.path(d.node).to_string(), d.verdict)).collect();
    let bridge =
        |path: &String| matches!(verdicts.get(path), Some(Verdict::Given(Given::Pci { .. } | Given::PciBuses { .. })));
    let hosts_windows: Vec<Span> = seen.iter().filter(|s| bridge(&s.path)).flat_map(|s| s.windows.clone()).collect();
    let mut phandles = BTreeMap::new();
    let code: Vec<Span> = policy.code().iter().map(span).collect();
    assert_eq!(overlap(&code, &host_ram), None, "code of the firmware and memory");
    assert_eq!(overlap(&code, &mmio), None, "code of the firmware and registers");
    assert_eq!(overlap(&code, &own), None, "code of the firmware and EL2's memory");
    for Seen { node, path, on, registers, windows } in &seen {
        for phandle in cells(node, "phandle") {
            assert_eq!(phandles.insert(phandle, path), None, "phandle {phandle:#x} of {path} twice");
        }
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let top = |name: &str| parent == format!("/{name}") || parent.starts_with(&format!("/{name}@"));
        let ram = parent.is_empty() && path != "/" && value(node, "device_type").is_some_and(|v| v == b"memory\0");
        if top("reserved-memory") && parent.matches('/').count() == 1 {
            let holds = okay(node);
            if holds && value(node, "no-map").is_some() {
                assert!(!registers.is_empty() || value(node, "reg").is_none(), "{path} is not withheld");
                assert_eq!(overlap(registers, &host_ram), None, "{path} and the host's memory");
                assert_eq!(overlap(registers, &mmio), None, "{path} and the host's registers");
            }
            if holds {
                assert_eq!(overlap(registers, &own[1..]), None, "{path} and EL2's pool");
            }
            continue;
        }
        if (ram && *on) || (top("chosen") && parent.matches('/').count() == 1) {
            continue;
        }
        let verdict = verdicts.get(path);
        let emulated = is(node, "arm,smmu-v3");
        // There is no decision about a bus. Its child nodes have decisions, and addresses of no child are in no list.
        let bus = *on && is(node, "simple-bus") && value(node, "ranges").is_some();
        assert!(verdict.is_some() || registers.is_empty() || bus, "there is no decision about {path}");
        let given = *on && !emulated && !matches!(verdict, Some(Verdict::Withheld(_) | Verdict::Emulated));
        if !given {
            let mut kept = registers.clone();
            let of_bridge = count(node, "#address-cells") == 3;
            assert_eq!(overlap(windows, if of_bridge { &mmio } else { &hosts_windows }), None, "{path} and the host's");
            assert_eq!(overlap(&kept, &mmio), None, "{path} and the host's registers");
            assert_eq!(overlap(&kept, &code), None, "{path} and the firmware's code");
            kept.extend(windows);
            assert_eq!(overlap(&kept, &host_ram), None, "{path} and the host's memory");
            assert_eq!(overlap(&kept, &own), None, "{path} and EL2's memory");
        }
        if verdict.is_some() && given {
            assert_eq!(overlap(registers, &host_ram), None, "{path} and the host's memory");
        }
        let limited = matches!(verdict, Some(Verdict::Given(Given::PciBuses { .. })));
        if limited {
            assert_eq!(overlap(&registers[..1], &mmio), None, "configuration space of {path} is mapped");
            let range = cells(node, "bus-range");
            let (first, end) = (u64::from(range[0]) << 8, u64::from(range[1] + 1) << 8);
            let inside = |entry: &[u32]| {
                let (from, to) = (u64::from(entry[0]), u64::from(entry[0]) + u64::from(entry[3]));
                to.min(end).saturating_sub(from.max(first))
            };
            let ids: u64 = cells(node, "iommu-map").chunks_exact(4).map(inside).sum();
            assert_eq!(ids, end - first, "{path} has buses with IDs that are in no map");
        }
        if let Some(Verdict::Given(Given::Pci { .. } | Given::PciBuses { .. } | Given::BehindSmmu { .. })) = verdict {
            let smmus: Vec<u32> = seen
                .iter()
                .filter(|s| s.on && is(s.node, "arm,smmu-v3"))
                .flat_map(|s| cells(s.node, "phandle"))
                .collect();
            let iommus = cells(node, "iommus");
            assert!(iommus.chunks(2).all(|entry| smmus.contains(&entry[0])), "{path} has a foreign IOMMU");
            let map = cells(node, "iommu-map");
            assert!(map.chunks(4).all(|entry| smmus.contains(&entry[1])), "{path} has a foreign IOMMU in its map");
            let ids: u64 = map.chunks_exact(4).map(|entry| u64::from(entry[3])).sum();
            assert!(ids == 0 || ids == 0x1_0000 || limited, "{path} has IDs that are in no map");
            assert!(ids != 0 || !iommus.is_empty(), "{path} is behind no SMMU");
        }
    }
}
