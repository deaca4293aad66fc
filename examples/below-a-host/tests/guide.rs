//! Checks numbers in docs/integration.md.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use example_below_a_host::Pages;
use example_board::Board;
use smmu_drv::{HostedSmmu, ProbeConfig, Probed, Smmu, Storage, Unassigned, memory_needed};
use smmu_model::Config;

const GUIDE: &str = include_str!("../../../docs/integration.md");

/// Bytes that a take-over allocates.
fn taken(config: Config) -> u64 {
    let board = Board::new(config);
    let firmware = ProbeConfig { unassigned: Unassigned::Blocked, ..ProbeConfig::new(board.coherency()) };
    let probed = Probed::probe(board.clone(), firmware).unwrap();
    let needed = memory_needed(probed.features());
    let smmu = probed.take_over(Default::default());
    assert!(smmu.is_ok());
    assert_eq!(u64::try_from(needed.bytes()).unwrap(), board.allocated());
    board.allocated()
}

#[test]
fn the_guide_states_the_memory_of_a_take_over() {
    let shapes = [(16, true, "two levels"), (16, false, "linear"), (8, false, "linear")];
    let rows = shapes.map(|(sid_bits, two_level, shape)| {
        let bytes = taken(Config { sid_bits, two_level, ..Config::qemu() });
        format!("| {sid_bits} | {shape} | {} |", bytes / 1024)
    });
    let missing: Vec<_> = rows.iter().filter(|row| !GUIDE.lines().any(|line| line == **row)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_guide_states_the_size_of_the_state_of_an_smmu() {
    let sizes = [
        ("`Smmu` is 512 bytes or less", size_of::<Smmu<Board>>(), 512),
        ("`HostedSmmu` 2 KiB", size_of::<HostedSmmu<Board, Pages>>(), 2048),
        ("is 16 KiB or less", size_of::<Storage<[u64; 2]>>(), 16 * 1024),
    ];
    println!("{sizes:?}");
    let text = GUIDE.split_whitespace().collect::<Vec<_>>().join(" ");
    for (words, bytes, most) in sizes {
        assert!(text.contains(words), "{words}");
        assert!(bytes <= most, "{words}: {bytes}");
    }
}
