//! The modelled machine: configuration space that behaves as specified, and a log of every other step.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::vec::Vec;

use arrayvec::ArrayVec;
use io_pgtable::Pa;
use mem_protect::GuestId;

use crate::boot_info::PhysRange;
use crate::boot_info::pci::{IdRange, MemoryWindow, PciHost};
use crate::pci::config::ConfigSpace;
use crate::pci::{Error, Machine, Rid, Segment, Stream};

/// Start of the window, on the bus and for the CPU.
pub(super) const BUS_WINDOW: u64 = 0x1000_0000;
pub(super) const CPU_WINDOW: u64 = 0x50_1000_0000;
pub(super) const NVME: Rid = Rid::of(0, 1, 0);
pub(super) const EDU: Rid = Rid::of(0, 2, 0);
pub(super) const PORT: Rid = Rid::of(0, 3, 0);
pub(super) const BEHIND: Rid = Rid::of(1, 0, 0);
pub(super) const NVME_BAR: u64 = BUS_WINDOW;
pub(super) const EDU_BAR: u64 = BUS_WINDOW + 0x10_0000;
/// Offset of the PCI Express capability of the NVMe.
pub(super) const EXPRESS: u16 = 0x80;
/// Time of a reset, in microseconds.
const RESET_US: u64 = 100_000;

/// One function.
#[derive(Clone, Default)]
pub(super) struct Function {
    pub(super) bytes: BTreeMap<u16, u8>,
    /// The writable bits of registers that are not writable as a whole.
    pub(super) masks: BTreeMap<u16, u32>,
    /// The time until which the function must not be accessed.
    pub(super) resetting: u64,
    pub(super) resets: u32,
}

impl Function {
    pub(super) fn get(&self, offset: u16) -> u32 {
        (0..4).fold(0, |word, n| word | u32::from(*self.bytes.get(&(offset + n)).unwrap_or(&0)) << (8 * n))
    }

    pub(super) fn set(&mut self, offset: u16, value: u32) {
        for (n, byte) in (0..4).zip(value.to_le_bytes()) {
            self.bytes.insert(offset + n, byte);
        }
    }
}

/// The buses.
#[derive(Clone, Default)]
pub(super) struct Bus {
    pub(super) functions: Rc<RefCell<BTreeMap<Rid, Function>>>,
    pub(super) now: Rc<Cell<u64>>,
}

impl Bus {
    pub(super) fn change(&self, rid: Rid, change: impl FnOnce(&mut Function)) {
        change(self.functions.borrow_mut().entry(rid).or_default());
    }

    pub(super) fn get(&self, rid: Rid, offset: u16) -> u32 {
        self.functions.borrow()[&rid].get(offset)
    }

    fn store(&self, rid: Rid, offset: u16, bytes: &[u8]) {
        let now = self.now.get();
        let mut functions = self.functions.borrow_mut();
        let Some(function) = functions.get_mut(&rid) else { return };
        assert!(function.resetting <= now, "{rid} is written while it is reset");
        for (at, &byte) in (offset..).zip(bytes) {
            let register = at & !3;
            let mask = function.masks.get(&register).map_or(0xff, |mask| (mask >> (8 * (at & 3))).to_le_bytes()[0]);
            let old = *function.bytes.get(&at).unwrap_or(&0);
            function.bytes.insert(at, old & !mask | byte & mask);
        }
        let control = EXPRESS + 8;
        if function.get(control) & 1 << 15 != 0 {
            assert_eq!(function.get(4) & 7, 0, "{rid} is reset while it may be a master");
            let cleared = function.get(control) & !(1 << 15 | 1 << 21);
            function.set(control, cleared);
            for register in (0x10..0x28).step_by(4) {
                let flags = function.get(register) & 0xf;
                function.set(register, flags);
            }
            function.set(4, function.get(4) & 0xffff_0000);
            function.resetting = now + RESET_US;
            function.resets += 1;
        }
    }
}

impl ConfigSpace for Bus {
    fn read32(&self, rid: Rid, offset: u16) -> u32 {
        assert!(offset.is_multiple_of(4) && offset < 4096);
        let functions = self.functions.borrow();
        let Some(function) = functions.get(&rid) else { return u32::MAX };
        assert!(function.resetting <= self.now.get(), "{rid} is read while it is reset");
        function.get(offset)
    }

    fn write32(&mut self, rid: Rid, offset: u16, value: u32) {
        assert!(offset.is_multiple_of(4) && offset < 4096);
        self.store(rid, offset, &value.to_le_bytes());
    }

