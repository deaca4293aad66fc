//! A panic is a bug of EL2: it ends the run with a report, since isolation may be broken.

use crate::exit;
use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    match info.location() {
        Some(at) => exit::fatal(format_args!("EL2 panicked at {}:{}: {}", at.file(), at.line(), info.message())),
        None => exit::fatal(format_args!("EL2 panicked: {}", info.message())),
    }
}
