//! Tests with SMMUs that keep every used translation until it is invalidated.

use std::vec::Vec;

use io_pgtable::{Bbm, Cfg, HeapMemory, Ipa, MemType, Pa, Prot};

use crate::{
    Disagreement, Finding, Invalidate, InvalidateError, PageRange, Plan, ShadowS2, SnapshotError, TableError, Target,
};

const RAM: u64 = 0x4000_0000;
const GIB: u64 = 1 << 30;
const MIB2: u64 = 2 << 20;
const PAGE: u64 = 4096;
const ITS: u64 = 0x0809_0000;

/// SMMUs that evict nothing by themselves.
#[derive(Default)]
struct Smmus {
    /// Cached leaves: start and size.
    cached: Vec<(u64, u64)>,
    plans: Vec<Plan>,
    /// Number of later plans that are not completed.
    failing: usize,
}

impl Smmus {
    /// A device accesses `ipa`: the leaf, if any, is cached.
    fn touch(&mut self, shadow: &ShadowS2<HeapMemory>, ipa: u64) {
        self.cached.extend(shadow.leaf(Ipa(ipa)).map(|leaf| (leaf.iova.0, leaf.size)));
    }

    /// Whether a device reaches `ipa`, through the table or through a cached leaf.
    fn reach(&self, shadow: &ShadowS2<HeapMemory>, ipa: u64) -> bool {
        let cached = self.cached.iter().any(|&(start, size)| (start..start + size).contains(&ipa));
        cached || shadow.leaf(Ipa(ipa)).is_some()
    }
}

impl Invalidate for Smmus {
    fn invalidate(&mut self, plan: &Plan) -> Result<(), InvalidateError> {
        self.plans.push(*plan);
        if self.failing > 0 {
            self.failing -= 1;
            return Err(InvalidateError);
        }
        match plan.target {
            Target::All => self.cached.clear(),
            Target::Range { start: Ipa(start), bytes, .. } => {
                let (first, end) = (start, start + bytes);
                self.cached.retain(|&(start, size)| start + size <= first || end <= start);
            }
        }
        Ok(())
    }
}

fn range(start: u64, bytes: u64) -> PageRange {
    PageRange::covering(Ipa(start), bytes).unwrap()
}

/// Memory that is mapped page by page; small under Miri, where each page takes long.
const PAGED: u64 = if cfg!(miri) { 2 * MIB2 } else { 16 * MIB2 };

fn shadow(bbm: Bbm, ram: &[PageRange]) -> (ShadowS2<HeapMemory>, HeapMemory) {
    let memory = HeapMemory::new(Pa(0x1_0000_0000), 24 << 20);
    let mut shadow = ShadowS2::new(Cfg { bbm, ..Cfg::new(40, 40) }, memory.clone()).unwrap();
    shadow.snapshot(ram.iter().copied(), [range(ITS, 0x1_0000)]).unwrap();
    (shadow, memory)
}

#[test]
fn the_snapshot_is_the_owners_memory_and_the_given_registers() {
    for bbm in [Bbm::Level0, Bbm::Level1, Bbm::Level2] {
        let size = if bbm == Bbm::Level2 { GIB } else { PAGED };
        let ram = [range(RAM, size), range(0x1_4000_0000, 0x5000)];
        let (shadow, _) = shadow(bbm, &ram);
        assert_eq!(shadow.audit(ram, &[range(ITS, 0x1_0000)]), Ok(()));
        let leaf = shadow.leaf(Ipa(RAM + 0x12_3456)).unwrap();
        assert_eq!((leaf.attrs.prot, leaf.attrs.mem), (Prot::RW, MemType::Normal));
        assert_eq!(leaf.size, if bbm == Bbm::Level2 { GIB } else { PAGE });
        let its = shadow.leaf(Ipa(ITS)).unwrap();
        assert_eq!((its.attrs.prot, its.attrs.mem), (Prot::RW, MemType::Device));
        for ipa in [0, ITS - 1, ITS + 0x1_0000, 0x0900_0000, RAM - 1, RAM + size, 0x1_4000_5000] {
            assert_eq!(shadow.leaf(Ipa(ipa)), None, "{ipa:#x}");
        }
    }
}

