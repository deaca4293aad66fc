//! A host with a device: allowed and blocked accesses, and a page that is taken from the host.

use example_below_a_host::Hypervisor;
use example_below_a_host::host::{BYPASS, Host};
use example_board::{Board, POOL, RAM};
use io_pgtable::{Ipa, Pa};

/// The host's memory: two parts, whose physical addresses are not equal to their IPAs and not in the same order.
const RUNS: [(Ipa, Pa, u64); 2] =
    [(Ipa(0), Pa(RAM + 0x200_0000), 0x20_0000), (Ipa(0x20_0000), Pa(RAM + 0x80_0000), 0x20_0000)];
/// A page of the host in the second part.
const PAGE: u64 = 0x30_0000;

fn main() -> Result<(), String> {
    let board = Board::new(smmu_model::Config::qemu());
    let mut el2 = Hypervisor::start(&board, &RUNS)?;
    let mut host = Host::start(board.mem(), &mut el2, Ipa(0x1_0000));
    let say = |what: &str, iova| println!("{what}: a write to {iova:#x}: {:?}", board.dma_write(8, iova, 1));

    say("without an entry of the host", PAGE);
    host.set(&mut el2, 8, BYPASS);
    say("the host's entry bypasses stage 1", PAGE);
    say("memory of the hypervisor", POOL);

    // Only the hypervisor uses stage 2: an entry of the host with a stage 2 is invalid.
    let mut hostile = BYPASS;
    hostile[0] = 1 | 0b110 << 1;
    hostile[3] = 0x1_0000;
    host.set(&mut el2, 8, hostile);
    say("an entry with a stage 2 of the host", PAGE);

    host.set(&mut el2, 8, BYPASS);
    let pa = el2.revoke(Ipa(PAGE)).map_err(|error| format!("{error:?}"))?;
    println!("revoked: the page at {pa}");
    say("the host no longer owns the page", PAGE);
    el2.faults(|fault| println!("fault: {fault}"));
    Ok(())
}
