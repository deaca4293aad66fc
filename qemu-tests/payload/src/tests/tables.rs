//! Misuse of stream table entries and the tables they point to: no host field or table gives access to memory of
//! another owner.

use crate::edu::Direction;
use crate::firmware::{self, Stat};
use crate::lab::{Attack, Ctx, Lab, Landed, Mode, Victim};
use crate::machine::EL2_IMAGE;
use crate::mem::{PAGE, alloc, page};
use crate::mmio;
use crate::num::u64_of;
use crate::outcome::{Fail, TestResult};
use crate::random::Random;
use crate::registry::Runs;
use crate::smmu::spec::{Cmd, Ste, config, context_descriptor, event, reg};
use crate::smmu::stage1::ASID;
use crate::smmu::{Format, Smmu};
use crate::tests::ownership::{donate, take_back};
use crate::tests::registers::check_isolation;
use crate::{ensure, payload_test, println};

/// Stage-2 tables of the host: 1 GiB blocks, identity, 512 GiB; and words 2 and 3 of an entry that uses them.
fn host_stage2() -> [u64; 2] {
    let root = alloc(PAGE, PAGE);
    for index in 0..512_u64 {
        // Block, normal write-back, read-write, inner shareable, AF.
        mmio::write64(root + index * 8, index << 30 | 1 << 10 | 3 << 8 | 3 << 6 | 0xf << 2 | 1);
    }
    let t0sz = 25_u64 << 32;
    let start_level1 = 1 << 38;
    let walks = 1 << 40 | 1 << 42 | 3 << 44;
    let ps = 4 << 48;
    let (aa64, record) = (1 << 51, 1 << 58);
    [t0sz | start_level1 | walks | ps | aa64 | record, root]
}

/// Starts a DMA read of the victim's known word, makes the entry `ste` take effect, and lets the read finish. Returns
/// whether the read got the word. Restores the entry that reaches own pages.
fn lands_under(lab: &Lab, ste: Ste, target: u64, content: u64) -> Result<bool, Fail> {
    let sid = lab.edu.function.sid;
    let good = lab.stage1.ste();
    mmio::write64(lab.own, 0xca9a);
    let own = lab.bus(lab.own);
    lab.edu.transfer(Direction::FromMemory, own, 0, 8)?;
    lab.edu.start(Direction::FromMemory, target, 0, 8);
    lab.smmu.borrow_mut().set_ste(sid, ste)?;
    lab.edu.finish()?;
    // The same with the entry set before the read.
    lab.edu.transfer(Direction::FromMemory, target, 0, 8)?;
    lab.smmu.borrow_mut().set_ste(sid, good)?;
    lab.edu.transfer(Direction::ToMemory, own, 0, 8)?;
    Ok(mmio::read64(lab.own) == content)
}

payload_test!(t16_host_stage2, Runs::ALL);
/// An entry with the host's own stage 2, alone and with stage 1.
fn t16_host_stage2(ctx: &Ctx) -> TestResult {
    let lab = Lab::new(ctx, Mode::Stage1)?;
    lab.control(ctx)?;
    let victim = Victim::el2(ctx)?;
    let [word2, word3] = host_stage2();
    let attack = Attack::begin();
    let mut landed = Landed::No;
    let nested = lab.stage1.ste();
    for (ste, target) in [
        (Ste([1 | config::S2 << 1, 1 << 44, word2, word3, 0, 0, 0, 0]), victim.known),
        (Ste([nested.with_config(config::NESTED).0[0], nested.0[1], word2, word3, 0, 0, 0, 0]), lab.bus(victim.known)),
        (Ste([nested.0[0], nested.0[1], word2, word3, 0, 0, 0, 0]), lab.bus(victim.known)),
    ] {
        if lands_under(&lab, ste, target, victim.content)? {
            println!("{ste:x?} reaches {target:#x}");
            landed = Landed::Yes;
        }
    }
    attack.check(ctx, landed)?;
    lab.control(ctx)
}

