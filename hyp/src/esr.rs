//! Exception syndromes: decodes ESR_EL2 of a trap from the host.
//!
//! Layout from the Arm ARM (DDI 0487, issue L.a), D24.2.46 "ESR_EL2". Decoding is total: all other exceptions are
//! [`Trap::Other`], and the host gets an Undefined Instruction exception for it.

use crate::cpu::Id;
use smmu_drv::AccessSize;

/// Why the host trapped into EL2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// `HVC` from AArch64.
    Hvc,
    /// `SMC` from AArch64; the return address is the instruction itself.
    Smc,
    /// A data access with a stage-2 fault.
    DataAbort(Abort),
    /// An instruction fetch with a stage-2 fault.
    InstructionAbort(Abort),
    /// A system register that is trapped, from AArch64; the return address is the instruction itself.
    SystemRegister(SystemAccess),
    /// Another exception, with its class.
    Other(u8),
}

/// The syndrome of a trapped `MRS`, `MSR` or system instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemAccess(u64);

impl SystemAccess {
    /// The ID register of a read, and the target register; `None` for every other access.
    /// (DDI 0487, D24.2.46, "ISS encoding for an exception from MSR, MRS, or System instruction execution".)
    #[must_use]
    pub fn id_read(self) -> Option<(Id, u8)> {
        let field = |lsb: u32, mask: u64| u8::try_from((self.0 >> lsb) & mask).unwrap_or(0);
        let (op0, op1, crn, crm) = (field(20, 0b11), field(14, 0b111), field(10, 0xf), field(1, 0xf));
        let id = Id { crm, op2: field(17, 0b111) };
        let read = bit(self.0, 0);
        (read && (op0, op1, crn) == (3, 0, 0) && matches!(crm, 1..=7)).then(|| (id, field(5, 0x1f)))
    }
}

/// A stage-2 abort: the raw syndrome; each accessor decodes only its own part, so that traps are fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort(u64);

impl Abort {
    /// The kind of fault.
    #[must_use]
    #[inline]
    pub const fn fault(self) -> Fault {
        match (self.0 >> 2) & 0xf {
            0b0000 | 0b0001 => Fault::Translation,
            0b0010 => Fault::AccessFlag,
            0b0011 => Fault::Permission,
            _ => Fault::Other,
        }
    }

    /// Whether the host's stage-1 table walk faulted, or the access itself.
    #[must_use]
    #[inline]
    pub const fn walk(self) -> Walk {
        if bit(self.0, 7) { Walk::Stage1 } else { Walk::Access }
    }

    /// The access, if the syndrome describes it (`ISV`); only for data aborts.
    #[must_use]
    #[inline]
    pub fn access(self) -> Option<Access> {
        let Self(esr) = self;
        // CM (bit 8): cache maintenance transfers no data, for any ISV.
        if class(esr) != EC_DABT_LOW || !bit(esr, 24) || bit(esr, 8) {
            return None;
        }
        Some(Access {
            size: match (esr >> 22) & 0b11 {
                0b00 => Size::Byte,
                0b01 => Size::Half,
                0b10 => Size::Word,
                _ => Size::Double,
            },
            register: u8::try_from((esr >> 16) & 0x1f).unwrap_or(31),
            width: if bit(esr, 15) { Width::X } else { Width::W },
            extend: if bit(esr, 21) { Extend::Sign } else { Extend::Zero },
        })
    }

    /// Whether the access wrote. Cache maintenance counts as a write. Instructions are only read.
    #[must_use]
    #[inline]
    pub fn direction(self) -> Direction {
        if class(self.0) == EC_DABT_LOW && bit(self.0, 6) { Direction::Write } else { Direction::Read }
    }
}

/// Kind of a stage-2 abort, from `DFSC`/`IFSC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The address is not mapped, or too large for the table: `HPFAR_EL2` holds the IPA.
    Translation,
    /// The access flag was clear.
    AccessFlag,
    /// The address is mapped, but not for this kind of access.
    Permission,
    /// Any other status, such as a synchronous external abort.
    Other,
}

