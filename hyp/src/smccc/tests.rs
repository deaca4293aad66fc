//! Tests of the policy: refused calls, reported features, and their consistency.

use super::*;

#[test]
fn t54_ffa_sdei_vendor_and_suspend_are_not_supported() {
    for function in [
        0x8400_0060u32,
        0xc400_0071,
        0xc400_0024,
        0xc400_0020,
        0x8200_0000,
        0xc400_000e,
        0x8400_000e,
        0x8400_0012,
        0xc600_0000,
        0xffff_ffff,
    ] {
        assert_eq!(decide(function, 0), Decision::Answer(NOT_SUPPORTED), "{function:#x}");
    }
}

#[test]
fn psci_features_does_not_report_a_refused_call() {
    for function in (0x8400_0000..0x8400_0100).chain(0xc400_0000..0xc400_0100) {
        let refused = matches!(decide(function, 0), Decision::Answer(_)) && function != PSCI_FEATURES;
        let reported = !matches!(decide(PSCI_FEATURES, function), Decision::Answer(_));
        assert!(!(refused && reported), "{function:#x}");
    }
}

#[test]
fn the_sve_hint_is_ignored_and_reserved_bits_are_refused() {
    for function in
        [CPU_ON_64, PSCI_VERSION, SMCCC_VERSION, SMCCC_ARCH_WORKAROUND_1, TRNG_RND_64, SYSTEM_OFF, 0x8400_0060]
    {
        for arg in [0, SMCCC_ARCH_WORKAROUND_3, CPU_SUSPEND_64] {
            assert_eq!(decide(function | SVE_HINT, arg), decide(function, arg), "{function:#x}");
        }
        assert_eq!(identifier(function | SVE_HINT), function);
        for bit in 17..24 {
            assert_eq!(decide(function | 1 << bit, 0), Decision::Answer(NOT_SUPPORTED), "{function:#x} and bit {bit}");
        }
    }
    // With Linux's values: CPU_ON of either width, PSCI_VERSION and CPU_SUSPEND with the hint.
    assert_eq!([0x8401_0003, 0xc401_0003].map(|id| decide(id, 0)), [Decision::Psci(Psci::CpuOn); 2]);
    assert_eq!([0x8401_0003, 0xc401_0003].map(identifier), [0x8400_0003, 0xc400_0003]);
    assert_eq!(decide(0x8401_0000, 0), Decision::Relay);
    assert_eq!(decide(0xc401_0001, 0), Decision::Psci(Psci::CpuSuspend));
}

/// An independent copy of the numbers of DEN0028: each reported feature can be called.
#[test]
fn every_reported_workaround_can_be_called() {
    for workaround in [0x8000_8000, 0x8000_7fff, 0x8000_3fff, 0x8000_0004] {
        assert_eq!(decide(0x8000_0001, workaround), Decision::Relay, "{workaround:#x}");
        assert_eq!(decide(workaround, 0), Decision::Relay, "{workaround:#x}");
    }
    for unknown in [0x8000_0002, 0x8000_0003, 0x8000_0005, 0x8000_1fff] {
        assert_eq!(decide(0x8000_0001, unknown), Decision::Answer(NOT_SUPPORTED), "{unknown:#x}");
        assert_eq!(decide(unknown, 0), Decision::Answer(NOT_SUPPORTED), "{unknown:#x}");
    }
}

/// The result of TF-A's firmware with PSCI_OS_INIT_MODE=1.
#[test]
fn os_initiated_suspend_is_not_reported_without_set_suspend_mode() {
    let Decision::RelayFiltered(filter) = decide(0x8400_000a, 0xc400_0001) else { panic!("not a filter") };
    assert_eq!([0b01, 0b11, 0b10, 0, -1, 0xff].map(|word| filter.apply(word)), [0, 2, 2, 0, -1, 2]);
    assert_eq!(decide(0x8400_000a, 0x8400_000f), Decision::Answer(NOT_SUPPORTED));
    assert_eq!(decide(0x8400_000f, 1), Decision::Answer(NOT_SUPPORTED));
}

#[test]
fn unknown_flags_are_cleared() {
    for function in [0x8400_0002, 0xc400_0003, 0xc400_0004, 0x8400_0008, 0x8400_0009, 0x8400_000a, 0x8000_0000] {
        let Decision::RelayFiltered(filter) = decide(0x8400_000a, function) else { panic!("{function:#x}") };
        assert_eq!([0, 1, 6, -1].map(|word| filter.apply(word)), [0, 0, 0, -1], "{function:#x}");
    }
}

