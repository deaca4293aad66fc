//! Which SMMUs and stage-2 configurations are accepted, with the values on both sides of each limit; and the features
//! that the driver decodes from the ID registers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::cell::RefCell;

use io_pgtable::{Ipa, Pa};
use smmu_drv::{
    ClaimError, Coherency, DmaBuffer, Features, HostIds, HostMemory, IdRegisters, MsiAdvert, Platform, ProbeConfig,
    ProbeError, Probed, Stage2Cfg, TakeOverError, WiredIrq,
};

/// An SMMU that is only probed: six registers, and no memory for a take-over.
struct Registers {
    ids: IdRegisters,
    /// Sizes of the requested allocations.
    asked: RefCell<Vec<usize>>,
}

/// A buffer that is never allocated.
enum Never {}

impl DmaBuffer for Never {
    fn pa(&self) -> Pa {
        match *self {}
    }
    fn size(&self) -> usize {
        match *self {}
    }
    fn read64(&self, _: usize) -> u64 {
        match *self {}
    }
    fn write64(&mut self, _: usize, _: u64) {
        match *self {}
    }
    fn clean(&self, _: usize, _: usize) {
        match *self {}
    }
    fn invalidate(&self, _: usize, _: usize) {
        match *self {}
    }
}

impl Platform for Registers {
    type Buffer = Never;
    type Place<T: 'static> = Box<T>;

    fn read32(&self, offset: u32) -> u32 {
        let IdRegisters { idr0, idr1, idr3, idr5, iidr, aidr } = self.ids;
        match offset {
            0x00 => idr0,
            0x04 => idr1,
            0x0c => idr3,
            0x14 => idr5,
            0x18 => iidr,
            0x1c => aidr,
            // GBPA.
            0x44 => 0,
            _ => panic!("register {offset:#x} is read"),
        }
    }
    fn write32(&self, offset: u32, value: u32) {
        panic!("{value:#x} is written to register {offset:#x}");
    }
    fn read64(&self, offset: u32) -> u64 {
        panic!("register {offset:#x} is read");
    }
    fn write64(&self, offset: u32, value: u64) {
        panic!("{value:#x} is written to register {offset:#x}");
    }
    fn alloc(&self, size: usize) -> Option<Never> {
        self.asked.borrow_mut().push(size);
        None
    }
    fn dsb(&self) {}
    fn now_us(&self) -> u64 {
        0
    }
    fn relax(&self) {}
    fn raise(&self, _: WiredIrq) {}
}

struct NoHost;

impl HostMemory for NoHost {
    type Claim = Never;

    fn claim(&mut self, _: Ipa, _: u64, _: smmu_drv::Sharing) -> Result<Never, ClaimError> {
        Err(ClaimError::NotOwned)
    }
    fn release(&mut self, claim: Never) {
        match claim {}
    }
    fn holds(&self, claim: &Never) -> bool {
        match *claim {}
    }
    fn read64(&self, claim: &Never, _: u64) -> Option<u64> {
        match *claim {}
    }
    fn write64(&mut self, claim: &Never, _: u64, _: u64) -> Option<()> {
        match *claim {}
    }
    fn write32(&mut self, claim: &Never, _: u64, _: u32) -> Option<()> {
        match *claim {}
    }
}

/// Both stages, AArch64, COHACC, 16-bit VMIDs, little-endian, no stall, 2-level; 16 StreamID bits, queues of 2^8 and 2^7
/// entries; 4K, and 48 bits of addresses.
const GOOD: IdRegisters = IdRegisters {
    idr0: 0b11 | 2 << 2 | 1 << 4 | 1 << 18 | 2 << 21 | 1 << 24 | 1 << 27,
    idr1: 16 | 7 << 16 | 8 << 21,
    idr3: 0,
    idr5: 5 | 1 << 4,
    iidr: 0,
    aidr: 2,
};

const STAGE2: Stage2Cfg =
    Stage2Cfg { ttb: Pa(0x4000), t0sz: 24, sl0: 1, irgn: 1, orgn: 1, sh: 3, tg: 0, ps: 2, vmid: 1 };

