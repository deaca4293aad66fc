//! Every register, every size, every offset: only the allow-list has an effect.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BUF, GBPA_UPDATE, POOL, Rig, r, smaller};
use smmu_drv::emul::table::{Register, Width};
use smmu_drv::{AccessSize, WriteOutcome};
use smmu_model::{Config, Snoop};

const SIZES: [AccessSize; 4] = [AccessSize::Byte, AccessSize::Half, AccessSize::Word, AccessSize::Double];

/// Two 32-bit registers side by side that one 64-bit access covers [IHI 0070G 6.2].
const PAIRS: [u32; 15] = [0x0, 0x8, 0x10, 0x18, 0x20, 0x28, 0x40, 0x50, 0x60, 0x70, 0x98, 0xb8, 0xd8, 0x100a8, 0x100c8];

/// Offsets and widths that exist, written independently of the driver [IHI 0070G 6.2].
fn exists(offset: u32, size: AccessSize) -> bool {
    const WIDE: [u32; 7] = [0x68, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0];
    const NARROW: [u32; 33] = [
        0x0, 0x4, 0x8, 0xc, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x40, 0x44, 0x48, 0x50, 0x54, 0x60, 0x64,
        0x70, 0x74, 0x88, 0x98, 0x9c, 0x100a8, 0x100ac, 0xb8, 0xbc, 0x100c8, 0x100cc, 0xd8, 0xdc, 0x190,
    ];
    match size {
        AccessSize::Word => NARROW.contains(&offset) || WIDE.iter().any(|w| offset == *w || offset == *w + 4),
        AccessSize::Double => WIDE.contains(&offset) || PAIRS.contains(&offset),
        AccessSize::Byte | AccessSize::Half => false,
    }
}

#[test]
fn t29_t33_every_offset_at_every_size_is_emulated_or_raz_wi() {
    for config in [Config::qemu(), Config::full()] {
        let mut rig = Rig::new(config);
        let mut denied = 0;
        for offset in 0..0x2_0000 {
            for size in SIZES {
                let value = rig.smmu.mmio_read(&mut rig.host, offset, size);
                let _ = rig.smmu.mmio_write(&mut rig.host, offset, size, 0);
                if !exists(offset, size) {
                    assert_eq!(value, 0, "{offset:#x}");
                    denied += 2;
                }
            }
        }
        assert_eq!(rig.smmu.stats().denied_accesses, denied);
        assert!(!rig.el2_reachable(8));
        assert_eq!(rig.hazards(), []);
    }
}

#[test]
fn t28_t29_all_ones_never_reach_hardwares_control_registers() {
    for config in [Config::qemu(), Config::full()] {
        let mut rig = Rig::new(config.clone());
        let hardware = |rig: &Rig| {
            [0x20, 0x24, 0x28, 0x2c, 0x44, 0x68, 0x6c, 0x70, 0x74, 0x80, 0x84, 0x88, 0x90, 0xa0, 0xb0, 0xb4, 0xb8, 0xbc]
                .map(|offset| rig.board.0.model.borrow_mut().read32(offset))
        };
        let before = hardware(&rig);
        for (_, offset, width, _, _) in Register::ROWS {
            if matches!(*offset, r::CR0 | r::CMDQ_PROD) {
                continue;
            }
            match width {
                Width::Bits32 => rig.write(*offset, u64::MAX),
                Width::Bits64 => rig.write64(*offset, u64::MAX),
            }
        }
        rig.write(r::CR0, u64::MAX);
        assert_eq!(rig.read(r::CR0ACK), 0xd, "reserved bits are dropped");
        rig.write(r::CMDQ_PROD, u64::MAX);
        assert_eq!(hardware(&rig), before);
        assert!(!rig.el2_reachable(8));
        assert!(!rig.can_reach(8, BUF), "the host has no stream table");
        assert_eq!(rig.hazards(), [], "{config:?}");
    }
}

