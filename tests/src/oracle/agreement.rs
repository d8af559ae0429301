//! `nft monitor trace` against the journeys: line for step and step for line.

use std::collections::BTreeMap;

use serde_json::Value;

use super::contract::is_legacy;
use super::journey::{headline, place, steps_in, text};
use super::monitor::{Line, What};
use crate::scenario::Agreement;

/// Tables that nattrace installs itself begin with this; the contract leaves them out.
pub(crate) const OWN_TABLE: &str = "nattrace_";

/// A line or a step, reduced to what both have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    place: String,
    handle: Option<u64>,
    text: Option<String>,
    verdict: String,
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match (&self.text, self.handle) {
            (None, None) if self.verdict == "return" => "rule (that nft does not name)".to_owned(),
            (None, None) => "policy".to_owned(),
            (text, handle) => {
                let handle = handle.map_or_else(String::new, |handle| format!(" # handle {handle}"));
                format!("rule {}{handle}", text.as_deref().unwrap_or("(no text)"))
            }
        };
        write!(f, "{} {what} (verdict {})", self.place, self.verdict)
    }
}

/// A printed line, and whether it is the first of a base chain's evaluation.
#[derive(Debug, Clone)]
struct Printed {
    mark: Mark,
    first: bool,
}

/// Complaints about lines without a step, steps without a line, and packets whose steps belong to
/// different packets. Only steps in the namespace `inum`, where nft watched, are looked at. A packet has
/// `ids` trace ids at most: one, or more where it crosses the loopback or climbs from a device to another.
pub(crate) fn complaints(
    lines: &[Line],
    journeys: &[Value],
    inum: u64,
    agreement: Agreement,
    ids: usize,
) -> Vec<String> {
    if agreement == Agreement::Off {
        return Vec::new();
    }
    let with_text = !matches!(agreement, Agreement::Handles | Agreement::NoTexts);
    let nameless = |line: &Line| matches!(line.what, What::Rule { handle: None, .. });
    let printed = by_packet(lines, with_text);
    let mut said: Vec<(&Value, Vec<Mark>)> =
        journeys.iter().map(|journey| (journey, marks_of(journey, inum, with_text))).collect();
    if lines.iter().any(nameless) {
        for mark in said.iter_mut().flat_map(|(_, marks)| marks).filter(|mark| mark.verdict == "return") {
            (mark.handle, mark.text) = (None, None);
        }
    }
    said.retain(|(_, marks)| !marks.is_empty());
    said.sort_by_key(|(journey, _)| journey["first_seen_ns"].as_u64());

    let mut found = multisets(&printed, &said, agreement);
    if found.is_empty() && agreement == Agreement::Exact {
        found = packets(printed, said, ids);
    }
    found
}

/// As multisets: what one side has more often than the other.
fn multisets(
    printed: &BTreeMap<String, Vec<Printed>>,
    said: &[(&Value, Vec<Mark>)],
    agreement: Agreement,
) -> Vec<String> {
    let mut balance: BTreeMap<&Mark, (usize, usize)> = BTreeMap::new();
    for printed in printed.values().flatten() {
        balance.entry(&printed.mark).or_default().0 += 1;
    }
    for (_, marks) in said {
        for mark in marks {
            balance.entry(mark).or_default().1 += 1;
        }
    }
    balance
        .into_iter()
        .filter(
            |(_, (printed, said))| {
                if agreement == Agreement::Exact { printed != said } else { printed < said }
            },
        )
        .map(|(mark, (printed, said))| {
            format!("nft monitor trace printed {printed} times, the journeys have {said} times: {mark}")
        })
        .collect()
}

