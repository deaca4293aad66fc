//! The SMC policy: which firmware calls of the host are refused, passed to firmware, or handled by EL2 itself.
//!
//! An allow-list in one exhaustive match: all other calls return NOT_SUPPORTED and are never passed to firmware, since
//! firmware calls can have addresses as arguments (FF-A, SDEI, vendor services) or prevent EL2 from resuming
//! (SYSTEM_SUSPEND). Function identifiers: Arm DEN0028 (SMCCC 1.5), DEN0022 (PSCI 1.3), DEN0098 (TRNG 1.0).

/// The handling of an SMC of the host.
///
/// Features are reported consistently: a feature query is relayed only for calls that are relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Handled by EL2.
    Psci(Psci),
    /// EL2 returns this value in X0.
    Answer(i64),
    /// Passed to firmware with at most three arguments, none of which is an address.
    Relay,
    /// As [`Decision::Relay`]; a successful X0 is filtered by [`Filter::apply`].
    RelayFiltered(Filter),
}

/// A firmware response to be filtered, since EL2 supports less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// `PSCI_FEATURES` of a call without flags: by DEN0022 5.15.2 all flags are reserved, and a later edition may
    /// define them.
    NoFlags,
    /// `PSCI_FEATURES` of `CPU_SUSPEND`: bit 1 is the format of `power_state`, which EL2 passes on; bit 0 is
    /// OS-initiated mode, which would need `SET_SUSPEND_MODE`.
    SuspendFlags,
    /// `MIGRATE_INFO_TYPE`: 0 is a trusted OS that can be migrated, which EL2 refuses; 1 is one that cannot.
    TrustedOs,
}

impl Filter {
    /// The filtered value of firmware's X0 `answer`.
    #[must_use]
    pub const fn apply(self, answer: i64) -> i64 {
        match self {
            _ if answer < 0 => answer,
            Self::NoFlags => 0,
            Self::SuspendFlags => answer & EXTENDED_STATE_ID,
            Self::TrustedOs if answer == 0 => 1,
            Self::TrustedOs => answer,
        }
    }
}

/// Layout of `power_state` in `CPU_SUSPEND` (DEN0022 5.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateFormat {
    /// Bit 16 requests a power-down state.
    Original,
    /// Bit 30 requests a power-down state; bit 16 is part of the state's number.
    Extended,
}

impl StateFormat {
    /// The format in firmware's result of `PSCI_FEATURES` of `CPU_SUSPEND`; firmware that is older than that call has
    /// the original one.
    #[must_use]
    pub const fn of(features: i64) -> Self {
        if features >= 0 && features & EXTENDED_STATE_ID != 0 { Self::Extended } else { Self::Original }
    }

    /// The effect of the state on this CPU.
    #[must_use]
    pub const fn kind(self, power_state: u32) -> SuspendKind {
        let bit = match self {
            Self::Original => 16,
            Self::Extended => 30,
        };
        if power_state & 1 << bit != 0 { SuspendKind::PowerDown } else { SuspendKind::Standby }
    }

    /// The result of `CPU_SUSPEND` without a firmware call, if any. From a power-down state the CPU resumes at `entry`:
    /// `is_hosts` returns whether that is memory of the host.
    pub fn refusal(self, power_state: u32, entry: u64, is_hosts: impl FnOnce(u64) -> bool) -> Option<i64> {
        match self.kind(power_state) {
            SuspendKind::PowerDown if entry & 3 != 0 || !is_hosts(entry) => Some(INVALID_ADDRESS),
            SuspendKind::PowerDown | SuspendKind::Standby => None,
        }
    }
}

/// The effect of `CPU_SUSPEND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuspendKind {
    /// The call returns; its entry point is ignored.
    Standby,
    /// The CPU resumes at the entry point.
    PowerDown,
}

/// `PSCI_FEATURES` of `CPU_SUSPEND`: the extended format of `power_state`.
const EXTENDED_STATE_ID: i64 = 1 << 1;
/// SMCCC 1.3, 2.5: this bit in a function identifier means that the caller has no live SVE state. It is not part of
/// the identifier.
pub const SVE_HINT: u32 = 1 << 16;

/// State of a CPU in EL2's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Off, or turning off: firmware has the exact state.
    Off,
    /// Turned on, and not yet at EL2's entry.
    Pending,
    /// It runs, or it is suspended.
    On,
    /// Refused when it entered EL2: it has an erratum that breaks isolation.
    Refused,
}

impl Power {
    /// The result of `CPU_ON` without a firmware call, if any.
    #[must_use]
    pub const fn cpu_on(self) -> Option<i64> {
        match self {
            Self::Off => None,
            Self::Pending => Some(ON_PENDING),
            Self::On => Some(ALREADY_ON),
            Self::Refused => Some(INTERNAL_FAILURE),
        }
    }

    /// The result of `AFFINITY_INFO` for one CPU, consistent with `CPU_ON`; `firmware` queries firmware.
    pub fn affinity_info(self, firmware: impl FnOnce() -> i64) -> i64 {
        match self {
            Self::On => 0,
            Self::Pending => 2,
            Self::Off => firmware(),
            // It is reported as off, since it does not run the host.
            Self::Refused => 1,
        }
    }
}

/// PSCI calls that EL2 handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Psci {
    /// `CPU_SUSPEND`.
    CpuSuspend,
    /// `CPU_OFF`.
    CpuOff,
    /// `CPU_ON`.
    CpuOn,
    /// `AFFINITY_INFO`.
    AffinityInfo,
    /// `SYSTEM_OFF`.
    SystemOff,
    /// `SYSTEM_RESET`.
    SystemReset,
}

