//! Streams of guests: actions of the host on them, DMA while they change their owner, and reuse of VMIDs.

use std::cell::RefCell;
use std::rc::Rc;

use mem_protect::{Error, GuestId, GuestLife, Transition, UncheckedRange};
use model_tests::host::{ABORT, BYPASS, Host, INVALID, ON, QUEUES, STAGE1, Shape};
use model_tests::layout::{HOST_DATA, IOVA, SID, SIDS};
use model_tests::{Defect, Machine, Setup, detects_defects};
use smmu_drv::{RetireError, StreamOwner, StreamRange};
use smmu_model::arch::regs as r;
use smmu_model::{Bbml, Config, Pace, Snoop, Transfer};

/// The guest's page, and a page that the host keeps.
const PAGE: u64 = HOST_DATA;
const HOSTS: u64 = HOST_DATA + 0x1000;
/// A stream that the host keeps.
const OTHER: u32 = 9;

fn setups() -> Vec<Setup> {
    let configs = [
        Config::qemu(),
        Config { pace: Pace::Lazy, seed: 3, ..Config::full() },
        Config { two_level: false, bbml: Bbml::Level0, ril: false, ..Config::qemu() },
        Config { snoop: Snoop::NonCoherent, pace: Pace::Lazy, seed: 5, ..Config::qemu() },
    ];
    let two = |config| Setup { smmus: 2, ..Setup::guarded().with(Config { sid_bits: 9, ..config }) };
    configs.into_iter().map(two).collect()
}

fn one() -> StreamRange {
    StreamRange::one(SID)
}

fn page(pa: u64) -> UncheckedRange {
    UncheckedRange { pfn: pa / 4096, count: 1 }
}

/// A guest with this page.
fn guest_with(m: &mut Machine, pa: u64) -> GuestId {
    let Ok(Some(guest)) = m.apply(Transition::VmCreate) else { panic!("no guest") };
    assert_eq!(m.apply(Transition::HostDonateGuest(page(pa), guest.handle().into())), Ok(None));
    guest
}

/// Both streams of both SMMUs bypass in the host's tables. Each SMMU has used the page before the guest gets it.
fn started(setup: &Setup) -> (Machine, Vec<Host>, GuestId) {
    let mut m = Machine::new(setup);
    let mut hosts = Vec::new();
    for n in 0..setup.smmus {
        let mut host = Host::enable(&mut m, n, Shape::Linear);
        for sid in [SID, OTHER] {
            host.install(&mut m, sid, BYPASS);
            assert_eq!(m.dma_write(n, sid, PAGE, 1), Transfer::Done);
        }
        hosts.push(host);
    }
    let guest = guest_with(&mut m, PAGE);
    (m, hosts, guest)
}

fn aborts(m: &mut Machine, n: usize, sid: u32, pa: u64) -> bool {
    matches!(m.dma_write(n, sid, pa, 0xee), Transfer::Aborted(_))
}

/// Checks with the oracle, the audits and a device that the stream reaches the guest's page and no page of the host.
fn is_guests(m: &mut Machine, n: usize, what: &str) {
    assert_eq!(m.isolated(&SIDS), Ok(()), "{what}");
    assert_eq!(m.owners_agree(&SIDS), Ok(()), "{what}");
    assert_eq!(m.driver(n, |smmu, owner| smmu.audit(owner)), Ok(()), "{what}");
    assert_eq!(m.dma_write(n, SID, PAGE, 2), Transfer::Done, "{what}");
    assert!(aborts(m, n, SID, HOSTS), "{what}");
    assert!(aborts(m, n, OTHER, PAGE), "{what}");
    assert_eq!(m.models[n].borrow_mut().take_hazards(), [], "{what}");
}

