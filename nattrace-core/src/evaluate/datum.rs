//! What rules look at.

use std::net::IpAddr;

use super::judge::Moment;
use super::value::{Kind, Value};
use crate::conntrack::{Direction, State, Tuple};
use crate::packet::{Endpoint, Family, protocol};

/// A datum that a rule can look at, and that a journey tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datum {
    /// `ip saddr`, `ip6 saddr`.
    Source(Kind),
    /// `ip daddr`, `ip6 daddr`.
    Destination(Kind),
    /// `tcp sport` and so on; `th sport` for any protocol that has ports.
    SourcePort(Option<u8>),
    /// `tcp dport` and so on.
    DestinationPort(Option<u8>),
    /// `tcp flags`.
    TcpFlags,
    /// `ip protocol`, `ip6 nexthdr`, `meta l4proto`.
    Protocol(Option<Family>),
    /// `meta nfproto`.
    NfProto,
    /// `meta protocol`, `ether type`.
    EtherType,
    /// `ip ttl`, `ip6 hoplimit`.
    Ttl(Family),
    /// `ip length`, `ip6 length` without the header.
    Length(Family),
    /// `meta length`.
    MetaLength,
    /// `ip id`.
    Id,
    /// `ip frag-off`: offset and flags; only whether it is a later fragment is known.
    FragmentOffset,
    /// `icmp type`, `icmpv6 type`.
    IcmpType(u8),
    /// `icmp code`, `icmpv6 code`.
    IcmpCode(u8),
    /// `icmp id`, `icmpv6 id`.
    IcmpId(u8),
    /// `tcp sequence`.
    Sequence,
    /// `tcp ackseq`.
    Acknowledgement,
    /// `iifname`, `iif`.
    DeviceIn,
    /// `oifname`, `oif`.
    DeviceOut,
    /// `meta mark`.
    Mark,
    /// `ct state`.
    CtState,
    /// `ct status`.
    CtStatus,
    /// `ct mark`.
    CtMark,
    /// `ct direction`.
    CtDirection,
    /// `ct zone`.
    CtZone,
    /// `ct original ip saddr` and so on.
    CtAddress(Direction, Way, Kind),
    /// `ct original proto-src` and so on.
    CtPort(Direction, Way),
    /// `ct original protocol`.
    CtProtocol,
    /// `fib daddr type`: known of packets whose route was seen.
    DestinationType,
}

/// Which end of a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// What a packet has of a datum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Value(Value),
    /// The packet has no such header: the expression does not match, whatever it asks for.
    Absent(String),
    Unknown,
}

