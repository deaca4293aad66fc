//! A change of what all streams do: translation goes on or off, or GBPA says otherwise while it is off. A walk over the shadow, in
//! bounded steps.

use super::Shared;
use super::shadow::{Cursor, GROUP, GROUP_U32, next_block};
use crate::budget::{self, Unfinished};
use crate::command::Command;
use crate::platform::{HostMemory, Platform};
use crate::smmu::Smmu;
use crate::spec::low32;

/// What the host's registers say that streams do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostMode {
    /// SMMUEN == 0, GBPA.ABORT == 0.
    Bypass,
    /// SMMUEN == 0, GBPA.ABORT == 1.
    Abort,
    /// SMMUEN == 1.
    Table,
}

/// A change of mode under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transition {
    mode: HostMode,
    cursor: Cursor,
    complete: bool,
}

impl Transition {
    pub(crate) fn new(mode: HostMode) -> Self {
        Self { mode, cursor: Cursor::at(0), complete: false }
    }

    pub(crate) fn mode(&self) -> HostMode {
        self.mode
    }
}

impl<P: Platform, H: HostMemory> Smmu<P, H> {
    /// Continues a change of mode; complete and synchronised when it returns. Then there is nothing left to do if it is called again.
    ///
    /// # Errors
    /// The budget is used up, and `transition` says where to go on; or hardware failed.
    pub(crate) fn step_transition(&mut self, host: &mut H, transition: &mut Transition) -> Result<(), Unfinished> {
        if transition.complete {
            return Ok(());
        }
        match transition.mode {
            HostMode::Table => {
                let end = self.strtab.streams();
                self.reshadow_streams(host, end, &mut transition.cursor)?;
            }
            HostMode::Bypass => self.share_blocks(&mut transition.cursor, Shared::Stage2)?,
            HostMode::Abort => self.share_blocks(&mut transition.cursor, Shared::Abort)?,
        }
        self.budget.charge(self.cmdq.sync_cost())?;
        self.push(Command::CfgiAll)?;
        self.strtab.cover(None);
        self.sync()?;
        transition.complete = true;
        Ok(())
    }

    /// Gives all streams from `cursor` on the same.
    fn share_blocks(&mut self, cursor: &mut Cursor, shared: Shared) -> Result<(), Unfinished> {
        while let Some(block) = self.block_at(cursor.next) {
            self.budget.charge(budget::BLOCK)?;
            if self.strtab.is_two_level() {
                self.strtab.set_shared(block, shared);
                cursor.next = next_block(block);
            } else {
                // Group by group, as entries of the host are taken over. The table may end within one.
                let count = self.group(cursor.next, next_block(block));
                let ste = self.strtab.shared_ste(shared);
                self.budget.charge(budget::ENTRY.saturating_mul(GROUP_U32))?;
                self.update(low32(cursor.next), [ste; GROUP].get(..count).unwrap_or(&[]))?;
                cursor.next = cursor.next.saturating_add(u64::from(GROUP_U32));
            }
        }
        Ok(())
    }
}
