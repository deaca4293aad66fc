//! The two consoles. The host gets the one that `stdout-path` names; EL2 uses the next PL011 itself, so that the
//! host can neither forge nor block EL2's output.

use super::cells::string;
use super::error::BootError;
use super::range::PhysRange;
use super::tree::{NodeId, NodeRef, Reg, Tree, is_at};

/// A PL011.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uart {
    /// The node.
    pub node: NodeId,
    /// Its registers.
    pub range: PhysRange,
}

/// The UARTs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uarts {
    /// The host's console, when it is a PL011.
    pub host: Option<Uart>,
    /// EL2's own console. `None` on a machine with one UART: EL2 then shares the host's and prints a warning.
    pub el2: Option<Uart>,
}

impl Uarts {
    /// Finds both. The host's is the PL011 that `/chosen/stdout-path` (a path or an alias) names, otherwise the one
    /// with the lowest address; EL2's is, of the others, the one with the lowest address.
    ///
    /// # Errors
    /// [`BootError::Property`] when a PL011's `reg` is malformed.
    pub fn find<'a>(tree: &Tree<'a>) -> Result<Self, BootError<'a>> {
        let stdout = stdout_path(tree)?;
        let mut uarts = Self::default();
        tree.walk(&mut |node| {
            if let Some(stdout) = stdout
                && is_at(node, stdout)
            {
                uarts.host = uart(node)?;
            }
            Ok(())
        })?;
        let lowest_but = |host: Option<Uart>| {
            let mut lowest: Option<Uart> = None;
            tree.walk(&mut |node| {
                if let Some(found) = uart(node)?
                    && host.is_none_or(|host| !host.range.overlaps(&found.range))
                    && lowest.is_none_or(|l| found.range.base() < l.range.base())
                {
                    lowest = Some(found);
                }
                Ok(())
            })?;
            Ok(lowest)
        };
        if uarts.host.is_none() {
            uarts.host = lowest_but(None)?;
        }
        if uarts.host.is_some() {
            uarts.el2 = lowest_but(uarts.host)?;
        }
        Ok(uarts)
    }
}

fn uart<'a>(node: &NodeRef<'a, '_>) -> Result<Option<Uart>, BootError<'a>> {
    if node.compatible() != Some("arm,pl011") || !node.enabled() {
        return Ok(None);
    }
    match node.reg()?.next() {
        Some(Ok(Reg::Visible(range))) => Ok(Some(Uart { node: node.id, range })),
        Some(Err(error)) => Err(error),
        Some(Ok(Reg::OnBus(_))) | None => Ok(None),
    }
}

/// The path that `/chosen/stdout-path` names, without the options after ':', with an alias resolved.
pub(super) fn stdout_path<'a>(tree: &Tree<'a>) -> Result<Option<&'a str>, BootError<'a>> {
    let mut stdout = None;
    tree.walk(&mut |node| {
        if node.is_top("chosen") {
            stdout = node.value("stdout-path").and_then(string).and_then(|s| s.split(':').next());
        }
        Ok(())
    })?;
    let Some(name) = stdout.filter(|s| !s.starts_with('/')) else {
        return Ok(stdout);
    };
    let mut path = None;
    tree.walk(&mut |node| {
        if node.is_top("aliases") {
            path = node.value(name).and_then(string);
        }
        Ok(())
    })?;
    Ok(path)
}
