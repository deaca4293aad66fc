//! GITS_TYPER: hardware's value, and the host's view.

use crate::limits::{MAX_COLLECTIONS, MAX_EVENT_BITS};
use crate::spec::gits::typer;
use crate::spec::{get64, low32, put64, union64};

/// GITS_TYPER of hardware.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids(pub(super) u64);

impl Ids {
    fn field(self, field: crate::spec::Field64) -> u32 {
        low32(get64(field, self.0))
    }

    /// DeviceID bits, 1 to 32.
    pub(super) fn device_bits(self) -> u32 {
        self.field(typer::DEVBITS).saturating_add(1)
    }

    /// EventID bits of the host's view.
    pub(super) fn event_bits(self) -> u32 {
        self.field(typer::ID_BITS).saturating_add(1).min(MAX_EVENT_BITS)
    }

    /// Collections that a command can name.
    pub(super) fn collections(self) -> u64 {
        let bits = if get64(typer::CIL, self.0) == 1 { self.field(typer::CIDBITS).saturating_add(1) } else { 16 };
        1_u64.checked_shl(bits).unwrap_or(0)
    }

    /// Collections that need no memory.
    pub(super) fn hcc(self) -> u32 {
        self.field(typer::HCC)
    }

    /// The host's view: physical LPIs, `devices` DeviceIDs, processor numbers instead of addresses, and collections in
    /// a table if hardware has one. GICv4, SEIs and everything else are hidden.
    pub(super) fn shown(self, devices: u32, collections: Option<usize>) -> u64 {
        let devbits = devices.checked_ilog2().unwrap_or(0).saturating_sub(1);
        let hcc = if collections.is_some() { 0 } else { self.hcc() };
        union64([
            put64(typer::PHYSICAL, 1),
            put64(typer::ITT_ENTRY_SIZE, get64(typer::ITT_ENTRY_SIZE, self.0)),
            put64(typer::ID_BITS, u64::from(self.event_bits().saturating_sub(1))),
            put64(typer::DEVBITS, u64::from(devbits)),
            put64(typer::HCC, u64::from(hcc)),
            put64(typer::CIL, 1),
            put64(typer::CIDBITS, u64::from(MAX_COLLECTIONS.ilog2().saturating_sub(1))),
        ])
    }
}
