//! The ghost agrees with real transitions, and reports transitions that the map or a table does not show.

use std::{format, string::String, vec};

use super::{
    unchecked,
    world::{CAP, RAM, Step, machine},
};
use crate::ghost::Ghost;
use crate::{Error, Finding, LeafKind, Page, Table, Transition};

const AT: u64 = RAM + 8;

#[test]
fn it_applies_every_transition() {
    let (mut owned, _world) = machine();
    let mut pages = vec![Page::default(); 1024];
    let mut ghost = Ghost::new(owned.map(), &mut pages).unwrap();
    let unnamed = unchecked(0, 0);
    let kinds = [
        Transition::HostShareHyp(unnamed),
        Transition::HostUnshareHyp(unnamed),
        Transition::HostDonateHyp(unnamed),
        Transition::HypDonateHost(unnamed),
        Transition::VmCreate,
        Transition::HostShareGuest(unnamed, 9),
        Transition::HostUnshareGuest(unnamed, 9),
        Transition::HostDonateGuest(unnamed, 9),
        Transition::VmDestroy(9),
        Transition::HostReclaimPage(unnamed),
    ];
    for kind in kinds {
        let transition = kind.with(unchecked(AT, 3), 0);
        let result = owned.apply(transition);
        assert!(result.is_ok(), "{transition:?}: {result:?}");
        assert_eq!(ghost.apply(&owned, transition, result), Ok(()), "{transition:?}");
        assert_eq!(ghost.compare(owned.map()), Ok(()), "{transition:?}");
        let camel: String = transition.name().split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        assert!(format!("{transition:?}").starts_with(&camel), "{camel}");
        let named_range = !matches!(kind, Transition::VmCreate | Transition::VmDestroy(_));
        assert_eq!(transition.range(), named_range.then(|| unchecked(AT, 3)));
    }
}

#[test]
fn a_refusal_changes_nothing_and_after_a_failed_invalidation_the_map_is_copied() {
    let (mut owned, world) = machine();
    let mut pages = vec![Page::default(); 1024];
    let mut ghost = Ghost::new(owned.map(), &mut pages).unwrap();
    let too_long = Transition::HostDonateHyp(unchecked(AT, CAP + 1));
    let result = owned.apply(too_long);
    assert_eq!(result, Err(Error::BadRange));
    assert_eq!(ghost.apply(&owned, too_long, result), Ok(()));
    assert_eq!(ghost.compare(owned.map()), Ok(()));
    // In the map the host owns these pages; the ghost copies that.
    let donate = Transition::HostDonateHyp(unchecked(AT, 1));
    let done = owned.apply(donate);
    assert_eq!(ghost.apply(&owned, donate, done), Ok(()));
    let back = Transition::HypDonateHost(unchecked(AT, 1));
    assert_eq!(owned.apply(back), Ok(None));
    assert_eq!(ghost.apply(&owned, back, Err(Error::Inconsistent)), Ok(()));
    assert_eq!(ghost.compare(owned.map()), Ok(()));
    drop(world);
}

#[test]
fn a_table_that_still_maps_donated_pages_is_found() {
    let donate = Transition::HostDonateHyp(unchecked(AT, 2));
    for table in [Table::Cpu, Table::Dma] {
        let (mut owned, world) = machine();
        let mut pages = vec![Page::default(); 1024];
        let mut ghost = Ghost::new(owned.map(), &mut pages).unwrap();
        let result = owned.apply(donate);
        assert!(world.get().steps.contains(&Step::DmaRevoke));
        match table {
            Table::Cpu => world.get().state.cpu.insert(AT + 1),
            Table::Dma => world.get().state.dma.insert(AT + 1),
            Table::Guest => world.get().state.guests.get_mut(&0).unwrap().insert(AT + 1),
        };
        let found = Finding::Reach { transition: donate, pfn: AT + 1, table };
        assert_eq!(ghost.apply(&owned, donate, result), Err(found));
        assert!(format!("{found}").starts_with("after host_donate_hyp the "), "{found}");
    }
}

