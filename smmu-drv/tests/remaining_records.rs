//! Records that remain in hardware's queue when the budget of a trap is used up, before a change of an enable: they are converted
//! with the values at the time of recording [IHI 0070G 6.3.9.4, 7.2.1], and the change is acknowledged after them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BUF, C_BAD_STE, EVENTQ_ABT_ERR, L2TAB, Rig, STRTAB, r, record, two_level_cfg};
use smmu_drv::{AccessSize, WriteOutcome};
use smmu_model::Config;

const QUEUES: u64 = r::CMDQEN | r::EVENTQEN;
const ALL: u64 = QUEUES | r::SMMUEN;
/// Address of the largest command queue: claiming it takes half a budget.
const LARGE: u64 = common::RAM + 0x60_0000;
/// More records than one trap has budget for, if each makes EL2 read another page.
const COSTLY: u64 = 120;
/// The capacity of hardware's queue.
const FULL: u64 = 128;

/// Streams that alternate between two pages of the host's table; they are so far from the first stream that a walk does
/// not reach them in its first trap.
fn stream(n: u64) -> u32 {
    0x2000 + u32::try_from(n % 8).unwrap() * 64
}

/// Two levels for 2^14 streams, 64 in each page, without a valid entry; everything is disabled.
fn off() -> Rig {
    let mut rig = Rig::new(Config { sid_bits: 16, ssid_bits: 16, ..Config::qemu() });
    rig.enable_queues();
    rig.write(r::CR0, 0);
    rig.mem().cpu_write(STRTAB, &[0; 2048]);
    rig.mem().cpu_write(L2TAB, &[0; 0x2000]);
    for n in 0..8 {
        rig.store(STRTAB + u64::from(stream(n) / 64) * 8, (L2TAB + n % 2 * 4096) | 7);
    }
    rig.write64(r::STRTAB_BASE, STRTAB);
    rig.write(r::STRTAB_BASE_CFG, two_level_cfg(14, 6));
    rig.write64(r::CMDQ_BASE, LARGE | 14);
    rig.write(r::CMDQ_PROD, 0);
    rig.write(r::CMDQ_CONS, 0);
    rig
}

fn store(rig: &mut Rig, cr0: u64) -> WriteOutcome {
    rig.smmu.mmio_write(&mut rig.host, r::CR0, AccessSize::Word, cr0)
}

/// Repeats a store that is not complete: hardware's queue has no more records than a few traps take.
fn complete(rig: &mut Rig, cr0: u64) {
    let mut traps = 0;
    while store(rig, cr0) == WriteOutcome::Again {
        traps += 1;
        assert!(traps < 8, "not in bounded time");
    }
}

fn faults(rig: &mut Rig, count: u64) -> Vec<[u64; 4]> {
    let fault = |n| {
        let sid = stream(n);
        rig.dma_write(sid, BUF, 1);
        record(C_BAD_STE, sid)
    };
    (0..count).map(fault).collect()
}

/// The host has disabled translation: records of hardware are then effects of EL2's configuration.
fn faults_of_bypass(rig: &mut Rig, count: u64) {
    for n in 0..count {
        rig.board.0.model.borrow_mut().dma_write(stream(n), Some(1), BUF, &[1]);
    }
}

#[test]
fn clearing_eventqen_takes_earlier_records_first() {
    let mut rig = off();
    rig.write(r::CR0, ALL);
    let expected = faults(&mut rig, COSTLY);
    assert_eq!(store(&mut rig, r::CMDQEN | r::SMMUEN), WriteOutcome::Again, "the records need more than one budget");
    assert_eq!((rig.read(r::CR0), rig.read(r::CR0ACK)), (r::CMDQEN | r::SMMUEN, ALL));
    complete(&mut rig, r::CMDQEN | r::SMMUEN);
    assert_eq!(rig.read(r::CR0ACK), r::CMDQEN | r::SMMUEN);
    // Later records are not reported to the host.
    faults(&mut rig, 3);
    assert_eq!(rig.events(), expected);
}

