//! Commands and their errors, events, page requests, interrupts.

mod common;

use common::*;
use smmu_model::arch::{event, regs as r};
use smmu_model::{Config, Hazard, Injection, Irq, Pace, PageRequest, Recorded, Res0, Transfer};

fn cerror(rig: &mut Rig) -> u32 {
    rig.smmu.read32(r::CMDQ_CONS) >> 24
}

fn recover(rig: &mut Rig) {
    // Overwrites the illegal command with a SYNC and acknowledges the error, as Linux does.
    let cons = rig.smmu.read32(r::CMDQ_CONS) & ((1 << QUEUE) - 1);
    rig.mem.cpu_write64(CMDQ + u64::from(cons) * 16, 0x46);
    rig.mem.cpu_write64(CMDQ + u64::from(cons) * 16 + 8, 0);
    let gerror = rig.smmu.read32(r::GERROR);
    rig.smmu.write32(r::GERRORN, gerror);
    rig.smmu.run_to_idle();
    assert_eq!(rig.smmu.read32(r::CMDQ_CONS) & r::QUEUE_INDEX, rig.prod);
}

#[test]
fn every_opcode_has_the_answer_of_the_architecture() {
    // Opcode, whether it is legal on the QEMU-like configuration, whether it is legal with every feature.
    let legal = |op: u64, full: bool| match op {
        0x01..=0x06 | 0x10..=0x13 | 0x28 | 0x2a | 0x30 | 0x46 => true,
        0x20..=0x23 | 0x40 | 0x41 | 0x44 | 0x45 => full,
        _ => false,
    };
    for full in [false, true] {
        let config = if full { Config::full() } else { Config::qemu() };
        let mut rig = Rig::on(config);
        for op in 0..256 {
            rig.cmd([op, 0]);
            rig.smmu.run_to_idle();
            let active = (rig.smmu.read32(r::GERROR) ^ rig.smmu.read32(r::GERRORN)) & 1 == 1;
            assert_eq!(active, !legal(op, full), "{op:#x}");
            if active {
                assert_eq!(cerror(&mut rig), r::CERROR_ILL);
                recover(&mut rig);
            }
        }
        rig.only_command_errors();
    }
}

#[test]
fn single_stage_implementations_refuse_the_other_stages_commands() {
    for (config, bad) in [
        (Config { stage2: false, ..Config::qemu() }, vec![0x28, 0x2a]),
        (Config { stage1: false, ..Config::qemu() }, vec![0x05, 0x06, 0x10, 0x11, 0x12, 0x13]),
    ] {
        for op in bad {
            let mut rig = Rig::on(config.clone());
            rig.cmd([op, 0]);
            assert_eq!(cerror(&mut rig), r::CERROR_ILL, "{op:#x}");
        }
    }
}

#[test]
fn reserved_encodings_are_illegal() {
    for cmd in [
        [1 << 10 | 0x03, 0],      // SSec
        [3 << 12 | 0x46, 0],      // CS
        [0x2a, 1 << 10],          // TG without range or level
        [0x2a, 2 << 10 | 1 << 8], // 16K and level 1
        [0x2a | 1 << 30, 0],      // RES0
    ] {
        let mut rig = Rig::on(Config::qemu());
        rig.cmd(cmd);
        assert_eq!(cerror(&mut rig), r::CERROR_ILL, "{cmd:#x?}");
    }
    let mut lax = Rig::on(Config { res0: Res0::Ignored, ..Config::qemu() });
    lax.cmd([0x2a | 1 << 30, 0]);
    assert_eq!(cerror(&mut lax), 0);
}

#[test]
fn consumption_stops_at_the_error_and_resumes_after_the_repair() {
    let mut rig = Rig::on(Config { pace: Pace::Manual, ..Config::qemu() });
    rig.smmu.run_to_idle();
    let start = rig.prod;
    rig.cmd([0x30, 0]);
    rig.cmd([0xff, 0]);
    rig.cmd([0x46, 0]);
    rig.smmu.run_to_idle();
    assert_eq!(rig.smmu.read32(r::CMDQ_CONS), (start + 1) | r::CERROR_ILL << 24);
    // PROD may move back while the error is active.
    rig.smmu.write32(r::CMDQ_PROD, start + 1);
    rig.smmu.write32(r::CMDQ_PROD, start + 3);
    recover(&mut rig);
    rig.only_command_errors();
}

