use super::*;

fn vm(vmid: u32) -> VmidMatch {
    VmidMatch { vmid, wildcard: 0, removes_nothing: false }
}

fn at(address: u64, leaf: bool) -> ByAddress {
    ByAddress { first: address, last: address | 0xfff, leaf, hint: None, removes_nothing: false }
}

fn s2(address: u64, depth: Depth, shift: u32) -> Tag {
    Tag::S2 { vmid: 1, span: Span::around(address, shift), depth, granule: Granule::K4 }
}

fn s1(asid: AsidTag, depth: Depth) -> Tag {
    let span = Some(Span::around(0x20_0000, 21));
    Tag::S1 { regime: Regime::El1 { vmid: 1 }, asid, span, depth, granule: Some(Granule::K4) }
}

#[test]
fn s2_ipa_removes_stage_2_entries_but_no_combined_ones() {
    let scope = Scope::S2Ipa { vmid: vm(1), by: at(0x20_3000, false) };
    assert!(scope.covers(&s2(0x20_0000, Depth::Leaf(2), 21)));
    assert!(scope.covers(&s2(0x20_3000, Depth::Leaf(3), 12)));
    assert!(!scope.covers(&s2(0x20_4000, Depth::Leaf(3), 12)));
    assert!(!scope.covers(&s1(AsidTag::Any, Depth::AnyLeaf)));
    assert!(!Scope::S2Ipa { vmid: vm(2), by: at(0x20_3000, false) }.covers(&s2(0x20_3000, Depth::Leaf(3), 12)));
}

#[test]
fn leaf_keeps_walk_caches() {
    let leaf = Scope::S2Ipa { vmid: vm(1), by: at(0x20_3000, true) };
    assert!(!leaf.covers(&s2(0x20_0000, Depth::Table(2), 21)));
    assert!(leaf.covers(&s2(0x20_0000, Depth::Leaf(2), 21)));
    let all = Scope::S2Ipa { vmid: vm(1), by: at(0x20_3000, false) };
    assert!(all.covers(&s2(0x20_0000, Depth::Table(2), 21)));
}

#[test]
fn the_level_hint_keeps_entries_of_other_levels() {
    let by = ByAddress { first: 0x20_0000, last: 0x20_0fff, leaf: false, hint: Some((1, 3)), removes_nothing: false };
    let scope = Scope::S2Ipa { vmid: vm(1), by };
    assert!(!scope.covers(&s2(0x20_0000, Depth::Leaf(2), 21)), "a stale block has the level it was inserted at");
    assert!(scope.covers(&s2(0x20_0000, Depth::Leaf(3), 12)));
    assert!(scope.covers(&s2(0x20_0000, Depth::Table(2), 21)));
    let by = ByAddress { hint: Some((1, 2)), ..by };
    assert!(!Scope::S2Ipa { vmid: vm(1), by }.covers(&s2(0x20_0000, Depth::Table(2), 21)));
}

#[test]
fn an_entry_with_tags_of_the_host_needs_an_invalidation_of_the_vmid() {
    let host = Tag::S1 {
        regime: Regime::El1 { vmid: 1 },
        asid: AsidTag::Any,
        span: None,
        depth: Depth::AnyLeaf,
        granule: None,
    };
    assert!(!Scope::NhVaa { vmid: vm(1), by: at(0, false) }.covers(&host));
    assert!(!Scope::NhAsid { vmid: vm(1), asid: 0 }.covers(&host));
    assert!(Scope::NhAll { vmid: vm(1) }.covers(&host));
    assert!(Scope::S12Vmall { vmid: vm(1) }.covers(&host));
    assert!(Scope::NsnhAll.covers(&host));
    assert!(!Scope::El2All.covers(&host));
}

#[test]
fn global_entries_survive_an_asid() {
    let by_asid = Scope::NhAsid { vmid: vm(1), asid: 7 };
    assert!(by_asid.covers(&s1(AsidTag::Asid(7), Depth::Leaf(2))));
    assert!(!by_asid.covers(&s1(AsidTag::Global, Depth::Leaf(2))));
    let by_va = Scope::NhVa { vmid: vm(1), asid: 7, by: at(0x20_0000, true) };
    assert!(by_va.covers(&s1(AsidTag::Global, Depth::Leaf(2))));
    assert!(!by_va.covers(&s1(AsidTag::Asid(8), Depth::Leaf(2))));
}

#[test]
fn config_commands_remove_the_entries_that_the_specification_lists() {
    let ste = Tag::Ste { sid: 0x105 };
    let l1 = Tag::L1Std { first: 0x100, split: 8 };
    let cd = Tag::Cd { sid: 0x105, ssid: 3 };
    let l1cd = Tag::L1Cd { sid: 0x105, index: 0, split: 6 };
    let one = Scope::Ste { sid: 0x105, leaf: true };
    assert!(one.covers(&ste) && one.covers(&cd) && one.covers(&l1cd) && !one.covers(&l1));
    assert!(Scope::Ste { sid: 0x1ff, leaf: false }.covers(&l1));
    assert!(!Scope::Ste { sid: 0x1ff, leaf: false }.covers(&ste));
    let range = Scope::SteRange { first: 0x104, last: 0x107 };
    assert!(range.covers(&ste) && range.covers(&cd) && range.covers(&l1));
    assert!(Scope::Cd { sid: 0x105, ssid: 3, leaf: true }.covers(&cd));
    assert!(!Scope::Cd { sid: 0x105, ssid: 3, leaf: true }.covers(&l1cd));
    assert!(Scope::Cd { sid: 0x105, ssid: 9, leaf: false }.covers(&l1cd));
    assert!(Scope::CdAll { sid: 0x105 }.covers(&cd) && !Scope::CdAll { sid: 0x105 }.covers(&ste));
}

#[test]
fn vmid_wildcards_and_vmids_above_8_bits() {
    let m = VmidMatch { vmid: 0x10, wildcard: 2, removes_nothing: false };
    let entry = |vmid| Tag::S2 { vmid, span: Span::around(0, 12), depth: Depth::Leaf(3), granule: Granule::K4 };
    assert!(Scope::S12Vmall { vmid: m }.covers(&entry(0x13)));
    assert!(!Scope::S12Vmall { vmid: m }.covers(&entry(0x14)));
    assert!(!Scope::S12Vmall { vmid: VmidMatch { removes_nothing: true, ..vm(1) } }.covers(&entry(1)));
}
