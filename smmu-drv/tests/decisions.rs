//! The decision about each command, field by field: the results of [`decide`], and the features on which they depend.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use smmu_drv::command::{Command, Depth, Extent, Granule};
use smmu_drv::emul::command::{CommandView, Decision, MsiCompletion, Ranges, Scope, Signal, decide};
use smmu_drv::spec::commands::RawCmd;
use smmu_drv::{Coherency, Features, HostIds, IdRegisters, MsiAdvert};

const VIEW: CommandView = CommandView {
    sid_bits: 8,
    ssid_bits: 4,
    ranges: Ranges::Shown,
    asid_mask: 0xffff,
    msi: MsiCompletion::Shown,
    vmid: 7,
};

fn answer(word0: u64, word1: u64) -> Decision {
    decide(RawCmd([word0, word1]), &VIEW)
}

/// Opcode and StreamID.
fn of(opcode: u64, sid: u64) -> u64 {
    opcode | sid << 32
}

#[test]
fn configuration_commands_cover_streams_of_the_view() {
    let one = |sid, depth| Decision::Reshadow(Scope::One { sid, depth });
    let range = |first, log2| Decision::Reshadow(Scope::Range { first, log2 });
    let all = Decision::Reshadow(Scope::All);
    let cd = |sid, ssid, depth| Decision::Forward(Command::CfgiCd { sid, ssid, depth });
    let cases = [
        (of(0x03, 0), 0, one(0, Depth::Walk)),
        (of(0x03, 0xff), 1, one(0xff, Depth::Leaf)),
        (of(0x03, 0xff), !1, one(0xff, Depth::Walk)),
        (of(0x03, 0x100), 1, Decision::Drop),
        (of(0x03, 0xffff_ffff), 1, Decision::Drop),
        // 2^(Range + 1) streams, from the StreamID aligned down to as many.
        (of(0x04, 5), 0, range(4, 1)),
        (of(0x04, 0xff), 2, range(0xf8, 3)),
        (of(0x04, 0x85), 6, range(0x80, 7)),
        (of(0x04, 0x104), 2, Decision::Drop),
        (of(0x04, 0xff), 7, all),
        (of(0x04, 0x100), 7, Decision::Drop),
        (of(0x04, 0x1ff), 8, all),
        (of(0x04, 0x200), 8, Decision::Drop),
        (of(0x04, 0xffff_ffff), 31, all),
        (of(0x05, 0xff) | 15 << 12, 1, cd(0xff, 15, Depth::Leaf)),
        (of(0x05, 3), 0, cd(3, 0, Depth::Walk)),
        (of(0x05, 3) | 16 << 12, 0, Decision::Drop),
        (of(0x05, 0x100), 0, Decision::Drop),
        (of(0x06, 0xff), u64::MAX, Decision::Forward(Command::CfgiCdAll { sid: 0xff })),
        (of(0x06, 0x100), 0, Decision::Drop),
    ];
    for (word0, word1, expected) in cases {
        assert_eq!(answer(word0, word1), expected, "{word0:#x} {word1:#x}");
        // SSec: a non-secure queue has no commands for secure streams.
        assert_eq!(answer(word0 | 1 << 10, word1), Decision::Illegal, "{word0:#x} {word1:#x}");
    }
    for prefetch in [0x01, 0x02] {
        assert_eq!(answer(of(prefetch, 3), 0), Decision::Drop);
        assert_eq!(answer(of(prefetch, 3) | 1 << 10, 0), Decision::Illegal);
    }
    let wide = CommandView { sid_bits: 32, ..VIEW };
    assert_eq!(decide(RawCmd([of(0x03, 0xffff_ffff), 1]), &wide), one(u32::MAX, Depth::Leaf));
}

#[test]
fn invalidations_carry_el2s_vmid_and_the_hosts_fields() {
    let vmid = VIEW.vmid;
    // Whatever VMID the host writes.
    let word0 = 0x1234 << 48 | 0x5678 << 32;
    let narrow = CommandView { asid_mask: 0xff, ..VIEW };
    assert_eq!(answer(word0 | 0x10, u64::MAX), Decision::Forward(Command::TlbiNhAll { vmid }));
    assert_eq!(answer(word0 | 0x30, u64::MAX), Decision::Forward(Command::TlbiNhAll { vmid }));
    let by_asid = |asid| Decision::Forward(Command::TlbiNhAsid { vmid, asid });
    assert_eq!(answer(word0 | 0x11, 0), by_asid(0x1234));
    assert_eq!(decide(RawCmd([word0 | 0x11, 0]), &narrow), by_asid(0x34));
    let va = 0xffff_8000_1234_5000;
    for (word1, depth) in [(va | 1, Depth::Leaf), (va | 0x2fe, Depth::Walk)] {
        let extent = Extent::Single;
        let asid = 0x1234;
        let by_va = Decision::Forward(Command::TlbiNhVa { vmid, asid, va, extent, depth });
        assert_eq!(answer(word0 | 0x12, word1), by_va);
        assert_eq!(answer(word0 | 0x13, word1), Decision::Forward(Command::TlbiNhVaa { vmid, va, extent, depth }));
    }
}

