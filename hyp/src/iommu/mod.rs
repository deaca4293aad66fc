//! The SMMUs of the machine, one lock each, and the host's accesses to their registers. A revocation waits for all
//! SMMUs in [`Smmus`].
//!
//! Lock order: ownership first, then one SMMU; the pool and the console are leaves. See docs/locking.md.

mod platform;
pub mod stage2;
pub mod streams;

use crate::memory::HostPages;
use crate::memory::host_s2::HOST_VMID;
use crate::pool_buffer::PoolBuffer;
use crate::{console, host_log, log};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hyp::esr::Size;
use io_pgtable::Ipa;
use mem_protect::{Finding, GuestId};
pub use platform::SmmuPlatform;
use shadow_s2::{Invalidate, InvalidateError, Plan, Target};
use smmu_drv::{Fault, HostedSmmu, Probed, SmmuError, Stage2Cfg, Stale, Stats, Storage, TakeOverError, WriteOutcome};
use spin::Once;
use spin::mutex::{TicketMutex, TicketMutexGuard};
use streams::retire;

/// Maximum SMMUs.
pub const MAX: usize = hyp::boot_info::smmu::SMMUS_MAX;
/// Maximum number of faults taken from the log in one trap: a trap prints no more, so a flood of faults delays only
/// the host.
const FAULT_LINES: usize = 2;
/// VMID of guest 0; that of the host is below it.
const FIRST_GUEST_VMID: u16 = HOST_VMID + 1;
/// States printed in a run.
const TRACES_PRINTED: u64 = 64;
/// Maximum number of printed faults in a run; later ones are only counted.
const FAULTS_PRINTED: u64 = 512;

/// The driver of one SMMU.
pub type HostSmmu = HostedSmmu<SmmuPlatform, HostPages>;

/// One SMMU.
struct Unit {
    number: usize,
    base: u64,
    smmu: TicketMutex<HostSmmu>,
    /// Whether the failure was logged.
    failure_logged: AtomicBool,
}

/// All SMMUs, in the order of the device tree.
static UNITS: [Once<Unit>; MAX] = [const { Once::new() }; MAX];
/// The lists of their drivers, which are too large for a stack. Each is taken once and never returned.
static STORAGE: [TicketMutex<Storage<PoolBuffer>>; MAX] = [const { TicketMutex::new(Storage::new()) }; MAX];
/// Totals, saved at power-off.
static FINAL: TicketMutex<Option<Totals>> = TicketMutex::new(None);
/// Number of printed states.
static TRACES: AtomicU64 = AtomicU64::new(0);
/// Number of printed faults.
static PRINTED: AtomicU64 = AtomicU64::new(0);
/// Denied accesses that no SMMU's driver counts: without a syndrome, or to configuration space.
static UNDESCRIBED: AtomicU64 = AtomicU64::new(0);

/// A register of one SMMU.
#[derive(Clone, Copy)]
pub struct Register {
    unit: &'static Unit,
    offset: u32,
}

/// Sums over all SMMUs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Register accesses of the host that trapped.
    pub exits: u64,
    /// DMA faults recorded.
    pub faults: u64,
    /// Commands put into EL2's queues for the host or for revocations.
    pub commands: u64,
    /// CMD_SYNCs among EL2's commands.
    pub syncs: u64,
    /// Accesses that no policy allows.
    pub denied: u64,
}

/// Takes over SMMU number `n` and publishes it; its registers are at `base`. From now on each stream can only access
/// what `stage2` maps. Not inlined: `cargo xtask check` measures its stack use.
///
/// # Errors
/// See [`TakeOverError`].
#[inline(never)]
pub fn take_over(n: usize, base: u64, probed: Probed<SmmuPlatform>, stage2: Stage2Cfg) -> Result<(), TakeOverError> {
    let storage = STORAGE.get(n).and_then(TicketMutex::try_lock).map(TicketMutexGuard::leak);
    let (Some(storage), Some(unit)) = (storage, UNITS.get(n)) else { return Err(TakeOverError::NoMemory) };
    // Built in its final place, since it is too large to be moved.
    unit.try_call_once(|| {
        let smmu = TicketMutex::new(probed.take_over_with_host(stage2, storage)?);
        Ok(Unit { number: n, base, smmu, failure_logged: AtomicBool::new(false) })
    })?;
    Ok(())
}

fn units() -> impl Iterator<Item = (usize, &'static Unit)> {
    UNITS.iter().filter_map(Once::get).map(|unit| (unit.number, unit))
}

