//! Misuse of stream table entries and the tables they point to: no host field or table gives access to memory of
//! another owner.

use crate::edu::Direction;
use crate::firmware::{self, Stat};
use crate::machine::EL2_IMAGE;
use crate::mem::{PAGE, alloc, page};
use crate::mmio;
use crate::num::u64_of;
use crate::outcome::{Fail, TestResult};
use crate::random::Random;
use crate::registry::Runs;
use crate::setup::{Attack, AttackedMemory, Ctx, Landed, Mode, Setup};
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

/// Starts a DMA read of the known word in attacked memory, makes the entry `ste` take effect, and waits for the read.
/// Returns whether the read got the word. Restores the entry that maps own pages.
fn lands_under(setup: &Setup, ste: Ste, target: u64, content: u64) -> Result<bool, Fail> {
    let sid = setup.edu.function.sid;
    let good = setup.stage1.ste();
    mmio::write64(setup.own, 0xca9a);
    let own = setup.bus(setup.own);
    setup.edu.transfer(Direction::FromMemory, own, 0, 8)?;
    setup.edu.start(Direction::FromMemory, target, 0, 8);
    setup.smmu.borrow_mut().set_ste(sid, ste)?;
    setup.edu.finish()?;
    // The same with the entry set before the read.
    setup.edu.transfer(Direction::FromMemory, target, 0, 8)?;
    setup.smmu.borrow_mut().set_ste(sid, good)?;
    setup.edu.transfer(Direction::ToMemory, own, 0, 8)?;
    Ok(mmio::read64(setup.own) == content)
}

payload_test!(t16_host_stage2, Runs::ALL);
/// An entry with the host's own stage 2, alone and with stage 1.
fn t16_host_stage2(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let attacked = AttackedMemory::el2(ctx)?;
    let [word2, word3] = host_stage2();
    let attack = Attack::begin();
    let mut landed = Landed::No;
    let nested = setup.stage1.ste();
    for (ste, target) in [
        (Ste([1 | config::S2 << 1, 1 << 44, word2, word3, 0, 0, 0, 0]), attacked.known),
        (
            Ste([nested.with_config(config::NESTED).0[0], nested.0[1], word2, word3, 0, 0, 0, 0]),
            setup.bus(attacked.known),
        ),
        (Ste([nested.0[0], nested.0[1], word2, word3, 0, 0, 0, 0]), setup.bus(attacked.known)),
    ] {
        if lands_under(&setup, ste, target, attacked.content)? {
            println!("{ste:x?} reaches {target:#x}");
            landed = Landed::Yes;
        }
    }
    attack.check(ctx, landed)?;
    setup.control(ctx)
}

payload_test!(t16_entry_fields, Runs::HYP);
/// Every field that the host must not control, one by one and all together.
fn t16_entry_fields(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let attacked = AttackedMemory::el2(ctx)?;
    // (word, bits): S1CDMax; DRE, CONT, DCP, PPAR, MEV, S2FWB, S1STALLD, EATS, STRW, MemAttr, MTCFG, ALLOCCFG, SHCFG,
    // NSCFG, PRIVCFG, INSTCFG; all of words 2 to 7.
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
    for base in [setup.stage1.ste(), Ste::bypass(), Ste::abort(), Ste([0; 8])] {
        let through = if base == setup.stage1.ste() { setup.bus(attacked.known) } else { attacked.known };
        let mut all = base;
        for (word, bits) in fields {
            let mut ste = base;
            ste.0[word] |= bits;
            all.0[word] |= bits & if word == 0 { 0 } else { u64::MAX };
            ensure!(!lands_under(&setup, ste, through, attacked.content)?, "EL2's image is readable with {ste:x?}");
        }
        ensure!(!lands_under(&setup, all, through, attacked.content)?, "EL2's image is readable with {all:x?}");
    }
    setup.control(ctx)
}

payload_test!(t17_configs_and_transitions, Runs::HYP);
/// All values of V, Config and S1DSS, and transitions between them in random order with a transfer in flight.
fn t17_configs_and_transitions(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let attacked = AttackedMemory::el2(ctx)?;
    let stage1 = setup.stage1.ste();
    let through = setup.bus(attacked.known);
    let state = |index: u64| {
        let mut ste = stage1.with_config(index >> 1 & 7);
        ste.0[0] = ste.0[0] & !1 | index & 1;
        ste.0[1] = ste.0[1] & !3 | index >> 4 & 3;
        ste
    };
    for index in 0..64 {
        let ste = state(index);
        for target in [attacked.known, through] {
            ensure!(!lands_under(&setup, ste, target, attacked.content)?, "EL2's image is readable with {ste:x?}");
        }
    }
    // Directly from one state to the next: the words are changed in place, with one CFGI and without an invalid entry
    // in between.
    let mut random = Random::new(ctx.seed);
    let sid = setup.edu.function.sid;
    let own = setup.bus(setup.own);
    for _ in 0..60 {
        mmio::write64(setup.own, 0xca9a);
        setup.smmu.borrow_mut().set_ste(sid, stage1)?;
        setup.edu.transfer(Direction::FromMemory, own, 0, 8)?;
        let target = if random.below(2) == 0 { attacked.known } else { through };
        setup.edu.start(Direction::FromMemory, target, 0, 8);
        for _ in 0..4 {
            let ste = state(random.below(64));
            let mut smmu = setup.smmu.borrow_mut();
            for (word, value) in ste.0.iter().enumerate() {
                smmu.strtab.write_word(sid, u64_of(word), *value);
                smmu.command(Cmd::cfgi_ste(sid));
                smmu.sync()?;
            }
        }
        setup.edu.finish()?;
        setup.smmu.borrow_mut().set_ste(sid, stage1)?;
        setup.edu.transfer(Direction::ToMemory, own, 0, 8)?;
        ensure!(mmio::read64(setup.own) != attacked.content, "EL2's image is read in a transition");
    }
    setup.control(ctx)
}

