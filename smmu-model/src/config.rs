//! Configuration of the modelled SMMU, and its ID registers [IHI 0070G 6.3.1 to 6.3.8].

use crate::mem::Snoop;

/// Break-before-make level, IDR3.BBML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bbml {
    /// Every change of block size needs break-before-make.
    Level0,
    /// Break-before-make is not needed with nT.
    Level1,
    /// Never needed.
    Level2,
}

/// IDR0.STALL_MODEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StallModel {
    /// Stall and terminate.
    Both,
    /// Terminate only.
    Terminate,
    /// Stall only.
    Forced,
}

/// IDR0.HTTU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Httu {
    /// None.
    None,
    /// Access flag.
    Access,
    /// Access flag and dirty state.
    Dirty,
}

/// Whether RES0 bits of commands are checked [4.1.5].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Res0 {
    /// Non-zero reserved bits are CERROR_ILL.
    Checked,
    /// They are ignored.
    Ignored,
}

/// When pending hardware work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Immediately, during the register access (as in QEMU).
    Eager,
    /// At polls: each register read or [`crate::Model::relax`] makes a random amount of progress.
    Lazy,
    /// Only when the test calls [`crate::Model::step`].
    Manual,
}

/// The choice of the outcome of a transaction if the architecture allows several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// The outcome that succeeds with the oldest information: the cache keeps every entry.
    Adversarial,
    /// The outcome with the newest information: nothing is cached.
    None,
    /// A random outcome.
    Random,
}

/// The implementation that is modelled.
#[derive(Clone, Debug)]
pub struct Config {
    /// IDR0.S1P.
    pub stage1: bool,
    /// IDR0.S2P.
    pub stage2: bool,
    /// IDR0.TTF bit 1; without it only VMSAv8-32 tables, which the model does not walk.
    pub aarch64: bool,
    /// IDR0.COHACC: whether accesses to tables and queues snoop the CPUs' caches.
    pub snoop: Snoop,
    /// IDR0.BTM.
    pub btm: bool,
    /// IDR0.HTTU.
    pub httu: Httu,
    /// IDR0.Hyp.
    pub hyp: bool,
    /// IDR0.ATS.
    pub ats: bool,
    /// IDR0.NS1ATS.
    pub ns1ats: bool,
    /// IDR0.PRI.
    pub pri: bool,
    /// IDR0.MSI.
    pub msi: bool,
    /// IDR0.SEV.
    pub sev: bool,
    /// IDR0.ASID16.
    pub asid16: bool,
    /// IDR0.VMID16.
    pub vmid16: bool,
    /// IDR0.VMW.
    pub vmw: bool,
    /// IDR0.CD2L.
    pub cd2l: bool,
    /// IDR0.ATOS.
    pub atos: bool,
    /// IDR0.ST_LEVEL.
    pub two_level: bool,
    /// IDR0.STALL_MODEL.
    pub stall: StallModel,
    /// IDR0.TERM_MODEL.
    pub term_model: bool,
    /// IDR1.SIDSIZE.
    pub sid_bits: u32,
    /// IDR1.SSIDSIZE.
    pub ssid_bits: u32,
    /// IDR1.CMDQS.
    pub cmdq_bits: u32,
    /// IDR1.EVENTQS.
    pub eventq_bits: u32,
    /// IDR1.PRIQS.
    pub priq_bits: u32,
    /// IDR1.ATTR_TYPES_OVR.
    pub attr_types_ovr: bool,
    /// IDR1.TABLES_PRESET and QUEUES_PRESET.
    pub presets: bool,
    /// IDR3.RIL.
    pub ril: bool,
    /// IDR3.FWB.
    pub fwb: bool,
    /// IDR3.STT.
    pub stt: bool,
    /// IDR3.HAD.
    pub had: bool,
    /// IDR3.XNX.
    pub xnx: bool,
    /// IDR3.BBML.
    pub bbml: Bbml,
    /// IDR5.OAS as its encoding (0 = 32 bits, 2 = 40, 5 = 48).
    pub oas: u64,
    /// IDR5.GRAN4K.
    pub gran4k: bool,
    /// IDR5.GRAN16K.
    pub gran16k: bool,
    /// IDR5.GRAN64K.
    pub gran64k: bool,
    /// IIDR, for the errata of known parts.
    pub iidr: u32,
    /// An erratum: an invalidation does not remove an entry that is in use, unless the same invalidation was also
    /// issued before the last CMD_SYNC.
    pub invalidations_race: bool,
    /// An erratum: on an SMMU with range invalidation, CMD_TLBI_S2_IPA without a range removes nothing.
    pub single_ipa_void: bool,
    /// AIDR.
    pub aidr: u32,
    /// GBPA after reset (without Update).
    pub gbpa_reset: u32,
    /// The registers of page 1 can also be accessed in page 0 [6.2].
    pub page1_aliases: bool,
    /// RES0 checks of commands.
    pub res0: Res0,
    /// When pending work is done.
    pub pace: Pace,
    /// The choice of the outcome of a transaction.
    pub cache: Cache,
    /// Seed of every random choice.
    pub seed: u64,
}

