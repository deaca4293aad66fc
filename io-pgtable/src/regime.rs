//! Translation regimes: the differences between stage 2, stage 1 of EL1&0 and stage 1 of EL2.

use core::marker::PhantomData;

use crate::addr::Pa;
use crate::attrs::{Attrs, MemType, Prot};
use crate::cfg::{Cfg, Quirks};
use crate::desc::{self, mem_attr};
use crate::error::CfgError;
use crate::granule::{G4K, Granule};
use crate::out::{MAIR, S1Cfg, S2Cfg, WalkAttrs};

mod private {
    pub trait Sealed {}
}

/// A translation regime with its granule; implemented by [`S2`], [`S1`] and [`El2`] only.
pub trait Regime: private::Sealed + Send + Sync + 'static {
    /// The granule.
    type Granule: Granule;
    /// The values for registers, an STE or a context descriptor.
    type Out;

    /// Quirks that this regime supports.
    #[doc(hidden)]
    const QUIRKS: Quirks;
    /// Whether this is a stage 2: concatenated roots, no input size above the output size.
    #[doc(hidden)]
    const STAGE2: bool;
    /// Attribute bits of a leaf; `None` if the regime cannot express `attrs`.
    #[doc(hidden)]
    fn leaf_bits(quirks: Quirks, attrs: Attrs) -> Option<u64>;
    /// The attributes of a leaf with bits from [`Regime::leaf_bits`].
    #[doc(hidden)]
    fn attrs(quirks: Quirks, leaf: u64) -> Attrs;
    /// The configuration.
    #[doc(hidden)]
    fn out(cfg: &Cfg, root: Pa, start_level: u8) -> Self::Out;
}

/// Stage 2 of EL1&0: intermediate physical to physical addresses.
#[derive(Clone, Copy, Debug)]
pub struct S2<G = G4K>(PhantomData<G>);
/// Stage 1 of EL1&0, with an ASID and two privilege levels: TTBR0, or TTBR1 by [`Quirks::TTBR1`].
#[derive(Clone, Copy, Debug)]
pub struct S1<G = G4K>(PhantomData<G>);
/// Stage 1 of EL2 without E2H: one range, one privilege level.
#[derive(Clone, Copy, Debug)]
pub struct El2<G = G4K>(PhantomData<G>);

impl<G> private::Sealed for S2<G> {}
impl<G> private::Sealed for S1<G> {}
impl<G> private::Sealed for El2<G> {}

impl<G: Granule> Regime for S2<G> {
    type Granule = G;
    type Out = S2Cfg;
    const QUIRKS: Quirks = Quirks::S2FWB.union(Quirks::NO_WARN);
    const STAGE2: bool = true;

    fn leaf_bits(quirks: Quirks, attrs: Attrs) -> Option<u64> {
        if !accessible(attrs.prot) || attrs.prot.contains(Prot::PRIV) {
            return None;
        }
        let cacheable = if quirks.contains(Quirks::S2FWB) { mem_attr::FWB_WB } else { mem_attr::NORMAL_WB };
        let (mem_attr, sh) = match attrs.mem {
            MemType::Normal => (cacheable, desc::SH_INNER),
            MemType::NormalNc => (mem_attr::NORMAL_NC, desc::SH_OUTER),
            MemType::Device => (mem_attr::DEVICE_NGNRE, desc::SH_OUTER),
        };
        // READ and WRITE have the order of S2AP[0] and S2AP[1].
        let access = u64::from((attrs.prot & Prot::RW).bits()).wrapping_shl(desc::S2AP_SHIFT);
        // XN[1:0] = 0b10 forbids execution with and without FEAT_XNX; Linux's 0b11 would allow EL1 with it.
        let xn = unless(attrs.prot, Prot::EXEC, desc::XN);
        Some(mem_attr.wrapping_shl(desc::MEM_ATTR_SHIFT) | sh | xn | access | desc::AF)
    }

