//! The host's queues: commands with the architecture's answers, completions, events and their overflow.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BUF, BYPASS, CFGI_ALL, CMDQ, EVTQ, MMIO, POOL, RAM, Rig, SYNC, cfgi_ste, r};
use smmu_drv::{AccessSize, WiredIrq, WriteOutcome};
use smmu_model::{Config, Pace, Transfer};

/// Issues one command and expects CERROR_ILL at it; repairs the queue as Linux does.
fn illegal(rig: &mut Rig, cmd: [u64; 2]) {
    let at = rig.prod;
    rig.queue(cmd);
    rig.queue(SYNC);
    rig.ring();
    assert_eq!(rig.read(r::CMDQ_CONS), u64::from(at) | 1 << 24, "{cmd:x?}");
    assert_eq!(rig.read(r::GERROR) ^ rig.read(r::GERRORN), 1, "{cmd:x?}");
    // A new PROD does not restart the queue.
    rig.ring();
    assert_eq!(rig.read(r::CMDQ_CONS) & 0xfffff, u64::from(at));
    let slot = CMDQ + u64::from(at & 0xff) * 16;
    rig.store(slot, SYNC[0]);
    rig.store(slot + 8, SYNC[1]);
    let gerror = rig.read(r::GERROR);
    rig.write(r::GERRORN, gerror);
    assert_eq!(rig.read(r::CMDQ_CONS) & 0xfffff, u64::from(rig.prod), "{cmd:x?}");
}

/// What an SMMU with stage 1 only and nothing optional answers, written down independently of the driver.
fn legal(op: u64) -> bool {
    matches!(op, 1 | 2 | 3 | 4 | 5 | 6 | 0x10..=0x13 | 0x30 | 0x46)
}

#[test]
fn t22_t23_every_opcode_gets_the_architectures_answer() {
    for config in [Config::qemu(), Config { pace: Pace::Lazy, ..Config::full() }] {
        let mut rig = Rig::new(config);
        rig.enable_linear(4);
        for op in 0..=255 {
            if legal(op) {
                rig.issue(&[[op, 0]]);
            } else {
                illegal(&mut rig, [op, 0]);
            }
        }
        assert_eq!(rig.hazards(), []);
    }
}

#[test]
fn t23_t48_random_payloads_never_stop_el2s_own_queue() {
    for (seed, config) in [(1_u64, Config::qemu()), (2, Config::full()), (3, Config { ril: false, ..Config::qemu() })] {
        let mut rig = Rig::new(config);
        rig.enable_linear(4);
        let mut state = seed;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for _ in 0..3_000 {
            let op = random() % 0x80;
            // CFGI_STE_RANGE over everything is tested elsewhere.
            let cmd = [random() & !0xff | op, if op == 4 { random() & !0x1c } else { random() }];
            rig.queue(cmd);
            rig.ring();
            if rig.read(r::GERROR) != rig.read(r::GERRORN) {
                let slot = CMDQ + (rig.read(r::CMDQ_CONS) & 0xff) * 16;
                rig.store(slot, SYNC[0]);
                rig.store(slot + 8, SYNC[1]);
                let gerror = rig.read(r::GERROR);
                rig.write(r::GERRORN, gerror);
            }
            assert_eq!(rig.read(r::CMDQ_CONS) & 0xfffff, u64::from(rig.prod), "{cmd:x?}");
        }
        assert_eq!(rig.smmu.stats().cmdq_recoveries, 0);
        assert_eq!(rig.hazards(), []);
    }
}

#[test]
fn secure_streams_and_reserved_encodings_are_illegal() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    for op in [1, 2, 3, 4, 5, 6] {
        illegal(&mut rig, [op | 1 << 10, 0]);
    }
    // Reserved completion signal.
    illegal(&mut rig, [0x46 | 3 << 12, 0]);
    // Range fields that say nothing: a level that the granule does not have says nothing either.
    for op in [0x12, 0x13] {
        for granule in 1..4 {
            illegal(&mut rig, [op, granule << 10]);
        }
        illegal(&mut rig, [op, 2 << 10 | 1 << 8]);
        rig.issue(&[[op | 3 << 12, 2 << 10 | 1 << 8]]);
        rig.issue(&[[op | 1 << 12, 1 << 10 | 0x4000_0000], [op, 1 << 10 | 3 << 8 | 0x4000_0000]]);
    }
}

