//! The most expensive traps: EL2's work is counted and compared with the bounds of docs/smmu-emulation.md.

use model_tests::host::{Host, ON, Shape};
use model_tests::layout::{EL2, HOST_STRTAB, RAM};
use model_tests::{Machine, Setup, Work};
use smmu_drv::{AccessSize, WriteOutcome, budget};
use smmu_model::Config;
use smmu_model::arch::regs as r;

/// A command queue that has room for all commands of a test.
const QUEUE: u64 = RAM + 0x80_0000;
const LOG2: u32 = 14;

/// A host with the largest command queue.
fn start(m: &mut Machine, shape: Shape) -> Host {
    let mut host = Host::enable(m, 0, shape);
    m.write32(0, r::CR0, 0);
    m.write64(0, r::CMDQ_BASE, QUEUE | u64::from(LOG2));
    m.write32(0, r::CMDQ_PROD, 0);
    m.write32(0, r::CMDQ_CONS, 0);
    host.cr0(m, ON);
    host
}

/// Executes a store until it is complete. Returns, for each kind of work, the maximum in one trap.
fn worst(m: &mut Machine, offset: u32, value: u64) -> Work {
    let mut worst = Work::default();
    for _ in 0..100_000 {
        let before = m.work();
        let outcome = m.write_once(0, offset, AccessSize::Word, value);
        let done = m.work().since(before);
        assert_eq!(done.excess(), None, "{done:?} in one trap");
        worst = Work {
            pages: worst.pages.max(done.pages),
            refused: worst.refused.max(done.refused),
            loads: worst.loads.max(done.loads),
            lines: worst.lines.max(done.lines),
            commands: worst.commands.max(done.commands),
            syncs: worst.syncs.max(done.syncs),
            tables: worst.tables.max(done.tables),
        };
        if outcome == WriteOutcome::Done {
            return worst;
        }
    }
    panic!("the store is never complete");
}

/// Queues `commands` and submits all of them with one store.
fn submit(m: &mut Machine, commands: &[[u64; 2]]) -> Work {
    let first = m.read32(0, r::CMDQ_PROD);
    for (slot, cmd) in (u64::from(first)..).zip(commands) {
        let at = QUEUE + slot % (1 << LOG2) * 16;
        m.mem.cpu_write64(at, cmd[0]);
        m.mem.cpu_write64(at + 8, cmd[1]);
    }
    let count = u32::try_from(commands.len()).unwrap_or(0);
    let prod = (first + count) & ((2 << LOG2) - 1);
    let worst = worst(m, r::CMDQ_PROD, prod.into());
    assert_eq!(m.read32(0, r::CMDQ_CONS), prod);
    worst
}

/// Number of walks over the table: more than fit into a trap.
const WALKS: u64 = 8;
/// As many walks as a queue of 256 entries has room for, each with its CMD_SYNC.
const QUEUE_OF_WALKS: u64 = 127;

#[test]
fn t65_level_2_tables_in_foreign_memory() {
    let mut m = Machine::new(&Setup::guarded().with(Config { sid_bits: 16, ..Config::qemu() }));
    let mut host = start(&mut m, Shape::Linear);
    m.write32(0, r::CR0, 0);
    for n in 0..256 {
        m.mem.cpu_write64(HOST_STRTAB + n * 8, EL2 | n << 14 | 9);
    }
    m.write64(0, r::STRTAB_BASE, HOST_STRTAB);
    m.write32(0, r::STRTAB_BASE_CFG, 16 | 8 << 6 | 1 << 16);
    host.cr0(&mut m, ON);
    let refused = m.work().refused;
    let commands: Vec<_> = (0..QUEUE_OF_WALKS).flat_map(|_| [[4, 31], [0x46, 0]]).collect();
    let worst = submit(&mut m, &commands);
    // A walk tries to claim each page of each of the 256 tables once, and once more if a trap ended within the table.
    let tried = m.work().refused - refused;
    assert!(
        (QUEUE_OF_WALKS * 1024..=QUEUE_OF_WALKS * 1200).contains(&tried),
        "{tried} claims in {QUEUE_OF_WALKS} walks"
    );
    println!("{worst:?}");
    assert_eq!(m.models[0].borrow_mut().take_hazards(), []);
}

