use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use dtoolkit::model::DeviceTree;

use super::virt::*;
use crate::boot_info::policy::{Given, Verdict, Withheld};
use crate::boot_info::{MmioPolicy, Platform};

/// Decisions as `path: verdict`, and the given ranges.
fn decide(dtb: &[u8]) -> (Vec<String>, String) {
    let platform = Platform::parse(dtb).unwrap();
    let policy = MmioPolicy::decide(&platform).unwrap();
    let lines = policy.decisions().iter().map(|d| format!("{}: {:?}", platform.path(d.node), d.verdict));
    (lines.collect(), policy.mmio().to_string())
}

#[track_caller]
fn decided(dtb: &[u8], path: &str) -> Verdict {
    let platform = Platform::parse(dtb).unwrap();
    let policy = MmioPolicy::decide(&platform).unwrap();
    let found = policy.decisions().iter().find(|d| platform.path(d.node).to_string() == path);
    found.unwrap_or_else(|| panic!("no decision about {path}")).verdict
}

fn allow(paths: &[&str]) -> impl FnOnce(&mut DeviceTree) {
    options("allow", paths)
}

fn options(name: &str, paths: &[&str]) -> impl FnOnce(&mut DeviceTree) {
    let words = paths.iter().map(|p| format!(" {name}={p}")).collect::<String>();
    move |tree| {
        let line = format!("token={TOKEN}{words}");
        set(tree.find_node_mut("/chosen").unwrap(), &[("bootargs", text(&[&line]))]);
    }
}

/// T40, T55.
#[test]
fn t40_t55_the_usual_machine() {
    let (lines, mmio) = decide(&modified(|_| {}));
    let others: Vec<_> = lines.iter().filter(|l| !l.starts_with("/virtio_mmio@")).map(String::as_str).collect();
    assert_eq!(
        others,
        [
            "/platform-bus@c000000: Withheld(PlatformBus)",
            "/fw-cfg@9020000: Withheld(FwCfg)",
            "/pl061@9030000: Given(Gpio)",
            "/smmuv3@9050000: Emulated",
            "/pcie@10000000: Given(Pci { smmu: 0 })",
            "/pl031@9010000: Given(Rtc)",
            "/pl011@9000000: Given(Uart)",
            "/pl011@9040000: Withheld(El2Console)",
            "/intc@8000000: Given(Gic)",
            "/intc@8000000/its@8080000: Given(Its)",
            "/flash@0: Withheld(Flash)",
        ]
    );
    let slots: Vec<_> = lines.iter().filter(|l| l.starts_with("/virtio_mmio@")).collect();
    assert_eq!(slots.len(), 32);
    assert!(slots.iter().all(|l| l.ends_with(": Withheld(VirtioMmio)")));
    assert_eq!(
        mmio,
        "0x8000000..0x8010000, 0x8080000..0x9001000, 0x9010000..0x9011000, 0x9030000..0x9031000, \
         0x10000000..0x3f000000, 0x4010000000..0x4020000000, 0x8000000000..0x10000000000"
    );
}

/// Frames of an ITS can be in the rest of a larger entry, on boards whose tree does not contain the ITS.
#[test]
fn t45_the_host_gets_only_64_kib_of_the_distributor() {
    let reg = wide(&[0x800_0000, 0x4_0000, 0x80a_0000, 0xf6_0000]);
    let (_, mmio) = decide(&with_properties("/intc@8000000", &[("reg", reg)]));
    assert!(mmio.starts_with("0x8000000..0x8010000, 0x8080000..0x9001000"), "{mmio}");
}

/// T55.
#[test]
fn t55_unknown_nodes_are_withheld_by_their_most_specific_name() {
    let unknown = |compatible: &[&str]| {
        let dtb = modified(|tree| {
            let properties = [("reg", wide(&[0x90a_0000, 0x1000])), ("compatible", text(compatible))];
            tree.root.add_child(node("thing@90a0000", &properties));
        });
        decided(&dtb, "/thing@90a0000")
    };
    assert_eq!(unknown(&["vendor,reset"]), Verdict::Withheld(Withheld::Unknown));
    assert_eq!(unknown(&["vendor,uart-with-dma", "arm,pl011"]), Verdict::Withheld(Withheld::Unknown));
    assert_eq!(unknown(&["arm,smmu-v3-pmcg"]), Verdict::Withheld(Withheld::Pmcg));
    assert_eq!(unknown(&["arm,smmu-v2"]), Verdict::Withheld(Withheld::Unknown));
    assert_eq!(unknown(&[]), Verdict::Withheld(Withheld::Unknown));
    assert_eq!(unknown(&["arm,pl031"]), Verdict::Given(Given::Rtc));
}