/// As packets: the steps of a journey are whole evaluations that nft printed one after another for one trace
/// id. Ids are used again by later packets, so a journey may be any part of what an id has; the longest
/// journeys choose first, so that none takes a part of what belongs to another.
fn packets(
    printed: BTreeMap<String, Vec<Printed>>,
    mut said: Vec<(&Value, Vec<Mark>)>,
    ids: usize,
) -> Vec<String> {
    let mut runs: Vec<Vec<Printed>> = printed.into_values().collect();
    said.sort_by_key(|(_, marks)| std::cmp::Reverse(marks.len()));
    let mut found = Vec::new();
    for (journey, marks) in said {
        let mut rest = marks.as_slice();
        for left in (1..=ids).rev() {
            // The last id must have all that is left; an earlier one as much as it can.
            let least = if left == 1 { rest.len() } else { 1 };
            let Some(length) = (least..=rest.len()).rev().find(|length| take(&mut runs, &rest[..*length]))
            else {
                break;
            };
            rest = &rest[length..];
            if rest.is_empty() {
                break;
            }
        }
        if !rest.is_empty() {
            found.push(format!(
                "no packet of nft monitor trace has the steps of journey {}, from \"{}\" on",
                headline(journey),
                rest[0]
            ));
        }
    }
    found
}

/// Takes `marks` out of a run that has them as whole evaluations; the run falls in two.
fn take(runs: &mut Vec<Vec<Printed>>, marks: &[Mark]) -> bool {
    for index in 0..runs.len() {
        let run = &runs[index];
        let begin = (0..run.len()).find(|begin| {
            let end = begin + marks.len();
            run[*begin].first
                && end <= run.len()
                && run.get(end).is_none_or(|next| next.first)
                && run[*begin..end].iter().map(|printed| &printed.mark).eq(marks)
        });
        if let Some(begin) = begin {
            let mut run = runs.swap_remove(index);
            let after = run.split_off(begin + marks.len());
            run.truncate(begin);
            runs.extend([run, after].into_iter().filter(|part| !part.is_empty()));
            return true;
        }
    }
    false
}

fn by_packet(lines: &[Line], with_text: bool) -> BTreeMap<String, Vec<Printed>> {
    let mut groups: BTreeMap<String, Vec<Printed>> = BTreeMap::new();
    let mut fresh: BTreeMap<&str, bool> = BTreeMap::new();
    for line in lines.iter().filter(|line| !line.place.table.starts_with(OWN_TABLE)) {
        let mark = |handle, text, verdict: &String| Mark {
            place: line.place.to_string(),
            handle,
            text,
            verdict: verdict.clone(),
        };
        let mark = match &line.what {
            What::Rule { text, handle, verdict } => {
                mark(*handle, text.clone().filter(|_| with_text), verdict)
            }
            What::Policy { verdict } => mark(None, None, verdict),
            What::Packet => {
                fresh.insert(&line.id, true);
                continue;
            }
            What::Other => continue,
        };
        let first = fresh.insert(&line.id, false).unwrap_or(true);
        groups.entry(line.id.clone()).or_default().push(Printed { mark, first });
    }
    groups
}