/// MIGRATE is refused, so no trusted OS can be migrated; for a uniprocessor trusted OS the host can query its CPU.
#[test]
fn a_trusted_os_is_reported_according_to_the_allowed_calls() {
    let Decision::RelayFiltered(filter) = decide(0x8400_0006, 0) else { panic!("not a filter") };
    assert_eq!([0, 1, 2, -1].map(|word| filter.apply(word)), [1, 1, 2, -1]);
    assert_eq!(decide(0x8400_0005, 0), Decision::Answer(NOT_SUPPORTED));
    assert_eq!((decide(0x8400_0007, 0), decide(0xc400_0007, 0)), (Decision::Relay, Decision::Relay));
}

#[test]
fn trng_features_does_not_report_a_refused_call() {
    for function in (0x8400_0000..0x8400_0100).chain(0xc400_0000..0xc400_0100) {
        if decide(0x8400_0051, function) == Decision::Relay {
            assert_eq!(decide(function, 0x8400_0050), Decision::Relay, "{function:#x}");
        }
    }
}

/// DEN0022 table 8 and 9: bit 16 in the original format, bit 30 in the extended one, in which bit 16 is part of StateID.
#[test]
fn a_power_down_state_is_decoded_by_its_format() {
    let formats = [-1, 0, 1, 2, 3].map(StateFormat::of);
    let (original, extended) = (StateFormat::Original, StateFormat::Extended);
    assert_eq!(formats, [original, original, original, extended, extended]);
    let (standby, down) = (SuspendKind::Standby, SuspendKind::PowerDown);
    assert_eq!([0, 1 << 16, 1 << 30, 0xffff].map(|state| original.kind(state)), [standby, down, standby, standby]);
    assert_eq!([0, 1 << 16, 1 << 30, 0xfff_ffff].map(|state| extended.kind(state)), [standby, standby, down, standby]);
}

/// The result of PSCI_FEATURES determines which states need an entry point of the host.
#[test]
fn t39_a_power_down_state_needs_an_entry_point_in_host_memory() {
    let refusal = |features, state, entry| {
        let mut asked = 0;
        let is_hosts = |at| {
            asked += 1;
            at == 0x4000_0000
        };
        (StateFormat::of(features).refusal(state, entry, is_hosts), asked)
    };
    let (own, foreign) = (0x4000_0000, 0x4020_0000);
    // Bit 16 of the extended format is a part of the state's number, bit 30 of the original one is reserved.
    for (features, down, standby) in [(0, 1 << 16, 1 << 30), (-1, 1 << 16, 1 << 30), (2, 1 << 30, 1 << 16)] {
        assert_eq!(refusal(features, down, own), (None, 1), "{features}");
        assert_eq!(refusal(features, down, foreign), (Some(INVALID_ADDRESS), 1), "{features}");
        for misaligned in 1..4 {
            assert_eq!(refusal(features, down, own | misaligned), (Some(INVALID_ADDRESS), 0), "{features}");
        }
        assert_eq!(refusal(features, standby, foreign), (None, 0), "{features}: the entry point is ignored");
        assert_eq!(refusal(features, down | standby, foreign), (Some(INVALID_ADDRESS), 1), "{features}");
    }
}

#[test]
fn a_status_is_the_signed_word_in_w0() {
    assert_eq!([0, 1, 0xffff_ffff, 0xdead_0000_ffff_fffe, u64::MAX].map(status), [0, 1, -1, -2, -1]);
}

/// For any firmware response: a CPU that is on for AFFINITY_INFO is also on for CPU_ON.
#[test]
fn affinity_info_and_cpu_on_agree() {
    assert_eq!([0, 1, 2].map(|word| Power::On.affinity_info(|| word)), [0, 0, 0]);
    assert_eq!([0, 1, 2].map(|word| Power::Pending.affinity_info(|| word)), [2, 2, 2]);
    assert_eq!([0, 1, 2, -2].map(|word| Power::Off.affinity_info(|| word)), [0, 1, 2, -2]);
}

/// A refused CPU is not turned on again, and firmware is not called for it.
#[test]
fn a_refused_cpu_stays_off() {
    let answers = [Power::Off, Power::Pending, Power::On, Power::Refused].map(Power::cpu_on);
    assert_eq!(answers, [None, Some(-5), Some(-4), Some(-6)]);
    assert_eq!([0, 1, 2, -2].map(|word| Power::Refused.affinity_info(|| word)), [1, 1, 1, 1]);
}
