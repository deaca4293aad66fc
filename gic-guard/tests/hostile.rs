//! A host that does anything at all: after every step hardware reaches EL2's memory only, was used as the architecture
//! demands, no trap took long, and the host can start over.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use gic_guard::emul::{gicr, gits};
use gic_guard::platform::Frame;
use gic_guard::{AccessSize, WriteOutcome};
use gic_model::Hazard;

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

    /// Mostly small, sometimes at an edge.
    fn number(&mut self, small: u64, edges: &[u64]) -> u64 {
        if self.below(6) == 0 { self.pick(edges) } else { self.below(small) }
    }

    fn address(&mut self) -> u64 {
        let base = self.pick(&[RING, DEVICES, COLLECTIONS, PROP, PEND, POOL, GUEST, RAM + RAM_SIZE, 0, 1 << 40, !0]);
        base.wrapping_add(self.pick(&[0, 0, 0, 0x1000, 0xf000, 0x1_0000])) & 0xf_ffff_ffff_f000
    }

    fn command(&mut self) -> Cmd {
        let device = self.number(6, &[8191, 8192, 0xffff, 0x1_0000, 0xffff_ffff]);
        let event = self.number(6, &[15, 16, 8191, 8192, 0xffff_ffff]);
        let lpi = 8192 + self.number(24, &[!8191 & 0xffff_ffff, 57_343, 57_344]);
        let icid = self.number(4, &[511, 512, 0xffff]);
        let cpu = self.number(5, &[0xffff_ffff]);
        let other = self.below(5);
        match self.below(16) {
            0 | 1 => mapd(device, 1 + self.number(5, &[12, 13, 31])),
            2 => unmapd(device),
            3 => mapc(icid, cpu),
            4 => unmapc(icid),
            5..8 => mapti(device, event, lpi & 0xffff_ffff, icid),
            8 => mapi(device, lpi & 0xffff_ffff, icid),
            9 => movi(device, event, icid),
            10 => self.pick(&[inv(device, event), int(device, event), clear(device, event)]),
            11 => discard(device, event),
            12 => self.pick(&[invall(icid), movall(cpu, other)]),
            13 => [self.next(), self.next(), self.next(), self.next()],
            14 => [self.below(0x30) | self.next() << 32, self.next(), self.next(), self.next()],
            _ => sync(cpu),
        }
    }
}

/// A store that the host may or may not repeat.
fn store(rig: &mut Rig, random: &mut Random, frame: Frame, offset: u32, size: AccessSize, value: u64) {
    for _ in 0..4000 {
        if rig.once(frame, offset, size, value) == WriteOutcome::Done {
            return;
        }
        // An interrupt handler, or another CPU, does something else meanwhile.
        if random.below(8) == 0 {
            return;
        }
    }
    panic!("the host repeats its store for ever");
}

fn step(rig: &mut Rig, random: &mut Random) {
    let its = random.below(rig.config.its as u64) as usize;
    let cpu = random.below(rig.config.cpus as u64) as usize;
    match random.below(12) {
        0..5 => {
            let count = random.below(12) + 1;
            let commands: Vec<Cmd> = (0..count).map(|_| random.command()).collect();
            let tail = rig.queue(its, &commands);
            store(rig, random, Frame::Its(its), r::CWRITER, AccessSize::Double, tail);
        }
        5 => {
            let (_, offset, ..) = gits::Register::ROWS[random.below(gits::Register::ROWS.len() as u64) as usize];
            let size = random.pick(&[AccessSize::Word, AccessSize::Double]);
            let value =
                if random.below(2) == 0 { random.next() } else { random.address() | random.next() & (7 << 61 | 0xfff) };
            let at = offset + random.pick(&[0, 0, 4, 1]);
            store(rig, random, Frame::Its(its), at, size, value);
            rig.read(Frame::Its(its), offset, size);
        }
        6 => {
            let (_, offset, ..) = gicr::Register::ROWS[random.below(gicr::Register::ROWS.len() as u64) as usize];
            let size = random.pick(&[AccessSize::Word, AccessSize::Double]);
            let value = if random.below(2) == 0 { random.next() } else { random.address() | 15 };
            let at = offset + random.pick(&[0, 0, 4, 1]);
            store(rig, random, Frame::Rd(cpu), at, size, value);
            rig.read(Frame::Rd(cpu), offset, size);
        }
        7 => {
            let enable = random.below(2);
            store(rig, random, Frame::Rd(cpu), r::CTLR, AccessSize::Word, enable);
        }
        8 => {
            let enable = random.below(2);
            store(rig, random, Frame::Its(its), r::CTLR, AccessSize::Word, enable);
        }
        9 => {
            // A sound start, so that the rest means something.
            if rig.guard.failed(its).is_none() {
                rig.linux_its(its);
            }
            rig.set_rd64(cpu, r::PROPBASER, r::RD_WB | PROP | 15);
            rig.set_rd32(cpu, r::CTLR, 1);
        }
        10 => {
            let (lpi, byte) = (8192 + random.below(24), random.next() as u8);
            rig.configure(lpi, byte);
            let page = random.pick(&[PROP, RING, RING + 0x1000]);
            if random.below(4) == 0 {
                rig.host.donated.insert(page);
            } else {
                rig.host.donated.clear();
            }
        }
        _ => {
            for _ in 0..4 {
                let (device, event) = (random.below(6), random.below(6));
                rig.model().translate(its, device, event);
            }
        }
    }
}

