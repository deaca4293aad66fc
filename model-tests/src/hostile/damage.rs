//! Corrupts EL2's reads of its own stream table, to test that the audit detects it.
//!
//! Hardware is not affected: only the driver's loads return wrong values, for one audit.

use smmu_drv::StreamOwner;
use smmu_model::arch::regs as r;

use super::Execution;
use super::finding::Finding;
use crate::layout::{POOL, POOL_BYTES};

/// Bits of dword 0 that may be set in an entry of EL2 [IHI 0070 5.2]: V, Config, S1Fmt, S1ContextPtr, S1CDMax.
const DW0: u64 = 0xf8ff_ffff_ffff_ffff;
/// The same for dword 1: S1DSS, S1CIR, S1COR, S1CSH, MEV, S1STALLD, SHCFG.
const DW1: u64 = 0xff | 1 << 19 | 1 << 27 | 3 << 44;
/// Span of a level-1 descriptor.
const SPAN_BITS: u8 = 5;

impl Execution {
    /// Flips `bit` of `word` of the entry of `sid`, or of the level-1 descriptor if `word` is above 7, and audits.
    ///
    /// # Errors
    /// The audit missed a corruption that could let a stream reach foreign memory.
    pub(super) fn damage(&mut self, n: usize, sid: u32, word: u8, bit: u8) -> Result<(), Finding> {
        let Some((pa, flipped, must)) = self.corrupted_word(n, sid, word, bit) else { return Ok(()) };
        self.cached.m.damage.set(Some((pa, flipped)));
        let found = self.cached.m.driver(n, |smmu, owner| smmu.audit(owner));
        self.cached.m.damage.set(None);
        match found {
            Ok(()) if must => Err(Finding::Audit(format!(
                "bit {bit} of word {word} of {sid:#x} flipped: the audit did not detect it"
            ))),
            Err(finding) if finding.to_string().is_empty() => Err(Finding::Audit("a finding without a text".into())),
            _ => Ok(()),
        }
    }

    /// The corrupted word, its bits, and whether the audit must detect it; `None` if hardware has no such table now.
    fn corrupted_word(&mut self, n: usize, sid: u32, word: u8, bit: u8) -> Option<(u64, u64, bool)> {
        let mut model = self.cached.m.models[n].borrow_mut();
        let base = model.read64(r::STRTAB_BASE) & 0x000f_ffff_ffff_ffc0;
        let cfg = model.read32(r::STRTAB_BASE_CFG);
        drop(model);
        if !(POOL..POOL + POOL_BYTES).contains(&base) || u64::from(sid) >> (cfg & 0x3f) != 0 {
            return None;
        }
        let (stream, sid) = (sid, u64::from(sid));
        let table = if cfg >> 16 & 3 == 1 {
            let split = cfg >> 6 & 0x1f;
            let descriptor = base + (sid >> split) * 8;
            if word >= 8 {
                return Some((descriptor, 1 << (bit % SPAN_BITS), true));
            }
            let table = self.cached.m.mem.cpu_read64(descriptor) & 0x000f_ffff_ffff_ffc0;
            if table == 0 {
                return None;
            }
            table + (sid & ((1 << split) - 1)) * 64
        } else {
            base + sid * 64
        };
        let (word, flipped) = (word % 8, 1_u64 << (bit % 64));
        let owner = self.cached.m.driver(n, |smmu, _| smmu.owner(stream));
        let read = |number: u8| {
            let value = self.cached.m.mem.cpu_read64(table + u64::from(number) * 8);
            if number == word { value ^ flipped } else { value }
        };
        let valid = read(0) & 1 == 1;
        // Configurations that no entry of that owner has: a bypass, stage 1 alone, and those that reach more memory
        // than the owner's.
        let bad: &[u64] = match owner {
            StreamOwner::Host => &[4, 5],
            StreamOwner::Domain(_) => &[4, 5, 7],
            StreamOwner::Blocked => &[4, 5, 6, 7],
        };
        let must = match word {
            // The entry is valid, with a field that EL2 never sets.
            0 => valid && (bad.contains(&(read(0) >> 1 & 7)) || read(0) & !DW0 != 0),
            1 => valid && read(1) & !DW1 != 0,
            // An abort entry has no stage 2.
            2 | 3 => owner != StreamOwner::Blocked,
            _ => true,
        };
        Some((table + u64::from(word) * 8, flipped, must))
    }
}
