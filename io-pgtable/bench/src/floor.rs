//! The lower bound: stores or loads the descriptors in one flat array, and nothing else.

use std::hint::black_box;

use crate::peers::LEAF;
use crate::subject::Subject;

const PAGE: u64 = 4096;
const BLOCK: u64 = 0x20_0000;
const GIB: u64 = 0x4000_0000;
/// Pages of 1 GiB; also enough for 64 GiB of blocks.
const SLOTS: usize = 0x4_0000;

/// One array for each leaf size.
pub(crate) struct Floor {
    slots: Box<[u64]>,
    split: Box<[u64; 512]>,
}

impl Floor {
    fn fill(&mut self, iova: u64, size: u64, leaf: u64, first: u64, step: u64) {
        let (shift, mask) = match leaf {
            PAGE => (12, SLOTS - 1),
            BLOCK => (21, SLOTS - 1),
            _ => (30, SLOTS - 1),
        };
        let start = (iova >> shift) as usize & mask;
        let n = (size >> shift) as usize;
        let mut desc = first;
        if let Some(slots) = self.slots.get_mut(start..start + n) {
            for slot in slots.iter_mut() {
                *slot = desc;
                desc = desc.wrapping_add(step);
            }
            black_box(slots.as_mut_ptr());
        }
    }
}

impl Subject for Floor {
    const NAME: &'static str = "floor";
    const SPLITS: bool = true;

    fn new(_bits: u32) -> Self {
        Self { slots: vec![0; SLOTS].into_boxed_slice(), split: Box::new([0; 512]) }
    }

    #[inline]
    fn map(&mut self, iova: u64, pa: u64, size: u64, leaf: u64) {
        self.fill(iova, size, leaf, pa | LEAF | 3, leaf);
    }

    #[inline]
    fn unmap(&mut self, iova: u64, size: u64, leaf: u64) {
        self.fill(iova, size, leaf, 0, 0);
    }

    #[inline]
    fn hole(&mut self, iova: u64) {
        let mut desc = iova & !(BLOCK - 1) | LEAF | 3;
        for slot in self.split.iter_mut() {
            *slot = desc;
            desc += PAGE;
        }
        self.split[(iova / PAGE % 512) as usize] = 0;
        black_box(self.split.as_mut_ptr());
    }

    #[inline]
    fn translate(&self, iova: u64) -> u64 {
        debug_assert!(iova < 4 * GIB);
        let slot = (iova >> 12) as usize & (SLOTS - 1);
        self.slots.get(slot).map_or(0, |desc| desc & 0x0000_ffff_ffff_f000 | iova & (PAGE - 1))
    }
}
