//! Probing: reads the ID registers, and refuses SMMUs that cannot isolate.

use core::fmt;

use super::budget;
use super::emul::ids::MsiAdvert;
use super::index::HOST_CMDQS;
use super::ste::ReadsAs;
use crate::errata::{self, Answer, Quirks};
use crate::features::{Coherency, Features, IdRegisters};
use crate::limits::{OutOfRange, Timeouts};
use crate::platform::Platform;
use crate::spec::get32;
use crate::spec::registers::{idr0, idr1, idr5};

/// Properties of one SMMU from firmware and configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeConfig {
    /// The device tree's `dma-coherent`.
    pub coherent: Coherency,
    /// Whether IDR0 shows the host that CMD_SYNC can complete by a store (SMMU_IDR0.MSI). Hide it when the device tree
    /// gives the SMMU an `msi-parent`: the host would then request MSIs that EL2 does not forward.
    pub msi: MsiAdvert,
    /// Log2 of the largest command queue that the host may have; the default, [`HOST_CMDQS`], is the maximum; tests use
    /// smaller values.
    pub cmdq_log2: u32,
    /// Errata identified by the device tree.
    pub quirks: Quirks,
    /// How instruction reads are treated: the device tree's `arm,instdata-override`.
    pub reads: ReadsAs,
    /// The owner of unassigned streams, if there is a host.
    pub unassigned: Unassigned,
    /// Maximum waits for hardware.
    pub timeouts: Timeouts,
    /// Units of work of one trap of the host, in [`budget::RANGE`]; [`budget::TRAP`] usually. With other units the
    /// bounds of [`budget`] change in proportion.
    pub trap_budget: u32,
}

impl ProbeConfig {
    /// The defaults for an SMMU with the device tree's `dma-coherent`: no errata, CMD_SYNC does not complete by a
    /// store, and the host owns unassigned streams.
    #[must_use]
    pub fn new(coherent: Coherency) -> Self {
        Self {
            coherent,
            msi: MsiAdvert::Hidden,
            cmdq_log2: HOST_CMDQS,
            quirks: Quirks::default(),
            reads: ReadsAs::Incoming,
            unassigned: Unassigned::Host,
            timeouts: Timeouts::default(),
            trap_budget: budget::TRAP,
        }
    }

    /// Checks the values whose types allow invalid ones.
    fn check(&self) -> Result<(), OutOfRange> {
        let Timeouts { register_us, sync_us } = self.timeouts;
        OutOfRange::check("timeouts.register_us", register_us, &Timeouts::RANGE)?;
        OutOfRange::check("timeouts.sync_us", sync_us, &Timeouts::RANGE)?;
        OutOfRange::check("trap_budget", self.trap_budget, &budget::RANGE)?;
        OutOfRange::check("cmdq_log2", self.cmdq_log2, &(0..=HOST_CMDQS))
    }
}

/// The owner of unassigned streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unassigned {
    /// The host.
    #[default]
    Host,
    /// Nobody: they abort.
    Blocked,
}

/// A probed SMMU; nothing was written yet.
pub struct Probed<P> {
    platform: P,
    features: Features,
    config: ProbeConfig,
}

impl<P: Platform> Probed<P> {
    /// Reads the ID registers of the SMMU behind `platform`. Nothing is written.
    ///
    /// # Errors
    /// The SMMU cannot be used for isolation; it is unchanged.
    pub fn probe(platform: P, firmware: ProbeConfig) -> Result<Self, ProbeError> {
        firmware.check().map_err(ProbeError::Config)?;
        if let Some(name) = firmware.quirks.refused {
            return Err(ProbeError::NamedErratum(name));
        }
        let ids = IdRegisters::read(&platform);
        check(&ids)?;
        let features = Features::decode(ids, firmware.coherent);
        Ok(Self { platform, features, config: firmware })
    }

    pub(crate) fn into_parts(self) -> (P, Features, ProbeConfig) {
        (self.platform, self.features, self.config)
    }

    /// Its features.
    pub fn features(&self) -> &Features {
        &self.features
    }
}

