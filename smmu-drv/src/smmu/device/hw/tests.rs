//! Timeouts, exact to the microsecond, on a fake clock.

use core::cell::{Cell, RefCell};
use io_pgtable::Pa;
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use super::super::el2_cmdq::{Cmdq, CmdqError, RING_SIZE};
use super::*;
use crate::error::SmmuError;
use crate::features::Coherency;
use crate::platform::{DmaBuffer, WiredIrq};
use crate::spec::registers as reg;

/// An SMMU that stores register writes, or ignores them while `unresponsive`, and a scripted clock.
#[derive(Default)]
struct Scripted {
    clock: RefCell<VecDeque<u64>>,
    readings: Cell<usize>,
    acked: Cell<u32>,
    unresponsive: Cell<bool>,
}

/// Unused memory.
struct Ring(Vec<u64>);

impl DmaBuffer for Ring {
    fn pa(&self) -> Pa {
        Pa(0x1000)
    }
    fn size(&self) -> usize {
        RING_SIZE
    }
    fn read64(&self, offset: usize) -> u64 {
        self.0[offset / 8]
    }
    fn write64(&mut self, offset: usize, value: u64) {
        self.0[offset / 8] = value;
    }
    fn clean(&self, _: usize, _: usize) {}
    fn invalidate(&self, _: usize, _: usize) {}
}

impl Platform for Scripted {
    type Buffer = Ring;
    type Place<T: 'static> = std::boxed::Box<T>;

    fn read32(&self, offset: u32) -> u32 {
        if offset == reg::CR0ACK { self.acked.get() } else { 0 }
    }
    fn write32(&self, offset: u32, value: u32) {
        if offset == reg::CR0 && !self.unresponsive.get() {
            self.acked.set(value);
        }
    }
    fn read64(&self, _: u32) -> u64 {
        0
    }
    fn write64(&self, _: u32, _: u64) {}
    fn alloc(&self, _: usize) -> Option<Ring> {
        None
    }
    fn dsb(&self) {}
    fn now_us(&self) -> u64 {
        self.readings.set(self.readings.get() + 1);
        self.clock.borrow_mut().pop_front().unwrap()
    }
    fn relax(&self) {}
    fn raise(&self, _: WiredIrq) {}
}

/// Start of the tests' time: it may wrap, and is not zero.
const START: u64 = u64::MAX - 10;

fn at(microseconds: &[u64]) -> Hw<Scripted> {
    let clock = microseconds.iter().map(|time| START.wrapping_add(*time)).collect();
    Hw::new(Scripted { clock: RefCell::new(clock), ..Scripted::default() }, Timeouts::default())
}

#[test]
fn a_wait_lasts_its_whole_bound_and_no_longer() {
    for (bound, polls) in [(100, 4), (1_000_000, 4)] {
        let hw = at(&[0, 1, bound - 1, bound, bound + 1, bound + 2]);
        let mut seen = 0;
        let result = hw.wait(bound, || {
            seen += 1;
            false
        });
        assert_eq!((result, seen), (Err(TimedOut), polls), "the last poll is after the timeout");
    }
    // A condition that is true immediately needs only the first clock read; one that becomes true exactly at the
    // timeout also succeeds.
    let hw = at(&[0]);
    assert_eq!((hw.wait(0, || true), hw.platform().readings.get()), (Ok(()), 1));
    let hw = at(&[0, 100, 101]);
    let mut polls = 0;
    let late = hw.wait(100, || {
        polls += 1;
        polls == 2
    });
    assert_eq!(late, Ok(()));
}

#[test]
fn a_register_is_acknowledged_by_the_value_that_was_written() {
    let hw = at(&[0, 0, 1, 2_000_000]);
    assert_eq!(hw.write_acked(reg::CR0, reg::CR0ACK, 0xd), Ok(()));
    assert_eq!(hw.platform().acked.get(), 0xd);
    hw.platform().unresponsive.set(true);
    assert_eq!(hw.write_acked(reg::CR0, reg::CR0ACK, 0x5), Err(TimedOut));
}

#[test]
fn a_sync_is_waited_for_one_second() {
    let hw = at(&[0, 1, 999_999, 1_000_000, 1_000_001, 1_000_002]);
    let mut queue = Cmdq::new(Ring(vec![0; RING_SIZE / 8]), 8, Coherency::Coherent, crate::errata::Issue::Once);
    assert_eq!(queue.sync(&hw), Err(CmdqError::Failed(SmmuError::SyncTimeout)));
    assert_eq!(hw.platform().readings.get(), 5, "at the timeout it is polled once more");
}