fn marks_of(journey: &Value, inum: u64, with_text: bool) -> Vec<Mark> {
    steps_in(journey, inum)
        .filter(|step| !is_legacy(step))
        .filter_map(|step| {
            let rule = match text(step, &["kind"]) {
                "rule" => true,
                "policy" => false,
                _ => return None,
            };
            Some(Mark {
                place: place(step).to_string(),
                handle: if rule { step["handle"].as_u64() } else { None },
                text: if rule && with_text { step["text"].as_str().map(str::to_owned) } else { None },
                verdict: text(step, &["verdict"]).to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::monitor::parse;
    use serde_json::json;

    const LINES: &str = "\
trace id 0000000a inet nattrace_1 pre rule meta nftrace set 1 # handle 3 (verdict continue)
trace id 0000000a inet filter forward packet: iif \"enp0\"
trace id 0000000a inet filter forward rule jump x # handle 7 (verdict jump x)
trace id 0000000b inet filter forward packet: iif \"enp0\"
trace id 0000000b inet filter forward rule jump y # handle 8 (verdict jump y)
trace id 0000000a inet filter x rule drop # handle 6 (verdict drop)
trace id 0000000b inet filter forward policy accept
trace id 0000000b inet filter forward packet: iif \"enp0\"
trace id 0000000b inet filter forward policy accept
";

    fn rule(chain: &str, handle: u64, text: &str, verdict: &str) -> Value {
        json!({"kind": "rule", "family": "inet", "table": "filter", "chain": chain,
               "handle": handle, "text": text, "verdict": verdict})
    }

    fn policy() -> Value {
        json!({"kind": "policy", "family": "inet", "table": "filter", "chain": "forward", "verdict": "accept"})
    }

    fn journey(id: u64, steps: &[Value]) -> Value {
        json!({"id": id.to_string(), "netns": {"inum": 5}, "first_seen_ns": id, "steps": steps})
    }

    fn right() -> Vec<Value> {
        vec![
            journey(1, &[rule("forward", 7, "jump x", "jump x"), rule("x", 6, "drop", "drop")]),
            journey(2, &[rule("forward", 8, "jump y", "jump y"), policy()]),
            // The same id again: the buffer of the second packet is used for the third.
            journey(3, &[policy()]),
        ]
    }

    fn judge(journeys: &[Value], agreement: Agreement) -> Vec<String> {
        complaints(&parse(LINES).expect("lines"), journeys, 5, agreement, 1)
    }

    #[test]
    fn equal_sides_agree() {
        assert_eq!(judge(&right(), Agreement::Exact), Vec::<String>::new());
    }

    #[test]
    fn a_missing_step_an_invented_step_and_a_wrong_text_are_found() {
        let mut missing = right();
        missing[1] = journey(2, &[rule("forward", 8, "jump y", "jump y")]);
        assert!(judge(&missing, Agreement::Exact)[0].contains("policy"));
        assert_eq!(judge(&missing, Agreement::Subset), Vec::<String>::new());

        let mut invented = right();
        invented[0]["steps"].as_array_mut().expect("steps").push(policy());
        assert_eq!(judge(&invented, Agreement::Subset).len(), 1);

        let mut wrong = right();
        wrong[0]["steps"][1]["text"] = json!("accept");
        assert_eq!(judge(&wrong, Agreement::Exact).len(), 2);
        assert_eq!(judge(&wrong, Agreement::Handles), Vec::<String>::new());
    }

    #[test]
    fn steps_given_to_the_wrong_packet_are_found() {
        let mut swapped = right();
        swapped[0] = journey(1, &[rule("forward", 7, "jump x", "jump x"), policy()]);
        swapped[1] = journey(2, &[rule("forward", 8, "jump y", "jump y"), rule("x", 6, "drop", "drop")]);
        assert_eq!(judge(&swapped, Agreement::Exact).len(), 2);

        let mut merged = right();
        merged.remove(2);
        merged[0]["steps"].as_array_mut().expect("steps").push(policy());
        assert_eq!(judge(&merged, Agreement::Exact).len(), 1);

        let mut disordered = right();
        disordered[0]["steps"].as_array_mut().expect("steps").reverse();
        assert_eq!(judge(&disordered, Agreement::Exact).len(), 1);
    }

    #[test]
    fn a_packet_has_two_ids_only_where_that_is_expected() {
        let lines =
            LINES.replace("id 0000000a inet filter x rule drop", "id 0000000c inet filter x rule drop");
        let judge = |ids| complaints(&parse(&lines).expect("lines"), &right(), 5, Agreement::Exact, ids);
        assert_eq!(judge(1).len(), 1);
        assert_eq!(judge(2), Vec::<String>::new());
    }

    #[test]
    fn old_kernels_returns_have_no_name() {
        let lines = "trace id 0000000a inet filter x packet: iif \"enp0\"\ntrace id 0000000a inet filter x verdict return\n";
        let judge = |verdict: &str| {
            let journeys = [journey(1, &[rule("x", 6, "udp dport 7 return", verdict)])];
            complaints(&parse(lines).expect("lines"), &journeys, 5, Agreement::Exact, 1).len()
        };
        assert_eq!(judge("return"), 0);
        assert_eq!(judge("accept"), 2);
    }

    #[test]
    fn only_the_watched_namespace_counts() {
        let mut other = right();
        other[0]["steps"][1]["netns"] = json!({"inum": 6});
        assert!(judge(&other, Agreement::Exact)[0].contains("have 0 times"));
    }
}
