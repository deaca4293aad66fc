//! The boot sequence: memory, tables, SMMUs, then the host. In this order DMA is protected at all times.
//!
//! Missing or malformed input ends the run with a message that names the remedy: isolation is never silently
//! disabled. One of the modules that may use `unsafe`: it accesses memory by address while no other CPU runs.
#![allow(unsafe_code)]

mod admit;
mod board_policy;
mod decisions;
mod division;
mod gic_frames;
mod smmus;
mod uefi;

use crate::arch::{self, Conduit, PAGE, features};
use crate::exit::{self, refuse};
use crate::iommu::stage2::TRANSLATER;
use crate::memory::el2::El2Table;
use crate::memory::host_s2::HostTable;
#[cfg(feature = "ghost")]
use crate::pool;
use crate::{audit, console, devices, gic, host, iommu, log, ownership, psci};
use aarch64_cpu::registers::{CNTFRQ_EL0, CurrentEL, MPIDR_EL1, Readable, SCTLR_EL2};
use arrayvec::ArrayVec;
use division::Division;
use hyp::boot_info::gic::{GICD_SIZE, ITS_MAX};
use hyp::boot_info::layout::Start;
use hyp::boot_info::pci::PciHost;
use hyp::boot_info::policy::{CODE_MAX, MMIO_MAX};
use hyp::boot_info::rules::POLICY_MAX;
use hyp::boot_info::{self, Early, Layout, MmioPolicy, PhysRange, Platform, RangeSet, fdt_edit};
use io_pgtable::{Ipa, Pa};
#[cfg(feature = "ghost")]
use mem_protect::PageMap;
use mem_protect::{HostStage2, Owner, Ownership, PageRange};

/// Passed by the assembly instead of an exception level if HCR_EL2.E2H is fixed to 1.
const VHE_ONLY: u64 = 0x22;
/// The same for an exception that was taken before EL2 had its vectors.
const EARLY_TRAP: u64 = 0x23;

/// First Rust code of the boot CPU, on the boot stack, with the MMU on through the boot table.
#[unsafe(no_mangle)]
extern "C" fn rust_main(dtb: u64, record: u64) -> ! {
    uefi::begin(record);
    let blob = early(dtb);
    log!("Portcullis {}, DMA isolation at EL2", env!("CARGO_PKG_VERSION"));
    if cfg!(feature = "no-isolation") {
        log!(
            "WARNING: built without isolation: the host uses the SMMU directly, and its devices can access all memory"
        );
    }
    check_core();
    let mut rules = [0; POLICY_MAX];
    let platform = Platform::parse(blob).and_then(|platform| board_policy::read(platform, &mut rules));
    let mut platform = platform.unwrap_or_else(|error| refuse(format_args!("{error}"), Conduit::Smc));
    uefi::check(&platform);
    let policy = decisions::decide(&mut platform);
    decisions::announce(&platform, &policy);
    map_gic(&platform);
    register_cpus(&platform);
    psci::init();
    let division = Division::of(&platform, &policy, Pa(dtb), blob);
    let layout = &division.layout;
    let start = layout.start;

    let bits = host_bits(&platform, &policy);
    gic::init(division.distributor);
    let gic_frames = gic_frames::find(&platform, &policy);
    let mmio = gic_frames::without_withheld(&policy, gic_frames.as_ref());
    let host_table = host_table(bits, &platform, &mmio, policy.code(), &division);
    // An SMMU may be at a higher address than all memory and registers of the host.
    let el2_table = el2_table(bits.max(address_bits(platform.el2_end())), &platform, &policy, &division);
    if let Start::Kernel(kernel) = &start {
        write_host_dtb(&platform, &policy, layout, &kernel.dtb);
    }
    if gic_frames.is_none() {
        decisions::announce_not_isolated(&platform);
    }
    // There is one per ITS.
    let translaters: ArrayVec<Pa, ITS_MAX> = policy.translaters(&platform).take(ITS_MAX).collect();
    let pci = devices::Found {
        hosts: pci_hosts(&platform, &policy).cloned().collect(),
        streams: platform.streams.clone(),
        no_reset: platform.options.no_reset.clone(),
    };
    let smmu_nodes = platform.smmus;
    scrub(&layout.scrub);
    // From now on the boot loader's device tree must not be used.
    // SAFETY: (1) the table maps the image by section, the pool, and the devices that EL2 uses; (2) no other CPU runs.
    unsafe { arch::switch_stage1(el2_table.registers()) };

    let probed = smmus::probe(&smmu_nodes, platform.options.cmdq);
    let mut dma_table = smmus::stage2(bits, &probed);
    if let Err(error) = dma_table.snapshot(&division.map, translaters.iter().copied()) {
        refuse(format_args!("IOMMU stage 2: {error}"), Conduit::Smc);
    }
    arch::uefi::commit();
    smmus::take_over(&dma_table, &smmu_nodes, probed);
    if let Some(frames) = &gic_frames {
        gic_frames::take_over(frames);
    }
    let frames = translaters.iter().filter_map(|page| PageRange::covering(Ipa(page.0), TRANSLATER));
    audit::init(mmio.iter().chain(policy.code()).filter_map(pages), frames);
    devices::init(&pci);
    #[cfg(feature = "ghost")]
    start_ghost(&division.map);
    host::init(host_table.registers());
    ownership::init(Ownership::new(division.map, host_table, dma_table, el2_table, ownership::MAX_PAGES));
    let cpu = psci::index_of(MPIDR_EL1.get()).unwrap_or_else(|| {
        refuse(format_args!("the boot CPU {:#x} is not in the device tree", MPIDR_EL1.get()), Conduit::Smc)
    });
    start_host(cpu, start)
}

