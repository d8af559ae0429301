//! Rules of legacy iptables: what is said of them, and what is not when their listing or what follows leaves a doubt.

mod common;

use common::*;
use nattrace_core::conntrack::{Direction, State};
use nattrace_core::event::{
    Body, ConntrackChange, ConntrackEvent, HookPoint, HookVerdict, LegacyChange, LegacyRule, Manip, NfFamily,
    TraceType,
};
use nattrace_core::journey::{DropCause, Journey, Outcome, RewrittenBy, StepKind};
use nattrace_core::packet::Packet;
use nattrace_core::ruleset::legacy::{Chain, Listing, Table};

const P: u64 = 7;

fn chain(name: &str, policy: Option<&str>, rules: &[&str]) -> Chain {
    let rules = rules.iter().map(|rule| format!("-A {name} {rule}")).collect();
    Chain { name: name.to_owned(), policy: policy.map(str::to_owned), rules }
}

/// A FORWARD chain with these rules, and a port-forward.
fn listed(now: u64, forward: &[&str]) -> Body {
    let table = |name: &str, chains| Table { family: NfFamily::Ip, name: name.to_owned(), chains };
    let nat = chain("PREROUTING", Some("ACCEPT"), &["-p tcp -j DNAT --to-destination 192.168.70.10:22"]);
    let filter = vec![
        chain("FORWARD", Some("DROP"), forward),
        chain("web", None, &["-s 10.2.0.0/16 -j ACCEPT", "-j DROP"]),
    ];
    Body::LegacyRuleset(Listing {
        begun_ns: now,
        tables: vec![table("nat", vec![nat]), table("filter", filter)],
    })
}

fn at(hook: HookPoint, table: &str, chain: &str, rulenum: u32, called: TraceType) -> Body {
    Body::LegacyRule(LegacyRule {
        packet: P,
        family: NfFamily::Ip,
        hook,
        table: table.to_owned(),
        chain: chain.to_owned(),
        rulenum,
        called,
    })
}

fn forward(chain: &str, rulenum: u32, called: TraceType) -> Body {
    at(HookPoint::Forward, "filter", chain, rulenum, called)
}

/// A stream in which changes are told and the rules were listed, or not.
fn begin(rules: Option<&[&str]>) -> Stream {
    let mut stream = Stream::new();
    stream.push(Body::LegacyChange(LegacyChange::Watched));
    if let Some(rules) = rules {
        let now = stream.now;
        stream.wait(MS).push(listed(now + 1, rules));
    }
    stream.wait(50 * MS);
    stream
}

fn enter(stream: &mut Stream, header: &Packet) {
    stream.receive(P, header, "enp0");
    stream.hook(P, header, HookPoint::Forward, (Some("enp0"), Some("veth21")), None);
}

fn drop_in_forward(stream: &mut Stream, header: &Packet) {
    stream.dropped(P, header, "NETFILTER_DROP", "nf_hook_slow");
    stream.hook_return(P, None, HookPoint::Forward, HookVerdict::Drop, None);
}

fn only(stream: &Stream) -> Journey {
    let mut journeys = run(full(dport(1222)), &stream.events);
    assert_eq!(journeys.len(), 1);
    journeys.remove(0)
}

/// Number, text and verdict of the rule steps, and whether they may be an end.
fn rules(journey: &Journey) -> Vec<(u64, Option<&str>, Option<String>, bool)> {
    journey
        .steps
        .iter()
        .filter_map(|step| match &step.kind {
            StepKind::Rule(step) => Some((
                step.rule.handle,
                step.rule.text.as_deref(),
                step.verdict.as_ref().map(ToString::to_string),
                step.or_end,
            )),
            _ => None,
        })
        .collect()
}