#[test]
fn a_4_gib_host_takes_64_kib_of_tables_where_blocks_are_allowed() {
    let (shadow, memory) = shadow(Bbm::Level2, &[range(RAM, 4 * GIB)]);
    assert!(memory.live_bytes() <= 64 << 10, "{} bytes", memory.live_bytes());
    assert_eq!(shadow.table().table_bytes(), memory.live_bytes());
}

#[test]
fn t02_t04_t46_a_cached_block_does_not_outlive_the_revocation_of_a_page() {
    for bbm in [Bbm::Level0, Bbm::Level1, Bbm::Level2] {
        for bytes in [PAGE, 3 * PAGE, MIB2, MIB2 + PAGE].into_iter().take(if cfg!(miri) { 2 } else { 4 }) {
            let ram = if bbm == Bbm::Level2 { GIB } else { PAGED };
            let (mut shadow, _) = shadow(bbm, &[range(RAM, ram)]);
            let mut smmus = Smmus::default();
            let start = RAM + MIB2 - PAGE;
            for ipa in (start - PAGE..start + bytes + PAGE).step_by(4096) {
                smmus.touch(&shadow, ipa);
            }
            assert_eq!(shadow.revoke(range(start, bytes), &mut smmus), Ok(()));
            for ipa in (start..start + bytes).step_by(4096) {
                assert!(!smmus.reach(&shadow, ipa), "{bbm:?} {ipa:#x}");
            }
            assert!(smmus.reach(&shadow, start - PAGE) && smmus.reach(&shadow, start + bytes));
            assert_eq!(smmus.plans.len(), 1, "one plan for all pages");
            let before = range(RAM, start - RAM);
            let after = PageRange::between(Ipa(start + bytes), Ipa(RAM + ram)).unwrap();
            assert_eq!(shadow.audit([before, after], &[range(ITS, 0x1_0000)]), Ok(()));
        }
    }
}

#[test]
fn a_plan_covers_the_pages_that_were_revoked() {
    let (mut shadow, _) = shadow(Bbm::Level2, &[range(RAM, GIB)]);
    let mut smmus = Smmus::default();
    shadow.revoke(range(RAM, PAGE), &mut smmus).unwrap();
    shadow.revoke(range(RAM + PAGE, PAGE), &mut smmus).unwrap();
    let Target::Range { start, bytes } = smmus.plans.first().unwrap().target else { panic!("a range") };
    assert!(start.0 <= RAM && start.0 + bytes >= RAM + PAGE);
    let target = Target::Range { start: Ipa(RAM + PAGE), bytes: PAGE };
    assert_eq!(smmus.plans.get(1), Some(&Plan { target }));
}

#[test]
fn a_granted_page_is_reachable_without_an_invalidation() {
    let (mut shadow, _) = shadow(Bbm::Level2, &[range(RAM, GIB)]);
    let mut smmus = Smmus::default();
    shadow.revoke(range(RAM, 2 * PAGE), &mut smmus).unwrap();
    shadow.grant(range(RAM, PAGE)).unwrap();
    assert!(smmus.reach(&shadow, RAM) && !smmus.reach(&shadow, RAM + PAGE));
    assert_eq!(smmus.plans.len(), 1);
    assert_eq!(shadow.grant(range(RAM, 2 * PAGE)), Err(TableError::Overlap(Ipa(RAM))));
    assert!(!smmus.reach(&shadow, RAM + PAGE), "a failed grant changes nothing");
}

