//! The bytes of a packet's headers, as far as somebody saw them.

use std::net::IpAddr;

use super::checksum::{add, of_addresses, sum, update};
use super::decode::{AUTH, DESTINATION, FRAGMENT, HOP_BY_HOP, ROUTING, be16};
use super::{Endpoint, Family, Packet, decode, decode_arp, protocol};
use crate::event::TraceMessage;

/// Length of the IPv6 header.
pub(crate) const IPV6: usize = 40;

/// Headers as a trace message brought them, without payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// The link-layer header: of Ethernet where it has 14 bytes; empty where there was none.
    pub link: Vec<u8>,
    /// From the first byte of the network header on, without a gap; never payload.
    pub network: Vec<u8>,
}

impl Headers {
    /// What a message has of them; `None` where it has none, or none of IP or ARP.
    #[must_use]
    pub fn of(message: &TraceMessage) -> Option<Self> {
        let link = message.link_header.clone();
        let mut network = message.network_header.clone();
        if decode_arp(&network).is_some() {
            network.truncate(28);
            return Some(Self { link, network });
        }
        let (number, fragment) = match network.first()? >> 4 {
            4 if network.len() >= 20 => (network[9], be16(&network, 6)? & 0x1fff),
            6 if network.len() >= IPV6 => (network[6], 0),
            _ => return None,
        };
        // The message leaves out what lies between 40 bytes and the transport header: options, extension headers.
        if fragment == 0 && network.len() == header_length(&network)? {
            let length = transport_length(number, &message.transport_header);
            network.extend_from_slice(message.transport_header.get(..length)?);
        }
        Some(Self { link, network })
    }

    /// These headers with another moment's addresses, ports, time to live and type of service, and the checksums that
    /// follow from them; `None` where they are another packet's, or where a checksum would have to be known of the
    /// whole packet (SCTP's, with other ports).
    #[must_use]
    pub fn at_moment_of(&self, packet: &Packet) -> Option<Vec<u8>> {
        let mut bytes = self.network.clone();
        if packet.family == Family::Arp {
            return (decode_arp(&bytes)? == Packet { mark: 0, ..packet.clone() }).then_some(bytes);
        }
        let before = decode(&bytes, packet.length).ok()?;
        let is_same = if has_extensions(&bytes) {
            packet.begins_like(&Packet { protocol: None, ..before.clone() })
        } else {
            before.same_payload(packet)
        };
        if !is_same {
            return None;
        }
        let (from, to) = (ends(&before)?, ends(packet)?);
        let v4 = packet.family == Family::Ipv4;
        let header = header_length(&bytes)?;
        let network_before = if v4 { sum(bytes.get(..20)?) } else { 0 };
        put_addresses(&mut bytes, v4, to);
        if v4 {
            put(&mut bytes, 1, &[packet.tos]);
            put(&mut bytes, 8, &[packet.ttl?]);
            let checksum = update(be16(&bytes, 10)?, network_before, sum(bytes.get(..20)?));
            put(&mut bytes, 10, &checksum.to_be_bytes());
        } else {
            let word = be16(&bytes, 0)? & 0xf00f | u16::from(packet.tos) << 4;
            put(&mut bytes, 0, &word.to_be_bytes());
            put(&mut bytes, 7, &[packet.ttl?]);
        }
        let whole = bytes.len() > header && before.fragment_offset == 0;
        if let Some(number) = packet.protocol.filter(|_| whole) {
            let length = packet.length.checked_sub(u32::try_from(header).ok()?)?;
            put_transport(bytes.get_mut(header..)?, (number, length), (from, to), (&before, packet))?;
        }
        Some(bytes)
    }
}

