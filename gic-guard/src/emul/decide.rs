//! Checks a command of the host: one exhaustive match, a pure function.
//!
//! Numbers are checked against the sizes that EL2 shows the host. Conditions that depend on earlier commands (whether
//! a device is mapped) are checked when the command is executed. Bits that a command does not define are ignored: a
//! command for hardware is built again from fields. A command in error is ignored and the queue continues, which [G
//! 5.3] allows.

use crate::command::{Event, processor};
use crate::spec::commands::{self as cmd, Opcode, RawCmd};
use crate::spec::tables::FIRST_LPI;
use crate::spec::{get64, low32};

/// The part of the host's view that commands depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandView {
    /// DeviceIDs below this are in both hardware's and the host's table.
    pub devices: u32,
    /// EventID bits.
    pub event_bits: u32,
    /// Collections below this exist.
    pub collections: u32,
    /// INTIDs below this exist.
    pub intids: u32,
}

/// A request of the host, whose numbers are in range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// To map a device with 2^`bits` events. EL2 ignores the ITT's address.
    Mapd {
        /// DeviceID.
        device: u32,
        /// EventID bits.
        bits: u32,
    },
    /// To unmap a device.
    Unmapd {
        /// DeviceID.
        device: u32,
    },
    /// To map a collection to a processor number, which need not exist.
    Mapc {
        /// The host's collection.
        icid: u16,
        /// Processor number.
        processor: u64,
    },
    /// To unmap a collection.
    Unmapc {
        /// The host's collection.
        icid: u16,
    },
    /// To map an event to an LPI.
    Mapti {
        /// Interrupt.
        event: Event,
        /// INTID.
        lpi: u32,
        /// The host's collection.
        icid: u16,
    },
    /// To move an event to another collection.
    Movi {
        /// Interrupt.
        event: Event,
        /// The host's collection.
        icid: u16,
    },
    /// To move all pending LPIs between processors.
    Movall {
        /// Source processor number.
        from: u64,
        /// Target processor number.
        to: u64,
    },
    /// To read the configuration of an event's LPI.
    Inv(Event),
    /// To read the configuration of a collection's LPIs.
    Invall {
        /// The host's collection.
        icid: u16,
    },
    /// To make an event pending.
    Int(Event),
    /// To make an event not pending.
    Clear(Event),
    /// To unmap an event.
    Discard(Event),
    /// To complete earlier commands for a processor.
    Sync {
        /// Processor number.
        processor: u64,
    },
}

/// Why a command does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// The opcode is reserved.
    Reserved,
    /// The command belongs to GICv4, which is hidden.
    Hidden,
    /// The DeviceID is beyond the table.
    Device,
    /// MAPD with more EventIDs than the ITS has.
    IttSize,
    /// The collection is beyond the table.
    Collection,
    /// The INTID is not that of an LPI.
    Lpi,
}

/// The decision about a command.
///
/// # Errors
/// The command does nothing; the error is the reason.
pub fn decide(raw: RawCmd, view: &CommandView) -> Result<Request, Ignored> {
    let [word0, word1, word2, word3] = raw.0;
    let opcode = Opcode::from_bits(get64(cmd::OPCODE, word0)).ok_or(Ignored::Reserved)?;
    let event = low32(get64(cmd::EVENT, word1));
    match opcode {
        Opcode::Mapd => {
            let device = device(word0, view)?;
            if get64(cmd::VALID, word2) == 0 {
                return Ok(Request::Unmapd { device });
            }
            let bits = low32(get64(cmd::SIZE, word1)).saturating_add(1);
            if bits > view.event_bits {
                return Err(Ignored::IttSize);
            }
            Ok(Request::Mapd { device, bits })
        }
        Opcode::Mapc => {
            let icid = collection(word2, view)?;
            if get64(cmd::VALID, word2) == 0 {
                return Ok(Request::Unmapc { icid });
            }
            Ok(Request::Mapc { icid, processor: processor(word2) })
        }
        Opcode::Mapti => {
            let lpi = lpi(get64(cmd::LPI, word1), view)?;
            Ok(Request::Mapti { event: of(word0, event, view)?, lpi, icid: collection(word2, view)? })
        }
        // The EventID is the INTID.
        Opcode::Mapi => {
            let lpi = lpi(u64::from(event), view)?;
            Ok(Request::Mapti { event: of(word0, event, view)?, lpi, icid: collection(word2, view)? })
        }
        Opcode::Movi => Ok(Request::Movi { event: of(word0, event, view)?, icid: collection(word2, view)? }),
        Opcode::Movall => Ok(Request::Movall { from: processor(word2), to: processor(word3) }),
        Opcode::Inv => Ok(Request::Inv(of(word0, event, view)?)),
        Opcode::Invall => Ok(Request::Invall { icid: collection(word2, view)? }),
        Opcode::Int => Ok(Request::Int(of(word0, event, view)?)),
        Opcode::Clear => Ok(Request::Clear(of(word0, event, view)?)),
        Opcode::Discard => Ok(Request::Discard(of(word0, event, view)?)),
        Opcode::Sync => Ok(Request::Sync { processor: processor(word2) }),
        Opcode::Vmovi
        | Opcode::Vmovp
        | Opcode::Vsgi
        | Opcode::Vsync
        | Opcode::Vmapp
        | Opcode::Vmapti
        | Opcode::Vmapi
        | Opcode::Vinvall
        | Opcode::Invdb => Err(Ignored::Hidden),
    }
}

fn device(word0: u64, view: &CommandView) -> Result<u32, Ignored> {
    let device = low32(get64(cmd::DEVICE, word0));
    if device < view.devices { Ok(device) } else { Err(Ignored::Device) }
}

fn of(word0: u64, event: u32, view: &CommandView) -> Result<Event, Ignored> {
    Ok(Event { device: device(word0, view)?, event })
}

fn collection(word2: u64, view: &CommandView) -> Result<u16, Ignored> {
    let icid = u16::try_from(get64(cmd::ICID, word2)).map_err(|_| Ignored::Collection)?;
    if u32::from(icid) < view.collections { Ok(icid) } else { Err(Ignored::Collection) }
}

fn lpi(intid: u64, view: &CommandView) -> Result<u32, Ignored> {
    u32::try_from(intid).ok().filter(|intid| *intid >= FIRST_LPI && *intid < view.intids).ok_or(Ignored::Lpi)
}