#[test]
fn wide_registers_can_be_accessed_whole_and_in_halves() {
    let mut rig = Rig::qemu();
    for (offset, mask) in [(r::STRTAB_BASE, 0x40ff_ffff_ffff_ffc0), (r::CMDQ_BASE, 0x40ff_ffff_ffff_ffff)] {
        rig.write64(offset, u64::MAX);
        assert_eq!(rig.read64(offset), mask);
        assert_eq!(rig.read(offset), mask & 0xffff_ffff);
        assert_eq!(rig.read(offset + 4), mask >> 32);
        rig.write(offset, 0x1234_5678);
        assert_eq!(rig.read64(offset), (mask & !0xffff_ffff) | (0x1234_5678 & mask));
        rig.write(offset + 4, 0);
        assert_eq!(rig.read64(offset), 0x1234_5678 & mask);
    }
}

#[test]
fn guarded_registers_are_read_only_while_in_use() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    rig.write(r::CR1, 0);
    let before: Vec<u64> = [
        r::STRTAB_BASE,
        r::STRTAB_BASE_CFG,
        r::CMDQ_BASE,
        r::CMDQ_CONS,
        r::EVENTQ_BASE,
        r::CR2,
        r::CR1,
        r::EVENTQ_PROD,
    ]
    .iter()
    .map(|offset| {
        rig.write(*offset, 0xffff_ffff);
        rig.read(*offset)
    })
    .collect();
    let queues = common::CMDQ as u32;
    assert_eq!(before, [common::STRTAB, 4, u64::from(queues) | 8, u64::from(rig.prod), common::EVTQ | 7, 6, 0, 0]);
}

#[test]
fn ids_show_stage_1_only_and_hide_the_rest() {
    let mut rig = Rig::new(Config::full());
    let idr0 = rig.read(r::IDR0);
    // S2P, BTM, HYP, ATS, NS1ATS, SEV, ATOS, PRI, VMW, VMID16, VATOS, ATSRECERR, RME.
    for bit in [0, 5, 8, 9, 10, 11, 14, 15, 16, 17, 18, 20, 23, 30] {
        assert_eq!(idr0 >> bit & 1, 0, "bit {bit}");
    }
    for bit in [1, 3, 4, 7, 12, 13, 19, 22, 24, 27] {
        assert_eq!(idr0 >> bit & 1, 1, "bit {bit}");
    }
    assert_eq!(rig.read(r::IDR1), 20 | 16 << 6 | 7 << 16 | 14 << 21);
    assert_eq!(rig.read(r::IDR3), 1 << 2 | 1 << 10 | 2 << 11);
    assert_eq!(rig.read(r::IDR5), 2 | 7 << 4, "OAS is the IPA space of 40 bits");
    for offset in [0x8, 0x10, 0x190] {
        assert_eq!(rig.read(offset), 0);
    }
    let mut rig = Rig::new(Config { snoop: Snoop::NonCoherent, ..Config::qemu() });
    assert_eq!(rig.read(r::IDR0) & (1 << 4 | 1 << 13), 0, "neither coherent nor MSI");
}

#[test]
fn t11_interrupt_configuration_never_reaches_hardware() {
    let mut rig = Rig::new(Config::full());
    for (cfg0, cfg1, cfg2) in [(0x68, 0x70, 0x74), (0xb0, 0xb8, 0xbc), (0xd0, 0xd8, 0xdc)] {
        rig.write64(cfg0, POOL);
        rig.write(cfg1, 0x1234);
        rig.write(cfg2, 0xf);
        let shown = if cfg0 == 0xd0 { [0, 0, 0] } else { [POOL, 0x1234, 0xf] };
        assert_eq!([rig.read64(cfg0), rig.read(cfg1), rig.read(cfg2)], shown);
        for offset in [cfg0, cfg0 + 4, cfg1, cfg2] {
            assert_eq!(rig.board.0.model.borrow_mut().read32(offset), 0);
        }
    }
    // These are read-only while they are enabled.
    rig.write(r::IRQ_CTRL, 5);
    rig.write64(0x68, 0);
    rig.write64(0xb0, 0);
    assert_eq!([rig.read64(0x68), rig.read64(0xb0)], [POOL, POOL]);
    // Without MSI there is nothing to configure.
    let mut probe = common::firmware(&Config::qemu());
    probe.msi = smmu_drv::MsiAdvert::Hidden;
    let mut rig = Rig::on(common::Board::new(Config::qemu()), probe);
    rig.write64(0x68, POOL);
    assert_eq!(rig.read64(0x68), 0);
}

