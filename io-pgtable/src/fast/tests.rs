//! The fast path compared with the slow path: two tables get the same calls, and one of them never uses the fast path.

use std::vec::Vec;

use crate::common::{Random, operations};

use crate::{
    Attrs, Bbm, Cfg, G4K, G16K, G64K, Granule, HeapMemory, IoPgtable, Iova, MapError, NoTlb, Pa, Prot, S2, TlbError,
    TlbOps, TlbRange, UnmapError,
};

const BASE: u64 = 0x1000_0000;

#[derive(Default, PartialEq, Debug)]
struct Recording {
    ranges: Vec<TlbRange>,
    syncs: usize,
}

impl TlbOps for Recording {
    fn invalidate(&mut self, range: TlbRange) {
        self.ranges.push(range);
    }
    fn sync(&mut self) -> Result<(), TlbError> {
        self.syncs += 1;
        Ok(())
    }
}

/// Makes the same calls on three tables: through the public functions, always on the slow path, and directly on the
/// fast path if it applies, which counts its uses.
struct Tables<G: Granule> {
    user: IoPgtable<S2<G>, HeapMemory>,
    general: IoPgtable<S2<G>, HeapMemory>,
    counted: IoPgtable<S2<G>, HeapMemory>,
    maps: usize,
    unmaps: usize,
}

impl<G: Granule> Tables<G> {
    fn new(cfg: &Cfg) -> Self {
        let table = || IoPgtable::new(cfg, HeapMemory::new(Pa(BASE), 4 << 20)).unwrap();
        Self { user: table(), general: table(), counted: table(), maps: 0, unmaps: 0 }
    }

    fn map(&mut self, iova: u64, pa: u64, size: u64) -> Result<(), MapError> {
        let attrs = Attrs::normal(Prot::RWX);
        let (iova, pa, sizes) = (Iova(iova), Pa(pa), self.user.cfg().page_sizes);
        let result = self.user.map(iova, pa, size, attrs);
        assert_eq!(
            result,
            self.general.map_any(iova, pa, size, attrs, sizes),
            "map {iova:#x} to {pa:#x}, {size:#x} bytes"
        );
        if self.counted.map_fast(iova, pa, size, attrs, sizes) {
            self.maps += 1;
            assert_eq!(result, Ok(()));
        } else {
            assert_eq!(result, self.counted.map_any(iova, pa, size, attrs, sizes));
        }
        self.compare(self.user.memory());
        self.compare(self.counted.memory());
        result
    }

    fn unmap(&mut self, iova: u64, size: u64) -> Result<(), UnmapError> {
        let iova = Iova(iova);
        let [mut user, mut general] = [Recording::default(), Recording::default()];
        let result = self.user.unmap(iova, size, &mut user);
        assert_eq!(result, self.general.unmap_any(iova, size, &mut general), "unmap {iova:#x}, {size:#x} bytes");
        assert_eq!(user, general, "the same invalidation");
        if self.counted.unmap_fast(iova, size).is_some() {
            self.unmaps += 1;
            assert_eq!(result, Ok(()));
        } else {
            assert_eq!(result, self.counted.unmap_any(iova, size, &mut NoTlb));
        }
        self.compare(self.user.memory());
        self.compare(self.counted.memory());
        result
    }

    /// Checks that each word equals that of the table without the fast path, through the caches and in memory.
    fn compare(&self, mem: &HeapMemory) {
        let general = self.general.memory();
        assert_eq!((mem.used(), mem.live_tables()), (general.used(), general.live_tables()));
        // Only some of the words under Miri, which is slow.
        let step = if cfg!(miri) { 61 * 8 } else { 8 };
        for pa in (BASE..BASE + mem.used()).step_by(step).map(Pa) {
            assert_eq!(mem.read64(pa), general.read64(pa), "{pa}");
            if !self.general.cfg().coherent_walk {
                assert_eq!(leaf_poc(mem, pa), leaf_poc(general, pa), "{pa} in memory");
            }
        }
    }
}

