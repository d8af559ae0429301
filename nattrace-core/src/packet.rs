//! What one packet looked like at one moment: the decoded headers.

mod checksum;
mod decode;
mod encode;
mod headers;
mod key;

pub use decode::{DecodeError, decode, decode_arp, has_right_checksum};
pub use encode::encode;
pub use headers::Headers;
pub(crate) use headers::follow_checksum;
pub(crate) use headers::{IPV6, has_extensions};
pub(crate) use key::{EndsKey, PayloadKey};

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use bitcode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// The network-layer family of a packet.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode,
)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4, `ETH_P_IP`.
    Ipv4,
    /// IPv6, `ETH_P_IPV6`.
    Ipv6,
    /// ARP, `ETH_P_ARP`.
    Arp,
    /// Any other ethertype: only length and devices are known.
    Other,
}

/// TCP header flags, in the order of RFC 9293 §3.1 from the lowest bit.
pub const TCP_FLAG_NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

/// Names of the flags that are set, lowest bit first.
pub fn tcp_flag_names(flags: u8) -> impl Iterator<Item = &'static str> {
    TCP_FLAG_NAMES.iter().enumerate().filter(move |(bit, _)| flags & (1 << bit) != 0).map(|(_, name)| *name)
}

/// Bits of the TCP flags byte (RFC 9293 §3.1).
pub mod tcp_flag {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 1 << 1;
    /// Reset.
    pub const RST: u8 = 1 << 2;
    /// Push.
    pub const PSH: u8 = 1 << 3;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 1 << 4;
}

/// `IPPROTO_*` numbers that nattrace has names for.
pub mod protocol {
    use std::borrow::Cow;

    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDPLITE: u8 = 136;

    /// The name users type and read, or `None` for a protocol shown by its number.
    #[must_use]
    pub fn name(number: u8) -> Option<&'static str> {
        Some(match number {
            ICMP => "icmp",
            TCP => "tcp",
            UDP => "udp",
            ICMPV6 => "icmpv6",
            SCTP => "sctp",
            2 => "igmp",
            4 => "ipip",
            41 => "ipv6",
            47 => "gre",
            50 => "esp",
            51 => "ah",
            89 => "ospf",
            103 => "pim",
            112 => "vrrp",
            UDPLITE => "udplite",
            _ => return None,
        })
    }

    /// The name, or the number as text.
    #[must_use]
    pub fn name_or_number(number: u8) -> Cow<'static, str> {
        name(number).map_or_else(|| number.to_string().into(), Cow::Borrowed)
    }

    /// Whether the protocol has ports in the first four bytes of its header.
    #[must_use]
    pub fn has_ports(number: u8) -> bool {
        matches!(number, TCP | UDP | SCTP | DCCP | UDPLITE)
    }
}

/// An address with the port of its protocol, where it has one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Encode, Decode,
)]
pub struct Endpoint {
    /// The address.
    pub addr: IpAddr,
    /// The port, host byte order; `None` where the protocol has none.
    pub port: Option<u16>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.addr, self.port) {
            (IpAddr::V4(addr), Some(port)) => write!(f, "{addr}:{port}"),
            (IpAddr::V6(addr), Some(port)) => write!(f, "[{addr}]:{port}"),
            (addr, None) => write!(f, "{addr}"),
        }
    }
}

/// The headers of a packet at one moment. Numbers are in host byte order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Packet {
    /// Network-layer family.
    pub family: Family,
    /// Layer 4 protocol number (`IPPROTO_*`), `None` for non-IP.
    pub protocol: Option<u8>,
    /// Source; `None` for non-IP or a header that was cut short.
    pub source: Option<Endpoint>,
    /// Destination; as `source`.
    pub destination: Option<Endpoint>,
    /// TCP flags byte, bit 0 = FIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<u8>,
    /// TCP sequence number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_seq: Option<u32>,
    /// TCP acknowledgement number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_ack: Option<u32>,
    /// ICMP type and code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
    /// IPv4 total length, or IPv6 payload length + 40: bytes; 0 where it is not known.
    pub length: u32,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// IPv4 identification; `None` for IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_id: Option<u16>,
    /// Fragment offset in bytes; 0 for the first fragment or an unfragmented packet.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fragment_offset: u16,
    /// More fragments follow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_fragments: bool,
    /// Segments that GRO put together, or that GSO will make of it; 0 where it is one packet.
    #[serde(default, skip_serializing_if = "is_zero32")]
    pub segments: u32,
    /// IPv4 type of service, IPv6 traffic class: DSCP and ECN.
    #[serde(default, skip_serializing_if = "is_zero8")]
    pub tos: u8,
    /// `skb->mark`, 0 when unset.
    #[serde(default, skip_serializing_if = "is_zero32")]
    pub mark: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(value: &u16) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero8(value: &u8) -> bool {
    *value == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero32(value: &u32) -> bool {
    *value == 0
}

/// ICMP or ICMPv6 header fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Icmp {
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// Identifier of echo messages: what conntrack uses as the "port".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u16>,
    /// Sequence number of echo messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u16>,
    /// Errors: the packet that the error is about, as far as it is quoted and was copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<Quoted>,
}

