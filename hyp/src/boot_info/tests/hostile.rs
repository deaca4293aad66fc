//! Corrupted trees: either the boot is refused or the plan satisfies all checks.

use std::vec;
use std::vec::Vec;

use dtoolkit::model::DeviceTree;
use proptest::prelude::*;
use proptest::sample::Index;

use super::board_devices::board;
use super::oracle;
use super::virt::*;
use crate::boot_info::fdt_edit::write_host_dtb;
use crate::boot_info::policy::Verdict;
use crate::boot_info::tree::Tree;
use crate::boot_info::{Early, Layout, MmioPolicy, Platform, dtb_size};

/// Runs a whole boot; an accepted plan must be safe.
fn check_boot(dtb: &[u8]) {
    let _ = Early::read(dtb);
    if let Some(start) = dtb.first_chunk() {
        let _ = dtb_size(start);
    }
    match boot(dtb) {
        Ok((platform, policy, layout)) => check_plan(dtb, &platform, &policy, &layout),
        Err(error) => drop(std::format!("{error}")),
    }
}

/// Checks an accepted plan.
pub(super) fn check_plan(dtb: &[u8], platform: &Platform<'_>, policy: &MmioPolicy, layout: &Layout) {
    // `boot` has called the plan's check; the independent oracle follows.
    oracle::check(dtb, platform, policy, layout);
    let ram = &platform.memory.ram;
    for mmio in policy.mmio() {
        assert!(!ram.overlaps(mmio), "{mmio} is memory");
        assert!(platform.smmus.iter().all(|s| !s.range.overlaps(mmio)), "{mmio} is an SMMU");
        assert!(platform.uarts.el2.is_none_or(|u| !u.range.overlaps(mmio)), "{mmio} is EL2's console");
    }
    for decision in policy.decisions() {
        drop(std::format!("{}: {}", platform.path(decision.node), decision.verdict));
        assert!(decision.verdict != Verdict::Emulated || platform.smmus.iter().any(|s| s.node == decision.node));
    }
    for el2 in [layout.image, layout.pool] {
        assert!(ram.contains(&el2) && !layout.host_ram.overlaps(&el2));
        assert!(!el2.overlaps(&platform.modules().unwrap().kernel.range));
        assert!(platform.modules().unwrap().ramdisk.is_none_or(|m| !el2.overlaps(&m.range)));
    }
    assert!(!layout.image.overlaps(&layout.pool));
    assert!(layout.host_ram.contains(&layout.kernel().unwrap().dtb));
    let mut out = vec![0xaa; layout.kernel().unwrap().dtb.size() as usize];
    if let Ok(length) = write_host_dtb(platform, policy, layout, &mut out) {
        Tree::parse(&out[..length]).expect("the host's tree is valid");
        assert!(!out.windows(TOKEN.len()).any(|w| w == TOKEN.as_bytes()) || platform.options.token != Some(TOKEN));
    }
}

/// A boundary value.
pub(super) fn boundary_value() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(2),
        Just(3),
        Just(4),
        Just(9),
        Just(0x7fff_ffff),
        Just(0x8000_0000),
        Just(0xffff_ffff),
        Just(0xffff_fffc),
        0u32..0x4000,
        any::<u32>(),
    ]
}

