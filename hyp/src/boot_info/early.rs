//! The values that EL2 needs to print an error: the console and the token.

use super::cells::string;
use super::cmdline;
use super::tree::Tree;
use super::uart::Uarts;

/// Console and token, if the tree has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Early<'a> {
    /// The UARTs.
    pub uarts: Uarts,
    /// The run's token.
    pub token: Option<&'a str>,
}

impl<'a> Early<'a> {
    /// Reads these values from `dtb`; one that cannot be read is left empty.
    /// [`Platform::parse`](super::Platform::parse) reports the error later.
    #[must_use]
    pub fn read(dtb: &'a [u8]) -> Self {
        let Ok(tree) = Tree::parse(dtb) else {
            return Self::default();
        };
        let mut bootargs = None;
        let walked = tree.walk(&mut |node| {
            if node.is_top("chosen") {
                bootargs = node.value("bootargs").and_then(string);
            }
            Ok(())
        });
        let bootargs = bootargs.filter(|_| walked.is_ok());
        let uarts = Uarts::find(&tree, bootargs.and_then(cmdline::console));
        // An invalid `console=` is reported later, so a UART is needed to print that error.
        let uarts = uarts.or_else(|_| Uarts::find(&tree, None)).unwrap_or_default();
        Self { uarts, token: bootargs.and_then(cmdline::token) }
    }
}
