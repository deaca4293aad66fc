//! FADT: how CPUs are started (ACPI 6.5, 5.2.9).

use crate::error::{Error, FIRMWARE};
use crate::table::Table;

/// ARM_BOOT_ARCH.
const BOOT_ARCH: usize = 129;
const PSCI_COMPLIANT: u16 = 1 << 0;
const PSCI_USE_HVC: u16 = 1 << 1;
/// Length in bytes of revision 5.1, which added ARM_BOOT_ARCH.
const LENGTH: usize = 268;

/// Checks that CPUs are started by PSCI through SMC.
pub(crate) fn check(fadt: &Table<'_>) -> Result<(), Error> {
    fadt.expect(&[5, 6], LENGTH)?;
    let arch = fadt.u16(BOOT_ARCH)?;
    if arch & PSCI_COMPLIANT == 0 {
        let remedy = "use firmware that offers PSCI";
        return Err(fadt.bad(BOOT_ARCH, arch.into(), "CPUs are not started by PSCI", remedy));
    }
    if arch & PSCI_USE_HVC != 0 {
        let problem = "the conduit of PSCI is HVC, but EL2 needs SMC";
        return Err(fadt.bad(
            BOOT_ARCH,
            arch.into(),
            problem,
            "start the firmware at EL2 (QEMU: -machine virtualization=on)",
        ));
    }
    // Later revisions define no other bit that changes the conduit.
    if arch & !0x7 != 0 {
        return Err(fadt.bad(BOOT_ARCH, arch.into(), "ARM_BOOT_ARCH has unknown bits", FIRMWARE));
    }
    Ok(())
}
