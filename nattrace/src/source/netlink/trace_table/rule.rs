//! Rules in two forms at once: the expressions that the kernel takes and the text that a person reads.
//! Both come from the same call, so that `--dry-run` cannot say one thing and the kernel do another.

use std::net::IpAddr;
use std::os::fd::RawFd;

use nattrace_core::filter::{Masked, PortRange, Prefix};
use nattrace_core::packet::{TCP_FLAG_NAMES, protocol};

use super::expression::{Base, Expression, Register, Verdict};
use crate::source::netlink::constants as c;

/// Which end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

impl End {
    fn letter(self) -> char {
        match self {
            Self::Source => 's',
            Self::Destination => 'd',
        }
    }
}

/// Which device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Device {
    In,
    Out,
}

/// The address families that packets are matched in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IpVersion {
    V4,
    V6,
}

impl IpVersion {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn number(self) -> u8 {
        match self {
            Self::V4 => 2,
            Self::V6 => 10,
        }
    }

    fn keyword(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    /// Bytes of an address.
    fn width(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// Offset of an address in the header.
    fn offset(self, end: End) -> u32 {
        match (self, end) {
            (Self::V4, End::Source) => 12,
            (Self::V4, End::Destination) => 16,
            (Self::V6, End::Source) => 8,
            (Self::V6, End::Destination) => 24,
        }
    }

    /// The echo protocol of this version.
    pub(super) fn icmp(self) -> u8 {
        match self {
            Self::V4 => protocol::ICMP,
            Self::V6 => protocol::ICMPV6,
        }
    }
}

/// Where a packet's protocol keeps what conntrack calls ports (net/netfilter/nf_conntrack_core.c
/// `nf_ct_get_tuple`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortKind {
    /// The first four bytes.
    Ports,
    /// Echo identifier; type and code.
    Icmp,
    /// Nowhere: 0.
    None,
}

/// A set as rules refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SetRef {
    pub(super) name: &'static str,
    /// Number within the transaction, by which the kernel finds a set that is not committed yet.
    pub(super) id: u32,
}

impl SetRef {
    fn lookup(self, inverted: bool) -> Expression {
        Expression::Lookup { set: self.name.to_owned(), set_id: self.id, from: 0, inverted }
    }
}

/// A rule under construction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) expressions: Vec<Expression>,
    pub(super) text: String,
}

impl Rule {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn say(mut self, text: &str) -> Self {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(text);
        self
    }

    fn then(mut self, expressions: impl IntoIterator<Item = Expression>) -> Self {
        self.expressions.extend(expressions);
        self
    }

    /// Everything `other` asks for, too.
    pub(super) fn and(self, other: &Self) -> Self {
        if other.text.is_empty() {
            self
        } else {
            self.say(&other.text).then(other.expressions.iter().cloned())
        }
    }

    /// `meta nfproto`.
    fn version(self, version: IpVersion) -> Self {
        self.then([
            Expression::Meta { key: c::NFT_META_NFPROTO, to: 0 },
            Expression::Equal { from: 0, value: vec![version.number()] },
        ])
    }

    /// `meta l4proto`, one protocol.
    pub(super) fn protocol(self, number: u8) -> Self {
        self.say(&format!("meta l4proto {}", protocol_name(number))).then([
            Expression::Meta { key: c::NFT_META_L4PROTO, to: 0 },
            Expression::Equal { from: 0, value: vec![number] },
        ])
    }

    /// `meta l4proto`, any of a set.
    pub(super) fn protocol_in(self, set: SetRef) -> Self {
        self.say(&format!("meta l4proto @{}", set.name))
            .then([Expression::Meta { key: c::NFT_META_L4PROTO, to: 0 }, set.lookup(false)])
    }

    /// `meta l4proto`, none of a set.
    pub(super) fn protocol_not_in(self, set: SetRef) -> Self {
        self.say(&format!("meta l4proto != @{}", set.name))
            .then([Expression::Meta { key: c::NFT_META_L4PROTO, to: 0 }, set.lookup(true)])
    }

    /// Echo requests and replies: types 8 and 0, or 128 and 129.
    pub(super) fn echo(self, version: IpVersion) -> Self {
        let (mask, value) = match version {
            IpVersion::V4 => (0xf7_u8, 0_u8),
            IpVersion::V6 => (0xfe, 0x80),
        };
        self.protocol(version.icmp()).say(&format!("@th,0,8 & {mask:#x} == {value:#x}")).then([
            Expression::Payload { base: Base::Transport, offset: 0, length: 1, to: 0 },
            Expression::Mask { register: 0, mask: vec![mask] },
            Expression::Equal { from: 0, value: vec![value] },
        ])
    }

