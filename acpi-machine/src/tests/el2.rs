//! EL2 accepts the tree: the parts of the machine that the host gets in the finished plan.

use std::string::ToString;
use std::vec::Vec;

use dtoolkit::Node;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::DeviceTree;
use hyp::boot_info::policy::{Given, Verdict};
use hyp::boot_info::{BootError, Evaluated, PhysRange, Request, evaluate};
use io_pgtable::Pa;

use super::build::*;
use super::virt::*;
use crate::Range;

pub(super) fn range(range: Range) -> PhysRange {
    PhysRange::new(Pa(range.base), range.size).unwrap()
}

/// Runs EL2's parser, policy and check of the plan on the tree.
pub(super) fn evaluated(dtb: &[u8]) -> Result<Evaluated<'_>, BootError<'_>> {
    let part = |at: u64, size: u64| range(Range { base: OWN.base + at, size });
    let request = Request {
        image: part(0, MIB),
        dtb: part(2 * MIB, dtb.len() as u64),
        record: part(4 * MIB, 4096),
        pool_size: 16 * MIB,
        kernel_header: None,
    };
    evaluate(dtb, &request)
}

/// Checks that the plan for `machine` gives, withholds and executes these ranges.
fn check(machine: &Machine, given: &[Range], withheld: &[Range], code: &[Range]) {
    let dtb = machine.describe().unwrap().dtb;
    let Evaluated { platform, policy, layout } = evaluated(&dtb).unwrap_or_else(|error| panic!("{error}"));
    for one in given {
        assert!(policy.mmio().contains(&range(*one)), "{one:x?} in {}", policy.mmio());
    }
    for one in withheld {
        assert!(!policy.mmio().overlaps(&range(*one)), "{one:x?} in {}", policy.mmio());
        assert!(!layout.host_ram.overlaps(&range(*one)), "{one:x?} in {}", layout.host_ram);
        assert!(!policy.code().overlaps(&range(*one)), "{one:x?} in {}", policy.code());
    }
    assert!(policy.code().iter().copied().eq(code.iter().copied().map(range)));
    for decision in policy.decisions() {
        let path = platform.path(decision.node).to_string();
        let expected = match path.split('@').next().unwrap() {
            "/iommu" => matches!(decision.verdict, Verdict::Emulated),
            "/pci" => matches!(decision.verdict, Verdict::Given(Given::PciBuses { .. })),
            _ => matches!(decision.verdict, Verdict::Given(_)),
        };
        assert!(expected, "{path}: {}", decision.verdict);
    }
    // The pool follows the image, in EL2's memory.
    assert!(range(OWN).contains(&layout.pool) && range(OWN).contains(&layout.image));
}

const WINDOWS: [Range; 2] =
    [Range { base: 0x1000_0000, size: 0x2f00_0000 }, Range { base: 0x80_0000_0000, size: 1 << 39 }];

#[test]
fn t70_el2_accepts_the_machine_with_one_smmu() {
    let own_end = OWN.base + OWN.size;
    let machine = virt();
    let given = [
        Range { base: 0x900_0000, size: 0x1000 },
        Range { base: 0x800_0000, size: 0x1_0000 },
        FLASH,
        RTC,
        WINDOWS[0],
        WINDOWS[1],
    ];
    let withheld = [
        Range { base: SMMU, size: 0x2_0000 },
        // Configuration space, which traps, also of buses that no SMMU covers.
        Range { base: ECAM, size: 256 * MIB },
        // fw_cfg, virtio slots and the second UART are in no table.
        Range { base: 0x902_0000, size: 0x1000 },
        Range { base: 0xa00_0000, size: 0x4000 },
        Range { base: 0x904_0000, size: 0x1000 },
        // Memory that the firmware reserved.
        Range { base: own_end + 10 * MIB, size: 0x1_0000 },
        Range { base: OWN.base, size: MIB },
    ];
    check(&machine, &given, &withheld, &[CODE]);
    let dtb = machine.describe().unwrap().dtb;
    let Evaluated { platform, layout, .. } = evaluated(&dtb).unwrap();
    assert_eq!(platform.cpus.len(), 4);
    let interrupts = platform.smmus[0].interrupts;
    let intid = |spi: Option<hyp::boot_info::gic::Spi>| spi.unwrap().intid;
    assert_eq!(
        [interrupts.eventq, interrupts.priq, interrupts.gerror, interrupts.cmdq_sync].map(intid),
        [106, 107, 109, 108]
    );
    // All memory that the firmware and operating systems use.
    for (base, size) in [(0x4000_0000, 0x3400_0000), (own_end, 10 * MIB), (own_end + 10 * MIB + 0x1_0000, 22 * MIB)] {
        assert!(layout.host_ram.contains(&range(Range { base, size })), "{}", layout.host_ram);
    }
}