#[test]
fn gerrorn_acknowledges_active_errors_only() {
    let mut rig = Rig::qemu();
    rig.enable_linear(4);
    rig.write(r::GERRORN, 0x1fd);
    assert_eq!(rig.read(r::GERRORN), 0);
    rig.queue([0xff, 0]);
    rig.ring();
    assert_eq!(rig.read(r::GERROR), 1);
    rig.write(r::GERRORN, 0x1fc);
    assert_eq!(rig.read(r::GERRORN), 0, "the active one was not acknowledged");
    rig.store(common::CMDQ + u64::from(rig.prod - 1) * 16, common::SYNC[0]);
    rig.write(r::GERRORN, 0x1fd);
    assert_eq!(rig.read(r::GERRORN), 1);
    assert_eq!(rig.read(r::CMDQ_CONS) & 0xff, u64::from(rig.prod));
}

/// Registers that store the written value, their implemented bits [IHI 0070G 6.3], and their size.
const STORED: [(u32, u64, AccessSize); 17] = [
    (0x28, 0xfff, AccessSize::Word),
    (0x2c, 0x6, AccessSize::Word),
    (0x50, 0x5, AccessSize::Word),
    (0x68, 0x00ff_ffff_ffff_fffc, AccessSize::Double),
    (0x70, 0xffff_ffff, AccessSize::Word),
    (0x74, 0x3f, AccessSize::Word),
    (0x80, 0x40ff_ffff_ffff_ffc0, AccessSize::Double),
    (0x88, 0x3_07ff, AccessSize::Word),
    (0x90, 0x40ff_ffff_ffff_ffff, AccessSize::Double),
    (0x9c, 0x1ff, AccessSize::Word),
    (0x98, 0x1ff, AccessSize::Word),
    (0xa0, 0x40ff_ffff_ffff_ffff, AccessSize::Double),
    (0x100a8, 0x8000_00ff, AccessSize::Word),
    (0x100ac, 0x8000_00ff, AccessSize::Word),
    (0xb0, 0x00ff_ffff_ffff_fffc, AccessSize::Double),
    (0xb8, 0xffff_ffff, AccessSize::Word),
    (0xbc, 0x3f, AccessSize::Word),
];

#[test]
fn every_register_stores_exactly_its_implemented_bits() {
    for pattern in [u64::MAX, 0, 0x5555_5555_5555_5555, 0xaaaa_aaaa_aaaa_aaaa] {
        for (offset, mask, size) in STORED {
            let mut rig = Rig::qemu();
            // The largest queues, for the indices.
            rig.write64(r::CMDQ_BASE, common::CMDQ | 8);
            rig.write64(r::EVENTQ_BASE, common::EVTQ | 7);
            let _ = rig.smmu.mmio_write(&mut rig.host, offset, size, pattern);
            let seen = rig.smmu.mmio_read(&mut rig.host, offset, size);
            assert_eq!(seen, pattern & mask, "register {offset:#x} after {pattern:#x}");
        }
        // GBPA, with UPDATE.
        let mut rig = Rig::qemu();
        rig.write(r::GBPA, pattern & 0xffff_ffff | GBPA_UPDATE);
        assert_eq!(rig.read(r::GBPA), pattern & 0x0010_3000);
        // CR0: SMMUEN, EVENTQEN, CMDQEN.
        rig.write(r::CR0, pattern & 0xffff_ffff);
        assert_eq!((rig.read(r::CR0), rig.read(r::CR0ACK)), (pattern & 0xd, pattern & 0xd));
    }
}

