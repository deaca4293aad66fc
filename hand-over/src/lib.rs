//! The data that a loader in firmware at EL2 passes to EL2's image besides the device tree: the state in which the
//! firmware continues at EL1, and the address of its code for a refusal.
//!
//! The loader writes the image, the tree and the [`Record`] to the memory that `/chosen` names ([`OWN_MEMORY`]), cleans
//! it to the point of coherency, masks interrupts, disables the MMU and branches to [`ENTRY_OFFSET`] in the image, with
//! X0 = the tree and X1 = the record. If EL2 accepts the machine, it returns to [`Record::resume`] at EL1. If EL2
//! refuses, it branches to [`Record::refused`] at EL2, with the MMU off and X1 = the record. Until then it has changed
//! only EL2 registers of this CPU, its own memory and the console.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

/// Property of `/chosen`: base and size of EL2's memory, two cells each. The loader has reserved this memory in the
/// firmware.
pub const OWN_MEMORY: &str = "portcullis,own-memory";

/// Offset of the entry for loaders in firmware, after the arm64 header: a branch, then [`VERSION`].
pub const ENTRY_OFFSET: usize = 64;
/// Offset of the version of this interface in the image.
pub const VERSION_OFFSET: usize = 68;
/// Version of this interface.
pub const VERSION: u32 = 1;

/// Maximum length in bytes of the reason of a refusal.
pub const REASON_MAX: usize = 512;

/// The values of EL1's registers when the firmware continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct El1 {
    /// `SCTLR_EL1`.
    pub sctlr: u64,
    /// `TCR_EL1`.
    pub tcr: u64,
    /// `MAIR_EL1`.
    pub mair: u64,
    /// `TTBR0_EL1`.
    pub ttbr0: u64,
    /// `TTBR1_EL1`.
    pub ttbr1: u64,
    /// `VBAR_EL1`.
    pub vbar: u64,
    /// `TPIDR_EL1`.
    pub tpidr: u64,
    /// PSTATE: EL1 with SP_EL1 (EL1h), and the interrupt masks.
    pub pstate: u64,
}

/// EL2's registers of the firmware, which the loader restores after a refusal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct El2 {
    /// `HCR_EL2`.
    pub hcr: u64,
    /// `SCTLR_EL2`.
    pub sctlr: u64,
    /// `TCR_EL2`, in the format that `hcr` selects.
    pub tcr: u64,
    /// `MAIR_EL2`.
    pub mair: u64,
    /// `TTBR0_EL2`.
    pub ttbr0: u64,
    /// `TTBR1_EL2`; only with E2H.
    pub ttbr1: u64,
    /// `VBAR_EL2`.
    pub vbar: u64,
    /// `TPIDR_EL2`.
    pub tpidr: u64,
    /// `CPTR_EL2`, in the format that `hcr` selects.
    pub cptr: u64,
    /// `CNTHCTL_EL2`, in the format that `hcr` selects.
    pub cnthctl: u64,
    /// PSTATE's interrupt masks.
    pub daif: u64,
    /// `CNTHV_CTL_EL2`; only with E2H.
    pub cnthv_ctl: u64,
    /// `CNTHP_CTL_EL2`; only with E2H.
    pub cnthp_ctl: u64,
}

/// The record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Record {
    /// [`VERSION`].
    pub version: u64,
    /// The stack pointer, which is the same at EL2 and at EL1.
    pub sp: u64,
    /// Address at which the firmware continues at EL1.
    pub resume: u64,
    /// Address to which EL2 branches, with the MMU off, if it refuses; the code there is cleaned to memory.
    pub refused: u64,
    /// The state at `resume`.
    pub el1: El1,
    /// For the loader only; EL2 does not read it.
    pub el2: El2,
    /// Length of `reason`; EL2 writes it.
    pub reason_len: u64,
    /// Why EL2 refuses, in UTF-8; EL2 writes it.
    pub reason: [u8; REASON_MAX],
}

impl Record {
    /// An empty record.
    #[must_use]
    pub const fn empty() -> Self {
        const EL1: El1 = El1 { sctlr: 0, tcr: 0, mair: 0, ttbr0: 0, ttbr1: 0, vbar: 0, tpidr: 0, pstate: 0 };
        const EL2: El2 = El2 {
            hcr: 0,
            sctlr: 0,
            tcr: 0,
            mair: 0,
            ttbr0: 0,
            ttbr1: 0,
            vbar: 0,
            tpidr: 0,
            cptr: 0,
            cnthctl: 0,
            daif: 0,
            cnthv_ctl: 0,
            cnthp_ctl: 0,
        };
        Self {
            version: VERSION as u64,
            sp: 0,
            resume: 0,
            refused: 0,
            el1: EL1,
            el2: EL2,
            reason_len: 0,
            reason: [0; REASON_MAX],
        }
    }

    /// The reason of a refusal, up to the first byte that is not UTF-8.
    #[must_use]
    pub fn reason(&self) -> &str {
        let length = usize::try_from(self.reason_len).unwrap_or(REASON_MAX).min(REASON_MAX);
        let bytes = self.reason.get(..length).unwrap_or_default();
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => bytes.get(..error.valid_up_to()).and_then(|b| core::str::from_utf8(b).ok()).unwrap_or(""),
        }
    }
}

impl core::fmt::Write for Record {
    /// Appends to the reason; text beyond [`REASON_MAX`] is dropped.
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            let at = usize::try_from(self.reason_len).unwrap_or(usize::MAX);
            let Some(slot) = self.reason.get_mut(at) else { return Ok(()) };
            *slot = byte;
            self.reason_len = self.reason_len.saturating_add(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    #[test]
    fn a_long_reason_is_cut_at_a_whole_character() {
        let mut record = Record::empty();
        for _ in 0..REASON_MAX {
            write!(record, "aä").unwrap();
        }
        // 512 bytes are 170 times the three bytes of `aä`, an `a`, and the first byte of an `ä`.
        assert_eq!(record.reason().len(), REASON_MAX - 1);
        assert!(record.reason().ends_with("äa"));
    }

    #[test]
    fn a_length_that_is_too_large_is_limited() {
        let mut record = Record::empty();
        record.reason_len = u64::MAX;
        assert_eq!(record.reason().len(), REASON_MAX);
    }
}
