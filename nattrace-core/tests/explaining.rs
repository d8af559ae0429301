//! What it costs to say why: nothing until a packet ended badly, and then little.

mod common;

use std::time::Duration;

use common::{MS, Nft, Stream, reduced, run, syn};
use nattrace_core::event::{Body, Event, HookPoint, NfFamily, SetAnswer, Verdict};
use nattrace_core::filter::Filter;
use nattrace_core::journey::assemble::{Assembler, Options};
use nattrace_core::ruleset::{BaseChain, Chain, Listing, Rule, Table};

const RULES: u64 = 20_000;
/// What explaining may take for so many rules that are new; without optimization it takes some twenty times as long.
const BOUND: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1500 } else { 50 });

fn large() -> Listing {
    let rule = |n: u64| {
        let text = format!(
            "ip saddr 10.{}.{}.1 tcp dport {} counter accept comment \"rule {n}\"",
            n % 256,
            n / 256,
            n + 1
        );
        Rule::new(n + 2, text)
    };
    let base = BaseChain {
        kind: "filter".to_owned(),
        hook: HookPoint::Forward,
        devices: Vec::new(),
        priority: 0,
        policy: "drop".to_owned(),
    };
    let rules = (0..RULES).map(rule).collect();
    let chain = Chain { name: "forward".to_owned(), handle: 1, base: Some(base), rules };
    let table = Table { family: NfFamily::Inet, name: "filter".to_owned(), handle: 3, chains: vec![chain] };
    Listing { generation: Some(1), tables: vec![table] }
}

