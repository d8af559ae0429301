//! Which event belongs to which journey: trace ids that are reused, packets that look alike, loopback.

mod common;

use common::*;
use nattrace_core::conntrack::{Direction, State};
use nattrace_core::event::{Event, HookPoint, HookVerdict, Manip, Verdict};
use nattrace_core::journey::{Journey, JourneyId};
use nattrace_core::packet::{Endpoint, Packet};

/// Numbers that look random and are the same in every run (Knuth's MMIX).
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

fn prelude() -> Stream {
    let mut s = Stream::new();
    s.links().own_table().ruleset(listing(1, "drop", 3));
    s
}

/// A forwarded packet in reduced mode up to and with its drop in FORWARD.
fn reduced_drop(s: &mut Stream, id: u32, packet: u64, header: &Packet) {
    let hint = Some(packet);
    let to = with_destination(header, server());
    s.receive(packet, header, "enp0");
    s.nft(Nft::rule(id, "nattrace", "mark", 9, Verdict::Continue).hint(hint).header(header, (2, 0)));
    s.nft(Nft::policy(id, "nattrace", "enter_prerouting", Verdict::Accept).hint(hint));
    s.nft(Nft::rule(id, "nat", "prerouting", 4, Verdict::Accept).hint(hint).header(header, (2, 0)));
    s.observe(id, hint, "leave_prerouting", &to, (2, 0));
    s.observe(id, hint, "enter_forward", &hop(&to), (2, 3));
    s.nft(Nft::policy(id, "filter", "forward", Verdict::Drop).hint(hint).header(&hop(&to), (2, 3)));
    s.dropped(packet, &hop(&to), "NETFILTER_DROP", "nft_do_chain");
}

const REDUCED_DROP: [&str; 9] = [
    "receive enp0",
    "prerouting enp0>- accept",
    "rule nat prerouting 4 \"ip daddr 10.1.2.3 tcp dport 1222 dnat ip to 192.168.70.10:22\" accept",
    "dnat 10.1.2.3:1222 192.168.70.10:22 by Rule nat prerouting 4",
    "route Forward veth21",
    "forward enp0>veth21 drop",
    "policy filter forward drop",
    "drop NETFILTER_DROP nft_do_chain",
    "= dropped by policy filter forward in forward",
];

#[test]
fn messages_of_rules_are_kept_where_they_are_asked_for() {
    let mut s = prelude();
    reduced_drop(&mut s, 0xfeed, 1, &syn(1, 7));
    let asked = nattrace_core::journey::Options { keep_messages: true, ..reduced(dport(1222)) };
    let journeys = run(asked, &s.events);
    let kept: Vec<_> = journeys[0]
        .traced
        .iter()
        .map(|t| (t.message.chain.as_str(), t.iif.as_deref(), t.oif.as_deref(), t.text.is_some()))
        .collect();
    let (enp0, veth21) = (Some("enp0"), Some("veth21"));
    assert_eq!(kept, [("prerouting", enp0, None, true), ("forward", enp0, veth21, false)]);
    assert!(run(reduced(dport(1222)), &s.events)[0].traced.is_empty());
}

#[test]
fn a_retransmission_in_the_same_buffer_has_the_same_trace_id() {
    for pause in [1, 150, 1000] {
        let mut s = prelude();
        reduced_drop(&mut s, 0xfeed, 1, &syn(1, 7));
        s.wait(pause * MS);
        reduced_drop(&mut s, 0xfeed, 2, &syn(2, 7));
        let journeys = run(reduced(dport(1222)), &s.events);
        assert_eq!(journeys.len(), 2, "after {pause} ms");
        for journey in &journeys {
            assert_eq!(told(journey), REDUCED_DROP, "after {pause} ms");
            assert_eq!(journey.trace_ids, [0xfeed]);
        }
        assert_eq!(journeys[1].retransmission_of, Some(journeys[0].id));
        assert!(journeys[1].same_path);
    }
}

