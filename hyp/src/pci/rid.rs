//! RequesterIDs.

use core::fmt;

/// Devices of a bus.
pub const DEVICES: u8 = 32;
/// Functions of a device.
pub const FUNCTIONS: u8 = 8;
/// Bytes of configuration space of a function.
pub const CONFIG_BYTES: u64 = 4096;

/// The RequesterID of a PCI function: bus, device and function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rid(u16);

impl Rid {
    /// A RequesterID from its 16 bits.
    #[must_use]
    pub const fn new(bits: u16) -> Self {
        Self(bits)
    }

    /// A RequesterID from its parts; excess bits are ignored.
    #[must_use]
    pub const fn of(bus: u8, device: u8, function: u8) -> Self {
        Self(u16::from_be_bytes([bus, (device & (DEVICES - 1)) << 3 | function & (FUNCTIONS - 1)]))
    }

    /// Its 16 bits.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Its bus.
    #[must_use]
    pub const fn bus(self) -> u8 {
        let [bus, _] = self.0.to_be_bytes();
        bus
    }

    /// Its device number.
    #[must_use]
    pub const fn device(self) -> u8 {
        let [_, low] = self.0.to_be_bytes();
        low >> 3
    }

    /// Its function number.
    #[must_use]
    pub const fn function(self) -> u8 {
        let [_, low] = self.0.to_be_bytes();
        low & (FUNCTIONS - 1)
    }
}

impl fmt::Display for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus(), self.device(), self.function())
    }
}
