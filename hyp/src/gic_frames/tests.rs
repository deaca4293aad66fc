use super::*;

const QEMU: u64 = 0x80a_0000;

fn region(base: u64, size: u64) -> PhysRange {
    PhysRange::new(Pa(base), size).unwrap()
}

#[test]
fn a_region_is_divided_as_its_registers_say() {
    let qemu = region(QEMU, 0xf6_0000);
    // Two CPUs, then nothing.
    let typer = |pa: Pa| if pa.0 == QEMU + 0x2_0008 { 1 << 4 | 1 } else { 1 };
    let found = find([qemu].iter(), typer).unwrap();
    assert_eq!(
        found.iter().map(|rd| rd.range).collect::<std::vec::Vec<_>>(),
        [region(QEMU, 0x2_0000), region(QEMU + 0x2_0000, 0x2_0000)]
    );
    assert_eq!(found[1].kept().collect::<std::vec::Vec<_>>(), [region(QEMU + 0x2_0000, 0x1_0000)]);
}

#[test]
fn virtual_lpis_have_frames_that_are_kept_too() {
    let typer = |pa: Pa| if pa.0 == QEMU + 0x4_0008 { 1 << 4 | 3 } else { 3 };
    let found = find([region(QEMU, 0xf6_0000)].iter(), typer).unwrap();
    assert_eq!(found.len(), 2);
    let kept: std::vec::Vec<_> = found[1].kept().collect();
    assert_eq!(kept, [region(QEMU + 0x4_0000, 0x1_0000), region(QEMU + 0x6_0000, 0x2_0000)]);
}

#[test]
fn nothing_is_read_outside_a_region() {
    let regions = [region(0x1000_0000, 0x6_0000), region(0x2000_0000, 0x3_0000), region(0x3000_0000, 0x1_0000)];
    let reads = core::cell::RefCell::new(std::vec::Vec::new());
    // No one is the last; the second has room for one and a half.
    let found = find(regions.iter(), |pa| {
        reads.borrow_mut().push(pa.0);
        1
    });
    assert_eq!(found.unwrap().len(), 4);
    assert_eq!(*reads.borrow(), [0x1000_0008, 0x1002_0008, 0x1004_0008, 0x2000_0008]);
    // One that says it is longer than its region is none.
    assert_eq!(find([region(0x1000_0000, 0x2_0000)].iter(), |_| 3).unwrap().len(), 0);
}

#[test]
fn more_than_the_guard_has_room_for_are_refused() {
    assert_eq!(find([region(0x1000_0000, 64 * 0x2_0000)].iter(), |_| 1).unwrap().len(), 64);
    assert_eq!(find([region(0x1000_0000, 65 * 0x2_0000)].iter(), |_| 1).map(|_| ()), Err(TooMany));
}

#[test]
fn lpis_are_as_many_as_the_distributor_says() {
    // QEMU: 16 bits. With num_LPIs: 2^16, 2^14, 2^13 and, against the architecture, 2^2 LPIs.
    let typer = |bits: u32, number: u32| (bits - 1) << 19 | number << 11;
    assert_eq!(intid_bits(typer(16, 0)), 16);
    assert_eq!(intid_bits(typer(24, 15)), 16);
    assert_eq!(intid_bits(typer(16, 13)), 14);
    assert_eq!(intid_bits(typer(16, 12)), 14);
    assert_eq!(intid_bits(typer(16, 1)), 13, "none");
}