    fn write16(&mut self, rid: Rid, offset: u16, value: u16) {
        assert!(offset.is_multiple_of(2) && offset < 4096);
        self.store(rid, offset, &value.to_le_bytes());
    }

    fn write8(&mut self, rid: Rid, offset: u16, value: u8) {
        self.store(rid, offset, &[value]);
    }
}

/// The steps other than accesses to configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    TakeConfig,
    GiveConfig,
    TakeRegisters,
    GiveRegisters,
    Block,
    Assign,
    Release,
}

/// The owner of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Host,
    Nobody,
    Guest(u8),
}

/// The machine.
pub(super) struct World {
    pub(super) bus: Bus,
    pub(super) steps: Vec<Step>,
    /// Numbers of the steps that fail.
    pub(super) fail: Vec<usize>,
    pub(super) error: Error,
    /// Whether configuration space is mapped for the host.
    pub(super) config: bool,
    /// Ranges that are not mapped for the host.
    pub(super) taken: BTreeSet<PhysRange>,
    pub(super) owners: BTreeMap<u32, Owner>,
    /// Functions of each guest that is alive.
    pub(super) alive: BTreeMap<u8, u32>,
    pub(super) dying: BTreeMap<u8, u32>,
    /// Number of resets of each function when its stream last got an owner.
    owned_at: BTreeMap<u32, u32>,
}

fn endpoint(id: u32, bar: u64, size: u64) -> Function {
    let mut function = Function::default();
    function.set(0, id);
    function.set(4, 6);
    function.set(0x10, u32::try_from(bar).unwrap() | 4);
    function.masks.insert(0, 0);
    function.masks.insert(4, 0x0000_0fff);
    function.masks.insert(0x10, u32::try_from(!(size - 1) & 0xffff_fff0).unwrap());
    for unused in (0x18..0x28).step_by(4) {
        function.masks.insert(unused, 0);
    }
    function.masks.insert(0x30, 0);
    function
}

impl World {
    pub(super) fn new() -> Self {
        let bus = Bus::default();
        let mut nvme = endpoint(0x0010_1b36, NVME_BAR, 0x4000);
        nvme.set(4, 0x0010_0006);
        nvme.set(0x34, u32::from(EXPRESS));
        nvme.set(EXPRESS, 0x10);
        nvme.set(EXPRESS + 4, 1 << 28);
        nvme.masks.insert(EXPRESS + 4, 0);
        bus.change(NVME, |function| *function = nvme);
        bus.change(EDU, |function| *function = endpoint(0x11e8_1234, EDU_BAR, 0x10_0000));
        let mut port = Function::default();
        port.set(0, 0x000c_1b36);
        port.set(0x0c, 1 << 16);
        port.set(0x18, 0x0001_0100);
        port.set(0x20, 0x1020_1020);
        port.set(0x24, 0x0000_fff0);
        for bar in [0x10, 0x14, 0x38] {
            port.masks.insert(bar, 0);
        }
        bus.change(PORT, |function| *function = port);
        bus.change(BEHIND, |function| *function = endpoint(0x11e8_1234, BUS_WINDOW + 0x20_0000, 0x1000));
        Self {
            bus,
            steps: Vec::new(),
            fail: Vec::new(),
            error: Error::NoMemory,
            config: true,
            taken: BTreeSet::new(),
            owners: BTreeMap::new(),
            alive: BTreeMap::from([(0, 0), (1, 0)]),
            dying: BTreeMap::new(),
            owned_at: BTreeMap::new(),
        }
    }

    /// The PCI host that boot finds.
    pub(super) fn segment(&self) -> Segment {
        let mut segment = Segment::new(&host()).unwrap();
        segment.enumerate(&mut self.bus.clone(), []);
        segment
    }

    pub(super) fn owner(&self, sid: u32) -> Owner {
        self.owners.get(&sid).copied().unwrap_or(Owner::Host)
    }

    pub(super) fn destroy(&mut self, guest: u8) {
        let devices = self.alive.remove(&guest).unwrap();
        self.dying.insert(guest, devices);
    }

    fn step(&mut self, step: Step) -> Result<(), Error> {
        let number = self.steps.len();
        self.steps.push(step);
        if self.fail.contains(&number) { Err(self.error) } else { Ok(()) }
    }

