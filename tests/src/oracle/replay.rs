//! Recorded events, replayed: the same journeys, under the same numbers.

use std::collections::BTreeMap;

use serde_json::Value;

use super::journey::{headline, text};

/// Complaints about journeys that only one of the two has, or that go by another number.
pub(crate) fn complaints(live: &[Value], replayed: &[Value]) -> Vec<String> {
    let (before, after) = (by_content(live), by_content(replayed));
    let mut found = Vec::new();
    let mut renumbered = Vec::new();
    for (content, journeys) in &before {
        match after.get(content) {
            Some(others) if others.len() == journeys.len() => {
                for (journey, other) in journeys.iter().zip(others) {
                    if reference(journey) != reference(other) {
                        renumbered.push(format!("{} is #{}", headline(journey), text(other, &["id"])));
                    }
                }
            }
            _ => found.push(format!("the replay does not tell this journey as it was told: {}", journeys[0])),
        }
    }
    for (_, journeys) in after.iter().filter(|(content, _)| !before.contains_key(*content)) {
        found.push(format!("the replay tells what was not told: {}", journeys[0]));
    }
    if let Some(first) = renumbered.first() {
        found.push(format!("the replay gives {} journeys another number; {first}", renumbered.len()));
    }
    found
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
        let changed = [journey("1", 7, None), journey("2", 9, None)];
        assert_eq!(complaints(&live, &changed).len(), 2);
        let renumbered = [journey("2", 7, None), journey("1", 8, None)];
        let found = complaints(&live, &renumbered);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("2 journeys another number"));
    }
}
