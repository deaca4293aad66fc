//! The wired interrupts of an SMMU: EL2 raises them for the host. An interrupt that EL2 cannot raise, or that the tree
//! does not describe, is absent. The host then has fewer interrupts; isolation is unaffected.

use core::fmt;

use super::cells::strings;
use super::error::BootError;
use super::gic::{Gic, Spi};
use super::tree::NodeRef;

/// The wired interrupts that a node lists by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SmmuInterrupts {
    /// `eventq`.
    pub eventq: Option<Spi>,
    /// `priq`.
    pub priq: Option<Spi>,
    /// `cmdq-sync`.
    pub cmdq_sync: Option<Spi>,
    /// `gerror`.
    pub gerror: Option<Spi>,
    /// `combined`: one line for all.
    pub combined: Option<Spi>,
    /// Why EL2 does not use one of them although the node has it.
    pub absent: Option<Absent>,
}

/// Why EL2 does not raise an interrupt that the node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// `interrupt-names` is missing.
    Unnamed,
    /// It has a name that is not in the binding.
    OtherName,
    /// It is connected to another interrupt controller.
    OtherParent,
    /// It is not an SPI of the usual range with a rising edge or high level.
    NotSpi,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unnamed => "interrupt-names is missing",
            Self::OtherName => "its name is not in the binding",
            Self::OtherParent => "it is not connected to the GICv3",
            Self::NotSpi => "it is not an SPI of the usual range with a rising edge or high level",
        })
    }
}

/// Reads the interrupts of `node`.
///
/// # Errors
/// [`BootError::Property`] if the number of interrupts differs from the number of names, or if a name occurs twice.
pub(super) fn read<'a>(node: &NodeRef<'a, '_>, gic: &Gic) -> Result<SmmuInterrupts, BootError<'a>> {
    let mut found = SmmuInterrupts::default();
    let extended = node.cells("interrupts-extended")?;
    let property = if extended.is_some() { "interrupts-extended" } else { "interrupts" };
    let Some(mut cells) = node.cells(property)? else { return Ok(found) };
    let Some(names) = node.value("interrupt-names") else {
        found.absent = Some(Absent::Unnamed);
        return Ok(found);
    };
    for name in strings(names) {
        let mut cell = || cells.u32().ok_or_else(|| node.bad(property, "has fewer entries than interrupt-names"));
        let parent = if extended.is_some() { Some(cell()?) } else { node.interrupt_parent() };
        let spi = if parent == Some(gic.phandle) {
            let (kind, number, flags) = (cell()?, cell()?, cell()?);
            for _ in 3..gic.interrupt_cells {
                cell()?;
            }
            Gic::spi(kind, number, flags).ok_or(Absent::NotSpi)
        } else {
            let Some(count) = parent.map(|parent| cells_of(node, parent)).transpose()?.flatten() else {
                // The length of this entry is unknown, so the next one cannot be found.
                found.absent = Some(Absent::OtherParent);
                return Ok(found);
            };
            for _ in 0..count {
                cell()?;
            }
            Err(Absent::OtherParent)
        };
        let slot = match name {
            "eventq" => &mut found.eventq,
            "priq" => &mut found.priq,
            "cmdq-sync" => &mut found.cmdq_sync,
            "gerror" => &mut found.gerror,
            "combined" => &mut found.combined,
            _ => {
                found.absent = Some(Absent::OtherName);
                continue;
            }
        };
        match spi {
            Ok(spi) if slot.replace(spi).is_some() => return Err(node.bad("interrupt-names", "has a name twice")),
            Ok(_) => {}
            Err(why) => found.absent = Some(why),
        }
    }
    if cells.is_empty() { Ok(found) } else { Err(node.bad(property, "has more entries than interrupt-names")) }
}

/// `#interrupt-cells` of the node that `phandle` names.
fn cells_of<'a>(node: &NodeRef<'a, '_>, phandle: u32) -> Result<Option<u32>, BootError<'a>> {
    let mut found = None;
    node.tree().walk(&mut |other| {
        if other.u32("phandle")? == Some(phandle) {
            found = other.u32("#interrupt-cells")?;
        }
        Ok(())
    })?;
    Ok(found)
}
