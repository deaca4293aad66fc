//! The two consoles. The host gets the one that `stdout-path` names; EL2 uses another PL011, so that the host can
//! neither forge nor block EL2's output. EL2 drives only UARTs in the tree: a guessed address may be memory of the
//! host.

use super::boot_map::LIMIT;
use super::cells::string;
use super::cmdline::ConsoleChoice;
use super::error::BootError;
use super::policy::bindings::is_plain_uart;
use super::range::PhysRange;
use super::tree::{NodeId, NodeRef, Reg, Tree, is_at};

/// The kinds of UARTs that EL2 has a driver for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UartKind {
    /// `arm,pl011`.
    Pl011,
    /// `arm,sbsa-uart`: a PL011's data and flag registers, set up by firmware.
    Sbsa,
    /// `ns16550`, `ns16550a`, `snps,dw-apb-uart`.
    Ns16550 {
        /// `reg-shift`: log2 of the bytes from one register to the next, 0 to 4.
        shift: u8,
        /// `reg-io-width`.
        width: Width,
    },
}

/// Width of a register access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 1 byte.
    Byte,
    /// 4 bytes.
    Word,
}

/// A UART.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uart {
    /// The node.
    pub node: NodeId,
    /// Its registers.
    pub range: PhysRange,
    /// Its kind.
    pub kind: UartKind,
}

/// The UARTs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uarts {
    /// The host's console, if EL2 has a driver for it.
    pub host: Option<Uart>,
    /// EL2's own console. `None` on a machine with one UART: EL2 then shares the host's and prints a warning.
    pub el2: Option<Uart>,
}

impl Uarts {
    /// Finds both. The host's UART is the one in `/chosen/stdout-path` (a path or an alias), otherwise the PL011 with
    /// the lowest address. EL2's UART is the one in `choice`, otherwise the other PL011 with the lowest address. Only
    /// EL2 can use a UART that the policy does not give to the host. With `console=none` EL2 uses none.
    ///
    /// # Errors
    /// [`BootError::Property`] when a UART's `reg` is malformed; [`BootError::BadOption`] when `choice` names none.
    pub fn find<'a>(tree: &Tree<'a>, choice: Option<ConsoleChoice<'a>>) -> Result<Self, BootError<'a>> {
        let mut uarts = Self::default();
        if choice == Some(ConsoleChoice::None) {
            return Ok(uarts);
        }
        if let Some(stdout) = stdout_path(tree)? {
            uarts.host = at(tree, stdout)?;
        }
        if uarts.host.is_none() {
            uarts.host = lowest(tree, None)?;
        }
        match choice {
            Some(ConsoleChoice::Uart { path, word }) => {
                let found = at(tree, path)?;
                let expected = "none, or the full path of an enabled UART that EL2 can drive";
                uarts.el2 = Some(found.ok_or(BootError::BadOption { word, expected })?);
                uarts.host = uarts.host.filter(|host| Some(*host) != uarts.el2);
            }
            Some(ConsoleChoice::None) | None => {
                uarts.el2 = match uarts.host {
                    Some(Uart { kind: UartKind::Pl011, .. }) => lowest(tree, uarts.host)?,
                    Some(Uart { kind: UartKind::Sbsa | UartKind::Ns16550 { .. }, .. }) | None => None,
                };
            }
        }
        if uarts.el2.is_none() && !uarts.host_has_its_own(tree)? {
            uarts.el2 = uarts.host.take();
        }
        Ok(uarts)
    }

    /// Whether the policy gives the host's UART to the host.
    fn host_has_its_own<'a>(&self, tree: &Tree<'a>) -> Result<bool, BootError<'a>> {
        let mut given = false;
        tree.walk(&mut |node| {
            given |= self.host.is_some_and(|host| host.node == node.id) && is_plain_uart(node);
            Ok(())
        })?;
        Ok(given)
    }
}

/// The UART at `path`, if EL2 can drive it.
fn at<'a>(tree: &Tree<'a>, path: &str) -> Result<Option<Uart>, BootError<'a>> {
    let mut found = None;
    tree.walk(&mut |node| {
        if is_at(node, path) {
            found = uart(node)?;
        }
        Ok(())
    })?;
    Ok(found)
}

/// The PL011 with the lowest address, except `but`.
fn lowest<'a>(tree: &Tree<'a>, but: Option<Uart>) -> Result<Option<Uart>, BootError<'a>> {
    let mut lowest: Option<Uart> = None;
    tree.walk(&mut |node| {
        if node.compatible() == Some("arm,pl011")
            && let Some(found) = uart(node)?
            && but.is_none_or(|but| !but.range.overlaps(&found.range))
            && lowest.is_none_or(|lowest| found.range.base() < lowest.range.base())
        {
            lowest = Some(found);
        }
        Ok(())
    })?;
    Ok(lowest)
}

fn uart<'a>(node: &NodeRef<'a, '_>) -> Result<Option<Uart>, BootError<'a>> {
    if !node.enabled() {
        return Ok(None);
    }
    let Some(kind) = kind(node)? else { return Ok(None) };
    match node.reg()?.next() {
        // EL2 cannot use UARTs above the boot table's limit.
        Some(Ok(Reg::Visible(range))) if range.end().0 <= LIMIT => Ok(Some(Uart { node: node.id, range, kind })),
        Some(Err(error)) => Err(error),
        Some(Ok(Reg::Visible(_) | Reg::OnBus(_))) | None => Ok(None),
    }
}

fn kind<'a>(node: &NodeRef<'a, '_>) -> Result<Option<UartKind>, BootError<'a>> {
    if node.is_compatible("arm,pl011") {
        return Ok(Some(UartKind::Pl011));
    }
    if node.is_compatible("arm,sbsa-uart") {
        return Ok(Some(UartKind::Sbsa));
    }
    if !["ns16550", "ns16550a", "snps,dw-apb-uart"].iter().any(|name| node.is_compatible(name)) {
        return Ok(None);
    }
    let shift = node.u32("reg-shift")?.unwrap_or(0);
    let shift = u8::try_from(shift).ok().filter(|shift| *shift <= 4);
    let width = match (node.u32("reg-io-width")?, shift) {
        (None | Some(1), _) => Width::Byte,
        (Some(4), Some(2..)) => Width::Word,
        _ => return Ok(None),
    };
    Ok(shift.map(|shift| UartKind::Ns16550 { shift, width }))
}

/// The path in `/chosen/stdout-path`, without the options after ':'; an alias is resolved.
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