#[test]
fn a_command_that_cannot_be_fetched_is_an_abort() {
    let mut rig = Rig::new(Config::qemu());
    rig.smmu.write64(r::CMDQ_BASE, 0x100_0000 | 5);
    rig.cr0(r::CR0_CMDQEN);
    rig.smmu.write32(r::CMDQ_PROD, 1);
    assert_eq!(cerror(&mut rig), r::CERROR_ABT);
    assert_eq!(rig.smmu.read32(r::GERROR), r::GERROR_CMDQ);
}

#[test]
fn an_inconsistent_producer_index_is_misuse() {
    let mut rig = Rig::on(Config::qemu());
    rig.no_hazards();
    let cons = rig.smmu.read32(r::CMDQ_CONS);
    rig.smmu.write32(r::CMDQ_PROD, cons + (1 << QUEUE) + 1);
    assert_eq!(rig.smmu.take_hazards(), [Hazard::CmdqIndex]);
    assert_eq!(rig.smmu.read32(r::CMDQ_CONS), cons, "nothing is consumed");
}

#[test]
fn a_sync_can_signal_and_can_be_stuck() {
    let mut rig = Rig::on(Config::full());
    let flag = RAM + 0x30_0000;
    rig.cmd([1 << 12 | 0x46 | 0x55 << 32, flag]);
    assert_eq!(rig.mem.cpu_read32(flag), 0x55);
    assert_eq!(rig.smmu.take_irqs(), [Irq::CmdSync]);
    rig.cmd([2 << 12 | 0x46, 0]);
    assert_eq!(rig.smmu.take_irqs(), [Irq::Event]);
    // An MSI that aborts is reported, and the SYNC still completes [7.5].
    rig.cmd([1 << 12 | 0x46, 0x7000_0000_0000]);
    assert_eq!(rig.smmu.read32(r::GERROR), r::GERROR_MSI_CMDQ);
    assert_eq!(rig.smmu.read32(r::CMDQ_CONS), rig.prod);
    // The model also writes to an interrupt address in a device's registers.
    rig.cmd([1 << 12 | 0x46 | 7 << 32, 0x800_0040]);
    assert_eq!(rig.mem.take_mmio_writes()[0].value, 7);

    rig.smmu.inject(Injection::SyncNever);
    rig.cmd([0x46, 0]);
    rig.smmu.run_to_idle();
    assert_ne!(rig.smmu.read32(r::CMDQ_CONS), rig.prod);
    rig.smmu.lose_power();
    assert_eq!(rig.smmu.read32(r::CMDQ_CONS), 0);
}

#[test]
fn service_failure_stops_everything() {
    let mut rig = Rig::on(Config::qemu());
    rig.smmu.fail();
    assert_eq!(rig.smmu.read32(r::GERROR), r::GERROR_SFM);
    rig.cmd([0x46, 0]);
    rig.smmu.run_to_idle();
    assert_ne!(rig.smmu.read32(r::CMDQ_CONS), rig.prod);
}

