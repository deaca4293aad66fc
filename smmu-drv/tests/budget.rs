//! Each trap makes progress for every request of the host: each step that is restarted in the next trap fits in one
//! budget, on every part.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::cell::Cell;

use common::{Board, L2TAB, Rig, STRTAB, r, tlbi_nh_asid, two_level_cfg};
use smmu_drv::budget::MOST_SYNCS;
use smmu_drv::errata::{Issue, Quirks};
use smmu_drv::{AccessSize, ProbeConfig, WriteOutcome};
use smmu_model::Config;

/// Block 1, of 256 entries.
const SID: u32 = 0x100;

fn part(config: Config, issue: Issue) -> Rig {
    let quirks = Quirks { issue, ..Quirks::default() };
    let firmware = ProbeConfig { quirks, ..common::firmware(&config) };
    Rig::on(Board::new(config), firmware)
}

/// An entry whose change takes three stores.
fn nested(context: u64) -> [u64; 2] {
    [common::dw0(common::CONFIG_S1, common::CDTAB | context << 6), (context % 4) << 2]
}

#[test]
fn a_level_2_table_that_is_added_and_removed_does_not_block_a_command() {
    for issue in [Issue::Once, Issue::Twice] {
        for cmdq_bits in [3, 8] {
            let mut rig = part(Config { sid_bits: 16, cmdq_bits, ..Config::qemu() }, issue);
            rig.enable_queues();
            rig.mem().cpu_write(STRTAB, &[0; 64]);
            rig.mem().cpu_write(L2TAB, &[0; 0x4000]);
            let descriptor = STRTAB + u64::from(SID >> 8) * 8;
            rig.store(descriptor, L2TAB | 9);
            rig.write64(r::STRTAB_BASE, STRTAB);
            rig.write(r::STRTAB_BASE_CFG, two_level_cfg(10, 8));
            rig.write(r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
            let fill = |mem: &smmu_model::Memory, context| {
                for n in 0..256 {
                    let [dw0, dw1] = nested(context);
                    mem.cpu_write64(L2TAB + n * 64, dw0);
                    mem.cpu_write64(L2TAB + n * 64 + 8, dw1);
                }
            };
            fill(rig.mem(), 1);
            rig.issue(&[[4, 31]]);
            // The descriptor is invalid when EL2 looks up the entry, and valid when EL2 walks the block; the entries
            // differ each time.
            rig.store(descriptor, 0);
            let (mem, context) = (rig.mem().clone(), Cell::new(1));
            rig.host.on_read = Some(Box::new(move |at| {
                if at == descriptor {
                    let back = mem.cpu_read64(descriptor) == 0;
                    mem.cpu_write64(descriptor, if back { L2TAB | 9 } else { 0 });
                    if back {
                        context.set(context.get() + 1);
                        fill(&mem, context.get());
                    }
                }
            }));
            rig.queue(common::cfgi_ste(SID));
            rig.queue(common::SYNC);
            let prod = u64::from(rig.prod);
            let mut traps = 1;
            while rig.smmu.mmio_write(&mut rig.host, r::CMDQ_PROD, AccessSize::Word, prod) == WriteOutcome::Again {
                traps += 1;
                assert!(traps < 20, "{issue:?}: the store never completes");
            }
            rig.host.on_read = None;
            assert_eq!(rig.read(r::CMDQ_CONS), prod);
            assert_eq!(rig.hazards(), []);
        }
    }
}

#[test]
fn a_trap_sends_no_more_syncs_than_were_charged() {
    for issue in [Issue::Once, Issue::Twice] {
        for cmdq_bits in [3, 5, 8] {
            let mut rig = part(Config { sid_bits: 16, cmdq_bits, ..Config::qemu() }, issue);
            rig.enable_queues();
            rig.mem().cpu_write(STRTAB, &[0; 2048]);
            rig.write64(r::STRTAB_BASE, STRTAB);
            rig.write(r::STRTAB_BASE_CFG, two_level_cfg(16, 8));
            let mut worst = 0;
            let mut store = |rig: &mut Rig, offset, value| {
                loop {
                    let before = rig.smmu.stats().syncs;
                    let outcome = rig.smmu.mmio_write(&mut rig.host, offset, AccessSize::Word, value);
                    worst = worst.max(rig.smmu.stats().syncs - before);
                    if outcome == WriteOutcome::Done {
                        break;
                    }
                }
            };
            // The shared table of every block is replaced, which needs a command for each block.
            store(&mut rig, r::CR0, r::CMDQEN | r::EVENTQEN | r::SMMUEN);
            (0..254).for_each(|asid| rig.queue(tlbi_nh_asid(asid)));
            rig.queue(common::SYNC);
            let prod = u64::from(rig.prod);
            store(&mut rig, r::CMDQ_PROD, prod);
            assert_eq!(rig.read(r::CMDQ_CONS), prod);
            assert!(worst <= u64::from(MOST_SYNCS), "{worst} with {issue:?}, a queue of 2^{cmdq_bits}");
        }
    }
}
