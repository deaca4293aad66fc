//! The registers of the host's view: tables of the allowed accesses, and the parts of registers that accesses cover.

/// Width of a register access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessSize {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
    /// 64 bits.
    Double,
}

impl AccessSize {
    /// The width in bytes.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }

    /// The width of `bytes` bytes; `None` unless 1, 2, 4 or 8.
    pub const fn from_bytes(bytes: u32) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Half),
            4 => Some(Self::Word),
            8 => Some(Self::Double),
            _ => None,
        }
    }
}

/// Width of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 32 bits: 32-bit accesses, or a 64-bit access together with the neighbouring register.
    Bits32,
    /// 64 bits: one 64-bit access or two 32-bit accesses.
    Bits64,
}

/// Declares the registers of a host's view: an enum `Register`, its rows, and `search`.
///
/// A row is the register's name, offset, width, and its policy for loads and stores as text.
#[macro_export]
macro_rules! register_table {
    ($($name:ident $offset:path, $width:ident, $read:literal, $write:literal;)*) => {
        /// A register of the host's view.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Register {
            $(#[doc = concat!("Read: ", $read, ". Write: ", $write, ".")] $name,)*
        }

        impl Register {
            /// Every row: register, offset, width, and the policy as text.
            pub const ROWS: &'static [(Register, u32, $crate::access::Width, &'static str, &'static str)] =
                &[$((Register::$name, $offset, $crate::access::Width::$width, $read, $write),)*];

            /// The register that starts at `offset`.
            const fn starting_at(offset: u32) -> Option<(Self, $crate::access::Width)> {
                match offset {
                    $($offset => Some((Self::$name, $crate::access::Width::$width)),)*
                    _ => None,
                }
            }
        }

        /// The register, and its part, that an access covers; `None` for offsets, sizes and alignments that no row
        /// allows.
        pub const fn search(offset: u32, size: $crate::access::AccessSize) -> Option<(Register, $crate::access::Part)> {
            use $crate::access::{AccessSize, Part, Width};
            if let Some((register, width)) = Register::starting_at(offset) {
                return match (width, size) {
                    (Width::Bits32, AccessSize::Word) => Some((register, Part::Word)),
                    (Width::Bits64, AccessSize::Double) => Some((register, Part::Double)),
                    (Width::Bits64, AccessSize::Word) => Some((register, Part::Low)),
                    (Width::Bits32 | Width::Bits64, AccessSize::Byte | AccessSize::Half)
                    | (Width::Bits32, AccessSize::Double) => None,
                };
            }
            let Some(start) = offset.checked_sub(4) else {
                return None;
            };
            match (Register::starting_at(start), size) {
                (Some((register, Width::Bits64)), AccessSize::Word) => Some((register, Part::High)),
                _ => None,
            }
        }
    };
}

/// The part of a register that an access covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of a 32-bit register.
    Word,
    /// All of a 64-bit register.
    Double,
    /// Bits \[31:0\] of a 64-bit register.
    Low,
    /// Bits \[63:32\] of a 64-bit register.
    High,
}

impl Part {
    /// The part of `register`, as a load returns it.
    pub const fn of(self, register: u64) -> u64 {
        match self {
            Self::Double => register,
            Self::Word | Self::Low => register & 0xffff_ffff,
            Self::High => register >> 32,
        }
    }

    /// `register` after a store of `value` to the part.
    pub const fn merge(self, register: u64, value: u64) -> u64 {
        let low = value & 0xffff_ffff;
        match self {
            Self::Double => value,
            Self::Word => low,
            Self::Low => register & !0xffff_ffff | low,
            Self::High => register & 0xffff_ffff | low << 32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_and_written_without_touching_the_other() {
        let register = 0x1122_3344_5566_7788;
        assert_eq!(Part::Low.of(register), 0x5566_7788);
        assert_eq!(Part::High.of(register), 0x1122_3344);
        assert_eq!(Part::Double.of(register), register);
        assert_eq!(Part::Low.merge(register, 0xff_0000_0001), 0x1122_3344_0000_0001);
        assert_eq!(Part::High.merge(register, 0xff_0000_0001), 0x0000_0001_5566_7788);
        assert_eq!(Part::Word.merge(register, u64::MAX), 0xffff_ffff);
        assert_eq!(Part::Double.merge(register, 3), 3);
    }
}
