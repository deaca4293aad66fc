//! Memory of a host with claims that violates one contract.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use io_pgtable::Ipa;
use smmu_conformance::{Host, Refused};
use smmu_drv::{ClaimError, HostMemory, Sharing};
use smmu_model::{Memory, Region, Snoop};

/// The contract that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    Nothing,
    NothingClaimable,
    ForeignClaimed,
    EmptyClaimed,
    FailedClaimStays,
    OwnerChanges,
    HoldsNever,
    ReleaseIgnored,
    ReleasesAll,
    TwoFetches,
    NoFetch,
    NoInvalidate,
    NoClean,
    ReadsOutside,
    WritesOutside,
    WritesUnaligned,
    StoresWords,
    StoresNothing,
    RecordCutShort,
    RecordOutside,
}

pub const RAM: u64 = 0x4000_0000;
/// A page of the hypervisor, after the pages of the host.
pub const FOREIGN: u64 = RAM + 0x4000;

/// Host memory on the model. Non-cacheable accesses of the host do not use the CPU's caches, like those of a device.
pub struct Fake {
    mem: Memory,
    how: Broken,
    owned: BTreeSet<u64>,
    claims: BTreeMap<u64, u32>,
    fetches: Cell<u64>,
    /// The value of the last read.
    old: Cell<Option<u64>>,
}

pub struct Claim {
    ipa: u64,
    size: u64,
    sharing: Sharing,
}

impl Claim {
    fn pages(&self) -> impl Iterator<Item = u64> + use<> {
        self.ipa / 4096..=(self.ipa + self.size.max(1) - 1) / 4096
    }
}

impl Fake {
    pub fn new(how: Broken) -> Self {
        let mem = Memory::new(Snoop::NonCoherent);
        mem.add(RAM, 0x1_0000, Region::Ram);
        let owned = (RAM / 4096..FOREIGN / 4096).collect();
        Self { mem, how, owned, claims: BTreeMap::new(), fetches: Cell::new(0), old: Cell::new(None) }
    }

    fn at(&self, claim: &Claim, offset: u64, size: u64, broken: Broken) -> Option<u64> {
        let end = offset.checked_add(size)?;
        let aligned =
            offset.is_multiple_of(size) || self.how == Broken::WritesUnaligned && broken == Broken::WritesOutside;
        let inside = end <= claim.size || self.how == broken && end <= claim.size + 64;
        (inside && aligned).then(|| claim.ipa + offset)
    }

    fn fetch(&self, at: u64) -> u64 {
        self.fetches.set(self.fetches.get() + 1);
        self.mem.cpu_read64(at)
    }

    fn before(&self, claim: &Claim, at: u64) {
        if claim.sharing == Sharing::Memory && self.how != Broken::NoInvalidate {
            self.mem.invalidate(at..at + 8);
        }
    }

    fn store(&self, claim: &Claim, at: u64, value: u64) {
        if self.how == Broken::StoresNothing {
            return;
        }
        self.mem.cpu_write64(at, value);
        if claim.sharing == Sharing::Memory && self.how != Broken::NoClean {
            self.mem.clean(at..at + 8);
        }
    }
}

impl HostMemory for Fake {
    type Claim = Claim;

