//! The tables that this crate parses; each may occur once.

use crate::error::{Error, FIRMWARE, Source};
use crate::table::Table;

/// Maximum number of tables, including ignored ones.
const TABLES_MAX: usize = 256;

/// The tables.
pub(crate) struct Tables<'a> {
    pub(crate) fadt: Table<'a>,
    pub(crate) madt: Table<'a>,
    pub(crate) iort: Table<'a>,
    pub(crate) mcfg: Option<Table<'a>>,
    pub(crate) gtdt: Table<'a>,
    pub(crate) spcr: Option<Table<'a>>,
}

impl<'a> Tables<'a> {
    /// Finds the tables among `all`.
    pub(crate) fn find(all: &[&'a [u8]]) -> Result<Self, Error> {
        let about = |signature, value, problem, remedy| Error {
            source: Source::Table(signature),
            offset: 0,
            value,
            problem,
            remedy,
        };
        if all.len() > TABLES_MAX {
            let number = crate::table::wide(all.len());
            return Err(about(*b"XSDT", number, "there are more than 256 tables", FIRMWARE));
        }
        let one = |signature: [u8; 4]| {
            let mut found = None;
            for bytes in all.iter().filter(|bytes| bytes.starts_with(&signature)) {
                if found.replace(Table::check(bytes)?).is_some() {
                    return Err(about(signature, 2, "two tables have this signature", FIRMWARE));
                }
            }
            Ok(found)
        };
        let needed = |signature, problem, remedy| one(signature)?.ok_or_else(|| about(signature, 0, problem, remedy));
        Ok(Self {
            fadt: needed(*b"FACP", "there is no FADT, which is needed to start CPUs", FIRMWARE)?,
            madt: needed(*b"APIC", "there is no MADT, which lists CPUs and the interrupt controller", FIRMWARE)?,
            iort: needed(
                *b"IORT",
                "there is no IORT, which describes the SMMUs, so nothing can be isolated",
                "enable the SMMUs in the firmware's setup (QEMU: -machine iommu=smmuv3)",
            )?,
            mcfg: one(*b"MCFG")?,
            gtdt: needed(*b"GTDT", "there is no GTDT, which describes the timers", FIRMWARE)?,
            spcr: one(*b"SPCR")?,
        })
    }
}
