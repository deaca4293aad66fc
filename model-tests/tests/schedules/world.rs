//! The machine of one schedule: memory, SMMUs, EL2's locks, and the pages of other owners.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use io_pgtable::{Bbm, Cfg, HeapMemory, Ipa, Pa};
use mem_protect::{HostPages, Owner as PageOwner, Ownership, PAGE_BYTES, PageInfo, PageMap, PageRange};
use shadow_s2::ShadowS2;
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;
use smmu_drv::{AccessSize, Coherency, HostedSmmu, MsiAdvert, ProbeConfig, Probed, WriteOutcome};
use smmu_model::{Bbml, Config, Memory, Model, Pace, Region, WriteBuffer};

use crate::bus::{Bus, Pool};
use crate::faults::{Fault, fault};
use crate::locks::{self, Lock, Rank};
use crate::streams::{self, User};
use crate::tables::{Cpu, Dma, Pages};

/// The host's memory.
pub(crate) const RAM: u64 = 0x4000_0000;
/// EL2's memory: tables, then buffers.
pub(crate) const EL2: u64 = 0x4020_0000;
/// Size of EL2's memory in bytes.
pub(crate) const EL2_BYTES: u64 = 0x10_0000;
/// Tables of the IOMMU stage 2.
pub(crate) const TABLES: u64 = EL2;
/// Size of that memory in bytes.
pub(crate) const TABLES_BYTES: u64 = 0x8000;
/// Buffers of the drivers.
pub(crate) const POOL: u64 = EL2 + 0x2_0000;
/// Size of that memory in bytes.
pub(crate) const POOL_BYTES: u64 = EL2_BYTES - 0x2_0000;
/// VMID of the host's streams.
pub(crate) const VMID: u16 = 1;
/// Number of SMMUs: one that the host attacks, and one that it uses correctly.
pub(crate) const SMMUS: usize = 2;
/// Streams that are checked.
pub(crate) const SIDS: [u32; 3] = [0, 1, 5];

/// The ownership map with its tables.
pub(crate) type Owner = Ownership<'static, Cpu, Dma, Pages>;

/// The driver of one SMMU.
pub(crate) type Driver = HostedSmmu<Bus, HostPages<'static, Pages>>;

/// The machine.
pub(crate) struct World {
    pub(crate) mem: Memory,
    /// Stores of EL2's CPUs to buffers, which others see in any order until a barrier.
    pub(crate) stores: WriteBuffer,
    pub(crate) models: Vec<RefCell<Model>>,
    pub(crate) pool: Lock<Pool>,
    /// Numbers of the pages that the host's CPUs reach.
    pub(crate) cpu_pages: RefCell<BTreeSet<u64>>,
    /// Pages, by address, whose donation has returned.
    pub(crate) foreign: RefCell<BTreeSet<u64>>,
    /// The owner of stream [`streams::SID`] of each SMMU.
    users: Cell<[User; SMMUS]>,
    /// Whether the schedule has ended.
    pub(crate) ended: Cell<bool>,
    ownership: OnceCell<Lock<Owner>>,
    smmus: OnceCell<Vec<Lock<Driver>>>,
    points: Cell<u64>,
    /// Number of scheduling points between two checks of the invariant.
    interval: u64,
}

thread_local! {
    /// All threads of shuttle run on one system thread.
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// The machine of the running schedule.
pub(crate) fn world() -> Rc<World> {
    WORLD.with_borrow(|world| world.clone()).unwrap_or_else(|| panic!("no machine"))
}

/// A scheduling point: the scheduler may switch to another thread here.
pub(crate) fn scheduling_point() {
    if std::thread::panicking() {
        return;
    }
    thread::sleep(Duration::ZERO);
    let world = world();
    world.points.set(world.points.get() + 1);
    if world.points.get().is_multiple_of(world.interval) {
        world.check();
    }
}

/// Shape of the IOMMU stage 2 and of the host's stream table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// 64 pages in 4 KiB leaves, a linear stream table.
    Leaves,
    /// The same with a stream table of two levels.
    TwoLevel,
    /// A 2 MiB block that is split and coalesced.
    Block,
}

