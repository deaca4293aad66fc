//! Every test of the EL1 payload as one named test case, one boot each: `hyp/max-4/t05_…` is the test `t05_…` under
//! Portcullis on four CPUs of type `max`; `open` is the build without isolation, on which the attacks must land, and
//! `native` is a machine without a hypervisor, which tests the payload's own drivers.
//!
//! Images and `PORTCULLIS_DEADLINE` come from the environment (see [`Images::from_env`]); `cargo xtask test` builds the
//! images and sets the variables.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use test_machines::boot_input::{BAD_TREES, BadTree};
use test_machines::console::DmaFault;
use test_machines::firmware::{FIRMWARE, Firmware};
use test_machines::load_address::{LOAD_ADDRESSES, LoadAddress, misplaced_is_refused};
use test_machines::packages;
use test_machines::payload::{
    CONSOLE_OFF, Clock, DEADLINE, HypervisorKind, Images, Listed, REFUSED_CORE, Run, SHARED_CONSOLE, Verdict, list,
};
use test_machines::trap_log;
use test_machines::two_smmus::{self, Smmus};

/// The tests of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Suite {
    /// All applicable tests.
    All,
    /// Tests of the host's start and its CPUs, the attacks of the demonstration, and tests that depend on features of
    /// the CPU model.
    Core,
    /// Tests of the ID registers and of the features in them.
    Features,
}

/// Prefixes of the names in [`Suite::Core`].
const CORE: [&str; 11] =
    ["boot_", "smp_", "mmio_", "el2_", "stale_", "smmu_off", "bypass_stream", "t30_", "t39_", "t49_", FEATURES];

/// Prefix of the names in [`Suite::Features`].
const FEATURES: &str = "t66_";

/// The machines of the suite: `-cpu`, `-smp`, `-m`.
const MACHINES: [(HypervisorKind, &str, u32, &str, Suite); 10] = [
    (HypervisorKind::Native, "max", 4, "1G", Suite::All),
    (HypervisorKind::Portcullis, "max", 1, "1G", Suite::All),
    (HypervisorKind::Portcullis, "max", 4, "1G", Suite::All),
    (HypervisorKind::Portcullis, "cortex-a76", 4, "1G", Suite::All),
    (HypervisorKind::Portcullis, "neoverse-n1", 2, "512M", Suite::Core),
    (HypervisorKind::Portcullis, "cortex-a76", 8, "8G", Suite::Core),
    (HypervisorKind::Portcullis, "neoverse-v1", 1, "1G", Suite::Features),
    (HypervisorKind::Portcullis, "cortex-a710", 1, "1G", Suite::Features),
    (HypervisorKind::WithoutIsolation, "max", 1, "1G", Suite::All),
    (HypervisorKind::WithoutIsolation, "cortex-a76", 4, "1G", Suite::Core),
];

/// Prefix of the tests that also run on machines with a GICv4, which has frames at other addresses and more tables.
/// QEMU supports it only with EL2.
const GIC: &str = "t45";
/// The machines with a GICv4: the hypervisor and `-smp`.
const GICV4_MACHINES: [(HypervisorKind, u32); 3] =
    [(HypervisorKind::Portcullis, 1), (HypervisorKind::Portcullis, 4), (HypervisorKind::WithoutIsolation, 1)];
/// QEMU's arguments for a GICv4.
const GICV4: [&str; 2] = ["-machine", "gic-version=4"];

/// The tests on a machine whose pool and ownership map are larger than the gigabyte that has the image.
const LARGE: [&str; 2] = ["boot_el1", "stale_donated"];
/// QEMU's arguments for 128 GiB: a page of the machine's memory exists once it is written.
const LARGE_ARGS: [&str; 4] =
    ["-object", "memory-backend-ram,id=ram,size=128G,reserve=off", "-machine", "memory-backend=ram"];

/// Prefix of the tests that need two SMMUs, and the machines on which they run: the hypervisor, `-smp`. QEMU has
/// such machines since version 11.
const TWO_SMMUS: &str = "t34_";
const TWO_SMMUS_MACHINES: [(HypervisorKind, u32); 3] =
    [(HypervisorKind::Portcullis, 1), (HypervisorKind::Portcullis, 4), (HypervisorKind::WithoutIsolation, 1)];

