//! Providers of an SMMU's power, clock or reset are withheld: row T09 of the attack catalogue.

use std::vec;
use std::vec::Vec;

use dtoolkit::model::{DeviceTree, DeviceTreeNode};

use super::virt::*;
use crate::boot_info::platform::Platform;
use crate::boot_info::policy::{Given, Verdict, Withheld};
use crate::boot_info::power::Switch;

const CONTROLLER: u32 = 0x71;
const REGULATOR: u32 = 0x72;
const GPIO: u32 = 0x73;

/// A device behind the SMMU that controls power, clocks, resets and pins.
fn controller() -> DeviceTreeNode {
    let one = || cells(&[1]);
    node(
        "controller@b000000",
        &[
            ("compatible", text(&["vendor,controller"])),
            ("reg", wide(&[0xb00_0000, 0x1000])),
            ("iommus", cells(&[SMMU, 5])),
            ("phandle", cells(&[CONTROLLER])),
            ("#power-domain-cells", one()),
            ("#clock-cells", cells(&[0])),
            ("#reset-cells", cells(&[2])),
            ("#gpio-cells", cells(&[2])),
        ],
    )
}

fn smmu(tree: &mut DeviceTree) -> &mut DeviceTreeNode {
    tree.find_node_mut("/smmuv3@9050000").unwrap()
}

fn machine(properties: &[(&str, Vec<u8>)]) -> Vec<u8> {
    modified(|tree| {
        tree.root.add_child(controller());
        set(smmu(tree), properties);
    })
}

const PATH: &str = "/controller@b000000";
const DEPENDS: Verdict = Verdict::Withheld(Withheld::SmmuDepends);

#[test]
fn t09_providers_of_an_smmu_are_withheld_even_behind_an_smmu() {
    assert_eq!(verdict(&machine(&[]), PATH), Verdict::Given(Given::BehindSmmu { smmu: 0 }), "no SMMU depends on it");
    for (name, value) in [
        ("power-domains", cells(&[CONTROLLER, 3])),
        ("clocks", cells(&[0x8000, 0, CONTROLLER])),
        ("resets", cells(&[CONTROLLER, 3, 4])),
        ("reset-gpios", cells(&[CONTROLLER, 3, 4])),
        ("vdd-supply", cells(&[CONTROLLER])),
    ] {
        // The fixed clock has `#clock-cells`, as required.
        let dtb = modified(|tree| {
            tree.root.add_child(controller());
            set(tree.find_node_mut("/apb-pclk").unwrap(), &[("#clock-cells", cells(&[0]))]);
            set(smmu(tree), &[(name, value)]);
        });
        assert_eq!(verdict(&dtb, PATH), DEPENDS, "{name}");
        assert_eq!(verdict(&dtb, "/pl031@9010000"), Verdict::Given(Given::Rtc), "{name}");
    }
}

#[test]
fn t09_indirect_dependencies_and_parent_devices_are_withheld() {
    // SMMU, regulator, pin: the GPIO that the host usually gets.
    let gpio = "/pl061@9030000";
    let through = |supply: &str| {
        modified(|tree| {
            set(tree.find_node_mut("/apb-pclk").unwrap(), &[("#clock-cells", cells(&[0]))]);
            let pins = [("phandle", cells(&[GPIO])), ("#gpio-cells", cells(&[2]))];
            set(tree.find_node_mut(gpio).unwrap(), &pins);
            tree.root.add_child(node("regulator", &[("phandle", cells(&[REGULATOR])), ("gpio", cells(&[GPIO, 7, 0]))]));
            set(smmu(tree), &[(supply, cells(&[REGULATOR]))]);
        })
    };
    assert_eq!(verdict(&through("vdd-supply"), gpio), DEPENDS);
    assert_eq!(verdict(&through("vdd-other"), gpio), Verdict::Given(Given::Gpio));
    // A controller without its own registers, below the device with the registers.
    let dtb = modified(|tree| {
        let mut device = controller();
        device.remove_property("phandle").unwrap();
        let part = [("phandle", cells(&[CONTROLLER])), ("#power-domain-cells", cells(&[0]))];
        device.add_child(node("power", &part));
        tree.root.add_child(device);
        set(smmu(tree), &[("power-domains", cells(&[CONTROLLER]))]);
    });
    assert_eq!(verdict(&dtb, PATH), DEPENDS);
}

#[test]
fn t09_a_provider_cannot_be_allowed_and_a_bad_reference_is_refused() {
    let dtb = modified(|tree| {
        tree.root.add_child(controller());
        set(smmu(tree), &[("power-domains", cells(&[CONTROLLER, 3]))]);
        let line = std::format!("token={TOKEN} allow={PATH}");
        set(tree.find_node_mut("/chosen").unwrap(), &[("bootargs", text(&[&line]))]);
    });
    refused_for(&dtb, &[PATH, "depends"]);
    for cut in [cells(&[CONTROLLER]), cells(&[0x7777, 1]), vec![0, 0, 1]] {
        refused_for(&machine(&[("power-domains", cut)]), &["/smmuv3@9050000", "power-domains"]);
    }
    // An empty entry.
    assert_eq!(verdict(&machine(&[("clocks", cells(&[0]))]), PATH), Verdict::Given(Given::BehindSmmu { smmu: 0 }));
}

#[test]
fn t63_additional_command_queues_of_an_smmu_are_withheld() {
    let mut queues = controller();
    set(&mut queues, &[("compatible", text(&["nvidia,tegra264-cmdqv"]))]);
    assert_eq!(verdict(&with_node(queues), PATH), Verdict::Withheld(Withheld::Cmdqv));
}

#[test]
fn t68_a_pci_host_that_another_node_can_switch_off_is_known() {
    let switch = |change: &dyn Fn(&mut DeviceTree)| {
        let dtb = modified(|tree| {
            tree.root.add_child(controller());
            change(tree);
        });
        Platform::parse(&dtb).unwrap().pci[0].switch
    };
    assert_eq!(switch(&|_| {}), Switch::Nobody);
    for name in ["power-domains", "clocks", "resets", "reset-gpios", "vpcie3v3-supply"] {
        let value = [(name, cells(&[CONTROLLER, 3, 4]))];
        let found = switch(&|tree| set(tree.find_node_mut("/pcie@10000000").unwrap(), &value));
        assert_eq!(found, Switch::OtherNode, "{name}");
    }
    let above = [("vdd-supply", cells(&[CONTROLLER]))];
    assert_eq!(switch(&|tree| set(&mut tree.root, &above)), Switch::OtherNode, "of a bus above");
}