/// Origin of a faulting access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// The access of the instruction.
    Access,
    /// A descriptor fetch of the host's own stage 1 (`S1PTW`).
    Stage1,
}

/// Direction of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// A load.
    Read,
    /// A store.
    Write,
}

/// Size of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Half,
    /// 4 bytes.
    Word,
    /// 8 bytes.
    Double,
}

impl From<Size> for AccessSize {
    fn from(size: Size) -> Self {
        match size {
            Size::Byte => Self::Byte,
            Size::Half => Self::Half,
            Size::Word => Self::Word,
            Size::Double => Self::Double,
        }
    }
}

/// An access that can be emulated from its syndrome alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Size of the access.
    pub size: Size,
    /// Number of the general-purpose register; 31 is XZR.
    pub register: u8,
    /// Width of that register.
    pub width: Width,
    /// Extension above the loaded bits.
    pub extend: Extend,
}

/// Width of the register of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// `W<n>`: the upper half becomes zero.
    W,
    /// `X<n>`.
    X,
}

/// Extension of a load smaller than its register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extend {
    /// Zero extension.
    Zero,
    /// Sign extension.
    Sign,
}

const EC_HVC64: u8 = 0x16;
const EC_SMC64: u8 = 0x17;
const EC_SYS64: u8 = 0x18;
const EC_IABT_LOW: u8 = 0x20;
const EC_DABT_LOW: u8 = 0x24;

const fn bit(esr: u64, n: u32) -> bool {
    esr & (1 << n) != 0
}

/// Decodes a syndrome of an exception taken from the host.
#[must_use]
#[inline]
pub fn decode(esr: u64) -> Trap {
    match class(esr) {
        EC_HVC64 => Trap::Hvc,
        EC_SMC64 => Trap::Smc,
        EC_DABT_LOW => Trap::DataAbort(Abort(esr)),
        EC_IABT_LOW => Trap::InstructionAbort(Abort(esr)),
        EC_SYS64 => Trap::SystemRegister(SystemAccess(esr)),
        other => Trap::Other(other),
    }
}

/// Exception class, `ESR_EL2.EC`.
#[must_use]
#[inline]
pub fn class(esr: u64) -> u8 {
    // Masked to six bits, so the conversion cannot fail.
    u8::try_from((esr >> 26) & 0x3f).unwrap_or(0)
}

impl Size {
    /// Number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }
}

impl Size {
    /// `value`, which has this size, with its bytes reversed.
    #[must_use]
    pub const fn reversed(self, value: u64) -> u64 {
        match self {
            Self::Byte => value,
            Self::Half => value.swap_bytes() >> 48,
            Self::Word => value.swap_bytes() >> 32,
            Self::Double => value.swap_bytes(),
        }
    }
}

impl Access {
    /// The value that a load puts into its register, from the `raw` value read: truncated to the size, extended, cut to
    /// the width.
    #[must_use]
    #[inline(always)] // Two callers, of which one is the path of nearly all accesses.
    pub const fn loaded(self, raw: u64) -> u64 {
        let extended = match (self.size, self.extend) {
            (Size::Byte, Extend::Zero) => raw & 0xff,
            (Size::Half, Extend::Zero) => raw & 0xffff,
            (Size::Word, Extend::Zero) => raw & 0xffff_ffff,
            (Size::Double, _) => raw,
            (Size::Byte, Extend::Sign) => sign_extend(raw, 56),
            (Size::Half, Extend::Sign) => sign_extend(raw, 48),
            (Size::Word, Extend::Sign) => sign_extend(raw, 32),
        };
        match self.width {
            Width::W => extended & 0xffff_ffff,
            Width::X => extended,
        }
    }

    /// The value of a store: the register's content, truncated to the size.
    #[must_use]
    #[inline(always)]
    pub const fn stored(self, register: u64) -> u64 {
        match self.size {
            Size::Byte => register & 0xff,
            Size::Half => register & 0xffff,
            Size::Word => register & 0xffff_ffff,
            Size::Double => register,
        }
    }
}

