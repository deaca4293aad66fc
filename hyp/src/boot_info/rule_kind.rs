//! The kind of a rule of a board's author, and parts of messages about rules.

use core::fmt;

/// Characters of a wrong line that are printed.
const SHOWN: usize = 64;

/// The action of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// The host gets devices whose most specific `compatible` string is the rule's, unless the tree shows that they are
    /// DMA masters or their registers are withheld for another reason.
    Give,
    /// The host does not get devices with this string in their `compatible`.
    Withhold,
}

impl fmt::Display for RuleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Give => "give",
            Self::Withhold => "withhold",
        })
    }
}

/// The remedy for a rule that EL2 refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleRemedy {
    /// To remove the rule.
    Remove,
    /// To remove the rule, or to exclude the node.
    Exclude,
}

impl fmt::Display for RuleRemedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Remove => "remove the rule",
            Self::Exclude => "remove the rule, or exclude this node with withhold=PATH on EL2's command line",
        })
    }
}

/// Prints a part of a wrong line with escaped characters.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().take(SHOWN).try_for_each(|c| write!(f, "{}", c.escape_default()))
    }
}
