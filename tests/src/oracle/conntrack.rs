//! `conntrack -E` and `conntrack -L` against the connections and rewrites in the journeys.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::journey::{headline, steps, text};

/// Address and port.
type End = (String, u64);

/// A connection as conntrack prints it: both tuples.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    protocol: String,
    original: (End, End),
    reply: (End, End),
}

/// Reads lines of `conntrack -L` and `conntrack -E`; others, and protocols without ports, are left out.
pub(crate) fn flows(output: &str) -> BTreeSet<Flow> {
    output.lines().filter_map(flow).collect()
}

fn flow(line: &str) -> Option<Flow> {
    let protocol = line.split_whitespace().find(|word| matches!(*word, "tcp" | "udp" | "sctp"))?.to_owned();
    let all = |key: &str| -> Vec<&str> {
        line.split_whitespace().filter_map(|word| word.strip_prefix(key)?.strip_prefix('=')).collect()
    };
    let (src, dst, sport, dport) = (all("src"), all("dst"), all("sport"), all("dport"));
    let tuple = |index: usize| -> Option<(End, End)> {
        let port = |list: &[&str]| list.get(index)?.parse::<u64>().ok();
        Some((((*src.get(index)?).to_owned(), port(&sport)?), ((*dst.get(index)?).to_owned(), port(&dport)?)))
    };
    Some(Flow { protocol, original: tuple(0)?, reply: tuple(1)? })
}

/// Complaints about connections that conntrack does not know so, and rewrites that are not its mapping.
///
/// Connections of packets that were dropped are left out, and so is what answers them: the kernel confirms a connection
/// after the last hook only, so conntrack never hears of them.
pub(crate) fn complaints(known: &BTreeSet<Flow>, journeys: &[Value]) -> Vec<String> {
    let mut found = Vec::new();
    for journey in journeys {
        let arrived = matches!(text(journey, &["outcome", "kind"]), "transmitted" | "delivered");
        let protocol = text(journey, &["packet", "protocol"]);
        let connection = &journey["connection"];
        let (Some(original), Some(reply)) = (tuple(&connection["original"]), tuple(&connection["reply"]))
        else {
            continue;
        };
        let answers = text(journey, &["relation", "kind"]) == "answer-to";
        if !arrived || answers || !matches!(protocol, "tcp" | "udp" | "sctp") {
            continue;
        }
        let flow = Flow { protocol: protocol.to_owned(), original, reply };
        let clash = steps(journey).iter().position(|step| text(step, &["event"]) == "clash-resolved");
        // What lost a clash and keeps an entry is hidden from listings; the winner is not (nf_ct_resolve_clash_harder).
        let hidden = clash.is_some()
            && known.iter().any(|won| won.protocol == flow.protocol && won.original == flow.original);
        if !hidden && !known.contains(&flow) {
            found.push(format!("{}: conntrack knows no such connection: {flow:?}", headline(journey)));
            continue;
        }
        let mut written = BTreeMap::new();
        for (at, step) in steps(journey).iter().enumerate() {
            if text(step, &["kind"]) != "rewrite" {
                continue;
            }
            let nat = text(step, &["nat"]);
            let said = (end(&step["from"]), end(&step["to"]));
            // Conntrack goes on with what others write, and never shows them, nor an entry that lost to another.
            let others = text(step, &["by"]) == "other" && !text(step, &["function"]).is_empty();
            if others || clash.is_some_and(|clash| at < clash) && text(step, &["by"]) == "rule" {
                written.insert(nat, said.1);
                continue;
            }
            let mapping = mapping(&flow, text(connection, &["direction"]), nat)
                .map(|(from, to)| (written.remove(nat).unwrap_or(from), to));
            if mapping.as_ref() != Some(&said) {
                found.push(format!(
                    "{}: the rewrite {step} is not conntrack's mapping {mapping:?}",
                    headline(journey)
                ));
            }
        }
    }
    found
}

/// What a packet of the flow in this direction has at one end before and after NAT.
fn mapping(flow: &Flow, direction: &str, nat: &str) -> Option<(Option<End>, Option<End>)> {
    let (from, to) = match (direction, nat) {
        ("original", "dnat") => (&flow.original.1, &flow.reply.0),
        ("original", "snat") => (&flow.original.0, &flow.reply.1),
        ("reply", "snat") => (&flow.reply.0, &flow.original.1),
        ("reply", "dnat") => (&flow.reply.1, &flow.original.0),
        _ => return None,
    };
    Some((Some(from.clone()), Some(to.clone())))
}