#[test]
fn the_next_packet_in_the_same_buffer_is_told_by_entering_again() {
    // Nothing told of the first one's end, and both look the same in every header.
    let mut s = prelude();
    for packet in [1, 2] {
        let header = udp(0);
        s.receive(packet, &header, "enp0");
        for chain in ["enter_prerouting", "leave_prerouting", "enter_input", "leave_input"] {
            s.observe(5, Some(packet), chain, &header, (2, 0));
        }
    }
    let journeys = run(reduced(dport(1222)), &s.events);
    assert_eq!(journeys.len(), 2);
    for journey in &journeys {
        assert_eq!(
            told(journey),
            [
                "receive enp0",
                "prerouting enp0>- accept",
                "route Local -",
                "input enp0>- accept",
                "deliver udp 10.1.2.3:1222",
                "= delivered"
            ]
        );
    }
    // The same where only trace messages tell.
    let messages: Vec<Event> = s.events.iter().filter(|e| e.body.kind().0 != "receive").cloned().collect();
    let journeys = run(rules_only(dport(1222)), &messages);
    assert_eq!(journeys.len(), 2);
    assert!(told(&journeys[1]).last().expect("an end").contains("accepted by every rule in input"));
}

#[test]
fn a_burst_is_evaluated_in_the_order_it_was_received() {
    // The processor receives all before nf_tables sees the first, so the hint is always the last of them.
    let mut s = prelude();
    let header = udp(0);
    for packet in 1..=3 {
        s.receive(packet, &header, "enp0");
    }
    for id in [11, 12, 13] {
        s.nft(Nft::rule(id, "nattrace", "mark", 9, Verdict::Continue).hint(Some(3)).header(&header, (2, 0)));
        s.nft(Nft::policy(id, "nattrace", "enter_prerouting", Verdict::Accept).hint(Some(3)));
    }
    for (packet, id) in [(1, 11), (2, 12), (3, 13)] {
        s.observe(id, Some(3), "enter_forward", &hop(&header), (2, 3));
        s.transmit(packet, &hop(&header), "veth21").end(packet);
    }
    let journeys = run(reduced(dport(1222)), &s.events);
    let ids: Vec<_> = journeys.iter().map(|j| (j.packet_id, j.trace_ids.clone())).collect();
    assert_eq!(ids, [(Some(1), vec![11]), (Some(2), vec![12]), (Some(3), vec![13])]);
    for journey in &journeys {
        assert_eq!(told(journey).last().map(String::as_str), Some("= transmitted veth21"));
    }
}

#[test]
fn packets_of_others_that_are_traced_are_left_out() {
    let mut s = prelude();
    let foreign = with_destination(&udp(3), end("10.1.2.3:53"));
    s.nft(Nft::rule(5, "debug", "pre", 2, Verdict::Continue).header(&foreign, (2, 0)));
    s.nft(Nft::rule(5, "filter", "forward", 7, Verdict::Accept).header(&foreign, (2, 3)));
    s.observe(5, None, "enter_forward", &foreign, (2, 3));
    // The id goes on to a packet that was asked for, and back.
    reduced_drop(&mut s, 5, 1, &syn(1, 7));
    s.nft(Nft::rule(5, "debug", "pre", 2, Verdict::Continue).header(&foreign, (2, 0)));
    s.nft(Nft::rule(5, "filter", "allowed_dnats", 6, Verdict::Drop));
    let journeys = run(reduced(dport(1222)), &s.events);
    assert_eq!(journeys.len(), 1);
    assert_eq!(told(&journeys[0]), REDUCED_DROP);
}

