//! A host that executes random actions, on hardware that can fail: a state machine for property tests and for the fuzz
//! target `gic`.
//!
//! The checks after every action: by its registers and tables, hardware can access only EL2's memory; EL2 used hardware
//! as the architecture requires; no trap was too long; no LPI reached a CPU on which the host has disabled LPIs; and
//! EL2's memory for the host is within the limit. At the end another kernel starts and receives interrupts.

mod action;
mod machines;
pub mod seeds;
mod value;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use gic_guard::limits::MAX_DEVICE_BYTES;
use gic_guard::platform::Frame;
use gic_guard::{AccessSize, WriteOutcome};
use gic_model::{Hazard, Place};

pub use action::{Action, Run};
use machines::{TakeOverResult, machine};

use crate::{Cmd, PROP, RING, Rig, inv, mapd, mapti, r, sync, take_over};

/// A description of an error.
pub type Finding = String;

/// The state of a run: a host and its machine.
struct Execution {
    rig: Rig,
    /// Whether hardware works. Then every command that the guard writes must be valid.
    working: bool,
    /// Whether EL2's limits were lowered; then another kernel need not receive interrupts.
    reduced: bool,
    quiesced: bool,
    /// Bytes of the pool that EL2 uses independently of the host.
    base: usize,
    /// Words of the host's memory that EL2 has read in this trap.
    seen: Rc<RefCell<BTreeSet<u64>>>,
    racing: Rc<Cell<bool>>,
    last: Vec<u64>,
}

/// Executes a run.
///
/// # Errors
/// The first error, and the action after which it occurred. Panics if work exceeds the bounds or the guard has a
/// defect.
pub fn execute(run: &Run) -> Result<(), Finding> {
    let (config, expected) = machine(run.machine, run.seed);
    let mut rig = match (take_over(config), expected) {
        (Ok(rig), TakeOverResult::Accepted | TakeOverResult::Failing) => rig,
        (Err(error), TakeOverResult::Refused) if !error.to_string().is_empty() => return Ok(()),
        (Err(_), TakeOverResult::Refused) => return Err("a machine is refused with an empty error".to_owned()),
        (Ok(_), TakeOverResult::Refused) => return Err(format!("taken over: {config:?}")),
        (Err(error), TakeOverResult::Accepted | TakeOverResult::Failing) => return Err(format!("{error}: {config:?}")),
    };
    if rig.board.0.was_quiet.get() != Some(true) {
        return Err("EL2 gave memory to a GIC that was not quiescent".to_owned());
    }
    let (seen, racing) = (Rc::<RefCell<BTreeSet<u64>>>::default(), Rc::<Cell<bool>>::default());
    let (seen_too, racing_too) = (Rc::clone(&seen), Rc::clone(&racing));
    rig.host.on_read = Some(Box::new(move |memory, at| {
        // The host changes each word after its first read.
        if racing_too.get() && !seen_too.borrow_mut().insert(at) {
            memory.write64(at, memory.read64(at) ^ 0xffff_0000_0000_0007);
        }
    }));
    let (base, last) = (rig.live(), vec![0; config.its]);
    let working = expected == TakeOverResult::Accepted;
    let mut execution = Execution { rig, working, reduced: false, quiesced: false, base, seen, racing, last };
    for (number, action) in run.actions.iter().enumerate() {
        let result = execution.act(*action).and_then(|()| execution.check());
        result.map_err(|what| format!("{what}, after action {number}, {action:?}, on {config:?}"))?;
    }
    execution.finish()
}

impl Execution {
    fn its(&self, byte: u8) -> usize {
        usize::from(byte) % self.rig.config.its
    }

    fn cpu(&self, byte: u8) -> usize {
        usize::from(byte) % self.rig.config.cpus
    }

    /// Stores to a register. The store is repeated until it is complete, or up to `times` times if `times` is not zero.
    fn store(&mut self, frame: Frame, offset: u32, size: AccessSize, value: u64, times: u8) -> Result<(), Finding> {
        let most = if times == 0 { 4000 } else { u32::from(times) };
        for _ in 0..most {
            self.seen.borrow_mut().clear();
            if self.rig.once(frame, offset, size, value) == WriteOutcome::Done {
                return self.is_off(frame, offset, size, value);
            }
        }
        if times == 0 { Err("a store is not complete after 4000 repetitions".to_owned()) } else { Ok(()) }
    }

    /// Checks that an enable bit reads as 0 after 0 was stored.
    fn is_off(&mut self, frame: Frame, offset: u32, size: AccessSize, value: u64) -> Result<(), Finding> {
        let cleared = offset == r::CTLR && size == AccessSize::Word && value & 1 == 0;
        if cleared && self.rig.read(frame, offset, size) & 1 == 1 {
            return Err(format!("the enable of {frame:?} stays 1"));
        }
        Ok(())
    }

    fn queue(&mut self, its: usize, command: Cmd) {
        self.last[its] = self.rig.ring(its) + self.rig.tail[its];
        self.rig.queue(its, &[command]);
    }