/// UEFI firmware that continues as a part of the host executes code from its flash, and writes its variables.
#[test]
fn t70_flash_of_uefi_firmware_is_executable_or_writable_but_not_both() {
    let flash = |name: &str, compatible: &str| {
        let mut device = primecell(name, compatible, 0);
        set(&mut device, &[("reg", wide(&[0xd00_0000, 0x1_0000]))]);
        with_node(device)
    };
    let dtb = flash("flash@d000000", "portcullis,firmware-code");
    let (platform, policy, _) = boot(&dtb).unwrap();
    let node = policy.decisions().iter().find(|d| platform.path(d.node).to_string() == "/flash@d000000").unwrap();
    assert_eq!(node.verdict, Verdict::Given(Given::FirmwareCode));
    assert!(!policy.mmio().overlaps(&range(0xd00_0000, 0x1_0000)), "registers can be written");
    assert!(policy.code().iter().eq([&range(0xd00_0000, 0x1_0000)]));
    assert!(policy.given().iter().any(|part| part.range == range(0xd00_0000, 0x1_0000)));
    let dtb = flash("flash@d000000", "portcullis,firmware-variables");
    assert_eq!(decided(&dtb, "/flash@d000000"), Verdict::Given(Given::FirmwareVariables));
    let (_, policy, _) = boot(&dtb).unwrap();
    assert!(policy.mmio().contains(&range(0xd00_0000, 0x1_0000)) && policy.code().iter().next().is_none());
    // If the flash shares a page with other registers, it is given neither as code nor as registers.
    let shared = modified(|tree| {
        tree.root.add_child(primecell("flash@9010000", "portcullis,firmware-code", 0x901_0000));
    });
    let (_, policy, _) = boot(&shared).unwrap();
    assert!(policy.code().iter().all(|code| !policy.mmio().overlaps(code)), "{}", policy.mmio());
}

#[test]
fn pci_without_a_complete_iommu_map_is_withheld() {
    let pci = |dtb: &[u8]| decided(dtb, "/pcie@10000000");
    assert_eq!(pci(&without("/pcie@10000000", "iommu-map")), Verdict::Withheld(Withheld::NoIommuMap));
    let map = |value: &[u32]| with_properties("/pcie@10000000", &[("iommu-map", cells(value))]);
    assert_eq!(pci(&map(&[0, SMMU, 0, 0x8000])), Verdict::Withheld(Withheld::IommuMapPartly));
    assert_eq!(pci(&map(&[0, 77, 0, 0x1_0000])), Verdict::Withheld(Withheld::ForeignIommu));
    let (_, mmio) = decide(&map(&[0, 77, 0, 0x1_0000]));
    assert!(!mmio.contains("0x10000000") && !mmio.contains("0x4010000000"), "{mmio}");
}

#[test]
fn a_platform_device_is_given_only_behind_a_known_smmu() {
    let device = |iommus: Vec<u8>| {
        modified(|tree| {
            let properties =
                [("reg", wide(&[0x90a_0000, 0x1000])), ("compatible", text(&["vendor,dma"])), ("iommus", iommus)];
            tree.root.add_child(node("dma@90a0000", &properties));
        })
    };
    let path = "/dma@90a0000";
    assert_eq!(decided(&device(cells(&[SMMU, 5])), path), Verdict::Given(Given::BehindSmmu { smmu: 0 }));
    assert_eq!(decided(&device(cells(&[7, 5])), path), Verdict::Withheld(Withheld::ForeignIommu));
    assert_eq!(decided(&device(cells(&[SMMU, 5, 7, 5])), path), Verdict::Withheld(Withheld::ForeignIommu));
    assert!(refusal(&device(cells(&[SMMU]))).contains("iommus"));
    assert!(refusal(&device(vec![])).contains("iommus of /dma@90a0000 is empty"));
}