    /// `ip saddr 10.0.0.0/8`: any length of prefix.
    pub(super) fn address(self, end: End, prefix: &Prefix) -> Self {
        let (version, octets) = match prefix.addr {
            IpAddr::V4(addr) => (IpVersion::V4, addr.octets().to_vec()),
            IpAddr::V6(addr) => (IpVersion::V6, addr.octets().to_vec()),
        };
        let width = version.width();
        let length = u32::from(prefix.len).min(width * 8);
        let rule = self.version(version);
        if length == 0 {
            return rule.say(&format!("meta nfproto {}", version.name()));
        }
        let mask: Vec<u8> = (0..width)
            .map(|byte| match length.saturating_sub(byte * 8).min(8) {
                0 => 0,
                bits => 0xff_u8 << (8 - bits),
            })
            .collect();
        let value: Vec<u8> = octets.iter().zip(&mask).map(|(octet, mask)| octet & mask).collect();
        let shown = shown_prefix(version, &value, length);
        let rule = rule.say(&format!("{} {}addr {shown}", version.keyword(), end.letter()));
        // Whole bytes need no mask: fewer are loaded instead, as nft does it.
        let loaded = if length.is_multiple_of(8) { length / 8 } else { width };
        let kept = |bytes: Vec<u8>| {
            bytes.into_iter().take(usize::try_from(loaded).unwrap_or(16)).collect::<Vec<u8>>()
        };
        let load =
            Expression::Payload { base: Base::Network, offset: version.offset(end), length: loaded, to: 0 };
        let rule = rule.then([load]);
        let rule = if length.is_multiple_of(8) {
            rule
        } else {
            rule.then([Expression::Mask { register: 0, mask: kept(mask) }])
        };
        rule.then([Expression::Equal { from: 0, value: kept(value) }])
    }

    /// `th dport 22`, `th dport 8000-8100`. The protocol must have been asked for.
    pub(super) fn port(self, end: End, range: PortRange) -> Self {
        let offset = match end {
            End::Source => 0,
            End::Destination => 2,
        };
        let load = Expression::Payload { base: Base::Transport, offset, length: 2, to: 0 };
        let (first, last) = (range.first.to_be_bytes().to_vec(), range.last.to_be_bytes().to_vec());
        let (shown, check) = if first == last {
            (range.first.to_string(), Expression::Equal { from: 0, value: first })
        } else {
            (format!("{}-{}", range.first, range.last), Expression::Between { from: 0, first, last })
        };
        self.say(&format!("th {}port {shown}", end.letter())).then([load, check])
    }

    /// `iifname "eth0"`. The name is compared with its terminating NULs, so that no longer one matches.
    pub(super) fn device(self, device: Device, name: &str) -> Self {
        let (key, keyword) = match device {
            Device::In => (c::NFT_META_IIFNAME, "iifname"),
            Device::Out => (c::NFT_META_OIFNAME, "oifname"),
        };
        let mut value = name.as_bytes().to_vec();
        value.resize(16, 0);
        self.say(&format!("{keyword} \"{name}\""))
            .then([Expression::Meta { key, to: 0 }, Expression::Equal { from: 0, value }])
    }

    /// `iif "lo"`: the loopback device has the same number in every namespace (`LOOPBACK_IFINDEX`).
    pub(super) fn came_by_loopback(self) -> Self {
        self.say("iif \"lo\"").then([
            Expression::Meta { key: c::NFT_META_IIF, to: 0 },
            Expression::Equal { from: 0, value: 1_u32.to_ne_bytes().to_vec() },
        ])
    }

    /// `meta mark`. Registers hold it in the machine's own byte order.
    pub(super) fn mark(self, mark: Masked) -> Self {
        let value = (mark.value & mark.mask).to_ne_bytes().to_vec();
        let rule = if mark.mask == u32::MAX {
            self.say(&format!("meta mark {:#010x}", mark.value))
        } else {
            self.say(&format!("meta mark & {:#010x} == {:#010x}", mark.mask, mark.value & mark.mask))
        };
        let rule = rule.then([Expression::Meta { key: c::NFT_META_MARK, to: 0 }]);
        let rule = if mark.mask == u32::MAX {
            rule
        } else {
            rule.then([Expression::Mask { register: 0, mask: mark.mask.to_ne_bytes().to_vec() }])
        };
        rule.then([Expression::Equal { from: 0, value }])
    }

