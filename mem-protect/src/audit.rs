//! The audit: compares both stage-2 tables with the ownership map, by leaf if possible, otherwise by page.
//!
//! It checks the invariant. Tests run it after every step; the ghost build of the hypervisor runs it after every
//! trap.

use core::cell::Cell;

use io_pgtable::Ipa;

use crate::finding::{Finding, Mismatch, Table};
use crate::map::PageMap;
use crate::ownership::Ownership;
use crate::page::Owner;
use crate::range::{PAGE_SHIFT, PFN_LIMIT, PageRange};
use crate::traits::{DmaStage2, HostStage2, Leaf, LeafKind, PageOps};

/// Register ranges that the host may access, from the boot policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct Devices<'a> {
    /// Device registers that the host's CPUs may reach, in any order.
    pub cpu: &'a [PageRange],
    /// Device registers that the host's streams may reach, such as an interrupt translater.
    pub dma: &'a [PageRange],
}

/// Pages of the host that a table does not map: nobody has access to them.
///
/// This is not a bug if an SMMU timed out while there was no memory for tables: see `docs/ownership.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Pages that are not mapped for the host's CPUs.
    pub cpu: u64,
    /// Pages that are not mapped for the host's devices.
    pub dma: u64,
}

impl Lost {
    pub(crate) fn add(&mut self, table: Table, pages: u64) {
        let count = match table {
            Table::Cpu => &mut self.cpu,
            Table::Dma | Table::Guest => &mut self.dma,
        };
        *count = count.saturating_add(pages);
    }
}

/// How an unmapped page of the host is handled.
enum Missing<'l> {
    /// It is reported.
    Report,
    /// It is counted here, and the audit continues.
    Count(&'l Cell<Lost>),
}

impl<S: HostStage2, D: DmaStage2, P: PageOps> Ownership<'_, S, D, P> {
    /// Compares the tables with the map and reports the first mismatch, lowest address first: the CPU's table, then the
    /// IOMMU's, then those of guests.
    ///
    /// # Errors
    /// See [`Finding`].
    pub fn audit(&self, devices: Devices<'_>) -> Result<(), Finding> {
        self.audit_tables(devices, &Missing::Report)
    }

    /// As [`Ownership::audit`], but pages of the host that are not mapped are counted: the audit continues and still
    /// finds pages with wrong access.
    ///
    /// # Errors
    /// The first [`Finding`] that is not [`Mismatch::Missing`].
    pub fn audit_access(&self, devices: Devices<'_>) -> Result<Lost, Finding> {
        let lost = Cell::new(Lost::default());
        self.audit_tables(devices, &Missing::Count(&lost))?;
        Ok(lost.get())
    }

    /// Whether rollbacks of failed calls explain the pages that are not mapped. If not, there is a bug: EL2 may use
    /// pages that belong to the host in the map.
    pub fn explains(&self, lost: Lost) -> bool {
        let stats = self.stats();
        lost.cpu <= stats.unmapped && (lost.dma == 0 || stats.rolled_back > 0)
    }

    fn audit_tables(&self, devices: Devices<'_>, missing: &Missing<'_>) -> Result<(), Finding> {
        let all = PageRange::new(0, PFN_LIMIT);
        self.audit_table(Table::Cpu, devices.cpu, all, missing, |from| self.cpu.next_leaf(from))?;
        self.audit_table(Table::Dma, devices.dma, Some(self.dma.window()), missing, |from| self.dma.next_leaf(from))?;
        self.audit_guests()
    }

    fn audit_table(
        &self,
        table: Table,
        devices: &[PageRange],
        window: Option<PageRange>,
        missing: &Missing<'_>,
        next_leaf: impl Fn(Ipa) -> Option<Leaf>,
    ) -> Result<(), Finding> {
        let walk = Walk { table, devices, missing, next_leaf, map: &self.memory.map };
        let mut done = 0;
        let limit = window.map_or(PFN_LIMIT, PageRange::end);
        for run in self.memory.map.runs_of(Owner::Host) {
            let Some(run) = clip(run, limit) else { break };
            walk.gap(done, run.first())?;
            walk.run(run)?;
            done = run.end();
        }
        walk.gap(done, PFN_LIMIT)
    }
}