/// The data that nft names by these words, by the first of them in order.
const NAMES: [(&[&str], Datum); 64] = [
    (&["ct", "state"], Datum::CtState),
    (&["ct", "status"], Datum::CtStatus),
    (&["ct", "mark"], Datum::CtMark),
    (&["ct", "direction"], Datum::CtDirection),
    (&["ct", "zone"], Datum::CtZone),
    (&["ct", "protocol"], Datum::CtProtocol),
    (&["ct", "original", "protocol"], Datum::CtProtocol),
    (&["ct", "original", "ip", "saddr"], Datum::CtAddress(Direction::Original, Way::Source, Kind::Ipv4)),
    (&["ct", "original", "ip", "daddr"], Datum::CtAddress(Direction::Original, Way::Destination, Kind::Ipv4)),
    (&["ct", "reply", "ip", "saddr"], Datum::CtAddress(Direction::Reply, Way::Source, Kind::Ipv4)),
    (&["ct", "reply", "ip", "daddr"], Datum::CtAddress(Direction::Reply, Way::Destination, Kind::Ipv4)),
    (&["ct", "original", "ip6", "saddr"], Datum::CtAddress(Direction::Original, Way::Source, Kind::Ipv6)),
    (
        &["ct", "original", "ip6", "daddr"],
        Datum::CtAddress(Direction::Original, Way::Destination, Kind::Ipv6),
    ),
    (&["ct", "reply", "ip6", "saddr"], Datum::CtAddress(Direction::Reply, Way::Source, Kind::Ipv6)),
    (&["ct", "reply", "ip6", "daddr"], Datum::CtAddress(Direction::Reply, Way::Destination, Kind::Ipv6)),
    (&["ct", "original", "proto-src"], Datum::CtPort(Direction::Original, Way::Source)),
    (&["ct", "original", "proto-dst"], Datum::CtPort(Direction::Original, Way::Destination)),
    (&["ct", "reply", "proto-src"], Datum::CtPort(Direction::Reply, Way::Source)),
    (&["ct", "reply", "proto-dst"], Datum::CtPort(Direction::Reply, Way::Destination)),
    (&["ether", "type"], Datum::EtherType),
    (&["fib", "daddr", "type"], Datum::DestinationType),
    (&["icmp", "type"], Datum::IcmpType(protocol::ICMP)),
    (&["icmp", "code"], Datum::IcmpCode(protocol::ICMP)),
    (&["icmp", "id"], Datum::IcmpId(protocol::ICMP)),
    (&["icmpv6", "type"], Datum::IcmpType(protocol::ICMPV6)),
    (&["icmpv6", "code"], Datum::IcmpCode(protocol::ICMPV6)),
    (&["icmpv6", "id"], Datum::IcmpId(protocol::ICMPV6)),
    (&["iif"], Datum::DeviceIn),
    (&["iifname"], Datum::DeviceIn),
    (&["ip", "saddr"], Datum::Source(Kind::Ipv4)),
    (&["ip", "daddr"], Datum::Destination(Kind::Ipv4)),
    (&["ip", "protocol"], Datum::Protocol(Some(Family::Ipv4))),
    (&["ip", "ttl"], Datum::Ttl(Family::Ipv4)),
    (&["ip", "length"], Datum::Length(Family::Ipv4)),
    (&["ip", "id"], Datum::Id),
    (&["ip", "frag-off"], Datum::FragmentOffset),
    (&["ip6", "saddr"], Datum::Source(Kind::Ipv6)),
    (&["ip6", "daddr"], Datum::Destination(Kind::Ipv6)),
    (&["ip6", "nexthdr"], Datum::Protocol(Some(Family::Ipv6))),
    (&["ip6", "hoplimit"], Datum::Ttl(Family::Ipv6)),
    (&["ip6", "length"], Datum::Length(Family::Ipv6)),
    (&["mark"], Datum::Mark),
    (&["meta", "l4proto"], Datum::Protocol(None)),
    (&["meta", "nfproto"], Datum::NfProto),
    (&["meta", "protocol"], Datum::EtherType),
    (&["meta", "length"], Datum::MetaLength),
    (&["meta", "iifname"], Datum::DeviceIn),
    (&["meta", "iif"], Datum::DeviceIn),
    (&["meta", "oifname"], Datum::DeviceOut),
    (&["meta", "oif"], Datum::DeviceOut),
    (&["meta", "mark"], Datum::Mark),
    (&["oif"], Datum::DeviceOut),
    (&["oifname"], Datum::DeviceOut),
    (&["sctp", "sport"], Datum::SourcePort(Some(protocol::SCTP))),
    (&["sctp", "dport"], Datum::DestinationPort(Some(protocol::SCTP))),
    (&["tcp", "sport"], Datum::SourcePort(Some(protocol::TCP))),
    (&["tcp", "dport"], Datum::DestinationPort(Some(protocol::TCP))),
    (&["tcp", "flags"], Datum::TcpFlags),
    (&["tcp", "sequence"], Datum::Sequence),
    (&["tcp", "ackseq"], Datum::Acknowledgement),
    (&["th", "sport"], Datum::SourcePort(None)),
    (&["th", "dport"], Datum::DestinationPort(None)),
    (&["udp", "sport"], Datum::SourcePort(Some(protocol::UDP))),
    (&["udp", "dport"], Datum::DestinationPort(Some(protocol::UDP))),
];