/// The word at the point of coherency, without the count of a table, which is not cleaned.
fn leaf_poc(mem: &HeapMemory, pa: Pa) -> Option<u64> {
    const COUNT: u64 = 0x0780_0000_0000_0ffc;
    let table = |word: &u64| word & 3 == 3 && mem.read64(Pa(word & 0x0000_ffff_ffff_f000)).is_some();
    mem.read64_poc(pa).map(|word| if table(&word) { word & !COUNT } else { word })
}

/// Random calls: single leaves, ranges within a table, across its end, of several levels, with and without conflicts.
fn run<G: Granule>(cfg: &Cfg, seed: u64) {
    let mut tables = Tables::<G>::new(cfg);
    let mut random = Random(seed);
    let block = G::PAGE << G::BITS;
    for _ in 0..operations(400) {
        let space = 3 * block;
        let (iova, size) = match random.below(8) {
            0..=2 => (random.below(space / G::PAGE) * G::PAGE, G::PAGE),
            3 | 4 => (random.below(space / G::PAGE) * G::PAGE, (1 + random.below(40)) * G::PAGE),
            5 => (random.below(3) * block, (1 + random.below(2)) * block),
            6 => (block - (1 + random.below(20)) * G::PAGE, (1 + random.below(40)) * G::PAGE),
            _ => (random.below(space / G::PAGE) * G::PAGE, random.below(2) * block + (1 + random.below(8)) * G::PAGE),
        };
        let pa = if random.below(4) == 0 { iova + G::PAGE } else { iova + block };
        if random.below(2) == 0 {
            let _ = tables.map(iova, pa, size);
        } else {
            // Most ranges are where pages are mapped.
            let near = tables.user.leaves(Iova(iova), u64::MAX).next().filter(|_| random.below(4) != 0);
            let _ = tables.unmap(near.map_or(iova, |leaf| leaf.iova.0.max(iova)), size);
        }
    }
    assert!(cfg!(miri) || tables.maps > 50 && tables.unmaps > 50, "{} and {}", tables.maps, tables.unmaps);
}

#[test]
fn the_fast_path_has_the_result_of_the_slow_path() {
    run::<G4K>(&Cfg { bbm: Bbm::Level2, ..Cfg::new(40, 40) }, 21);
    run::<G4K>(&Cfg { coherent_walk: false, ..Cfg::new(48, 48) }, 22);
    run::<G4K>(&Cfg { bbm: Bbm::Level1, page_sizes: 0x1000, ..Cfg::new(32, 40) }, 23);
}

#[test]
#[cfg_attr(miri, ignore = "takes hours; the same code as 4K with larger tables")]
fn with_larger_pages_the_fast_path_has_the_result_of_the_slow_path() {
    run::<G16K>(&Cfg { bbm: Bbm::Level2, ..Cfg::new(40, 40) }, 24);
    run::<G64K>(&Cfg { bbm: Bbm::Level2, ..Cfg::new(40, 40) }, 25);
}

/// Blocks in the root, which has no count, and the last leaf of a table, which only the slow path unmaps.
#[test]
fn where_the_fast_path_applies() {
    let mut tables = Tables::<G4K>::new(&Cfg { bbm: Bbm::Level2, ..Cfg::new(40, 40) });
    let gib = 1u64 << 30;
    for (iova, size) in [(0, gib), (4 * gib, 64 * gib), (2 * gib, 0x1000), (2 * gib + 0x1000, 0x4000)] {
        tables.map(iova, iova, size).unwrap();
    }
    assert_eq!(tables.maps, 3);
    // Refused by both paths: an empty range, and leaves that begin in the output space and end beyond it.
    assert_eq!(tables.map(2 * gib + 0x8000, 0, 0), Err(MapError::Misaligned));
    assert_eq!(tables.unmap(2 * gib, 0), Err(UnmapError::Misaligned));
    for pages in 2..12 {
        let pa = (1 << 40) - 0x1000;
        assert_eq!(tables.map(2 * gib + 0x8000, pa, pages * 0x1000), Err(MapError::OutOfRange));
    }
    for (iova, size) in [(0, gib), (4 * gib, 64 * gib), (2 * gib, 0x1000), (2 * gib + 0x1000, 0x4000)] {
        tables.unmap(iova, size).unwrap();
    }
    assert_eq!((tables.unmaps, tables.general.memory().live_tables()), (3, 1));
}
