//! SMMU registers read by AArch32 processes: an instruction is skipped by its own length, and an IT block continues.

use crate::aarch32::{self, Set, run};
use crate::num::low32;
use crate::outcome::TestResult;
use crate::registry::Runs;
use crate::setup::Ctx;
use crate::smmu::spec::reg;
use crate::{ensure, mmio, payload_test, skip};

const SVC: u16 = 0xdf00;
/// `ldr r0, [r1]`, 16 bits.
const LOAD: u16 = 0x6808;
/// `adds r2, #1` and `adds r3, #1`; in an IT block they do not set flags.
const COUNT_R2: u16 = 0x3201;
const COUNT_R3: u16 = 0x3301;

/// Name, instruction set and code, and the expected counts in r2 and r3.
type Case = (&'static str, Set, &'static [u16], [u32; 2]);

const CASES: [Case; 5] = [
    ("T32, 16 bits", Set::T32, &[LOAD, COUNT_R2, COUNT_R3, SVC], [1, 1]),
    ("T32, 32 bits", Set::T32, &[0xf8d1, 0x0000, COUNT_R2, COUNT_R3, SVC], [1, 1]),
    // cmp r4, r4; ite eq; ldreq r0, [r1]; addne r2, #1; adds r3, #1
    ("T32, first of an ITE block", Set::T32, &[0x42a4, 0xbf0c, LOAD, COUNT_R2, COUNT_R3, SVC], [0, 1]),
    // cmp r4, r4; it eq; ldreq.w r0, [r1]; adds r2, #1; adds r3, #1
    ("T32, last of an IT block", Set::T32, &[0x42a4, 0xbf08, 0xf8d1, 0x0000, COUNT_R2, COUNT_R3, SVC], [1, 1]),
    // ldr r0, [r1]; add r2, r2, #1; add r3, r3, #1; svc #0
    ("A32", Set::A32, &[0x0000, 0xe591, 0x2001, 0xe282, 0x3001, 0xe283, 0x0000, 0xef00], [1, 1]),
];

payload_test!(mmio_from_aarch32, Runs::ALL);
/// Loads of every length, inside and outside IT blocks: the value is correct, and execution continues at the next
/// instruction.
fn mmio_from_aarch32(ctx: &Ctx) -> TestResult {
    if !aarch32::is_supported() {
        skip!("no AArch32 at EL0");
    }
    let register = ctx.machine.smmu + reg::IDR0;
    let idr0 = mmio::read32(register);
    for (name, set, code, counted) in CASES {
        let mut registers = [0; 8];
        registers[1] = low32(register);
        match run(set, code, registers) {
            Ok([value, _, r2, r3, ..]) => {
                ensure!(value == idr0, "{name}: {value:#x} instead of {idr0:#x}");
                ensure!([r2, r3] == counted, "{name}: r2 = {r2} and r3 = {r3} instead of {counted:?}");
            }
            Err(esr) => crate::fail!("{name}: ended by {esr:#x}"),
        }
    }
    Ok(())
}

payload_test!(mmio_big_endian, Runs::ALL);
/// `SETEND BE`, then a load and a store: bytes are reversed, as without EL2.
fn mmio_big_endian(ctx: &Ctx) -> TestResult {
    if !aarch32::is_supported() {
        skip!("no AArch32 at EL0");
    }
    let register = ctx.machine.smmu + reg::STRTAB_BASE;
    mmio::write32(register, 0x1234_5640);
    // setend be; ldr r0, [r1]; str r2, [r1]; svc #0
    let code = [0xb658, LOAD, 0x600a, SVC];
    let registers = [0, low32(register), 0x4056_3412, 0, 0, 0, 0, 0];
    match run(Set::T32, &code, registers) {
        Ok([value, ..]) => ensure!(value == 0x4056_3412, "a big-endian load gives {value:#x}"),
        // The core has no mixed endianness at EL0.
        Err(esr) if esr >> 26 & 0x3f == 0 => skip!("SETEND is undefined"),
        Err(esr) => crate::fail!("ended by {esr:#x}"),
    }
    let stored = mmio::read32(register);
    ensure!(stored == 0x1234_5640, "a big-endian store leaves {stored:#x}");
    Ok(())
}
