//! Tests of EL2 at other addresses than its link address, as with other loaders and on boards with other memory.
//!
//! QEMU loads an arm64 Image at the offset from the start of RAM in its header. The tests change this offset.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::images;
use crate::payload::{HypervisorKind, Images, Run};
use crate::qemu::{End, HOST_KERNEL_ADDRESS, HostModules, Machine, fresh_token};

const RAM: u64 = 0x4000_0000;
const MIB: u64 = 1 << 20;

/// A load address of EL2, and the machine.
#[derive(Clone, Copy, Debug)]
pub struct LoadAddress {
    /// The address in words, for the test's name.
    pub name: &'static str,
    /// QEMU's `-m`.
    pub mem: &'static str,
    /// CPUs.
    pub smp: u32,
    at: At,
}

#[derive(Clone, Copy, Debug)]
enum At {
    Address(u64),
    /// The first 2 MiB boundary after the memory that the host's kernel requires.
    AfterTheKernel,
}

/// All load addresses.
pub const LOAD_ADDRESSES: [LoadAddress; 6] = [
    LoadAddress { name: "the-next-2m", mem: "1G", smp: 4, at: At::Address(RAM + 4 * MIB) },
    LoadAddress { name: "a-page-boundary", mem: "1G", smp: 1, at: At::Address(RAM + 6 * MIB + 0x1000) },
    LoadAddress { name: "behind-the-kernel", mem: "1G", smp: 1, at: At::AfterTheKernel },
    LoadAddress { name: "the-end-of-ram", mem: "1G", smp: 1, at: At::Address(RAM + 1016 * MIB) },
    LoadAddress { name: "two-gigabytes", mem: "2G", smp: 1, at: At::Address(RAM + 1024 * MIB - 0x8_0000) },
    LoadAddress { name: "above-4g", mem: "6G", smp: 4, at: At::Address(RAM + 4096 * MIB) },
];

impl LoadAddress {
    fn address(&self, images: &Images) -> Result<u64> {
        Ok(match self.at {
            At::Address(address) => address,
            At::AfterTheKernel => {
                (HOST_KERNEL_ADDRESS + images::image_extent(&images.payload)?).next_multiple_of(2 * MIB)
            }
        })
    }

    /// Boots EL2 at this address, with the host that runs `test`. Without isolation the attack must land, which proves
    /// that EL2's image is at the attacked address.
    ///
    /// # Errors
    /// When the test fails.
    pub fn run(&self, images: &Images, test: &str, dir: &Path, deadline: Duration) -> Result<()> {
        let address = self.address(images)?;
        for hypervisor in [HypervisorKind::WithoutIsolation, HypervisorKind::Portcullis]
            .into_iter()
            .filter(|hypervisor| images.has(*hypervisor))
        {
            let dir = dir.join(hypervisor.name());
            fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
            let placed = dir.join("el2.bin");
            let image =
                if hypervisor == HypervisorKind::WithoutIsolation { &images.without_isolation } else { &images.hyp };
            images::with_text_offset(image.as_ref().context("no hypervisor image")?, address - RAM, &placed)?;
            let images = Images { hyp: Some(placed.clone()), without_isolation: Some(placed), ..images.clone() };
            let bootargs = format!("el2={address:#x}");
            let run = Run {
                smp: self.smp,
                mem: self.mem,
                bootargs: &bootargs,
                deadline,
                ..Run::new(&images, hypervisor, test)
            };
            run.run(&dir)?.verdict().with_context(|| format!("EL2 at {address:#x}, {}", hypervisor.name()))?;
        }
        Ok(())
    }
}

/// Boots EL2 at an address that is not a page boundary. EL2 cannot run there: it must end the run immediately with an
/// error status, without a message.
///
/// # Errors
/// When EL2 does anything else.
pub fn misplaced_is_refused(images: &Images, dir: &Path, deadline: Duration) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let placed = dir.join("el2.bin");
    images::with_text_offset(images.hyp.as_ref().context("no hypervisor image")?, 4 * MIB + 0x800, &placed)?;
    let host = HostModules { kernel: images.payload.clone(), initrd: None, bootargs: "test=list".to_owned() };
    let mut machine = Machine::new(&images.qemu);
    machine.boot_el2(&placed, &fresh_token()?, Some(&host))?;
    let outcome = machine.run(dir, deadline)?;
    let End::Exited(status) = outcome.end else { anyhow::bail!("EL2 did not end the run: {:?}", outcome.end) };
    ensure!(!status.success(), "EL2 ended the run with success");
    ensure!(outcome.host_console.is_empty(), "the host started: {}", outcome.host_console);
    Ok(())
}
