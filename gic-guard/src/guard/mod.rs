//! The guard: every ITS and redistributor of the machine, and the devices and LPIs that the host mapped.
//!
//! An event is mapped in hardware exactly while the host has mapped it, the host has mapped its collection to a
//! redistributor, and the host's EnableLPIs there is 1. In hardware each redistributor has one collection, which is
//! never unmapped; the host's collections are virtual. So EL2 gives hardware no command that is UNPREDICTABLE: no
//! collection is unmapped, no event is mapped twice, and no device that has events is unmapped.

mod access;
mod audit;
mod control;
mod devices;
mod execute;
mod job;
mod lpis;
mod power;
mod queue;
mod rd;
mod take_over;

use arrayvec::ArrayVec;
use host_access::budget::{Budget, Spent};

use crate::budget::TRAP;
use crate::command::{Command, Target};
use crate::error::ItsError;
use crate::its::{Completion, Its};
use crate::limits::{MAX_ITS, MAX_RDS};
use crate::platform::Platform;
use crate::stats::Stats;
use crate::store::Store;
pub use access::WriteOutcome;
use devices::Devices;
use job::Job;
use lpis::Lpis;
use rd::Rd;
pub use take_over::{Config, RdConfig};

/// The GIC under EL2's control. See the crate documentation for the life cycle.
pub struct Guard<P: Platform> {
    platform: P,
    its: ArrayVec<Its<P::Buffer>, MAX_ITS>,
    rds: ArrayVec<Rd<P::Buffer>, MAX_RDS>,
    devices: Devices<P::Buffer>,
    lpis: Option<Lpis<P::Buffer>>,
    store: Store,
    /// Work that the next traps continue. Every store completes it first.
    job: Option<Job>,
    budget: Budget,
    /// All ITSs are disabled permanently.
    quiesced: bool,
    stats: Stats,
}

/// Why work stopped early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The budget is used up; the next trap continues.
    Budget,
    /// The ITS is failed.
    Failed,
}

impl From<Spent> for Stop {
    fn from(_: Spent) -> Self {
        Self::Budget
    }
}

impl From<ItsError> for Stop {
    fn from(_: ItsError) -> Self {
        Self::Failed
    }
}

impl<P: Platform> Guard<P> {
    /// A guard before take-over: every access of the host is RAZ/WI.
    pub const fn new(platform: P) -> Self {
        Self {
            platform,
            its: ArrayVec::new_const(),
            rds: ArrayVec::new_const(),
            devices: Devices::new(),
            lpis: None,
            store: Store::new(),
            job: None,
            budget: Budget::new(TRAP),
            quiesced: false,
            stats: Stats {
                its_exits: 0,
                rd_exits: 0,
                denied_accesses: 0,
                host_commands: 0,
                ignored_commands: 0,
                limited_commands: 0,
                commands: 0,
                stalls: 0,
                claims_refused: 0,
                budget_exits: 0,
            },
        }
    }

    /// The platform given to [`Guard::new`].
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Lowers the limit of memory for the host's devices, [`crate::limits::MAX_DEVICE_BYTES`], to `bytes`: a host must
    /// not use up a small pool with devices of an ITS.
    pub fn limit_memory(&mut self, bytes: usize) {
        self.store.lower_limit(bytes);
    }

    /// Counters since take-over.
    pub fn stats(&self) -> Stats {
        let sum =
            |count: fn(&Its<P::Buffer>) -> u64| self.its.iter().fold(0_u64, |all, its| all.wrapping_add(count(its)));
        Stats {
            commands: sum(|its| its.hardware.ring.commands),
            stalls: sum(|its| its.hardware.ring.stalls),
            ..self.stats
        }
    }

    /// The error of a failed ITS.
    pub fn failed(&self, its: usize) -> Option<ItsError> {
        self.its.get(its)?.hardware.failed()
    }

    fn its(&self, n: usize) -> Result<&Its<P::Buffer>, Stop> {
        self.its.get(n).ok_or(Stop::Failed)
    }

    fn its_mut(&mut self, n: usize) -> Result<&mut Its<P::Buffer>, Stop> {
        self.its.get_mut(n).ok_or(Stop::Failed)
    }

    fn rd(&self, n: usize) -> Option<&Rd<P::Buffer>> {
        self.rds.get(n)
    }

    /// The redistributor of a processor number that the host named.
    fn rd_of(&self, processor: u64) -> Option<usize> {
        self.rds.iter().position(|rd| u64::from(rd.processor()) == processor)
    }

    /// Redistributor `rd` in the form that ITS `its` uses.
    fn target(&self, its: usize, rd: usize) -> Result<Target, Stop> {
        let rd = self.rd(rd).ok_or(Stop::Failed)?;
        Ok(self.its(its)?.hardware.target(rd.processor(), rd.base))
    }

    /// A redistributor that can be the target of a SYNC of ITS `its`: one whose collection is mapped there, even if it
    /// has lost its LPIs since then; otherwise one with LPIs.
    fn sync_target(&self, its: usize) -> Option<usize> {
        let hardware = &self.its(its).ok()?.hardware;
        let mapped = (0..MAX_RDS).find(|rd| hardware.is_mapped(*rd));
        mapped.or_else(|| self.rds.iter().position(Rd::is_on))
    }

    /// The target of a SYNC that replaces a command that stalled.
    fn any(&self, its: usize) -> Result<Target, Stop> {
        self.target(its, self.sync_target(its).unwrap_or(0))
    }

    /// Queues a command for hardware.
    fn push(&mut self, its: usize, command: Command) -> Result<(), Stop> {
        let any = self.any(its)?;
        if self.quiesced {
            return Err(Stop::Failed);
        }
        let its = self.its.get_mut(its).ok_or(Stop::Failed)?;
        Ok(its.hardware.push(&self.platform, any, command)?)
    }

    /// Waits until hardware has consumed everything queued.
    fn complete(&mut self, its: usize) -> Result<Completion, Stop> {
        let any = self.any(its)?;
        let its = self.its.get_mut(its).ok_or(Stop::Failed)?;
        Ok(its.hardware.complete(&self.platform, any)?)
    }

    fn is_closed(&self, its: usize) -> bool {
        self.its(its).map_or(true, |its| its.hardware.failed().is_some())
    }
}
