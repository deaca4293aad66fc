//! Tests of the numbers, of the decoder against random registers, and of the results.

use std::vec::Vec;

use super::{Answer, DeviceCall, Features, Function, Request, Stat, Status};
use crate::pci;
use mem_protect::{Error, GuestId, Transition, UncheckedRange};

/// The numbers are ABI: an independent copy.
#[test]
fn function_and_status_numbers_are_fixed() {
    let ids: Vec<u32> = Function::ALL.into_iter().map(Function::id).collect();
    let expected = [
        0xc600_0100,
        0xc600_0101,
        0xc600_0102,
        0xc600_0103,
        0xc600_0104,
        0xc600_0105,
        0xc600_0106,
        0xc600_0107,
        0xc600_0108,
        0xc600_0109,
        0xc600_010a,
        0xc600_0110,
        0xc600_0111,
        0xc600_0120,
        0xc600_0121,
    ];
    assert_eq!(ids, expected);
    for id in ids {
        // Fast call, 64-bit convention, owner 6 (vendor-specific hypervisor service), in SMCCC's layout of the
        // identifier.
        assert_eq!((id >> 31, id >> 30 & 1, id >> 24 & 0x3f, id >> 16 & 0xff), (1, 1, 6, 0), "{id:#x}");
    }
    let codes = [
        Status::Success,
        Status::NotSupported,
        Status::InvalidParameter,
        Status::Denied,
        Status::Busy,
        Status::NoMemory,
        Status::Io,
    ];
    assert!(codes.into_iter().map(Status::code).eq([0, -1, -2, -3, -4, -5, -6]));
    assert_eq!(Answer::status(Status::Io).registers(), [0xffff_ffff_ffff_fffa, 0, 0, 0]);
}

#[test]
fn each_call_decodes_to_its_request() {
    let range = UncheckedRange { pfn: 0x40000, count: 3 };
    let decode = |id: u32| Request::decode([u64::from(id), 0x40000, 3, 9]);
    assert_eq!(decode(0xc600_0100), Ok(Request::Version));
    assert_eq!(decode(0xc600_0101), Ok(Request::Transition(Transition::HostShareHyp(range))));
    assert_eq!(decode(0xc600_0102), Ok(Request::Transition(Transition::HostUnshareHyp(range))));
    assert_eq!(decode(0xc600_0103), Ok(Request::Transition(Transition::HostDonateHyp(range))));
    assert_eq!(decode(0xc600_0104), Ok(Request::Transition(Transition::HypDonateHost(range))));
    assert_eq!(decode(0xc600_0105), Ok(Request::Transition(Transition::VmCreate)));
    assert_eq!(decode(0xc600_0106), Ok(Request::Transition(Transition::VmDestroy(0x40000))));
    assert_eq!(decode(0xc600_0107), Ok(Request::Transition(Transition::HostDonateGuest(range, 9))));
    assert_eq!(decode(0xc600_0108), Ok(Request::Transition(Transition::HostShareGuest(range, 9))));
    assert_eq!(decode(0xc600_0109), Ok(Request::Transition(Transition::HostUnshareGuest(range, 9))));
    assert_eq!(decode(0xc600_010a), Ok(Request::Transition(Transition::HostReclaimPage(range))));
    assert_eq!(decode(0xc600_0111), Ok(Request::IommuTrace));
    assert_eq!(decode(0xc600_0120), Ok(Request::Device(DeviceCall::Assign(0x40000, 3))));
    assert_eq!(decode(0xc600_0121), Ok(Request::Device(DeviceCall::Return(0x40000))));
    let stats = [Stat::Exits, Stat::Faults, Stat::Commands, Stat::Syncs, Stat::Denied, Stat::TlbiRepeats];
    for (index, stat) in stats.into_iter().enumerate() {
        let index = u64::try_from(index).unwrap();
        assert_eq!(Request::decode([0xc600_0110, index, 0, 0]), Ok(Request::IommuStats(stat)));
    }
    for index in [6, 7, 1 << 32, u64::MAX] {
        assert_eq!(Request::decode([0xc600_0110, index, 0, 0]), Err(Status::InvalidParameter));
    }
}

#[test]
fn t37_everything_else_is_not_supported() {
    let known: Vec<u32> = Function::ALL.into_iter().map(Function::id).collect();
    let others = (0xc600_0000..0xc600_0400).chain(0x8600_0000..0x8600_0400).chain(0x8400_0000..0x8400_0040);
    let edges = [0, 1, 0x4600_0103, 0xc500_0103, 0xc602_0103, 0xc680_0103, 0x8600_ff01, 0xffff_ffff];
    for id in others.chain(edges).filter(|id| !known.contains(id)) {
        assert_eq!(Request::decode([u64::from(id), 1, 1, 1]), Err(Status::NotSupported), "{id:#x}");
    }
    // The identifier is W0: by SMCCC the upper half of X0 has no meaning.
    assert_eq!(Request::decode([0xdead_beef_c600_0100, 0, 0, 0]), Ok(Request::Version));
    // Bit 16 is SMCCC 1.3's hint that no SVE state is live.
    assert_eq!(Request::decode([0xc601_0100, 0, 0, 0]), Ok(Request::Version));
}

/// Records its calls and returns a preset result.
struct Recorder {
    calls: Vec<Transition>,
    answer: Result<(), Error>,
    traces: u32,
}

