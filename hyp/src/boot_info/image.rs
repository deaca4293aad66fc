//! The header of an arm64 kernel Image, in the layout of Linux's boot protocol (Documentation/arch/arm64/booting.rst).

use super::error::BootError;

/// Length of the header in bytes.
pub const HEADER_SIZE: usize = 64;

/// `ARM\x64`, little-endian.
const MAGIC: u32 = 0x644d_5241;
/// The first two bytes of a gzip file.
const GZIP: u32 = 0x8b1f;

/// Granule of the kernel's own tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// Not specified in the header.
    Unspecified,
    /// 4 KiB.
    Size4K,
    /// 16 KiB.
    Size16K,
    /// 64 KiB.
    Size64K,
}

/// Fields of the header for a boot loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageHeader {
    /// Offset of the image from a 2 MiB boundary, in bytes.
    pub text_offset: u64,
    /// Memory that the kernel needs from its load address, including .bss, in bytes.
    pub image_size: u64,
    /// Granule of the kernel's own tables.
    pub page_size: PageSize,
}

impl ImageHeader {
    /// Reads the first bytes of a kernel module.
    ///
    /// # Errors
    /// [`BootError::KernelImage`] unless it is a little-endian Image with a size field.
    pub fn parse(header: &[u8; HEADER_SIZE]) -> Result<Self, BootError<'static>> {
        let refuse = |problem, value| Err(BootError::KernelImage { problem, value });
        let magic = u32_at(header, 56);
        if magic != MAGIC {
            let start = u32_at(header, 0);
            if start & 0xffff == GZIP {
                return refuse("compressed with gzip: decompress it", u64::from(start));
            }
            return refuse("not an arm64 Image: bytes 56 to 59 are not ARM\\x64; pass a raw Image", u64::from(magic));
        }
        let (text_offset, image_size, flags) = (u64_at(header, 8), u64_at(header, 16), u64_at(header, 24));
        if flags & 1 != 0 {
            return refuse("a big-endian kernel: pass a little-endian one", flags);
        }
        if image_size == 0 {
            return refuse("its header has no image size (Linux before 3.17): pass a newer one", 0);
        }
        if image_size > 1 << 40 || text_offset >= 1 << 40 {
            return refuse("the image size in its header is impossible: pass an intact one", image_size);
        }
        let page_size = match (flags >> 1) & 3 {
            1 => PageSize::Size4K,
            2 => PageSize::Size16K,
            3 => PageSize::Size64K,
            _ => PageSize::Unspecified,
        };
        Ok(Self { text_offset, image_size, page_size })
    }
}

fn u32_at(header: &[u8; HEADER_SIZE], at: usize) -> u32 {
    header.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(header: &[u8; HEADER_SIZE], at: usize) -> u64 {
    header.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