    /// Checks that the function of a stream is not a master and was reset, before the stream gets a new owner.
    fn stopped(&self, sid: u32) {
        let rid = Rid::new(u16::try_from(sid - 0x1000).unwrap());
        let functions = self.bus.functions.borrow();
        let function = &functions[&rid];
        assert_eq!(function.get(4) & 7, 0, "{rid} changes its owner with bus mastering or decoding on");
        if function.masks.contains_key(&(EXPRESS + 4)) {
            assert!(
                function.resets > *self.owned_at.get(&sid).unwrap_or(&0),
                "{rid} changes its owner without a reset"
            );
        }
        assert!(!self.config, "{rid} changes its owner while configuration space is mapped for the host");
    }

    fn resets(&self, sid: u32) -> u32 {
        self.bus.functions.borrow()[&Rid::new(u16::try_from(sid - 0x1000).unwrap())].resets
    }
}

/// Gives a function power management at 0x40 and PCI Express at 0x80.
pub(super) fn with_capabilities(bus: &Bus, rid: Rid) {
    bus.change(rid, |function| {
        function.set(0x04, 1 << 20);
        function.set(0x34, 0x40);
        function.set(0x40, 0x8001);
        function.set(0x80, 0x0010);
    });
}

/// A PCI host with buses 0 to 3.
pub(super) fn host() -> PciHost {
    let mut memory = ArrayVec::new();
    memory.push(MemoryWindow { bus: BUS_WINDOW, cpu: PhysRange::new(Pa(CPU_WINDOW), 0x100_0000).unwrap() });
    let mut ids = ArrayVec::new();
    ids.push(IdRange { rid: 0, count: 0x1_0000, smmu: 0, sid: 0x1000 });
    PciHost {
        ecam: PhysRange::new(Pa(0x40_1000_0000), 0x40_0000).unwrap(),
        segment: 7,
        buses: (0, 3),
        memory,
        ids,
        ..PciHost::default()
    }
}

impl Machine for World {
    type Config = Bus;

    fn config(&mut self, _: &Segment) -> Bus {
        self.bus.clone()
    }

    fn now_us(&self) -> u64 {
        self.bus.now.get()
    }

    fn unmap_config(&mut self, _: &Segment) -> Result<(), Error> {
        self.step(Step::TakeConfig)?;
        self.config = false;
        Ok(())
    }

    fn map_config(&mut self, _: &Segment) {
        assert!(self.taken.is_empty(), "configuration space is mapped again before the registers");
        self.steps.push(Step::GiveConfig);
        self.config = true;
    }

    fn unmap_registers(&mut self, range: PhysRange) -> Result<(), Error> {
        self.step(Step::TakeRegisters)?;
        assert!(self.taken.insert(range), "taken twice");
        Ok(())
    }

    fn map_registers(&mut self, range: PhysRange) -> Result<(), Error> {
        self.step(Step::GiveRegisters)?;
        assert!(self.taken.remove(&range), "given twice");
        Ok(())
    }

    fn block(&mut self, stream: Stream) -> Result<(), Error> {
        assert!(!self.taken.is_empty(), "blocked while the registers are mapped for the host");
        self.step(Step::Block)?;
        let resets = self.resets(stream.sid);
        if self.owners.insert(stream.sid, Owner::Nobody) != Some(Owner::Nobody) {
            self.owned_at.insert(stream.sid, resets);
        }
        Ok(())
    }

    fn assign(&mut self, stream: Stream, guest: GuestId) -> Result<(), Error> {
        assert_eq!(self.owner(stream.sid), Owner::Nobody);
        assert!(!self.taken.is_empty(), "assigned while the registers are mapped for the host");
        self.stopped(stream.sid);
        self.step(Step::Assign)?;
        self.owners.insert(stream.sid, Owner::Guest(guest.handle()));
        Ok(())
    }

    fn release(&mut self, stream: Stream) -> Result<(), Error> {
        assert_eq!(self.owner(stream.sid), Owner::Nobody);
        self.stopped(stream.sid);
        self.step(Step::Release)?;
        self.owners.insert(stream.sid, Owner::Host);
        Ok(())
    }

    fn guest_gets_device(&mut self, handle: u64) -> Result<GuestId, Error> {
        let guest = GuestId::new(handle).ok_or(Error::NoSuchGuest)?;
        if self.dying.contains_key(&guest.handle()) {
            return Err(Error::GuestDying);
        }
        *self.alive.get_mut(&guest.handle()).ok_or(Error::NoSuchGuest)? += 1;
        Ok(guest)
    }

    fn is_alive(&self, guest: GuestId) -> bool {
        self.alive.contains_key(&guest.handle())
    }

    fn guest_loses_device(&mut self, guest: GuestId) {
        let count = self.alive.get_mut(&guest.handle()).or_else(|| self.dying.get_mut(&guest.handle()));
        *count.unwrap() -= 1;
    }
}
