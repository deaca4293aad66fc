//! Random rules with corrupted trees: the boot is refused, or the rules are followed and the plan is safe.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use proptest::sample::Index;

use super::board_policy::{POLICY, policy_module};
use super::hostile::{boundary_value, check_plan, larger};
use super::oracle;
use super::virt::*;
use crate::boot_info::rules::{POLICY_MAX, Rules};
use crate::boot_info::{Evaluated, evaluate_with_policy};

/// Runs a whole boot with this policy; an accepted plan must be safe and follow the rules. Returns whether the boot was
/// accepted.
fn check_boot(dtb: &[u8], content: &[u8]) -> bool {
    let header = kernel_header(KERNEL_SIZE + 0x40_0000);
    match evaluate_with_policy(dtb, content, &request(dtb, &header)) {
        Ok(Evaluated { platform, policy, layout }) => {
            check_plan(dtb, &platform, &policy, &layout);
            oracle::check_rules(dtb, content, &platform, &policy);
            for decision in policy.decisions() {
                let shown = policy.shown(&platform, decision).to_string();
                assert!(shown.len() < 400 && !shown.contains('\n'), "{shown}");
            }
            assert!(policy.unused_rules(&platform).count() <= Rules::parse(content).unwrap().iter().count());
            true
        }
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains('\n'), "{message}");
            false
        }
    }
}

/// The machine with one range of each kind, three unknown devices, and a policy module of `size` bytes.
fn machine(size: usize, modify: impl FnOnce(&mut dtoolkit::model::DeviceTree)) -> Vec<u8> {
    larger(|tree| {
        for (name, compatible) in [("a@f200000", "vendor,a"), ("b@f201000", "vendor,b"), ("c@f202000", "vendor,c")] {
            let base = u64::from_str_radix(name.split('@').nth(1).unwrap(), 16).unwrap();
            let properties = [("compatible", text(&[compatible, "vendor,all"])), ("reg", wide(&[base, 0x1000]))];
            tree.root.add_child(node(name, &properties));
        }
        tree.find_node_mut("/chosen").unwrap().add_child(policy_module(POLICY, size));
        modify(tree);
    })
}

fn line() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec!["give", "withhold", "give", "withhold", "give", "withhold", "#", "allow", ""]);
    let compatible = prop::sample::select(vec![
        "vendor,a",
        "vendor,b",
        "vendor,c",
        "vendor,all",
        "arm,pl031",
        "arm,pl061",
        "arm,pl011",
        "arm,primecell",
        "arm,gic-v3",
        "arm,gic-v3-its",
        "arm,smmu-v3",
        "qemu,fw-cfg-mmio",
        "virtio,mmio",
        "cfi-flash",
        "simple-bus",
        "pci-host-ecam-generic",
        "",
        "fixed-clock",
        "multiboot,module",
    ]);
    let reason = prop_oneof![9 => Just("Because".to_string()), 1 => ".{0,120}"];
    (word, compatible, reason).prop_map(|(word, compatible, reason)| std::format!("{word} {compatible} {reason}\n"))
}

#[test]
fn valid_rules_are_followed() {
    let content = b"give vendor,a One\ngive vendor,b Two\nwithhold arm,pl031 Three\nwithhold vendor,c Four\n";
    assert!(check_boot(&machine(content.len(), |_| {}), content));
    assert!(check_boot(&machine(1, |_| {}), b""));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_lines(lines in prop::collection::vec(line(), 0..4)) {
        let content = lines.concat();
        check_boot(&machine(content.len().max(1), |_| {}), content.as_bytes());
    }

    #[test]
    fn any_bytes(content in prop::collection::vec(any::<u8>(), 0..256), size in 1..=POLICY_MAX) {
        check_boot(&machine(size, |_| {}), &content);
        let _ = Rules::parse(&content).map_err(|error| error.to_string());
    }

    #[test]
    fn any_text(content in "(give|withhold) ?[ -~\\n\\t\\PC]{0,200}") {
        check_boot(&machine(content.len(), |_| {}), content.as_bytes());
    }

    /// Rules about devices with random properties.
    #[test]
    fn properties_replaced(
        lines in prop::collection::vec(line(), 1..3),
        changes in prop::collection::vec((any::<Index>(), any::<Index>(), prop::collection::vec(boundary_value(), 0..5)), 1..4),
    ) {
        let paths = ["/a@f200000", "/b@f201000", "/c@f202000", "/pl031@9010000", "/chosen/module@0x48f00000", "/chosen"];
        let names = [
            "reg", "ranges", "#address-cells", "#size-cells", "phandle", "iommu-map", "iommus", "status", "device_type",
            "memory-region",
        ];
        let content = lines.concat();
        let dtb = machine(content.len(), |tree| {
            for (path, name, value) in changes {
                let node = tree.find_node_mut(paths[path.index(paths.len())]).unwrap();
                set(node, &[(names[name.index(names.len())], cells(&value))]);
            }
        });
        check_boot(&dtb, content.as_bytes());
    }
}
