//! How journeys end, how long they are waited for, and what is said when something was not seen.

mod common;

use common::*;
use nattrace_core::conntrack::{Direction, State};
use nattrace_core::event::{Body, Event, HookPoint, HookVerdict, Loss, Manip, Source, TraceType, Verdict};
use nattrace_core::filter::Filter;
use nattrace_core::journey::{Assembler, Options, StepKind};

const ACCEPT: HookVerdict = HookVerdict::Accept;

fn last(options: Options, events: &[Event]) -> String {
    let journeys = run(options, events);
    assert_eq!(journeys.len(), 1, "{journeys:#?}");
    told(&journeys[0]).pop().expect("an end")
}

/// A packet that the probes saw pass `hook`.
fn passed(s: &mut Stream, hook: HookPoint, oif: Option<&str>) {
    let header = syn(1, 7);
    s.hook(1, &header, hook, (Some("enp0"), oif), None);
    s.hook_return(1, Some(&header), hook, ACCEPT, None);
}

/// Where nf_tables has nothing to tell in a hook, only its return does: what happened since the hook before is its.
#[test]
fn what_precedes_a_return_was_within_that_hook() {
    let (from, to) = (client(), end("10.1.2.3:61000"));
    let sent = with_source(&syn(1, 7), to);
    let mut s = Stream::new();
    passed(&mut s, HookPoint::Forward, Some("veth21"));
    s.rewrite(1, Manip::Snat, Direction::Original, &syn(1, 7), &sent);
    s.hook_return(1, Some(&sent), HookPoint::Postrouting, ACCEPT, None);
    s.transmit(1, &sent, "veth21");
    let journeys = run(Options::default(), &s.events);
    let steps = &journeys[0].steps;
    let at = |wanted: fn(&StepKind) -> bool| steps.iter().position(|s| wanted(&s.kind)).expect("a step");
    let hook = at(|k| matches!(k, StepKind::Hook { hook: HookPoint::Postrouting, .. }));
    let rewrite = at(|k| matches!(k, StepKind::Rewrite { .. }));
    assert_eq!(rewrite, hook + 1, "{steps:#?}");
    assert!(
        matches!(&steps[rewrite].kind, StepKind::Rewrite { from: f, to: t, .. } if (*f, *t) == (from, to))
    );
    assert!(steps.is_sorted_by_key(|s| s.time_ns));
}

