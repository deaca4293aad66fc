//! Boot input that EL2 must refuse, for rows 58 and 64 of the attack catalogue: well-formed but wrong device trees.
//! The payload cannot test this, since EL2 does not start it. QEMU generates the tree of a valid machine; one number is
//! changed or one node added, and the machine boots with this tree.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::board_policy;
use crate::console;
use crate::payload::Images;
use crate::qemu::{End, HOST_INITRD_ADDRESS, HOST_KERNEL_ADDRESS, HostModules, Machine, Outcome, fresh_token};
use crate::tree::{Node, add_node, cell, cells, change_cell, cut, rename_property};

const DEADLINE: Duration = Duration::from_secs(60);

/// A wrong device tree.
#[derive(Clone, Copy, Debug)]
pub struct BadTree {
    /// The test's name.
    pub name: &'static str,
    change: fn(&mut Vec<u8>) -> Result<()>,
    /// The content of a policy module.
    policy: Option<&'static str>,
    end: Expected,
}

/// Expected result of a wrong tree.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// EL2 does not start its host; its error contains these words.
    Refusal(&'static [&'static str]),
    /// The host runs, and EL2 prints this line.
    Message(&'static str),
    /// The same, and this test of the payload passes on a machine with a root port.
    Passes(&'static str, &'static str),
}

/// Address of EL2's own image.
const EL2_IMAGE: u32 = 0x4020_0000;
/// A page of the host's kernel, which is at [`HOST_KERNEL_ADDRESS`].
const KERNEL: u32 = 0x4900_0000;
/// The end of the machine's memory.
const RAM_END: u32 = 0x8000_0000;

/// All wrong trees.
pub const BAD_TREES: [BadTree; 16] = [
    refused("t58_ramdisk_over_kernel", |tree| move_ramdisk(tree, KERNEL + 0x1000), &["overlaps"]),
    refused("t58_ramdisk_over_el2", |tree| move_ramdisk(tree, EL2_IMAGE + 0x1000), &["overlaps"]),
    refused("t58_ramdisk_beyond_memory", |tree| move_ramdisk(tree, RAM_END - 0x1000), &["not in the machine's memory"]),
    // The first StreamID of the only entry: requester, SMMU, StreamID, count.
    refused("t58_iommu_map_wraps", |tree| change_cell(tree, "pcie@", "iommu-map", 2, u32::MAX), &["iommu-map"]),
    refused(
        "t58_huge_cell_count",
        |tree| change_cell(tree, "cpus", "#address-cells", 0, 0x7fff_ffff),
        &["device tree", "#address-cells"],
    ),
    refused("t64_memory_over_smmu", |tree| add_memory(tree, 0x905_0000, 0x2_0000), &["overlaps", "/smmuv3@9050000"]),
    refused("t64_memory_over_gic", |tree| add_memory(tree, 0x80a_0000, 0x2_0000), &["overlaps", "/intc@8000000"]),
    refused(
        "t64_memory_over_el2s_console",
        |tree| add_memory(tree, 0x904_0000, 0x1000),
        &["overlaps", "/pl011@9040000"],
    ),
    refused("t64_reservation_without_ranges", reserve_without_ranges, &["/reserved-memory/tee@60000000"]),
    // The bus's only entry: child bus address, parent bus address in two cells, size.
    BadTree {
        name: "t64_window_over_withheld_bus",
        change: |tree| change_cell(tree, "platform-bus@", "ranges", 2, 0x2000_0000),
        policy: None,
        end: Expected::Message("withheld: /pcie@10000000: shares a 4 KiB page with registers that are withheld"),
    },
    refused("t64_one_phandle_twice", |tree| second_smmu_phandle(tree), &["phandle", "/apb-pclk", "/smmuv3@9050000"]),
    BadTree {
        name: "t64_iommus_valid_and_iommu_map_foreign",
        change: master_with_foreign_map,
        policy: None,
        end: Expected::Message("withheld: /dma@f010000: DMA master behind an IOMMU that EL2 does not own"),
    },
    BadTree {
        name: "t64_requesters_of_one_bus",
        change: |tree| one_bus(tree),
        policy: None,
        end: Expected::Passes(
            "given: /pcie@10000000: PCI host, every requester of its buses behind smmu0, bus numbers fixed by EL2",
            "t64_bus_numbers_are_kept",
        ),
    },
    // Linux rejects an SMMU with the property but without the override; QEMU's SMMU lacks the override. The root node
    // has also `dma-coherent`.
    BadTree {
        name: "instdata_override_is_removed",
        change: |tree| rename_property(tree, "smmuv3@", "dma-coherent", "arm,instdata-override"),
        policy: None,
        end: Expected::Message(
            "smmu0: arm,instdata-override: removed from the host's tree; not supported by this SMMU (IDR1.ATTR_PERMS_OVR is 0)",
        ),
    },
    BadTree {
        name: "board_policy_gives_a_device",
        change: rename_clock,
        policy: Some("# Of this board.\ngive vnd,pl031 Reads the time only\ngive vnd,none On another board\n"),
        end: Expected::Message("given: /pl031@9010000: by the board's policy: Reads the time only"),
    },
    BadTree {
        policy: Some("give qemu,fw-cfg-mmio Harmless\n"),
        ..refused(
            "t64_board_policy_gives_firmwares_configuration",
            |_| Ok(()),
            &["line 1 of the policy module", "/fw-cfg@9020000", "DMA master behind no SMMU"],
        )
    },
];

