//! The state in which the host starts: exception level, CPUs, memory.

use crate::outcome::TestResult;
use crate::registry::Runs;
use crate::setup::Ctx;
use crate::sysreg::MAX_CPUS;
use crate::{cpu, ensure, payload_test, println, sysreg};

payload_test!(boot_el1, Runs::ALL);
/// The host starts at EL1.
fn boot_el1(ctx: &Ctx) -> TestResult {
    let level = sysreg::current_el() >> 2;
    println!("el {level} dtb {:#x} hole {:x?} cpus {}", ctx.machine.dtb, ctx.machine.hole(), ctx.machine.cpu_count);
    for range in ctx.machine.ram() {
        println!("ram {range:#x?}");
    }
    ensure!(level == 1, "entered at EL{level}");
    Ok(())
}

payload_test!(smp_start, Runs::ALL, cpus = 2);
/// Every secondary starts at EL1, works, turns off and starts again.
fn smp_start(ctx: &Ctx) -> TestResult {
    for round in 0..2 {
        for index in 1..ctx.machine.cpu_count.min(MAX_CPUS) {
            cpu::start(ctx.machine, index)?;
            cpu::send(index, level_and_affinity, 0);
            let result = cpu::wait(index)?;
            ensure!(result & 3 == 1, "CPU {index} runs at EL{}", result & 3);
            let affinity = result >> 8;
            ensure!(affinity == ctx.machine.cpus[index], "CPU {index} is {affinity:#x} in round {round}");
        }
        for index in 1..ctx.machine.cpu_count.min(MAX_CPUS) {
            cpu::stop(ctx.machine, index)?;
        }
    }
    Ok(())
}

fn level_and_affinity(_argument: u64) -> u64 {
    // Only Aff2 to Aff0: the machines have no Aff3.
    sysreg::current_el() >> 2 | (sysreg::mpidr_el1() & 0xff_ffff) << 8
}
