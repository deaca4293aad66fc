//! The machines on which runs are executed.

use crate::{Config, RAM};

const QEMU: Config = Config::qemu();

/// Machines that EL2 takes over.
const ACCEPTED: [Config; 13] = [
    QEMU,
    Config { its: 2, cpus: 4, virtual_lpis: true, ..QEMU },
    Config { its: 3, cpus: 3, addresses: true, virtual_lpis: true, ..QEMU },
    Config { shareable: false, page_size: Some(0), ..QEMU },
    Config { indirect: false, device_entry: 16, itt_entry: 16, page_size: Some(1), ..QEMU },
    Config { collection_table: false, cpus: 8, clearable: false, ..QEMU },
    Config { device_bits: 20, itt_entry: 8, cpus: 1, ..QEMU },
    Config { device_bits: 8, event_bits: 5, its: 2, ..QEMU },
    Config { itt_entry: 8, itt_hidden: 8, addresses: true, ..QEMU },
    Config { left_on: Some(RAM), its: 3, cpus: 4, ..QEMU },
    Config { flushing: true, shareable: false, its: 2, ..QEMU },
    Config { indirect: false, device_bits: 20, page_size: Some(0), cpus: 5, ..QEMU },
    Config { virtual_lpis: true, resident: Some(RAM), cpus: 3, left_on: Some(RAM), ..QEMU },
];

/// Machines that EL2 refuses.
const REFUSED: [Config; 12] = [
    Config { clearable: false, left_on: Some(RAM), ..QEMU },
    Config { never_quiescent: true, its: 2, ..QEMU },
    Config { rd_address_bits: 32, ..QEMU },
    Config { rd_id_bits: 14, ..QEMU },
    Config { collection_bits: 1, cpus: 4, ..QEMU },
    Config { its: 9, ..QEMU },
    Config { cpus: 65, ..QEMU },
    Config { collection_table: false, cpus: 17, ..QEMU },
    Config { physical: false, ..QEMU },
    Config { stays_busy: true, ..QEMU },
    Config { stays_busy: true, virtual_lpis: true, resident: Some(RAM), ..QEMU },
    Config { page_size: Some(3), ..QEMU },
];

/// Machines whose hardware fails later; on the last ones EnableLPIs cannot be set.
const FAILING: [Config; 8] = [
    Config { its: 2, stops_after: Some((0, 0)), ..QEMU },
    Config { its: 2, stops_after: Some((1, 7)), ..QEMU },
    Config { stops_after: Some((0, 40)), shareable: false, ..QEMU },
    Config { stalls: Some((0x08, 1)), stalls_after: 1, ..QEMU },
    Config { stalls: Some((0x0a, 3)), cpus: 4, ..QEMU },
    Config { stalls: Some((0x05, 100)), stalls_after: 6, ..QEMU },
    Config { stalls: Some((0x0f, 2)), its: 2, ..QEMU },
    Config { stays_off: true, cpus: 3, ..QEMU },
];

/// The expected result of the take-over of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TakeOverResult {
    /// EL2 takes the machine over.
    Accepted,
    /// EL2 takes the machine over; its hardware fails later.
    Failing,
    /// EL2 refuses the machine.
    Refused,
}

/// The machine with this number.
pub(super) fn machine(number: u8, seed: u8) -> (Config, TakeOverResult) {
    let seed = u64::from(seed) << 8 | 1;
    let n = usize::from(number);
    let (config, expected) = match number {
        0xe0..=0xff => (REFUSED[n % REFUSED.len()], TakeOverResult::Refused),
        0xc0..=0xdf => (FAILING[n % FAILING.len()], TakeOverResult::Failing),
        _ => (ACCEPTED[n % ACCEPTED.len()], TakeOverResult::Accepted),
    };
    (Config { seed, ..config }, expected)
}