const fn sign_extend(raw: u64, unused: u32) -> u64 {
    (raw << unused).cast_signed().wrapping_shr(unused).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DABT: u64 = 0x24 << 26;

    #[test]
    fn a_store_of_x5_to_unmapped_memory_is_decoded() {
        // ISV, SAS=3, SRT=5, SF, WnR, translation fault level 3.
        let esr = DABT | 1 << 25 | 1 << 24 | 3 << 22 | 5 << 16 | 1 << 15 | 1 << 6 | 0b00_0111;
        let Trap::DataAbort(abort) = decode(esr) else { panic!("not a data abort") };
        assert_eq!(abort.fault(), Fault::Translation);
        assert_eq!(abort.direction(), Direction::Write);
        assert_eq!(abort.walk(), Walk::Access);
        assert_eq!(
            abort.access(),
            Some(Access { size: Size::Double, register: 5, width: Width::X, extend: Extend::Zero })
        );
    }

    #[test]
    fn without_isv_or_with_cache_maintenance_there_is_no_access() {
        for esr in [DABT | 0b111, DABT | 1 << 24 | 1 << 8 | 0b111] {
            let Trap::DataAbort(abort) = decode(esr) else { panic!("not a data abort") };
            assert_eq!(abort.access(), None);
        }
    }

    #[test]
    fn only_reads_of_the_id_space_decode_as_id_reads() {
        let access = |op0: u64, op1: u64, crn: u64, crm: u64, op2: u64, read: u64| {
            let esr = 0x18 << 26 | 1 << 25 | op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | 7 << 5 | crm << 1 | read;
            let Trap::SystemRegister(access) = decode(esr) else { panic!("not a system register") };
            access.id_read()
        };
        assert_eq!(access(3, 0, 0, 4, 2, 1), Some((Id { crm: 4, op2: 2 }, 7)));
        assert_eq!(access(3, 0, 0, 7, 7, 1), Some((Id { crm: 7, op2: 7 }, 7)));
        // A write, the encodings just below and above the ID space, MIDR_EL1, and an instruction with the same
        // numbers.
        for (op0, op1, crn, crm, read) in
            [(3, 0, 0, 4, 0), (3, 1, 0, 4, 1), (3, 0, 1, 4, 1), (3, 0, 0, 8, 1), (3, 0, 0, 0, 1), (1, 0, 0, 4, 1)]
        {
            assert_eq!(access(op0, op1, crn, crm, 0, read), None);
        }
    }

    #[test]
    fn classes_outside_the_list_are_other() {
        for ec in 0..64u64 {
            let known = [0x16, 0x17, 0x18, 0x20, 0x24].contains(&ec);
            assert_eq!(matches!(decode(ec << 26), Trap::Other(_)), !known, "class {ec:#x}");
        }
    }

    #[test]
    fn bytes_are_reversed_within_the_access() {
        let reversed = [Size::Byte, Size::Half, Size::Word].map(|size| size.reversed(0x12));
        assert_eq!(reversed, [0x12, 0x1200, 0x1200_0000]);
        assert_eq!(Size::Double.reversed(0x0102_0304_0506_0708), 0x0807_0605_0403_0201);
    }

    #[test]
    fn loads_are_extended_as_the_syndrome_specifies() {
        let load = |size, extend, width| Access { size, register: 0, width, extend }.loaded(0x8899_aabb_ccdd_eeff);
        assert_eq!(load(Size::Byte, Extend::Zero, Width::X), 0xff);
        assert_eq!(load(Size::Byte, Extend::Sign, Width::X), u64::MAX);
        assert_eq!(load(Size::Byte, Extend::Sign, Width::W), 0xffff_ffff);
        assert_eq!(load(Size::Half, Extend::Sign, Width::W), 0xffff_eeff);
        assert_eq!(load(Size::Word, Extend::Sign, Width::X), 0xffff_ffff_ccdd_eeff);
        assert_eq!(load(Size::Double, Extend::Zero, Width::X), 0x8899_aabb_ccdd_eeff);
        assert_eq!(load(Size::Double, Extend::Zero, Width::W), 0xccdd_eeff);
    }
}
