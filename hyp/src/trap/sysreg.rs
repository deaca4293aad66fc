//! System registers that trap: the ID registers are emulated, all others are UNDEFINED.

use super::{Frame, inject, skip_instruction};
use crate::arch::features;
use hyp::esr::SystemAccess;
use hyp::inject::Exception;

/// An access to a system register that EL2 traps. Hosts read ID registers at boot; other traps mean use of a hidden
/// feature.
#[cold]
#[inline(never)]
pub fn access(frame: &mut Frame, access: SystemAccess) {
    match access.id_read() {
        Some((id, register)) => {
            frame.set(register, features::shown(id));
            skip_instruction();
        }
        None => inject(Exception::Undefined),
    }
}
