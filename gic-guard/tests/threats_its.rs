//! A host that attacks through the tables of an ITS: hardware reads and writes EL2's memory only.
#![allow(clippy::unwrap_used)]

use gic_tests::*;

const ON: u8 = 0xa1;

/// Addresses that a host must not make the GIC use: EL2's memory, a guest's memory, a range across the end of the
/// host's memory, and an address without memory.
const TARGETS: [u64; 6] = [POOL, POOL + 0x12_0000, GUEST, RAM + RAM_SIZE - 0x1000, RAM - 0x1000, 0xf_ffff_ffff_0000];

#[test]
fn t45a_table_bases_are_stored_and_never_reach_hardware() {
    for config in [Config::qemu(), Config { virtual_lpis: true, ..Config::qemu() }] {
        let mut rig = Rig::linux(config);
        let hardware: Vec<u64> = (0..8).map(|n| rig.model().read64(gic_model::Place::Its(0), 0x100 + n * 8)).collect();
        rig.set_its32(0, r::CTLR, 0);
        for target in TARGETS {
            for page in 0..3 {
                for form in [r::VALID, r::VALID | r::INDIRECT, 0] {
                    for n in 0..8_u32 {
                        let kind = rig.its64(0, 0x100 + n * 8) & (7 << 56 | 0x1f << 48);
                        let value = form | target & 0xffff_ffff_f000 | page << 8 | 0xff | 3 << 10 | 7 << 53;
                        rig.set_its64(0, 0x100 + n * 8, value | 7 << 56 | 0x1f << 48);
                        let shown = if kind == 0 { 0 } else { value | kind };
                        assert_eq!(rig.its64(0, 0x100 + n * 8), shown, "GITS_BASER{n}");
                    }
                    rig.set_its32(0, r::CTLR, 1);
                    rig.check();
                    if rig.its32(0, r::CTLR) & 1 == 1 {
                        rig.tail[0] = rig.its64(0, r::CREADR);
                        rig.post(0, &[mapd(40, 3), mapc(1, 1), mapti(40, 0, 9000, 1), sync(1), unmapd(40)]);
                    }
                    rig.set_its32(0, r::CTLR, 0);
                }
            }
        }
        let after: Vec<u64> = (0..8).map(|n| rig.model().read64(gic_model::Place::Its(0), 0x100 + n * 8)).collect();
        assert_eq!(hardware, after);
    }
}

#[test]
fn t45b_level_1_entries_of_the_host_never_reach_hardware() {
    let mut rig = Rig::linux(Config::qemu());
    for (n, target) in TARGETS.into_iter().cycle().take(8192).enumerate() {
        rig.board.memory().write64(DEVICES + n as u64 * 8, r::VALID | target);
    }
    let devices = [0, 8191, 8192, 0x8000, 0xffff];
    for (n, device) in devices.into_iter().enumerate() {
        rig.post(0, &[mapd(device, 4), mapti(device, 15, 8192 + n as u64, 0), sync(0)]);
        rig.configure(8192 + n as u64, ON);
        rig.post(0, &[inv(device, 15), sync(0)]);
        // The tables change while the device is mapped.
        rig.board.memory().zero(DEVICES, 0x1_0000);
        assert_eq!(rig.raise(0, device, 15), [(0, 8192 + n as u32)]);
    }
    // Commands did not read the tables either.
    rig.host.on_read = Some(Box::new(|_, at| assert!(!(DEVICES..DEVICES + 0x1_0000).contains(&at))));
    rig.post(0, &[mapd(77, 4), unmapd(77)]);
}

#[test]
fn t45c_a_queue_outside_host_memory_is_not_read() {
    for target in TARGETS {
        let mut rig = Rig::linux(Config::qemu());
        rig.set_its32(0, r::CTLR, 0);
        let value = r::VALID | r::ITS_WB | target & 0xf_ffff_ffff_f000 | 3;
        rig.set_its64(0, r::CBASER, value);
        assert_eq!(rig.its64(0, r::CBASER), value);
        assert_eq!(rig.its64(0, r::CREADR), 0);
        let refused = rig.guard.stats().claims_refused;
        rig.set_its32(0, r::CTLR, 1);
        rig.host.on_read = Some(Box::new(|_, at| assert!((RAM..RAM + RAM_SIZE).contains(&at), "{at:#x} was read")));
        rig.set_its64(0, r::CWRITER, 0x3fe0);
        let stalled = rig.its64(0, r::CREADR) & 1;
        assert_eq!(stalled, 1, "{target:#x}");
        assert!(rig.guard.stats().claims_refused > refused);
        // The host's memory is read again, but only for a command.
        rig.set_its64(0, r::CWRITER, 0x3fe0);
        assert_eq!(rig.its64(0, r::CREADR) & 1, 1);
        rig.set_its64(0, r::CWRITER, 0x3fe1);
        assert_eq!(rig.its64(0, r::CREADR) & 1, 1);
        rig.check();
    }
}

