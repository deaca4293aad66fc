//! The SMC allow-list: PSCI works, other calls do not reach firmware.

use crate::boot::secondary_entry;
use crate::firmware::{self, Hypercall, NOT_SUPPORTED, smc, try_smc};
use crate::machine::EL2_IMAGE;
use crate::mem::page;
use crate::num::{low32, u64_of};
use crate::outcome::TestResult;
use crate::random::Random;
use crate::registry::{Clock, Runs};
use crate::setup::{Ctx, Expect};
use crate::sysreg::MAX_CPUS;
use crate::{cpu, ensure, gic, payload_test, println, sysreg};

const PSCI_VERSION: u64 = 0x8400_0000;
const PSCI_CPU_SUSPEND: u64 = 0xc400_0001;
const PSCI_CPU_ON: u64 = 0xc400_0003;
const PSCI_AFFINITY_INFO: u64 = 0xc400_0004;
const PSCI_MIGRATE_INFO_TYPE: u64 = 0x8400_0006;
const PSCI_MIGRATE_INFO_UP_CPU: u64 = 0xc400_0007;
const PSCI_FEATURES: u64 = 0x8400_000a;
const PSCI_SET_SUSPEND_MODE: u64 = 0x8400_000f;
const PSCI_SYSTEM_SUSPEND: u64 = 0xc400_000e;
const SMCCC_VERSION: u64 = 0x8000_0000;
const INVALID_PARAMETERS: i64 = -2;
const ALREADY_ON: i64 = -4;

/// x0 as the signed 32-bit number that PSCI and SMCCC return.
fn answer(id: u64, args: [u64; 7]) -> i64 {
    i64::from(low32(smc(id, args)[0]).cast_signed())
}

payload_test!(psci_basics, Runs::EITHER);
/// PSCI reports version and features, including CPU_ON.
fn psci_basics(_ctx: &Ctx) -> TestResult {
    let version = answer(PSCI_VERSION, [0; 7]);
    ensure!(version >= 0x1_0000, "PSCI version {version:#x}");
    let on = answer(PSCI_FEATURES, [PSCI_CPU_ON, 0, 0, 0, 0, 0, 0]);
    ensure!(on == 0, "CPU_ON is not a feature: {on}");
    println!("SMCCC version {:#x}", answer(SMCCC_VERSION, [0; 7]));
    Ok(())
}

payload_test!(t54_smc_allow_list, Runs::EITHER);
/// FF-A, SDEI, SiP, OEM, SYSTEM_SUSPEND and unknown calls are NOT_SUPPORTED.
fn t54_smc_allow_list(ctx: &Ctx) -> TestResult {
    let own = page();
    let args = [own, EL2_IMAGE, 1, 4096, 0, 0, 0];
    let ffa = (0x60..0x98).flat_map(|number| [0x8400_0000 + number, 0xc400_0000 + number]);
    let sdei = (0x20..0x34).map(|number| 0xc400_0000 + number);
    let owners = [0x8200_0000, 0xc200_0000, 0x8300_0000, 0xc300_0000, 0xb200_0001, 0xf200_0000, 0xbf00_ff01];
    for id in ffa.chain(sdei).chain(owners).chain([PSCI_SYSTEM_SUSPEND, 0x8400_000e]) {
        let x0 = answer(id, args);
        ensure!(x0 == NOT_SUPPORTED, "SMC {id:#x} returns {x0}");
    }
    let mut random = Random::new(ctx.seed);
    for _ in 0..500 {
        // All owners except 0 (architecture) and 4 (standard), whose calls are allowed individually.
        let owner = 8 + random.below(56);
        let id = 0x8000_0000 | random.below(2) << 30 | owner << 24 | random.below(0x1_0000);
        let mut args = [0; 7];
        args.fill_with(|| random.draw());
        let x0 = answer(id, args);
        ensure!(x0 == NOT_SUPPORTED, "SMC {id:#x} returns {x0}");
    }
    // Yielding calls and an immediate other than zero are invalid: they return an error or cause an exception, and EL2
    // does not crash.
    let _ = try_smc(0x0200_0000, [0; 7]);
    let version = answer(PSCI_VERSION, [0; 7]);
    ensure!(version >= 0x1_0000, "PSCI does not work afterwards");
    Ok(())
}

