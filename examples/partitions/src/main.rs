//! Two guests with a device each, on the model; on bare metal, the same without a console.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare;

#[cfg(not(target_os = "none"))]
fn main() -> Result<(), Box<dyn core::error::Error>> {
    use example_board::{Board, RAM};
    use example_partitions::Partitions;
    use io_pgtable::{Ipa, Pa};

    use smmu_drv::{ProbeConfig, Unassigned};

    // The machine: one SMMU, as firmware describes it. Settings about a host have no effect here.
    let board = Board::new(smmu_model::Config::qemu());
    let config = ProbeConfig { unassigned: Unassigned::Blocked, ..ProbeConfig::new(board.coherency()) };
    let say = |what: &str, sid, ipa| {
        println!("{what}: stream {sid:#x} writes to {ipa:#x}: {:?}", board.dma_write(sid, ipa, 1))
    };

    let mut partitions = Partitions::start([(board.clone(), config, Default::default())], board.tables(), 40, 48)
        .map_err(|error| format!("the SMMU cannot be used: {error:?}"))?;
    say("after take-over", 8, RAM);

    // Each guest has a page at the same IPA, with a different physical address.
    for (vmid, sid, pa) in [(1, 8, RAM), (2, 9, RAM + 0x1000)] {
        partitions.create(vmid).map_err(|error| format!("guest {vmid}: {error:?}"))?;
        partitions.map(vmid, Ipa(0x1_0000), Pa(pa)).map_err(|error| format!("guest {vmid}: {error:?}"))?;
        partitions.give(vmid, 0, sid).map_err(|error| format!("guest {vmid}: {error:?}"))?;
        say("the page of its guest", sid, 0x1_0000);
        say("the physical address of the page", sid, pa);
    }

    partitions.revoke(1, Ipa(0x1_0000)).map_err(|error| format!("revoke: {error:?}"))?;
    say("after the page was revoked", 8, 0x1_0000);
    partitions.faults(|fault| println!("{fault}"));
    Ok(())
}
