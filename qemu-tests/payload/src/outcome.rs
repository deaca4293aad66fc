//! Why a test failed, as text in a fixed buffer, since there is no heap.

use core::fmt::{self, Display, Write};

/// Maximum length of a reason in bytes.
const ROOM: usize = 200;

/// Why a test failed, or why it does not apply to this machine.
#[derive(Clone)]
pub struct Fail {
    kind: Kind,
    text: [u8; ROOM],
    len: usize,
}

/// Meaning of a [`Fail`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The test failed.
    Failed,
    /// The machine lacks a feature that the test needs.
    Skipped,
}

/// Return type of a test.
pub type TestResult = Result<(), Fail>;

impl Fail {
    /// A failure or a skip with its reason.
    pub fn new(kind: Kind, args: fmt::Arguments<'_>) -> Self {
        let mut fail = Self { kind, text: [0; ROOM], len: 0 };
        // A longer reason is cut.
        let _ = fail.write_fmt(args);
        fail
    }

    /// Its meaning.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl Write for Fail {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let slot = self.text.get_mut(self.len).ok_or(fmt::Error)?;
            *slot = byte;
            self.len += 1;
        }
        Ok(())
    }
}

impl Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.text[..self.len].utf8_chunks() {
            f.write_str(chunk.valid())?;
        }
        Ok(())
    }
}

impl From<&'static str> for Fail {
    fn from(text: &'static str) -> Self {
        Self::new(Kind::Failed, format_args!("{text}"))
    }
}

impl From<crate::nvme::NvmeError> for Fail {
    fn from(error: crate::nvme::NvmeError) -> Self {
        Self::new(Kind::Failed, format_args!("NVMe: {error:?}"))
    }
}

/// Ends the test with a reason unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($arg:tt)*) => {
        if !$condition {
            return Err($crate::outcome::Fail::new($crate::outcome::Kind::Failed, format_args!($($arg)*)));
        }
    };
}

/// Ends the test as failed.
#[macro_export]
macro_rules! fail {
    ($($arg:tt)*) => {
        return Err($crate::outcome::Fail::new($crate::outcome::Kind::Failed, format_args!($($arg)*)))
    };
}

/// Ends the test as not applicable on this machine.
#[macro_export]
macro_rules! skip {
    ($($arg:tt)*) => {
        return Err($crate::outcome::Fail::new($crate::outcome::Kind::Skipped, format_args!($($arg)*)))
    };
}