fn probe(ids: IdRegisters) -> Result<Probed<Registers>, ProbeError> {
    let firmware = ProbeConfig { msi: MsiAdvert::WhenCoherent, ..ProbeConfig::new(Coherency::Coherent) };
    Probed::probe(Registers { ids, asked: RefCell::default() }, firmware)
}

/// A register with other contents in the bits from `lo` on.
fn with(word: u32, lo: u32, bits: u32, value: u32) -> u32 {
    word & !(((1 << bits) - 1) << lo) | value << lo
}

#[test]
fn an_smmu_is_refused_for_each_missing_feature() {
    let idr0 = |lo, bits, value| IdRegisters { idr0: with(GOOD.idr0, lo, bits, value), ..GOOD };
    let idr1 = |lo, bits, value| IdRegisters { idr1: with(GOOD.idr1, lo, bits, value), ..GOOD };
    let cases = [
        (idr0(0, 1, 0), Some(ProbeError::NotNested(GOOD.idr0 & !1))),
        (idr0(1, 1, 0), Some(ProbeError::NotNested(GOOD.idr0 & !2))),
        (idr0(2, 2, 0), Some(ProbeError::NoAarch64(GOOD.idr0 & !0xc))),
        (idr0(2, 2, 1), Some(ProbeError::NoAarch64(GOOD.idr0 & !0xc | 4))),
        (idr0(2, 2, 3), None),
        (idr0(21, 2, 0), None),
        (idr0(21, 2, 3), Some(ProbeError::BigEndian(GOOD.idr0 | 3 << 21))),
        (idr0(24, 2, 0), None),
        (idr0(24, 2, 2), Some(ProbeError::StallForced(with(GOOD.idr0, 24, 2, 2)))),
        (idr0(24, 2, 3), Some(ProbeError::StallForced(with(GOOD.idr0, 24, 2, 3)))),
        (idr1(29, 1, 1), Some(ProbeError::Preset(GOOD.idr1 | 1 << 29))),
        (idr1(30, 1, 1), Some(ProbeError::Preset(GOOD.idr1 | 1 << 30))),
        (idr1(16, 5, 3), None),
        (idr1(16, 5, 2), Some(ProbeError::QueueTooSmall(with(GOOD.idr1, 16, 5, 2)))),
        (idr1(16, 5, 19), None),
        (idr1(21, 5, 3), None),
        (idr1(21, 5, 2), Some(ProbeError::QueueTooSmall(with(GOOD.idr1, 21, 5, 2)))),
        (idr1(21, 5, 19), None),
        (idr1(0, 6, 0), None),
        (idr1(0, 6, 32), None),
        (idr1(0, 6, 33), Some(ProbeError::SidSize(with(GOOD.idr1, 0, 6, 33)))),
        (IdRegisters { idr5: 5, ..GOOD }, Some(ProbeError::No4K(5))),
        // MMU-700 r1p0 and r1p1.
        (IdRegisters { iidr: 0x4871_043b, ..GOOD }, Some(ProbeError::NestingErratum(0x4871_043b))),
        (IdRegisters { iidr: 0x4871_143b, ..GOOD }, None),
        (GOOD, None),
    ];
    for (ids, expected) in cases {
        let seen = probe(ids);
        assert_eq!(seen.as_ref().err(), expected.as_ref(), "{ids:x?}");
        match (seen, expected) {
            (Ok(probed), _) => assert_eq!(probed.features().ids, ids),
            (Err(error), _) => assert!(error.to_string().starts_with("SMMU_I"), "{error}"),
        }
    }
}

