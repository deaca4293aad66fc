//! Every page state with every operation.

use std::vec::Vec;

use super::{
    unchecked,
    world::{BOOT, CAP, FIRMWARE, HIGH, Owned, PAGES, RAM, World, check, machine, records},
};
use crate::Error::{self, *};
use crate::{PageRange, Transition};

/// Page states. Guest 0 is alive; guest 1 is dying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Host,
    HostClaimed,
    HostLentToHyp,
    HostLentToHypClaimed,
    HostLentToGuest,
    HostLentToDying,
    Boot,
    Pool,
    PoolInUse,
    Guest,
    DyingGuest,
    Firmware,
    NotRam,
}

const KINDS: [Kind; 13] = [
    Kind::Host,
    Kind::HostClaimed,
    Kind::HostLentToHyp,
    Kind::HostLentToHypClaimed,
    Kind::HostLentToGuest,
    Kind::HostLentToDying,
    Kind::Boot,
    Kind::Pool,
    Kind::PoolInUse,
    Kind::Guest,
    Kind::DyingGuest,
    Kind::Firmware,
    Kind::NotRam,
];

/// A call on one page.
type Call = fn(&mut Owned, u64) -> Result<(), Error>;

/// A call on a range.
type Ranged = fn(&mut Owned, u64, u64) -> Result<(), Error>;

/// The operations, in the order of the columns below.
const OPERATIONS: [(&str, Call); 13] = [
    ("host_share_hyp", |o, pfn| o.apply(Transition::HostShareHyp(unchecked(pfn, 1))).map(drop)),
    ("host_unshare_hyp", |o, pfn| o.apply(Transition::HostUnshareHyp(unchecked(pfn, 1))).map(drop)),
    ("host_donate_hyp", |o, pfn| o.apply(Transition::HostDonateHyp(unchecked(pfn, 1))).map(drop)),
    ("hyp_donate_host", |o, pfn| o.apply(Transition::HypDonateHost(unchecked(pfn, 1))).map(drop)),
    ("host_donate_guest alive", |o, pfn| o.apply(Transition::HostDonateGuest(unchecked(pfn, 1), 0)).map(drop)),
    ("host_donate_guest dying", |o, pfn| o.apply(Transition::HostDonateGuest(unchecked(pfn, 1), 1)).map(drop)),
    ("host_share_guest alive", |o, pfn| o.apply(Transition::HostShareGuest(unchecked(pfn, 1), 0)).map(drop)),
    ("host_share_guest dying", |o, pfn| o.apply(Transition::HostShareGuest(unchecked(pfn, 1), 1)).map(drop)),
    ("host_unshare_guest alive", |o, pfn| o.apply(Transition::HostUnshareGuest(unchecked(pfn, 1), 0)).map(drop)),
    ("host_unshare_guest dying", |o, pfn| o.apply(Transition::HostUnshareGuest(unchecked(pfn, 1), 1)).map(drop)),
    ("host_reclaim_page", |o, pfn| o.apply(Transition::HostReclaimPage(unchecked(pfn, 1))).map(drop)),
    ("add_claims", |o, pfn| o.memory_mut().add_claims(PageRange::new(pfn, 1).unwrap())),
    ("remove_claims", |o, pfn| o.memory_mut().remove_claims(PageRange::new(pfn, 1).unwrap())),
];

const OK: Result<(), Error> = Ok(());
/// Another state is needed.
const WS: Result<(), Error> = Err(WrongState);
/// Claimed.
const CL: Result<(), Error> = Err(Claimed);
/// In use by the pool.
const IU: Result<(), Error> = Err(InUse);
/// Not RAM.
const NR: Result<(), Error> = Err(NotRam);
/// The guest is dying.
const GD: Result<(), Error> = Err(GuestDying);
/// The guest is alive.
const GA: Result<(), Error> = Err(GuestAlive);

