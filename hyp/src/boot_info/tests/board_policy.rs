//! The rules of the board's author. Row T64 of the attack catalogue: a rule must not give certain nodes.

use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use dtoolkit::model::{DeviceTree, DeviceTreeNode};

use super::virt::*;
use crate::boot_info::fdt_edit::write_host_dtb;
use crate::boot_info::policy::{Given, Verdict, Withheld};
use crate::boot_info::rules::{POLICY_MAX, RULES_MAX, RuleKind, Rules};
use crate::boot_info::{Evaluated, MmioPolicy, Platform, evaluate, evaluate_with_policy};

/// Address of the policy module.
pub(super) const POLICY: u64 = 0x48f0_0000;

/// The node of a policy module with `size` bytes.
pub(super) fn policy_module(base: u64, size: usize) -> DeviceTreeNode {
    let compatible = text(&["multiboot,module", "portcullis,policy"]);
    node("module@0x48f00000", &[("compatible", compatible), ("reg", wide(&[base, size as u64]))])
}

fn add_module(tree: &mut DeviceTree, content: &str) {
    tree.find_node_mut("/chosen").unwrap().add_child(policy_module(POLICY, content.len()));
}

/// The default machine with a policy module for `content`, modified by `modify`.
fn with_policy(content: &str, modify: impl FnOnce(&mut DeviceTree)) -> Vec<u8> {
    modified(|tree| {
        add_module(tree, content);
        modify(tree);
    })
}

fn evaluated<'a>(dtb: &'a [u8], content: &'a str) -> Result<Evaluated<'a>, String> {
    let header = kernel_header(KERNEL_SIZE);
    evaluate_with_policy(dtb, content.as_bytes(), &request(dtb, &header)).map_err(|error| error.to_string())
}

/// The boot log's line about `path`, and the decision.
#[track_caller]
fn line(dtb: &[u8], content: &str, path: &str) -> (Verdict, String) {
    let Evaluated { platform, policy, .. } = evaluated(dtb, content).unwrap_or_else(|error| panic!("{error}"));
    let found = policy.decisions().iter().find(|d| platform.path(d.node).to_string() == path);
    let found = found.unwrap_or_else(|| panic!("no decision about {path}"));
    (found.verdict, policy.shown(&platform, found).to_string())
}