/// The packet inside an ICMP error (RFC 792, RFC 4443 §3): what its sender had sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Quoted {
    /// `IPPROTO_*`.
    pub protocol: u8,
    /// Its source.
    pub source: Endpoint,
    /// Its destination.
    pub destination: Endpoint,
}

impl Icmp {
    /// Whether it is an error message, which quotes the packet it is about.
    #[must_use]
    pub fn is_error(&self, protocol: u8) -> bool {
        match protocol {
            protocol::ICMP => matches!(self.kind, 3 | 4 | 5 | 11 | 12),
            protocol::ICMPV6 => self.kind < 128 || self.kind == 137,
            _ => false,
        }
    }
}

impl Packet {
    /// The second packet of a TCP connection: who sends it was sent the first.
    #[must_use]
    pub fn is_syn_ack(&self) -> bool {
        const SYN_ACK: u8 = 0x12;
        const RST: u8 = 0x04;
        self.tcp_flags.is_some_and(|flags| flags & (SYN_ACK | RST) == SYN_ACK)
    }

    /// The protocol's name, or its number as text; the family's name for non-IP.
    #[must_use]
    pub fn protocol_name(&self) -> Cow<'static, str> {
        match self.protocol {
            Some(number) => protocol::name_or_number(number),
            None => match self.family {
                Family::Arp => "arp".into(),
                _ => "other".into(),
            },
        }
    }

    /// Whether it is an ICMP error, which quotes the packet it is about.
    #[must_use]
    pub fn is_icmp_error(&self) -> bool {
        self.icmp.is_some_and(|icmp| self.protocol.is_some_and(|number| icmp.is_error(number)))
    }

    /// Names of the TCP flags that are set, lowest bit first.
    #[must_use]
    pub fn tcp_flag_names(&self) -> Vec<&'static str> {
        tcp_flag_names(self.tcp_flags.unwrap_or(0)).collect()
    }

    /// The length as the IP header tells it: 0 where it is too long for that (GSO beyond 64 KiB), so that
    /// headers alone and headers of a buffer whose length is known compare equal.
    #[must_use]
    pub fn told_length(&self) -> u32 {
        let most = if self.family == Family::Ipv6 { 40 + 0xffff } else { 0xffff };
        if self.length > most { 0 } else { self.length }
    }

    /// Whether it is a part of a datagram.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.fragment_offset != 0 || self.more_fragments
    }

    /// Whether these are the first headers only: of IPv6 behind extension headers that were not kept.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.family == Family::Ipv6 && self.protocol.is_none()
    }

    /// Whether partial headers can be this packet's.
    #[must_use]
    pub fn begins_like(&self, partial: &Self) -> bool {
        let addr = |end: Option<Endpoint>| end.map(|e| e.addr);
        partial.is_partial()
            && self.family == partial.family
            && self.told_length() == partial.told_length()
            && addr(self.source) == addr(partial.source)
            && addr(self.destination) == addr(partial.destination)
    }

    /// Whether `other` can be the same packet seen later: everything that neither NAT nor forwarding changes
    /// is equal (IP id, length, protocol, TCP sequence numbers, ICMP sequence).
    #[must_use]
    pub fn same_payload(&self, other: &Self) -> bool {
        self.family == other.family
            && self.protocol == other.protocol
            && self.ip_id == other.ip_id
            && self.told_length() == other.told_length()
            && self.tcp_seq == other.tcp_seq
            && self.tcp_ack == other.tcp_ack
            && self.tcp_flags == other.tcp_flags
            && self.fragment_offset == other.fragment_offset
            && self.icmp.map(|i| (i.kind, i.code, i.sequence))
                == other.icmp.map(|i| (i.kind, i.code, i.sequence))
    }
}

/// A packet for tests of other rooms.
#[cfg(test)]
pub(crate) fn datagram(source: Endpoint, destination: Endpoint) -> Packet {
    Packet {
        family: Family::Ipv4,
        protocol: Some(protocol::UDP),
        source: Some(source),
        destination: Some(destination),
        tcp_flags: None,
        tcp_seq: None,
        tcp_ack: None,
        icmp: None,
        length: 60,
        ttl: Some(64),
        ip_id: Some(1),
        fragment_offset: 0,
        more_fragments: false,
        segments: 0,
        tos: 0,
        mark: 0,
    }
}