/// The result of each operation, by state of the page.
fn expected_results(kind: Kind) -> [Result<(), Error>; 13] {
    //   share unsha donat retrn dongu don-dy shgue sh-dyi unsgu uns-dy recla claim uncla
    match kind {
        Kind::Host => [OK, WS, OK, WS, OK, GD, OK, GD, WS, WS, WS, OK, WS],
        Kind::HostClaimed => [CL, WS, CL, WS, CL, GD, CL, GD, WS, WS, WS, OK, OK],
        Kind::HostLentToHyp => [WS, OK, WS, WS, WS, GD, WS, GD, WS, WS, WS, OK, WS],
        Kind::HostLentToHypClaimed => [WS, CL, WS, WS, WS, GD, WS, GD, WS, WS, WS, OK, OK],
        Kind::HostLentToGuest => [WS, WS, WS, WS, WS, GD, WS, GD, OK, WS, WS, OK, WS],
        Kind::HostLentToDying => [WS, WS, WS, WS, WS, GD, WS, GD, WS, OK, WS, OK, WS],
        Kind::Boot => [WS, WS, WS, WS, WS, GD, WS, GD, WS, WS, WS, WS, WS],
        Kind::Pool => [WS, WS, WS, OK, WS, GD, WS, GD, WS, WS, WS, WS, WS],
        Kind::PoolInUse => [WS, WS, WS, IU, WS, GD, WS, GD, WS, WS, WS, WS, WS],
        Kind::Guest => [WS, WS, WS, WS, WS, GD, WS, GD, WS, WS, GA, WS, WS],
        Kind::DyingGuest => [WS, WS, WS, WS, WS, GD, WS, GD, WS, WS, OK, WS, WS],
        Kind::Firmware => [WS, WS, WS, WS, WS, GD, WS, GD, WS, WS, WS, WS, WS],
        Kind::NotRam => [NR, NR, NR, NR, NR, GD, NR, GD, NR, NR, NR, NR, NR],
    }
}

/// A machine where guest 0 is alive, guest 1 is dying, and page `at` is of the given kind.
fn prepared(kind: Kind, at: u64) -> (Owned, World) {
    let (mut owned, world) = machine();
    owned.vm_create().unwrap();
    owned.vm_create().unwrap();
    // Keeps the handle of guest 1 in use after it is destroyed.
    owned.host_donate_guest(unchecked(HIGH, 1), 1).unwrap();
    let page = || PageRange::new(at, 1).unwrap();
    match kind {
        Kind::Host | Kind::Boot | Kind::Firmware | Kind::NotRam => (),
        Kind::HostClaimed => owned.memory_mut().add_claims(page()).unwrap(),
        Kind::HostLentToHyp => owned.host_share_hyp(unchecked(at, 1)).unwrap(),
        Kind::HostLentToHypClaimed => {
            owned.host_share_hyp(unchecked(at, 1)).unwrap();
            owned.memory_mut().add_claims(page()).unwrap();
        }
        Kind::HostLentToGuest => owned.host_share_guest(unchecked(at, 1), 0).unwrap(),
        Kind::HostLentToDying => owned.host_share_guest(unchecked(at, 1), 1).unwrap(),
        Kind::Pool => owned.host_donate_hyp(unchecked(at, 1)).unwrap(),
        Kind::PoolInUse => {
            owned.host_donate_hyp(unchecked(at, 1)).unwrap();
            assert!(world.get().state.pool.remove(&at));
        }
        Kind::Guest => owned.host_donate_guest(unchecked(at, 1), 0).unwrap(),
        Kind::DyingGuest => owned.host_donate_guest(unchecked(at, 1), 1).unwrap(),
    }
    owned.vm_destroy(1).unwrap();
    (owned, world)
}

fn place(kind: Kind) -> u64 {
    match kind {
        Kind::Boot => BOOT,
        Kind::Firmware => FIRMWARE,
        Kind::NotRam => RAM - 1,
        _ => RAM + 8,
    }
}

