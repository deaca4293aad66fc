use std::path::PathBuf;

use super::judged::judge;
use super::read;
use super::summary::Summary;
use crate::checkout::Checkout;

/// A kernel package's version, the number of its trees, and how many of those with an SMMUv3 have which verdict.
struct Expected {
    series: &'static str,
    version: &'static str,
    trees: usize,
    with_smmu: &'static [(&'static str, usize)],
}

const EXPECTED: [Expected; 1] = [Expected { series: "6.12", version: "6.12.117+deb12-arm64", trees: 1023, with_smmu: &[] }];

/// The trees, if `cargo xtask boards` or another command has fetched this version.
fn fetched(expected: &Expected) -> Option<PathBuf> {
    let checkout = Checkout::find().expect("a checkout");
    let dir = checkout.work().path().join("linux").join(expected.series).join("usr/lib");
    let version = expected.version;
    [dir.join(format!("linux-image-{version}")), dir.join("modules").join(version).join("dtb")]
        .into_iter()
        .find(|folder| folder.is_dir())
}

#[test]
fn no_board_is_lost() {
    for expected in EXPECTED {
        let Some(folder) = fetched(&expected) else {
            println!("the trees of {} are not there: cargo xtask boards fetches them", expected.version);
            continue;
        };
        let mut summary = Summary::default();
        for board in read(&folder).expect("device trees") {
            summary.add(&judge(&board.bytes, ""));
        }
        assert_eq!((summary.total(), summary.with_smmu()), (expected.trees, expected.with_smmu.to_vec()), "\n{summary}");
    }
}