fn machine(random: &mut Random) -> Config {
    Config {
        its: 1 + random.below(2) as usize,
        cpus: 1 + random.below(4) as usize,
        device_bits: random.pick(&[8, 16, 16, 20]),
        itt_entry: random.pick(&[8, 12, 16]),
        device_entry: random.pick(&[8, 16]),
        indirect: random.below(3) != 0,
        page_size: random.pick(&[None, None, Some(0), Some(1)]),
        virtual_lpis: random.below(2) == 0,
        addresses: random.below(2) == 0,
        shareable: random.below(3) != 0,
        clearable: random.below(2) == 0,
        collection_table: random.below(4) != 0,
        dies_after: if random.below(8) == 0 { Some((0, random.below(60))) } else { None },
        stalls: if random.below(8) == 0 { Some((random.below(16), random.below(6) as u32)) } else { None },
        seed: random.next(),
        ..Config::qemu()
    }
}

/// Plays `steps` actions on each of `machines` machines.
fn play(seed: u64, machines: u32, steps: u32) {
    let mut random = Random(seed);
    for _ in 0..machines {
        let config = machine(&mut random);
        let sound = config.dies_after.is_none() && config.stalls.is_none();
        let mut rig = Rig::new(config);
        for _ in 0..steps {
            step(&mut rig, &mut random);
            let hazards = rig.model().hazards();
            if sound {
                assert_eq!(hazards, [], "{config:?}");
            } else {
                assert!(!hazards.iter().any(|hazard| matches!(hazard, Hazard::Foreign(..))), "{hazards:?} {config:?}");
            }
            let foreign = rig.model().foreign();
            assert_eq!(foreign, [], "{config:?}");
            let memory = rig.board.memory().clone();
            rig.guard.audit(|pa, size| memory.is_given(pa.0, size as u64)).unwrap();
        }
        rig.host.donated.clear();
        if sound {
            start_over(&mut rig);
        }
    }
}

/// Another kernel starts, and has interrupts.
fn start_over(rig: &mut Rig) {
    for its in 0..rig.config.its {
        rig.linux_its(its);
    }
    for cpu in 0..rig.config.cpus {
        rig.set_rd32(cpu, r::CTLR, 0);
        rig.linux_cpu(cpu);
    }
    rig.delivered();
    for its in 0..rig.config.its {
        let lpi = 8192 + its as u64;
        rig.configure(lpi, 0xa1);
        rig.post(its, &[mapd(8, 3), mapti(8, 0, lpi, 0), inv(8, 0), sync(0)]);
        assert_eq!(rig.raise(its, 8, 0), [(0, lpi as u32)]);
    }
}

#[test]
fn no_host_aims_the_gic_at_memory_that_is_not_el2s() {
    play(0x9e37_79b9_7f4a_7c15, 60, 150);
}

#[test]
#[ignore = "long: run by hand, PORTCULLIS_SEED in the environment"]
fn no_host_aims_the_gic_at_memory_that_is_not_el2s_for_long() {
    let seed = std::env::var("PORTCULLIS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    play(seed, 2000, 300);
}
