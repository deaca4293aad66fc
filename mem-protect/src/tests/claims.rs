//! Claims: the accesses that they allow, the transitions that they prevent, and their release.

use io_pgtable::Ipa;
use smmu_drv::platform::{ClaimError, HostMemory, Sharing};

use super::{
    range, unchecked,
    world::{BOOT, RAM, check, machine, records},
};
use crate::{Error, MAX_CLAIMS};

#[test]
fn a_claim_allows_accesses_to_its_own_range_only() {
    let (mut owned, world) = machine();
    let start = (RAM << 12) + 0xff0;
    let claim = owned.memory_mut().claim(Ipa(start), 0x20, Sharing::Cacheable).unwrap();
    check(&owned, &world);
    assert_eq!(owned.memory_mut().write64(&claim, 0, 0x1111_2222_3333_4444), Some(()));
    assert_eq!(owned.memory_mut().write32(&claim, 4, 0x5555_6666), Some(()));
    assert_eq!(owned.memory_mut().write64(&claim, 0x18, 7), Some(()), "on the second page");
    assert_eq!(owned.memory_mut().read64(&claim, 0), Some(0x5555_6666_3333_4444));
    assert_eq!(owned.memory_mut().read64(&claim, 0x18), Some(7));
    for offset in [1, 4, 7, 0x19, 0x20, 0x1000, u64::MAX - 7, u64::MAX] {
        assert_eq!(owned.memory_mut().read64(&claim, offset), None, "{offset:#x}");
        assert_eq!(owned.memory_mut().write64(&claim, offset, 0), None, "{offset:#x}");
    }
    assert_eq!(owned.memory_mut().write32(&claim, 0x1e, 0), None);
    assert_eq!(owned.memory_mut().write32(&claim, 0x1c, 0), Some(()));
    owned.memory_mut().release(claim);
    check(&owned, &world);
    assert!(world.state().el2.is_empty());
}

#[test]
fn t13_a_claimed_page_keeps_its_owner_until_the_last_claim_ends() {
    let (mut owned, world) = machine();
    let first = owned.memory_mut().claim(Ipa(RAM << 12), 0x2000, Sharing::Cacheable).unwrap();
    let second = owned.memory_mut().claim(Ipa((RAM << 12) + 0x1000), 8, Sharing::Cacheable).unwrap();
    for pfn in [RAM, RAM + 1] {
        assert_eq!(owned.host_donate_hyp(unchecked(pfn, 1)), Err(Error::Claimed));
        assert_eq!(owned.host_share_hyp(unchecked(pfn, 1)), Err(Error::Claimed));
    }
    owned.memory_mut().release(first);
    assert_eq!(owned.host_donate_hyp(unchecked(RAM, 1)), Ok(()));
    assert_eq!(owned.host_donate_hyp(unchecked(RAM + 1, 1)), Err(Error::Claimed));
    owned.memory_mut().release(second);
    assert_eq!(owned.host_donate_hyp(unchecked(RAM + 1, 1)), Ok(()));
    check(&owned, &world);
}

#[test]
fn t12_only_memory_of_the_host_can_be_claimed() {
    let (mut owned, world) = machine();
    owned.host_donate_hyp(unchecked(RAM + 4, 1)).unwrap();
    let mut claim = |ipa, size| owned.memory_mut().claim(Ipa(ipa), size, Sharing::Cacheable).err();
    for (ipa, size, error) in [
        (RAM << 12, 0, ClaimError::BadRange),
        (u64::MAX, 2, ClaimError::BadRange),
        (RAM << 12, u64::MAX, ClaimError::BadRange),
        (RAM << 12, 1 << 40, ClaimError::BadRange),
        (BOOT << 12, 8, ClaimError::NotOwned),
        ((RAM - 1) << 12, 8, ClaimError::NotOwned),
        ((RAM << 12) - 8, 16, ClaimError::NotOwned),
        ((RAM + 4) << 12, 8, ClaimError::NotOwned),
        (RAM << 12, 0x5000, ClaimError::NotOwned),
        (0x0900_0000, 8, ClaimError::NotOwned),
    ] {
        assert_eq!(claim(ipa, size), Some(error), "{ipa:#x} {size:#x}");
    }
    check(&owned, &world);
}

#[test]
fn a_claim_that_cannot_be_mapped_changes_nothing() {
    for fail in 0..4 {
        let (mut owned, world) = machine();
        // An already mapped page must stay mapped.
        owned.memory_mut().add_claims(range(RAM + 1, 1)).unwrap();
        let before = (records(&owned), world.state());
        world.get().fail_steps(&[fail]);
        assert_eq!(owned.memory_mut().add_claims(range(RAM, 5)), Err(Error::NoMemory), "{fail}");
        assert_eq!((records(&owned), world.state()), before, "{fail}");
    }
}

