//! Consoles, firmware's memory, limits, and `allow=` on machines that are not QEMU's.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use dtoolkit::{Node, Property};
use io_pgtable::Pa;

use super::virt::*;
use crate::boot_info::fdt_edit::write_host_dtb;
use crate::boot_info::policy::{Given, Verdict};
use crate::boot_info::{Early, Platform};

fn hosts(dtb: &[u8]) -> DeviceTree {
    let (platform, policy, layout) = boot(dtb).unwrap_or_else(|error| panic!("{error}"));
    let mut out = vec![0; layout.kernel().unwrap().dtb.size() as usize];
    let length = write_host_dtb(&platform, &policy, &layout, &mut out).unwrap();
    DeviceTree::from_fdt(&Fdt::new_unchecked(&out[..length]))
}

fn options(words: &str) -> impl Fn(&mut DeviceTree) {
    move |tree| set(tree.root.child_mut("chosen").unwrap(), &[("bootargs", text(&[words]))])
}

/// The machine without a PL011, with the node `uart@b000000` for its console.
fn other_uart(compatible: &[&str], more: &[(&str, Vec<u8>)], words: &str) -> Vec<u8> {
    modified(|tree| {
        for name in ["pl011@9000000", "pl011@9040000"] {
            tree.root.remove_child(name).unwrap();
        }
        let mut uart = node("uart@b000000", &[("reg", wide(&[0xb00_0000, 0x1000]))]);
        set(&mut uart, &[("compatible", text(compatible))]);
        set(&mut uart, more);
        tree.root.add_child(uart);
        options(words)(tree);
        set(tree.root.child_mut("chosen").unwrap(), &[("stdout-path", text(&["/uart@b000000:1500000n8"]))]);
    })
}

fn console(dtb: &[u8]) -> Option<Pa> {
    let uarts = Early::read(dtb).uarts;
    uarts.el2.or(uarts.host).map(|uart| uart.range.base())
}

#[test]
fn the_console_is_a_uart_that_the_tree_names() {
    let at = Some(Pa(0xb00_0000));
    let word = [("reg-shift", cells(&[2])), ("reg-io-width", cells(&[4]))];
    assert_eq!(console(&other_uart(&["rockchip,rk3588-uart", "snps,dw-apb-uart"], &word, "")), at);
    assert_eq!(console(&other_uart(&["ns16550a"], &[], "")), at);
    assert_eq!(console(&other_uart(&["arm,sbsa-uart"], &[], "")), at);
    let half = [("reg-shift", cells(&[1])), ("reg-io-width", cells(&[2]))];
    assert_eq!(console(&other_uart(&["ns16550a"], &half, "")), None, "not driven");
    assert_eq!(console(&other_uart(&["vendor,uart"], &[], "")), None);
    assert_eq!(console(&other_uart(&["ns16550a"], &[("status", text(&["disabled"]))], "")), None);
}

#[test]
fn the_command_line_chooses_the_console() {
    let dtb = modified(options("console=/pl011@9000000"));
    assert_eq!(console(&dtb), Some(Pa(0x900_0000)));
    assert!(matches!(verdict(&dtb, "/pl011@9000000"), Verdict::Withheld(_)));
    assert_eq!(verdict(&dtb, "/pl011@9040000"), Verdict::Given(Given::Uart));
    assert_eq!(console(&modified(options("console=none"))), None);
    assert_eq!(console(&other_uart(&["ns16550a"], &[], "console=/uart@b000000")), Some(Pa(0xb00_0000)));
    for path in ["/pl031@9010000", "/nothing"] {
        let words = std::format!("console={path}");
        refused_for(&modified(options(&words)), &["console=", path]);
    }
}

/// A machine with one node of each kind that real boards have and QEMU's machine lacks.
pub(super) fn board() -> Vec<u8> {
    let word = [("reg-shift", cells(&[2])), ("reg-io-width", cells(&[4]))];
    let dtb =
        other_uart(&["vendor,uart", "snps,dw-apb-uart"], &word, &std::format!("token={TOKEN} allow=/rtc@f400000"));
    let mut tree = DeviceTree::from_fdt(&Fdt::new_unchecked(&dtb));
    reserved(region(&[("no-map", vec![])]))(&mut tree);
    let its = tree.find_node_mut("/intc@8000000/its@8080000").unwrap();
    set(its, &[("socionext,synquacer-pre-its", cells(&[0x100_0000, 0x40_0000]))]);
    let smmu = tree.find_node_mut("/smmuv3@9050000").unwrap();
    set(smmu, &[("interrupts-extended", cells(&[GIC, 0, 1, 1, GIC, 2, 2, 1, GIC, 0, 3, 4, GIC, 0, 4, 1]))]);
    let counts = [("#address-cells", cells(&[1])), ("#size-cells", cells(&[1]))];
    let mut bus = node("bus@f100000", &counts);
    set(&mut bus, &[("compatible", text(&["vendor,bus", "simple-bus"])), ("reg", wide(&[0xf10_0000, 0x1000]))]);
    set(&mut bus, &[("ranges", cells(&[0, 0, 0xf10_0000, 0x10_0000]))]);
    let dma = [("reg", cells(&[0x1_0000, 0x1000])), ("iommus", cells(&[SMMU, 5])), ("memory-region", cells(&[0x90]))];
    let vop = [("reg", cells(&[0x2_0000, 0x1000])), ("iommus", cells(&[0x77]))];
    let sram = [("reg", cells(&[0x3_0000, 0x1000])), ("phandle", cells(&[0x91]))];
    for child in [node("dma@10000", &dma), node("vop@20000", &vop), node("sram@30000", &sram)] {
        bus.add_child(child);
    }
    let scmi = node("scmi", &[("compatible", text(&["arm,scmi-smc"])), ("shmem", cells(&[0x91]))]);
    let rtc = node("rtc@f400000", &[("reg", wide(&[0xf40_0000, 0x1000]))]);
    [bus, scmi, rtc].into_iter().for_each(|node| tree.root.add_child(node));
    tree.to_dtb()
}

