//! Calls from EL1: PSCI through the conduit in the device tree, raw SMCs, and Portcullis' hypercalls.

use smccc::psci::{self, AffinityState, LowestAffinityLevel};
use smccc::{Hvc, Smc};
use spin::Once;

use crate::machine::Conduit;
use crate::num::low32;
use crate::sysreg;
use crate::vectors::{Caught, catch};

static CONDUIT: Once<Conduit> = Once::new();

/// Uses `conduit` from now on.
pub fn init(conduit: Conduit) {
    CONDUIT.call_once(|| conduit);
}

fn conduit() -> Conduit {
    CONDUIT.get().copied().unwrap_or(Conduit::Smc)
}

/// Powers the machine off.
pub fn system_off() -> ! {
    let _ = match conduit() {
        Conduit::Smc => psci::system_off::<Smc>(),
        Conduit::Hvc => psci::system_off::<Hvc>(),
    };
    loop {
        sysreg::wfi();
    }
}

/// Resets the machine.
pub fn system_reset() -> ! {
    let _ = match conduit() {
        Conduit::Smc => psci::system_reset::<Smc>(),
        Conduit::Hvc => psci::system_reset::<Hvc>(),
    };
    loop {
        sysreg::wfi();
    }
}

/// PSCI CPU_ON.
pub fn cpu_on(mpidr: u64, entry: u64, context: u64) -> Result<(), psci::error::Error> {
    match conduit() {
        Conduit::Smc => psci::cpu_on::<Smc>(mpidr, entry, context),
        Conduit::Hvc => psci::cpu_on::<Hvc>(mpidr, entry, context),
    }
}

/// PSCI CPU_OFF; returns only if it is refused.
pub fn cpu_off() {
    let _ = match conduit() {
        Conduit::Smc => psci::cpu_off::<Smc>(),
        Conduit::Hvc => psci::cpu_off::<Hvc>(),
    };
}

/// PSCI CPU_SUSPEND.
pub fn cpu_suspend(state: u32, entry: u64, context: u64) -> Result<(), psci::error::Error> {
    match conduit() {
        Conduit::Smc => psci::cpu_suspend::<Smc>(state, entry, context),
        Conduit::Hvc => psci::cpu_suspend::<Hvc>(state, entry, context),
    }
}

/// Whether the CPU `mpidr` is off according to PSCI.
pub fn is_off(mpidr: u64) -> bool {
    let state = match conduit() {
        Conduit::Smc => psci::affinity_info::<Smc>(mpidr, LowestAffinityLevel::All),
        Conduit::Hvc => psci::affinity_info::<Hvc>(mpidr, LowestAffinityLevel::All),
    };
    matches!(state, Ok(AffinityState::Off))
}

/// A 64-bit SMC with up to seven arguments; x0..x17 on return.
pub fn smc(function: u64, args: [u64; 7]) -> [u64; 18] {
    smccc::smc64(low32(function), widen(args))
}

/// As [`smc`], with HVC.
pub fn hvc(function: u64, args: [u64; 7]) -> [u64; 18] {
    smccc::hvc64(low32(function), widen(args))
}

fn widen(args: [u64; 7]) -> [u64; 17] {
    let mut all = [0; 17];
    all[..7].copy_from_slice(&args);
    all
}

/// SMCCC's NOT_SUPPORTED in x0.
pub const NOT_SUPPORTED: i64 = -1;

/// A hypercall of Portcullis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hypercall {
    /// Interface version.
    Version,
    /// Shares pages with EL2.
    HostShareHyp,
    /// Unshares pages shared with EL2.
    HostUnshareHyp,
    /// Donates pages to EL2's pool.
    HostDonateHyp,
    /// Returns pages that EL2's pool does not use.
    HypDonateHost,
    /// Creates a guest; its handle is in x1.
    VmCreate,
    /// Destroys a guest.
    VmDestroy,
    /// Donates pages to a guest.
    HostDonateGuest,
    /// Shares pages with a guest.
    HostShareGuest,
    /// Unshares pages shared with a guest.
    HostUnshareGuest,
    /// Reclaims pages of a destroyed guest.
    HostReclaimPage,
    /// SMMU statistics; prints new DMA faults on EL2's console.
    IommuStats,
    /// Gives a PCI function to a guest.
    DeviceAssign,
    /// Takes a PCI function back.
    DeviceReturn,
}

