//! The tables of the GITS_BASER registers: all are in EL2's memory.
//!
//! A table is probed as in Linux: write the register, read it back, and compare. The device table is flat if it fits
//! in one page; otherwise it has two levels where hardware supports that. A level-2 table is allocated before a device
//! in it is mapped, and is never freed.

use host_access::memory::DmaBuffer;
use io_pgtable::Pa;

use super::ids::Ids;
use crate::error::GicFinding;
use crate::limits::{MAX_FLAT_TABLE, MAX_L2_TABLES};
use crate::platform::{Frame, Platform};
use crate::spec::gits::{BASERS, baser, memory};
use crate::spec::tables::{L1_ENTRY, l1};
use crate::spec::{get64, mask64, put64, union64};
use crate::store::Store;

/// Why no table could be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoTable {
    /// The pool is empty, or the limit is reached.
    NoMemory,
    /// Hardware accepts none of the page sizes, or does not accept the address.
    Refused,
}

/// A level-2 table and its index in the level-1 table.
struct Level2<B> {
    index: u32,
    table: B,
}

/// The second level of the device table.
struct TwoLevel<B> {
    page: usize,
    /// Entries of a level-2 table.
    per_page: u32,
    l2: [Option<Level2<B>>; MAX_L2_TABLES],
}

/// The tables of an ITS.
pub(crate) struct Tables<B> {
    /// For each GITS_BASER, its table, and the value programmed.
    registers: [Option<(B, u64)>; 8],
    /// The GITS_BASER of the device table.
    pub(crate) device_register: usize,
    /// The GITS_BASER of the collection table, if there is one.
    pub(crate) collection_register: Option<usize>,
    /// DeviceIDs below this can be mapped.
    devices: u32,
    levels: Option<TwoLevel<B>>,
}

/// The values that one GITS_BASER accepts.
struct Accepts {
    /// PAGE_SIZE.
    page: u64,
    page_bytes: usize,
    entry: u64,
    two_levels: bool,
}

fn page_bytes(page: u64) -> usize {
    match page {
        baser::PAGE_4K => 0x1000,
        baser::PAGE_16K => 0x4000,
        _ => 0x1_0000,
    }
}

impl<B: DmaBuffer> Tables<B> {
    /// Probes every GITS_BASER of a disabled ITS and gives each table that exists memory, including those that EL2
    /// does not use: an ITS discards every interrupt while one of them is not valid [G 12.19]. The collection table
    /// has room for `collections` entries.
    ///
    /// # Errors
    /// Registers may have been written.
    pub(super) fn new<P: Platform<Buffer = B>>(
        platform: &P,
        frame: Frame,
        ids: Ids,
        collections: u64,
    ) -> Result<Self, NoTable> {
        let mut tables = Self {
            registers: [const { None }; 8],
            device_register: BASERS.len(),
            collection_register: None,
            devices: 0,
            levels: None,
        };
        for (n, offset) in BASERS.into_iter().enumerate() {
            let found = platform.read64(frame, offset);
            let kind = get64(baser::TYPE, found);
            if kind == baser::TYPE_NONE {
                continue;
            }
            let accepts = probe(platform, frame, offset, kind).ok_or(NoTable::Refused)?;
            let (bytes, indirect) = match kind {
                baser::TYPE_DEVICE => {
                    tables.device_register = n;
                    tables.plan_devices(&accepts, ids)
                }
                baser::TYPE_COLLECTION => {
                    tables.collection_register = Some(n);
                    (usize::try_from(collections.saturating_mul(accepts.entry)).unwrap_or(usize::MAX), false)
                }
                _ => (0, false),
            };
            let placed = place(platform, frame, offset, &accepts, bytes, indirect)?;
            if let Some(slot) = tables.registers.get_mut(n) {
                *slot = Some(placed);
            }
        }
        let has_collections = tables.collection_register.is_some() || u64::from(ids.hcc()) >= collections;
        if tables.devices == 0 || !has_collections || ids.collections() < collections {
            Err(NoTable::Refused)
        } else {
            Ok(tables)
        }
    }