payload_test!(t20_foreign_tables, Runs::HYP);
/// Context descriptor, tables and page-table pages in memory that is not the host's: the walk faults in stage 2.
fn t20_foreign_tables(ctx: &Ctx) -> TestResult {
    let setup = Setup::new(ctx, Mode::Stage1)?;
    setup.control(ctx)?;
    let sid = setup.edu.function.sid;
    let donated = page();
    donate(donated, 1)?;
    let own = setup.bus(setup.own);
    let works = |setup: &Setup| -> Result<bool, Fail> {
        mmio::write64(setup.own + 8, 0);
        setup.edu.transfer(Direction::FromMemory, own, 0, 8)?;
        mmio::write64(setup.own, 0x77);
        setup.edu.transfer(Direction::FromMemory, own, 0, 8)?;
        setup.edu.transfer(Direction::ToMemory, own + 8, 0, 8)?;
        Ok(mmio::read64(setup.own + 8) == 0x77)
    };
    ensure!(works(&setup)?, "a normal set-up does not work");
    for foreign in [EL2_IMAGE, donated, ctx.machine.uart, ctx.machine.ram_end(), 0xff_ffff_f000] {
        let before = firmware::stat(Stat::Faults);
        // The context descriptor.
        setup.smmu.borrow_mut().set_ste(sid, Ste::stage1(foreign))?;
        ensure!(!works(&setup)?, "a context descriptor at {foreign:#x} works");
        ensure!(has_event(&setup, event::F_CD_FETCH), "no F_CD_FETCH for a context descriptor at {foreign:#x}");
        // The root table.
        setup.stage1.write_cd(context_descriptor(foreign, ASID));
        setup.smmu.borrow_mut().set_ste(sid, setup.stage1.ste())?;
        flush(&setup)?;
        ensure!(!works(&setup)?, "a root table at {foreign:#x} works");
        ensure!(has_event(&setup, event::F_WALK_EABT), "no F_WALK_EABT for a root table at {foreign:#x}");
        setup.stage1.write_cd(context_descriptor(setup.stage1.root, ASID));
        flush(&setup)?;
        ensure!(works(&setup)?, "a normal set-up does not work any more");
        // A last-level table.
        let iova = 0x2_0000_0000;
        setup.stage1.set_level3_table(iova, foreign);
        setup.edu.transfer(Direction::ToMemory, iova, 0, 4)?;
        let seen = firmware::stat(Stat::Faults) - before;
        println!("{foreign:#x}: {seen} faults");
        ensure!(seen >= 3, "only {seen} faults for walks in {foreign:#x}");
        // QEMU reports a stage-2 fault of a walk below the root as a stage-1 fault.
        let event = setup.smmu.borrow_mut().next_event().map(|event| (event.kind(), event.class()));
        let right = matches!(event, Some((event::F_WALK_EABT | event::F_TRANSLATION, 1)));
        ensure!(right, "event {event:x?} for a table at {foreign:#x}");
    }
    take_back(donated, 1)?;
    setup.control(ctx)
}

/// Empties the host's event queue; returns whether it had an event of this type. The host's event is that of a
/// stage-1-only SMMU for an unmapped address.
fn has_event(setup: &Setup, kind: u32) -> bool {
    let mut found = false;
    while let Some(event) = setup.smmu.borrow_mut().next_event() {
        found |= event.kind() == kind && !event.is_stage2();
    }
    found
}

/// Invalidates descriptors and translations of the stream.
fn flush(setup: &Setup) -> TestResult {
    let mut smmu = setup.smmu.borrow_mut();
    smmu.command(Cmd::cfgi_cd(setup.edu.function.sid));
    smmu.command(Cmd::cfgi_ste(setup.edu.function.sid));
    smmu.command(Cmd::tlbi_nh_all());
    smmu.sync()?;
    Ok(())
}

payload_test!(t41_table_changes_format, Runs::HYP);
/// A linear table, a two-level one, and a linear one of another size; the memory of old tables is reused for data, and
/// donated.
fn t41_table_changes_format(ctx: &Ctx) -> TestResult {
    let mut old: Option<u64> = None;
    for format in [Format::Linear, Format::TwoLevel, Format::Linear, Format::TwoLevel] {
        let setup = Setup::with_format(ctx, Mode::Stage1, format)?;
        setup.control(ctx)?;
        if let Some(old) = old {
            // Fills the old table so that every entry would be a valid bypass entry.
            mmio::fill(old & !(PAGE - 1), PAGE, 0x9);
            setup.smmu.borrow_mut().try_command(Cmd::cfgi_all())?;
            setup.control(ctx)?;
            donate(old & !(PAGE - 1), 1)?;
            setup.smmu.borrow_mut().try_command(Cmd::cfgi_all())?;
            setup.control(ctx)?;
            take_back(old & !(PAGE - 1), 1)?;
        }
        let smmu = setup.smmu.borrow();
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