#[test]
fn full_mode_precedence() {
    type Play = fn(&mut Stream);
    let cases: [(&str, Play, &str); 17] = [
        (
            "taken by a socket",
            |s| {
                passed(s, HookPoint::Input, None);
                s.deliver(1, &syn(1, 7), "tcp_v4_rcv");
            },
            "= delivered",
        ),
        (
            "freed behind INPUT",
            |s| {
                passed(s, HookPoint::Input, None);
                s.end(1);
            },
            "= delivered",
        ),
        ("accepted by INPUT and nothing more", |s| passed(s, HookPoint::Input, None), "= delivered"),
        (
            "dropped behind the socket",
            |s| {
                passed(s, HookPoint::Input, None);
                s.deliver(1, &syn(1, 7), "udp_queue_rcv_one_skb").dropped(
                    1,
                    &syn(1, 7),
                    "SOCKET_RCVBUFF",
                    "__udp_enqueue",
                );
            },
            "= dropped by kernel SOCKET_RCVBUFF __udp_enqueue in -",
        ),
        (
            "no socket",
            |s| {
                passed(s, HookPoint::Input, None);
                s.dropped(1, &syn(1, 7), "NO_SOCKET", "tcp_v4_rcv");
            },
            "= dropped by kernel NO_SOCKET tcp_v4_rcv in -",
        ),
        (
            "sent and freed",
            |s| {
                passed(s, HookPoint::Postrouting, Some("veth21"));
                s.transmit(1, &syn(1, 7), "veth21").end(1);
            },
            "= transmitted veth21",
        ),
        (
            "sent",
            |s| {
                passed(s, HookPoint::Postrouting, Some("veth21"));
                s.transmit(1, &syn(1, 7), "veth21");
            },
            "= transmitted veth21",
        ),
        (
            "sent to where nobody watches",
            |s| {
                passed(s, HookPoint::Postrouting, Some("veth21"));
                s.transmit(1, &syn(1, 7), "veth21").push(Body::Left { packet: 1 });
            },
            "= transmitted veth21",
        ),
        (
            "dropped by the driver",
            |s| {
                passed(s, HookPoint::Postrouting, Some("veth21"));
                s.transmit(1, &syn(1, 7), "veth21").dropped(1, &syn(1, 7), "NOT_SPECIFIED", "veth_xmit");
            },
            "= dropped by kernel NOT_SPECIFIED veth_xmit in -",
        ),
        (
            "routed nowhere",
            |s| {
                passed(s, HookPoint::Prerouting, None);
                s.dropped(1, &syn(1, 7), "IP_INNOROUTES", "ip_error");
            },
            "= dropped by kernel IP_INNOROUTES ip_error in -",
        ),
        (
            "dropped within a hook by no rule",
            |s| {
                s.hook(1, &syn(1, 7), HookPoint::Input, (Some("enp0"), None), None);
                s.dropped(1, &syn(1, 7), "NETFILTER_DROP", "nf_hook_slow");
            },
            "= dropped by kernel NETFILTER_DROP nf_hook_slow in input",
        ),
        (
            "the hook alone tells",
            |s| {
                s.hook(1, &syn(1, 7), HookPoint::Input, (Some("enp0"), None), None);
                s.hook_return(1, None, HookPoint::Input, HookVerdict::Drop, None);
            },
            "= dropped by kernel - - in input",
        ),
        (
            "dropped within a hook whose entry nobody told",
            |s| {
                passed(s, HookPoint::Prerouting, None);
                s.dropped(1, &syn(1, 7), "NETFILTER_DROP", "nf_hook_slow");
                s.hook_return(1, None, HookPoint::Forward, HookVerdict::Drop, None);
            },
            "= dropped by kernel NETFILTER_DROP nf_hook_slow in forward",
        ),
        (
            "kept by a hook",
            |s| {
                s.hook(1, &syn(1, 7), HookPoint::Prerouting, (Some("enp0"), None), None);
                s.hook_return(1, None, HookPoint::Prerouting, HookVerdict::Stolen, None);
            },
            "= consumed",
        ),
        (
            "queued by a rule",
            |s| {
                s.hook(1, &syn(1, 7), HookPoint::Input, (Some("enp0"), None), None);
                s.nft(Nft::rule(5, "filter", "input", 9, Verdict::Queue(3)).packet(1));
                s.hook_return(1, None, HookPoint::Input, HookVerdict::Stolen, None);
            },
            "= queued",
        ),
        (
            "queued, and dropped by whoever reads the queue",
            |s| {
                s.hook(1, &syn(1, 7), HookPoint::Input, (Some("enp0"), None), None);
                s.nft(Nft::rule(5, "filter", "input", 9, Verdict::Queue(3)).packet(1));
                s.hook_return(1, None, HookPoint::Input, HookVerdict::Stolen, None);
                s.wait(900 * MS).dropped(1, &syn(1, 7), "NETFILTER_DROP", "nf_reinject");
            },
            "= dropped by kernel NETFILTER_DROP nf_reinject in input",
        ),
        (
            "lost sight of",
            |s| passed(s, HookPoint::Forward, Some("veth21")),
            "= unfinished: lost sight of it: last seen after forward had accepted it, bound for veth21",
        ),
    ];
    for (name, play, expected) in cases {
        let mut s = Stream::new();
        play(&mut s);
        assert_eq!(last(full(Filter::default()), &s.events), expected, "{name}");
    }
}

#[test]
fn the_rule_and_the_kernel_tell_of_one_drop_in_either_order() {
    let rule = |s: &mut Stream| {
        s.nft(Nft::rule(5, "filter", "allowed_dnats", 6, Verdict::Drop).hint(Some(1)));
    };
    let kernel = |s: &mut Stream| {
        s.dropped(1, &syn(1, 7), "NETFILTER_DROP", "nft_do_chain");
    };
    for kernel_first in [false, true] {
        let mut s = Stream::new();
        s.links().own_table().ruleset(listing(1, "drop", 3));
        s.receive(1, &syn(1, 7), "enp0");
        s.nft(
            Nft::rule(5, "filter", "forward", 7, Verdict::Jump("allowed_dnats".to_owned()))
                .hint(Some(1))
                .header(&syn(1, 7), (2, 3)),
        );
        if kernel_first {
            kernel(&mut s);
            s.wait(30 * MS);
            rule(&mut s);
        } else {
            rule(&mut s);
            s.wait(30 * MS);
            kernel(&mut s);
        }
        let journeys = run(reduced(Filter::default()), &s.events);
        assert_eq!(journeys.len(), 1);
        assert_eq!(
            told(&journeys[0])[2..],
            [
                "forward enp0>veth21 drop",
                "rule filter forward 7 \"ct status dnat jump allowed_dnats\" jump allowed_dnats",
                "rule filter allowed_dnats 6 \"drop\" drop",
                "drop NETFILTER_DROP nft_do_chain",
                "= dropped by rule filter allowed_dnats 6 \"drop\" in forward",
            ],
            "kernel first: {kernel_first}"
        );
    }
}

