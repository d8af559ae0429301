//! Bytes of headers: taken out of trace messages, moved to another moment, and made of fields. The judge is etherparse.

use std::net::IpAddr;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use fastrand::Rng;
use nattrace_core::event::{NfFamily, TraceMessage, TraceType};
use nattrace_core::packet::{Endpoint, Family, Headers, Icmp, Packet, decode, encode};

/// What no header has.
const PAYLOAD: [u8; 24] = [0xee; 24];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Echo,
}

const KINDS: [Kind; 3] = [Kind::Tcp, Kind::Udp, Kind::Echo];

fn addresses(rng: &mut Rng, v4: bool) -> (IpAddr, IpAddr) {
    let mut one = || {
        if v4 { IpAddr::from(rng.u32(..).to_be_bytes()) } else { IpAddr::from(rng.u128(..).to_be_bytes()) }
    };
    (one(), one())
}

/// A whole packet with right checksums.
fn packet(rng: &mut Rng, v4: bool, kind: Kind) -> Vec<u8> {
    let bytes = |addr: IpAddr| match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    let (source, destination) = addresses(rng, v4);
    let (source, destination) = (bytes(source), bytes(destination));
    let ip = if v4 {
        PacketBuilder::ipv4(
            source.try_into().expect("a packet"),
            destination.try_into().expect("a packet"),
            rng.u8(1..),
        )
    } else {
        PacketBuilder::ipv6(
            source.try_into().expect("a packet"),
            destination.try_into().expect("a packet"),
            rng.u8(1..),
        )
    };
    let mut whole = Vec::new();
    let (a, b) = (rng.u16(..), rng.u16(..));
    match kind {
        Kind::Tcp => ip.tcp(a, b, rng.u32(..), rng.u16(..)).write(&mut whole, &PAYLOAD),
        Kind::Udp => ip.udp(a, b).write(&mut whole, &PAYLOAD),
        Kind::Echo if v4 => ip.icmpv4_echo_request(a, b).write(&mut whole, &PAYLOAD),
        Kind::Echo => ip.icmpv6_echo_request(a, b).write(&mut whole, &PAYLOAD),
    }
    .expect("a packet");
    whole
}

/// As the kernel cuts it (`nf_trace_fill_pkt_info`, net/netfilter/nf_tables_trace.c, v6.12).
fn message(whole: &[u8]) -> TraceMessage {
    let header = if whole[0] >> 4 == 4 { 20 } else { 40 };
    let mut message = TraceMessage::new(NfFamily::Inet, TraceType::Rule, "t".to_owned(), "c".to_owned());
    message.nfproto = Some(if header == 20 { 2 } else { 10 });
    message.network_header = whole[..header].to_vec();
    message.transport_header = whole[header..whole.len().min(header + 20)].to_vec();
    message
}

