//! The Linux boots: both kernels, three CPU models, Linux's three IOMMU modes, the attacks of root, the module
//! that donates pages, and kexec. Each boot varies several parameters at once, because a boot takes half a minute.

use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use test_machines::linux::attack_boots;
use test_machines::linux::boot::Boot;
use test_machines::linux::guest::Guest;
use test_machines::linux::kexec;
use test_machines::linux::load;
use test_machines::linux::module;
use test_machines::linux::report::Report;
use test_machines::linux::variant::{Devices, Hypervisor, Kind, Mode};
use test_machines::progress::say;
use test_machines::two_smmus::Smmus;

use crate::checkout::Checkout;
use crate::test::results::TestResults;
use crate::test::{Images, Qemus};

const SUITE: &str = "Linux boots";

struct Row {
    series: &'static str,
    cpu: &'static str,
    smp: u32,
    mem: &'static str,
    append: &'static str,
}

const CHECKS: [Row; 5] = [
    Row { series: "6.12", cpu: "max", smp: 4, mem: "1G", append: "" },
    Row { series: "6.1", cpu: "max", smp: 4, mem: "1G", append: "" },
    Row { series: "6.12", cpu: "cortex-a76", smp: 4, mem: "2G", append: "iommu.strict=0" },
    Row { series: "6.12", cpu: "neoverse-n1", smp: 8, mem: "8G", append: "iommu.passthrough=1" },
    Row { series: "6.12", cpu: "max", smp: 1, mem: "512M", append: "" },
];

/// The older kernel with the modes that the newer one has above.
const LONG_CHECKS: [Row; 2] = [
    Row { series: "6.1", cpu: "cortex-a76", smp: 2, mem: "1G", append: "iommu.passthrough=1" },
    Row { series: "6.1", cpu: "neoverse-n1", smp: 4, mem: "1G", append: "iommu.strict=0" },
];

/// Checks in QEMU 11, whose CPU model `max` has more features.
const NEWER_CHECKS: [Row; 2] = [
    Row { series: "6.12", cpu: "max", smp: 4, mem: "1G", append: "" },
    Row { series: "6.1", cpu: "max", smp: 4, mem: "1G", append: "" },
];

/// On a machine with two SMMUs, which QEMU has since version 11.
const TWO_SMMUS_CHECK: Row = Row { series: "6.12", cpu: "max", smp: 4, mem: "1G", append: "" };

/// The newest kernel, as long as it is in Debian 13's backports. It uses features that no other kernel uses, such as
/// guarded control stacks at EL0.
const LONG_NEWER_CHECK: Row = Row { series: "7.3", cpu: "max", smp: 4, mem: "1G", append: "" };

/// A boot with attacks of root or of the module.
struct Attack {
    /// Name of the boot, with its row of the catalogue of attacks.
    name: &'static str,
    mode: Mode,
    hypervisor: HypervisorKind,
    row: Row,
}

/// Root disables translation, by the kernel's command line or at run time: all variants under EL2, and the common ones
/// without a hypervisor as controls. The driver of 6.12 has no `disable_bypass`.
const ATTACKS: [Attack; 8] = [
    attack("native_passthrough", Mode::AttackPassthrough, HypervisorKind::Native, "6.12", 1, ""),
    attack("native_runtime_identity", Mode::AttackRuntime, HypervisorKind::Native, "6.12", 1, ""),
    attack("t42_passthrough", Mode::AttackPassthrough, HypervisorKind::Portcullis, "6.12", 1, ""),
    attack("t42_passthrough", Mode::AttackPassthrough, HypervisorKind::Portcullis, "6.1", 1, ""),
    attack("t42_runtime_identity", Mode::AttackRuntime, HypervisorKind::Portcullis, "6.12", 2, ""),
    attack("t42_runtime_identity", Mode::AttackRuntime, HypervisorKind::Portcullis, "6.1", 2, ""),
    attack("t42_iommu_off", Mode::AttackRuntime, HypervisorKind::Portcullis, "6.12", 1, "iommu=off"),
    attack("t42_disable_bypass", Mode::AttackUnbound, HypervisorKind::Portcullis, "6.1", 1, ""),
];

/// Pages change owner under disk load, and a device accesses them. This is blocked under Portcullis and lands without
/// isolation. The last test assigns the NVMe to a guest and takes it back.
const MODULES: [Attack; 3] = [
    attack("t02_t03_t04_donation_under_load", Mode::Module, HypervisorKind::Portcullis, module::SERIES, 2, ""),
    attack("donation_without_isolation", Mode::Module, HypervisorKind::WithoutIsolation, module::SERIES, 2, ""),
    attack("t68_hand_over", Mode::HandOver, HypervisorKind::Portcullis, module::SERIES, 2, ""),
];

