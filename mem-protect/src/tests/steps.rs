//! The order of steps of each transition, and the state after each step has failed.

use super::{
    range, unchecked,
    world::{Owned, RAM, Step, Step::*, World, check, machine, records},
};
use crate::{Devices, Error, FaultAnswer, GuestLife, Lost, Owner, PageState, TableError};

/// A transition, its initial state and its steps.
struct Case {
    name: &'static str,
    prepare: fn(&mut Owned, &World),
    call: fn(&mut Owned) -> Result<(), Error>,
    steps: &'static [Step],
}

const AT: u64 = RAM + 8;
const COUNT: u64 = 3;

const CASES: [Case; 8] = [
    Case { name: "host_share_hyp", prepare: |_, _| (), call: |o| o.host_share_hyp(unchecked(AT, COUNT)), steps: &[] },
    Case {
        name: "host_unshare_hyp",
        prepare: |o, _| o.host_share_hyp(unchecked(AT, COUNT)).unwrap(),
        call: |o| o.host_unshare_hyp(unchecked(AT, COUNT)),
        steps: &[],
    },
    Case {
        name: "host_donate_hyp",
        prepare: |_, _| (),
        call: |o| o.host_donate_hyp(unchecked(AT, COUNT)),
        steps: &[El2Map, CpuUnmap, DmaRevoke, CleanInvalidate, AddToPool],
    },
    Case {
        name: "hyp_donate_host",
        prepare: |o, w| {
            o.host_donate_hyp(unchecked(AT, COUNT)).unwrap();
            use_pages(w);
        },
        call: |o| o.hyp_donate_host(unchecked(AT, COUNT)),
        steps: &[RemoveFromPool, Zero, CpuMap, DmaGrant, El2Unmap],
    },
    Case {
        name: "host_donate_guest",
        prepare: |o, _| assert_eq!(o.vm_create().map(|id| id.handle()), Ok(0)),
        call: |o| o.host_donate_guest(unchecked(AT, COUNT), 0),
        steps: &[El2Map, CpuUnmap, DmaRevoke, CleanInvalidate, GuestGrant, El2Unmap],
    },
    Case {
        name: "host_share_guest",
        prepare: |o, _| assert_eq!(o.vm_create().map(|id| id.handle()), Ok(0)),
        call: |o| o.host_share_guest(unchecked(AT, COUNT), 0),
        steps: &[],
    },
    Case {
        name: "host_unshare_guest",
        prepare: |o, _| {
            o.vm_create().unwrap();
            o.host_share_guest(unchecked(AT, COUNT), 0).unwrap();
        },
        call: |o| o.host_unshare_guest(unchecked(AT, COUNT), 0),
        steps: &[],
    },
    Case {
        name: "host_reclaim_page",
        prepare: |o, w| {
            o.vm_create().unwrap();
            o.host_donate_guest(unchecked(AT, COUNT), 0).unwrap();
            o.vm_destroy(0).unwrap();
            use_pages(w);
        },
        call: |o| o.host_reclaim_page(unchecked(AT, COUNT)),
        steps: &[El2Map, GuestRevoke, Zero, El2Unmap, CpuMap, DmaGrant, GuestEnd],
    },
];

/// The new owner writes to the pages.
fn use_pages(world: &World) {
    let mut machine = world.get();
    for pfn in AT..AT + COUNT {
        machine.dirty.insert(pfn);
        machine.cleaned.remove(&pfn);
    }
}

/// Whether the step can report an error at all.
fn can_fail(step: Step) -> bool {
    match step {
        CpuUnmap | CpuMap | DmaRevoke | DmaGrant | GuestCreate | GuestGrant | GuestRevoke | El2Map | RemoveFromPool => {
            true
        }
        // `GuestEnd` is called after the steps of the transition, and is tested separately.
        GuestEnd | El2Unmap | CleanInvalidate | Zero | AddToPool => false,
    }
}

#[test]
fn each_transition_does_its_steps_in_order() {
    for case in CASES {
        let (mut owned, world) = machine();
        (case.prepare)(&mut owned, &world);
        world.get().fail_steps(&[]);
        assert_eq!((case.call)(&mut owned), Ok(()), "{}", case.name);
        assert_eq!(world.get().steps, case.steps, "{}", case.name);
        check(&owned, &world);
    }
}

