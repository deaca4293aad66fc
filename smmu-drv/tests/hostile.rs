//! A host that takes random steps. After each step, no stream can reach EL2's memory, and hardware was used as the
//! architecture requires; at the end the host can program its SMMU again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{
    BUF, CDTAB, CMDQ, EVTQ, GBPA_ABORT, GBPA_UPDATE, L2TAB, POOL, RAM, RAM_SIZE, Rig, STRTAB, SYNC, r, sync_irq,
    two_level_cfg,
};
use smmu_drv::emul::table::Register;
use smmu_drv::{AccessSize, Stale, WriteOutcome};
use smmu_model::{Config, Pace, Snoop};

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// An address that a hostile host may try.
    fn address(&mut self) -> u64 {
        let base = self.pick(&[
            STRTAB,
            L2TAB,
            CDTAB,
            CMDQ,
            EVTQ,
            BUF,
            POOL,
            POOL + 0x10_0000,
            RAM + RAM_SIZE,
            0,
            1 << 40,
            u64::MAX,
        ]);
        base.wrapping_add(self.pick(&[0, 0, 0, 8, 64, 0x1000, 0xffc0])) & !7
    }

    /// An entry that is nearly legal.
    fn ste(&mut self) -> [u64; 8] {
        let pointer = self.address() & 0x00ff_ffff_ffff_ffc0;
        let config = self.below(8);
        let v = u64::from(self.below(8) != 0);
        let extra = self.pick(&[0, 0, 0, 1 << 59, 3 << 4, 4 << 59]);
        let dw1 = if self.below(2) == 0 { self.next() } else { 1 << 2 | 1 << 4 | 3 << 6 };
        [v | config << 1 | pointer | extra, dw1, self.next(), self.next(), self.next(), 0, 0, self.next()]
    }

    fn command(&mut self) -> [u64; 2] {
        let sid = self.below(40) << 32;
        match self.below(9) {
            0 | 1 => [3 | sid, self.below(2)],
            2 => [4 | sid, self.below(6)],
            3 => [4, 31],
            4 => [self.pick(&[5, 6, 0x10, 0x11, 0x12, 0x13, 0x30]) | sid, self.next() & !0xfff],
            5 => sync_irq(self.next(), self.address()),
            6 => [self.next(), self.next()],
            _ => SYNC,
        }
    }
}

fn step(rig: &mut Rig, random: &mut Random) {
    match random.below(12) {
        0 => {
            let row = Register::ROWS[random.below(Register::ROWS.len() as u64) as usize];
            let size = random.pick(&[AccessSize::Word, AccessSize::Double]);
            let value = if random.below(2) == 0 { random.next() } else { random.address() | random.below(32) };
            again(rig, row.1 + random.pick(&[0, 0, 0, 4]), size, value);
        }
        1 => {
            let cr0 = random.below(32);
            again(rig, r::CR0, AccessSize::Word, cr0);
        }
        2 => again(rig, r::GBPA, AccessSize::Word, random.pick(&[GBPA_UPDATE, GBPA_UPDATE | GBPA_ABORT])),
        3 => {
            // Instead of stage 1, a correct set-up, so that the later steps have an effect.
            rig.write(r::CR0, 0);
            let gerror = rig.read(r::GERROR);
            rig.write(r::GERRORN, gerror);
            rig.enable_queues();
            rig.write64(r::STRTAB_BASE, STRTAB);
            let cfg = random.pick(&[5, 8, two_level_cfg(12, 8), two_level_cfg(12, 6)]);
            rig.write(r::STRTAB_BASE_CFG, cfg);
            again(rig, r::CR0, AccessSize::Word, 0xd);
        }
        4 | 5 => {
            let (sid, words) = (random.below(32) as u32, random.ste());
            rig.ste(sid, words);
        }
        6 => {
            // A level-1 descriptor, or a word that will be read as one.
            let at = STRTAB + random.below(16) * 8;
            let value = random.address() & !0x1f | random.below(13);
            rig.store(at, value);
        }
        7..=9 => {
            for _ in 0..random.below(6) {
                let command = random.command();
                rig.queue(command);
            }
            let prod = if random.below(10) == 0 { random.next() } else { u64::from(rig.prod) };
            again(rig, r::CMDQ_PROD, AccessSize::Word, prod);
            let slot = CMDQ + (rig.read(r::CMDQ_CONS) & 0xff) * 16;
            rig.store(slot, SYNC[0]);
            let gerror = rig.read(r::GERROR);
            again(rig, r::GERRORN, AccessSize::Word, gerror);
        }
        10 => {
            let sid = random.below(40) as u32;
            let iova = random.pick(&[0, BUF, POOL, 0x1000]);
            let _ = rig.dma_write(sid, iova, 1);
            let _ = rig.read(r::EVENTQ_PROD);
        }
        _ => {
            let page = RAM + random.below(RAM_SIZE / 4096) * 4096;
            if rig.host.donate(page) {
                rig.host.owned.insert(page / 4096);
            }
            rig.smmu.tlb_invalidate_host(Stale::All).unwrap();
            rig.smmu.poll_events(&mut rig.host);
        }
    }
}

/// A store that other CPUs may interrupt: it is repeated a few times, and is not always completed.
fn again(rig: &mut Rig, offset: u32, size: AccessSize, value: u64) {
    for _ in 0..4 {
        if rig.smmu.mmio_write(&mut rig.host, offset, size, value) == WriteOutcome::Done {
            return;
        }
    }
}

fn run(config: &Config, seed: u64) {
    let mut rig = Rig::new(config.clone());
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    rig.context(1);
    for n in 0..24 {
        step(&mut rig, &mut random);
        if n % 6 == 5 {
            for sid in [0, 7] {
                assert!(!rig.el2_reachable(sid), "seed {seed} step {n}");
            }
        }
        for written in rig.board.0.model.borrow().originated_writes() {
            assert!((POOL..POOL + common::POOL_SIZE).contains(&written.pa), "hardware writes EL2's queues only");
        }
    }
    assert_eq!(rig.hazards(), [], "seed {seed} {config:?}");
    assert_eq!(rig.smmu.stats().cmdq_recoveries, 0, "seed {seed}");
    assert_eq!(rig.smmu.failed(), None);
    assert_eq!(rig.mem().take_mmio_writes(), []);
    // Start over.
    rig.write(r::CR0, 0);
    assert_eq!(rig.read(r::CR0ACK), 0);
    assert!(rig.host.claims.is_empty(), "seed {seed}");
    let gerror = rig.read(r::GERROR);
    rig.write(r::GERRORN, gerror);
    rig.write(r::GBPA, GBPA_UPDATE);
    rig.enable_linear(5);
    rig.set_ste(3, common::BYPASS);
    assert_eq!(rig.dma_write(3, BUF, 1), smmu_model::Transfer::Done, "seed {seed}");
}

#[test]
fn random_hosts_reach_no_memory_of_el2() {
    let configs = [
        Config::qemu(),
        Config { pace: Pace::Lazy, ..Config::full() },
        Config { two_level: false, sid_bits: 10, pace: Pace::Lazy, ..Config::qemu() },
        Config { snoop: Snoop::NonCoherent, ril: false, ssid_bits: 4, cd2l: true, ..Config::qemu() },
    ];
    for seed in 1..=seeds() {
        for config in &configs {
            run(&Config { seed, ..config.clone() }, seed);
        }
    }
}

/// Number of seeds; `SMMU_SEEDS` overrides it. Miri takes minutes for one.
fn seeds() -> u64 {
    let few = if cfg!(miri) { 1 } else { 6 };
    std::env::var("SMMU_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}