#[test]
fn t45c_each_word_of_a_command_is_read_once() {
    let mut rig = Rig::linux(Config::qemu());
    let before = rig.host.reads.get();
    rig.post(0, &[mapd(8, 2), mapti(8, 3, 8192, 0), sync(0)]);
    // Three commands, and one word of configuration.
    assert_eq!(rig.host.reads.get() - before, 3 * 4 + 1);
    // Sizes and EventIDs change while they are read.
    rig.host.on_read = Some(Box::new(|memory, at| {
        if at % 32 == 8 {
            memory.write64(at, memory.read64(at) ^ 0xc);
        }
    }));
    let tail = rig.queue(0, &[mapd(9, 2), mapti(9, 100, 8193, 0), sync(0)]);
    rig.set_its64(0, r::CWRITER, tail);
    rig.host.on_read = None;
    rig.model().settle();
    rig.check();
}

#[test]
fn t45d_itts_are_in_el2s_memory_for_any_address_and_size() {
    let mut rig = Rig::linux(Config::qemu());
    for target in TARGETS {
        for bits in 1..=32 {
            rig.post(0, &[[8 << 32 | 8, bits - 1, r::VALID | target & 0xf_ffff_ffff_ff00, 0]]);
            let lpi = 8192 + bits;
            rig.configure(lpi, ON);
            for event in [0, 1, (1 << bits) - 1, 1 << bits] {
                rig.post(0, &[mapti(8, event, lpi, 0), inv(8, event), sync(0)]);
                let there = event < 1 << bits && bits <= 13;
                assert_eq!(!rig.raise(0, 8, event & 0xffff_ffff).is_empty(), there, "{bits} bits, event {event:#x}");
                rig.post(0, &[discard(8, event), sync(0)]);
            }
            // The device is mapped again while events are mapped, and unmapped while an interrupt is pending.
            rig.configure(lpi, 0xa0);
            rig.post(0, &[mapti(8, 0, lpi, 0), inv(8, 0), int(8, 0), mapd(8, 1), unmapd(8)]);
        }
    }
    rig.post(0, &[mapd(0x1_0000, 2), mapd(0xffff_ffff, 2), unmapd(0x1_0000), unmapd(5)]);
    assert!(rig.guard.stats().ignored_commands >= 4);
}

#[test]
fn t45d_memory_is_freed_after_hardware_stopped_using_it() {
    // Late writes of the model reach memory until the next SYNC, at every speed.
    for seed in 1..40 {
        let mut rig = Rig::linux(Config { seed, ..Config::qemu() });
        for round in 0..4 {
            let events = (0..16).map(|event| mapti(8, event, 8192 + event, (event + round) % 2));
            rig.post(0, &[mapd(8, 4)]);
            rig.post(0, &events.collect::<Vec<_>>());
            rig.post(0, &[unmapd(8)]);
            rig.post(0, &[mapd(8, 3), mapd(8, 4), mapd(8, 5), unmapd(8)]);
        }
    }
}

#[test]
fn t45d_memory_of_a_device_that_hardware_refuses_to_unmap_is_kept() {
    // The second MAPD is the one with V = 0.
    let mut rig = Rig::linux(Config { stalls: Some((8, 1)), stalls_after: 1, ..Config::qemu() });
    rig.post(0, &[mapd(8, 4)]);
    let live = rig.live();
    rig.post(0, &[unmapd(8)]);
    assert_eq!(rig.guard.stats().stalls, 1);
    assert_eq!(rig.live(), live);
    // The host continues to use the device, with other memory.
    rig.configure(8192, ON);
    rig.post(0, &[mapd(8, 4), mapti(8, 0, 8192, 0), sync(0)]);
    assert_eq!(rig.live(), live + 0x2000);
    assert_eq!(rig.raise(0, 8, 0), [(0, 8192)]);
    // From now on nothing is freed: hardware may have refused a DISCARD too.
    rig.post(0, &[unmapd(8)]);
    assert_eq!(rig.live(), live + 0x2000);
}

