//! Counts EL2's work, to check the driver's budget.

use smmu_drv::budget;

use crate::machine::Machine;

/// Sums since the machine was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Host pages that EL2 mapped (and unmapped and invalidated in every TLB).
    pub pages: u64,
    /// Failed claims of pages.
    pub refused: u64,
    /// Words of the host that EL2 fetched.
    pub loads: u64,
    /// Lines of the host that EL2 cleaned and invalidated, because the host's CR1 makes the memory non-cacheable.
    pub lines: u64,
    /// Commands for hardware, CMD_SYNC not counted.
    pub commands: u64,
    /// CMD_SYNCs of hardware.
    pub syncs: u64,
    /// Level-2 tables and other buffers that EL2 allocated.
    pub tables: u64,
}

/// Maxima per trap, as in docs/smmu-emulation.md.
pub const BOUND: Work = Work {
    pages: budget::MOST_PAGES as u64,
    refused: budget::MOST_PAGES as u64,
    loads: budget::MOST_LOADS as u64,
    lines: budget::MOST_LINES as u64,
    commands: budget::MOST_COMMANDS as u64,
    syncs: budget::MOST_SYNCS as u64,
    tables: budget::MOST_TABLES as u64,
};

impl Work {
    /// The numbers, with their names.
    #[must_use]
    pub fn parts(self) -> [(&'static str, u64); 7] {
        let Self { pages, refused, loads, lines, commands, syncs, tables } = self;
        [
            ("pages", pages),
            ("refused", refused),
            ("loads", loads),
            ("lines", lines),
            ("commands", commands),
            ("SYNCs", syncs),
            ("tables", tables),
        ]
    }

    /// The work since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            pages: self.pages - before.pages,
            refused: self.refused - before.refused,
            loads: self.loads - before.loads,
            lines: self.lines - before.lines,
            commands: self.commands - before.commands,
            syncs: self.syncs - before.syncs,
            tables: self.tables - before.tables,
        }
    }

    /// The first number that exceeds its bound.
    #[must_use]
    pub fn excess(self) -> Option<String> {
        let mut parts = self.parts().into_iter().zip(BOUND.parts());
        parts
            .find(|(done, most)| done.1 > most.1)
            .map(|((name, done), (_, most))| format!("{done} {name}, {most} at most"))
    }
}

impl Machine {
    /// EL2's work so far, for all SMMUs.
    pub fn work(&mut self) -> Work {
        let (pages, loads) = self.page_work();
        let mut work =
            Work { pages, loads, lines: self.cleaned_lines(), tables: self.pool.allocations(), ..Work::default() };
        for n in 0..self.models.len() {
            let stats = self.driver(n, |smmu, _| smmu.stats());
            work.refused += stats.claims_refused;
            work.commands += stats.forwarded_commands;
            work.syncs += stats.syncs;
        }
        work
    }
}