/// SMCCC and PSCI return code for a call that does not exist.
pub const NOT_SUPPORTED: i64 = -1;
/// PSCI: a parameter is out of range.
pub const INVALID_PARAMETERS: i64 = -2;
/// PSCI: the CPU is already on.
pub const ALREADY_ON: i64 = -4;
/// PSCI: the CPU is being turned on.
pub const ON_PENDING: i64 = -5;
/// PSCI: the CPU cannot be turned on.
pub const INTERNAL_FAILURE: i64 = -6;
/// PSCI: an entry point is not memory of the caller.
pub const INVALID_ADDRESS: i64 = -9;

const SMCCC_VERSION: u32 = 0x8000_0000;
const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;
const SMCCC_ARCH_WORKAROUND_1: u32 = 0x8000_8000;
const SMCCC_ARCH_WORKAROUND_2: u32 = 0x8000_7fff;
const SMCCC_ARCH_WORKAROUND_3: u32 = 0x8000_3fff;
const SMCCC_ARCH_WORKAROUND_4: u32 = 0x8000_0004;

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
/// `AFFINITY_INFO`, 64-bit.
pub const AFFINITY_INFO_64: u32 = 0xc400_0004;
const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
const MIGRATE_INFO_UP_CPU_32: u32 = 0x8400_0007;
const MIGRATE_INFO_UP_CPU_64: u32 = 0xc400_0007;
/// `SYSTEM_OFF`.
pub const SYSTEM_OFF: u32 = 0x8400_0008;
/// `SYSTEM_RESET`.
pub const SYSTEM_RESET: u32 = 0x8400_0009;
/// `PSCI_FEATURES`.
pub const PSCI_FEATURES: u32 = 0x8400_000a;

const TRNG_VERSION: u32 = 0x8400_0050;
const TRNG_FEATURES: u32 = 0x8400_0051;
const TRNG_GET_UUID: u32 = 0x8400_0052;
const TRNG_RND_32: u32 = 0x8400_0053;
const TRNG_RND_64: u32 = 0xc400_0053;

/// Decides about the SMC with function identifier `function` (W0) and first argument `arg` (W1).
#[must_use]
pub const fn decide(function: u32, arg: u32) -> Decision {
    match identifier(function) {
        SMCCC_VERSION | PSCI_VERSION | MIGRATE_INFO_UP_CPU_32 | MIGRATE_INFO_UP_CPU_64 => Decision::Relay,
        MIGRATE_INFO_TYPE => Decision::RelayFiltered(Filter::TrustedOs),
        // Only queries of allowed calls are passed to firmware.
        SMCCC_ARCH_FEATURES => match arg {
            SMCCC_VERSION
            | SMCCC_ARCH_FEATURES
            | SMCCC_ARCH_WORKAROUND_1
            | SMCCC_ARCH_WORKAROUND_2
            | SMCCC_ARCH_WORKAROUND_3
            | SMCCC_ARCH_WORKAROUND_4 => Decision::Relay,
            _ => Decision::Answer(NOT_SUPPORTED),
        },
        SMCCC_ARCH_WORKAROUND_1 | SMCCC_ARCH_WORKAROUND_2 | SMCCC_ARCH_WORKAROUND_3 | SMCCC_ARCH_WORKAROUND_4 => {
            Decision::Relay
        }
        PSCI_FEATURES => match arg {
            CPU_SUSPEND_32 | CPU_SUSPEND_64 => Decision::RelayFiltered(Filter::SuspendFlags),
            SMCCC_VERSION
            | PSCI_VERSION
            | CPU_OFF
            | CPU_ON_32
            | CPU_ON_64
            | AFFINITY_INFO_32
            | AFFINITY_INFO_64
            | MIGRATE_INFO_TYPE
            | MIGRATE_INFO_UP_CPU_32
            | MIGRATE_INFO_UP_CPU_64
            | SYSTEM_OFF
            | SYSTEM_RESET
            | PSCI_FEATURES => Decision::RelayFiltered(Filter::NoFlags),
            _ => Decision::Answer(NOT_SUPPORTED),
        },
        TRNG_FEATURES => match arg {
            TRNG_VERSION | TRNG_FEATURES | TRNG_GET_UUID | TRNG_RND_32 | TRNG_RND_64 => Decision::Relay,
            _ => Decision::Answer(NOT_SUPPORTED),
        },
        TRNG_VERSION | TRNG_GET_UUID | TRNG_RND_32 | TRNG_RND_64 => Decision::Relay,
        CPU_SUSPEND_32 | CPU_SUSPEND_64 => Decision::Psci(Psci::CpuSuspend),
        CPU_OFF => Decision::Psci(Psci::CpuOff),
        CPU_ON_32 | CPU_ON_64 => Decision::Psci(Psci::CpuOn),
        AFFINITY_INFO_32 | AFFINITY_INFO_64 => Decision::Psci(Psci::AffinityInfo),
        SYSTEM_OFF => Decision::Psci(Psci::SystemOff),
        SYSTEM_RESET => Decision::Psci(Psci::SystemReset),
        _ => Decision::Answer(NOT_SUPPORTED),
    }
}

/// The status in X0 after a call: a signed word of 32 bits. The upper half is undefined in the 32-bit convention.
#[must_use]
pub fn status(x0: u64) -> i64 {
    // Masked to 32 bits, so the conversion cannot fail.
    i64::from(u32::try_from(x0 & u64::from(u32::MAX)).unwrap_or(0).cast_signed())
}

/// The function identifier without the hint, as passed to firmware: older firmware rejects the hint.
#[must_use]
pub const fn identifier(function: u32) -> u32 {
    function & !SVE_HINT
}

#[cfg(test)]
mod tests;