#[test]
fn t45e_numbers_out_of_range_are_refused() {
    let mut rig = Rig::linux(Config::qemu());
    rig.post(0, &[mapd(8, 4), mapd(9, 4)]);
    let ignored = rig.guard.stats().ignored_commands;
    let wrong = [
        mapti(8, 0, 0, 0),
        mapti(8, 0, 1023, 0),
        mapti(8, 0, 8191, 0),
        mapti(8, 0, 0x1_0000, 0),
        mapti(8, 0, 0xffff_ffff, 0),
        mapi(8, 3, 0),
        mapi(8, 8192, 0),
        mapti(8, 16, 8192, 0),
        mapti(8, 0xffff_ffff, 8192, 0),
        mapti(10, 0, 8192, 0),
        mapti(0x1_0000, 0, 8192, 0),
        mapti(8, 0, 8192, 512),
        mapti(8, 0, 8192, 0xffff),
        inv(8, 0),
        int(8, 0),
        clear(8, 0),
        discard(8, 0),
        movi(8, 0, 1),
        inv(8, 999),
        int(11, 0),
    ];
    let commands = rig.guard.stats().commands;
    rig.post(0, &wrong);
    assert_eq!(rig.guard.stats().ignored_commands - ignored, wrong.len() as u64);
    assert_eq!(rig.guard.stats().commands, commands, "nothing was given to hardware");
    // An LPI can be mapped to one event only.
    rig.configure(8192, ON);
    rig.post(0, &[mapti(8, 0, 8192, 0), mapti(9, 0, 8192, 1), mapti(8, 1, 8192, 1), mapti(8, 0, 8193, 1), sync(0)]);
    assert_eq!(rig.guard.stats().ignored_commands - ignored, wrong.len() as u64 + 3);
    assert_eq!(rig.raise(0, 8, 0), [(0, 8192)]);
    assert_eq!(rig.raise(0, 9, 0), []);
    // The collection is not mapped yet: the interrupt is not mapped in hardware.
    rig.configure(8200, ON);
    rig.post(0, &[mapti(8, 2, 8200, 7), sync(0)]);
    assert_eq!(rig.raise(0, 8, 2), []);
    rig.post(0, &[movi(8, 2, 9)]);
    rig.post(0, &[mapc(7, 1), sync(1)]);
    assert_eq!(rig.raise(0, 8, 2), [(1, 8200)]);
}

#[test]
fn t45f_collections_are_mapped_to_existing_enabled_cpus_only() {
    let mut rig = Rig::new(Config { cpus: 4, ..Config::qemu() });
    rig.linux_its(0);
    // No CPU is on: only the mappings of devices reach hardware.
    rig.post(0, &[mapd(8, 4), mapc(0, 0), mapc(1, 3), sync(0), mapti(8, 0, 8192, 0), invall(0), movall(0, 1), sync(3)]);
    assert_eq!(rig.guard.stats().commands, 1);
    rig.post(
        0,
        &[mapc(2, 4), mapc(3, 0xffff_ffff), mapc(512, 0), mapc(0xffff, 0), movall(0, 9), invall(600), sync(77)],
    );
    assert_eq!(rig.guard.stats().commands, 1);
    rig.configure(8192, ON);
    rig.linux_cpu(0);
    assert_eq!(rig.raise(0, 8, 0), [(0, 8192)], "it was pending until the CPU enabled LPIs");
    // The target CPU is off: only the host is affected.
    rig.post(0, &[movi(8, 0, 1), sync(0)]);
    assert_eq!(rig.raise(0, 8, 0), []);
    rig.post(0, &[movall(0, 3), movall(3, 0), movi(8, 0, 5), movi(8, 0, 513)]);
    rig.linux_cpu(3);
    assert_eq!(rig.raise(0, 8, 0), [(3, 8192)]);
    rig.check();
}

#[test]
fn t45d_memory_is_freed_after_quiescence_if_no_cpu_has_lpis() {
    // No redistributor can be the target of a SYNC: EnableLPIs is 0 in all of them, or cannot be set.
    for stays_off in [false, true] {
        let mut rig = Rig::new(Config { stays_off, ..Config::qemu() });
        rig.linux_its(0);
        if stays_off {
            rig.set_rd32(0, r::CTLR, 1);
        }
        let before = rig.live();
        for _ in 0..20 {
            rig.post(0, &[mapd(8, 5), mapti(8, 0, 8192, 0), unmapd(8), mapd(9, 5), mapd(9, 4), unmapd(9)]);
        }
        assert!(rig.live() <= before + 0x1_0000, "all but a level-2 table is free");
        // The ITS is enabled, in hardware and in the host's view.
        assert_eq!(rig.model().read32(gic_model::Place::Its(0), r::CTLR) & 1, 1);
        rig.set_its32(0, r::CTLR, 0);
        assert_eq!(rig.its32(0, r::CTLR), 1 << 31);
    }
}
