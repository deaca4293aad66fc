//! System registers that trap: the ID space is answered, everything else is not there.

use super::{Frame, inject, skip_instruction};
use crate::arch::features;
use hyp::esr::SystemAccess;
use hyp::inject::Exception;

/// An access to a system register that EL2 traps. Hosts read ID registers while they boot, and touch nothing else here
/// unless they try what they are not shown.
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