impl Config {
    /// Like QEMU's nested SMMUv3: both stages, 44-bit addresses, coherent, RIL, BBML 2, no MSI, ATS, stall or HTTU.
    #[must_use]
    pub fn qemu() -> Self {
        Self {
            stage1: true,
            stage2: true,
            aarch64: true,
            snoop: Snoop::Coherent,
            btm: false,
            httu: Httu::None,
            hyp: false,
            ats: false,
            ns1ats: false,
            pri: false,
            msi: false,
            sev: false,
            asid16: true,
            vmid16: true,
            vmw: false,
            cd2l: false,
            atos: false,
            two_level: true,
            stall: StallModel::Terminate,
            term_model: true,
            sid_bits: 16,
            ssid_bits: 0,
            cmdq_bits: 19,
            eventq_bits: 19,
            priq_bits: 0,
            attr_types_ovr: false,
            presets: false,
            ril: true,
            fwb: false,
            stt: false,
            had: true,
            xnx: true,
            bbml: Bbml::Level2,
            oas: 4,
            gran4k: true,
            gran16k: true,
            gran64k: true,
            iidr: 0,
            invalidations_race: false,
            single_ipa_void: false,
            aidr: 1,
            gbpa_reset: 0x1000,
            page1_aliases: false,
            res0: Res0::Checked,
            pace: Pace::Eager,
            cache: Cache::Adversarial,
            seed: 1,
        }
    }

    /// All optional features of the model, with maximum values.
    #[must_use]
    pub fn full() -> Self {
        Self {
            btm: true,
            httu: Httu::Dirty,
            hyp: true,
            ats: true,
            pri: true,
            msi: true,
            sev: true,
            vmw: true,
            cd2l: true,
            atos: true,
            stall: StallModel::Both,
            term_model: false,
            sid_bits: 20,
            ssid_bits: 16,
            priq_bits: 8,
            attr_types_ovr: true,
            fwb: true,
            stt: true,
            oas: 5,
            aidr: 2,
            ..Self::qemu()
        }
    }

    /// IDR0.
    #[must_use]
    pub fn idr0(&self) -> u32 {
        let stall = match self.stall {
            StallModel::Both => 0,
            StallModel::Terminate => 1,
            StallModel::Forced => 2,
        };
        let httu = match self.httu {
            Httu::None => 0,
            Httu::Access => 1,
            Httu::Dirty => 2,
        };
        u32::from(self.stage2)
            | u32::from(self.stage1) << 1
            | (if self.aarch64 { 2 } else { 1 }) << 2
            | u32::from(self.snoop == Snoop::Coherent) << 4
            | u32::from(self.btm) << 5
            | httu << 6
            | u32::from(self.hyp) << 9
            | u32::from(self.ats) << 10
            | u32::from(self.ns1ats) << 11
            | u32::from(self.asid16) << 12
            | u32::from(self.msi) << 13
            | u32::from(self.sev) << 14
            | u32::from(self.atos) << 15
            | u32::from(self.pri) << 16
            | u32::from(self.vmw) << 17
            | u32::from(self.vmid16) << 18
            | u32::from(self.cd2l) << 19
            | 2 << 21
            | stall << 24
            | u32::from(self.term_model) << 26
            | u32::from(self.two_level) << 27
    }

    /// IDR1.
    #[must_use]
    pub fn idr1(&self) -> u32 {
        self.sid_bits
            | self.ssid_bits << 6
            | self.priq_bits << 11
            | self.eventq_bits << 16
            | self.cmdq_bits << 21
            | u32::from(self.attr_types_ovr) << 27
            | u32::from(self.presets) << 29
            | u32::from(self.presets) << 30
    }

    /// IDR3.
    #[must_use]
    pub fn idr3(&self) -> u32 {
        let bbml = match self.bbml {
            Bbml::Level0 => 0,
            Bbml::Level1 => 1,
            Bbml::Level2 => 2,
        };
        u32::from(self.had) << 2
            | u32::from(self.xnx) << 4
            | u32::from(self.fwb) << 8
            | u32::from(self.stt) << 9
            | u32::from(self.ril) << 10
            | bbml << 11
    }

    /// IDR5.
    #[must_use]
    pub fn idr5(&self) -> u32 {
        u32::try_from(self.oas & 7).unwrap_or(0)
            | u32::from(self.gran4k) << 4
            | u32::from(self.gran16k) << 5
            | u32::from(self.gran64k) << 6
    }

    /// Output address size in bits.
    #[must_use]
    pub fn oas_bits(&self) -> u32 {
        crate::arch::address_bits(self.oas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ID register values of QEMU 10.0.2's nested SMMU.
    #[test]
    fn the_qemu_configuration_has_qemus_id_registers() {
        let config = Config::qemu();
        assert_eq!(config.idr0(), 0x0d44_101b);
        assert_eq!(config.idr1(), 0x0273_0010);
        assert_eq!(config.idr3(), 0x1414);
        assert_eq!(config.idr5(), 0x74);
    }
}