    fn attrs(_quirks: Quirks, leaf: u64) -> Attrs {
        let mut prot = Prot::empty();
        prot.set(Prot::READ, leaf & desc::S2AP_READ != 0);
        prot.set(Prot::WRITE, leaf & desc::S2AP_WRITE != 0);
        prot.set(Prot::EXEC, leaf & desc::XN == 0);
        let mem = match (leaf & desc::MEM_ATTR).wrapping_shr(desc::MEM_ATTR_SHIFT) {
            mem_attr::DEVICE_NGNRE => MemType::Device,
            mem_attr::NORMAL_NC => MemType::NormalNc,
            _ => MemType::Normal,
        };
        Attrs { prot, mem }
    }

    fn out(cfg: &Cfg, root: Pa, start_level: u8) -> S2Cfg {
        // SL0 counts downwards, and the encoding differs for the 4K granule (VTCR_EL2.SL0).
        let origin = if G::PAGE_SHIFT == G4K::PAGE_SHIFT { 2u8 } else { 3u8 };
        S2Cfg {
            ttb: root,
            t0sz: region_size(cfg.ias),
            sl0: origin.wrapping_sub(start_level) & 0b11,
            walk: walk_attrs(cfg),
            tg: G::TG0,
            ps: output_size(cfg.oas).unwrap_or_default(),
            start_level,
        }
    }
}

impl<G: Granule> Regime for S1<G> {
    type Granule = G;
    type Out = S1Cfg;
    const QUIRKS: Quirks =
        Quirks::NS.union(Quirks::TTBR1).union(Quirks::OUTER_WBWA).union(Quirks::HD).union(Quirks::NO_WARN);
    const STAGE2: bool = false;

    fn leaf_bits(quirks: Quirks, attrs: Attrs) -> Option<u64> {
        if !accessible(attrs.prot) {
            return None;
        }
        let write = attrs.prot.contains(Prot::WRITE);
        let access = match (write, quirks.contains(Quirks::HD)) {
            (false, _) => desc::AP_RDONLY,
            (true, true) => desc::DBM,
            (true, false) => 0,
        };
        let unpriv = unless(attrs.prot, Prot::PRIV, desc::AP_UNPRIV);
        let xn = unless(attrs.prot, Prot::EXEC, desc::XN | desc::PXN);
        let ns = if quirks.contains(Quirks::NS) { desc::NS } else { 0 };
        Some(stage1_mem(attrs.mem) | access | unpriv | xn | ns | desc::AF | desc::NG)
    }

    fn attrs(_quirks: Quirks, leaf: u64) -> Attrs {
        let mut prot = Prot::READ;
        prot.set(Prot::WRITE, leaf & desc::AP_RDONLY == 0 || leaf & desc::DBM != 0);
        prot.set(Prot::EXEC, leaf & desc::XN == 0);
        prot.set(Prot::PRIV, leaf & desc::AP_UNPRIV == 0);
        Attrs { prot, mem: stage1_mem_type(leaf) }
    }

    fn out(cfg: &Cfg, root: Pa, start_level: u8) -> S1Cfg {
        let tg = if cfg.quirks.contains(Quirks::TTBR1) { G::TG1 } else { G::TG0 };
        stage1_out(cfg, root, start_level, tg)
    }
}

impl<G: Granule> Regime for El2<G> {
    type Granule = G;
    type Out = S1Cfg;
    const QUIRKS: Quirks = Quirks::NO_WARN;
    const STAGE2: bool = false;

    fn leaf_bits(_quirks: Quirks, attrs: Attrs) -> Option<u64> {
        if !accessible(attrs.prot) || attrs.prot.contains(Prot::PRIV) {
            return None;
        }
        let access = unless(attrs.prot, Prot::WRITE, desc::AP_RDONLY);
        let xn = unless(attrs.prot, Prot::EXEC, desc::XN);
        // AP[1] is RES1 and nG and PXN are RES0 in a regime with one privilege level and no ASID.
        Some(stage1_mem(attrs.mem) | access | xn | desc::AP_UNPRIV | desc::AF)
    }

