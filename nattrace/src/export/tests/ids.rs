use nattrace_core::journey::{Journey, JourneyId};
use nattrace_core::packet::Packet;

use super::{at, echo, udp, v6};
use crate::export::ids::{Key, TraceId, child_id, span_id, trace_id};
use crate::render::samples::{T0, end, tcp};

const SECOND: u64 = 1_000_000_000;

fn trace(packet: &Packet) -> TraceId {
    trace_id(&at(packet, T0), "edge").0
}

fn key(packet: &Packet) -> Key {
    trace_id(&at(packet, T0), "edge").1
}

/// The next router's view: other addresses, one hop less, other marks.
fn behind_nat(packet: &Packet, source: &str, destination: &str) -> Packet {
    let (source, destination) = (Some(end(source)), Some(end(destination)));
    Packet { source, destination, ttl: Some(63), tos: 8, mark: 7, ..packet.clone() }
}

#[test]
fn nat_and_forwarding_leave_the_trace_as_it_is() {
    let syn = tcp("10.2.1.2:36334", "10.1.2.3:1222", 2);
    let datagram = udp("10.2.1.2:36334", "10.1.2.3:53", 48644);
    let ping = echo("10.2.1.2", "10.1.2.3", 7, 1);
    for (packet, source, destination) in [
        (&syn, "10.2.1.2:36334", "192.168.70.10:22"),
        (&syn, "203.0.113.7:61000", "10.1.2.3:1222"),
        (&datagram, "10.2.1.2:36334", "192.168.70.10:5353"),
        (&datagram, "203.0.113.7:36334", "10.1.2.3:53"),
        (&udp("10.1.2.3:53", "10.2.1.2:36334", 1), "203.0.113.9:5353", "10.2.1.2:36334"),
        (&ping, "203.0.113.7", "192.168.70.10"),
    ] {
        let after = behind_nat(packet, source, destination);
        let there = Journey { id: JourneyId(99), ..at(&after, T0 + 1_000_000) };
        assert_eq!(trace_id(&there, "core").0, trace(packet), "{packet:?}");
    }
    let v6_syn = v6(&tcp("[fd00:2::2]:36334", "[fd00:1::3]:1222", 2));
    let after = behind_nat(&v6_syn, "[fd00:2::2]:36334", "[fd00:70::10]:22");
    assert_eq!(trace(&after), trace(&v6_syn));
}

#[test]
fn another_packet_is_another_trace() {
    let syn = tcp("10.2.1.2:36334", "10.1.2.3:1222", 2);
    let datagram = udp("10.2.1.2:36334", "10.1.2.3:53", 48644);
    let ping = echo("10.2.1.2", "10.1.2.3", 7, 1);
    let mut all = vec![
        syn.clone(),
        Packet { ip_id: Some(48645), ..syn.clone() },
        Packet { tcp_seq: Some(1), ..syn.clone() },
        Packet { tcp_ack: Some(1), ..syn.clone() },
        Packet { tcp_flags: Some(0x12), ..syn.clone() },
        Packet { length: 61, ..syn.clone() },
        Packet { fragment_offset: 1480, ..syn.clone() },
        v6(&syn),
        datagram.clone(),
        Packet { ip_id: Some(48645), ..datagram.clone() },
        Packet { length: 61, ..datagram.clone() },
        Packet { fragment_offset: 1480, ..datagram.clone() },
        udp("10.2.1.2:36335", "10.1.2.3:53", 48644),
        Packet { protocol: Some(132), ..datagram },
        ping.clone(),
        Packet { ip_id: Some(1), ..ping },
        echo("10.2.1.2", "10.1.2.3", 7, 2),
        echo("10.2.1.2", "10.1.2.3", 8, 1),
    ];
    let count = all.len();
    all.sort_by_key(trace);
    all.dedup_by_key(|packet| trace(packet));
    assert_eq!(all.len(), count, "{all:?}");
}

#[test]
fn what_a_trace_is_made_from_is_said() {
    let datagram = udp("10.2.1.2:36334", "10.1.2.3:53", 48644);
    assert_eq!(key(&tcp("10.2.1.2:1", "10.1.2.3:2", 2)), Key::Sequence);
    assert_eq!(key(&v6(&tcp("[fd00::1]:1", "[fd00::2]:2", 2))), Key::Sequence);
    assert_eq!(key(&datagram), Key::Identification);
    assert_eq!(key(&v6(&echo("fd00::1", "fd00::2", 7, 1))), Key::Identification);
    assert_eq!(key(&Packet { ip_id: Some(0), ..datagram.clone() }), Key::Journey);
    assert_eq!(key(&v6(&udp("[fd00::1]:1", "[fd00::2]:2", 0))), Key::Journey);
}

#[test]
fn identifications_count_for_as_long_as_datagrams_live() {
    let (mut parted, mut mixed) = (0, 0);
    for ip_id in 1..=1000 {
        let datagram = udp("10.2.1.2:36334", "10.1.2.3:53", ip_id);
        let trace = |time_ns| trace_id(&at(&datagram, time_ns), "edge").0;
        parted += u32::from(trace(T0) != trace(T0 + SECOND));
        mixed += u32::from(trace(T0) == trace(T0 + 121 * SECOND));
    }
    // A second apart, 1 of 120 is parted; and never are all of them at one moment.
    assert!((1..25).contains(&parted), "{parted}");
    assert_eq!(mixed, 0);
}

#[test]
fn packets_that_nothing_tells_apart_have_traces_of_their_own() {
    let query = v6(&udp("[fd00::1]:36334", "[fd00::2]:53", 0));
    let first = at(&query, T0);
    let second = Journey { id: JourneyId(first.id.0 + 1), ..first.clone() };
    assert_ne!(trace_id(&first, "edge"), trace_id(&second, "edge"));
    assert_ne!(trace_id(&first, "edge"), trace_id(&first, "core"));
    assert_eq!(trace_id(&first, "edge"), trace_id(&first, "edge"));
}

#[test]
fn a_span_is_of_one_journey_of_one_host() {
    let first = at(&tcp("10.2.1.2:1", "10.1.2.3:2", 2), T0);
    let second = Journey { id: JourneyId(first.id.0 + 1), ..first.clone() };
    let later = at(&first.packet, T0 + 1);
    let mut other = first.clone();
    other.netns.inum += 1;
    let own = span_id(&first, "edge");
    for span in
        [span_id(&second, "edge"), span_id(&later, "edge"), span_id(&other, "edge"), span_id(&first, "core")]
    {
        assert_ne!(span, own);
    }
    assert_ne!(child_id(own, 0), child_id(own, 1));
    assert_ne!(child_id(own, 0), own);
}

/// Fleets hold machines with different versions: who changes these changes [`super::super::ids`]'s version, and says so.
#[test]
fn ids_stay_what_they_are() {
    let syn = at(&tcp("10.2.1.2:36334", "10.1.2.3:1222", 2), T0);
    assert_eq!(u128::from_be_bytes(trace_id(&syn, "edge").0), 0x508f_98be_2dd8_4b5e_ccb5_eb1c_9261_7fa2);
    assert_eq!(u64::from_be_bytes(span_id(&syn, "edge")), 0xe96f_97f7_91ef_418f);
    let datagram = at(&udp("10.2.1.2:36334", "10.1.2.3:53", 48644), T0);
    assert_eq!(u128::from_be_bytes(trace_id(&datagram, "edge").0), 0x45a3_1be8_a1ca_7b8b_c98c_73ae_c5e7_c2b2);
}
