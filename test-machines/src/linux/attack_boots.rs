//! The boots with attacks of root: each mode with the command line that it needs.

use anyhow::{Context, Result, bail};

use crate::linux::attack::EL2_IMAGE;
use crate::linux::boot::Boot;
use crate::linux::report::Report;
use crate::linux::variant::{Hypervisor, Mode};
use crate::work::WorkFolder;

const RAM_BASE: u64 = 0x4000_0000;
/// Offset of the scratch page from the end of memory.
const SCRATCH_BELOW_TOP: u64 = 16 << 20;
/// Memory excluded from the kernel by `mem=`, so that the scratch page is unused.
const KEPT_FROM_KERNEL: u64 = 64 << 20;

/// Boots twice: with `iommu.passthrough=1`, and without options but with `identity` set at run time. If an option of
/// the kernel's driver makes unknown streams bypass, boots a third time.
///
/// # Errors
/// When a machine cannot be started.
pub fn run(work: &WorkFolder, boot: &Boot) -> Result<Vec<Report>> {
    let passthrough = prepared(boot, Mode::AttackPassthrough)?.run(work)?;
    let runtime = prepared(boot, Mode::AttackRuntime)?.run(work)?;
    let mut reports = vec![passthrough, runtime];
    if boot.guest.has_disable_bypass() {
        reports.push(prepared(boot, Mode::AttackUnbound)?.run(work)?);
    }
    Ok(reports)
}

/// The boot in an attack mode, with the command line that mode needs.
///
/// # Errors
/// When the machine's memory size cannot be parsed.
pub fn prepared(boot: &Boot, mode: Mode) -> Result<Boot> {
    let mut boot = boot.clone();
    boot.mode = mode;
    let word = match mode {
        Mode::AttackPassthrough => "iommu.passthrough=1",
        Mode::AttackUnbound => "arm-smmu-v3.disable_bypass=0",
        Mode::AttackRuntime
        | Mode::Check
        | Mode::Devices
        | Mode::HandOver
        | Mode::Module
        | Mode::Load
        | Mode::Kexec(_)
        | Mode::Shell => "",
    };
    boot.append = format!("{} {word}", boot.append).trim().to_owned();
    boot.private_args = match boot.hypervisor {
        Hypervisor::None => {
            let size = bytes(&boot.mem)?;
            let kernel = size
                .checked_sub(KEPT_FROM_KERNEL)
                .filter(|left| *left > KEPT_FROM_KERNEL)
                .with_context(|| format!("--mem {} is too little for an attack: 512M or more", boot.mem))?;
            let scratch = RAM_BASE + size - SCRATCH_BELOW_TOP;
            format!("mem={}M portcullis.target={scratch:#x} portcullis.target_kind=scratch", kernel >> 20)
        }
        Hypervisor::Portcullis(_) | Hypervisor::WithoutIsolation(_) => {
            format!("portcullis.target={EL2_IMAGE:#x} portcullis.target_kind=el2")
        }
    };
    Ok(boot)
}

/// A memory size as QEMU writes it: MiB without a suffix.
fn bytes(mem: &str) -> Result<u64> {
    let (digits, unit) = match mem.strip_suffix(['G', 'g']) {
        Some(digits) => (digits, 30),
        None => (mem.strip_suffix(['M', 'm']).unwrap_or(mem), 20),
    };
    match digits.parse::<u64>() {
        Ok(number) if number > 0 && number < 1 << 20 => Ok(number << unit),
        _ => bail!("--mem {mem}: use a size like 1024M or 2G"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_sizes_are_read_as_qemu_does() {
        assert_eq!(bytes("1G").ok(), Some(1 << 30));
        assert_eq!(bytes("512M").ok(), Some(512 << 20));
        assert_eq!(bytes("2048").ok(), Some(2 << 30));
        assert!(bytes("much").is_err());
        assert!(bytes("0").is_err());
    }
}
