//! The ghost follows real transitions, and notices those that did not happen.

use std::{format, string::String, vec};

use super::{
    named,
    world::{CAP, RAM, Step, machine},
};
use crate::ghost::Ghost;
use crate::{Error, Finding, Page, Table, Transition};

const AT: u64 = RAM + 8;

#[test]
fn it_follows_every_transition_with_its_own_numbers() {
    let (mut owned, _world) = machine();
    let mut pages = vec![Page::default(); 1024];
    let mut ghost = Ghost::new(owned.map(), &mut pages).unwrap();
    let unnamed = named(0, 0);
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
        let transition = kind.with(named(AT, 3), 0);
        let result = owned.apply(transition);
        assert!(result.is_ok(), "{transition:?}: {result:?}");
        assert_eq!(ghost.follow(&owned, transition, result), Ok(()), "{transition:?}");
        assert_eq!(ghost.compare(owned.map()), Ok(()), "{transition:?}");
        let camel: String = transition.name().split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        assert!(format!("{transition:?}").starts_with(&camel), "{camel}");
        let named_range = !matches!(kind, Transition::VmCreate | Transition::VmDestroy(_));
        assert_eq!(transition.range(), named_range.then(|| named(AT, 3)));
    }
}

#[test]
fn a_refusal_moves_nothing_and_a_failed_invalidation_leaves_the_word_to_the_map() {
    let (mut owned, world) = machine();
    let mut pages = vec![Page::default(); 1024];
    let mut ghost = Ghost::new(owned.map(), &mut pages).unwrap();
    let too_long = Transition::HostDonateHyp(named(AT, CAP + 1));
    let result = owned.apply(too_long);
    assert_eq!(result, Err(Error::BadRange));
    assert_eq!(ghost.follow(&owned, too_long, result), Ok(()));
    assert_eq!(ghost.compare(owned.map()), Ok(()));
    // Of these the map says the host's, whatever the ghost thought.
    let donate = Transition::HostDonateHyp(named(AT, 1));
    let done = owned.apply(donate);
    assert_eq!(ghost.follow(&owned, donate, done), Ok(()));
    let back = Transition::HypDonateHost(named(AT, 1));
    assert_eq!(owned.apply(back), Ok(None));
    assert_eq!(ghost.follow(&owned, back, Err(Error::Inconsistent)), Ok(()));
    assert_eq!(ghost.compare(owned.map()), Ok(()));
    drop(world);
}

#[test]
fn a_table_that_keeps_what_was_taken_is_found() {
    let donate = Transition::HostDonateHyp(named(AT, 2));
    for table in [Table::Cpu, Table::Dma] {
        let (mut owned, world) = machine();
        let mut pages = vec![Page::default(); 1024];
        let mut ghost = Ghost::new(owned.map(), &mut pages).unwrap();
        let result = owned.apply(donate);
        assert!(world.get().steps.contains(&Step::DmaRevoke));
        match table {
            Table::Cpu => world.get().state.cpu.insert(AT + 1),
            Table::Dma => world.get().state.dma.insert(AT + 1),
        };
        let found = Finding::Reach { transition: donate, pfn: AT + 1, table };
        assert_eq!(ghost.follow(&owned, donate, result), Err(found));
        assert!(format!("{found}").starts_with("after host_donate_hyp the "), "{found}");
    }
}
