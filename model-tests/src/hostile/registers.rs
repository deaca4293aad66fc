//! Register accesses of the host's CPUs: single stores, which may need repetition, and driver sequences.

use smmu_drv::{AccessSize, WriteOutcome};
use smmu_model::arch::regs as r;

use super::finding::Finding;
use super::{CPUS, Execution, Pending};
use crate::host::{LOG2_QUEUE, ON, QUEUES};

/// Maximum stores of EL2 in one trap: about one per word of the four level-2 tables in a budget, of the freed tables,
/// and of the commands.
const MAX_STORES: u64 = 60_000;
/// Maximum repetitions of a store without other actions in between: the walk over 2^16 streams.
const MAX_REPEATS: u32 = 2_000;
/// Repetitions after which a store of a hostile host may still be incomplete if it makes progress.
const MIN_REPEATS: u32 = 100;

impl Execution {
    /// A store by `cpu`, executed once; repeats a pending one instead.
    pub(super) fn store(&mut self, cpu: u8, store: Pending) -> Result<(), Finding> {
        let cpu = usize::from(cpu) % CPUS;
        self.cpus[cpu].get_or_insert(store);
        self.resume(cpu)
    }

    /// Repeats the pending store of `cpu` once.
    pub(super) fn resume(&mut self, cpu: usize) -> Result<(), Finding> {
        let Some(store) = self.cpus[cpu] else { return Ok(()) };
        if self.once(store)? == WriteOutcome::Done {
            self.cpus[cpu] = None;
        }
        Ok(())
    }

    fn once(&mut self, store: Pending) -> Result<WriteOutcome, Finding> {
        let (before, work_before) = (self.cached.bypass_check.stores(), self.cached.m.work());
        let outcome = self.cached.m.write_once(store.smmu, store.offset, store.size, store.value);
        let work = self.cached.bypass_check.stores() - before;
        if work > MAX_STORES {
            return Err(Finding::Unbounded(format!("a trap at {:#x} made {work} stores", store.offset)));
        }
        self.bounded(work_before, store.offset)?;
        Ok(outcome)
    }

    /// Executes a store until it is complete, without other actions in between.
    pub(super) fn complete(&mut self, store: Pending) -> Result<(), Finding> {
        for _ in 0..MAX_REPEATS {
            if self.once(store)? == WriteOutcome::Done {
                return Ok(());
            }
        }
        Err(Finding::Unbounded(format!("a store to {:#x} is never complete", store.offset)))
    }

    /// Repeats a store of a hostile host, which may have queued many long commands. Returns whether it is complete.
    ///
    /// EL2 consumes them at a store to CMDQ_PROD, when CMDQEN is set, and when CMDQ_ERR is acknowledged. A walk over
    /// 2^16 streams takes at most 78 traps if no entry changes, and a queue of 2^14 entries has room for 2^13 walks:
    /// 640,000 traps for one store, each of which makes progress.
    pub(super) fn advance(&mut self, store: Pending) -> Result<bool, Finding> {
        let mut first = None;
        let mut left = u64::MAX;
        for repeat in 0..MAX_REPEATS {
            if self.once(store)? == WriteOutcome::Done {
                return Ok(true);
            }
            // A new value of CMDQ_PROD has taken effect at this point.
            let now = self.commands_left(store.smmu);
            if now > left {
                return Err(Finding::Unbounded(format!("a store to {:#x} adds commands", store.offset)));
            }
            if repeat >= MIN_REPEATS && first.is_some_and(|first| now < first) {
                return Ok(false);
            }
            first.get_or_insert(now);
            left = now;
        }
        Err(Finding::Unbounded(format!("a store to {:#x} makes no progress", store.offset)))
    }