payload_test!(t39_cpu_on_foreign_entry, Runs::EITHER, cpus = 2);
/// CPU_ON with an entry point that is not the host's is refused; so are CPUs that run or do not exist.
fn t39_cpu_on_foreign_entry(ctx: &Ctx) -> TestResult {
    let other = ctx.machine.cpus[1];
    let beyond = ctx.machine.ram_end();
    for entry in [EL2_IMAGE, ctx.machine.uart, beyond, !3, secondary_entry() | 1, secondary_entry() | 1 << 50] {
        let result = firmware::cpu_on(other, entry, 0);
        ensure!(result.is_err(), "CPU_ON at {entry:#x} is accepted");
        ensure!(firmware::is_off(other), "the CPU runs after CPU_ON at {entry:#x} was refused");
    }
    ensure!(firmware::cpu_on(ctx.machine.cpus[0], secondary_entry(), 0).is_err(), "CPU_ON of a CPU that is on");
    ensure!(firmware::cpu_on(0xff_ffff, secondary_entry(), 0).is_err(), "CPU_ON of no CPU");
    ensure!(firmware::cpu_on(u64::MAX, secondary_entry(), 0).is_err(), "CPU_ON of no CPU");
    cpu::start(ctx.machine, 1)?;
    ensure!(firmware::cpu_on(other, secondary_entry(), 1).is_err(), "CPU_ON of a CPU that is on");
    Ok(())
}

payload_test!(t39_hotplug_storm, Runs::EITHER, cpus = 2);
/// All secondaries turn on and off many times; each time they start at EL1 under stage 2.
fn t39_hotplug_storm(ctx: &Ctx) -> TestResult {
    for round in 0..20 {
        for index in 1..ctx.machine.cpu_count.min(MAX_CPUS) {
            cpu::start(ctx.machine, index)?;
            cpu::send(index, read_el2_memory, 0);
        }
        for index in 1..ctx.machine.cpu_count.min(MAX_CPUS) {
            ensure!(cpu::wait(index)? == 1, "CPU {index} reads EL2's memory in round {round}");
            cpu::stop(ctx.machine, index)?;
        }
    }
    Ok(())
}

fn read_el2_memory(_argument: u64) -> u64 {
    let (_, caught) = crate::vectors::catch(|| crate::mmio::read32(EL2_IMAGE));
    u64::from(caught.is_some())
}

payload_test!(smp_affinity_info_agrees, Runs::EITHER, cpus = 4, clock = Clock::Real);
/// If AFFINITY_INFO reports a CPU on, CPU_ON returns ALREADY_ON, at any time and any number of times.
fn smp_affinity_info_agrees(ctx: &Ctx) -> TestResult {
    for round in 0..3 {
        for index in 1..ctx.machine.cpu_count.min(MAX_CPUS) {
            let target = ctx.machine.cpus[index];
            let started = firmware::cpu_on(target, secondary_entry(), u64_of(index));
            ensure!(started.is_ok(), "CPU_ON: {started:?}");
            let mut last = 2;
            let on = sysreg::poll_us(60_000_000, || {
                let state = answer(PSCI_AFFINITY_INFO, [target, 0, 0, 0, 0, 0, 0]);
                let again = answer(PSCI_CPU_ON, [target, secondary_entry(), 0, 0, 0, 0, 0]);
                last = if state == 0 { again } else { 0 };
                state == 0
            });
            ensure!(on, "CPU {index} did not turn on");
            ensure!(last == ALREADY_ON, "CPU {index} is on, but CPU_ON returns {last} in round {round}");
            cpu::wait(index)?;
            cpu::stop(ctx.machine, index)?;
        }
    }
    let unknown = answer(PSCI_AFFINITY_INFO, [0xff_ffff, 0, 0, 0, 0, 0, 0]);
    ensure!(unknown == INVALID_PARAMETERS, "AFFINITY_INFO of no CPU: {unknown}");
    Ok(())
}

payload_test!(smc_sve_hint, Runs::EITHER);
/// Bit 16 of a function identifier is only a hint that no SVE state is live: the call has the same result.
fn smc_sve_hint(ctx: &Ctx) -> TestResult {
    const HINT: u64 = 1 << 16;
    for id in [PSCI_VERSION, SMCCC_VERSION] {
        let (plain, hinted) = (answer(id, [0; 7]), answer(id | HINT, [0; 7]));
        ensure!(plain == hinted, "{id:#x} returns {plain:#x}, with the hint {hinted:#x}");
    }
    let state = answer(PSCI_AFFINITY_INFO | HINT, [ctx.machine.cpus[0], 0, 0, 0, 0, 0, 0]);
    ensure!(state == 0, "AFFINITY_INFO with the hint: {state}");
    // The other bits that must be zero are not hints.
    for bit in 17..24 {
        let x0 = answer(PSCI_VERSION | 1 << bit, [0; 7]);
        ensure!(x0 == NOT_SUPPORTED, "bit {bit} is ignored: {x0}");
    }
    // A hypercall of Portcullis with the hint is also the same call.
    if ctx.expect == Expect::Blocked {
        let version = Hypercall::Version.id();
        let (plain, hinted) = (firmware::hvc(version, [0; 7]), firmware::hvc(version | HINT, [0; 7]));
        ensure!(plain[..4] == hinted[..4], "hypercall with the hint: {:?}", &hinted[..4]);
    }
    Ok(())
}

