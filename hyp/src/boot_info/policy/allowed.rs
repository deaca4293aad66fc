//! The boot is refused if the host would not get a node in an `allow=` option.

use super::draft::Draft;
use super::nodes::is_unknown_bridge;
use super::{Verdict, Withheld};
use crate::boot_info::error::BootError;
use crate::boot_info::named::{Name, Named};
use crate::boot_info::platform::Platform;
use crate::boot_info::tree::{NodeRef, is_at};

impl Draft {
    /// Checks that the host gets every node in the `allow=` options.
    ///
    /// # Errors
    /// [`BootError::Allow`] with the reason, and the other node if there is one.
    pub(super) fn check_allowed<'a>(&self, platform: &Platform<'a>) -> Result<(), BootError<'a>> {
        if platform.options.allow.is_empty() {
            return Ok(());
        }
        platform.tree.walk(&mut |node| match platform.options.allow.iter().find(|path| is_at(node, path)) {
            Some(path) => self.check_one(platform, node, path),
            None => Ok(()),
        })
    }

    fn check_one<'a>(
        &self,
        platform: &Platform<'a>,
        node: &NodeRef<'a, '_>,
        path: &'a str,
    ) -> Result<(), BootError<'a>> {
        let refuse = |why, other: Option<Name>| {
            let node_of = |name| if let Name::Node(node) = name { Some(platform.path(node)) } else { None };
            let other = other.map(|name| Named { name, path: node_of(name) });
            Err(BootError::Allow { path, why, other })
        };
        let Some((at, verdict)) = self.verdict_at(node.id) else { return Ok(()) };
        match verdict {
            Verdict::Withheld(Withheld::Disabled) => {
                return refuse("the node is disabled, or one above it is; enable it in the device tree", None);
            }
            Verdict::Withheld(Withheld::SharesPage) => {
                return refuse("it shares a 4 KiB page with registers that are withheld", self.shares(at));
            }
            Verdict::Withheld(_) | Verdict::Emulated | Verdict::Given(_) => {}
        }
        if let Some(above) = self.withheld_above(at) {
            return refuse("a node above it is withheld, so the host would find it disabled; allow", Some(above));
        }
        if is_unknown_bridge(platform, node)? {
            return refuse("it is a bridge of a type that EL2 does not know: its windows would not be given", None);
        }
        Ok(())
    }
}
