//! Bytes to headers: IPv4 (RFC 791), IPv6 (RFC 8200), TCP (RFC 9293), UDP (RFC 768), SCTP (RFC 9260),
//! ICMP (RFC 792), ICMPv6 (RFC 4443).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use super::checksum::sum;
use super::{Endpoint, Family, Icmp, Packet, Quoted, protocol};

/// Why bytes are not a packet.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Fewer bytes than the smallest header.
    #[error("{have} bytes of network header, {need} are needed")]
    Short {
        /// Bytes given.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// The version nibble is neither 4 nor 6.
    #[error("IP version {0}")]
    Version(u8),
}

/// Decodes the headers that start at `network`, as many as are there; what is cut short is `None`.
///
/// `length` is used where the header's own length field is 0 (GSO packets beyond 64 KiB).
///
/// # Errors
/// When not even the addresses are there.
pub fn decode(network: &[u8], length: u32) -> Result<Packet, DecodeError> {
    let first = *network.first().ok_or(DecodeError::Short { have: 0, need: 20 })?;
    match first >> 4 {
        4 => decode_ipv4(network, length),
        6 => decode_ipv6(network, length),
        version => Err(DecodeError::Version(version)),
    }
}

/// Decodes ARP for IPv4 over Ethernet (RFC 826): who asks or answers is the source, whom it is about or for the
/// destination. `None` for other ARP, and where it is cut short.
#[must_use]
pub fn decode_arp(bytes: &[u8]) -> Option<Packet> {
    const ETHERNET_AND_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
    const LENGTH: usize = 28;
    if bytes.len() < LENGTH || !bytes.starts_with(&ETHERNET_AND_IPV4) {
        return None;
    }
    let end = |at| Some(Endpoint { addr: IpAddr::V4(Ipv4Addr::from(be32(bytes, at)?)), port: None });
    Some(Packet {
        family: Family::Arp,
        protocol: None,
        source: end(14),
        destination: end(24),
        tcp_flags: None,
        tcp_seq: None,
        tcp_ack: None,
        icmp: None,
        length: u32::try_from(LENGTH).unwrap_or_default(),
        ttl: None,
        ip_id: None,
        fragment_offset: 0,
        more_fragments: false,
        segments: 0,
        tos: 0,
        mark: 0,
    })
}

pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn decode_ipv4(bytes: &[u8], length: u32) -> Result<Packet, DecodeError> {
    let short = DecodeError::Short { have: bytes.len(), need: 20 };
    if bytes.len() < 20 {
        return Err(short);
    }
    let header_len = usize::from(bytes[0] & 0xf) * 4;
    let total = be16(bytes, 2).map_or(0, u32::from);
    let fragment = be16(bytes, 6).map_or(0, |f| (f & 0x1fff) * 8);
    let addr = |at: usize| be32(bytes, at).map(|a| IpAddr::V4(Ipv4Addr::from(a)));
    let mut packet = Packet {
        family: Family::Ipv4,
        protocol: Some(bytes[9]),
        source: addr(12).map(|addr| Endpoint { addr, port: None }),
        destination: addr(16).map(|addr| Endpoint { addr, port: None }),
        tcp_flags: None,
        tcp_seq: None,
        tcp_ack: None,
        icmp: None,
        length: if total == 0 { length } else { total },
        ttl: Some(bytes[8]),
        ip_id: be16(bytes, 4),
        fragment_offset: fragment,
        // MF (RFC 791, section 3.1).
        more_fragments: be16(bytes, 6).is_some_and(|f| f & 0x2000 != 0),
        segments: 0,
        tos: bytes[1],
        mark: 0,
    };
    if fragment == 0 {
        decode_transport(&mut packet, bytes.get(header_len..).unwrap_or_default());
    }
    Ok(packet)
}

/// Extension headers that are skipped to find the transport header (RFC 8200 §4).
pub(super) const HOP_BY_HOP: u8 = 0;
pub(super) const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const AUTH: u8 = 51;
pub(super) const DESTINATION: u8 = 60;

