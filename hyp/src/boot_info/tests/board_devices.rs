//! Consoles, firmware's memory, limits, and `allow=` on machines that are not QEMU's.

use std::string::String;
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
    let mut out = vec![0; layout.host_dtb.size() as usize];
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