impl Hypercall {
    /// SMCCC function identifier (SMC64 fast call, vendor hypervisor range).
    pub const fn id(self) -> u64 {
        match self {
            Self::Version => 0xc600_0100,
            Self::HostShareHyp => 0xc600_0101,
            Self::HostUnshareHyp => 0xc600_0102,
            Self::HostDonateHyp => 0xc600_0103,
            Self::HypDonateHost => 0xc600_0104,
            Self::VmCreate => 0xc600_0105,
            Self::VmDestroy => 0xc600_0106,
            Self::HostDonateGuest => 0xc600_0107,
            Self::HostShareGuest => 0xc600_0108,
            Self::HostUnshareGuest => 0xc600_0109,
            Self::HostReclaimPage => 0xc600_010a,
            Self::IommuStats => 0xc600_0110,
            Self::DeviceAssign => 0xc600_0120,
            Self::DeviceReturn => 0xc600_0121,
        }
    }

    /// Calls with a page range; returns the result in x0.
    pub fn call(self, addr: u64, pages: u64) -> Answer {
        Answer::of(hvc(self.id(), [addr >> 12, pages, 0, 0, 0, 0, 0])[0])
    }

    /// Calls with a page range and a guest's handle; returns the result in x0.
    pub fn call_for(self, addr: u64, pages: u64, guest: u64) -> Answer {
        Answer::of(hvc(self.id(), [addr >> 12, pages, guest, 0, 0, 0, 0])[0])
    }

    /// Calls with raw x1 and x2.
    pub fn raw(self, x1: u64, x2: u64) -> [u64; 18] {
        hvc(self.id(), [x1, x2, 0, 0, 0, 0, 0])
    }
}

/// Result of a hypercall (x0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Success.
    Success,
    /// -1.
    NotSupported,
    /// -2.
    InvalidParameter,
    /// -3.
    Denied,
    /// -4.
    Busy,
    /// -5.
    NoMemory,
    /// -6: an SMMU did not complete an invalidation.
    Io,
    /// Any other value: invalid.
    Unknown(i64),
}

impl Answer {
    /// Decodes x0.
    pub fn of(x0: u64) -> Self {
        match x0.cast_signed() {
            0 => Self::Success,
            -1 => Self::NotSupported,
            -2 => Self::InvalidParameter,
            -3 => Self::Denied,
            -4 => Self::Busy,
            -5 => Self::NoMemory,
            -6 => Self::Io,
            other => Self::Unknown(other),
        }
    }
}

/// A counter of [`Hypercall::IommuStats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stat {
    /// Traps on SMMU registers.
    Exits,
    /// DMA faults that EL2 has recorded.
    Faults,
    /// Commands of the host that EL2 sent.
    Commands,
    /// SYNCs that EL2 issued.
    Syncs,
    /// Register accesses that were denied.
    Denied,
    /// TLB maintenance of CPUs that was repeated for an erratum.
    TlbiRepeats,
}

/// Reads a counter; 0 without Portcullis. EL2 prints its new DMA faults.
pub fn stat(stat: Stat) -> u64 {
    if conduit() == Conduit::Hvc {
        return 0;
    }
    let index = match stat {
        Stat::Exits => 0,
        Stat::Faults => 1,
        Stat::Commands => 2,
        Stat::Syncs => 3,
        Stat::Denied => 4,
        Stat::TlbiRepeats => 5,
    };
    let result = Hypercall::IommuStats.raw(index, 0);
    if result[0] == 0 { result[1] } else { 0 }
}

/// Makes an HVC that may be undefined; returns the registers, or the exception.
pub fn try_hvc(function: u64, args: [u64; 7]) -> Result<[u64; 18], Caught> {
    match catch(|| hvc(function, args)) {
        (result, None) => Ok(result),
        (_, Some(caught)) => Err(caught),
    }
}

/// Makes an SMC that may be undefined; returns the registers, or the exception.
pub fn try_smc(function: u64, args: [u64; 7]) -> Result<[u64; 18], Caught> {
    match catch(|| smc(function, args)) {
        (result, None) => Ok(result),
        (_, Some(caught)) => Err(caught),
    }
}