#[test]
fn a_rule_s_verdict_alone_is_enough() {
    let mut s = Stream::new();
    s.ruleset(listing(1, "drop", 3));
    s.nft(Nft::policy(5, "filter", "forward", Verdict::Drop).header(&syn(1, 7), (2, 3)));
    for options in [reduced(Filter::default()), rules_only(Filter::default())] {
        assert_eq!(last(options, &s.events), "= dropped by policy filter forward in forward");
    }
}

#[test]
fn a_capturing_socket_s_copy_is_not_the_packet() {
    let mut s = Stream::new();
    let header = syn(1, 7);
    s.receive(1, &header, "enp0").dropped(1, &header, "PACKET_SOCK_ERROR", "packet_rcv");
    s.push(Body::End { packet: 1, function: Some("tpacket_rcv".to_owned()) });
    passed(&mut s, HookPoint::Prerouting, None);
    passed(&mut s, HookPoint::Input, None);
    assert_eq!(last(full(Filter::default()), &s.events), "= delivered");
}

#[test]
fn a_copy_that_is_freed_does_not_end_the_packet() {
    let mut s = Stream::new();
    let header = syn(1, 7);
    s.receive(1, &header, "enp0").end(1);
    passed(&mut s, HookPoint::Prerouting, None);
    passed(&mut s, HookPoint::Forward, Some("veth21"));
    s.transmit(1, &header, "veth21").end(1);
    assert_eq!(last(full(Filter::default()), &s.events), "= transmitted veth21");
}

#[test]
fn the_same_buffer_sent_again_is_another_journey() {
    let mut s = Stream::new();
    for ip_id in [1, 2] {
        let header = syn(ip_id, 7);
        s.hook(1, &header, HookPoint::Output, (None, Some("enp0")), None);
        s.hook_return(1, Some(&header), HookPoint::Output, ACCEPT, None);
        s.transmit(1, &header, "enp0").end(1);
    }
    let journeys = run(full(Filter::default()), &s.events);
    assert_eq!(journeys.len(), 2);
    assert_eq!(journeys[1].retransmission_of, Some(journeys[0].id));
}

#[test]
fn what_comes_late_opens_no_second_journey() {
    let mut s = Stream::new();
    let header = syn(1, 7);
    passed(&mut s, HookPoint::Forward, Some("veth21"));
    s.hook(1, &header, HookPoint::Postrouting, (None, Some("veth21")), None);
    s.dropped(1, &header, "NETFILTER_DROP", "nf_hook_slow");
    s.wait(500 * MS);
    s.hook_return(1, None, HookPoint::Postrouting, HookVerdict::Drop, None).end(1);
    s.nft(Nft::policy(5, "filter", "forward", Verdict::Drop).packet(1));
    assert_eq!(
        last(full(Filter::default()), &s.events),
        "= dropped by kernel NETFILTER_DROP nf_hook_slow in postrouting"
    );
}

#[test]
fn a_drop_that_nothing_ties_to_a_namespace_begins_no_journey() {
    let mut s = Stream::new();
    s.netns = 0;
    s.dropped(1, &syn(1, 7), "TCP_OLD_DATA", "tcp_rcv_established");
    assert_eq!(run(reduced(Filter::default()), &s.events).len(), 0);
    s.netns = RTR;
    s.dropped(2, &syn(2, 7), "TCP_OLD_DATA", "tcp_rcv_established");
    assert_eq!(run(reduced(Filter::default()), &s.events).len(), 1);
}

#[test]
fn what_is_made_up_to_ask_for_a_route_is_no_packet() {
    let mut s = Stream::new();
    s.dropped(1, &syn(1, 7), "NOT_SPECIFIED", "inet_rtm_getroute");
    assert_eq!(run(full(Filter::default()), &s.events).len(), 0);
}

