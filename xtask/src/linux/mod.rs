//! `cargo xtask linux`: Debian Linux as the untrusted host, or without a hypervisor for comparison.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{ValueEnum, ValueHint};
use test_machines::linux::boot::Boot;
use test_machines::linux::guest::Guest;
use test_machines::linux::uefi::Uefi;
use test_machines::linux::variant::{Devices, Hypervisor, Kind, Mode};
use test_machines::linux::{attack_boots, kexec, load, module};
use test_machines::packages;
use test_machines::two_smmus::Smmus;

use crate::checkout::Checkout;
use crate::images::{self, Isolation};

/// Boot Debian Linux under Portcullis and check that its devices work
///
/// The kernel is fetched with apt into the build folder (no root needed, nothing is
/// installed). The guest reads and writes NVMe and virtio-blk by DMA, exchanges packets,
/// hotplugs CPUs during I/O and powers off; the run passes only if EL2 prints that result.
///
/// Examples:
///   cargo xtask linux --release 6.12 --smp 4
///   cargo xtask linux --append iommu.strict=0
///   cargo xtask linux --native --attack
///   cargo xtask linux --module
///   cargo xtask linux --hand-over
///   cargo xtask linux --kexec crash
///   cargo xtask linux --release 6.1 --devices
///   cargo xtask linux --load 60 --smp 8 --el2-append cmdq=7
///   cargo xtask linux --policy my-board.policy
///   cargo xtask linux --uefi --release 6.12 --smp 4
///   cargo xtask linux --smmus 2
///   cargo xtask linux --interactive
#[derive(Clone, Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// Debian kernel series to fetch and boot; 7.3 is in Debian 13's backports until a newer one replaces it
    #[arg(long, value_parser = ["6.1", "6.12", "7.3"], default_value = "6.12")]
    release: String,
    /// Boot this arm64 Image instead of Debian's; only EL2's result is checked then
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["release", "attack"])]
    kernel: Option<PathBuf>,
    /// The ramdisk for --kernel
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "kernel")]
    initrd: Option<PathBuf>,
    /// No hypervisor: Linux enters at EL1 and uses the SMMU directly
    #[arg(long)]
    native: bool,
    /// Boot through UEFI firmware and ACPI: the firmware starts portcullis.efi, then the kernel's own loader
    #[arg(long, conflicts_with_all = ["module", "kexec", "attack"])]
    uefi: bool,
    /// QEMU's CPU model: max, cortex-a76, neoverse-n1, ...; max unless given, without LPA2 for --kexec, since Linux
    /// 6.12 oopses in kexec -e with it, also without EL2
    #[arg(long)]
    cpu: Option<String>,
    /// Number of CPUs, 1 to 8
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=8))]
    smp: u32,
    /// Memory of the machine, in QEMU's format
    #[arg(long, default_value = "1G")]
    mem: String,
    /// Added to the kernel's command line, for example iommu.strict=0 or iommu.passthrough=1
    #[arg(long, value_name = "ARGS", default_value = "", allow_hyphen_values = true)]
    append: String,
    /// Added to EL2's command line, for example cmdq=8
    #[arg(long, value_name = "ARGS", default_value = "", conflicts_with = "native")]
    el2_append: String,
    /// File with rules of a board's author, passed to EL2 as a boot module (docs/boot.md)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "native")]
    policy: Option<PathBuf>,
    /// QEMU to use instead of the installed one; 11 selects the QEMU of Debian 13, which is fetched into target/
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    qemu: Option<PathBuf>,
    /// Added to QEMU's command line; repeat it for each argument
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    qemu_arg: Vec<String>,
    /// Number of SMMUs, 1 or 2; with two (QEMU 11) the NVMe is behind the first, the virtio disk behind the second
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2),
          conflicts_with_all = ["no_default_devices", "policy"])]
    smmus: u8,
    /// Without the NVMe, virtio-blk, e1000e and edu devices
    #[arg(long, conflicts_with = "attack")]
    no_default_devices: bool,
    /// Let root in the guest attack memory that the kernel does not own, with the edu device
    #[arg(long)]
    attack: bool,
    /// Load a test module that donates and reclaims pages under disk load, and makes a device access a donated page
    /// (6.12; needs a cross compiler, installed if run as root)
    #[arg(long, conflicts_with_all = ["kernel", "attack", "no_default_devices", "interactive"])]
    module: bool,
    /// Load the same module, which assigns the NVMe to a guest and takes it back; Linux binds its driver after each
    #[arg(long, conflicts_with_all = ["kernel", "attack", "module", "kexec", "devices", "native", "no_default_devices", "interactive"])]
    hand_over: bool,
    /// With --module: the build in which the host uses the SMMU directly, where the attacks land
    #[arg(long, requires = "module", conflicts_with = "native")]
    no_isolation: bool,
    /// Move interrupts between CPUs, unbind and bind the drivers, remove and rescan the PCI functions, and check the
    /// devices after each step
    #[arg(long, conflicts_with_all = ["kernel", "attack", "module", "kexec", "no_default_devices", "interactive"])]
    devices: bool,
    /// Start a second kernel by kexec: the first donates pages, and the second checks the devices and tries to access
    /// the pages (6.12; needs a cross compiler, as --module)
    #[arg(long, value_name = "KIND", conflicts_with_all = ["kernel", "attack", "module", "no_default_devices", "interactive"])]
    kexec: Option<KexecKind>,
    /// Make every CPU read both disks for this many seconds of guest time, 128 KiB at a time. Guest time advances by
    /// instructions; ten seconds take a minute
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400),
          conflicts_with_all = ["kernel", "attack", "module", "kexec", "no_default_devices", "interactive"])]
    load: Option<u64>,
    /// Kill a machine that runs longer than this many seconds (300, 600 with --kexec,
    /// more with --load, no limit with --interactive, by default)
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// A shell in the guest on this terminal; `exit` powers off, Ctrl-A X ends the machine
    #[arg(long, conflicts_with = "attack")]
    interactive: bool,
}