#[test]
fn replies_of_a_followed_connection_are_not_foreign() {
    let replies = |own: bool| {
        let mut s = prelude();
        let header = syn(1, 7);
        s.observe(5, None, "enter_prerouting", &header, (2, 0));
        s.nft(Nft::rule(5, "nat", "prerouting", 4, Verdict::Accept).header(&header, (2, 0)).ct(
            77,
            Direction::Original,
            8,
            0x20,
        ));
        s.wait(MS);
        let reply = answer(&with_destination(&header, server()), 2);
        let (table, chain) = if own { ("nattrace", "follow_prerouting") } else { ("filter", "prerouting") };
        let message = Nft::rule(6, table, chain, 1, Verdict::Accept).header(&reply, (3, 0));
        s.nft(if own { message } else { message.ct(77, Direction::Reply, 2, 0x20) });
        s.nft(Nft::policy(6, "filter", "forward", Verdict::Drop).header(&hop(&reply), (3, 2)));
        s.events
    };
    for own in [true, false] {
        let journeys = run(rules_only(dport(1222)), &replies(own));
        assert_eq!(journeys.len(), 2, "own: {own}");
        // The reply ended; of the first packet no end was seen, so it is told later.
        let end = told(&journeys[0]).pop();
        assert_eq!(end.as_deref(), Some("= dropped by policy filter forward in forward"));
    }
    let mut alone = rules_only(dport(1222));
    alone.follow = false;
    assert_eq!(run(alone, &replies(false)).len(), 1);
    // What was let through one way and dropped the other is named.
    let journeys = run(rules_only(dport(1222)), &replies(false));
    assert_eq!(journeys[0].findings[0].code, "reply-dropped");
}

fn local(header: &Packet) -> Packet {
    let header = with_source(header, end("127.0.0.1:36334"));
    with_destination(&header, end("127.0.0.1:1222"))
}

fn loopback(packets: bool) -> Vec<Event> {
    let mut s = prelude();
    let header = local(&syn(1, 7));
    for chain in ["enter_output", "leave_output", "enter_postrouting", "leave_postrouting"] {
        s.observe(5, None, chain, &header, (0, 1));
    }
    if packets {
        s.transmit(1, &header, "lo").receive(1, &header, "lo");
    }
    for chain in ["enter_prerouting", "leave_prerouting", "enter_input", "leave_input"] {
        s.observe(6, packets.then_some(1), chain, &header, (1, 0));
    }
    s.events
}

#[test]
fn a_packet_over_loopback_is_one_journey() {
    let journeys = run(reduced(dport(1222)), &loopback(true));
    assert_eq!(journeys.len(), 1);
    assert_eq!(
        told(&journeys[0]),
        [
            "route Local lo",
            "output ->lo accept",
            "postrouting ->lo accept",
            "transmit lo",
            "receive lo",
            "prerouting lo>- accept",
            "route Local -",
            "input lo>- accept",
            "deliver tcp 127.0.0.1:1222",
            "= delivered",
        ]
    );
    assert_eq!((journeys[0].packet_id, journeys[0].trace_ids.as_slice()), (Some(1), &[5, 6][..]));
    assert_eq!(journeys[0].iif, None, "it was made here");

    let journeys = run(rules_only(dport(1222)), &loopback(false));
    assert_eq!(journeys.len(), 1);
    assert_eq!(journeys[0].trace_ids, [5, 6]);
    assert_eq!(told(&journeys[0]).len(), 7);
}

#[test]
fn a_packet_through_a_veth_to_a_watched_namespace_is_one_journey() {
    let mut s = Stream::new();
    let header = syn(1, 7);
    let accept = HookVerdict::Accept;
    s.hook(1, &header, HookPoint::Output, (None, Some("eth0")), None);
    s.hook_return(1, Some(&header), HookPoint::Output, accept, None);
    s.transmit(1, &header, "eth0");
    s.netns = 7;
    s.receive(1, &header, "veth0");
    s.hook(1, &header, HookPoint::Prerouting, (Some("veth0"), None), None);
    s.hook_return(1, Some(&header), HookPoint::Prerouting, accept, None);
    s.hook(1, &header, HookPoint::Input, (Some("veth0"), None), None);
    s.hook_return(1, Some(&header), HookPoint::Input, accept, None);
    s.deliver(1, &header, "tcp_v4_rcv");
    let journeys = run(full(dport(1222)), &s.events);
    assert_eq!(journeys.len(), 1);
    assert_eq!((journeys[0].netns.inum, journeys[0].steps.last().map(|s| s.netns)), (RTR, Some(7)));
    assert_eq!(told(&journeys[0]).last().map(String::as_str), Some("= delivered"));
}