#[test]
fn t35_without_memory_nothing_changes() {
    let ram = [range(RAM, GIB)];
    let its = [range(ITS, 0x1_0000)];
    let (mut shadow, memory) = shadow(Bbm::Level2, &ram);
    let mut smmus = Smmus::default();
    for allowed in 0..2 {
        memory.fail_after(Some(allowed));
        assert_eq!(shadow.revoke(range(RAM + PAGE, PAGE), &mut smmus), Err(TableError::NoMemory), "{allowed}");
        assert_eq!(shadow.audit(ram, &its), Ok(()));
    }
    assert!(smmus.plans.is_empty());
    memory.fail_after(None);
    let tables = memory.live_tables();
    assert_eq!(shadow.revoke(range(RAM + PAGE, PAGE), &mut smmus), Ok(()));
    assert_eq!(memory.live_tables(), tables + 2, "from 1 GiB to pages");
}

#[test]
fn t47_a_page_stays_with_its_owner_after_a_timeout() {
    let ram = [range(RAM, PAGED)];
    let its = [range(ITS, 0x1_0000)];
    for bbm in [Bbm::Level0, Bbm::Level2] {
        let (mut shadow, memory) = shadow(bbm, &ram);
        let mut smmus = Smmus { failing: 3, ..Smmus::default() };
        assert_eq!(shadow.revoke(range(RAM, MIB2), &mut smmus), Err(TableError::NotCompleted));
        assert_eq!(shadow.audit(ram, &its), Ok(()), "the owner still has the whole range");
        assert!(shadow.invalidation_pending());
        // A retry costs one invalidation: no table is leaked each time.
        let (tables, lost) = (memory.live_tables(), shadow.quarantined());
        for _ in 0..2 {
            assert_eq!(shadow.revoke(range(RAM, MIB2), &mut smmus), Err(TableError::NotCompleted));
            assert_eq!(smmus.plans.last(), Some(&Plan::everything()));
        }
        assert_eq!((memory.live_tables(), shadow.quarantined()), (tables, lost));
        assert_eq!(shadow.audit(ram, &its), Ok(()));
        // The SMMU responds again.
        assert_eq!(shadow.revoke(range(RAM, MIB2), &mut smmus), Ok(()));
        assert!(!shadow.invalidation_pending() && !smmus.reach(&shadow, RAM));
        assert_eq!(shadow.stats().failed_plans, 3);
    }
}

#[test]
fn t47_tables_that_a_failed_smmu_may_walk_are_never_used_again() {
    let (mut shadow, memory) = shadow(Bbm::Level0, &[range(RAM, MIB2)]);
    let mut smmus = Smmus { failing: 1, ..Smmus::default() };
    let lost = shadow.table().lookup(Ipa(RAM).into()).map(|leaf| leaf.level);
    assert_eq!(lost, Some(3));
    let live = memory.live_tables();
    assert_eq!(shadow.revoke(range(RAM, MIB2), &mut smmus), Err(TableError::NotCompleted));
    assert!(shadow.quarantined() > 0);
    assert_eq!(memory.live_bytes(), shadow.table().table_bytes() + shadow.quarantined());
    assert!(memory.live_tables() > live, "the old tables were not reused");
}

#[test]
fn a_page_that_cannot_be_mapped_again_is_mapped_by_a_retry() {
    let ram = [range(RAM, MIB2)];
    let its = [range(ITS, 0x1_0000)];
    let (mut shadow, memory) = shadow(Bbm::Level0, &ram);
    let mut smmus = Smmus { failing: 1, ..Smmus::default() };
    memory.fail_after(Some(0));
    assert_eq!(shadow.revoke(range(RAM, MIB2), &mut smmus), Err(TableError::NotCompleted));
    assert_eq!(shadow.leaf(Ipa(RAM)), None);
    assert_eq!(shadow.revoke(range(RAM, PAGE), &mut smmus), Err(TableError::NoMemory));
    assert_eq!(shadow.retry_invalidation(&mut smmus), Err(TableError::NoMemory));
    memory.fail_after(None);
    assert_eq!(shadow.retry_invalidation(&mut smmus), Ok(()));
    assert_eq!(shadow.audit(ram, &its), Ok(()));
}

