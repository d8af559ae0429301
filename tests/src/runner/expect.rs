//! Judging an ended nattrace by what the scenario expects.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value;

use super::stage::Stage;
use crate::lab::kernel;
use crate::lab::process::{Ended, read_lossy, tail};
use crate::oracle::journey::{describe, headline, steps};
use crate::oracle::{classify, seen};
use crate::scenario::{Expect, Group, matcher};

/// A complaint about bad input has at most so many lines.
const COMPLAINT_LINES: usize = 3;

/// How many bytes the IPv4 and UDP headers add to a datagram.
const IPV4_UDP: u64 = 28;

impl Stage {
    /// Notes what does not hold.
    pub(super) fn expect(&mut self, expect: &Expect) -> Result<()> {
        let mut found = Vec::new();
        let trace = self
            .traces
            .get(&expect.trace)
            .ok_or_else(|| anyhow::anyhow!("no trace is called {}", expect.trace))?;
        let (stdout, stderr) = (trace.results()?, read_lossy(&trace.process.stderr)?);
        let ended = trace.exit()?;
        if ended != Ended::Code(expect.exit) {
            found.push(format!("{ended}, expected exit code {}; it says: {}", expect.exit, tail(&stderr)));
        }
        for part in self.filled(&expect.stderr)? {
            if !stderr.contains(&part) {
                found.push(format!("standard error does not say \"{part}\": {}", tail(&stderr)));
            }
        }
        for part in &expect.stderr_never {
            if stderr.contains(part) {
                found.push(format!("standard error says \"{part}\": {}", tail(&stderr)));
            }
        }
        for part in self.filled(&expect.stdout)? {
            if !stdout.contains(&part) {
                found.push(format!("standard output does not say \"{part}\": {stdout}"));
            }
        }
        for part in self.filled(&expect.stdout_never)? {
            if stdout.contains(&part) {
                found.push(format!("standard output says \"{part}\": {stdout}"));
            }
        }
        if expect.complaint {
            found.extend(complaint(&stdout, &stderr));
        }
        for (what, pattern, line) in [
            ("start", &expect.start, &trace.output.start),
            ("summary", &expect.summary, &trace.output.summary),
        ] {
            if let Some(pattern) = pattern {
                let pattern = self.filled_value(pattern)?;
                let line = line.clone().unwrap_or_default();
                for difference in matcher::differences(&pattern, &line) {
                    found.push(format!("the {what} line: {difference}"));
                }
            }
        }
        for pattern in &expect.connections {
            let pattern = self.filled_value(pattern)?;
            let connections = &trace.output.connections;
            if !connections.iter().any(|line| matcher::differences(&pattern, line).is_empty()) {
                found.push(format!("no connection like {pattern}: {connections:?}"));
            }
        }
        let journeys = &trace.output.journeys;
        if let Some(total) = expect.total
            && !total.holds(journeys.len())
        {
            let shown: Vec<String> = journeys.iter().map(headline).collect();
            found.push(format!("{} journeys, expected {total}:\n{}", journeys.len(), shown.join("\n")));
        }
        for group in &expect.journeys {
            if group.mode.is_none_or(|mode| mode == self.settings.mode)
                && kernel::is_within(group.since.as_deref(), group.until.as_deref())
            {
                found.extend(judge(&self.filled_group(group)?, journeys));
            }
        }
        if let Some(plan) = &expect.classify {
            let arrived = self.arrived(&plan.server, &plan.by)?;
            found.extend(classify::complaints(plan, journeys, &arrived));
        }
        if let Some(server) = &expect.sources_seen_by {
            let events = self.server_events(server)?;
            let peers = events.iter().filter(|event| event["event"] == "datagram");
            let peers: Vec<String> =
                peers.filter_map(|event| event["peer"].as_str().map(str::to_owned)).collect();
            found.extend(seen::complaints(&peers, journeys, !trace.output.losses.is_empty()));
        }
        for problem in found {
            self.problem(format!("{}: {problem}", expect.trace));
        }
        Ok(())
    }

    fn filled_group(&self, group: &Group) -> Result<Group> {
        let all =
            |list: &[Value]| list.iter().map(|value| self.filled_value(value)).collect::<Result<Vec<_>>>();
        Ok(Group {
            mode: group.mode,
            since: group.since.clone(),
            until: group.until.clone(),
            count: group.count,
            select: self.filled_value(&group.select)?,
            is: self.filled_value(&group.is)?,
            steps: all(&group.steps)?,
            has: all(&group.has)?,
            never: all(&group.never)?,
        })
    }

    /// The source ports, or the packet lengths, that a server saw.
    fn arrived(&self, server: &str, by: &str) -> Result<BTreeSet<u64>> {
        let value = |event: &Value| match by {
            "length" => Some(event["bytes"].as_u64()? + IPV4_UDP),
            _ => event["peer"].as_str()?.rsplit_once(':')?.1.parse().ok(),
        };
        let events = self.server_events(server)?;
        Ok(events.iter().filter(|event| event["event"] == "datagram").filter_map(value).collect())
    }
}

