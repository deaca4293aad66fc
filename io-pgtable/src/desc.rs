//! Layout of VMSAv8-64 descriptors (Arm ARM DDI 0487, D8.3). Layout only, no policy.
//!
//! A table descriptor contains, in bits that the architecture ignores, the number of valid descriptors of its table:
//! empty and full tables are recognised without a scan and without extra memory.

use crate::granule::Granule;

/// Bit 0: the descriptor is valid.
pub(crate) const VALID: u64 = 1 << 0;
/// Bit 1: a table at levels 0 to 2, a page at level 3.
pub(crate) const TABLE_OR_PAGE: u64 = 1 << 1;
/// Bits `[1:0]` of a block.
pub(crate) const BLOCK: u64 = VALID;
/// Bits `[1:0]` of a page.
pub(crate) const PAGE: u64 = VALID | TABLE_OR_PAGE;
/// Bits `[1:0]` of a table.
pub(crate) const TABLE: u64 = VALID | TABLE_OR_PAGE;
/// Bits `[1:0]`.
pub(crate) const TYPE: u64 = 0b11;

/// Output address or next-level table address, bits `[47:12]`.
pub(crate) const ADDR: u64 = 0x0000_ffff_ffff_f000;

/// `AttrIndx[2:0]` of stage 1, bits `[4:2]`.
pub(crate) const ATTR_INDEX_SHIFT: u32 = 2;
/// `AttrIndx[2:0]` of stage 1.
pub(crate) const ATTR_INDEX: u64 = 0b111 << ATTR_INDEX_SHIFT;
/// `MemAttr[3:0]` of stage 2, bits `[5:2]`.
pub(crate) const MEM_ATTR_SHIFT: u32 = 2;
/// `MemAttr[3:0]` of stage 2.
pub(crate) const MEM_ATTR: u64 = 0b1111 << MEM_ATTR_SHIFT;
/// NS of stage 1.
pub(crate) const NS: u64 = 1 << 5;
/// `AP[1]` of stage 1: unprivileged access. RES1 where the regime has one privilege level.
pub(crate) const AP_UNPRIV: u64 = 1 << 6;
/// `AP[2]` of stage 1: read-only.
pub(crate) const AP_RDONLY: u64 = 1 << 7;
/// `S2AP[1:0]` of stage 2, bits `[7:6]`.
pub(crate) const S2AP_SHIFT: u32 = 6;
/// `S2AP[0]`: readable.
pub(crate) const S2AP_READ: u64 = 1 << 6;
/// `S2AP[1]`: writable.
pub(crate) const S2AP_WRITE: u64 = 1 << 7;
/// `SH[1:0]`, bits `[9:8]`.
pub(crate) const SH_OUTER: u64 = 0b10 << 8;
/// `SH[1:0]`: inner shareable.
pub(crate) const SH_INNER: u64 = 0b11 << 8;
/// Access flag.
pub(crate) const AF: u64 = 1 << 10;
/// nG of stage 1 in regimes with an ASID.
pub(crate) const NG: u64 = 1 << 11;
/// nT of a block: no TLB may keep it (FEAT_BBM level 1).
pub(crate) const NT: u64 = 1 << 16;
/// DBM of stage 1: hardware may make the mapping writable.
pub(crate) const DBM: u64 = 1 << 51;
/// PXN of stage 1 in a regime with two privilege levels; `XN[0]` of stage 2.
pub(crate) const PXN: u64 = 1 << 53;
/// UXN or XN of stage 1; `XN[1]` of stage 2.
pub(crate) const XN: u64 = 1 << 54;
/// NSTable.
pub(crate) const NS_TABLE: u64 = 1 << 63;

/// Memory attributes of stage 2 (`MemAttr[3:0]`), without FWB except for names with `FWB`.
pub(crate) mod mem_attr {
    /// Device-nGnRE.
    pub(crate) const DEVICE_NGNRE: u64 = 0b0001;
    /// Normal, inner and outer non-cacheable; the same with FWB.
    pub(crate) const NORMAL_NC: u64 = 0b0101;
    /// Normal, inner and outer write-back.
    pub(crate) const NORMAL_WB: u64 = 0b1111;
    /// With FWB: normal write-back, independent of stage 1.
    pub(crate) const FWB_WB: u64 = 0b0110;
}

/// Low part of the live count, bits `[11:2]` of a table descriptor (ignored there while FEAT_HAFT is off).
const COUNT_LOW_SHIFT: u32 = 2;
const COUNT_LOW: u64 = 0x3ff << COUNT_LOW_SHIFT;
const COUNT_LOW_BITS: u32 = 10;
/// High part, bits `[58:55]`, for granules with more than 1023 descriptors in a table.
const COUNT_HIGH_SHIFT: u32 = 55;
const COUNT_HIGH: u64 = 0xf << COUNT_HIGH_SHIFT;

/// Whether tables of `G` can have more descriptors than the low part can count.
const fn wide<G: Granule>() -> bool {
    G::BITS >= COUNT_LOW_BITS
}

/// The live count in a table descriptor.
#[inline]
pub(crate) fn count<G: Granule>(desc: u64) -> u64 {
    let low = (desc & COUNT_LOW).wrapping_shr(COUNT_LOW_SHIFT);
    if wide::<G>() {
        low | (desc & COUNT_HIGH).wrapping_shr(COUNT_HIGH_SHIFT.wrapping_sub(COUNT_LOW_BITS))
    } else {
        low
    }
}

/// `desc` with `n` added to its live count, which does not exceed the size of a table.
#[inline]
pub(crate) fn add_count<G: Granule>(desc: u64, n: u64) -> u64 {
    if wide::<G>() {
        with_count::<G>(desc, count::<G>(desc).wrapping_add(n))
    } else {
        desc.wrapping_add(n.wrapping_shl(COUNT_LOW_SHIFT))
    }
}

/// `desc` with another live count.
#[inline]
pub(crate) fn with_count<G: Granule>(desc: u64, count: u64) -> u64 {
    let low = count.wrapping_shl(COUNT_LOW_SHIFT) & COUNT_LOW;
    if wide::<G>() {
        let high = count.wrapping_shl(COUNT_HIGH_SHIFT.wrapping_sub(COUNT_LOW_BITS)) & COUNT_HIGH;
        desc & !(COUNT_LOW | COUNT_HIGH) | low | high
    } else {
        desc & !COUNT_LOW | low
    }
}
