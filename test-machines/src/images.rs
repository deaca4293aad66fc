//! Converts an ELF to a raw arm64 Image, which QEMU starts with the device tree's address in x0 (an ELF is started
//! without it).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use object::Endianness;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

/// A larger image would be an error in the linker script.
const MAX_IMAGE: u64 = 64 << 20;
const MAGIC_OFFSET: usize = 56;
const MAGIC: &[u8] = b"ARM\x64";
const TEXT_OFFSET: usize = 8;
const SIZE_OFFSET: usize = 16;

/// Copies the loadable segments of an ELF to their offsets in memory. The image's start-up code clears `.bss`.
///
/// # Errors
/// When the file is no 64-bit little-endian ELF with loadable segments, or the result
/// has no arm64 Image header.
pub fn flatten(elf: &[u8]) -> Result<Vec<u8>> {
    let header = FileHeader64::<Endianness>::parse(elf).context("not a 64-bit ELF")?;
    let endian = header.endian().context("unknown byte order")?;
    let mut segments = Vec::new();
    for program in header.program_headers(endian, elf).context("no program headers")? {
        if program.p_type(endian) == PT_LOAD && program.p_filesz(endian) != 0 {
            let data = program.data(endian, elf).ok().context("a segment lies outside the file")?;
            segments.push((program.p_paddr(endian), data));
        }
    }
    let base = segments.iter().map(|(address, _)| *address).min().context("no loadable segment")?;
    let mut image = Vec::new();
    for (address, data) in segments {
        let offset = address - base;
        if offset > MAX_IMAGE {
            bail!("a segment lies {offset:#x} bytes above the first one at {base:#x}");
        }
        let offset = usize::try_from(offset)?;
        let end = offset + data.len();
        if image.len() < end {
            image.resize(end, 0);
        }
        let place = image.get_mut(offset..end).context("segment out of the image")?;
        place.copy_from_slice(data);
    }
    if image.get(MAGIC_OFFSET..MAGIC_OFFSET + MAGIC.len()) != Some(MAGIC) {
        bail!("no arm64 Image header at the start of the first segment ({base:#x})");
    }
    Ok(image)
}

/// Flattens the ELF at `elf` into the file `image`, unless it is up to date.
///
/// # Errors
/// As [`flatten`], and when a file cannot be read or written.
pub fn flatten_file(elf: &Path, image: &Path) -> Result<()> {
    let bytes = fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
    let flat = flatten(&bytes).with_context(|| format!("in {}", elf.display()))?;
    if fs::read(image).is_ok_and(|present| present == flat) {
        return Ok(());
    }
    fs::write(image, flat).with_context(|| format!("cannot write {}", image.display()))
}

/// Writes the arm64 Image `image` to `to` with `text_offset` in its header: QEMU loads the image at this offset in RAM.
///
/// # Errors
/// When a file cannot be read or written, or is shorter than a header.
pub fn with_text_offset(image: &Path, text_offset: u64, to: &Path) -> Result<()> {
    let mut bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let field = bytes.get_mut(TEXT_OFFSET..TEXT_OFFSET + 8).context("the image is shorter than its header")?;
    field.copy_from_slice(&text_offset.to_le_bytes());
    fs::write(to, bytes).with_context(|| format!("cannot write {}", to.display()))
}

/// Size in memory of an arm64 Image in bytes, from its header or its length.
///
/// # Errors
/// When the file cannot be read.
pub fn image_extent(image: &Path) -> Result<u64> {
    let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let in_header =
        bytes.get(SIZE_OFFSET..SIZE_OFFSET + 8).and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes);
    let is_image = bytes.get(MAGIC_OFFSET..MAGIC_OFFSET + MAGIC.len()) == Some(MAGIC);
    let length = u64::try_from(bytes.len())?;
    Ok(if is_image { length.max(in_header) } else { length })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minimal ELF with two segments, the higher one first in the file's table.
    fn elf(magic: &[u8]) -> Vec<u8> {
        let mut first = vec![0u8; 64];
        first.splice(MAGIC_OFFSET..MAGIC_OFFSET + magic.len(), magic.iter().copied());
        let second = [7u8; 8];
        let mut file = Vec::new();
        file.extend(b"\x7fELF\x02\x01\x01");
        file.resize(16, 0);
        file.extend(2u16.to_le_bytes());
        file.extend(183u16.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(0x4020_0000u64.to_le_bytes());
        file.extend(64u64.to_le_bytes());
        file.extend(0u64.to_le_bytes());
        file.extend(0u32.to_le_bytes());
        for half in [64u16, 56, 2, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        let data = 64 + 2 * 56;
        for (offset, address, length) in [(data + 64, 0x4020_0080u64, 8u64), (data, 0x4020_0000, 64)] {
            file.extend(1u32.to_le_bytes());
            file.extend(5u32.to_le_bytes());
            file.extend(u64::try_from(offset).unwrap_or_default().to_le_bytes());
            file.extend(address.to_le_bytes());
            file.extend(address.to_le_bytes());
            file.extend(length.to_le_bytes());
            file.extend((length + 4096).to_le_bytes());
            file.extend(4u64.to_le_bytes());
        }
        file.extend(first);
        file.extend(second);
        file
    }

    #[test]
    fn segments_are_copied_to_their_offset() -> Result<()> {
        let image = flatten(&elf(MAGIC))?;
        assert_eq!(image.len(), 0x88);
        assert_eq!(image.get(0x40..0x80), Some([0u8; 64].as_slice()));
        assert_eq!(image.get(0x80..), Some([7u8; 8].as_slice()));
        Ok(())
    }

    #[test]
    fn an_image_without_the_header_is_refused() {
        assert!(flatten(&elf(b"none")).is_err());
        assert!(flatten(b"#!/bin/sh").is_err());
    }
}
