//! The driver's layouts against the model's, which were written from the architecture independently: a wrong bit position
//! in one of them is found here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use smmu_drv::command::{Command, Depth, Extent, Granule};
use smmu_drv::spec::commands::Opcode;
use smmu_drv::spec::events::EventType;
use smmu_drv::spec::registers::{self as ours, Cerror, cr0::Cr0, cr2::Cr2, gerror::Gerror, irq_ctrl::IrqCtrl};
use smmu_drv::spec::ste::{dw0, dw1, dw2, dw3, l1std};
use smmu_drv::spec::{get32, mask32, mask64, put64};
use smmu_model::Config;
use smmu_model::arch::{cmd, event, regs as theirs, ste};

#[test]
fn register_offsets_agree() {
    macro_rules! same {
        ($($name:ident)*) => { $(assert_eq!(ours::$name, theirs::$name, stringify!($name));)* };
    }
    same!(PAGE1 IDR0 IDR1 IDR2 IDR3 IDR4 IDR5 IDR6 IIDR AIDR CR0 CR0ACK CR1 CR2 STATUSR GBPA AGBPA IRQ_CTRL
        IRQ_CTRLACK GERROR GERRORN GERROR_IRQ_CFG0 GERROR_IRQ_CFG1 GERROR_IRQ_CFG2 STRTAB_BASE STRTAB_BASE_CFG
        CMDQ_BASE CMDQ_PROD CMDQ_CONS EVENTQ_BASE EVENTQ_PROD EVENTQ_CONS EVENTQ_IRQ_CFG0 EVENTQ_IRQ_CFG1
        EVENTQ_IRQ_CFG2 PRIQ_BASE PRIQ_PROD PRIQ_CONS PRIQ_IRQ_CFG0 PRIQ_IRQ_CFG1 PRIQ_IRQ_CFG2);
}

#[test]
fn register_bits_agree() {
    let pairs = [
        (Cr0::SMMUEN.bits(), theirs::CR0_SMMUEN),
        (Cr0::PRIQEN.bits(), theirs::CR0_PRIQEN),
        (Cr0::EVENTQEN.bits(), theirs::CR0_EVENTQEN),
        (Cr0::CMDQEN.bits(), theirs::CR0_CMDQEN),
        (Cr0::ATSCHK.bits(), theirs::CR0_ATSCHK),
        (Cr2::E2H.bits(), theirs::CR2_E2H),
        (Cr2::RECINVSID.bits(), theirs::CR2_RECINVSID),
        (Cr2::PTM.bits(), theirs::CR2_PTM),
        (mask32(ours::gbpa::ABORT), theirs::GBPA_ABORT),
        (mask32(ours::gbpa::UPDATE), theirs::GBPA_UPDATE),
        (IrqCtrl::GERROR_IRQEN.bits(), theirs::IRQ_GERROR),
        (IrqCtrl::PRIQ_IRQEN.bits(), theirs::IRQ_PRIQ),
        (IrqCtrl::EVENTQ_IRQEN.bits(), theirs::IRQ_EVENTQ),
        (Gerror::CMDQ_ERR.bits(), theirs::GERROR_CMDQ),
        (Gerror::EVENTQ_ABT_ERR.bits(), theirs::GERROR_EVENTQ_ABT),
        (Gerror::PRIQ_ABT_ERR.bits(), theirs::GERROR_PRIQ_ABT),
        (Gerror::MSI_CMDQ_ABT_ERR.bits(), theirs::GERROR_MSI_CMDQ),
        (Gerror::MSI_EVENTQ_ABT_ERR.bits(), theirs::GERROR_MSI_EVENTQ),
        (Gerror::MSI_PRIQ_ABT_ERR.bits(), theirs::GERROR_MSI_PRIQ),
        (Gerror::MSI_GERROR_ABT_ERR.bits(), theirs::GERROR_MSI_GERROR),
        (Gerror::SFM_ERR.bits(), theirs::GERROR_SFM),
        (Gerror::all().bits(), theirs::GERROR_ALL),
        (u32::from(Cerror::Ill as u8), theirs::CERROR_ILL),
        (u32::from(Cerror::Abt as u8), theirs::CERROR_ABT),
        (mask32(ours::queue_index::ERR), 0x7f << theirs::CONS_ERR_SHIFT),
        (mask32(ours::queue_index::INDEX), theirs::QUEUE_INDEX),
    ];
    for (n, (ours, theirs)) in pairs.into_iter().enumerate() {
        assert_eq!(ours, theirs, "pair {n}");
    }
}

