//! Memory layout at boot: sets up EL2's pool and the owner of every page.

use super::{gic_frames, normal, pages};
use crate::arch::{self, Conduit, PAGE};
use crate::exit::refuse;
use crate::pool;
use hyp::boot_info::{Layout, MmioPolicy, PhysRange, Platform, Request, image::HEADER_SIZE, layout, plan};
use io_pgtable::Pa;
use mem_protect::{Owner, PageInfo, PageMap};

/// Minimum size of the pool in bytes: stream tables, queues, and the first splits.
const POOL_MIN: u64 = 8 << 20;
/// Part of memory that is added to the pool for tables: 1/128.
const POOL_SHIFT: u32 = 7;

/// The layout and the ownership of the machine's memory.
pub struct Division {
    /// The memory layout.
    pub layout: Layout,
    /// The owner of each page.
    pub map: PageMap<'static>,
    /// Physical address of the GIC distributor.
    pub distributor: u64,
}

impl Division {
    /// Divides the memory of `platform`, whose device tree is `blob` at `dtb`. Refuses to boot if there is too little
    /// memory, or if the finished plan would map memory or registers for the host that `policy` withholds or EL2 owns.
    pub fn of(platform: &Platform<'_>, policy: &MmioPolicy, dtb: Pa, blob: &[u8]) -> Self {
        let image = arch::image();
        let ram: u64 = platform.memory.ram.total();
        let pages_of_ram = ram / PAGE;
        let map_bytes = PageMap::storage_bytes(pages_of_ram).unwrap_or(usize::MAX) as u64;
        let bitmaps: u64 =
            platform.memory.ram.iter().map(|range| rounded(pool::bitmap_bytes(range.size() / PAGE))).sum();
        let kernel_header = platform.modules().map(|modules| {
            let kernel = modules.kernel.range;
            if let Some(header) = PhysRange::new(kernel.base(), HEADER_SIZE as u64) {
                normal("the kernel", &header);
            }
            // SAFETY: (1) the module is in memory, which was checked; (2) memory follows it up to a header's length;
            // the header check refuses a shorter file.
            unsafe { &*(kernel.base().0 as *const [u8; HEADER_SIZE]) }
        });
        let (Some(image), Some(dtb)) =
            (PhysRange::between(Pa(image.start), Pa(image.end)), PhysRange::new(dtb, blob.len() as u64))
        else {
            refuse(format_args!("the image or the device tree is above the physical address space"), Conduit::Smc)
        };
        let request = Request {
            image,
            dtb,
            record: arch::uefi::record().unwrap_or_default(),
            pool_size: rounded(map_bytes) + bitmaps + POOL_MIN + gic_bytes(platform) + (ram >> POOL_SHIFT),
            kernel_header,
        };
        let layout =
            layout::plan(platform, &request).unwrap_or_else(|error| refuse(format_args!("{error}"), Conduit::Smc));
        // No memory described by the tree has been written yet.
        plan::check(platform, policy, &layout).unwrap_or_else(|error| refuse(format_args!("{error}"), Conduit::Smc));
        normal("EL2's pool", &layout.pool);
        if let Some(kernel) = layout.kernel() {
            normal("the host's device tree", &kernel.dtb);
        }
        // Tables of an earlier kernel, which the interrupt controller writes, may be in the pool.
        gic_frames::make_quiescent(platform, policy, blob);
        let map = Self::ownership_map(platform, &layout, pages_of_ram, rounded(map_bytes));
        Self { layout, map, distributor: platform.gic.distributor.base().0 }
    }

    /// Allocates the ownership map and the donation bitmaps from the pool's range and adds the rest to the pool.
    fn ownership_map(platform: &Platform<'_>, layout: &Layout, count: u64, map_bytes: u64) -> PageMap<'static> {
        let mut next = layout.pool.base().0;
        let end = layout.pool.end().0;
        let records = next as *mut PageInfo;
        next += map_bytes;
        let mut sections = [None; pool::MAX_RAM_RANGES];
        for (section, range) in sections.iter_mut().zip(platform.memory.ram.iter()) {
            let bytes = rounded(pool::bitmap_bytes(range.size() / PAGE));
            *section = Some((range.base().0 / PAGE, range.size() / PAGE, Pa(next)));
            next += bytes;
        }
        if next > end {
            refuse(
                format_args!(
                    "pool of {} KiB is too small for the ownership map of {count} pages: raise pool=",
                    (end - layout.pool.base().0) / 1024
                ),
                Conduit::Smc,
            );
        }
        // SAFETY: (1) the records are at the start of the pool's range and have no other use; (2)
        // zeroes are valid records; (3) the bitmaps are after them, in the range as checked above, and are zeroed
        // before they are used; (4) the rest of the range is unused.
        let storage = unsafe {
            core::ptr::write_bytes(records, 0, usize::try_from(count).unwrap_or(0));
            for (first, pages, bitmaps) in sections.into_iter().flatten() {
                core::ptr::write_bytes(
                    bitmaps.0 as *mut u8,
                    0,
                    usize::try_from(pool::bitmap_bytes(pages)).unwrap_or(0),
                );
                pool::add_donation_bitmaps(first, pages, bitmaps);
            }
            pool::add(next, end);
            core::slice::from_raw_parts_mut(records, usize::try_from(count).unwrap_or(0))
        };
        let ram = core::array::from_fn::<_, { pool::MAX_RAM_RANGES }, _>(|n| {
            platform.memory.ram.iter().nth(n).and_then(pages)
        });
        let mut ranges = [ram[0]; pool::MAX_RAM_RANGES]
            .map(|first| first.unwrap_or_else(|| refuse(format_args!("the machine has no memory"), Conduit::Smc)));
        let mut used = 0;
        for (slot, range) in ranges.iter_mut().zip(ram.into_iter().flatten()) {
            *slot = range;
            used += 1;
        }
        let mut map = PageMap::new(storage, &ranges[..used])
            .unwrap_or_else(|error| refuse(format_args!("{error}"), Conduit::Smc));
        let own = [layout.image, layout.pool];
        for (range, owner) in own
            .iter()
            .map(|range| (range, Owner::Hyp))
            .chain(platform.memory.no_map.iter().map(|range| (range, Owner::Device)))
        {
            if let Some(range) = pages(&range.page_rounded()) {
                map.reserve(range, owner);
            }
        }
        map
    }
}

/// Tables of the interrupt controller: a pending table for each CPU, the first tables and the queue of each ITS, and
/// the configuration table. Tables for the host's devices are allocated from the remaining pool, at most a quarter of
/// it.
fn gic_bytes(platform: &Platform<'_>) -> u64 {
    const PENDING: u64 = 64 << 10;
    const ITS: u64 = 512 << 10;
    const CONFIGURATION: u64 = 128 << 10;
    platform.cpus.len() as u64 * PENDING + platform.gic.its.len() as u64 * ITS + CONFIGURATION
}

/// Rounded up to whole pages.
fn rounded(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE) * PAGE
}
