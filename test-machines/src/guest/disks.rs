//! Disks with reproducible content: the guest compares the data that it reads by DMA with a digest computed by xtask.

use std::path::{Path, PathBuf};

use anyhow::Result;
use md5::{Digest, Md5};

use crate::guest;

/// The part of a disk that the guest reads, from its start, in MiB.
pub const READ_MIB: usize = 16;

/// A file of pseudo-random bytes and the digest of the part that the guest reads.
#[derive(Clone, Debug)]
pub struct Disk {
    /// A raw image.
    pub path: PathBuf,
    /// Digest of its first [`READ_MIB`] MiB, or of the whole disk if it is shorter.
    pub md5: String,
}

/// Creates `dir/name` with `mib` MiB that depend only on `seed`, unless it exists.
///
/// # Errors
/// When the file cannot be written.
pub fn ensure(dir: &Path, name: &str, mib: usize, seed: u64) -> Result<Disk> {
    let bytes = pseudo_random(mib << 20, seed);
    let path = dir.join(name);
    let read = bytes.get(..READ_MIB << 20).unwrap_or(&bytes);
    let md5 = hex(&Md5::digest(read));
    guest::write_if_changed(&path, &bytes)?;
    Ok(Disk { path, md5 })
}

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators).
fn pseudo_random(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend((mixed ^ (mixed >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_returns_the_published_sequence() {
        // First output of SplitMix64 for the seed 0.
        let first = 0xe220_a839_7b1d_cdafu64.to_le_bytes();
        assert_eq!(pseudo_random(8, 0), first);
        assert_eq!(pseudo_random(5, 0).len(), 5);
    }

    #[test]
    fn digests_are_written_as_md5sum_writes_them() {
        assert_eq!(hex(&Md5::digest(b"")), "d41d8cd98f00b204e9800998ecf8427e");
    }
}
