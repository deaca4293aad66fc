//! Commands for the hardware's queue, encoded from named fields.

use io_pgtable::Pa;

use crate::spec::commands::{self as cmd, Opcode, RawCmd};
use crate::spec::{get64, mask64, put64, union64};

/// A redistributor in the form that one ITS uses: the RDbase field, at its bit position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target(u64);

impl Target {
    /// By processor number, where GITS_TYPER.PTA is 0.
    pub fn number(processor: u32) -> Self {
        Self(put64(cmd::PROCESSOR, u64::from(processor)))
    }

    /// By the address of its RD frame, where GITS_TYPER.PTA is 1.
    pub fn address(frame: Pa) -> Self {
        Self(frame.0 & mask64(cmd::RDBASE))
    }
}

/// An interrupt of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// DeviceID.
    pub device: u32,
    /// EventID.
    pub event: u32,
}

/// A command for hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// MAPD with V = 1: an ITT of 2^`bits` entries.
    Mapd {
        /// DeviceID.
        device: u32,
        /// The ITT, aligned to 256 bytes.
        itt: Pa,
        /// EventID bits, 1 to 32.
        bits: u32,
    },
    /// MAPD with V = 0.
    Unmapd {
        /// DeviceID.
        device: u32,
    },
    /// MAPC with V = 1.
    Mapc {
        /// Collection.
        icid: u16,
        /// Redistributor.
        target: Target,
    },
    /// MAPTI.
    Mapti {
        /// Interrupt.
        event: Event,
        /// INTID.
        lpi: u32,
        /// Collection.
        icid: u16,
    },
    /// MOVI.
    Movi {
        /// Interrupt.
        event: Event,
        /// The new collection.
        icid: u16,
    },
    /// MOVALL.
    Movall {
        /// The redistributor whose pending LPIs move.
        from: Target,
        /// The redistributor that receives them.
        to: Target,
    },
    /// INV.
    Inv(Event),
    /// INVALL.
    Invall {
        /// Collection.
        icid: u16,
    },
    /// INT.
    Int(Event),
    /// CLEAR.
    Clear(Event),
    /// DISCARD.
    Discard(Event),
    /// SYNC.
    Sync(Target),
}

impl Command {
    /// The encoding of the command; every bit outside its fields is zero.
    pub fn encode(self) -> RawCmd {
        match self {
            Self::Mapd { device, itt, bits } => RawCmd([
                of_device(Opcode::Mapd, device),
                put64(cmd::SIZE, u64::from(bits.saturating_sub(1))),
                union64([itt.0 & mask64(cmd::ITT), put64(cmd::VALID, 1)]),
                0,
            ]),
            Self::Unmapd { device } => RawCmd([of_device(Opcode::Mapd, device), 0, 0, 0]),
            Self::Mapc { icid, target } => {
                RawCmd([Opcode::Mapc.bits(), 0, union64([collection(icid), target.0, put64(cmd::VALID, 1)]), 0])
            }
            Self::Mapti { event, lpi, icid } => {
                let [word0, word1] = of_event(Opcode::Mapti, event);
                RawCmd([word0, union64([word1, put64(cmd::LPI, u64::from(lpi))]), collection(icid), 0])
            }
            Self::Movi { event, icid } => {
                let [word0, word1] = of_event(Opcode::Movi, event);
                RawCmd([word0, word1, collection(icid), 0])
            }
            Self::Movall { from, to } => RawCmd([Opcode::Movall.bits(), 0, from.0, to.0]),
            Self::Inv(event) => plain(Opcode::Inv, event),
            Self::Invall { icid } => RawCmd([Opcode::Invall.bits(), 0, collection(icid), 0]),
            Self::Int(event) => plain(Opcode::Int, event),
            Self::Clear(event) => plain(Opcode::Clear, event),
            Self::Discard(event) => plain(Opcode::Discard, event),
            Self::Sync(target) => RawCmd([Opcode::Sync.bits(), 0, target.0, 0]),
        }
    }
}

fn of_device(opcode: Opcode, device: u32) -> u64 {
    union64([put64(cmd::OPCODE, opcode.bits()), put64(cmd::DEVICE, u64::from(device))])
}

fn of_event(opcode: Opcode, event: Event) -> [u64; 2] {
    [of_device(opcode, event.device), put64(cmd::EVENT, u64::from(event.event))]
}

fn plain(opcode: Opcode, event: Event) -> RawCmd {
    let [word0, word1] = of_event(opcode, event);
    RawCmd([word0, word1, 0, 0])
}

fn collection(icid: u16) -> u64 {
    put64(cmd::ICID, u64::from(icid))
}

/// The processor number in an RDbase field, for a host that sees GITS_TYPER.PTA = 0.
pub(crate) fn processor(word: u64) -> u64 {
    get64(cmd::PROCESSOR, word)
}
