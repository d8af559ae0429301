//! The promises of the JSON Lines: what must hold for every run, whatever the scenario.

use std::collections::BTreeMap;

use serde_json::Value;

use super::journey::{at, headline, steps, text};

/// The lines of one run, sorted by type.
#[derive(Debug, Default, Clone)]
pub(crate) struct Output {
    /// The `start` line.
    pub(crate) start: Option<Value>,
    /// The `journey` lines, in order.
    pub(crate) journeys: Vec<Value>,
    /// The `connection` lines.
    pub(crate) connections: Vec<Value>,
    /// The `loss` lines.
    pub(crate) losses: Vec<Value>,
    /// The `summary` line.
    pub(crate) summary: Option<Value>,
    /// What is against the contract in the lines themselves.
    pub(crate) complaints: Vec<String>,
}

impl Output {
    /// All lines of a type that is known.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &Value> {
        let Self { start, journeys, connections, losses, summary, .. } = self;
        start.iter().chain(journeys).chain(connections).chain(losses).chain(summary)
    }
}

/// Reads JSON Lines. A last line without its end is left out when the program was killed or is still
/// writing (`partial`); otherwise it is a complaint.
pub(crate) fn read(output: &str, partial: bool) -> Output {
    let mut found = Output::default();
    let complete = match output.rfind('\n') {
        Some(end) if partial => &output[..=end],
        None if partial => "",
        _ => output,
    };
    for (index, line) in complete.lines().enumerate() {
        let number = index + 1;
        let value: Value = match serde_json::from_str(line) {
            Ok(value) => value,
            Err(error) => {
                found.complaints.push(format!("line {number} is not JSON ({error}): {line}"));
                continue;
            }
        };
        if value["schema"] != 1 {
            found.complaints.push(format!("line {number} has no \"schema\": 1"));
        }
        if found.summary.is_some() {
            found.complaints.push(format!("line {number} comes after the summary"));
        }
        match text(&value, &["type"]) {
            "start" => {
                if index != 0 {
                    found.complaints.push(format!("the start line is line {number}"));
                }
                found.start = Some(value);
            }
            "journey" => found.journeys.push(value),
            "connection" => found.connections.push(value),
            "loss" => found.losses.push(value),
            "summary" => found.summary = Some(value),
            // Unknown types are to be ignored; a line without a type is none.
            "" => found.complaints.push(format!("line {number} has no type")),
            _ => {}
        }
    }
    found
}

/// What is against the contract in a run that ended by itself or by SIGINT or SIGTERM with `exit`.
pub(crate) fn complaints(output: &Output, exit: Option<i32>) -> Vec<String> {
    let mut found = output.complaints.clone();
    match &output.start {
        None => found.push("there is no start line".to_owned()),
        Some(start) => {
            for member in ["version", "kernel", "filter", "sources"] {
                if start[member].is_null() {
                    found.push(format!("the start line has no {member}"));
                }
            }
            let sources = start["sources"].as_object();
            for (name, state) in sources.into_iter().flatten() {
                if state.as_str().is_none_or(str::is_empty) {
                    found.push(format!("the source {name} is neither on nor is there a reason: {state}"));
                }
            }
        }
    }
    if output.summary.is_none() {
        found.push("there is no summary line".to_owned());
    }
    let mut by_id: BTreeMap<&str, &Value> = BTreeMap::new();
    for journey in &output.journeys {
        if by_id.insert(text(journey, &["id"]), journey).is_some() {
            found.push(format!("two journeys have the id of {}", headline(journey)));
        }
    }
    for journey in &output.journeys {
        for complaint in journey_complaints(journey, &by_id) {
            found.push(format!("{complaint}: {}", headline(journey)));
        }
    }
    found.extend(tally(output));
    if let Some(exit @ (0 | 1 | 3)) = exit {
        let dropped = output.journeys.iter().any(|j| text(j, &["outcome", "kind"]) == "dropped");
        let right = match (output.journeys.is_empty(), dropped) {
            (true, _) => 3,
            (false, true) => 1,
            (false, false) => 0,
        };
        if exit != right {
            found.push(format!("exit code {exit}, and the journeys say {right}"));
        }
    }
    found
}

/// The summary's counts by outcome against the journeys.
fn tally(output: &Output) -> Vec<String> {
    let Some(counts) = output.summary.as_ref().map(|summary| &summary["journeys"]) else {
        return Vec::new();
    };
    let mut real: BTreeMap<&str, u64> = BTreeMap::new();
    for journey in &output.journeys {
        *real.entry(text(journey, &["outcome", "kind"])).or_default() += 1;
    }
    ["dropped", "delivered", "transmitted", "queued", "consumed", "unfinished"]
        .into_iter()
        .filter(|kind| {
            counts[*kind].as_u64().unwrap_or_default() != real.get(kind).copied().unwrap_or_default()
        })
        .map(|kind| {
            format!(
                "the summary counts {} journeys {kind}, there are {}",
                counts[kind],
                real.get(kind).copied().unwrap_or_default()
            )
        })
        .collect()
}

