//! Which Debian mirror this machine is set up to use, read from apt's own configuration.
//!
//! The project names no mirror: it asks the machine's one for other suites.

use std::{collections::BTreeMap, env, fs, path::Path};

/// One place that packages come from: a URI and a suite of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// The archive's address.
    pub(crate) uri: String,
    /// `bookworm`, `stable-updates`, …
    pub(crate) suite: String,
    /// `main`, `contrib`, …
    pub(crate) components: Vec<String>,
    /// The file with the keys the archive is signed with, where the entry names one.
    pub(crate) signed_by: Option<String>,
}

/// The mirror of the Debian archive proper that this machine uses: its URI and the keyring its entry names.
///
/// `NATTRACE_DEBIAN_MIRROR` overrules what apt is configured for.
pub(crate) fn debian_mirror() -> Option<(String, Option<String>)> {
    if let Some(uri) = env::var("NATTRACE_DEBIAN_MIRROR").ok().filter(|uri| !uri.is_empty()) {
        return Some((uri, None));
    }
    let source = choose_mirror(&configured(Path::new("/etc/apt")))?;
    Some((source.uri, source.signed_by))
}

/// All binary sources of an apt configuration folder, in apt's order.
fn configured(etc_apt: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    if let Ok(text) = fs::read_to_string(etc_apt.join("sources.list")) {
        sources.extend(parse_one_line(&text));
    }
    let mut parts: Vec<_> = fs::read_dir(etc_apt.join("sources.list.d"))
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    parts.sort();
    for path in parts {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(parse_one_line(&text)),
            Some("sources") => sources.extend(parse_deb822(&text)),
            _ => {}
        }
    }
    sources
}

/// Reads `sources.list`: `deb [option=value …] URI SUITE COMPONENT…`.
fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(|line| parse_line(line.split('#').next()?.trim())).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let rest = line.strip_prefix("deb")?;
    let rest = rest.strip_prefix(char::is_whitespace)?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options
        .split_whitespace()
        .find_map(|option| option.strip_prefix("signed-by="))
        .filter(|path| path.starts_with('/'))
        .map(str::to_owned);
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source { uri: words.next()?, suite: words.next()?, components: words.collect(), signed_by })
}

/// Reads a deb822 `.sources` file: stanzas of fields, each with continuation lines.
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut stanza = BTreeMap::<String, String>::new();
    let mut last = None;
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            sources.extend(stanza_sources(&stanza));
            stanza.clear();
            last = None;
        } else if line.starts_with([' ', '\t']) {
            if let Some(value) = last.as_ref().and_then(|name| stanza.get_mut(name)) {
                value.push('\n');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            let name = name.trim().to_ascii_lowercase();
            stanza.insert(name.clone(), value.trim().to_owned());
            last = Some(name);
        }
    }
    sources
}

fn stanza_sources(stanza: &BTreeMap<String, String>) -> Vec<Source> {
    let words = |name: &str| {
        stanza
            .get(name)
            .map(|value| value.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default()
    };
    let types: Vec<String> = words("types");
    let disabled = stanza.get("enabled").is_some_and(|value| ["no", "false", "0"].contains(&value.as_str()));
    if disabled || !types.iter().any(|kind| kind == "deb") {
        return Vec::new();
    }
    // A key may also stand in the stanza itself; then it is not a path.
    let signed_by = stanza.get("signed-by").filter(|value| value.starts_with('/') && !value.contains('\n'));
    let suites: Vec<String> = words("suites");
    words("uris")
        .iter()
        .flat_map(|uri: &String| {
            suites.iter().map(|suite| Source {
                uri: uri.clone(),
                suite: suite.clone(),
                components: words("components"),
                signed_by: signed_by.cloned(),
            })
        })
        .collect()
}

/// The entry that is most likely the Debian archive proper, not security updates and not a third party's.
fn choose_mirror(sources: &[Source]) -> Option<Source> {
    const NAMES: [&str; 9] =
        ["bullseye", "bookworm", "trixie", "forky", "sid", "oldoldstable", "oldstable", "stable", "testing"];
    let is_debian = |source: &&Source| {
        let name = source.suite.trim_end_matches("-updates").trim_end_matches("-backports");
        (NAMES.contains(&name) || name == "unstable") && source.components.iter().any(|it| it == "main")
    };
    // Third parties also publish "bookworm main", but they do not call their archive "debian" and have no updates.
    let likeness = |source: &Source| {
        let archive = source.uri.trim_end_matches('/').ends_with("/debian");
        let updates = sources.iter().any(|it| it.uri == source.uri && it.suite.ends_with("-updates"));
        u8::from(archive) + u8::from(updates)
    };
    let mut candidates: Vec<_> = sources.iter().filter(is_debian).collect();
    candidates.sort_by_key(|source| std::cmp::Reverse(likeness(source)));
    candidates.first().map(|source| (*source).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uri: &str, suite: &str, components: &[&str], signed_by: Option<&str>) -> Source {
        Source {
            uri: uri.into(),
            suite: suite.into(),
            components: components.iter().map(ToString::to_string).collect(),
            signed_by: signed_by.map(Into::into),
        }
    }

    #[test]
    fn reads_one_line_entries() {
        let text = "# a comment\n\
                    deb http://mirror.example/debian bookworm main contrib # why\n\
                    deb-src http://mirror.example/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] https://x.example/deb stable main\n\
                    debris\n";
        assert_eq!(
            parse_one_line(text),
            [
                source("http://mirror.example/debian", "bookworm", &["main", "contrib"], None),
                source("https://x.example/deb", "stable", &["main"], Some("/k.gpg")),
            ]
        );
    }

    #[test]
    fn reads_deb822_stanzas() {
        let text = "Types: deb deb-src\n# a comment\nURIs: http://mirror.example/debian\n\
                    Suites: bookworm\n bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\
                    \nEnabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: sid\nComponents: main\n\
                    \nTypes: deb\nURIs: http://key.example/d\nSuites: x\nComponents: y\nSigned-By:\n -----BEGIN\n .\n";
        assert_eq!(
            parse_deb822(text),
            [
                source("http://mirror.example/debian", "bookworm", &["main"], Some("/k.gpg")),
                source("http://mirror.example/debian", "bookworm-updates", &["main"], Some("/k.gpg")),
                source("http://key.example/d", "x", &["y"], None),
            ]
        );
    }

    #[test]
    fn prefers_the_debian_archive_to_third_parties_and_security() {
        let third = source("https://apt.example.com", "bookworm", &["main"], None);
        let security = source("http://mirror.example/debian-security", "bookworm-security", &["main"], None);
        let debian = source("http://mirror.example/debian/", "bookworm", &["main"], None);
        let updates = source("http://mirror.example/debian/", "bookworm-updates", &["main"], None);
        assert_eq!(choose_mirror(&[third, security.clone(), debian.clone(), updates]), Some(debian));
        assert_eq!(choose_mirror(&[security]), None);
        let ubuntu = source("http://mirror.example/ubuntu", "noble", &["main"], None);
        assert_eq!(choose_mirror(&[ubuntu]), None);
    }
}