payload_test!(t16_entry_fields, Runs::HYP);
/// Every field that the host must not control, one by one and all together.
fn t16_entry_fields(ctx: &Ctx) -> TestResult {
    let lab = Lab::new(ctx, Mode::Stage1)?;
    lab.control(ctx)?;
    let victim = Victim::el2(ctx)?;
    // (word, bits): S1CDMax; DRE, CONT, DCP, PPAR, MEV, S2FWB, S1STALLD, EATS, STRW, MemAttr, MTCFG, ALLOCCFG, SHCFG, NSCFG,
    // PRIVCFG, INSTCFG; all of words 2 to 7.
    let fields: [(usize, u64); 26] = [
        (0, 1 << 59),
        (0, 0x1f << 59),
        (0, 3 << 4),
        (0, 0xf << 56),
        (1, 1 << 12),
        (1, 0xf << 13),
        (1, 1 << 17),
        (1, 1 << 18),
        (1, 1 << 19),
        (1, 1 << 25),
        (1, 1 << 27),
        (1, 1 << 28),
        (1, 2 << 28),
        (1, 1 << 30),
        (1, 2 << 30),
        (1, 0xf << 32),
        (1, 1 << 36),
        (1, 0xf << 37),
        (1, 3 << 44),
        (1, 3 << 46 | 3 << 48 | 3 << 50),
        (2, u64::MAX),
        (3, u64::MAX),
        (4, u64::MAX),
        (5, u64::MAX),
        (6, u64::MAX),
        (7, u64::MAX),
    ];
    for base in [lab.stage1.ste(), Ste::bypass(), Ste::abort(), Ste([0; 8])] {
        let through = if base == lab.stage1.ste() { lab.bus(victim.known) } else { victim.known };
        let mut all = base;
        for (word, bits) in fields {
            let mut ste = base;
            ste.0[word] |= bits;
            all.0[word] |= bits & if word == 0 { 0 } else { u64::MAX };
            ensure!(!lands_under(&lab, ste, through, victim.content)?, "EL2's image is readable with {ste:x?}");
        }
        ensure!(!lands_under(&lab, all, through, victim.content)?, "EL2's image is readable with {all:x?}");
    }
    lab.control(ctx)
}

payload_test!(t17_configs_and_transitions, Runs::HYP);
/// All values of V, Config and S1DSS, and transitions between them in random order with a transfer in flight.
fn t17_configs_and_transitions(ctx: &Ctx) -> TestResult {
    let lab = Lab::new(ctx, Mode::Stage1)?;
    lab.control(ctx)?;
    let victim = Victim::el2(ctx)?;
    let stage1 = lab.stage1.ste();
    let through = lab.bus(victim.known);
    let state = |index: u64| {
        let mut ste = stage1.with_config(index >> 1 & 7);
        ste.0[0] = ste.0[0] & !1 | index & 1;
        ste.0[1] = ste.0[1] & !3 | index >> 4 & 3;
        ste
    };
    for index in 0..64 {
        let ste = state(index);
        for target in [victim.known, through] {
            ensure!(!lands_under(&lab, ste, target, victim.content)?, "EL2's image is readable with {ste:x?}");
        }
    }
    // Directly from one state to the next: the words are changed in place, with one CFGI and without an invalid entry
    // in between.
    let mut random = Random::new(ctx.seed);
    let sid = lab.edu.function.sid;
    let own = lab.bus(lab.own);
    for _ in 0..60 {
        mmio::write64(lab.own, 0xca9a);
        lab.smmu.borrow_mut().set_ste(sid, stage1)?;
        lab.edu.transfer(Direction::FromMemory, own, 0, 8)?;
        let target = if random.below(2) == 0 { victim.known } else { through };
        lab.edu.start(Direction::FromMemory, target, 0, 8);
        for _ in 0..4 {
            let ste = state(random.below(64));
            let mut smmu = lab.smmu.borrow_mut();
            for (word, value) in ste.0.iter().enumerate() {
                smmu.strtab.write_word(sid, u64_of(word), *value);
                smmu.command(Cmd::cfgi_ste(sid));
                smmu.sync()?;
            }
        }
        lab.edu.finish()?;
        lab.smmu.borrow_mut().set_ste(sid, stage1)?;
        lab.edu.transfer(Direction::ToMemory, own, 0, 8)?;
        ensure!(mmio::read64(lab.own) != victim.content, "EL2's image is read in a transition");
    }
    lab.control(ctx)
}