/// T55.
#[test]
fn t55_a_page_with_withheld_registers_is_not_given() {
    let neighbour = modified(|tree| {
        let properties = [("reg", wide(&[0x901_0800, 0x10])), ("compatible", text(&["vendor,reset"]))];
        tree.root.add_child(node("reset@9010800", &properties));
    });
    assert_eq!(decided(&neighbour, "/pl031@9010000"), Verdict::Withheld(Withheld::SharesPage));
    // So the clock, which shares the other page, is also withheld.
    let chain = modified(|tree| {
        let reset = [("reg", wide(&[0x901_0800, 0x10])), ("compatible", text(&["vendor,reset"]))];
        tree.root.add_child(node("reset@9010800", &reset));
        set(tree.find_node_mut("/pl031@9010000").unwrap(), &[("reg", wide(&[0x901_0000, 0x1004]))]);
        let gpio = [("reg", wide(&[0x901_1800, 0x10])), ("compatible", text(&["arm,pl061"]))];
        tree.root.add_child(node("gpio@9011800", &gpio));
    });
    assert_eq!(decided(&chain, "/gpio@9011800"), Verdict::Withheld(Withheld::SharesPage));
    let over_smmu = with_properties("/pl031@9010000", &[("reg", wide(&[0x906_f000, 0x1000]))]);
    assert_eq!(decided(&over_smmu, "/pl031@9010000"), Verdict::Withheld(Withheld::SharesPage));
    let over_console = with_properties("/pl031@9010000", &[("reg", wide(&[0x904_0000, 0x1000]))]);
    assert_eq!(decided(&over_console, "/pl031@9010000"), Verdict::Withheld(Withheld::SharesPage));
}

/// T56.
#[test]
fn t56_windows_over_memory_or_over_withheld_registers_are_withheld() {
    let window = |base: u64, size: u64| {
        let mut ranges = cells(&[0x200_0000, 0, 0x1000_0000]);
        ranges.extend(wide(&[base, size]));
        with_properties("/pcie@10000000", &[("ranges", ranges)])
    };
    let pci = |dtb: &[u8]| decided(dtb, "/pcie@10000000");
    for over_memory in [window(0x3000_0000, 0x1000_1000), window(0x7fff_f800, 0x1000)] {
        let refused = refusal(&over_memory);
        let both = ["the host's memory of /memory@40000000", "overlaps /pcie@10000000 at"];
        assert!(both.iter().all(|name| refused.contains(name)), "{refused}");
    }
    assert_eq!(pci(&window(0x900_0000, 0x100_0000)), Verdict::Withheld(Withheld::SharesPage));
    assert_eq!(pci(&window(0x1000_0000, 0x1000_0000)), Verdict::Given(Given::Pci { smmu: 0 }));
}

#[test]
fn an_interrupt_controller_that_overlaps_a_withheld_range_is_refused() {
    let dtb = with_properties("/fw-cfg@9020000", &[("reg", wide(&[0x800_0800, 0x18]))]);
    assert!(refusal(&dtb).contains("/intc@8000000"));
}

/// T06.
#[test]
fn t06_devices_can_only_write_the_translater_of_a_given_its() {
    let pages = |dtb: &[u8]| {
        let platform = Platform::parse(dtb).unwrap();
        let policy = MmioPolicy::decide(&platform).unwrap();
        policy.translaters(&platform).map(|page| page.0).collect::<Vec<_>>()
    };
    assert_eq!(pages(&modified(|_| ())), [0x809_0000]);
    let off = with_properties("/intc@8000000/its@8080000", &[("status", text(&["disabled"]))]);
    assert_eq!(pages(&off), []);
    let shared = with_properties("/fw-cfg@9020000", &[("reg", wide(&[0x808_0800, 0x18]))]);
    assert_eq!(decided(&shared, "/intc@8000000/its@8080000"), Verdict::Withheld(Withheld::SharesPage));
    assert_eq!(pages(&shared), []);
}

#[test]
fn disabled_nodes_and_nodes_below_withheld_ones_are_not_given() {
    let disabled = with_properties("/pl031@9010000", &[("status", text(&["disabled"]))]);
    assert_eq!(decided(&disabled, "/pl031@9010000"), Verdict::Withheld(Withheld::Disabled));
    let dtb = modified(|tree| {
        let bus = tree.find_node_mut("/platform-bus@c000000").unwrap();
        let rtc = [("reg", cells(&[0x1000, 0x1000])), ("compatible", text(&["arm,pl031"]))];
        bus.add_child(node("rtc@1000", &rtc));
    });
    assert_eq!(decided(&dtb, "/platform-bus@c000000/rtc@1000"), Verdict::Withheld(Withheld::Parent));
}