#[test]
fn id_fields_agree() {
    use ours::{idr0, idr1, idr3, idr5};
    let config = Config::full();
    let (r0, r1, r3, r5) = (config.idr0(), config.idr1(), config.idr3(), config.idr5());
    let none = Config {
        btm: false,
        hyp: false,
        ats: false,
        pri: false,
        sev: false,
        vmw: false,
        atos: false,
        ..config.clone()
    };
    for field in [idr0::S2P, idr0::S1P, idr0::COHACC, idr0::ASID16, idr0::MSI, idr0::VMID16, idr0::CD2L] {
        assert_eq!(get32(field, r0), 1);
    }
    for field in [idr0::BTM, idr0::HYP, idr0::ATS, idr0::PRI, idr0::SEV, idr0::VMW, idr0::ATOS] {
        assert_eq!((get32(field, r0), get32(field, none.idr0())), (1, 0));
    }
    assert_eq!(get32(idr0::HTTU, r0), 2);
    assert_eq!(get32(idr0::STALL_MODEL, r0), idr0::STALL_BOTH);
    assert_eq!(get32(idr0::STALL_MODEL, Config::qemu().idr0()), idr0::STALL_NONE);
    assert_eq!(get32(idr0::TERM_MODEL, Config::qemu().idr0()), 1);
    assert_eq!(get32(idr0::ST_LEVEL, r0), idr0::ST_TWO_LEVEL);
    assert_eq!(get32(idr0::TTF, r0), idr0::TTF_AARCH64);
    assert_eq!(get32(idr0::TTENDIAN, r0), 0b10);
    assert_eq!(get32(idr1::SIDSIZE, r1), config.sid_bits);
    assert_eq!(get32(idr1::SSIDSIZE, r1), config.ssid_bits);
    assert_eq!(get32(idr1::PRIQS, r1), config.priq_bits);
    assert_eq!(get32(idr1::EVENTQS, r1), config.eventq_bits);
    assert_eq!(get32(idr1::CMDQS, r1), config.cmdq_bits);
    assert_eq!(get32(idr1::ATTR_TYPES_OVR, r1), 1);
    for field in [idr3::HAD, idr3::XNX, idr3::FWB, idr3::STT, idr3::RIL] {
        assert_eq!(get32(field, r3), 1);
    }
    assert_eq!(get32(idr3::BBML, r3), 2);
    assert_eq!(get32(idr5::OAS, r5), 5);
    for field in [idr5::GRAN4K, idr5::GRAN16K, idr5::GRAN64K] {
        assert_eq!(get32(field, r5), 1);
    }
}

#[test]
fn stream_table_fields_agree() {
    let all = |word: usize, mask: u64| {
        let mut entry = [0; 8];
        entry[word] = mask;
        entry
    };
    assert!(ste::valid(&all(0, mask64(dw0::V))));
    assert_eq!(ste::config(&all(0, put64(dw0::CONFIG, 5))), 5);
    assert_eq!(ste::s1fmt(&all(0, put64(dw0::S1FMT, 2))), 2);
    assert_eq!(ste::s1_context_ptr(&all(0, u64::MAX)), mask64(dw0::S1CONTEXTPTR));
    assert_eq!(ste::s1cdmax(&all(0, put64(dw0::S1CDMAX, 19))), 19);
    assert_eq!(ste::s1dss(&all(1, put64(dw1::S1DSS, 2))), 2);
    assert!(ste::s2fwb(&all(1, mask64(dw1::S2FWB))));
    assert!(ste::s1stalld(&all(1, mask64(dw1::S1STALLD))));
    assert_eq!(ste::eats(&all(1, put64(dw1::EATS, 2))), 2);
    assert_eq!(ste::strw(&all(1, put64(dw1::STRW, 2))), 2);
    assert_eq!(ste::s2vmid(&all(2, put64(dw2::S2VMID, 0xabcd))), 0xabcd);
    assert_eq!(ste::s2t0sz(&all(2, put64(dw2::S2T0SZ, 24))), 24);
    assert_eq!(ste::s2sl0(&all(2, put64(dw2::S2SL0, 2))), 2);
    assert_eq!(ste::s2tg(&all(2, put64(dw2::S2TG, 2))), 2);
    assert_eq!(ste::s2ps(&all(2, put64(dw2::S2PS, 5))), 5);
    assert!(ste::s2aa64(&all(2, mask64(dw2::S2AA64))));
    assert!(ste::s2endi(&all(2, mask64(dw2::S2ENDI))));
    assert!(ste::s2affd(&all(2, mask64(dw2::S2AFFD))));
    assert!(ste::s2ptw(&all(2, mask64(dw2::S2PTW))));
    assert!(ste::s2hd(&all(2, mask64(dw2::S2HD))));
    assert!(ste::s2ha(&all(2, mask64(dw2::S2HA))));
    assert!(ste::s2s(&all(2, mask64(dw2::S2S))));
    assert!(ste::s2r(&all(2, mask64(dw2::S2R))));
    assert_eq!(ste::s2ttb(&all(3, u64::MAX)), mask64(dw3::S2TTB));
    assert_eq!(ste::l1_span(put64(l1std::SPAN, 11)), 11);
    assert_eq!(ste::l1_l2ptr(mask64(l1std::L2PTR) | 0x1f), mask64(l1std::L2PTR));
}

