//! Stores of the host's CPUs to host memory: tables, queues, other words.

use mem_protect::Owner as PageOwner;

use super::action::Entry;
use super::{Driver, Execution};
use crate::host::{ABORT, BYPASS, Host, INVALID, LEAF, LOG2_QUEUE, STAGE1, Shape, cd};
use crate::layout::{HOST_CD, HOST_S1, IOVA};

impl Execution {
    /// A store of the host to memory. Stage 2 blocks it if the page is not the host's; device registers are not
    /// memory.
    pub(super) fn store_if_hosts(&mut self, pa: u64, value: u64) {
        let pa = pa & !7;
        if self.cached.m.owner().map().owner(pa >> 12) == PageOwner::Host {
            self.cached.m.mem.cpu_write64(pa, value);
            self.cached.m.mem.clean(pa..pa + 8);
        }
    }

    /// Another CPU stores to this word right after EL2's next fetch of it.
    pub(super) fn race(&mut self, pa: u64, value: u64) {
        let pa = pa & !7;
        if self.cached.m.owner().map().owner(pa >> 12) != PageOwner::Host {
            return;
        }
        let mem = self.cached.m.mem.clone();
        let mut armed = true;
        *self.cached.m.load_hook().borrow_mut() = Some(Box::new(move |fetched| {
            // EL2 reads pages under a claim, so the page still belongs to the host.
            if armed && fetched == pa {
                armed = false;
                mem.cpu_write64(pa, value);
                mem.clean(pa..pa + 8);
            }
        }));
    }

    /// The host's structures of SMMU `n`.
    pub(super) fn host(&self, n: usize) -> Host {
        let Driver { prod, two_level, .. } = self.drivers[n];
        Host { smmu: n, prod, shape: if two_level { Shape::TwoLevel } else { Shape::Linear } }
    }

    /// Writes dwords 0 and 1 of an entry.
    pub(super) fn write_entry(&mut self, n: usize, sid: u32, entry: Entry) {
        let words = match entry {
            Entry::Invalid => INVALID,
            Entry::Abort => ABORT,
            Entry::Bypass => BYPASS,
            Entry::Stage1 => STAGE1,
            Entry::Substreams { format, log2, default } => [
                STAGE1[0] | u64::from(format & 3) << 4 | u64::from(log2 & 31) << 59,
                STAGE1[1] | u64::from(default & 3),
            ],
            Entry::Words([first, second]) => [first.get(), second.get()],
        };
        let at = self.host(n).ste_at(sid);
        self.store_if_hosts(at + 8, words[1]);
        self.store_if_hosts(at, words[0]);
    }

    /// Writes a command into the queue without a store to PROD.
    pub(super) fn queue(&mut self, n: usize, [first, second]: [u64; 2]) {
        let host = self.host(n);
        let slot = host.cmdq() + u64::from(host.prod % (1 << LOG2_QUEUE)) * 16;
        self.store_if_hosts(slot, first);
        self.store_if_hosts(slot + 8, second);
        self.drivers[n].prod = (host.prod + 1) % (2 << LOG2_QUEUE);
    }

    /// Writes a context descriptor whose stage 1 table is at `table`.
    pub(super) fn context(&mut self, ssid: u8, table: u64) {
        let at = HOST_CD + u64::from(ssid) * 64;
        for (word, value) in (at..).step_by(8).zip(cd(table & 0x000f_ffff_ffff_f000)) {
            self.store_if_hosts(word, value);
        }
    }

    /// Maps a page in the host's stage 1; the page is counted from [`IOVA`].
    pub(super) fn map(&mut self, page: u8, to: u64) {
        let iova = IOVA + u64::from(page) * 4096;
        let tables = [HOST_S1, HOST_S1 + 0x1000, HOST_S1 + 0x2000];
        let index = |shift: u32| ((iova >> shift) & 511) * 8;
        self.store_if_hosts(tables[0] + index(30), tables[1] | 3);
        self.store_if_hosts(tables[1] + index(21), tables[2] | 3);
        self.store_if_hosts(tables[2] + index(12), to & 0x000f_ffff_ffff_f000 | LEAF);
    }
}
