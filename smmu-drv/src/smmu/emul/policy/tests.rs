//! The check of a host's entry, over every Config and every view.

use super::*;
use crate::features::{Coherency, IdRegisters};
use crate::smmu::emul::ids::MsiAdvert;

/// 2-level CD tables, `ssid_bits`, stall, attribute overrides: bits as in IDR0 and IDR1.
fn rules(idr0_extra: u32, ssid_bits: u32, types_ovr: u32) -> SteRules {
    let ids = IdRegisters {
        idr0: 0x0d44_101b & !(1 << 19) & !(3 << 24) | idr0_extra,
        idr1: 16 | ssid_bits << 6 | 8 << 16 | 8 << 21 | types_ovr << 27,
        idr3: 1 << 10,
        idr5: 0x74,
        iidr: 0,
        aidr: 0,
    };
    let features = Features::decode(ids, Coherency::Coherent);
    SteRules::new(&features, &HostIds::new(&features, MsiAdvert::WhenCoherent, 40))
}

const CD2L: u32 = 1 << 19;
const NO_STALL: u32 = 1 << 24;
/// S1ContextPtr beyond 40 bits.
const BEYOND: u64 = 0xff_ff00_0000_0000;

fn legal(rules: &SteRules, word0: u64, word1: u64) -> Option<Ste> {
    match rules.check(word0, word1) {
        SteCheck::Legal(ste) => Some(ste),
        SteCheck::Invalid | SteCheck::Illegal => None,
    }
}

#[test]
fn t16_t17_every_config_behaves_as_on_a_stage_1_only_smmu_with_stage_2_added() {
    let rules = rules(NO_STALL, 0, 0);
    for host1 in [0, !mask64(dw1::S1STALLD)] {
        for config in 0..8 {
            let host0 = !(mask64(dw0::CONFIG) | BEYOND) | put64(dw0::CONFIG, config);
            let seen = legal(&rules, host0, host1).map(|ste| (get64(dw0::V, ste.dw0), get64(dw0::CONFIG, ste.dw0)));
            let expected = match config {
                0..=3 => Some((1, 0)),
                4 => Some((1, 6)),
                5 => Some((1, 7)),
                _ => None,
            };
            assert_eq!(seen, expected, "config {config}");
            assert_eq!(rules.check(host0 & !1, host1), SteCheck::Invalid);
            // A pointer beyond OAS is an error only with stage 1.
            let beyond = legal(&rules, host0 | BEYOND, host1).is_some();
            assert_eq!(beyond, config < 5, "config {config}");
        }
    }
}

#[test]
fn t16_fields_of_stage_2_ats_el2_and_attributes_are_not_copied() {
    for (idr0, ssid, ovr) in [(NO_STALL, 0, 0), (CD2L, 8, 1), (CD2L | NO_STALL, 20, 0)] {
        let rules = rules(idr0, ssid, ovr);
        for config in [0, 4, 5] {
            let host0 = put64(dw0::V, 1) | put64(dw0::CONFIG, config) | mask64(dw0::S1CONTEXTPTR) & !BEYOND;
            let host1 = !mask64(dw1::S1STALLD);
            let ste = legal(&rules, host0, host1).unwrap();
            for field in [dw1::EATS, dw1::STRW, dw1::S2FWB, dw1::MTCFG, dw1::DRE, dw1::DCP, dw1::CONT, dw1::PPAR] {
                assert_eq!(get64(field, ste.dw1), 0);
            }
            assert_eq!(get64(dw1::SHCFG, ste.dw1), u64::from(ovr), "use incoming if configurable");
            let stall_off = u64::from(config == 5 && idr0 & NO_STALL == 0);
            assert_eq!(get64(dw1::S1STALLD, ste.dw1), stall_off);
            assert_eq!(ste.dw0 & !(mask64(dw0::V) | mask64(dw0::CONFIG) | 0xff_ffff_ffc0), 0, "OAS is 40 bits");
        }
    }
}

#[test]
fn substream_fields_follow_the_view() {
    let nested = |fmt: u64, cdmax: u64| {
        put64(dw0::V, 1) | put64(dw0::CONFIG, 5) | put64(dw0::S1FMT, fmt) | put64(dw0::S1CDMAX, cdmax) | 0xff_ffff_ffc0
    };
    // No substreams: S1CDMax, S1Fmt and S1DSS are ignored (and QEMU rejects them).
    let none = rules(NO_STALL, 0, 0);
    let ste = legal(&none, nested(2, 31), 3).unwrap();
    assert_eq!((get64(dw0::S1CDMAX, ste.dw0), get64(dw0::S1FMT, ste.dw0), get64(dw1::S1DSS, ste.dw1)), (0, 0, 0));
    assert_eq!(ste.dw0 & mask64(dw0::S1CONTEXTPTR), 0xff_ffff_ffc0);
    // Linear only.
    let linear = rules(NO_STALL, 8, 0);
    assert!(legal(&linear, nested(1, 4), 0).is_none());
    assert!(legal(&linear, nested(1, 0), 0).is_some());
    assert!(legal(&linear, nested(0, 9), 0).is_none(), "more than SSIDSIZE");
    assert_eq!(legal(&linear, nested(0, 8), 0).unwrap().dw0 & 0xff_ffff_ffc0, 0xff_ffff_c000, "2^8 CDs of 64 bytes");
    // 2-level.
    let both = rules(NO_STALL | CD2L, 20, 0);
    for (fmt, cdmax, aligned) in [(1, 6, 6), (1, 9, 6), (1, 10, 7), (1, 20, 17), (2, 13, 6), (2, 14, 7), (2, 20, 13)] {
        let ste = legal(&both, nested(fmt, cdmax), 2).unwrap();
        assert_eq!(get64(dw0::S1FMT, ste.dw0), fmt);
        let expected = 0xff_ffff_ffc0 >> aligned << aligned;
        assert_eq!(ste.dw0 & mask64(dw0::S1CONTEXTPTR), expected, "{fmt} {cdmax}");
        assert_eq!(get64(dw1::S1DSS, ste.dw1), 2);
    }
    // Reserved values behave as the architecture specifies.
    let ste = legal(&both, nested(3, 5), 3 | 1 << 6).unwrap();
    assert_eq!((get64(dw0::S1FMT, ste.dw0), ste.dw1 & 0xff), (0, 0));
    // Stall.
    assert_eq!(both.check(nested(0, 0), mask64(dw1::S1STALLD)), SteCheck::Illegal);
}