/// Starts the host, or resumes the firmware as the host.
fn start_host(cpu: usize, start: Start) -> ! {
    match start {
        Start::Kernel(kernel) => {
            let (entry, context) = (kernel.entry.0, kernel.dtb.base().0);
            log!("host starts at {entry:#x}, device tree at {context:#x}");
            host::enter(cpu, entry, context)
        }
        Start::Firmware => {
            log!("firmware continues at EL1 as the host");
            host::resume_firmware(cpu)
        }
    }
}

/// Refuses to boot on a core that cannot be isolated, or without a counter.
fn check_core() {
    if CNTFRQ_EL0.get() == 0 {
        refuse(
            format_args!("CNTFRQ_EL0 is 0: firmware must set it, since every bounded wait uses the counter"),
            Conduit::Smc,
        );
    }
    arch::keep_counter_hz();
    match admit::this_core() {
        Ok(None) => {}
        Ok(Some(erratum)) => log!("{} has erratum {}: TLB maintenance is repeated", erratum.part.name, erratum.number),
        Err(refused) => refuse(format_args!("{refused}"), Conduit::Smc),
    }
}

/// Creates the abstract ownership state of the ghost build.
#[cfg(feature = "ghost")]
fn start_ghost(map: &PageMap<'_>) {
    use mem_protect::{Page, ghost::Ghost};
    let count: u64 = map.ram().map(PageRange::count).sum();
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let memory = count.checked_mul(size_of::<Page>()).and_then(usize::checked_next_power_of_two).and_then(pool::alloc);
    let Some(memory) = memory else {
        refuse(format_args!("no memory for the abstract state of {count} pages: raise pool="), Conduit::Smc)
    };
    // SAFETY: (1) the block is new, large and aligned enough, and never freed; (2) it is initialised before it becomes
    // a slice.
    let storage = unsafe {
        let first = memory.0 as *mut Page;
        for n in 0..count {
            first.add(n).write(Page::default());
        }
        core::slice::from_raw_parts_mut(first, count)
    };
    let Some(ghost) = Ghost::new(map, storage) else {
        refuse(format_args!("the abstract state does not fit its memory"), Conduit::Smc)
    };
    crate::ghost::init(ghost);
    log!("ghost: every trap is checked");
}

/// A CPU that the host started, or that resumes from a power-down state.
#[unsafe(no_mangle)]
extern "C" fn rust_secondary(cpu: u64) -> ! {
    let cpu = usize::try_from(cpu).unwrap_or(usize::MAX);
    if let Err(refused) = admit::this_core() {
        psci::refuse_cpu(cpu, &refused);
    }
    iommu::check_alive();
    gic::guard::check_alive(MPIDR_EL1.get());
    let (entry, context) = psci::entry_of(cpu);
    host::enter(cpu, entry, context)
}

/// As [`rust_secondary`], if EL3 traps a register that is written before the MMU is on: `esr` and `elr` describe the
/// access.
#[unsafe(no_mangle)]
extern "C" fn rust_secondary_withheld(esr: u64, elr: u64) -> ! {
    match arch::withheld(esr, elr) {
        Some(withheld) => exit::withheld(withheld),
        None => exit::withheld(&format_args!(
            "an undefined instruction before EL2 had its vectors: ESR {esr:#x}, ELR {elr:#x}"
        )),
    }
}

