//! The steps, their order, and the state after a failure of each step.

use std::vec::Vec;

use super::machine::{Owner, Step::*, *};
use crate::boot_info::cmdline::PciKind;
use crate::pci::handover::RequiredOwner;
use crate::pci::{DeviceId, Devices, Error, Refusal, Rid, Segment};

const NVME_SID: u32 = 0x1008;

struct Setup {
    world: World,
    segment: Segment,
    devices: Devices,
}

impl Setup {
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

    fn return_to_host(&mut self, rid: Rid) -> Result<(), Error> {
        self.devices.return_to_host(&mut self.world, &self.segment, Self::id(rid))
    }

    /// Repeats the call, and advances the clock, until it is not busy.
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
        panic!("still busy after ten calls")
    }

    /// Checks that the host has everything, as at the start.
    fn check_is_hosts(&self) {
        assert!(self.world.config && self.world.taken.is_empty());
        assert_eq!(self.world.owner(NVME_SID), Owner::Host);
        assert_eq!(u64::from(self.world.bus.get(NVME, 0x10)), NVME_BAR | 4);
        assert!(self.world.alive.values().chain(self.world.dying.values()).all(|devices| *devices == 0));
        assert!(self.devices.away().is_empty() && !self.devices.traps(7));
    }
}

#[test]
fn t68_assigning_and_returning_do_their_steps_in_order() {
    let mut setup = Setup::new();
    assert_eq!(setup.assign(NVME, 0), Err(Error::Busy(100_000)));
    assert_eq!(setup.world.steps, [TakeConfig, TakeRegisters, Block]);
    assert_eq!(setup.world.bus.get(NVME, 4) & 7, 0, "neither a master nor decoding");
    assert_eq!(setup.devices.away()[0].stream().1, RequiredOwner::Nobody);
    setup.world.bus.now.set(99_999);
    assert_eq!(setup.assign(NVME, 0), Err(Error::Busy(1)));
    setup.world.bus.now.set(100_000);
    assert_eq!(setup.assign(NVME, 0), Ok(()));
    assert_eq!(setup.world.steps[3..], [Assign]);
    assert_eq!(setup.world.owner(NVME_SID), Owner::Guest(0));
    assert_eq!((setup.world.bus.get(NVME, 4) & 7, u64::from(setup.world.bus.get(NVME, 0x10))), (6, NVME_BAR | 4));
    assert_eq!(setup.assign(NVME, 0), Err(Error::Refused(Refusal::NotTheHosts)));
    assert_eq!(setup.assign(NVME, 1), Err(Error::Refused(Refusal::NotTheHosts)));
    setup.world.steps.clear();
    assert_eq!(setup.return_to_host(NVME), Err(Error::Busy(100_000)));
    assert_eq!(setup.world.steps, [Block]);
    setup.world.bus.now.set(200_000);
    assert_eq!(setup.return_to_host(NVME), Ok(()));
    assert_eq!(setup.world.steps[1..], [Release, GiveRegisters, GiveConfig]);
    assert_eq!(setup.world.bus.get(NVME, 4) & 7, 2, "the host's driver makes it a master");
    setup.check_is_hosts();
    assert_eq!(setup.return_to_host(NVME), Err(Error::Refused(Refusal::UnknownFunction)));
}

#[test]
fn pending_transactions_delay_the_reset_for_a_bounded_time() {
    let mut setup = Setup::new();
    setup.world.bus.change(NVME, |f| f.set(EXPRESS + 8, 1 << 21));
    assert_eq!(setup.assign(NVME, 0), Err(Error::Busy(100_000)));
    assert_eq!(setup.world.bus.functions.borrow()[&NVME].resets, 0);
    setup.world.bus.now.set(60_000);
    assert_eq!(setup.assign(NVME, 0), Err(Error::Busy(40_000)));
    setup.world.bus.now.set(100_000);
    assert_eq!(setup.assign(NVME, 0), Err(Error::Busy(100_000)), "the reset begins");
    assert_eq!(setup.done(|setup| setup.assign(NVME, 0)), Ok(()));
}

#[test]
fn t68_a_function_without_a_reset_waits_without_bus_mastering() {
    let mut setup = Setup::new();
    assert_eq!(setup.assign(EDU, 1), Err(Error::Busy(500_000)));
    assert_eq!(setup.world.bus.get(EDU, 4) & 7, 0);
    assert_eq!(setup.done(|setup| setup.assign(EDU, 1)), Ok(()));
    assert_eq!(setup.return_to_host(EDU), Err(Error::Busy(500_000)));
    assert_eq!(setup.done(|setup| setup.return_to_host(EDU)), Ok(()));
    setup.check_is_hosts();
}

/// Each step in both directions fails once, with each error: after the function was given back, the host has
/// everything.
#[test]
fn t68_the_host_gets_everything_back_after_any_failed_step() {
    for error in [Error::NoMemory, Error::Io] {
        for failing in 0..7 {
            for destroy in [None, Some(0), Some(1)] {
                let mut setup = Setup::new();
                (setup.world.fail, setup.world.error) = (Vec::from([failing]), error);
                let assigned = setup.done(|setup| setup.assign(NVME, 0));
                assert_eq!(assigned.is_err(), failing < 4, "step {failing}");
                if destroy == Some(0) {
                    setup.world.destroy(0);
                }
                if !setup.devices.is_away(Setup::id(NVME)) {
                    assert_eq!(assigned, Err(error));
                    setup.check_is_hosts();
                    assert_eq!(setup.world.bus.get(NVME, 4) & 7, 6, "nothing changed");
                    continue;
                }
                assert!(!setup.world.config && !setup.world.taken.is_empty(), "step {failing}: the host can access it");
                let first = setup.done(|setup| setup.return_to_host(NVME));
                if destroy == Some(1) && setup.world.alive.contains_key(&0) {
                    setup.world.destroy(0);
                }
                if first.is_err() {
                    assert_eq!(first, Err(error));
                    assert_eq!(setup.done(|setup| setup.return_to_host(NVME)), Ok(()), "step {failing}");
                }
                setup.check_is_hosts();
            }
        }
    }
}

