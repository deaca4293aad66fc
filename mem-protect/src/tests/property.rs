//! Long random runs compared with a simple reference model.

use std::{collections::BTreeMap, vec::Vec};

use super::{
    range, unchecked,
    world::{BOOT, CAP, FIRMWARE, HIGH, Owned, PAGES, RAM, World, check, machine},
};
use crate::{Devices, Error, Owner, PageState};

/// xorshift64*: the runs are exactly reproducible.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Host,
    Boot,
    Pool,
    Guest(u64),
    Nobody,
}

#[derive(Clone, Copy, Debug)]
struct Page {
    owner: Who,
    borrower: Option<Who>,
    claims: u32,
}

/// The model: pages, and the guests that exist (true: not dying).
struct Model {
    pages: BTreeMap<u64, Page>,
    guests: BTreeMap<u64, bool>,
}

/// Whether the model allows a call; the error codes are tested in matrix.rs.
impl Model {
    fn new() -> Self {
        let pages = (RAM..RAM + PAGES).chain(HIGH..HIGH + 8).map(|pfn| {
            let owner = match pfn {
                FIRMWARE => Who::Nobody,
                BOOT.. if pfn < BOOT + 4 => Who::Boot,
                _ => Who::Host,
            };
            (pfn, Page { owner, borrower: None, claims: 0 })
        });
        Self { pages: pages.collect(), guests: BTreeMap::new() }
    }

    /// Applies `change` if all pages are in one range of RAM and each fulfils `condition`.
    fn apply(&mut self, pfn: u64, count: u64, condition: impl Fn(&Page) -> bool, change: impl Fn(&mut Page)) -> bool {
        let fits = (1..=CAP).contains(&count) && (pfn..pfn + count).all(|p| self.pages.get(&p).is_some_and(&condition));
        if fits {
            (pfn..pfn + count).for_each(|p| change(self.pages.get_mut(&p).unwrap()));
            self.remove_unused_guests();
        }
        fits
    }

    /// Removes destroyed guests without pages.
    fn remove_unused_guests(&mut self) {
        let Self { pages, guests } = self;
        let in_use = |id: u64| pages.values().any(|p| p.owner == Who::Guest(id) || p.borrower == Some(Who::Guest(id)));
        guests.retain(|&id, alive| *alive || in_use(id));
    }
}

fn free(page: &Page) -> bool {
    page.owner == Who::Host && page.borrower.is_none() && page.claims == 0
}

/// Makes one random call on both; returns whether it was allowed.
fn step(random: &mut Random, model: &mut Model, owned: &mut Owned) -> bool {
    let pfn = match random.below(8) {
        0 => HIGH + random.below(10),
        1 => RAM + random.below(PAGES + 4),
        _ => RAM + random.below(PAGES / 2),
    };
    let count = match random.below(16) {
        0 => random.below(CAP + 3),
        1..=7 => 1,
        _ => 1 + random.below(4),
    };
    let handle = random.below(3);
    let (alive, exists) = (model.guests.get(&handle) == Some(&true), model.guests.contains_key(&handle));
    let guest = Who::Guest(handle);
    let unchecked = unchecked(pfn, count);
    let back = |page: &mut Page| page.owner = Who::Host;
    let (allowed, answer) = match random.below(12) {
        0 => (model.apply(pfn, count, free, |p| p.borrower = Some(Who::Pool)), owned.host_share_hyp(unchecked)),
        1 => {
            let shared = |p: &Page| p.borrower == Some(Who::Pool) && p.claims == 0;
            (model.apply(pfn, count, shared, |p| p.borrower = None), owned.host_unshare_hyp(unchecked))
        }
        2 => (model.apply(pfn, count, free, |p| p.owner = Who::Pool), owned.host_donate_hyp(unchecked)),
        3 => (model.apply(pfn, count, |p| p.owner == Who::Pool, back), owned.hyp_donate_host(unchecked)),
        4 => (alive && model.apply(pfn, count, free, |p| p.owner = guest), owned.host_donate_guest(unchecked, handle)),
        5 => (
            alive && model.apply(pfn, count, free, |p| p.borrower = Some(guest)),
            owned.host_share_guest(unchecked, handle),
        ),
        6 => {
            let shared = |p: &Page| p.borrower == Some(guest) && p.claims == 0;
            (
                exists && model.apply(pfn, count, shared, |p| p.borrower = None),
                owned.host_unshare_guest(unchecked, handle),
            )
        }
        7 => {
            let owner = model.pages.get(&pfn).map(|page| page.owner);
            let dying = matches!(owner, Some(Who::Guest(id)) if model.guests.get(&id) == Some(&false));
            (dying && model.apply(pfn, count, |p| Some(p.owner) == owner, back), owned.host_reclaim_page(unchecked))
        }
        8 => {
            let free = (0..).find(|id| !model.guests.contains_key(id)).unwrap();
            // The test uses at most three guests.
            if free > 2 {
                return false;
            }
            model.guests.insert(free, true);
            (true, owned.vm_create().map(|id| assert_eq!(u64::from(id.handle()), free)))
        }
        9 => {
            if alive {
                model.guests.insert(handle, false);
                model.remove_unused_guests();
            }
            (alive, owned.vm_destroy(handle))
        }
        10 => {
            let host = |p: &Page| p.owner == Who::Host;
            let fits = (1..=CAP).contains(&count) && model.apply(pfn, count, host, |p| p.claims += 1);
            if !(1..=CAP).contains(&count) {
                return false;
            }
            (fits, owned.memory_mut().add_claims(range(pfn, count)))
        }
        _ => {
            if !(1..=CAP).contains(&count) {
                return false;
            }
            (
                model.apply(pfn, count, |p| p.claims > 0, |p| p.claims -= 1),
                owned.memory_mut().remove_claims(range(pfn, count)),
            )
        }
    };
    assert_eq!(answer.is_ok(), allowed, "{answer:?} for page {pfn:#x} count {count} guest {handle}");
    allowed
}