#[test]
fn what_only_its_drop_names_is_joined_by_its_headers() {
    let mut s = prelude();
    let header = syn(1, 7);
    s.observe(5, None, "enter_output", &header, (0, 2));
    s.nft(Nft::policy(5, "filter", "output", Verdict::Drop).header(&header, (0, 2)));
    s.dropped(9, &header, "NETFILTER_DROP", "nft_do_chain");
    let journeys = run(reduced(dport(1222)), &s.events);
    assert_eq!(journeys.len(), 1);
    assert_eq!(journeys[0].packet_id, Some(9));
    assert_eq!(
        told(&journeys[0]),
        [
            "route Forward enp0",
            "output ->enp0 drop",
            "policy filter output drop",
            "drop NETFILTER_DROP nft_do_chain",
            "= dropped by policy filter output in output",
        ]
    );
}

/// One packet's events in full mode; what it is rewritten to and where it ends depends on `n`, so that a
/// step of another packet would be noticed.
fn full_stream(n: u64, header: &Packet, start: u64, cpu: u32) -> Vec<Event> {
    let mut s = Stream::at(start, cpu);
    let (id, packet) = (0x1000, n + 1);
    let accept = HookVerdict::Accept;
    let low = u16::try_from(n % 50_000).expect("below 65536");
    let to = Endpoint { port: Some(10_000 + low), ..server() };
    let rewritten = with_destination(header, to);
    s.receive(packet, header, "enp0");
    s.hook(packet, header, HookPoint::Prerouting, (Some("enp0"), None), None);
    s.nft(Nft::rule(id, "nat", "prerouting", 4, Verdict::Accept).packet(packet).header(header, (2, 0)));
    s.rewrite(packet, Manip::Dnat, Direction::Original, header, &rewritten);
    s.hook_return(packet, Some(&rewritten), HookPoint::Prerouting, accept, None);
    if n.is_multiple_of(3) {
        s.hook(packet, &rewritten, HookPoint::Input, (Some("enp0"), None), None);
        s.nft(Nft::rule(id, "filter", "input", n + 100, Verdict::Accept).packet(packet));
        s.hook_return(packet, Some(&rewritten), HookPoint::Input, accept, None);
        s.deliver(packet, &rewritten, "udp_queue_rcv_one_skb");
        return s.events;
    }
    s.hook(packet, &hop(&rewritten), HookPoint::Forward, (Some("enp0"), Some("veth21")), None);
    s.nft(Nft::rule(id, "filter", "forward", n + 100, Verdict::Continue).packet(packet));
    if n % 3 == 1 {
        s.nft(Nft::rule(id, "filter", "forward", 6, Verdict::Drop).packet(packet));
        s.dropped(packet, &hop(&rewritten), "NETFILTER_DROP", "nft_do_chain");
        return s.events;
    }
    s.hook_return(packet, Some(&hop(&rewritten)), HookPoint::Forward, accept, None);
    s.transmit(packet, &hop(&rewritten), "veth21").end(packet);
    s.events
}

/// Plays the streams of several packets at once, each in its own order.
fn interleave(streams: &[Vec<Event>], random: &mut Lcg) -> Vec<Event> {
    let mut queues: Vec<_> = streams.iter().map(|s| s.iter()).collect();
    let mut events = Vec::new();
    while !queues.is_empty() {
        let at = random.below(queues.len());
        match queues[at].next() {
            Some(event) => events.push(event.clone()),
            None => {
                let _ = queues.swap_remove(at);
            }
        }
    }
    events
}

/// Journeys by packet, without what depends on the order they came in.
fn normal(mut journeys: Vec<Journey>) -> Vec<Journey> {
    for journey in &mut journeys {
        journey.id = JourneyId(0);
    }
    journeys.sort_by_key(|j| j.packet_id);
    journeys
}

#[test]
fn a_thousand_packets_of_the_same_shape_are_told_apart() {
    let header = udp(0);
    let streams: Vec<_> = (0..1000).map(|n| full_stream(n, &header, T0, 0)).collect();
    let alone: Vec<Journey> = streams.iter().flat_map(|s| run(full(dport(1222)), s)).collect();
    assert_eq!(alone.len(), 1000);
    let together = run(full(dport(1222)), &interleave(&streams, &mut Lcg(1)));
    assert_eq!(normal(together), normal(alone));
}

