//! The host's queues: commands as the architecture requires, completions, events and their overflow.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{
    BUF, BYPASS, CERROR_ABT, CFGI_ALL, CMDQ, EVENTQ_ABT_ERR, EVTQ, MMIO, MSI_CMDQ_ABT_ERR, POOL, RAM, Rig, SYNC,
    cmdq_error, r, sync_irq, tlbi_nh_asid,
};
use smmu_drv::{AccessSize, WiredIrq, WriteOutcome};
use smmu_model::{Config, Transfer};

#[test]
fn a_sync_completes_by_msi_in_the_queue_as_in_linux() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    let slot = CMDQ + u64::from(rig.prod & 0xff) * 16;
    rig.queue([0x46 | 1 << 12 | 3 << 22 | 0xf << 24, slot]);
    rig.ring();
    assert_eq!(rig.mem().cpu_read32(slot), 0, "MSIDATA overwrites the low word");
    assert_eq!(rig.read(r::CMDQ_CONS), u64::from(rig.prod));
    assert_eq!(rig.smmu.stats().msi_writes, 1);
    // The wired interrupt is raised for every address [S 4.7.3].
    assert_eq!(rig.irqs(), [WiredIrq::CmdqSync]);
    // A store to another address in the host's memory, with data.
    rig.queue(sync_irq(0xabcd, BUF + 12));
    rig.ring();
    assert_eq!(rig.mem().cpu_read32(BUF + 12), 0xabcd);
    assert_eq!(rig.irqs(), [WiredIrq::CmdqSync]);
    // Without an address, only the wired interrupt.
    rig.queue(sync_irq(0, 0));
    rig.ring();
    assert_eq!(rig.irqs(), [WiredIrq::CmdqSync]);
}

#[test]
fn t10_t52_an_msi_outside_host_memory_writes_nothing_and_the_sync_completes() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    rig.write(r::IRQ_CTRL, 1);
    rig.mem().cpu_write32(POOL + 0x100, 0x55);
    for address in [POOL + 0x100, POOL + 0x103, MMIO, 0, RAM + common::RAM_SIZE, RAM - 4, 0x1_0000_0000, u64::MAX] {
        rig.irqs();
        let before = rig.read(r::GERROR) ^ rig.read(r::GERRORN);
        assert_eq!(before, 0);
        rig.queue(sync_irq(0xbad, address));
        rig.ring();
        assert_eq!(rig.read(r::CMDQ_CONS), u64::from(rig.prod), "{address:#x}");
        if address < 4 {
            assert_eq!(rig.irqs(), [WiredIrq::CmdqSync]);
            continue;
        }
        assert_eq!(rig.read(r::GERROR) ^ rig.read(r::GERRORN), MSI_CMDQ_ABT_ERR, "{address:#x}");
        assert_eq!(rig.irqs(), [WiredIrq::Gerror, WiredIrq::CmdqSync]);
        let gerror = rig.read(r::GERROR);
        rig.write(r::GERRORN, gerror);
    }
    assert_eq!(rig.mem().cpu_read32(POOL + 0x100), 0x55);
    assert_eq!(rig.mem().take_mmio_writes(), []);
    // An address beyond the host's OAS is truncated to it [3.4.3].
    rig.queue(sync_irq(0x77, BUF | 1 << 45));
    rig.ring();
    assert_eq!(rig.mem().cpu_read32(BUF), 0x77);
}

#[test]
fn without_idr0_msi_a_sync_raises_the_wired_interrupt_and_stores_nothing() {
    let mut probe = common::firmware(&Config::qemu());
    probe.msi = smmu_drv::MsiAdvert::Hidden;
    let mut rig = Rig::on(common::Board::new(Config::qemu()), probe);
    assert_eq!(rig.read(r::IDR0) & 1 << 13, 0);
    rig.enable_linear(4);
    rig.queue(sync_irq(0x77, BUF));
    rig.ring();
    assert_eq!(rig.irqs(), [WiredIrq::CmdqSync]);
    assert_eq!(rig.mem().cpu_read32(BUF), 0);
}