#[test]
fn a_stage_2_is_refused_just_beyond_hardwares_limits() {
    let oas = |encoding: u32| IdRegisters { idr5: 1 << 4 | encoding, ..GOOD };
    let vmid8 = IdRegisters { idr0: GOOD.idr0 & !(1 << 18), ..GOOD };
    // The start level for the input size.
    let of = |t0sz, ps| {
        let sl0 = match t0sz {
            0..=20 => 2,
            21..=33 => 1,
            _ => 0,
        };
        Stage2Cfg { t0sz, sl0, ps, ..STAGE2 }
    };
    let level = |t0sz, sl0| Stage2Cfg { ttb: Pa(0x1_0000), t0sz, sl0, ps: 5, ..STAGE2 };
    let at = |ttb| Stage2Cfg { ttb: Pa(ttb), ..STAGE2 };
    let good = [
        (oas(5), STAGE2),
        (oas(5), of(16, 5)),
        (oas(5), of(39, 0)),
        (oas(2), of(24, 2)),
        (oas(0), of(32, 0)),
        (oas(6), of(16, 6)),
        // One to 16 tables of 512 descriptors at levels 1 and 2, one at level 0.
        (oas(5), level(24, 2)),
        (oas(5), level(21, 1)),
        (oas(5), level(33, 1)),
        (oas(5), level(30, 0)),
        (oas(5), Stage2Cfg { vmid: 0xffff, ..STAGE2 }),
        (vmid8, Stage2Cfg { vmid: 0xff, ..STAGE2 }),
        (oas(5), at(0x2000)),
        (oas(5), Stage2Cfg { ps: 5, ..at(0xffff_ffff_e000) }),
        (oas(2), at(0xff_ffff_e000)),
        (oas(5), Stage2Cfg { ttb: Pa(0x1000), ..level(25, 1) }),
    ];
    let bad = [
        (oas(5), of(15, 5)),
        (oas(6), of(15, 5)),
        (oas(5), of(40, 0)),
        (oas(2), of(23, 2)),
        (oas(2), of(24, 3)),
        (oas(0), of(32, 1)),
        (oas(5), of(16, 6)),
        (oas(5), of(16, 7)),
        // A reserved encoding, which is refused for every hardware.
        (oas(6), of(16, 7)),
        (oas(6), of(16, 15)),
        (oas(5), Stage2Cfg { sl0: 3, ..STAGE2 }),
        (oas(5), Stage2Cfg { tg: 1, ..STAGE2 }),
        (oas(5), Stage2Cfg { tg: 2, ..STAGE2 }),
        (vmid8, Stage2Cfg { vmid: 0x100, ..STAGE2 }),
        (vmid8, Stage2Cfg { vmid: 0xffff, ..STAGE2 }),
        (oas(5), at(1)),
        (oas(5), at(8)),
        // Two concatenated tables at an odd page: hardware would start at the previous page.
        (oas(5), at(0x1000)),
        (oas(5), Stage2Cfg { ttb: Pa(0x8000), ..level(21, 1) }),
        (oas(5), level(25, 2)),
        (oas(5), level(20, 1)),
        (oas(5), level(34, 1)),
        (oas(5), level(29, 0)),
        // Within the output size of the SMMU, and above PS.
        (oas(5), at(1 << 40)),
        (oas(5), at(1 << 48)),
        (oas(2), at(1 << 40)),
        (oas(2), at(!0xf)),
    ];
    for (ids, cfg) in good {
        // The configuration is accepted; then the allocation fails.
        assert_eq!(
            probe(ids).unwrap().take_over_with_host::<NoHost>(cfg, Default::default()).err(),
            Some(TakeOverError::NoMemory),
            "{cfg:?}"
        );
    }
    for (ids, cfg) in bad {
        let error = probe(ids).unwrap().take_over_with_host::<NoHost>(cfg, Default::default()).err().unwrap();
        assert!(
            matches!(error, TakeOverError::BadStage2(what) if error.to_string().ends_with(what)),
            "{cfg:?}: {error}"
        );
    }
}

