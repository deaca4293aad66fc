//! Tables of an ITS in memory [IHI 0069 H.b, 5.2].

use super::Model;

/// Base, bytes of a page, pages, two levels: GITS_BASER.
pub(crate) struct Table {
    pub(crate) base: u64,
    pub(crate) page: u64,
    pub(crate) bytes: u64,
    pub(crate) indirect: bool,
    pub(crate) entry: u64,
}

impl Model {
    /// The table of GITS_BASER `number`, if it is valid.
    pub(crate) fn table(&self, n: usize, number: usize) -> Option<Table> {
        let value = self.its_baser(n, number);
        if value >> 63 == 0 {
            return None;
        }
        let size = value >> 8 & 3;
        let page = [0x1000, 0x4000, 0x1_0000, 0x1_0000][size as usize];
        let base =
            if size >= 2 { value & 0xffff_ffff_0000 | (value >> 12 & 0xf) << 48 } else { value & 0xffff_ffff_f000 };
        let entry = (value >> 48 & 0x1f) + 1;
        Some(Table { base, page, bytes: ((value & 0xff) + 1) * page, indirect: value >> 62 & 1 == 1, entry })
    }

    /// Address of entry `index` of the table of `number`.
    pub(crate) fn entry(&self, n: usize, number: usize, index: u64) -> Option<u64> {
        let table = self.table(n, number)?;
        if !table.indirect {
            return (index < table.bytes / table.entry).then(|| table.base + index * table.entry);
        }
        let per_page = table.page / table.entry;
        let first = index / per_page;
        if first >= table.bytes / 8 {
            return None;
        }
        let pointer = self.memory.device_read(table.base + first * 8, "a level-1 table");
        if pointer >> 63 == 0 {
            return None;
        }
        let mask = ((1 << 52) - 1) & !(table.page - 1);
        Some((pointer & mask) + index % per_page * table.entry)
    }

    /// The redistributor of a collection.
    pub(crate) fn collection(&self, n: usize, icid: u64) -> Option<usize> {
        if self.config.collection_table {
            let at = self.entry(n, 1, icid)?;
            let late = self.its[n].late.iter().rev().find(|(to, _)| *to == at & !7).map(|(_, word)| *word);
            let word = late.unwrap_or_else(|| self.memory.device_read(at, "the collection table"));
            return (word >> 63 == 1).then_some((word & 0xffff) as usize);
        }
        self.its[n].collections.get(&icid).copied()
    }
}