#[test]
fn a_function_that_ignores_its_registers_stays_blocked() {
    // The command register cannot be cleared.
    let mut setup = Setup::new();
    setup.world.bus.change(NVME, |f| f.masks.extend([(4, 0)]));
    assert_eq!(setup.assign(NVME, 0), Err(Error::Io));
    assert_eq!(setup.return_to_host(NVME), Err(Error::Io));
    assert!(!setup.world.config && !setup.world.taken.is_empty());
    setup.world.bus.change(NVME, |f| f.masks.extend([(4, 0xfff)]));
    assert_eq!(setup.done(|setup| setup.return_to_host(NVME)), Ok(()));
    setup.check_is_hosts();
    // The function is absent after its reset, or its BARs cannot be written.
    for broken in [0, 0x10] {
        let mut setup = Setup::new();
        assert!(matches!(setup.assign(NVME, 0), Err(Error::Busy(_))));
        let was = setup.world.bus.get(NVME, 0);
        let mask = setup.world.bus.functions.borrow()[&NVME].masks[&broken];
        setup.world.bus.change(NVME, |f| {
            f.masks.insert(broken, 0);
            if broken == 0 {
                f.set(0, u32::MAX);
            }
        });
        assert_eq!(setup.done(|setup| setup.assign(NVME, 0)), Err(Error::Io));
        assert_eq!(setup.done(|setup| setup.return_to_host(NVME)), Err(Error::Io));
        assert_eq!(setup.world.owner(NVME_SID), Owner::Nobody);
        setup.world.bus.change(NVME, |f| {
            f.set(0, was);
            f.masks.insert(broken, mask);
        });
        assert_eq!(setup.done(|setup| setup.return_to_host(NVME)), Ok(()));
        setup.check_is_hosts();
    }
}

#[test]
fn t69_a_destroyed_guest_gets_no_function_and_loses_its_function() {
    for calls in 0..3 {
        let mut setup = Setup::new();
        for _ in 0..calls {
            if let Err(Error::Busy(us)) = setup.assign(NVME, 0) {
                setup.world.bus.now.set(setup.world.bus.now.get() + us);
            }
        }
        setup.world.destroy(0);
        let expected = if calls == 2 { Error::Refused(Refusal::NotTheHosts) } else { Error::GuestDying };
        assert_eq!(setup.assign(NVME, 0), Err(expected));
        if calls > 0 {
            assert_eq!(setup.world.dying[&0], 1, "the guest's handle stays in use");
            assert_eq!(setup.done(|setup| setup.return_to_host(NVME)), Ok(()));
        }
        setup.check_is_hosts();
    }
    assert_eq!(Setup::new().assign(NVME, 9), Err(Error::NoSuchGuest));
    assert_eq!(Setup::new().assign(NVME, u64::MAX), Err(Error::NoSuchGuest));
}

#[test]
fn configuration_space_is_mapped_after_the_last_function_is_returned() {
    let mut setup = Setup::new();
    for rid in [NVME, EDU] {
        assert_eq!(setup.done(|setup| setup.assign(rid, 0)), Ok(()));
    }
    assert_eq!(setup.world.steps.iter().filter(|step| **step == TakeConfig).count(), 1);
    // A refused call does not unmap configuration space that traps for another function.
    assert_eq!(setup.assign(PORT, 0), Err(Error::Refused(Refusal::NotAnEndpoint)));
    assert!(!setup.world.config);
    assert_eq!(setup.done(|setup| setup.return_to_host(NVME)), Ok(()));
    assert!(!setup.world.config && setup.devices.traps(7) && !setup.devices.traps(0));
    assert_eq!(setup.done(|setup| setup.return_to_host(EDU)), Ok(()));
    setup.check_is_hosts();
}

#[test]
fn a_refused_function_is_unchanged() {
    let mut setup = Setup::new();
    for rid in [PORT, BEHIND, Rid::of(0, 9, 0)] {
        assert!(matches!(setup.assign(rid, 0), Err(Error::Refused(_))));
        setup.check_is_hosts();
    }
    assert_eq!(setup.world.steps, [TakeConfig, GiveConfig].repeat(3));
}

/// A range of registers is reported until the host has it.
#[test]
fn the_audit_gets_the_registers_that_must_not_be_mapped() {
    let mut setup = Setup::new();
    assert!(setup.assign(NVME, 0).is_err());
    let ranges: Vec<_> = setup.devices.away()[0].registers().collect();
    assert!(ranges.iter().eq(setup.world.taken.iter()) && ranges.len() == 1);
    assert_eq!(setup.done(|setup| setup.assign(NVME, 0)), Ok(()));
    assert!(matches!(setup.devices.away()[0].stream().1, RequiredOwner::Guest(guest) if guest.handle() == 0));
    // Block fails: the owner of the stream is unknown.
    setup.world.fail = Vec::from([setup.world.steps.len()]);
    assert_eq!(setup.return_to_host(NVME), Err(Error::NoMemory));
    assert_eq!(setup.devices.away()[0].stream().1, RequiredOwner::Unknown);
}
