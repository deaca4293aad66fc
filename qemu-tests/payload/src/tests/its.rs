//! The interrupt translation service as a DMA master: an ITS writes its tables at the addresses in its registers and
//! commands, without any stage 2 or SMMU. Under EL2 the host's addresses are not written to hardware.
//!
//! The host cannot read the target back, so the ITS is used as evidence: it stores a device table entry at the target,
//! and a command that needs this entry then changes the host's own memory.

use crate::its::{Its, LPI, TABLE, VALID, enable_lpis, gicr};
use crate::mem::{PAGE, alloc, page};
use crate::mmio;
use crate::num::{low32, usize_of};
use crate::outcome::TestResult;
use crate::random::Random;
use crate::registry::Runs;
use crate::setup::{AttackedMemory, Ctx, Expect, Landed};
use crate::{ensure, fail, payload_test, println, skip};

payload_test!(t45a_its_device_table, Runs::ALL);
/// A device table in attacked memory: if the host controls the ITS, MAPD writes eight chosen bytes to it.
fn t45a_its_device_table(ctx: &Ctx) -> TestResult {
    if ctx.machine.its == 0 {
        skip!("no ITS");
    }
    if ctx.expect == Expect::Landed {
        println!("ANNOUNCED ITS: it uses tables at the host's addresses, without stage 2");
        println!("ANNOUNCED redistributors: they use LPI tables at the host's addresses, without stage 2");
    }
    let attacked = AttackedMemory::el2(ctx)?;
    let (device, base) = (attacked.unused % PAGE / 8, attacked.unused & !(PAGE - 1));
    let translations = page();
    let written = || Landed::from(mmio::find_other(translations, PAGE, 0).is_some());

    // The control: with the table in the payload's memory the ITS executes commands, and the event's entry is written,
    // unless hardware uses EL2's tables.
    let mut its = Its::start(ctx.machine.its, page());
    ensure!(its.map_device(device, translations) && its.map_event(device), "the ITS does not execute commands");
    if ctx.expect == Expect::Landed {
        ensure!(written() == Landed::Yes, "control: no entry was written");
    }
    println!("CONTROL {}: ok", ctx.name);

    mmio::fill(translations, PAGE, 0);
    let mut its = Its::start(ctx.machine.its, base);
    let consumed = its.map_device(device, translations) && its.map_event(device);
    let landed = written();
    println!("commands consumed: {consumed}");
    if landed == Landed::Yes {
        // The device is unmapped, which clears the word.
        its.command([0x08 | device << 32, 0, 0, 0]);
    }
    verdict(ctx, landed)
}

payload_test!(t45d_its_translation_table, Runs::ALL);
/// A translation table in the payload's memory, to which hardware writes an entry for MAPTI. If hardware uses EL2's
/// tables, no address of MAPD is written.
fn t45d_its_translation_table(ctx: &Ctx) -> TestResult {
    if ctx.machine.its == 0 {
        skip!("no ITS");
    }
    let translations = page();
    let mut its = Its::start(ctx.machine.its, page());
    ensure!(its.map_device(3, translations) && its.map_event(3), "the ITS does not execute commands");
    println!("CONTROL {}: ok", ctx.name);
    let landed = Landed::from(mmio::find_other(translations, PAGE, 0).is_some());
    verdict(ctx, landed)?;
    // Addresses in EL2's memory, and addresses without memory; EL2 audits its tables at the end.
    let attacked = AttackedMemory::el2(ctx)?;
    if ctx.expect == Expect::Blocked {
        for target in [attacked.unused & !0xff, 0, 0xf_ffff_ffff_ff00] {
            ensure!(its.map_device(4, target) && its.map_event(4), "the ITS stopped at {target:#x}");
        }
    }
    Ok(())
}