/// The SMMU register at `ipa`, if it is one.
#[inline]
pub fn locate(ipa: Ipa) -> Option<Register> {
    let (first, rest) = UNITS.split_first()?;
    let register = first.get().and_then(|unit| unit.register(ipa));
    register.or_else(|| locate_in(rest, ipa))
}

/// Most machines have one SMMU: check the first one inline, the others out of line.
#[inline(never)]
fn locate_in(units: &'static [Once<Unit>], ipa: Ipa) -> Option<Register> {
    units.iter().filter_map(Once::get).find_map(|unit| unit.register(ipa))
}

impl Unit {
    /// The register at `ipa`, if it is one of this SMMU.
    #[inline]
    fn register(&'static self, ipa: Ipa) -> Option<Register> {
        let offset = ipa.0.checked_sub(self.base).filter(|offset| *offset < platform::REGISTERS)?;
        Some(Register { unit: self, offset: u32::try_from(offset).ok()? })
    }
}

impl Register {
    /// Takes the lock of its SMMU; the ownership lock must be taken before, if both are needed.
    pub fn lock(self) -> TicketMutexGuard<'static, HostSmmu> {
        self.unit.smmu.lock()
    }
}

/// A load of the host; `None` if it needs memory of the host, and so the ownership lock.
#[inline]
pub fn read_plain(register: Register, smmu: &mut HostSmmu, size: Size) -> Option<u64> {
    smmu.mmio_read_plain(register.offset, size.into())
}

/// A load of the host from any register, also one that needs memory of the host.
pub fn read(register: Register, pages: &mut HostPages, smmu: &mut HostSmmu, size: Size) -> u64 {
    smmu.mmio_read(pages, register.offset, size.into())
}

/// A store of the host to a register.
#[inline]
pub fn write(register: Register, pages: &mut HostPages, smmu: &mut HostSmmu, size: Size, value: u64) -> WriteOutcome {
    smmu.mmio_write(pages, register.offset, size.into(), value)
}

/// Counts a denied access: one that cannot be emulated, since its syndrome does not describe it, or one that no policy
/// allows.
pub fn count_denied() {
    UNDESCRIBED.fetch_add(1, Ordering::Relaxed);
}

/// At the end of a trap: prints faults of a register's SMMU and a part of the console's buffer. No lock is held.
#[cold]
pub fn report(register: Register) {
    print_faults_of(register.unit);
    console::drain();
}

/// Prints faults of an SMMU that is not locked; no lock is held while printing.
#[cold]
fn print_faults_of(unit: &Unit) {
    for _ in 0..FAULT_LINES {
        let fault = unit.smmu.lock().take_fault();
        let Some(fault) = fault else { return };
        print_fault(unit.number, &fault);
    }
}

fn print_fault(unit: usize, fault: &Fault) {
    match PRINTED.fetch_add(1, Ordering::Relaxed) {
        0..FAULTS_PRINTED => host_log!("dma fault: smmu{unit} {fault}"),
        FAULTS_PRINTED => host_log!("dma faults after the first {FAULTS_PRINTED} are only counted"),
        _ => {}
    }
}

/// Reads every event queue into the fault logs.
pub fn poll(pages: &mut HostPages) {
    for (_, unit) in units() {
        unit.smmu.lock().poll_events(pages);
    }
}

/// Prints the logged faults. No lock is held.
pub fn print_faults() {
    for (_, unit) in units() {
        print_faults_of(unit);
    }
}

/// The VMID of a guest's streams.
pub fn guest_vmid(guest: GuestId) -> u16 {
    u16::from(guest.handle()).saturating_add(FIRST_GUEST_VMID)
}

/// Every SMMU of the machine: where a revocation waits for hardware.
///
/// Locks: ownership is held by the caller; each SMMU is locked in turn, and during that time stores to its registers
/// and ownership calls of other CPUs spin. Commands: TLBI of the range, CMD_SYNC, TLBI of the combined entries,
/// CMD_SYNC; or one TLBI of everything and CMD_SYNC (`smmu-drv`, `Device::tlb_submit`). Each CMD_SYNC waits for at most
/// one second. After the first timeout the SMMU is failed, and no later call waits for it; the revocation returns `IO`.
pub struct Smmus {
    /// VMID of the table that changed.
    vmid: u16,
}

impl Smmus {
    /// For the host's table.
    pub const fn of_host() -> Self {
        Self { vmid: HOST_VMID }
    }
}