impl Shape {
    fn pages(self) -> u64 {
        match self {
            Self::Leaves | Self::TwoLevel => 64,
            Self::Block => 512,
        }
    }

    /// Number of scheduling points between two checks: more leaves make a check longer.
    fn interval(self) -> u64 {
        match self {
            Self::Leaves => 64,
            Self::TwoLevel => 256,
            Self::Block => 1024,
        }
    }

    fn config(self) -> Config {
        let base = Config { pace: Pace::Lazy, seed: thread_rng().r#gen(), ..Config::qemu() };
        match self {
            Self::Leaves => Config { two_level: false, sid_bits: 6, bbml: Bbml::Level0, ..base },
            Self::TwoLevel => Config { sid_bits: 9, bbml: Bbml::Level0, ..base },
            Self::Block => Config { two_level: false, sid_bits: 6, ..base },
        }
    }
}

fn range(start: u64, pages: u64) -> PageRange {
    PageRange::covering(Ipa(start), pages * PAGE_BYTES).unwrap_or_else(|| panic!("a range"))
}

/// Builds the machine and has EL2 take it over.
pub(crate) fn boot(shape: Shape) -> Rc<World> {
    locks::clear();
    let config = shape.config();
    let mem = Memory::new(config.snoop);
    mem.add(RAM, shape.pages() * PAGE_BYTES, Region::Ram);
    mem.add(EL2, EL2_BYTES, Region::Ram);
    let models = (0..SMMUS).map(|_| RefCell::new(Model::new(config.clone(), mem.clone()))).collect();
    let host = range(RAM, shape.pages());
    let world = Rc::new(World {
        stores: WriteBuffer::new(mem.clone()),
        mem,
        models,
        pool: Lock::new(Rank::Pool, Pool::default()),
        cpu_pages: RefCell::new(host.pfns().collect()),
        foreign: RefCell::default(),
        users: Cell::new([User::Host; SMMUS]),
        ended: Cell::new(false),
        ownership: OnceCell::new(),
        smmus: OnceCell::new(),
        points: Cell::new(0),
        interval: shape.interval(),
    });
    WORLD.with_borrow_mut(|slot| *slot = Some(world.clone()));

    let el2 = range(EL2, EL2_BYTES / PAGE_BYTES);
    let storage = vec![PageInfo::default(); usize::try_from(host.count() + el2.count()).unwrap_or(0)];
    let Ok(mut map) = PageMap::new(Box::leak(storage.into_boxed_slice()), &[host, el2]) else { panic!("page map") };
    map.reserve(el2, PageOwner::Hyp);
    let heap = HeapMemory::new(Pa(TABLES), usize::try_from(TABLES_BYTES).unwrap_or(0));
    let bbm = if config.bbml == Bbml::Level2 { Bbm::Level2 } else { Bbm::Level0 };
    let Ok(mut shadow) = ShadowS2::new(Cfg { bbm, ..Cfg::new(40, 40) }, heap.clone()) else { panic!("shadow") };
    assert_eq!(shadow.snapshot(PageRange::covering(host.ipa(), host.bytes()), []), Ok(()));
    let dma = Dma::new(shadow, heap);
    let stage2 = dma.config();
    let owner = Ownership::new(map, Cpu, dma, Pages, 64);
    let smmus = (0..SMMUS).map(|n| {
        let firmware = ProbeConfig { msi: MsiAdvert::WhenCoherent, ..ProbeConfig::new(Coherency::Coherent) };
        let Ok(probed) = Probed::probe(Bus::new(n), firmware) else { panic!("probe") };
        let Ok(smmu) = probed.take_over_with_host(stage2, Default::default()) else { panic!("take-over") };
        Lock::new(Rank::Smmu, smmu)
    });
    assert!(world.smmus.set(smmus.collect()).is_ok() && world.ownership.set(Lock::new(Rank::Ownership, owner)).is_ok());
    world
}

impl World {
    /// Sets the owner of stream [`streams::SID`] of SMMU `n`.
    pub(crate) fn set_user(&self, n: usize, user: User) {
        let mut users = self.users.get();
        users[n] = user;
        self.users.set(users);
    }

