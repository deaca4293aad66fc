//! Commands and their errors, events, page requests, interrupts.

mod common;

use common::*;
use smmu_model::arch::{event, regs as r};
use smmu_model::{Config, Hazard, Injection, Irq, Pace, PageRequest, Recorded, Res0, Transfer};

fn cerror(machine: &mut Machine) -> u32 {
    machine.smmu.read32(r::CMDQ_CONS) >> 24
}

fn recover(machine: &mut Machine) {
    // Overwrites the illegal command with a SYNC and acknowledges the error, as Linux does.
    let cons = machine.smmu.read32(r::CMDQ_CONS) & ((1 << QUEUE) - 1);
    machine.mem.cpu_write64(CMDQ + u64::from(cons) * 16, 0x46);
    machine.mem.cpu_write64(CMDQ + u64::from(cons) * 16 + 8, 0);
    let gerror = machine.smmu.read32(r::GERROR);
    machine.smmu.write32(r::GERRORN, gerror);
    machine.smmu.run_to_idle();
    assert_eq!(machine.smmu.read32(r::CMDQ_CONS) & r::QUEUE_INDEX, machine.prod);
}

#[test]
fn every_opcode_is_legal_or_illegal_as_specified() {
    // Opcode, whether it is legal on the QEMU-like configuration, whether it is legal with every feature.
    let legal = |op: u64, full: bool| match op {
        0x01..=0x06 | 0x10..=0x13 | 0x28 | 0x2a | 0x30 | 0x46 => true,
        0x20..=0x23 | 0x40 | 0x41 | 0x44 | 0x45 => full,
        _ => false,
    };
    for full in [false, true] {
        let config = if full { Config::full() } else { Config::qemu() };
        let mut machine = Machine::on(config);
        for op in 0..256 {
            machine.cmd([op, 0]);
            machine.smmu.run_to_idle();
            let active = (machine.smmu.read32(r::GERROR) ^ machine.smmu.read32(r::GERRORN)) & 1 == 1;
            assert_eq!(active, !legal(op, full), "{op:#x}");
            if active {
                assert_eq!(cerror(&mut machine), r::CERROR_ILL);
                recover(&mut machine);
            }
        }
        machine.assert_only_command_errors();
    }
}

