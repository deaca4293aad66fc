//! Nodes that refer to memory that the host does not get: memory reserved for firmware, or in a withheld device. A
//! driver would access that memory, and the abort would stop the host.

use super::draft::Draft;
use super::{Verdict, Withheld};
use crate::boot_info::error::BootError;
use crate::boot_info::memory::is_no_map;
use crate::boot_info::platform::Platform;
use crate::boot_info::tree::NodeId;
use arrayvec::ArrayVec;

/// Properties that refer to such memory; their values are phandles only.
const REFERENCES: [&str; 2] = ["memory-region", "shmem"];
/// Maximum number of such references.
pub(super) const REFERENCES_MAX: usize = 512;

impl Draft {
    /// Withholds the nodes that refer to such memory, also nodes without registers.
    ///
    /// # Errors
    /// [`BootError::Property`] for a malformed reference, [`BootError::TooMany`].
    pub(super) fn withhold_references<'a>(&mut self, platform: &Platform<'a>) -> Result<(), BootError<'a>> {
        let full = |_| BootError::TooMany { what: "references to memory", limit: REFERENCES_MAX };
        let mut references = ArrayVec::<(NodeId, u32), REFERENCES_MAX>::new();
        platform.tree.walk(&mut |node| {
            for name in REFERENCES {
                let Some(mut cells) = node.cells(name)?.filter(|_| node.enabled()) else { continue };
                while let Some(phandle) = cells.u32() {
                    references.try_push((node.id, phandle)).map_err(full)?;
                }
            }
            Ok(())
        })?;
        let mut users = ArrayVec::<NodeId, REFERENCES_MAX>::new();
        platform.tree.walk(&mut |node| {
            let Some(phandle) = node.u32("phandle")? else { return Ok(()) };
            if is_no_map(node)? || self.is_node_withheld(node.id) {
                for (user, _) in references.iter().filter(|(_, named)| *named == phandle) {
                    // Cannot fail: at most one entry for each reference.
                    let _ = users.try_push(*user);
                }
            }
            Ok(())
        })?;
        platform.tree.walk(&mut |node| {
            if !users.contains(&node.id) {
                return Ok(());
            }
            match self.verdict_at(node.id) {
                Some((at, Verdict::Given(why))) if why != super::Given::Allowed => {
                    self.withhold_decided(at, Withheld::FirmwareMemory)
                }
                Some((_, Verdict::Given(_) | Verdict::Emulated | Verdict::Withheld(_))) => Ok(()),
                None => self.record(platform, node, Verdict::Withheld(Withheld::FirmwareMemory)),
            }
        })
    }
}