/// The default machine with one range of each kind that can overlap another: memory, a reservation, a bridge and a bus
/// that are withheld, a master.
pub(super) fn larger(modify: impl FnOnce(&mut DeviceTree)) -> Vec<u8> {
    modified(|tree| {
        let counts = |address, size| [("#address-cells", cells(&[address])), ("#size-cells", cells(&[size]))];
        let mut reserved = node("reserved-memory", &counts(2, 2));
        set(&mut reserved, &[("ranges", vec![])]);
        reserved.add_child(node("tee@60000000", &[("reg", wide(&[0x6000_0000, 0x10_0000])), ("no-map", vec![])]));
        let mut bridge = node("pcie@5000000000", &counts(3, 2));
        let mut ranges = cells(&[0x200_0000, 0, 0x5000_0000]);
        ranges.extend(wide(&[0x3f00_0000, 0x10_0000]));
        set(&mut bridge, &[("reg", wide(&[0x50_0000_0000, 0x10_0000])), ("ranges", ranges)]);
        let mut bus = node("bus@f000000", &counts(1, 1));
        set(&mut bus, &[("ranges", cells(&[0, 0, 0xf00_0000, 0x1_0000])), ("status", text(&["disabled"]))]);
        bus.add_child(node("reset@8000", &[("reg", cells(&[0x8000, 0x1000]))]));
        let map = cells(&[0, SMMU, 0, 0x1_0000]);
        let master = [("reg", wide(&[0xf10_0000, 0x1000])), ("iommus", cells(&[SMMU, 5])), ("iommu-map", map)];
        let more = [("device_type", text(&["memory"])), ("reg", wide(&[0x8_8000_0000, 0x100_0000]))];
        let new = [reserved, bridge, bus, node("dma@f100000", &master), node("memory@880000000", &more)];
        new.into_iter().for_each(|node| tree.root.add_child(node));
        modify(tree);
    })
}

/// An address used in the tree, or a size.
fn used_address() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![
        0,
        1,
        8,
        0x1000,
        0x1_0000,
        0x10_0000,
        0x1000_0000,
        0x800_0000,
        0x808_0000,
        0x80a_0000,
        0x900_0000,
        0x901_0000,
        0x902_0000,
        0x904_0000,
        0x905_0000,
        0x906_0000,
        0xa00_0000,
        0xc00_0000,
        0xf00_0000,
        0xf00_8000,
        0xf10_0000,
        0x1000_0000,
        0x2000_0000,
        0x3eff_0000,
        0x3f00_0000,
        0x4000_0000,
        0x4020_0000,
        0x4800_0000,
        0x4900_0000,
        0x4d00_0000,
        0x6000_0000,
        0x7fff_f000,
        0x8000_0000,
        SMMU,
        GIC,
        ITS,
        0x8000,
    ])
}

#[test]
fn the_larger_machine_boots() {
    let dtb = larger(|_| {});
    check_boot(&dtb);
    assert!(boot(&dtb).is_ok());
}

#[test]
fn the_board_boots() {
    let dtb = board();
    check_boot(&dtb);
    assert!(boot(&dtb).is_ok(), "{}", refusal(&dtb));
}

#[test]
fn the_usual_machine_boots() {
    let dtb = modified(|_| {});
    check_boot(&dtb);
    assert!(boot(&dtb).is_ok());
}

/// Writes each of `values` to cells at distances of `step`.
fn damage_cells(step: usize, values: &[u32]) {
    let dtb = modified(|_| {});
    for (turn, at) in (0..dtb.len() - 3).step_by(4 * step).enumerate() {
        for value in values.iter().skip(turn % step).step_by(step) {
            let mut damaged = dtb.clone();
            damaged[at..at + 4].copy_from_slice(&value.to_be_bytes());
            check_boot(&damaged);
        }
    }
}

#[test]
fn boundary_values_in_many_cells_are_handled() {
    damage_cells(5, &[0, 1, 9, 0xffff_ffff, 0x8000_0000]);
}

