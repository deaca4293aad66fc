//! The steps, their order, and the state after each of them has failed.

use std::vec::Vec;

use super::machine::{Owner, Step::*, *};
use crate::boot_info::cmdline::PciKind;
use crate::pci::handover::StreamIs;
use crate::pci::{DeviceId, Devices, Error, Refusal, Rid, Segment};

const NVME_SID: u32 = 0x1008;

struct Lab {
    world: World,
    segment: Segment,
    devices: Devices,
}

impl Lab {
    fn new() -> Self {
        let world = World::new();
        let segment = world.segment();
        let mut devices = Devices::new();
        devices.allow_without_reset(&[PciKind { vendor: 0x1234, device: 0x11e8 }]);
        Self { world, segment, devices }
    }

    fn id(rid: Rid) -> DeviceId {
        DeviceId { segment: 7, rid }
    }

    fn assign(&mut self, rid: Rid, guest: u64) -> Result<(), Error> {
        self.devices.assign(&mut self.world, &self.segment, Self::id(rid), guest)
    }

    fn give_back(&mut self, rid: Rid) -> Result<(), Error> {
        self.devices.give_back(&mut self.world, &self.segment, Self::id(rid))
    }

    /// Calls until the function has had its time.
    fn done(&mut self, call: impl Fn(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        for _ in 0..10 {
            match call(self) {
                Err(Error::Busy(us)) => {
                    assert!(us > 0);
                    self.world.bus.now.set(self.world.bus.now.get() + us);
                }
                other => return other,
            }
        }
        panic!("it is never ready")
    }

    /// Everything is the host's, as at the start; a master that it was not is one no more.
    fn is_hosts(&self) {
        assert!(self.world.config && self.world.taken.is_empty());
        assert_eq!(self.world.owner(NVME_SID), Owner::Host);
        assert_eq!(u64::from(self.world.bus.get(NVME, 0x10)), NVME_BAR | 4);
        assert!(self.world.alive.values().chain(self.world.dying.values()).all(|devices| *devices == 0));
        assert!(self.devices.away().is_empty() && !self.devices.traps(7));
    }
}

#[test]
fn t68_a_function_is_given_and_taken_back_in_this_order() {
    let mut lab = Lab::new();
    assert_eq!(lab.assign(NVME, 0), Err(Error::Busy(100_000)));
    assert_eq!(lab.world.steps, [TakeConfig, TakeRegisters, Block]);
    assert_eq!(lab.world.bus.get(NVME, 4) & 7, 0, "neither a master nor decoding");
    assert_eq!(lab.devices.away()[0].stream().1, StreamIs::Blocked);
    lab.world.bus.now.set(99_999);
    assert_eq!(lab.assign(NVME, 0), Err(Error::Busy(1)));
    lab.world.bus.now.set(100_000);
    assert_eq!(lab.assign(NVME, 0), Ok(()));
    assert_eq!(lab.world.steps[3..], [Assign]);
    assert_eq!(lab.world.owner(NVME_SID), Owner::Guest(0));
    assert_eq!((lab.world.bus.get(NVME, 4) & 7, u64::from(lab.world.bus.get(NVME, 0x10))), (6, NVME_BAR | 4));
    assert_eq!(lab.assign(NVME, 0), Err(Error::Refused(Refusal::NotTheHosts)));
    assert_eq!(lab.assign(NVME, 1), Err(Error::Refused(Refusal::NotTheHosts)));
    lab.world.steps.clear();
    assert_eq!(lab.give_back(NVME), Err(Error::Busy(100_000)));
    assert_eq!(lab.world.steps, [Block]);
    lab.world.bus.now.set(200_000);
    assert_eq!(lab.give_back(NVME), Ok(()));
    assert_eq!(lab.world.steps[1..], [Release, GiveRegisters, GiveConfig]);
    assert_eq!(lab.world.bus.get(NVME, 4) & 7, 2, "the host's driver makes it a master");
    lab.is_hosts();
    assert_eq!(lab.give_back(NVME), Err(Error::Refused(Refusal::UnknownFunction)));
}

#[test]
fn transactions_that_are_pending_delay_the_reset_but_not_for_ever() {
    let mut lab = Lab::new();
    lab.world.bus.change(NVME, |f| f.set(EXPRESS + 8, 1 << 21));
    assert_eq!(lab.assign(NVME, 0), Err(Error::Busy(100_000)));
    assert_eq!(lab.world.bus.functions.borrow()[&NVME].resets, 0);
    lab.world.bus.now.set(60_000);
    assert_eq!(lab.assign(NVME, 0), Err(Error::Busy(40_000)));
    lab.world.bus.now.set(100_000);
    assert_eq!(lab.assign(NVME, 0), Err(Error::Busy(100_000)), "the reset begins");
    assert_eq!(lab.done(|lab| lab.assign(NVME, 0)), Ok(()));
}

#[test]
fn t68_a_function_without_a_reset_gets_its_time_without_bus_mastering() {
    let mut lab = Lab::new();
    assert_eq!(lab.assign(EDU, 1), Err(Error::Busy(500_000)));
    assert_eq!(lab.world.bus.get(EDU, 4) & 7, 0);
    assert_eq!(lab.done(|lab| lab.assign(EDU, 1)), Ok(()));
    assert_eq!(lab.give_back(EDU), Err(Error::Busy(500_000)));
    assert_eq!(lab.done(|lab| lab.give_back(EDU)), Ok(()));
    lab.is_hosts();
}

/// Each step of both ways fails once, in each way: whatever was done, giving back ends with everything the host's.
#[test]
fn t68_whichever_step_fails_everything_comes_back() {
    for error in [Error::NoMemory, Error::Io] {
        for failing in 0..7 {
            for destroy in [None, Some(0), Some(1)] {
                let mut lab = Lab::new();
                (lab.world.fail, lab.world.error) = (Vec::from([failing]), error);
                let assigned = lab.done(|lab| lab.assign(NVME, 0));
                assert_eq!(assigned.is_err(), failing < 4, "step {failing}");
                if destroy == Some(0) {
                    lab.world.destroy(0);
                }
                if !lab.devices.is_away(Lab::id(NVME)) {
                    assert_eq!(assigned, Err(error));
                    lab.is_hosts();
                    assert_eq!(lab.world.bus.get(NVME, 4) & 7, 6, "nothing changed");
                    continue;
                }
                assert!(!lab.world.config && !lab.world.taken.is_empty(), "step {failing}: the host reaches it");
                let first = lab.done(|lab| lab.give_back(NVME));
                if destroy == Some(1) && lab.world.alive.contains_key(&0) {
                    lab.world.destroy(0);
                }
                if first.is_err() {
                    assert_eq!(first, Err(error));
                    assert_eq!(lab.done(|lab| lab.give_back(NVME)), Ok(()), "step {failing}");
                }
                lab.is_hosts();
            }
        }
    }
}

#[test]
fn a_function_that_does_not_do_what_it_is_told_is_nobodys() {
    // The command register cannot be cleared.
    let mut lab = Lab::new();
    lab.world.bus.change(NVME, |f| f.masks.extend([(4, 0)]));
    assert_eq!(lab.assign(NVME, 0), Err(Error::Io));
    assert_eq!(lab.give_back(NVME), Err(Error::Io));
    assert!(!lab.world.config && !lab.world.taken.is_empty());
    lab.world.bus.change(NVME, |f| f.masks.extend([(4, 0xfff)]));
    assert_eq!(lab.done(|lab| lab.give_back(NVME)), Ok(()));
    lab.is_hosts();
    // Gone after its reset, or with BARs that stay as they are.
    for broken in [0, 0x10] {
        let mut lab = Lab::new();
        assert!(matches!(lab.assign(NVME, 0), Err(Error::Busy(_))));
        let was = lab.world.bus.get(NVME, 0);
        let mask = lab.world.bus.functions.borrow()[&NVME].masks[&broken];
        lab.world.bus.change(NVME, |f| {
            f.masks.insert(broken, 0);
            if broken == 0 {
                f.set(0, u32::MAX);
            }
        });
        assert_eq!(lab.done(|lab| lab.assign(NVME, 0)), Err(Error::Io));
        assert_eq!(lab.done(|lab| lab.give_back(NVME)), Err(Error::Io));
        assert_eq!(lab.world.owner(NVME_SID), Owner::Nobody);
        lab.world.bus.change(NVME, |f| {
            f.set(0, was);
            f.masks.insert(broken, mask);
        });
        assert_eq!(lab.done(|lab| lab.give_back(NVME)), Ok(()));
        lab.is_hosts();
    }
}

#[test]
fn t69_a_guest_that_ends_gets_no_function_and_loses_it_whenever_it_ends() {
    for calls in 0..3 {
        let mut lab = Lab::new();
        for _ in 0..calls {
            if let Err(Error::Busy(us)) = lab.assign(NVME, 0) {
                lab.world.bus.now.set(lab.world.bus.now.get() + us);
            }
        }
        lab.world.destroy(0);
        let expected = if calls == 2 { Error::Refused(Refusal::NotTheHosts) } else { Error::GuestDying };
        assert_eq!(lab.assign(NVME, 0), Err(expected));
        if calls > 0 {
            assert_eq!(lab.world.dying[&0], 1, "its handle stays in use");
            assert_eq!(lab.done(|lab| lab.give_back(NVME)), Ok(()));
        }
        lab.is_hosts();
    }
    assert_eq!(Lab::new().assign(NVME, 9), Err(Error::NoSuchGuest));
    assert_eq!(Lab::new().assign(NVME, u64::MAX), Err(Error::NoSuchGuest));
}

#[test]
fn configuration_space_comes_back_with_the_last_function() {
    let mut lab = Lab::new();
    for rid in [NVME, EDU] {
        assert_eq!(lab.done(|lab| lab.assign(rid, 0)), Ok(()));
    }
    assert_eq!(lab.world.steps.iter().filter(|step| **step == TakeConfig).count(), 1);
    // A refusal meanwhile gives nothing back.
    assert_eq!(lab.assign(PORT, 0), Err(Error::Refused(Refusal::NotAnEndpoint)));
    assert!(!lab.world.config);
    assert_eq!(lab.done(|lab| lab.give_back(NVME)), Ok(()));
    assert!(!lab.world.config && lab.devices.traps(7) && !lab.devices.traps(0));
    assert_eq!(lab.done(|lab| lab.give_back(EDU)), Ok(()));
    lab.is_hosts();
}

#[test]
fn a_refused_function_stays_as_it_was() {
    let mut lab = Lab::new();
    for rid in [PORT, BEHIND, Rid::of(0, 9, 0)] {
        assert!(matches!(lab.assign(rid, 0), Err(Error::Refused(_))));
        lab.is_hosts();
    }
    assert_eq!(lab.world.steps, [TakeConfig, GiveConfig].repeat(3));
}

/// Ranges of registers are named until each of them is the host's.
#[test]
fn the_audit_is_told_what_the_host_must_not_reach() {
    let mut lab = Lab::new();
    assert!(lab.assign(NVME, 0).is_err());
    let ranges: Vec<_> = lab.devices.away()[0].registers().collect();
    assert!(ranges.iter().eq(lab.world.taken.iter()) && ranges.len() == 1);
    assert_eq!(lab.done(|lab| lab.assign(NVME, 0)), Ok(()));
    assert!(matches!(lab.devices.away()[0].stream().1, StreamIs::Guests(guest) if guest.handle() == 0));
    // Block fails: whose the stream is nobody knows.
    lab.world.fail = Vec::from([lab.world.steps.len()]);
    assert_eq!(lab.give_back(NVME), Err(Error::NoMemory));
    assert_eq!(lab.devices.away()[0].stream().1, StreamIs::Unknown);
}
