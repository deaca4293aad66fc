//! Values for the arguments of actions, selected by a byte.

use gic_guard::AccessSize;
use gic_guard::emul::{gicr, gits};
use gic_guard::platform::Frame;

use crate::{
    COLLECTIONS, Cmd, Config, DEVICES, GUEST, ITT, PEND, POOL, PROP, RAM, RAM_SIZE, RING, clear, discard, int, inv,
    invall, mapc, mapd, mapi, mapti, movall, movi, r, sync, unmapc, unmapd,
};

fn pick<T: Copy>(from: &[T], byte: u8) -> T {
    from[usize::from(byte) % from.len()]
}

/// A small number, or a boundary value if bit 7 of `byte` is set.
fn number(byte: u8, small: u8, edges: &[u64]) -> u64 {
    if byte < 0x80 { u64::from(byte % small) } else { pick(edges, byte & 0x7f) }
}

pub(super) fn device(byte: u8) -> u64 {
    number(byte, 16, &[8191, 8192, 0x3fff, 0xff, 0x100, 0xffff, 0x1_0000, 0xf_ffff, 0x10_0000, 0xffff_ffff])
}

pub(super) fn event(byte: u8) -> u64 {
    number(byte, 16, &[15, 16, 31, 32, 4095, 8191, 8192, 0x7fff_ffff, 0xffff_ffff])
}

pub(super) fn lpi(byte: u8) -> u64 {
    if byte < 0x80 {
        return 8192 + u64::from(byte);
    }
    pick(&[0, 31, 1023, 8191, 0x3fff, 57_343, 57_344, 65_535, 65_536, 0xffff_ffff], byte & 0x7f)
}

fn icid(byte: u8) -> u64 {
    number(byte, 8, &[15, 16, 63, 64, 255, 256, 511, 512, 0xffff])
}

pub(super) fn cpu(byte: u8) -> u64 {
    number(byte, 8, &[63, 64, 255, 0xffff, 0xffff_ffff])
}

/// EventID bits of a MAPD.
fn bits(byte: u8) -> u64 {
    if byte < 0x80 { 1 + u64::from(byte % 6) } else { pick(&[12, 13, 14, 16, 31, 32], byte & 0x7f) }
}

fn address(byte: u8) -> u64 {
    let places = [
        RING,
        DEVICES,
        COLLECTIONS,
        PROP,
        PEND,
        ITT,
        RAM,
        RAM + RAM_SIZE - 0x1000,
        RAM + RAM_SIZE,
        POOL,
        POOL + 0x1_0000,
        GUEST,
        0,
        1 << 40,
        0xf_ffff_ffff_f000,
        RING + 0xf000,
    ];
    pick(&places, byte)
}

/// The value of a store to a register: the low half of `byte` selects an address, the high half the other fields.
pub(super) fn value(byte: u8, low: u8) -> u64 {
    let address = address(byte & 0xf);
    let low = u64::from(low);
    match byte >> 4 {
        0 => low,
        1 => u64::MAX ^ low,
        2 => address | low,
        3 => r::VALID | address | low,
        4 => r::VALID | r::ITS_WB | r::PAGE_64K | address | low,
        5 => r::VALID | r::INDIRECT | r::ITS_WB | r::PAGE_64K | address | low,
        6 => r::VALID | r::ITS_WB | address | low,
        7 => r::RD_WB | address | low,
        8 => 1 << 62 | r::RD_WB | address | low,
        9 => r::VALID | 2 << 59 | 3 << 53 | 2 << 10 | 1 << 8 | address | low,
        10 => low << 5,
        11 => low << 24,
        12 => low << 32,
        13 => low << 56 | address,
        14 => 7 << 56 | r::RD_WB | address | low,
        _ => address.rotate_left(u32::from(byte)) ^ low,
    }
}

/// The frame, offset and size of a register access.
pub(super) fn access(config: &Config, frame: u8, at: u8, size: u8) -> (Frame, u32, AccessSize) {
    let index = usize::from(frame & 0x1f);
    let rd = frame & 0x40 != 0;
    // The range includes one frame that does not exist.
    let frame = if rd { Frame::Rd(index % (config.cpus + 1)) } else { Frame::Its(index % (config.its + 1)) };
    let row = match frame {
        Frame::Its(_) => gits::Register::ROWS.get(usize::from(at)).map(|row| row.1),
        Frame::Rd(_) => gicr::Register::ROWS.get(usize::from(at)).map(|row| row.1),
    };
    let offset = row.unwrap_or_else(|| {
        let page = pick(&[0_u32, 0x100, 0xff80, 0x1_0000, 0x2_0000, 0x3_0000], at);
        page + u32::from(at & 0x3f) * 4
    });
    let more = pick(&[0, 0, 4, 1], size >> 4);
    let size = pick(&[AccessSize::Double, AccessSize::Word, AccessSize::Half, AccessSize::Byte], size);
    (frame, offset + more, size)
}

/// The number of the ITS that executes a command.
pub(super) fn its_of(config: &Config, what: u8) -> usize {
    usize::from(what >> 5) % config.its
}

/// The opcodes of GICv4, and reserved ones.
const OTHERS: [u64; 14] = [0x21, 0x22, 0x23, 0x25, 0x29, 0x2a, 0x2b, 0x2d, 0x2e, 0x00, 0x02, 0x10, 0x20, 0xff];

/// A command; `added` is added to its DeviceID, EventID and INTID.
pub(super) fn command(what: u8, numbers: [u8; 4], added: [u64; 3]) -> Cmd {
    let [d, e, l, i] = numbers;
    let (device, event) = (device(d) + added[0], event(e) + added[1]);
    let lpi = (lpi(l) + added[2]) & 0xffff_ffff;
    let (icid, cpu) = (icid(i), cpu(l));
    match what & 0x1f {
        0 | 1 => mapd(device, bits(e)),
        2 => unmapd(device),
        3 | 4 => mapc(icid, cpu),
        5 => unmapc(icid),
        6..=9 => mapti(device, event, lpi, icid),
        10 => mapi(device, lpi, icid),
        11 | 12 => movi(device, event, icid),
        13 => movall(cpu, icid),
        14 | 15 => inv(device, event),
        16 => invall(icid),
        17 => int(device, event),
        18 => clear(device, event),
        19..=21 => discard(device, event),
        22..=24 => sync(cpu),
        n => {
            let opcode = OTHERS[(usize::from(n) - 25) * 2 + usize::from(l & 1)];
            [device << 32 | opcode, lpi << 32 | event, r::VALID | ITT | icid, POOL]
        }
    }
}