    /// The ownership lock, the first one in the lock order.
    pub(crate) fn ownership(&self) -> &Lock<Owner> {
        self.ownership.get().unwrap_or_else(|| panic!("before boot"))
    }

    /// The SMMUs; none before EL2 has taken them over.
    pub(crate) fn smmus(&self) -> &[Lock<Driver>] {
        self.smmus.get().map_or(&[], Vec::as_slice)
    }

    /// A load of the host from a register, emulated as in hyp's `trap::abort`.
    pub(crate) fn read(&self, n: usize, offset: u32, size: AccessSize) -> u64 {
        let smmu = &self.smmus()[n];
        let plain = smmu.lock().mmio_read_plain(offset, size);
        plain.unwrap_or_else(|| {
            let mut ownership = self.ownership().lock();
            smmu.lock().mmio_read(ownership.memory_mut(), offset, size)
        })
    }

    /// A store of the host to a register, as in hyp's `trap::locks`: repeated until complete, each time in its own
    /// trap.
    pub(crate) fn write(&self, n: usize, offset: u32, size: AccessSize, value: u64) {
        for _ in 0..1_000 {
            let smmu = &self.smmus()[n];
            let outcome = if matches!(fault(), Fault::SmmuFirst | Fault::SmmuFirstUnchecked) {
                let mut smmu = smmu.lock();
                let mut ownership = self.ownership().lock();
                smmu.mmio_write(ownership.memory_mut(), offset, size, value)
            } else {
                let mut ownership = self.ownership().lock();
                smmu.lock().mmio_write(ownership.memory_mut(), offset, size, value)
            };
            if outcome == WriteOutcome::Done {
                return;
            }
            scheduling_point();
        }
        panic!("a store to {offset:#x} is never complete");
    }

    /// A 32-bit store to a register.
    pub(crate) fn write32(&self, n: usize, offset: u32, value: u32) {
        self.write(n, offset, AccessSize::Word, u64::from(value));
    }

    /// A 64-bit store to a register.
    pub(crate) fn write64(&self, n: usize, offset: u32, value: u64) {
        self.write(n, offset, AccessSize::Double, value);
    }

    /// A 32-bit load from a register.
    pub(crate) fn read32(&self, n: usize, offset: u32) -> u32 {
        u32::try_from(self.read(n, offset, AccessSize::Word)).unwrap_or(u32::MAX)
    }

    /// The host's CPU stores to memory if the CPU stage 2 permits it. Returns whether it did.
    pub(crate) fn store(&self, pa: u64, value: u64) -> bool {
        scheduling_point();
        let reachable = self.cpu_pages.borrow().contains(&(pa / PAGE_BYTES));
        if reachable {
            self.mem.cpu_write64(pa, value);
        }
        reachable
    }

    /// Checks the invariant: in no legal behaviour does a stream reach EL2's memory or a page whose donation has
    /// returned.
    pub(crate) fn check(&self) {
        if self.smmus.get().is_none() {
            return;
        }
        let foreign = self.foreign.borrow();
        for (n, model) in self.models.iter().enumerate() {
            let model = model.borrow();
            streams::check(self, n, &model, self.users.get()[n]);
            for sid in SIDS.into_iter().filter(|sid| *sid != streams::SID) {
                for reached in model.reach(sid) {
                    let end = reached.pa.saturating_add(reached.size);
                    let page = foreign.range(reached.pa & !(PAGE_BYTES - 1)..end).next().copied();
                    let el2 = reached.pa < EL2 + EL2_BYTES && end > EL2;
                    let pa = page.or(el2.then_some(EL2));
                    assert!(pa.is_none(), "a foreign page is reachable: {pa:x?}, SMMU {n} stream {sid}: {reached:x?}");
                }
            }
        }
    }
}
