//! Starts `portcullis.efi` with options, and finds the memory that a start used.
#![allow(unsafe_code)]

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use uefi::boot::{self, LoadImageSource, MemoryType, image_handle};
use uefi::fs::FileSystem;
use uefi::mem::memory_map::MemoryMap;
use uefi::proto::loaded_image::LoadedImage;
use uefi::{Status, cstr16};

const PAGE: u64 = 4096;

/// The program and EL2's command line, from the disk.
pub struct Loader {
    program: Vec<u8>,
    options: String,
}

impl Loader {
    /// Reads both.
    ///
    /// # Errors
    /// A message.
    pub fn read() -> Result<Self, String> {
        let volume = boot::get_image_file_system(image_handle()).map_err(|error| error.to_string())?;
        let mut volume = FileSystem::new(volume);
        let program = volume.read(cstr16!("\\portcullis.efi")).map_err(|error| format!("{error}"))?;
        let options =
            volume.read_to_string(cstr16!("\\EFI\\portcullis\\options.txt")).map_err(|error| format!("{error}"))?;
        Ok(Self { program, options: options.trim().to_string() })
    }

    /// Starts the program with `more` after the options; calls `last` immediately before.
    pub fn start(&self, more: &str, last: impl FnOnce()) -> Status {
        let source = LoadImageSource::FromBuffer { buffer: &self.program, file_path: None };
        let image = match boot::load_image(image_handle(), source) {
            Ok(image) => image,
            Err(error) => return error.status(),
        };
        let mut options: Vec<u16> = format!("{} {more}", self.options).encode_utf16().collect();
        options.push(0);
        let size = u32::try_from(size_of_val(options.as_slice())).unwrap_or(0);
        match boot::open_protocol_exclusive::<LoadedImage>(image) {
            // SAFETY: (1) the options live until the program has ended.
            Ok(mut loaded) => unsafe { loaded.set_load_options(options.as_ptr().cast(), size) },
            Err(error) => return error.status(),
        }
        last();
        boot::start_image(image).map_or_else(|error| error.status(), |()| Status::SUCCESS)
    }
}

/// The address of an EL2 image in free memory, at a multiple of 2 MiB: a refused start frees its memory without zeroing
/// it. The image with the highest address is the newest.
pub fn freed_image() -> Option<u64> {
    let map = boot::memory_map(MemoryType::LOADER_DATA).ok()?;
    let free = map.entries().filter(|entry| entry.ty == MemoryType::CONVENTIONAL);
    let spans: Vec<(u64, u64)> = free.map(|entry| (entry.phys_start, entry.page_count * PAGE)).collect();
    let blocks = spans.iter().flat_map(|(start, size)| {
        let first = start.next_multiple_of(2 << 20);
        (first..(start + size).saturating_sub(PAGE)).step_by(2 << 20)
    });
    blocks.filter(|block| is_image(*block)).max()
}

/// The base and the size of the reserved memory that contains `address`.
pub fn reserved_range(address: u64) -> Option<(u64, u64)> {
    let map = boot::memory_map(MemoryType::LOADER_DATA).ok()?;
    let around = map.entries().find(|entry| {
        let end = entry.phys_start + entry.page_count * PAGE;
        entry.ty == MemoryType::RESERVED && (entry.phys_start..end).contains(&address)
    });
    around.map(|entry| (entry.phys_start, entry.page_count * PAGE))
}

/// Whether `block` has the magic number of an arm64 Image, and version 1 after the entry for loaders in firmware.
fn is_image(block: u64) -> bool {
    // SAFETY: (1) free memory, which the firmware maps, is read.
    let word = |offset: u64| unsafe { ((block + offset) as *const u32).read_volatile() };
    word(56) == 0x644d_5241 && word(68) == 1
}

/// Allocates a page for this program; returns its address.
pub fn page() -> Result<u64, String> {
    let page = boot::allocate_pages(boot::AllocateType::AnyPages, MemoryType::LOADER_DATA, 1);
    page.map(|page| page.as_ptr() as u64).map_err(|error| format!("no page can be allocated: {error}"))
}

/// The bytes at `address`, which is this program's.
pub fn bytes(address: u64, count: usize) -> Vec<u8> {
    let mut copy = vec![0; count];
    for (index, byte) in copy.iter_mut().enumerate() {
        // SAFETY: (1) the page is this program's; a device may write to it.
        *byte = unsafe { (address as *const u8).wrapping_add(index).read_volatile() };
    }
    copy
}

/// Fills `count` bytes at `address`, which is this program's.
pub fn fill(address: u64, byte: u8, count: usize) {
    for index in 0..count {
        // SAFETY: (1) the page is this program's.
        unsafe { (address as *mut u8).wrapping_add(index).write_volatile(byte) };
    }
}
