//! Timeouts and the per-trap budget have the configured values.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BYPASS, Board, CFGI_ALL, Rig, SYNC, firmware, r};
use smmu_drv::{
    AccessSize, HOST_CMDQS, OutOfRange, ProbeConfig, ProbeError, Probed, SmmuError, Stale, TakeOverError, Timeouts,
    WriteOutcome, budget,
};
use smmu_model::{Config, Injection, Pace};

/// Microseconds of the model's clock between two reads of it, and the number of reads by which a wait may be late.
const TICK: u64 = 50;
const LATE: u64 = 10 * TICK;

fn config() -> Config {
    Config { pace: Pace::Lazy, ..Config::qemu() }
}

fn with(timeouts: Timeouts) -> ProbeConfig {
    ProbeConfig { timeouts, ..firmware(&config()) }
}

#[test]
fn t47_the_wait_for_a_cmd_sync_has_the_configured_timeout() {
    for sync_us in [1_000, 20_000, 1_000_000, 10_000_000] {
        let timeouts = Timeouts { sync_us, register_us: 5_000 };
        let mut rig = Rig::on(Board::new(config()), with(timeouts));
        rig.board.0.model.borrow_mut().inject(Injection::SyncNever);
        let start = rig.board.0.clock.get();
        assert_eq!(rig.smmu.tlb_invalidate_host(Stale::All), Err(SmmuError::SyncTimeout));
        let waited = rig.board.0.clock.get() - start;
        assert!((u64::from(sync_us)..u64::from(sync_us) + LATE).contains(&waited), "{sync_us}: {waited}");
    }
}

#[test]
fn t47_the_wait_for_a_register_has_the_configured_timeout() {
    for (injection, register) in [(Injection::Cr0Never, r::CR0), (Injection::GbpaNever, r::GBPA)] {
        for register_us in [1_000, 30_000, 2_000_000] {
            let board = Board::new(config());
            if injection == Injection::Cr0Never {
                board.0.model.borrow_mut().write32(r::CR0, 1);
                board.0.model.borrow_mut().run_to_idle();
            }
            board.0.model.borrow_mut().inject(injection);
            let timeouts = Timeouts { register_us, ..Timeouts::default() };
            let probed = Probed::probe(board.clone(), with(timeouts)).unwrap();
            let start = board.0.clock.get();
            assert_eq!(probed.take_over(Default::default()).err(), Some(TakeOverError::NoAck(register)));
            let waited = board.0.clock.get() - start;
            let exact = u64::from(register_us)..u64::from(register_us) + LATE;
            assert!(exact.contains(&waited), "{injection:?} {register_us}: {waited}");
        }
    }
}

/// Repeats the store until a command queue with `commands` is consumed. Returns the number of traps, and the maximum
/// number of commands in one trap.
fn traps(trap_budget: u32, commands: &[[u64; 2]]) -> (usize, u64) {
    let mut rig = Rig::on(Board::new(config()), ProbeConfig { trap_budget, ..firmware(&config()) });
    rig.enable_linear(12);
    for sid in (0..1 << 12).step_by(256) {
        rig.ste(sid, BYPASS);
    }
    for command in commands {
        rig.queue(*command);
    }
    let (mut count, mut most) = (0, 0);
    let exits = rig.smmu.stats().budget_exits;
    loop {
        let before = rig.smmu.stats().host_commands;
        let done = rig.smmu.mmio_write(&mut rig.host, r::CMDQ_PROD, AccessSize::Word, u64::from(rig.prod));
        count += 1;
        most = most.max(rig.smmu.stats().host_commands - before);
        if done == WriteOutcome::Done {
            break;
        }
        assert!(count < 1000, "no progress with a budget of {trap_budget}");
    }
    assert_eq!(rig.read(r::CMDQ_CONS), u64::from(rig.prod));
    assert!((0..1 << 12).step_by(256).all(|sid| rig.can_reach(sid, common::BUF)) && !rig.can_reach(1, common::BUF));
    assert_eq!(rig.smmu.stats().budget_exits - exits, u64::try_from(count).unwrap() - 1);
    (count, most)
}

#[test]
fn a_trap_uses_its_whole_budget() {
    let all = [CFGI_ALL, SYNC];
    let [least, default, most] = [*budget::RANGE.start(), budget::TRAP, *budget::RANGE.end()];
    let [(small, _), (usual, _), (large, _)] = [least, default, most].map(|units| traps(units, &all));
    println!("{small}, {usual}, {large} traps");
    assert!(small > usual && usual > large && large == 1);

    // Each is one command, and costs at least one unit.
    let tlbi = [[0x30, 0]; 100].into_iter().chain([CFGI_ALL, SYNC]).collect::<Vec<_>>();
    assert_eq!(firmware(&config()).trap_budget, default);
    for units in [least, default, most] {
        let (_, commands) = traps(units, &tlbi);
        assert!(commands <= u64::from(units), "{commands} commands in a trap of {units}");
    }
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    let good = firmware(&config());
    let (least, most) = (*Timeouts::RANGE.start(), *Timeouts::RANGE.end());
    let timeouts = |register_us, sync_us| ProbeConfig { timeouts: Timeouts { register_us, sync_us }, ..good };
    let budget = |trap_budget| ProbeConfig { trap_budget, ..good };
    let (fewest, greatest) = (*budget::RANGE.start(), *budget::RANGE.end());
    for (config, name, value) in [
        (timeouts(least - 1, least), "timeouts.register_us", least - 1),
        (timeouts(most + 1, least), "timeouts.register_us", most + 1),
        (timeouts(most, least - 1), "timeouts.sync_us", least - 1),
        (timeouts(most, u32::MAX), "timeouts.sync_us", u32::MAX),
        (budget(fewest - 1), "trap_budget", fewest - 1),
        (budget(0), "trap_budget", 0),
        (budget(greatest + 1), "trap_budget", greatest + 1),
        (ProbeConfig { cmdq_log2: HOST_CMDQS + 1, ..good }, "cmdq_log2", HOST_CMDQS + 1),
    ] {
        let board = Board::new(self::config());
        let error = Probed::probe(board.clone(), config).err().unwrap();
        assert!(
            matches!(error, ProbeError::Config(OutOfRange { name: of, value: is, .. }) if (of, is) == (name, value))
        );
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!((board.0.mmio.get(), board.0.loads.get()), (0, 0), "no register was read");
    }
    for config in [timeouts(least, most), timeouts(most, least), budget(fewest), budget(greatest)] {
        assert!(Probed::probe(Board::new(self::config()), config).is_ok());
    }
}
