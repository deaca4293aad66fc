//! The memory that each device reaches, according to the model's oracle.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use example_board::{Board, RAM};
use example_partitions::{Error, Partitions};
use io_pgtable::{HeapMemory, Ipa, Pa};
use smmu_drv::{AssignError, ProbeConfig, StreamOwner, Unassigned};
use smmu_model::{Config, Pace, Snoop, Transfer};

/// The IPA of both guests' memory.
const IPA: u64 = 0x1_0000;
/// Two pages of each guest.
const A: u64 = RAM;
const B: u64 = RAM + 0x10_0000;
/// The devices: stream 8 behind the first SMMU, stream 9 behind the second.
const DISK: u32 = 8;
const NET: u32 = 9;

struct Machine {
    disk: Board,
    net: Board,
    partitions: Partitions<Board, HeapMemory>,
}

fn config(board: &Board) -> ProbeConfig {
    ProbeConfig { unassigned: Unassigned::Blocked, ..ProbeConfig::new(board.coherency()) }
}

/// Two SMMUs, of which the second supports fewer address bits and cannot change a block that is in use, and two guests
/// with two pages each.
fn machine(base: Config) -> Machine {
    let disk = Board::new(base.clone());
    let net = disk.another(Config { oas: 2, bbml: smmu_model::Bbml::Level0, seed: 2, ..base });
    let both = [&disk, &net].map(|board| (board.clone(), config(board), Default::default()));
    let mut partitions = Partitions::start(both, disk.tables(), 40, 48).unwrap();
    for (vmid, pa) in [(1, A), (2, B)] {
        partitions.create(vmid).unwrap();
        for page in [0, 0x1000] {
            partitions.map(vmid, Ipa(IPA + page), Pa(pa + page)).unwrap();
        }
    }
    Machine { disk, net, partitions }
}

fn machines() -> Vec<Machine> {
    let apart = Config { snoop: Snoop::NonCoherent, ..Config::qemu() };
    vec![machine(Config::qemu()), machine(Config { pace: Pace::Lazy, ..Config::qemu() }), machine(apart)]
}

impl Machine {
    fn check(&self) {
        assert_eq!((self.disk.hazards(), self.net.hazards()), (vec![], vec![]));
    }
}

#[test]
fn a_device_reaches_only_its_guests_pages() {
    for mut machine in machines() {
        let Machine { disk, net, partitions } = &mut machine;
        assert!(!disk.reaches_anything(DISK) && !net.reaches_anything(NET), "after take-over");
        partitions.give(1, 0, DISK).unwrap();
        partitions.give(2, 1, NET).unwrap();
        for (board, sid, own, other) in [(&*disk, DISK, A, B), (&*net, NET, B, A)] {
            assert_eq!(board.dma_write(sid, IPA + 8, 7), Transfer::Done);
            board.mem().invalidate(own..own + 64);
            assert_eq!(board.mem().cpu_read64(own + 8), 7);
            assert!(board.reaches(sid, own) && board.reaches(sid, own + 0x1fff));
            assert!(!board.reaches(sid, own + 0x2000) && !board.reaches(sid, other) && !board.reaches(sid, IPA));
            assert!(matches!(board.dma_write(sid, own, 7), Transfer::Aborted(_)), "the physical address");
        }
        // Other streams of the SMMUs reach nothing.
        assert!(!disk.reaches_anything(NET) && !net.reaches_anything(DISK));
        machine.check();
    }
}

#[test]
fn a_revoked_page_is_not_reached_and_its_fault_contains_the_guest() {
    for mut machine in machines() {
        let Machine { disk, net, partitions } = &mut machine;
        partitions.give(1, 0, DISK).unwrap();
        partitions.give(1, 1, NET).unwrap();
        assert_eq!((disk.dma_write(DISK, IPA, 1), net.dma_write(NET, IPA, 1)), (Transfer::Done, Transfer::Done));
        partitions.revoke(1, Ipa(IPA)).unwrap();
        assert!(!disk.reaches(DISK, A) && !net.reaches(NET, A));
        assert!(disk.reaches(DISK, A + 0x1000) && net.reaches(NET, A + 0x1000), "the next page is still reached");
        assert_eq!(partitions.revoke(1, Ipa(IPA)), Err(Error::Mapping));
        assert!(matches!(net.dma_write(NET, IPA, 1), Transfer::Aborted(_)));
        let mut seen = Vec::new();
        partitions.faults(|fault| seen.push((fault.owner, fault.record.sid, fault.record.detail.unwrap().ipa)));
        assert_eq!(seen, [(StreamOwner::Domain(1), NET, Some(Ipa(IPA)))]);
        machine.check();
    }
}

#[test]
fn a_vmid_can_be_reused_after_its_guest_is_destroyed() {
    for mut machine in machines() {
        let Machine { disk, partitions, .. } = &mut machine;
        partitions.give(1, 0, DISK).unwrap();
        assert_eq!(disk.dma_write(DISK, IPA, 1), Transfer::Done);
        assert_eq!(partitions.create(1), Err(Error::Unknown), "in use");
        assert_eq!(partitions.destroy(1, &[]), Err(Error::Unknown), "the guest has a device");
        partitions.destroy(1, &[(0, DISK)]).unwrap();
        assert!(!disk.reaches_anything(DISK));
        let live = disk.tables().live_bytes();
        // A guest with the same VMID and IPA gets another page.
        partitions.create(1).unwrap();
        partitions.map(1, Ipa(IPA), Pa(B + 0x8000)).unwrap();
        partitions.give(1, 0, DISK).unwrap();
        assert!(disk.reaches(DISK, B + 0x8000) && !disk.reaches(DISK, A) && !disk.reaches(DISK, B));
        partitions.destroy(1, &[(0, DISK)]).unwrap();
        assert_eq!(disk.tables().live_bytes(), live, "every table is freed");
        machine.check();
    }
}

#[test]
fn an_smmu_that_lost_its_power_is_programmed_again() {
    for mut machine in machines() {
        let Machine { disk, partitions, .. } = &mut machine;
        partitions.give(1, 0, DISK).unwrap();
        for programmed in [Partitions::check_alive, Partitions::resume] {
            disk.lose_power();
            assert!(disk.reaches(DISK, B), "after a reset all streams bypass");
            programmed(partitions).unwrap();
            assert!(disk.reaches(DISK, A) && !disk.reaches(DISK, B));
        }
        machine.check();
    }
}

#[test]
fn pages_and_vmids_keep_their_owner_when_an_smmu_does_not_respond() {
    let mut machine = machine(Config::qemu());
    let Machine { disk, net, partitions } = &mut machine;
    partitions.give(1, 0, DISK).unwrap();
    partitions.give(1, 1, NET).unwrap();
    net.fail();
    assert_eq!(partitions.revoke(1, Ipa(IPA)), Err(Error::Unsafe));
    assert!(matches!(partitions.destroy(1, &[(0, DISK), (1, NET)]), Err(Error::Stream(AssignError::Failed(_)))));
    assert_eq!(partitions.create(1), Err(Error::Unknown));
    assert!(!disk.reaches(DISK, A), "the other SMMU's translations are invalidated");
}
