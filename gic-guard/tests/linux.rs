//! Accesses of the Linux driver have the same results as on hardware.
#![allow(clippy::unwrap_used)]

use gic_tests::*;

/// LPI 8192 + n, enabled, priority 0xa0.
const ON: u8 = 0xa1;

fn machines() -> Vec<Config> {
    let qemu = Config::qemu();
    vec![
        qemu,
        Config { virtual_lpis: true, ..qemu },
        Config { addresses: true, cpus: 4, ..qemu },
        Config { indirect: false, ..qemu },
        Config { page_size: Some(0), seed: 5, ..qemu },
        Config { page_size: Some(1), device_entry: 16, itt_entry: 16, ..qemu },
        Config { shareable: false, clearable: false, ..qemu },
        Config { collection_table: false, device_bits: 8, ..qemu },
        Config { its: 3, cpus: 8, seed: 9, ..qemu },
        Config { device_bits: 20, ..qemu },
    ]
}

#[test]
fn an_interrupt_reaches_the_cpu_that_linux_chose() {
    for config in machines() {
        let mut rig = Rig::linux(config);
        for its in 0..config.its {
            let lpi = 8192 + 64 * its as u64;
            rig.configure(lpi, ON);
            rig.post(its, &[mapd(8, 5)]);
            rig.post(its, &[mapti(8, 3, lpi, 0), sync(0)]);
            rig.post(its, &[inv(8, 3), sync(0)]);
            assert_eq!(rig.raise(its, 8, 3), [(0, lpi as u32)], "{config:?}");
            assert_eq!(rig.raise(its, 8, 2), [], "another event");
            assert_eq!(rig.raise(its, 9, 3), [], "another device");
            rig.post(its, &[movi(8, 3, 1), sync(0)]);
            assert_eq!(rig.raise(its, 8, 3), [(1, lpi as u32)]);
            // A masked interrupt is pending, and is delivered when it is unmasked.
            rig.configure(lpi, 0xa0);
            rig.post(its, &[inv(8, 3), sync(1)]);
            assert_eq!(rig.raise(its, 8, 3), []);
            rig.configure(lpi, ON);
            rig.post(its, &[inv(8, 3), sync(1)]);
            assert_eq!(rig.delivered(), [(1, lpi as u32)]);
            rig.post(its, &[discard(8, 3), sync(1)]);
            assert_eq!(rig.raise(its, 8, 3), []);
            rig.post(its, &[unmapd(8)]);
            rig.check();
        }
    }
}

#[test]
fn memory_is_freed_when_a_device_is_unmapped() {
    let mut rig = Rig::linux(Config::qemu());
    rig.post(0, &[mapd(8, 5)]);
    let live = rig.live();
    for round in 0..20 {
        rig.post(0, &[mapd(16, 5 + round % 3)]);
        let events: Vec<_> = (0..32).map(|event| mapti(16, event, 8200 + event, event % 2)).collect();
        rig.post(0, &events);
        rig.post(0, &[unmapd(16)]);
        assert_eq!(rig.live(), live, "round {round}");
    }
}

#[test]
fn a_resumed_cpu_can_map_its_collection_again() {
    let mut rig = Rig::linux(Config::qemu());
    rig.configure(8192, ON);
    rig.post(0, &[mapd(8, 5), mapti(8, 0, 8192, 1), sync(1)]);
    let before = rig.guard.stats().commands;
    rig.post(0, &[mapc(1, 1), sync(1), invall(1), sync(1)]);
    assert_eq!(rig.guard.stats().commands - before, 3, "the mapping did not change");
    assert_eq!(rig.raise(0, 8, 0), [(1, 8192)]);
}