    fn post(&mut self, its: usize, how: u8, times: u8) -> Result<(), Finding> {
        let (size, value) = match how & 3 {
            0 => (AccessSize::Double, self.rig.tail[its]),
            1 => (AccessSize::Word, self.rig.tail[its]),
            2 => (AccessSize::Double, self.rig.tail[its] | 1),
            _ => (AccessSize::Double, self.rig.tail[its].wrapping_add(u64::from(how) << 5 | 1 << 1)),
        };
        self.store(Frame::Its(its), r::CWRITER, size, value, times)
    }

    fn act(&mut self, action: Action) -> Result<(), Finding> {
        match action {
            Action::Load { frame, at, size } => {
                let (frame, offset, size) = value::access(&self.rig.config, frame, at, size);
                self.rig.read(frame, offset, size);
            }
            Action::Store { frame: bits, at, size, value, low } => {
                let (frame, offset, size) = value::access(&self.rig.config, bits, at, size);
                let value = value::value(value, low);
                let value = if size == AccessSize::Word && offset & 4 == 4 { value >> 32 } else { value };
                self.store(frame, offset, size, value, bits >> 7)?;
            }
            Action::Command { what, device, event, lpi, icid } => {
                let its = value::its_of(&self.rig.config, what);
                self.queue(its, value::command(what, [device, event, lpi, icid], [0; 3]));
            }
            Action::Forge { its, word, shift, byte } => {
                let at = self.last[self.its(its)] + u64::from(word & 3) * 8;
                if self.rig.host.owns(at) {
                    let memory = self.rig.board.memory();
                    memory.write64(at, memory.read64(at) ^ u64::from(byte) << (shift & 0x38));
                }
            }
            Action::Many { what, device, event, count, step } => self.many(what, [device, event], count, step)?,
            Action::Post { its, how, times } => self.post(self.its(its), how, times)?,
            Action::Configure { lpi, byte } => {
                let lpi = value::lpi(lpi & 0x7f);
                self.rig.configure(lpi, byte);
            }
            Action::Donate { page } => {
                if page & 0x80 != 0 {
                    self.rig.host.donated.clear();
                } else {
                    let pages = [PROP, RING, RING + 0x1000, RING + 0xf000];
                    self.rig.host.donated.insert(pages[usize::from(page) % pages.len()]);
                }
            }
            Action::StartIts { its } => self.start_its(self.its(its)),
            Action::StartCpu { cpu } => self.start_cpu(self.cpu(cpu))?,
            Action::EnableIts { its, on } => {
                self.store(Frame::Its(self.its(its)), r::CTLR, AccessSize::Word, u64::from(on & 1), on >> 1 & 3)?;
            }
            Action::EnableLpis { cpu, on } => {
                let value = u64::from(on & 1) | u64::from(on >> 5) << 24;
                self.store(Frame::Rd(self.cpu(cpu)), r::CTLR, AccessSize::Word, value, on >> 1 & 3)?;
            }
            Action::Raise { its, device, event, count } => self.raise(self.its(its), device, event, count)?,
            Action::Race { on } => self.racing.set(on & 1 == 1),
            Action::LosePower { cpu, how } => {
                let cpu = self.cpu(cpu);
                let bits = if how & 1 == 1 { 32 } else { 52 };
                self.rig.model().lose_power(cpu, |config| config.rd_address_bits = bits);
                self.working = false;
            }
            Action::Fail { what, after } => self.fail(what, after),
            Action::Pool { left } => {
                let left = if left == u8::MAX { usize::MAX } else { usize::from(left) };
                self.rig.board.0.allocations.set(left);
            }
            Action::Limit { to } => {
                self.rig.guard.limit_memory((usize::from(to) + 1) << 16);
                self.reduced = true;
            }
            Action::Wake { its, cpu, how } => self.wake(self.its(its), self.cpu(cpu), how),
            Action::Quiesce {} => {
                let _ = self.rig.guard.quiesce();
                self.rig.model().change(|config| config.stays_quiet = true);
                self.quiesced = true;
            }
        }
        Ok(())
    }

    fn many(&mut self, what: u8, numbers: [u8; 2], count: u8, step: u8) -> Result<(), Finding> {
        let its = value::its_of(&self.rig.config, what);
        let [device, event] = numbers;
        for n in 0..=u64::from(count) {
            let added = [0, 1, 2].map(|bit| if step >> bit & 1 == 1 { n } else { 0 });
            self.queue(its, value::command(what, [device, event, step >> 4, step >> 3 & 1], added));
        }
        self.post(its, 0, 0)
    }

    fn start_its(&mut self, its: usize) {
        if self.rig.guard.failed(its).is_none() && !self.quiesced {
            self.seen.borrow_mut().clear();
            self.racing.set(false);
            self.rig.linux_its(its);
        }
    }

    fn start_cpu(&mut self, cpu: usize) -> Result<(), Finding> {
        let frame = Frame::Rd(cpu);
        self.store(frame, r::WAKER, AccessSize::Word, 0, 0)?;
        self.store(frame, r::PROPBASER, AccessSize::Double, r::RD_WB | PROP | 15, 0)?;
        self.store(frame, r::CTLR, AccessSize::Word, 1, 0)
    }

