//! A machine: RAM and SMMUs, with or without EL2.

mod domains;
mod guest_table;
mod invariant;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use io_pgtable::{Bbm, Cfg, Ipa};
use mem_protect::{
    Error, Owner as PageOwner, Ownership, PAGE_BYTES, PageInfo, PageMap, PageRange, Transition, UncheckedRange,
};
use shadow_s2::ShadowS2;
use smmu_drv::platform::WiredIrq;
use smmu_drv::{AccessSize, Coherency, HostedSmmu, ProbeConfig, Probed, WriteOutcome};
use smmu_model::{Bbml, Memory, Model, Region, Snoop, Transfer, WriteBuffer};

use crate::bus::{Bus, Damage, Pool, StoreHook};
use crate::cpu::Cpu;
use crate::defects::{self, Defect, UNDEFENDED};
use crate::layout;
use crate::owner::{Dma, Drivers, Mirror, Owner};
use crate::pages::{LoadHook, Pages};
use crate::setup::{Guard, Setup};
use domains::Domains;
use invariant::Checked;

pub use domains::{DomainId, NotAssigned, StreamUser};
pub use invariant::Breach;

pub(crate) struct El2 {
    pub(crate) owner: Owner,
    pub(crate) drivers: Drivers,
}

/// The machine.
pub struct Machine {
    /// Physical memory.
    pub mem: Memory,
    /// The SMMUs.
    pub models: Vec<Rc<RefCell<Model>>>,
    /// EL2's pool.
    pub pool: Pool,
    /// Hook for every store of the drivers.
    pub store_hook: StoreHook,
    /// Interrupts that EL2 raised for the host.
    pub irqs: Rc<RefCell<Vec<WiredIrq>>>,
    /// Number of repetitions of the last store.
    pub repeats: u32,
    pub(crate) el2: Option<El2>,
    pub(crate) foreign: BTreeSet<u64>,
    /// If set, the drivers' buffers are not cleaned.
    pub skip_cleans: Rc<Cell<bool>>,
    /// Corrupted reads of EL2's buffers.
    pub damage: Damage,
    defect: Rc<Cell<Defect>>,
    pages: Pages,
    setup: Setup,
    domains: Domains,
    pub(crate) checked: RefCell<Checked>,
}