#[test]
fn continuous_faults_do_not_block_a_change_of_eventqen() {
    for (from, to) in [(ALL, r::CMDQEN | r::SMMUEN), (r::CMDQEN | r::SMMUEN, ALL), (ALL, QUEUES), (QUEUES, ALL)] {
        let mut rig = off();
        rig.write(r::CR0, from);
        let board = rig.board.clone();
        faults(&mut rig, COSTLY);
        // The device records a fault for each word that EL2 reads, and fills the queue between two traps.
        rig.host.on_read = Some(Box::new(move |_| {
            board.0.model.borrow_mut().dma_write(0x2000, None, BUF, &[1]);
        }));
        let mut traps = 0;
        while store(&mut rig, to) == WriteOutcome::Again {
            traps += 1;
            assert!(traps < 16, "{from:#x} to {to:#x}: not in bounded time");
            faults(&mut rig, FULL);
        }
        rig.host.on_read = None;
        assert_eq!(rig.read(r::CR0ACK), to);
    }
}

/// Everything is enabled; records from before are not the host's.
fn nothing_is_left_for_the_host(rig: &mut Rig) {
    complete(rig, ALL);
    assert_eq!(rig.read(r::CR0ACK), ALL);
    assert_eq!(rig.events(), [] as [[u64; 4]; 0]);
    assert_eq!(rig.smmu.stats().faults, FULL);
}

#[test]
fn records_from_before_eventqen_is_set_are_not_reported() {
    let mut rig = off();
    rig.write(r::CR0, r::SMMUEN);
    faults(&mut rig, FULL);
    // The claim of the command queue uses half of the first trap's budget.
    nothing_is_left_for_the_host(&mut rig);
}

#[test]
fn records_from_before_smmuen_is_set_are_not_reported() {
    let mut rig = off();
    rig.write(r::CR0, r::EVENTQEN);
    faults_of_bypass(&mut rig, FULL);
    nothing_is_left_for_the_host(&mut rig);
}

#[test]
fn clearing_smmuen_takes_records_of_the_change_first() {
    let mut rig = off();
    rig.write(r::CR0, ALL);
    let before = faults(&mut rig, COSTLY);
    assert_eq!(store(&mut rig, QUEUES), WriteOutcome::Again);
    assert_eq!(rig.events(), before);
    // Streams that are not changed yet.
    let meanwhile = faults(&mut rig, COSTLY);
    complete(&mut rig, QUEUES);
    assert_eq!(rig.read(r::CR0ACK), QUEUES);
    faults_of_bypass(&mut rig, 3);
    assert_eq!(rig.events(), meanwhile);
}

#[test]
fn another_value_of_cr0_starts_a_new_change() {
    let mut rig = off();
    rig.write(r::CR0, ALL);
    let first = faults(&mut rig, COSTLY);
    assert_eq!(store(&mut rig, r::CMDQEN | r::SMMUEN), WriteOutcome::Again);
    // The store is never repeated: another store replaces it, and the queue stays enabled.
    complete(&mut rig, ALL);
    assert_eq!(rig.events(), first);
    let second = faults(&mut rig, COSTLY);
    complete(&mut rig, r::CMDQEN | r::SMMUEN);
    assert_eq!(rig.events(), second);
}

#[test]
fn records_while_the_hosts_queue_had_an_abort_are_not_reported() {
    let mut rig = off();
    assert!(rig.host.donate(common::EVTQ));
    rig.write(r::CR0, ALL);
    faults(&mut rig, 1);
    rig.read(r::EVENTQ_PROD);
    assert_eq!(rig.read(r::GERROR), EVENTQ_ABT_ERR);
    faults(&mut rig, FULL);
    rig.host.owned.insert(common::EVTQ / 4096);
    rig.write(r::GERRORN, EVENTQ_ABT_ERR);
    let expected = faults(&mut rig, 3);
    assert_eq!(rig.events(), expected);
}
