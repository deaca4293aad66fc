//! VMSAv8-64 descriptors [Arm ARM DDI 0487 D8.3], as the SMMU interprets them.

use super::{bit, bits, keep};

/// Translation granule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Granule {
    /// 4 KiB.
    K4,
    /// 16 KiB.
    K16,
    /// 64 KiB.
    K64,
}

impl Granule {
    /// log2 of the granule in bytes.
    #[must_use]
    pub fn shift(self) -> u32 {
        match self {
            Granule::K4 => 12,
            Granule::K16 => 14,
            Granule::K64 => 16,
        }
    }

    /// Address bits resolved by one level.
    #[must_use]
    pub fn stride(self) -> u32 {
        self.shift() - 3
    }

    /// log2 of the size in bytes that one descriptor of `level` maps.
    #[must_use]
    pub fn level_shift(self, level: u32) -> u32 {
        self.shift() + (3 - level) * self.stride()
    }

    /// Whether `level` may hold a block (without 52-bit addresses).
    #[must_use]
    pub fn block_at(self, level: u32) -> bool {
        match self {
            Granule::K4 => level == 1 || level == 2,
            Granule::K16 | Granule::K64 => level == 2,
        }
    }

    /// The TG encoding of a TLBI command.
    #[must_use]
    pub fn tlbi_tg(self) -> u64 {
        match self {
            Granule::K4 => 1,
            Granule::K16 => 2,
            Granule::K64 => 3,
        }
    }

    /// Decodes CD.TG0 and STE.S2TG.
    #[must_use]
    pub fn from_tg0(encoding: u64) -> Option<Self> {
        match encoding {
            0 => Some(Granule::K4),
            1 => Some(Granule::K64),
            2 => Some(Granule::K16),
            _ => None,
        }
    }

    /// Decodes CD.TG1.
    #[must_use]
    pub fn from_tg1(encoding: u64) -> Option<Self> {
        match encoding {
            1 => Some(Granule::K16),
            2 => Some(Granule::K4),
            3 => Some(Granule::K64),
            _ => None,
        }
    }
}

/// A descriptor, decoded for its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Desc {
    /// Bit 0 clear, or a reserved form.
    Invalid,
    /// Points to the next level.
    Table {
        /// Address of the next table.
        next: u64,
        /// The descriptor, with its hierarchical attributes.
        raw: u64,
    },
    /// A block or page.
    Leaf {
        /// Output address of the first byte.
        pa: u64,
        /// The descriptor.
        raw: u64,
    },
}

/// Decodes the word `raw` found at `level`.
#[must_use]
pub fn decode(raw: u64, level: u32, granule: Granule) -> Desc {
    if !bit(raw, 0) {
        return Desc::Invalid;
    }
    let address = if granule == Granule::K64 {
        keep(raw, 47, 16) | bits(raw, 15, 12) << 48
    } else {
        keep(raw, 47, granule.shift())
    };
    let table_or_page = bit(raw, 1);
    let span = granule.level_shift(level);
    match (table_or_page, level) {
        (true, 3) => Desc::Leaf { pa: address, raw },
        (true, _) => Desc::Table { next: address, raw },
        (false, 3) => Desc::Invalid,
        (false, _) if granule.block_at(level) => Desc::Leaf { pa: address >> span << span, raw },
        (false, _) => Desc::Invalid,
    }
}

/// AF, bit 10.
#[must_use]
pub fn af(raw: u64) -> bool {
    bit(raw, 10)
}

/// nT of a block, bit 16.
#[must_use]
pub fn nt(raw: u64) -> bool {
    bit(raw, 16)
}

/// nG of a stage 1 leaf, bit 11.
#[must_use]
pub fn ng(raw: u64) -> bool {
    bit(raw, 11)
}

/// `AP[2:1]` of a stage 1 leaf, bits 7:6.
#[must_use]
pub fn s1_ap(raw: u64) -> u64 {
    bits(raw, 7, 6)
}

/// DBM, bit 51.
#[must_use]
pub fn dbm(raw: u64) -> bool {
    bit(raw, 51)
}

/// APTable of a stage 1 table, bits 62:61.
#[must_use]
pub fn ap_table(raw: u64) -> u64 {
    bits(raw, 62, 61)
}

/// S2AP, bits 7:6: bit 0 read, bit 1 write.
#[must_use]
pub fn s2ap(raw: u64) -> u64 {
    bits(raw, 7, 6)
}

/// MemAttr of a stage 2 leaf, bits 5:2.
#[must_use]
pub fn s2_memattr(raw: u64) -> u64 {
    bits(raw, 5, 2)
}