    fn raise(&mut self, its: usize, device: u8, event: u8, count: u8) -> Result<(), Finding> {
        // Earlier LPIs were delivered while LPIs were enabled, or were already reported.
        self.rig.delivered();
        for n in 0..=u64::from(count & 7) {
            self.rig.model().translate(its, value::device(device), value::event(event) + n);
        }
        for (cpu, lpi) in self.rig.delivered() {
            if self.rig.rd32(cpu, r::CTLR) & 1 == 0 && self.working {
                return Err(format!("LPI {lpi} reached CPU {cpu}, on which LPIs are disabled"));
            }
        }
        Ok(())
    }

    fn wake(&mut self, its: usize, cpu: usize, how: u8) {
        // An enabled ITS loses late writes, and an ITS without a collection table loses its collections.
        let lost = self.rig.model().read32(Place::Its(its), r::CTLR) & 1 == 1 || !self.rig.config.collection_table;
        self.working &= !lost;
        self.rig.model().lose_its(its);
        if how & 1 == 1 && !self.quiesced {
            self.rig.model().write32(Place::Its(its), r::CTLR, 1);
        }
        self.rig.guard.check_alive(Some(cpu));
    }

    fn fail(&mut self, what: u8, after: u8) {
        self.working = false;
        let after = u64::from(after & 0x3f);
        self.rig.model().change(|config| match what % 4 {
            0 => config.stops_after = Some((usize::from(what >> 2) % config.its, after)),
            1 => config.stalls = Some((after & 0xf, 1 + u32::from(what >> 4))),
            2 => config.never_quiescent = true,
            _ => config.stays_off = true,
        });
    }

    fn check(&mut self) -> Result<(), Finding> {
        let hazards = self.rig.model().hazards();
        let mut bad =
            hazards.iter().filter(|hazard| self.working || matches!(hazard, Hazard::Foreign(..) | Hazard::Enabled));
        if let Some(hazard) = bad.next() {
            return Err(format!("{hazard:?}"));
        }
        if let Some(reach) = self.rig.model().foreign().first() {
            return Err(format!("hardware can access {reach:x?}"));
        }
        self.rig.audit().map_err(|finding| finding.to_string())?;
        if self.rig.live() - self.base > MAX_DEVICE_BYTES {
            return Err(format!("EL2 uses {:#x} bytes for the host", self.rig.live() - self.base));
        }
        let _ = self.rig.guard.stats();
        for its in 0..self.rig.config.its {
            let failed = self.rig.guard.failed(its).map(|error| error.to_string());
            if let Some(error) = failed.filter(|_| self.working) {
                return Err(format!("ITS {its} failed: {error}"));
            }
        }
        Ok(())
    }

    /// Checks that another kernel can start and receives interrupts. The last audit is complete.
    fn finish(mut self) -> Result<(), Finding> {
        self.rig.host.donated.clear();
        self.rig.host.on_read = None;
        self.rig.board.0.allocations.set(usize::MAX);
        if !self.working || self.reduced || self.quiesced {
            return self.rig.audit_all().map_err(|finding| finding.to_string());
        }
        for its in 0..self.rig.config.its {
            self.rig.linux_its(its);
        }
        for cpu in 0..self.rig.config.cpus {
            self.rig.set_rd32(cpu, r::CTLR, 0);
            self.rig.linux_cpu(cpu);
        }
        self.rig.delivered();
        for its in 0..self.rig.config.its {
            let lpi = 8192 + its as u64;
            self.rig.configure(lpi, 0xa1);
            self.rig.post(its, &[mapd(8, 3), mapti(8, 0, lpi, 0), inv(8, 0), sync(0)]);
            let delivered = self.rig.raise(its, 8, 0);
            if delivered != [(0, 8192 + its as u32)] {
                return Err(format!("another kernel received {delivered:?} from ITS {its}"));
            }
        }
        self.check()?;
        self.rig.audit_all().map_err(|finding| finding.to_string())
    }
}

thread_local! {
    static ACTION_COUNT: ActionCount = const { ActionCount(Cell::new(0)) };
}

/// The number of actions of all runs; printed when the program ends.
struct ActionCount(Cell<u64>);

impl Drop for ActionCount {
    fn drop(&mut self) {
        eprintln!("stat::number_of_actions: {}", self.0.get());
    }
}

/// Executes `bytes` for the fuzz target. `PORTCULLIS_SHOW` in the environment prints the actions.
///
/// # Panics
/// If the run finds an error.
pub fn fuzz(bytes: &[u8]) {
    let run = Run::decode(bytes);
    if std::env::var_os("PORTCULLIS_SHOW").is_some() {
        println!("machine {}, seed {}: {:?}", run.machine, run.seed, machine(run.machine, run.seed));
        for (number, action) in run.actions.iter().enumerate() {
            println!("{number:4} {action:?}");
        }
    }
    ACTION_COUNT.with(|count| count.0.set(count.0.get() + u64::try_from(run.actions.len()).unwrap_or(0)));
    if let Err(finding) = execute(&run) {
        panic!("{finding}");
    }
}