#[test]
fn events_are_laid_out_and_overflow_exactly() {
    let mut rig = Rig::on(Config::qemu());
    rig.smmu.write32(r::IRQ_CTRL, r::IRQ_EVENTQ);
    rig.map_pages();
    rig.install(SID, s2_only());
    assert!(matches!(rig.write(SECRET + 8, 1), Transfer::Aborted(_)));
    assert_eq!(rig.smmu.take_irqs(), [Irq::Eventq]);
    let word = |n: u64| rig.mem.cpu_read64(EVENTQ + n * 8);
    assert_eq!(word(0), u64::from(event::F_TRANSLATION) | u64::from(SID) << 32);
    assert_eq!(word(1), 1 << 39 | 2 << 40, "a write, stage 2, CLASS = IN");
    assert_eq!((word(2), word(3)), (SECRET + 8, SECRET));
    assert_eq!(rig.smmu.read32(r::EVENTQ_PROD), 1);
    for _ in 1..32 {
        let _ = rig.write(SECRET, 1);
    }
    assert_eq!(rig.smmu.read32(r::EVENTQ_PROD), 32, "full, not yet overflown");
    let _ = rig.write(SECRET, 1);
    assert_eq!(rig.smmu.read32(r::EVENTQ_PROD), 32 | r::QUEUE_OVERFLOW);
    let _ = rig.write(SECRET, 1);
    assert_eq!(rig.smmu.read32(r::EVENTQ_PROD), 32 | r::QUEUE_OVERFLOW, "it toggles once");
    rig.smmu.write32(r::EVENTQ_CONS, 32 | r::QUEUE_OVERFLOW);
    let _ = rig.write(SECRET, 1);
    assert_eq!(rig.smmu.read32(r::EVENTQ_PROD), 33 | r::QUEUE_OVERFLOW);
    assert_eq!(rig.smmu.take_irqs(), [Irq::Eventq]);
    rig.smmu.take_events();
    rig.smmu.write32(r::EVENTQ_CONS, 40);
    assert_eq!(rig.smmu.take_hazards(), [Hazard::OutputIndex]);
}

#[test]
fn an_event_queue_that_aborts_stops() {
    let mut rig = Rig::on(Config::qemu());
    rig.smmu.inject(Injection::EventqAbort);
    let _ = rig.write(SECRET, 1);
    assert_eq!(rig.smmu.read32(r::GERROR), r::GERROR_EVENTQ_ABT);
    let _ = rig.write(SECRET, 1);
    assert_eq!(rig.smmu.read32(r::EVENTQ_PROD), 0);
    rig.smmu.write32(r::GERRORN, r::GERROR_EVENTQ_ABT);
    let _ = rig.write(SECRET, 1);
    assert_eq!(rig.smmu.read32(r::EVENTQ_PROD), 1);
    rig.smmu.write32(r::GERRORN, 0);
    assert_eq!(rig.smmu.take_hazards(), [Hazard::Gerrorn]);
}

#[test]
fn page_requests_have_their_queue() {
    let mut rig = Rig::on(Config::full());
    let request = PageRequest { sid: SID, address: 0x1234_5678, group: 3 };
    assert_eq!(rig.smmu.page_request(request), Recorded::Discarded);
    rig.smmu.write64(r::PRIQ_BASE, (RAM + 0x3_0000) | 1);
    rig.cr0(r::CR0_CMDQEN | r::CR0_EVENTQEN | r::CR0_SMMUEN | r::CR0_PRIQEN);
    assert_eq!(rig.smmu.page_request(request), Recorded::Yes);
    assert_eq!(rig.mem.cpu_read64(RAM + 0x3_0000), u64::from(SID));
    assert_eq!(rig.mem.cpu_read64(RAM + 0x3_0008), 0x1234_5003);
    assert_eq!(rig.smmu.page_request(request), Recorded::Yes);
    assert_eq!(rig.smmu.page_request(request), Recorded::Overflow);
    assert_eq!(rig.smmu.read32(r::PRIQ_PROD), 2 | r::QUEUE_OVERFLOW);
}

#[test]
fn writes_of_its_own_are_listed() {
    let mut rig = Rig::on(Config::full());
    rig.smmu.write64(r::EVENTQ_IRQ_CFG0, 0x800_0040);
    assert_eq!(rig.smmu.originated_writes().len(), 1);
    rig.smmu.write32(r::IRQ_CTRL, r::IRQ_EVENTQ);
    let all: Vec<(u64, u64)> = rig.smmu.originated_writes().iter().map(|o| (o.pa, o.size)).collect();
    assert_eq!(all, [(EVENTQ, 1024), (0x800_0040, 4)]);
}
