//! PCI Express configuration space (ECAM), enumeration of bus 0, and BAR assignment, which no firmware has done.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::machine::Machine;
use crate::mmio;
use crate::num::{align_up, high32, low32};

/// Offset of the command register.
pub const COMMAND: u64 = 0x04;
/// Offset of BAR0.
pub const BAR0: u64 = 0x10;
/// Offset of the first capability's offset.
const CAPABILITIES: u64 = 0x34;
/// Identifier of the MSI capability.
pub const MSI: u8 = 0x05;
/// Command register: respond to memory accesses.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// Command register: bus mastering.
pub const COMMAND_MASTER: u16 = 1 << 2;

/// A function on bus 0.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Requester ID.
    pub rid: u32,
    /// StreamID that the SMMU sees.
    pub sid: u32,
    config: u64,
}

/// Next free address of the 32-bit window.
static NEXT_BAR: AtomicU64 = AtomicU64::new(0);

/// First function on bus 0 whose vendor/device word and class word satisfy `wanted`.
pub fn find(machine: &Machine, wanted: impl Fn(u32, u32) -> bool) -> Option<Function> {
    find_on(machine, 0, wanted)
}

/// As [`find`], on another bus.
pub fn find_on(machine: &Machine, bus: u32, wanted: impl Fn(u32, u32) -> bool) -> Option<Function> {
    (0..32_u32).find_map(|slot| {
        let rid = bus << 8 | slot << 3;
        let config = machine.ecam + (u64::from(rid) << 12);
        let id = mmio::read32(config);
        let class = mmio::read32(config + 8) >> 8;
        (id != u32::MAX && wanted(id, class)).then_some(Function { rid, sid: machine.sid_base + rid, config })
    })
}

/// Gives the bus behind each bridge on a root bus its own number, as every kernel does before it uses a device.
///
/// After reset every bridge's secondary bus number is 0, and QEMU's SMMU finds devices by bus number: an
/// invalidation for a device on the real bus 0 could be ignored as one for a device behind a bridge.
pub fn number_buses(machine: &Machine) {
    if machine.ecam == 0 {
        return;
    }
    number_buses_behind(machine, 0);
    if let Some(second) = machine.second {
        number_buses_behind(machine, second.bus);
    }
}

fn number_buses_behind(machine: &Machine, root: u32) {
    let mut bus = root;
    for slot in 0..32_u64 {
        let config = machine.ecam + (u64::from(root) << 20) + (slot << 15);
        if mmio::read32(config) != u32::MAX && mmio::read32(config + 8) >> 8 == CLASS_BRIDGE {
            bus += 1;
            mmio::write32(config + BRIDGE_BUSES, bus << 16 | bus << 8 | root);
        }
    }
}

/// A PCI-to-PCI bridge or root port on a root bus.
#[derive(Clone, Copy, Debug)]
pub struct Bridge(Function);

/// Class code of a PCI-to-PCI bridge.
pub const CLASS_BRIDGE: u32 = 0x06_04_00;
const BRIDGE_BUSES: u64 = 0x18;
const BRIDGE_MEMORY: u64 = 0x20;
const MIB: u64 = 1 << 20;

impl Bridge {
    /// Finds a bridge on bus 0 and assigns `mib` MiB of the 32-bit window to it, from which the next BARs are assigned.
    pub fn find(machine: &Machine, mib: u64) -> Option<Self> {
        Self::find_on(machine, 0, mib)
    }

    /// As [`Bridge::find`], on another root bus.
    pub fn find_on(machine: &Machine, bus: u32, mib: u64) -> Option<Self> {
        let function = find_on(machine, bus, |_, class| class == CLASS_BRIDGE)?;
        let base = align_up(NEXT_BAR.load(Ordering::SeqCst).max(machine.window32.base), MIB);
        NEXT_BAR.store(base, Ordering::SeqCst);
        let limit = base + (mib - 1) * MIB;
        // Bits 31:20 of the first and of the last MiB, in the upper 12 bits of two 16-bit registers.
        mmio::write32(function.config(BRIDGE_MEMORY), low32(limit >> 20) << 20 | low32(base >> 20) << 4);
        function.enable();
        Some(Self(function))
    }

    /// Sets the number of the bus behind it.
    pub fn set_secondary_bus(&self, bus: u32) {
        mmio::write32(self.0.config(BRIDGE_BUSES), bus << 16 | bus << 8);
    }
}

impl Function {
    /// Address of the configuration register at `offset`.
    pub fn config(&self, offset: u64) -> u64 {
        self.config + offset
    }

    /// Address of a capability of this kind.
    pub fn capability(&self, kind: u8) -> Option<u64> {
        let mut at = mmio::read8(self.config(CAPABILITIES)) & !3;
        for _ in 0..48 {
            if at == 0 {
                break;
            }
            let address = self.config(u64::from(at));
            if mmio::read8(address) == kind {
                return Some(address);
            }
            at = mmio::read8(address + 1) & !3;
        }
        None
    }

    /// Assigns memory BAR `index` from the 32-bit window; its address.
    pub fn assign_bar(&self, machine: &Machine, index: u64) -> u64 {
        let register = self.config(BAR0 + index * 4);
        let is_64 = mmio::read32(register) & 0b110 == 0b100;
        mmio::write32(register, u32::MAX);
        let size = u64::from(!(mmio::read32(register) & !0xf)) + 1;
        let mut base = 0;
        let taken = NEXT_BAR.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |next| {
            base = align_up(next.max(machine.window32.base), size);
            Some(base + size)
        });
        assert!(taken.is_ok() && base + size <= machine.window32.base + machine.window32.size, "PCI window is full");
        self.set_bar(index, base, is_64);
        base
    }

    /// Writes memory BAR `index`.
    pub fn set_bar(&self, index: u64, base: u64, is_64: impl Into<Wide>) {
        let register = self.config(BAR0 + index * 4);
        mmio::write32(register, low32(base));
        if is_64.into() == Wide::Yes {
            mmio::write32(register + 4, high32(base));
        }
    }

    /// Enables memory decoding and bus mastering.
    pub fn enable(&self) {
        let command = self.config(COMMAND);
        mmio::write16(command, mmio::read16(command) | COMMAND_MEMORY | COMMAND_MASTER);
    }
}

/// Whether a BAR has two registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wide {
    /// 64 bits.
    Yes,
    /// 32 bits.
    No,
}

impl From<bool> for Wide {
    fn from(wide: bool) -> Self {
        if wide { Self::Yes } else { Self::No }
    }
}