#[test]
fn reserved_ranges_are_illegal_and_others_are_forwarded_unchanged() {
    let ranged = |granule, num, scale, ttl| Some(Extent::Range { granule, num, scale, ttl });
    let cases = [
        // TG, NUM, SCALE, TTL
        (0, 31, 31, 3, Some(Extent::Single)),
        (1, 0, 0, 0, None),
        (2, 0, 0, 0, None),
        (3, 0, 0, 0, None),
        (1, 1, 0, 0, ranged(Granule::K4, 1, 0, 0)),
        (1, 0, 1, 0, ranged(Granule::K4, 0, 1, 0)),
        (1, 0, 0, 1, ranged(Granule::K4, 0, 0, 1)),
        (3, 0, 0, 1, ranged(Granule::K64, 0, 0, 1)),
        // IDR5.DS is 0: with 16K this level is reserved, and treated as 0.
        (2, 0, 0, 1, None),
        (2, 31, 31, 1, ranged(Granule::K16, 31, 31, 0)),
        (2, 3, 2, 1, ranged(Granule::K16, 3, 2, 0)),
        (2, 31, 31, 2, ranged(Granule::K16, 31, 31, 2)),
        (3, 21, 10, 3, ranged(Granule::K64, 21, 10, 3)),
    ];
    let hidden = CommandView { ranges: Ranges::Hidden, ..VIEW };
    for (tg, num, scale, ttl, expected) in cases {
        let (word1, vmid, va, depth) = (0x1000 | tg << 10 | ttl << 8, VIEW.vmid, 0x1000, Depth::Walk);
        for (opcode, asid) in [(0x12, Some(0)), (0x13, None)] {
            let raw = RawCmd([opcode | num << 12 | scale << 20, word1]);
            let with = |extent| {
                Decision::Forward(match asid {
                    Some(asid) => Command::TlbiNhVa { vmid, asid, va, extent, depth },
                    None => Command::TlbiNhVaa { vmid, va, extent, depth },
                })
            };
            assert_eq!(decide(raw, &VIEW), expected.map_or(Decision::Illegal, with), "{tg} {num} {scale} {ttl}");
            assert_eq!(decide(raw, &hidden), with(Extent::Single), "ignored fields are reserved");
        }
    }
}

#[test]
fn every_range_is_handled_as_specified() {
    // [S 4.4.1.1], sentence by sentence, for an SMMU with RIL and without DS and 128-bit descriptors.
    for (tg, ttl, num) in (0..4).flat_map(|tg| (0..4).flat_map(move |ttl| (0..32).map(move |num| (tg, ttl, num)))) {
        for scale in 0..64 {
            let word0 = 0x12 | num << 12 | scale << 20;
            // TTL128 is reserved too.
            for word1 in [0x4000_0000 | tg << 10 | ttl << 8, 0x4000_0080 | tg << 10 | ttl << 8] {
                // Bit 25 is RES0 without DS.
                let scale = scale & 31;
                let level = if tg == 2 && ttl == 1 { 0 } else { ttl };
                let granule = [None, Some(Granule::K4), Some(Granule::K16), Some(Granule::K64)][tg as usize];
                let expected = match granule {
                    None => Some(Extent::Single),
                    Some(_) if level == 0 && num == 0 && scale == 0 => None,
                    Some(granule) => Some(Extent::Range { granule, num, scale, ttl: level }),
                };
                let got = match answer(word0, word1) {
                    Decision::Illegal => None,
                    Decision::Forward(Command::TlbiNhVa { extent, va: 0x4000_0000, depth: Depth::Walk, .. }) => {
                        Some(extent)
                    }
                    other => panic!("{other:?}"),
                };
                assert_eq!(got, expected, "TG {tg} TTL {ttl} NUM {num} SCALE {scale}");
            }
        }
    }
}

#[test]
fn a_sync_is_signalled_as_the_host_requested() {
    let sync = |cs: u64| 0x46 | cs << 12 | 0xdead_beef << 32;
    let (address, data) = (0x00ff_ffff_ffff_fffc, 0xdead_beef);
    let cases = [
        (0, u64::MAX, Decision::Sync(Signal::None)),
        (2, u64::MAX, Decision::Sync(Signal::None)),
        (3, 0, Decision::Illegal),
        (1, u64::MAX, Decision::Sync(Signal::Msi { address, data })),
        (1, 4, Decision::Sync(Signal::Msi { address: 4, data })),
        // Only bits outside the address field are set: there is no address.
        (1, 0xff00_0000_0000_0003, Decision::Sync(Signal::Wired)),
        (1, 0, Decision::Sync(Signal::Wired)),
    ];
    for (cs, word1, expected) in cases {
        assert_eq!(answer(sync(cs), word1), expected, "CS {cs} {word1:#x}");
    }
    let hidden = CommandView { msi: MsiCompletion::Hidden, ..VIEW };
    assert_eq!(decide(RawCmd([sync(1), 0x1000]), &hidden), Decision::Sync(Signal::Wired));
}

#[test]
fn the_view_matches_the_hosts_id_registers() {
    let bare = IdRegisters { idr0: 0b11 | 2 << 2, idr1: 16, idr3: 0, idr5: 1 << 4 | 2, iidr: 0, aidr: 0 };
    let rich = IdRegisters { idr0: bare.idr0 | 1 << 4 | 1 << 12, idr1: 9 | 6 << 6, idr3: 1 << 10, ..bare };
    let view = |ids, msi| CommandView::new(&HostIds::new(&Features::decode(ids, Coherency::Coherent), msi, 40), 3);
    let poor = CommandView {
        sid_bits: 16,
        ssid_bits: 0,
        ranges: Ranges::Hidden,
        asid_mask: 0xff,
        msi: MsiCompletion::Hidden,
        vmid: 3,
    };
    assert_eq!(view(bare, MsiAdvert::WhenCoherent), poor, "the SMMU does not snoop");
    let full = CommandView {
        sid_bits: 9,
        ssid_bits: 6,
        ranges: Ranges::Shown,
        asid_mask: 0xffff,
        msi: MsiCompletion::Shown,
        vmid: 3,
    };
    assert_eq!(view(rich, MsiAdvert::WhenCoherent), full);
    assert_eq!(view(rich, MsiAdvert::Hidden), CommandView { msi: MsiCompletion::Hidden, ..full });
}