#[test]
fn out_of_range_streams_have_no_effect() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    let dropped = rig.smmu.stats().dropped_commands;
    let far = 1 << 48;
    rig.issue(&[[3 | far, 1], [4 | far, 4], [5 | far, 0], [6 | far, 0], [5 | 1 << 12, 0]]);
    assert_eq!(rig.smmu.stats().dropped_commands, dropped + 5);
    assert_eq!(rig.hazards(), []);
}

#[test]
fn a_sync_completes_by_msi_in_the_queue_as_linux_wants_it() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    let slot = CMDQ + u64::from(rig.prod & 0xff) * 16;
    rig.queue([0x46 | 1 << 12 | 3 << 22 | 0xf << 24, slot]);
    rig.ring();
    assert_eq!(rig.mem().cpu_read32(slot), 0, "MSIDATA overwrites the low word");
    assert_eq!(rig.read(r::CMDQ_CONS), u64::from(rig.prod));
    assert_eq!(rig.smmu.stats().msi_writes, 1);
    // The wired interrupt comes whatever the address [S 4.7.3].
    assert_eq!(rig.irqs(), [WiredIrq::CmdqSync]);
    // Elsewhere in the host's memory, with data.
    rig.queue([0x46 | 1 << 12 | 0xabcd << 32, BUF + 12]);
    rig.ring();
    assert_eq!(rig.mem().cpu_read32(BUF + 12), 0xabcd);
    assert_eq!(rig.irqs(), [WiredIrq::CmdqSync]);
    // No address: the wired interrupt alone.
    rig.queue([0x46 | 1 << 12, 0]);
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
        rig.queue([0x46 | 1 << 12 | 0xbad << 32, address]);
        rig.ring();
        assert_eq!(rig.read(r::CMDQ_CONS), u64::from(rig.prod), "{address:#x}");
        if address < 4 {
            assert_eq!(rig.irqs(), [WiredIrq::CmdqSync]);
            continue;
        }
        assert_eq!(rig.read(r::GERROR) ^ rig.read(r::GERRORN), 1 << 4, "{address:#x}");
        assert_eq!(rig.irqs(), [WiredIrq::Gerror, WiredIrq::CmdqSync]);
        let gerror = rig.read(r::GERROR);
        rig.write(r::GERRORN, gerror);
    }
    assert_eq!(rig.mem().cpu_read32(POOL + 0x100), 0x55);
    assert_eq!(rig.mem().take_mmio_writes(), []);
    // An address beyond the host's OAS is truncated to it [3.4.3].
    rig.queue([0x46 | 1 << 12 | 0x77 << 32, BUF | 1 << 45]);
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
    rig.queue([0x46 | 1 << 12 | 0x77 << 32, BUF]);
    rig.ring();
    assert_eq!(rig.irqs(), [WiredIrq::CmdqSync]);
    assert_eq!(rig.mem().cpu_read32(BUF), 0);
}

#[test]
fn a_sync_of_the_host_is_one_of_hardware_and_the_batch_is_waited_for_once() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    let (syncs, writes) = (rig.smmu.stats().syncs, rig.board.0.mmio.get());
    for n in 0..40 {
        rig.queue([0x11 | (n % 7) << 48, 0]);
        if n % 4 == 3 {
            rig.queue([0x46 | 1 << 12 | (n + 1) << 32, BUF + n * 4]);
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
        assert_eq!(rig.read(r::CMDQ_CONS), 2 << 24, "{base:#x}: CERROR_ABT at 0");
        assert_eq!(rig.read(r::GERROR) ^ rig.read(r::GERRORN), 1);
        // The queue is usable after a new start.
        let gerror = rig.read(r::GERROR);
        rig.write(r::CR0, 0);
        rig.write(r::GERRORN, gerror);
        rig.enable_queues();
        rig.issue(&[CFGI_ALL]);
        assert!(rig.smmu.stats().claims_refused > 0);
    }
}