#[test]
fn a_bridge_runs_the_ip_hooks_within_its_own() {
    let mut s = Stream::new();
    let header = syn(1, 7);
    let bridge = |s: &mut Stream, hook, back: Option<HookVerdict>| {
        let before = s.events.len();
        match back {
            None => s.hook(1, &header, hook, (Some("enp0"), None), None),
            Some(verdict) => s.hook_return(1, Some(&header), hook, verdict, None),
        };
        match &mut s.events[before].body {
            Body::Hook(h) => h.family = nattrace_core::event::NfFamily::Bridge,
            Body::HookReturn(h) => h.family = nattrace_core::event::NfFamily::Bridge,
            _ => {}
        }
    };
    s.receive(1, &header, "enp0");
    bridge(&mut s, HookPoint::Prerouting, None);
    passed(&mut s, HookPoint::Prerouting, None);
    bridge(&mut s, HookPoint::Forward, None);
    bridge(&mut s, HookPoint::Forward, Some(ACCEPT));
    s.transmit(1, &header, "veth21").end(1);
    bridge(&mut s, HookPoint::Prerouting, Some(HookVerdict::Stolen));
    let journeys = run(full(Filter::default()), &s.events);
    assert_eq!(
        told(&journeys[0]),
        [
            "receive enp0",
            "prerouting enp0>- stolen",
            "prerouting enp0>- accept",
            "forward enp0>- accept",
            "transmit veth21",
            "= transmitted veth21",
        ]
    );
}

#[test]
fn a_return_that_was_lost_does_not_hold_later_steps() {
    let mut s = Stream::new();
    s.ruleset(listing(1, "drop", 3));
    let header = syn(1, 7);
    s.receive(1, &header, "enp0");
    s.hook(1, &header, HookPoint::Prerouting, (Some("enp0"), None), None);
    passed(&mut s, HookPoint::Forward, Some("veth21"));
    s.nft(Nft::policy(5, "filter", "postrouting", Verdict::Accept).packet(1).header(&header, (2, 3)));
    s.transmit(1, &header, "veth21").end(1);
    let journeys = run(full(Filter::default()), &s.events);
    assert_eq!(
        told(&journeys[0])[1..],
        [
            "prerouting enp0>- accept",
            "route Forward veth21",
            "forward enp0>veth21 accept",
            "postrouting enp0>veth21 accept",
            "policy filter postrouting accept",
            "transmit veth21",
            "= transmitted veth21",
        ]
    );
}

#[test]
fn routing_again_after_output_is_shown_when_it_changed_the_way() {
    let header = syn(1, 7);
    let to = with_destination(&header, server());
    for (after, routes) in [("veth21", 2), ("enp0", 1)] {
        let mut s = Stream::new();
        s.hook(1, &header, HookPoint::Output, (None, Some("enp0")), None);
        s.rewrite(1, Manip::Dnat, Direction::Original, &header, &to);
        s.hook_return(1, Some(&to), HookPoint::Output, ACCEPT, None);
        s.hook(1, &to, HookPoint::Postrouting, (None, Some(after)), None);
        s.hook_return(1, Some(&to), HookPoint::Postrouting, ACCEPT, None);
        s.transmit(1, &to, after).end(1);
        let journeys = run(full(Filter::default()), &s.events);
        let seen = told(&journeys[0]).iter().filter(|line| line.starts_with("route")).count();
        assert_eq!(seen, routes, "{:#?}", told(&journeys[0]));
    }
}

#[test]
fn the_trace_s_end_is_told_as_such() {
    let play = |hook, send: bool| {
        let mut s = Stream::new();
        passed(&mut s, hook, Some("veth21"));
        if send {
            s.transmit(1, &syn(1, 7), "veth21");
        }
        let mut assembler = Assembler::new(full(Filter::default()));
        for event in s.events {
            assembler.push(event);
        }
        told(&assembler.finish(s.now)[0]).pop().expect("an end")
    };
    assert_eq!(
        play(HookPoint::Forward, false),
        "= unfinished: the trace ended while it was under way: last seen after forward had accepted it, bound for veth21"
    );
    assert_eq!(play(HookPoint::Postrouting, true), "= transmitted veth21");
    assert_eq!(play(HookPoint::Input, false), "= delivered");
}