#[test]
fn any_interleaving_gives_the_same_journeys() {
    for seed in 0..200 {
        let mut random = Lcg(seed);
        let streams: Vec<_> = (0..24)
            .map(|n| {
                let header = match random.below(3) {
                    0 => udp(0),
                    1 => udp(u16::try_from(n).expect("small")),
                    _ => syn(u16::try_from(n).expect("small"), u32::try_from(n).expect("small")),
                };
                let start = T0 + u64::try_from(random.below(1000)).expect("small") * 1000;
                full_stream(n, &header, start, u32::try_from(random.below(4)).expect("small"))
            })
            .collect();
        let expected = normal(streams.iter().flat_map(|s| run(full(dport(1222)), s)).collect());
        let together = normal(run(full(dport(1222)), &interleave(&streams, &mut random)));
        assert_eq!(together, expected, "seed {seed}");
    }
}

#[test]
fn reduced_packets_on_several_processors_are_told_apart() {
    // On each processor one packet after the other; across processors anyhow. All look the same but for
    // the IP id, and the trace ids of each processor's packets are the same few.
    for seed in 0..50 {
        let mut random = Lcg(seed);
        let processors: Vec<Vec<Event>> = (0..4_u32)
            .map(|cpu| {
                let mut s = Stream::at(T0, cpu);
                for n in 0..20_u16 {
                    let packet = u64::from(cpu) * 100 + u64::from(n) + 1;
                    let header = udp(u16::try_from(cpu).expect("small") * 100 + n + 1);
                    s.wait(u64::try_from(random.below(30)).expect("small") * MS);
                    reduced_drop(&mut s, cpu * 10 + u32::from(n % 2), packet, &header);
                }
                s.events
            })
            .collect();
        let mut all: Vec<Event> = processors.concat();
        all.sort_by_key(|e| (e.time_ns, e.cpu));
        let prelude = prelude().events;
        let mut events = prelude;
        for event in &mut events {
            event.time_ns -= MS;
        }
        events.extend(all);
        let journeys = run(reduced(dport(1222)), &events);
        assert_eq!(journeys.len(), 80, "seed {seed}");
        for journey in &journeys {
            assert_eq!(told(journey), REDUCED_DROP, "seed {seed}");
        }
    }
}

#[test]
fn ids_are_given_in_the_order_of_what_is_shown() {
    let header = udp(0);
    let streams: Vec<_> = (0..50).map(|n| full_stream(n, &header, T0 + n * 100, 0)).collect();
    let mut events = streams.concat();
    events.sort_by_key(|e| e.time_ns);
    let journeys = run(full(dport(1222)), &events);
    let ids: Vec<u64> = journeys.iter().map(|j| j.id.0).collect();
    assert_eq!(ids, (1..=50).collect::<Vec<_>>());
}

#[test]
fn connections_are_joined_by_ctnetlink_where_trace_messages_do_not_tell() {
    use nattrace_core::event::{Body, ConntrackChange, ConntrackEvent};
    let mut s = prelude();
    let header = syn(1, 7);
    let to = with_destination(&header, server());
    s.receive(1, &header, "enp0");
    for (chain, header) in [("enter_prerouting", &header), ("leave_prerouting", &to)] {
        s.observe(5, Some(1), chain, header, (2, 0));
    }
    let mut told_of = connection(Direction::Original, State::New);
    (told_of.key, told_of.id, told_of.direction, told_of.state) = (0, Some(77), None, None);
    let event = ConntrackEvent { change: ConntrackChange::New, connection: told_of };
    s.push(Body::Conntrack(event));
    s.transmit(1, &to, "veth21").end(1);
    let journeys = run(reduced(dport(1222)), &s.events);
    let mine = journeys[0].connection.as_ref().expect("a connection");
    assert_eq!((mine.id, mine.direction), (Some(77), Some(Direction::Original)));
    assert_eq!(mine.reply.map(|t| t.source), Some(server()));
}
