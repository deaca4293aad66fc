//! Registers that not every CPU has, or that firmware traps: only accessible ones are written.

use super::*;
use crate::cpu::Optional;

/// A CPU whose `register` has `value` in the four bits from `lsb` on.
fn with(cpu: Fake, id: Id, lsb: u32, value: u64) -> Fake {
    let old = cpu.id(id);
    let mut ids = cpu.ids.clone();
    ids.insert(id, old & !(0xf << lsb) | value << lsb);
    Fake { ids, ..cpu }
}

fn nothing() -> Fake {
    Fake { mpamidr: None, ..Fake::all(0) }
}

/// MPAMIDR_EL1 bits 17, 56 and 58: HAS_HCR, HAS_BW_CTRL, HAS_TIDR.
#[test]
fn t66_mpam_registers_are_written_if_mpamidr_shows_them() {
    assert_eq!(Optional::of(&nothing()), Optional::default());
    let mpam = |mpamidr: u64| Fake { mpamidr: Some(mpamidr), ..with(nothing(), ids::PFR0, 40, 1) };
    let traps = 0b11 << 48;
    let none = Optional { mpam2: Some(traps), ..Optional::default() };
    assert_eq!(Optional::of(&mpam(0)), none);
    assert_eq!(Optional::of(&mpam(!(1 << 17 | 1 << 56 | 1 << 58))), none);
    assert_eq!(Optional::of(&mpam(1 << 17)), Optional { mpamhcr: Some(1 << 31), ..none });
    assert_eq!(Optional::of(&mpam(1 << 56)), Optional { mpambw2: Some(0), ..none });
    assert_eq!(Optional::of(&mpam(1 << 58)), Optional { mpam2: Some(traps | 1 << 58), ..none });
    // Only the fraction distinguishes version 0.1.
    let fraction = Fake { mpamidr: Some(1 << 17), ..with(nothing(), ids::PFR1, 16, 1) };
    assert_eq!(Optional::of(&fraction), Optional { mpamhcr: Some(1 << 31), ..none });
}

#[test]
fn t66_the_profiling_control_is_written_unless_firmware_owns_profiling() {
    let spe = |profiling| Fake { profiling, ..with(nothing(), ids::DFR0, 32, 1) };
    assert_eq!(Optional::of(&spe(Buffer::Usable)), Optional { pmscr: Some(0), ..Optional::default() });
    assert_eq!(Optional::of(&spe(Buffer::Withheld)), Optional::default());
}

/// TF-A of 2021 to 2023 sets MDCR_EL3.TTRF on cores with trace filters; EL2's register is needed only on later ones.
#[test]
fn t66_the_trace_filter_control_is_written_if_its_later_fields_exist() {
    let filter = || with(nothing(), ids::DFR0, 40, 1);
    let written = Optional { trfcr: Some(0), ..Optional::default() };
    assert_eq!(Optional::of(&filter()), Optional::default());
    for tracing in [Buffer::Usable, Buffer::Withheld] {
        let buffer = |version| Fake { tracing, ..with(filter(), ids::DFR0, 44, version) };
        assert_eq!(Optional::of(&buffer(1)), Optional::default());
        assert_eq!(Optional::of(&buffer(2)), written);
    }
    assert_eq!(Optional::of(&with(filter(), ids::DFR2, 24, 1)), written);
    // Without trace filters there is no such register, for any value of the other fields.
    let without = with(with(nothing(), ids::DFR0, 44, 2), ids::DFR2, 24, 1);
    assert_eq!(Optional::of(&without), Optional::default());
}
