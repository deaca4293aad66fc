//! A driver that restores its registers after the SMMU was off: in its own order, by 32-bit stores, and CR0 last.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BUF, C_BAD_STE, CMDQ, EVTQ, OVERFLOW, Rig, STRTAB, r, record};
use smmu_model::{Config, Transfer};

/// CR0 with everything on.
const ON: u64 = r::CMDQEN | r::EVENTQEN | r::SMMUEN;

/// Registers that a driver saves, by their 32-bit words, and restores in this order: each queue's PROD before its CONS.
const SAVED: [u32; 15] =
    [0x28, 0x2c, 0x80, 0x84, 0x88, 0x94, 0x90, 0x98, 0x9c, 0xa4, 0xa0, 0x100a8, 0x100ac, 0xb0, 0xb4];

#[test]
fn nothing_is_consumed_before_cr0_and_the_overflow_flag_is_kept() {
    for config in [Config::qemu(), Config::full()] {
        let mut rig = Rig::new(config);
        rig.enable_linear(4);
        rig.set_ste(9, common::BYPASS);
        // 130 records into a queue of 128: an overflow that the host has not acknowledged.
        for _ in 0..130 {
            rig.dma_write(10, BUF, 1);
            rig.read(r::EVENTQ_PROD);
        }
        let mut saved = SAVED.map(|offset| rig.read(offset));
        assert_eq!(saved[11], OVERFLOW | 128);
        // Two commands wait, and PROD has bits that only the driver uses.
        rig.queue([0xff, 0]);
        rig.prod -= 1;
        rig.queue(common::CFGI_ALL);
        rig.queue(common::SYNC);
        saved[7] = u64::from(rig.prod) | 0xabc0_0000;
        rig.write(r::CR0, 0);
        assert_eq!(rig.dma_write(10, BUF, 1), Transfer::Done, "translation off: only stage 2");
        for offset in SAVED {
            rig.write(offset, 0);
        }
        let commands = rig.smmu.stats().host_commands;
        for (offset, value) in SAVED.into_iter().zip(saved) {
            rig.write(offset, value);
            assert_eq!(rig.smmu.stats().host_commands, commands, "consumed after the store to {offset:#x}");
        }
        assert_eq!(rig.read(r::CMDQ_CONS), u64::from(rig.prod - 2));
        assert_eq!((rig.read(r::EVENTQ_PROD), rig.read(r::EVENTQ_CONS)), (OVERFLOW | 128, 0));
        // One store consumes all commands.
        rig.write(r::CR0, ON);
        assert_eq!(rig.read(r::CR0ACK), ON);
        assert_eq!(rig.smmu.stats().host_commands, commands + 2);
        assert_eq!(rig.read(r::CMDQ_CONS), u64::from(rig.prod));
        for (offset, value) in SAVED.into_iter().zip(saved) {
            if !matches!(offset, r::CMDQ_PROD | r::CMDQ_CONS) {
                assert_eq!(rig.read(offset), value, "{offset:#x}");
            }
        }
        assert_eq!((rig.read(r::GERROR), rig.read(r::GERRORN)), (0, 0));
        assert_eq!(rig.dma_write(9, BUF, 1), Transfer::Done);
        assert!(matches!(rig.dma_write(10, BUF, 1), Transfer::Aborted(_)));
        // The queue is full and the overflow is still pending: it is not signalled twice.
        assert_eq!(rig.read(r::EVENTQ_PROD), OVERFLOW | 128);
        assert_eq!(rig.events().len(), 128);
        rig.dma_write(10, BUF, 1);
        assert_eq!(rig.events(), [record(C_BAD_STE, 10)]);
        assert_eq!(rig.hazards(), []);
    }
}

/// If an index is written while its queue has another size, it is reduced to that size when the queue is enabled, not
/// before: the architecture requires BASE first and leaves the rest UNKNOWN [IHI 0070G 6.3.26, 6.3.27], so no driver
/// may depend on it.
#[test]
fn indices_written_before_the_base_are_reduced_at_the_enable() {
    let mut rig = Rig::qemu();
    rig.write64(r::STRTAB_BASE, STRTAB);
    for (offset, value) in [(r::CMDQ_PROD, 0xf_ffff), (r::CMDQ_CONS, 0xf_ffff), (r::EVENTQ_PROD, 0xf_ffff)] {
        rig.write(offset, value);
    }
    rig.write64(r::CMDQ_BASE, CMDQ | 8);
    rig.write64(r::EVENTQ_BASE, EVTQ | 7);
    let prod = rig.read(r::EVENTQ_PROD);
    rig.write(r::EVENTQ_CONS, prod);
    rig.write(r::CR0, ON);
    assert_eq!(rig.read(r::CR0ACK), ON);
    assert_eq!(rig.read(r::CMDQ_PROD), rig.read(r::CMDQ_CONS));
    assert_eq!((rig.read(r::GERROR), rig.hazards()), (0, vec![]));
}