/// Drivers are unbound and functions removed, with the older kernel; with the newer one, and kexec afterwards, in
/// [`LONG_KEXECS`].
const LONG_DEVICES: [Attack; 3] = [
    attack("devices", Mode::Devices, HypervisorKind::Portcullis, "6.1", 1, ""),
    attack("devices", Mode::Devices, HypervisorKind::Portcullis, "6.1", 4, ""),
    attack("devices", Mode::Devices, HypervisorKind::Portcullis, "6.1", 8, ""),
];

/// kexec after a donation of pages, with a transfer in flight.
const KEXECS: [Attack; 3] = [
    kexec("t67_kexec", Kind::Exec, HypervisorKind::Portcullis, 4),
    kexec("t67_crash_kernel", Kind::Crash, HypervisorKind::Portcullis, 4),
    kexec("t67_adopted_smmu", Kind::Adopt, HypervisorKind::Portcullis, 1),
];

/// The same with other numbers of CPUs, and without a hypervisor, where the attacks land.
const LONG_KEXECS: [Attack; 9] = [
    kexec("t67_kexec", Kind::Exec, HypervisorKind::Portcullis, 1),
    kexec("t67_crash_kernel", Kind::Crash, HypervisorKind::Portcullis, 1),
    kexec("t67_adopted_smmu", Kind::Adopt, HypervisorKind::Portcullis, 4),
    kexec("devices", Kind::Devices, HypervisorKind::Portcullis, 1),
    kexec("devices", Kind::Devices, HypervisorKind::Portcullis, 4),
    kexec("devices", Kind::Devices, HypervisorKind::Portcullis, 8),
    kexec("native_kexec", Kind::Exec, HypervisorKind::Native, 4),
    kexec("native_crash_kernel", Kind::Crash, HypervisorKind::Native, 4),
    kexec("native_adopted_smmu", Kind::Adopt, HypervisorKind::Native, 4),
];

/// All CPUs read at once, with command queues of this many entries as a power of two, for this number of seconds.
/// Linux needs more than 64.
const LOADS: [(&str, u64); 1] = [("cmdq=7", 5)];
const LONG_LOADS: [(&str, u64); 3] = [("cmdq=7", 60), ("cmdq=8", 60), ("cmdq=14", 60)];

const fn kexec(name: &'static str, kind: Kind, hypervisor: HypervisorKind, smp: u32) -> Attack {
    let row = Row { series: kexec::SERIES, cpu: kexec::CPU, smp, mem: "1G", append: "" };
    Attack { name, mode: Mode::Kexec(kind), hypervisor, row }
}

const fn attack(
    name: &'static str,
    mode: Mode,
    hypervisor: HypervisorKind,
    series: &'static str,
    smp: u32,
    append: &'static str,
) -> Attack {
    Attack { name, mode, hypervisor, row: Row { series, cpu: "max", smp, mem: "1G", append } }
}

#[derive(Clone, Copy)]
enum HypervisorKind {
    Native,
    Portcullis,
    WithoutIsolation,
}

/// The selection among similar boots.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Variants {
    /// One of each kind.
    Usual,
    /// All of them.
    All,
}

/// A boot, with its name in the summary.
struct Named {
    name: String,
    boot: Boot,
}