#[test]
fn a_rule_of_a_called_chain_drops() {
    let syn = syn(1, 1);
    let mut stream = begin(Some(&["-p tcp -j web"]));
    enter(&mut stream, &syn);
    stream.push(forward("FORWARD", 1, TraceType::Rule)).push(forward("web", 2, TraceType::Return));
    drop_in_forward(&mut stream, &syn);
    let journey = only(&stream);
    let drop = Some("drop".to_owned());
    let jump = Some("jump web".to_owned());
    let expected =
        [(1, Some("-A FORWARD -p tcp -j web"), jump, false), (2, Some("-A web -j DROP"), drop, false)];
    assert_eq!(rules(&journey), expected);
    let Outcome::Dropped(DropCause::Rule { rule, hook }) = &journey.outcome else { panic!("{journey:?}") };
    assert_eq!((rule.chain.as_str(), rule.handle, *hook), ("web", 2, Some(HookPoint::Forward)));
    let finding = &journey.findings[0];
    assert_eq!((finding.code, finding.steps.len()), ("dropped-by-rule", 2), "{}", finding.text);
}

#[test]
fn the_policy_drops_and_the_end_of_a_chain_is_no_step() {
    let syn = syn(1, 1);
    let mut stream = begin(Some(&["-p tcp -j web"]));
    enter(&mut stream, &syn);
    stream.push(forward("FORWARD", 1, TraceType::Rule)).push(forward("web", 3, TraceType::Return));
    stream.push(forward("FORWARD", 2, TraceType::Policy));
    drop_in_forward(&mut stream, &syn);
    let journey = only(&stream);
    assert_eq!(rules(&journey).len(), 1);
    assert!(
        matches!(&journey.outcome, Outcome::Dropped(DropCause::Policy { chain, .. }) if chain == "FORWARD")
    );
    assert_eq!(journey.findings.last().map(|f| f.code), Some("dropped-by-policy"));
}

#[test]
fn without_a_listing_nothing_is_made_up() {
    let syn = syn(1, 1);
    let mut stream = begin(None);
    enter(&mut stream, &syn);
    stream.push(forward("FORWARD", 1, TraceType::Rule)).push(forward("FORWARD", 2, TraceType::Policy));
    drop_in_forward(&mut stream, &syn);
    let journey = only(&stream);
    assert_eq!(rules(&journey), [(1, None, None, false), (2, None, None, true)]);
    let Outcome::Dropped(DropCause::Kernel(drop)) = &journey.outcome else { panic!("{journey:?}") };
    assert_eq!(drop.hook, Some(HookPoint::Forward));
}

#[test]
fn a_listing_that_comes_later_is_waited_for() {
    let syn = syn(1, 1);
    let mut stream = begin(None);
    enter(&mut stream, &syn);
    stream.push(forward("FORWARD", 1, TraceType::Policy));
    drop_in_forward(&mut stream, &syn);
    let now = stream.now;
    stream.wait(300 * MS).push(listed(now + 200 * MS, &["-j DROP"]));
    let journey = only(&stream);
    assert_eq!(rules(&journey), [(1, Some("-A FORWARD -j DROP"), Some("drop".to_owned()), false)]);
    assert!(matches!(&journey.outcome, Outcome::Dropped(DropCause::Rule { .. })));
}

#[test]
fn a_change_between_packet_and_listing_leaves_the_text_unknown() {
    let syn = syn(1, 1);
    let mut stream = begin(Some(&["-s 10.2.1.2 -j DROP"]));
    stream.push(Body::LegacyChange(LegacyChange::Begun { task: 9 }));
    enter(&mut stream, &syn);
    stream.push(forward("FORWARD", 1, TraceType::Rule));
    drop_in_forward(&mut stream, &syn);
    stream.push(Body::LegacyChange(LegacyChange::Ended { task: 9 }));
    let now = stream.now;
    stream.wait(300 * MS).push(listed(now + 200 * MS, &["-s 10.2.1.3 -j DROP"]));
    let journey = only(&stream);
    assert_eq!(rules(&journey), [(1, None, None, false)]);
    assert!(matches!(&journey.outcome, Outcome::Dropped(DropCause::Kernel(_))));
}

#[test]
fn who_lived_on_was_not_dropped() {
    let syn = syn(1, 1);
    let mut stream = begin(Some(&["-s 10.2.1.2 -j DROP"]));
    enter(&mut stream, &syn);
    stream.push(forward("FORWARD", 1, TraceType::Rule));
    stream.hook_return(P, Some(&syn), HookPoint::Forward, HookVerdict::Accept, None);
    stream.transmit(P, &syn, "veth21").end(P);
    let journey = only(&stream);
    assert_eq!(rules(&journey), [(1, None, None, false)]);
    assert!(matches!(journey.outcome, Outcome::Transmitted { .. }));
}