/// Whether all checksums of a whole packet are right; of UDP, 0 means none.
fn is_right(whole: &[u8]) -> bool {
    let sliced = SlicedPacket::from_ip(whole).expect("a packet");
    let network = match sliced.net.as_ref().expect("a packet") {
        etherparse::NetSlice::Ipv4(ip) => {
            ip.header().to_header().calc_header_checksum() == ip.header().header_checksum()
        }
        _ => true,
    };
    let (told, calculated) =
        match (sliced.net.as_ref().expect("a packet"), sliced.transport.as_ref().expect("a packet")) {
            (etherparse::NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => (
                tcp.checksum(),
                tcp.to_header().calc_checksum_ipv4(&ip.header().to_header(), &PAYLOAD).expect("a packet"),
            ),
            (etherparse::NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => (
                tcp.checksum(),
                tcp.to_header().calc_checksum_ipv6(&ip.header().to_header(), &PAYLOAD).expect("a packet"),
            ),
            (etherparse::NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => (
                udp.checksum(),
                udp.to_header().calc_checksum_ipv4(&ip.header().to_header(), &PAYLOAD).expect("a packet"),
            ),
            (etherparse::NetSlice::Ipv6(ip), TransportSlice::Udp(udp)) => (
                udp.checksum(),
                udp.to_header().calc_checksum_ipv6(&ip.header().to_header(), &PAYLOAD).expect("a packet"),
            ),
            (_, TransportSlice::Icmpv4(icmp)) => {
                let header = icmp.header();
                (header.checksum, header.icmp_type.calc_checksum(&PAYLOAD))
            }
            (etherparse::NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
                let header = icmp.header();
                let ip = ip.header();
                let calculated = header
                    .icmp_type
                    .calc_checksum(ip.source(), ip.destination(), &PAYLOAD)
                    .expect("a packet");
                (header.checksum, calculated)
            }
            _ => panic!("another protocol"),
        };
    network && told == calculated
}

/// Somewhere else on the packet's way.
fn elsewhere(rng: &mut Rng, packet: &Packet) -> Packet {
    let (source, destination) = addresses(rng, packet.family == Family::Ipv4);
    let mut port = |end: Option<Endpoint>| end.and_then(|end| end.port).map(|_| rng.u16(..));
    let ports = (port(packet.source), port(packet.destination));
    Packet {
        source: Some(Endpoint { addr: source, port: ports.0 }),
        destination: Some(Endpoint { addr: destination, port: ports.1 }),
        icmp: packet.icmp.map(|icmp| Icmp { id: Some(rng.u16(..)), ..icmp }),
        ttl: Some(rng.u8(..)),
        tos: rng.u8(..),
        ..packet.clone()
    }
}

#[test]
fn headers_go_along_without_payload_and_with_right_checksums() {
    let mut rng = Rng::with_seed(7);
    for (round, kind) in (0..3000).zip(KINDS.iter().cycle()) {
        let whole = packet(&mut rng, round % 2 == 0, *kind);
        assert!(is_right(&whole));
        let here = decode(&whole, 0).expect("a packet");
        let headers = Headers::of(&message(&whole)).expect("a packet");
        assert_eq!(headers.network, whole[..whole.len() - PAYLOAD.len()], "the headers, and nothing else");
        assert_eq!(headers.at_moment_of(&here).as_ref(), Some(&headers.network));

        let there = elsewhere(&mut rng, &here);
        let moved = headers.at_moment_of(&there).expect("a packet");
        let moved = [moved.as_slice(), &PAYLOAD].concat();
        assert_eq!(decode(&moved, 0).expect("a packet"), there);
        assert!(is_right(&moved), "{kind:?} {there:?}");

        let another = Packet { ip_id: Some(!here.ip_id.unwrap_or(0)), length: here.length + 1, ..there };
        assert_eq!(headers.at_moment_of(&another), None, "another packet");
    }
}

#[test]
fn a_checksum_that_the_device_makes_stays_the_sum_of_the_pseudo_header() {
    let mut rng = Rng::with_seed(8);
    for round in 0..500 {
        let mut whole = packet(&mut rng, round % 2 == 0, Kind::Tcp);
        let header = if round % 2 == 0 { 20 } else { 40 };
        let pseudo = |whole: &[u8]| {
            let addresses = if header == 20 { &whole[12..20] } else { &whole[8..40] };
            let length = u32::try_from(whole.len() - header).expect("a packet");
            let words = addresses.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
            let mut sum = words.sum::<u32>() + length + 6;
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            u16::try_from(sum).expect("a packet")
        };
        let partial = pseudo(&whole);
        whole[header + 16..header + 18].copy_from_slice(&partial.to_be_bytes());
        let headers = Headers::of(&message(&whole)).expect("a packet");
        let there = elsewhere(&mut rng, &decode(&whole, 0).expect("a packet"));
        let moved = [headers.at_moment_of(&there).expect("a packet").as_slice(), &PAYLOAD].concat();
        let checksum = u16::from_be_bytes([moved[header + 16], moved[header + 17]]);
        assert_eq!(checksum, pseudo(&moved));
    }
}

#[test]
fn what_trace_messages_leave_out_is_not_made_up() {
    let mut rng = Rng::with_seed(9);
    let whole = packet(&mut rng, true, Kind::Udp);
    // 44 bytes of header, of which 40 come.
    let mut options = message(&whole);
    options.network_header[0] = 0x4b;
    options.network_header.resize(40, 1);
    assert_eq!(Headers::of(&options).expect("a packet").network, options.network_header);
    // A later fragment begins with payload.
    let mut fragment = message(&whole);
    fragment.network_header[7] = 1;
    assert_eq!(Headers::of(&fragment).expect("a packet").network, fragment.network_header);
    // What comes behind extension headers.
    let mut extensions = message(&packet(&mut rng, false, Kind::Udp));
    extensions.network_header[6] = 60;
    let headers = Headers::of(&extensions).expect("a packet");
    assert_eq!(headers.network, extensions.network_header);
    let seen = Packet { protocol: None, ..decode(&headers.network, 0).expect("a packet") };
    assert_eq!(headers.at_moment_of(&seen), Some(headers.network.clone()));
    let longer = Packet { length: seen.length + 1, ..seen };
    assert_eq!(headers.at_moment_of(&longer), None);
    // A checksum of the whole packet cannot follow (SCTP).
    let mut sctp = message(&whole);
    sctp.network_header[9] = 132;
    sctp.network_header[3] = 200;
    sctp.transport_header.truncate(12);
    let headers = Headers::of(&sctp).expect("a packet");
    let here = decode(&headers.network, 0).expect("a packet");
    let (source, destination) = addresses(&mut rng, true);
    let end = |end: Option<Endpoint>, addr| end.map(|end| Endpoint { addr, ..end });
    let moved = Packet {
        source: end(here.source, source),
        destination: end(here.destination, destination),
        ..here.clone()
    };
    assert!(headers.at_moment_of(&moved).is_some(), "addresses are not in it");
    assert_eq!(headers.at_moment_of(&elsewhere(&mut rng, &here)), None);
    // No protocol is known whose header ends somewhere.
    let mut unknown = message(&whole);
    unknown.network_header[9] = 50;
    assert_eq!(Headers::of(&unknown).expect("a packet").network, unknown.network_header);
}

#[test]
fn headers_made_of_fields_have_these_fields() {
    let mut rng = Rng::with_seed(10);
    for (round, kind) in (0..3000).zip(KINDS.iter().cycle()) {
        let whole = packet(&mut rng, round % 2 == 0, *kind);
        let mut here = elsewhere(&mut rng, &decode(&whole, 0).expect("a packet"));
        if round % 5 == 0 {
            here.more_fragments = true;
        }
        if round % 7 == 0 {
            here = Packet {
                fragment_offset: 8 * rng.u16(1..1000),
                tcp_flags: None,
                tcp_seq: None,
                tcp_ack: None,
                icmp: None,
                ..here
            };
            let portless = |end: Option<Endpoint>| end.map(|end| Endpoint { port: None, ..end });
            here = Packet { source: portless(here.source), destination: portless(here.destination), ..here };
        }
        let made = encode(&here);
        assert_eq!(decode(&made, 0).expect("a packet"), here);
        if here.family == Family::Ipv4 {
            let (ip, _) = etherparse::Ipv4Header::from_slice(&made).expect("a packet");
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        }
    }
    let nothing = Packet {
        family: Family::Other,
        source: None,
        destination: None,
        ..decode(&packet(&mut rng, true, Kind::Udp), 0).expect("a packet")
    };
    assert_eq!(encode(&nothing), Vec::<u8>::new());
}