fn journey_complaints(journey: &Value, by_id: &BTreeMap<&str, &Value>) -> Vec<String> {
    let mut found = Vec::new();
    let mut wrong = |what: String| found.push(what);
    if text(journey, &["id"]).is_empty() {
        wrong("no id".into());
    }
    if journey["netns"]["inum"].as_u64().is_none() {
        wrong("no netns.inum".into());
    }
    let (first, last) = (journey["first_seen_ns"].as_u64(), journey["last_seen_ns"].as_u64());
    if first.is_none() || last.is_none() || first > last {
        wrong(format!("seen from {first:?} to {last:?}"));
    }
    if text(journey, &["packet", "family"]).is_empty() {
        wrong("no packet.family".into());
    }
    let all = steps(journey);
    let mut before = 0;
    for (index, step) in all.iter().enumerate() {
        match step["time_ns"].as_u64() {
            Some(time) if time >= before => before = time,
            time => wrong(format!("step {index} is at {time:?}, the one before at {before}")),
        }
        for member in required(text(step, &["kind"])) {
            // Legacy iptables does not tell verdicts: where a rule's text is not known, neither is its verdict.
            let untold = *member == "verdict" && is_legacy(step) && step["text"].is_null();
            if step[*member].is_null() && !untold {
                wrong(format!("step {index} has no {member}: {step}"));
            }
        }
        if required(text(step, &["kind"])).is_empty() {
            wrong(format!("step {index} is of an unknown kind: {step}"));
        }
    }
    if last.is_some_and(|last| before > last) {
        wrong(format!("a step at {before}, last seen at {last:?}"));
    }
    for pair in all.windows(2) {
        let place = |step: &Value| {
            ["kind", "hook", "family", "netns", "iif", "oif"].map(|member| step[member].clone())
        };
        if text(&pair[0], &["kind"]) == "hook" && place(&pair[0]) == place(&pair[1]) {
            wrong(format!("the same hook twice: {}", pair[1]));
        }
    }
    let known = ["dropped", "delivered", "transmitted", "queued", "consumed", "unfinished"];
    let outcome = text(journey, &["outcome", "kind"]);
    if !known.contains(&outcome) {
        wrong(format!("unknown outcome {}", journey["outcome"]));
    }
    if outcome == "dropped" {
        let members: &[&str] = match text(journey, &["outcome", "by"]) {
            // Without its text it would not be known to drop.
            "rule" if is_legacy(&journey["outcome"]) => &["family", "table", "chain", "rulenum", "text"],
            // A text that cannot be known is null; then the step has none, either.
            "rule" => &["family", "table", "chain", "handle"],
            "policy" => &["family", "table", "chain"],
            "kernel" => &[],
            _ => &["by"],
        };
        for member in members {
            if journey["outcome"][*member].is_null() {
                wrong(format!("the drop has no {member}"));
            }
        }
    }
    if matches!(text(journey, &["outcome", "by"]), "rule" | "policy") && outcome == "dropped" {
        let named = |step: &&Value| {
            ["backend", "family", "table", "chain", "handle", "rulenum", "text"]
                .iter()
                .all(|key| step[*key] == journey["outcome"][*key])
        };
        if !all.iter().filter(named).any(|step| text(step, &["verdict"]) == "drop") {
            wrong("no step is the drop that the outcome names".into());
        }
    }
    for finding in journey["findings"].as_array().into_iter().flatten() {
        let certain = matches!(text(finding, &["certainty"]), "certain" | "likely");
        let proofs = finding["steps"].as_array();
        let proved = proofs.is_some_and(|proofs| {
            !proofs.is_empty()
                && proofs.iter().all(|index| {
                    index.as_u64().is_some_and(|i| usize::try_from(i).is_ok_and(|i| i < all.len()))
                })
        });
        if !certain || !proved || text(finding, &["code"]).is_empty() || text(finding, &["text"]).is_empty() {
            wrong(format!("a finding that is not proved by steps: {finding}"));
        }
    }
    if let Some(original) = journey["retransmission_of"].as_str() {
        match by_id.get(original) {
            None => wrong(format!("a retransmission of {original}, which is no journey")),
            Some(original) => {
                for member in ["protocol", "saddr", "sport", "daddr", "dport", "tcp_flags"] {
                    if at(original, &["packet", member]) != at(journey, &["packet", member]) {
                        wrong(format!("a retransmission with another {member}"));
                    }
                }
            }
        }
    }
    found
}

/// Whether a step, or what dropped a packet, is of legacy iptables.
pub(super) fn is_legacy(what: &Value) -> bool {
    text(what, &["backend"]) == "iptables-legacy"
}