#[test]
fn a_queue_larger_than_idr1_says_is_cut_to_size() {
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
fn t13_a_queue_page_cannot_be_given_away_while_the_queue_is_on() {
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
    assert_eq!(rig.read(r::GERROR) ^ rig.read(r::GERRORN), 1 << 2, "EVENTQ_ABT_ERR");
    assert_eq!(rig.mem().cpu_read64(EVTQ), 0x1111);
    assert_eq!(rig.read(r::EVENTQ_PROD), 0);
}

#[test]
fn t14_what_was_checked_is_what_is_sent() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    let mem = rig.mem().clone();
    // After each fetch of a word the slot says TLBI_EL2_ALL, or anything at all.
    rig.host.on_read = Some(Box::new(move |at| mem.cpu_write64(at, 0x20 | u64::MAX << 8)));
    for _ in 0..3 {
        rig.queue([0x11 | 5 << 48, 0]);
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
    // CONS is read-only while the queue is on, and the base too.
    rig.write(r::CMDQ_CONS, 0x33);
    assert_eq!(rig.read(r::CMDQ_CONS), 0x7f);
    rig.write64(r::CMDQ_BASE, POOL);
    assert_eq!(rig.read64(r::CMDQ_BASE) & !0xfff, CMDQ | 1 << 62);
    rig.write(r::CR0, 0);
    rig.enable_queues();
    rig.issue(&[CFGI_ALL]);
}

#[test]
fn t19_t25_work_of_one_trap_is_bounded_and_the_result_is_right() {
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
        assert!(rig.host.reads.get() - before < 10_000, "one trap did too much");
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
    // A queue full of the costliest command, without a SYNC in between: one walk.
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
    rig.smmu.tlb_invalidate(smmu_drv::Stale::Range { ipa: io_pgtable::Ipa(BUF), size: 4096 }).unwrap();
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

#[test]
fn the_event_queue_overflows_exactly_as_hardwares_would() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    rig.write(r::IRQ_CTRL, 4);
    assert_eq!(rig.board.0.model.borrow_mut().read32(r::IRQ_CTRL), 4, "hardware's interrupt follows");
    let fault = |rig: &mut Rig| {
        rig.dma_write(9, BUF, 1);
    };
    for _ in 0..100 {
        fault(&mut rig);
    }
    assert_eq!(rig.read(r::EVENTQ_PROD), 100);
    for _ in 0..28 {
        fault(&mut rig);
    }
    // Full: 128 records, other wrap bit, no overflow yet.
    assert_eq!(rig.read(r::EVENTQ_PROD), 0x80);
    fault(&mut rig);
    assert_eq!(rig.read(r::EVENTQ_PROD), 0x80 | 1 << 31, "overflow");
    fault(&mut rig);
    assert_eq!(rig.read(r::EVENTQ_PROD), 0x80 | 1 << 31, "still one overflow");
    // The host reads two, without acknowledging.
    rig.write(r::EVENTQ_CONS, 2);
    fault(&mut rig);
    assert_eq!(rig.read(r::EVENTQ_PROD), 0x81 | 1 << 31);
    // Acknowledged, full again, overflow again: the flag toggles.
    rig.write(r::EVENTQ_CONS, 1 | 1 << 31);
    fault(&mut rig);
    assert_eq!(rig.read(r::EVENTQ_PROD) >> 31, 0, "full and overflowed a second time");
    assert_eq!(rig.smmu.stats().host_events_lost, 3);
    assert_eq!(rig.hazards(), []);
}

#[test]
fn t43_a_flood_costs_el2_a_bounded_amount_and_keeps_the_first_faults() {
    let mut rig = Rig::qemu();
    for n in 0..5_000_u64 {
        rig.dma_write(9, POOL + n * 8 % 0x10_0000, 1);
        if n % 1000 == 0 {
            rig.smmu.poll_events(&mut rig.host);
        }
    }
    rig.smmu.poll_events(&mut rig.host);
    assert!(rig.smmu.stats().event_overflows > 0);
    let first = rig.smmu.take_fault().unwrap();
    assert_eq!(first.sid, 9);
    assert_eq!(first.detail.unwrap().ipa.unwrap().0, POOL & !0xfff);
    let mut kept = 1;
    while rig.smmu.take_fault().is_some() {
        kept += 1;
    }
    assert_eq!(kept, 16);
    let stats = *rig.smmu.stats();
    assert_eq!(stats.faults_not_logged, stats.faults - 16);
    // Once drained, new ones are kept again.
    rig.dma_write(10, POOL, 1);
    rig.smmu.poll_events(&mut rig.host);
    assert_eq!(rig.smmu.take_fault().unwrap().sid, 10);
    assert_eq!(rig.hazards(), []);
}

#[test]
fn a_poll_from_outside_interrupts_the_host_that_has_something_to_read() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    rig.write(r::IRQ_CTRL, 4);
    rig.smmu.poll_events(&mut rig.host);
    assert_eq!(rig.irqs(), []);
    rig.dma_write(9, BUF, 1);
    rig.smmu.poll_events(&mut rig.host);
    assert_eq!(rig.irqs(), [WiredIrq::Eventq]);
    assert_eq!(rig.events(), [[4 | 9 << 32, 0, 0, 0]]);
    // Not when it did not ask.
    rig.write(r::IRQ_CTRL, 0);
    rig.dma_write(9, BUF, 1);
    rig.smmu.poll_events(&mut rig.host);
    assert_eq!(rig.irqs(), []);
    assert_eq!(rig.events().len(), 1);
}

