//! Phandles, with which one node refers to another. Masters refer to the SMMU by its phandle only: with a duplicate
//! phandle another node could be taken for the SMMU.

use super::{NodeId, Tree};
use crate::boot_info::error::BootError;
use arrayvec::ArrayVec;

/// Maximum number of phandles.
const PHANDLES_MAX: usize = 4096;

impl<'a> Tree<'a> {
    /// Checks that no phandle is used twice.
    ///
    /// # Errors
    /// [`BootError::SamePhandle`]; [`BootError::Property`] for an invalid one; [`BootError::TooMany`].
    pub(in crate::boot_info) fn check_phandles(&self) -> Result<(), BootError<'a>> {
        // Sorted, so that a search is fast.
        let mut known = ArrayVec::<u32, PHANDLES_MAX>::new();
        self.walk(&mut |node| {
            let (new, old) = (node.u32("phandle")?, node.u32("linux,phandle")?);
            if let (Some(new), Some(old)) = (new, old)
                && new != old
            {
                return Err(node.bad("linux,phandle", "is not the node's phandle"));
            }
            let Some(phandle) = new.or(old) else { return Ok(()) };
            if phandle == 0 || phandle == u32::MAX {
                return Err(node.bad("phandle", "is 0 or 0xffffffff"));
            }
            match known.binary_search(&phandle) {
                Ok(_) => Err(BootError::SamePhandle {
                    phandle,
                    first: self.path(self.first_with(phandle)?),
                    second: node.path(),
                }),
                Err(at) => known
                    .try_insert(at, phandle)
                    .map_err(|_| BootError::TooMany { what: "phandles", limit: PHANDLES_MAX }),
            }
        })
    }

    fn first_with(&self, phandle: u32) -> Result<NodeId, BootError<'a>> {
        let mut first = None;
        self.walk(&mut |node| {
            if first.is_none() && (node.u32("phandle")?.or(node.u32("linux,phandle")?)) == Some(phandle) {
                first = Some(node.id);
            }
            Ok(())
        })?;
        Ok(first.unwrap_or_default())
    }
}
