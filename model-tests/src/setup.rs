//! The configuration of a machine.

use smmu_drv::{HOST_CMDQS, MsiAdvert};
use smmu_model::Config;

/// The software that programs the SMMUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The host, without DMA isolation.
    None,
    /// EL2; the host's accesses are emulated.
    El2,
}

/// The configuration of a machine.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The SMMUs' implementation.
    pub config: Config,
    /// Number of SMMUs.
    pub smmus: usize,
    /// The software that programs them.
    pub guard: Guard,
    /// Whether IDR0.MSI may be shown.
    pub msi: MsiAdvert,
    /// VMID of the host's streams.
    pub vmid: u16,
    /// log2 of the maximum number of entries of the host's command queue.
    pub cmdq_log2: u32,
}

impl Setup {
    /// One SMMU like QEMU's, under EL2.
    #[must_use]
    pub fn guarded() -> Self {
        Self {
            config: Config::qemu(),
            smmus: 1,
            guard: Guard::El2,
            msi: MsiAdvert::WhenCoherent,
            vmid: 1,
            cmdq_log2: HOST_CMDQS,
        }
    }

    /// The same without EL2.
    #[must_use]
    pub fn bare() -> Self {
        Self { guard: Guard::None, ..Self::guarded() }
    }

    /// The same with another SMMU implementation.
    #[must_use]
    pub fn with(self, config: Config) -> Self {
        Self { config, ..self }
    }
}
