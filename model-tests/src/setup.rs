//! What machine to build.

use smmu_drv::{HOST_CMDQS, MsiAdvert};
use smmu_model::Config;

/// Who programs the SMMUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The host itself, as without DMA isolation.
    None,
    /// EL2; the host's accesses are emulated.
    El2,
}

/// What machine to build.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The SMMUs' implementation.
    pub config: Config,
    /// How many there are.
    pub smmus: usize,
    /// Who programs them.
    pub guard: Guard,
    /// Whether IDR0.MSI may be shown.
    pub msi: MsiAdvert,
    /// VMID of the host's streams.
    pub vmid: u16,
    /// Log2 of the largest command queue that the host may have.
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

    /// Another implementation.
    #[must_use]
    pub fn with(self, config: Config) -> Self {
        Self { config, ..self }
    }
}
