//! The hostile host: all actions of a host, its devices and its hardware, in any order, with the real
//! driver and ownership map.
//!
//! Property tests generate runs at random, fuzz targets by coverage; both are byte strings ([`Run`]) executed by
//! [`execute`]. After every action the machine is checked (see [`Finding`]): no stream reaches a byte outside the
//! host's memory in any behaviour that the architecture allows, all audits are clean, the hardware is not misused, and
//! the work per trap is bounded. At the end the host restarts its driver, which must work.
//!
//! ```
//! use model_tests::Defect;
//! use model_tests::hostile::{Action, ActionSet, Run, TRANSITIONS, Value, execute};
//!
//! // The host donates a page to EL2; its device must not write there any more.
//! let donate = Action::Transition { how: TRANSITIONS[0], page: Value::Word(0x4100_0000), count: 0 };
//! let run = Run { machine: 0, seed: 0, actions: vec![donate] };
//! assert_eq!(Run::decode(ActionSet::Everything, &run.encode(ActionSet::Everything)), run);
//! assert!(execute(&run, Defect::None).is_ok());
//! // Without the invalidation it still can, and the oracle detects it.
//! assert!(execute(&run, Defect::NoInvalidate).is_err());
//! ```

mod action;
mod action_set;
mod audits;
mod bypass_check;
mod codec;
mod costs;
mod damage;
mod fault;
mod finding;
mod machine_cache;
mod memory;
mod registers;
pub mod seeds;
mod setups;
mod streams;
mod value;

use std::cell::Cell;
use std::sync::LazyLock;

use mem_protect::{Transition, UncheckedRange};
use smmu_drv::AccessSize;
use smmu_model::{Access, Cache, Transfer};

pub use action::{Action, Cmd, Entry, Fault, NO_RANGE, Request, TRANSITIONS};
pub use action_set::ActionSet;
pub use codec::Run;
pub use finding::Finding;
pub use value::{ADDRESSES, Address, Half, Reg, SIDS, Value};

use crate::defects::{Defect, with_defects};
use audits::Audited;
use machine_cache::CachedMachine;
use value::pick;

/// CPUs of the host.
const CPUS: usize = 3;
/// Maximum guests.
const GUESTS: usize = 3;

/// A store that must be repeated.
#[derive(Clone, Copy, Debug)]
struct Pending {
    smmu: usize,
    offset: u32,
    size: AccessSize,
    value: u64,
}

/// The state of the host's driver of one SMMU.
#[derive(Clone, Copy, Debug, Default)]
struct Driver {
    /// The next value of CMDQ_PROD.
    prod: u32,
    /// Whether its last start used a 2-level table.
    two_level: bool,
    /// Whether a hardware failure was injected: EL2 may then mark the SMMU as failed.
    may_fail: bool,
    /// Whether it was quiesced: its streams then abort permanently.
    quiesced: bool,
}

/// The execution of one run: a machine and the state of its hostile host.
struct Execution {
    cached: CachedMachine,
    drivers: Vec<Driver>,
    cpus: [Option<Pending>; CPUS],
    guests: Vec<u64>,
    /// Number of EL2's stores at the last check; `None` if other state may have changed since.
    last_check: Option<u64>,
    audited: Audited,
    /// Number of checks.
    checks: u32,
    /// Whether a command or event failure was injected.
    injected: bool,
}

/// Result of a run without a finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Number of executed actions.
    pub actions: usize,
    /// Maximum stores of EL2 in one trap.
    pub worst_trap: u64,
}

/// Executes a run on a machine with this defect.
///
/// # Errors
/// The first finding.
pub fn execute(run: &Run, defect: Defect) -> Result<Summary, Finding> {
    let mut execution = Execution::new(CachedMachine::take(run.machine, run.seed), defect);
    let result = execution.run(run);
    execution.cached.put_back();
    result
}

impl Execution {
    fn new(mut cached: CachedMachine, defect: Defect) -> Self {
        if defect != Defect::None {
            cached.m.set_defect(defect);
        }
        let drivers = vec![Driver::default(); cached.m.models.len()];
        let audited = cached.audited();
        Self {
            cached,
            drivers,
            cpus: [None; CPUS],
            guests: Vec::new(),
            last_check: None,
            audited,
            checks: 0,
            injected: false,
        }
    }

