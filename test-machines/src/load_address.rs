//! EL2 at other addresses than the one that it was linked for, as with other loaders, and on boards with other memory.
//!
//! The header of an arm64 Image has its distance from the start of RAM, which QEMU uses: the tests write it there.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::images;
use crate::payload::{Below, Images, Run};
use crate::qemu::{End, HOST_KERNEL_ADDRESS, HostModules, Machine, fresh_token};

const RAM: u64 = 0x4000_0000;
const MIB: u64 = 1 << 20;

/// The load address of EL2, and its machine.
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
    BehindTheKernel,
}

/// All load addresses.
pub const LOAD_ADDRESSES: [LoadAddress; 6] = [
    LoadAddress { name: "the-next-2m", mem: "1G", smp: 4, at: At::Address(RAM + 4 * MIB) },
    LoadAddress { name: "a-page-boundary", mem: "1G", smp: 1, at: At::Address(RAM + 6 * MIB + 0x1000) },
    LoadAddress { name: "behind-the-kernel", mem: "1G", smp: 1, at: At::BehindTheKernel },
    LoadAddress { name: "the-end-of-ram", mem: "1G", smp: 1, at: At::Address(RAM + 1016 * MIB) },
    LoadAddress { name: "two-gigabytes", mem: "2G", smp: 1, at: At::Address(RAM + 1024 * MIB - 0x8_0000) },
    LoadAddress { name: "above-4g", mem: "6G", smp: 4, at: At::Address(RAM + 4096 * MIB) },
];

impl LoadAddress {
    fn address(&self, images: &Images) -> Result<u64> {
        Ok(match self.at {
            At::Address(address) => address,
            At::BehindTheKernel => {
                (HOST_KERNEL_ADDRESS + images::image_extent(&images.payload)?).next_multiple_of(2 * MIB)
            }
        })
    }

    /// Boots EL2 at this address, with the host that runs `test`. Without isolation the attack has to land, which shows
    /// that EL2's image is at the attacked address.
    ///
    /// # Errors
    /// When the test fails.
    pub fn run(&self, images: &Images, test: &str, dir: &Path, deadline: Duration) -> Result<()> {
        let address = self.address(images)?;
        for below in [Below::Open, Below::Portcullis].into_iter().filter(|below| images.has(*below)) {
            let dir = dir.join(below.word());
            fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
            let placed = dir.join("el2.bin");
            let image = if below == Below::Open { &images.open } else { &images.hyp };
            images::with_text_offset(image.as_ref().context("no hypervisor image")?, address - RAM, &placed)?;
            let images = Images { hyp: Some(placed.clone()), open: Some(placed), ..images.clone() };
            let bootargs = format!("el2={address:#x}");
            let run =
                Run { smp: self.smp, mem: self.mem, bootargs: &bootargs, deadline, ..Run::new(&images, below, test) };
            run.run(&dir)?.verdict().with_context(|| format!("EL2 at {address:#x}, {}", below.word()))?;
        }
        Ok(())
    }
}

/// At an address that is not a page boundary EL2 cannot run: it ends immediately, with a failing status and without a
/// message.
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
    let End::Exited(status) = outcome.end else { anyhow::bail!("it did not end: {:?}", outcome.end) };
    ensure!(!status.success(), "it ended with success");
    ensure!(outcome.host_console.is_empty(), "the host started: {}", outcome.host_console);
    Ok(())
}
