//! Several CPUs of the host at once: as every trap holds the locks for its whole length, what they can do together is any
//! order of traps, with devices in between. Random orders, the invariant after each step.

use hyp::mem_protect::{Error, UncheckedRange};
use model_tests::host::{ABORT, BYPASS, Host, INVALID, ON, QUEUES, STAGE1, Shape};
use model_tests::layout::{EL2, HOST_CMDQ, HOST_EVTQ, HOST_STRTAB, IOVA, SID, VICTIM};
use model_tests::{Defence, Guard, Machine, Setup};
use smmu_model::arch::regs as r;
use smmu_model::{Bbml, Config, Pace, Snoop};

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

const SIDS: [u32; 3] = [0, SID, 63];

/// One step of somebody; what devices do in between is part of it.
fn step(m: &mut Machine, hosts: &mut [Host], rng: &mut Rng, guests: &mut Vec<u64>) {
    let pages = [
        VICTIM,
        VICTIM + 0x1000,
        VICTIM + 0x1f_f000,
        VICTIM + 0x20_0000,
        HOST_CMDQ,
        HOST_EVTQ,
        HOST_STRTAB,
        EL2 - 0x1000,
    ];
    let page = pages[usize::try_from(rng.below(8)).unwrap_or(0)];
    let count = 1 + rng.below(3);
    let which = usize::try_from(rng.below(u64::try_from(hosts.len()).unwrap_or(1))).unwrap_or(0);
    let host = &mut hosts[which];
    let n = host.smmu;
    let sid = SIDS[usize::try_from(rng.below(3)).unwrap_or(0)];
    let range = UncheckedRange { pfn: page / 4096, count };
    match rng.below(16) {
        0 | 1 => {
            let _ = m.donate(page, count);
        }
        2 => {
            let _ = m.give_back(page, count);
        }
        3 => {
            if guests.len() < 3
                && let Ok(guest) = m.owner().vm_create()
            {
                guests.push(u64::from(guest.handle()));
            }
        }
        4 => {
            if let Some(handle) = guests.last().copied() {
                let _ = m.owner().host_donate_guest(range, handle);
            }
        }
        5 => {
            if let Some(handle) = guests.pop() {
                let _ = m.owner().vm_destroy(handle);
            }
            let _ = m.owner().host_reclaim_page(range);
        }
        6 => {
            let _ = m.owner().host_share_hyp(range);
            let _ = m.owner().host_unshare_hyp(range);
        }
        7 => {
            let value = [0, QUEUES, ON, r::CR0_SMMUEN, r::CR0_CMDQEN][usize::try_from(rng.below(5)).unwrap_or(0)];
            m.write32(n, r::CR0, value);
        }
        8 => m.write32(n, r::GBPA, r::GBPA_UPDATE | if rng.below(2) == 0 { r::GBPA_ABORT } else { 0 }),
        9 | 10 => {
            let words = [ABORT, BYPASS, INVALID, STAGE1][usize::try_from(rng.below(4)).unwrap_or(0)];
            host.write_ste(m, sid, words);
            host.queue(m, [u64::from(sid) << 32 | 3, rng.below(2)]);
            host.queue(m, [0x46, 0]);
            host.ring(m);
        }
        11 => {
            host.map(m, IOVA, page);
            host.queue(m, [0x30, 0]);
            host.queue(m, [0x46, 0]);
            host.ring(m);
        }
        12 => {
            let _ = host.events(m);
        }
        13 => {
            let gerror = m.read32(n, r::GERROR);
            m.write32(n, r::GERRORN, gerror);
        }
        _ => {}
    }
    for sid in SIDS {
        let _ = m.dma_write(n, sid, page + rng.below(4096), 0xaa);
        let _ = m.dma_read(n, sid, IOVA);
    }
}

fn run(setup: &Setup, seed: u64, steps: u32, missing: Defence) -> Result<(), String> {
    let mut rng = Rng(seed);
    let mut m = Machine::new(setup);
    m.without(missing);
    let mut hosts: Vec<Host> = (0..setup.smmus).map(|n| Host::enable(&mut m, n, Shape::Linear)).collect();
    hosts[0].context(&m);
    hosts[0].map(&m, IOVA, VICTIM);
    let mut guests = Vec::new();
    for number in 0..steps {
        step(&mut m, &mut hosts, &mut rng, &mut guests);
        m.isolated(&SIDS).map_err(|breach| format!("seed {seed} step {number}: {breach:x?}"))?;
        if !m.secret_intact() {
            return Err(format!("seed {seed} step {number}: EL2's memory changed"));
        }
        if number % 16 == 15 {
            for model in &m.models {
                model.borrow_mut().drop_caches();
            }
        }
    }
    for model in &m.models {
        let hazards = model.borrow_mut().take_hazards();
        if !hazards.is_empty() {
            return Err(format!("seed {seed}: {hazards:x?}"));
        }
    }
    // Everything off: nothing stays claimed, everything can be given away.
    for host in &hosts {
        m.write32(host.smmu, r::CR0, 0);
    }
    if m.claims() != 0 {
        return Err(format!("seed {seed}: {} claims leak", m.claims()));
    }
    Ok(())
}

fn setups() -> Vec<Setup> {
    let few = |config| Setup { guard: Guard::El2, ..Setup::guarded().with(Config { sid_bits: 9, ..config }) };
    vec![
        few(Config::qemu()),
        few(Config { pace: Pace::Lazy, seed: 4, ..Config::full() }),
        few(Config { bbml: Bbml::Level0, ril: false, ..Config::qemu() }),
        few(Config { two_level: false, ..Config::qemu() }),
        few(Config { snoop: Snoop::NonCoherent, ..Config::qemu() }),
        Setup { smmus: 2, ..few(Config::qemu()) },
    ]
}

#[test]
fn t38_any_order_of_traps_and_transitions() {
    for (index, setup) in setups().iter().enumerate() {
        for seed in 1..4 {
            if let Err(error) = run(setup, seed * 7919 + u64::try_from(index).unwrap_or(0), 120, Defence::Whole) {
                panic!("setup {index}: {error}");
            }
        }
    }
}

#[test]
fn t38_the_same_without_a_defence_is_caught() {
    for missing in [Defence::NoUnmap, Defence::NoInvalidate, Defence::WrongPage, Defence::OnePage] {
        let caught = (1..12).any(|seed| run(&setups()[0], seed, 120, missing).is_err());
        assert!(caught, "{missing:?}");
    }
    let two = setups().pop().unwrap_or_else(Setup::guarded);
    assert!((1..12).any(|seed| run(&two, seed, 120, Defence::FirstSmmuOnly).is_err()));
    let _ = Error::Dma;
}