/// The test whose device causes more faults than EL2 prints at once.
const EVENT_FLOOD: &str = "t43_event_flood";

/// Maximum number of bytes that EL2 writes to its console in a trap (docs/smmu-emulation.md).
const TRAP_BYTES: usize = 128;

impl Suite {
    fn has(self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Core => CORE.iter().any(|prefix| name.starts_with(prefix)),
            Self::Features => name.starts_with(FEATURES),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let Some(images) = Images::from_env() else {
        let trial = Trial::ignorable_test("payload", || {
            Ok(Completion::ignored_with("no images: run cargo xtask test, which builds them and runs these tests"))
        });
        return libtest_mimic::run(&arguments, vec![trial]).exit_code();
    };
    let images = Arc::new(images);
    match list(&images, &run_dir("list")) {
        Ok(tests) => libtest_mimic::run(&arguments, trials(&images, &tests)).exit_code(),
        Err(error) => {
            eprintln!("cannot list the payload's tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_dir(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("payload").join(name.replace('/', "-"))
}

/// The value of `PORTCULLIS_DEADLINE` in seconds, for slow builds.
fn deadline() -> Duration {
    let seconds = std::env::var("PORTCULLIS_DEADLINE").ok().and_then(|text| text.parse().ok());
    seconds.map_or(DEADLINE, Duration::from_secs)
}

fn trials(images: &Arc<Images>, tests: &[Listed]) -> Vec<Trial> {
    let mut trials = Vec::new();
    for (hypervisor, cpu, smp, mem, suite) in MACHINES.into_iter().filter(|(hypervisor, ..)| images.has(*hypervisor)) {
        let fits = |test: &&Listed| test.runs.contains(&hypervisor) && test.cpus <= smp && suite.has(&test.name);
        for test in tests.iter().filter(fits) {
            trials.push(payload_trial(images, test, hypervisor, (cpu, smp, mem), &[], ""));
        }
        if hypervisor == HypervisorKind::Portcullis && suite == Suite::All {
            trials.extend(BAD_TREES.map(|bad_tree| bad_tree_trial(images, bad_tree, cpu, smp)));
        }
        if (hypervisor, cpu, smp) == (HypervisorKind::Portcullis, "max", 1) {
            trials.extend(FIRMWARE.map(|firmware| firmware_trial(images, firmware)));
            trials.extend(LOAD_ADDRESSES.map(|place| load_address_trial(images, place)));
            trials.push(misplaced_trial(images));
            trials.push(console_off_trial(images));
            trials.push(trap_bytes_trial(images));
            trials.push(refused_core_trial(images));
        }
        if hypervisor == HypervisorKind::Portcullis && suite == Suite::All && smp > 3 {
            trials.push(shared_console_trial(images, cpu));
        }
    }
    for (hypervisor, smp) in GICV4_MACHINES.into_iter().filter(|(hypervisor, _)| images.has(*hypervisor)) {
        let fits = |test: &&Listed| test.runs.contains(&hypervisor) && test.cpus <= smp && test.name.starts_with(GIC);
        for test in tests.iter().filter(fits) {
            trials.push(payload_trial(images, test, hypervisor, ("max", smp, "1G"), &GICV4, "-gicv4"));
        }
    }
    if images.has(HypervisorKind::Portcullis) {
        for name in LARGE {
            let Some(test) = tests.iter().find(|test| test.name == name) else { panic!("the payload has no {name}") };
            let machine = ("cortex-a76", 4, "128G");
            trials.push(payload_trial(images, test, HypervisorKind::Portcullis, machine, &LARGE_ARGS, "-128G"));
        }
    }
    if packages::qemu::is_newer(&images.qemu) {
        for (hypervisor, smp) in TWO_SMMUS_MACHINES.into_iter().filter(|(hypervisor, _)| images.has(*hypervisor)) {
            let fits = |test: &&Listed| test.name.starts_with(TWO_SMMUS);
            trials.extend(tests.iter().filter(fits).map(|test| two_smmus_trial(images, test, hypervisor, smp)));
        }
    }
    trials
}

/// A machine with two SMMUs: with isolation, EL2 must have recorded faults of the devices behind both.
fn two_smmus_trial(images: &Arc<Images>, test: &Listed, hypervisor: HypervisorKind, smp: u32) -> Trial {
    let name = format!("{}/max-{smp}-two-smmus/{}", hypervisor.name(), test.name);
    let (images, test, dir) = (Arc::clone(images), test.clone(), run_dir(&name));
    Trial::test(name, move || {
        let (smmus, deadline) = (Smmus::Two, deadline());
        let run = Run { smp, smmus, deadline, ..Run::new(&images, hypervisor, &test.name) }.run(&dir);
        let report = run.and_then(|report| report.verdict().map(|verdict| (report, verdict)));
        let (report, verdict) = report.map_err(|error| Failed::from(format!("{error:#}")))?;
        if let Verdict::Skipped(reason) = verdict {
            return Err(Failed::from(reason));
        }
        let second = |fault: &&DmaFault| fault.sid.is_some_and(|sid| two_smmus::SECOND_BUS_SIDS.contains(&sid));
        let (behind, before): (Vec<_>, Vec<_>) = report.faults.iter().partition(second);
        if hypervisor == HypervisorKind::Portcullis && (behind.is_empty() || before.is_empty()) {
            return Err(Failed::from(format!("EL2 recorded faults of one side only (consoles in {})", dir.display())));
        }
        Ok(())
    })
}

/// One test on one machine: `-cpu`, `-smp`, `-m`, and other arguments for QEMU.
fn payload_trial(
    images: &Arc<Images>,
    test: &Listed,
    hypervisor: HypervisorKind,
    (cpu, smp, mem): (&'static str, u32, &'static str),
    qemu_args: &'static [&'static str],
    suffix: &str,
) -> Trial {
    let name = format!("{}/{cpu}-{smp}{suffix}/{}", hypervisor.name(), test.name);
    let (images, test, dir) = (Arc::clone(images), test.clone(), run_dir(&name));
    Trial::ignorable_test(name, move || {
        let (clock, deadline) = (test.clock, deadline());
        let el2_options = &test.el2_options;
        let run =
            Run { cpu, smp, mem, clock, deadline, el2_options, qemu_args, ..Run::new(&images, hypervisor, &test.name) };
        let verdict = run.run(&dir).and_then(|report| report.verdict());
        match verdict.map_err(|error| Failed::from(format!("{error:#}")))? {
            Verdict::Passed => Ok(Completion::Completed),
            Verdict::Skipped(reason) => Ok(Completion::ignored_with(reason)),
        }
    })
}

/// One UART for EL2 and the host: three CPUs write forged last lines while the fourth powers off; EL2's own line must
/// be last.
fn shared_console_trial(images: &Arc<Images>, cpu: &'static str) -> Trial {
    let name = format!("{}/{cpu}-4-one-uart/{SHARED_CONSOLE}", HypervisorKind::Portcullis.name());
    let (images, dir) = (Arc::clone(images), run_dir(&name));
    Trial::test(name, move || {
        let run = Run::new(&images, HypervisorKind::Portcullis, SHARED_CONSOLE);
        let report = Run { cpu, smp: 4, clock: Clock::Real, deadline: deadline(), ..run }.run(&dir);
        let checked = report.and_then(|report| report.verdict().map(|_| report));
        let report = checked.map_err(|error| Failed::from(format!("{error:#}")))?;
        // Three CPUs write concurrently, so complete forged lines are rare: search for fragments.
        if report.outcome.host_console.matches('=').count() < 100 {
            return Err(Failed::from(format!("the host has not forged a line (consoles in {})", dir.display())));
        }
        Ok(())
    })
}

/// One UART for EL2 and the host, which disables it: EL2's later output must still be transmitted.
fn console_off_trial(images: &Arc<Images>) -> Trial {
    let name = format!("{}/max-1-one-uart/{CONSOLE_OFF}", HypervisorKind::Portcullis.name());
    let (images, dir) = (Arc::clone(images), run_dir(&name));
    Trial::test(name, move || {
        // The emulator transmits them, but logs bytes that a real UART would not have sent.
        let qemu_args = &["-d", "guest_errors"];
        let run = Run { qemu_args, deadline: deadline(), ..Run::new(&images, HypervisorKind::Portcullis, CONSOLE_OFF) };
        let report = run.run(&dir).and_then(|report| report.verdict().map(|_| report));
        let messages = report.map_err(|error| Failed::from(format!("{error:#}")))?.outcome.qemu_messages;
        let lost = messages.matches("written to disabled").count();
        if lost > 0 {
            return Err(Failed::from(format!("{lost} bytes were written while the UART was off")));
        }
        Ok(())
    })
}

/// A flood of faults: EL2 writes a bounded number of bytes to its console in a trap, independent of the number of
/// faults.
fn trap_bytes_trial(images: &Arc<Images>) -> Trial {
    let name = format!("{}/max-1/t65_bytes_of_each_trap", HypervisorKind::Portcullis.name());
    let (images, dir) = (Arc::clone(images), run_dir(&name));
    Trial::test(name, move || {
        let run = Run::new(&images, HypervisorKind::Portcullis, EVENT_FLOOD);
        let report = Run { qemu_args: &trap_log::QEMU_ARGS, deadline: deadline(), ..run }.run(&dir);
        let checked = report.and_then(|report| report.verdict().map(|_| report));
        let report = checked.map_err(|error| Failed::from(format!("{error:#}")))?;
        let traps = trap_log::bytes_per_trap(&report.outcome.qemu_messages);
        // The maximum must be reached: EL2 had more output.
        let most = traps.iter().max().copied().unwrap_or(0);
        if most != TRAP_BYTES {
            let count = traps.len();
            return Err(Failed::from(format!("{most} bytes in one of {count} traps (log in {})", dir.display())));
        }
        Ok(())
    })
}

/// A CPU that EL2 refuses: it never runs the host.
fn refused_core_trial(images: &Arc<Images>) -> Trial {
    let name = format!("{}/thunderx2-2/{REFUSED_CORE}", HypervisorKind::Portcullis.name());
    let (images, dir) = (Arc::clone(images), run_dir(&name));
    Trial::test(name, move || {
        let run = Run { smp: 2, deadline: deadline(), ..Run::new(&images, HypervisorKind::Portcullis, REFUSED_CORE) };
        let verdict = run.run(&dir).and_then(|report| report.verdict());
        verdict.map(|_| ()).map_err(|error| Failed::from(format!("{error:#}")))
    })
}

/// Boot input tests, in which the payload must not run.
fn bad_tree_trial(images: &Arc<Images>, bad_tree: BadTree, cpu: &'static str, smp: u32) -> Trial {
    let name = format!("{}/{cpu}-{smp}/{}", HypervisorKind::Portcullis.name(), bad_tree.name);
    let (images, dir) = (Arc::clone(images), run_dir(&name));
    Trial::test(name, move || {
        bad_tree.is_refused(&images, cpu, smp, &dir).map_err(|error| Failed::from(format!("{error:#}")))
    })
}

/// Tests EL2 at another address; with several CPUs, also their start.
fn load_address_trial(images: &Arc<Images>, place: LoadAddress) -> Trial {
    let name = format!("{}/max-{}-at-{}/el2_read", HypervisorKind::Portcullis.name(), place.smp, place.name);
    let (images, dir) = (Arc::clone(images), run_dir(&name));
    Trial::test(name, move || {
        let tests: &[&str] = if place.smp > 1 { &["el2_read", "smp_start"] } else { &["el2_read"] };
        let mut runs = tests.iter().map(|test| place.run(&images, test, &dir.join(test), deadline()));
        runs.try_for_each(|run| run.map_err(|error| Failed::from(format!("{error:#}"))))
    })
}

/// Tests EL2 at an address between two pages.
fn misplaced_trial(images: &Arc<Images>) -> Trial {
    let name = format!("{}/max-1/boot_between_two_pages", HypervisorKind::Portcullis.name());
    let (images, dir) = (Arc::clone(images), run_dir(&name));
    Trial::test(name, move || {
        misplaced_is_refused(&images, &dir, deadline()).map_err(|error| Failed::from(format!("{error:#}")))
    })
}

/// Tests with other firmware than that of QEMU.
fn firmware_trial(images: &Arc<Images>, firmware: Firmware) -> Trial {
    let name = format!("{}/max-{}/{}", HypervisorKind::Portcullis.name(), firmware.cpus(), firmware.name);
    let (images, dir) = (Arc::clone(images), run_dir(&name));
    Trial::test(name, move || firmware.run(&images, &dir).map_err(|error| Failed::from(format!("{error:#}"))))
}