#[test]
fn t68_entries_and_commands_of_the_host_do_not_reach_an_assigned_stream() {
    for setup in setups() {
        let (mut m, mut hosts, guest) = started(&setup);
        for (n, host) in hosts.iter_mut().enumerate() {
            assert_eq!(m.assign(n, one(), guest), Ok(()));
            is_guests(&mut m, n, "assigned");
            host.context(&m);
            host.map(&m, IOVA, HOSTS);
            for entry in [BYPASS, STAGE1, ABORT, INVALID, BYPASS] {
                host.write_ste(&m, SID, entry);
                host.write_ste(&m, OTHER, entry);
                let sid = u64::from(SID) << 32;
                // CFGI_STE, CFGI_STE_RANGE, CFGI_ALL, CFGI_CD, TLBI_NH_ALL, TLBI_NSNH_ALL.
                for command in [[sid | 3, 1], [sid | 4, 3], [4, 31], [sid | 5, 1], [0x10, 0], [0x30, 0]] {
                    host.cmd(&mut m, command);
                    host.cmd(&mut m, [u64::from(OTHER) << 32 | 3, 1]);
                    host.sync(&mut m);
                    is_guests(&mut m, n, "after a command");
                }
                let own = m.dma_write(n, OTHER, HOSTS, 3);
                assert_eq!(own == Transfer::Done, entry == BYPASS, "the host's own stream has its entry");
            }
            for (cr0, gbpa) in [(QUEUES, 0), (QUEUES, r::GBPA_ABORT), (ON, 0)] {
                host.cr0(&mut m, cr0);
                m.write32(n, r::GBPA, r::GBPA_UPDATE | gbpa);
                is_guests(&mut m, n, "after SMMUEN and GBPA changed");
            }
            // The host's entry takes effect again, with its current content.
            host.write_ste(&m, SID, BYPASS);
            assert_eq!(m.release(n, one()), Ok(()));
            assert_eq!(m.dma_write(n, SID, HOSTS, 4), Transfer::Done);
            assert!(aborts(&mut m, n, SID, PAGE));
            assert_eq!((m.isolated(&SIDS), m.owners_agree(&SIDS)), (Ok(()), Ok(())));
        }
    }
}

#[test]
fn t68_dma_while_a_stream_changes_owner_reaches_one_owner() {
    for setup in setups() {
        let (mut m, _, guest) = started(&setup);
        let seen = Rc::new(RefCell::new([0_u32; 3]));
        let counts = seen.clone();
        *m.store_hook.borrow_mut() = Some(Box::new(move |model| {
            // A transaction may begin at any store of EL2, and use cached or partly written state.
            let reach = model.reach(SID);
            let to = |pa| reach.iter().any(|reached| reached.contains(pa));
            let at = match (to(HOSTS), to(PAGE)) {
                (true, true) => 2,
                (_, guests) => usize::from(guests),
            };
            counts.borrow_mut()[at] += 1;
        }));
        for n in [0, 1, 0] {
            assert_eq!(m.assign(n, one(), guest), Ok(()));
            assert_eq!(m.dma_write(n, SID, PAGE, 5), Transfer::Done);
            assert!(aborts(&mut m, n, SID, HOSTS));
            assert_eq!(m.release(n, one()), Ok(()));
            assert_eq!(m.dma_write(n, SID, HOSTS, 5), Transfer::Done);
            assert!(aborts(&mut m, n, SID, PAGE));
            assert_eq!(m.block(n, one()), Ok(()));
            assert!(aborts(&mut m, n, SID, HOSTS) && aborts(&mut m, n, SID, PAGE));
            assert_eq!(m.isolated(&SIDS), Ok(()));
        }
        *m.store_hook.borrow_mut() = None;
        let [one, guests, both] = *seen.borrow();
        assert!(one > 0 && guests > 0, "the test needs stores of EL2 before and after the change: {one}, {guests}");
        assert_eq!(both, 0, "stores of EL2 at which the stream reaches the pages of two owners");
    }
}

