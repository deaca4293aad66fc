//! Accesses to the SMMU's registers: every target register, size and extension; those without a valid syndrome must
//! abort at EL1 and not crash EL2.

use crate::access::{self, REGISTERS};
use crate::firmware::{self, Stat};
use crate::machine::Conduit;
use crate::outcome::TestResult;
use crate::random::Random;
use crate::registry::Runs;
use crate::setup::Ctx;
use crate::smmu::spec::reg;
use crate::smmu::{Format, Smmu};
use crate::vectors::catch;
use crate::{ensure, mmio, payload_test, println};

/// A register whose bits 31:6 can be written while the SMMU is off.
const KEEPS: u64 = reg::STRTAB_BASE;
const KEPT_BITS: u64 = 0xffff_ffc0;

payload_test!(mmio_every_register, Runs::ALL);
/// Loads into x0..x30 return the register's value zero-extended; stores from each work.
fn mmio_every_register(ctx: &Ctx) -> TestResult {
    let base = ctx.machine.smmu;
    let idr0 = u64::from(mmio::read32(base + reg::IDR0));
    ensure!(idr0 != 0, "IDR0 reads 0");
    for register in 0..REGISTERS {
        let loaded = access::load_into(register, base + reg::IDR0);
        ensure!(loaded == idr0, "load into x{register} gives {loaded:#x} instead of {idr0:#x}");
    }
    for register in 0..REGISTERS {
        let value = (0x8123_4540 + (register << 8)) & KEPT_BITS;
        access::store_from(register, base + KEEPS, value | 0xdead_0000_0000_0000);
        let read = u64::from(mmio::read32(base + KEEPS));
        ensure!(read == value, "store from x{register} leaves {read:#x} instead of {value:#x}");
    }
    Ok(())
}

payload_test!(mmio_extension_and_zero, Runs::ALL);
/// Loads and stores with sign extension, the zero register, acquire and release.
fn mmio_extension_and_zero(ctx: &Ctx) -> TestResult {
    let base = ctx.machine.smmu;
    mmio::write32(base + KEEPS, 0x8765_4340);
    let signed = access::load_sign32(base + KEEPS);
    ensure!(signed == 0xffff_ffff_8765_4340, "ldrsw gives {signed:#x}");
    let acquired = access::load_acquire(base + KEEPS);
    ensure!(acquired == 0x8765_4340, "ldar gives {acquired:#x}");
    access::load_zero(base + KEEPS);
    access::store_zero(base + KEEPS);
    let zero = mmio::read32(base + KEEPS);
    ensure!(zero == 0, "wzr stores {zero:#x}");
    mmio::write32(base + KEEPS, 0x40);
    access::store_release(base + KEEPS);
    ensure!(mmio::read32(base + KEEPS) == 0, "the store by stlr has no effect");
    Ok(())
}

payload_test!(mmio_sizes, Runs::HYP);
/// 64-bit registers can be accessed with one access of 64 bits or two of 32; accesses of 8 and 16 bits are RAZ/WI.
fn mmio_sizes(ctx: &Ctx) -> TestResult {
    let smmu = Smmu::new(ctx.machine, Format::Linear);
    smmu.off()?;
    let addr = smmu.addr(reg::STRTAB_BASE);
    mmio::write64(addr, 0x0000_0012_3456_7840);
    ensure!(mmio::read32(addr) == 0x3456_7840, "low half {:#x}", mmio::read32(addr));
    ensure!(mmio::read32(addr + 4) == 0x12, "high half {:#x}", mmio::read32(addr + 4));
    mmio::write32(addr, 0x1111_1100);
    mmio::write32(addr + 4, 0x22);
    ensure!(mmio::read64(addr) == 0x22_1111_1100, "both halves {:#x}", mmio::read64(addr));
    mmio::write8(addr, 0xff);
    mmio::write16(addr, 0xffff);
    ensure!(mmio::read64(addr) == 0x22_1111_1100, "a narrow write changes it to {:#x}", mmio::read64(addr));
    ensure!(mmio::read8(addr + 1) == 0 && mmio::read16(addr) == 0, "a narrow read is not zero");
    ensure!(access::load_sign16(addr) == 0 && access::load_sign8(addr) == 0, "a narrow signed read is not zero");
    Ok(())
}

/// One access at an address; returns the loaded value.
type AccessForm = fn(u64) -> u64;

