//! The host's CPU features: the fields of its ID registers, and the EL2 controls that enable the visible features.
//!
//! `HCR_EL2.TID3` traps the host's reads of the ID registers, and the value is built from zero from the fields of one
//! table ([`ids`], [`ids32`]). A field or a register that is not in it reads as zero; a value
//! above the highest supported value reads as that value. So a newer CPU looks like the newest supported one. The same
//! row has the controls that enable a feature ([`controls`]); all others are trapped, and the host gets an
//! Undefined Instruction exception as on a core without it.
//!
//! Arm ARM, DDI 0487 issue L.a: D24.1.3 "Principles of the ID scheme", D24.2 for the fields.

pub mod controls;
pub mod field;
pub mod ids;
pub mod ids32;
pub mod optional;
pub mod withheld;

#[cfg(test)]
mod tests;

pub use controls::{Control, Controls};
pub use field::{Allow, Field, Order};
pub use optional::Optional;

/// An ID register of the space that `HCR_EL2.TID3` traps: op0 = 3, op1 = 0, CRn = 0, CRm = 1 to 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// CRm of its encoding.
    pub crm: u8,
    /// op2 of its encoding.
    pub op2: u8,
}

/// An ID register and its fields.
#[derive(Clone, Copy, Debug)]
pub struct Register {
    /// Its architectural name.
    pub name: &'static str,
    /// Its encoding.
    pub id: Id,
    /// Its fields; others read as zero.
    pub fields: &'static [Field],
}

/// The owner of a buffer that the CPU writes (SPE, TRBE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// Non-secure state: the host, if the feature is visible.
    Usable,
    /// Firmware owns it (`PMBIDR_EL1.P`, `TRBIDR_EL1.P`): accesses trap to EL3.
    Withheld,
}

/// ID registers of a CPU.
pub trait Cpu {
    /// The ID register as hardware has it; reserved ones read as zero.
    fn id(&self, id: Id) -> u64;
    /// Owner of the Statistical Profiling buffer; called only if the CPU has it.
    fn profiling(&self) -> Buffer;
    /// Owner of the trace buffer; called only if the CPU has it.
    fn tracing(&self) -> Buffer;
    /// `MPAMIDR_EL1`; called only if the CPU has MPAM.
    fn mpamidr(&self) -> u64;
}

/// The table's row of a register; `None` for reserved ones.
#[must_use]
pub fn register(id: Id) -> Option<&'static Register> {
    ids::REGISTERS.iter().chain(ids32::REGISTERS).find(|register| register.id == id)
}

/// Every row of the table.
pub fn registers() -> impl Iterator<Item = &'static Register> {
    ids::REGISTERS.iter().chain(ids32::REGISTERS)
}

/// The hardware value, with unusable features removed.
fn usable(cpu: &impl Cpu, id: Id) -> u64 {
    let value = cpu.id(id);
    if id != ids::DFR0 {
        return value;
    }
    let mut hidden = 0;
    if ids::PMSVER.of(value) != 0 && cpu.profiling() == Buffer::Withheld {
        hidden |= ids::PMSVER.mask() << ids::PMSVER.lsb;
    }
    if ids::TRACE_BUFFER.of(value) != 0 && cpu.tracing() == Buffer::Withheld {
        hidden |= ids::TRACE_BUFFER.mask() << ids::TRACE_BUFFER.lsb;
    }
    value & !hidden
}

/// The host's value of an ID register of `cpu`.
#[must_use]
pub fn shown(cpu: &impl Cpu, id: Id) -> u64 {
    let Some(register) = register(id) else { return 0 };
    let value = usable(cpu, id);
    register.fields.iter().fold(0, |all, field| all | u64::from(field.shown(field.of(value))).wrapping_shl(field.lsb))
}