#[test]
fn an_enable_guards_exactly_its_registers() {
    let table = [(0x80, 0xffc0), (0x88, 0x3f), (0x2c, 2)];
    let commands = [(0x90, 0x1f), (0x9c, 0x1f)];
    let events = [(0xa0, 0x1f), (0x100a8, 0x1f)];
    for (enable, guarded) in [(r::SMMUEN, &table[..]), (r::CMDQEN, &commands), (r::EVENTQEN, &events)] {
        for &(offset, value) in table.iter().chain(&commands).chain(&events) {
            let mut rig = Rig::qemu();
            rig.write64(r::CMDQ_BASE, common::CMDQ | 8);
            rig.write64(r::EVENTQ_BASE, common::EVTQ | 7);
            rig.write64(r::STRTAB_BASE, common::STRTAB);
            rig.write(r::CR0, enable);
            assert_eq!(rig.read(r::CR0ACK), enable);
            let before = rig.read(offset);
            rig.write(offset, value);
            let expected = if guarded.contains(&(offset, value)) { before } else { value };
            assert_ne!(before, value);
            assert_eq!(rig.read(offset), expected, "register {offset:#x} under enable {enable:#x}");
        }
    }
    // CR1: the table's half under SMMUEN, the queues' half under either queue.
    for (enables, expected) in [(0, 0xfff), (r::SMMUEN, 0x03f), (r::CMDQEN, 0xfc0), (r::EVENTQEN, 0xfc0), (0xd, 0)] {
        let mut rig = Rig::qemu();
        rig.write(r::CR0, enables);
        rig.write(r::CR1, 0xfff);
        assert_eq!(rig.read(r::CR1), expected, "enables {enables:#x}");
    }
}

#[test]
fn interrupt_configuration_is_guarded_by_its_own_enable() {
    for (irq_ctrl, gerror, eventq) in [(0, 8, 8), (1, 0, 8), (4, 8, 0), (5, 0, 0)] {
        let mut rig = Rig::qemu();
        rig.write(r::IRQ_CTRL, irq_ctrl);
        for (cfg0, expected) in [(0x68, gerror), (0xb0, eventq)] {
            rig.write64(cfg0, 8);
            rig.write(cfg0 + 8, 8);
            rig.write(cfg0 + 12, 8);
            let seen = [rig.read64(cfg0), rig.read(cfg0 + 8), rig.read(cfg0 + 12)];
            assert_eq!(seen, [expected; 3], "IRQ_CTRL {irq_ctrl}, register {cfg0:#x}");
        }
    }
}

#[test]
fn hardwares_event_interrupt_is_enabled_when_the_host_can_get_events() {
    let mut rig = Rig::qemu();
    let hardware = |rig: &Rig| rig.board.0.model.borrow_mut().read32(r::IRQ_CTRLACK);
    let all = r::CMDQEN | r::EVENTQEN | r::SMMUEN;
    rig.enable_linear(4);
    for (cr0, irq_ctrl, expected) in [
        (all, 0, 0),
        (all, 4, 4),
        (all, 1, 0),
        (all, 5, 4),
        (all & !r::EVENTQEN, 5, 0),
        (all & !r::SMMUEN, 4, 4),
        (0, 4, 0),
        (all, 4, 4),
    ] {
        rig.write(r::CR0, cr0);
        rig.write(r::IRQ_CTRL, irq_ctrl);
        assert_eq!(hardware(&rig), expected, "CR0 {cr0:#x}, IRQ_CTRL {irq_ctrl}");
        assert_eq!((rig.read(r::IRQ_CTRL), rig.read(r::IRQ_CTRLACK)), (irq_ctrl, irq_ctrl));
        // The same with the stores in the other order.
        rig.write(r::IRQ_CTRL, 0);
        rig.write(r::CR0, 0);
        rig.write(r::IRQ_CTRL, irq_ctrl);
        rig.write(r::CR0, cr0);
        assert_eq!(hardware(&rig), expected, "IRQ_CTRL {irq_ctrl}, CR0 {cr0:#x}");
    }
    // EL2 does not use a failed SMMU any more.
    rig.board.0.model.borrow_mut().fail();
    rig.smmu.poll_events(&mut rig.host);
    rig.write(r::IRQ_CTRL, 0);
    rig.write(r::IRQ_CTRL, 4);
    assert_eq!(hardware(&rig), 0);
}