payload_test!(t20_foreign_tables, Runs::HYP);
/// Context descriptor, tables and page-table pages in memory that is not the host's: the walk faults in stage 2.
fn t20_foreign_tables(ctx: &Ctx) -> TestResult {
    let lab = Lab::new(ctx, Mode::Stage1)?;
    lab.control(ctx)?;
    let sid = lab.edu.function.sid;
    let donated = page();
    donate(donated, 1)?;
    let own = lab.bus(lab.own);
    let works = |lab: &Lab| -> Result<bool, Fail> {
        mmio::write64(lab.own + 8, 0);
        lab.edu.transfer(Direction::FromMemory, own, 0, 8)?;
        mmio::write64(lab.own, 0x77);
        lab.edu.transfer(Direction::FromMemory, own, 0, 8)?;
        lab.edu.transfer(Direction::ToMemory, own + 8, 0, 8)?;
        Ok(mmio::read64(lab.own + 8) == 0x77)
    };
    ensure!(works(&lab)?, "a normal set-up does not work");
    for foreign in [EL2_IMAGE, donated, ctx.machine.uart, ctx.machine.ram_end(), 0xff_ffff_f000] {
        let before = firmware::stat(Stat::Faults);
        // The context descriptor.
        lab.smmu.borrow_mut().set_ste(sid, Ste::stage1(foreign))?;
        ensure!(!works(&lab)?, "a context descriptor at {foreign:#x} works");
        ensure!(has_event(&lab, event::F_CD_FETCH), "no F_CD_FETCH for a context descriptor at {foreign:#x}");
        // The root table.
        lab.stage1.write_cd(context_descriptor(foreign, ASID));
        lab.smmu.borrow_mut().set_ste(sid, lab.stage1.ste())?;
        flush(&lab)?;
        ensure!(!works(&lab)?, "a root table at {foreign:#x} works");
        ensure!(has_event(&lab, event::F_WALK_EABT), "no F_WALK_EABT for a root table at {foreign:#x}");
        lab.stage1.write_cd(context_descriptor(lab.stage1.root, ASID));
        flush(&lab)?;
        ensure!(works(&lab)?, "a normal set-up does not work any more");
        // A last-level table.
        let iova = 0x2_0000_0000;
        lab.stage1.set_level3_table(iova, foreign);
        lab.edu.transfer(Direction::ToMemory, iova, 0, 4)?;
        let seen = firmware::stat(Stat::Faults) - before;
        println!("{foreign:#x}: {seen} faults");
        ensure!(seen >= 3, "only {seen} faults for walks in {foreign:#x}");
        // QEMU reports a stage-2 fault of a walk below the root as a stage-1 fault.
        let event = lab.smmu.borrow_mut().next_event().map(|event| (event.kind(), event.class()));
        let right = matches!(event, Some((event::F_WALK_EABT | event::F_TRANSLATION, 1)));
        ensure!(right, "event {event:x?} for a table at {foreign:#x}");
    }
    take_back(donated, 1)?;
    lab.control(ctx)
}

/// Empties the host's event queue; returns whether it had an event of this type. The host's event is that of a
/// stage-1-only SMMU for an unmapped address.
fn has_event(lab: &Lab, kind: u32) -> bool {
    let mut found = false;
    while let Some(event) = lab.smmu.borrow_mut().next_event() {
        found |= event.kind() == kind && !event.is_stage2();
    }
    found
}

/// Invalidates descriptors and translations of the stream.
fn flush(lab: &Lab) -> TestResult {
    let mut smmu = lab.smmu.borrow_mut();
    smmu.command(Cmd::cfgi_cd(lab.edu.function.sid));
    smmu.command(Cmd::cfgi_ste(lab.edu.function.sid));
    smmu.command(Cmd::tlbi_nh_all());
    smmu.sync()?;
    Ok(())
}

payload_test!(t41_table_changes_shape, Runs::HYP);
/// A linear table, a two-level one, and a linear one of another size; the memory of old tables is reused for data, and
/// donated.
fn t41_table_changes_shape(ctx: &Ctx) -> TestResult {
    let mut old: Option<u64> = None;
    for format in [Format::Linear, Format::TwoLevel, Format::Linear, Format::TwoLevel] {
        let lab = Lab::with_format(ctx, Mode::Stage1, format)?;
        lab.control(ctx)?;
        if let Some(old) = old {
            // Fills the old table so that every entry would be a valid bypass entry.
            mmio::fill(old & !(PAGE - 1), PAGE, 0x9);
            lab.smmu.borrow_mut().try_command(Cmd::cfgi_all())?;
            lab.control(ctx)?;
            donate(old & !(PAGE - 1), 1)?;
            lab.smmu.borrow_mut().try_command(Cmd::cfgi_all())?;
            lab.control(ctx)?;
            take_back(old & !(PAGE - 1), 1)?;
        }
        let smmu = lab.smmu.borrow();
        old = Some(smmu.strtab.base);
        smmu.off()?;
    }
    // LOG2SIZE from 0 to beyond the StreamID size.
    let mut smmu = Smmu::new(ctx.machine, Format::Linear);
    for log2 in 0..64_u32 {
        smmu.off()?;
        smmu.acknowledge();
        smmu.write64(reg::STRTAB_BASE, smmu.strtab.base_register());
        smmu.write(reg::STRTAB_BASE_CFG, log2);
        smmu.start_cmdq(0)?;
        let _ = smmu.set_cr0(crate::smmu::spec::cr0::CMDQEN | crate::smmu::spec::cr0::SMMUEN);
        let _ = smmu.try_command(Cmd::cfgi_all());
    }
    smmu.off()?;
    check_isolation(ctx)
}