fn reserved(child: DeviceTreeNode) -> impl Fn(&mut DeviceTree) {
    move |tree| {
        let counts = [("#address-cells", cells(&[2])), ("#size-cells", cells(&[2])), ("ranges", vec![])];
        let mut reserved = node("reserved-memory", &counts);
        reserved.add_child(child.clone());
        tree.root.add_child(reserved);
    }
}

fn region(more: &[(&str, Vec<u8>)]) -> DeviceTreeNode {
    let mut region = node("fw@60000000", &[("reg", wide(&[0x6000_0000, 0x2000])), ("phandle", cells(&[0x90]))]);
    set(&mut region, &[("compatible", text(&["qcom,cmd-db"]))]);
    set(&mut region, more);
    region
}

#[test]
fn memory_of_firmware_has_no_compatible_string() {
    let dtb = modified(reserved(region(&[("no-map", vec![])])));
    let tree = hosts(&dtb);
    let kept = tree.find_node("/reserved-memory/fw@60000000").unwrap();
    assert!(kept.property("compatible").is_none() && kept.property("no-map").is_some());
    let shared = hosts(&modified(reserved(region(&[]))));
    assert!(shared.find_node("/reserved-memory/fw@60000000").unwrap().property("compatible").is_some());
}

#[test]
fn nodes_that_use_memory_of_firmware_are_withheld() {
    let user = |tree: &mut DeviceTree| {
        let properties = [("reg", wide(&[0xf10_0000, 0x1000])), ("iommus", cells(&[SMMU, 5]))];
        let mut user = node("dsp@f100000", &properties);
        set(&mut user, &[("memory-region", cells(&[0x90]))]);
        tree.root.add_child(user);
        let mut scmi = node("scmi", &[("compatible", text(&["arm,scmi-smc"])), ("shmem", cells(&[0x91]))]);
        scmi.add_child(node("protocol@14", &[("reg", cells(&[0x14]))]));
        set(&mut scmi, &[("#address-cells", cells(&[1])), ("#size-cells", cells(&[0]))]);
        let mut firmware = node("firmware", &[]);
        firmware.add_child(scmi);
        tree.root.add_child(firmware);
        let sram = [("reg", wide(&[0xf20_0000, 0x1000])), ("phandle", cells(&[0x91]))];
        tree.root.add_child(node("sram@f200000", &sram));
    };
    let with = |more: &[(&str, Vec<u8>)]| {
        let more = more.to_vec();
        modified(|tree| {
            reserved(region(&more))(tree);
            user(tree);
        })
    };
    let dtb = with(&[("no-map", vec![])]);
    let (platform, policy, _) = boot(&dtb).unwrap();
    let lines: Vec<String> = policy
        .decisions()
        .iter()
        .map(|decision| std::format!("{}: {}", platform.path(decision.node), decision.verdict))
        .collect();
    for path in ["/dsp@f100000", "/firmware/scmi"] {
        let line = std::format!("{path}: uses memory that the host does not get");
        assert!(lines.contains(&line), "{lines:#?}");
        assert_eq!(hosts(&dtb).find_node(path).unwrap().property("status").unwrap().value(), b"disabled\0");
    }
    assert_eq!(verdict(&with(&[]), "/dsp@f100000"), Verdict::Given(Given::BehindSmmu { smmu: 0 }));
}