/// Prints the error: EL2 was started at the wrong exception level, or EL3 traps a register. With an
/// early exception, `esr` and `elr` describe it.
#[unsafe(no_mangle)]
extern "C" fn rust_wrong_el(dtb: u64, level: u64, esr: u64, elr: u64, record: u64) -> ! {
    uefi::begin(record);
    let _ = early(dtb);
    if level == EARLY_TRAP {
        match arch::withheld(esr, elr) {
            Some(withheld) => refuse(format_args!("{withheld}"), Conduit::Smc),
            None => refuse(
                format_args!("an exception before EL2 had its vectors: ESR {esr:#x}, ELR {elr:#x}"),
                Conduit::Smc,
            ),
        }
    }
    if level == VHE_ONLY {
        refuse(
            format_args!("HCR_EL2.E2H is fixed to one on this CPU: use a CPU that can run EL2 without VHE"),
            Conduit::Smc,
        );
    }
    let remedy = "start it at EL2 (QEMU: -machine virtualization=on)";
    // At EL1 without a hypervisor, PSCI uses HVC; at EL3 there is no firmware.
    refuse(format_args!("started at EL{level}: Portcullis is a hypervisor, {remedy}"), Conduit::Hvc)
}

/// Finds the device tree and starts the console. Refuses to boot without a device tree.
fn early(dtb: u64) -> &'static [u8] {
    // Without a tree there is no console: a guessed address may be that of any device.
    if dtb == 0 || !dtb.is_multiple_of(8) {
        refuse(
            format_args!("x0 = {dtb:#x} at entry is not the address of a device tree: boot as an arm64 Image"),
            Conduit::Smc,
        );
    }
    // SAFETY: (1) by the boot protocol x0 is the address of a device tree, 8-byte aligned; (2) it is not written while
    // EL2 boots.
    let start = unsafe { &*(dtb as *const [u8; 8]) };
    let size = boot_info::dtb_size(start).unwrap_or_else(|error| refuse(format_args!("{error}"), Conduit::Smc));
    if mmu_is_on()
        && let Some(range) = PhysRange::new(Pa(dtb), size as u64)
    {
        normal("EL2's device tree", &range);
    }
    // SAFETY: (1) as above, and the size was checked against the protocol's 2 MiB.
    let blob = unsafe { core::slice::from_raw_parts(dtb as *const u8, size) };
    let early = Early::read(blob);
    if let Some(uart) = early.uarts.el2.or(early.uarts.host) {
        console::init(&uart);
    }
    if let Some(token) = early.token {
        exit::set_token(token);
    }
    blob
}

/// Whether boot runs on the boot table: the MMU is off at other exception levels, and on a CPU that is refused.
fn mmu_is_on() -> bool {
    CurrentEL.read(CurrentEL::EL) == 2 && SCTLR_EL2.matches_all(SCTLR_EL2::M::Enable)
}

/// Maps memory that boot accesses as normal memory in the boot table. Refuses to boot with an address above the
/// table's limit.
fn normal(what: &str, range: &PhysRange) {
    // SAFETY: (1) only the boot CPU runs yet; (2) the range is memory, and no device is within 2 MiB of these
    // addresses.
    if unsafe { arch::boot_table::make_normal(range) }.is_err() {
        refuse(
            format_args!("{what} at {range} is not in the first 512 GiB, which is all that boot code can map"),
            Conduit::Smc,
        )
    }
}

/// Maps the interrupt controller in the boot table: boot disables it before EL2 has its own tables.
fn map_gic(platform: &Platform<'_>) {
    for frame in platform.gic.frames() {
        address_bits(frame.end());
        // SAFETY: (1) only the boot CPU runs yet; (2) the CPU has the addresses, or the boot was refused.
        if unsafe { arch::boot_table::make_device(frame) }.is_err() {
            refuse(
                format_args!("the interrupt controller at {frame} is above the addresses that boot code can map"),
                Conduit::Smc,
            )
        }
    }
}

fn register_cpus(platform: &Platform<'_>) {
    for (index, cpu) in platform.cpus.iter().enumerate() {
        if psci::register(index, cpu.mpidr).is_err() {
            // CPU_ON returns INVALID_PARAMETERS for the other CPUs.
            log!("{} CPUs: {} and the following ones stay off", platform.cpus.len(), platform.path(cpu.node));
            return;
        }
    }
}

/// Address bits needed for all memory and registers of the host.
fn host_bits(platform: &Platform<'_>, policy: &MmioPolicy) -> u32 {
    let ends = platform.memory.ram.iter().chain(policy.mmio()).chain(policy.code()).map(PhysRange::end);
    address_bits(ends.max().unwrap_or(Pa(0)))
}