fn agree(model: &Model, owned: &Owned, world: &World) {
    check(owned, world);
    assert_eq!(owned.audit(Devices::default()), Ok(()));
    for (&pfn, page) in &model.pages {
        let info = owned.map().page(pfn).unwrap();
        let owner = |who| match who {
            Who::Host => Owner::Host,
            Who::Boot | Who::Pool => Owner::Hyp,
            Who::Guest(id) => Owner::Guest(crate::GuestId::new(id).unwrap()),
            Who::Nobody => Owner::Device,
        };
        assert_eq!(info.owner(), owner(page.owner));
        assert_eq!(info.borrower(), page.borrower.map(owner));
        assert_eq!(u32::from(info.claims()), page.claims);
        let state = if page.borrower.is_some() { PageState::SharedOwned } else { PageState::Owned };
        assert_eq!(info.state(info.owner()), state);
    }
}

#[test]
fn random_runs_agree_with_the_model() {
    for seed in 1..=8 {
        let mut random = Random(seed);
        let (mut owned, world) = machine();
        let mut model = Model::new();
        let mut allowed = 0;
        for round in 0..4000 {
            allowed += u32::from(step(&mut random, &mut model, &mut owned));
            world.get().fail_steps(&[]);
            if round % 16 == 0 {
                agree(&model, &owned, &world);
            }
        }
        agree(&model, &owned, &world);
        assert!(allowed > 400, "seed {seed}: only {allowed} calls were allowed");
    }
}

#[test]
fn random_failures_never_break_the_invariant() {
    for seed in 1..=8 {
        let mut random = Random(seed);
        let (mut owned, world) = machine();
        let mut failed = 0;
        for _ in 0..4000 {
            let fail: Vec<usize> = (0..8).filter(|_| random.below(8) == 0).collect();
            world.get().fail_steps(&fail);
            let (pfn, count) = (RAM + random.below(PAGES / 2), 1 + random.below(4));
            let answer = match random.below(7) {
                0 => owned.host_donate_hyp(unchecked(pfn, count)),
                1 => owned.hyp_donate_host(unchecked(pfn, count)),
                2 => owned.host_donate_guest(unchecked(pfn, count), 0),
                3 => owned.host_reclaim_page(unchecked(pfn, count)),
                4 => owned.vm_create().map(|_| ()),
                5 => {
                    let _ = owned.host_fault(pfn);
                    Ok(())
                }
                _ => owned.vm_destroy(0),
            };
            failed += u32::from(matches!(answer, Err(Error::NoMemory | Error::InUse | Error::Inconsistent)));
            // The host reaches only its own pages; unmapped ones are left by a failed rollback.
            let state = world.state();
            for pfn in state.cpu.iter().chain(&state.dma) {
                assert_eq!(owned.map().owner(*pfn), Owner::Host, "page {pfn:#x} after {answer:?}");
            }
        }
        assert!(failed > 50, "seed {seed}: only {failed} calls failed");
    }
}
