//! The values of the host's registers of an ITS.

use host_access::memory::Sharing;

use crate::spec::commands::CMD_SIZE;
use crate::spec::gits::{baser, cbaser, memory, queue};
use crate::spec::tables::L1_ENTRY;
use crate::spec::{Field64, get64, mask64, union64};

/// GITS_CTLR.Enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enable {
    /// Enabled is 0.
    Off,
    /// Enabled is 1.
    On,
}

/// GITS_BASER bits that a host can write.
const BASER_WRITABLE: u64 = union64([
    mask64(baser::SIZE),
    mask64(baser::PAGE_SIZE),
    mask64(baser::SHAREABILITY),
    mask64(baser::ADDRESS),
    mask64(baser::OUTER),
    mask64(baser::INNER),
    mask64(baser::INDIRECT),
    mask64(baser::VALID),
]);
/// GITS_BASER bits for the address and size of a table.
const BASER_PLACE: u64 = union64([
    mask64(baser::SIZE),
    mask64(baser::PAGE_SIZE),
    mask64(baser::ADDRESS),
    mask64(baser::INDIRECT),
    mask64(baser::VALID),
]);
/// GITS_CBASER bits that a host can write.
const CBASER_WRITABLE: u64 = union64([
    mask64(cbaser::SIZE),
    mask64(cbaser::SHAREABILITY),
    mask64(cbaser::ADDRESS),
    mask64(cbaser::OUTER),
    mask64(cbaser::INNER),
    mask64(cbaser::VALID),
]);

/// The state of an ITS that the host can set or observe.
#[derive(Clone, Debug)]
pub(crate) struct HostRegs {
    pub(crate) enabled: Enable,
    pub(crate) cbaser: u64,
    /// GITS_CWRITER: offset in bytes.
    pub(crate) cwriter: u64,
    /// GITS_CREADR: offset in bytes. Every command before it is done.
    pub(crate) creadr: u64,
    /// The next command to be read.
    pub(crate) head: u64,
    /// The command at `head` could not be read.
    pub(crate) stalled: bool,
    baser: [u64; 8],
    /// The value of GITS_BASER when mappings were made.
    in_use: [u64; 8],
    /// The register has had another value since then.
    moved: [bool; 8],
}

impl HostRegs {
    /// The values after reset. `shown` are the Type and Entry_Size fields of hardware's GITS_BASER registers, which
    /// the host sees.
    pub(crate) fn new(shown: [u64; 8]) -> Self {
        Self {
            enabled: Enable::Off,
            cbaser: 0,
            cwriter: 0,
            creadr: 0,
            head: 0,
            stalled: false,
            baser: shown,
            in_use: shown,
            moved: [false; 8],
        }
    }

    /// GITS_BASER.
    pub(crate) fn baser(&self, n: usize) -> u64 {
        self.baser.get(n).copied().unwrap_or(0)
    }

    /// Stores to GITS_BASER of a disabled ITS. A register without a table stays zero.
    pub(crate) fn set_baser(&mut self, n: usize, value: u64) {
        let slots = (self.baser.get_mut(n), self.in_use.get(n), self.moved.get_mut(n));
        if let (Some(register), Some(in_use), Some(moved)) = slots
            && get64(baser::TYPE, *register) != baser::TYPE_NONE
        {
            *register = union64([*register & !BASER_WRITABLE, value & BASER_WRITABLE]);
            *moved |= *register & BASER_PLACE != in_use & BASER_PLACE;
        }
    }

    /// Whether GITS_BASER has changed since mappings were made, or had no table at some time; clears that flag for the
    /// current table. A table that is written again with the same value keeps its mappings, as Linux expects when it
    /// resumes.
    pub(crate) fn take_changed(&mut self, n: usize) -> bool {
        let now = self.baser(n);
        if let Some(in_use) = self.in_use.get_mut(n) {
            *in_use = now;
        }
        self.moved.get_mut(n).is_some_and(core::mem::take)
    }