    /// Bytes of the table in GITS_BASER, and whether it is a level-1 table.
    fn plan_devices(&mut self, accepts: &Accepts, ids: Ids) -> (usize, bool) {
        let entry = accepts.entry;
        let page = u64::try_from(accepts.page_bytes).unwrap_or(0);
        let all = 1_u64.checked_shl(ids.device_bits()).unwrap_or(0);
        let flat = all.saturating_mul(entry);
        let per_page = page.checked_div(entry).unwrap_or(0);
        if flat > page && accepts.two_levels {
            let reach = page.checked_div(u64::from(L1_ENTRY)).unwrap_or(0).saturating_mul(per_page);
            self.devices = u32::try_from(all.min(reach)).unwrap_or(u32::MAX);
            self.levels = Some(TwoLevel {
                page: accepts.page_bytes,
                per_page: u32::try_from(per_page).unwrap_or(u32::MAX),
                l2: [const { None }; MAX_L2_TABLES],
            });
            return (accepts.page_bytes, true);
        }
        let bytes = flat.min(MAX_FLAT_TABLE).min(page.saturating_mul(256)).max(page);
        self.devices = u32::try_from(all.min(bytes.checked_div(entry).unwrap_or(0))).unwrap_or(u32::MAX);
        (usize::try_from(bytes).unwrap_or(usize::MAX), false)
    }

    /// Writes the registers of a disabled ITS again; returns whether they read back.
    pub(super) fn rewrite<P: Platform<Buffer = B>>(&self, platform: &P, frame: Frame) -> bool {
        BASERS.into_iter().zip(&self.registers).all(|(offset, slot)| {
            let Some((_, value)) = slot else { return true };
            platform.write64(frame, offset, *value);
            platform.read64(frame, offset) == *value
        })
    }

    /// DeviceIDs below this can be mapped.
    pub(crate) fn devices(&self) -> u32 {
        self.devices
    }

    /// Bytes that [`Tables::reach`] would allocate for `device`.
    pub(crate) fn missing(&self, device: u32) -> usize {
        let Some(levels) = &self.levels else { return 0 };
        let index = device.checked_div(levels.per_page);
        let present = levels.l2.iter().flatten().any(|l2| Some(l2.index) == index);
        if present { 0 } else { levels.page }
    }

    /// Makes sure that the device table has an entry for `device`.
    ///
    /// # Errors
    /// Nothing was changed.
    pub(crate) fn reach<P: Platform<Buffer = B>>(
        &mut self,
        platform: &P,
        store: &mut Store,
        device: u32,
    ) -> Result<(), NoTable> {
        if self.missing(device) == 0 {
            return Ok(());
        }
        let Some(levels) = &mut self.levels else { return Ok(()) };
        let index = device.checked_div(levels.per_page).ok_or(NoTable::Refused)?;
        let free = levels.l2.iter_mut().find(|slot| slot.is_none()).ok_or(NoTable::NoMemory)?;
        let l1_table = self.registers.get_mut(self.device_register).and_then(Option::as_mut).ok_or(NoTable::Refused)?;
        let table = store.alloc(platform, levels.page).ok_or(NoTable::NoMemory)?;
        let at = usize::try_from(index.saturating_mul(L1_ENTRY)).unwrap_or(usize::MAX);
        // The table is zeroed before the pointer to it is written: the barrier orders the two.
        platform.dsb();
        l1_table.0.write64(at, level1_entry(table.pa()));
        l1_table.0.clean(at, 8);
        *free = Some(Level2 { index, table });
        Ok(())
    }

    /// Checks that all addresses in hardware's registers and in the level-1 table are those of EL2's tables.
    pub(crate) fn audit<P: Platform<Buffer = B>>(
        &self,
        platform: &P,
        frame: Frame,
        owned: &impl Fn(Pa, usize) -> bool,
    ) -> Result<(), GicFinding> {
        for (offset, slot) in BASERS.into_iter().zip(&self.registers) {
            let found = platform.read64(frame, offset);
            let Some((table, value)) = slot else {
                if get64(baser::VALID, found) == 1 {
                    return Err(GicFinding::Changed(frame, "GITS_BASER"));
                }
                continue;
            };
            if found != *value {
                return Err(GicFinding::Changed(frame, "GITS_BASER"));
            }
            if !owned(table.pa(), table.size()) {
                return Err(GicFinding::NotOwned(frame, "GITS_BASER"));
            }
        }
        self.audit_level1(frame, owned)
    }

