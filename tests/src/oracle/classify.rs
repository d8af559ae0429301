//! A burst of packets of one shape: which chain each one passes is known by construction, and the server
//! tells which ones arrived. No step may be with the wrong packet.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::journey::{at, describe, dropped, headline, steps, text};
use crate::scenario::Classify;

/// Complaints; `arrived` holds the values (ports, or packet lengths) that the server saw.
pub(crate) fn complaints(plan: &Classify, journeys: &[Value], arrived: &BTreeSet<u64>) -> Vec<String> {
    let mut found = Vec::new();
    let wanted: BTreeSet<u64> = (plan.first..plan.first + plan.packets).collect();
    let mut seen: BTreeMap<u64, usize> = BTreeMap::new();
    for journey in journeys {
        let Some(value) = at(journey, &["packet", &plan.by]).as_u64() else {
            found.push(format!("{}: no packet.{}", headline(journey), plan.by));
            continue;
        };
        if !wanted.contains(&value) {
            continue;
        }
        *seen.entry(value).or_default() += 1;
        let class = value.wrapping_sub(plan.less) % plan.modulo;
        judge(plan, journey, class, &mut found);
        if dropped(journey) == arrived.contains(&value) {
            let server = if arrived.contains(&value) { "saw it" } else { "did not see it" };
            found.push(format!("the server {server}: {}", headline(journey)));
        }
    }
    let missing: Vec<u64> = wanted.iter().filter(|value| !seen.contains_key(value)).copied().collect();
    if !missing.is_empty() {
        let first: Vec<String> = missing.iter().take(10).map(u64::to_string).collect();
        found.push(format!(
            "{} of {} packets have no journey: {} {} …",
            missing.len(),
            plan.packets,
            plan.by,
            first.join(" ")
        ));
    }
    for (value, count) in seen.iter().filter(|(_, count)| **count > 1) {
        found.push(format!("{count} journeys for the one packet with {} {value}", plan.by));
    }
    found
}

/// One journey: it passed the chain of its class, no other class's, and was dropped there or not at all.
fn judge(plan: &Classify, journey: &Value, class: u64, found: &mut Vec<String>) {
    let own = format!("{}{class}", plan.chain);
    let mut passed = false;
    for step in steps(journey).iter().filter(|step| text(step, &["kind"]) == "rule") {
        let chain = text(step, &["chain"]);
        passed |= chain == own;
        let is_class = |name: &str| {
            name.strip_prefix(plan.chain.as_str()).is_some_and(|rest| rest.parse::<u64>().is_ok())
        };
        let target = text(step, &["verdict"]).split_once(' ').map_or("", |(_, target)| target);
        if (is_class(chain) && chain != own) || (is_class(target) && target != own) {
            found.push(format!("class {class} must pass {own} only: step {step} of {}", describe(journey)));
            return;
        }
    }
    if !passed {
        found.push(format!("class {class} must pass {own}, and does not: {}", describe(journey)));
    }
    if dropped(journey) != plan.dropped.contains(&class) {
        let must = if plan.dropped.contains(&class) { "is dropped" } else { "passes" };
        found.push(format!("class {class} {must} by construction: {}", describe(journey)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn plan() -> Classify {
        Classify {
            by: "sport".into(),
            first: 20_000,
            packets: 2,
            modulo: 8,
            less: 0,
            chain: "class".into(),
            dropped: vec![1],
            server: "sink".into(),
        }
    }

    fn journey(sport: u64, chain: &str, kind: &str) -> Value {
        json!({"id": "1", "packet": {"sport": sport}, "outcome": {"kind": kind}, "steps": [
            {"kind": "rule", "chain": "input", "verdict": format!("jump {chain}")},
            {"kind": "rule", "chain": chain, "verdict": "continue"},
        ]})
    }

    fn judge(journeys: &[Value], arrived: &[u64]) -> Vec<String> {
        complaints(&plan(), journeys, &arrived.iter().copied().collect())
    }

    #[test]
    fn right_is_right() {
        let journeys = [journey(20_000, "class0", "delivered"), journey(20_001, "class1", "dropped")];
        assert_eq!(judge(&journeys, &[20_000]), Vec::<String>::new());
    }

    #[test]
    fn every_kind_of_wrong_is_found() {
        let good = journey(20_000, "class0", "delivered");
        let swapped = journey(20_001, "class2", "dropped");
        assert!(judge(&[good.clone(), swapped], &[20_000])[0].contains("must pass class1 only"));
        let survived = journey(20_001, "class1", "delivered");
        assert!(
            judge(&[good.clone(), survived], &[20_000, 20_001])[0].contains("is dropped by construction")
        );
        let lost = journey(20_001, "class1", "dropped");
        assert!(judge(&[good.clone(), lost.clone()], &[20_000, 20_001])[0].contains("the server saw it"));
        assert!(judge(std::slice::from_ref(&good), &[20_000])[0].contains("1 of 2 packets have no journey"));
        assert!(judge(&[good.clone(), good, lost], &[20_000])[0].contains("2 journeys for the one packet"));
        let mut bare = journey(20_001, "class1", "dropped");
        bare["steps"] = json!([]);
        assert!(
            judge(&[journey(20_000, "class0", "delivered"), bare], &[20_000])[0].contains("and does not")
        );
    }
}
