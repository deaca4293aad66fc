//! Parameters of a boot: the hypervisor below Linux, the devices, and the guest's mode.

use std::path::PathBuf;

/// The hypervisor below Linux.
#[derive(Clone, Debug)]
pub enum Hypervisor {
    /// No hypervisor: the machine has no EL2.
    None,
    /// Portcullis, as this arm64 Image.
    Portcullis(PathBuf),
    /// The `no-isolation` build: the host's CPUs are isolated, but the host owns the SMMU.
    WithoutIsolation(PathBuf),
}

impl Hypervisor {
    /// The text for titles.
    pub(crate) fn phrase(&self) -> &'static str {
        match self {
            Self::None => "without a hypervisor",
            Self::Portcullis(_) => "under EL2",
            Self::WithoutIsolation(_) => "under EL2 without isolation",
        }
    }
}

/// The devices of the machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Devices {
    /// NVMe, virtio-blk, e1000e and edu, all behind the SMMU.
    Default,
    /// No devices.
    None,
}

/// The guest's mode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Checks of its devices.
    Check,
    /// The same, and interrupts move, drivers are unbound and bound, functions are removed and found again.
    Devices,
    /// Attacks on a boot with `iommu.passthrough=1`.
    AttackPassthrough,
    /// Attacks on a default boot: translation on, then `identity` at run time.
    AttackRuntime,
    /// Attacks on a boot whose SMMU driver lets streams of unbound devices bypass.
    AttackUnbound,
    /// The test module: transitions under load, and attacks on a donated page.
    Module,
    /// The test module assigns the NVMe to a guest and takes it back, several times; the driver is bound each time.
    HandOver,
    /// Every CPU reads both disks.
    Load,
    /// kexec.
    Kexec(Kind),
    /// A shell on the user's terminal.
    Shell,
}

impl Mode {
    /// Whether root attacks with `edu`.
    pub(crate) fn is_attack(self) -> bool {
        matches!(self, Self::AttackPassthrough | Self::AttackRuntime | Self::AttackUnbound)
    }

    /// The mode's name in the guest's script.
    pub fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Devices => "devices",
            Self::AttackPassthrough => "attack_passthrough",
            Self::AttackRuntime => "attack_runtime",
            Self::AttackUnbound => "attack_unbound",
            Self::Module => "module",
            Self::HandOver => "hand_over",
            Self::Load => "load",
            Self::Kexec(kind) => kind.mode(),
            Self::Shell => "shell",
        }
    }
}

/// The kind of kexec.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The first kernel shuts down and starts the second (kexec -e).
    Exec,
    /// The first kernel panics, and the crash kernel starts in its reserved memory.
    Crash,
    /// As `Crash`, and the second kernel keeps the SMMU configuration and stream table.
    Adopt,
    /// As `Exec`, without attacks: both kernels check what [`Mode::Devices`] checks.
    Devices,
}

impl Kind {
    /// The name of the guest's mode.
    pub fn mode(self) -> &'static str {
        match self {
            Self::Exec => "kexec_exec",
            Self::Crash => "kexec_crash",
            Self::Adopt => "kexec_adopt",
            Self::Devices => "kexec_devices",
        }
    }

    /// Whether the first kernel panics.
    pub(crate) fn panics(self) -> bool {
        matches!(self, Self::Crash | Self::Adopt)
    }
}
