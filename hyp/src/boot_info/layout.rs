//! The memory layout: EL2's image at its load address, EL2's pool next to it, the host's device tree in free memory,
//! the rest for the host.

mod uefi;

use io_pgtable::Pa;

use super::entry::Entry;
use super::error::BootError;
use super::image::{HEADER_SIZE, ImageHeader};
use super::memory::{Memory, RAM_MAX};
use super::modules::{Module, Modules};
use super::platform::Platform;
use super::range::{PAGE_SIZE, PhysRange, RangeSet, align_up};
use super::tree::DTB_MAX;
use arrayvec::ArrayVec;

/// Maximum number of separate ranges of the host's memory.
pub const HOST_RAM_MAX: usize = 64;
const FREE_MAX: usize = 96;

/// Size and alignment of the blocks that keep both stage 2 tables small, in bytes.
const BLOCK: u64 = 2 << 20;

/// Input that is not in the device tree.
#[derive(Clone, Copy, Debug)]
pub struct Request<'h> {
    /// EL2's own image: from its first to its last link symbol, including stacks and zeroed data.
    pub image: PhysRange,
    /// EL2's own device tree.
    pub dtb: PhysRange,
    /// The record of the loader in firmware; empty if a boot loader started EL2.
    pub record: PhysRange,
    /// Contiguous bytes for EL2's page records and pool; `pool=` on its command line overrides it.
    pub pool_size: u64,
    /// The first bytes of the kernel module, if there is one. [`Platform::parse`] checked that they are in memory.
    pub kernel_header: Option<&'h [u8; HEADER_SIZE]>,
}

/// The memory layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// How the host starts.
    pub start: Start,
    /// EL2's image in whole pages; in a start from UEFI with the tree and the record after it.
    pub image: PhysRange,
    /// EL2's pool, at least as large as requested, in whole pages; it does not overlap a module or a reservation.
    pub pool: PhysRange,
    /// The host's memory: all memory except EL2's and `no-map` reservations.
    pub host_ram: RangeSet<HOST_RAM_MAX>,
    /// EL2's device tree, which has EL2's command line and is overwritten with zeroes before the host runs.
    pub scrub: PhysRange,
}

/// How the host starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// With a kernel.
    Kernel(KernelStart),
    /// The firmware that started EL2 continues.
    Firmware,
}

/// The host's kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelStart {
    /// The kernel's header.
    pub header: ImageHeader,
    /// The host's entry point: the kernel's first byte.
    pub entry: Pa,
    /// The memory of the kernel from there on: its file size, or the image size in its header.
    pub room: PhysRange,
    /// Range for the host's device tree: in the host's memory; its address is x0 of the host's first CPU.
    pub dtb: PhysRange,
}

impl Layout {
    /// The host's kernel, if it starts with one.
    #[must_use]
    pub fn kernel(&self) -> Option<&KernelStart> {
        match &self.start {
            Start::Kernel(kernel) => Some(kernel),
            Start::Firmware => None,
        }
    }
}

/// Divides the memory of `platform`.
///
/// # Errors
/// [`BootError::KernelImage`], [`BootError::KernelMisaligned`], [`BootError::NotInRam`], [`BootError::Overlap`] for a
/// module that cannot be started at its address, or memory of EL2 outside the range that firmware reserved;
/// [`BootError::NoRoom`] when there is too little memory.
pub fn plan<'a>(platform: &Platform<'a>, request: &Request<'_>) -> Result<Layout, BootError<'a>> {
    match &platform.entry {
        Entry::BootLoader(modules) => for_boot_loader(platform, modules, request),
        Entry::Uefi(own) => uefi::plan(platform, own, request),
    }
}

fn for_boot_loader<'a>(
    platform: &Platform<'a>,
    modules: &Modules<'a>,
    request: &Request<'_>,
) -> Result<Layout, BootError<'a>> {
    let memory = &platform.memory;
    let image = request.image.page_rounded();
    if image.is_empty() || !memory.ram.contains(&image) {
        return Err(BootError::NotInRam { what: "EL2's image", range: image, ram_end: memory.end() });
    }
    if !memory.ram.contains(&request.dtb) {
        // It could not be overwritten with zeroes.
        return Err(BootError::NotInRam { what: "EL2's device tree", range: request.dtb, ram_end: memory.end() });
    }
    let kernel = ImageHeader::parse(request.kernel_header.unwrap_or(&[0; HEADER_SIZE]))?;
    let footprint = check_kernel(platform, modules, &kernel)?;
    let ramdisk = modules.ramdisk.map_or(PhysRange::default(), |m| m.range);
    check_apart(modules, request, &footprint)?;

    let mut free = RangeSet::<FREE_MAX>::new();
    let full = |_| BootError::TooMany { what: "separate free ranges of memory", limit: FREE_MAX };
    for range in &memory.ram {
        free.insert(*range).map_err(full)?;
    }
    for taken in [image, request.dtb, footprint, ramdisk] {
        free.remove(&taken.page_rounded()).map_err(full)?;
    }
    for taken in &memory.reserved {
        free.remove(taken).map_err(full)?;
    }

    let pool_size = platform.options.pool.unwrap_or(request.pool_size);
    let too_little = |what, wanted| BootError::NoRoom { what, wanted, ram: memory.ram.total() };
    let pool = beside(&free, image.end(), pool_size)
        .or_else(|| first_fit(&free, Pa(0), pool_size, BLOCK))
        .ok_or_else(|| too_little("EL2's pool", pool_size))?;
    free.remove(&pool).map_err(full)?;

    let dtb_size = dtb_room(platform);
    let host_dtb = first_fit(&free, footprint.end(), dtb_size, PAGE_SIZE)
        .or_else(|| first_fit(&free, Pa(0), dtb_size, PAGE_SIZE))
        .ok_or_else(|| too_little("the host's device tree", dtb_size))?;

    let start = KernelStart { header: kernel, entry: modules.kernel.range.base(), room: footprint, dtb: host_dtb };
    let host_ram = host_ram(memory, &[image, pool])?;
    Ok(Layout { start: Start::Kernel(start), image, pool, host_ram, scrub: request.dtb })
}

