//! The host's registers: all accesses without a row in this table are RAZ/WI.

pub use host_access::access::{AccessSize, Part, Width};

use crate::spec::registers as reg;

host_access::register_table! {
    Idr0 reg::IDR0, Bits32, "allow-listed fields", "ignored";
    Idr1 reg::IDR1, Bits32, "allow-listed fields, queues capped", "ignored";
    Idr2 reg::IDR2, Bits32, "zero", "ignored";
    Idr3 reg::IDR3, Bits32, "HAD, RIL, BBML", "ignored";
    Idr4 reg::IDR4, Bits32, "zero", "ignored";
    Idr5 reg::IDR5, Bits32, "granules, OAS capped", "ignored";
    Iidr reg::IIDR, Bits32, "hardware", "ignored";
    Aidr reg::AIDR, Bits32, "architecture version", "ignored";
    Cr0 reg::CR0, Bits32, "last written", "SMMUEN, EVENTQEN, CMDQEN; changes are emulated";
    Cr0Ack reg::CR0ACK, Bits32, "what is in effect", "ignored";
    Cr1 reg::CR1, Bits32, "last written", "stored, guarded by SMMUEN and the queue enables";
    Cr2 reg::CR2, Bits32, "last written", "RECINVSID, PTM; guarded by SMMUEN";
    Statusr reg::STATUSR, Bits32, "zero", "ignored";
    Gbpa reg::GBPA, Bits32, "emulated", "ABORT with UPDATE; acts while SMMUEN is 0";
    Agbpa reg::AGBPA, Bits32, "zero", "ignored";
    IrqCtrl reg::IRQ_CTRL, Bits32, "last written", "GERROR_IRQEN, EVENTQ_IRQEN";
    IrqCtrlAck reg::IRQ_CTRLACK, Bits32, "what is in effect", "ignored";
    Gerror reg::GERROR, Bits32, "emulated", "ignored";
    Gerrorn reg::GERRORN, Bits32, "emulated", "acknowledges active errors; CMDQ_ERR resumes the queue";
    GerrorIrqCfg0 reg::GERROR_IRQ_CFG0, Bits64, "last written", "stored, guarded by GERROR_IRQEN; never reaches hardware";
    GerrorIrqCfg1 reg::GERROR_IRQ_CFG1, Bits32, "last written", "stored, guarded by GERROR_IRQEN; never reaches hardware";
    GerrorIrqCfg2 reg::GERROR_IRQ_CFG2, Bits32, "last written", "stored, guarded by GERROR_IRQEN; never reaches hardware";
    StrtabBase reg::STRTAB_BASE, Bits64, "last written", "stored, guarded by SMMUEN";
    StrtabBaseCfg reg::STRTAB_BASE_CFG, Bits32, "last written", "stored, guarded by SMMUEN";
    CmdqBase reg::CMDQ_BASE, Bits64, "last written", "stored, guarded by CMDQEN";
    CmdqProd reg::CMDQ_PROD, Bits32, "last written", "consumes commands";
    CmdqCons reg::CMDQ_CONS, Bits32, "emulated", "stored, guarded by CMDQEN";
    EventqBase reg::EVENTQ_BASE, Bits64, "last written", "stored, guarded by EVENTQEN";
    EventqProd reg::EVENTQ_PROD, Bits32, "emulated, drains hardware's queue", "stored, guarded by EVENTQEN";
    EventqCons reg::EVENTQ_CONS, Bits32, "last written", "frees slots, acknowledges overflow; drains hardware's queue";
    EventqIrqCfg0 reg::EVENTQ_IRQ_CFG0, Bits64, "last written", "stored, guarded by EVENTQ_IRQEN; never reaches hardware";
    EventqIrqCfg1 reg::EVENTQ_IRQ_CFG1, Bits32, "last written", "stored, guarded by EVENTQ_IRQEN; never reaches hardware";
    EventqIrqCfg2 reg::EVENTQ_IRQ_CFG2, Bits32, "last written", "stored, guarded by EVENTQ_IRQEN; never reaches hardware";
    PriqBase reg::PRIQ_BASE, Bits64, "zero", "ignored";
    PriqProd reg::PRIQ_PROD, Bits32, "zero", "ignored";
    PriqCons reg::PRIQ_CONS, Bits32, "zero", "ignored";
    PriqIrqCfg0 reg::PRIQ_IRQ_CFG0, Bits64, "zero", "ignored";
    PriqIrqCfg1 reg::PRIQ_IRQ_CFG1, Bits32, "zero", "ignored";
    PriqIrqCfg2 reg::PRIQ_IRQ_CFG2, Bits32, "zero", "ignored";
    Idr6 reg::IDR6, Bits32, "zero", "ignored";
}

/// The register accessed at one word, by access size.
#[derive(Clone, Copy)]
struct Word {
    by_32: Option<(Register, Part)>,
    by_64: Option<(Register, Part)>,
}

/// Number of words of a register page that can have rows: all rows are below 0x200.
const WORDS: usize = 0x80;

/// The results of [`search`], in a table that is built at compile time, because every trap needs a lookup.
static PAGES: [[Word; WORDS]; 2] = [words(0), words(0x1_0000)];

const fn words(page: u32) -> [Word; WORDS] {
    let mut words = [Word { by_32: None, by_64: None }; WORDS];
    let (mut rest, mut offset): (&mut [Word], u32) = (&mut words, page);
    while let Some((word, more)) = rest.split_first_mut() {
        word.by_32 = search(offset, AccessSize::Word);
        word.by_64 = search(offset, AccessSize::Double);
        rest = more;
        offset = offset.wrapping_add(4);
    }
    words
}

/// The register of an access; `None` for offsets, sizes and alignments that no row allows.
#[inline]
pub fn lookup(offset: u32, size: AccessSize) -> Option<(Register, Part)> {
    let page = usize::try_from(offset >> 16).ok()?;
    let word = usize::try_from((offset & 0xffff) >> 2).ok()?;
    let word = PAGES.get(page)?.get(word)?;
    if offset & 3 != 0 {
        return None;
    }
    match size {
        AccessSize::Word => word.by_32,
        AccessSize::Double => word.by_64,
        AccessSize::Byte | AccessSize::Half => None,
    }
}

/// The two 32-bit registers, the lower one first, that a 64-bit access at `offset` covers.
pub fn pair(offset: u32, size: AccessSize) -> Option<(Register, Register)> {
    if size != AccessSize::Double || offset & 7 != 0 {
        return None;
    }
    match (lookup(offset, AccessSize::Word)?, lookup(offset.checked_add(4)?, AccessSize::Word)?) {
        ((low, Part::Word), (high, Part::Word)) => Some((low, high)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_results_of_the_search() {
        for offset in (0..0x400).chain(0xff00..0x1_0400).chain([0x1_fffc, 0x2_0000, u32::MAX]) {
            for size in [AccessSize::Byte, AccessSize::Half, AccessSize::Word, AccessSize::Double] {
                assert_eq!(lookup(offset, size), search(offset, size), "{offset:#x} {size:?}");
            }
        }
    }

    #[test]
    fn every_row_is_in_the_table() {
        for (register, offset, width, ..) in Register::ROWS {
            let size = if *width == Width::Bits32 { AccessSize::Word } else { AccessSize::Double };
            assert_eq!(lookup(*offset, size).map(|(found, _)| found), Some(*register));
        }
    }
}
