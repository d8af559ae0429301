//! Recorded events, replayed: the same journeys, under the same numbers.

use std::collections::BTreeMap;

use serde_json::Value;

use super::journey::{headline, text};
use crate::scenario::matcher;

/// Complaints about journeys that only one of the two has, or that go by another number.
pub(crate) fn complaints(live: &[Value], replayed: &[Value]) -> Vec<String> {
    let (before, after) = (by_content(live), by_content(replayed));
    let mut found = Vec::new();
    let mut renumbered = Vec::new();
    let mut changed = Vec::new();
    for (content, journeys) in &before {
        match after.get(content) {
            Some(others) if others.len() == journeys.len() => {
                for (journey, other) in journeys.iter().zip(others) {
                    if reference(journey) != reference(other) {
                        renumbered.push(format!("{} is #{}", headline(journey), text(other, &["id"])));
                    }
                }
            }
            _ => changed.push(change(journeys[0], replayed)),
        }
    }
    if let Some(first) = changed.first() {
        found.push(format!("the replay tells {} journeys otherwise; {first}", changed.len()));
    }
    let invented: Vec<&&Value> =
        after.iter().filter(|(content, _)| !before.contains_key(*content)).flat_map(|(_, new)| new).collect();
    if let Some(first) = invented.get(changed.len()) {
        let more = invented.len() - changed.len();
        found.push(format!("the replay tells {more} journeys that were not told, like {}", headline(first)));
    }
    if let Some(first) = renumbered.first() {
        found.push(format!("the replay gives {} journeys another number; {first}", renumbered.len()));
    }
    found
}

/// How the replay tells a journey: the differences to the one of the same packet.
fn change(journey: &Value, replayed: &[Value]) -> String {
    let same = |other: &&Value| {
        other["packet"] == journey["packet"] && other["first_seen_ns"] == journey["first_seen_ns"]
    };
    match replayed.iter().find(same) {
        None => format!("not at all: {}", headline(journey)),
        Some(other) => {
            let mut differences = matcher::differences(journey, other);
            differences.extend(matcher::differences(other, journey));
            differences.retain(|line| !line.starts_with("id:"));
            format!("{}: {}", headline(journey), differences.join("; and the other way round "))
        }
    }
}

/// Journeys by everything but their numbers, which must be unique for all but equal packets.
fn by_content(journeys: &[Value]) -> BTreeMap<String, Vec<&Value>> {
    let mut found: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for journey in journeys {
        let mut content = journey.clone();
        if let Some(members) = content.as_object_mut() {
            members.remove("id");
            let again = members.get("retransmission_of").is_some_and(|original| !original.is_null());
            members.insert("retransmission_of".to_owned(), Value::Bool(again));
        }
        found.entry(content.to_string()).or_default().push(journey);
    }
    found
}

fn reference(journey: &Value) -> (&Value, &Value) {
    (&journey["id"], &journey["retransmission_of"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn journey(id: &str, sport: u16, of: Option<&str>) -> Value {
        json!({"id": id, "packet": {"sport": sport}, "retransmission_of": of, "steps": []})
    }

    #[test]
    fn equal_journeys() {
        let live = [journey("1", 7, None), journey("2", 7, Some("1"))];
        assert_eq!(complaints(&live, &live), Vec::<String>::new());
    }

    #[test]
    fn missing_invented_changed_and_renumbered_journeys() {
        let live = [journey("1", 7, None), journey("2", 8, None)];
        assert_eq!(complaints(&live, &live[..1]).len(), 1);
        assert_eq!(complaints(&live[..1], &live).len(), 1);
        let mut changed = live.clone();
        changed[1]["steps"] = json!([{"kind": "drop"}]);
        let found = complaints(&live, &changed);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("1 journeys otherwise"), "{found:?}");
        let renumbered = [journey("2", 7, None), journey("1", 8, None)];
        let found = complaints(&live, &renumbered);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("2 journeys another number"));
    }
}