/// Address bits needed for everything below `end`.
fn address_bits(end: Pa) -> u32 {
    let highest = end.0.saturating_sub(1);
    let bits = (64 - highest.leading_zeros()).max(32);
    if bits > features::pa_bits() {
        refuse(
            format_args!(
                "memory or registers up to {highest:#x}, but this CPU has {} address bits",
                features::pa_bits()
            ),
            Conduit::Smc,
        );
    }
    bits
}

/// The pages of a physical range, which is made of whole pages.
fn pages(range: &PhysRange) -> Option<PageRange> {
    PageRange::new(range.base().0 / PAGE, range.size() / PAGE)
}

fn host_table(
    bits: u32,
    platform: &Platform<'_>,
    mmio: &RangeSet<MMIO_MAX>,
    code: &RangeSet<CODE_MAX>,
    division: &Division,
) -> HostTable {
    let mut table = HostTable::new(bits, features::pa_bits())
        .unwrap_or_else(|error| refuse(format_args!("host stage 2: {error}"), Conduit::Smc));
    for run in division.map.runs_of(Owner::Host) {
        if let Err(error) = table.map(run) {
            refuse(format_args!("host stage 2 of {:#x} pages at {}: {error}", run.count(), run.ipa()), Conduit::Smc);
        }
    }
    let own = platform.smmus.iter().map(|smmu| smmu.range).filter(|_| cfg!(feature = "no-isolation"));
    for range in mmio.iter().copied().chain(own) {
        if let Err(error) = table.map_device(range.base(), range.size()) {
            refuse(format_args!("host stage 2 of registers at {range}: {error}"), Conduit::Smc);
        }
    }
    for range in code {
        if let Err(error) = table.map_code(range.base(), range.size()) {
            refuse(format_args!("host stage 2 of flash at {range}: {error}"), Conduit::Smc);
        }
    }
    table
}

/// The PCI hosts that the host gets; none in a build that cannot assign devices to guests.
fn pci_hosts<'p>(platform: &'p Platform<'_>, policy: &'p MmioPolicy) -> impl Iterator<Item = &'p PciHost> {
    let isolates = cfg!(not(feature = "no-isolation"));
    platform.pci.iter().filter(move |host| isolates && !policy.is_withheld(host.node))
}

fn el2_table(bits: u32, platform: &Platform<'_>, policy: &MmioPolicy, division: &Division) -> El2Table {
    let build = || {
        let mut table = El2Table::build(bits, features::pa_bits(), &arch::image())?;
        table.data(division.layout.pool.base().0, division.layout.pool.end().0)?;
        if let Some(base) = console::base() {
            table.device(base & !(PAGE - 1), PAGE)?;
        }
        if let Some(record) = arch::uefi::record().map(|record| record.page_rounded()) {
            table.data(record.base().0, record.end().0)?;
        }
        table.device(platform.gic.distributor.base().0, GICD_SIZE)?;
        let smmus = platform.smmus.iter().map(|smmu| &smmu.range);
        let its = platform.gic.its.iter().map(|its| &its.range);
        for host in pci_hosts(platform, policy) {
            table.device(host.ecam.base().0, host.ecam.size())?;
        }
        for range in smmus.chain(its).chain(platform.gic.redistributors.iter()) {
            table.device(range.base().0, range.size())?;
        }
        Ok::<_, crate::memory::el2::BuildError>(table)
    };
    build().unwrap_or_else(|error| refuse(format_args!("EL2 stage 1: {error}"), Conduit::Smc))
}

fn write_host_dtb(platform: &Platform<'_>, policy: &MmioPolicy, layout: &Layout, range: &PhysRange) {
    let length = usize::try_from(range.size()).unwrap_or(0);
    // SAFETY: (1) the layout ensures that this range overlaps nothing in use; (2) the host does not run yet.
    let out = unsafe { core::slice::from_raw_parts_mut(range.base().0 as *mut u8, length) };
    if let Err(error) = fdt_edit::write_host_dtb(platform, policy, layout, out) {
        refuse(format_args!("{error}"), Conduit::Smc);
    }
    arch::clean_to_poc(range.base().0, range.size());
}

/// Overwrites EL2's own device tree, which has EL2's command line.
fn scrub(range: &PhysRange) {
    // SAFETY: (1) it is memory of this machine that EL2 maps; (2) every reference into the tree has ended.
    unsafe { core::ptr::write_bytes(range.base().0 as *mut u8, 0, usize::try_from(range.size()).unwrap_or(0)) };
    arch::clean_to_poc(range.base().0, range.size());
}
