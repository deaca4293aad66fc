use std::path::PathBuf;

use super::evaluated::evaluate;
use super::summary::Summary;
use super::{Board, fill, read};
use crate::checkout::Checkout;

/// The number of boards with each decision.
type Counts = &'static [(&'static str, usize)];

/// A kernel package's version, the number of its trees with an SMMUv3, and the decisions for them.
struct Expected {
    series: &'static str,
    version: &'static str,
    trees: usize,
    as_they_are: Counts,
    enabled: Counts,
}

const DISABLED: &str = "refused: no SMMUv3 that is enabled: ... has status \"disabled\": if the board has it and nothing else \
                        uses it, enable it in the device tree";
const RESERVED: &str = "refused: no SMMUv3 that is enabled: ... has status \"reserved\": if the board has it and nothing else \
                        uses it, enable it in the device tree";
const OVER: &str = "refused: the host's memory of ... at ... overlaps ... at ... the host would get access to both; correct \
                    the device tree";

const EXPECTED: [Expected; 2] = [
    Expected {
        series: "6.12",
        version: "6.12.117+deb12-arm64",
        trees: 34,
        as_they_are: &[("accepted", 5), (DISABLED, 29)],
        enabled: &[("accepted", 34)],
    },
    Expected {
        series: "7.3",
        version: "7.3.4+deb13-arm64",
        trees: 171,
        as_they_are: &[("accepted", 103), (DISABLED, 32), (RESERVED, 36)],
        enabled: &[("accepted", 170), (OVER, 1)],
    },
];

/// The trees, if `cargo xtask boards` or another command has fetched this version.
fn fetched(expected: &Expected) -> Option<PathBuf> {
    let checkout = Checkout::find().expect("a checkout");
    let dir = checkout.work().path().join("linux").join(expected.series).join("usr/lib");
    let version = expected.version;
    [dir.join(format!("linux-image-{version}")), dir.join("modules").join(version).join("dtb")]
        .into_iter()
        .find(|folder| folder.is_dir())
}

fn check(boards: &[Board], expected: Counts) {
    let mut summary = Summary::default();
    boards.iter().for_each(|board| summary.add(&evaluate(&board.bytes, fill::Author::default())));
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(summary.with_smmu(), expected, "\n{summary}");
}

/// A commit that changes a decision must update these numbers.
#[test]
fn the_number_of_boards_of_each_decision_is_unchanged() {
    for expected in EXPECTED {
        let Some(folder) = fetched(&expected) else {
            println!("the trees of {} are missing: cargo xtask boards fetches them", expected.version);
            continue;
        };
        let mut boards = read(&folder).expect("device trees");
        boards.retain(|board| board.bytes.windows(fill::SMMU.len()).any(|window| window == fill::SMMU));
        assert_eq!(boards.len(), expected.trees);
        check(&boards, expected.as_they_are);
        boards.iter_mut().for_each(|board| fill::enable_smmus(&mut board.bytes).expect("a device tree"));
        check(&boards, expected.enabled);
    }
}
