//! A PCI host whose SMMUs cover only the buses in `bus-range`.

use crate::mmio;
use crate::outcome::TestResult;
use crate::pci::{self, CLASS_BRIDGE};
use crate::registry::Runs;
use crate::setup::Ctx;
use crate::tests::registers::check_isolation;
use crate::{ensure, payload_test, skip};

/// Offset of a bridge's bus numbers.
const NUMBERS: u64 = 0x18;

payload_test!(t64_bus_numbers_are_kept, Runs::HYP);
/// Stores of any size cannot give a bridge the number of a bus that no SMMU covers; other buses have no functions; and
/// the host can still access the rest of configuration space.
fn t64_bus_numbers_are_kept(ctx: &Ctx) -> TestResult {
    if ctx.machine.last_bus == 0xff {
        skip!("every bus is behind the SMMU");
    }
    let Some(bridge) = pci::find(ctx.machine, |_, class| class == CLASS_BRIDGE) else { skip!("no root port") };
    let register = bridge.config(NUMBERS);
    let was = mmio::read32(register);
    // The payload has numbered the bus before.
    ensure!(was & 0x00ff_ff00 == 0, "the bus numbers are {was:#x}");
    mmio::write32(register, 0x0005_0500);
    mmio::write16(register, 0x0500);
    mmio::write16(register + 2, 5);
    for byte in 0..3 {
        mmio::write8(register + byte, 5);
    }
    let now = mmio::read32(register);
    crate::println!("ATTACK {}: {}", ctx.name, if now == was { "blocked" } else { "landed" });
    ensure!(now == was, "the bus numbers were {was:#x} and are {now:#x}");
    for bus in [1, 5, 255] {
        ensure!(pci::find_on(ctx.machine, bus, |_, _| true).is_none(), "a function on bus {bus}");
        mmio::write32(ctx.machine.ecam + (u64::from(bus) << 20) + 4, 7);
    }
    let line = bridge.config(0x3c);
    for (value, size) in [(0x5a, 1), (0x3c, 2), (0x77, 4)] {
        match size {
            1 => mmio::write8(line, value),
            2 => mmio::write16(line, u16::from(value)),
            _ => mmio::write32(line, u32::from(value)),
        }
        ensure!(mmio::read8(line) == value, "the host cannot write the bridge's other registers");
    }
    check_isolation(ctx)
}
