//! The host: a small SMMUv3 driver without support for the hypervisor. Do not copy this part.

use io_pgtable::Ipa;
use smmu_drv::{AccessSize, WriteOutcome};
use smmu_model::Memory;

use crate::Hypervisor;

/// Registers.
const CR0: u32 = 0x20;
const CR0ACK: u32 = 0x24;
const STRTAB_BASE: u32 = 0x80;
const STRTAB_BASE_CFG: u32 = 0x88;
const CMDQ_BASE: u32 = 0x90;
const CMDQ_PROD: u32 = 0x98;
const CMDQ_CONS: u32 = 0x9c;
const EVENTQ_BASE: u32 = 0xa0;
const SMMUEN: u64 = 1;
const EVENTQEN: u64 = 4;
const CMDQEN: u64 = 8;
/// Log2 of the number of entries in each queue, and of the number of streams.
const LOG2: u64 = 5;

/// An entry whose stream is not translated by the host.
pub const BYPASS: [u64; 8] = [1 | 4 << 1, 1 << 44, 0, 0, 0, 0, 0, 0];

/// A host with its tables and queues in the 16 KiB from `base` on.
pub struct Host {
    mem: Memory,
    base: u64,
    prod: u64,
}

impl Host {
    /// Sets up the SMMU as the host: queues, and a linear stream table of 32 invalid entries.
    pub fn start(mem: &Memory, el2: &mut Hypervisor, base: Ipa) -> Self {
        let mut host = Self { mem: mem.clone(), base: base.0, prod: 0 };
        for at in (0..0x4000).step_by(8) {
            host.put(el2, Ipa(base.0 + at), 0);
        }
        write64(el2, CMDQ_BASE, base.0 | LOG2);
        write64(el2, EVENTQ_BASE, (base.0 + 0x1000) | LOG2);
        write64(el2, STRTAB_BASE, base.0 + 0x2000);
        write32(el2, STRTAB_BASE_CFG, LOG2);
        write32(el2, CR0, CMDQEN | EVENTQEN);
        write32(el2, CR0, CMDQEN | EVENTQEN | SMMUEN);
        assert_eq!(el2.load(CR0ACK, AccessSize::Word), CMDQEN | EVENTQEN | SMMUEN);
        host
    }

    /// Stores a word in the host's memory.
    pub fn put(&mut self, el2: &Hypervisor, ipa: Ipa, word: u64) {
        if let Some(pa) = el2.pages().translate(ipa) {
            self.mem.cpu_write64(pa.0, word);
            self.mem.clean(pa.0..pa.0 + 8);
        }
    }

    /// Writes `entry` for stream `sid`, and invalidates the cached entry.
    pub fn set(&mut self, el2: &mut Hypervisor, sid: u32, entry: [u64; 8]) {
        for (at, word) in (0..).step_by(8).zip(entry) {
            self.put(el2, Ipa(self.base + 0x2000 + u64::from(sid) * 64 + at), word);
        }
        // CMD_CFGI_STE, CMD_SYNC.
        self.command(el2, [3 | u64::from(sid) << 32, 1]);
        self.command(el2, [0x46, 0]);
        write32(el2, CMDQ_PROD, self.prod);
        assert_eq!(el2.load(CMDQ_CONS, AccessSize::Word), self.prod, "every command was consumed");
    }

    fn command(&mut self, el2: &Hypervisor, words: [u64; 2]) {
        let slot = self.base + (self.prod & ((1 << LOG2) - 1)) * 16;
        self.put(el2, Ipa(slot), words[0]);
        self.put(el2, Ipa(slot + 8), words[1]);
        self.prod = (self.prod + 1) & ((2 << LOG2) - 1);
    }
}

fn write32(el2: &mut Hypervisor, offset: u32, value: u64) {
    while el2.store(offset, AccessSize::Word, value) == WriteOutcome::Again {}
}

fn write64(el2: &mut Hypervisor, offset: u32, value: u64) {
    while el2.store(offset, AccessSize::Double, value) == WriteOutcome::Again {}
}
