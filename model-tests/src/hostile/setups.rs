//! The machines that runs are played on.

use smmu_drv::MsiAdvert;
use smmu_model::{Bbml, Config, Pace, Snoop, StallModel};

use crate::machine::Setup;

/// The machine that a number means; `seed` decides what its hardware does where it is free to choose.
pub(super) fn setup(machine: u8, seed: u8) -> Setup {
    let qemu = Config { sid_bits: 9, seed: seed.into(), ..Config::qemu() };
    let full = Config { sid_bits: 9, seed: seed.into(), pace: Pace::Lazy, ..Config::full() };
    let lazy = Config { pace: Pace::Lazy, ..qemu.clone() };
    let one = |config| Setup::guarded().with(config);
    match machine % 10 {
        0 => one(qemu),
        1 => one(full),
        2 => one(Config { bbml: Bbml::Level0, ril: false, ..qemu }),
        3 => one(Config { two_level: false, ..lazy }),
        4 => one(Config { snoop: Snoop::NonCoherent, ..lazy }),
        5 => Setup { smmus: 2, ..one(qemu) },
        6 => one(Config { ssid_bits: 6, cd2l: true, stall: StallModel::Both, term_model: false, ..qemu }),
        // Its walks do not fit into one trap.
        7 => one(Config { sid_bits: 16, ..qemu }),
        8 => Setup { msi: MsiAdvert::Hidden, ..one(Config { asid16: false, bbml: Bbml::Level1, ..lazy }) },
        // Small: a command queue and an event queue that run full.
        _ => one(Config { two_level: false, sid_bits: 11, cmdq_bits: 4, eventq_bits: 3, ..qemu }),
    }
}
