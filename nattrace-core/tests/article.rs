//! The article's broken port-forward, in every mode, broken and fixed.

mod common;

use common::*;
use nattrace_core::conntrack::{Direction, State};
use nattrace_core::event::{HookPoint, HookVerdict, Manip, TraceType, Verdict};

fn prelude(stream: &mut Stream) {
    stream.links().own_table().ruleset(listing(1, "drop", 3));
}

/// One SYN as the probes see it, up to FORWARD.
fn full_to_forward(s: &mut Stream, packet: u64, header: &nattrace_core::packet::Packet) {
    let id = 0xfeed;
    let rewritten = with_destination(header, server());
    let new = Some(connection(Direction::Original, State::New));
    s.receive(packet, header, "enp0");
    s.hook(packet, header, HookPoint::Prerouting, (Some("enp0"), None), None);
    s.nft(Nft::rule(id, "nat", "prerouting", 4, Verdict::Accept).packet(packet).header(header, (2, 0)));
    s.rewrite(packet, Manip::Dnat, Direction::Original, header, &rewritten);
    s.hook_return(packet, Some(&rewritten), HookPoint::Prerouting, HookVerdict::Accept, new.clone());
    s.hook(packet, &hop(&rewritten), HookPoint::Forward, (Some("enp0"), Some("veth21")), new);
    s.nft(
        Nft::rule(id, "filter", "forward", 7, Verdict::Jump("allowed_dnats".to_owned()))
            .packet(packet)
            .header(&hop(&rewritten), (2, 3)),
    );
}

fn full_dropped(s: &mut Stream, packet: u64, header: &nattrace_core::packet::Packet) {
    full_to_forward(s, packet, header);
    s.nft(Nft::rule(0xfeed, "filter", "allowed_dnats", 6, Verdict::Drop).packet(packet));
    s.dropped(packet, &hop(&with_destination(header, server())), "NETFILTER_DROP", "nft_do_chain");
    s.hook_return(packet, None, HookPoint::Forward, HookVerdict::Drop, None);
}

const DROP: &str = "drop NETFILTER_DROP nft_do_chain";

const TO_FORWARD: [&str; 8] = [
    "receive enp0",
    "prerouting enp0>- accept",
    "connection created",
    "rule nat prerouting 4 \"ip daddr 10.1.2.3 tcp dport 1222 dnat ip to 192.168.70.10:22\" accept",
    "dnat 10.1.2.3:1222 192.168.70.10:22 by Rule nat prerouting 4",
    "route Forward veth21",
    "forward enp0>veth21 drop",
    "rule filter forward 7 \"ct status dnat jump allowed_dnats\" jump allowed_dnats",
];

fn broken() -> Vec<&'static str> {
    let mut lines = TO_FORWARD.to_vec();
    lines.extend([
        "rule filter allowed_dnats 6 \"drop\" drop",
        DROP,
        "= dropped by rule filter allowed_dnats 6 \"drop\" in forward",
    ]);
    lines
}

fn fixed() -> Vec<&'static str> {
    let mut lines = TO_FORWARD.to_vec();
    lines[6] = "forward enp0>veth21 accept";
    lines.extend([
        "rule filter allowed_dnats 5 \"meta nfproto ipv4 ip daddr . tcp dport @allow_in accept\" accept",
        "postrouting enp0>veth21 accept",
        "policy filter postrouting accept",
        "transmit veth21",
        "= transmitted veth21",
    ]);
    lines
}

#[test]
fn full_broken() {
    let mut s = Stream::new();
    prelude(&mut s);
    full_dropped(&mut s, 1, &syn(48644, 7));
    let journeys = run(full(dport(1222)), &s.events);
    assert_eq!(journeys.len(), 1);
    assert_eq!(told(&journeys[0]), broken());
    let connection = journeys[0].connection.as_ref().expect("a connection");
    assert_eq!((connection.direction, connection.state), (Some(Direction::Original), Some(State::New)));
    let finding = &journeys[0].findings[0];
    assert_eq!((finding.code, &finding.steps), ("dropped-by-rule", &vec![7, 8]));
    assert_eq!(journeys[0].iif.as_deref(), Some("enp0"));
}

