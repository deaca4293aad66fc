//! Misuse of the SMMU's control registers: enables in any order, bits that must not be written to hardware, foreign
//! addresses. Afterwards a normal set-up must work, and EL2's memory stays inaccessible.

use crate::edu::Direction;
use crate::firmware::Hypercall;
use crate::machine::EL2_IMAGE;
use crate::mem::{PAGE, page};
use crate::mmio;
use crate::num::low32;
use crate::outcome::TestResult;
use crate::random::Random;
use crate::registry::Runs;
use crate::setup::{AttackedMemory, Ctx, Mode, Seen, Setup};
use crate::smmu::spec::{BASE_ALLOCATE, Cmd, GERROR_MSI_CMDQ_ABT, IDR0_MSI, cr0, reg};
use crate::smmu::{Format, Smmu};
use crate::tests::ownership::{donate, take_back};
use crate::{ensure, payload_test, println, time};

/// A new set-up works, and EL2's memory is inaccessible.
pub fn check_isolation(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.smmu.borrow().acknowledge();
    setup.control(ctx)?;
    let attacked = AttackedMemory::el2(ctx)?;
    ensure!(setup.read(attacked.known)? == Seen::Nothing, "EL2's image is read");
    Ok(())
}

/// Foreign addresses for queues and tables.
fn foreign(ctx: &Ctx, donated: u64) -> [u64; 9] {
    let machine = ctx.machine;
    let hole = machine.hole().map_or(EL2_IMAGE, |hole| hole.start);
    [
        EL2_IMAGE,
        hole,
        donated,
        machine.uart,
        machine.smmu,
        machine.its,
        machine.ecam,
        machine.ram_end(),
        0x000f_ffff_ffff_f000,
    ]
}

payload_test!(t12_foreign_cmdq, Runs::HYP);
/// A command queue in memory that is not the host's is not read: CERROR_ABT, or the enable is refused.
fn t12_foreign_cmdq(ctx: &Ctx) -> TestResult {
    let smmu = Smmu::new(ctx.machine, Format::TwoLevel);
    let donated = page();
    donate(donated, 1)?;
    for addr in foreign(ctx, donated) {
        smmu.off()?;
        smmu.acknowledge();
        smmu.write64(reg::CMDQ_BASE, addr | BASE_ALLOCATE | 4);
        smmu.write(reg::CMDQ_PROD, 0);
        smmu.write(reg::CMDQ_CONS, 0);
        if smmu.set_cr0(cr0::CMDQEN).is_err() {
            println!("command queue at {addr:#x}: the enable is refused");
            continue;
        }
        smmu.write(reg::CMDQ_PROD, 1);
        time::delay_us(100);
        let (error, cons) = (smmu.error(), smmu.read(reg::CMDQ_CONS));
        ensure!(error.is_some(), "command queue at {addr:#x} is consumed: CONS {cons:#x}");
    }
    smmu.off()?;
    smmu.acknowledge();
    take_back(donated, 1)?;
    check_isolation(ctx)
}

payload_test!(t12_foreign_strtab, Runs::HYP);
/// With a stream table in memory that is not the host's, no stream accesses memory.
fn t12_foreign_strtab(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let attacked = page();
    for format in [0_u32, 1 << 16] {
        for addr in foreign(ctx, EL2_IMAGE) {
            let mut smmu = setup.smmu.borrow_mut();
            smmu.off()?;
            smmu.write64(reg::STRTAB_BASE, addr | BASE_ALLOCATE);
            smmu.write(reg::STRTAB_BASE_CFG, format | 8 << 6 | 16);
            smmu.start_cmdq(0)?;
            // No DMA may land, whether the enable is refused or not.
            let enabled = smmu.set_cr0(cr0::CMDQEN | cr0::SMMUEN);
            smmu.command(Cmd::cfgi_all());
            let synced = smmu.sync();
            drop(smmu);
            setup.edu.transfer(Direction::ToMemory, attacked, 0, 4)?;
            setup.edu.transfer(Direction::ToMemory, EL2_IMAGE + 0x28, 0, 4)?;
            ensure!(mmio::read64(attacked) == 0, "table at {addr:#x} allows DMA ({enabled:?}, {synced:?})");
        }
    }
    setup.smmu.borrow().off()?;
    check_isolation(ctx)
}

