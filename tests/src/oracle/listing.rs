//! `nft -a -s list ruleset` at several moments against the texts in the journeys: a rule's text must be the
//! one that was in force when the packet passed.

use std::collections::BTreeMap;

use serde_json::Value;

use super::agreement::OWN_TABLE;
use super::journey::{headline, netns_of, place, steps, text};
use super::monitor::{Place, split_handle};

/// The rules of one namespace from some moment on.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// The namespace.
    pub(crate) inum: u64,
    /// When the command that brought this ruleset began, nanoseconds since the epoch.
    pub(crate) begun_ns: u64,
    /// When it had ended.
    pub(crate) ended_ns: u64,
    /// Place and handle to text.
    pub(crate) rules: BTreeMap<(Place, u64), String>,
}

/// A rule's place and handle, and its text.
pub(crate) type Listed = ((Place, u64), String);

/// Reads the output of `nft -a -s list ruleset`, in its order.
pub(crate) fn rules(listing: &str) -> Vec<Listed> {
    let mut rules = Vec::new();
    let mut table: Option<(String, String)> = None;
    let mut chain: Option<String> = None;
    for line in logical_lines(listing, |line| line.matches('"').count()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (line.chars().take_while(|c| *c == '\t').count(), words.as_slice()) {
            (0, ["table", family, name, ..]) => table = Some(((*family).to_owned(), (*name).to_owned())),
            (1, ["chain", name, ..]) => chain = Some((*name).to_owned()),
            (1, _) => chain = None,
            (2, _) => {
                if let (Some((family, table)), Some(chain)) = (&table, &chain)
                    && let (text, Some(handle)) = split_handle(line.trim())
                {
                    let place = Place { family: family.clone(), table: table.clone(), chain: chain.clone() };
                    rules.push(((place, handle), text.to_owned()));
                }
            }
            _ => {}
        }
    }
    rules
}

/// Lines, with those that follow while a text between quotes goes on. A quote in such a text must be none of those
/// that `quotes` counts.
pub(super) fn logical_lines(text: &str, quotes: impl Fn(&str) -> usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        match lines.last_mut().filter(|_| open) {
            Some(last) => {
                last.push('\n');
                last.push_str(line);
            }
            None => lines.push(line.to_owned()),
        }
        open ^= !quotes(line).is_multiple_of(2);
    }
    lines
}

/// Complaints about rule steps whose text was not in force at their time.
pub(crate) fn complaints(snapshots: &[Snapshot], journeys: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for journey in journeys {
        for step in steps(journey).iter().filter(|step| text(step, &["kind"]) == "rule") {
            let place = place(step);
            let Some(inum) = netns_of(journey, step) else { continue };
            // Rules of other tools' syntax have no handle; their own oracle looks at them.
            let Some(handle) = step["handle"].as_u64() else { continue };
            if place.table.starts_with(OWN_TABLE) {
                found.push(format!("{}: a step in nattrace's own table {}", headline(journey), place.table));
                continue;
            }
            let time = step["time_ns"].as_u64().unwrap_or_default();
            let in_force = in_force(snapshots, inum, time);
            let texts: Vec<Option<&String>> =
                in_force.iter().map(|snapshot| snapshot.rules.get(&(place.clone(), handle))).collect();
            if texts.is_empty() {
                continue;
            }
            let said = step["text"].as_str();
            if !texts.iter().any(|text| text.map(String::as_str) == said) {
                found.push(format!(
                    "{}: rule {handle} of {place} is {}, nft listed {}",
                    headline(journey),
                    said.unwrap_or("(no text)"),
                    texts
                        .iter()
                        .map(|text| text.map_or("(nothing)", String::as_str))
                        .collect::<Vec<_>>()
                        .join(" or "),
                ));
            }
        }
    }
    found
}

/// The snapshots of a namespace that may have been in force at `time`: while one was being replaced, both.
fn in_force(snapshots: &[Snapshot], inum: u64, time: u64) -> Vec<&Snapshot> {
    let here: Vec<&Snapshot> = snapshots.iter().filter(|snapshot| snapshot.inum == inum).collect();
    let mut candidates = Vec::new();
    for (index, snapshot) in here.iter().enumerate() {
        let until = here.get(index + 1).map_or(u64::MAX, |next| next.ended_ns);
        if (snapshot.begun_ns..=until).contains(&time) {
            candidates.push(*snapshot);
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LISTING: &str = "\
table inet filter { # handle 2
\tset allow_in { # handle 4
\t\ttype ipv4_addr . inet_service
\t\telements = { 192.168.70.10 . 22 }
\t}

\tchain forward { # handle 1
\t\ttype filter hook forward priority filter; policy accept;
\t\tct status dnat jump allowed_dnats # handle 6
\t}
}
";

    fn snapshot(begun_ns: u64, ended_ns: u64, listing: &str) -> Snapshot {
        Snapshot { inum: 5, begun_ns, ended_ns, rules: rules(listing).into_iter().collect() }
    }

    fn journey(time: u64, text: &str) -> Value {
        json!({"id": "1", "netns": {"inum": 5}, "steps": [{"kind": "rule", "family": "inet", "table": "filter",
            "chain": "forward", "handle": 6, "text": text, "time_ns": time}]})
    }

    #[test]
    fn only_rules_are_read() {
        let rules = rules(LISTING);
        assert_eq!(rules.len(), 1);
        let ((place, handle), text) = rules.into_iter().next().expect("one rule");
        assert_eq!((place.to_string().as_str(), handle), ("inet filter forward", 6));
        assert_eq!(text, "ct status dnat jump allowed_dnats");
    }

    #[test]
    fn a_comment_may_have_lines_of_its_own() {
        let rules =
            rules(&LISTING.replace("dnats # handle 6", "dnats comment \"a\n}\nb # handle 7\" # handle 6"));
        let ((_, handle), text) = rules.first().expect("a rule");
        assert_eq!((*handle, rules.len()), (6, 1));
        assert_eq!(text, "ct status dnat jump allowed_dnats comment \"a\n}\nb # handle 7\"");
    }

    #[test]
    fn the_text_must_be_the_one_in_force() {
        let later = LISTING.replace("ct status dnat jump allowed_dnats", "drop");
        let snapshots = [snapshot(100, 200, LISTING), snapshot(500, 600, &later)];
        let judge = |time, text| complaints(&snapshots, &[journey(time, text)]).len();
        assert_eq!(judge(300, "ct status dnat jump allowed_dnats"), 0);
        assert_eq!(judge(300, "drop"), 1, "not yet");
        assert_eq!(judge(700, "ct status dnat jump allowed_dnats"), 1, "stale");
        assert_eq!(judge(700, "drop"), 0);
        assert_eq!(
            judge(550, "drop") + judge(550, "ct status dnat jump allowed_dnats"),
            0,
            "either, meanwhile"
        );
    }

    #[test]
    fn steps_in_the_own_table_are_told() {
        let mut own = journey(300, "meta nftrace set 1");
        own["steps"][0]["table"] = json!("nattrace_17");
        assert_eq!(complaints(&[snapshot(100, 200, LISTING)], &[own]).len(), 1);
    }
}
