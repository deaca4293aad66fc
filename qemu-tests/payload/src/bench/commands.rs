//! Cost of commands by batch length, and of CFGI_ALL by stream table size.

use super::count;
use super::counts_instructions;
use crate::mem::{PAGE, alloc, page};
use crate::outcome::TestResult;
use crate::registry::Runs;
use crate::setup::Ctx;
use crate::smmu::queue::CommandQueue;
use crate::smmu::spec::{BASE_ALLOCATE, Cmd, cr0, reg};
use crate::smmu::{Format, Smmu};
use crate::{bench_line, ensure, payload_test, println, skip};

/// Bytes of a stream table entry.
const STE_BYTES: u64 = 64;

/// EL2's instructions for the commands in the queue, which one store publishes.
fn publish(smmu: &Smmu, memory: u64) -> u64 {
    let prod = smmu.cmdq.prod();
    let plain = count::store32(memory, prod);
    count::store32(smmu.addr(reg::CMDQ_PROD), prod) - plain
}

payload_test!(bench_commands, Runs::ON_REQUEST);
/// Batches of 1 to 256 invalidations followed by one SYNC; longer batches are skipped if the SMMU's queue is too short.
fn bench_commands(ctx: &Ctx) -> TestResult {
    counts_instructions(ctx)?;
    if ctx.machine.smmu == 0 {
        skip!("no SMMU in the device tree");
    }
    let mut smmu = Smmu::new(ctx.machine, Format::TwoLevel);
    let log2 = (smmu.read(reg::IDR1) >> 21 & 0x1f).min(10);
    smmu.cmdq = CommandQueue::new(log2);
    smmu.start()?;
    let memory = page();
    for length in [1_u32, 2, 4, 8, 16, 32, 64, 128, 256] {
        if length + 1 > 1 << log2 {
            println!("a queue of {} entries is too small for {length} commands and a SYNC", 1 << log2);
            continue;
        }
        for n in 0..length {
            smmu.command(Cmd::tlbi_nh_va(1, u64::from(n) * PAGE));
        }
        smmu.command(Cmd::sync());
        let cost = publish(&smmu, memory);
        ensure!(smmu.error().is_none(), "the command queue stopped");
        ensure!(smmu.cmdq.is_drained(smmu.read(reg::CMDQ_CONS)), "{length} commands are not consumed");
        bench_line!(cost, 1, "instructions", "scaling.batch.{length}.insns");
    }
    smmu.off()?;
    Ok(())
}

payload_test!(bench_cfgi_all, Runs::ON_REQUEST);
/// CFGI_ALL and a SYNC over linear tables of 16 to 65,536 abort entries.
fn bench_cfgi_all(ctx: &Ctx) -> TestResult {
    counts_instructions(ctx)?;
    if ctx.machine.smmu == 0 {
        skip!("no SMMU in the device tree");
    }
    let mut smmu = Smmu::new(ctx.machine, Format::Linear);
    let sid_bits = smmu.read(reg::IDR1) & 0x3f;
    let memory = page();
    for log2 in [4_u32, 6, 8, 10, 12, 14, 16] {
        if log2 > sid_bits {
            continue;
        }
        let bytes = (STE_BYTES << log2).max(PAGE);
        let table = alloc(bytes, bytes);
        smmu.off()?;
        smmu.write64(reg::STRTAB_BASE, table | BASE_ALLOCATE);
        smmu.write(reg::STRTAB_BASE_CFG, log2);
        smmu.start_cmdq(0)?;
        smmu.set_cr0(cr0::CMDQEN | cr0::SMMUEN)?;
        smmu.command(Cmd::cfgi_all());
        smmu.command(Cmd::sync());
        let cost = publish(&smmu, memory);
        ensure!(smmu.error().is_none(), "the command queue stopped");
        ensure!(smmu.cmdq.is_drained(smmu.read(reg::CMDQ_CONS)), "CFGI_ALL over 2^{log2} entries is not consumed");
        bench_line!(cost, 1, "instructions", "scaling.cfgi_all.{}.insns", 1_u32 << log2);
    }
    smmu.off()?;
    Ok(())
}