/// What a complaint about bad input must be: short, and not on standard output.
fn complaint(stdout: &str, stderr: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines = stderr.lines().filter(|line| !line.trim().is_empty()).count();
    if lines == 0 || lines > COMPLAINT_LINES {
        found.push(format!("a clear complaint has 1 to {COMPLAINT_LINES} lines, this one {lines}: {stderr}"));
    }
    if !stdout.is_empty() {
        found.push(format!("standard output is for results, and has: {stdout}"));
    }
    found
}

/// Selects the group's journeys and judges each.
fn judge(group: &Group, journeys: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    let selected: Vec<&Value> =
        journeys.iter().filter(|journey| matcher::matches(&group.select, journey)).collect();
    if !group.count.holds(selected.len()) {
        let shown: Vec<String> = journeys
            .iter()
            .map(|journey| {
                let why = matcher::differences(&group.select, journey);
                format!(
                    "  {}{}",
                    headline(journey),
                    why.first().map_or(String::new(), |why| format!("   [{why}]"))
                )
            })
            .collect();
        found.push(format!(
            "{} journeys like {}, expected {}; all {}:\n{}",
            selected.len(),
            group.select,
            group.count,
            journeys.len(),
            shown.join("\n")
        ));
    }
    for journey in selected {
        let mut differences = matcher::differences(&group.is, journey);
        if let Err(index) = matcher::subsequence(&group.steps, steps(journey)) {
            let after = if index == 0 { String::new() } else { format!(" after {}", group.steps[index - 1]) };
            differences.push(format!("no step {}{after}", group.steps[index]));
        }
        for pattern in &group.has {
            if !steps(journey).iter().any(|step| matcher::matches(pattern, step)) {
                differences.push(format!("no step {pattern}"));
            }
        }
        for pattern in &group.never {
            if let Some(step) = steps(journey).iter().find(|step| matcher::matches(pattern, step)) {
                differences.push(format!("the step {step} must not be"));
            }
        }
        if !differences.is_empty() {
            found.push(format!("{}\nin {}", differences.join("\n"), describe(journey)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::count::Count;
    use serde_json::json;

    fn group(count: Count) -> Group {
        Group {
            mode: None,
            since: None,
            until: None,
            select: json!({"packet": {"dport": 22}}),
            count,
            is: json!({"outcome": {"kind": "dropped"}}),
            steps: vec![json!({"kind": "rewrite"}), json!({"kind": "rule", "text": "drop"})],
            has: vec![json!({"kind": "hook"})],
            never: vec![json!({"kind": "deliver"})],
        }
    }

    fn journey(dport: u16, kinds: &[&str]) -> Value {
        let steps: Vec<Value> = kinds
            .iter()
            .map(|kind| {
                if *kind == "rule" { json!({"kind": "rule", "text": "drop"}) } else { json!({"kind": kind}) }
            })
            .collect();
        json!({"id": "1", "packet": {"dport": dport}, "outcome": {"kind": "dropped"}, "steps": steps})
    }

    const ONE: Count = Count { least: 1, most: Some(1) };

    #[test]
    fn what_is_right_passes() {
        assert_eq!(judge(&group(ONE), &[journey(22, &["hook", "rewrite", "rule"])]), Vec::<String>::new());
    }

    #[test]
    fn every_wrong_expectation_fails() {
        let says = |journeys: &[Value], text: &str| {
            let found = judge(&group(ONE), journeys).join("\n");
            assert!(found.contains(text), "{found} does not say {text}");
        };
        says(&[], "0 journeys like");
        says(&[journey(23, &["hook", "rewrite", "rule"])], "packet.dport: expected 22, came 23");
        says(&[journey(22, &["hook", "rule", "rewrite"])], "no step");
        says(&[journey(22, &["hook", "rewrite"])], "after {\"kind\":\"rewrite\"}");
        says(&[journey(22, &["rewrite", "rule"])], "no step {\"kind\":\"hook\"}");
        says(&[journey(22, &["hook", "rewrite", "rule", "deliver"])], "must not be");
        let mut other = journey(22, &["hook", "rewrite", "rule"]);
        other["outcome"]["kind"] = json!("delivered");
        says(&[other], "outcome.kind: expected \"dropped\"");
    }

    #[test]
    fn a_complaint_is_short_and_on_standard_error() {
        assert!(complaint("", "nattrace: no namespace xyz\n").is_empty());
        assert_eq!(complaint("", "").len(), 1);
        assert_eq!(complaint("", "a\nb\nc\nd\n").len(), 1);
        assert_eq!(complaint("x", "a\n").len(), 1);
    }
}
