#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn ram(snoop: Snoop) -> Memory {
    let m = Memory::new(snoop);
    m.add(0x1000, 0x2000, Region::Ram);
    m.add(0x8000, 0x1000, Region::Mmio);
    m
}

#[test]
fn a_word_keeps_its_history() {
    let m = ram(Snoop::Coherent);
    m.cpu_write64(0x1000, 5);
    let between = m.tick();
    m.cpu_write64(0x1000, 7);
    let all: Vec<u64> = m.versions(0x1000, 0).unwrap().iter().map(|v| v.value).collect();
    assert_eq!(all, [0, 5, 7]);
    let since: Vec<u64> = m.versions(0x1000, between).unwrap().iter().map(|v| v.value).collect();
    assert_eq!(since, [5, 7]);
    let smmu = m.attach();
    m.drop_history(smmu, m.now());
    assert_eq!(m.versions(0x1000, 0).unwrap().len(), 1);
    assert_eq!(m.versions(0x1000, 0).unwrap()[0].value, 7);
}

#[test]
fn a_non_snooping_device_sees_cleaned_lines_only() {
    let m = ram(Snoop::NonCoherent);
    m.cpu_write64(0x1008, 9);
    assert_eq!(m.dev_read64(0x1008), Ok(0));
    m.clean(0x1008..0x1010);
    assert_eq!(m.dev_read64(0x1008), Ok(9));
    m.dev_write(0x1008, &[1]).unwrap();
    assert_eq!(m.cpu_read64(0x1008), 9);
    m.invalidate(0x1008..0x1010);
    assert_eq!(m.cpu_read64(0x1008), 1);
}

#[test]
fn accesses_outside_the_regions_abort() {
    let m = ram(Snoop::Coherent);
    assert_eq!(m.dev_read64(0x0), Err(ExternalAbort));
    assert_eq!(m.dev_write(0x2ffc, &[1; 8]), Err(ExternalAbort));
    assert_eq!(m.cpu_read32(0x2ffc), 0x0101_0101);
    m.dev_write(0x8004, &[2, 0, 0, 0]).unwrap();
    assert_eq!(m.take_mmio_writes(), [MmioWrite { pa: 0x8004, value: 2, size: 4 }]);
}

#[test]
fn sub_word_accesses_change_only_their_bytes() {
    let m = ram(Snoop::Coherent);
    m.cpu_write(0x1006, &[1, 2, 3]);
    assert_eq!(m.cpu_read64(0x1000), 0x0201_0000_0000_0000);
    assert_eq!(m.cpu_read8(0x1008), 3);
    m.cpu_write32(0x1004, 0x1122_3344);
    assert_eq!(m.cpu_read32(0x1004), 0x1122_3344);
    let mut out = [0; 4];
    m.dev_read(0x1004, &mut out).unwrap();
    assert_eq!(out, [0x44, 0x33, 0x22, 0x11]);
}

#[test]
fn each_saved_state_can_be_restored_in_any_order() {
    let m = ram(Snoop::NonCoherent);
    let words = |m: &Memory| [0x1000, 0x2000, 0x2008].map(|pa| (m.cpu_read64(pa), m.dev_read64(pa).unwrap()));
    m.cpu_write64(0x1000, 1);
    m.clean(0x1000..0x1008);
    let (first, then) = (m.save(), words(&m));
    m.cpu_write64(0x1000, 2);
    m.cpu_write64(0x2000, 2);
    m.clean(0x2000..0x2008);
    let (second, later) = (m.save(), words(&m));
    for _ in 0..2 {
        for (saved, was) in [(&first, then), (&first, then), (&second, later), (&second, later)] {
            m.cpu_write64(0x1000, 9);
            m.cpu_write64(0x2008, 9);
            m.clean(0x1000..0x3000);
            m.restore(saved);
            assert_eq!(words(&m), was);
            assert!(m.save() == *saved);
            m.restore(saved);
        }
    }
}