#[test]
fn t35_t47_a_failed_step_changes_nothing() {
    for case in CASES {
        for (number, &step) in case.steps.iter().enumerate().filter(|&(_, &step)| can_fail(step)) {
            for dma_error in [TableError::NoMemory, TableError::NotCompleted] {
                let (mut owned, world) = machine();
                (case.prepare)(&mut owned, &world);
                world.get().dma_error = Some(dma_error);
                let before = (records(&owned), world.state());
                world.get().fail_steps(&[number]);
                let error = match step {
                    RemoveFromPool => Error::InUse,
                    DmaRevoke | DmaGrant | GuestGrant | GuestRevoke => dma_error.into(),
                    _ => Error::NoMemory,
                };
                assert_eq!((case.call)(&mut owned), Err(error), "{} without {step:?}", case.name);
                assert_eq!((records(&owned), world.state()), before, "{} without {step:?}", case.name);
                check(&owned, &world);
                world.get().fail_steps(&[]);
                assert_eq!((case.call)(&mut owned), Ok(()), "{} after a failed {step:?}", case.name);
                check(&owned, &world);
            }
        }
    }
}

#[test]
fn a_failed_rollback_is_completed_at_a_fault_of_the_host() {
    let (mut owned, world) = machine();
    // Steps 2 and 3 fail: the revocation from devices, and the CPU mapping in the rollback.
    world.get().fail_steps(&[2, 3]);
    assert_eq!(owned.host_donate_hyp(unchecked(AT, COUNT)), Err(Error::NoMemory));
    assert_eq!(owned.stats().unmapped, COUNT);
    assert_eq!(owned.map().page(AT).unwrap().state(Owner::Host), PageState::Owned);
    assert!(!world.state().cpu.contains(&AT) && world.state().dma.contains(&AT));
    let lost = Lost { cpu: COUNT, dma: 0 };
    assert_eq!(owned.audit_access(Devices::default()), Ok(lost));
    assert!(owned.explains(lost) && !owned.explains(Lost { cpu: COUNT + 1, dma: 0 }));
    for pfn in AT..AT + COUNT {
        world.get().fail_steps(&[0]);
        assert_eq!(owned.host_fault(pfn), FaultAnswer::Deny, "no memory yet");
        world.get().fail_steps(&[]);
        assert_eq!(owned.host_fault(pfn), FaultAnswer::Retry);
    }
    check(&owned, &world);
}

#[test]
fn the_host_owns_pages_of_a_grant_that_cannot_be_rolled_back() {
    for (prepare, call, fail) in [(CASES[3].prepare, CASES[3].call, [3, 4]), (CASES[7].prepare, CASES[7].call, [5, 6])]
    {
        let (mut owned, world) = machine();
        prepare(&mut owned, &world);
        world.get().fail_steps(&fail);
        assert_eq!(call(&mut owned), Err(Error::Inconsistent));
        // The host's CPUs reach the pages, so the host owns them; its devices do not reach them.
        assert_eq!(owned.map().page(AT).unwrap().state(Owner::Host), PageState::Owned);
        assert!(world.state().cpu.contains(&AT) && !world.state().dma.contains(&AT));
        assert!(!world.state().pool.contains(&AT) && !world.state().el2.contains(&AT));
    }
}

#[test]
fn t49_a_fault_on_a_mapped_page_is_retried_and_on_a_foreign_one_denied() {
    let (mut owned, _world) = machine();
    owned.host_donate_hyp(unchecked(AT, 1)).unwrap();
    assert_eq!(owned.host_fault(AT + 1), FaultAnswer::Retry);
    assert_eq!(owned.host_fault(AT), FaultAnswer::Deny);
    assert_eq!(owned.host_fault(0x9000), FaultAnswer::Deny);
    assert_eq!(owned.host_fault(u64::MAX), FaultAnswer::Deny);
}

#[test]
fn pool_pages_in_use_are_not_returned() {
    let (mut owned, world) = machine();
    owned.host_donate_hyp(unchecked(AT, COUNT)).unwrap();
    world.get().state.pool.remove(&(AT + 1));
    let before = (records(&owned), world.state());
    assert_eq!(owned.hyp_donate_host(unchecked(AT, COUNT)), Err(Error::InUse));
    assert_eq!((records(&owned), world.state()), before);
    assert_eq!(owned.hyp_donate_host(unchecked(AT, 1)), Ok(()));
}