payload_test!(t30_no_syndrome, Runs::HYP);
/// Accesses that cannot be emulated abort at EL1; EL2 keeps running.
fn t30_no_syndrome(ctx: &Ctx) -> TestResult {
    let addr = ctx.machine.smmu + reg::STRTAB_BASE;
    mmio::write64(addr, 0x4000);
    let forms: [(&str, AccessForm); 13] = [
        ("ldp", access::load_pair),
        ("stp", access::store_pair),
        ("ldr post-indexed", access::load_post),
        ("ldr pre-indexed", access::load_pre),
        ("str post-indexed", access::store_post),
        ("ldxr", access::load_exclusive),
        ("stxr", access::store_exclusive),
        ("dc zva", access::zero_block),
        ("ldr q", access::load_simd),
        ("str q", access::store_simd),
        ("ldadd", access::atomic_add),
        ("dc cvac", access::clean),
        ("dc ivac", access::invalidate),
    ];
    for (name, form) in forms {
        let (value, caught) = catch(|| form(addr));
        match caught {
            Some(caught) => println!("{name}: class {:#x} status {:#x}", caught.class(), caught.fault_status()),
            // Some of these have a syndrome on some cores; the emulated value must then be correct.
            None => println!("{name}: {value:#x}"),
        }
        let maintenance = name.starts_with("dc ");
        ensure!(caught.is_some() || maintenance || name == "ldadd", "{name} does not abort");
        ensure!(mmio::read32(ctx.machine.smmu + reg::IDR0) != 0, "IDR0 reads 0 after {name}");
    }
    ensure!(mmio::read64(addr) == 0x4000, "STRTAB_BASE changed to {:#x}", mmio::read64(addr));
    Ok(())
}

payload_test!(t29_every_offset, Runs::HYP);
/// Reads and writes at every offset of both register pages: emulated or RAZ/WI, no crash of EL2, the SMMU usable
/// afterwards.
fn t29_every_offset(ctx: &Ctx) -> TestResult {
    let base = ctx.machine.smmu;
    let mut random = Random::new(ctx.seed);
    for pass in 0..3 {
        for page in (0..reg::SIZE).step_by(0x1000) {
            // Every offset in the register range, and samples of other offsets.
            let dense = page == 0 || page == 0x1_0000;
            let step = if dense { 4 } else { 0x100 };
            for offset in (page..page + 0x1000).step_by(step) {
                touch(&mut random, base + offset, pass);
            }
        }
        // Unaligned offsets and small sizes, in the register range: most of them are alignment faults at EL1.
        for offset in 0..0x100_u64 {
            catch(|| {
                mmio::read8(base + offset);
                mmio::read16(base + offset);
                mmio::read32(base + offset);
                mmio::read64(base + offset);
                mmio::write8(base + 0x1_00a0 + offset, 0xff);
            });
        }
    }
    println!("exits {} denied {}", firmware::stat(Stat::Exits), firmware::stat(Stat::Denied));
    crate::setup::Setup::new(ctx, crate::setup::Mode::Stage1)?.control(ctx)
}

fn touch(random: &mut Random, addr: u64, pass: u32) {
    let value = match pass {
        0 => return read_all(addr),
        1 => u64::MAX,
        _ => random.draw(),
    };
    match random.below(4) {
        0 => mmio::write8(addr, value.to_le_bytes()[0]),
        1 => mmio::write16(addr, crate::num::low32(value & 0xffff).try_into().unwrap_or(0)),
        2 => mmio::write32(addr, crate::num::low32(value)),
        _ if addr.is_multiple_of(8) => mmio::write64(addr, value),
        _ => mmio::write32(addr, crate::num::high32(value)),
    }
    read_all(addr);
}

fn read_all(addr: u64) {
    mmio::read8(addr);
    mmio::read16(addr);
    mmio::read32(addr);
    if addr.is_multiple_of(8) {
        mmio::read64(addr);
    }
}

payload_test!(t33_hidden_pages, Runs::HYP);
/// Secure registers, ECMDQ control pages, VATOS and the pages after page 1 are RAZ/WI, or abort.
fn t33_hidden_pages(ctx: &Ctx) -> TestResult {
    let base = ctx.machine.smmu;
    for offset in
        [0x100, 0x104, 0x118, 0x180, 0x200, 0x4000, 0x8000, 0x8020, 0x8060, 0x8090, 0x1_0000, 0x1_8000, 0x1_80a8]
    {
        mmio::write32(base + offset, u32::MAX);
        let value = mmio::read32(base + offset);
        ensure!(value == 0, "register at {offset:#x} reads {value:#x}");
    }
    for offset in [reg::SIZE, reg::SIZE + 0x1_0000] {
        let (value, caught) = catch(|| mmio::read32(base + offset));
        ensure!(value == 0, "the page at {offset:#x} reads {value:#x} ({caught:x?})");
    }
    Ok(())
}

payload_test!(mmio_alive, Runs::ALL);
/// The SMMU's ID registers can be read on every machine.
fn mmio_alive(ctx: &Ctx) -> TestResult {
    let smmu = Smmu::new(ctx.machine, Format::Linear);
    let ids = [reg::IDR0, reg::IDR1, reg::IDR3, reg::IDR5].map(|offset| smmu.read(offset));
    println!("IDR0 {:#x} IDR1 {:#x} IDR3 {:#x} IDR5 {:#x}", ids[0], ids[1], ids[2], ids[3]);
    ensure!(ids[0] >> 1 & 1 == 1, "no stage 1");
    if ctx.machine.conduit == Conduit::Smc && ctx.expect == crate::setup::Expect::Blocked {
        ensure!(ids[0] & 1 == 0, "stage 2 is shown to the host");
    }
    Ok(())
}
