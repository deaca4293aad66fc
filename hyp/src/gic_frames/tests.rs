use super::*;

const QEMU: u64 = 0x80a_0000;

fn region(base: u64, size: u64) -> PhysRange {
    PhysRange::new(Pa(base), size).unwrap()
}

const LAST: u64 = 1 << 4;

/// GICR_TYPER of redistributors at `base` and above, `size` bytes each, of CPUs 0 to `count` - 1. The last one has Last
/// set.
fn typers(base: u64, size: u64, count: u64, fields: u64) -> impl Fn(Pa) -> u64 {
    move |pa: Pa| {
        let n = (pa.0 - base) / size;
        assert_eq!((pa.0 - base) % size, 8, "no RD frame");
        assert!(n < count, "no frame at this address");
        n << 32 | fields | if n + 1 == count { LAST } else { 0 }
    }
}

fn list(set: &RangeSet<16>) -> std::vec::Vec<PhysRange> {
    set.iter().copied().collect()
}

#[test]
fn a_region_is_divided_by_its_registers() {
    let qemu = region(QEMU, 0xf6_0000);
    let found = find([qemu].iter(), 0..2, typers(QEMU, 0x2_0000, 2, 1)).unwrap();
    assert_eq!(
        found.iter().map(|rd| rd.range).collect::<std::vec::Vec<_>>(),
        [region(QEMU, 0x2_0000), region(QEMU + 0x2_0000, 0x2_0000)]
    );
    assert_eq!(found[1].sgi(), Some(region(QEMU + 0x3_0000, 0x1_0000)));
}

#[test]
fn t45_the_host_gets_sgi_frames_only() {
    for (size, fields) in [(0x2_0000, 1), (0x4_0000, 3)] {
        let qemu = region(QEMU, 0xf6_0000);
        let rds = find([qemu].iter(), 0..2, typers(QEMU, size, 2, fields)).unwrap();
        let its = region(0x808_0000, 0x2_0000);
        let mut mmio = RangeSet::<16>::new();
        for given in [region(0x800_0000, 0x1_0000), its, qemu, region(0x900_0000, 0x1000)] {
            mmio.insert(given).unwrap();
        }
        remove_withheld(&mut mmio, [qemu].iter(), &rds, [its].into_iter()).unwrap();
        // No frame after the last redistributor, and no VLPI frame.
        let sgi = [region(QEMU + 0x1_0000, 0x1_0000), region(QEMU + size + 0x1_0000, 0x1_0000)];
        assert_eq!(list(&mmio), [region(0x800_0000, 0x1_0000), sgi[0], sgi[1], region(0x900_0000, 0x1000)]);
        // Frames that the policy withholds are not given.
        let mut mmio = RangeSet::<16>::new();
        remove_withheld(&mut mmio, [qemu].iter(), &rds, [its].into_iter()).unwrap();
        assert_eq!(list(&mmio), []);
    }
}

#[test]
fn t45_a_redistributor_longer_than_its_region_is_refused() {
    let cut = |size, fields| find([region(QEMU, size)].iter(), 0..2, typers(QEMU, 0x4_0000, 2, fields)).map(|_| ());
    assert_eq!(cut(0x2_0000, 3), Err(FramesError::Cut(Pa(QEMU))));
    assert_eq!(cut(0x6_0000, 3), Err(FramesError::Cut(Pa(QEMU + 0x4_0000))));
    assert_eq!(cut(0x1_0000, 3), Err(FramesError::Cut(Pa(QEMU))), "it is not read");
    assert_eq!(cut(0x8_0000, 3), Ok(()));
    let unaligned = region(QEMU + 0x1000, 0x8_0000);
    assert_eq!(find([unaligned].iter(), 0..2, |_| 1).map(|_| ()), Err(FramesError::Unaligned(unaligned)));
}