/// It is not mapped when it is revoked again, but the SMMU may still translate it.
#[test]
fn t68_a_page_that_a_failed_revocation_left_unmapped_is_not_treated_as_revoked() {
    let (mut shadow, memory) = shadow(Bbm::Level0, &[range(RAM, PAGE)]);
    let mut smmus = Smmus { failing: 2, ..Smmus::default() };
    smmus.touch(&shadow, RAM);
    memory.fail_after(Some(0));
    for _ in 0..2 {
        assert_eq!(shadow.revoke_mapped(range(RAM, PAGE), &mut smmus), Err(TableError::NotCompleted));
        assert!(smmus.reach(&shadow, RAM) && shadow.leaf(Ipa(RAM)).is_none());
    }
    memory.fail_after(None);
    assert_eq!(shadow.revoke_mapped(range(RAM, PAGE), &mut smmus), Ok(()));
    assert!(!smmus.reach(&shadow, RAM));
}

#[test]
fn the_mapped_pages_of_a_range_with_gaps_are_revoked() {
    let (mut shadow, _) = shadow(Bbm::Level0, &[range(RAM, MIB2), range(RAM + 2 * MIB2, 2 * MIB2)]);
    let mut smmus = Smmus::default();
    shadow.revoke(range(RAM + 4 * PAGE, PAGE), &mut smmus).unwrap();
    assert_eq!(shadow.revoke_mapped(range(RAM + PAGE, 2 * MIB2), &mut smmus), Ok(()));
    let reached: Vec<u64> = (0..MIB2 / PAGE * 4).filter(|n| shadow.leaf(Ipa(RAM + n * PAGE)).is_some()).collect();
    assert!(reached.into_iter().eq([0].into_iter().chain(2 * MIB2 / PAGE + 1..4 * MIB2 / PAGE)));
}

#[test]
fn memory_above_the_output_size_is_never_mapped_and_revoked_without_a_change() {
    let memory = HeapMemory::new(Pa(0), 1 << 20);
    let mut shadow = ShadowS2::new(Cfg { bbm: Bbm::Level2, ..Cfg::new(32, 32) }, memory).unwrap();
    let ram = range(0xc000_0000, 2 * GIB);
    shadow.snapshot([ram], []).unwrap();
    let mut smmus = Smmus::default();
    assert!(shadow.leaf(Ipa(0xffff_f000)).is_some() && shadow.leaf(Ipa(0x1_0000_0000)).is_none());
    assert_eq!(shadow.revoke(range(0x1_0000_0000, PAGE), &mut smmus), Ok(()));
    assert!(smmus.plans.is_empty());
    assert_eq!(shadow.grant(range(0x1_0000_0000, PAGE)), Ok(()));
    // A range across the end: the part below it is revoked.
    assert_eq!(shadow.revoke(range(0xffff_f000, 2 * PAGE), &mut smmus), Ok(()));
    assert!(!smmus.reach(&shadow, 0xffff_f000));
    let below = range(0xc000_0000, GIB - PAGE);
    assert_eq!(shadow.audit([below, range(0x1_0000_0000, GIB)], &[]), Ok(()));
}

#[test]
fn bad_requests_return_specific_errors() {
    let (mut shadow, memory) = shadow(Bbm::Level2, &[range(RAM, MIB2)]);
    let mut smmus = Smmus::default();
    assert_eq!(
        shadow.revoke(range(RAM + MIB2 - PAGE, 2 * PAGE), &mut smmus),
        Err(TableError::NotMapped(Ipa(RAM + MIB2)))
    );
    assert!(smmus.plans.is_empty() && smmus.reach(&shadow, RAM + MIB2 - PAGE));
    assert_eq!(shadow.snapshot([range(RAM + PAGE, PAGE)], []), Err(SnapshotError::Overlap(Ipa(RAM + PAGE))));
    assert_eq!(shadow.snapshot([], [range(1 << 40, PAGE)]), Err(SnapshotError::Unmappable(Ipa(1 << 40))));
    memory.fail_after(Some(0));
    assert_eq!(shadow.snapshot([range(8 * GIB + PAGE, PAGE)], []), Err(SnapshotError::NoMemory));
}