#[test]
fn a_handle_is_reused_only_when_no_page_has_it() {
    let (mut owned, world) = machine();
    let first = owned.vm_create().unwrap();
    assert_eq!(owned.vm_create().map(|id| id.handle()), Ok(1));
    owned.host_donate_guest(unchecked(AT, 2), 0).unwrap();
    owned.host_share_guest(unchecked(AT + 4, 1), 0).unwrap();
    owned.vm_destroy(0).unwrap();
    assert_eq!(owned.guest_life(first), GuestLife::Dying);
    assert_eq!(owned.host_donate_guest(unchecked(AT + 8, 1), 0), Err(Error::GuestDying));
    assert_eq!(owned.host_share_guest(unchecked(AT + 8, 1), 0), Err(Error::GuestDying));
    assert_eq!(owned.vm_destroy(0), Err(Error::GuestDying));
    assert_eq!(owned.vm_create().map(|id| id.handle()), Ok(2));
    owned.host_reclaim_page(unchecked(AT, 2)).unwrap();
    assert_eq!(owned.guest_life(first), GuestLife::Dying, "a page is still shared with it");
    owned.host_unshare_guest(unchecked(AT + 4, 1), 0).unwrap();
    assert_eq!(owned.guest_life(first), GuestLife::Free);
    assert_eq!(owned.vm_create().map(|id| id.handle()), Ok(0));
    check(&owned, &world);
}

#[test]
fn t69_a_handle_is_not_free_while_a_device_or_an_smmu_uses_it() {
    let (mut owned, world) = machine();
    let guest = owned.vm_create().unwrap();
    assert_eq!(owned.guest_gets_device(0), Ok(guest));
    assert_eq!(owned.guest_gets_device(1), Err(Error::NoSuchGuest));
    owned.vm_destroy(0).unwrap();
    assert_eq!(owned.guest_gets_device(0), Err(Error::GuestDying));
    assert_eq!(owned.guest_life(guest), GuestLife::Dying);
    assert_eq!(owned.vm_create().map(|id| id.handle()), Ok(1), "a new guest gets another handle");
    owned.guest_loses_device(guest);
    assert_eq!(owned.guest_life(guest), GuestLife::Free);
    let again = owned.vm_create().unwrap();
    assert_eq!(again, guest);
    // An SMMU does not complete the invalidation: the handle is never used again.
    world.get().fail_steps(&[0]);
    owned.vm_destroy(0).unwrap();
    assert_eq!(owned.guest_life(guest), GuestLife::Dying);
    assert_eq!(owned.vm_create().map(|id| id.handle()), Ok(2));
    check(&owned, &world);
}

#[test]
fn t68_a_reclaim_that_failed_without_memory_can_be_repeated() {
    let (mut owned, world) = machine();
    owned.vm_create().unwrap();
    owned.host_donate_guest(unchecked(AT, COUNT), 0).unwrap();
    owned.vm_destroy(0).unwrap();
    // Mapping for the host's CPUs fails, and then mapping for the guest in the rollback.
    world.get().fail_steps(&[4, 5]);
    assert_eq!(owned.host_reclaim_page(unchecked(AT, COUNT)), Err(Error::NoMemory));
    assert_eq!(owned.audit(Devices::default()), Ok(()), "a dying guest may have lost pages");
    world.get().fail_steps(&[]);
    assert_eq!(owned.host_reclaim_page(unchecked(AT, COUNT)), Ok(()));
    check(&owned, &world);
}

#[test]
fn guests_run_out() {
    let (mut owned, _world) = machine();
    for handle in 0..crate::MAX_GUESTS {
        assert_eq!(owned.vm_create().map(|id| id.handle()), Ok(handle));
    }
    assert_eq!(owned.vm_create(), Err(Error::TooManyGuests));
    owned.vm_destroy(7).unwrap();
    assert_eq!(owned.vm_create().map(|id| id.handle()), Ok(7));
    for handle in [u64::from(crate::MAX_GUESTS), 255, 256, u64::MAX] {
        assert_eq!(owned.vm_destroy(handle), Err(Error::NoSuchGuest));
        assert_eq!(owned.host_donate_guest(unchecked(AT, 1), handle), Err(Error::NoSuchGuest));
    }
    assert!(range(AT, 1).count() == 1);
}
