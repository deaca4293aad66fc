//! The SMC policy: which firmware calls of the host are answered, relayed, or handled by EL2 itself.
//!
//! An allow-list in one exhaustive match: everything else is NOT_SUPPORTED and never reaches firmware, since firmware
//! calls can name memory (FF-A, SDEI, vendor services) or stop EL2 from resuming (SYSTEM_SUSPEND). Function
//! identifiers: Arm DEN0028 (SMCCC 1.5), DEN0022 (PSCI 1.3), DEN0098 (TRNG 1.0).

/// What EL2 does with an SMC of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Handled by EL2, which keeps track of CPUs and of DMA.
    Psci(Psci),
    /// Answered by EL2 with this value in X0.
    Answer(i64),
    /// Passed to firmware with at most three arguments, none of which is an address.
    Relay,
}

/// PSCI calls that EL2 must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Psci {
    /// `CPU_SUSPEND`.
    CpuSuspend,
    /// `CPU_OFF`.
    CpuOff,
    /// `CPU_ON`.
    CpuOn,
    /// `SYSTEM_OFF`.
    SystemOff,
    /// `SYSTEM_RESET`.
    SystemReset,
}

/// SMCCC and PSCI return code for what does not exist.
pub const NOT_SUPPORTED: i64 = -1;
/// PSCI: a parameter is out of range.
pub const INVALID_PARAMETERS: i64 = -2;
/// PSCI: the CPU is on already.
pub const ALREADY_ON: i64 = -4;
/// PSCI: the CPU is being turned on.
pub const ON_PENDING: i64 = -5;
/// PSCI: an entry point is not memory of the caller.
pub const INVALID_ADDRESS: i64 = -9;

const SMCCC_VERSION: u32 = 0x8000_0000;
const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;
const SMCCC_ARCH_WORKAROUND_1: u32 = 0x8000_8000;
const SMCCC_ARCH_WORKAROUND_2: u32 = 0x8000_7fff;
const SMCCC_ARCH_WORKAROUND_3: u32 = 0x8000_3fff;

/// `PSCI_VERSION`.
pub const PSCI_VERSION: u32 = 0x8400_0000;
const CPU_SUSPEND_32: u32 = 0x8400_0001;
/// `CPU_SUSPEND`, 64-bit.
pub const CPU_SUSPEND_64: u32 = 0xc400_0001;
/// `CPU_OFF`.
pub const CPU_OFF: u32 = 0x8400_0002;
const CPU_ON_32: u32 = 0x8400_0003;
/// `CPU_ON`, 64-bit.
pub const CPU_ON_64: u32 = 0xc400_0003;
const AFFINITY_INFO_32: u32 = 0x8400_0004;
const AFFINITY_INFO_64: u32 = 0xc400_0004;
const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
/// `SYSTEM_OFF`.
pub const SYSTEM_OFF: u32 = 0x8400_0008;
/// `SYSTEM_RESET`.
pub const SYSTEM_RESET: u32 = 0x8400_0009;
const PSCI_FEATURES: u32 = 0x8400_000a;

const TRNG_VERSION: u32 = 0x8400_0050;
const TRNG_FEATURES: u32 = 0x8400_0051;
const TRNG_GET_UUID: u32 = 0x8400_0052;
const TRNG_RND_32: u32 = 0x8400_0053;
const TRNG_RND_64: u32 = 0xc400_0053;

/// Decides about the SMC with function identifier `function` (W0) and first argument `arg` (W1).
#[must_use]
pub const fn decide(function: u32, arg: u32) -> Decision {
    match function {
        SMCCC_VERSION | PSCI_VERSION | AFFINITY_INFO_32 | AFFINITY_INFO_64 | MIGRATE_INFO_TYPE => Decision::Relay,
        // Firmware is asked only about what the host could then call.
        SMCCC_ARCH_FEATURES => match arg {
            SMCCC_VERSION
            | SMCCC_ARCH_FEATURES
            | SMCCC_ARCH_WORKAROUND_1
            | SMCCC_ARCH_WORKAROUND_2
            | SMCCC_ARCH_WORKAROUND_3 => Decision::Relay,
            _ => Decision::Answer(NOT_SUPPORTED),
        },
        SMCCC_ARCH_WORKAROUND_1 | SMCCC_ARCH_WORKAROUND_2 | SMCCC_ARCH_WORKAROUND_3 => Decision::Relay,
        PSCI_FEATURES => match arg {
            SMCCC_VERSION | PSCI_VERSION | CPU_SUSPEND_32 | CPU_SUSPEND_64 | CPU_OFF | CPU_ON_32 | CPU_ON_64
            | AFFINITY_INFO_32 | AFFINITY_INFO_64 | MIGRATE_INFO_TYPE | SYSTEM_OFF | SYSTEM_RESET | PSCI_FEATURES => {
                Decision::Relay
            }
            _ => Decision::Answer(NOT_SUPPORTED),
        },
        TRNG_VERSION | TRNG_FEATURES | TRNG_GET_UUID | TRNG_RND_32 | TRNG_RND_64 => Decision::Relay,
        CPU_SUSPEND_32 | CPU_SUSPEND_64 => Decision::Psci(Psci::CpuSuspend),
        CPU_OFF => Decision::Psci(Psci::CpuOff),
        CPU_ON_32 | CPU_ON_64 => Decision::Psci(Psci::CpuOn),
        SYSTEM_OFF => Decision::Psci(Psci::SystemOff),
        SYSTEM_RESET => Decision::Psci(Psci::SystemReset),
        _ => Decision::Answer(NOT_SUPPORTED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t54_ffa_sdei_vendor_and_suspend_are_not_supported() {
        for function in [
            0x8400_0060u32,
            0xc400_0071,
            0xc400_0024,
            0xc400_0020,
            0x8200_0000,
            0xc400_000e,
            0x8400_000e,
            0x8400_0012,
            0xc600_0000,
            0xffff_ffff,
        ] {
            assert_eq!(decide(function, 0), Decision::Answer(NOT_SUPPORTED), "{function:#x}");
        }
    }

    #[test]
    fn features_never_promises_what_is_refused() {
        for function in (0x8400_0000..0x8400_0100).chain(0xc400_0000..0xc400_0100) {
            let refused = matches!(decide(function, 0), Decision::Answer(_)) && function != PSCI_FEATURES;
            let promised = decide(PSCI_FEATURES, function) == Decision::Relay;
            assert!(!(refused && promised), "{function:#x}");
        }
    }
}
