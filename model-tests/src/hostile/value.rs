//! Addresses, values and registers in a run.
//!
//! Every value of a field is valid: numbers are taken modulo the number of choices.

use smmu_drv::emul::table::Register;

use crate::layout as l;

/// Addresses to use: the host's structures, pages that change owner, EL2, devices, unmapped addresses.
pub const ADDRESSES: [u64; 28] = [
    l::HOST_STRTAB,
    l::HOST_L2,
    l::HOST_CMDQ,
    l::HOST_EVTQ,
    l::HOST_CD,
    l::HOST_S1,
    l::HOST_S1 + 0x1000,
    l::HOST_S1 + 0x2000,
    l::HOST_FLAG,
    l::HOST_DATA,
    l::HOST_DATA + 0x1f_f000,
    l::HOST_DATA + 0x20_0000,
    l::EL2 - 0x1000,
    l::EL2,
    l::SECRET,
    l::TABLES,
    l::POOL,
    l::GIC,
    l::ITS,
    l::TRANSLATER,
    l::SMMU,
    l::UART,
    l::BAR,
    l::ECAM,
    0,
    1 << 40,
    l::RAM + l::RAM_BYTES,
    !0xfff,
];

/// StreamIDs of devices: at the ends of tables and blocks, and one that is too large for most machines.
pub const SIDS: [u32; 8] = [0, l::SID, 9, 63, 255, 256, 511, 0x1_0000];

/// An address: an element of [`ADDRESSES`] plus a number of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index in [`ADDRESSES`].
    pub place: u8,
    /// Number of words after it.
    pub word: u16,
}

impl Address {
    /// The address of this element of [`ADDRESSES`]; the first one if it is not an element.
    #[must_use]
    pub fn at(pa: u64) -> Self {
        let place = ADDRESSES.iter().position(|place| *place == pa).unwrap_or(0);
        Self { place: u8::try_from(place).unwrap_or(0), word: 0 }
    }

    /// The address.
    #[must_use]
    pub fn pa(self) -> u64 {
        pick(&ADDRESSES, self.place).wrapping_add(u64::from(self.word) * 8)
    }
}

/// A 64-bit value; small values have a short encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A value below 256.
    Small(u8),
    /// 32 bits.
    Word(u32),
    /// 64 bits.
    Wide(u64),
    /// An address with flags in its low and its top byte.
    Pointer {
        /// Address.
        to: Address,
        /// Bits `[7:0]`.
        low: u8,
        /// Bits `[63:56]`.
        top: u8,
    },
}

impl Value {
    /// The shortest encoding of `value`.
    #[must_use]
    pub fn of(value: u64) -> Self {
        if let Ok(small) = u8::try_from(value) {
            return Self::Small(small);
        }
        u32::try_from(value).map_or(Self::Wide(value), Self::Word)
    }

    /// The value.
    #[must_use]
    pub fn get(self) -> u64 {
        match self {
            Self::Small(value) => value.into(),
            Self::Word(value) => value.into(),
            Self::Wide(value) => value,
            Self::Pointer { to, low, top } => to.pa() | u64::from(low) | u64::from(top) << 56,
        }
    }
}

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    /// A row of the register policy, or the word after it.
    Row {
        /// Number of the row.
        row: u8,
        /// First or second word.
        half: Half,
    },
    /// Any offset in either page.
    Raw(u32),
}

/// First or second word of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The first word.
    Low,
    /// The second word, or the word after a 32-bit register.
    High,
}

impl Reg {
    /// The offset from the base of page 0.
    #[must_use]
    pub fn offset(self) -> u32 {
        match self {
            Self::Raw(offset) => offset,
            Self::Row { row, half } => {
                let offset = pick(Register::ROWS, row).1;
                if half == Half::High { offset + 4 } else { offset }
            }
        }
    }
}

/// The element selected by a number.
pub(crate) fn pick<T: Copy>(from: &[T], index: u8) -> T {
    from[usize::from(index) % from.len()]
}