/// The start of the second kernel, as an option's value.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum KexecKind {
    /// The first kernel shuts down and starts the second (kexec -e)
    Exec,
    /// The first kernel panics, and a crash kernel starts in memory reserved for it
    Crash,
    /// As crash, and the second kernel keeps the SMMU configuration and stream table
    Adopt,
    /// kexec -e after the checks of --devices, which the second kernel makes again; no pages are donated
    Devices,
}

impl From<KexecKind> for Kind {
    fn from(kind: KexecKind) -> Self {
        match kind {
            KexecKind::Exec => Self::Exec,
            KexecKind::Crash => Self::Crash,
            KexecKind::Adopt => Self::Adopt,
            KexecKind::Devices => Self::Devices,
        }
    }
}

/// Ten times the duration of a boot on two cores.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Runs the command.
///
/// # Errors
/// When set-up or the run fails.
pub(crate) fn main(checkout: &Checkout, args: &Args) -> Result<()> {
    let boot = prepare(checkout, args)?;
    let reports =
        if args.attack { attack_boots::run(checkout.work(), &boot)? } else { vec![boot.run(checkout.work())?] };
    for report in &reports {
        report.print();
    }
    match reports.iter().filter(|report| !report.passed()).count() {
        0 => Ok(()),
        failed => bail!("{failed} of {} boots failed", reports.len()),
    }
}

/// The firmware, and the loader with the hypervisor in it.
fn uefi(checkout: &Checkout, hypervisor: &Hypervisor) -> Result<Uefi> {
    let loader = match hypervisor {
        Hypervisor::None => None,
        Hypervisor::Portcullis(_) => Some(images::efi(checkout, Isolation::On)?),
        Hypervisor::WithoutIsolation(_) => Some(images::efi(checkout, Isolation::Off)?),
    };
    Ok(Uefi { firmware: packages::firmware::ensure(checkout.work())?, loader })
}

fn prepare(checkout: &Checkout, args: &Args) -> Result<Boot> {
    if (args.module || args.hand_over || args.kexec.is_some()) && args.release != module::SERIES {
        bail!(
            "--module, --hand-over and --kexec are for Linux {}: the module uses calls that other kernels lack",
            module::SERIES
        );
    }
    let own = args.kernel.as_ref().map(|kernel| Guest::own(kernel, args.initrd.as_deref())).transpose()?;
    let smmus = Smmus::of_number(args.smmus);
    let qemu = packages::qemu::for_smmus(checkout.work(), args.qemu.as_deref(), smmus)?;
    let guest = match own {
        Some(own) => own,
        None if args.kexec.is_some() => {
            Guest::debian_with_kexec(checkout.work(), &checkout.test_module(), kexec::SERIES)?
        }
        None if args.module || args.hand_over => {
            Guest::debian_with_module(checkout.work(), &checkout.test_module(), &args.release)?
        }
        None => Guest::debian(checkout.work(), &args.release)?,
    };
    let hypervisor = match (args.native, args.no_isolation) {
        (true, _) => Hypervisor::None,
        (false, true) => images::without_isolation(checkout)?,
        (false, false) => images::portcullis(checkout)?,
    };
    let uefi = args.uefi.then(|| uefi(checkout, &hypervisor)).transpose()?;
    let (mode, private_args) = match (args.kexec.map(Kind::from), args.load, args.module, args.interactive) {
        (Some(kind), ..) => (Mode::Kexec(kind), kexec::private_args(kind, &hypervisor)),
        (_, Some(seconds), ..) => (Mode::Load, load::private_args(seconds)),
        (_, _, true, _) => (Mode::Module, module::private_args(&hypervisor).to_owned()),
        (.., true) => (Mode::Shell, String::new()),
        (.., false) if args.hand_over => (Mode::HandOver, module::private_args(&hypervisor).to_owned()),
        (.., false) if args.devices => (Mode::Devices, String::new()),
        (.., false) => (Mode::Check, String::new()),
    };
    let default_cpu = if args.kexec.is_some() { kexec::CPU } else { "max" };
    Ok(Boot {
        qemu,
        guest,
        hypervisor,
        uefi,
        cpu: args.cpu.clone().unwrap_or_else(|| default_cpu.to_owned()),
        smp: args.smp,
        mem: args.mem.clone(),
        append: args.append.clone(),
        el2_append: args.el2_append.clone(),
        policy: args.policy.clone(),
        private_args,
        qemu_args: args.qemu_arg.clone(),
        devices: if args.no_default_devices { Devices::None } else { Devices::Default },
        smmus,
        mode,
        timeout: match args.timeout {
            Some(seconds) => Duration::from_secs(seconds),
            None if args.interactive => Duration::MAX,
            None if args.kexec.is_some() => TIMEOUT * 2,
            None => TIMEOUT + Duration::from_secs(args.load.unwrap_or(0) * load::REAL_SECONDS),
        },
    })
}
