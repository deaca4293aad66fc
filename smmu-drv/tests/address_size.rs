//! Addresses above the output size that the host sees: each structure behaves as in IHI 0070G 3.4, and no other
//! address is used.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{BUF, CDTAB, CMDQ, CONFIG_BYPASS, CONFIG_S1, EVTQ, L2TAB, Rig, STRTAB, dw0, r, two_level_cfg};
use io_pgtable::Pa;
use smmu_drv::{Probed, Stage2Cfg};
use smmu_model::{Config, Transfer};

/// An SMMU with `oas` (the encoding of IDR5) whose stage 2 covers `bits` bits, translating with a linear table of 16.
fn rig(config: Config, bits: u8) -> Rig {
    let board = common::Board::new(config.clone());
    let mut rig = Rig::on_stage2(board, common::firmware(&config), bits);
    rig.enable_linear(4);
    rig
}

fn shown_bits(rig: &mut Rig) -> u32 {
    [32, 36, 40, 42, 44, 48, 52][rig.read(r::IDR5) as usize & 7]
}

/// The words of the only event, whose type is `kind`.
fn event(rig: &mut Rig, kind: u64) -> [u64; 4] {
    let events = rig.events();
    assert_eq!(events.len(), 1, "{events:x?}");
    assert_eq!(events[0][0] & 0xff, kind, "{events:x?}");
    events[0]
}

const C_BAD_STE: u64 = 0x04;
const F_STE_FETCH: u64 = 0x03;
const C_BAD_SUBSTREAMID: u64 = 0x08;
const F_CD_FETCH: u64 = 0x09;
const F_ADDR_SIZE: u64 = 0x11;