fn tuple(value: &Value) -> Option<(End, End)> {
    Some((
        (value["saddr"].as_str()?.to_owned(), value["sport"].as_u64()?),
        (value["daddr"].as_str()?.to_owned(), value["dport"].as_u64()?),
    ))
}

fn end(value: &Value) -> Option<End> {
    Some((value["addr"].as_str()?.to_owned(), value["port"].as_u64()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LINES: &str = "\
    [NEW] tcp      6 120 SYN_SENT src=10.2.1.2 dst=10.1.2.3 sport=40000 dport=1222 [UNREPLIED] src=192.168.70.10 dst=10.2.1.2 sport=22 dport=40000 id=7
icmp     1 25 src=10.9.0.1 dst=10.9.0.2 type=8 code=0 id=10157 src=10.9.0.2 dst=10.9.0.1 type=0 code=0 id=10157 mark=0
conntrack v1.4.7 (conntrack-tools): 4 flow entries have been shown.
";

    fn journey(direction: &str, nat: &str, from: (&str, u16), to: (&str, u16)) -> Value {
        json!({
            "id": "1", "packet": {"protocol": "tcp"}, "outcome": {"kind": "transmitted"},
            "connection": {
                "direction": direction,
                "original": {"saddr": "10.2.1.2", "sport": 40000, "daddr": "10.1.2.3", "dport": 1222},
                "reply": {"saddr": "192.168.70.10", "sport": 22, "daddr": "10.2.1.2", "dport": 40000},
            },
            "steps": [{"kind": "rewrite", "nat": nat, "from": {"addr": from.0, "port": from.1},
                       "to": {"addr": to.0, "port": to.1}}],
        })
    }

    #[test]
    fn flows_are_read() {
        let flows = flows(LINES);
        assert_eq!(flows.len(), 1);
        let flow = flows.first().expect("one");
        assert_eq!(flow.original, (("10.2.1.2".into(), 40000), ("10.1.2.3".into(), 1222)));
        assert_eq!(flow.reply, (("192.168.70.10".into(), 22), ("10.2.1.2".into(), 40000)));
    }

    #[test]
    fn the_mapping_of_both_directions() {
        let (service, container) = (("10.1.2.3", 1222), ("192.168.70.10", 22));
        let judge = |journey: Value| complaints(&flows(LINES), &[journey]).len();
        assert_eq!(judge(journey("original", "dnat", service, container)), 0);
        assert_eq!(judge(journey("reply", "snat", container, service)), 0);
        assert_eq!(judge(journey("original", "dnat", container, service)), 1);
        assert_eq!(judge(journey("original", "snat", service, container)), 1);
        assert_eq!(judge(journey("original", "dnat", service, ("192.168.70.10", 23))), 1);
    }

    #[test]
    fn the_entry_of_who_lost_a_clash_is_hidden() {
        let mut lost = journey("original", "dnat", ("10.1.2.3", 1222), ("192.168.70.10", 23));
        lost["connection"]["reply"]["sport"] = json!(23);
        assert_eq!(complaints(&flows(LINES), &[lost.clone()]).len(), 1);
        lost["steps"]
            .as_array_mut()
            .expect("steps")
            .push(json!({"kind": "connection", "event": "clash-resolved"}));
        assert_eq!(complaints(&flows(LINES), &[lost.clone()]).len(), 0);
        lost["connection"]["original"]["sport"] = json!(40001);
        assert_eq!(complaints(&flows(LINES), &[lost]).len(), 1);
    }

    #[test]
    fn what_others_wrote_is_not_conntracks_mapping_and_is_mapped_on() {
        let (service, container) = (("10.1.2.3", 1222), ("192.168.70.10", 22));
        let mut written = journey("original", "dnat", ("10.7.7.7", 7), container);
        assert_eq!(complaints(&flows(LINES), &[written.clone()]).len(), 1);
        let step = json!({"kind": "rewrite", "nat": "dnat", "from": {"addr": service.0, "port": service.1},
                          "to": {"addr": "10.7.7.7", "port": 7}, "by": "other", "function": "f"});
        written["steps"].as_array_mut().expect("steps").insert(0, step);
        assert_eq!(complaints(&flows(LINES), &[written]).len(), 0);
    }

    #[test]
    fn a_connection_that_conntrack_does_not_know() {
        let mut wrong = journey("original", "dnat", ("10.1.2.3", 1222), ("192.168.70.10", 22));
        wrong["connection"]["reply"]["sport"] = json!(23);
        assert_eq!(complaints(&flows(LINES), &[wrong.clone()]).len(), 1);
        wrong["outcome"]["kind"] = json!("dropped");
        assert_eq!(complaints(&flows(LINES), &[wrong]).len(), 0);
    }
}