#[test]
fn commands_of_a_stage_that_is_not_implemented_are_illegal() {
    for (config, bad) in [
        (Config { stage2: false, ..Config::qemu() }, vec![0x28, 0x2a]),
        (Config { stage1: false, ..Config::qemu() }, vec![0x05, 0x06, 0x10, 0x11, 0x12, 0x13]),
    ] {
        for op in bad {
            let mut machine = Machine::on(config.clone());
            machine.cmd([op, 0]);
            assert_eq!(cerror(&mut machine), r::CERROR_ILL, "{op:#x}");
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
        let mut machine = Machine::on(Config::qemu());
        machine.cmd(cmd);
        assert_eq!(cerror(&mut machine), r::CERROR_ILL, "{cmd:#x?}");
    }
    let mut lax = Machine::on(Config { res0: Res0::Ignored, ..Config::qemu() });
    lax.cmd([0x2a | 1 << 30, 0]);
    assert_eq!(cerror(&mut lax), 0);
}

#[test]
fn consumption_stops_at_the_error_and_resumes_after_the_repair() {
    let mut machine = Machine::on(Config { pace: Pace::Manual, ..Config::qemu() });
    machine.smmu.run_to_idle();
    let start = machine.prod;
    machine.cmd([0x30, 0]);
    machine.cmd([0xff, 0]);
    machine.cmd([0x46, 0]);
    machine.smmu.run_to_idle();
    assert_eq!(machine.smmu.read32(r::CMDQ_CONS), (start + 1) | r::CERROR_ILL << 24);
    // PROD may move back while the error is active.
    machine.smmu.write32(r::CMDQ_PROD, start + 1);
    machine.smmu.write32(r::CMDQ_PROD, start + 3);
    recover(&mut machine);
    machine.assert_only_command_errors();
}

#[test]
fn a_command_that_cannot_be_fetched_is_an_abort() {
    let mut machine = Machine::new(Config::qemu());
    machine.smmu.write64(r::CMDQ_BASE, 0x100_0000 | 5);
    machine.cr0(r::CR0_CMDQEN);
    machine.smmu.write32(r::CMDQ_PROD, 1);
    assert_eq!(cerror(&mut machine), r::CERROR_ABT);
    assert_eq!(machine.smmu.read32(r::GERROR), r::GERROR_CMDQ);
}

#[test]
fn an_inconsistent_producer_index_is_a_hazard() {
    let mut machine = Machine::on(Config::qemu());
    machine.assert_no_hazards();
    let cons = machine.smmu.read32(r::CMDQ_CONS);
    machine.smmu.write32(r::CMDQ_PROD, cons + (1 << QUEUE) + 1);
    assert_eq!(machine.smmu.take_hazards(), [Hazard::CmdqIndex]);
    assert_eq!(machine.smmu.read32(r::CMDQ_CONS), cons, "nothing is consumed");
}

#[test]
fn a_sync_can_signal_or_never_complete() {
    let mut machine = Machine::on(Config::full());
    let flag = RAM + 0x30_0000;
    machine.cmd([1 << 12 | 0x46 | 0x55 << 32, flag]);
    assert_eq!(machine.mem.cpu_read32(flag), 0x55);
    assert_eq!(machine.smmu.take_irqs(), [Irq::CmdSync]);
    machine.cmd([2 << 12 | 0x46, 0]);
    assert_eq!(machine.smmu.take_irqs(), [Irq::Event]);
    // An MSI that aborts is reported, and the SYNC still completes [7.5].
    machine.cmd([1 << 12 | 0x46, 0x7000_0000_0000]);
    assert_eq!(machine.smmu.read32(r::GERROR), r::GERROR_MSI_CMDQ);
    assert_eq!(machine.smmu.read32(r::CMDQ_CONS), machine.prod);
    // The model also writes to an interrupt address in a device's registers.
    machine.cmd([1 << 12 | 0x46 | 7 << 32, 0x800_0040]);
    assert_eq!(machine.mem.take_mmio_writes()[0].value, 7);

    machine.smmu.inject(Injection::SyncNever);
    machine.cmd([0x46, 0]);
    machine.smmu.run_to_idle();
    assert_ne!(machine.smmu.read32(r::CMDQ_CONS), machine.prod);
    machine.smmu.lose_power();
    assert_eq!(machine.smmu.read32(r::CMDQ_CONS), 0);
}

#[test]
fn service_failure_stops_everything() {
    let mut machine = Machine::on(Config::qemu());
    machine.smmu.fail();
    assert_eq!(machine.smmu.read32(r::GERROR), r::GERROR_SFM);
    machine.cmd([0x46, 0]);
    machine.smmu.run_to_idle();
    assert_ne!(machine.smmu.read32(r::CMDQ_CONS), machine.prod);
}

#[test]
fn event_records_have_the_specified_layout_and_overflow() {
    let mut machine = Machine::on(Config::qemu());
    machine.smmu.write32(r::IRQ_CTRL, r::IRQ_EVENTQ);
    machine.map_pages();
    machine.install(SID, s2_only());
    assert!(matches!(machine.write(SECRET + 8, 1), Transfer::Aborted(_)));
    assert_eq!(machine.smmu.take_irqs(), [Irq::Eventq]);
    let word = |n: u64| machine.mem.cpu_read64(EVENTQ + n * 8);
    assert_eq!(word(0), u64::from(event::F_TRANSLATION) | u64::from(SID) << 32);
    assert_eq!(word(1), 1 << 39 | 2 << 40, "a write, stage 2, CLASS = IN");
    assert_eq!((word(2), word(3)), (SECRET + 8, SECRET));
    assert_eq!(machine.smmu.read32(r::EVENTQ_PROD), 1);
    for _ in 1..32 {
        let _ = machine.write(SECRET, 1);
    }
    assert_eq!(machine.smmu.read32(r::EVENTQ_PROD), 32, "full, no overflow yet");
    let _ = machine.write(SECRET, 1);
    assert_eq!(machine.smmu.read32(r::EVENTQ_PROD), 32 | r::QUEUE_OVERFLOW);
    let _ = machine.write(SECRET, 1);
    assert_eq!(machine.smmu.read32(r::EVENTQ_PROD), 32 | r::QUEUE_OVERFLOW, "the flag toggles once");
    machine.smmu.write32(r::EVENTQ_CONS, 32 | r::QUEUE_OVERFLOW);
    let _ = machine.write(SECRET, 1);
    assert_eq!(machine.smmu.read32(r::EVENTQ_PROD), 33 | r::QUEUE_OVERFLOW);
    assert_eq!(machine.smmu.take_irqs(), [Irq::Eventq]);
    machine.smmu.take_events();
    machine.smmu.write32(r::EVENTQ_CONS, 40);
    assert_eq!(machine.smmu.take_hazards(), [Hazard::OutputIndex]);
}

#[test]
fn an_event_queue_that_aborts_stops() {
    let mut machine = Machine::on(Config::qemu());
    machine.smmu.inject(Injection::EventqAbort);
    let _ = machine.write(SECRET, 1);
    assert_eq!(machine.smmu.read32(r::GERROR), r::GERROR_EVENTQ_ABT);
    let _ = machine.write(SECRET, 1);
    assert_eq!(machine.smmu.read32(r::EVENTQ_PROD), 0);
    machine.smmu.write32(r::GERRORN, r::GERROR_EVENTQ_ABT);
    let _ = machine.write(SECRET, 1);
    assert_eq!(machine.smmu.read32(r::EVENTQ_PROD), 1);
    machine.smmu.write32(r::GERRORN, 0);
    assert_eq!(machine.smmu.take_hazards(), [Hazard::Gerrorn]);
}

#[test]
fn page_requests_are_written_to_the_pri_queue() {
    let mut machine = Machine::on(Config::full());
    let request = PageRequest { sid: SID, address: 0x1234_5678, group: 3 };
    assert_eq!(machine.smmu.page_request(request), Recorded::Discarded);
    machine.smmu.write64(r::PRIQ_BASE, (RAM + 0x3_0000) | 1);
    machine.cr0(r::CR0_CMDQEN | r::CR0_EVENTQEN | r::CR0_SMMUEN | r::CR0_PRIQEN);
    assert_eq!(machine.smmu.page_request(request), Recorded::Yes);
    assert_eq!(machine.mem.cpu_read64(RAM + 0x3_0000), u64::from(SID));
    assert_eq!(machine.mem.cpu_read64(RAM + 0x3_0008), 0x1234_5003);
    assert_eq!(machine.smmu.page_request(request), Recorded::Yes);
    assert_eq!(machine.smmu.page_request(request), Recorded::Overflow);
    assert_eq!(machine.smmu.read32(r::PRIQ_PROD), 2 | r::QUEUE_OVERFLOW);
}

#[test]
fn writes_originated_by_the_smmu_are_listed() {
    let mut machine = Machine::on(Config::full());
    machine.smmu.write64(r::EVENTQ_IRQ_CFG0, 0x800_0040);
    assert_eq!(machine.smmu.originated_writes().len(), 1);
    machine.smmu.write32(r::IRQ_CTRL, r::IRQ_EVENTQ);
    let all: Vec<(u64, u64)> = machine.smmu.originated_writes().iter().map(|o| (o.pa, o.size)).collect();
    assert_eq!(all, [(EVENTQ, 1024), (0x800_0040, 4)]);
}