#[test]
fn a_sync_of_the_host_is_forwarded_and_the_batch_has_one_wait() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    let (syncs, writes) = (rig.smmu.stats().syncs, rig.board.0.mmio.get());
    for n in 0..40 {
        rig.queue(tlbi_nh_asid(n % 7));
        if n % 4 == 3 {
            rig.queue(sync_irq(n + 1, BUF + n * 4));
        }
    }
    rig.ring();
    assert_eq!((rig.smmu.stats().syncs - syncs, rig.board.0.mmio.get() - writes), (10, 1));
    for n in (3..40).step_by(4) {
        assert_eq!(u64::from(rig.mem().cpu_read32(BUF + n * 4)), n + 1);
    }
}

#[test]
fn t12_t52_a_command_queue_in_foreign_memory_is_a_fetch_abort() {
    for base in [POOL, MMIO & !0xfff, RAM + common::RAM_SIZE, RAM - 0x1000, 0xff_ffff_f000, 0x00ff_ffff_ffff_ffe0] {
        let mut rig = Rig::qemu();
        rig.write64(r::CMDQ_BASE, base | 8);
        rig.write(r::CMDQ_PROD, 0);
        rig.write(r::CMDQ_CONS, 0);
        rig.write(r::CR0, r::CMDQEN);
        assert_eq!(rig.read(r::CR0ACK), r::CMDQEN);
        rig.write(r::CMDQ_PROD, 2);
        assert_eq!(rig.read(r::CMDQ_CONS), cmdq_error(0, CERROR_ABT), "{base:#x}: CERROR_ABT at 0");
        assert_eq!(rig.read(r::GERROR) ^ rig.read(r::GERRORN), 1);
        // The queue can be used after it is enabled again.
        let gerror = rig.read(r::GERROR);
        rig.write(r::CR0, 0);
        rig.write(r::GERRORN, gerror);
        rig.enable_queues();
        rig.issue(&[CFGI_ALL]);
        assert!(rig.smmu.stats().claims_refused > 0);
    }
}

#[test]
fn a_queue_larger_than_idr1_is_limited() {
    let mut rig = Rig::qemu();
    // The last 256 KiB of RAM: 2^14 commands fit, 2^19 do not.
    let base = RAM + common::RAM_SIZE - 0x4_0000;
    rig.write64(r::CMDQ_BASE, base | 19);
    rig.write(r::CR0, r::CMDQEN);
    rig.store(base, SYNC[0]);
    rig.write(r::CMDQ_PROD, 1);
    assert_eq!(rig.read(r::CMDQ_CONS), 1);
    assert_eq!(rig.read64(r::CMDQ_BASE), base | 19, "reads back as written");
}

#[test]
fn t13_a_queue_page_cannot_be_donated_while_the_queue_is_enabled() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    for page in [CMDQ, EVTQ] {
        assert!(!rig.host.donate(page));
    }
    rig.write(r::CR0, 0);
    assert_eq!(rig.host.claims.len(), 0, "everything is released");
    assert!(rig.host.donate(EVTQ));
    rig.mem().cpu_write64(EVTQ, 0x1111);
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
    assert!(matches!(rig.dma_write(8, BUF, 1), Transfer::Aborted(_)));
    rig.read(r::EVENTQ_PROD);
    assert_eq!(rig.read(r::GERROR) ^ rig.read(r::GERRORN), EVENTQ_ABT_ERR, "EVENTQ_ABT_ERR");
    assert_eq!(rig.mem().cpu_read64(EVTQ), 0x1111);
    assert_eq!(rig.read(r::EVENTQ_PROD), 0);
}

#[test]
fn t14_the_checked_command_is_the_one_that_is_sent() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    let mem = rig.mem().clone();
    // After each fetch of a word the word changes to TLBI_EL2_ALL with all other bits set.
    rig.host.on_read = Some(Box::new(move |at| mem.cpu_write64(at, 0x20 | u64::MAX << 8)));
    for _ in 0..3 {
        rig.queue(tlbi_nh_asid(5));
        rig.queue(SYNC);
    }
    rig.ring();
    assert_eq!(rig.read(r::CMDQ_CONS), u64::from(rig.prod));
    assert_eq!(rig.read(r::GERROR), rig.read(r::GERRORN));
    assert_eq!(rig.hazards(), []);
}

