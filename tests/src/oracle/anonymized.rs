//! A recording that was anonymized: the same journeys, with an address for each address and a name for each name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;
use nattrace_core::record::{Decoded, Reader};
use serde_json::Value;

use super::journey::{headline, text};

/// Members that are addresses.
const ADDRESSES: [&str; 6] = ["saddr", "daddr", "addr", "gateway", "prefix", "source"];
/// Members that are names.
const NAMES: [&str; 6] = ["iif", "oif", "name", "table", "chain", "device"];
/// Members that are made of both, in words.
const WORDS: [&str; 3] = ["text", "fix", "why"];

/// What stands for what.
#[derive(Debug, Default)]
struct Pairs {
    there: BTreeMap<String, String>,
    back: BTreeMap<String, String>,
}

impl Pairs {
    /// Whether the one stands for the other everywhere, and for nothing else.
    fn agree(&mut self, from: &str, to: &str) -> bool {
        let there = self.there.entry(from.to_owned()).or_insert_with(|| to.to_owned());
        let back = self.back.entry(to.to_owned()).or_insert_with(|| from.to_owned());
        there == to && back == from
    }
}

/// Complaints about journeys that differ in more than addresses and names, or in which one stands for two.
pub(crate) fn complaints(live: &[Value], anonymized: &[Value]) -> Vec<String> {
    if live.len() != anonymized.len() {
        return vec![format!("{} journeys, {} of others", live.len(), anonymized.len())];
    }
    let (mut addresses, mut names) = (Pairs::default(), Pairs::default());
    let mut found = Vec::new();
    for (journey, other) in by_id(live).into_iter().zip(by_id(anonymized)) {
        let mut differences = Vec::new();
        compare("", journey, other, &mut (&mut addresses, &mut names), &mut differences);
        found.extend(differences.first().map(|difference| format!("{}: {difference}", headline(journey))));
    }
    found.extend(addresses.there.iter().filter_map(|(from, to)| meaning(from, to)));
    found
}

fn by_id(journeys: &[Value]) -> Vec<&Value> {
    let mut journeys: Vec<&Value> = journeys.iter().collect();
    journeys.sort_by_key(|journey| text(journey, &["id"]).parse::<u64>().unwrap_or_default());
    journeys
}

fn compare(
    key: &str,
    before: &Value,
    after: &Value,
    pairs: &mut (&mut Pairs, &mut Pairs),
    found: &mut Vec<String>,
) {
    match (before, after) {
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (a, b) in a.iter().zip(b) {
                compare(key, a, b, pairs, found);
            }
        }
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                compare(key, &before[key], &after[key], pairs, found);
            }
        }
        (Value::String(a), Value::String(b)) if WORDS.contains(&key) => {
            if a.is_empty() != b.is_empty() {
                found.push(format!("{key}: {a:?} became {b:?}"));
            }
        }
        (Value::String(a), Value::String(b)) => {
            let agree = match key {
                _ if ADDRESSES.contains(&key) => pairs.0.agree(a, b),
                "verdict" => match (a.split_once(' '), b.split_once(' ')) {
                    (Some((a, chain)), Some((b, other))) => {
                        a == b && pairs.1.agree(&format!("chain {chain}"), &format!("chain {other}"))
                    }
                    _ => a == b,
                },
                _ if NAMES.contains(&key) => {
                    let class = if matches!(key, "iif" | "oif") { "device" } else { key };
                    pairs.1.agree(&format!("{class} {a}"), &format!("{class} {b}"))
                }
                _ => a == b,
            };
            if !agree {
                found.push(format!("{key}: {a:?} became {b:?}"));
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{key}: {a} became {b}")),
    }
}

/// Addresses, devices and chains of the journeys that are found in a recording.
pub(crate) fn leaks(live: &[Value], recording: &Path) -> Result<Vec<String>> {
    let mut reader = Reader::open(BufReader::new(File::open(recording)?))?;
    let mut recorded = serde_json::to_string(reader.header())?;
    while let Decoded::Event(event) = reader.next()? {
        recorded.push_str(&serde_json::to_string(&event)?);
    }
    let mut secrets = BTreeSet::new();
    for journey in live {
        secrets_of("", journey, &mut secrets);
    }
    let is_found = |secret: &&String| {
        recorded.match_indices(secret.as_str()).any(|(at, _)| {
            let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
            let (before, after) =
                (recorded[..at].chars().next_back(), recorded[at + secret.len()..].chars().next());
            !before.is_some_and(is_part) && !after.is_some_and(is_part)
        })
    };
    Ok(secrets.iter().filter(is_found).map(|secret| format!("the recording has {secret}")).collect())
}

