//! Headers to bytes, where nobody saw the bytes: the inverse of [`decode`](super::decode).

use std::net::IpAddr;

use super::checksum::sum;
use super::decode::FRAGMENT;
use super::headers::{IPV6, put};
use super::{Endpoint, Family, Icmp, Packet, protocol};

/// Next header of IPv6 where none is known (RFC 8200 §4.7).
const NO_NEXT_HEADER: u8 = 59;

/// The bytes of headers of which only the fields are known, without payload. The checksum of an IPv4 header is right.
/// What fields do not tell is 0, or as small as can be: checksums behind the network header, TCP's window and options
/// and so its header's length, flags of IPv4 other than "more fragments", IPv6's flow label, a fragment's identification
/// there and its extension headers; of ARP, operation and link-layer addresses. Nothing where not even the family is known.
#[must_use]
pub fn encode(packet: &Packet) -> Vec<u8> {
    let (Some(source), Some(destination)) = (packet.source, packet.destination) else { return Vec::new() };
    match (packet.family, source.addr, destination.addr) {
        (Family::Ipv4, IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut bytes = vec![0; 20];
            bytes[0] = 0x45;
            bytes[1] = packet.tos;
            put(&mut bytes, 2, &told(packet.told_length()));
            put(&mut bytes, 4, &packet.ip_id.unwrap_or(0).to_be_bytes());
            let fragment = (packet.fragment_offset / 8) | (u16::from(packet.more_fragments) << 13);
            put(&mut bytes, 6, &fragment.to_be_bytes());
            bytes[8] = packet.ttl.unwrap_or(0);
            bytes[9] = packet.protocol.unwrap_or(0);
            put(&mut bytes, 12, &from.octets());
            put(&mut bytes, 16, &to.octets());
            let checksum = !sum(&bytes);
            put(&mut bytes, 10, &checksum.to_be_bytes());
            bytes.extend(transport(packet, 20));
            bytes
        }
        (Family::Ipv6, IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut bytes = vec![0; IPV6];
            put(&mut bytes, 0, &(0x6000 | u16::from(packet.tos) << 4).to_be_bytes());
            put(&mut bytes, 4, &told(packet.told_length().saturating_sub(40)));
            let number = packet.protocol.unwrap_or(NO_NEXT_HEADER);
            bytes[6] = if packet.is_fragment() { FRAGMENT } else { number };
            bytes[7] = packet.ttl.unwrap_or(0);
            put(&mut bytes, 8, &from.octets());
            put(&mut bytes, 24, &to.octets());
            if packet.is_fragment() {
                let at = packet.fragment_offset & !7 | u16::from(packet.more_fragments);
                bytes.extend([number, 0]);
                bytes.extend(at.to_be_bytes());
                bytes.extend([0; 4]);
            }
            let before = bytes.len();
            bytes.extend(transport(packet, before));
            bytes
        }
        (Family::Arp, IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut bytes = vec![0; 28];
            put(&mut bytes, 0, &[0, 1, 8, 0, 6, 4]);
            put(&mut bytes, 14, &from.octets());
            put(&mut bytes, 24, &to.octets());
            bytes
        }
        _ => Vec::new(),
    }
}

/// The transport header, as far as its fields are known: nothing behind a later fragment's header, or of other protocols.
fn transport(packet: &Packet, before: usize) -> Vec<u8> {
    let port = |end: Option<Endpoint>| end.and_then(|end| end.port);
    let (number, ports) = (packet.protocol, (port(packet.source), port(packet.destination)));
    let header = match (number, ports) {
        (Some(protocol::TCP), (Some(from), Some(to))) => {
            let mut bytes = vec![0; 20];
            put(&mut bytes, 0, &from.to_be_bytes());
            put(&mut bytes, 2, &to.to_be_bytes());
            put(&mut bytes, 4, &packet.tcp_seq.unwrap_or(0).to_be_bytes());
            put(&mut bytes, 8, &packet.tcp_ack.unwrap_or(0).to_be_bytes());
            bytes[12] = 5 << 4;
            bytes[13] = packet.tcp_flags.unwrap_or(0);
            bytes
        }
        (
            Some(protocol::UDP | protocol::UDPLITE | protocol::SCTP | protocol::DCCP),
            (Some(from), Some(to)),
        ) => {
            let short = matches!(number, Some(protocol::UDP | protocol::UDPLITE));
            let mut bytes = vec![0; if short { 8 } else { 12 }];
            put(&mut bytes, 0, &from.to_be_bytes());
            put(&mut bytes, 2, &to.to_be_bytes());
            if number == Some(protocol::UDP) && !packet.is_fragment() {
                let before = u32::try_from(before).unwrap_or_default();
                put(&mut bytes, 4, &told(packet.told_length().saturating_sub(before)));
            }
            bytes
        }
        (Some(protocol::ICMP | protocol::ICMPV6), _) => packet.icmp.map(icmp).unwrap_or_default(),
        _ => Vec::new(),
    };
    // A length of 0 is one that is not known.
    let fits =
        packet.length == 0 || u32::try_from(before + header.len()).is_ok_and(|end| end <= packet.length);
    if packet.fragment_offset == 0 && fits { header } else { Vec::new() }
}

fn icmp(icmp: Icmp) -> Vec<u8> {
    let mut bytes = vec![icmp.kind, icmp.code, 0, 0];
    bytes.extend(icmp.id.unwrap_or(0).to_be_bytes());
    bytes.extend(icmp.sequence.unwrap_or(0).to_be_bytes());
    bytes
}

/// A length as headers tell it: 0 where it is too long for that.
fn told(length: u32) -> [u8; 2] {
    u16::try_from(length).unwrap_or(0).to_be_bytes()
}