#[test]
#[ignore = "takes minutes in a debug build"]
fn boundary_values_in_every_cell_are_handled() {
    damage_cells(1, &[0, 1, 2, 3, 4, 9, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_fffc, 0xffff_ffff]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn cells_replaced(changes in prop::collection::vec((any::<Index>(), boundary_value()), 1..8)) {
        let mut dtb = modified(|_| {});
        for (at, value) in changes {
            let at = at.index(dtb.len() / 4) * 4;
            let end = (at + 4).min(dtb.len());
            dtb[at..end].copy_from_slice(&value.to_be_bytes()[..end - at]);
        }
        check_boot(&dtb);
    }

    #[test]
    fn bytes_replaced(changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..16)) {
        let mut dtb = modified(|_| {});
        for (at, value) in changes {
            let at = at.index(dtb.len());
            dtb[at] = value;
        }
        check_boot(&dtb);
    }

    #[test]
    fn parts_moved(from in any::<Index>(), to in any::<Index>(), length in 1usize..512) {
        let mut dtb = modified(|_| {});
        let last = dtb.len() - length;
        let (from, to) = (from.index(last) & !3, to.index(last) & !3);
        dtb.copy_within(from..from + length, to);
        check_boot(&dtb);
    }

    /// The structure stays valid, so that the parsers of properties are tested.
    #[test]
    fn properties_replaced(
        changes in prop::collection::vec((any::<Index>(), any::<Index>(), prop::collection::vec(boundary_value(), 0..9)), 1..6)
    ) {
        let paths = [
            "/", "/psci", "/memory@40000000", "/platform-bus@c000000", "/fw-cfg@9020000", "/smmuv3@9050000",
            "/pcie@10000000", "/pl011@9000000", "/pl011@9040000", "/intc@8000000", "/intc@8000000/its@8080000",
            "/flash@0", "/cpus", "/cpus/cpu@1", "/aliases", "/chosen", "/chosen/module@0x49000000",
            "/chosen/module@0x4d000000", "/timer",
        ];
        let names = [
            "reg", "ranges", "#address-cells", "#size-cells", "interrupts", "interrupt-parent", "phandle", "iommu-map",
            "iommus", "bus-range", "#redistributor-regions", "status", "compatible", "device_type", "bootargs",
            "interrupt-names", "stdout-path", "#interrupt-cells", "no-map", "iommu-map-mask",
        ];
        let dtb = modified(|tree| {
            for (path, name, value) in changes {
                let node = tree.find_node_mut(paths[path.index(paths.len())]).unwrap();
                set(node, &[(names[name.index(names.len())], cells(&value))]);
            }
        });
        check_boot(&dtb);
    }

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        check_boot(&bytes);
        let mut headed = vec![0xd0, 0x0d, 0xfe, 0xed];
        headed.extend((bytes.len() as u32 + 8).to_be_bytes());
        headed.extend(&bytes);
        check_boot(&headed);
        let _: Vec<u8> = headed;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Cells of a board's tree are replaced by cells from other places in the tree: addresses, phandles, counts, name
    /// offsets.
    #[test]
    fn a_boards_cells_swapped(changes in prop::collection::vec((any::<Index>(), any::<Index>()), 1..5)) {
        let mut dtb = board();
        let cells = dtb.len() / 4;
        for (from, to) in changes {
            let (from, to) = (4 * from.index(cells), 4 * to.index(cells));
            dtb.copy_within(from..from + 4, to);
        }
        check_boot(&dtb);
    }

    /// One or two ranges are moved over others.
    #[test]
    fn ranges_moved(
        changes in prop::collection::vec((any::<Index>(), any::<Index>(), any::<Index>(), used_address()), 1..4)
    ) {
        use dtoolkit::{Node, Property};
        let paths = [
            "/memory@40000000", "/memory@880000000", "/reserved-memory", "/reserved-memory/tee@60000000",
            "/pcie@5000000000", "/pcie@10000000", "/bus@f000000", "/bus@f000000/reset@8000", "/dma@f100000",
            "/platform-bus@c000000", "/fw-cfg@9020000", "/smmuv3@9050000", "/pl011@9000000", "/pl011@9040000",
            "/pl031@9010000", "/intc@8000000", "/intc@8000000/its@8080000", "/flash@0", "/apb-pclk",
            "/chosen/module@0x49000000", "/chosen/module@0x4d000000",
        ];
        let dtb = larger(|tree| {
            for (path, name, cell, value) in changes {
                let node = tree.find_node_mut(paths[path.index(paths.len())]).unwrap();
                let names: Vec<_> = ["reg", "ranges", "phandle", "iommus", "iommu-map", "#address-cells", "#size-cells"]
                    .into_iter()
                    .filter(|name| node.property(name).is_some_and(|p| !p.value().is_empty()))
                    .collect();
                let name = names[name.index(names.len())];
                let mut old = node.property(name).unwrap().value().to_vec();
                let at = cell.index(old.len() / 4) * 4;
                old[at..at + 4].copy_from_slice(&value.to_be_bytes());
                set(node, &[(name, old)]);
            }
        });
        check_boot(&dtb);
    }
}