#[test]
fn every_operation_in_every_page_state() {
    for kind in KINDS {
        for ((name, call), expected) in OPERATIONS.into_iter().zip(expected_results(kind)) {
            let at = place(kind);
            let (mut owned, world) = prepared(kind, at);
            let before = (records(&owned), world.state());
            assert_eq!(call(&mut owned, at), expected, "{kind:?}: {name}");
            check(&owned, &world);
            if expected.is_err() {
                assert_eq!((records(&owned), world.state()), before, "{kind:?}: {name} failed but changed the state");
            }
        }
    }
}

#[test]
fn one_wrong_page_at_any_position_refuses_the_whole_range() {
    let calls: [(&str, Ranged); 3] = [
        ("host_share_hyp", |o, pfn, count| o.apply(Transition::HostShareHyp(unchecked(pfn, count))).map(drop)),
        ("host_donate_hyp", |o, pfn, count| o.apply(Transition::HostDonateHyp(unchecked(pfn, count))).map(drop)),
        ("host_donate_guest", |o, pfn, count| o.apply(Transition::HostDonateGuest(unchecked(pfn, count), 0)).map(drop)),
    ];
    for kind in
        KINDS.into_iter().filter(|&kind| !matches!(kind, Kind::Host | Kind::Boot | Kind::Firmware | Kind::NotRam))
    {
        for at in 0..4 {
            for (name, call) in calls {
                let (mut owned, world) = prepared(kind, RAM + 8 + at);
                let before = (records(&owned), world.state());
                assert!(call(&mut owned, RAM + 8, 4).is_err(), "{kind:?} at {at}: {name}");
                assert_eq!((records(&owned), world.state()), before, "{kind:?} at {at}: {name}");
            }
        }
    }
}

#[test]
fn t36_bad_ranges_return_errors_and_change_nothing() {
    let bad = [
        (RAM, 0, BadRange),
        (RAM, 1 << 63, BadRange),
        (RAM, u64::MAX, BadRange),
        (u64::MAX, 1, BadRange),
        (u64::MAX, 2, BadRange),
        (RAM, CAP + 1, BadRange),
        (0, 1, NotRam),
        (RAM - 1, 2, NotRam),
        (RAM + PAGES - 1, 2, NotRam),
        (HIGH + 7, 2, NotRam),
        (HIGH + 8, 1, NotRam),
    ];
    let calls: Vec<(&str, Ranged)> = std::vec![
        ("host_share_hyp", |o, p, n| o.apply(Transition::HostShareHyp(unchecked(p, n))).map(drop)),
        ("host_unshare_hyp", |o, p, n| o.apply(Transition::HostUnshareHyp(unchecked(p, n))).map(drop)),
        ("host_donate_hyp", |o, p, n| o.apply(Transition::HostDonateHyp(unchecked(p, n))).map(drop)),
        ("hyp_donate_host", |o, p, n| o.apply(Transition::HypDonateHost(unchecked(p, n))).map(drop)),
        ("host_donate_guest", |o, p, n| o.apply(Transition::HostDonateGuest(unchecked(p, n), 0)).map(drop)),
        ("host_share_guest", |o, p, n| o.apply(Transition::HostShareGuest(unchecked(p, n), 0)).map(drop)),
        ("host_unshare_guest", |o, p, n| o.apply(Transition::HostUnshareGuest(unchecked(p, n), 0)).map(drop)),
        ("host_reclaim_page", |o, p, n| o.apply(Transition::HostReclaimPage(unchecked(p, n))).map(drop)),
    ];
    let (mut owned, world) = prepared(Kind::Host, RAM);
    let before = (records(&owned), world.state());
    for (pfn, count, error) in bad {
        for &(name, call) in &calls {
            assert_eq!(call(&mut owned, pfn, count), Err(error), "{name}({pfn:#x}, {count:#x})");
        }
    }
    assert_eq!((records(&owned), world.state()), before);
}