fn decode_ipv6(bytes: &[u8], length: u32) -> Result<Packet, DecodeError> {
    if bytes.len() < 40 {
        return Err(DecodeError::Short { have: bytes.len(), need: 40 });
    }
    let addr = |at: usize| {
        bytes
            .get(at..at + 16)
            .and_then(|a| <[u8; 16]>::try_from(a).ok())
            .map(|a| IpAddr::V6(Ipv6Addr::from(a)))
    };
    let payload = be16(bytes, 4).map_or(0, u32::from);
    let (mut next, mut at, mut fragment, mut more) = (bytes[6], 40, 0, false);
    while let Some(&following) = bytes.get(at) {
        let len = match next {
            HOP_BY_HOP | ROUTING | DESTINATION => bytes.get(at + 1).map_or(8, |l| (usize::from(*l) + 1) * 8),
            AUTH => bytes.get(at + 1).map_or(8, |l| (usize::from(*l) + 2) * 4),
            FRAGMENT => {
                fragment = be16(bytes, at + 2).map_or(0, |f| f & !7);
                // M (RFC 8200, section 4.5).
                more = be16(bytes, at + 2).is_some_and(|f| f & 1 != 0);
                8
            }
            _ => break,
        };
        next = following;
        at += len;
    }
    let mut packet = Packet {
        family: Family::Ipv6,
        protocol: Some(next),
        source: addr(8).map(|addr| Endpoint { addr, port: None }),
        destination: addr(24).map(|addr| Endpoint { addr, port: None }),
        tcp_flags: None,
        tcp_seq: None,
        tcp_ack: None,
        icmp: None,
        length: if payload == 0 { length } else { payload + 40 },
        ttl: Some(bytes[7]),
        ip_id: None,
        fragment_offset: fragment,
        more_fragments: more,
        segments: 0,
        tos: be16(bytes, 0).map_or(0, |word| (word >> 4 & 0xff) as u8),
        mark: 0,
    };
    if fragment == 0 {
        decode_transport(&mut packet, bytes.get(at..).unwrap_or_default());
    }
    Ok(packet)
}

fn decode_transport(packet: &mut Packet, bytes: &[u8]) {
    let Some(number) = packet.protocol else { return };
    if protocol::has_ports(number)
        && let (Some(source), Some(destination)) = (&mut packet.source, &mut packet.destination)
    {
        source.port = be16(bytes, 0);
        destination.port = be16(bytes, 2);
    }
    match number {
        protocol::TCP => {
            packet.tcp_seq = be32(bytes, 4);
            packet.tcp_ack = be32(bytes, 8);
            packet.tcp_flags = bytes.get(13).copied();
        }
        protocol::ICMP | protocol::ICMPV6 => {
            if let (Some(&kind), Some(&code)) = (bytes.first(), bytes.get(1)) {
                let echo = match number {
                    protocol::ICMP => matches!(kind, 0 | 8),
                    _ => matches!(kind, 128 | 129),
                };
                let mut icmp = Icmp {
                    kind,
                    code,
                    id: be16(bytes, 4).filter(|_| echo),
                    sequence: be16(bytes, 6).filter(|_| echo),
                    about: None,
                };
                if icmp.is_error(number) {
                    icmp.about = quoted(bytes.get(8..).unwrap_or_default());
                }
                packet.icmp = Some(icmp);
            }
        }
        _ => {}
    }
}

/// What an error is about; nothing where the ports of a protocol that has some are missing. An error about an error
/// is not sent (RFC 1122 §3.2.2), so this goes no deeper.
fn quoted(bytes: &[u8]) -> Option<Quoted> {
    let inner = decode(bytes, 0).ok()?;
    let (protocol, source, destination) = (inner.protocol?, inner.source?, inner.destination?);
    let whole = !protocol::has_ports(protocol) || source.port.is_some() && destination.port.is_some();
    whole.then_some(Quoted { protocol, source, destination })
}

