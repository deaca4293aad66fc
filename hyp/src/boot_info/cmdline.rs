//! EL2's own command line, `/chosen/bootargs`. The host cannot read it.

use super::error::BootError;
use arrayvec::ArrayVec;

/// Maximum `allow=` options.
pub const ALLOW_MAX: usize = 64;
/// Maximum `no-reset=` options.
pub const NO_RESET_MAX: usize = 4;
/// The greatest value of `cmdq=`.
const CMDQ_MAX: u32 = smmu_drv::HOST_CMDQS;

/// `console=`: the UART that EL2 prints to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConsoleChoice<'a> {
    /// `none`.
    None,
    /// A node.
    Uart {
        /// Its path.
        path: &'a str,
        /// The whole option, for messages.
        word: &'a str,
    },
}

/// Options of EL2's command line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options<'a> {
    /// `token=`: hexadecimal digits that EL2 repeats in its last console line, so that the host cannot forge a result.
    pub token: Option<&'a str>,
    /// `allow=`: paths of nodes to give to the host although the built-in policy withholds them.
    pub allow: ArrayVec<&'a str, ALLOW_MAX>,
    /// `withhold=`: paths of nodes to keep from the host although the built-in policy gives them.
    pub withhold: ArrayVec<&'a str, ALLOW_MAX>,
    /// `pool=`: size of EL2's memory pool in bytes, given with a suffix K, M or G or none.
    pub pool: Option<u64>,
    /// `no-reset=`: kinds of PCI functions that a guest may get although they have no reset.
    pub no_reset: ArrayVec<PciKind, NO_RESET_MAX>,
    /// `console=`: EL2's console; `None` for the default.
    pub console: Option<ConsoleChoice<'a>>,
    /// `cmdq=`: log2 of the largest command queue that the host may have, for tests.
    pub cmdq: Option<u32>,
}

/// A kind of PCI functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PciKind {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
}

impl<'a> Options<'a> {
    /// Reads the words of `line`.
    ///
    /// # Errors
    /// [`BootError::UnknownOption`] for a word that is none of the above: unknown words are not ignored, since they
    /// may be misspelt restrictions. [`BootError::BadOption`] for a bad or repeated value.
    pub fn parse(line: &'a str) -> Result<Self, BootError<'a>> {
        let mut options = Self::default();
        for word in line.split_ascii_whitespace() {
            let bad = |expected| BootError::BadOption { word, expected };
            let (key, value) = word.split_once('=').ok_or(BootError::UnknownOption { word })?;
            match key {
                "token" => {
                    if !is_token(value) {
                        return Err(bad("1 to 128 hexadecimal digits"));
                    }
                    if options.token.replace(value).is_some() {
                        return Err(bad("one token only"));
                    }
                }
                "allow" | "withhold" => {
                    if !value.starts_with('/') {
                        return Err(bad("the full path of a device tree node"));
                    }
                    let (paths, what) = match key {
                        "allow" => (&mut options.allow, "allow= options"),
                        _ => (&mut options.withhold, "withhold= options"),
                    };
                    paths.try_push(value).map_err(|_| BootError::TooMany { what, limit: ALLOW_MAX })?;
                }
                "console" => {
                    let choice = console_choice(word).ok_or_else(|| bad(CONSOLE_EXPECTED))?;
                    if options.console.replace(choice).is_some() {
                        return Err(bad("one console only"));
                    }
                }
                "pool" => {
                    let bytes = size(value).ok_or_else(|| bad("a number of bytes, with suffix K, M or G or none"))?;
                    if options.pool.replace(bytes).is_some() {
                        return Err(bad("one pool size only"));
                    }
                }
                "no-reset" => {
                    let kind = pci_kind(value).ok_or_else(|| bad("vendor and device ID, as in 1b36:0010"))?;
                    options
                        .no_reset
                        .try_push(kind)
                        .map_err(|_| BootError::TooMany { what: "no-reset= options", limit: NO_RESET_MAX })?;
                }
                "cmdq" => {
                    let log2 = value.parse().ok().filter(|log2| (1..=CMDQ_MAX).contains(log2));
                    let log2 = log2.ok_or_else(|| bad("log2 of a number of entries, from 1 to 14"))?;
                    if options.cmdq.replace(log2).is_some() {
                        return Err(bad("one queue size only"));
                    }
                }
                _ => return Err(BootError::UnknownOption { word }),
            }
        }
        Ok(options)
    }
}

/// The token, from a command line that may be otherwise invalid.
pub(super) fn token(line: &str) -> Option<&str> {
    line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("token=")).find(|t| is_token(t))
}

const CONSOLE_EXPECTED: &str =
    "none, or the full path of a UART; the host's console= belongs to the kernel module's bootargs";

fn console_choice(word: &str) -> Option<ConsoleChoice<'_>> {
    match word.strip_prefix("console=")? {
        "none" => Some(ConsoleChoice::None),
        path => path.starts_with('/').then_some(ConsoleChoice::Uart { path, word }),
    }
}

/// The console, from a command line that may be otherwise invalid.
pub(super) fn console(line: &str) -> Option<ConsoleChoice<'_>> {
    line.split_ascii_whitespace().find_map(console_choice)
}

fn is_token(value: &str) -> bool {
    (1..=128).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_hexdigit())
}

fn pci_kind(value: &str) -> Option<PciKind> {
    let (vendor, device) = value.split_once(':')?;
    let id = |digits: &str| {
        let well_formed = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        well_formed.then(|| u16::from_str_radix(digits, 16).ok())?
    };
    Some(PciKind { vendor: id(vendor)?, device: id(device)? })
}

fn size(value: &str) -> Option<u64> {
    let units = [('K', 1u64 << 10), ('M', 1 << 20), ('G', 1 << 30)];
    let unit = units.iter().find(|(suffix, _)| value.ends_with(*suffix));
    let (digits, scale) = match unit {
        Some((suffix, scale)) => (value.strip_suffix(*suffix)?, *scale),
        None => (value, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(scale).filter(|&bytes| bytes > 0)
}