/// The part of `run` below page `limit`.
fn clip(run: PageRange, limit: u64) -> Option<PageRange> {
    run.end().min(limit).checked_sub(run.first()).and_then(|count| PageRange::new(run.first(), count))
}

/// One walk over one table.
struct Walk<'a, 'm, L> {
    table: Table,
    devices: &'a [PageRange],
    missing: &'a Missing<'a>,
    next_leaf: L,
    map: &'a PageMap<'m>,
}

impl<L: Fn(Ipa) -> Option<Leaf>> Walk<'_, '_, L> {
    fn disagree(&self, pfn: u64, what: Mismatch) -> Result<(), Finding> {
        Err(Finding::Table { table: self.table, ipa: address(pfn), owner: self.map.owner(pfn), what })
    }

    /// Pages `from` to `to` of the host are not mapped.
    fn missing_pages(&self, from: u64, to: u64) -> Result<(), Finding> {
        let Missing::Count(lost) = self.missing else { return self.disagree(from, Mismatch::Missing) };
        let mut sum = lost.get();
        sum.add(self.table, to.saturating_sub(from));
        lost.set(sum);
        Ok(())
    }

    /// Checks that all of `run`, which are pages of the host, are identity-mapped as normal memory.
    fn run(&self, run: PageRange) -> Result<(), Finding> {
        let mut at = run.first();
        while at < run.end() {
            let next = (self.next_leaf)(address(at));
            let Some(leaf) = next.filter(|leaf| leaf.ipa == address(at)) else {
                let back = next.map_or(run.end(), |leaf| (leaf.ipa.0 >> PAGE_SHIFT).max(at).min(run.end()));
                if back <= at {
                    // The leaf is not of this page, and not of a later one.
                    return self.disagree(at, Mismatch::Missing);
                }
                self.missing_pages(at, back)?;
                at = back;
                continue;
            };
            if leaf.pa.0 != leaf.ipa.0 {
                return self.disagree(at, Mismatch::NotIdentity);
            }
            if leaf.kind != LeafKind::Normal {
                return self.disagree(at, Mismatch::WrongKind);
            }
            at = after(at, leaf);
        }
        Ok(())
    }

    /// Checks that between page `from` and page `to`, where no page belongs to the host, only the host's devices are
    /// mapped.
    fn gap(&self, from: u64, to: u64) -> Result<(), Finding> {
        let mut at = from;
        while at < to {
            let Some(leaf) = (self.next_leaf)(address(at)).filter(|leaf| leaf.ipa < address(to)) else { break };
            let mut pfn = leaf.ipa.0 >> PAGE_SHIFT;
            if leaf.pa.0 != leaf.ipa.0 {
                return self.disagree(pfn, Mismatch::NotIdentity);
            }
            let end = after(pfn, leaf).min(to);
            while pfn < end {
                let inside = |range: &&PageRange| range.first() <= pfn && pfn < range.end();
                let Some(device) = self.devices.iter().find(inside) else {
                    return self.disagree(pfn, Mismatch::Foreign);
                };
                let part_end = end.min(device.end());
                // RAM that the host does not own is foreign, even if a range of devices covers it.
                if let Some(ram) = self.first_ram(pfn, part_end) {
                    return self.disagree(ram, Mismatch::Foreign);
                }
                if leaf.kind != LeafKind::Device {
                    return self.disagree(pfn, Mismatch::WrongKind);
                }
                pfn = part_end;
            }
            at = end;
        }
        Ok(())
    }

    /// The first page of RAM from page `from` up to page `end`.
    fn first_ram(&self, from: u64, end: u64) -> Option<u64> {
        self.map.ram().map(|ram| (ram.first().max(from), ram.end().min(end))).find(|(a, b)| a < b).map(|(a, _)| a)
    }
}

fn address(pfn: u64) -> Ipa {
    Ipa(pfn << PAGE_SHIFT)
}

/// The page after `leaf`, which starts at page `pfn`; at least one page later, so that a walk always ends.
fn after(pfn: u64, leaf: Leaf) -> u64 {
    pfn.saturating_add((leaf.bytes >> PAGE_SHIFT).max(1))
}