payload_test!(t12_foreign_evtq, Runs::HYP);
/// An event queue in memory that is not the host's is never written, and neither is a misaligned or oversized queue.
fn t12_foreign_evtq(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let donated = page();
    donate(donated, 1)?;
    let last = ctx.machine.ram_end() - PAGE;
    let odd = [
        (last, 12),        // over-size, at the end of RAM
        (donated, 31),     // over-size
        (donated - 32, 5), // misaligned
        (0x000f_ffff_ffff_ffe0, 7),
    ];
    for (addr, log2) in foreign(ctx, donated).map(|addr| (addr, 7)).into_iter().chain(odd) {
        let smmu = setup.smmu.borrow();
        smmu.set_cr0(cr0::CMDQEN | cr0::SMMUEN)?;
        smmu.write64(reg::EVENTQ_BASE, addr | BASE_ALLOCATE | log2);
        smmu.write(reg::EVENTQ_PROD, 0);
        smmu.write(reg::EVENTQ_CONS, 0);
        let enabled = smmu.set_cr0(cr0::CMDQEN | cr0::SMMUEN | cr0::EVENTQEN);
        // A stage-1 fault, for the host's queue.
        setup.edu.transfer(Direction::ToMemory, 0x1000, 0, 4)?;
        let prod = smmu.read(reg::EVENTQ_PROD);
        let active = smmu.read(reg::GERROR) ^ smmu.read(reg::GERRORN);
        println!("queue at {addr:#x}: {enabled:?}, PROD {prod:#x}, GERROR {active:#x}");
        // The size is limited and the address is aligned to it: a misaligned queue may then be in host memory.
        let allowed = addr == last || addr == donated - 32;
        ensure!(prod == 0 || allowed, "an event was written to a queue at {addr:#x}");
        smmu.acknowledge();
    }
    setup.smmu.borrow().off()?;
    take_back(donated, 1)?;
    check_isolation(ctx)
}

payload_test!(t13_evtq_page_donated, Runs::HYP);
/// The event queue's page is donated while the queue is enabled: the page is never written again, or the donation is
/// refused.
fn t13_evtq_page_donated(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let queue = setup.smmu.borrow().evtq.base;
    let answer = Hypercall::HostDonateHyp.call(queue, 1);
    println!("donating the event queue's page: {answer:?}");
    setup.edu.transfer(Direction::ToMemory, 0x1000, 0, 4)?;
    let prod = setup.smmu.borrow().read(reg::EVENTQ_PROD);
    if answer == crate::firmware::Answer::Success {
        ensure!(prod == 0, "an event was written to a page that is EL2's");
        take_back(queue, 1)?;
    } else {
        ensure!(prod != 0, "the donation was refused, but no event arrives");
        ensure!(setup.smmu.borrow_mut().next_event().is_some(), "no event record");
    }
    check_isolation(ctx)
}

payload_test!(t10_sync_msi, Runs::HYP);
/// CMD_SYNC with an MSI: the store reaches only the host's own page; the SYNC always completes.
fn t10_sync_msi(ctx: &Ctx) -> TestResult {
    let mut smmu = Smmu::new(ctx.machine, Format::TwoLevel);
    smmu.start()?;
    let msi = smmu.read(reg::IDR0) & IDR0_MSI != 0;
    println!("IDR0.MSI {msi}");
    let own = page();
    smmu.command(Cmd::sync_msi(own + 4, 0x5eed));
    smmu.publish();
    smmu.drain()?;
    let arrived = mmio::read32(own + 4) == 0x5eed;
    ensure!(arrived == msi, "MSI to a page of the host arrived: {arrived}");
    let donated = page();
    donate(donated, 1)?;
    let shared_end = ctx.machine.ram_end();
    for addr in foreign(ctx, donated).into_iter().chain([shared_end - 2, donated + 3, 1 << 51, donated + PAGE - 4]) {
        smmu.acknowledge();
        smmu.command(Cmd::sync_msi(addr & 0x00ff_ffff_ffff_ffff, 0x4141_4141));
        smmu.publish();
        smmu.drain()?;
        let active = smmu.read(reg::GERROR) ^ smmu.read(reg::GERRORN);
        let aborted = active & GERROR_MSI_CMDQ_ABT != 0;
        let own_page = ctx.machine.is_ram(addr & !3) && addr & !(PAGE - 1) != donated;
        ensure!(aborted == (msi && !own_page), "MSI to {addr:#x}: GERROR {active:#x}");
    }
    smmu.acknowledge();
    take_back(donated, 1)?;
    smmu.off()?;
    check_isolation(ctx)
}