    /// `tcp flags & (syn|ack) == syn`. That it is TCP must have been asked for.
    pub(super) fn tcp_flags(self, flags: Masked) -> Self {
        let byte = |value: u32| u8::try_from(value & 0xff).unwrap_or_default();
        let (value, mask) = (byte(flags.value & flags.mask), byte(flags.mask));
        self.say(&format!("tcp flags & ({}) == {}", flag_names(mask), flag_names(value))).then([
            Expression::Payload { base: Base::Transport, offset: 13, length: 1, to: 0 },
            Expression::Mask { register: 0, mask: vec![mask] },
            Expression::Equal { from: 0, value: vec![value] },
        ])
    }

    /// Echo replies: type 0, or 129.
    pub(super) fn echo_reply(self, version: IpVersion) -> Self {
        let kind = match version {
            IpVersion::V4 => 0,
            IpVersion::V6 => 129,
        };
        self.protocol(version.icmp()).say(&format!("@th,0,8 {kind:#x}")).then([
            Expression::Payload { base: Base::Transport, offset: 0, length: 1, to: 0 },
            Expression::Equal { from: 0, value: vec![kind] },
        ])
    }

    /// Loads the packet's own tuple into the registers, as a key of a `followed` set.
    fn header_tuple(self, version: IpVersion, kind: PortKind) -> (Self, String) {
        let ip = version.keyword();
        let (words, source, destination) = (version.width() / 4, End::Source, End::Destination);
        let payload = |base, offset, length, to| Expression::Payload { base, offset, length, to };
        let ports = 2 * words + 1;
        let zero = |to| Expression::Constant { value: vec![0, 0, 0, 0], to };
        let (load, shown) = match kind {
            PortKind::Ports => (
                [payload(Base::Transport, 0, 2, ports), payload(Base::Transport, 2, 2, ports + 1)],
                "th sport . th dport",
            ),
            PortKind::Icmp => (
                [payload(Base::Transport, 4, 2, ports), payload(Base::Transport, 0, 2, ports + 1)],
                "@th,32,16 . @th,0,16",
            ),
            PortKind::None => ([zero(ports), zero(ports + 1)], "0 . 0"),
        };
        let rule = self
            .then([
                payload(Base::Network, version.offset(source), version.width(), 0),
                payload(Base::Network, version.offset(destination), version.width(), words),
                Expression::Meta { key: c::NFT_META_L4PROTO, to: 2 * words },
            ])
            .then(load);
        (rule, format!("{ip} saddr . {ip} daddr . meta l4proto . {shown}"))
    }

    /// The packet's own tuple is in the set.
    pub(super) fn header_followed(self, version: IpVersion, kind: PortKind, set: SetRef) -> Self {
        let (rule, shown) = self.version(version).header_tuple(version, kind);
        rule.say(&format!("{shown} @{}", set.name)).then([set.lookup(false)])
    }

    /// The tuple of what the packet answers is in the set. Of ICMP that is for echo replies.
    pub(super) fn answer_followed(self, version: IpVersion, kind: PortKind, set: SetRef) -> Self {
        let ip = version.keyword();
        let words = version.width() / 4;
        let payload = |base, offset, length, to| Expression::Payload { base, offset, length, to };
        let ports = 2 * words + 1;
        let zero = |to| Expression::Constant { value: vec![0, 0, 0, 0], to };
        let (load, shown) = match (kind, version) {
            (PortKind::Ports, _) => (
                [payload(Base::Transport, 2, 2, ports), payload(Base::Transport, 0, 2, ports + 1)],
                "th dport . th sport",
            ),
            (PortKind::Icmp, IpVersion::V4) => (
                [
                    payload(Base::Transport, 4, 2, ports),
                    Expression::Constant { value: vec![8, 0, 0, 0], to: ports + 1 },
                ],
                "@th,32,16 . 0x800",
            ),
            (PortKind::Icmp, IpVersion::V6) => (
                [
                    payload(Base::Transport, 4, 2, ports),
                    Expression::Constant { value: vec![128, 0, 0, 0], to: ports + 1 },
                ],
                "@th,32,16 . 0x8000",
            ),
            (PortKind::None, _) => ([zero(ports), zero(ports + 1)], "0 . 0"),
        };
        self.version(version)
            .then([
                payload(Base::Network, version.offset(End::Destination), version.width(), 0),
                payload(Base::Network, version.offset(End::Source), version.width(), words),
                Expression::Meta { key: c::NFT_META_L4PROTO, to: 2 * words },
            ])
            .then(load)
            .say(&format!("{ip} daddr . {ip} saddr . meta l4proto . {shown} @{}", set.name))
            .then([set.lookup(false)])
    }