const fn refused(
    name: &'static str,
    change: fn(&mut Vec<u8>) -> Result<()>,
    reason: &'static [&'static str],
) -> BadTree {
    BadTree { name, change, policy: None, end: Expected::Refusal(reason) }
}

impl BadTree {
    /// Boots a machine with `smp` CPUs of type `cpu` and this tree; EL2 must refuse to start its host, or withhold or
    /// change the node, and print the expected message.
    ///
    /// # Errors
    /// When EL2 does something else, or when the machine cannot be created.
    pub fn is_refused(&self, images: &Images, cpu: &str, smp: u32, dir: &Path) -> Result<()> {
        let hyp = images.hyp.as_ref().context("no hypervisor image")?;
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let token = fresh_token()?;
        let payload = &images.payload;
        let new = || {
            let mut machine = Machine::new(&images.qemu);
            cpu.clone_into(&mut machine.cpu);
            machine.smp = smp;
            if matches!(self.end, Expected::Passes(..)) {
                machine.device("pcie-root-port,id=rp,chassis=1").device("edu,dma_mask=0xffffffffff");
            }
            machine
        };
        let test = if let Expected::Passes(_, test) = self.end { test } else { "list" };
        let tree = dir.join("bad-tree.dtb");
        let mut plain = new();
        let host =
            HostModules { kernel: payload.clone(), initrd: Some(payload.clone()), bootargs: format!("test={test}") };
        plain.boot_el2(hyp, &token, Some(&host))?;
        plain.machine.push_str(&format!(",dumpdtb={}", tree.display()));
        plain.run(&dir.join("dump"), DEADLINE)?.require_clean_exit()?;
        let mut bytes = fs::read(&tree)?;
        cut(&mut bytes)?;
        (self.change)(&mut bytes)?;
        let mut machine = new();
        if let Some(policy) = self.policy {
            let file = dir.join("policy");
            fs::write(&file, policy)?;
            board_policy::describe(&mut bytes, policy.len())?;
            board_policy::load(&mut machine, &file);
        }
        fs::write(&tree, bytes)?;
        machine.boot_el2(hyp, &token, None)?;
        machine.arg("-dtb").arg(&tree);
        for addr in [HOST_KERNEL_ADDRESS, HOST_INITRD_ADDRESS] {
            machine.device(&format!("loader,file={},addr={addr:#x},force-raw=on", payload.display()));
        }
        let outcome = machine.run(dir, DEADLINE)?;
        self.check(&outcome, &token)
    }

