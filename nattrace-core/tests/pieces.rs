//! Packets that leave in pieces, headers that are only half there, and drops behind the last chain.

mod common;

use common::*;
use nattrace_core::event::Event;
use nattrace_core::filter::Filter;
use nattrace_core::journey::{Journey, Options};
use nattrace_core::packet::Packet;

fn ends(journeys: &[Journey]) -> Vec<String> {
    journeys.iter().map(|j| told(j).pop().expect("an end")).collect()
}

/// What trace messages alone tell of a packet that this host sends.
fn sent(s: &mut Stream, header: &Packet) {
    for chain in ["enter_output", "leave_output", "enter_postrouting", "leave_postrouting"] {
        s.observe(9, None, chain, header, (0, 3));
    }
}

fn run_reduced(s: &Stream) -> Vec<Journey> {
    run(reduced(Filter::default()), &s.events)
}

#[test]
fn a_packet_that_left_in_fragments_was_transmitted() {
    let whole = Packet { length: 4028, ..udp(77) };
    let first = Packet { length: 1500, ..whole.clone() };
    let mut later = Packet { length: 1500, fragment_offset: 1480, ..whole.clone() };
    for end in [&mut later.source, &mut later.destination].into_iter().flatten() {
        end.port = None;
    }
    for pieces in [[&first, &later], [&later, &first]] {
        let mut s = Stream::new();
        s.links().own_table();
        sent(&mut s, &whole);
        for (packet, piece) in [(1, pieces[0]), (2, pieces[1])] {
            s.transmit(packet, piece, "veth21");
        }
        assert_eq!(ends(&run_reduced(&s)), ["= transmitted veth21"; 3]);
    }
    // Another datagram between the same ends is no piece.
    let mut s = Stream::new();
    s.links().own_table();
    sent(&mut s, &whole);
    s.transmit(1, &Packet { ip_id: Some(78), ..first }, "veth21");
    let ends = ends(&run_reduced(&s));
    assert!(ends.iter().any(|end| end.starts_with("= unfinished")), "{ends:?}");
}

#[test]
fn segments_of_a_packet_whose_length_no_header_tells() {
    // Beyond 64 KiB the header's length is 0; the device makes two segments of it.
    let whole = Packet { length: 0, ..syn(5, 1000) };
    let mut s = Stream::new();
    s.links().own_table();
    sent(&mut s, &whole);
    s.transmit(1, &Packet { length: 47_668, ..syn(5, 1000) }, "veth21");
    s.transmit(2, &Packet { length: 20_020, ..syn(6, 48_616) }, "veth21");
    assert_eq!(ends(&run_reduced(&s)), ["= transmitted veth21"; 3]);

    // Or takes it whole: then it is one packet, and its length is the buffer's.
    let mut s = Stream::new();
    s.links().own_table();
    sent(&mut s, &whole);
    s.transmit(1, &Packet { length: 67_000, ..whole }, "veth21");
    let journeys = run_reduced(&s);
    assert_eq!(ends(&journeys), ["= transmitted veth21"]);
    assert_eq!(journeys[0].packet.length, 67_000);
}

#[test]
fn a_drop_behind_the_last_chain_is_the_hook_s() {
    // Conntrack's confirmation comes after every chain: the hook did not accept the packet.
    let header = syn(1, 7);
    let mut s = Stream::new();
    s.links().own_table();
    sent(&mut s, &header);
    s.dropped(1, &header, "NETFILTER_DROP", "nf_hook_slow");
    let journeys = run_reduced(&s);
    assert_eq!(journeys.len(), 1);
    let told = told(&journeys[0]);
    assert!(told.contains(&"postrouting ->veth21 drop".to_owned()), "{told:#?}");
    assert_eq!(
        told.last().map(String::as_str),
        Some("= dropped by kernel NETFILTER_DROP nf_hook_slow in postrouting")
    );
}

/// A recorded connection with a reply, told again with another filter.
fn replayed(events: &[Event], filter: Filter, follow: bool) -> usize {
    run(Options { narrowed: Some(filter), follow, ..reduced(Filter::default()) }, events).len()
}

#[test]
fn a_replay_selects_by_its_own_filter() {
    let (request, mut s) = (udp(1), Stream::new());
    s.receive(1, &request, "enp0").transmit(1, &request, "veth21").end(1);
    let reply = answer(&request, 2);
    s.receive(2, &reply, "veth21").transmit(2, &reply, "enp0").end(2);
    let port = request.destination.and_then(|end| end.port).expect("a port");
    for (filter, follow, expected) in [
        (Filter::default(), true, 2),
        (dport(port), true, 2),
        (dport(port), false, 1),
        (dport(port + 1), true, 0),
        (Filter { protocols: vec![6], ..Filter::default() }, true, 0),
        (Filter { iif: vec!["veth21".to_owned()], ..Filter::default() }, false, 1),
        (Filter { iif: vec!["lo".to_owned()], ..Filter::default() }, true, 0),
    ] {
        assert_eq!(replayed(&s.events, filter.clone(), follow), expected, "{filter:?}");
    }
}

#[test]
fn a_reply_does_not_pass_for_the_packet_whose_device_was_asked_for() {
    let (request, mut s) = (udp(1), Stream::new());
    s.receive(1, &request, "enp0").transmit(1, &request, "veth21").end(1);
    let reply = answer(&request, 2);
    s.receive(2, &reply, "veth21").transmit(2, &reply, "enp0").end(2);
    let port = request.destination.and_then(|end| end.port).expect("a port");
    for (oif, expected) in [("veth21", 2), ("enp0", 0)] {
        let filter = Filter { oif: vec![oif.to_owned()], ..dport(port) };
        assert_eq!(run(reduced(filter), &s.events).len(), expected, "{oif}");
    }
}