#[test]
fn a_connection_that_is_removed_meanwhile_is_no_sign_that_the_packet_lived_on() {
    let syn = syn(1, 1);
    let known = connection(Direction::Original, State::Established);
    let mut stream = begin(Some(&["-j DROP"]));
    stream.receive(P, &syn, "enp0");
    let devices = (Some("enp0"), Some("veth21"));
    stream.hook(P, &syn, HookPoint::Forward, devices, Some(known.clone()));
    stream.push(forward("FORWARD", 1, TraceType::Policy));
    let change = ConntrackChange::Destroy;
    stream.push(Body::Conntrack(ConntrackEvent { change, connection: known }));
    drop_in_forward(&mut stream, &syn);
    let journey = only(&stream);
    assert!(journey.steps.iter().any(|step| matches!(step.kind, StepKind::Connection { .. })));
    let Outcome::Dropped(DropCause::Rule { rule, .. }) = &journey.outcome else { panic!("{journey:?}") };
    assert_eq!(rule.text.as_deref(), Some("-A FORWARD -j DROP"));
}

#[test]
fn a_target_that_may_drop_is_not_said_to_have_accepted() {
    let syn = syn(1, 1);
    let mut stream = begin(Some(&["-j TCPMSS --clamp-mss-to-pmtu"]));
    enter(&mut stream, &syn);
    stream.push(forward("FORWARD", 1, TraceType::Rule));
    drop_in_forward(&mut stream, &syn);
    let journey = only(&stream);
    assert_eq!(rules(&journey), [(1, Some("-A FORWARD -j TCPMSS --clamp-mss-to-pmtu"), None, false)]);
}

#[test]
fn the_rule_that_maps_is_named_by_its_text_or_because_it_was_the_last() {
    for (listing, text) in [
        (Some(&["-j ACCEPT"][..]), Some("-A PREROUTING -p tcp -j DNAT --to-destination 192.168.70.10:22")),
        (None, None),
    ] {
        let syn = syn(1, 1);
        let after = with_destination(&syn, server());
        let mut stream = begin(listing);
        stream.receive(P, &syn, "enp0");
        stream.hook(P, &syn, HookPoint::Prerouting, (Some("enp0"), None), None);
        stream.push(at(HookPoint::Prerouting, "mangle", "PREROUTING", 1, TraceType::Policy));
        stream.push(at(HookPoint::Prerouting, "nat", "PREROUTING", 1, TraceType::Rule));
        stream.rewrite(P, Manip::Dnat, Direction::Original, &syn, &after);
        stream.hook_return(P, Some(&after), HookPoint::Prerouting, HookVerdict::Accept, None);
        stream.transmit(P, &after, "veth21").end(P);
        let journey = only(&stream);
        let rewrites: Vec<_> = journey
            .steps
            .iter()
            .filter_map(|step| match &step.kind {
                StepKind::Rewrite { by, rule, .. } => {
                    Some((*by, rule.as_ref().map(|r| (r.handle, r.text.as_deref()))))
                }
                _ => None,
            })
            .collect();
        assert_eq!(rewrites, [(RewrittenBy::Rule, Some((1, text)))]);
    }
}

#[test]
fn a_mapping_behind_the_policy_is_no_rules() {
    let syn = syn(1, 1);
    let after = with_destination(&syn, server());
    let mut stream = begin(None);
    stream.receive(P, &syn, "enp0");
    stream.hook(P, &syn, HookPoint::Prerouting, (Some("enp0"), None), None);
    stream.push(at(HookPoint::Prerouting, "nat", "PREROUTING", 1, TraceType::Rule));
    stream.push(at(HookPoint::Prerouting, "nat", "PREROUTING", 2, TraceType::Policy));
    stream.rewrite(P, Manip::Dnat, Direction::Original, &syn, &after);
    stream.hook_return(P, Some(&after), HookPoint::Prerouting, HookVerdict::Accept, None);
    let journey = only(&stream);
    let by = journey.steps.iter().find_map(|step| match &step.kind {
        StepKind::Rewrite { by, .. } => Some(*by),
        _ => None,
    });
    assert_ne!(by, Some(RewrittenBy::Rule));
}