    fn run(&mut self, run: &Run) -> Result<Summary, Finding> {
        let mut summary = Summary { actions: run.actions.len(), worst_trap: 0 };
        for (number, action) in run.actions.iter().enumerate() {
            let before = self.cached.bypass_check.stores();
            self.act(*action)?;
            summary.worst_trap = summary.worst_trap.max(self.cached.bypass_check.stores() - before);
            self.check().map_err(|finding| finding.at(number, action))?;
        }
        self.finish()?;
        Ok(summary)
    }

    fn smmu(&self, number: u8) -> usize {
        usize::from(number) % self.drivers.len()
    }

    fn act(&mut self, action: Action) -> Result<(), Finding> {
        match action {
            Action::Read { smmu, at, size } => {
                let before = self.cached.m.work();
                let _ = self.cached.m.read(self.smmu(smmu), at.offset(), size);
                self.bounded(before, at.offset())?;
            }
            Action::Write { cpu, smmu, at, size, value } => {
                let store = Pending { smmu: self.smmu(smmu), offset: at.offset(), size, value: value.get() };
                self.store(cpu, store)?;
            }
            Action::Resume { cpu } => self.resume(usize::from(cpu) % CPUS)?,
            Action::Abandon { cpu } => self.cpus[usize::from(cpu) % CPUS] = None,
            Action::Store { to, value } => self.store_if_hosts(to.pa(), value.get()),
            Action::Race { at, value } => self.race(at.pa(), value.get()),
            Action::Ste { smmu, sid, entry } => self.write_entry(self.smmu(smmu), pick(&SIDS, sid), entry),
            Action::Queue { smmu, cmd } => self.queue(self.smmu(smmu), cmd.words()),
            Action::WriteProd { cpu, smmu } => self.write_prod(cpu, self.smmu(smmu))?,
            Action::Start { smmu, shape } => self.start(self.smmu(smmu), shape)?,
            Action::Repair { smmu } => self.repair(self.smmu(smmu))?,
            Action::Events { smmu } => self.events(self.smmu(smmu))?,
            Action::Context { ssid, table } => self.context(ssid, table.pa()),
            Action::Map { page, to } => self.map(page, to.pa()),
            Action::Transition { how, page, count } => self.transition(how, page.get(), count),
            Action::Dma { smmu, sid, ssid, request, iova } => {
                self.dma(self.smmu(smmu), pick(&SIDS, sid), ssid, request, iova.get())?
            }
            Action::Time { steps } => {
                for model in &self.cached.m.models {
                    for _ in 0..steps {
                        if !model.borrow_mut().step() {
                            break;
                        }
                    }
                }
                self.last_check = None;
            }
            Action::Interrupt { smmu } => {
                let n = self.smmu(smmu);
                self.cached.m.driver(n, |smmu, owner| {
                    smmu.poll_events(owner);
                    while smmu.has_fault() && smmu.take_fault().is_some() {}
                });
            }
            Action::DropCaches => {
                for model in &self.cached.m.models {
                    model.borrow_mut().drop_caches();
                }
            }
            Action::Record { smmu, kind, sid, ssid, syndrome, input, fetched } => {
                let ssid = ssid.checked_sub(1).map_or(0, |ssid| 1 << 11 | u64::from(ssid) << 12);
                let set = |bit: u32, at: u32| u64::from(syndrome >> bit & 1) << at;
                let words = [
                    u64::from(kind) | ssid | u64::from(pick(&SIDS, sid)) << 32,
                    u64::from(syndrome & 3) << 40 | set(2, 39) | set(3, 35) | set(4, 34) | set(5, 33) | set(6, 31),
                    input.get(),
                    fetched.get(),
                ];
                let _ = self.cached.m.models[self.smmu(smmu)].borrow_mut().report(words);
                self.last_check = None;
            }
            Action::Fill { smmu, first, second, count } => self.fill(self.smmu(smmu), [first, second], count),
            Action::SteRange { smmu, entry, count } => {
                (0..count).for_each(|sid| self.write_entry(self.smmu(smmu), sid.into(), entry));
            }
            Action::Level1 { smmu, to, span, count } => self.level1(self.smmu(smmu), to.pa(), span, count),
            Action::ManyDma { smmu, sid, count } => {
                let mut model = self.cached.m.models[self.smmu(smmu)].borrow_mut();
                // Devices use current entries, as in `dma`; the oracle covers stale ones.
                let cache = model.set_cache(Cache::None);
                for n in 0..u32::from(count % 200) {
                    let _ = model.dma_write(pick(&SIDS, sid).wrapping_add(n), None, 0, &[1]);
                }
                model.set_cache(cache);
                drop(model);
                self.last_check = None;
            }
            Action::Damage { smmu, sid, word, bit } => self.damage(self.smmu(smmu), pick(&SIDS, sid), word, bit)?,
            Action::Assign { smmu, sid, count, guest } => {
                self.assign(self.smmu(smmu), streams::range(sid, count), guest)?
            }
            Action::Block { smmu, sid, count } => self.block(self.smmu(smmu), streams::range(sid, count))?,
            Action::Release { smmu, sid, count } => self.release(self.smmu(smmu), streams::range(sid, count))?,
            Action::Retire { domain } => self.retire(domain)?,
            Action::GuestPage { guest, page, how } => self.guest_page(guest, page.get(), how),
            Action::Fault { smmu, what, arg } => self.fault(self.smmu(smmu), what, arg),
        }
        Ok(())
    }