#[test]
fn claims_of_a_page_are_limited() {
    let (mut owned, world) = machine();
    for _ in 0..MAX_CLAIMS {
        owned.memory_mut().add_claims(range(RAM, 1)).unwrap();
    }
    let before = (records(&owned), world.state());
    assert_eq!(owned.memory_mut().add_claims(range(RAM, 2)), Err(Error::TooManyClaims));
    assert_eq!(owned.memory_mut().claim(Ipa(RAM << 12), 8, Sharing::Cacheable).err(), Some(ClaimError::NoMemory));
    assert_eq!((records(&owned), world.state()), before);
    for _ in 0..MAX_CLAIMS {
        owned.memory_mut().remove_claims(range(RAM, 1)).unwrap();
    }
    assert_eq!(owned.memory_mut().remove_claims(range(RAM, 1)), Err(Error::WrongState));
    check(&owned, &world);
}

#[test]
fn claims_of_non_cacheable_memory_clean_and_invalidate() {
    let (mut owned, world) = machine();
    let at = RAM << 12;
    for (sharing, seen, stored) in [(Sharing::Cacheable, 0, 5), (Sharing::Memory, 5, 7)] {
        world.get().lines.clear();
        world.get().words.insert(at, 0);
        let claim = owned.memory_mut().claim(Ipa(at), 0x20, sharing).unwrap();
        assert_eq!(owned.memory_mut().read64(&claim, 0), Some(0));
        // The host's memory is non-cacheable.
        world.get().words.insert(at, 5);
        assert_eq!(owned.memory_mut().read64(&claim, 0), Some(seen), "{sharing:?}");
        assert_eq!(owned.memory_mut().write64(&claim, 0, 7), Some(()));
        assert_eq!(world.get().words[&at], stored, "{sharing:?}");
        world.get().words.insert(at, 5);
        assert_eq!(owned.memory_mut().write32(&claim, 4, 1), Some(()));
        assert_eq!(world.get().words[&at] >> 32, u64::from(sharing == Sharing::Memory));
        // There is one cache maintenance operation before and after a command or a record, not one for each word.
        let before = world.get().cleans;
        world.get().words.insert(at + 8, 6);
        let pair = owned.memory_mut().read_pair(&claim, 0);
        assert_eq!(pair.map(|[_, second]| second == 6), Some(sharing == Sharing::Memory));
        assert_eq!(owned.memory_mut().write_record(&claim, 0, [1, 2, 3, 4]), Some(()));
        let last = world.get().words.get(&(at + 24)).copied();
        assert_eq!(last == Some(4), sharing == Sharing::Memory);
        let cleans = world.get().cleans - before;
        assert_eq!(cleans, if sharing == Sharing::Memory { 3 } else { 0 });
        assert_eq!(owned.memory_mut().read_pair(&claim, 8), None, "not at a multiple of its size");
        assert_eq!(owned.memory_mut().write_record(&claim, 8, [0; 4]), None);
        // A store of the host next to it, in the same line, is kept.
        if sharing == Sharing::Memory {
            for beside in 1..4 {
                assert!(owned.memory_mut().read64(&claim, 0).is_some());
                world.get().words.insert(at + 8, beside);
                assert_eq!(owned.memory_mut().write32(&claim, 4, 1), Some(()));
                assert!(owned.memory_mut().read64(&claim, 0).is_some());
                world.get().words.insert(at + 8, beside + 10);
                assert_eq!(owned.memory_mut().write64(&claim, 0, 7), Some(()));
                assert_eq!(world.get().words[&(at + 8)], beside + 10);
            }
        }
        owned.memory_mut().release(claim);
    }
}

#[test]
fn a_claim_is_not_usable_if_its_pages_are_not_claimed_in_the_map() {
    let (mut owned, world) = machine();
    let claim = owned.memory_mut().claim(Ipa(RAM << 12), 0x2000, Sharing::Cacheable).unwrap();
    assert!(owned.memory().holds(&claim));
    // A defect: other code removes the claim on its second page.
    owned.memory_mut().remove_claims(range(RAM + 1, 1)).unwrap();
    assert!(!owned.memory().holds(&claim));
    owned.host_donate_hyp(unchecked(RAM + 1, 1)).unwrap();
    assert!(!owned.memory().holds(&claim));
    owned.memory_mut().remove_claims(range(RAM, 1)).unwrap();
    assert!(!owned.memory().holds(&claim));
    check(&owned, &world);
}