    fn claim(&mut self, ipa: Ipa, size: u64, sharing: Sharing) -> Result<Claim, ClaimError> {
        if size == 0 && self.how == Broken::EmptyClaimed {
            return Ok(Claim { ipa: ipa.0, size, sharing });
        }
        let last = size.checked_sub(1).and_then(|rest| ipa.0.checked_add(rest)).ok_or(ClaimError::BadRange)?;
        let first = ipa.0 / 4096;
        let refused = (first..=last / 4096).find(|page| !self.owned.contains(page));
        if let Some(refused) = refused
            && !(self.how == Broken::ForeignClaimed && size == 8)
        {
            if self.how == Broken::FailedClaimStays {
                (first..refused).for_each(|page| *self.claims.entry(page).or_default() += 1);
            }
            return Err(ClaimError::NotOwned);
        }
        if self.how == Broken::NothingClaimable {
            return Err(ClaimError::NoMemory);
        }
        let claim = Claim { ipa: ipa.0, size, sharing };
        claim.pages().for_each(|page| *self.claims.entry(page).or_default() += 1);
        Ok(claim)
    }
    fn release(&mut self, claim: Claim) {
        for page in claim.pages().filter(|_| self.how != Broken::ReleaseIgnored) {
            let count = self.claims.entry(page).or_default();
            *count = if self.how == Broken::ReleasesAll { 0 } else { count.saturating_sub(1) };
        }
    }
    fn holds(&self, claim: &Claim) -> bool {
        let held = |page| self.owned.contains(&page) && self.claims.get(&page).is_some_and(|count| *count != 0);
        match self.how {
            Broken::HoldsNever => false,
            _ => claim.pages().all(held),
        }
    }
    fn read64(&self, claim: &Claim, offset: u64) -> Option<u64> {
        let at = self.at(claim, offset, 8, Broken::ReadsOutside)?;
        self.before(claim, at);
        if let Some(old) = self.old.get().filter(|_| self.how == Broken::NoFetch) {
            return Some(old);
        }
        if self.how == Broken::TwoFetches {
            self.fetch(at);
        }
        self.old.set(Some(self.fetch(at)));
        self.old.get()
    }
    fn write64(&mut self, claim: &Claim, offset: u64, value: u64) -> Option<()> {
        let at = self.at(claim, offset, 8, Broken::WritesOutside)?;
        self.before(claim, at);
        self.store(claim, at & !7, value);
        Some(())
    }
    fn write_record(&mut self, claim: &Claim, offset: u64, record: [u64; 4]) -> Option<()> {
        let words = if self.how == Broken::RecordCutShort { 3 } else { 4 };
        if self.how == Broken::RecordOutside && offset == claim.size {
            return Some(());
        }
        for (word, at) in record.into_iter().zip([0_u64, 8, 16, 24]).take(words) {
            self.write64(claim, offset.checked_add(at)?, word)?;
        }
        Some(())
    }
    fn write32(&mut self, claim: &Claim, offset: u64, value: u32) -> Option<()> {
        let at = self.at(claim, offset, 4, Broken::WritesOutside)?;
        self.before(claim, at & !7);
        let old = if self.how == Broken::StoresWords { 0 } else { self.mem.cpu_read64(at & !7) };
        let shift = (at & 4) * 8;
        self.store(claim, at & !7, old & !(0xffff_ffff << shift) | u64::from(value) << shift);
        Some(())
    }
}

/// The host, and the hypervisor that changes the owner of its pages.
pub struct Fakes;

impl Host<Fake> for Fakes {
    fn read64(&mut self, fake: &mut Fake, ipa: Ipa, sharing: Sharing) -> u64 {
        read(&fake.mem, ipa.0, sharing)
    }
    fn write64(&mut self, fake: &mut Fake, ipa: Ipa, sharing: Sharing, value: u64) {
        write(&fake.mem, ipa.0, sharing, value);
    }
    fn take(&mut self, fake: &mut Fake, ipa: Ipa) -> Result<(), Refused> {
        let page = ipa.0 / 4096;
        let claimed = fake.claims.get(&page).is_some_and(|count| *count != 0) && fake.how != Broken::OwnerChanges;
        if claimed || !fake.owned.remove(&page) { Err(Refused) } else { Ok(()) }
    }
    fn give_back(&mut self, fake: &mut Fake, ipa: Ipa) {
        fake.owned.insert(ipa.0 / 4096);
    }
    fn fetches(&mut self, fake: &Fake) -> u64 {
        fake.fetches.take()
    }
}

/// Reads the word at `pa` as the host.
pub fn read(mem: &Memory, pa: u64, sharing: Sharing) -> u64 {
    match sharing {
        Sharing::Cacheable => mem.cpu_read64(pa),
        Sharing::Memory => mem.dev_read64(pa).unwrap(),
    }
}

/// Writes the word at `pa` as the host.
pub fn write(mem: &Memory, pa: u64, sharing: Sharing, value: u64) {
    match sharing {
        Sharing::Cacheable => mem.cpu_write64(pa, value),
        Sharing::Memory => mem.dev_write(pa, &value.to_le_bytes()).unwrap(),
    }
}