    fn audit_level1(&self, frame: Frame, owned: &impl Fn(Pa, usize) -> bool) -> Result<(), GicFinding> {
        let Some(levels) = &self.levels else { return Ok(()) };
        let Some((first, _)) = self.registers.get(self.device_register).and_then(Option::as_ref) else { return Ok(()) };
        let (mut valid, mut known) = (0_usize, 0_usize);
        for at in (0..first.size()).step_by(8) {
            valid = valid.saturating_add(usize::from(first.read64(at) != 0));
        }
        for l2 in levels.l2.iter().flatten() {
            known = known.saturating_add(1);
            let at = usize::try_from(l2.index.saturating_mul(L1_ENTRY)).unwrap_or(usize::MAX);
            if first.read64(at) != level1_entry(l2.table.pa()) {
                return Err(GicFinding::Changed(frame, "the level-1 device table"));
            }
            if !owned(l2.table.pa(), l2.table.size()) {
                return Err(GicFinding::NotOwned(frame, "a level-2 device table"));
            }
        }
        if valid != known {
            return Err(GicFinding::Changed(frame, "the level-1 device table"));
        }
        Ok(())
    }
}

fn level1_entry(table: Pa) -> u64 {
    union64([table.0 & mask64(l1::ADDRESS), put64(l1::VALID, 1)])
}

/// The cacheability that is tried first; write-back is combined with shareable accesses.
pub(super) fn first_choice<P: Platform>(platform: &P) -> u64 {
    if platform.snoops() { memory::WRITE_BACK } else { memory::NON_CACHEABLE }
}

/// The page size and attributes that GITS_BASER at `offset` accepts, trying the largest pages first.
fn probe<P: Platform>(platform: &P, frame: Frame, offset: u32, kind: u64) -> Option<Accepts> {
    for page in [baser::PAGE_64K, baser::PAGE_16K, baser::PAGE_4K] {
        platform.write64(frame, offset, put64(baser::PAGE_SIZE, page));
        let found = platform.read64(frame, offset);
        if get64(baser::PAGE_SIZE, found) != page {
            continue;
        }
        let mut two_levels = false;
        if kind == baser::TYPE_DEVICE {
            platform.write64(frame, offset, union64([put64(baser::PAGE_SIZE, page), put64(baser::INDIRECT, 1)]));
            two_levels = get64(baser::INDIRECT, platform.read64(frame, offset)) == 1;
        }
        let entry = get64(baser::ENTRY_SIZE, found).saturating_add(1);
        return Some(Accepts { page, page_bytes: page_bytes(page), entry, two_levels });
    }
    None
}

/// Allocates `bytes`, at least a page, and writes GITS_BASER. Returns the table and the value that the register reads
/// back as.
fn place<P: Platform>(
    platform: &P,
    frame: Frame,
    offset: u32,
    accepts: &Accepts,
    bytes: usize,
    indirect: bool,
) -> Result<(P::Buffer, u64), NoTable> {
    let bytes = bytes.max(accepts.page_bytes).checked_next_power_of_two().ok_or(NoTable::NoMemory)?;
    let table = platform.alloc(bytes).ok_or(NoTable::NoMemory)?;
    let address = match accepts.page {
        baser::PAGE_64K => {
            union64([table.pa().0 & mask64(baser::ADDRESS_64K), put64(baser::ADDRESS_HIGH_64K, table.pa().0 >> 48)])
        }
        _ if table.pa().0 >> 48 == 0 => table.pa().0 & mask64(baser::ADDRESS),
        _ => return Err(NoTable::Refused),
    };
    let pages = bytes.checked_div(accepts.page_bytes).unwrap_or(0);
    let fixed = union64([
        put64(baser::VALID, 1),
        put64(baser::INDIRECT, u64::from(indirect)),
        put64(baser::PAGE_SIZE, accepts.page),
        put64(baser::SIZE, u64::try_from(pages).unwrap_or(0).saturating_sub(1)),
        address,
    ]);
    let checked = union64([
        mask64(baser::VALID),
        mask64(baser::INDIRECT),
        mask64(baser::PAGE_SIZE),
        mask64(baser::SIZE),
        // This also covers 64 KiB pages, where bits 15:12 hold address bits 51:48.
        mask64(baser::ADDRESS),
    ]);
    // Orders the zeroing of the table before the register write with its address.
    platform.dsb();
    let mut inner = first_choice(platform);
    loop {
        let shareable = if inner == memory::WRITE_BACK { memory::INNER_SHAREABLE } else { 0 };
        let value = union64([fixed, put64(baser::INNER, inner), put64(baser::SHAREABILITY, shareable)]);
        platform.write64(frame, offset, value);
        let found = platform.read64(frame, offset);
        if found & checked != fixed {
            return Err(NoTable::Refused);
        }
        // Memory that is not shareable is not cacheable either. EL2 always cleans the lines that it writes.
        if inner == memory::WRITE_BACK && get64(baser::SHAREABILITY, found) == 0 {
            inner = memory::NON_CACHEABLE;
            continue;
        }
        return Ok((table, found));
    }
}
