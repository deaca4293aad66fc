//! Other attacks: PCI configuration, queues in device memory, profiling hardware.

use core::arch::asm;

use crate::edu::{Direction, Edu};
use crate::machine::EL2_IMAGE;
use crate::mmio;
use crate::nvme::Nvme;
use crate::outcome::TestResult;
use crate::pci::Bridge;
use crate::registry::Runs;
use crate::setup::{Attack, AttackedMemory, Ctx, Landed, Mode, Seen, Setup};
use crate::smmu::spec::{BASE_ALLOCATE, Cmd, GERROR_MSI_CMDQ_ABT, IDR0_MSI, Ste, cr0, reg};
use crate::smmu::{Format, Smmu};
use crate::tests::registers::check_isolation;
use crate::vectors::catch;
use crate::{ensure, payload_test, println, skip, sysreg, time};

payload_test!(t56_peer_to_peer, Runs::ALL);
/// One device reads another's BAR.
fn t56_peer_to_peer(ctx: &Ctx) -> TestResult {
    let Some(nvme) = Nvme::find(ctx.machine) else {
        skip!("no NVMe");
    };
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let iova = 0x18_0000_0000;
    setup.stage1.map_page(iova, nvme.bar());
    mmio::write64(setup.own, 0);
    let own = setup.bus(setup.own);
    let attack = Attack::begin();
    setup.edu.transfer(Direction::FromMemory, own, 0, 8)?;
    // The version register is never zero.
    setup.edu.transfer(Direction::FromMemory, iova + 8, 0, 4)?;
    setup.edu.transfer(Direction::ToMemory, own, 0, 8)?;
    println!("NVMe version by DMA: {:#x}", mmio::read64(setup.own));
    attack.check(ctx, (mmio::read64(setup.own) != 0).into())
}

payload_test!(t56_bar_over_memory_and_registers, Runs::EITHER);
/// A BAR placed over RAM, EL2's memory, the GIC or the SMMU has no effect.
fn t56_bar_over_memory_and_registers(ctx: &Ctx) -> TestResult {
    let Some(edu) = Edu::find(ctx.machine) else {
        skip!("no edu");
    };
    let idr0 = mmio::read32(ctx.machine.smmu + reg::IDR0);
    let ram = crate::mem::alloc(0x20_0000, 0x20_0000);
    mmio::write64(ram, 0x1234);
    for base in [ram, EL2_IMAGE & !0xf_ffff, 0x0900_0000, 0x0800_0000] {
        edu.function.set_bar(0, base, false);
        ensure!(mmio::read64(ram) == 0x1234, "RAM changed under a BAR at {base:#x}");
        let (value, caught) = catch(|| mmio::read32(EL2_IMAGE));
        ensure!(caught.is_some(), "EL2's image reads {value:#x} through a BAR at {base:#x}");
        ensure!(mmio::read32(ctx.machine.smmu + reg::IDR0) == idr0, "the SMMU changed under a BAR at {base:#x}");
    }
    edu.function.set_bar(0, edu.bar, false);
    check_isolation_if_expected(ctx)
}

fn check_isolation_if_expected(ctx: &Ctx) -> TestResult {
    if ctx.expect == crate::setup::Expect::Blocked { check_isolation(ctx) } else { Ok(()) }
}

payload_test!(t52_queues_in_device_memory, Runs::HYP);
/// Queues, tables and messages in BARs and in the ITS: refused.
fn t52_queues_in_device_memory(ctx: &Ctx) -> TestResult {
    let Some(nvme) = Nvme::find(ctx.machine) else {
        skip!("no NVMe");
    };
    let mut smmu = Smmu::new(ctx.machine, Format::TwoLevel);
    for addr in [nvme.bar(), ctx.machine.its + 0x1_0000, ctx.machine.gicr] {
        smmu.off()?;
        smmu.acknowledge();
        smmu.write64(reg::CMDQ_BASE, addr | BASE_ALLOCATE | 4);
        smmu.write(reg::CMDQ_PROD, 0);
        smmu.write(reg::CMDQ_CONS, 0);
        if smmu.set_cr0(cr0::CMDQEN).is_ok() {
            smmu.write(reg::CMDQ_PROD, 1);
            time::delay_us(100);
            ensure!(smmu.error().is_some(), "a command queue at {addr:#x} is consumed");
        }
    }
    smmu.off()?;
    smmu.acknowledge();
    smmu.start()?;
    let msi = smmu.read(reg::IDR0) & IDR0_MSI != 0;
    for addr in [nvme.bar() + 0x1000, ctx.machine.its + 0x1_0040, ctx.machine.gicd + 0x40] {
        smmu.acknowledge();
        smmu.command(Cmd::sync_msi(addr, 1));
        smmu.publish();
        smmu.drain()?;
        let active = smmu.read(reg::GERROR) ^ smmu.read(reg::GERRORN);
        ensure!(!msi || active & GERROR_MSI_CMDQ_ABT != 0, "a message to {addr:#x}: GERROR {active:#x}");
    }
    smmu.acknowledge();
    smmu.off()?;
    check_isolation(ctx)
}

