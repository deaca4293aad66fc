//! SMMU_GBPA of the host: the mode of all streams while SMMUEN is 0.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BUF, GBPA_ABORT, GBPA_UPDATE, Rig, r, slow, smaller};
use smmu_drv::{AccessSize, WriteOutcome};

/// One trap of a store that may need several traps.
fn part(rig: &mut Rig, offset: u32, value: u64) -> WriteOutcome {
    rig.smmu.mmio_write(&mut rig.host, offset, AccessSize::Word, value)
}

#[test]
fn gbpa_update_is_set_until_every_stream_has_changed() {
    let mut rig = slow();
    let last = 0xffff;
    assert!(rig.can_reach(last, BUF));
    let mut traps = 0;
    while part(&mut rig, r::GBPA, GBPA_UPDATE | GBPA_ABORT) == WriteOutcome::Again {
        assert_eq!(rig.read(r::GBPA), GBPA_UPDATE | GBPA_ABORT);
        assert!(rig.can_reach(last, BUF), "this stream has not changed yet");
        traps += 1;
    }
    assert!(traps > 10);
    assert_eq!(rig.smmu.stats().budget_exits, traps);
    assert_eq!(rig.read(r::GBPA), GBPA_ABORT);
    assert!(!rig.can_reach(last, BUF));
    // Writing the same value again is not a change, and needs no wait.
    assert_eq!(part(&mut rig, r::GBPA, GBPA_UPDATE | GBPA_ABORT), WriteOutcome::Done);
    // A change of another field needs no wait either.
    assert_eq!(part(&mut rig, r::GBPA, GBPA_UPDATE | GBPA_ABORT | 1 << 12), WriteOutcome::Done);
    assert_eq!(rig.read(r::GBPA), GBPA_ABORT | 1 << 12);
    assert!(!rig.can_reach(last, BUF));
}

#[test]
fn gbpa_has_no_effect_while_translation_is_or_becomes_enabled() {
    let mut rig = slow();
    rig.enable_queues();
    rig.mem().cpu_write(common::STRTAB, &[0; 64 << 6]);
    rig.write64(r::STRTAB_BASE, common::STRTAB);
    rig.write(r::STRTAB_BASE_CFG, 6);
    rig.ste(3, common::BYPASS);
    let on = r::CMDQEN | r::EVENTQEN | r::SMMUEN;
    // Another CPU writes GBPA while the store to CR0 is in progress.
    let mut traps = 0;
    while part(&mut rig, r::CR0, on) == WriteOutcome::Again {
        assert_eq!(rig.read(r::CR0ACK), on & !r::SMMUEN);
        assert_eq!(part(&mut rig, r::GBPA, GBPA_UPDATE | (traps % 2) << 20), WriteOutcome::Done);
        traps += 1;
        assert!(traps < 200, "writes of GBPA restart the change");
    }
    assert!(traps > 10);
    assert_eq!(rig.read(r::CR0ACK), on);
    rig.write(r::GBPA, GBPA_UPDATE | GBPA_ABORT);
    assert!(rig.can_reach(3, BUF), "its entry determines this, not GBPA");
    assert_eq!(rig.read(r::GBPA), GBPA_ABORT, "stored, and UPDATE is clear");
    assert_eq!(part(&mut rig, r::GBPA, GBPA_UPDATE), WriteOutcome::Done);
    assert_eq!(part(&mut rig, r::GBPA, GBPA_UPDATE | GBPA_ABORT), WriteOutcome::Done);
    assert!(rig.can_reach(3, BUF));
    // GBPA applies when translation is disabled.
    while part(&mut rig, r::CR0, on & !r::SMMUEN) == WriteOutcome::Again {
        assert_eq!(rig.read(r::CR0ACK), on, "until the last stream has changed");
        assert_eq!(rig.read(r::GBPA), GBPA_ABORT, "UPDATE is clear: this is not a change of GBPA");
    }
    assert_eq!(rig.read(r::CR0ACK), on & !r::SMMUEN);
    assert!(!rig.can_reach(3, BUF));
    assert!(!rig.can_reach(0xffff, BUF));
    assert_eq!(rig.hazards(), []);
}

#[test]
fn gbpa_is_read_only_during_an_update() {
    let mut rig = smaller();
    let (abort, bypass) = (GBPA_UPDATE | GBPA_ABORT, GBPA_UPDATE);
    assert_eq!(part(&mut rig, r::GBPA, abort), WriteOutcome::Again);
    // Another CPU's store is ignored, the only behaviour that SMMUv3.2 permits [IHI 0070G 6.3.14.1].
    assert_eq!(part(&mut rig, r::GBPA, bypass | 1 << 12), WriteOutcome::Done);
    assert_eq!(rig.read(r::GBPA), abort);
    rig.write(r::GBPA, abort);
    assert_eq!(rig.read(r::GBPA), GBPA_ABORT);
    assert!(!rig.can_reach(0, BUF) && !rig.can_reach(0xfff, BUF));
    // Without UPDATE it is ignored at any time.
    rig.write(r::GBPA, 0);
    assert_eq!(rig.read(r::GBPA), GBPA_ABORT);
    // The store is not repeated: a store to CR0 ends it, and everything else that is in progress.
    assert_eq!(part(&mut rig, r::GBPA, bypass), WriteOutcome::Again);
    rig.write(r::CR0, 0);
    assert_eq!(rig.read(r::GBPA), 0);
    assert!(rig.can_reach(0xfff, BUF));
}

#[test]
fn gbpa_written_while_smmuen_is_being_cleared_applies_afterwards() {
    let mut rig = smaller();
    rig.enable_linear(4);
    assert_eq!(part(&mut rig, r::CR0, 0), WriteOutcome::Again);
    // Another CPU blocks streams that will bypass.
    rig.write(r::GBPA, GBPA_UPDATE | GBPA_ABORT);
    rig.write(r::CR0, 0);
    assert_eq!((rig.read(r::CR0ACK), rig.read(r::GBPA)), (0, GBPA_ABORT));
    for sid in [0, 9, 0xfff] {
        assert!(!rig.can_reach(sid, BUF), "stream {sid:#x} bypasses although GBPA aborts");
    }
}
