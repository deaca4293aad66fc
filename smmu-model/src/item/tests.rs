use super::*;
use crate::arch::desc::Granule;
use crate::inval::{AsidTag, ByAddress, Depth, Regime, Scope, Span, VmidMatch};

const VMID: VmidMatch = VmidMatch { vmid: 1, wildcard: 0, removes_nothing: false };

fn word(start: Time, end: Option<Time>) -> Version {
    Version { value: 0, start, end }
}

fn s2_leaf(start: Time, end: Option<Time>) -> Rc<Item> {
    let tag = Tag::S2 { vmid: 1, span: Span::around(0x1000, 12), depth: Depth::Leaf(3), granule: Granule::K4 };
    Item::new(tag, vec![word(start, end)], vec![])
}

fn combined(source: Rc<Item>) -> Rc<Item> {
    let regime = Regime::El1 { vmid: 1 };
    let tag = Tag::S1 { regime, asid: AsidTag::Any, span: None, depth: Depth::AnyLeaf, granule: None };
    Item::new(tag, vec![], vec![source])
}

fn s2_ipa() -> Scope {
    let by = ByAddress { first: 0x1000, last: 0x1fff, leaf: false, hint: None, removes_nothing: false };
    Scope::S2Ipa { vmid: VMID, by }
}

fn line(invals: &[(Scope, Time, Option<Time>)]) -> Timeline {
    let invalidations = invals.iter().map(|&(scope, consumed, completed)| Invalidation { scope, consumed, completed });
    Timeline { invalidations: invalidations.collect(), enabled: vec![(0, None)] }
}

#[test]
fn an_entry_stays_until_its_invalidation_is_complete() {
    let leaf = s2_leaf(2, Some(10));
    assert!(line(&[]).usable_at(&leaf, 20));
    assert!(line(&[(s2_ipa(), 12, None)]).usable_at(&leaf, 20));
    assert!(!line(&[(s2_ipa(), 12, Some(14))]).usable_at(&leaf, 20));
    assert!(
        line(&[(s2_ipa(), 5, Some(7))]).usable_at(&leaf, 20),
        "it can have been read again after that invalidation"
    );
}

#[test]
fn a_combined_entry_survives_the_stage_2_invalidation() {
    let entry = combined(s2_leaf(2, Some(10)));
    assert!(line(&[(s2_ipa(), 12, Some(14))]).usable_at(&entry, 20));
    let nh = Scope::NhAll { vmid: VMID };
    assert!(!line(&[(s2_ipa(), 12, Some(14)), (nh, 15, Some(17))]).usable_at(&entry, 20));
}

#[test]
fn without_a_sync_between_them_a_combined_entry_is_created_again() {
    let entry = combined(s2_leaf(2, Some(10)));
    let nh = Scope::NhAll { vmid: VMID };
    assert!(line(&[(s2_ipa(), 12, Some(17)), (nh, 13, Some(17))]).usable_at(&entry, 20));
    let both = Scope::S12Vmall { vmid: VMID };
    assert!(!line(&[(both, 13, Some(17))]).usable_at(&entry, 20), "one command covers both entries");
}

#[test]
fn tlb_entries_are_created_again_from_stale_configuration() {
    let ste = Item::new(Tag::Ste { sid: 4 }, vec![word(1, Some(10))], vec![]);
    let tag = Tag::S2 { vmid: 1, span: Span::around(0, 12), depth: Depth::Leaf(3), granule: Granule::K4 };
    let leaf = Item::new(tag, vec![word(2, None)], vec![ste]);
    let all = Scope::SteRange { first: 0, last: u32::MAX };
    let tlb_first = [(Scope::NsnhAll, 12, Some(20)), (all, 14, Some(20))];
    assert!(line(&tlb_first).usable_at(&leaf, 30), "between 12 and 20 the stale STE was still cached");
    let config_first = [(all, 12, Some(14)), (Scope::NsnhAll, 16, Some(20))];
    assert!(!line(&config_first).usable_at(&leaf, 30));
}

#[test]
fn words_of_a_structure_may_be_fetched_at_different_times() {
    let ste = Item::new(Tag::Ste { sid: 4 }, vec![word(1, Some(10)), word(12, None)], vec![]);
    assert!(line(&[]).usable_at(&ste, 20));
    let cfgi = Scope::Ste { sid: 4, leaf: true };
    assert!(line(&[(cfgi, 9, Some(13))]).usable_at(&ste, 20), "word 0 was fetched at 9, word 1 at 12");
    assert!(!line(&[(cfgi, 10, Some(13))]).usable_at(&ste, 20));
}

#[test]
fn nothing_is_cached_while_disabled() {
    let mut timeline = line(&[(Scope::NsnhAll, 12, Some(14))]);
    timeline.enabled = vec![(0, Some(11)), (20, None)];
    assert!(!timeline.usable_at(&s2_leaf(2, None), 15));
    assert!(timeline.usable_at(&s2_leaf(2, None), 21));
    assert!(!timeline.usable_at(&s2_leaf(2, Some(18)), 21));
}

#[test]
fn pruning_needs_a_complete_cfgi_all_before_the_tlb_invalidation() {
    let all = Scope::SteRange { first: 0, last: u32::MAX };
    let mut good = line(&[(s2_ipa(), 3, Some(4)), (all, 5, Some(6)), (Scope::NsnhAll, 7, Some(8))]);
    assert_eq!(good.prune(Regimes::El1), Some(5));
    assert_eq!(good.invalidations.len(), 2);
    assert_eq!(good.prune(Regimes::El1AndEl2), None);
    let mut bad = line(&[(Scope::NsnhAll, 5, Some(6)), (all, 7, Some(8))]);
    assert_eq!(bad.prune(Regimes::El1), None);
}

#[test]
fn an_overwritten_item_is_gone_after_a_later_invalidation_is_complete() {
    let leaf = s2_leaf(2, Some(10));
    let all = [(s2_ipa(), 5, Some(7)), (s2_ipa(), 12, Some(14)), (s2_ipa(), 15, Some(18)), (Scope::NsnhAll, 20, None)];
    assert_eq!(line(&all).gone_at(&leaf), 14);
    assert_eq!(line(&all[..1]).gone_at(&leaf), Time::MAX, "it can have been read again after that invalidation");
    assert_eq!(line(&all[3..]).gone_at(&leaf), Time::MAX, "an invalidation that is not complete removes nothing");
    assert_eq!(line(&all).gone_at(&s2_leaf(2, None)), Time::MAX, "it is still in memory");
}