#[test]
fn an_allow_option_that_cannot_give_its_node_is_refused() {
    let with = |words: &str, new: Vec<DeviceTreeNode>| {
        modified(|tree| {
            options(words)(tree);
            new.into_iter().for_each(|node| tree.root.add_child(node));
        })
    };
    let device = |name: &str, more: &[(&str, Vec<u8>)]| {
        let mut device = node(name, &[("reg", wide(&[0xf10_0000, 0x1000]))]);
        set(&mut device, more);
        device
    };
    let disabled = [("status", text(&["disabled"]))];
    refused_for(&with("allow=/a", vec![device("a", &disabled)]), &["allow=/a", "disabled"]);
    // The host would not use it: its parent is disabled in the host's tree.
    let mut parent = device("p", &[("#address-cells", cells(&[2])), ("#size-cells", cells(&[2])), ("ranges", vec![])]);
    parent.add_child(node("c", &[("reg", wide(&[0xf20_0000, 0x1000]))]));
    refused_for(&with("allow=/p/c", vec![parent.clone()]), &["allow=/p/c", "/p"]);
    assert!(boot(&with("allow=/p/c allow=/p", vec![parent])).is_ok());
    // It would be withheld together with the other node.
    let twins = vec![device("a", &[]), device("b", &disabled)];
    refused_for(&with("allow=/a", twins), &["allow=/a", "/b"]);
    let mut ranges = cells(&[0x200_0000, 0, 0x5000_0000]);
    ranges.extend(wide(&[0xf30_0000, 0x1000]));
    let counts = [("#address-cells", cells(&[3])), ("#size-cells", cells(&[2])), ("ranges", ranges)];
    refused_for(&with("allow=/a", vec![device("a", &counts)]), &["allow=/a", "windows"]);
    let many = |count: u64| {
        let names: Vec<String> = (0..count).map(|n| std::format!("d@{n}")).collect();
        let words: Vec<String> = names.iter().map(|name| std::format!("allow=/{name}")).collect();
        let node =
            |(n, name): (usize, &String)| node(name, &[("reg", wide(&[0xf10_0000 + 0x1000 * n as u64, 0x1000]))]);
        with(&words.join(" "), names.iter().enumerate().map(node).collect())
    };
    assert!(boot(&many(40)).is_ok());
    refused_for(&many(65), &["more than 64 allow= options"]);
}

#[test]
fn current_machines_are_below_every_limit() {
    assert_eq!(Platform::parse(&virt(256, 1024 * MIB).to_dtb()).map(|platform| platform.cpus.len()), Ok(256));
}

#[test]
fn a_gic_above_512_gib_is_accepted() {
    let region = 512u64 << 30;
    let with_gic = |redistributors: u64, its: u64| {
        modified(|tree| {
            let gic = wide(&[0x81_4600_0000, 0x1_0000, redistributors, 0xf6_0000]);
            set(tree.find_node_mut("/intc@8000000").unwrap(), &[("reg", gic)]);
            set(tree.find_node_mut("/intc@8000000/its@8080000").unwrap(), &[("reg", wide(&[its, 0x2_0000]))]);
            // The address of its window in QEMU.
            let pci = tree.find_node_mut("/pcie@10000000").unwrap();
            set(pci, &[("ranges", [cells(&[0x200_0000, 0, 0x1000_0000]), wide(&[0x1000_0000, 0x1000])].concat())]);
        })
    };
    let dtb = with_gic(0x81_4608_0000, 0x81_4604_0000);
    let (platform, policy, _) = boot(&dtb).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(platform.gic.frames().count(), 3);
    assert!(platform.gic.frames().all(|frame| frame.base().0 > region && policy.mmio().contains(frame)));
    assert!(boot(&with_gic(7 * region, 8 * region)).is_ok());
    // Regions of 512 GiB, of which boot code maps at most four.
    let reg = wide(&[region - 0x1_0000, 0x1_0000, region, 0xf6_0000]);
    let many = |counts: &[u64]| {
        let more = counts.iter().flat_map(|n| [n * region, 0x2_0000]).collect::<Vec<_>>();
        let regions = [("#redistributor-regions", cells(&[1 + counts.len() as u32]))];
        modified(|tree| {
            let gic = tree.find_node_mut("/intc@8000000").unwrap();
            set(gic, &[("reg", [reg.clone(), wide(&more)].concat())]);
            set(gic, &regions);
        })
    };
    assert!(Platform::parse(&many(&[2, 3, 4])).is_ok());
    let message = Platform::parse(&many(&[2, 3, 4, 5])).map(|_| ()).unwrap_err().to_string();
    assert!(message.contains("/intc@8000000") && message.contains("four regions"), "{message}");
}

#[test]
fn a_gic_above_the_limit_of_boot_code_is_refused_with_its_path() {
    let high = (1u64 << 48) - 0x1_0000;
    let gic = with_properties("/intc@8000000", &[("reg", wide(&[high, 0x1_0000, high + 0x1_0000, 0xf6_0000]))]);
    refused_for(&gic, &["/intc@8000000", "256 TiB"]);
    let its = with_properties("/intc@8000000/its@8080000", &[("reg", wide(&[high, 0x2_0000]))]);
    refused_for(&its, &["/intc@8000000/its@8080000", "256 TiB"]);
}

#[test]
fn el2_maps_an_smmu_above_all_memory() {
    let dtb = with_properties("/smmuv3@9050000", &[("reg", wide(&[0x100_0000_0000, 0x2_0000]))]);
    let (platform, policy, _) = boot(&dtb).unwrap();
    let hosts = platform.memory.ram.iter().chain(policy.mmio()).map(|range| range.end()).max();
    assert_eq!((hosts, platform.el2_end()), (Some(Pa(0x100_0000_0000)), Pa(0x100_0002_0000)));
}