#[test]
fn the_oldest_are_given_up_for_want_of_memory() {
    let options = Options { memory: 100_000, ..full(Filter::default()) };
    let mut assembler = Assembler::new(options);
    let mut s = Stream::new();
    for packet in 0..1000 {
        s.receive(packet, &udp(0), "enp0");
    }
    for event in s.events {
        assembler.push(event);
        assert!(assembler.memory() <= 100_000, "bounded without being asked for results");
    }
    let given_up = assembler.given_up();
    assert!((900..1000).contains(&given_up), "{given_up}");
    let journeys = assembler.finish(s.now);
    assert_eq!(journeys.len(), 1000);
    assert_eq!(assembler.memory(), 0, "all is given back");
    let why = told(&journeys[0]).pop().expect("an end");
    assert!(why.starts_with("= unfinished: memory: packets that came later needed what it took"), "{why}");
    assert_eq!(assembler.counters().outcome("unfinished"), 1000);
}

#[test]
fn a_routing_loop_does_not_grow_without_end() {
    let mut s = Stream::new();
    for _ in 0..5000 {
        passed(&mut s, HookPoint::Prerouting, None);
    }
    s.dropped(1, &syn(1, 7), "NOT_SPECIFIED", "ip_forward");
    let journeys = run(full(Filter::default()), &s.events);
    assert!(journeys[0].steps.len() <= 1001);
    assert_eq!(
        told(&journeys[0]).pop().as_deref(),
        Some("= dropped by kernel NOT_SPECIFIED ip_forward in -")
    );
}

#[test]
fn losses_are_shown_against_the_journeys_they_may_have_hurt() {
    let lost = |first: u64, last: u64, source| {
        Body::Loss(Loss { source, count: Some(3), first_ns: first, last_ns: last })
    };
    let mut s = Stream::new();
    passed(&mut s, HookPoint::Forward, Some("veth21"));
    let begun = s.now;
    s.wait(20 * MS);
    s.transmit(1, &syn(1, 7), "veth21").end(1);
    let ended = s.now;
    s.push(lost(begun - MS, begun + MS, Source::Probes));
    s.push(lost(ended + 50 * MS, ended + 60 * MS, Source::Nft));
    s.push(Body::Loss(Loss {
        source: Source::Conntrack,
        count: None,
        first_ns: 0,
        last_ns: begun - 10 * MS,
    }));
    let mut assembler = Assembler::new(full(Filter::default()));
    for event in s.events {
        assembler.push(event);
    }
    let journeys = assembler.finish(s.now);
    assert_eq!(journeys[0].incomplete, [Source::Probes]);
    let lost = &assembler.counters().lost;
    assert_eq!((lost[&Source::Probes].events, lost[&Source::Conntrack].uncounted), (3, 1));
}

#[test]
fn a_journey_waits_for_its_rule_texts_but_not_for_long() {
    let rule = Nft::rule(5, "filter", "forward", 99, Verdict::Drop).header(&syn(1, 7), (2, 3));
    let finished_after = |events: &[Event]| {
        let mut assembler = Assembler::new(rules_only(Filter::default()));
        let mut now = 0;
        for event in events {
            now = event.time_ns;
            assembler.push(event.clone());
        }
        for ms in 0..2000 {
            assembler.expire(now + ms * MS);
            if let Some(journey) = assembler.finished().first() {
                return (ms, told(journey).pop().expect("an end"));
            }
        }
        panic!("never");
    };
    let unknown = "= dropped by rule filter forward 99 \"-\" in -";
    let mut s = Stream::new();
    s.nft(rule.clone());
    assert_eq!(finished_after(&s.events), (1000, unknown.to_owned()), "no listing at all");

    let known = "= dropped by rule filter forward 99 \"-\" in forward";
    let mut s = Stream::new();
    s.ruleset(listing(1, "drop", 3)).nft(rule.clone());
    assert_eq!(finished_after(&s.events), (0, known.to_owned()), "the listing is current");

    let mut s = Stream::new();
    s.ruleset(listing(1, "drop", 3)).wait(100 * MS).reload(2, 3, 8).wait(100 * MS).nft(rule);
    assert_eq!(finished_after(&s.events).0, 1000, "the listing is not current");
    let before = s.now;
    s.wait(300 * MS).ruleset(listing(2, "reject", 8));
    assert_eq!(finished_after(&s.events).0, 0, "now it is");
    assert!(s.now > before);
}