impl Recorder {
    fn transition(&mut self, transition: Transition) -> Result<Option<GuestId>, Error> {
        if transition == Transition::VmCreate {
            return self.answer.map(|()| GuestId::new(5));
        }
        self.calls.push(transition);
        self.answer.map(|()| None)
    }
    fn iommu_stat(&mut self, stat: Stat) -> u64 {
        match stat {
            Stat::Exits => 100,
            Stat::Faults => 101,
            Stat::Commands => 102,
            Stat::Syncs => 103,
            Stat::Denied => 104,
            Stat::TlbiRepeats => 105,
        }
    }
    fn iommu_trace(&mut self) {
        self.traces += 1;
    }
}

/// The result of a hypercall that calls `services`.
fn dispatch(registers: [u64; 4], services: &mut Recorder) -> Answer {
    match Request::decode(registers) {
        Ok(Request::Version) => Answer::version(512, Features::HYP_PAGES | Features::DMA_ISOLATION),
        Ok(Request::Transition(transition)) => Answer::of(services.transition(transition)),
        Ok(Request::IommuStats(stat)) => Answer::value(services.iommu_stat(stat)),
        Ok(Request::IommuTrace) => {
            services.iommu_trace();
            Answer::status(Status::Success)
        }
        Ok(Request::Device(_)) => Answer::of_device(Err(pci::Error::Busy(7))),
        Err(status) => Answer::status(status),
    }
}

#[test]
fn an_answer_about_a_device_has_the_reason_or_the_time_in_x1() {
    let registers = |result| Answer::of_device(result).registers();
    let error = |code: i64, x1| [code.cast_unsigned(), x1, 0, 0];
    assert_eq!(dispatch([0xc600_0120, 8, 0, 0], &mut recorder(Ok(()))).registers(), error(-4, 7));
    assert_eq!(registers(Ok(())), [0; 4]);
    assert_eq!(registers(Err(pci::Error::Refused(pci::Refusal::NoReset))), error(-3, 5));
    assert_eq!(registers(Err(pci::Error::NoSuchGuest)), error(-2, 0));
    assert_eq!(registers(Err(pci::Error::GuestDying)), error(-3, 0));
    assert_eq!(registers(Err(pci::Error::NoMemory)), error(-5, 0));
    assert_eq!(registers(Err(pci::Error::Io)), error(-6, 0));
}

fn recorder(answer: Result<(), Error>) -> Recorder {
    Recorder { calls: Vec::new(), answer, traces: 0 }
}

#[test]
fn each_call_reaches_the_transition_of_its_name_with_its_numbers() {
    let range = UncheckedRange { pfn: 7, count: 8 };
    let named = [
        (Function::HostShareHyp, Transition::HostShareHyp(range)),
        (Function::HostUnshareHyp, Transition::HostUnshareHyp(range)),
        (Function::HostDonateHyp, Transition::HostDonateHyp(range)),
        (Function::HypDonateHost, Transition::HypDonateHost(range)),
        (Function::VmDestroy, Transition::VmDestroy(7)),
        (Function::HostDonateGuest, Transition::HostDonateGuest(range, 9)),
        (Function::HostShareGuest, Transition::HostShareGuest(range, 9)),
        (Function::HostUnshareGuest, Transition::HostUnshareGuest(range, 9)),
        (Function::HostReclaimPage, Transition::HostReclaimPage(range)),
    ];
    for (function, call) in named {
        let mut services = recorder(Ok(()));
        let answer = dispatch([u64::from(function.id()), 7, 8, 9], &mut services);
        assert_eq!(answer.registers(), [0; 4], "{function:?}");
        assert_eq!(services.calls, [call]);
    }
}

#[test]
fn version_statistics_and_handles_are_returned_in_registers() {
    let mut services = recorder(Ok(()));
    let features = (Features::HYP_PAGES | Features::DMA_ISOLATION).bits();
    assert_eq!(dispatch([0xc600_0100, 0, 0, 0], &mut services).registers(), [0, 1 << 16 | 1, 512, features]);
    assert_eq!(dispatch([0xc600_0110, 3, 0, 0], &mut services).registers(), [0, 103, 0, 0]);
    assert_eq!(dispatch([0xc600_0105, 0, 0, 0], &mut services).registers(), [0, 5, 0, 0]);
    assert_eq!(dispatch([0xc600_0111, 0, 0, 0], &mut services).registers(), [0; 4]);
    assert_eq!(services.traces, 1);
    assert!(services.calls.is_empty());
}

#[test]
fn errors_return_a_code_and_no_other_value() {
    let codes = [
        (Error::BadRange, -2),
        (Error::NotRam, -2),
        (Error::NoSuchGuest, -2),
        (Error::WrongState, -3),
        (Error::GuestDying, -3),
        (Error::Claimed, -4),
        (Error::InUse, -4),
        (Error::GuestAlive, -4),
        (Error::NoMemory, -5),
        (Error::TooManyClaims, -5),
        (Error::TooManyGuests, -5),
        (Error::NotCompleted, -6),
        (Error::Inconsistent, -6),
    ];
    for (error, code) in codes {
        for function in [Function::HostDonateHyp, Function::VmCreate] {
            let answer = dispatch([u64::from(function.id()), 1, 1, 1], &mut recorder(Err(error)));
            assert_eq!(answer.status.code(), code, "{error:?}");
            assert_eq!(answer.values, [0; 3]);
        }
    }
}