macro_rules! try_registers {
    ($($name:literal)*) => {[$(($name, {
        fn read() -> u64 {
            let value: u64;
            // SAFETY: (1) called under `catch`, since the register may be UNDEFINED or trapped; (2) reading changes
            // nothing.
            #[allow(unsafe_code)]
            unsafe { asm!(concat!("mrs {}, ", $name), inout(reg) 0_u64 => value, options(nostack)) };
            value
        }
        read as fn() -> u64
    })),*]};
}

payload_test!(t53_profiling_and_debug, Runs::EITHER);
/// Profiling, trace and EL2's own registers: UNDEFINED or trapped at EL1, or usable by the host; EL2 keeps running.
fn t53_profiling_and_debug(ctx: &Ctx) -> TestResult {
    // PMSCR, PMBLIMITR, PMBPTR (SPE); TRFCR; TRBLIMITR, TRBPTR (TRBE); MDSCR, PMCR.
    for (name, read) in try_registers!("S3_0_C9_C9_0" "S3_0_C9_C10_0" "S3_0_C9_C10_1" "S3_0_C1_C2_1" "S3_0_C9_C11_0" "S3_0_C9_C11_1" "mdscr_el1" "pmcr_el0")
    {
        let (value, caught) = catch(read);
        println!("{name}: {value:#x} {}", if caught.is_some() { "undefined" } else { "read" });
    }
    // HCR, VTTBR, VTCR, SCTLR, MDCR, TTBR0 of EL2.
    for (name, read) in
        try_registers!("S3_4_C1_C1_0" "S3_4_C2_C1_0" "S3_4_C2_C1_2" "S3_4_C1_C0_0" "S3_4_C1_C1_1" "S3_4_C2_C0_0")
    {
        let (value, caught) = catch(read);
        ensure!(caught.is_some(), "{name} of EL2 reads {value:#x} at EL1");
    }
    println!("debug features {:#x} on {} CPUs", sysreg::id_aa64dfr0(), ctx.machine.cpu_count);
    Ok(())
}

payload_test!(t53_implementation_defined, Runs::HYP);
/// IMPLEMENTATION DEFINED and auxiliary control registers trap.
fn t53_implementation_defined(ctx: &Ctx) -> TestResult {
    // CPUACTLR, CPUACTLR2, CPUECTLR, CPUPWRCTLR with the encodings of Cortex cores; others of this space; ACTLR_EL1.
    for (name, read) in try_registers!("S3_0_C15_C1_0" "S3_0_C15_C1_1" "S3_0_C15_C1_4" "S3_0_C15_C2_7" "S3_0_C11_C1_0" "S3_1_C15_C0_0" "S3_3_C15_C0_0" "S3_0_C1_C0_1")
    {
        let (value, caught) = catch(read);
        ensure!(caught.is_some(), "{name} reads {value:#x} at EL1");
    }
    println!("on {} CPUs", ctx.machine.cpu_count);
    Ok(())
}

payload_test!(t56_bus_renumbered, Runs::HYP);
/// The bus behind a root port gets another number, and its device another StreamID. Without an entry of the host for
/// that StreamID the device reaches no memory, and with one only the host's memory.
fn t56_bus_renumbered(ctx: &Ctx) -> TestResult {
    let mut setup = Setup::new(ctx, Mode::Bypass)?;
    setup.control(ctx)?;
    let Some(bridge) = Bridge::find(ctx.machine, 4) else {
        skip!("no root port");
    };
    let attacked = AttackedMemory::el2(ctx)?;
    let attack = Attack::begin();
    for bus in [1, 0x42, 0xff] {
        bridge.set_secondary_bus(bus);
        let Some(far) = Edu::find_on(ctx.machine, bus) else {
            skip!("no edu behind the root port");
        };
        setup.edu = far;
        println!("StreamID {:#x}", far.function.sid);
        let seen = setup.read(attacked.known);
        ensure!(!matches!(seen, Ok(Seen::Value(_))), "EL2's image is read from bus {bus:#x} without an entry");
        // QEMU caches configurations by device, so it uses that of the old StreamID until an invalidation.
        setup.smmu.borrow_mut().try_command(Cmd::cfgi_all())?;
        ensure!(setup.read(setup.own).is_err(), "DMA works without an entry on bus {bus:#x}");
        {
            let mut smmu = setup.smmu.borrow_mut();
            smmu.strtab.add_leaf(far.function.sid >> 8);
            smmu.command(Cmd::cfgi_ste_nonleaf(far.function.sid));
            smmu.set_ste(far.function.sid, Ste::bypass())?;
        }
        setup.control(ctx)?;
        ensure!(setup.read(attacked.known)? == Seen::Nothing, "EL2's image is read from bus {bus:#x}");
    }
    attack.check(ctx, Landed::No)
}

payload_test!(t56_bus_master_toggled, Runs::HYP);
/// Bus mastering toggled during a transfer: EL2's memory stays inaccessible.
fn t56_bus_master_toggled(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let command = setup.edu.function.config(crate::pci::COMMAND);
    let attack = Attack::begin();
    setup.edu.start(Direction::ToMemory, setup.bus(EL2_IMAGE + 0x28), 0, 4);
    mmio::write16(command, crate::pci::COMMAND_MEMORY);
    time::delay_us(1000);
    mmio::write16(command, crate::pci::COMMAND_MEMORY | crate::pci::COMMAND_MASTER);
    setup.edu.finish()?;
    attack.check(ctx, Landed::No)?;
    setup.control(ctx)
}
