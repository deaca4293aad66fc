//! Take-over of every SMMU in the device tree, before the host runs.

use crate::arch::{self, Conduit};
use crate::exit::refuse;
use crate::iommu::stage2::DmaTable;
use crate::iommu::{self, SmmuPlatform};
use crate::log;
use arrayvec::ArrayVec;
use hyp::boot_info::smmu::{SMMUS_MAX, SmmuNode};
use smmu_drv::{DmaConfig, HOST_CMDQS, MsiAdvert, ProbeConfig, Probed, ReadsAs};

/// Reads the ID registers of every SMMU; refuses to boot if one of them cannot isolate.
///
/// Command queues of the host have at most 2^`cmdq_log2` entries, by default the driver's maximum.
pub fn probe(
    nodes: &ArrayVec<SmmuNode, SMMUS_MAX>,
    cmdq_log2: Option<u32>,
) -> [Option<Probed<SmmuPlatform>>; SMMUS_MAX] {
    core::array::from_fn(|n| {
        let node = nodes.get(n).filter(|_| cfg!(not(feature = "no-isolation")))?;
        // With an msi-parent the host would configure the SMMU's own MSIs, which EL2 does not forward.
        let msi = if node.msi_parent { MsiAdvert::Hidden } else { MsiAdvert::WhenCoherent };
        let reads = if node.data_override { ReadsAs::Data } else { ReadsAs::Incoming };
        let cmdq_log2 = cmdq_log2.unwrap_or(HOST_CMDQS);
        let config = ProbeConfig { msi, reads, cmdq_log2, quirks: node.quirks, ..ProbeConfig::new(node.coherency) };
        Some(
            Probed::probe(SmmuPlatform::new(node), config)
                .unwrap_or_else(|error| refuse(format_args!("smmu{n} at {}: {error}", node.range), Conduit::Smc)),
        )
    })
}

/// An empty IOMMU stage 2 that all SMMUs can walk, with addresses of at most `bits` bits.
pub fn stage2(bits: u32, smmus: &[Option<Probed<SmmuPlatform>>; SMMUS_MAX]) -> DmaTable {
    if cfg!(feature = "no-isolation") {
        return DmaTable::none();
    }
    let features = smmus.iter().flatten().map(Probed::features);
    let config = DmaConfig::common(features, bits, arch::features::pa_bits());
    DmaTable::new(&config).unwrap_or_else(|error| refuse(format_args!("IOMMU stage 2: {error}"), Conduit::Smc))
}

/// Takes over every SMMU: from now on each stream can only access the memory that `table` maps.
pub fn take_over(
    table: &DmaTable,
    nodes: &ArrayVec<SmmuNode, SMMUS_MAX>,
    probed: [Option<Probed<SmmuPlatform>>; SMMUS_MAX],
) {
    let Some(stage2) = table.config() else { return };
    for (n, (smmu, node)) in probed.into_iter().flatten().zip(nodes.iter()).enumerate() {
        let features = *smmu.features();
        if let Err(error) = iommu::take_over(n, node.range.base().0, smmu, stage2) {
            refuse(format_args!("smmu{n} at {}: {error}", node.range), Conduit::Smc);
        }
        log!(
            "smmu{n} at {}: taken over: {} StreamID bits, {}-bit output, BBML {}",
            node.range,
            features.sid_bits,
            features.oas,
            features.bbml
        );
        if node.data_override {
            let how = if features.attr_perms_ovr() {
                "set in every stream table entry"
            } else {
                "not supported by this SMMU (IDR1.ATTR_PERMS_OVR is 0)"
            };
            log!("smmu{n}: arm,instdata-override: removed from the host's tree; {how}");
        }
    }
}