/// Runs all boots in parallel, one more than there are CPUs: a boot is idle about half of the time.
pub(crate) fn run(checkout: &Checkout, qemus: &Qemus, images: &Images, variants: Variants, results: &mut TestResults) {
    let qemu = &qemus.default;
    let mut boots = match plan(checkout, qemus, images, variants) {
        Ok(boots) => boots,
        Err(error) => return results.fail(SUITE, &format!("{error:#}")),
    };
    match plan_modules(checkout, qemu, images) {
        // The longest boots first, to balance the load.
        Ok(modules) => drop(boots.splice(0..0, modules)),
        Err(error) => results.fail(SUITE, &format!("the test module: {error:#}")),
    }
    match plan_kexecs(checkout, qemu, images, variants) {
        Ok(kexecs) => drop(boots.splice(0..0, kexecs)),
        Err(error) => results.fail(SUITE, &format!("kexec: {error:#}")),
    }
    match plan_devices(checkout, qemu, images, variants) {
        Ok(devices) => boots.extend(devices),
        Err(error) => results.fail(SUITE, &format!("devices: {error:#}")),
    }
    match plan_newest(checkout, qemus, images, variants) {
        Ok(newest) => boots.extend(newest),
        Err(error) => results.fail(SUITE, &format!("Linux {}: {error:#}", LONG_NEWER_CHECK.series)),
    }
    match plan_loads(checkout, qemu, images, variants) {
        Ok(loads) => drop(boots.splice(0..0, loads)),
        Err(error) => results.fail(SUITE, &format!("load: {error:#}")),
    }
    let workers = thread::available_parallelism().map_or(1, NonZero::get).saturating_add(1).min(MAX_PARALLEL_BOOTS);
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    say(&format!("Booting {} Linux machines, {workers} at once ...", boots.len()));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(named) = boots.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut report = named.boot.run_silently(checkout.work());
                    if let Ok(report) = &mut report {
                        report.title.clone_from(&named.name);
                    }
                    print_report(named, &report);
                    reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
                }
            });
        }
    });
    for report in reports.into_inner().unwrap_or_else(PoisonError::into_inner) {
        count(results, report);
    }
}

/// Limited by the memory of a small build machine.
const MAX_PARALLEL_BOOTS: usize = 4;

fn plan(checkout: &Checkout, qemus: &Qemus, images: &Images, variants: Variants) -> Result<Vec<Named>> {
    let mut boots = Vec::new();
    let qemu = &qemus.default;
    let more: &[Row] = match variants {
        Variants::Usual => &[],
        Variants::All => &LONG_CHECKS,
    };
    for row in CHECKS.iter().chain(more) {
        let guest = Guest::debian(checkout.work(), row.series)?;
        let boot = boot(guest, qemu, Hypervisor::Portcullis(images.hyp.clone()), row);
        boots.push(Named { name: boot.title(), boot });
    }
    for (newer, row) in qemus.newer.iter().flat_map(|newer| NEWER_CHECKS.iter().map(move |row| (newer, row))) {
        let guest = Guest::debian(checkout.work(), row.series)?;
        let boot = boot(guest, newer, Hypervisor::Portcullis(images.hyp.clone()), row);
        boots.push(Named { name: format!("QEMU 11: {}", boot.title()), boot });
    }
    if let Some(newer) = &qemus.newer {
        let guest = Guest::debian(checkout.work(), TWO_SMMUS_CHECK.series)?;
        let boot = boot(guest, newer, Hypervisor::Portcullis(images.hyp.clone()), &TWO_SMMUS_CHECK);
        let boot = Boot { smmus: Smmus::Two, ..boot };
        boots.push(Named { name: format!("QEMU 11: {}", boot.title()), boot });
    }
    for Attack { name, mode, hypervisor, row } in ATTACKS {
        let Some(hypervisor) = hypervisor_image(images, hypervisor) else { continue };
        let guest = Guest::debian(checkout.work(), row.series)?;
        let boot = attack_boots::prepared(&boot(guest, qemu, hypervisor, &row), mode)?;
        boots.push(Named { name: format!("{name}: {}", boot.title()), boot });
    }
    Ok(boots)
}

fn plan_newest(checkout: &Checkout, qemus: &Qemus, images: &Images, variants: Variants) -> Result<Option<Named>> {
    let Some(newer) = qemus.newer.as_ref().filter(|_| variants == Variants::All) else { return Ok(None) };
    let guest = Guest::debian(checkout.work(), LONG_NEWER_CHECK.series)?;
    let boot = boot(guest, newer, Hypervisor::Portcullis(images.hyp.clone()), &LONG_NEWER_CHECK);
    Ok(Some(Named { name: format!("QEMU 11: {}", boot.title()), boot }))
}

fn plan_devices(checkout: &Checkout, qemu: &Path, images: &Images, variants: Variants) -> Result<Vec<Named>> {
    let rows: &[Attack] = match variants {
        Variants::Usual => &[],
        Variants::All => &LONG_DEVICES,
    };
    let mut boots = Vec::new();
    for Attack { name, mode, hypervisor, row } in rows {
        let Some(hypervisor) = hypervisor_image(images, *hypervisor) else { continue };
        let mut boot = boot(Guest::debian(checkout.work(), row.series)?, qemu, hypervisor, row);
        boot.mode = *mode;
        boots.push(Named { name: format!("{name}: {}", boot.title()), boot });
    }
    Ok(boots)
}