#[test]
fn opcodes_agree() {
    let pairs = [
        (Opcode::PrefetchConfig, cmd::PREFETCH_CONFIG),
        (Opcode::PrefetchAddr, cmd::PREFETCH_ADDR),
        (Opcode::CfgiSte, cmd::CFGI_STE),
        (Opcode::CfgiSteRange, cmd::CFGI_STE_RANGE),
        (Opcode::CfgiCd, cmd::CFGI_CD),
        (Opcode::CfgiCdAll, cmd::CFGI_CD_ALL),
        (Opcode::TlbiNhAll, cmd::TLBI_NH_ALL),
        (Opcode::TlbiNhAsid, cmd::TLBI_NH_ASID),
        (Opcode::TlbiNhVa, cmd::TLBI_NH_VA),
        (Opcode::TlbiNhVaa, cmd::TLBI_NH_VAA),
        (Opcode::TlbiEl2All, cmd::TLBI_EL2_ALL),
        (Opcode::TlbiEl2Asid, cmd::TLBI_EL2_ASID),
        (Opcode::TlbiEl2Va, cmd::TLBI_EL2_VA),
        (Opcode::TlbiEl2Vaa, cmd::TLBI_EL2_VAA),
        (Opcode::TlbiS12Vmall, cmd::TLBI_S12_VMALL),
        (Opcode::TlbiS2Ipa, cmd::TLBI_S2_IPA),
        (Opcode::TlbiNsnhAll, cmd::TLBI_NSNH_ALL),
        (Opcode::AtcInv, cmd::ATC_INV),
        (Opcode::PriResp, cmd::PRI_RESP),
        (Opcode::Resume, cmd::RESUME),
        (Opcode::StallTerm, cmd::STALL_TERM),
        (Opcode::Sync, cmd::SYNC),
    ];
    for (ours, theirs) in pairs {
        assert_eq!(ours.bits(), theirs, "{ours:?}");
        assert_eq!(Opcode::from_bits(theirs), Some(ours));
    }
}