#[test]
fn full_retransmissions_are_folded() {
    let mut s = Stream::new();
    prelude(&mut s);
    for (packet, ip_id, wait) in [(1, 48644, 0), (2, 48645, 1000), (3, 48646, 2000)] {
        s.wait(wait * MS);
        full_dropped(&mut s, packet, &syn(ip_id, 7));
    }
    full_dropped(&mut s, 4, &syn(99, 8));
    let journeys = run(full(dport(1222)), &s.events);
    let first = Some(journeys[0].id);
    let folded: Vec<_> = journeys.iter().map(|j| (j.retransmission_of, j.same_path)).collect();
    assert_eq!(folded, [(None, false), (first, true), (first, true), (None, false)]);
}

#[test]
fn full_fixed_and_the_reply() {
    let mut s = Stream::new();
    prelude(&mut s);
    let header = syn(48644, 7);
    let out = hop(&with_destination(&header, server()));
    full_to_forward(&mut s, 1, &header);
    let new = Some(connection(Direction::Original, State::New));
    s.nft(Nft::rule(0xfeed, "filter", "allowed_dnats", 5, Verdict::Accept).packet(1));
    s.hook_return(1, Some(&out), HookPoint::Forward, HookVerdict::Accept, new.clone());
    s.hook(1, &out, HookPoint::Postrouting, (Some("enp0"), Some("veth21")), new.clone());
    s.nft(Nft::policy(0xfeed, "filter", "postrouting", Verdict::Accept).packet(1).header(&out, (2, 3)));
    s.hook_return(1, Some(&out), HookPoint::Postrouting, HookVerdict::Accept, new);
    s.transmit(1, &out, "veth21").end(1);

    // The reply is recognised when conntrack has attached the connection: on return from PREROUTING.
    let reply = answer(&with_destination(&header, server()), 1);
    let reply_out = hop(&with_source(&reply, service()));
    let back = Some(connection(Direction::Reply, State::Established));
    s.wait(MS);
    s.hook_return(2, Some(&reply), HookPoint::Prerouting, HookVerdict::Accept, back.clone());
    s.hook(2, &hop(&reply), HookPoint::Forward, (Some("veth21"), Some("enp0")), back.clone());
    s.hook_return(2, Some(&hop(&reply)), HookPoint::Forward, HookVerdict::Accept, back.clone());
    s.hook(2, &hop(&reply), HookPoint::Postrouting, (Some("veth21"), Some("enp0")), back.clone());
    s.rewrite(2, Manip::Snat, Direction::Reply, &hop(&reply), &reply_out);
    s.hook_return(2, Some(&reply_out), HookPoint::Postrouting, HookVerdict::Accept, back);
    s.transmit(2, &reply_out, "enp0").end(2);

    let journeys = run(full(dport(1222)), &s.events);
    assert_eq!(journeys.len(), 2);
    assert_eq!(told(&journeys[0]), fixed());
    assert_eq!(
        told(&journeys[1]),
        [
            "prerouting ->- accept",
            "route Forward enp0",
            "forward veth21>enp0 accept",
            "postrouting veth21>enp0 accept",
            "snat 192.168.70.10:22 10.1.2.3:1222 by Connection nat prerouting 4 for #1",
            "transmit enp0",
            "= transmitted enp0",
        ]
    );
    assert!(journeys.iter().all(|j| j.findings.is_empty()));
}

/// One SYN as tracepoints and trace messages see it, up to the first rule of FORWARD. The kernel says which
/// packet the processor has in hand; every base chain's first message has headers.
fn reduced_to_forward(s: &mut Stream, id: u32, hint: Option<u64>, header: &nattrace_core::packet::Packet) {
    let rewritten = with_destination(header, server());
    let routed = hop(&rewritten);
    s.nft(
        Nft::rule(id, "nattrace", "follow_prerouting", 3, Verdict::Continue)
            .hint(hint)
            .header(header, (2, 0)),
    );
    s.nft(Nft::policy(id, "nattrace", "follow_prerouting", Verdict::Accept).hint(hint));
    s.observe(id, hint, "enter_prerouting", header, (2, 0));
    s.nft(Nft::rule(id, "nat", "prerouting", 4, Verdict::Accept).hint(hint).header(header, (2, 0)).ct(
        77,
        Direction::Original,
        8,
        0,
    ));
    s.observe(id, hint, "leave_prerouting", &rewritten, (2, 0));
    s.observe(id, hint, "enter_forward", &routed, (2, 3));
    s.nft(
        Nft::rule(id, "filter", "forward", 7, Verdict::Jump("allowed_dnats".to_owned()))
            .hint(hint)
            .header(&routed, (2, 3))
            .ct(77, Direction::Original, 8, 0x20),
    );
}