/// A rollback without memory leaves a page of the host unmapped until a fault maps it again. Nobody has access to it,
/// and `Stats::unmapped` counts it.
#[test]
fn sharing_pages_that_a_rollback_left_unmapped_is_not_a_finding() {
    let (mut owned, world) = machine();
    let mut pages = vec![Page::default(); 1024];
    let mut ghost = Ghost::new(owned.map(), &mut pages).unwrap();
    let (donate, share) = (Transition::HostDonateHyp(unchecked(AT, 3)), Transition::HostShareHyp(unchecked(AT, 4)));
    // The revocation from devices fails, and also the CPU mapping in the rollback.
    world.get().fail_steps(&[2, 3]);
    let result = owned.apply(donate);
    assert_eq!((result, owned.stats().unmapped), (Err(Error::NoMemory), 3));
    assert_eq!(ghost.apply(&owned, donate, result), Ok(()));
    world.get().fail_steps(&[]);
    let result = owned.apply(share);
    assert_eq!((result, ghost.apply(&owned, share, result)), (Ok(None), Ok(())));
    // One page more than the rollback left unmapped is a finding.
    world.get().state.cpu.remove(&(AT + 3));
    let back = Transition::HostUnshareHyp(unchecked(AT, 4));
    let result = owned.apply(back);
    let found = Finding::Reach { transition: back, pfn: AT + 3, table: Table::Cpu };
    assert_eq!((result, ghost.apply(&owned, back, result)), (Ok(None), Err(found)));
}

#[test]
fn a_page_left_unmapped_explains_no_other_page_and_no_wrong_mapping() {
    let rolled_back = || {
        let (mut owned, world) = machine();
        world.get().fail_steps(&[2, 3]);
        assert_eq!(owned.apply(Transition::HostDonateHyp(unchecked(AT, 3))), Err(Error::NoMemory));
        world.get().fail_steps(&[]);
        (owned, world)
    };
    for table in [Table::Cpu, Table::Dma] {
        let (mut owned, world) = rolled_back();
        let mut pages = vec![Page::default(); 1024];
        let mut ghost = Ghost::new(owned.map(), &mut pages).unwrap();
        let (given, back) =
            (Transition::HostDonateHyp(unchecked(AT + 8, 1)), Transition::HypDonateHost(unchecked(AT + 8, 1)));
        let result = owned.apply(given);
        assert_eq!((result, ghost.apply(&owned, given, result)), (Ok(None), Ok(())));
        let result = owned.apply(back);
        match table {
            Table::Cpu => world.get().state.cpu.remove(&(AT + 8)),
            Table::Dma => world.get().state.dma.remove(&(AT + 8)),
            Table::Guest => unreachable!("a table of the host"),
        };
        let found = Finding::Reach { transition: back, pfn: AT + 8, table };
        assert_eq!((result, ghost.apply(&owned, back, result)), (Ok(None), Err(found)));
    }
    let (mut owned, world) = rolled_back();
    let mut pages = vec![Page::default(); 1024];
    let mut ghost = Ghost::new(owned.map(), &mut pages).unwrap();
    let share = Transition::HostShareHyp(unchecked(AT + 8, 1));
    let result = owned.apply(share);
    world.get().wrong.insert(AT + 8, (AT + 9, LeafKind::Normal));
    let found = Finding::Reach { transition: share, pfn: AT + 8, table: Table::Cpu };
    assert_eq!((result, ghost.apply(&owned, share, result)), (Ok(None), Err(found)));
}

#[test]
fn a_revoked_page_with_a_wrong_mapping_is_found() {
    let (mut owned, world) = machine();
    let mut pages = vec![Page::default(); 1024];
    let mut ghost = Ghost::new(owned.map(), &mut pages).unwrap();
    let donate = Transition::HostDonateHyp(unchecked(AT, 1));
    let result = owned.apply(donate);
    world.get().state.dma.insert(AT);
    world.get().wrong.insert(AT, (AT + 1, LeafKind::Normal));
    let found = Finding::Reach { transition: donate, pfn: AT, table: Table::Dma };
    assert_eq!((result, ghost.apply(&owned, donate, result)), (Ok(None), Err(found)));
}