#[test]
fn registers_are_translated_through_buses() {
    let dtb = modified(|tree| {
        let mut soc = node(
            "soc",
            &[
                ("compatible", text(&["simple-bus"])),
                ("#address-cells", cells(&[1])),
                ("#size-cells", cells(&[1])),
                ("ranges", cells(&[0x1000, 0, 0x90b_0000, 0x1_0000])),
            ],
        );
        let at = |base| [("reg", cells(&[base, 0x1000])), ("compatible", text(&["arm,pl031"]))];
        soc.add_child(node("rtc@3000", &at(0x3000)));
        soc.add_child(node("rtc@20000", &at(0x2_0000)));
        tree.root.add_child(soc);
        let mut i2c = node("i2c", &[("#address-cells", cells(&[1])), ("#size-cells", cells(&[0]))]);
        i2c.add_child(node("rtc@51", &[("reg", cells(&[0x51])), ("compatible", text(&["arm,pl031"]))]));
        tree.root.add_child(i2c);
    });
    let (lines, mmio) = decide(&dtb);
    assert!(lines.contains(&"/soc/rtc@3000: Given(Rtc)".into()));
    assert!(!lines.iter().any(|l| l.contains("rtc@20000") || l.contains("rtc@51")), "{lines:?}");
    assert!(mmio.contains("0x90b2000..0x90b3000"), "{mmio}");
}

#[test]
fn el2s_command_line_can_allow_a_node() {
    let dtb = modified(allow(&["/flash@0", "/pcie@10000000"]));
    assert_eq!(decided(&dtb, "/flash@0"), Verdict::Given(Given::Allowed));
    assert_eq!(decided(&dtb, "/pcie@10000000"), Verdict::Given(Given::Allowed));
    let (_, mmio) = decide(&dtb);
    assert!(mmio.starts_with("0x0..0x8010000") && mmio.contains("0x4010000000"), "{mmio}");
    // Mapping one slot would also map the seven others in its page.
    let slot = modified(allow(&["/virtio_mmio@a000200"]));
    refused_for(&slot, &["/virtio_mmio@a000200", "/virtio_mmio@a000000"]);
}

#[test]
fn an_invalid_allow_option_is_refused() {
    for path in ["/smmuv3@9050000", "/fw-cfg@9020000", "/pl011@9040000", "/nothing", "/timer", "/", "/flash"] {
        let dtb = modified(allow(&[path]));
        assert!(refusal(&dtb).starts_with(&format!("option '{path}'")), "{path}");
    }
}

const ITS: &str = "/intc@8000000/its@8080000";

#[test]
fn el2s_command_line_can_withhold_an_its() {
    let dtb = modified(options("withhold", &[ITS]));
    assert_eq!(decided(&dtb, ITS), Verdict::Withheld(Withheld::CommandLine));
    assert_eq!(decided(&dtb, "/intc@8000000"), Verdict::Given(Given::Gic));
    let platform = Platform::parse(&dtb).unwrap();
    let policy = MmioPolicy::decide(&platform).unwrap();
    // Devices cannot write messages to it. EL2 still finds it, to disable it at boot.
    assert_eq!(policy.translaters(&platform).count(), 0);
    assert_eq!(platform.gic.its.len(), 1);
    assert!(!policy.mmio().to_string().contains("0x8080000"), "{}", policy.mmio());
    let given = modified(|_| {});
    let platform = Platform::parse(&given).unwrap();
    assert_eq!(MmioPolicy::decide(&platform).unwrap().translaters(&platform).count(), 1);
}

#[test]
fn the_windows_of_a_withheld_pci_host_are_not_given() {
    let (_, mmio) = decide(&modified(options("withhold", &["/pcie@10000000", "/pl031@9010000"])));
    assert!(!mmio.contains("0x4010000000") && !mmio.contains("0x9010000..0x9011000"), "{mmio}");
}

#[test]
fn an_invalid_withhold_option_is_refused() {
    for path in ["/smmuv3@9050000", "/intc@8000000", "/fw-cfg@9020000", "/nothing", "/timer", "/", "/pcie"] {
        let dtb = modified(options("withhold", &[path]));
        assert!(refusal(&dtb).starts_with(&format!("option '{path}'")), "{path}");
    }
}
