//! Several CPUs of the host at once. Every trap holds its locks from start to end, so CPUs interleave only by the
//! order of traps, with DMA in between. These are random orders of frequent actions; the fuzz targets use all actions.

use mem_protect::Transition;
use model_tests::hostile::{
    Action, Address, Cmd, Entry, Finding, NO_RANGE, Reg, Request, Run, Summary, Value, execute,
};
use model_tests::layout::{EL2, HOST_CMDQ, HOST_DATA, HOST_EVTQ, HOST_S1, HOST_STRTAB, IOVA};
use model_tests::{Defect, Rng};
use smmu_drv::AccessSize;
use smmu_model::arch::regs as r;

/// Indices of the StreamIDs 0, 8 and 63.
const SIDS: [u8; 3] = [0, 1, 3];
/// SMMUEN, EVENTQEN and CMDQEN, together and alone.
const ENABLES: [u8; 5] = [0, 0xc, 0xd, 1, 8];

/// One step of a CPU, then DMA.
fn step(rng: &mut Rng, smmus: u8, out: &mut Vec<Action>) {
    let pages = [
        Address::at(HOST_DATA),
        Address { word: 512, ..Address::at(HOST_DATA) },
        Address::at(HOST_DATA + 0x1f_f000),
        Address::at(HOST_DATA + 0x20_0000),
        Address::at(HOST_CMDQ),
        Address::at(HOST_EVTQ),
        Address::at(HOST_STRTAB),
        Address::at(EL2 - 0x1000),
    ];
    let to = rng.one(&pages);
    let (page, count) = (Value::of(to.pa()), rng.below(3));
    let (smmu, cpu, sid) = (rng.below(smmus), rng.below(3), rng.one(&SIDS));
    let own = |how| Action::Transition { how, page, count };
    let queue = |cmd| Action::Queue { smmu, cmd };
    let write = |offset, value| Action::Write { cpu, smmu, at: Reg::Raw(offset), size: AccessSize::Word, value };
    let ring = Action::WriteProd { cpu, smmu };
    match rng.below(16) {
        0 | 1 => out.push(own(Transition::HostDonateHyp(NO_RANGE))),
        2 => out.push(own(Transition::HypDonateHost(NO_RANGE))),
        3 => out.push(own(Transition::VmCreate)),
        4 => out.push(own(Transition::HostDonateGuest(NO_RANGE, 0))),
        5 => out.extend([own(Transition::VmDestroy(0)), own(Transition::HostReclaimPage(NO_RANGE))]),
        6 => out.extend([own(Transition::HostShareHyp(NO_RANGE)), own(Transition::HostUnshareHyp(NO_RANGE))]),
        7 => out.push(write(r::CR0, Value::Small(rng.one(&ENABLES)))),
        8 => out.push(write(r::GBPA, Value::Word(r::GBPA_UPDATE | rng.one(&[0, r::GBPA_ABORT])))),
        9 | 10 => {
            let entry = rng.one(&[Entry::Abort, Entry::Bypass, Entry::Invalid, Entry::Stage1]);
            out.push(Action::Ste { smmu, sid, entry });
            out.extend([queue(Cmd::CfgiSte { sid, leaf: rng.below(2) }), queue(Cmd::Sync), ring]);
        }
        11 => {
            out.push(Action::Map { page: 0, to });
            out.extend([queue(Cmd::NhAll), queue(Cmd::Sync), ring]);
        }
        12 => out.push(Action::Events { smmu }),
        13 => out.push(Action::Repair { smmu }),
        _ => out.push(Action::Resume { cpu }),
    }
    let inside = Value::of(to.pa() + u64::from(rng.below(u8::MAX)) * 16);
    for sid in SIDS {
        for (request, iova) in [(Request::Write, inside), (Request::Read, Value::of(IOVA))] {
            out.push(Action::Dma { smmu, sid, ssid: 0, request, iova });
        }
    }
}

fn run(machine: u8, seed: u64, defect: Defect) -> Result<Summary, Finding> {
    let mut rng = Rng::new(seed);
    let smmus = if machine == TWO_SMMUS { 2 } else { 1 };
    let mut actions: Vec<_> = (0..smmus).map(|smmu| Action::Start { smmu, shape: 0 }).collect();
    actions.push(Action::Context { ssid: 0, table: Address::at(HOST_S1) });
    actions.push(Action::Map { page: 0, to: Address::at(HOST_DATA) });
    for _ in 0..120 {
        step(&mut rng, smmus, &mut actions);
    }
    execute(&Run { machine, seed: 4, actions }, defect)
}

/// The machine with two SMMUs.
const TWO_SMMUS: u8 = 5;

#[test]
fn t38_any_order_of_traps_and_transitions() {
    // Blocks or pages, eager or lazy, one level or two, snooping or not, one SMMU or two.
    for machine in 0..=TWO_SMMUS {
        for seed in 1..4 {
            let result = run(machine, seed * 7919 + u64::from(machine), Defect::None);
            assert!(result.is_ok(), "machine {machine}, seed {seed}: {result:?}");
        }
    }
}

#[test]
fn t38_random_orders_detect_each_defect() {
    for (defect, word) in Defect::ALL {
        let machine = if defect == Defect::FirstSmmuOnly { TWO_SMMUS } else { 0 };
        let detected = (1..12).any(|seed| matches!(run(machine, seed, defect), Err(Finding::ForeignAccess(_))));
        assert!(detected, "{word}");
    }
}
