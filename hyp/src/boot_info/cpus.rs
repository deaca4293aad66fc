//! The CPUs of the host, and PSCI.

use super::error::BootError;
use super::tree::{NodeId, Reg, Tree};
use arrayvec::ArrayVec;

/// Maximum number of CPUs in a device tree.
pub const CPUS_MAX: usize = 512;

/// A CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// The node.
    pub node: NodeId,
    /// The affinity fields of its MPIDR_EL1, in the format of PSCI's CPU_ON.
    pub mpidr: u64,
}

/// Finds the CPUs in the order of the tree.
///
/// # Errors
/// [`BootError::Missing`] without a CPU; [`BootError::Unsupported`] for a CPU that is not turned on by PSCI;
/// [`BootError::Property`] for a bad or repeated `reg`; [`BootError::TooMany`].
pub fn find<'a>(tree: &Tree<'a>) -> Result<ArrayVec<Cpu, CPUS_MAX>, BootError<'a>> {
    let mut cpus = ArrayVec::<Cpu, CPUS_MAX>::new();
    tree.walk(&mut |node| {
        let in_cpus = node.parent().is_some_and(|p| p.is_top("cpus"));
        if !in_cpus || node.value("device_type") != Some(b"cpu\0") || !node.enabled() {
            return Ok(());
        }
        let mpidr = match node.reg()?.next() {
            Some(Ok(Reg::OnBus(mpidr))) => mpidr,
            Some(Err(error)) => return Err(error),
            Some(Ok(Reg::Visible(_))) | None => {
                return Err(node.bad("reg", "is not the CPU's affinity"));
            }
        };
        if cpus.iter().any(|cpu| cpu.mpidr == mpidr) {
            return Err(node.bad("reg", "repeats the affinity of another CPU"));
        }
        if let Some(method) = node.string("enable-method")?
            && method != "psci"
        {
            return Err(BootError::Unsupported {
                path: node.path(),
                what: "a CPU with an enable-method other than psci",
                remedy: "use firmware that offers PSCI",
            });
        }
        cpus.try_push(Cpu { node: node.id, mpidr }).map_err(|_| BootError::TooMany { what: "CPUs", limit: CPUS_MAX })
    })?;
    if cpus.is_empty() {
        return Err(BootError::Missing { what: "CPU in the device tree", remedy: "correct the device tree" });
    }
    Ok(cpus)
}

/// Checks for PSCI 0.2 or later with SMC, the only conduit that a hypervisor at EL2 can use. The node is found by its
/// `compatible`, anywhere in the tree.
///
/// # Errors
/// [`BootError::Missing`] without PSCI, [`BootError::Unsupported`] if the conduit is HVC or the version too old.
pub fn check_psci<'a>(tree: &Tree<'a>) -> Result<(), BootError<'a>> {
    let mut found = false;
    let mut old = None;
    tree.walk(&mut |node| {
        if !node.enabled() {
            return Ok(());
        }
        if !node.is_compatible("arm,psci-1.0") && !node.is_compatible("arm,psci-0.2") {
            if node.is_compatible("arm,psci") {
                old = Some(node.path());
            }
            return Ok(());
        }
        if node.string("method")? != Some("smc") {
            return Err(BootError::Unsupported {
                path: node.path(),
                what: "the conduit of PSCI is not SMC",
                remedy: "use firmware that leaves EL2 to this image (QEMU: -machine virtualization=on)",
            });
        }
        found = true;
        Ok(())
    })?;
    match old {
        _ if found => Ok(()),
        Some(path) => {
            Err(BootError::Unsupported { path, what: "PSCI 0.1", remedy: "use firmware that offers PSCI 0.2 or later" })
        }
        None => Err(BootError::Missing { what: "PSCI 0.2 or later", remedy: "use firmware that offers it" }),
    }
}
