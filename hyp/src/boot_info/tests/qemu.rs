//! The trees that QEMU itself writes. Ignored by default, since they need QEMU: `PORTCULLIS_QEMU`, by default
//! `qemu-system-aarch64`.

use std::process::Command;
use std::string::ToString;
use std::vec::Vec;
use std::{env, format, fs, process};

use super::oracle;
use super::virt::*;
use crate::boot_info::fdt_edit::write_host_dtb;
use crate::boot_info::policy::Verdict;
use crate::boot_info::{MmioPolicy, Platform, layout, plan};

fn dump(tag: &str, machine: &str, arguments: &[&str]) -> Vec<u8> {
    let folder = env::temp_dir().join(format!("portcullis-dtb-{}-{tag}", process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (image, dtb) = (folder.join("image"), folder.join("dtb"));
    let mut kernel = kernel_header(0x10_0000).to_vec();
    kernel.resize(0x1_0000, 0);
    fs::write(&image, kernel).unwrap();
    let file = image.display();
    let qemu = env::var_os("PORTCULLIS_QEMU").unwrap_or_else(|| "qemu-system-aarch64".into());
    let status = Command::new(qemu)
        .args(["-machine", &format!("{machine},dumpdtb={}", dtb.display()), "-nic", "none"])
        .args(["-cpu", "max", "-display", "none", "-serial", "null", "-serial", "null"])
        .args(["-kernel", &file.to_string(), "-append", &format!("token={TOKEN}")])
        .args(["-device", &format!("guest-loader,addr=0x49000000,kernel={file},bootargs=console=ttyAMA0")])
        .args(["-device", &format!("guest-loader,addr=0x4d000000,initrd={file}")])
        .args(arguments)
        .status()
        .expect("QEMU starts");
    assert!(status.success());
    let bytes = fs::read(&dtb).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    bytes
}

const MACHINE: &str = "virt,gic-version=3,iommu=smmuv3,virtualization=on";

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn qemus_own_trees_are_accepted() {
    for (tag, arguments) in [
        ("small", ["-m", "512M", "-smp", "1"]),
        ("usual", ["-m", "1G", "-smp", "4"]),
        ("large", ["-m", "8G", "-smp", "8"]),
    ] {
        let dtb = dump(tag, MACHINE, &arguments);
        let platform = Platform::parse(&dtb).unwrap();
        let policy = MmioPolicy::decide(&platform).unwrap();
        let header = kernel_header(0x10_0000);
        let layout = layout::plan(&platform, &request(&dtb, &header)).unwrap();
        assert_eq!(plan::check(&platform, &policy, &layout), Ok(()));
        oracle::check(&dtb, &platform, &policy, &layout);
        let mut out = std::vec![0xaa; layout.kernel().unwrap().dtb.size() as usize];
        let length = write_host_dtb(&platform, &policy, &layout, &mut out).unwrap();
        assert!(length < dtb.len());
        let given = policy.decisions().iter().filter(|d| matches!(d.verdict, Verdict::Given(_))).count();
        assert_eq!((given, policy.decisions().len()), (6, 43), "{tag}");
        assert_eq!(platform.cpus.len().to_string(), arguments[3], "{tag}");
    }
}

#[test]
#[ignore = "needs qemu-system-aarch64"]
fn qemu_machines_without_required_hardware_are_refused() {
    let usual = ["-m", "1G", "-smp", "1"];
    for (tag, machine, reason) in [
        ("nosmmu", "virt,gic-version=3,virtualization=on", "iommu=smmuv3"),
        ("gicv2", "virt,gic-version=2,iommu=smmuv3,virtualization=on", "gic-version=3"),
        ("el1", "virt,gic-version=3,iommu=smmuv3", "virtualization=on"),
    ] {
        let message = refusal(&dump(tag, machine, &usual));
        assert!(message.contains(reason), "{tag}: {message}");
    }
}
