//! The attacking payload: a small host at EL1 that attacks the hypervisor, with drivers for the SMMU, a DMA device and
//! an NVMe. One boot runs one test, named on the kernel command line (`test=NAME`; `test=list` lists them all); the
//! result is a line on the console.
//!
//! | file | content |
//! |---|---|
//! | `el3` | firmware, if the image is started at EL3 |
//! | `boot`, `image`, `vectors`, `mmu`, `sysreg`, `cpu`, `time` | the machine's CPUs |
//! | `machine`, `mem`, `mmio`, `console`, `firmware`, `gic` | what the device tree describes, memory, calls out of EL1 |
//! | `pci`, `edu`, `nvme`, `smmu`, `its` | drivers |
//! | `setup`, `registry`, `outcome` | test support |
//! | `tests` | the tests |
//! | `bench` | benchmarks of EL2 |
// On other targets this is an empty program, so that `cargo check --workspace` and editors work on the build machine.
#![cfg_attr(target_arch = "aarch64", no_std)]
#![no_main]
#![cfg(target_arch = "aarch64")]
// Failures contain their text, since there is no heap.
#![allow(clippy::result_large_err)]

pub mod aarch32;
pub mod access;
pub mod bench;
pub mod boot;
pub mod console;
pub mod cpu;
pub mod edu;
pub mod el3;
pub mod firmware;
pub mod gic;
pub mod image;
pub mod its;
pub mod machine;
pub mod mem;
pub mod mmio;
pub mod mmu;
pub mod num;
pub mod nvme;
pub mod outcome;
pub mod pci;
pub mod random;
pub mod registry;
pub mod setup;
pub mod smmu;
pub mod sysreg;
pub mod tests;
pub mod time;
pub mod vectors;

use core::panic::PanicInfo;

use spin::Once;

use machine::Machine;
use outcome::Kind;
use registry::{Clock, Runs, Test};
use setup::{Ctx, Expect};

static MACHINE: Once<Machine> = Once::new();
static NAME: Once<&'static str> = Once::new();

/// Called by the boot code on the boot CPU with the address of the device tree and the counter at the first
/// instruction.
// SAFETY: (1) the name is the payload's own and unique; (2) the boot code calls it once, with a stack and vectors set.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn payload_main(dtb: u64, counter: u64) -> ! {
    bench::boot::entered_at(counter);
    let machine = MACHINE.call_once(|| Machine::parse(dtb));
    firmware::init(machine.conduit);
    if machine.uart != 0 {
        console::set_base(machine.uart);
    }
    mem::init(machine);
    mmu::init(machine);
    gic::init(machine);
    pci::number_buses(machine);
    match machine.argument("test") {
        None => println!("no test=NAME on the command line; test=list lists them"),
        Some("list") => registry::tests().iter().for_each(list),
        Some(name) => match registry::tests().iter().find(|test| test.name == name) {
            None => println!("TEST {name}: FAIL no such test"),
            Some(test) => run(machine, test),
        },
    }
    firmware::system_off()
}

/// `LIST name cpus=N clock=counted|real runs=hyp,native,open el2=words`, for the runner.
fn list(test: &Test) {
    let runs = [(Runs::HYP, "hyp,"), (Runs::NATIVE, "native,"), (Runs::NO_ISOLATION, "open,")]
        .map(|(place, word)| if test.runs.has(place) { word } else { "" });
    let clock = match test.clock {
        Clock::Counted => "counted",
        Clock::Real => "real",
    };
    let Test { name, cpus, el2, .. } = test;
    println!("LIST {name} cpus={cpus} clock={clock} runs={}{}{} el2={el2}", runs[0], runs[1], runs[2]);
}

fn run(machine: &'static Machine, test: &'static Test) {
    NAME.call_once(|| test.name);
    if machine.cpu_count < test.cpus {
        println!("TEST {}: SKIP needs {} CPUs", test.name, test.cpus);
        return;
    }
    let landed = !machine.under_hypervisor() || machine.argument("expect") == Some("landed");
    let ctx = Ctx {
        machine,
        expect: if landed { Expect::Landed } else { Expect::Blocked },
        seed: machine.argument("seed").and_then(|seed| seed.parse().ok()).unwrap_or(1),
        name: test.name,
    };
    match (test.run)(&ctx) {
        Ok(()) => println!("TEST {}: PASS", test.name),
        Err(fail) => {
            let word = match fail.kind() {
                Kind::Failed => "FAIL",
                Kind::Skipped => "SKIP",
            };
            println!("TEST {}: {word} {fail}", test.name);
        }
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let name = NAME.get().copied().unwrap_or("boot");
    console::print_unlocked(format_args!("\nTEST {name}: FAIL {}", info.message()));
    if let Some(location) = info.location() {
        console::print_unlocked(format_args!(" at {}:{}", location.file(), location.line()));
    }
    console::print_unlocked(format_args!("\n"));
    firmware::system_off()
}