    fn check(&self, outcome: &Outcome, token: &str) -> Result<()> {
        let console = &outcome.el2_console;
        let exit = console::exit_line(console, token).with_context(|| format!("EL2 console: {console}"))?;
        let reason = match self.end {
            Expected::Refusal(reason) => reason,
            Expected::Message(line) | Expected::Passes(line, _) => {
                console::verdict(console, token)?;
                ensure!(console.contains(&format!("portcullis: {line}")), "EL2 did not print `{line}`: {console}");
                let Expected::Passes(_, test) = self.end else { return Ok(()) };
                let lines = console::test_lines(&outcome.host_console);
                let passed = |line: &console::TestLine| line.name == test && line.result == console::TestResult::Pass;
                ensure!(lines.len() == 1 && lines.iter().all(passed), "{test}: {}", outcome.host_console);
                return Ok(());
            }
        };
        ensure!(outcome.host_console.trim().is_empty(), "the host ran: {}", outcome.host_console);
        ensure!(exit.status == "error" && exit.reason == "boot", "EL2 ended with {} at {}", exit.status, exit.reason);
        match outcome.end {
            End::Exited(status) if !status.success() => {}
            end => bail!("the machine ended with success: {end:?}"),
        }
        let errors = console::error_lines(console).join("; ");
        let missing: Vec<_> = reason.iter().filter(|word| !errors.contains(**word)).collect();
        ensure!(missing.is_empty(), "the reason does not contain {missing:?}: {errors}");
        Ok(())
    }
}

/// Gives the ramdisk's module another address, below 4 GiB like the original one.
fn move_ramdisk(tree: &mut [u8], addr: u32) -> Result<()> {
    change_cell(tree, &format!("module@{HOST_INITRD_ADDRESS:#x}"), "reg", 1, addr)
}

/// Adds memory below 4 GiB.
fn add_memory(tree: &mut Vec<u8>, base: u32, size: u32) -> Result<()> {
    let reg = cells(&[0, base, 0, size]);
    let properties: [(&str, &[u8]); 2] = [("device_type", b"memory\0"), ("reg", &reg)];
    add_node(tree, &Node { name: "ram@1", properties: &properties, children: &[] })
}

/// Gives the clock a most specific string that EL2 does not know.
fn rename_clock(tree: &mut Vec<u8>) -> Result<()> {
    let (old, new) = (b"arm,pl031\0", b"vnd,pl031\0");
    let at = tree.windows(old.len()).position(|window| window == old).context("no arm,pl031")?;
    tree.splice(at..at + new.len(), new.iter().copied());
    Ok(())
}

/// Reserves memory for firmware on a bus without `ranges`.
fn reserve_without_ranges(tree: &mut Vec<u8>) -> Result<()> {
    let (two, reg) = (cells(&[2]), cells(&[0, 0x6000_0000, 0, 0x10_0000]));
    let tee = Node { name: "tee@60000000", properties: &[("reg", &reg), ("no-map", &[])], children: &[] };
    let properties: [(&str, &[u8]); 2] = [("#address-cells", &two), ("#size-cells", &two)];
    add_node(tree, &Node { name: "reserved-memory", properties: &properties, children: &[tee] })
}

/// Gives a clock the SMMU's phandle.
fn second_smmu_phandle(tree: &mut [u8]) -> Result<()> {
    let phandle = cell(tree, "smmuv3@", "phandle", 0)?;
    change_cell(tree, "apb-pclk", "phandle", 0, phandle)
}

/// Removes all IDs except those of bus 0 from the map.
fn one_bus(tree: &mut [u8]) -> Result<()> {
    change_cell(tree, "pcie@", "bus-range", 1, 0)?;
    change_cell(tree, "pcie@", "iommu-map", 3, 0x100)
}

/// Adds a DMA master behind the SMMU, some of whose IDs go through another IOMMU.
fn master_with_foreign_map(tree: &mut Vec<u8>) -> Result<()> {
    let smmu = cell(tree, "smmuv3@", "phandle", 0)?;
    let (reg, iommus, map) = (cells(&[0, 0xf01_0000, 0, 0x1000]), cells(&[smmu, 5]), cells(&[0, 0x77, 0, 0x10]));
    let properties: [(&str, &[u8]); 4] =
        [("compatible", b"vendor,dma\0"), ("reg", &reg), ("iommus", &iommus), ("iommu-map", &map)];
    add_node(tree, &Node { name: "dma@f010000", properties: &properties, children: &[] })
}