/// Whether the checksum of an IPv4 header is right (RFC 1071); `None` where there is no whole one.
#[must_use]
pub fn has_right_checksum(network: &[u8]) -> Option<bool> {
    let first = *network.first()?;
    let header = network.get(..usize::from(first & 0xf) * 4)?;
    if first >> 4 != 4 || header.len() < 20 {
        return None;
    }
    Some(sum(header) == 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_an_ipv4_header_is_checked() {
        // From RFC 1071's usual example: 45 00 00 73 …, checksum b861.
        let header: Vec<u8> =
            vec![0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 17, 0xb8, 0x61, 192, 168, 0, 1, 192, 168, 0, 199];
        assert_eq!(has_right_checksum(&header), Some(true));
        let mut spoiled = header.clone();
        spoiled[11] ^= 1;
        assert_eq!(has_right_checksum(&spoiled), Some(false));
        assert_eq!(has_right_checksum(&header[..19]), None);
        assert_eq!(has_right_checksum(&[0x60; 40]), None);
    }

    #[test]
    fn arp_of_ipv4_is_decoded() {
        let mut bytes =
            vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 3, 0, 2, 0, 0, 0, 0, 0, 0, 10, 3, 0, 1];
        let packet = decode_arp(&bytes).expect("a request");
        let addr = |end: Option<Endpoint>| end.map(|end| end.addr.to_string());
        assert_eq!((packet.family, packet.protocol), (Family::Arp, None));
        assert_eq!(addr(packet.source).as_deref(), Some("10.3.0.2"));
        assert_eq!(addr(packet.destination).as_deref(), Some("10.3.0.1"));
        assert_eq!(decode_arp(&bytes[..27]), None);
        bytes[4] = 8;
        assert_eq!(decode_arp(&bytes), None, "other link addresses");
    }

    #[test]
    fn tcp_over_ipv4_with_options_is_read_behind_them() {
        let mut bytes = vec![0x46, 0, 0, 64, 0xbe, 0x04, 0x40, 0, 63, 6, 0, 0, 10, 2, 1, 2, 10, 1, 2, 3];
        bytes.extend([1, 1, 1, 0]);
        bytes.extend([0x8d, 0xee, 0x04, 0xc6, 0, 0, 0, 7, 0, 0, 0, 0, 0xa0, 0x02]);
        let packet = decode(&bytes, 64).expect("a packet");
        assert_eq!(packet.source.expect("source").to_string(), "10.2.1.2:36334");
        assert_eq!(packet.destination.expect("destination").to_string(), "10.1.2.3:1222");
        assert_eq!(packet.tcp_flag_names(), ["syn"]);
        assert_eq!((packet.tcp_seq, packet.ip_id, packet.ttl), (Some(7), Some(0xbe04), Some(63)));
    }

    #[test]
    fn later_fragments_have_no_ports() {
        let mut bytes = vec![0x45, 0, 0, 40, 0, 1, 0x20, 185, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        bytes.extend([0xff; 20]);
        let packet = decode(&bytes, 40).expect("a packet");
        assert_eq!(packet.fragment_offset, 1480);
        assert_eq!(packet.source.expect("source").port, None);
    }

    #[test]
    fn ipv6_extension_headers_are_skipped() {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 16, 0, 64];
        bytes.extend(Ipv6Addr::LOCALHOST.octets());
        bytes.extend(Ipv6Addr::LOCALHOST.octets());
        bytes.extend([17, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([0x04, 0xc6, 0, 22, 0, 8, 0, 0]);
        let packet = decode(&bytes, 56).expect("a packet");
        assert_eq!(packet.protocol, Some(protocol::UDP));
        assert_eq!(packet.destination.expect("destination").to_string(), "[::1]:22");
    }

    #[test]
    fn an_error_quotes_the_packet_it_is_about() {
        let mut bytes = vec![0x45, 0, 0, 56, 0, 1, 0, 0, 64, 1, 0, 0, 192, 168, 70, 10, 10, 2, 1, 2];
        bytes.extend([3, 3, 0, 0, 0, 0, 0, 0]);
        bytes.extend([0x45, 0, 0, 34, 0, 7, 0, 0, 63, 17, 0, 0, 10, 2, 1, 2, 192, 168, 70, 10]);
        bytes.extend([0x9c, 0x4b, 0, 22, 0, 14, 0, 0]);
        let about = decode(&bytes, 56).expect("a packet").icmp.expect("icmp").about.expect("a quotation");
        assert_eq!(about.source.to_string(), "10.2.1.2:40011");
        assert_eq!(about.destination.to_string(), "192.168.70.10:22");
        let cut = decode(&bytes[..40], 56).expect("a packet").icmp.expect("icmp");
        assert_eq!((cut.kind, cut.about), (3, None));
    }

    #[test]
    fn anything_at_all_is_survived() {
        for len in 0..64 {
            for first in [0x00, 0x45, 0x4f, 0x60, 0xff] {
                let mut bytes = vec![0xff; len];
                if let Some(byte) = bytes.first_mut() {
                    *byte = first;
                }
                let _ = decode(&bytes, 0);
            }
        }
    }
}
