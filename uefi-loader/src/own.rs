//! EL2's memory: reserved in the firmware, so that no operating system uses it, and filled with EL2's image, the tree
//! and the record.
#![allow(unsafe_code)]

use acpi_machine::Range;
use alloc::format;
use alloc::string::String;
use core::ptr::{self, NonNull};
use hand_over::{Record, VERSION, VERSION_OFFSET};
use uefi::boot::{self, AllocateType, MemoryType};
use uefi::mem::memory_map::MemoryMap;

const PAGE: u64 = 4096;
/// Alignment of EL2's memory, so that tables can map it with 2 MiB blocks.
const BLOCK: u64 = 2 << 20;
/// EL2's boot page table maps 512 GiB.
const HIGHEST: u64 = (512 << 30) - 1;
/// Offset of the size in memory in an arm64 Image's header.
const IMAGE_SIZE: usize = 16;
/// Minimum size of EL2's pool, with the tree and the record; `memory() >> POOL_SHIFT` is added to it.
const POOL: u64 = 32 << 20;
const POOL_SHIFT: u32 = 6;

/// EL2's memory. It is returned to the firmware unless [`Own::keep`] is called.
pub struct Own {
    allocated: NonNull<u8>,
    pages: usize,
    range: Range,
    kept: bool,
}

/// The addresses to hand over.
pub struct Places {
    /// Address of EL2's image.
    pub image: u64,
    /// Address of the device tree.
    pub tree: u64,
    /// The record; no other data is in its pages.
    pub record: NonNull<Record>,
    /// The memory that was written.
    pub written: Range,
}

impl Own {
    /// Reserves memory for `image` and its pool.
    ///
    /// # Errors
    /// A message.
    pub fn allocate(image: &[u8]) -> Result<Self, String> {
        let bytes =
            image_size(image)?.next_multiple_of(BLOCK).saturating_add(POOL).saturating_add(memory() >> POOL_SHIFT);
        let size = bytes.next_multiple_of(BLOCK);
        let pages = usize::try_from(size.saturating_add(BLOCK) / PAGE).unwrap_or(usize::MAX);
        let place = AllocateType::MaxAddress(HIGHEST);
        let allocated = boot::allocate_pages(place, MemoryType::RESERVED, pages)
            .map_err(|error| format!("no {} MiB of memory for EL2 below 512 GiB: {error}", size >> 20))?;
        let base = (allocated.as_ptr() as u64).next_multiple_of(BLOCK);
        Ok(Self { allocated, pages, range: Range { base, size }, kept: false })
    }

    /// The memory.
    pub fn range(&self) -> Range {
        self.range
    }

    /// Copies `image` and `tree` to the memory and writes an empty record.
    ///
    /// # Errors
    /// A message, if they do not fit.
    pub fn fill(&self, image: &[u8], tree: &[u8]) -> Result<Places, String> {
        let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let base = self.range.base;
        let tree_at = base.saturating_add(image_size(image)?).next_multiple_of(PAGE);
        let record_at = tree_at.saturating_add(length(tree)).next_multiple_of(PAGE);
        let size = size_of::<Record>() as u64;
        let end = record_at.saturating_add(size).next_multiple_of(PAGE);
        let written = Range { base, size: end.saturating_sub(base) };
        let record = NonNull::new(record_at as *mut Record).filter(|_| self.range.contains(&written));
        let record = record.ok_or("EL2's memory is too small for its image and the device tree")?;
        // SAFETY: (1) this program allocated the range, and nothing else uses it; (2) all stores are to `written`,
        // which is in the range.
        unsafe {
            ptr::write_bytes(base as *mut u8, 0, usize::try_from(written.size).unwrap_or(0));
            ptr::copy_nonoverlapping(image.as_ptr(), base as *mut u8, image.len());
            ptr::copy_nonoverlapping(tree.as_ptr(), tree_at as *mut u8, tree.len());
            record.write(Record::empty());
        }
        Ok(Places { image: base, tree: tree_at, record, written })
    }

    /// Keeps the memory reserved for EL2.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if !self.kept {
            // SAFETY: (1) it was allocated with this number of pages, and nothing refers to it. If the call fails, the
            // memory remains reserved.
            let _ = unsafe { boot::free_pages(self.allocated, self.pages) };
        }
    }
}

/// Size in bytes of `image` in memory, from its header.
fn image_size(image: &[u8]) -> Result<u64, String> {
    let version = image.get(VERSION_OFFSET..).and_then(|rest| rest.first_chunk()).map(|word| u32::from_le_bytes(*word));
    if version != Some(VERSION) {
        return Err(format!(
            "EL2's image in this program has version {version:?} of the interface, not {VERSION}: build both together"
        ));
    }
    let size = image.get(IMAGE_SIZE..).and_then(|rest| rest.first_chunk()).map(|field| u64::from_le_bytes(*field));
    size.filter(|size| u64::try_from(image.len()).is_ok_and(|length| length <= *size))
        .ok_or_else(|| "EL2's image in this program is not an arm64 Image: build both together".into())
}

/// Size in bytes of the memory in the firmware's map.
fn memory() -> u64 {
    let Ok(map) = boot::memory_map(MemoryType::LOADER_DATA) else { return 0 };
    let is_memory = |kind: MemoryType| kind != MemoryType::MMIO && kind != MemoryType::MMIO_PORT_SPACE;
    let pages = map.entries().filter(|entry| is_memory(entry.ty)).map(|entry| entry.page_count);
    pages.fold(0, u64::saturating_add).saturating_mul(PAGE)
}