#[test]
fn interrupts_follow_a_collection_that_is_mapped_to_another_cpu() {
    let mut rig = Rig::linux(Config::qemu());
    for lpi in 0..8 {
        rig.configure(8192 + lpi, ON);
    }
    rig.post(0, &[mapd(8, 5)]);
    for event in 0..8 {
        rig.post(0, &[mapti(8, event, 8192 + event, 0)]);
    }
    rig.post(0, &[mapc(0, 1), sync(1), movall(0, 1), sync(0)]);
    for event in 0..8 {
        assert_eq!(rig.raise(0, 8, event), [(1, 8192 + event as u32)]);
    }
    rig.post(0, &[unmapc(0), sync(1)]);
    assert_eq!(rig.raise(0, 8, 0), [], "the collection is not mapped");
    rig.post(0, &[mapc(0, 0), sync(0)]);
    assert_eq!(rig.raise(0, 8, 0), [(0, 8192)]);
}

#[test]
fn invall_reads_every_configuration_byte() {
    let mut rig = Rig::linux(Config::qemu());
    rig.post(0, &[mapd(8, 11)]);
    let lpis: Vec<u64> = (0..2048).map(|n| 8192 + n * 28).collect();
    for (event, lpi) in lpis.iter().enumerate() {
        rig.post(0, &[mapti(8, event as u64, *lpi, 0)]);
    }
    assert_eq!(rig.raise(0, 8, 100), []);
    for lpi in &lpis {
        rig.configure(*lpi, ON);
    }
    let tail = rig.queue(0, &[invall(0), sync(0)]);
    rig.set_its64(0, r::CWRITER, tail);
    assert!(rig.traps > 5, "{} traps", rig.traps);
    // The interrupt that was pending when it was disabled, and all later ones.
    assert_eq!(rig.delivered(), [(0, lpis[100] as u32)]);
    for (event, lpi) in lpis.iter().enumerate() {
        assert_eq!(rig.raise(0, 8, event as u64), [(0, *lpi as u32)]);
    }
    rig.check();
}

#[test]
fn a_second_kernel_starts_without_mappings() {
    for clearable in [true, false] {
        let mut rig = Rig::linux(Config { clearable, ..Config::qemu() });
        rig.configure(8192, ON);
        rig.post(0, &[mapd(8, 5), mapti(8, 0, 8192, 0), sync(0)]);
        let live = rig.live();
        // The new kernel disables the ITS, sets other tables, then disables and enables LPIs.
        rig.linux_its(0);
        assert!(rig.live() < live, "the devices of the old kernel are unmapped");
        for cpu in 0..2 {
            rig.set_rd32(cpu, r::CTLR, 0);
            assert_eq!(rig.rd32(cpu, r::CTLR) & 1, 0);
            rig.linux_cpu(cpu);
        }
        assert_eq!(rig.raise(0, 8, 0), []);
        rig.post(0, &[mapd(8, 5), mapti(8, 0, 8192, 1), sync(1)]);
        assert_eq!(rig.raise(0, 8, 0), [(1, 8192)]);
        rig.check();
    }
}

#[test]
fn rewriting_tables_with_the_same_values_keeps_their_mappings() {
    let mut rig = Rig::linux(Config::qemu());
    rig.configure(8192, ON);
    rig.post(0, &[mapd(8, 5), mapti(8, 0, 8192, 0), sync(0)]);
    // Linux does this at suspend and resume.
    let baser = [rig.its64(0, r::BASER0), rig.its64(0, r::BASER1)];
    let cbaser = rig.its64(0, r::CBASER);
    rig.set_its32(0, r::CTLR, 0);
    assert_eq!(rig.its32(0, r::CTLR), 1 << 31);
    assert_eq!(rig.raise(0, 8, 0), [], "the ITS is off");
    rig.set_its64(0, r::CBASER, cbaser);
    rig.set_its64(0, r::CWRITER, 0);
    rig.set_its64(0, r::BASER0, baser[0]);
    rig.set_its64(0, r::BASER1, baser[1]);
    rig.set_its32(0, r::CTLR, 1);
    rig.tail[0] = 0;
    assert_eq!(rig.raise(0, 8, 0), [(0, 8192)]);
    rig.check();
}
