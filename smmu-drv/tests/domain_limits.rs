//! A hostile host cannot use up the level-2 tables that EL2 needs to give its streams to another owner.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BUF, BYPASS, CFGI_ALL, GUEST, L2TAB, Rig, STRTAB, Stage2, enable_two_level, l2_ste};
use smmu_drv::{AssignError, StreamRange};
use smmu_model::{Config, Transfer};

/// Number of blocks of the host's table: more than its maximum of private tables.
const BLOCKS: u32 = 300;

#[test]
fn t68_tables_are_reserved_for_other_owners() {
    let mut rig = Rig::new(Config { sid_bits: 17, ..Config::qemu() });
    enable_two_level(&mut rig, 8, 17);
    l2_ste(&rig, 8, 0, BYPASS);
    for block in 0..u64::from(BLOCKS) {
        rig.store(STRTAB + block * 8, L2TAB | 9);
    }
    rig.issue(&[CFGI_ALL]);
    assert_eq!(rig.dma_write(0, BUF, 1), Transfer::Done);
    assert!(!rig.can_reach((BLOCKS - 1) << 8, BUF), "the host has used up its share");
    let mut guest = Stage2::of_guest(rig.mem(), 2);
    guest.map(GUEST);
    // Streams of 32 blocks without a private table, and no more.
    for block in 0..32 {
        let stream = StreamRange::one((400 + block) << 8);
        assert_eq!(rig.smmu.block(&mut rig.host, stream), Ok(()), "{block}");
        assert_eq!(rig.smmu.assign(stream, &guest.cfg()), Ok(()));
        assert!(rig.can_reach(stream.first(), GUEST));
    }
    assert_eq!(rig.smmu.block(&mut rig.host, StreamRange::one(450 << 8)), Err(AssignError::NoMemory));
    // A whole block needs no table.
    let whole = StreamRange::new(450 << 8, 256).unwrap();
    assert_eq!(rig.smmu.block(&mut rig.host, whole), Ok(()));
    assert_eq!((rig.smmu.audit(&rig.host), rig.hazards()), (Ok(()), vec![]));
}
