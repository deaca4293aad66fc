//! Runs every attack twice: without isolation and with it.

use smmu_model::{Config, Transfer};

use crate::invariant::Breach;
use crate::layout::SID;
use crate::machine::Machine;
use crate::setup::Setup;

/// Result of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A byte that is not the attacker's was read or written.
    Landed,
    /// It was not.
    Blocked,
}

impl From<Transfer> for Verdict {
    fn from(transfer: Transfer) -> Self {
        match transfer {
            Transfer::Done => Self::Landed,
            Transfer::RazWi | Transfer::Aborted(_) | Transfer::Stalled(_) => Self::Blocked,
        }
    }
}

impl From<Result<(), Breach>> for Verdict {
    fn from(isolated: Result<(), Breach>) -> Self {
        if isolated.is_err() { Self::Landed } else { Self::Blocked }
    }
}

/// Printed by a test that runs an attack without its defence; parsed by `cargo xtask threats`.
pub(crate) const UNDEFENDED: &str = "attack run without its defence";

/// Runs `attack` on a machine without EL2, where it must land, and on one with EL2, where it must not.
pub fn twice(attack: impl Fn(&mut Machine) -> Verdict) {
    twice_with(Config::qemu(), attack);
}

/// The same with another SMMU configuration.
pub fn twice_with(config: Config, attack: impl Fn(&mut Machine) -> Verdict) {
    let mut bare = Machine::new(&Setup::bare().with(config.clone()));
    assert_eq!(attack(&mut bare), Verdict::Landed, "the attack is none: it fails without EL2");
    println!("{UNDEFENDED}");
    let mut guarded = Machine::new(&Setup::guarded().with(config));
    assert_eq!(attack(&mut guarded), Verdict::Blocked, "the attack got through EL2");
    assert!(guarded.secret_intact(), "EL2's memory changed");
    assert_eq!(guarded.isolated(&[0, SID, 9, 63]), Ok(()));
    for model in &guarded.models {
        assert_eq!(model.borrow_mut().take_hazards(), [], "the driver misused the SMMU");
    }
}
