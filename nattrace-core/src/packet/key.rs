//! Ends and headers as plain numbers, for indexes: compared in a few instructions.

use std::net::IpAddr;

use super::{Endpoint, Packet};

/// Two ends, a protocol, and where: equal only when all of these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EndsKey {
    /// Both ports, which of them there are, and the families of the addresses.
    ports: u64,
    source: u128,
    destination: u128,
    /// The namespace and the protocol.
    place: u64,
}

fn bits(addr: IpAddr) -> (u128, u64) {
    match addr {
        IpAddr::V4(addr) => (u128::from(addr.to_bits()), 0),
        IpAddr::V6(addr) => (addr.to_bits(), 1),
    }
}

fn port(port: Option<u16>) -> u64 {
    port.map_or(0, |port| 1 << 16 | u64::from(port))
}

impl EndsKey {
    pub(crate) fn new(netns: u32, protocol: u8, source: Endpoint, destination: Endpoint) -> Self {
        let (from, from_family) = bits(source.addr);
        let (to, to_family) = bits(destination.addr);
        let families = from_family << 1 | to_family;
        Self {
            ports: families << 34 | port(source.port) << 17 | port(destination.port),
            source: from,
            destination: to,
            place: u64::from(netns) << 8 | u64::from(protocol),
        }
    }
}

/// What neither NAT nor forwarding changes: equal for two packets exactly when [`Packet::same_payload`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PayloadKey([u64; 4]);

impl PayloadKey {
    pub(crate) fn of(packet: &Packet) -> Self {
        let byte = |value: Option<u8>| value.map_or(0, |value| 1 << 8 | u64::from(value));
        let word = |value: Option<u32>| value.map_or(0, |value| 1 << 32 | u64::from(value));
        let icmp = packet.icmp.map_or(0, |icmp| {
            1 << 33 | u64::from(icmp.kind) << 25 | u64::from(icmp.code) << 17 | port(icmp.sequence)
        });
        Self([
            word(packet.tcp_seq) << 17 | port(packet.ip_id),
            word(packet.tcp_ack) << 9 | byte(packet.tcp_flags),
            u64::from(packet.told_length()) << 32
                | u64::from(packet.fragment_offset) << 16
                | byte(packet.protocol) << 2
                | packet.family as u64,
            icmp,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Family, Icmp, datagram};

    fn end(addr: &str, port: Option<u16>) -> Endpoint {
        Endpoint { addr: addr.parse().expect("an address"), port }
    }

    #[test]
    fn different_ends_have_different_keys() {
        let ends = [
            end("10.0.0.1", None),
            end("10.0.0.1", Some(0)),
            end("10.0.0.1", Some(1)),
            end("::a00:1", Some(1)),
            end("::a00:1", None),
            end("::ffff:10.0.0.1", Some(1)),
        ];
        let mut keys = std::collections::BTreeSet::new();
        for (netns, protocol) in [(0, 6), (1, 6), (1, 17), (u32::MAX, 0)] {
            for source in ends {
                for destination in ends {
                    assert!(keys.insert(EndsKey::new(netns, protocol, source, destination)));
                }
            }
        }
    }

    #[test]
    fn keys_are_equal_when_payloads_are() {
        let one = datagram(end("10.0.0.1", Some(1)), end("10.0.0.2", Some(2)));
        let icmp = Icmp { kind: 8, code: 0, id: Some(1), sequence: Some(2), about: None };
        let all = [
            one.clone(),
            Packet { ttl: Some(3), mark: 9, source: None, ..one.clone() },
            Packet { family: Family::Ipv6, ..one.clone() },
            Packet { protocol: None, ..one.clone() },
            Packet { protocol: Some(0), ..one.clone() },
            Packet { ip_id: None, ..one.clone() },
            Packet { ip_id: Some(0), ..one.clone() },
            Packet { length: u32::MAX, ..one.clone() },
            Packet { length: 0, ..one.clone() },
            Packet { fragment_offset: 8, ..one.clone() },
            Packet { tcp_seq: Some(u32::MAX), ..one.clone() },
            Packet { tcp_seq: Some(0), ..one.clone() },
            Packet { tcp_ack: Some(u32::MAX), ..one.clone() },
            Packet { tcp_flags: Some(255), ..one.clone() },
            Packet { tcp_flags: Some(0), ..one.clone() },
            Packet { icmp: Some(icmp), ..one.clone() },
            Packet { icmp: Some(Icmp { id: Some(9), ..icmp }), ..one.clone() },
            Packet { icmp: Some(Icmp { sequence: None, ..icmp }), ..one.clone() },
            Packet { icmp: Some(Icmp { code: 255, sequence: Some(u16::MAX), ..icmp }), ..one.clone() },
        ];
        for a in &all {
            for b in &all {
                assert_eq!(PayloadKey::of(a) == PayloadKey::of(b), a.same_payload(b), "{a:?} {b:?}");
            }
        }
    }
}