#[test]
fn t24_inconsistent_indices_neither_hang_nor_over_read() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    for slot in 0..256 {
        rig.store(CMDQ + slot * 16, SYNC[0]);
        rig.store(CMDQ + slot * 16 + 8, 0);
    }
    for prod in [0x1ff, 0x100, 0, 0xff, 0x1f0, 0xf_ffff, 0xffff_ffff, 3, 2, 1, 0x180, 0x7f] {
        rig.host.log.borrow_mut().clear();
        rig.write(r::CMDQ_PROD, prod);
        assert_eq!(rig.read(r::CMDQ_CONS), prod & 0x1ff);
        assert!(rig.host.log.borrow().iter().all(|at| (CMDQ..CMDQ + 4096).contains(at)));
    }
    // CONS and the base are read-only while the queue is enabled.
    rig.write(r::CMDQ_CONS, 0x33);
    assert_eq!(rig.read(r::CMDQ_CONS), 0x7f);
    rig.write64(r::CMDQ_BASE, POOL);
    assert_eq!(rig.read64(r::CMDQ_BASE) & !0xfff, CMDQ | 1 << 62);
    rig.write(r::CR0, 0);
    rig.enable_queues();
    rig.issue(&[CFGI_ALL]);
}

#[test]
fn t19_t25_the_work_of_a_trap_is_bounded_and_the_result_is_correct() {
    let mut rig = Rig::new(Config { two_level: false, sid_bits: 14, ..Config::qemu() });
    rig.enable_linear(14);
    for sid in [0, 1, 4000, 16383] {
        rig.ste(sid, BYPASS);
    }
    rig.host.log.borrow_mut().clear();
    rig.queue(CFGI_ALL);
    rig.queue(SYNC);
    let prod = u64::from(rig.prod);
    let mut traps = 0;
    loop {
        let before = rig.host.reads.get();
        let outcome = rig.smmu.mmio_write(&mut rig.host, r::CMDQ_PROD, AccessSize::Word, prod);
        assert!(rig.host.reads.get() - before < 10_000, "one trap read too much host memory");
        traps += 1;
        if outcome == WriteOutcome::Done {
            break;
        }
    }
    assert!(traps > 3);
    assert_eq!(rig.read(r::CMDQ_CONS), prod);
    for sid in [0, 1, 4000, 16383] {
        assert_eq!(rig.dma_write(sid, BUF, 1), Transfer::Done, "{sid}");
    }
    // A queue full of the most expensive command, without a SYNC between them: one walk.
    let updates = rig.smmu.stats().ste_updates;
    for _ in 0..200 {
        rig.queue(CFGI_ALL);
    }
    rig.queue(SYNC);
    rig.ring();
    assert_eq!(rig.smmu.stats().ste_updates, updates + 16384);
    assert_eq!(rig.hazards(), []);
}

#[test]
fn t26_el2s_invalidation_does_not_need_the_hosts_queue() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    rig.set_ste(8, BYPASS);
    assert_eq!(rig.dma_write(8, BUF, 1), Transfer::Done);
    rig.write(r::CR0, r::SMMUEN);
    assert_eq!(rig.read(r::CR0ACK), r::SMMUEN);
    rig.s2.unmap(BUF);
    rig.smmu.tlb_invalidate_host(smmu_drv::Stale::Range { ipa: io_pgtable::Ipa(BUF), size: 4096 }).unwrap();
    assert!(!rig.can_reach(8, BUF));
}

#[test]
fn t27_enables_toggled_in_any_order_leak_no_claim() {
    let mut state = 7_u64;
    for _ in 0..8 {
        let mut rig = Rig::qemu();
        rig.enable_linear(4);
        rig.ste(3, BYPASS);
        for _ in 0..16 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let cr0 = state >> 40 & 0x1f;
            rig.write(r::CR0, cr0);
            let expected = cr0 & 0xd;
            assert_eq!(rig.read(r::CR0ACK), expected);
            assert_eq!(rig.read(r::CR0), expected);
            let claims = u32::from(cr0 & 8 != 0) + u32::from(cr0 & 4 != 0);
            assert_eq!(rig.host.claims.values().sum::<u32>(), claims);
        }
        assert!(!rig.el2_reachable(3));
        assert_eq!(rig.hazards(), []);
    }
}
