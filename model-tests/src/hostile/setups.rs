//! The machines of runs.

use smmu_drv::MsiAdvert;
use smmu_model::arch::regs as r;
use smmu_model::{Bbml, Config, Model, Pace, Snoop, StallModel};

use crate::layout::HOST_L2;
use crate::setup::Setup;

/// Number of machines that a byte can select.
pub(super) const MACHINES: u8 = 14;
/// The machine with the most streams: 2^16.
pub(super) const LARGE: u8 = 7;
/// The same with 2^11 streams: its walks also need more than one trap, and take 1/32 of the time.
pub(super) const MEDIUM: u8 = MACHINES;

/// The machine that a number selects; numbers above [`MEDIUM`] wrap.
pub(super) fn number(machine: u8) -> u8 {
    if machine == MEDIUM { machine } else { machine % MACHINES }
}

/// The machine with this number; `seed` selects the hardware's choices.
pub(super) fn setup(machine: u8, seed: u8) -> Setup {
    let qemu = Config { sid_bits: 9, seed: seed.into(), ..Config::qemu() };
    let full = Config { sid_bits: 9, seed: seed.into(), pace: Pace::Lazy, ..Config::full() };
    let lazy = Config { pace: Pace::Lazy, ..qemu.clone() };
    let one = |config| Setup::guarded().with(config);
    match number(machine) {
        0 => one(qemu),
        1 => one(full),
        2 => one(Config { bbml: Bbml::Level0, ril: false, ..qemu }),
        3 => one(Config { two_level: false, ..lazy }),
        4 => one(Config { snoop: Snoop::NonCoherent, ..lazy }),
        5 => Setup { smmus: 2, ..one(qemu) },
        6 => one(Config { ssid_bits: 6, cd2l: true, stall: StallModel::Both, term_model: false, ..qemu }),
        // The machine's walks need more than one trap.
        LARGE => one(Config { sid_bits: 16, ..qemu }),
        MEDIUM => one(Config { sid_bits: 11, ..qemu }),
        8 => Setup { msi: MsiAdvert::Hidden, ..one(Config { asid16: false, bbml: Bbml::Level1, ..lazy }) },
        // Its command queue and event queue are small, so that they get full.
        9 => one(Config { two_level: false, sid_bits: 11, cmdq_bits: 4, eventq_bits: 3, ..qemu }),
        // Firmware left the SMMU enabled.
        10 => one(lazy),
        11 => Setup { smmus: 2, ..one(Config { snoop: Snoop::NonCoherent, two_level: false, ..full }) },
        12 => one(Config { vmid16: false, oas: 1, ssid_bits: 3, bbml: Bbml::Level1, ril: false, ..full }),
        // The stream table has fewer entries than a level-2 table.
        _ => one(Config { sid_bits: 7, gbpa_reset: 0x10_1000, presets: false, ..qemu }),
    }
}

/// State left by firmware.
pub(super) fn firmware(machine: u8) -> fn(&mut Model) {
    match number(machine) {
        10 => |model| {
            // An empty table: every stream aborts, as long as the SMMU is on.
            model.write64(r::STRTAB_BASE, HOST_L2);
            model.write32(r::STRTAB_BASE_CFG, 6);
            model.write32(r::CR0, r::CR0_SMMUEN);
            model.run_to_idle();
            model.take_hazards();
        },
        _ => |_| {},
    }
}
