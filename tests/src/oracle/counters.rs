//! The counters in rules: the kernel's own count of the packets that a rule matched.

use std::collections::BTreeMap;

use serde_json::Value;

use super::journey::{place, steps_in, text};
use super::listing::rules;
use super::monitor::Place;

/// Packets by rule, of the rules that count.
pub(crate) type Counts = BTreeMap<(Place, u64), u64>;

/// Reads `nft -a list ruleset`.
pub(crate) fn counts(listing: &str) -> Counts {
    let packets = |text: &str| -> Option<u64> {
        // In a comment the words could stand too; a rule's own counter comes before its comment.
        let rest = text.split(" comment \"").next()?.split_once("counter packets ")?.1;
        rest.split_whitespace().next()?.parse().ok()
    };
    rules(listing).into_iter().filter_map(|(rule, text)| Some((rule, packets(&text)?))).collect()
}

/// Complaints about rules that have more steps than the kernel counted packets between the two listings
/// or, where every packet was traced (`all`), other than that. Rules that one listing lacks are left out.
pub(crate) fn complaints(
    before: &Counts,
    after: &Counts,
    journeys: &[Value],
    inum: u64,
    all: bool,
) -> Vec<String> {
    let mut told: BTreeMap<(Place, u64), u64> = BTreeMap::new();
    for step in journeys.iter().flat_map(|journey| steps_in(journey, inum)) {
        if text(step, &["kind"]) == "rule"
            && let Some(handle) = step["handle"].as_u64()
        {
            *told.entry((place(step), handle)).or_default() += 1;
        }
    }
    let mut found = Vec::new();
    for (rule, counted) in after {
        let Some(counted) = before.get(rule).and_then(|before| counted.checked_sub(*before)) else {
            continue;
        };
        let told = told.get(rule).copied().unwrap_or_default();
        if told > counted || (all && told != counted) {
            let (place, handle) = rule;
            found
                .push(format!("{place} handle {handle} counted {counted} packets, the journeys have {told}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn listing(packets: u64) -> Counts {
        counts(&format!(
            "table inet filter {{ # handle 2\n\tchain input {{ # handle 1\n\
             \t\tudp dport 7 counter packets {packets} bytes 9 drop # handle 6\n\
             \t\tudp dport 8 accept comment \"counter packets 5\" # handle 7\n\t}}\n}}\n"
        ))
    }

    fn journeys(number: usize) -> Vec<Value> {
        let step =
            json!({"kind": "rule", "family": "inet", "table": "filter", "chain": "input", "handle": 6});
        vec![json!({"netns": {"inum": 5}, "steps": [step]}); number]
    }

    #[test]
    fn only_real_counters_are_read() {
        assert_eq!(listing(3).into_values().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn more_steps_than_packets_are_found_and_fewer_where_all_were_traced() {
        let judge = |number, all| complaints(&listing(3), &listing(5), &journeys(number), 5, all).len();
        assert_eq!(judge(2, true), 0);
        assert_eq!(judge(3, false), 1);
        assert_eq!(judge(1, false), 0);
        assert_eq!(judge(1, true), 1);
        assert_eq!(complaints(&listing(3), &listing(5), &journeys(2), 6, true).len(), 1, "another namespace");
    }

    #[test]
    fn a_replaced_ruleset_is_left_out() {
        assert_eq!(complaints(&listing(5), &listing(3), &journeys(9), 5, true), Vec::<String>::new());
    }
}