#[test]
fn the_size_of_an_access_is_a_power_of_two_up_to_eight_bytes() {
    let sizes = (0..20).filter_map(|bytes| AccessSize::from_bytes(bytes).map(|size| (bytes, size)));
    assert_eq!(sizes.collect::<Vec<_>>(), [1, 2, 4, 8].into_iter().zip(SIZES).collect::<Vec<_>>());
    assert_eq!(SIZES.map(AccessSize::bytes), [1, 2, 4, 8]);
}

/// A 64-bit access to two 32-bit registers behaves as two accesses, the lower register first: one of the behaviours
/// that the architecture allows [IHI 0070G 6.2], and FreeBSD's driver relies on this one for the indices of its queues.
#[test]
fn a_64_bit_access_covers_two_adjacent_registers() {
    let mut rig = Rig::new(Config::full());
    rig.enable_linear(4);
    rig.write(r::IRQ_CTRL, 5);
    rig.dma_write(9, BUF, 1);
    let prod = rig.read64(r::EVENTQ_PROD);
    assert_eq!(prod, 1, "the load itself fetches the record; CONS is 0");
    for offset in PAIRS {
        let halves = rig.read(offset) | rig.read(offset + 4) << 32;
        assert_eq!(rig.read64(offset), halves, "{offset:#x}");
    }
    assert_ne!(rig.read64(r::IDR0) >> 32, 0);
    // Stores: the record is consumed, commands are consumed.
    rig.write64(r::EVENTQ_PROD, 1 << 32 | 0x55);
    assert_eq!(rig.read64(r::EVENTQ_PROD), 1 << 32 | 1, "PROD is guarded, CONS is not");
    rig.queue(common::SYNC);
    let prod = u64::from(rig.prod);
    rig.write64(r::CMDQ_PROD, prod);
    assert_eq!(rig.read64(r::CMDQ_PROD), prod << 32 | prod);
    rig.write64(r::CR0, 0);
    assert_eq!(rig.read64(r::CR0), 0);
    rig.write64(r::CMDQ_PROD, 3 << 32 | 5);
    assert_eq!((rig.read(r::CMDQ_PROD), rig.read(r::CMDQ_CONS)), (5, 3));
    // If the budget is used up between the two, the other one still takes effect later.
    let mut rig = smaller();
    rig.enable_linear(4);
    while rig.smmu.mmio_write(&mut rig.host, r::CR0, AccessSize::Double, 0) == WriteOutcome::Again {
        rig.again += 1;
    }
    assert!(rig.again > 1);
    assert_eq!(rig.read64(r::CR0), 0);
    // Each is one exit, and none is denied.
    let before = rig.smmu.stats();
    rig.read64(r::EVENTQ_PROD);
    rig.read64(r::IDR0);
    rig.write64(r::GERROR, 0);
    let after = rig.smmu.stats();
    assert_eq!((after.exits - before.exits, after.denied_accesses), (3, before.denied_accesses));
}

/// Fields of features that are not shown are RES0, and read as zero [IHI 0070G 6.2, 6.3.25].
#[test]
fn a_linear_smmu_has_no_format_and_no_split() {
    let mut rig = smaller();
    rig.write(r::STRTAB_BASE_CFG, 0xffff_ffff);
    assert_eq!(rig.read(r::STRTAB_BASE_CFG), 0x3f);
}