#[test]
fn t16_a_context_pointer_above_the_output_size_is_an_illegal_entry() {
    for aidr in [0, 1, 2] {
        let mut rig = rig(Config { aidr, ..Config::qemu() }, 40);
        assert_eq!(shown_bits(&mut rig), 40);
        for bit in [40, 44, 47, 50, 51, 55] {
            let mut ste = rig.context(1);
            ste[0] |= 1 << bit;
            rig.set_ste(9, ste);
            assert!(matches!(rig.dma_write(9, 0, 1), Transfer::Aborted(_)), "bit {bit}");
            event(&mut rig, C_BAD_STE);
        }
        // The address below the output size has no memory: the interconnect returns an abort.
        let mut ste = rig.context(1);
        ste[0] |= 1 << 39;
        rig.set_ste(9, ste);
        assert!(matches!(rig.dma_write(9, 0, 1), Transfer::Aborted(_)));
        assert_eq!(event(&mut rig, F_CD_FETCH)[3], 1 << 39 | (CDTAB + 64) & !0xfff);
        // Where stage 1 is off the pointer is IGNORED [5.2].
        rig.set_ste(9, [dw0(CONFIG_BYPASS, 1 << 50), 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(rig.dma_write(9, BUF, 1), Transfer::Done);
        let ste = rig.context(1);
        rig.set_ste(9, ste);
        assert_eq!(rig.dma_write(9, 0, 1), Transfer::Done);
    }
}

#[test]
fn a_level_2_pointer_above_the_output_size_is_a_bad_substream() {
    let mut rig = rig(Config { ssid_bits: 16, cd2l: true, ..Config::qemu() }, 40);
    let mut ste = rig.context(1);
    // 4K leaves, 2^7 descriptors.
    ste[0] = dw0(CONFIG_S1, CDTAB) | 1 << 4 | 7 << 59;
    // An address within the output size without memory, and an address above the output size.
    rig.store(CDTAB, 1 << 39 | (CDTAB + 0x1000) | 1);
    rig.store(CDTAB + 8, 1 << 42 | (CDTAB + 0x1000) | 1);
    rig.set_ste(9, ste);
    let transfer = rig.board.0.model.borrow_mut().dma_write(9, Some(0x41), 0, &[1]);
    assert!(matches!(transfer, Transfer::Aborted(_)));
    assert_eq!(event(&mut rig, C_BAD_SUBSTREAMID), [C_BAD_SUBSTREAMID | 0x41 << 12 | 9 << 32, 0, 0, 0]);
    let transfer = rig.board.0.model.borrow_mut().dma_write(9, Some(1), 0, &[1]);
    assert!(matches!(transfer, Transfer::Aborted(_)));
    event(&mut rig, F_CD_FETCH);
}

#[test]
fn a_stage_1_output_above_the_output_size_is_an_address_size_fault() {
    // Hardware has 44 bits, the host's SMMU has 40.
    let mut rig = rig(Config::qemu(), 40);
    let ste = rig.context(1);
    let (cd, leaf) = (CDTAB + 64, common::S1TAB + 0x4000 + 0x2000);
    let word0 = rig.mem().cpu_read64(cd);
    // CD.IPS says 44 bits; the architecture limits it to the output size.
    rig.store(cd, word0 & !(7 << 32) | 4 << 32);
    let page = rig.mem().cpu_read64(leaf);
    rig.store(leaf, page | 1 << 41);
    rig.set_ste(9, ste);
    assert!(matches!(rig.dma_write(9, 8, 1), Transfer::Aborted(_)));
    // S2 = 0, CLASS = IN, a write, the input address.
    let words = event(&mut rig, F_ADDR_SIZE);
    assert_eq!((words[1] >> 39 & 1, words[1] >> 40 & 3, words[1] >> 35 & 1, words[2]), (0, 2, 0, 8));
    // A table above the output size.
    rig.store(leaf, page);
    let l1 = common::S1TAB + 0x4000;
    let table = rig.mem().cpu_read64(l1);
    rig.store(l1, table | 1 << 42);
    rig.issue(&[[0x30, 0]]);
    assert!(matches!(rig.dma_write(9, 8, 1), Transfer::Aborted(_)));
    let words = event(&mut rig, F_ADDR_SIZE);
    assert_eq!((words[1] >> 39 & 1, words[1] >> 40 & 3, words[3]), (0, 1, 0));
    rig.store(l1, table);
    rig.issue(&[[0x30, 0]]);
    assert_eq!(rig.dma_write(9, 8, 1), Transfer::Done);
}

#[test]
fn bypass_above_the_output_size_aborts_and_never_reaches_the_address_below() {
    // Bits of stage 2, the encoding of hardware's output size, the first bit above the output size.
    for (bits, oas, first) in [(40, 4, 40), (40, 2, 40), (36, 1, 36), (32, 0, 32), (36, 4, 36), (32, 4, 32)] {
        let mut rig = rig(Config { oas, ..Config::qemu() }, bits);
        assert_eq!(shown_bits(&mut rig), first, "stage 2 of {bits} bits, OAS {oas}");
        rig.set_ste(9, common::BYPASS);
        for bit in first..56 {
            assert!(matches!(rig.dma_write(9, 1 << bit | BUF, 1), Transfer::Aborted(_)), "bit {bit}, OAS {oas}");
            // "Terminated with an abort and a stage 1 Address Size fault (F_ADDR_SIZE) is recorded" [3.4].
            let words = event(&mut rig, F_ADDR_SIZE);
            assert_eq!((words[1] >> 39 & 1, words[2]), (0, 1 << bit | BUF), "bit {bit}, OAS {oas}");
        }
        assert_eq!(rig.dma_write(9, BUF, 1), Transfer::Done);
        rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
        assert_eq!(rig.dma_write(9, BUF, 1), Transfer::Done);
        for bit in first..56 {
            assert!(matches!(rig.dma_write(9, 1 << bit | BUF, 1), Transfer::Aborted(_)), "bit {bit}, OAS {oas}");
        }
        // "... and no event is recorded" [3.4].
        assert_eq!(rig.events(), [] as [[u64; 4]; 0]);
        assert_eq!(rig.hazards(), []);
    }
}

#[test]
fn table_addresses_above_the_output_size_are_not_truncated() {
    // Bit 40 of 40, and the highest bit of the field.
    for bit in [40, 50, 51] {
        let mut rig = rig(Config::qemu(), 40);
        rig.set_ste(9, common::BYPASS);
        assert_eq!(rig.dma_write(9, BUF, 1), Transfer::Done);
        rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
        rig.write64(r::STRTAB_BASE, STRTAB | 1 << bit);
        rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
        assert!(matches!(rig.dma_write(9, BUF, 1), Transfer::Aborted(_)), "bit {bit}");
        assert_eq!(event(&mut rig, F_STE_FETCH)[3], (STRTAB | 1 << bit) + 9 * 64);
        // The level-2 table: the level-1 descriptor has a valid address.
        rig.write(r::CR0, r::CMDQEN | r::EVENTQEN);
        rig.mem().cpu_write(L2TAB, &[0; 64 << 8]);
        rig.store(L2TAB + 9 * 64, common::BYPASS[0]);
        rig.store(STRTAB, L2TAB | 1 << bit | 9);
        rig.write64(r::STRTAB_BASE, STRTAB);
        rig.write(r::STRTAB_BASE_CFG, two_level_cfg(10, 8));
        rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
        assert!(matches!(rig.dma_write(9, BUF, 1), Transfer::Aborted(_)), "bit {bit}");
        assert_eq!(event(&mut rig, F_STE_FETCH)[3], (L2TAB | 1 << bit) + 9 * 64);
        rig.store(STRTAB, L2TAB | 9);
        rig.issue(&[common::CFGI_ALL]);
        assert_eq!(rig.dma_write(9, BUF, 1), Transfer::Done);
    }
}

/// "Queue access: truncate to OAS", "MSI write: truncate to OAS" [3.4.3]: the only permitted behaviour.
#[test]
fn queues_above_the_output_size_are_truncated_to_it() {
    let mut rig = rig(Config::qemu(), 40);
    rig.write(r::CR0, 0);
    rig.write64(r::CMDQ_BASE, CMDQ | 1 << 50 | 8);
    rig.write64(r::EVENTQ_BASE, EVTQ | 1 << 45 | 7);
    rig.write(r::CMDQ_PROD, 0);
    rig.write(r::CMDQ_CONS, 0);
    rig.prod = 0;
    rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
    assert_eq!(rig.read64(r::CMDQ_BASE), CMDQ | 1 << 50 | 8, "read back as written");
    rig.issue(&[common::CFGI_ALL]);
    rig.dma_write(9, BUF, 1);
    event(&mut rig, C_BAD_STE);
}

#[test]
fn the_shown_output_size_covers_stage_2_if_hardware_can() {
    // Bits of stage 2, hardware's encoding, bits shown.
    for (bits, oas, shown) in
        [(40, 4, 40), (41, 4, 42), (41, 3, 42), (39, 4, 40), (33, 1, 36), (32, 2, 32), (36, 1, 36)]
    {
        let mut rig = rig(Config { oas, ..Config::qemu() }, bits);
        assert_eq!(shown_bits(&mut rig), shown, "stage 2 of {bits} bits, OAS {oas}");
    }
}

#[test]
fn a_stage_2_wider_than_an_smmu_is_refused_by_that_smmu() {
    let config = Config { oas: 1, ..Config::qemu() };
    let board = common::Board::new(config.clone());
    let stage2 = common::Stage2::new(&board.0.mem);
    let wide = Stage2Cfg { ttb: Pa(common::POOL), ..stage2.cfg() };
    let probed = Probed::probe(board.clone(), common::firmware(&config)).unwrap();
    assert!(probed.take_over_with_host::<common::Host>(wide, Default::default()).is_err());
    assert_eq!(board.0.model.borrow_mut().read32(r::CR0), 0, "not touched");
}