payload_test!(t45g_lpi_tables, Runs::ALL);
/// A pending table in the payload's memory, to which the redistributor writes when an LPI becomes pending. If hardware
/// uses EL2's tables, it is not written.
fn t45g_lpi_tables(ctx: &Ctx) -> TestResult {
    if ctx.machine.its == 0 || ctx.machine.gicr == 0 {
        skip!("no ITS");
    }
    let gicr = ctx.machine.gicr;
    let (properties, pending) = (alloc(TABLE, TABLE), alloc(TABLE, TABLE));
    enable_lpis(gicr, properties, pending)?;
    let mut its = Its::start(ctx.machine.its, page());
    // The LPI is disabled in the configuration table, so it stays pending.
    ensure!(its.raise_lpi(3, page()), "the ITS does not execute commands");
    println!("CONTROL {}: ok", ctx.name);
    verdict(ctx, Landed::from(mmio::find_other(pending, TABLE, 0).is_some()))?;
    if ctx.expect == Expect::Blocked {
        // With a table in EL2's memory: commands still work, and EL2 audits its tables at the end.
        let attacked = AttackedMemory::el2(ctx)?;
        mmio::write32(gicr + gicr::CTLR, 0);
        enable_lpis(gicr, attacked.unused & !0xfff, attacked.unused & !0xffff)?;
        ensure!(its.raise_lpi(4, page()), "the ITS stopped");
    }
    Ok(())
}

payload_test!(t45j_every_register, Runs::HYP);
/// Loads and stores of every size at every offset of the ITS's and the redistributor's frames, then random ones and
/// random commands; then the ITS works.
fn t45j_every_register(ctx: &Ctx) -> TestResult {
    if ctx.machine.its == 0 || ctx.machine.gicr == 0 {
        skip!("no ITS");
    }
    let (its, gicr) = (ctx.machine.its, ctx.machine.gicr);
    let attacked = AttackedMemory::el2(ctx)?.unused;
    // The payload uses the SGI frame itself.
    let frames = [its, its + 0x1_0000, gicr];
    for frame in frames {
        for offset in (0..0x200).chain(0xff80..0xfff8) {
            for value in [0, attacked | VALID | 0x100, u64::MAX] {
                touch(frame + offset, offset, value);
            }
        }
    }
    let mut random = Random::new(ctx.seed);
    for _ in 0..20_000 {
        let frame = frames[usize_of(random.below(3))];
        let offset = if random.below(2) == 0 { random.below(0x180) } else { random.below(0xfff8) };
        let value = if random.below(2) == 0 { random.draw() } else { attacked | VALID | random.below(0x1000) };
        touch(frame + offset, random.draw(), value);
    }
    let mut queue = Its::start(its, page());
    for _ in 0..100 {
        let opcode = random.below(0x30) | random.below(8) << 32;
        let words =
            [opcode, random.below(64) | LPI << 32, attacked | random.draw() & VALID | random.below(4), random.draw()];
        ensure!(queue.command(words), "the ITS stopped at {words:x?}");
    }
    let translations = page();
    let mut queue = Its::start(its, page());
    ensure!(queue.map_device(3, translations) && queue.map_event(3), "the ITS no longer executes commands");
    Ok(())
}

/// A load and a store of the size that `size` selects.
fn touch(addr: u64, size: u64, value: u64) {
    let [low, high, ..] = value.to_le_bytes();
    match size % 4 {
        0 => {
            mmio::read64(addr & !7);
            mmio::write64(addr & !7, value);
        }
        1 => {
            mmio::read32(addr & !3);
            mmio::write32(addr & !3, low32(value));
        }
        2 => {
            mmio::read16(addr & !1);
            mmio::write16(addr & !1, u16::from_le_bytes([low, high]));
        }
        _ => {
            mmio::read8(addr);
            mmio::write8(addr, low);
        }
    }
}

/// Prints the attack's line and compares the result with the expected one.
pub(super) fn verdict(ctx: &Ctx, landed: Landed) -> TestResult {
    println!("ATTACK {}: {}", ctx.name, if landed == Landed::Yes { "landed" } else { "blocked" });
    match (ctx.expect, landed) {
        (Expect::Blocked, Landed::Yes) => fail!("the attack landed"),
        (Expect::Landed, Landed::No) => fail!("the attack was blocked, but should have landed"),
        (Expect::Blocked, Landed::No) | (Expect::Landed, Landed::Yes) => Ok(()),
    }
}
