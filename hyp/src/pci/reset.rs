//! Reset of a function.

use super::config::{ConfigSpace, capability, read16};
use super::messages;
use super::rid::Rid;
use super::spec::{self, af, capability, express};
use crate::boot_info::cmdline::PciKind;
use host_access::field::get32;

/// Time in which a function completes a reset, and must not be accessed, in microseconds (PCI Express 5.0, 6.6.2).
pub const RESET_US: u64 = 100_000;
/// Time for a function without a reset to become idle after bus mastering was disabled, in microseconds.
pub const QUIET_US: u64 = 500_000;
/// Maximum wait for pending transactions, in microseconds; then the reset begins anyway.
pub const PENDING_US: u64 = 100_000;

/// The reset method of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Function-level reset by the PCI Express capability at this offset.
    Express(u16),
    /// Function-level reset by the Advanced Features capability at this offset.
    Af(u16),
    /// None: according to `no-reset=` it becomes idle without bus mastering and contains no secrets.
    Quiet,
}

/// The reset method of `rid`; `None` if it has no reset and is not in `no_reset`.
pub fn find(config: &impl ConfigSpace, rid: Rid, no_reset: &[PciKind]) -> Option<Reset> {
    let express = capability(config, rid, capability::EXPRESS).filter(|at| {
        let word = config.read32(rid, at.saturating_add(express::DEVICE_CAPABILITIES));
        get32(express::FLR, word) == 1
    });
    if let Some(at) = express {
        return Some(Reset::Express(at));
    }
    let both = |at: &u16| {
        let word = config.read32(rid, *at);
        get32(af::FLR, word) == 1 && get32(af::TP, word) == 1
    };
    if let Some(at) = capability(config, rid, capability::AF).filter(both) {
        return Some(Reset::Af(at));
    }
    let [a, b, c, d] = config.read32(rid, spec::ID).to_le_bytes();
    let kind = PciKind { vendor: u16::from_le_bytes([a, b]), device: u16::from_le_bytes([c, d]) };
    no_reset.contains(&kind).then_some(Reset::Quiet)
}

impl Reset {
    /// Whether the function has pending transactions.
    pub fn is_pending(self, config: &impl ConfigSpace, rid: Rid) -> bool {
        match self {
            Self::Express(at) => {
                let word = config.read32(rid, at.saturating_add(express::DEVICE_CONTROL));
                get32(express::PENDING, word) == 1
            }
            Self::Af(at) => get32(af::PENDING, config.read32(rid, at.saturating_add(af::CONTROL))) == 1,
            Self::Quiet => false,
        }
    }

    /// Starts the reset. The function must not be accessed for [`Reset::time_us`].
    pub fn start(self, config: &mut impl ConfigSpace, rid: Rid) {
        match self {
            Self::Express(at) => {
                let register = at.saturating_add(express::DEVICE_CONTROL);
                let control = read16(config, rid, register);
                config.write16(rid, register, control | express::START_FLR);
            }
            Self::Af(at) => config.write8(rid, at.saturating_add(af::CONTROL), af::START_FLR),
            // The wait for this reset is longer than the change to full power needs (PCI Express 5.0, 5.9).
            Self::Quiet => messages::power_on(config, rid),
        }
    }

    /// The duration of the reset in microseconds.
    pub const fn time_us(self) -> u64 {
        match self {
            Self::Express(_) | Self::Af(_) => RESET_US,
            Self::Quiet => QUIET_US,
        }
    }
}
