//! Registers with two CPU addresses.

use io_pgtable::Pa;

use super::machine::*;
use crate::boot_info::PhysRange;
use crate::boot_info::pci::MemoryWindow;
use crate::pci::inspect::{Refusal, inspect};

#[test]
fn t68_registers_in_two_windows_are_refused() {
    let world = World::new();
    let look = |bus: u64, size: u64| {
        let mut segment = world.segment();
        segment.windows.push(MemoryWindow { bus, cpu: PhysRange::new(Pa(0x3000_0000), size).unwrap() });
        inspect(&world.bus, &segment, NVME, &[]).map(drop)
    };
    assert_eq!(look(NVME_BAR + 0x4000, 0x1_0000), Ok(()), "outside the registers");
    assert_eq!(look(NVME_BAR - 0x1_0000, 0x1_0000), Ok(()), "outside the registers");
    assert_eq!(look(NVME_BAR, 0x100_0000), Err(Refusal::BarOutside));
    assert_eq!(look(NVME_BAR + 0x3000, 0x1000), Err(Refusal::BarOutside), "the last page");
    assert_eq!(look(NVME_BAR - 0x1000, 0x2000), Err(Refusal::BarOutside), "the first page");
}
