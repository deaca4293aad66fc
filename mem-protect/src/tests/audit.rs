//! Tests that the audit detects each kind of mismatch.

use super::{
    range, unchecked,
    world::{BOOT, FIRMWARE, HIGH, Machine, RAM, machine},
};
use crate::{Devices, Finding, LeafKind, Lost, Mismatch, Owner, Table};
use io_pgtable::Ipa;

fn at(pfn: u64) -> Ipa {
    Ipa(pfn << 12)
}

#[test]
fn a_machine_after_boot_and_after_transitions_is_clean() {
    let (mut owned, _world) = machine();
    assert_eq!(owned.audit(Devices::default()), Ok(()));
    owned.vm_create().unwrap();
    owned.host_donate_hyp(unchecked(RAM + 3, 2)).unwrap();
    owned.host_donate_guest(unchecked(HIGH, 8), 0).unwrap();
    owned.host_share_hyp(unchecked(RAM, 1)).unwrap();
    assert_eq!(owned.audit(Devices::default()), Ok(()));
}

#[test]
fn every_foreign_page_in_either_table_is_found() {
    for pfn in [0, RAM - 1, BOOT, BOOT + 3, FIRMWARE, RAM + 5, RAM + 64, HIGH + 7, HIGH + 8, 0x8_0000_0000] {
        for table in [Table::Cpu, Table::Dma] {
            let (mut owned, world) = machine();
            owned.host_donate_hyp(unchecked(RAM + 5, 1)).unwrap();
            owned.host_donate_hyp(unchecked(HIGH + 7, 1)).unwrap();
            let owner = owned.map().owner(pfn);
            assert_ne!(owner, Owner::Host);
            {
                let state = &mut world.get().state;
                assert!(if table == Table::Cpu { state.cpu.insert(pfn) } else { state.dma.insert(pfn) });
            }
            let expected = Finding::Table { table, ipa: at(pfn), owner, what: Mismatch::Foreign };
            assert_eq!(owned.audit(Devices::default()), Err(expected));
        }
    }
}

#[test]
fn a_missing_page_is_found() {
    let (owned, world) = machine();
    world.get().state.dma.remove(&(RAM + 7));
    let expected = Finding::Table { table: Table::Dma, ipa: at(RAM + 7), owner: Owner::Host, what: Mismatch::Missing };
    assert_eq!(owned.audit(Devices::default()), Err(expected));
}

#[test]
fn t68_the_table_of_a_guest_has_exactly_its_pages() {
    let find = |pfn: u64, what: Mismatch, change: fn(&mut Machine)| {
        let (mut owned, world) = machine();
        owned.vm_create().unwrap();
        owned.vm_create().unwrap();
        owned.host_donate_guest(unchecked(RAM + 3, 2), 0).unwrap();
        owned.host_donate_guest(unchecked(RAM + 8, 2), 1).unwrap();
        assert_eq!(owned.audit(Devices::default()), Ok(()));
        change(&mut world.get());
        let owner = if what == Mismatch::Missing { owned.map().owner(RAM + 3) } else { owned.map().owner(pfn) };
        let expected = Finding::Table { table: Table::Guest, ipa: at(pfn), owner, what };
        assert_eq!(owned.audit(Devices::default()), Err(expected));
    };
    find(RAM + 7, Mismatch::Foreign, |m| assert!(m.state.guests.get_mut(&0).unwrap().insert(RAM + 7)));
    find(RAM + 9, Mismatch::Foreign, |m| assert!(m.state.guests.get_mut(&0).unwrap().insert(RAM + 9)));
    find(BOOT, Mismatch::Foreign, |m| assert!(m.state.guests.get_mut(&0).unwrap().insert(BOOT)));
    find(RAM - 1, Mismatch::Foreign, |m| assert!(m.state.guests.get_mut(&0).unwrap().insert(RAM - 1)));
    find(0, Mismatch::Missing, |m| assert!(m.state.guests.get_mut(&0).unwrap().remove(&(RAM + 4))));
    find(RAM + 4, Mismatch::NotIdentity, |m| assert!(m.wrong.insert(RAM + 4, (RAM + 3, LeafKind::Normal)).is_none()));
    find(RAM + 4, Mismatch::WrongKind, |m| assert!(m.wrong.insert(RAM + 4, (RAM + 4, LeafKind::Device)).is_none()));
}