/// All memory except EL2's `own` and `no-map` reservations.
fn host_ram<'a>(memory: &Memory, own: &[PhysRange]) -> Result<RangeSet<HOST_RAM_MAX>, BootError<'a>> {
    let mut host_ram = RangeSet::new();
    let full = |_| BootError::TooMany { what: "separate ranges of the host's memory", limit: HOST_RAM_MAX };
    for range in &memory.ram {
        host_ram.insert(*range).map_err(full)?;
    }
    for taken in own.iter().chain(&memory.no_map) {
        host_ram.remove(taken).map_err(full)?;
    }
    Ok(host_ram)
}

/// The memory that the kernel will use from its load address on.
fn check_kernel<'a>(
    platform: &Platform<'a>,
    modules: &Modules<'a>,
    header: &ImageHeader,
) -> Result<PhysRange, BootError<'a>> {
    let module = modules.kernel.range;
    let base = module.base();
    let aligned = base.0.checked_sub(header.text_offset).is_some_and(|b| b.is_multiple_of(BLOCK));
    if !aligned {
        return Err(BootError::KernelMisaligned { address: base, text_offset: header.text_offset });
    }
    let footprint = PhysRange::new(base, header.image_size.max(module.size())).ok_or(BootError::KernelImage {
        problem: "the image size in its header exceeds the addresses above it",
        value: header.image_size,
    })?;
    if !platform.memory.ram.contains(&footprint) || platform.memory.no_map.overlaps(&footprint) {
        return Err(BootError::NotInRam {
            what: "the kernel, with the image size in its header,",
            range: footprint,
            ram_end: platform.memory.end(),
        });
    }
    Ok(footprint)
}

fn check_apart<'a>(modules: &Modules<'a>, request: &Request<'_>, footprint: &PhysRange) -> Result<(), BootError<'a>> {
    let mut placed = ArrayVec::<(&'static str, PhysRange), 5>::new();
    let range = |module: Option<Module<'_>>| module.map_or(PhysRange::default(), |module| module.range);
    let all = [
        ("EL2's image", request.image.page_rounded()),
        ("EL2's device tree", request.dtb),
        ("the kernel", *footprint),
        ("the ramdisk", range(modules.ramdisk)),
        ("the policy module", range(modules.policy)),
    ];
    for (second, second_range) in all {
        if let Some((first, first_range)) = placed.iter().find(|(_, r)| r.overlaps(&second_range)).copied() {
            return Err(BootError::Overlap { first, first_range, second, second_range });
        }
        if !second_range.is_empty() {
            placed
                .try_push((second, second_range))
                .map_err(|_| BootError::TooMany { what: "boot modules", limit: RAM_MAX })?;
        }
    }
    Ok(())
}

/// At least `size` bytes from `start`, up to the next block boundary.
fn beside<const N: usize>(free: &RangeSet<N>, start: Pa, size: u64) -> Option<PhysRange> {
    let end = align_up(start.0.checked_add(size)?, BLOCK)?;
    PhysRange::between(start, Pa(end)).filter(|r| !r.is_empty() && free.contains(r))
}

/// The lowest free `size` bytes at or above `from`, in whole multiples of `align`.
fn first_fit<const N: usize>(free: &RangeSet<N>, from: Pa, size: u64, align: u64) -> Option<PhysRange> {
    let size = align_up(size.max(1), align)?;
    free.iter().find_map(|range| {
        let start = align_up(range.base().0.max(from.0), align)?;
        PhysRange::new(Pa(start), size).filter(|candidate| range.contains(candidate))
    })
}

/// A size that is sufficient for the host's device tree, in whole pages.
fn dtb_room(platform: &Platform<'_>) -> u64 {
    let header = platform.tree.fdt().data();
    let word = |at: usize| {
        let bytes = header.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        u64::from(u32::from_be_bytes(bytes))
    };
    // Size of the strings block and of the structure block; unused space in the source is not included. A tree of only
    // withheld nodes grows by less than its own size.
    let used = word(32).saturating_add(word(36));
    let wanted = used.saturating_mul(2).saturating_add(2 * PAGE_SIZE);
    let limit = u64::try_from(DTB_MAX).unwrap_or(u64::MAX);
    align_up(wanted, PAGE_SIZE).unwrap_or(limit).min(limit)
}