#[test]
fn recinvsid_and_the_enables_decide_what_the_host_is_told() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    rig.dma_write(900, BUF, 1);
    assert_eq!(rig.events().len(), 1);
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
    rig.write(r::CR2, 4);
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
    rig.dma_write(900, BUF, 1);
    rig.dma_write(9, BUF, 1);
    assert_eq!(rig.events(), [[4 | 9 << 32, 0, 0, 0]]);
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
    rig.dma_write(900, POOL, 1);
    assert!(rig.events().is_empty());
}

#[test]
fn t59_stall_cannot_be_had() {
    let mut rig = Rig::new(Config::full());
    assert_eq!(rig.read(r::IDR0) >> 24 & 3, 1);
    rig.enable_linear(4);
    let ste = rig.context(1);
    // CD.S = 1.
    let cd = common::CDTAB + 64;
    let word = rig.mem().cpu_read64(cd);
    rig.store(cd, word | 1 << 44);
    rig.set_ste(8, ste);
    let transfer = rig.dma_write(8, 0x1000, 1);
    assert!(matches!(transfer, Transfer::Aborted(_)), "{transfer:?}");
    assert_eq!(rig.board.0.model.borrow().stalled(), 0);
    assert_eq!(rig.events(), [[0xa | 8 << 32, 0, 0, 0]], "C_BAD_CD");
    // S1STALLD = 1 is illegal in the host's view.
    rig.set_ste(8, [ste[0], ste[1] | 1 << 27, 0, 0, 0, 0, 0, 0]);
    rig.dma_write(8, 0x1000, 1);
    assert_eq!(rig.events(), [[4 | 8 << 32, 0, 0, 0]], "C_BAD_STE");
    illegal(&mut rig, [0x44 | 8 << 32, 0]);
    illegal(&mut rig, [0x45 | 8 << 32, 0]);
}

#[test]
fn t32_ats_is_refused_with_the_feature_hidden() {
    let mut rig = Rig::new(Config::full());
    rig.enable_linear(4);
    // EATS = full ATS, in a bypass and in a stage-1 entry.
    let ste = rig.context(1);
    for words in [BYPASS, ste] {
        rig.set_ste(8, [words[0], words[1] | 1 << 28, 0, 0, 0, 0, 0, 0]);
        let reply = rig.board.0.model.borrow_mut().ats_translate(8, None, BUF, smmu_model::Access::Write);
        assert_eq!(reply, smmu_model::AtsReply::Refused);
        let transfer = rig.board.0.model.borrow_mut().dma_write_translated(8, POOL, &[1]);
        assert!(matches!(transfer, Transfer::Aborted(_)));
    }
    illegal(&mut rig, [0x40 | 8 << 32, 0]);
    illegal(&mut rig, [0x41 | 8 << 32, 0]);
    let _ = cfgi_ste(0);
    assert!(rig.events().is_empty(), "types of hidden features are not shown");
}