#[test]
fn pages_that_the_host_lost_are_counted_and_the_audit_continues() {
    let (owned, world) = machine();
    let last = HIGH + 7;
    assert_eq!(owned.map().owner(last), Owner::Host);
    {
        let state = &mut world.get().state;
        for pfn in [RAM, RAM + 7, RAM + 8, last] {
            assert!(state.dma.remove(&pfn), "{pfn:#x}");
        }
        assert!(state.cpu.remove(&(RAM + 7)));
    }
    assert!(owned.audit(Devices::default()).is_err());
    let lost = Lost { cpu: 1, dma: 4 };
    assert_eq!(owned.audit_access(Devices::default()), Ok(lost));
    assert!(!owned.explains(lost), "no call failed");
    assert!(owned.explains(Lost::default()));
    // Wrong access is still found after a missing page, in either table.
    for (table, pfn) in [(Table::Cpu, BOOT), (Table::Dma, BOOT), (Table::Dma, HIGH + 8), (Table::Cpu, RAM - 1)] {
        {
            let state = &mut world.get().state;
            assert!(if table == Table::Cpu { state.cpu.insert(pfn) } else { state.dma.insert(pfn) });
        }
        let expected = Finding::Table { table, ipa: at(pfn), owner: owned.map().owner(pfn), what: Mismatch::Foreign };
        assert_eq!(owned.audit_access(Devices::default()), Err(expected));
        let state = &mut world.get().state;
        assert!(if table == Table::Cpu { state.cpu.remove(&pfn) } else { state.dma.remove(&pfn) });
    }
    for (pfn, to, kind, finding) in [
        (RAM + 9, RAM + 10, LeafKind::Normal, Mismatch::NotIdentity),
        (RAM + 9, RAM + 9, LeafKind::Device, Mismatch::WrongKind),
    ] {
        world.get().wrong.insert(pfn, (to, kind));
        let expected = Finding::Table { table: Table::Cpu, ipa: at(pfn), owner: Owner::Host, what: finding };
        assert_eq!(owned.audit_access(Devices::default()), Err(expected));
    }
}

#[test]
fn a_leaf_that_begins_before_its_page_is_a_mismatch() {
    let (owned, world) = machine();
    world.get().early = Some(RAM + 7);
    let expected = Finding::Table { table: Table::Cpu, ipa: at(RAM + 7), owner: Owner::Host, what: Mismatch::Missing };
    assert_eq!(owned.audit_access(Devices::default()), Err(expected));
}

#[test]
fn only_devices_of_the_policy_may_be_mapped_and_never_ram() {
    let (owned, world) = machine();
    world.get().devices = std::vec![range(0x9000, 1), range(0x8090, 1)];
    let given = [range(0x8090, 1), range(0x9000, 1)];
    let both = Devices { cpu: &given, dma: &given };
    assert_eq!(owned.audit(both), Ok(()));
    let foreign =
        |table, pfn| Err(Finding::Table { table, ipa: at(pfn), owner: Owner::Device, what: Mismatch::Foreign });
    assert_eq!(owned.audit(Devices { dma: &given[..1], ..both }), foreign(Table::Dma, 0x9000));
    assert_eq!(owned.audit(Devices { cpu: &given[1..], ..both }), foreign(Table::Cpu, 0x8090));
    // A device range over RAM of another owner is still a finding.
    world.get().devices = std::vec![range(BOOT, 1)];
    let cover = [range(RAM, 64)];
    let found = owned.audit(Devices { cpu: &cover, dma: &cover });
    let expected = Finding::Table { table: Table::Cpu, ipa: at(BOOT), owner: Owner::Hyp, what: Mismatch::Foreign };
    assert_eq!(found, Err(expected));
}

#[test]
fn a_leaf_with_a_wrong_address_or_type_is_found() {
    let given = [range(0x9000, 1)];
    let devices = Devices { cpu: &given, dma: &given };
    for (pfn, to, kind, finding) in [
        (RAM + 2, RAM + 3, LeafKind::Normal, Mismatch::NotIdentity),
        (RAM + 2, RAM + 2, LeafKind::Device, Mismatch::WrongKind),
        (0x9000, RAM + 3, LeafKind::Device, Mismatch::NotIdentity),
        (0x9000, 0x9000, LeafKind::Normal, Mismatch::WrongKind),
    ] {
        let (owned, world) = machine();
        world.get().devices = given.to_vec();
        assert_eq!(owned.audit(devices), Ok(()));
        world.get().wrong.insert(pfn, (to, kind));
        let owner = owned.map().owner(pfn);
        let expected = Finding::Table { table: Table::Cpu, ipa: at(pfn), owner, what: finding };
        assert_eq!(owned.audit(devices), Err(expected), "{pfn:#x}");
    }
}