fn secrets_of(key: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(list) => list.iter().for_each(|value| secrets_of(key, value, found)),
        Value::Object(members) => members.iter().for_each(|(key, value)| secrets_of(key, value, found)),
        Value::String(text) if key == "saddr" || key == "daddr" || key == "addr" => {
            let shared = |addr: IpAddr| addr.is_loopback() || addr.is_multicast() || addr.is_unspecified();
            found.extend(text.parse().ok().filter(|addr| !shared(*addr)).map(|addr| addr.to_string()));
        }
        Value::String(text) if matches!(key, "iif" | "oif") && text != "lo" => _ = found.insert(text.clone()),
        _ => {}
    }
}

/// An address that means something else than the one it stands for.
fn meaning(from: &str, to: &str) -> Option<String> {
    let (a, b) = (from.parse::<IpAddr>().ok()?, to.parse::<IpAddr>().ok()?);
    let kind = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => (
            addr.is_loopback(),
            addr.is_private(),
            addr.is_multicast(),
            addr.is_link_local(),
            addr.is_broadcast(),
        ),
        IpAddr::V6(addr) => (
            addr.is_loopback(),
            addr.is_unique_local(),
            addr.is_multicast(),
            addr.is_unicast_link_local(),
            false,
        ),
    };
    let same = a.is_ipv4() == b.is_ipv4() && kind(a) == kind(b);
    (!same).then(|| format!("{from} became {to}, which is of another kind"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::random;
    use nattrace_core::anonymize::Anonymizer;
    use nattrace_core::event::{Body, Event, NfFamily};
    use nattrace_core::ruleset::{Chain, Listing, Rule, Table};
    use serde_json::json;

    fn journey(saddr: &str, chain: &str, verdict: &str) -> Value {
        json!({
            "id": "1", "packet": {"saddr": saddr, "sport": 7}, "outcome": {"kind": "dropped"},
            "steps": [{"kind": "rule", "chain": chain, "verdict": verdict, "text": "drop"}],
        })
    }

    /// Rules of another's, as a listing has them.
    fn replaced(texts: Vec<String>) -> Vec<String> {
        let rules = texts.into_iter().zip(1..).map(|(text, handle)| Rule::new(handle, text)).collect();
        let chains = vec![Chain { name: "c".to_owned(), handle: 1, base: None, rules }];
        let tables = vec![Table { family: NfFamily::Inet, name: "t".to_owned(), handle: 1, chains }];
        let body = Body::Ruleset(Listing { generation: None, tables });
        let event = Anonymizer::new([7; 16]).event(&Event { time_ns: 0, cpu: 0, netns: 1, body });
        let Body::Ruleset(listing) = event.body else { panic!("a listing") };
        listing.tables[0].chains[0].rules.iter().map(|rule| rule.text.clone()).collect()
    }

    #[test]
    fn rules_of_every_kind_are_understood() {
        let nft = random::rules(3, 2000);
        let iptables = random::iptables_rules(4, 2000, "INPUT");
        for rules in [nft, iptables] {
            for (before, after) in rules.clone().into_iter().zip(replaced(rules)) {
                let lost = ["word", "anonymized"].iter().any(|lost| after.contains(lost));
                assert!(!lost, "{before} became {after}");
                // A comment of many words becomes one.
                let count = |text: &str| text.split_whitespace().count();
                assert!(before.contains("comment") || count(&before) == count(&after), "{after}");
                for address in ["10.2.1.", "192.168.70.1", "fd00:2::", "fd00:70::"] {
                    assert!(!after.contains(address), "{before} became {after}");
                }
            }
        }
    }

    #[test]
    fn others_with_the_same_journey() {
        let live = [journey("10.0.0.1", "web", "jump web")];
        assert_eq!(complaints(&live, &[journey("10.9.9.9", "chain1", "jump chain1")]), Vec::<String>::new());
        for other in [
            journey("8.8.8.8", "chain1", "jump chain1"),
            journey("10.9.9.9", "chain1", "jump chain2"),
            journey("10.9.9.9", "chain1", "drop"),
            json!({"id": "1", "packet": {"saddr": "10.9.9.9", "sport": 8}, "outcome": {"kind": "dropped"}}),
        ] {
            assert_eq!(complaints(&live, std::slice::from_ref(&other)).len(), 1, "{other}");
        }
        assert_eq!(complaints(&live, &[]).len(), 1);
    }
}
