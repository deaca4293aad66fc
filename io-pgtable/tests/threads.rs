//! A walker on another thread: it walks while the table changes, as hardware does, and a sync waits for it.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use common::{Random, Snooping, Walker, operations};
use io_pgtable::{Attrs, Bbm, Cfg, HeapMemory, IoPgtable, Iova, Pa, Prot, S2, TlbError, TlbOps, TlbRange};

const BLOCK: u64 = 0x20_0000;

/// Waits until the walk that may have begun before the invalidation is over.
///
/// If a table were freed or reused earlier, Miri would report a race between the walker and the new content.
struct WaitForWalker<'a>(&'a AtomicU64);

impl TlbOps for WaitForWalker<'_> {
    fn invalidate(&mut self, _range: TlbRange) {}

    fn sync(&mut self) -> Result<(), TlbError> {
        let walks = self.0.load(Ordering::SeqCst);
        while walks % 2 == 1 && self.0.load(Ordering::SeqCst) == walks {
            std::thread::yield_now();
        }
        Ok(())
    }
}

#[test]
fn a_walker_on_another_thread_sees_old_or_new() {
    let mem = HeapMemory::new(Pa(0x1000_0000), 1 << 20);
    let cfg = Cfg { bbm: Bbm::Level2, ..Cfg::new(40, 40) };
    let mut table = IoPgtable::<S2, _>::new(&cfg, mem.clone()).unwrap();
    let out = table.config();
    let walker = Walker::stage2(out.ttb.0, out.vtcr_el2());
    let attrs = Attrs::normal(Prot::RWX);
    // Page 5 is unmapped and mapped again; the rest of its block and the next block must never fault.
    table.map(Iova(0), Pa(0x8000_0000), 2 * BLOCK, attrs).unwrap();
    let (walks, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (mem, walks, stop) = (&mem, &walks, &stop);
        scope.spawn(move || {
            let mut random = Random(3);
            let mut rounds = 0u64;
            while !stop.load(Ordering::SeqCst) || rounds == 0 {
                let page = random.below(2 * BLOCK / 0x1000);
                walks.fetch_add(1, Ordering::SeqCst);
                // With the fence in `publish`: either the sync waits for this walk, or this walk sees the published
                // stores.
                fence(Ordering::SeqCst);
                let found = walker.translate(&Snooping(mem), page * 0x1000).pa();
                walks.fetch_add(1, Ordering::SeqCst);
                let expected = Some(0x8000_0000 + page * 0x1000);
                assert!(found == expected || page == 5 && found.is_none(), "page {page}: {found:x?}");
                rounds += 1;
            }
        });
        let mut tlb = WaitForWalker(walks);
        for _ in 0..operations(2_000) {
            table.unmap(Iova(5 * 0x1000), 0x1000, &mut tlb).unwrap();
            table.map(Iova(5 * 0x1000), Pa(0x8000_5000), 0x1000, attrs).unwrap();
            // Coalesces the block, so that it is split again.
            assert_eq!(table.coalesce(Iova(0), &mut tlb), Ok(BLOCK));
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(mem.live_tables(), 2);
}