impl Machine {
    /// A machine not touched by firmware.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        Self::after_firmware(setup, |_| {})
    }

    /// A machine whose firmware configured each SMMU before EL2.
    #[must_use]
    pub fn after_firmware(setup: &Setup, firmware: impl Fn(&mut Model)) -> Self {
        Self::with_store_hook(setup, firmware, StoreHook::default())
    }

    /// The same, with the store hook active from the first store of EL2.
    #[must_use]
    pub fn with_store_hook(setup: &Setup, firmware: impl Fn(&mut Model), store_hook: StoreHook) -> Self {
        let mem = Memory::new(setup.config.snoop);
        mem.add(layout::RAM, layout::RAM_BYTES, Region::Ram);
        for device in [layout::GIC, layout::TRANSLATER, layout::SMMU, layout::UART, layout::BAR, layout::ECAM] {
            let bytes = if device == layout::GIC { 0x9_0000 } else { 0x1_0000 };
            mem.add(device, bytes, Region::Mmio);
        }
        let models: Vec<_> = (0..setup.smmus)
            .map(|_| {
                let mut model = Model::new(setup.config.clone(), mem.clone());
                firmware(&mut model);
                Rc::new(RefCell::new(model))
            })
            .collect();
        let mut machine = Self {
            pages: Pages::new(mem.clone()),
            mem,
            models,
            pool: Pool::default(),
            store_hook,
            irqs: Rc::default(),
            repeats: 0,
            el2: None,
            foreign: (layout::EL2..layout::EL2 + layout::EL2_BYTES).step_by(4096).collect(),
            skip_cleans: Rc::default(),
            damage: Damage::default(),
            defect: Rc::new(Cell::new(defects::revocation_defect())),
            setup: setup.clone(),
            domains: Domains::default(),
            checked: RefCell::default(),
        };
        machine.mem.cpu_write64(layout::SECRET, CANARY);
        machine.mem.clean(layout::SECRET..layout::SECRET + 8);
        if setup.guard == Guard::El2 {
            machine.boot();
        }
        machine
    }

    fn boot(&mut self) {
        let mirror = Mirror::new(self.mem.clone(), self.walks_snoop());
        let drivers = Drivers::default();
        let owner = self.protect(storage(), mirror, drivers.clone());
        let stage2 = owner.dma().config(self.setup.vmid);
        let stores = Rc::new(WriteBuffer::new(self.mem.clone()));
        for model in &self.models {
            let bus = Bus::new(
                model.clone(),
                stores.clone(),
                self.pool.clone(),
                self.store_hook.clone(),
                self.irqs.clone(),
                self.skip_cleans.clone(),
                self.damage.clone(),
            );
            let coherent = if self.walks_snoop() { Coherency::Coherent } else { Coherency::NonCoherent };
            let config =
                ProbeConfig { msi: self.setup.msi, cmdq_log2: self.setup.cmdq_log2, ..ProbeConfig::new(coherent) };
            let probed = match Probed::probe(bus, config) {
                Ok(probed) => probed,
                Err(error) => panic!("probe: {error}"),
            };
            match probed.take_over_with_host(stage2, Default::default()) {
                Ok(smmu) => drivers.borrow_mut().push(smmu),
                Err(error) => panic!("take-over: {error}"),
            }
        }
        self.el2 = Some(El2 { owner, drivers });
    }

    fn walks_snoop(&self) -> bool {
        self.setup.config.snoop == Snoop::Coherent
    }

    /// Builds the ownership map and both stage 2 tables. All memory except EL2's belongs to the host.
    pub(crate) fn protect(&self, storage: &'static mut [PageInfo], mut mirror: Mirror, drivers: Drivers) -> Owner {
        let mut cpu = Cpu::default();
        cpu.add(range(layout::RAM, layout::EL2 - layout::RAM));

        let config = &self.setup.config;
        let bbm = match config.bbml {
            Bbml::Level0 => Bbm::Level0,
            Bbml::Level1 => Bbm::Level1,
            Bbml::Level2 => Bbm::Level2,
        };
        let bits = config.oas_bits().min(48);
        let cfg = Cfg { coherent_walk: self.walks_snoop(), bbm, ..Cfg::new(40.min(bits), bits) };
        let Ok(mut shadow) = ShadowS2::new(cfg, mirror.reset()) else { panic!("shadow table") };
        let memory = PageRange::covering(Ipa(layout::RAM), layout::EL2 - layout::RAM);
        let registers = PageRange::covering(Ipa(layout::TRANSLATER), layout::TRANSLATER_BYTES);
        if shadow.snapshot(memory, registers).is_err() {
            panic!("snapshot");
        }
        mirror.begin();
        let dma = Dma::new(shadow, mirror, drivers, self.defect.clone(), self.models.clone());
        self.new_owner(storage, cpu, dma)
    }

    /// The ownership map in its state at boot, with matching tables.
    pub(crate) fn new_owner(&self, storage: &'static mut [PageInfo], cpu: Cpu, dma: Dma) -> Owner {
        let ram = range(layout::RAM, layout::RAM_BYTES);
        let Ok(mut map) = PageMap::new(storage, &[ram]) else { panic!("page map") };
        map.reserve(range(layout::EL2, layout::EL2_BYTES), PageOwner::Hyp);
        Owner::new(Ownership::new(map, cpu, dma, self.pages.clone(), 4096))
    }

    /// Resets the test settings of the machine to those of a new one.
    pub(crate) fn reset_settings(&mut self) {
        self.irqs.borrow_mut().clear();
        self.repeats = 0;
        self.skip_cleans.set(false);
        self.damage.set(None);
        self.defect.set(defects::revocation_defect());
        self.pages.reset();
        self.domains = Domains::default();
        self.checked.get_mut().reset();
    }

    /// Sets the defect of revocations.
    pub fn set_defect(&mut self, defect: Defect) {
        if defect != Defect::None {
            println!("{}", UNDEFENDED);
        }
        self.defect.set(defect);
    }

    /// The driver of SMMU `n`.
    ///
    /// # Panics
    /// Without EL2.
    pub fn driver<T>(&mut self, n: usize, with: impl FnOnce(&mut HostedSmmu<Bus, Owner>, &mut Owner) -> T) -> T {
        let Some(el2) = &mut self.el2 else { panic!("no EL2") };
        with(&mut el2.drivers.borrow_mut()[n], &mut el2.owner)
    }

    /// The ownership map of EL2.
    pub fn owner(&mut self) -> &mut Owner {
        match &mut self.el2 {
            Some(el2) => &mut el2.owner,
            None => panic!("no EL2"),
        }
    }

    /// A load of the host from SMMU `n`.
    pub fn read(&mut self, n: usize, offset: u32, size: AccessSize) -> u64 {
        match &mut self.el2 {
            Some(el2) => el2.drivers.borrow_mut()[n].mmio_read(&mut el2.owner, offset, size),
            None => {
                let mut model = self.models[n].borrow_mut();
                match size {
                    AccessSize::Double => model.read64(offset),
                    AccessSize::Word => u64::from(model.read32(offset)),
                    AccessSize::Byte | AccessSize::Half => 0,
                }
            }
        }
    }

    /// A store of the host to SMMU `n`, repeated until it is complete.
    pub fn write(&mut self, n: usize, offset: u32, size: AccessSize, value: u64) {
        self.repeats = 0;
        let Some(el2) = &mut self.el2 else {
            let mut model = self.models[n].borrow_mut();
            match size {
                AccessSize::Double => model.write64(offset, value),
                AccessSize::Word => model.write32(offset, u32::try_from(value & 0xffff_ffff).unwrap_or(0)),
                AccessSize::Byte | AccessSize::Half => {}
            }
            return;
        };
        while el2.drivers.borrow_mut()[n].mmio_write(&mut el2.owner, offset, size, value) == WriteOutcome::Again {
            self.repeats += 1;
            assert!(self.repeats < 2_000, "a store to {offset:#x} is never complete");
        }
    }

    /// A store of the host to SMMU `n`, executed once. Only with EL2.
    pub fn write_once(&mut self, n: usize, offset: u32, size: AccessSize, value: u64) -> WriteOutcome {
        self.driver(n, |smmu, owner| smmu.mmio_write(owner, offset, size, value))
    }

    /// A 32-bit load.
    pub fn read32(&mut self, n: usize, offset: u32) -> u32 {
        u32::try_from(self.read(n, offset, AccessSize::Word)).unwrap_or(u32::MAX)
    }

    /// A 32-bit store.
    pub fn write32(&mut self, n: usize, offset: u32, value: u32) {
        self.write(n, offset, AccessSize::Word, u64::from(value));
    }

    /// A 64-bit store.
    pub fn write64(&mut self, n: usize, offset: u32, value: u64) {
        self.write(n, offset, AccessSize::Double, value);
    }

    /// The device `sid` behind SMMU `n` writes a byte.
    pub fn dma_write(&mut self, n: usize, sid: u32, iova: u64, byte: u8) -> Transfer {
        self.models[n].borrow_mut().dma_write(sid, None, iova, &[byte])
    }

    /// The device `sid` behind SMMU `n` reads a byte.
    pub fn dma_read(&mut self, n: usize, sid: u32, iova: u64) -> (Transfer, u8) {
        let mut data = [0];
        let transfer = self.models[n].borrow_mut().dma_read(sid, None, iova, &mut data);
        (transfer, data[0])
    }

    /// The host gives pages to EL2. Without EL2 only the ownership map changes.
    ///
    /// # Errors
    /// Those of the ownership map.
    pub fn donate(&mut self, pa: u64, pages: u64) -> Result<(), Error> {
        match &mut self.el2 {
            Some(el2) => {
                let range = UncheckedRange { pfn: pa / PAGE_BYTES, count: pages };
                el2.owner.apply(Transition::HostDonateHyp(range)).map(drop)
            }
            None => {
                self.foreign.extend((pa..pa + pages * PAGE_BYTES).step_by(4096));
                Ok(())
            }
        }
    }

    /// EL2 returns donated pages to the host.
    ///
    /// # Errors
    /// Those of the ownership map.
    pub fn return_pages(&mut self, pa: u64, pages: u64) -> Result<(), Error> {
        match &mut self.el2 {
            Some(el2) => {
                let range = UncheckedRange { pfn: pa / PAGE_BYTES, count: pages };
                el2.owner.apply(Transition::HypDonateHost(range)).map(drop)
            }
            None => {
                self.foreign.retain(|page| !(pa..pa + pages * PAGE_BYTES).contains(page));
                Ok(())
            }
        }
    }

    /// The hook that runs after each word of host memory that EL2 reads: another CPU may act in it.
    #[must_use]
    pub fn load_hook(&self) -> LoadHook {
        self.pages.load_hook()
    }

    /// Number of lines that EL2 cleaned and invalidated.
    pub(crate) fn cleaned_lines(&self) -> u64 {
        self.pages.cleaned_lines()
    }

    /// Numbers of pages that EL2 mapped and of words that it fetched.
    pub(crate) fn page_work(&self) -> (u64, u64) {
        self.pages.work()
    }

    /// Claims that EL2 holds on host pages.
    pub fn claims(&mut self) -> u64 {
        let pages = self.owner().map().pages(range(layout::RAM, layout::RAM_BYTES));
        let claimed = |pages: &[PageInfo]| pages.iter().map(|page| u64::from(page.claims())).sum::<u64>();
        // Most pages belong to the host and have no claims.
        let parts = pages.into_iter().flat_map(|pages| pages.chunks(64));
        parts.filter(|part| !PageInfo::are_plain(part)).map(claimed).sum()
    }

    /// Whether the page of [`layout::SECRET`] is unchanged.
    #[must_use]
    pub fn secret_intact(&self) -> bool {
        self.mem.cpu_read64(layout::SECRET) == CANARY && self.mem.dev_read64(layout::SECRET) == Ok(CANARY)
    }

    /// Lets every SMMU complete its pending work.
    pub fn settle(&mut self) {
        for model in &self.models {
            model.borrow_mut().run_to_idle();
        }
    }
}

