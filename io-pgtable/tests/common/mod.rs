//! An independent table walker, written from the Arm ARM (DDI 0487, D8.2 and D8.3), that shares no constant with the
//! crate.
//!
//! Like hardware it gets only register values, and reads memory word by word.

#![allow(dead_code, unreachable_pub)]

use io_pgtable::{HeapMemory, Pa};

/// The end of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// No translation.
    Fault,
    /// A leaf: the output address, the size of the leaf in bytes, and its descriptor.
    Hit { pa: u64, size: u64, desc: u64 },
}

impl Walk {
    /// The output address, if there is one.
    pub fn pa(self) -> Option<u64> {
        match self {
            Self::Fault => None,
            Self::Hit { pa, .. } => Some(pa),
        }
    }
}

/// Memory as a walker reads it.
pub trait Reader {
    /// The word at `pa`.
    fn read(&self, pa: u64) -> u64;
}

/// A walker that snoops caches.
pub struct Snooping<'a>(pub &'a HeapMemory);
/// A walker that does not snoop.
pub struct NotSnooping<'a>(pub &'a HeapMemory);

impl Reader for Snooping<'_> {
    fn read(&self, pa: u64) -> u64 {
        self.0.read64(Pa(pa)).unwrap_or_else(|| panic!("the walk reads {pa:#x}, which is not table memory"))
    }
}

impl Reader for NotSnooping<'_> {
    fn read(&self, pa: u64) -> u64 {
        self.0.read64_poc(Pa(pa)).unwrap_or_else(|| panic!("the walk reads {pa:#x}, which is not table memory"))
    }
}

/// The register values of a translation regime.
#[derive(Clone, Copy, Debug)]
pub struct Walker {
    /// TTBR or VTTBR.
    pub base: u64,
    page_shift: u32,
    input_bits: u32,
    start: u32,
    stage2: bool,
    /// All bits above the input size must equal this.
    upper: bool,
}

impl Walker {
    /// From `VTTBR_EL2` and `VTCR_EL2`.
    pub fn stage2(vttbr: u64, vtcr: u64) -> Self {
        let page_shift = match (vtcr >> 14) & 3 {
            0 => 12,
            1 => 16,
            2 => 14,
            _ => panic!("reserved TG0"),
        };
        // Table of VTCR_EL2.SL0: the 4K granule starts at level 2, 1, 0, 3; the others at 3, 2, 1, 0.
        let sl0 = ((vtcr >> 6) & 3) as usize;
        let start = if page_shift == 12 { [2, 1, 0, 3][sl0] } else { [3, 2, 1, 0][sl0] };
        Self { base: vttbr, page_shift, input_bits: 64 - (vtcr & 0x3f) as u32, start, stage2: true, upper: false }
    }

    /// From `TTBR0` and the low half of a TCR.
    pub fn stage1(ttbr: u64, tcr: u64) -> Self {
        let page_shift = match (tcr >> 14) & 3 {
            0 => 12,
            1 => 16,
            2 => 14,
            _ => panic!("reserved TG0"),
        };
        Self::without_concatenation(ttbr, page_shift, 64 - (tcr & 0x3f) as u32, false)
    }

    /// From `TTBR1` and `TCR_EL1`.
    pub fn ttbr1(ttbr: u64, tcr: u64) -> Self {
        let page_shift = match (tcr >> 30) & 3 {
            1 => 14,
            2 => 12,
            3 => 16,
            _ => panic!("reserved TG1"),
        };
        Self::without_concatenation(ttbr, page_shift, 64 - ((tcr >> 16) & 0x3f) as u32, true)
    }

    fn without_concatenation(base: u64, page_shift: u32, input_bits: u32, upper: bool) -> Self {
        // Each level resolves page_shift - 3 bits, the first one the remaining bits.
        let mut start = 3;
        while input_bits > page_shift + (4 - start) * (page_shift - 3) {
            start -= 1;
        }
        Self { base, page_shift, input_bits, start, stage2: false, upper }
    }

    /// Translates an input address, and checks that no descriptor has a reserved bit set.
    pub fn translate(&self, memory: &impl Reader, iova: u64) -> Walk {
        let above = iova >> self.input_bits;
        assert_eq!(above, if self.upper { u64::MAX >> self.input_bits } else { 0 }, "address size");
        let iova = iova & ((1 << self.input_bits) - 1);
        let bits = self.page_shift - 3;
        let mut table = self.base;
        for level in self.start..4 {
            let shift = self.page_shift + (3 - level) * bits;
            let size = 1u64 << shift;
            let index = if level == self.start { iova >> shift } else { (iova >> shift) & ((1 << bits) - 1) };
            if level == self.start {
                let entries = 1u64 << (self.input_bits - shift);
                assert!(!self.stage2 || entries <= 16 << bits, "more than 16 concatenated tables");
                assert_eq!(self.base % (entries * 8).max(64), 0, "alignment of the root");
            }
            let desc = memory.read(table + index * 8);
            if desc & 1 == 0 || level == 3 && desc & 2 == 0 {
                return Walk::Fault;
            }
            if level < 3 && desc & 2 != 0 {
                assert_eq!(desc & 0x0007_0000_0000_0000, 0, "reserved bits of table descriptor {desc:#x}");
                assert_eq!(
                    desc & 0xf800_0000_0000_0000 & if self.stage2 { u64::MAX } else { 0x7800_0000_0000_0000 },
                    0
                );
                table = desc & 0x0000_ffff_ffff_f000;
                assert_eq!(table % (1 << self.page_shift), 0, "reserved bits of table address {desc:#x}");
                continue;
            }
            assert!(level == 3 || (self.page_shift, level) == (12, 1) || level == 2, "no block at level {level}");
            let out = desc & 0x0000_ffff_ffff_f000;
            let nt = if level == 3 { 0 } else { 1 << 16 };
            assert_eq!(out & (size - 1) & !nt, 0, "reserved bits of leaf {desc:#x}");
            assert_ne!(desc & 1 << 10, 0, "access flag fault");
            return Walk::Hit { pa: out & !(size - 1) | iova & (size - 1), size, desc };
        }
        Walk::Fault
    }
}

/// Xorshift: reproducible, no dependency.
pub struct Random(pub u64);

impl Random {
    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 9) % limit
    }
}

/// Operations for a long test: `IO_PGTABLE_OPS`, or `default`; far fewer under Miri.
pub fn operations(default: usize) -> usize {
    if cfg!(miri) {
        return default / 1000 + 3;
    }
    std::env::var("IO_PGTABLE_OPS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}