/// Why an SMMU is refused. Nothing was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeError {
    /// Stage 1 or stage 2 is missing; the value is SMMU_IDR0.
    NotNested(u32),
    /// Table or queue bases are fixed by hardware; the value is SMMU_IDR1.
    Preset(u32),
    /// AArch64 tables are not supported; the value is SMMU_IDR0.
    NoAarch64(u32),
    /// Tables must be big-endian; the value is SMMU_IDR0.
    BigEndian(u32),
    /// The 4K granule is not supported; the value is SMMU_IDR5.
    No4K(u32),
    /// Every fault stalls; the value is SMMU_IDR0.
    StallForced(u32),
    /// Nesting does not work on this revision (errata); the value is SMMU_IIDR.
    NestingErratum(u32),
    /// The device tree contains an erratum that breaks isolation.
    NamedErratum(&'static str),
    /// A queue cannot hold even one batch; the value is SMMU_IDR1.
    QueueTooSmall(u32),
    /// StreamIDs wider than the architecture allows; the value is SMMU_IDR1.
    SidSize(u32),
    /// A value of the configuration is out of range.
    Config(OutOfRange),
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotNested(idr0) => write!(
                f,
                "SMMU_IDR0={idr0:#x}: stage 1 and stage 2 are both needed; use an SMMU with nesting (QEMU: 9.1 or newer, arm-smmuv3.stage=nested)"
            ),
            Self::Preset(idr1) => {
                write!(f, "SMMU_IDR1={idr1:#x}: preset tables or queues cannot be moved to EL2 memory; not supported")
            }
            Self::NoAarch64(idr0) => {
                write!(f, "SMMU_IDR0={idr0:#x}: no AArch64 table walks (TTF); an SMMU with VMSAv8-64 is needed")
            }
            Self::BigEndian(idr0) => {
                write!(
                    f,
                    "SMMU_IDR0={idr0:#x}: table walks are big-endian only (TTENDIAN); a little-endian SMMU is needed"
                )
            }
            Self::No4K(idr5) => {
                write!(f, "SMMU_IDR5={idr5:#x}: no 4K granule; it is needed for page-grained isolation")
            }
            Self::StallForced(idr0) => write!(
                f,
                "SMMU_IDR0={idr0:#x}: every fault stalls (STALL_MODEL=0b10), so transactions could stay stalled across a revocation; not supported"
            ),
            Self::NestingErratum(iidr) => write!(
                f,
                "SMMU_IIDR={iidr:#x}: errata break nested translation on this revision; MMU-600 r2p0, MMU-700 r1p1 or newer is needed"
            ),
            Self::NamedErratum(name) => {
                write!(f, "the device tree has {name}: not supported; an SMMU without this erratum is needed")
            }
            Self::QueueTooSmall(idr1) => {
                write!(f, "SMMU_IDR1={idr1:#x}: queues of fewer than 8 entries; a larger queue is needed")
            }
            Self::Config(OutOfRange { name, value, range: (least, most) }) => {
                write!(f, "ProbeConfig: {name} is {value}; it can be {least} to {most}")
            }
            Self::SidSize(idr1) => {
                write!(f, "SMMU_IDR1={idr1:#x}: more than 32 StreamID bits; the ID register value is invalid")
            }
        }
    }
}

impl core::error::Error for ProbeError {}

fn check(ids: &IdRegisters) -> Result<(), ProbeError> {
    let one = |field, word| get32(field, word) == 1;
    if !one(idr0::S1P, ids.idr0) || !one(idr0::S2P, ids.idr0) {
        return Err(ProbeError::NotNested(ids.idr0));
    }
    if one(idr1::TABLES_PRESET, ids.idr1) || one(idr1::QUEUES_PRESET, ids.idr1) {
        return Err(ProbeError::Preset(ids.idr1));
    }
    if !matches!(get32(idr0::TTF, ids.idr0), idr0::TTF_AARCH64 | idr0::TTF_BOTH) {
        return Err(ProbeError::NoAarch64(ids.idr0));
    }
    if get32(idr0::TTENDIAN, ids.idr0) == idr0::TTENDIAN_BIG {
        return Err(ProbeError::BigEndian(ids.idr0));
    }
    if !one(idr5::GRAN4K, ids.idr5) {
        return Err(ProbeError::No4K(ids.idr5));
    }
    if !matches!(get32(idr0::STALL_MODEL, ids.idr0), idr0::STALL_BOTH | idr0::STALL_NONE) {
        return Err(ProbeError::StallForced(ids.idr0));
    }
    if get32(idr1::CMDQS, ids.idr1) < 3 || get32(idr1::EVENTQS, ids.idr1) < 3 {
        return Err(ProbeError::QueueTooSmall(ids.idr1));
    }
    if get32(idr1::SIDSIZE, ids.idr1) > 32 {
        return Err(ProbeError::SidSize(ids.idr1));
    }
    if errata::of(ids.iidr).any(|erratum| erratum.answer == Answer::Refused) {
        return Err(ProbeError::NestingErratum(ids.iidr));
    }
    Ok(())
}