#[test]
fn error_messages_name_the_remedy() {
    let cases = [
        (TakeOverError::NoMemory, "larger pool"),
        (TakeOverError::NoAck(0x44), "register 0x44"),
        (TakeOverError::Invalidation, "first invalidation"),
    ];
    for (error, words) in cases {
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn features_are_the_fields_of_the_id_registers() {
    let decode = |ids| Features::decode(ids, Coherency::Coherent);
    let flags = |features: &Features| {
        [
            features.two_level(),
            features.ril(),
            features.ats(),
            features.pri(),
            features.hyp(),
            features.can_stall(),
            features.attr_types_ovr(),
        ]
    };
    // STALL_MODEL is the only field whose feature is present at 0.
    let none = IdRegisters { idr0: 1 << 24, ..IdRegisters::default() };
    assert_eq!(flags(&decode(none)), [false; 7]);
    let single = [(0, 27), (3, 10), (0, 10), (0, 16), (0, 9), (0, 24), (1, 27)];
    for (n, (register, bit)) in single.into_iter().enumerate() {
        let mut ids = none;
        match register {
            0 => ids.idr0 ^= 1 << bit,
            1 => ids.idr1 ^= 1 << bit,
            _ => ids.idr3 ^= 1 << bit,
        }
        let mut expected = [false; 7];
        expected[n] = true;
        assert_eq!(flags(&decode(ids)), expected, "IDR{register} bit {bit}");
    }
    let sizes = [(0, 32), (1, 36), (2, 40), (3, 42), (4, 44), (5, 48), (6, 52), (7, 52)];
    for (encoding, bits) in sizes {
        assert_eq!(decode(IdRegisters { idr5: encoding, ..none }).oas, bits);
    }
    assert_eq!(decode(IdRegisters { idr0: 1 << 18, ..none }).vmid_bits, 16);
    assert_eq!(decode(none).vmid_bits, 8);
    let ids = IdRegisters { idr1: 9 | 6 << 6 | 11 << 16 | 12 << 21, idr3: 2 << 11, ..none };
    let Features { bbml, sid_bits, ssid_bits, cmdq_log2, evtq_log2, .. } = decode(ids);
    assert_eq!((bbml, sid_bits, ssid_bits, cmdq_log2, evtq_log2), (2, 9, 6, 12, 11));
    let snoops = IdRegisters { idr0: 1 << 4, ..none };
    assert_eq!(decode(snoops).coherent, Coherency::Coherent);
    assert_eq!(decode(none).coherent, Coherency::NonCoherent);
    assert_eq!(Features::decode(snoops, Coherency::NonCoherent).coherent, Coherency::NonCoherent, "both must be set");
}

#[test]
fn the_hosts_id_registers_are_limited_to_emulated_features_and_stage_2() {
    let ids = |ids, bits| HostIds::new(&Features::decode(ids, Coherency::Coherent), MsiAdvert::WhenCoherent, bits);
    let two_level = |sid_bits| IdRegisters { idr1: sid_bits, ..GOOD };
    let linear = |sid_bits| IdRegisters { idr0: GOOD.idr0 & !(3 << 27), ..two_level(sid_bits) };
    for (shown, expected) in [
        (ids(two_level(32), 40), 25),
        (ids(two_level(26), 40), 25),
        (ids(two_level(25), 40), 25),
        (ids(two_level(24), 40), 24),
        (ids(linear(32), 40), 16),
        (ids(linear(17), 40), 16),
        (ids(linear(15), 40), 15),
    ] {
        assert_eq!(shown.idr1 & 0x3f, expected);
    }
    // The smallest size with an encoding that covers stage 2's input, as "OAS must match the system physical address size"
    // [3.4]; hardware's where that is smaller.
    for (hardware, bits, expected) in [
        (5, 48, 5),
        (5, 47, 5),
        (5, 44, 4),
        (5, 43, 4),
        (4, 47, 4),
        (5, 40, 2),
        (5, 39, 2),
        (1, 39, 1),
        (5, 36, 1),
        (5, 35, 1),
        (0, 35, 0),
        (5, 32, 0),
    ] {
        assert_eq!(ids(IdRegisters { idr5: 1 << 4 | hardware, ..GOOD }, bits).idr5 & 7, expected, "{bits} bits");
    }
    assert_eq!(ids(IdRegisters { idr5: 1 << 4 | 2, ..GOOD }, 48).idr5 & 7, 2);
    assert_eq!(ids(IdRegisters { idr5: 1 << 4 | 6, ..GOOD }, 52).idr5 & 7, 6);
    assert_eq!(ids(GOOD, 25).idr5 & 7, 0, "there is no smaller encoding");
}
