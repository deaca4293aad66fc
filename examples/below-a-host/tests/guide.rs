//! Numbers of docs/integration.md.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use example_below_a_host::Pages;
use example_board::Board;
use smmu_drv::errata::Quirks;
use smmu_drv::{HOST_CMDQS, HostedSmmu, MsiAdvert, ProbeConfig, Probed, ReadsAs, Smmu, Unassigned};
use smmu_model::Config;

const GUIDE: &str = include_str!("../../../docs/integration.md");

/// Bytes that a take-over allocates.
fn taken(config: Config) -> u64 {
    let board = Board::new(config);
    let firmware = ProbeConfig {
        coherent: board.coherency(),
        msi: MsiAdvert::Hidden,
        reads: ReadsAs::Incoming,
        cmdq_log2: HOST_CMDQS,
        quirks: Quirks::default(),
        unassigned: Unassigned::Blocked,
    };
    let smmu = Probed::probe(board.clone(), firmware).unwrap().take_over();
    assert!(smmu.is_ok());
    board.allocated()
}

#[test]
fn the_memory_of_a_take_over_is_as_the_guide_says() {
    let shapes = [(16, true, "two levels"), (16, false, "linear"), (8, false, "linear")];
    let rows = shapes.map(|(sid_bits, two_level, shape)| {
        let bytes = taken(Config { sid_bits, two_level, ..Config::qemu() });
        format!("| {sid_bits} | {shape} | {} |", bytes / 1024)
    });
    let missing: Vec<_> = rows.iter().filter(|row| !GUIDE.lines().any(|line| line == **row)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_state_of_an_smmu_is_as_small_as_the_guide_says() {
    let sizes = [size_of::<Smmu<Board>>(), size_of::<HostedSmmu<Board, Pages>>()];
    println!("{sizes:?}");
    assert!(GUIDE.contains("16 KiB or less"));
    assert!(sizes.iter().all(|bytes| *bytes <= 16 * 1024), "{sizes:?}");
}