/// How long this thread ran so far: others may have the processor meanwhile.
fn on_processor() -> Duration {
    std::thread::yield_now();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel counts it");
    Duration::from_nanos(told.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds"))
}

/// How long it takes to complete the journeys of packets with these ends.
fn completing(verdicts: &[Verdict]) -> Duration {
    let mut s = Stream::new();
    s.ruleset(large());
    for (verdict, id) in verdicts.iter().zip(1..) {
        s.wait(MS);
        let told = Nft::policy(id, "filter", "forward", verdict.clone());
        s.nft(told.header(&syn(u16::try_from(id).expect("few"), id), (2, 3)));
    }
    let mut assembler = Assembler::new(reduced(Filter::default()));
    let last_ns = s.now;
    for event in s.events.drain(..) {
        assembler.push(event);
    }
    let begun = on_processor();
    let told = assembler.finish(last_ns);
    let took = on_processor().saturating_sub(begun);
    assert_eq!(told.len(), verdicts.len());
    took
}

#[test]
fn twenty_thousand_rules_are_judged_in_no_time_and_only_when_a_packet_was_dropped() {
    let passed = completing(&[Verdict::Accept]);
    let first = completing(&[Verdict::Drop]);
    let both = completing(&[Verdict::Drop, Verdict::Drop]);
    println!("passed {passed:?}, dropped {first:?}, two {both:?}");
    assert!(first < BOUND && both < 2 * BOUND, "{first:?}, {both:?}");
    assert!(passed * 20 < first, "nothing is judged before: {passed:?}, {first:?}");
}

#[test]
fn among_many_rules_the_nearest_is_found() {
    let mut s = Stream::new();
    let mut listing = large();
    listing.tables[0].chains[0].rules[777].text = "ip saddr 10.9.9.9 tcp dport 1222 accept".to_owned();
    s.ruleset(listing);
    s.nft(Nft::policy(5, "filter", "forward", Verdict::Drop).header(&syn(1, 7), (2, 3)));
    let journeys = run(reduced(Filter::default()), &s.events);
    let finding = &journeys[0].findings[0];
    assert_eq!(finding.code, "rule-nearly-matched", "{finding:?}");
    assert!(finding.text.contains("`ip saddr 10.9.9.9`: the packet has 10.2.1.2"), "{}", finding.text);
}

#[test]
fn the_answer_of_one_set_does_not_hide_what_another_would_say() {
    let mut listing = large();
    listing.tables[0].chains[0].rules.truncate(1);
    listing.tables[0].chains[0].rules[0].text = "tcp dport @ports ip saddr @clients accept".to_owned();
    let mut s = Stream::new();
    s.ruleset(listing);
    s.nft(Nft::policy(5, "filter", "forward", Verdict::Drop).header(&syn(1, 7), (2, 3)));
    for (set, has) in [("clients", false), ("ports", true)] {
        let mut assembler = Assembler::new(Options { asks: true, ..reduced(Filter::default()) });
        let netns = s.events.last().expect("the drop").netns;
        let at = |ms: u64, body| Event { time_ns: s.now + ms * MS, cpu: u32::MAX, netns, body };
        s.events.iter().cloned().for_each(|event| assembler.push(event));
        assembler.push(at(1000, Body::Clock { quiet: false }));
        let mut questions = assembler.questions();
        questions.sort_by_key(|question| question.set != set);
        let asked: Vec<&str> = questions.iter().map(|question| question.set.as_str()).collect();
        assert_eq!(asked.len(), 2, "{asked:?}");
        for (question, (ms, has)) in questions.into_iter().zip([(1010, has), (1700, !has)]) {
            assert!(assembler.finished().is_empty(), "another answer is waited for");
            let (family, table) = (question.family, question.table);
            let answer =
                SetAnswer { family, table, set: question.set, element: question.element, has: Some(has) };
            assembler.push(at(ms, Body::SetAnswer(answer)));
            assembler.push(at(ms, Body::Clock { quiet: false }));
        }
        let journeys = assembler.finished();
        assert_eq!(journeys.len(), 1);
        let finding = &journeys[0].findings[0];
        assert_eq!(finding.code, "set-element-missing", "{finding:?}");
        assert!(finding.text.contains("10.2.1.2 is not in the set clients"), "{}", finding.text);
    }
}

/// The fix for a SYN to 10.1.2.3:1222 that a base chain's policy dropped, after it came back from other chains.
fn fix(family: NfFamily, table: &str, base: &str, called: &[(&str, &str)]) -> Vec<String> {
    let hook = HookPoint::Input;
    let policy = "drop".to_owned();
    let of_base = BaseChain { kind: "filter".to_owned(), hook, devices: Vec::new(), priority: 0, policy };
    let jumps = called.iter().zip(10..).map(|((_, text), handle)| {
        let mut rule = Rule::new(handle, (*text).to_owned());
        rule.iptables = text.starts_with("-A").then(|| (*text).to_owned());
        rule
    });
    let empty = |(name, _): &(&str, &str)| Chain {
        name: (*name).to_owned(),
        handle: 2,
        base: None,
        rules: Vec::new(),
    };
    let mut chains: Vec<Chain> = called.iter().map(empty).collect();
    chains.push(Chain { name: base.to_owned(), handle: 1, base: Some(of_base), rules: jumps.collect() });
    let mut s = Stream::new();
    s.ruleset(Listing {
        generation: Some(1),
        tables: vec![Table { family, name: table.to_owned(), handle: 3, chains }],
    });
    let packet = syn(1, 7);
    let rules = called.iter().zip(10..);
    let rules = rules.map(|((to, _), rule)| Nft::rule(5, table, base, rule, Verdict::Jump((*to).to_owned())));
    let policy = Nft::policy(5, table, base, Verdict::Drop);
    for (mut told, first) in rules.chain([policy]).zip([true, false, false]) {
        told.0.message.family = family;
        s.nft(if first { told.header(&packet, (2, 0)) } else { told });
    }
    let mut journeys = run(reduced(Filter::default()), &s.events);
    std::mem::take(&mut journeys[0].findings[0].fix)
}

#[test]
fn who_manages_the_rules_is_asked_to_let_it_through() {
    let ufw = [
        ("ufw-before-input", "-A INPUT -j ufw-before-input"),
        ("ufw-reject-input", "-A INPUT -j ufw-reject-input"),
    ];
    assert_eq!(
        fix(NfFamily::Ip, "filter", "INPUT", &ufw),
        ["ufw prepend allow in proto tcp to 10.1.2.3 port 1222"]
    );
    let zone =
        [("filter_IN_policy_x", "jump filter_IN_policy_x"), ("filter_IN_public", "jump filter_IN_public")];
    assert_eq!(
        fix(NfFamily::Inet, "firewalld", "filter_INPUT", &zone),
        ["firewall-cmd --zone=public --add-port=1222/tcp"]
    );
}
