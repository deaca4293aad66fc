//! Fault records of streams that change their owner.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BUF, BYPASS, GUEST, Rig, Stage2, aborted, record};
use smmu_drv::{StreamOwner, StreamRange};
use smmu_model::{Config, Pace, Transfer};

/// The stream that changes its owner.
const SID: u32 = 8;
/// The guest's VMID.
const VM: u16 = 2;

fn one() -> StreamRange {
    StreamRange::one(SID)
}

/// The host configures bypass for the stream; the guest has one page.
fn started(config: Config) -> (Rig, Stage2) {
    let mut rig = Rig::new(config);
    rig.enable_linear(5);
    rig.set_ste(SID, BYPASS);
    assert_eq!(rig.dma_write(SID, BUF, 1), Transfer::Done);
    let mut stage2 = Stage2::of_guest(rig.mem(), VM);
    stage2.map(GUEST);
    (rig, stage2)
}

fn assign(rig: &mut Rig, stage2: &Stage2) {
    rig.smmu.block(&mut rig.host, one()).unwrap();
    rig.smmu.assign(one(), &stage2.cfg()).unwrap();
}

fn release(rig: &mut Rig) {
    rig.smmu.block(&mut rig.host, one()).unwrap();
    rig.smmu.release(&mut rig.host, one()).unwrap();
}

/// A transaction with a SubstreamID but without stage 1: an error that is reported to the host.
fn bad(rig: &mut Rig) {
    assert!(aborted(&rig.board.0.model.borrow_mut().dma_write(SID, Some(1), GUEST, &[1])));
}

#[test]
fn t68_records_of_a_foreign_stream_are_not_reported_to_the_host() {
    let (mut rig, stage2) = started(Config::qemu());
    rig.set_ste(SID, [0; 8]);
    // A record of the host's own stream reaches the host, even if the stream is blocked before the host reads its queue.
    assert!(aborted(&rig.dma_write(SID, BUF, 1)));
    assign(&mut rig, &stage2);
    assert_eq!(rig.events(), [record(4, SID)]);
    while rig.smmu.take_fault().is_some() {}
    // A record of the guest's stream does not reach the host, neither then nor later.
    bad(&mut rig);
    rig.smmu.poll_events(&mut rig.host);
    assert_eq!(rig.events(), [[0; 4]; 0]);
    assert_eq!(rig.smmu.take_fault().map(|fault| (fault.record.sid, fault.record.ssid)), Some((SID, Some(1))));
    bad(&mut rig);
    release(&mut rig);
    rig.smmu.poll_events(&mut rig.host);
    assert_eq!(rig.events(), [[0; 4]; 0]);
    assert_eq!(rig.smmu.take_fault().map(|fault| fault.record.sid), Some(SID));
    // A host whose streams bypass gets its own records.
    rig.set_ste(SID, BYPASS);
    bad(&mut rig);
    rig.smmu.poll_events(&mut rig.host);
    assert_eq!(rig.events().len(), 1);
}

#[test]
fn t68_a_record_has_the_owner_of_its_stream_at_its_time() {
    let lazy = Config { pace: Pace::Lazy, ..Config::qemu() };
    let linear = Config { two_level: false, sid_bits: 10, ..lazy.clone() };
    for config in [Config::qemu(), lazy, linear] {
        let (mut rig, stage2) = started(config);
        rig.set_ste(SID, [0; 8]);
        // Nobody reads the queue before the stream has its next owner.
        bad(&mut rig);
        assign(&mut rig, &stage2);
        bad(&mut rig);
        rig.smmu.block(&mut rig.host, one()).unwrap();
        // Blocked streams abort without a record.
        bad(&mut rig);
        release(&mut rig);
        bad(&mut rig);
        rig.smmu.poll_events(&mut rig.host);
        let owners = std::iter::from_fn(|| rig.smmu.take_fault()).map(|fault| (fault.record.sid, fault.owner));
        let expected = [StreamOwner::Host, StreamOwner::Domain(VM), StreamOwner::Host].map(|owner| (SID, owner));
        assert_eq!(owners.collect::<Vec<_>>(), expected);
        assert_eq!(rig.events().len(), 2, "the host gets its own records");
        assert_eq!((rig.smmu.audit(&rig.host), rig.hazards()), (Ok(()), vec![]));
    }
}
