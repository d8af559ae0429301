//! What a collector passed on, against what was told: journeys and spans of a store that knows nothing of either.

use std::collections::BTreeMap;

use serde_json::Value;

use super::journey::headline;
use crate::scenario::{Together, matcher};

/// The spans that are journeys.
pub(crate) fn journeys(events: &[Value]) -> Vec<&Value> {
    events.iter().filter(|event| !event["attributes"]["nattrace.journey.id"].is_null()).collect()
}

/// What is missing, doubled, different, or not together. `told`: each journey with the host that told it.
pub(crate) fn complaints(events: &[Value], told: &[(String, Value)], traces: &[Together]) -> Vec<String> {
    let errors = events.iter().filter(|event| event["event"] == "error");
    let mut found: Vec<String> = errors.map(|error| format!("the store could not read: {error}")).collect();
    let journeys = journeys(events);
    if journeys.len() != told.len() {
        found.push(format!("{} journeys were stored, {} told", journeys.len(), told.len()));
    }
    for (host, journey) in told {
        let is_it = |span: &&&Value| {
            span["resource"]["host.name"] == **host
                && span["attributes"]["nattrace.journey.id"] == journey["id"]
        };
        let spans: Vec<&&Value> = journeys.iter().filter(is_it).collect();
        match spans[..] {
            [span] => found.extend(
                differences(span, events, journey).map(|what| format!("{}: {what}", headline(journey))),
            ),
            _ => found.push(format!("{} of {host} was stored {} times", headline(journey), spans.len())),
        }
    }
    let mut by_trace: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for span in &journeys {
        by_trace.entry(span["trace"].as_str().unwrap_or_default()).or_default().push(span);
    }
    for Together { journeys: patterns, count } in traces {
        let holds = |spans: &&Vec<&Value>| {
            spans.len() == patterns.len()
                && patterns.iter().all(|pattern| spans.iter().any(|span| matcher::matches(pattern, span)))
        };
        let seen = by_trace.values().filter(holds).count();
        if !count.holds(seen) {
            let shown: Vec<String> =
                by_trace.iter().map(|(trace, spans)| format!("{trace}: {}", outline(spans))).collect();
            let patterns = Value::from(patterns.clone());
            found
                .push(format!("{seen} traces have just {patterns}, expected {count}:\n{}", shown.join("\n")));
        }
    }
    found
}

/// Where a stored journey is not what was told.
fn differences(span: &Value, events: &[Value], journey: &Value) -> impl Iterator<Item = String> {
    let (attributes, packet) = (&span["attributes"], &journey["packet"]);
    let inside = |event: &&Value| event["parent"] == span["span"] && event["trace"] == span["trace"];
    let spans: Vec<&Value> = events.iter().filter(inside).chain([span]).collect();
    let steps = journey["steps"]
        .as_array()
        .map_or(0, |steps| steps.iter().filter(|step| step["kind"] != "hook").count());
    let stored: usize = spans.iter().map(|span| span["events"].as_array().map_or(0, Vec::len)).sum();
    let rules: Vec<&Value> = spans.iter().filter_map(|span| span["events"].as_array()).flatten().collect();
    let mut pairs = vec![
        ("start", span["start_ns"].clone(), journey["first_seen_ns"].clone()),
        ("end", span["end_ns"].clone(), journey["last_seen_ns"].clone()),
        ("source", attributes["source.address"].clone(), packet["saddr"].clone()),
        ("source port", attributes["source.port"].clone(), packet["sport"].clone()),
        ("destination", attributes["destination.address"].clone(), packet["daddr"].clone()),
        ("destination port", attributes["destination.port"].clone(), packet["dport"].clone()),
        ("end", attributes["nattrace.outcome.kind"].clone(), journey["outcome"]["kind"].clone()),
        ("number of steps", stored.into(), steps.into()),
    ];
    for step in journey["steps"].as_array().into_iter().flatten().filter(|step| step["kind"] == "rule") {
        let of = |event: &&&Value| {
            event["time_ns"] == step["time_ns"]
                && event["attributes"]["nattrace.rule.handle"] == step["handle"]
        };
        let text = rules
            .iter()
            .find(of)
            .map_or(Value::Null, |event| event["attributes"]["nattrace.rule.text"].clone());
        pairs.push(("rule", text, step["text"].clone()));
    }
    pairs
        .into_iter()
        .filter(|(_, stored, told)| stored != told)
        .map(|(what, stored, told)| format!("{what}: {stored} was stored, {told} told"))
}

fn outline(spans: &[&Value]) -> String {
    let one = |span: &&Value| {
        let (host, name, attributes) = (&span["resource"]["host.name"], &span["name"], &span["attributes"]);
        let of = |key: &str| attributes[key].to_string().replace('"', "");
        format!(
            "{host} {name} {}:{} to {}:{}",
            of("source.address"),
            of("source.port"),
            of("destination.address"),
            of("destination.port")
        )
    };
    spans.iter().map(one).collect::<Vec<_>>().join(" + ")
}