#[test]
fn t68_events_of_an_assigned_stream_do_not_reach_the_host() {
    for setup in setups() {
        let (mut m, mut hosts, guest) = started(&setup);
        for (n, host) in hosts.iter_mut().enumerate() {
            // One of the host's own streams has an illegal entry: the host gets that event.
            host.install(&mut m, OTHER, INVALID);
            host.events(&mut m);
            // A SubstreamID without stage 1 is an error of the device, not of stage 2.
            let bad = |m: &mut Machine, sid| {
                let transfer = m.models[n].borrow_mut().dma_write(sid, Some(1), PAGE, &[1]);
                assert!(matches!(transfer, Transfer::Aborted(_)), "{transfer:?}");
                m.driver(n, |smmu, owner| smmu.poll_events(owner));
            };
            assert_eq!(m.assign(n, one(), guest), Ok(()));
            bad(&mut m, SID);
            assert_eq!(host.events(&mut m), [[0; 4]; 0], "while the stream is the guest's");
            bad(&mut m, OTHER);
            let of_host: Vec<_> = host.events(&mut m).iter().map(|record| record[0] >> 32).collect();
            assert_eq!(of_host, [u64::from(OTHER)]);
            // The record is written before the stream is released, and read after.
            let _ = m.models[n].borrow_mut().dma_write(SID, Some(1), PAGE, &[1]);
            assert_eq!(m.release(n, one()), Ok(()));
            m.driver(n, |smmu, owner| smmu.poll_events(owner));
            assert_eq!(host.events(&mut m), [[0; 4]; 0], "after its release");
            let taken = m.driver(n, |smmu, _| {
                std::iter::from_fn(|| smmu.take_fault())
                    .map(|fault| (fault.record.sid, fault.owner))
                    .collect::<Vec<_>>()
            });
            let owner = m.vmid_of(guest).map(StreamOwner::Domain);
            let own = taken.iter().filter(|(sid, of)| *sid == SID && Some(*of) == owner).count();
            assert_eq!(own, 2, "EL2 logged them: {taken:x?}");
            assert_eq!(m.isolated(&SIDS), Ok(()));
        }
    }
}

#[test]
fn t69_the_vmid_of_a_domain_can_be_reused_after_it_was_retired() {
    for setup in setups() {
        let (mut m, _, first) = started(&setup);
        for n in 0..2 {
            assert_eq!(m.assign(n, one(), first), Ok(()));
            assert_eq!(m.dma_write(n, SID, PAGE, 1), Transfer::Done);
        }
        let vmid = m.vmid_of(first);
        let domain = m.domains()[0];
        assert_eq!(m.retire(domain), Err(RetireError::InUse));
        assert_eq!(m.block(0, one()), Ok(()));
        assert_eq!(m.retire(domain), Err(RetireError::InUse), "the other SMMU has a stream");
        assert_eq!(m.release(1, one()), Ok(()));
        // The guest is destroyed with its page in the table: no page is invalidated, only the VMID.
        assert_eq!(m.apply(Transition::VmDestroy(first.handle().into())), Ok(None));
        assert_eq!(m.retire(domain), Ok(()));
        let second = guest_with(&mut m, HOSTS);
        for n in [1, 0] {
            assert_eq!(m.assign(n, one(), second), Ok(()));
            assert_eq!(m.vmid_of(second), vmid, "the test needs the same VMID");
            assert_eq!(m.isolated(&SIDS), Ok(()));
            assert!(aborts(&mut m, n, SID, PAGE), "a translation of the earlier domain is cached");
            assert_eq!(m.dma_write(n, SID, HOSTS, 2), Transfer::Done);
        }
        assert_eq!(m.apply(Transition::HostReclaimPage(page(PAGE))), Ok(None));
        assert!(aborts(&mut m, 0, SID, PAGE));
        assert_eq!((m.isolated(&SIDS), m.owners_agree(&SIDS)), (Ok(()), Ok(())));
    }
}

/// The pages of a destroyed guest are reclaimed while its streams still write to them.
fn destroyed_under_dma() {
    for setup in setups() {
        let (mut m, _, guest) = started(&setup);
        let handle = guest.handle().into();
        assert_eq!(m.apply(Transition::HostDonateGuest(page(HOSTS), handle)), Ok(None));
        for n in 0..2 {
            assert_eq!(m.assign(n, one(), guest), Ok(()));
        }
        let dma = |m: &mut Machine, pa| [0, 1].map(|n| m.dma_write(n, SID, pa, 7) == Transfer::Done);
        assert_eq!((dma(&mut m, PAGE), dma(&mut m, HOSTS)), ([true; 2], [true; 2]));
        assert_eq!(m.apply(Transition::HostReclaimPage(page(PAGE))), Err(Error::GuestAlive));
        assert_eq!(dma(&mut m, PAGE), [true; 2], "a refusal changes nothing");
        assert_eq!(m.apply(Transition::VmDestroy(handle)), Ok(None));
        assert_eq!((dma(&mut m, PAGE), dma(&mut m, HOSTS)), ([true; 2], [true; 2]), "the guest still owns its pages");
        for (back, left) in [(PAGE, Some(HOSTS)), (HOSTS, None)] {
            assert_eq!(m.apply(Transition::HostReclaimPage(page(back))), Ok(None));
            assert_eq!(m.isolated(&SIDS), Ok(()));
            assert_eq!(dma(&mut m, back), [false; 2]);
            assert_eq!((m.mem.cpu_read64(back), m.mem.dev_read64(back)), (0, Ok(0)), "the host gets zeroes");
            assert!(left.is_none_or(|left| dma(&mut m, left) == [true; 2]));
        }
        assert_eq!(m.owner().guest_life(guest), GuestLife::Free);
        // Another guest has the handle; the streams are still in the domain of the first guest.
        let next = guest_with(&mut m, PAGE);
        assert_eq!(next, guest);
        assert_eq!((m.vmid_of(next), dma(&mut m, PAGE)), (None, [false; 2]));
        for n in 0..2 {
            assert_eq!(m.release(n, one()), Ok(()));
        }
        let domain = m.domains()[0];
        assert_eq!((m.retire(domain), m.domains().len()), (Ok(()), 0));
        assert_eq!((m.isolated(&SIDS), dma(&mut m, HOSTS), dma(&mut m, PAGE)), (Ok(()), [true; 2], [false; 2]));
    }
}