    /// Entries of the host's table.
    pub(crate) fn capacity(&self, n: usize) -> u64 {
        let register = self.baser(n);
        if get64(baser::VALID, register) == 0 {
            return 0;
        }
        let page: u64 = match get64(baser::PAGE_SIZE, register) {
            baser::PAGE_4K => 0x1000,
            baser::PAGE_16K => 0x4000,
            _ => 0x1_0000,
        };
        let bytes = page.saturating_mul(get64(baser::SIZE, register).saturating_add(1));
        let entry = get64(baser::ENTRY_SIZE, register).saturating_add(1);
        let entries = |bytes: u64| bytes.checked_div(entry).unwrap_or(0);
        match get64(baser::INDIRECT, register) {
            0 => entries(bytes),
            _ => bytes.checked_div(u64::from(L1_ENTRY)).unwrap_or(0).saturating_mul(entries(page)),
        }
    }

    /// Whether every table and the queue are valid, so that the ITS can be enabled.
    pub(crate) fn is_complete(&self) -> bool {
        let tables = self
            .baser
            .iter()
            .all(|register| get64(baser::TYPE, *register) == baser::TYPE_NONE || get64(baser::VALID, *register) == 1);
        tables && get64(cbaser::VALID, self.cbaser) == 1
    }

    /// Stores to GITS_CBASER of a disabled ITS.
    pub(crate) fn set_cbaser(&mut self, value: u64) {
        self.cbaser = value & CBASER_WRITABLE;
        self.creadr = 0;
        self.head = 0;
        self.stalled = false;
        if self.cwriter >= self.queue_bytes() {
            self.cwriter = 0;
        }
    }

    /// Bytes of the host's queue.
    pub(crate) fn queue_bytes(&self) -> u64 {
        get64(cbaser::SIZE, self.cbaser).saturating_add(1).saturating_mul(0x1000)
    }

    /// Address of the host's queue.
    pub(crate) fn queue_base(&self) -> u64 {
        self.cbaser & mask64(cbaser::ADDRESS)
    }

    /// Cacheability of the host's queue.
    pub(crate) fn queue_sharing(&self) -> Sharing {
        sharing(self.cbaser, cbaser::INNER, cbaser::OUTER, cbaser::SHAREABILITY)
    }

    /// Stores to GITS_CWRITER. An offset beyond the queue is ignored.
    pub(crate) fn set_cwriter(&mut self, value: u64) {
        let offset = value & mask64(queue::OFFSET);
        if offset < self.queue_bytes() {
            self.cwriter = offset;
        }
        if get64(queue::RETRY, value) == 1 {
            self.stalled = false;
        }
    }

    /// GITS_CREADR.
    pub(crate) fn read_creadr(&self) -> u64 {
        union64([self.creadr, crate::spec::put64(queue::STALLED, u64::from(self.stalled))])
    }

    /// Whether the queue has a command to read.
    pub(crate) fn has_command(&self) -> bool {
        self.enabled == Enable::On && !self.stalled && self.head != self.cwriter
    }

    /// Records that the command at `head` was read.
    pub(crate) fn advance(&mut self) {
        let next = self.head.saturating_add(u64::from(CMD_SIZE));
        self.head = if next >= self.queue_bytes() { 0 } else { next };
    }
}

/// Cacheability of host memory, from the attributes that the host set for it. Memory that is not write-back and
/// shareable is treated as non-cacheable: an unnecessary clean and invalidate is harmless.
pub(crate) fn sharing(register: u64, inner: Field64, outer: Field64, shareability: Field64) -> Sharing {
    let write_back = |field| {
        let kinds = [memory::READ_ALLOCATE_WRITE_BACK, memory::WRITE_ALLOCATE_WRITE_BACK, memory::WRITE_BACK];
        kinds.contains(&get64(field, register))
    };
    let outer_too = get64(outer, register) == memory::AS_INNER || write_back(outer);
    match get64(shareability, register) {
        memory::INNER_SHAREABLE | memory::OUTER_SHAREABLE if write_back(inner) && outer_too => Sharing::Cacheable,
        _ => Sharing::Memory,
    }
}