#[test]
fn t70_el2_accepts_the_machine_with_two_smmus() {
    let mut machine = virt_two();
    // The second root bridge has a window of its own.
    machine.spaces.push(mmio(0x100_0000_0000, 1 << 30, 1));
    machine.apertures.push(crate::Aperture {
        segment: 0,
        first_bus: 8,
        cpu: Range { base: 0x100_0000_0000, size: MIB },
        bus: 0x100_0000_0000,
    });
    let given = [FLASH, RTC, WINDOWS[0], Range { base: 0x100_0000_0000, size: 1 << 30 }];
    let withheld = [
        Range { base: 0xc00_0000, size: 0x4_0000 },
        Range { base: ECAM, size: 256 * MIB },
        Range { base: OWN.base, size: MIB },
    ];
    // The first bridge's 64-bit window is contiguous with it.
    machine.spaces.retain(|space| space.range.base != 0x80_0000_0000);
    machine.apertures.retain(|aperture| aperture.cpu.base != 0x80_0000_0000);
    check(&machine, &given, &withheld, &[CODE]);
    let dtb = machine.describe().unwrap().dtb;
    let platform = evaluated(&dtb).unwrap().platform;
    assert_eq!(platform.pci.iter().map(|host| host.buses).collect::<Vec<_>>(), [(0, 0), (8, 10)]);
    let ids = platform.pci.iter().flat_map(|host| &host.ids).map(|ids| (ids.smmu, ids.rid, ids.count, ids.sid));
    assert_eq!(ids.collect::<Vec<_>>(), [(0, 0, 0x100, 0), (1, 0x800, 0x300, 0x800)]);
}

/// If the map covers every RequesterID, configuration space is mapped.
#[test]
fn t70_a_complete_map_gives_configuration_space() {
    let mut iort = Iort::default();
    let group = iort.group(0);
    let smmu = iort.smmu(SMMU, 106, &[(0, 0x1_0000, 0, group, 0)]);
    iort.root_complex(0, &[(0, 0x1_0000, 0, smmu, 0)]);
    let dtb = virt().with(iort.done()).describe().unwrap().dtb;
    let policy = evaluated(&dtb).unwrap().policy;
    assert!(policy.mmio().contains(&range(Range { base: ECAM, size: 256 * MIB })));
}

/// If no bus is behind an SMMU, the host gets no PCI registers.
#[test]
fn t70_a_pci_segment_behind_no_smmu_is_not_in_the_tree() {
    let mut iort = Iort::default();
    let group = iort.group(0);
    iort.smmu(SMMU, 106, &[(0, 0x1_0000, 0, group, 0)]);
    iort.root_complex(0, &[(0, 0x1_0000, 0, group, 0)]);
    let mut machine = virt().with(iort.done());
    machine.refused(&["behind no SMMUv3"]);
    // Without functions there are no PCI registers and no queues of devices that the firmware has started.
    machine.apertures.clear();
    let dtb = machine.describe().unwrap().dtb;
    let policy = evaluated(&dtb).unwrap().policy;
    for window in WINDOWS {
        assert!(!policy.mmio().overlaps(&range(window)));
    }
    assert!(!policy.mmio().overlaps(&range(Range { base: ECAM, size: 256 * MIB })));
    let tree = DeviceTree::from_fdt(&Fdt::new_unchecked(&dtb));
    assert!(tree.root.children().all(|node| !node.name().starts_with("pci@")));
}

/// If two tables describe the same registers, EL2 refuses the tree or withholds the registers.
#[test]
fn t70_an_smmu_over_other_registers_or_memory_is_never_given() {
    for (base, accepted) in [
        (0x800_0000, false),
        (0x80a_0000, false),
        (0x808_0000, false),
        (0x4100_0000, false),
        (OWN.base, false),
        (0x90a_0000, true),
        (0x1000_0000, true),
        (ECAM, true),
    ] {
        let mut iort = Iort::default();
        let group = iort.group(0);
        let smmu = iort.smmu(base, 106, &[(0, 0x1_0000, 0, group, 0)]);
        iort.root_complex(0, &[(0, 0x100, 0, smmu, 0)]);
        let mut machine = virt().with(iort.done()).with(spcr(3, 32, 3, 0x90a_0000));
        machine.apertures.clear();
        let dtb = machine.describe().unwrap().dtb;
        match evaluated(&dtb) {
            Ok(plan) => {
                assert!(accepted, "{base:#x}");
                let registers = range(Range { base, size: 0x2_0000 });
                assert!(!plan.policy.mmio().overlaps(&registers), "{base:#x}: {}", plan.policy.mmio());
            }
            Err(error) => assert!(!accepted, "{base:#x}: {error}"),
        }
    }
}
