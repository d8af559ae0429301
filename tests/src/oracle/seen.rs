//! The sources that a server saw against the sources that the journeys say it must have seen.

use std::collections::BTreeMap;

use serde_json::Value;

use super::journey::{headline, steps, text};

/// The source of a packet after its last rewrite, as a server prints its peer.
fn final_source(journey: &Value) -> Option<String> {
    let mut rewrites =
        steps(journey).iter().filter(|step| step["kind"] == "rewrite" && step["nat"] == "snat");
    let (addr, port) = match rewrites.next_back() {
        Some(step) => (step["to"]["addr"].as_str()?, step["to"]["port"].as_u64()?),
        None => (journey["packet"]["saddr"].as_str()?, journey["packet"]["sport"].as_u64()?),
    };
    Some(if addr.contains(':') { format!("[{addr}]:{port}") } else { format!("{addr}:{port}") })
}

/// Complaints about packets that arrived and have no journey, and journeys of packets that did not arrive as told. A
/// packet without a journey is excused when the loss of events was reported; a journey is when it says that it may be
/// incomplete.
pub(crate) fn complaints(arrived: &[String], journeys: &[Value], lost: bool) -> Vec<String> {
    let mut balance: BTreeMap<&str, i64> = BTreeMap::new();
    for peer in arrived {
        *balance.entry(peer).or_default() += 1;
    }
    let mut found = Vec::new();
    for journey in journeys.iter().filter(|j| text(j, &["outcome", "kind"]) == "transmitted") {
        let told = final_source(journey);
        let entry = told.as_deref().and_then(|told| balance.get_mut(told)).filter(|left| **left > 0);
        match entry {
            Some(left) => *left -= 1,
            None if journey["incomplete"].is_array() => {}
            None => found.push(format!("{}: the server saw nothing from {told:?}", headline(journey))),
        }
    }
    let missing: Vec<&str> = balance.iter().filter(|(_, left)| **left > 0).map(|(peer, _)| *peer).collect();
    if !missing.is_empty() && !lost {
        let some: Vec<&str> = missing.iter().take(5).copied().collect();
        found.push(format!(
            "{} packets arrived and have no journey, from {}",
            missing.len(),
            some.join(", ")
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn journey(port: u64, incomplete: bool) -> Value {
        let mut journey = json!({
            "packet": {"saddr": "10.0.0.1", "sport": 7},
            "outcome": {"kind": "transmitted"},
            "steps": [{"kind": "rewrite", "nat": "snat", "to": {"addr": "10.0.0.2", "port": port}}],
        });
        if incomplete {
            journey["incomplete"] = json!(["probes"]);
        }
        journey
    }

    #[test]
    fn each_side_needs_the_other() {
        let arrived = ["10.0.0.2:1".to_owned(), "10.0.0.2:2".to_owned()];
        let both = [journey(1, false), journey(2, false)];
        assert!(complaints(&arrived, &both, false).is_empty());
        assert_eq!(complaints(&arrived, &both[..1], false).len(), 1);
        assert!(complaints(&arrived, &both[..1], true).is_empty());
        assert_eq!(complaints(&arrived[..1], &both, false).len(), 1, "one arrived less than told");
        assert_eq!(complaints(&arrived, &[journey(1, false), journey(3, false)], true).len(), 1);
        assert!(complaints(&arrived, &[journey(1, false), journey(3, true)], true).is_empty());
    }
}