    /// The number of commands between CMDQ_CONS and CMDQ_PROD.
    fn commands_left(&mut self, n: usize) -> u64 {
        let most = self.cached.m.read32(n, r::IDR1) >> 21 & 31;
        let log2 = self.cached.m.read32(n, r::CMDQ_BASE) & 31;
        let (prod, cons) = (self.cached.m.read32(n, r::CMDQ_PROD), self.cached.m.read32(n, r::CMDQ_CONS));
        u64::from(prod.wrapping_sub(cons)) & ((2 << log2.min(most)) - 1)
    }

    pub(super) fn write32(&mut self, n: usize, offset: u32, value: u32) -> Result<(), Finding> {
        self.complete(Pending { smmu: n, offset, size: AccessSize::Word, value: value.into() })
    }

    fn write64(&mut self, n: usize, offset: u32, value: u64) -> Result<(), Finding> {
        self.complete(Pending { smmu: n, offset, size: AccessSize::Double, value })
    }

    /// Writes CMDQ_PROD.
    pub(super) fn write_prod(&mut self, cpu: u8, n: usize) -> Result<(), Finding> {
        let value = self.drivers[n].prod.into();
        self.store(cpu, Pending { smmu: n, offset: r::CMDQ_PROD, size: AccessSize::Word, value })
    }

    /// Programs the SMMU as a driver does, from any state.
    pub(super) fn start(&mut self, n: usize, shape: u8) -> Result<(), Finding> {
        self.drivers[n].prod = 0;
        self.drivers[n].two_level = shape & 1 != 0;
        let host = self.host(n);
        self.write32(n, r::CR0, 0)?;
        let gerror = self.cached.m.read32(n, r::GERROR);
        self.write32(n, r::GERRORN, gerror)?;
        self.write32(n, r::CR1, 0xd75)?;
        self.write32(n, r::CR2, r::CR2_PTM | r::CR2_RECINVSID)?;
        let log2 = [6, 9, 16, 3, 10, 8, 20, 63][usize::from(shape >> 1 & 7)];
        let cfg = if shape & 1 == 0 { log2 } else { log2.max(10) | 8 << 6 | 1 << 16 };
        if shape & 1 != 0 {
            self.store_if_hosts(host.strtab(), host.l2() | 9);
        }
        self.write64(n, r::STRTAB_BASE, host.strtab() | 1 << 62)?;
        self.write32(n, r::STRTAB_BASE_CFG, cfg)?;
        self.write64(n, r::CMDQ_BASE, host.cmdq() | 1 << 62 | u64::from(LOG2_QUEUE))?;
        self.write32(n, r::CMDQ_PROD, 0)?;
        self.write32(n, r::CMDQ_CONS, 0)?;
        self.write64(n, r::EVENTQ_BASE, host.evtq() | 1 << 62 | 3)?;
        self.write32(n, r::EVENTQ_PROD, 0)?;
        self.write32(n, r::EVENTQ_CONS, 0)?;
        self.write32(n, r::IRQ_CTRL, r::IRQ_GERROR | r::IRQ_EVENTQ)?;
        self.write32(n, r::CR0, if shape & 16 == 0 { ON } else { QUEUES })
    }

    /// Overwrites the command at CONS with a SYNC and acknowledges the active errors, as Linux does.
    pub(super) fn repair(&mut self, n: usize) -> Result<(), Finding> {
        let cons = self.cached.m.read32(n, r::CMDQ_CONS) & ((1 << LOG2_QUEUE) - 1);
        let slot = self.host(n).cmdq() + u64::from(cons) * 16;
        self.store_if_hosts(slot, 0x46);
        self.store_if_hosts(slot + 8, 0);
        let value = self.cached.m.read32(n, r::GERROR).into();
        // Commands that are still queued wait for the next store that consumes, as when an interrupt handler does not
        // return to this store.
        self.advance(Pending { smmu: n, offset: r::GERRORN, size: AccessSize::Word, value }).map(drop)
    }

    /// Consumes all records and acknowledges an overflow.
    pub(super) fn events(&mut self, n: usize) -> Result<(), Finding> {
        let prod = self.cached.m.read32(n, r::EVENTQ_PROD);
        self.write32(n, r::EVENTQ_CONS, prod)
    }
}