    /// Adds the packet's own tuple to the set.
    pub(super) fn remember_header(self, version: IpVersion, kind: PortKind, set: SetRef) -> Self {
        let (rule, shown) = self.version(version).header_tuple(version, kind);
        rule.say(&format!("add @{} {{ {shown} }}", set.name)).then([Expression::Add {
            set: set.name.to_owned(),
            set_id: set.id,
            from: 0,
        }])
    }

    /// The original tuple of the packet's connection is in the set.
    pub(super) fn connection_followed(self, version: IpVersion, set: SetRef) -> Self {
        let words = version.width() / 4;
        let (source, destination) = match version {
            IpVersion::V4 => (c::NFT_CT_SRC_IP, c::NFT_CT_DST_IP),
            IpVersion::V6 => (c::NFT_CT_SRC_IP6, c::NFT_CT_DST_IP6),
        };
        let ct = |key, to| Expression::CtOriginal { key, to };
        let ip = version.keyword();
        self.version(version)
            .then([
                ct(source, 0),
                ct(destination, words),
                // Of the connection, not of the packet: an ICMP error belongs to the connection it is about.
                ct(c::NFT_CT_PROTOCOL, 2 * words),
                ct(c::NFT_CT_PROTO_SRC, 2 * words + 1),
                ct(c::NFT_CT_PROTO_DST, 2 * words + 2),
                set.lookup(false),
            ])
            .say(&format!(
                "meta nfproto {} ct original {ip} saddr . ct original {ip} daddr . ct protocol . ct original proto-src . \
                 ct original proto-dst @{}",
                version.name(),
                set.name
            ))
    }

    /// A program answers other than 0.
    pub(super) fn program_says_so(self, fd: RawFd) -> Self {
        self.say("xt match \"bpf\"").then([Expression::Program { fd }])
    }

    /// `limit rate over N/second burst N packets`.
    pub(super) fn over_rate(self, rate: u32) -> Self {
        self.say(&format!("limit rate over {rate}/second burst {rate} packets"))
            .then([Expression::Limit { rate, over: true }])
    }

    /// `meta nftrace set 1`.
    pub(super) fn trace(self) -> Self {
        let register: Register = 0;
        self.say("meta nftrace set 1").then([
            Expression::Constant { value: vec![1], to: register },
            Expression::SetTrace { from: register },
        ])
    }

    /// The verdict that ends the rule.
    pub(super) fn verdict(self, verdict: Verdict) -> Self {
        self.say(&verdict.to_string()).then([Expression::Verdict(verdict)])
    }
}

/// The name of a protocol in nft's syntax, which is that of /etc/protocols.
pub(super) fn protocol_name(number: u8) -> String {
    match number {
        33 => "dccp".to_owned(),
        protocol::ICMPV6 => "ipv6-icmp".to_owned(),
        _ => protocol::name_or_number(number).into_owned(),
    }
}

fn shown_prefix(version: IpVersion, value: &[u8], length: u32) -> String {
    let addr = match version {
        IpVersion::V4 => <[u8; 4]>::try_from(value).map(|o| IpAddr::from(o).to_string()),
        IpVersion::V6 => <[u8; 16]>::try_from(value).map(|o| IpAddr::from(o).to_string()),
    }
    .unwrap_or_default();
    if length == version.width() * 8 { addr } else { format!("{addr}/{length}") }
}

fn flag_names(flags: u8) -> String {
    let names: Vec<_> = TCP_FLAG_NAMES
        .iter()
        .enumerate()
        .filter(|(bit, _)| flags & (1 << bit) != 0)
        .map(|(_, name)| *name)
        .collect();
    if names.is_empty() { "0x0".to_owned() } else { names.join("|") }
}