thread_local! {
    /// Reusable storage of ownership maps of dropped machines: a map needs `'static` storage.
    static STORAGE: RefCell<Vec<&'static mut [PageInfo]>> = const { RefCell::new(Vec::new()) };
}

/// Storage for an ownership map.
fn storage() -> &'static mut [PageInfo] {
    let pages = usize::try_from(layout::RAM_BYTES / PAGE_BYTES).unwrap_or(0);
    let used = STORAGE.with_borrow_mut(Vec::pop);
    used.unwrap_or_else(|| Box::leak(vec![PageInfo::default(); pages].into_boxed_slice()))
}

impl Drop for Machine {
    fn drop(&mut self) {
        let Some(El2 { owner, .. }) = self.el2.take() else { return };
        let (map, ..) = owner.into_inner().into_parts();
        // At thread exit the cache may already be gone.
        let _ = STORAGE.try_with(|kept| kept.borrow_mut().push(map.into_storage()));
    }
}

/// The content of [`layout::SECRET`].
pub const CANARY: u64 = 0x5ec7_e75e_c7e7_5ec7;

pub(crate) fn range(start: u64, bytes: u64) -> PageRange {
    match PageRange::covering(Ipa(start), bytes) {
        Some(range) => range,
        None => panic!("bad range {start:#x}"),
    }
}