#[test]
fn next_leaf_returns_the_first_leaf_that_ends_after_the_address() {
    let (mut shadow, _) = shadow(Bbm::Level2, &[range(RAM, 2 * MIB2), range(8 * GIB, PAGE)]);
    let mut smmus = Smmus::default();
    shadow.revoke(range(RAM + MIB2, PAGE), &mut smmus).unwrap();
    let next = |from: u64| shadow.next_leaf(Ipa(from)).map(|leaf| (leaf.iova.0, leaf.size));
    for (from, expected) in [
        (0, Some((ITS, PAGE))),
        (ITS + 0xffff, Some((ITS + 0xf000, PAGE))),
        (ITS + 0x1_0000, Some((RAM, MIB2))),
        (RAM, Some((RAM, MIB2))),
        (RAM + PAGE, Some((RAM, MIB2))),
        (RAM + MIB2, Some((RAM + MIB2 + PAGE, PAGE))),
        (RAM + 2 * MIB2, Some((8 * GIB, PAGE))),
        (8 * GIB + PAGE, None),
        (1 << 40, None),
        (u64::MAX, None),
    ] {
        assert_eq!(next(from), expected, "from {from:#x}");
    }
}

#[test]
fn every_error_message_has_the_cause_and_the_address() {
    use std::string::{String, ToString};
    let at = Ipa(0x1234_5000);
    let located: [String; 5] = [
        SnapshotError::Overlap(at).to_string(),
        SnapshotError::Unmappable(at).to_string(),
        TableError::NotMapped(at).to_string(),
        TableError::Overlap(at).to_string(),
        Disagreement { ipa: at, finding: Finding::Foreign }.to_string(),
    ];
    for text in located {
        assert!(text.contains(&at.to_string()), "{text}");
    }
    for (text, word) in [
        (SnapshotError::NoMemory.to_string(), "memory"),
        (TableError::NoMemory.to_string(), "memory"),
        (TableError::NotCompleted.to_string(), "complete"),
        (TableError::Unmappable.to_string(), "mapped"),
        (TableError::NoMemory.to_string(), "memory"),
        (TableError::Unmappable.to_string(), "mapped"),
        (InvalidateError.to_string(), "complete"),
    ] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn the_audit_returns_the_first_page() {
    let ram = range(RAM, MIB2);
    let its = range(ITS, 0x1_0000);
    let (shadow, _) = shadow(Bbm::Level2, &[ram]);
    let found = |memory: &[PageRange], registers: &[PageRange]| shadow.audit(memory.iter().copied(), registers);
    let disagree = |ipa, finding| Err(Disagreement { ipa: Ipa(ipa), finding });
    assert_eq!(found(&[ram], &[its]), Ok(()));
    assert_eq!(found(&[ram], &[]), disagree(ITS, Finding::Foreign));
    assert_eq!(found(&[ram], &[range(ITS, PAGE)]), disagree(ITS + PAGE, Finding::Foreign));
    assert_eq!(found(&[], &[its]), disagree(RAM, Finding::Foreign));
    assert_eq!(found(&[], &[its, ram]), disagree(RAM, Finding::WrongKind));
    assert_eq!(found(&[range(RAM, PAGE)], &[its]), disagree(RAM + PAGE, Finding::Foreign));
    assert_eq!(found(&[range(RAM - PAGE, MIB2)], &[its]), disagree(RAM - PAGE, Finding::Missing));
    assert_eq!(found(&[range(RAM, MIB2 + PAGE)], &[its]), disagree(RAM + MIB2, Finding::Missing));
    assert_eq!(found(&[ram, range(8 * GIB, PAGE)], &[its]), disagree(8 * GIB, Finding::Missing));
    assert_eq!(found(&[range(RAM, PAGE), range(RAM + 2 * PAGE, PAGE)], &[its]), disagree(RAM + PAGE, Finding::Foreign));
}

#[test]
fn several_tables_of_a_range_are_in_one_plan() {
    let (mut shadow, memory) = shadow(Bbm::Level0, &[range(RAM, 64 << 20)]);
    let mut smmus = Smmus::default();
    let tables = memory.live_tables();
    shadow.revoke(range(RAM + PAGE, 8 * MIB2), &mut smmus).unwrap();
    assert_eq!(smmus.plans.len(), 1);
    assert_eq!(memory.live_tables(), tables - 7, "empty tables were freed after the plan");
}

#[test]
fn t46_a_coalesced_block_is_revoked_as_any_other() {
    let ram = [range(RAM, GIB)];
    let its = [range(ITS, 0x1_0000)];
    let (mut shadow, memory) = shadow(Bbm::Level2, &ram);
    let mut smmus = Smmus::default();
    let tables = memory.live_tables();
    let (a, b) = (range(RAM + PAGE, PAGE), range(RAM + 3 * MIB2, MIB2 + PAGE));
    shadow.revoke(a, &mut smmus).unwrap();
    shadow.revoke(b, &mut smmus).unwrap();
    shadow.grant(a).unwrap();
    assert_eq!(shadow.coalesce(a, &mut smmus), Ok(MIB2), "the gigabyte still has an unmapped page");
    shadow.grant(b).unwrap();
    // Pages are cached while their block is coalesced.
    smmus.touch(&shadow, RAM + 4 * MIB2);
    assert_eq!(shadow.coalesce(b, &mut smmus), Ok(GIB));
    assert_eq!((memory.live_tables(), shadow.audit(ram, &its)), (tables, Ok(())));
    smmus.touch(&shadow, RAM + 4 * MIB2 + PAGE);
    assert_eq!(shadow.revoke(range(RAM + 4 * MIB2, PAGE), &mut smmus), Ok(()));
    assert!(!smmus.reach(&shadow, RAM + 4 * MIB2));
    assert_eq!(shadow.stats().coalesced, MIB2 + GIB);
}

#[test]
fn a_timeout_in_coalescing_blocks_revocations_until_a_full_invalidation() {
    let (mut shadow, memory) = shadow(Bbm::Level2, &[range(RAM, MIB2)]);
    let mut smmus = Smmus::default();
    shadow.revoke(range(RAM, PAGE), &mut smmus).unwrap();
    shadow.grant(range(RAM, PAGE)).unwrap();
    smmus.failing = 2;
    let live = memory.live_tables();
    assert_eq!(shadow.coalesce(range(RAM, PAGE), &mut smmus), Err(TableError::NotCompleted));
    assert_eq!((memory.live_tables(), shadow.quarantined()), (live, 4096));
    assert!(shadow.invalidation_pending());
    assert!(smmus.reach(&shadow, RAM), "the owner has the page");
    assert_eq!(shadow.revoke(range(RAM, PAGE), &mut smmus), Err(TableError::NotCompleted));
    assert_eq!(shadow.revoke(range(RAM, PAGE), &mut smmus), Ok(()));
    assert!(!smmus.reach(&shadow, RAM));
}

#[test]
fn without_blocks_nothing_is_coalesced() {
    let (mut shadow, _) = shadow(Bbm::Level1, &[range(RAM, 2 * MIB2)]);
    let mut smmus = Smmus::default();
    assert_eq!(shadow.coalesce(range(RAM, 2 * MIB2), &mut smmus), Ok(0));
    assert!(smmus.plans.is_empty());
}