payload_test!(t11_irq_cfg, Runs::HYP);
/// The interrupt configuration registers have addresses in EL2's memory and in an own page, which are never written.
fn t11_irq_cfg(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let own = page();
    for addr in [own, EL2_IMAGE + 0x28, ctx.machine.its + 0x1_0040] {
        {
            let smmu = setup.smmu.borrow();
            smmu.write(reg::IRQ_CTRL, 0);
            for cfg in [reg::GERROR_IRQ_CFG0, reg::EVENTQ_IRQ_CFG0, reg::PRIQ_IRQ_CFG0] {
                smmu.write64(cfg, addr);
                smmu.write(cfg + 8, 0xdddd_dddd);
                smmu.write(cfg + 12, 0xf);
            }
            smmu.write(reg::IRQ_CTRL, 7);
        }
        // Causes an event and a command error.
        setup.edu.transfer(Direction::ToMemory, 0x1000, 0, 4)?;
        let mut smmu = setup.smmu.borrow_mut();
        let _ = smmu.next_event();
        let result = smmu.try_command(Cmd([0xff, 0]));
        ensure!(result.is_err(), "opcode 0xff is accepted");
        ensure!(mmio::read64(own) == 0, "an interrupt message was written to {own:#x}");
    }
    setup.smmu.borrow().write(reg::IRQ_CTRL, 0);
    check_isolation(ctx)
}

payload_test!(t27_enables_in_any_order, Runs::HYP);
/// All enables are set and cleared in random order, with donations of queue pages: no leaked claim, no panic.
fn t27_enables_in_any_order(ctx: &Ctx) -> TestResult {
    let mut random = Random::new(ctx.seed);
    let smmu = Smmu::new(ctx.machine, Format::TwoLevel);
    smmu.write64(reg::STRTAB_BASE, smmu.strtab.base_register());
    smmu.write(reg::STRTAB_BASE_CFG, smmu.strtab.config_register());
    smmu.write64(reg::CMDQ_BASE, smmu.cmdq.base_register());
    smmu.write64(reg::EVENTQ_BASE, smmu.evtq.base_register());
    for _ in 0..500 {
        let bits = low32(random.draw()) & (cr0::SMMUEN | cr0::PRIQEN | cr0::EVENTQEN | cr0::CMDQEN);
        smmu.write(reg::CR0, bits);
        if random.below(4) == 0 {
            smmu.write(reg::CMDQ_PROD, low32(random.below(256)));
        }
        if random.below(8) == 0 {
            smmu.write64(reg::EVENTQ_BASE, smmu.evtq.base_register());
        }
    }
    smmu.off()?;
    smmu.acknowledge();
    // With all enables cleared, no used page has a claim.
    for base in [smmu.cmdq.base, smmu.evtq.base, smmu.strtab.base] {
        donate(base & !(PAGE - 1), 1)?;
        take_back(base & !(PAGE - 1), 1)?;
    }
    check_isolation(ctx)
}

payload_test!(t28_control_bits, Runs::HYP);
/// Reserved bits, VMW, ATSCHK and any CR1/CR2 value are filtered; the set-up still works.
fn t28_control_bits(ctx: &Ctx) -> TestResult {
    let smmu = Smmu::new(ctx.machine, Format::TwoLevel);
    smmu.off()?;
    let mut random = Random::new(ctx.seed);
    for value in [!0_u32, 0xffff_fff0, 1 << 10, 7 << 6, cr0::ATSCHK] {
        smmu.write(reg::CR0, value & !(cr0::SMMUEN | cr0::EVENTQEN | cr0::CMDQEN));
        let read = smmu.read(reg::CR0);
        ensure!(read & !0x1f == 0, "CR0 keeps reserved bits: {read:#x}");
        smmu.off()?;
    }
    for _ in 0..50 {
        smmu.write(reg::CR1, random.word());
        smmu.write(reg::CR2, random.word());
        smmu.write(reg::AGBPA, random.word());
        smmu.write(reg::IRQ_CTRL, random.word());
    }
    smmu.write(reg::IRQ_CTRL, 0);
    check_isolation(ctx)
}
