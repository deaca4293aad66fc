//! The part of the audit about guests: the table of a guest's devices maps exactly the guest's pages.

use io_pgtable::Ipa;

use crate::finding::{Finding, Mismatch, Table};
use crate::guest::GuestLife;
use crate::ownership::Ownership;
use crate::page::{GuestId, MAX_GUESTS, Owner};
use crate::range::{PAGE_SHIFT, PageRange};
use crate::traits::{DmaStage2, GuestTables, HostStage2, Leaf, LeafKind, PageOps};

impl<S: HostStage2, D: DmaStage2, P: PageOps> Ownership<'_, S, D, P> {
    /// Compares the table of each guest with the map. Pages of a dying guest may be unmapped: a reclaim that failed
    /// after its revocation leaves them unmapped.
    pub(crate) fn audit_guests(&self) -> Result<(), Finding> {
        if self.dma.guest_tables() == GuestTables::None {
            return Ok(());
        }
        (0..u64::from(MAX_GUESTS)).filter_map(GuestId::new).try_for_each(|guest| self.audit_guest(guest))
    }

    fn audit_guest(&self, guest: GuestId) -> Result<(), Finding> {
        let mut mapped = 0_u64;
        let mut from = Ipa(0);
        while let Some(leaf) = self.dma.next_guest_leaf(guest, from) {
            self.audit_leaf(guest, leaf)?;
            mapped = mapped.saturating_add(leaf.bytes >> PAGE_SHIFT);
            let next = Ipa(leaf.ipa.0.saturating_add(leaf.bytes));
            if next <= from {
                break;
            }
            from = next;
        }
        let window = self.dma.window();
        let reachable = self.memory.map.ram().all(|ram| window.contains(ram));
        let counts = self.guests.get(guest);
        if reachable && counts.life == GuestLife::Alive && counts.owned != mapped {
            return self.mismatch(guest, Ipa(0), Mismatch::Missing);
        }
        Ok(())
    }

    fn audit_leaf(&self, guest: GuestId, leaf: Leaf) -> Result<(), Finding> {
        if leaf.pa.0 != leaf.ipa.0 {
            return self.mismatch(guest, leaf.ipa, Mismatch::NotIdentity);
        }
        if leaf.kind != LeafKind::Normal {
            return self.mismatch(guest, leaf.ipa, Mismatch::WrongKind);
        }
        let pages = PageRange::covering(leaf.ipa, leaf.bytes).map(PageRange::pfns).into_iter().flatten();
        for pfn in pages {
            if self.memory.map.owner(pfn) != Owner::Guest(guest) {
                return self.mismatch(guest, Ipa(pfn << PAGE_SHIFT), Mismatch::Foreign);
            }
        }
        Ok(())
    }

    fn mismatch(&self, guest: GuestId, ipa: Ipa, what: Mismatch) -> Result<(), Finding> {
        let owner = match what {
            Mismatch::Missing => Owner::Guest(guest),
            Mismatch::Foreign | Mismatch::NotIdentity | Mismatch::WrongKind => {
                self.memory.map.owner(ipa.0 >> PAGE_SHIFT)
            }
        };
        Err(Finding::Table { table: Table::Guest, ipa, owner, what })
    }
}