    fn transition(&mut self, how: Transition, page: u64, count: u8) {
        self.last_check = None;
        let count = [1, 2, 3, 1, 8, 512, 0, u64::MAX >> 12][usize::from(count % 8)];
        let range = UncheckedRange { pfn: page >> 12, count };
        let guest = self.guests.last().copied().unwrap_or(0);
        let m = &mut self.cached.m;
        // The ownership map's own tests cover its errors.
        match how {
            Transition::VmCreate if self.guests.len() >= GUESTS => {}
            Transition::VmDestroy(_) => {
                let _ = self.guests.pop();
                let _ = m.apply(how.with(range, guest));
            }
            _ => {
                if let Ok(Some(made)) = m.apply(how.with(range, guest)) {
                    self.guests.push(made.handle().into());
                }
            }
        }
    }

    fn dma(&mut self, n: usize, sid: u32, ssid: u8, request: Request, iova: u64) -> Result<(), Finding> {
        let ssid = ssid.checked_sub(1).map(u32::from);
        let mut model = self.cached.m.models[n].borrow_mut();
        // The oracle covers accesses through stale entries. Devices use the current entries, which needs no search.
        let cache = model.set_cache(Cache::None);
        let transfer = match request {
            Request::Write => model.dma_write(sid, ssid, iova, &[0xaa]),
            Request::Read => model.dma_read(sid, ssid, iova, &mut [0]),
            Request::Translated => model.dma_write_translated(sid, iova, &[0xaa]),
            Request::Translation => {
                let _ = model.ats_translate(sid, ssid, iova, Access::Write);
                Transfer::RazWi
            }
        };
        model.set_cache(cache);
        drop(model);
        self.check_transfer(n, sid, iova, &transfer)
    }
}

/// The number of actions of all runs; printed when the program ends.
struct ActionCount(Cell<u64>);

impl Drop for ActionCount {
    fn drop(&mut self) {
        eprintln!("stat::number_of_actions: {}", self.0.get());
    }
}

thread_local! {
    static ACTION_COUNT: ActionCount = const { ActionCount(Cell::new(0)) };
}

/// Executes `bytes` for a fuzz target. `PORTCULLIS_WITHOUT` in the environment names defects, as in [`with_defects`];
/// `PORTCULLIS_SHOW` prints the actions.
///
/// # Panics
/// On a finding.
pub fn fuzz(set: ActionSet, bytes: &[u8]) {
    static WITHOUT: LazyLock<Option<&'static str>> =
        LazyLock::new(|| std::env::var("PORTCULLIS_WITHOUT").ok().map(|words| &*words.leak()));
    let run = Run::decode(set, bytes);
    if std::env::var_os("PORTCULLIS_SHOW").is_some() {
        println!("machine {}, seed {}", run.machine, run.seed);
        for (number, action) in run.actions.iter().enumerate() {
            println!("{number:4} {action:x?}");
        }
    }
    ACTION_COUNT.with(|count| count.0.set(count.0.get() + u64::try_from(run.actions.len()).unwrap_or(0)));
    let result = match *WITHOUT {
        Some(words) => with_defects(words, || execute(&run, Defect::None)),
        None => execute(&run, Defect::None),
    };
    if let Err(finding) = result {
        panic!("{finding:?}");
    }
}
