//! Workarounds of EL2 for errata of CPU cores, as far as a host can observe them.

use crate::boot::secondary_entry;
use crate::firmware::{self, Stat};
use crate::mem::{BLOCK, PAGE, alloc};
use crate::outcome::TestResult;
use crate::registry::Runs;
use crate::setup::Ctx;
use crate::sysreg::{self, midr_el1};
use crate::tests::ownership::{donate, take_back};
use crate::{cpu, ensure, mmio, payload_test, println};

/// MIDR_EL1.PartNum of Arm cores that QEMU has and on which TLBI and DSB must be repeated (Arm's notice 112137, and
/// the revision histories of Cortex-A55): Cortex-A55, A76, A710, Neoverse N1, N2, V1.
const LISTED: [u64; 6] = [0xd05, 0xd0b, 0xd47, 0xd0c, 0xd49, 0xd40];

payload_test!(t62_tlbi_is_repeated, Runs::HYP);
/// On a core where an access through an old translation may complete after TLBI and DSB, every change of owner repeats
/// them; on other cores none is repeated.
fn t62_tlbi_is_repeated(_ctx: &Ctx) -> TestResult {
    let midr = midr_el1();
    let listed = midr >> 24 == 0x41 && LISTED.contains(&(midr >> 4 & 0xfff));
    // The donation of the first page of a block splits it, that of the next page does not, and the last one is of
    // several pages.
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
        ensure!(donated > 0 || !listed, "TLBI and DSB are not repeated in the donation of {base:#x}");
        ensure!(returned > 0 || !listed, "TLBI and DSB are not repeated in the return of {base:#x}");
        ensure!(donated + returned == 0 || listed, "TLBI and DSB are repeated on a core that does not need it");
    }
    Ok(())
}

/// Maximum time in which a CPU enters EL2, in microseconds.
const ENTRY_US: u64 = 20_000;

payload_test!(t62_refused_core_stays_off, Runs::ON_REQUEST, cpus = 2);
/// For CPUs with the MIDR_EL1 of ThunderX2, whose later threads EL2 refuses: such a thread never runs the
/// host and stays off, and the host gets an error.
fn t62_refused_core_stays_off(ctx: &Ctx) -> TestResult {
    let later = ctx.machine.cpus[1];
    let on = firmware::cpu_on(later, secondary_entry(), 1);
    ensure!(on.is_ok(), "CPU_ON: {on:?}");
    // CPU_ON returns the error after EL2 has refused the core; before that, it returns ON_PENDING.
    let refused = || firmware::cpu_on(later, secondary_entry(), 1) == Err(smccc::psci::error::Error::InternalFailure);
    ensure!(sysreg::poll_us(ENTRY_US, refused), "CPU_ON: {:?}", firmware::cpu_on(later, secondary_entry(), 1));
    ensure!(firmware::is_off(later), "AFFINITY_INFO does not report it off");
    ensure!(!sysreg::poll_us(ENTRY_US, || cpu::has_started(1)), "it runs the host");
    println!("ANNOUNCED CPU 1 stays off: ThunderX2");
    Ok(())
}
