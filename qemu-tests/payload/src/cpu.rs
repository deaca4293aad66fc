//! Secondary CPUs: each is started by PSCI and waits for work in its mailbox.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use spin::mutex::SpinMutex;

use crate::boot::secondary_entry;
use crate::machine::Machine;
use crate::num::u64_of;
use crate::sysreg::MAX_CPUS;
use crate::{firmware, mmu, sysreg};

/// Work for a secondary.
pub type Work = fn(u64) -> u64;

const OFF: u32 = 0;
const IDLE: u32 = 1;
const BUSY: u32 = 2;
const STOP: u32 = 3;

struct Mailbox {
    state: AtomicU32,
    work: SpinMutex<Option<Work>>,
    argument: AtomicU64,
    result: AtomicU64,
}

static MAILBOXES: [Mailbox; MAX_CPUS] = [const {
    Mailbox {
        state: AtomicU32::new(OFF),
        work: SpinMutex::new(None),
        argument: AtomicU64::new(0),
        result: AtomicU64::new(0),
    }
}; MAX_CPUS];

/// Longest time that a CPU may take to start or to finish its work, in microseconds of virtual time.
const TIMEOUT_US: u64 = 60_000_000;

/// Starts CPU `index` of `machine` and waits until it runs.
///
/// # Errors
/// CPU_ON was refused, or the CPU did not start.
pub fn start(machine: &Machine, index: usize) -> Result<(), &'static str> {
    let mail = &MAILBOXES[index];
    firmware::cpu_on(machine.cpus[index], secondary_entry(), u64_of(index)).map_err(|_| "CPU_ON was refused")?;
    if sysreg::poll_us(TIMEOUT_US, || mail.state.load(Ordering::SeqCst) == IDLE) {
        Ok(())
    } else {
        Err("CPU did not start")
    }
}

/// Whether CPU `index` has ever run.
pub fn has_started(index: usize) -> bool {
    MAILBOXES[index].state.load(Ordering::SeqCst) != OFF
}

/// Sends work to CPU `index`, which must be idle.
pub fn send(index: usize, work: Work, argument: u64) {
    let mail = &MAILBOXES[index];
    *mail.work.lock() = Some(work);
    mail.argument.store(argument, Ordering::SeqCst);
    mail.state.store(BUSY, Ordering::SeqCst);
}

/// Waits until CPU `index` has finished; returns its result.
///
/// # Errors
/// It did not finish in time.
pub fn wait(index: usize) -> Result<u64, &'static str> {
    let mail = &MAILBOXES[index];
    if sysreg::poll_us(TIMEOUT_US, || mail.state.load(Ordering::SeqCst) == IDLE) {
        Ok(mail.result.load(Ordering::SeqCst))
    } else {
        Err("CPU did not finish its work")
    }
}

/// Makes CPU `index` call CPU_OFF and waits until PSCI reports it off.
///
/// # Errors
/// It is still on.
pub fn stop(machine: &Machine, index: usize) -> Result<(), &'static str> {
    let mail = &MAILBOXES[index];
    mail.state.store(STOP, Ordering::SeqCst);
    if sysreg::poll_us(TIMEOUT_US, || firmware::is_off(machine.cpus[index])) {
        Ok(())
    } else {
        Err("CPU did not turn off")
    }
}

/// Main loop of a secondary; called by the boot code.
// SAFETY: (1) the name is the payload's own and unique; (2) the boot code calls it with a stack, vectors and its index set.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn payload_secondary_main(index: u64) -> ! {
    mmu::enable();
    let mail = &MAILBOXES[crate::num::usize_of(index) % MAX_CPUS];
    // Work that was sent before the CPU started comes first.
    let _ = mail.state.compare_exchange(OFF, IDLE, Ordering::SeqCst, Ordering::SeqCst);
    loop {
        match mail.state.load(Ordering::SeqCst) {
            BUSY => {
                let work = mail.work.lock().take();
                if let Some(work) = work {
                    mail.result.store(work(mail.argument.load(Ordering::SeqCst)), Ordering::SeqCst);
                }
                mail.state.store(IDLE, Ordering::SeqCst);
            }
            STOP => {
                mail.state.store(OFF, Ordering::SeqCst);
                firmware::cpu_off();
            }
            _ => sysreg::relax(),
        }
    }
}