#[track_caller]
fn refused_with(dtb: &[u8], content: &str, words: &[&str]) {
    let message = evaluated(dtb, content).map(|_| ()).expect_err("accepted");
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

fn device(name: &str, compatible: &[&str], properties: &[(&str, Vec<u8>)]) -> DeviceTreeNode {
    let base = u64::from_str_radix(name.split('@').nth(1).unwrap(), 16).unwrap();
    let mut device = node(name, &[("compatible", text(compatible)), ("reg", wide(&[base, 0x1000]))]);
    set(&mut device, properties);
    device
}

fn with_device(content: &str, device: DeviceTreeNode) -> Vec<u8> {
    with_policy(content, |tree| tree.root.add_child(device))
}

const GIVE: &str = "# a board\n\ngive vendor,thermal  A sensor: reads temperatures\r\n";

#[test]
fn a_rule_gives_a_device_that_el2_does_not_know() {
    let dtb = with_device(GIVE, device("thermal@f100000", &["vendor,thermal", "vendor,any"], &[]));
    let (verdict, shown) = line(&dtb, GIVE, "/thermal@f100000");
    assert_eq!(verdict, Verdict::Given(Given::Rule { line: 3 }));
    assert_eq!(shown, "by the board's policy: A sensor: reads temperatures");
    let Evaluated { platform, policy, .. } = evaluated(&dtb, GIVE).unwrap();
    assert!(policy.mmio().overlaps(&range(0xf10_0000, 0x1000)));
    assert_eq!(policy.unused_rules(&platform).count(), 0);
    // Without the rule it is unknown.
    let plain = with_node(device("thermal@f100000", &["vendor,thermal"], &[]));
    assert_eq!(self::verdict(&plain, "/thermal@f100000"), Verdict::Withheld(Withheld::Unknown));
}

/// A variant may be a DMA master.
#[test]
fn t55_a_rule_gives_by_the_most_specific_string_only() {
    let dtb = with_device(GIVE, device("thermal@f100000", &["vendor,thermal-with-dma", "vendor,thermal"], &[]));
    assert_eq!(line(&dtb, GIVE, "/thermal@f100000").0, Verdict::Withheld(Withheld::Unknown));
    let Evaluated { platform, policy, .. } = evaluated(&dtb, GIVE).unwrap();
    // A policy may be for several boards: the boot log has the rule.
    let unused: Vec<_> = policy.unused_rules(&platform).map(|rule| (rule.line, rule.kind, rule.compatible)).collect();
    assert_eq!(unused, [(3, RuleKind::Give, "vendor,thermal")]);
}

#[test]
fn a_rule_withholds_by_any_string() {
    let content = "withhold arm,primecell None of these is wired\n";
    let dtb = with_policy(content, |_| {});
    let by_rule = Verdict::Withheld(Withheld::Rule { line: 1 });
    let (verdict, shown) = line(&dtb, content, "/pl031@9010000");
    assert_eq!((verdict, shown.as_str()), (by_rule, "by the board's policy: None of these is wired"));
    assert_eq!(line(&dtb, content, "/pl061@9030000").0, by_rule);
    assert_eq!(line(&dtb, content, "/pl011@9040000").0, Verdict::Withheld(Withheld::El2Console));
    let Evaluated { policy, .. } = evaluated(&dtb, content).unwrap();
    assert!(!policy.mmio().overlaps(&range(0x901_0000, 0x1000)));
    let its = "withhold arm,gic-v3-its Broken on this board";
    let dtb = with_policy(its, |_| {});
    assert_eq!(line(&dtb, its, "/intc@8000000/its@8080000").0, by_rule);
    // Also a master behind an SMMU, with its windows.
    let pci = "withhold pci-host-ecam-generic Its IDs are wrong in the tree";
    let dtb = with_policy(pci, |_| {});
    assert_eq!(line(&dtb, pci, "/pcie@10000000").0, by_rule);
    assert!(!evaluated(&dtb, pci).unwrap().policy.mmio().overlaps(&range(0x1000_0000, 0x1000)));
}

#[test]
fn a_rule_cannot_withhold_a_node_that_the_host_needs() {
    for (compatible, why) in [("arm,gic-v3", "/intc@8000000: it is the interrupt controller"), ("arm,smmu-v3", "SMMU")]
    {
        let content = format!("withhold {compatible} Because");
        refused_with(&with_policy(&content, |_| {}), &content, &["line 1", compatible, why, "remove the rule"]);
    }
    // The rule would have no effect.
    let content = "withhold vendor,soc Because";
    let counts = [("#address-cells", cells(&[1])), ("#size-cells", cells(&[1])), ("ranges", vec![])];
    let mut bus = node("soc", &[("compatible", text(&["vendor,soc", "simple-bus"]))]);
    set(&mut bus, &counts);
    refused_with(&with_device(content, bus), content, &["line 1", "/soc", "bus"]);
}

/// Nodes that `allow=` refuses, and nodes that are DMA masters in the tree or the table of bindings.
#[test]
fn t64_a_rule_does_not_give_masters_or_forbidden_nodes() {
    let give = |compatible: &str| format!("give {compatible} Harmless");
    let usual = |compatible: &str, words: &[&str]| {
        let content = give(compatible);
        let words = [&["line 1", compatible, "remove the rule"], words].concat();
        refused_with(&with_policy(&content, |_| {}), &content, &words);
    };
    usual("qemu,fw-cfg-mmio", &["/fw-cfg@9020000", "firmware configuration"]);
    usual("cfi-flash", &["/flash@0", "keeps its content"]);
    usual("virtio,mmio", &["/virtio_mmio@a000000", "behind no SMMU"]);
    usual("qemu,platform", &["/platform-bus@c000000"]);
    usual("arm,smmu-v3", &["/smmuv3@9050000", "EL2 emulates"]);
    let vendor = |properties: &[(&str, Vec<u8>)], words: &[&str]| {
        let content = give("vendor,x");
        let words = [&["line 1", "/x@f100000"], words].concat();
        refused_with(&with_device(&content, device("x@f100000", &["vendor,x"], properties)), &content, &words);
    };
    let foreign = "behind an IOMMU that EL2 does not own";
    vendor(&[("iommus", cells(&[0x77, 5]))], &[foreign]);
    vendor(&[("iommu-map", cells(&[0, SMMU, 0, 0x8000]))], &["does not cover every requester"]);
    vendor(&[("device_type", text(&["pci"]))], &["PCI host"]);
    let three = [("#address-cells", cells(&[3])), ("#size-cells", cells(&[2]))];
    let window = [cells(&[0x200_0000, 0, 0x5000_0000]), wide(&[0x3f00_0000, 0x10_0000])].concat();
    vendor(&[&three[..], &[("ranges", window)]].concat(), &["bridge"]);
    vendor(&[("memory-region", cells(&[0x99])), ("phandle", cells(&[0x99])), ("iommus", cells(&[0x77]))], &[foreign]);
}

/// Nodes that must be withheld because of other nodes.
#[test]
fn t64_a_rule_does_not_give_a_node_withheld_because_of_another() {
    let content = "give vendor,x Harmless";
    let x = |properties: &[(&str, Vec<u8>)]| device("x@f100000", &["vendor,x"], properties);
    let refused = |modify: &dyn Fn(&mut DeviceTree), words: &[&str]| {
        refused_with(&with_policy(content, |tree| modify(tree)), content, &[&["line 1", "x@f100000"], words].concat());
    };
    // A page that also has withheld registers; and a second node at the same address that is disabled.
    for status in ["okay", "disabled"] {
        refused(
            &|tree| {
                tree.root.add_child(x(&[]));
                let reset = [("reg", wide(&[0xf10_0800, 0x10])), ("status", text(&[status]))];
                tree.root.add_child(node("reset@f100800", &reset));
            },
            &["shares a 4 KiB page", "/reset@f100800", "withhold=PATH"],
        );
    }
    // A node that an SMMU depends on.
    refused(
        &|tree| {
            tree.root.add_child(x(&[("phandle", cells(&[0x99])), ("#clock-cells", cells(&[0]))]));
            set(tree.find_node_mut("/smmuv3@9050000").unwrap(), &[("clocks", cells(&[0x99]))]);
        },
        &["an SMMU's power, clock or reset"],
    );
    // A node below a withheld one.
    refused(
        &|tree| {
            let counts = [("#address-cells", cells(&[2])), ("#size-cells", cells(&[2])), ("ranges", vec![])];
            let mut above = node("y@f200000", &[("reg", wide(&[0xf20_0000, 0x1000]))]);
            set(&mut above, &counts);
            above.add_child(x(&[]));
            tree.root.add_child(above);
        },
        &["/y@f200000/x@f100000", "below a node that is withheld: /y@f200000"],
    );
    // A node that uses memory reserved for firmware.
    refused(
        &|tree| {
            let counts = [("#address-cells", cells(&[2])), ("#size-cells", cells(&[2])), ("ranges", vec![])];
            let mut reserved = node("reserved-memory", &counts);
            let tee = [("reg", wide(&[0x6000_0000, 0x1000])), ("no-map", vec![]), ("phandle", cells(&[0x99]))];
            reserved.add_child(node("tee@60000000", &tee));
            tree.root.add_child(reserved);
            tree.root.add_child(x(&[("memory-region", cells(&[0x99]))]));
        },
        &["uses memory that the host does not get"],
    );
    // A node whose registers can start the DMA of a child node.
    refused(
        &|tree| {
            let mut above = x(&[]);
            above.add_child(node("dma", &[("iommus", cells(&[0x77, 5]))]));
            tree.root.add_child(above);
        },
        &["behind an IOMMU that EL2 does not own"],
    );
}

/// A rule matches all devices of a kind. A device that is disabled, or EL2's, does not affect the others.
#[test]
fn a_rule_does_not_change_disabled_nodes_or_el2s_console() {
    let content = "give vendor,x Harmless\ngive arm,pl011 Harmless";
    let dtb = with_policy(content, |tree| {
        tree.root.add_child(device("x@f100000", &["vendor,x"], &[("status", text(&["disabled"]))]));
        tree.root.add_child(device("x@f200000", &["vendor,x"], &[]));
    });
    assert_eq!(line(&dtb, content, "/x@f100000").0, Verdict::Withheld(Withheld::Disabled));
    assert_eq!(line(&dtb, content, "/x@f200000").0, Verdict::Given(Given::Rule { line: 1 }));
    assert_eq!(line(&dtb, content, "/pl011@9040000").0, Verdict::Withheld(Withheld::El2Console));
    assert_eq!(line(&dtb, content, "/pl011@9000000").0, Verdict::Given(Given::Uart));
}

/// The command line is for one machine, the policy for several.
#[test]
fn the_command_line_overrides_a_rule() {
    let content = "give vendor,x Harmless\nwithhold arm,pl031 Not wired";
    let dtb = with_policy(content, |tree| {
        tree.root.add_child(device("x@f100000", &["vendor,x"], &[]));
        let options = format!("token={TOKEN} withhold=/x@f100000 allow=/pl031@9010000");
        set(tree.find_node_mut("/chosen").unwrap(), &[("bootargs", text(&[&options]))]);
    });
    assert_eq!(line(&dtb, content, "/x@f100000").0, Verdict::Withheld(Withheld::CommandLine));
    assert_eq!(line(&dtb, content, "/pl031@9010000").0, Verdict::Given(Given::Allowed));
}

/// The remedy in the refusal works, also for a node that is withheld without the rule.
#[test]
fn the_command_line_excludes_a_node_from_a_rule() {
    let content = "give vendor,x Harmless";
    for properties in [vec![], vec![("iommus", cells(&[0x77, 5]))], vec![("status", text(&["disabled"]))]] {
        let dtb = with_policy(content, |tree| {
            tree.root.add_child(device("x@f100000", &["vendor,x"], &properties));
            let options = format!("token={TOKEN} withhold=/x@f100000");
            set(tree.find_node_mut("/chosen").unwrap(), &[("bootargs", text(&[&options]))]);
        });
        assert_eq!(line(&dtb, content, "/x@f100000").0, Verdict::Withheld(Withheld::CommandLine));
    }
    let smmu = "give arm,smmu-v3 Harmless";
    let message = evaluated(&with_policy(smmu, |_| {}), smmu).map(|_| ()).expect_err("accepted");
    assert!(message.ends_with("; remove the rule"), "{message}");
}

#[track_caller]
fn bad_line(content: &[u8], words: &[&str]) {
    let message = Rules::parse(content).map(|_| ()).expect_err("accepted").to_string();
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
    assert!(message.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{message}");
}

#[test]
fn an_invalid_line_is_refused_with_its_number() {
    bad_line(b"give a b\n\n#\nallow c d", &["line 4", "'allow'", "give or withhold"]);
    bad_line(b"Give a b", &["line 1", "'Give'"]);
    bad_line(b"give", &["line 1", "compatible string"]);
    bad_line(b"\ngive vendor,x", &["line 2", "'give vendor,x'", "reason"]);
    bad_line(b"give vendor,x \t ", &["line 1", "reason"]);
    bad_line(format!("give {} b", "c".repeat(97)).as_bytes(), &["line 1", "96 characters"]);
    bad_line("give vendor,\u{fc} b".as_bytes(), &["line 1", "compatible string"]);
    bad_line(format!("give a {}", "c".repeat(101)).as_bytes(), &["line 1", "100 printable"]);
    // A reason is a line of the boot log.
    bad_line(b"give a \x1b[2Jb", &["line 1", "\\u{1b}[2Jb", "printable"]);
    bad_line(b"give a b\rportcullis: exit", &["line 1", "printable"]);
    bad_line(b"give a b\n# \xff", &["line 2", "UTF-8"]);
    bad_line(b"give a b\0", &["line 1", "printable"]);
    bad_line(&[0; 64], &["line 1"]);
    bad_line(b"give a b\nwithhold a c", &["line 2", "one rule about each"]);
    bad_line(b"give a b\ngive a c", &["line 2", "one rule about each"]);
}

#[test]
fn the_number_of_rules_is_limited() {
    let rules = |count: usize| (0..count).map(|n| format!("give vendor,{n} b\n")).collect::<String>();
    let most = rules(RULES_MAX);
    let parsed = Rules::parse(most.as_bytes()).unwrap();
    assert_eq!((parsed.iter().count(), parsed.on_line(128).unwrap().compatible), (RULES_MAX, "vendor,127"));
    assert_eq!(parsed.iter().next().unwrap().kind, RuleKind::Give);
    bad_line(rules(RULES_MAX + 1).as_bytes(), &["more than 128 rules"]);
    // The last rule is found too.
    let content = rules(RULES_MAX);
    let dtb = with_device(&content, device("x@f100000", &["vendor,127"], &[]));
    assert_eq!(line(&dtb, &content, "/x@f100000").0, Verdict::Given(Given::Rule { line: 128 }));
    let Evaluated { platform, policy, .. } = evaluated(&dtb, &content).unwrap();
    assert_eq!(policy.unused_rules(&platform).count(), RULES_MAX - 1);
}

fn module_at(base: u64, size: usize) -> String {
    let dtb = modified(|tree| tree.find_node_mut("/chosen").unwrap().add_child(policy_module(base, size)));
    let header = kernel_header(KERNEL_SIZE);
    evaluate_with_policy(&dtb, b"", &request(&dtb, &header)).map(|_| ()).expect_err("accepted").to_string()
}

#[test]
fn t58_a_policy_module_is_checked_like_the_others() {
    let is = |message: String, words: &[&str]| assert!(words.iter().all(|w| message.contains(w)), "{message}");
    is(module_at(0x8000_0000, 16), &["the policy module at 0x80000000", "not in the machine's memory"]);
    is(module_at(0x7fff_fff8, 16), &["not in the machine's memory"]);
    is(
        module_at(KERNEL + 0x1000, 16),
        &["the policy module at", "overlaps the kernel module", "load the policy module"],
    );
    is(module_at(RAMDISK - 8, 16), &["the policy module at", "overlaps the ramdisk module"]);
    is(module_at(IMAGE + 0x1000, 16), &["the policy module at", "overlaps EL2's image"]);
    is(module_at(DTB, 16), &["the policy module at", "overlaps EL2's device tree"]);
    is(module_at(POLICY, 0), &["reg of /chosen/module@0x48f00000", "one size above zero"]);
    is(module_at(POLICY, POLICY_MAX + 1), &["reg of /chosen/module@0x48f00000", "more than 16 KiB"]);
    let twice = modified(|tree| {
        let chosen = tree.find_node_mut("/chosen").unwrap();
        let mut second = node("module@2", &[("compatible", text(&["portcullis,policy"]))]);
        set(&mut second, &[("reg", wide(&[POLICY + 0x1_0000, 16]))]);
        chosen.add_child(policy_module(POLICY, 16));
        chosen.add_child(second);
    });
    refused_with(&twice, "", &["two policy modules", "/chosen/module@2"]);
    // In memory reserved for firmware.
    let kept = with_policy("give a b", |tree| {
        let counts = [("#address-cells", cells(&[2])), ("#size-cells", cells(&[2])), ("ranges", vec![])];
        let mut reserved = node("reserved-memory", &counts);
        reserved.add_child(node("tee@48f00000", &[("reg", wide(&[POLICY, 0x1000])), ("no-map", vec![])]));
        tree.root.add_child(reserved);
    });
    refused_with(&kept, "give a b", &["the policy module at"]);
    // A module that is both kernel and policy counts as the policy: its rules must not be ignored.
    let both = text(&["multiboot,kernel", "portcullis,policy"]);
    assert!(refusal(&with_properties("/chosen/module@0x49000000", &[("compatible", both)])).contains("16 KiB"));
}

/// Its `withhold` rules would be ignored.
#[test]
fn t58_a_policy_module_that_was_not_read_is_an_error() {
    let dtb = with_policy(GIVE, |_| {});
    let header = kernel_header(KERNEL_SIZE);
    let message = evaluate(&dtb, &request(&dtb, &header)).map(|_| ()).expect_err("accepted").to_string();
    assert!(message.contains("content of the policy module"), "{message}");
    assert!(MmioPolicy::decide(&Platform::parse(&dtb).unwrap()).is_err());
}

#[test]
fn the_hosts_tree_has_no_policy_module() {
    let dtb = with_policy(GIVE, |_| {});
    let Evaluated { platform, policy, layout } = evaluated(&dtb, GIVE).unwrap();
    let mut out = vec![0; layout.kernel().unwrap().dtb.size() as usize];
    let length = write_host_dtb(&platform, &policy, &layout, &mut out).unwrap();
    let has = |bytes: &[u8], word: &str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
    assert!(has(&dtb, "portcullis,policy"));
    assert!(!has(&out[..length], "portcullis,policy") && !has(&out[..length], "48f00000"));
}