#[test]
fn a_reload_in_the_middle_shows_each_packet_its_own_rule() {
    let mut s = Stream::new();
    s.links().ruleset(listing(1, "drop", 3));
    let packet = |s: &mut Stream, id: u32, n: u16| {
        s.nft(
            Nft::rule(id, "filter", "forward", 7, Verdict::Jump("allowed_dnats".to_owned()))
                .header(&udp(n), (2, 3)),
        );
        s.nft(Nft::rule(id, "filter", "allowed_dnats", 6, Verdict::Drop));
    };
    packet(&mut s, 1, 1);
    s.wait(500 * MS).reload(2, 3, 8);
    packet(&mut s, 2, 2);
    s.wait(50 * MS);
    packet(&mut s, 3, 3);
    s.wait(50 * MS).ruleset(listing(2, "counter drop", 8));
    packet(&mut s, 4, 4);
    let ends: Vec<_> = run(rules_only(Filter::default()), &s.events)
        .iter()
        .map(|j| told(j).pop().expect("an end"))
        .collect();
    let end = |text: &str| format!("= dropped by rule filter allowed_dnats 6 {text:?} in forward");
    assert_eq!(ends, [end("drop"), end("-"), end("counter drop"), end("counter drop")]);
}

#[test]
fn oif_selects_journeys_and_their_replies() {
    let filter = Filter { oif: vec!["veth21".to_owned()], ..Filter::default() };
    let mut s = Stream::new();
    for (packet, oif) in [(1, "veth21"), (2, "enp0")] {
        let header = syn(1, 7);
        let mut connection = connection(Direction::Original, State::New);
        connection.key = packet;
        connection.original = None;
        connection.reply = None;
        s.hook(packet, &header, HookPoint::Forward, (Some("enp0"), Some(oif)), Some(connection.clone()));
        s.hook_return(packet, Some(&header), HookPoint::Forward, ACCEPT, None);
        s.transmit(packet, &header, oif).end(packet);
        s.wait(MS);
        connection.direction = Some(Direction::Reply);
        let reply = answer(&header, 9);
        s.hook(packet + 10, &reply, HookPoint::Forward, (Some(oif), Some("other")), Some(connection));
        s.transmit(packet + 10, &reply, "other").end(packet + 10);
    }
    let ids: Vec<_> = run(full(filter.clone()), &s.events).iter().map(|j| j.packet_id).collect();
    assert_eq!(ids, [Some(1), Some(11)]);
    let ids: Vec<_> =
        run(Options { follow: false, ..full(filter) }, &s.events).iter().map(|j| j.packet_id).collect();
    assert_eq!(ids, [Some(1)]);
}

#[test]
fn kernels_before_6_7_tell_the_end_of_a_chain_by_a_type_of_its_own() {
    let mut s = Stream::new();
    s.ruleset(listing(1, "drop", 3));
    s.nft(
        Nft::rule(5, "filter", "forward", 7, Verdict::Jump("allowed_dnats".to_owned()))
            .header(&syn(1, 7), (2, 3)),
    );
    s.nft(Nft::new(5, "filter", "allowed_dnats", TraceType::Return, Verdict::Continue));
    let mut explicit = Nft::new(5, "filter", "forward", TraceType::Return, Verdict::Return);
    explicit.0.message.rule_handle = Some(8);
    s.nft(explicit);
    s.nft(Nft::policy(5, "filter", "forward", Verdict::Accept));
    let journeys = run(rules_only(Filter::default()), &s.events);
    assert_eq!(
        told(&journeys[0])[2..5],
        [
            "rule filter forward 7 \"ct status dnat jump allowed_dnats\" jump allowed_dnats",
            "rule filter forward 8 \"-\" return",
            "policy filter forward accept"
        ]
    );
}

/// A ring that is read late: what comes by another way is minutes ahead of it, and says nothing of how late it is.
#[test]
fn only_the_clock_tells_how_late_it_is() {
    let mut ring = Stream::new();
    passed(&mut ring, HookPoint::Input, None);
    let read_ns = ring.events.last().expect("events").time_ns;
    let time_ns = read_ns + 60_000 * MS;
    let elsewhere = Event { time_ns, cpu: 0, netns: 2, body: Body::Namespace { name: None } };
    let mut assembler = Assembler::new(Options::default());
    for event in ring.events.into_iter().chain([elsewhere]) {
        assembler.push(event);
    }
    assembler.expire(read_ns);
    assert_eq!(assembler.open_count(), 1);
    assembler.expire(time_ns);
    assert_eq!(assembler.finished().len(), 1);
}
