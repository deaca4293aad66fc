//! The payload's list of its tests.

use std::path::Path;

use anyhow::{Result, ensure};

use super::{Clock, HypervisorKind, Images, Run};

/// A test of the payload's list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listed {
    /// Name.
    pub name: String,
    /// Number of CPUs that it needs.
    pub cpus: u32,
    /// The kind of clock that it needs.
    pub clock: Clock,
    /// The hypervisors below which it runs.
    pub runs: Vec<HypervisorKind>,
    /// Options for EL2 that it needs.
    pub el2_options: String,
}

/// Boots the payload without a hypervisor and returns its list of tests, sorted by name.
///
/// # Errors
/// When the payload does not boot or lists no tests.
pub fn list(images: &Images, dir: &Path) -> Result<Vec<Listed>> {
    let report = Run::new(images, HypervisorKind::Native, "list").run(dir)?;
    report.outcome.require_clean_exit()?;
    let mut tests: Vec<Listed> = report.outcome.host_console.lines().filter_map(listed).collect();
    ensure!(!tests.is_empty(), "the payload lists no tests: {}", report.consoles());
    tests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tests)
}

fn listed(line: &str) -> Option<Listed> {
    let (line, el2_options) = line.trim().split_once(" el2=")?;
    let mut words = line.strip_prefix("LIST ")?.split_whitespace();
    let name = words.next()?.to_owned();
    let mut value = |key: &str| words.next()?.strip_prefix(key)?.strip_prefix('=').map(str::to_owned);
    let cpus = value("cpus")?.parse().ok()?;
    let clock = match value("clock")?.as_str() {
        "counted" => Clock::Counted,
        "real" => Clock::Real,
        _ => return None,
    };
    let runs = value("runs")?;
    let runs = [HypervisorKind::Native, HypervisorKind::Portcullis, HypervisorKind::WithoutIsolation]
        .into_iter()
        .filter(|hypervisor| runs.split(',').any(|word| word == hypervisor.name()))
        .collect();
    Some(Listed { name, cpus, clock, runs, el2_options: el2_options.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_test_is_read() {
        let expected = Listed {
            name: "t05_donate_while_off".to_owned(),
            cpus: 4,
            clock: Clock::Real,
            runs: vec![HypervisorKind::Portcullis, HypervisorKind::WithoutIsolation],
            el2_options: "pool=2M".to_owned(),
        };
        let line = "LIST t05_donate_while_off cpus=4 clock=real runs=hyp,open, el2=";
        assert_eq!(listed(&format!("{line}pool=2M\n")).as_ref(), Some(&expected));
        assert_eq!(listed(line), Some(Listed { el2_options: String::new(), ..expected }));
        assert_eq!(listed("TEST a: PASS"), None);
    }
}