/// Writes ports, or an echo's identifier, and the checksum that follows.
fn put_transport(
    bytes: &mut [u8],
    (number, length): (u8, u32),
    (from, to): ((Endpoint, Endpoint), (Endpoint, Endpoint)),
    (before, after): (&Packet, &Packet),
) -> Option<()> {
    let sum_before = sum(bytes.get(..bytes.len().min(8))?);
    if protocol::has_ports(number) {
        put(bytes, 0, &to.0.port?.to_be_bytes());
        put(bytes, 2, &to.1.port?.to_be_bytes());
    }
    let id = |packet: &Packet| packet.icmp.and_then(|icmp| icmp.id);
    if let (Some(old), Some(new)) = (id(before), id(after))
        && old != new
    {
        put(bytes, 4, &new.to_be_bytes());
    }
    let sum_after = sum(bytes.get(..bytes.len().min(8))?);
    let (at, with_addresses) = match number {
        protocol::TCP => (16, true),
        protocol::UDP | protocol::UDPLITE | protocol::DCCP => (6, true),
        protocol::ICMP => (2, false),
        protocol::ICMPV6 => (2, true),
        // CRC32c of the whole packet (RFC 9260 §6.8).
        protocol::SCTP => return (sum_before == sum_after).then_some(()),
        _ => return Some(()),
    };
    let checksum = be16(bytes, at)?;
    // None was made (RFC 768).
    if number == protocol::UDP && checksum == 0 {
        return Some(());
    }
    let addresses = |(a, b): (Endpoint, Endpoint)| of_addresses(a.addr, b.addr);
    let (addresses_before, addresses_after) =
        if with_addresses { (addresses(from), addresses(to)) } else { (0, 0) };
    // Until the device makes it, the field has the sum of the pseudo-header alone (`CHECKSUM_PARTIAL`).
    let rest = add(u16::from(number), add((length >> 16) as u16, (length & 0xffff) as u16));
    let updated = if with_addresses && checksum == add(addresses_before, rest) {
        add(addresses_after, rest)
    } else {
        update(checksum, add(sum_before, addresses_before), add(sum_after, addresses_after))
    };
    let updated = if number == protocol::UDP && updated == 0 { 0xffff } else { updated };
    put(bytes, at, &updated.to_be_bytes());
    Some(())
}

/// Makes the checksum of an IPv4 header right again after bytes of it were changed, as far as it was.
pub(crate) fn follow_checksum(header: &mut [u8], before: &[u8]) -> Option<()> {
    let checksum = update(be16(before, 10)?, sum(before), sum(header));
    put(header, 10, &checksum.to_be_bytes());
    Some(())
}

/// Length of an IP header: of IPv6 without extension headers.
pub(super) fn header_length(network: &[u8]) -> Option<usize> {
    match network.first()? >> 4 {
        4 => Some(usize::from(network.first()? & 0xf) * 4),
        6 => Some(IPV6),
        _ => None,
    }
}

/// Whether extension headers come next, which trace messages leave out.
pub(crate) fn has_extensions(network: &[u8]) -> bool {
    let is_extension = |next: &u8| matches!(*next, HOP_BY_HOP | ROUTING | FRAGMENT | AUTH | DESTINATION);
    network.first().is_some_and(|first| first >> 4 == 6) && network.get(6).is_some_and(is_extension)
}

/// How much of these bytes is the protocol's header.
fn transport_length(number: u8, bytes: &[u8]) -> usize {
    let length = match number {
        protocol::TCP => bytes.get(12).map_or(0, |offset| usize::from(offset >> 4) * 4),
        protocol::UDP | protocol::UDPLITE | protocol::ICMP | protocol::ICMPV6 => 8,
        protocol::SCTP | protocol::DCCP => 12,
        _ => 0,
    };
    length.min(bytes.len())
}

fn ends(packet: &Packet) -> Option<(Endpoint, Endpoint)> {
    Some((packet.source?, packet.destination?))
}

fn put_addresses(bytes: &mut [u8], v4: bool, (source, destination): (Endpoint, Endpoint)) {
    let (at, width) = if v4 { (12, 4) } else { (8, 16) };
    for (at, end) in [(at, source), (at + width, destination)] {
        match end.addr {
            IpAddr::V4(addr) => put(bytes, at, &addr.octets()),
            IpAddr::V6(addr) => put(bytes, at, &addr.octets()),
        }
    }
}

pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}
