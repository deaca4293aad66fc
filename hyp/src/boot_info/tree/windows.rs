//! The CPU windows of a bus, from its `ranges`.

use io_pgtable::Pa;

use super::NodeRef;
use crate::boot_info::error::BootError;
use crate::boot_info::range::{PA_LIMIT, PhysRange};

/// The bus address of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::boot_info) struct BusAddress {
    /// The first cell: for PCI, the address space.
    pub(in crate::boot_info) first: u32,
    /// The last two cells, as one number.
    pub(in crate::boot_info) address: u64,
}

/// The function that [`NodeRef::windows`] calls with the bus address and the CPU addresses of a window, if it has any.
type WindowVisitor<'v, 'a> = dyn FnMut(BusAddress, Option<PhysRange>) -> Result<(), BootError<'a>> + 'v;

impl<'a> NodeRef<'a, '_> {
    /// Calls `visit` for each entry of `ranges` that has a size. A bus with an empty `ranges` has no window: its
    /// children's `reg` are CPU addresses.
    pub(in crate::boot_info) fn windows(&self, visit: &mut WindowVisitor<'_, 'a>) -> Result<(), BootError<'a>> {
        let (Some(mut cells), Some(parent)) = (self.cells("ranges")?, self.parent) else {
            return Ok(());
        };
        if cells.is_empty() {
            return Ok(());
        }
        let ((address_cells, size_cells), (parent_cells, _)) = (self.child_cells()?, parent.child_cells()?);
        if parent_cells > 2 {
            // Addresses below PCI are not CPU addresses.
            return Ok(());
        }
        let rest =
            address_cells.checked_sub(1).ok_or_else(|| self.bad("#address-cells", "is 0 in a bus with ranges"))?;
        let short = || self.bad("ranges", "is cut short or has a number of more than 64 bits");
        while !cells.is_empty() {
            let mut bus = BusAddress { first: cells.u32().ok_or_else(short)?, address: 0 };
            for _ in 0..rest {
                bus.address = bus.address << 32 | u64::from(cells.u32().ok_or_else(short)?);
            }
            let address = cells.number(parent_cells).ok_or_else(short)?;
            let size = cells.number(size_cells).ok_or_else(short)?;
            if size == 0 {
                continue;
            }
            let seen = match parent.translate(address, size)? {
                // Addresses above the physical address limit are not a window.
                Some(base) if base < PA_LIMIT => {
                    let outside = || self.bad("ranges", "has a window that leaves the CPU's address space");
                    Some(PhysRange::new(Pa(base), size).ok_or_else(outside)?)
                }
                Some(_) | None => None,
            };
            visit(bus, seen)?;
        }
        Ok(())
    }
}
