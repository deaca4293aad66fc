//! One part of the mutants. It is parsed before the build, since cargo-mutants rejects an invalid one only after
//! minutes.

use std::fmt;
use std::str::FromStr;

/// Part `part` of `parts`, counted from 0 as cargo-mutants does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Shard {
    part: u32,
    parts: u32,
}

impl FromStr for Shard {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (part, parts) = text.split_once('/').ok_or("write K/N, for example 0/4")?;
        match (part.parse(), parts.parse()) {
            (Ok(part), Ok(parts)) if part < parts => Ok(Self { part, parts }),
            (Ok(_), Ok(_)) => Err("K goes from 0 to N-1"),
            _ => Err("K and N are numbers, for example 0/4"),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.part, self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_from_0() {
        for text in ["0/1", "0/4", "3/4"] {
            assert_eq!(text.parse::<Shard>().map(|shard| shard.to_string()).as_deref(), Ok(text));
        }
        for text in ["5/3", "3/3", "0/0"] {
            assert!(text.parse::<Shard>().is_err_and(|why| why.contains("0 to N-1")), "{text}");
        }
        for text in ["", "1", "/", "a/2", "1/-2", "1/2/3"] {
            assert!(text.parse::<Shard>().is_err_and(|why| why.contains("0/4")), "{text}");
        }
    }
}
