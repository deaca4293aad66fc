//! Every register, every size, every offset: the allow-list and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BUF, POOL, Rig, r};
use smmu_drv::AccessSize;
use smmu_drv::emul::table::{Register, Width};
use smmu_model::{Config, Snoop};

const SIZES: [AccessSize; 4] = [AccessSize::Byte, AccessSize::Half, AccessSize::Word, AccessSize::Double];

/// Offsets and widths that exist, written down a second time [IHI 0070G 6.2].
fn exists(offset: u32, size: AccessSize) -> bool {
    const WIDE: [u32; 7] = [0x68, 0x80, 0x90, 0xa0, 0xb0, 0xc0, 0xd0];
    const NARROW: [u32; 33] = [
        0x0, 0x4, 0x8, 0xc, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x40, 0x44, 0x48, 0x50, 0x54, 0x60, 0x64,
        0x70, 0x74, 0x88, 0x98, 0x9c, 0x100a8, 0x100ac, 0xb8, 0xbc, 0x100c8, 0x100cc, 0xd8, 0xdc, 0x190,
    ];
    match size {
        AccessSize::Word => NARROW.contains(&offset) || WIDE.iter().any(|w| offset == *w || offset == *w + 4),
        AccessSize::Double => WIDE.contains(&offset),
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
fn t28_t29_ones_everywhere_reach_no_hardware_control() {
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
        assert!(!rig.can_reach(8, BUF), "the host's table lies nowhere");
        assert_eq!(rig.hazards(), [], "{config:?}");
    }
}

#[test]
fn wide_registers_take_halves_and_wholes_in_both_directions() {
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
    assert_eq!(rig.read(r::IDR1), 20 | 16 << 6 | 7 << 16 | 8 << 21);
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
    // Guarded by the enables.
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
    rig.store(common::CMDQ + u64::from(rig.prod - 1) * 16, 0x46);
    rig.write(r::GERRORN, 0x1fd);
    assert_eq!(rig.read(r::GERRORN), 1);
    assert_eq!(rig.read(r::CMDQ_CONS) & 0xff, u64::from(rig.prod));
}
