//! Compares `docs/hypercalls.md` with the code, in both directions.

use core::fmt::Debug;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use crate::pci::Refusal;

use super::{Features, Function, Stat, Status, VERSION_MAJOR, VERSION_MINOR};

const PAGE: &str = include_str!("../../../docs/hypercalls.md");

/// The name on the page: `HostShareHyp` becomes `HOST_SHARE_HYP`.
fn name(variant: impl Debug) -> String {
    let mut name = String::new();
    for c in format!("{variant:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// Whether a table of the page has a row that begins with these two cells.
fn has_row(first: &str, second: &str) -> bool {
    PAGE.lines().any(|line| line.starts_with(&format!("| {first} | `{second}` |")))
}

#[test]
fn every_function_is_on_the_page_with_its_identifier() {
    for function in Function::ALL {
        let (id, name) = (format!("`{:#x}`", function.id()), name(function));
        assert!(has_row(&id, &name), "{id} {name}");
    }
}

#[test]
fn the_page_names_no_other_function() {
    let named: Vec<&str> = PAGE.split('`').filter(|word| word.starts_with("0xc600")).collect();
    assert_eq!(named.len(), Function::ALL.len());
    for word in named {
        assert!(Function::ALL.into_iter().any(|function| word == format!("{:#x}", function.id())), "{word}");
    }
}

#[test]
fn every_reason_is_on_the_page_with_its_number() {
    for refusal in Refusal::ALL {
        assert!(has_row(&refusal.number().to_string(), &name(refusal)), "{refusal:?}");
    }
}

/// The answer after `status`; exhaustive, so that a new answer that is missing here does not compile.
fn next(status: Status) -> Option<Status> {
    match status {
        Status::Success => Some(Status::NotSupported),
        Status::NotSupported => Some(Status::InvalidParameter),
        Status::InvalidParameter => Some(Status::Denied),
        Status::Denied => Some(Status::Busy),
        Status::Busy => Some(Status::NoMemory),
        Status::NoMemory => Some(Status::Io),
        Status::Io => None,
    }
}

#[test]
fn every_answer_is_on_the_page_with_its_code() {
    for status in core::iter::successors(Some(Status::Success), |status| next(*status)) {
        let (code, name) = (format!("`{}`", status.code()), name(status));
        assert!(has_row(&code, &name), "{code} {name}");
    }
}

#[test]
fn every_feature_and_counter_is_on_the_page_with_its_number() {
    for (name, flag) in Features::all().iter_names() {
        assert!(has_row(&flag.bits().trailing_zeros().to_string(), name), "{name}");
    }
    let counters: Vec<Stat> = (0..).map_while(Stat::from_index).collect();
    assert!(counters.len() > 1);
    for (index, counter) in counters.into_iter().enumerate() {
        assert!(has_row(&index.to_string(), &name(counter)), "{counter:?}");
    }
    assert!(PAGE.contains(&format!("this page describes {VERSION_MAJOR}.{VERSION_MINOR}.")));
}
