//! The common capabilities of SMMUs that share one stage 2.

use io_pgtable::{Bbm, Cfg};

use crate::features::{Coherency, Features};

/// The configuration of a stage 2 that all SMMUs can walk.
///
/// ```
/// use smmu_drv::{Coherency, DmaConfig, Features, IdRegisters};
///
/// // SMMU_IDR5.OAS of 36 and of 44 bits.
/// let [small, large] = [1, 4].map(|oas| {
///     Features::decode(IdRegisters { idr5: oas, ..IdRegisters::default() }, Coherency::Coherent)
/// });
/// let common = DmaConfig::common([&small, &large].into_iter(), 40, 48);
/// assert_eq!((common.ias, common.oas, common.bbml, common.coherent), (36, 36, 0, false));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaConfig {
    /// Input bits. No stream reaches memory above them.
    pub ias: u32,
    /// Output bits.
    pub oas: u32,
    /// Lowest break-before-make level.
    pub bbml: u32,
    /// Whether every walker snoops.
    pub coherent: bool,
}

impl DmaConfig {
    /// The configuration for SMMUs with these features, with input addresses of at most `bits` bits, on CPUs with
    /// physical addresses of `pa_bits` bits.
    ///
    /// Each value is the minimum: an SMMU truncates an address above its output size, and would access another page.
    pub fn common<'f>(smmus: impl Iterator<Item = &'f Features> + Clone, bits: u32, pa_bits: u32) -> Self {
        let oas = smmus.clone().map(|smmu| smmu.oas);
        Self {
            ias: oas.clone().fold(bits, u32::min),
            oas: oas.fold(pa_bits, u32::min),
            bbml: smmus.clone().map(|smmu| smmu.bbml).min().unwrap_or(0),
            coherent: smmus.clone().all(|smmu| smmu.coherent == Coherency::Coherent),
        }
    }

    /// The configuration of a table that all of them can walk, for [`io_pgtable::IoPgtable::new`].
    #[must_use]
    pub fn table(&self) -> Cfg {
        let bbm = match self.bbml {
            0 => Bbm::Level0,
            1 => Bbm::Level1,
            _ => Bbm::Level2,
        };
        Cfg { coherent_walk: self.coherent, bbm, ..Cfg::new(self.ias, supported(self.oas)) }
    }
}

/// The largest output size of the table format that does not exceed `bits`.
fn supported(bits: u32) -> u32 {
    [48, 44, 42, 40, 36].into_iter().find(|&size| size <= bits).unwrap_or(32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::IdRegisters;

    /// An SMMU with this IDR5.OAS, coherent, of break-before-make level 2.
    fn smmu(oas: u32) -> Features {
        let ids = IdRegisters { idr0: 1 << 4, idr3: 2 << 11, idr5: oas, ..IdRegisters::default() };
        Features::decode(ids, Coherency::Coherent)
    }

    #[test]
    fn the_configuration_is_the_minimum_of_all_smmus() {
        let [small, large] = [smmu(1), smmu(4)];
        assert_eq!([small, large].map(|smmu| (smmu.oas, smmu.bbml)), [(36, 2), (44, 2)]);
        let whole = DmaConfig { ias: 40, oas: 44, bbml: 2, coherent: true };
        assert_eq!(DmaConfig::common([large].iter(), 40, 48), whole);
        for both in [[small, large], [large, small]] {
            assert_eq!(DmaConfig::common(both.iter(), 40, 48), DmaConfig { ias: 36, oas: 36, ..whole });
            assert_eq!(DmaConfig::common(both.iter(), 34, 32), DmaConfig { ias: 34, oas: 32, ..whole });
        }
        let older = Features { bbml: 1, ..large };
        let apart = Features { coherent: Coherency::NonCoherent, ..large };
        for all in [[large, older, apart], [apart, large, older], [older, apart, large]] {
            assert_eq!(DmaConfig::common(all.iter(), 40, 48), DmaConfig { bbml: 1, coherent: false, ..whole });
        }
    }

    #[test]
    fn output_sizes_are_rounded_down_to_those_of_the_format() {
        assert_eq!(
            [32, 35, 36, 39, 40, 42, 43, 44, 47, 48, 52].map(supported),
            [32, 32, 36, 36, 40, 42, 42, 44, 44, 48, 48]
        );
    }
}
