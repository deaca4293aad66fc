//! Reads the Debian release and mirrors from the system's apt sources. xtask contains no host names; it uses the
//! configured mirrors.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The keyring that Debian's own packages install.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The two fields of /etc/os-release that determine the source of packages.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OsRelease {
    /// `ID`, for example `debian`.
    pub id: String,
    /// `VERSION_ID`, for example `12`; empty on rolling releases.
    pub version: String,
}

impl OsRelease {
    /// Reads /etc/os-release; without that file the fields are empty.
    pub fn read() -> Self {
        Self::parse(&fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let field = |name: &str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.trim_matches('"').to_owned())
                .unwrap_or_default()
        };
        Self { id: field("ID"), version: field("VERSION_ID") }
    }
}

/// One enabled source of binary packages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// The mirror.
    pub uri: String,
    /// The suite, for example `bookworm-security`.
    pub suite: String,
}

/// The mirrors of a Debian system.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mirrors {
    /// Mirror of the main archive: stable, updates and backports suites.
    pub main: String,
    /// Mirror of the security archive, if the system has one.
    pub security: Option<String>,
}

impl Mirrors {
    /// Reads the mirrors from /etc/apt.
    ///
    /// # Errors
    /// When no enabled source contains a Debian suite.
    pub fn of_system() -> Result<Self> {
        let sources = system_sources(Path::new("/etc/apt"))?;
        Self::pick(&sources).context("no Debian archive in /etc/apt/sources.list or /etc/apt/sources.list.d/*.sources")
    }

    fn pick(sources: &[Source]) -> Option<Self> {
        let release = |source: &&Source| {
            RELEASES.iter().any(|name| source.suite == *name || source.suite == format!("{name}-updates"))
        };
        let security = |source: &&Source| {
            source.suite.ends_with("-security") && RELEASES.iter().any(|name| source.suite.starts_with(name))
        };
        Some(Self {
            main: sources.iter().find(release)?.uri.clone(),
            security: sources.iter().find(security).map(|found| found.uri.clone()),
        })
    }
}

/// Suites that only Debian's own archive has.
const RELEASES: [&str; 7] = ["bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable"];

fn system_sources(etc_apt: &Path) -> Result<Vec<Source>> {
    let mut files: Vec<PathBuf> = match fs::read_dir(etc_apt.join("sources.list.d")) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => Vec::new(),
    };
    files.sort();
    files.insert(0, etc_apt.join("sources.list"));
    let mut sources = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|ext| ext.to_str()) {
            Some("sources") => sources.extend(parse_deb822(&text)),
            Some("list") => sources.extend(parse_one_line(&text)),
            _ => {}
        }
    }
    Ok(sources)
}

/// Parses the one-line style: `deb [options] uri suite components…`.
fn parse_one_line(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("deb ") else {
            continue;
        };
        let rest = rest.trim_start();
        let rest = match rest.strip_prefix('[') {
            Some(options) => options.split_once(']').map_or("", |(_, after)| after),
            None => rest,
        };
        let mut words = rest.split_whitespace();
        if let (Some(uri), Some(suite)) = (words.next(), words.next()) {
            sources.push(Source { uri: uri.to_owned(), suite: suite.to_owned() });
        }
    }
    sources
}

/// Parses deb822 stanzas; every pair of a URI and a suite becomes one source.
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut stanza: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(from_stanza(&stanza));
            stanza.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = stanza.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((key, value)) = line.split_once(':') {
            stanza.push((key.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

fn from_stanza(stanza: &[(String, String)]) -> Vec<Source> {
    let words = |key: &str| -> Vec<&str> {
        stanza.iter().filter(|(name, _)| name == key).flat_map(|(_, value)| value.split_whitespace()).collect()
    };
    if words("enabled") == ["no"] || !words("types").contains(&"deb") {
        return Vec::new();
    }
    let mut sources = Vec::new();
    for uri in words("uris") {
        for suite in words("suites") {
            sources.push(Source { uri: uri.to_owned(), suite: suite.to_owned() });
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
Types: deb
# a comment inside the stanza
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main

Types: deb deb-src
URIs: http://mirror.example/security
Suites:
 bookworm-security
Enabled: yes

Types: deb
URIs: http://other.example/tool
Suites: nodistro
Enabled: no
";

    #[test]
    fn deb822_gives_mirrors_of_both_archives() {
        let mirrors = Mirrors::pick(&parse_deb822(DEB822));
        let expected = Mirrors {
            main: "http://mirror.example/debian".into(),
            security: Some("http://mirror.example/security".into()),
        };
        assert_eq!(mirrors, Some(expected));
    }

    #[test]
    fn disabled_stanzas_are_not_used() {
        assert!(parse_deb822(DEB822).iter().all(|source| source.suite != "nodistro"));
    }

    #[test]
    fn one_line_sources_may_have_options_and_comments() {
        let text = "# deb http://off.example/ bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian bookworm main # why\n\
                    deb-src http://a.example/debian bookworm main\n";
        let expected = vec![Source { uri: "http://a.example/debian".into(), suite: "bookworm".into() }];
        assert_eq!(parse_one_line(text), expected);
    }

    #[test]
    fn a_third_party_archive_is_not_used_as_a_mirror() {
        let text = "deb http://tool.example/apt tool main\n";
        assert_eq!(Mirrors::pick(&parse_one_line(text)), None);
    }

    #[test]
    fn quotes_are_removed_from_os_release_fields() {
        let parsed = OsRelease::parse("PRETTY_NAME=\"X\"\nID=debian\nVERSION_ID=\"12\"\n");
        assert_eq!(parsed.id, "debian");
        assert_eq!(parsed.version, "12");
    }
}