impl Datum {
    /// The datum at the beginning of these words, and how many they are.
    pub(super) fn named<'w>(words: impl Fn(usize) -> Option<&'w str>) -> Option<(Self, usize)> {
        let first = words(0)?;
        let begins = NAMES.partition_point(|(name, _)| name.first() < Some(&first));
        let these = NAMES.get(begins..)?.iter().take_while(|(name, _)| name.first() == Some(&first));
        these
            .filter(|(name, _)| name.iter().enumerate().all(|(at, part)| words(at) == Some(*part)))
            .max_by_key(|(name, _)| name.len())
            .map(|(name, datum)| (*datum, name.len()))
    }

    /// An address or port of the packet.
    pub(super) fn is_end(self) -> bool {
        matches!(
            self,
            Self::Source(_) | Self::Destination(_) | Self::SourcePort(_) | Self::DestinationPort(_)
        )
    }

    /// How its values are written.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Source(kind) | Self::Destination(kind) | Self::CtAddress(_, _, kind) => kind,
            Self::SourcePort(_) | Self::DestinationPort(_) | Self::CtPort(..) => Kind::Port,
            Self::TcpFlags => Kind::TcpFlags,
            Self::Protocol(_) | Self::CtProtocol => Kind::Protocol,
            Self::NfProto => Kind::NfProto,
            Self::EtherType => Kind::EtherType,
            Self::IcmpType(protocol::ICMP) => Kind::IcmpType,
            Self::IcmpType(_) => Kind::Icmpv6Type,
            Self::DeviceIn | Self::DeviceOut => Kind::Device,
            Self::CtState => Kind::CtState,
            Self::CtStatus => Kind::CtStatus,
            Self::CtDirection => Kind::CtDirection,
            Self::DestinationType => Kind::AddressType,
            Self::Ttl(_)
            | Self::Length(_)
            | Self::MetaLength
            | Self::Id
            | Self::FragmentOffset
            | Self::IcmpCode(_)
            | Self::IcmpId(_)
            | Self::Sequence
            | Self::Acknowledgement
            | Self::Mark
            | Self::CtMark
            | Self::CtZone => Kind::Number,
        }
    }

    /// What the packet has of it at this moment.
    pub(super) fn of(self, moment: &Moment<'_>) -> Found {
        let packet = moment.packet;
        if let Some(absent) = self.absent(moment) {
            return Found::Absent(absent);
        }
        let number = |value: Option<u128>| {
            value.map_or(Found::Unknown, |value| Found::Value(Value::Number(self.kind(), value)))
        };
        let addr = |end: Option<Endpoint>| number(end.map(|end| address(end.addr)));
        let port = |end: Option<Endpoint>| number(end.and_then(|end| end.port).map(u128::from));
        let text = |name: Option<&str>| match name {
            Some(name) => Found::Value(Value::Text(name.to_owned())),
            // An empty name is compared (`nft_meta_store_ifname`, net/netfilter/nft_meta.c; `ip_packet_match`,
            // net/ipv4/netfilter/ip_tables.c; v6.12): `!=` holds.
            None if moment.devices_known => Found::Value(Value::Text(String::new())),
            None => Found::Unknown,
        };
        let connection = moment.connection;
        match self {
            Self::Source(_) => addr(packet.source),
            Self::Destination(_) => addr(packet.destination),
            Self::SourcePort(_) => port(packet.source),
            Self::DestinationPort(_) => port(packet.destination),
            Self::TcpFlags => number(packet.tcp_flags.map(u128::from)),
            Self::Sequence => number(packet.tcp_seq.map(u128::from)),
            Self::Acknowledgement => number(packet.tcp_ack.map(u128::from)),
            Self::Protocol(_) => number(packet.protocol.map(u128::from)),
            Self::NfProto => number(match packet.family {
                Family::Ipv4 => Some(2),
                Family::Ipv6 => Some(10),
                Family::Arp => Some(3),
                Family::Other => None,
            }),
            Self::EtherType => number(match packet.family {
                Family::Ipv4 => Some(0x0800),
                Family::Ipv6 => Some(0x86dd),
                Family::Arp => Some(0x0806),
                Family::Other => None,
            }),
            Self::Ttl(_) => number(packet.ttl.map(u128::from)),
            Self::Length(Family::Ipv6) => number(packet.length.checked_sub(40).map(u128::from)),
            Self::Length(_) | Self::MetaLength => {
                number(Some(u128::from(packet.told_length())).filter(|length| *length > 0))
            }
            Self::Id => number(packet.ip_id.map(u128::from)),
            // The flags share the field, and are not kept.
            Self::FragmentOffset => Found::Unknown,
            Self::IcmpType(_) => number(packet.icmp.map(|icmp| u128::from(icmp.kind))),
            Self::IcmpCode(_) => number(packet.icmp.map(|icmp| u128::from(icmp.code))),
            Self::IcmpId(_) => number(packet.icmp.and_then(|icmp| icmp.id).map(u128::from)),
            Self::DeviceIn => text(moment.iif),
            Self::DeviceOut => text(moment.oif),
            Self::Mark => number(moment.mark.map(u128::from)),
            Self::CtState => number(connection.and_then(|c| c.state).map(state_bit)),
            Self::CtStatus => number(connection.and_then(|c| c.status).map(u128::from)),
            Self::CtMark => number(connection.and_then(|c| c.mark).map(u128::from)),
            Self::CtZone => number(connection.and_then(|c| c.zone).map(u128::from)),
            Self::CtDirection => number(connection.and_then(|c| c.direction).map(|d| match d {
                Direction::Original => 0,
                Direction::Reply => 1,
            })),
            Self::CtProtocol => {
                number(connection.and_then(|c| c.original).map(|tuple| u128::from(tuple.protocol)))
            }
            Self::CtAddress(direction, way, _) => addr(tuple(moment, direction).map(|tuple| way.of(tuple))),
            Self::CtPort(direction, way) => port(tuple(moment, direction).map(|tuple| way.of(tuple))),
            Self::DestinationType => number(moment.destination_type.map(u128::from)),
        }
    }

    /// Why a device's name is empty.
    pub(super) fn without_device(self) -> Option<&'static str> {
        match self {
            Self::DeviceIn => Some("came from this host itself"),
            Self::DeviceOut => Some("has no device out here"),
            _ => None,
        }
    }

    /// Why the packet has no such header: nft puts the check for it before the comparison, without showing it.
    fn absent(self, moment: &Moment<'_>) -> Option<String> {
        let packet = moment.packet;
        let family = |wanted: Family| {
            (packet.family != wanted).then(|| {
                match packet.family {
                    Family::Ipv4 => "is IPv4",
                    Family::Ipv6 => "is IPv6",
                    Family::Arp => "is ARP",
                    Family::Other => "is not IP",
                }
                .to_owned()
            })
        };
        let layer4 = |wanted: Option<u8>| {
            if packet.fragment_offset > 0 {
                return Some("is a later fragment, without ports".to_owned());
            }
            match (packet.protocol, wanted) {
                (Some(number), Some(wanted)) if number != wanted => {
                    Some(format!("is {}", packet.protocol_name()))
                }
                (Some(number), None) if !protocol::has_ports(number) => {
                    Some(format!("is {}, which has no ports", packet.protocol_name()))
                }
                _ => None,
            }
        };
        let of_kind = |kind: Kind| family(if kind == Kind::Ipv4 { Family::Ipv4 } else { Family::Ipv6 });
        match self {
            Self::Source(kind) | Self::Destination(kind) => of_kind(kind),
            Self::SourcePort(number) | Self::DestinationPort(number) => layer4(number),
            Self::TcpFlags | Self::Sequence | Self::Acknowledgement => layer4(Some(protocol::TCP)),
            Self::IcmpType(number) | Self::IcmpCode(number) | Self::IcmpId(number) => layer4(Some(number)),
            Self::Protocol(Some(wanted)) | Self::Ttl(wanted) | Self::Length(wanted) => family(wanted),
            Self::Id | Self::FragmentOffset => family(Family::Ipv4),
            Self::CtStatus | Self::CtMark | Self::CtDirection | Self::CtZone
                if moment.connection.and_then(|c| c.state) == Some(State::Untracked) =>
            {
                Some("is not tracked".to_owned())
            }
            _ => None,
        }
    }
}

impl Way {
    fn of(self, tuple: Tuple) -> Endpoint {
        match self {
            Self::Source => tuple.source,
            Self::Destination => tuple.destination,
        }
    }
}

fn tuple(moment: &Moment<'_>, direction: Direction) -> Option<Tuple> {
    let connection = moment.connection?;
    match direction {
        Direction::Original => connection.original,
        Direction::Reply => connection.reply,
    }
}

fn address(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => u128::from(u32::from(addr)),
        IpAddr::V6(addr) => u128::from(addr),
    }
}

/// `NF_CT_STATE_BIT` and its sisters.
fn state_bit(state: State) -> u128 {
    match state {
        State::Invalid => 1,
        State::Established => 2,
        State::Related => 4,
        State::New => 8,
        State::Untracked => 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order() {
        assert!(NAMES.is_sorted_by_key(|(name, _)| name[0]));
        for (name, datum) in NAMES {
            assert_eq!(Datum::named(|at| name.get(at).copied()), Some((datum, name.len())), "{name:?}");
        }
    }
}
