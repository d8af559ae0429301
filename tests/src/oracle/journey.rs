//! Reading members of journeys, and showing a journey to a person who must find out what is wrong.

use std::fmt::Write as _;

use serde_json::Value;

use super::monitor::Place;

/// The member at `path`, or null.
pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, key| &value[*key])
}

/// The string at `path`, or nothing.
pub(crate) fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).as_str().unwrap_or_default()
}

/// The steps.
pub(crate) fn steps(journey: &Value) -> &[Value] {
    journey["steps"].as_array().map_or(&[], Vec::as_slice)
}

/// The steps that happened in the namespace `inum`.
pub(crate) fn steps_in(journey: &Value, inum: u64) -> impl Iterator<Item = &Value> {
    steps(journey).iter().filter(move |step| netns_of(journey, step) == Some(inum))
}

/// Where a step happened: its own namespace, or the journey's.
pub(crate) fn netns_of(journey: &Value, step: &Value) -> Option<u64> {
    let inum = |value: &Value| value.as_u64().or_else(|| value["inum"].as_u64());
    inum(&step["netns"]).or_else(|| inum(&journey["netns"]))
}

/// Family, table and chain of a rule or policy step.
pub(crate) fn place(step: &Value) -> Place {
    let member = |key| text(step, &[key]).to_owned();
    Place { family: member("family"), table: member("table"), chain: member("chain") }
}

/// Whether nattrace calls the packet dropped.
pub(crate) fn dropped(journey: &Value) -> bool {
    text(journey, &["outcome", "kind"]) == "dropped"
}

/// One line: who, where to, what end.
pub(crate) fn headline(journey: &Value) -> String {
    let packet = &journey["packet"];
    let show = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "?".to_owned(),
        other => other.to_string(),
    };
    let flags: Vec<String> =
        packet["tcp_flags"].as_array().map(|flags| flags.iter().map(show).collect()).unwrap_or_default();
    format!(
        "#{} {} {}:{} > {}:{} {} {}",
        show(&journey["id"]),
        show(&packet["protocol"]),
        show(&packet["saddr"]),
        show(&packet["sport"]),
        show(&packet["daddr"]),
        show(&packet["dport"]),
        flags.join(","),
        journey["outcome"],
    )
}

/// The journey with its steps, one a line.
pub(crate) fn describe(journey: &Value) -> String {
    let mut out = headline(journey);
    for (index, step) in steps(journey).iter().enumerate() {
        let mut step = step.clone();
        if let Some(members) = step.as_object_mut() {
            members.remove("time_ns");
        }
        // Writing to a String cannot fail.
        let _ = write!(out, "\n    {index}: {step}");
    }
    out
}
