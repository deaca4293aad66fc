//! A CPU on which EL2 assigns a stream to one guest after the other, all with the same VMID.

use mem_protect::{PAGE_BYTES, Transition, UncheckedRange};
use shuttle::rand::{Rng, thread_rng};
use smmu_drv::{Stage2Cfg, Stale, StreamRange};
use smmu_model::{Model, Reachable, Transfer};

use crate::faults::{Fault, fault};
use crate::world::{EL2, EL2_BYTES, RAM, SMMUS, VMID, World, scheduling_point, world};
use io_pgtable::{Ipa, Pa};

/// The stream that changes its owner.
pub(crate) const SID: u32 = 5;
/// VMID of every guest.
const GUEST: u16 = VMID + 1;
/// Pages that guests get.
const PAGES: [u64; 2] = [50, 51];
/// Tables of the guests' IOMMU stage 2: two concatenated roots, level 2 and level 3 for each.
const TABLES: u64 = EL2 + 0x1_0000;
const TABLE_BYTES: u64 = 0x4000;
/// AF, inner shareable, read and write, normal write-back memory, a page [DDI 0487 D8.3].
const LEAF: u64 = 1 << 10 | 3 << 8 | 3 << 6 | 0xf << 2 | 3;

/// The owner of the stream of an SMMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// The host.
    Host,
    /// Nobody, or a guest that has no page.
    Nobody,
    /// The guest with this page.
    Guest(u64),
    /// EL2 is changing the owner, to or from the guest with this page.
    Changing(u64),
}

/// Table number `slot`.
struct Table(u64);

impl Table {
    fn new(world: &World, slot: usize, page: u64) -> Self {
        let area = TABLES + u64::try_from(slot).unwrap() * TABLE_BYTES;
        let table = Self(area);
        let entries =
            [(area + (RAM >> 30) * 8, area + 0x2000), (area + 0x2000 + (RAM >> 21 & 0x1ff) * 8, area + 0x3000)];
        world.mem.store_at_once(&entries.map(|(at, next)| (at, next | 3)));
        world.mem.store_at_once(&[(table.leaf(page), page | LEAF)]);
        table
    }

    fn leaf(&self, page: u64) -> u64 {
        self.0 + 0x3000 + (page >> 12 & 0x1ff) * 8
    }

    fn config(&self, host: Stage2Cfg) -> Stage2Cfg {
        Stage2Cfg { ttb: Pa(self.0), sl0: 1, vmid: GUEST, ..host }
    }
}

fn one() -> StreamRange {
    StreamRange::one(SID)
}

/// A change of owner on SMMU `n`, under the locks that a hypercall holds.
fn change(world: &World, n: usize, page: u64, next: User, table: &Table) {
    world.set_user(n, User::Changing(page));
    let mut ownership = world.ownership().lock();
    let config = table.config(ownership.dma().config());
    let mut smmu = world.smmus()[n].lock();
    assert_eq!(smmu.block(ownership.memory_mut(), one()), Ok(()));
    let end = match next {
        User::Host => smmu.release(ownership.memory_mut(), one()),
        User::Nobody => Ok(()),
        User::Guest(_) | User::Changing(_) => smmu.assign(one(), &config),
    };
    assert_eq!(end, Ok(()), "{next:?}");
    world.set_user(n, next);
    drop(smmu);
    drop(ownership);
    world.check();
}

/// Unmaps the page from the guest's table and invalidates every SMMU, while the guest keeps its stream.
fn unmap(world: &World, page: u64, table: &Table) {
    let ownership = world.ownership().lock();
    world.mem.store_at_once(&[(table.leaf(page), 0)]);
    scheduling_point();
    let count = if fault() == Fault::OneSmmu { 1 } else { SMMUS };
    for smmu in world.smmus().iter().take(count) {
        let stale = Stale::Range { ipa: Ipa(page), size: PAGE_BYTES };
        assert_eq!(smmu.lock().tlb_submit(GUEST, stale), Ok(()));
    }
    for smmu in world.smmus().iter().take(count) {
        assert_eq!(smmu.lock().tlb_wait(), Ok(()));
    }
    (0..SMMUS).for_each(|n| world.set_user(n, User::Nobody));
    drop(ownership);
    world.check();
}

/// Guests are created and destroyed; the stream of both SMMUs is assigned to each of them.
pub(crate) fn assignments(rounds: usize) {
    let world = world();
    let call = |transition| world.ownership().lock().apply(transition);
    for round in 0..rounds {
        let number = PAGES[round % PAGES.len()];
        let (page, range) = (RAM + number * PAGE_BYTES, UncheckedRange { pfn: RAM / PAGE_BYTES + number, count: 1 });
        let Ok(Some(guest)) = call(Transition::VmCreate) else { panic!("no guest") };
        let handle = u64::from(guest.handle());
        assert_eq!(call(Transition::HostDonateGuest(range, handle)), Ok(None));
        world.foreign.borrow_mut().insert(page);
        let table = Table::new(&world, round % PAGES.len(), page);
        for n in 0..SMMUS {
            change(&world, n, page, User::Guest(page), &table);
            let transfer = world.models[n].borrow_mut().dma_write(SID, None, page, &[0xdd]);
            assert_eq!(transfer, Transfer::Done, "the guest's device faults");
        }
        scheduling_point();
        assert_eq!(call(Transition::VmDestroy(handle)), Ok(None));
        let unmapped = thread_rng().r#gen::<bool>();
        if unmapped {
            unmap(&world, page, &table);
            world.foreign.borrow_mut().remove(&page);
            assert_eq!(call(Transition::HostReclaimPage(range)), Ok(None));
        }
        for n in 0..SMMUS {
            // The page was unmapped, and belongs to the host again.
            let next = if thread_rng().r#gen() { User::Host } else { User::Nobody };
            change(&world, n, page, next, &table);
        }
        for smmu in world.smmus() {
            let _ownership = world.ownership().lock();
            assert_eq!(smmu.lock().retire(GUEST), Ok(()));
        }
        if !unmapped {
            world.foreign.borrow_mut().remove(&page);
            assert_eq!(call(Transition::HostReclaimPage(range)), Ok(None));
        }
        assert_eq!(world.mem.cpu_read64(page), 0, "page {number} is not zeroed");
    }
    let table = Table(TABLES);
    (0..SMMUS).for_each(|n| change(&world, n, 0, User::Host, &table));
}

/// The invariant of the stream that changes its owner.
pub(crate) fn check(world: &World, n: usize, model: &Model, user: User) {
    let foreign = world.foreign.borrow();
    let reach = model.reach(SID);
    let within = |reached: &Reachable, page: u64| reached.pa >= page && reached.pa + reached.size <= page + PAGE_BYTES;
    let is_foreign = |reached: &Reachable| {
        let end = reached.pa.saturating_add(reached.size);
        foreign.range(reached.pa & !(PAGE_BYTES - 1)..end).next().is_some()
            || (reached.pa < EL2 + EL2_BYTES && end > EL2)
    };
    let bad = match user {
        User::Host => reach.iter().find(|reached| is_foreign(reached)),
        User::Nobody => reach.first(),
        User::Guest(page) => reach.iter().find(|reached| !within(reached, page)),
        User::Changing(page) => {
            // The stream may reach pages of either owner, but never of both at the same time.
            let guests = reach.iter().any(|reached| within(reached, page) && foreign.contains(&page));
            reach.iter().find(|reached| if guests { !within(reached, page) } else { is_foreign(reached) })
        }
    };
    assert!(bad.is_none(), "a foreign page is reachable: SMMU {n} stream {SID}, {user:x?}: {bad:x?}");
}
