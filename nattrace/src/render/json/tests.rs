use std::collections::BTreeSet;

use nattrace_core::event::{NfFamily, Source};
use nattrace_core::filter::Filter;
use nattrace_core::findings::{Causes, Certainty};
use serde_json::{Value, json};

use crate::render::escape::is_unsafe;
use crate::render::run::{SourceTotals, Tally};
use crate::render::samples::{RTR, T0, again, at_home, bare, broken, end, fixed, legacy, steps, tcp};
use nattrace_core::event::{HookPoint, Loss};
use nattrace_core::journey::{Backend, DropCause, Journey, JourneyId, KernelDrop, Outcome, StepKind};
use nattrace_core::packet::Family;

use super::{conversation, journey, loss, start, summary};
use crate::render::run::{SourceState, Start, Summary};
use crate::render::samples;

fn parsed(line: &[u8]) -> Value {
    let text = std::str::from_utf8(line).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "one object, one line");
    serde_json::from_str(text.strip_suffix('\n').unwrap()).unwrap()
}

fn told(it: &Journey) -> Value {
    parsed(&journey(it, &at_home()).unwrap())
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn rules_of_legacy_iptables_by_number() {
    let it = told(&legacy(true));
    let member = |step: usize, key: &str| it["steps"][step][key].clone();
    assert_eq!(member(1, "backend"), "iptables-legacy", "a policy");
    let dnat = json!({"backend": "iptables-legacy", "family": "ip", "table": "nat", "chain": "PREROUTING",
        "rulenum": 1, "text": "-A PREROUTING -p tcp -j DNAT --to-destination 192.168.70.10:22"});
    assert_eq!(member(3, "rule"), dnat, "and no handle");
    assert_eq!((member(6, "verdict"), member(6, "or_end")), (json!("drop"), Value::Null));
    let outcome = &it["outcome"];
    assert_eq!((&outcome["backend"], &outcome["rulenum"]), (&json!("iptables-legacy"), &json!(2)));
    let untold = told(&legacy(false));
    let step = &untold["steps"][6];
    assert_eq!(
        (&step["text"], &step["verdict"], &step["or_end"]),
        (&Value::Null, &Value::Null, &json!(true))
    );
}

#[test]
fn the_article_as_promised() {
    let told = told(&broken());
    assert_eq!(told["schema"], 1);
    assert_eq!(told["type"], "journey");
    assert_eq!(told["id"], "1");
    assert_eq!(told["netns"], json!({"inum": RTR, "name": "rtr"}));
    assert_eq!(told["first_seen_ns"], T0);
    assert_eq!(
        told["packet"],
        json!({"family":"ipv4","protocol":"tcp","saddr":"10.2.1.2","sport":36334,"daddr":"10.1.2.3",
               "dport":1222,"tcp_flags":["syn"],"length":60,"ttl":64,"ip_id":48644,"tcp_seq":0x1234_5678,
               "tcp_ack":0})
    );
    assert_eq!(told["connection"]["direction"], "original");
    assert_eq!(told["connection"]["state"], "new");
    assert_eq!(told["connection"]["status"], json!(["dnat"]));
    assert_eq!(told["connection"]["id"], 1_968_238_741);
    assert_eq!(told["connection"]["reply"]["saddr"], "192.168.70.10");
    assert_eq!(told["connection"]["reply"]["sport"], 22);
    assert_eq!(told["connection"]["original"]["dport"], 1222);
    let rule = json!({"family":"inet","table":"filter","chain":"allowed_dnats","handle":8,"text":"drop"});
    assert_eq!(
        told["outcome"],
        json!({"kind":"dropped","by":"rule","family":"inet","table":"filter","chain":"allowed_dnats","handle":8,
               "text":"drop","hook":"forward","rule":rule})
    );
    assert_eq!(
        told["findings"][0],
        json!({"code":"set-element-missing","certainty":"certain","steps":[6,7],
               "text":"The rule before it accepts what is in the set @allow_in, and 192.168.70.10 . 22 (the \
                       address and port after the rewrite) is not in it.",
               "fix":["nft add element inet filter allow_in { 192.168.70.10 . 22 }"]})
    );
    assert_eq!(told["retransmission_of"], Value::Null);
    assert_eq!(told["trace_ids"], json!(["009c01f8"]), "bytes swapped, as nft prints them");
}

#[test]
fn steps_of_the_article() {
    let told = told(&broken());
    let kinds: Vec<_> =
        told["steps"].as_array().unwrap().iter().map(|s| s["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["device", "hook", "rule", "rewrite", "route", "hook", "rule", "rule", "drop"]);
    let step = |i: usize| {
        let mut step = told["steps"][i].clone();
        assert_eq!(step["time_ns"], T0 + 1000 * i as u64);
        step.as_object_mut().unwrap().remove("time_ns");
        step
    };
    let dnat = json!({"family":"inet","table":"nat","chain":"prerouting","handle":3,
                      "text":"ip daddr 10.1.2.3 tcp dport 1222 dnat ip to 192.168.70.10:22"});
    assert_eq!(step(0), json!({"kind":"device","event":"receive","name":"enp0"}));
    assert_eq!(
        step(1),
        json!({"kind":"hook","hook":"prerouting","family":"ip","iif":"enp0","oif":null,"verdict":"accept"})
    );
    assert_eq!(
        step(3),
        json!({"kind":"rewrite","nat":"dnat","from":{"addr":"10.1.2.3","port":1222},
               "to":{"addr":"192.168.70.10","port":22},"rule":dnat,"by":"rule"})
    );
    assert_eq!(
        step(4),
        json!({"kind":"route","decision":"forward","oif":"veth21","gateway":null,"table":null})
    );
    assert_eq!(
        step(6),
        json!({"kind":"rule","family":"inet","table":"filter","chain":"forward","handle":5,
               "text":"ct status dnat jump allowed_dnats","verdict":"jump allowed_dnats","hook":"forward"})
    );
    assert_eq!(step(7)["verdict"], "drop");
    assert_eq!(
        step(8),
        json!({"kind":"drop","reason":"NETFILTER_DROP","function":"nft_do_chain","cause":null,"device":null,
               "text":"a netfilter hook dropped it"})
    );
}

#[test]
fn every_promised_key_is_there_even_when_nothing_is_known() {
    let mut packet = tcp("10.0.0.1:1", "10.0.0.2:2", 0);
    (packet.family, packet.protocol, packet.source, packet.destination) = (Family::Other, None, None, None);
    (packet.tcp_flags, packet.ttl, packet.ip_id) = (None, None, None);
    let told = told(&bare(packet));
    let promised = [
        "schema",
        "type",
        "id",
        "netns",
        "first_seen_ns",
        "last_seen_ns",
        "packet",
        "connection",
        "steps",
        "outcome",
        "findings",
        "retransmission_of",
    ];
    assert!(keys(&told).is_superset(&promised.into()));
    let packet =
        ["family", "protocol", "saddr", "sport", "daddr", "dport", "tcp_flags", "length", "ttl", "ip_id"];
    assert!(keys(&told["packet"]).is_superset(&packet.into()));
    for unknown in ["saddr", "sport", "daddr", "dport", "tcp_flags", "ttl", "ip_id"] {
        assert_eq!(told["packet"][unknown], Value::Null, "{unknown}");
    }
    assert_eq!(told["connection"], Value::Null);
}

#[test]
fn every_end_names_its_cause() {
    let end = |outcome| told(&Journey { outcome, ..broken() })["outcome"].clone();
    let policy = DropCause::Policy {
        backend: Backend::Nft,
        family: NfFamily::Ip6,
        table: "filter".into(),
        chain: "INPUT".into(),
        hook: Some(HookPoint::Input),
    };
    assert_eq!(
        end(Outcome::Dropped(policy)),
        json!({"kind":"dropped","by":"policy","family":"ip6","table":"filter","chain":"INPUT","hook":"input"})
    );
    let kernel = DropCause::Kernel(Box::new(KernelDrop {
        reason: Some("IP_RPFILTER".into()),
        function: Some("ip_rcv_finish_core".into()),
        device: Some("eth0".into()),
        cause: Some("rp-filter"),
        text: "reverse path filter".into(),
        ..KernelDrop::default()
    }));
    assert_eq!(
        end(Outcome::Dropped(kernel)),
        json!({"kind":"dropped","by":"kernel","reason":"IP_RPFILTER","function":"ip_rcv_finish_core",
               "cause":"rp-filter","device":"eth0","text":"reverse path filter","hook":null})
    );
    assert_eq!(end(Outcome::Delivered), json!({"kind":"delivered"}));
    assert_eq!(
        end(Outcome::Transmitted { device: Some("veth21".into()) }),
        json!({"kind":"transmitted","device":"veth21"})
    );
    assert_eq!(end(Outcome::Queued), json!({"kind":"queued"}));
    assert_eq!(end(Outcome::Consumed), json!({"kind":"consumed"}));
    assert_eq!(
        end(Outcome::Unfinished { why: "still in flight".into() }),
        json!({"kind":"unfinished","why":"still in flight"})
    );
}

#[test]
fn policy_delivery_and_namespaces() {
    let mut it = fixed();
    it.steps.extend(steps(vec![StepKind::Deliver {
        protocol: "tcp".into(),
        local: Some(end("192.168.70.10:22")),
        function: None,
    }]));
    let last = it.steps.last_mut().unwrap();
    last.netns = 7;
    let mut namespaces = at_home();
    let told = parsed(&journey(&it, &namespaces).unwrap());
    let steps = told["steps"].as_array().unwrap();
    assert_eq!(steps.last().unwrap()["netns"], json!({"inum": 7, "name": null}));
    assert!(steps[0].get("netns").is_none(), "only when it is not the first");
    namespaces.set_name(7, "web");
    let told = parsed(&journey(&it, &namespaces).unwrap());
    assert_eq!(told["steps"].as_array().unwrap().last().unwrap()["netns"], json!({"inum": 7, "name": "web"}));
    let policy = &told["steps"][9];
    assert_eq!(policy["kind"], "policy");
    assert_eq!(
        (&policy["family"], &policy["table"], &policy["chain"], &policy["verdict"]),
        (&json!("inet"), &json!("nat"), &json!("postrouting"), &json!("accept"))
    );
}

#[test]
fn a_retransmission_refers_to_the_first() {
    let told = told(&again(2, &broken(), 1.0));
    assert_eq!(told["id"], "2");
    assert_eq!(told["retransmission_of"], "1");
    assert_eq!(told["same_path"], true);
}

#[test]
fn the_lines_around_the_journeys() {
    let run = Start {
        kernel: Some("6.12.0".into()),
        filter: Filter::default(),
        sources: [(Source::Nft, SourceState::On), (Source::Probes, SourceState::Off("lockdown".into()))]
            .into(),
    };
    let told = parsed(&start(&run).unwrap());
    assert_eq!(
        told,
        json!({"schema":1,"type":"start","version":env!("CARGO_PKG_VERSION"),"kernel":"6.12.0","filter":{},
               "sources":{"nft":"on","probes":"lockdown"}})
    );
    let lost = Loss { source: Source::Nft, count: None, first_ns: 1, last_ns: 2 };
    assert_eq!(
        parsed(&loss(&lost, &[JourneyId(3)]).unwrap()),
        json!({"schema":1,"type":"loss","source":"nft","count":null,"first_ns":1,"last_ns":2,"journeys":["3"]})
    );
    let (mut tally, mut causes) = (Tally::default(), Causes::default());
    for it in [broken(), again(2, &broken(), 1.0), fixed()] {
        tally.add(&it);
        causes.add(&it);
    }
    let sum = Summary {
        passed: None,
        selected: Some(3),
        rate_limited: None,
        held_back: 0,
        journeys: tally,
        causes: causes.worst_first(),
        sources: [(Source::Nft, SourceTotals { received: 9, lost: 0 })].into(),
    };
    assert_eq!(
        parsed(&summary(&sum).unwrap()),
        json!({"schema":1,"type":"summary","selected":3,"rate_limited":null,
               "journeys":{"total":3,"dropped":2,"delivered":0,"transmitted":1,"queued":0,"consumed":0,
                           "unfinished":0,"retransmissions":1},
               "causes":[{"code":"set-element-missing","text":"rule \"drop\" (inet filter allowed_dnats handle 8)","count":2,"first":"1"}],
               "sources":{"nft":{"received":9,"lost":0}}})
    );
}

#[test]
fn lines_shown_on_a_terminal_do_nothing_to_it() {
    let mut it = broken();
    it.iif = Some("e\x1b[2J\u{9b}0m\u{202e}\x7f\u{e0001}".into());
    it.findings[0].certainty = Certainty::Likely;
    let line = journey(&it, &at_home()).unwrap();
    let text = std::str::from_utf8(&line).unwrap();
    assert!(!text.trim_end().contains(is_unsafe), "{text}");
    assert!(text.contains(r"\u001b[2J\u009b0m\u202e\u007f\udb40\udc01"), "{text}");
    assert_eq!(parsed(&line)["iif"], it.iif.unwrap().as_str(), "and say the same");
}

#[test]
fn a_connection_says_what_came_of_it() {
    let line = parsed(&conversation(&samples::conversation(), &at_home()).unwrap());
    assert_eq!((&line["type"], &line["schema"]), (&json!("connection"), &json!(1)));
    assert_eq!(line["original"]["daddr"], "10.1.2.3");
    assert_eq!(line["reply"]["saddr"], "192.168.70.10");
    assert_eq!(line["sent"], json!({"packets": 3, "through": 3, "dropped": 0}));
    assert_eq!(line["journeys"], json!(["1", "2", "3"]));
    assert_eq!(line["text"], "3 SYNs through, no answer from 192.168.70.10");
}