/// The members that every step of a kind has; empty for an unknown kind.
fn required(kind: &str) -> &'static [&'static str] {
    match kind {
        "hook" => &["hook", "family"],
        "rule" | "policy" => &["family", "table", "chain", "verdict"],
        "rewrite" => &["nat", "from", "to", "by"],
        "route" => &["decision"],
        "device" => &["event", "name"],
        "connection" => &["event"],
        "deliver" => &["kind"],
        "drop" => &["text"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(values: &[Value]) -> String {
        values.iter().flat_map(|value| [value.to_string(), "\n".to_owned()]).collect()
    }

    fn start() -> Value {
        json!({"schema": 1, "type": "start", "version": "0", "kernel": "6", "filter": {}, "sources": {"nft": "on"}})
    }

    fn journey() -> Value {
        json!({
            "schema": 1, "type": "journey", "id": "1", "netns": {"inum": 5}, "first_seen_ns": 1, "last_seen_ns": 2,
            "packet": {"family": "ipv4", "sport": 7},
            "steps": [{"kind": "policy", "time_ns": 1, "family": "ip", "table": "t", "chain": "c", "verdict": "drop"}],
            "outcome": {"kind": "dropped", "by": "policy", "family": "ip", "table": "t", "chain": "c"},
            "findings": [{"code": "x", "text": "y", "fix": [], "certainty": "certain", "steps": [0]}],
            "retransmission_of": null,
        })
    }

    fn summary() -> Value {
        json!({"schema": 1, "type": "summary", "journeys": {"dropped": 1}})
    }

    fn judge(values: &[Value], exit: i32) -> Vec<String> {
        complaints(&read(&lines(values), false), Some(exit))
    }

    #[test]
    fn a_right_run() {
        assert_eq!(judge(&[start(), journey(), summary()], 1), Vec::<String>::new());
    }

    #[test]
    fn lines_out_of_place() {
        assert!(judge(&[journey(), summary()], 1)[0].contains("no start"));
        assert!(judge(&[start(), journey()], 1)[0].contains("no summary"));
        assert!(judge(&[start(), summary(), journey()], 1)[0].contains("after the summary"));
        assert!(judge(&[start(), journey(), journey(), summary()], 1)[0].contains("two journeys"));
        assert!(!read("not json\n", false).complaints.is_empty());
        assert!(read("{\"schema\":1", true).complaints.is_empty(), "the end of a killed run");
        assert!(!read("{\"schema\":1", false).complaints.is_empty());
    }

    #[test]
    fn exit_codes_and_counts() {
        for wrong in [0, 3] {
            assert!(judge(&[start(), journey(), summary()], wrong)[0].contains("exit code"));
        }
        let mut miscounted = summary();
        miscounted["journeys"]["dropped"] = json!(2);
        assert!(judge(&[start(), journey(), miscounted], 1)[0].contains("the summary counts 2"));
    }

    #[test]
    fn damaged_journeys() {
        type Damage = fn(&mut Value);
        let damages: [(&str, Damage); 11] = [
            ("the same hook twice", |j| {
                let hook = json!({"kind": "hook", "time_ns": 0, "hook": "prerouting", "family": "ip", "iif": "enp0"});
                j["steps"] = json!([hook, hook, j["steps"][0]]);
            }),
            ("no step is the drop", |j| j["steps"][0]["verdict"] = json!("accept")),
            ("a step at 1, last seen at Some(0)", |j| {
                (j["first_seen_ns"], j["last_seen_ns"]) = (json!(0), json!(0));
            }),
            ("no netns", |j| j["netns"] = json!(null)),
            ("unknown outcome", |j| j["outcome"]["kind"] = json!("gone")),
            ("has no chain", |j| j["outcome"]["chain"] = json!(null)),
            ("has no verdict", |j| j["steps"][0]["verdict"] = json!(null)),
            ("unknown kind", |j| j["steps"][0]["kind"] = json!("guess")),
            ("not proved", |j| j["findings"][0]["steps"] = json!([1])),
            ("not proved", |j| j["findings"][0]["steps"] = json!([])),
            ("which is no journey", |j| j["retransmission_of"] = json!("9")),
        ];
        for (says, damage) in damages {
            let mut victim = journey();
            damage(&mut victim);
            let found = judge(&[start(), victim, summary()], 1);
            assert!(found.iter().any(|line| line.contains(says)), "{found:?} does not say {says}");
        }
    }

    #[test]
    fn a_retransmission_looks_like_its_original() {
        let mut again = journey();
        again["id"] = json!("2");
        again["retransmission_of"] = json!("1");
        let mut two = summary();
        two["journeys"]["dropped"] = json!(2);
        assert_eq!(judge(&[start(), journey(), again.clone(), two.clone()], 1), Vec::<String>::new());
        again["packet"]["sport"] = json!(8);
        assert!(judge(&[start(), journey(), again, two], 1)[0].contains("another sport"));
    }
}