payload_test!(smc_suspend_modes_agree, Runs::EITHER);
/// PSCI_FEATURES reports OS-initiated suspend only if SET_SUSPEND_MODE works, and no flag that EL2 does not support.
fn smc_suspend_modes_agree(_ctx: &Ctx) -> TestResult {
    let suspend = answer(PSCI_FEATURES, [PSCI_CPU_SUSPEND, 0, 0, 0, 0, 0, 0]);
    ensure!(suspend & !2 == 0 || suspend == NOT_SUPPORTED, "CPU_SUSPEND has the flags {suspend:#x}");
    let mode = answer(PSCI_SET_SUSPEND_MODE, [1, 0, 0, 0, 0, 0, 0]);
    ensure!(mode == NOT_SUPPORTED, "SET_SUSPEND_MODE returns {mode}");
    // MIGRATE_INFO_TYPE: 0 and 1 imply MIGRATE or MIGRATE_INFO_UP_CPU.
    let kind = answer(PSCI_MIGRATE_INFO_TYPE, [0; 7]);
    ensure!(kind != 0, "MIGRATE is reported but not supported");
    let cpu = answer(PSCI_MIGRATE_INFO_UP_CPU, [0; 7]);
    ensure!(kind != 1 || cpu != NOT_SUPPORTED, "a uniprocessor trusted OS is reported without its CPU");
    Ok(())
}

payload_test!(t39_suspend, Runs::EITHER);
/// CPU_SUSPEND with a foreign entry point is refused or stays in this context; a standby ends with the timer's
/// interrupt.
fn t39_suspend(ctx: &Ctx) -> TestResult {
    let deadline = sysreg::cntvct() + sysreg::ticks(10_000);
    ensure!(gic::arm(deadline), "no GIC");
    let powerdown = 1 << 16;
    let refused = answer(PSCI_CPU_SUSPEND, [powerdown, EL2_IMAGE, 0, 0, 0, 0, 0]);
    gic::disarm();
    ensure!(refused < 0, "CPU_SUSPEND into EL2's memory returns {refused}");
    let deadline = sysreg::cntvct() + sysreg::ticks(10_000);
    ensure!(gic::arm(deadline), "no GIC");
    let standby = answer(PSCI_CPU_SUSPEND, [0, 0, 0, 0, 0, 0, 0]);
    gic::disarm();
    println!("standby returns {standby}");
    ensure!(sysreg::current_el() >> 2 == 1, "not at EL1 after a standby");
    let (_, caught) = crate::vectors::catch(|| crate::mmio::read32(EL2_IMAGE));
    ensure!(caught.is_some(), "stage 2 is off after a standby on {} CPUs", ctx.machine.cpu_count);
    Ok(())
}

payload_test!(t66_later_cores_trap_hcrx, Runs::ON_REQUEST, cpus = 8);
/// For a machine with the payload's own firmware, which traps a register of EL2 on later CPUs: turning these CPUs on
/// ends the run.
fn t66_later_cores_trap_hcrx(ctx: &Ctx) -> TestResult {
    println!("all CPUs are on");
    for (index, mpidr) in ctx.machine.cpus.iter().enumerate().take(ctx.machine.cpu_count).skip(1) {
        let on = firmware::cpu_on(*mpidr, secondary_entry(), u64_of(index));
        ensure!(on.is_ok(), "CPU_ON {index}: {on:?}");
    }
    sysreg::poll_us(1_000_000, || (1..ctx.machine.cpu_count).any(cpu::has_started));
    Ok(())
}

payload_test!(t66_later_cores_trap_tcr2, Runs::ON_REQUEST, cpus = 8);
/// As above, for a register that EL2 writes before its MMU is on.
fn t66_later_cores_trap_tcr2(ctx: &Ctx) -> TestResult {
    t66_later_cores_trap_hcrx(ctx)
}