#[test]
fn reduced_broken() {
    let mut s = Stream::new();
    prelude(&mut s);
    let header = syn(48644, 7);
    s.receive(1, &header, "enp0");
    reduced_to_forward(&mut s, 0xfeed, Some(1), &header);
    s.nft(Nft::rule(0xfeed, "filter", "allowed_dnats", 6, Verdict::Drop).hint(Some(1)));
    s.dropped(1, &hop(&with_destination(&header, server())), "NETFILTER_DROP", "nft_do_chain");
    let journeys = run(reduced(dport(1222)), &s.events);
    assert_eq!(journeys.len(), 1);
    assert_eq!(told(&journeys[0]), broken());
    let connection = journeys[0].connection.as_ref().expect("a connection");
    assert_eq!((connection.id, connection.state), (Some(77), Some(State::New)));
    assert_eq!(connection.status, Some(0x20));
    assert_eq!(journeys[0].trace_ids, [0xfeed]);
}

#[test]
fn reduced_fixed_with_masquerade() {
    let mut s = Stream::new();
    prelude(&mut s);
    let header = syn(48644, 7);
    let routed = hop(&with_destination(&header, server()));
    let out = with_source(&routed, end("192.168.70.1:36334"));
    s.receive(1, &header, "enp0");
    reduced_to_forward(&mut s, 0xfeed, Some(1), &header);
    s.nft(Nft::rule(0xfeed, "filter", "allowed_dnats", 5, Verdict::Accept).hint(Some(1)));
    s.observe(0xfeed, Some(1), "leave_forward", &routed, (2, 3));
    s.observe(0xfeed, Some(1), "enter_postrouting", &routed, (2, 3));
    s.nft(Nft::policy(0xfeed, "filter", "postrouting", Verdict::Accept).header(&routed, (2, 3)));
    s.nft(Nft::rule(0xfeed, "nat", "postrouting", 5, Verdict::Accept).header(&routed, (2, 3)));
    s.observe(0xfeed, Some(1), "leave_postrouting", &out, (2, 3));
    s.transmit(1, &out, "veth21").end(1);
    let journeys = run(reduced(dport(1222)), &s.events);
    assert_eq!(journeys.len(), 1);
    let mut expected = fixed();
    expected.splice(
        11..11,
        [
            "rule nat postrouting 5 \"masquerade\" accept",
            "snat 10.2.1.2:36334 192.168.70.1:36334 by Rule nat postrouting 5",
        ],
    );
    assert_eq!(told(&journeys[0]), expected);
}

#[test]
fn rules_alone() {
    // Without observers either: only the user's chains tell.
    let mut s = Stream::new();
    s.links().ruleset(listing(1, "drop", 3));
    let header = syn(48644, 7);
    let routed = hop(&with_destination(&header, server()));
    for id in [0xfeed_u32, 0xbeef] {
        s.nft(Nft::rule(id, "nat", "prerouting", 4, Verdict::Accept).header(&header, (2, 0)));
        s.nft(
            Nft::rule(id, "filter", "forward", 7, Verdict::Jump("allowed_dnats".to_owned()))
                .header(&routed, (2, 3)),
        );
        if id == 0xfeed {
            s.nft(Nft::rule(id, "filter", "allowed_dnats", 6, Verdict::Drop));
            continue;
        }
        s.nft(Nft::rule(id, "filter", "allowed_dnats", 5, Verdict::Accept));
        s.nft(
            Nft::new(id, "filter", "postrouting", TraceType::Rule, Verdict::Continue).header(&routed, (2, 3)),
        );
        s.nft(Nft::policy(id, "filter", "postrouting", Verdict::Accept));
    }
    let journeys = run(rules_only(dport(1222)), &s.events);
    assert_eq!(journeys.len(), 2);
    // Nobody tells of devices, of the kernel's drops, or of conntrack.
    let seen = |line: &&str| !["receive enp0", "connection created", DROP].contains(line);
    let expected: Vec<&str> = broken().into_iter().filter(seen).collect();
    assert_eq!(told(&journeys[0]), expected);
    let mut expected: Vec<&str> = fixed().into_iter().filter(seen).collect();
    expected.truncate(expected.len() - 2);
    expected.push("= unfinished: accepted by every rule in postrouting; what came after was not watched");
    assert_eq!(told(&journeys[1]), expected);
}
