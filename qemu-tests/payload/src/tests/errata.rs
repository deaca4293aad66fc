//! Errata of CPU cores that EL2 has to work around, as far as a host can see it.

use crate::boot::secondary_entry;
use crate::firmware::{self, Stat};
use crate::lab::Ctx;
use crate::mem::{BLOCK, PAGE, alloc};
use crate::outcome::TestResult;
use crate::registry::Runs;
use crate::sysreg::{self, midr_el1};
use crate::tests::ownership::{donate, take_back};
use crate::{cpu, ensure, mmio, payload_test, println};

/// MIDR_EL1.PartNum of cores by Arm that QEMU has and on which TLBI and DSB have to be repeated (Arm's notice 112137, and the revision
/// histories of Cortex-A55): Cortex-A55, A76, A710, Neoverse N1, N2, V1.
const LISTED: [u64; 6] = [0xd05, 0xd0b, 0xd47, 0xd0c, 0xd49, 0xd40];

payload_test!(t62_tlbi_is_repeated, Runs::HYP);
/// On a core where an access by an old translation may complete after TLBI and DSB, every change of owner repeats them;
/// on other cores none does.
fn t62_tlbi_is_repeated(_ctx: &Ctx) -> TestResult {
    let midr = midr_el1();
    let listed = midr >> 24 == 0x41 && LISTED.contains(&(midr >> 4 & 0xfff));
    // The first page of a block splits it, the next does not, and the last leaves a run.
    let block = alloc(BLOCK, BLOCK);
    for (page, pages) in [(0, 1), (1, 1), (4, 3)] {
        let base = block + page * PAGE;
        mmio::write64(base, 0x5a5a);
        let before = firmware::stat(Stat::TlbiRepeats);
        donate(base, pages)?;
        let donated = firmware::stat(Stat::TlbiRepeats) - before;
        take_back(base, pages)?;
        let returned = firmware::stat(Stat::TlbiRepeats) - before - donated;
        println!("MIDR {midr:#x}: {donated} and {returned} repetitions");
        ensure!(donated > 0 || !listed, "nothing is repeated before {base:#x} is EL2's");
        ensure!(returned > 0 || !listed, "nothing is repeated before {base:#x} is the host's again");
        ensure!(donated + returned == 0 || listed, "TLBI and DSB are repeated on a core that does not need it");
    }
    Ok(())
}

/// Time for a CPU to enter EL2, in microseconds.
const ENTRY_US: u64 = 20_000;

payload_test!(t62_refused_core_stays_off, Runs::ON_REQUEST, cpus = 2);
/// For cores that identify themselves as ThunderX2, whose later threads EL2 refuses: such a thread never runs the
/// host, is off for good, and the host gets the error.
fn t62_refused_core_stays_off(ctx: &Ctx) -> TestResult {
    let later = ctx.machine.cpus[1];
    let on = firmware::cpu_on(later, secondary_entry(), 1);
    ensure!(on.is_ok(), "CPU_ON: {on:?}");
    // CPU_ON answers once EL2 has refused the core; before, it is pending.
    let refused = || firmware::cpu_on(later, secondary_entry(), 1) == Err(smccc::psci::error::Error::InternalFailure);
    ensure!(sysreg::poll_us(ENTRY_US, refused), "CPU_ON: {:?}", firmware::cpu_on(later, secondary_entry(), 1));
    ensure!(firmware::is_off(later), "AFFINITY_INFO does not report it off");
    ensure!(!sysreg::poll_us(ENTRY_US, || cpu::has_started(1)), "it runs the host");
    println!("ANNOUNCED CPU 1 stays off: ThunderX2");
    Ok(())
}