fn plan_modules(checkout: &Checkout, qemu: &Path, images: &Images) -> Result<Vec<Named>> {
    let mut boots = Vec::new();
    let guest = Guest::debian_with_module(checkout.work(), &checkout.test_module(), module::SERIES)?;
    for Attack { name, mode, hypervisor, row } in MODULES {
        let Some(hypervisor) = hypervisor_image(images, hypervisor) else { continue };
        let mut boot = boot(guest.clone(), qemu, hypervisor, &row);
        boot.mode = mode;
        module::private_args(&boot.hypervisor).clone_into(&mut boot.private_args);
        boots.push(Named { name: format!("{name}: {}", boot.title()), boot });
    }
    Ok(boots)
}

fn plan_kexecs(checkout: &Checkout, qemu: &Path, images: &Images, variants: Variants) -> Result<Vec<Named>> {
    let mut boots = Vec::new();
    let guest = Guest::debian_with_kexec(checkout.work(), &checkout.test_module(), kexec::SERIES)?;
    let more: &[Attack] = match variants {
        Variants::Usual => &[],
        Variants::All => &LONG_KEXECS,
    };
    for Attack { name, mode, hypervisor, row } in KEXECS.iter().chain(more) {
        let (Some(hypervisor), Mode::Kexec(kind)) = (hypervisor_image(images, *hypervisor), *mode) else { continue };
        let mut boot = boot(guest.clone(), qemu, hypervisor, row);
        boot.mode = *mode;
        boot.private_args = kexec::private_args(kind, &boot.hypervisor);
        // Two kernels boot.
        boot.timeout *= 2;
        boots.push(Named { name: format!("{name}: {}", boot.title()), boot });
    }
    Ok(boots)
}

fn plan_loads(checkout: &Checkout, qemu: &Path, images: &Images, variants: Variants) -> Result<Vec<Named>> {
    let guest = Guest::debian(checkout.work(), "6.12")?;
    let loads: &[(&str, u64)] = match variants {
        Variants::Usual => &LOADS,
        Variants::All => &LONG_LOADS,
    };
    let row = Row { series: "6.12", cpu: "max", smp: 8, mem: "1G", append: "" };
    let named = loads.iter().map(|(el2_append, seconds)| {
        let mut boot = boot(guest.clone(), qemu, Hypervisor::Portcullis(images.hyp.clone()), &row);
        boot.mode = Mode::Load;
        boot.private_args = load::private_args(*seconds);
        (*el2_append).clone_into(&mut boot.el2_append);
        // QEMU emulates all eight CPUs on one thread.
        boot.timeout = boot.timeout * 2 + Duration::from_secs(seconds * load::REAL_SECONDS);
        Named { name: format!("load_{seconds}_s: {}", boot.title()), boot }
    });
    Ok(named.collect())
}

/// The image of `hypervisor`; `None` if this run of the tests has no such build.
fn hypervisor_image(images: &Images, hypervisor: HypervisorKind) -> Option<Hypervisor> {
    match hypervisor {
        HypervisorKind::Native => Some(Hypervisor::None),
        HypervisorKind::Portcullis => Some(Hypervisor::Portcullis(images.hyp.clone())),
        HypervisorKind::WithoutIsolation => images.no_isolation.clone().map(Hypervisor::WithoutIsolation),
    }
}

fn print_report(named: &Named, report: &Result<Report>) {
    let end = match report {
        Ok(report) if report.passed() => format!("passed in {:.1} s", report.outcome.took.as_secs_f64()),
        Ok(report) => format!("failed after {:.1} s", report.outcome.took.as_secs_f64()),
        Err(_) => "did not start".to_owned(),
    };
    say(&format!("{}: {end}", named.name));
}

fn boot(guest: Guest, qemu: &Path, hypervisor: Hypervisor, row: &Row) -> Boot {
    Boot {
        qemu: qemu.to_owned(),
        guest,
        hypervisor,
        uefi: None,
        cpu: row.cpu.to_owned(),
        smp: row.smp,
        mem: row.mem.to_owned(),
        append: row.append.to_owned(),
        el2_append: String::new(),
        policy: None,
        private_args: String::new(),
        qemu_args: Vec::new(),
        devices: Devices::Default,
        smmus: Smmus::One,
        mode: Mode::Check,
        timeout: Duration::from_secs(300),
    }
}

fn count(results: &mut TestResults, report: Result<Report>) {
    match report {
        Ok(report) if report.passed() => results.pass(SUITE),
        Ok(report) => {
            report.print();
            results.fail(SUITE, &report.title);
        }
        Err(error) => results.fail(SUITE, &format!("{error:#}")),
    }
}