#[test]
fn el2s_commands_decode_correctly_and_set_no_reserved_bit() {
    let extents = [
        Extent::Single,
        Extent::Range { granule: Granule::K4, num: 31, scale: 31, ttl: 3 },
        Extent::Range { granule: Granule::K16, num: 1, scale: 0, ttl: 0 },
        Extent::Range { granule: Granule::K64, num: 0, scale: 1, ttl: 2 },
    ];
    let mut all = vec![
        Command::CfgiSte { sid: u32::MAX, depth: Depth::Leaf },
        Command::CfgiSteRange { sid: u32::MAX, range: 30 },
        Command::CfgiAll,
        Command::CfgiCd { sid: u32::MAX, ssid: 0xf_ffff, depth: Depth::Leaf },
        Command::CfgiCdAll { sid: u32::MAX },
        Command::TlbiNhAll { vmid: u16::MAX },
        Command::TlbiNhAsid { vmid: u16::MAX, asid: u16::MAX },
        Command::TlbiS12Vmall { vmid: u16::MAX },
        Command::TlbiNsnhAll,
        Command::TlbiEl2All,
        Command::Sync,
    ];
    for extent in extents {
        for depth in [Depth::Walk, Depth::Leaf] {
            let (vmid, va) = (0xabcd, u64::MAX);
            all.push(Command::TlbiNhVa { vmid, asid: 0x1234, va, extent, depth });
            all.push(Command::TlbiNhVaa { vmid, va, extent, depth });
            all.push(Command::TlbiS2Ipa { vmid, ipa: io_pgtable::Ipa(u64::MAX), extent, depth });
        }
    }
    for command in all {
        let words = command.encode().0;
        let defined = cmd::defined(cmd::opcode(words), true).unwrap_or_else(|| panic!("{command:?}"));
        assert_eq!([words[0] & !defined[0], words[1] & !defined[1]], [0, 0], "{command:?}");
        let leaf = |depth| depth == Depth::Leaf;
        let range = |extent| match extent {
            Extent::Single => (0, 0, 0, 0),
            Extent::Range { granule, num, scale, ttl } => (
                num,
                scale,
                ttl,
                match granule {
                    Granule::K4 => 1,
                    Granule::K16 => 2,
                    Granule::K64 => 3,
                },
            ),
        };
        let seen = (cmd::num(words), cmd::scale(words), cmd::ttl(words), cmd::tg(words));
        match command {
            Command::CfgiSte { sid, depth } => assert_eq!((cmd::sid(words), cmd::leaf(words)), (sid, leaf(depth))),
            Command::CfgiSteRange { sid, range } => assert_eq!((cmd::sid(words), cmd::range(words)), (sid, range)),
            Command::CfgiAll => assert_eq!(cmd::range(words), 31),
            Command::CfgiCd { sid, ssid, depth } => {
                assert_eq!((cmd::sid(words), cmd::ssid(words), cmd::leaf(words)), (sid, ssid, leaf(depth)));
            }
            Command::CfgiCdAll { sid } => assert_eq!(cmd::sid(words), sid),
            Command::TlbiNhAll { vmid } | Command::TlbiS12Vmall { vmid } => {
                assert_eq!(cmd::vmid(words), u32::from(vmid));
            }
            Command::TlbiNhAsid { vmid, asid } => {
                assert_eq!((cmd::vmid(words), cmd::asid(words)), (u32::from(vmid), u32::from(asid)));
            }
            Command::TlbiNhVa { vmid, asid, va, extent, depth } => {
                assert_eq!((cmd::vmid(words), cmd::asid(words)), (u32::from(vmid), u32::from(asid)));
                assert_eq!((cmd::va(words), cmd::leaf(words), seen), (va & !0xfff, leaf(depth), range(extent)));
            }
            Command::TlbiNhVaa { vmid, va, extent, depth } => {
                assert_eq!(cmd::vmid(words), u32::from(vmid));
                assert_eq!((cmd::va(words), cmd::leaf(words), seen), (va & !0xfff, leaf(depth), range(extent)));
            }
            Command::TlbiS2Ipa { vmid, ipa, extent, depth } => {
                assert_eq!(cmd::vmid(words), u32::from(vmid));
                let ipa = ipa.0 & 0x00ff_ffff_ffff_f000;
                assert_eq!((cmd::ipa(words), cmd::leaf(words), seen), (ipa, leaf(depth), range(extent)));
            }
            Command::TlbiNsnhAll | Command::TlbiEl2All => assert_eq!(words[1], 0),
            Command::Sync => assert_eq!(cmd::sync_cs(words), 0),
        }
    }
}

#[test]
fn events_agree() {
    let pairs = [
        (EventType::Uut, event::F_UUT),
        (EventType::BadStreamId, event::C_BAD_STREAMID),
        (EventType::SteFetch, event::F_STE_FETCH),
        (EventType::BadSte, event::C_BAD_STE),
        (EventType::BadAtsTreq, event::F_BAD_ATS_TREQ),
        (EventType::StreamDisabled, event::F_STREAM_DISABLED),
        (EventType::TranslForbidden, event::F_TRANSL_FORBIDDEN),
        (EventType::BadSubstreamId, event::C_BAD_SUBSTREAMID),
        (EventType::CdFetch, event::F_CD_FETCH),
        (EventType::BadCd, event::C_BAD_CD),
        (EventType::WalkEabt, event::F_WALK_EABT),
        (EventType::Translation, event::F_TRANSLATION),
        (EventType::AddrSize, event::F_ADDR_SIZE),
        (EventType::Access, event::F_ACCESS),
        (EventType::Permission, event::F_PERMISSION),
    ];
    for (ours, theirs) in pairs {
        assert_eq!(ours.bits(), u64::from(theirs), "{ours:?}");
    }
    // A record that the model encoded, decoded by the driver.
    use smmu_drv::fault::{Class, Direction, Stage};
    let record = event::Event {
        kind: event::F_PERMISSION,
        sid: 0x12_3456,
        ssid: Some(0x777),
        read: true,
        stage2: true,
        class: event::Class::Tt,
        input: 0xffff_8000_1234_5678,
        ipa: 0x4_5678_9000,
        stag: None,
    };
    let seen = smmu_drv::FaultRecord::decode(smmu_drv::spec::events::RawEvent(record.words()));
    let detail = seen.detail.unwrap();
    assert_eq!((seen.kind, seen.sid, seen.ssid), (Some(EventType::Permission), 0x12_3456, Some(0x777)));
    assert_eq!((detail.stage, detail.class, detail.direction), (Stage::Two, Class::Tt, Direction::Read));
    assert_eq!((detail.iova.0, detail.ipa.unwrap().0), (record.input, record.ipa));
    assert_eq!(
        seen.to_string(),
        "F_PERMISSION sid=0x123456 ssid=0x777 stage=2 class=TT ipa=0x456789000 iova=0xffff800012345678 read"
    );
}