    fn attrs(_quirks: Quirks, leaf: u64) -> Attrs {
        let mut prot = Prot::READ;
        prot.set(Prot::WRITE, leaf & desc::AP_RDONLY == 0);
        prot.set(Prot::EXEC, leaf & desc::XN == 0);
        Attrs { prot, mem: stage1_mem_type(leaf) }
    }

    fn out(cfg: &Cfg, root: Pa, start_level: u8) -> S1Cfg {
        stage1_out(cfg, root, start_level, G::TG0)
    }
}

/// Whether any access is allowed: a mapping without permissions is refused.
fn accessible(prot: Prot) -> bool {
    prot.intersects(Prot::RW)
}

const _: () = {
    assert!(Prot::READ.bits() == 1 && desc::S2AP_READ == 1 << desc::S2AP_SHIFT);
    assert!(Prot::WRITE.bits() == 2 && desc::S2AP_WRITE == 2 << desc::S2AP_SHIFT);
};

/// `bits` if `prot` lacks `right`, otherwise 0.
fn unless(prot: Prot, right: Prot, bits: u64) -> u64 {
    if prot.contains(right) { 0 } else { bits }
}

/// AttrIndx (an index into [`MAIR`]) and SH of stage 1.
fn stage1_mem(mem: MemType) -> u64 {
    let (index, sh) = match mem {
        MemType::NormalNc => (0u64, desc::SH_OUTER),
        MemType::Normal => (1, desc::SH_INNER),
        MemType::Device => (2, desc::SH_OUTER),
    };
    index.wrapping_shl(desc::ATTR_INDEX_SHIFT) | sh
}

fn stage1_mem_type(leaf: u64) -> MemType {
    match (leaf & desc::ATTR_INDEX).wrapping_shr(desc::ATTR_INDEX_SHIFT) {
        0 => MemType::NormalNc,
        2 => MemType::Device,
        _ => MemType::Normal,
    }
}

fn stage1_out(cfg: &Cfg, root: Pa, start_level: u8, tg: u8) -> S1Cfg {
    S1Cfg {
        ttb: root,
        tsz: region_size(cfg.ias),
        walk: walk_attrs(cfg),
        tg,
        ips: output_size(cfg.oas).unwrap_or_default(),
        mair: MAIR,
        start_level,
    }
}

/// TnSZ of an input address size, which was checked to be 32 to 48.
fn region_size(ias: u32) -> u8 {
    u8::try_from(64u32.saturating_sub(ias)).unwrap_or(u8::MAX)
}

/// PS/IPS encoding of an output address size.
pub(crate) fn output_size(oas: u32) -> Result<u8, CfgError> {
    match oas {
        32 => Ok(0b000),
        36 => Ok(0b001),
        40 => Ok(0b010),
        42 => Ok(0b011),
        44 => Ok(0b100),
        48 => Ok(0b101),
        49..=56 => Err(CfgError::Lpa(oas)),
        _ => Err(CfgError::Oas(oas)),
    }
}

/// A snooping walker uses the caches. One that does not snoop uses none, or the outer cache with
/// [`Quirks::OUTER_WBWA`].
fn walk_attrs(cfg: &Cfg) -> WalkAttrs {
    const NON_CACHEABLE: u8 = 0b00;
    const WRITE_BACK: u8 = 0b01;
    const OUTER: u8 = 0b10;
    const INNER: u8 = 0b11;
    if cfg.coherent_walk {
        WalkAttrs { irgn: WRITE_BACK, orgn: WRITE_BACK, sh: INNER }
    } else if cfg.quirks.contains(Quirks::OUTER_WBWA) {
        WalkAttrs { irgn: NON_CACHEABLE, orgn: WRITE_BACK, sh: OUTER }
    } else {
        WalkAttrs { irgn: NON_CACHEABLE, orgn: NON_CACHEABLE, sh: OUTER }
    }
}