impl Invalidate for Smmus {
    /// Submits to every SMMU before it waits for the first one, so that they work at the same time. Calls all SMMUs,
    /// even if one fails.
    fn invalidate(&mut self, plan: &Plan) -> Result<(), InvalidateError> {
        let stale = match plan.target {
            Target::All => Stale::All,
            Target::Range { start, bytes } => Stale::Range { ipa: start, size: bytes },
        };
        for (_, unit) in units() {
            // A failure is returned again by the wait.
            let _ = unit.smmu.lock().tlb_submit(self.vmid, stale);
        }
        let mut result = Ok(());
        for (_, unit) in units() {
            let answer = unit.smmu.lock().tlb_wait();
            if let Err(error) = answer {
                log_failure(unit, error);
                result = Err(InvalidateError);
            }
        }
        result
    }
}

/// Checks every SMMU (one load each) and reprograms those that lost their state. Called when a CPU resumes, before
/// the host runs on it. Firmware may have powered off a domain shared with an SMMU.
///
/// This does not call `resume`, which would stop the DMA of an SMMU that was on. `resume` is for a `SYSTEM_SUSPEND`,
/// which EL2 refuses.
pub fn check_alive() {
    for (_, unit) in units() {
        let answer = unit.smmu.lock().check_alive();
        if let Err(error) = answer {
            log_failure(unit, error);
        }
    }
}

/// Logs once that an SMMU failed: it stays failed, and the host can repeat requests.
#[cold]
fn log_failure(unit: &Unit, error: SmmuError) {
    if !unit.failure_logged.swap(true, Ordering::Relaxed) {
        log!("smmu{}: {error}: revocations that need it are refused", unit.number);
    }
}

/// Audits every SMMU.
///
/// # Errors
/// The first finding: a defect of EL2.
pub fn audit(pages: &HostPages) -> Result<(), Finding> {
    for (_, unit) in units() {
        unit.smmu.lock().audit(pages)?;
    }
    Ok(())
}

/// Makes every stream of every SMMU abort, prints the last faults, and never releases the SMMU locks: no CPU of the
/// host can undo it before power-off.
pub fn quiesce_and_hold(pages: &mut HostPages) {
    let mut sum = Totals::start();
    for (n, unit) in units() {
        let mut smmu = unit.smmu.lock();
        if let Err(error) = smmu.quiesce() {
            log!("smmu{n}: {error}: DMA may continue until the power is off");
        }
        smmu.poll_events(pages);
        while let Some(fault) = smmu.take_fault() {
            print_fault(n, &fault);
        }
        let stats = smmu.stats();
        log!(
            "smmu{n}: {} exits of the host, {} CMDQ_PROD writes, {} CMDQ_CONS reads; {} commands, {} SYNCs to hardware",
            stats.exits,
            stats.prod_writes,
            stats.cons_reads,
            stats.forwarded_commands,
            stats.syncs
        );
        sum = sum.plus(&stats);
        core::mem::forget(smmu);
    }
    *FINAL.lock() = Some(sum);
}

impl Totals {
    fn start() -> Self {
        let undescribed = UNDESCRIBED.load(Ordering::Relaxed);
        Self { exits: undescribed, denied: undescribed, ..Self::default() }
    }

    fn plus(self, stats: &Stats) -> Self {
        Self {
            exits: self.exits.wrapping_add(stats.exits),
            faults: self.faults.wrapping_add(stats.faults),
            commands: self.commands.wrapping_add(stats.forwarded_commands),
            syncs: self.syncs.wrapping_add(stats.syncs),
            denied: self.denied.wrapping_add(stats.denied()),
        }
    }
}

/// Sums the counters.
pub fn totals() -> Totals {
    units().fold(Totals::start(), |sum, (_, unit)| sum.plus(&unit.smmu.lock().stats()))
}

/// Sums the counters for the last line of a run. In a panic a locked SMMU is skipped, since this CPU may hold the
/// lock.
pub fn final_totals() -> Totals {
    if let Some(sum) = FINAL.try_lock().and_then(|sum| *sum) {
        return sum;
    }
    units().fold(Totals::start(), |sum, (_, unit)| match unit.smmu.try_lock() {
        Some(smmu) => sum.plus(&smmu.stats()),
        None => sum,
    })
}

/// Prints the counters of every SMMU, a bounded number of times in one run.
pub fn print_state() {
    if TRACES.fetch_add(1, Ordering::Relaxed) >= TRACES_PRINTED {
        return;
    }
    for (n, unit) in units() {
        let stats = unit.smmu.lock().stats();
        host_log!("smmu{n}: {stats:?}");
    }
}