#[test]
fn t69_a_guest_is_destroyed_under_dma() {
    detects_defects(&["no-unmap", "no-invalidate", "first-smmu-only", "wrong-page"], destroyed_under_dma);
}

#[test]
fn t69_pages_and_vmid_are_kept_after_a_timeout_of_hardware() {
    for failing in 0..2 {
        let (mut m, _, guest) = started(&Setup { smmus: 2, ..Setup::guarded() });
        for n in 0..2 {
            assert_eq!(m.assign(n, one(), guest), Ok(()));
        }
        assert_eq!(m.apply(Transition::VmDestroy(guest.handle().into())), Ok(None));
        m.models[failing].borrow_mut().inject(smmu_model::Injection::SyncNever);
        for _ in 0..2 {
            assert_eq!(m.apply(Transition::HostReclaimPage(page(PAGE))), Err(Error::NotCompleted));
            assert_eq!(m.owner().map().owner(PAGE / 4096), mem_protect::Owner::Guest(guest));
        }
        assert!(m.block(failing, one()).is_err());
        assert_eq!(m.block(1 - failing, one()), Ok(()));
        let domain = m.domains()[0];
        assert!(m.retire(domain).is_err());
        assert_eq!(m.domains(), [domain], "its VMID is still in use");
        assert_eq!((m.isolated(&SIDS), m.owners_agree(&SIDS)), (Ok(()), Ok(())));
    }
}

#[test]
fn t68_a_revoked_page_is_not_reached_by_released_streams() {
    for defect in [Defect::None, Defect::FirstSmmuOnly] {
        let (mut m, _, guest) = started(&Setup { smmus: 2, ..Setup::guarded() });
        m.set_defect(defect);
        assert_eq!(m.dma_write(1, SID, HOSTS, 1), Transfer::Done, "cached for the host");
        assert_eq!(m.assign(1, one(), guest), Ok(()));
        assert_eq!(m.donate(HOSTS, 1), Ok(()));
        assert_eq!(m.release(1, one()), Ok(()));
        // Without the invalidation the translation with the host's VMID is still cached.
        assert_eq!(m.isolated(&SIDS).is_err(), defect == Defect::FirstSmmuOnly);
        assert_eq!(aborts(&mut m, 1, SID, HOSTS), defect == Defect::None);
    }
}

#[test]
fn t69_a_stream_of_a_quiesced_smmu_loses_what_its_host_had_set() {
    for setup in setups() {
        let (mut m, mut hosts, guest) = started(&setup);
        for (n, host) in hosts.iter_mut().enumerate() {
            // Stage 1, with memory attributes in dword 1.
            host.context(&m);
            host.install(&mut m, SID, STAGE1);
            assert_eq!(m.driver(n, |smmu, _| smmu.quiesce()), Ok(()));
            assert_eq!(m.block(n, one()), Ok(()));
            assert_eq!(m.driver(n, |smmu, owner| smmu.audit(owner)), Ok(()), "{setup:?}");
            assert!(m.assign(n, one(), guest).is_err());
            assert!(aborts(&mut m, n, SID, PAGE) && aborts(&mut m, n, SID, HOSTS));
        }
    }
}