#[test]
fn t45_redistributors_must_match_the_cpus() {
    let qemu = region(QEMU, 0x8_0000);
    let error = |cpus: core::ops::Range<u64>, count| {
        find([qemu].iter(), cpus, typers(QEMU, 0x2_0000, count, 1)).map(|_| ()).unwrap_err()
    };
    // One redistributor is after the one with Last, or outside every region.
    assert_eq!(error(0..3, 2), FramesError::Missing(2));
    // There is one redistributor more than CPUs.
    assert_eq!(error(0..3, 4), FramesError::Unknown(Pa(QEMU + 0x6_0000), 3));
    let again = find([qemu].iter(), 0..2, |_| 1).map(|_| ());
    assert_eq!(again, Err(FramesError::Twice(Pa(QEMU + 0x2_0000), 0)));
    let endless = find([qemu].iter(), 0..9, |pa| (((pa.0 - QEMU) / 0x2_0000) << 32) | 1).map(|_| ());
    assert_eq!(endless, Err(FramesError::NoLast(qemu)));
    // All fields of the affinity are compared, at their positions in MPIDR_EL1.
    let cpu = |pa: Pa| 0x0403_0201_u64 << 32 | LAST | u64::from(pa.0 == 0) | 1;
    assert!(find([qemu].iter(), [0x04_8003_0201_u64].into_iter(), cpu).is_ok());
    assert_eq!(
        find([qemu].iter(), [0x05_8003_0201_u64].into_iter(), cpu).map(|_| ()),
        Err(FramesError::Unknown(Pa(QEMU), 0x0403_0201))
    );
}

#[test]
fn too_many_redistributors_are_refused() {
    let base = 0x1000_0000;
    let find = |count| find([region(base, count * 0x2_0000)].iter(), 0..count, typers(base, 0x2_0000, count, 1));
    assert_eq!(find(64).unwrap().len(), 64);
    assert_eq!(find(65).map(|_| ()), Err(FramesError::TooMany));
}

#[test]
fn t45_a_redistributor_stride_is_refused_in_every_node() {
    use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
    let gic = |name: &str| {
        let mut tree = DeviceTree::new();
        let mut soc = DeviceTreeNode::new("soc").unwrap();
        let mut gic = DeviceTreeNode::new("interrupt-controller@8000000").unwrap();
        gic.add_property(DeviceTreeProperty::new(name, [0_u32, 0x4_0000]).unwrap());
        soc.add_child(gic);
        tree.root.add_child(soc);
        tree.to_dtb()
    };
    assert_eq!(check_stride(&gic("redistributor-stride")), Err(FramesError::Stride));
    assert_eq!(check_stride(&gic("reg")), Ok(()));
    assert_eq!(check_stride(&[]), Err(FramesError::Stride));
}

#[test]
fn t44_a_gic_without_snooping_is_identified_by_machine_or_node() {
    use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
    let machine = |compatible: &str, node: &str, name: &str| {
        let mut tree = DeviceTree::new();
        let text = |text: &str| [text.as_bytes(), b"\0"].concat();
        tree.root.add_property(DeviceTreeProperty::new("compatible", text(compatible)).unwrap());
        let mut soc = DeviceTreeNode::new("soc").unwrap();
        let mut gic = DeviceTreeNode::new("interrupt-controller@8000000").unwrap();
        gic.add_property(DeviceTreeProperty::new("compatible", text(node)).unwrap());
        gic.add_property(DeviceTreeProperty::new(name, std::vec::Vec::<u8>::new()).unwrap());
        soc.add_child(gic);
        tree.root.add_child(soc);
        snooping(&tree.to_dtb())
    };
    let quiet = "dma-coherent";
    assert_eq!(machine("linux,dummy-virt", "arm,gic-v3", quiet), Ok(Snooping::AsReported));
    assert_eq!(machine("rockchip,rk3588", "arm,gic-v3", quiet), Ok(Snooping::Never));
    assert_eq!(machine("rockchip,rk3588s", "arm,gic-v3", quiet), Ok(Snooping::Never));
    assert_eq!(machine("linux,dummy-virt", "arm,gic-v3", "dma-noncoherent"), Ok(Snooping::Never));
    assert_eq!(machine("linux,dummy-virt", "arm,gic-v3-its", "dma-noncoherent"), Ok(Snooping::Never));
    assert_eq!(machine("linux,dummy-virt", "arm,pl011", "dma-noncoherent"), Ok(Snooping::AsReported));
    for machine_name in NARROW {
        assert_eq!(machine(machine_name, "arm,gic-v3", quiet), Err(FramesError::Erratum(machine_name)));
    }
    assert_eq!(snooping(&[]), Ok(Snooping::Never));
}

#[test]
fn the_number_of_lpis_is_the_distributors() {
    // QEMU: 16 bits. With num_LPIs: 2^16, 2^14, 2^13 and, against the architecture, 2^2 LPIs.
    let typer = |bits: u32, number: u32| (bits - 1) << 19 | number << 11;
    assert_eq!(intid_bits(typer(16, 0)), 16);
    assert_eq!(intid_bits(typer(24, 15)), 16);
    assert_eq!(intid_bits(typer(16, 13)), 14);
    assert_eq!(intid_bits(typer(16, 12)), 14);
    assert_eq!(intid_bits(typer(16, 1)), 13, "none");
}