#[test]
fn t65_an_error_is_acknowledged_before_a_queue_of_walks() {
    let mut m = Machine::new(&Setup::guarded().with(Config { sid_bits: 16, ..Config::qemu() }));
    let mut host = start(&mut m, Shape::Linear);
    m.write32(0, r::CR0, 0);
    m.write32(0, r::STRTAB_BASE_CFG, 16);
    host.cr0(&mut m, ON);
    let illegal = [[0xff, 0]];
    let walks = (0..WALKS).flat_map(|_| [[4, 31], [0x46, 0]]);
    for (slot, cmd) in (0..).zip(illegal.into_iter().chain(walks)) {
        m.mem.cpu_write64(QUEUE + slot * 16, cmd[0]);
        m.mem.cpu_write64(QUEUE + slot * 16 + 8, cmd[1]);
    }
    let prod = u32::try_from(1 + 2 * WALKS).unwrap_or(0);
    worst(&mut m, r::CMDQ_PROD, prod.into());
    assert_eq!(m.read32(0, r::CMDQ_CONS) & 0xff_ffff, 0);
    m.mem.cpu_write64(QUEUE, 0x46);
    let gerror = m.read32(0, r::GERROR).into();
    let mut traps = 1;
    while m.write_once(0, r::GERRORN, AccessSize::Word, gerror) == WriteOutcome::Again {
        traps += 1;
        assert!(traps < 100_000, "the store is never complete");
    }
    assert_eq!(m.read32(0, r::CMDQ_CONS), prod);
    // 2^11 groups of 32 entries and a command, and a claim for every two groups. The unused rest of a trap's budget is
    // less than the cost of one group and one claim.
    let walk = 2048 * (32 * budget::ENTRY + budget::COMMAND) + 1024 * budget::PAGE;
    let most = walk.div_ceil(budget::TRAP - 33 - budget::PAGE);
    assert!((64 * WALKS..=u64::from(most) * WALKS).contains(&traps), "{traps} traps, {most} a walk at most");
    assert_eq!(m.models[0].borrow_mut().take_hazards(), []);
}

#[test]
fn t65_entries_that_change_in_both_dwords() {
    let mut m = Machine::new(&Setup::guarded().with(Config { sid_bits: 16, ..Config::qemu() }));
    let mut host = start(&mut m, Shape::TwoLevel);
    let nested = |asid: u64, low: u64| [5 << 1 | 1 | low << 6, asid << 2];
    for sid in 0..255 {
        host.write_ste(&m, sid, nested(1, 0x1000));
    }
    let commands: Vec<_> = (0..255).map(|sid| [sid << 32 | 3, 1]).collect();
    submit(&mut m, &commands);
    for sid in 0..255 {
        host.write_ste(&m, sid, nested(2, 0x2000));
    }
    let before = m.work().syncs;
    let worst = submit(&mut m, &commands);
    println!("{worst:?}");
    assert!(m.work().syncs - before > 500, "each entry takes at least two");
    assert_eq!(m.models[0].borrow_mut().take_hazards(), []);
}

#[test]
fn t65_a_non_cacheable_queue_and_table() {
    let mut m = Machine::new(&Setup::guarded().with(Config { sid_bits: 16, ..Config::qemu() }));
    let mut host = start(&mut m, Shape::Linear);
    m.write32(0, r::CR0, 0);
    m.write32(0, r::CR1, 0);
    m.write32(0, r::STRTAB_BASE_CFG, 16);
    host.cr0(&mut m, ON);
    let lines = m.work().lines;
    let prefetches = vec![[1, 0]; 1000];
    let worst = submit(&mut m, &prefetches);
    assert!(worst.lines > 900, "the host's queue is read through the cache: {worst:?}");
    submit(&mut m, &[[4, 31], [0x46, 0]]);
    assert!(m.work().lines - lines > 1 << 16, "each entry is read once");
}

#[test]
fn t65_completions_to_many_pages() {
    let mut m = Machine::new(&Setup::guarded());
    start(&mut m, Shape::Linear);
    // Each store needs a claim, and each CMD_SYNC of the host needs a CMD_SYNC of EL2.
    let commands: Vec<_> =
        (0..1000_u64).flat_map(|n| [[0x10, 0], [1 << 12 | 0x46 | n << 32, RAM + 0x100_0000 + n * 4096]]).collect();
    let worst = submit(&mut m, &commands);
    println!("{worst:?}");
    assert_eq!(m.mem.cpu_read32(RAM + 0x100_0000 + 999 * 4096), 999);
}

#[test]
fn t65_queues_are_enabled_and_disabled() {
    let mut m = Machine::new(&Setup::guarded());
    let mut host = start(&mut m, Shape::TwoLevel);
    for _ in 0..3 {
        worst(&mut m, r::CR0, 0);
        worst(&mut m, r::CR0, ON.into());
        assert_eq!(m.read32(0, r::CR0ACK), ON);
    }
    host.cr0(&mut m, 0);
    assert_eq!(m.claims(), 0);
}

#[test]
fn t65_records_of_streams_without_entries() {
    // For each record EL2 reads the host's own table, at two levels.
    let mut m = Machine::new(&Setup::guarded().with(Config { sid_bits: 16, ..Config::qemu() }));
    start(&mut m, Shape::TwoLevel);
    for n in 0..120_u32 {
        let _ = m.dma_write(0, n + 100, 0x1000, 1);
    }
    let before = m.work();
    let prod = m.read32(0, r::EVENTQ_PROD);
    let done = m.work().since(before);
    assert_eq!(done.excess(), None, "{done:?}");
    assert!(prod & 0xff > 10, "records arrive: {prod:#x}");
}
