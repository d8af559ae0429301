//! The names that nft has for numbers.

use super::value::Kind;
use crate::conntrack::STATUS_NAMES;
use crate::packet::{TCP_FLAG_NAMES, protocol};

/// `NF_CT_STATE_*_BIT` (include/net/netfilter/nf_tables.h and uapi nf_conntrack_common.h: `NF_CT_STATE_BIT`).
const CT_STATES: [(&str, u128); 5] =
    [("invalid", 1), ("established", 2), ("related", 4), ("new", 8), ("untracked", 64)];

/// nftables src/proto.c `icmp_type_tbl`, `icmp6_type_tbl`.
const ICMP_TYPES: [(&str, u128); 14] = [
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
    ("timestamp-reply", 14),
    ("info-request", 15),
    ("info-reply", 16),
    ("address-mask-request", 17),
];
const ICMPV6_TYPES: [(&str, u128); 18] = [
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
    ("mld-listener-query", 130),
    ("mld-listener-report", 131),
    ("mld-listener-done", 132),
    ("mld-listener-reduction", 132),
    ("nd-router-solicit", 133),
    ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135),
    ("nd-neighbor-advert", 136),
    ("nd-redirect", 137),
    ("router-renumbering", 138),
    ("ind-neighbor-solicit", 141),
    ("mld2-listener-report", 143),
];

/// `NFPROTO_*` (src/datatype.c `nfproto_tbl`).
const NFPROTOS: [(&str, u128); 5] = [("ipv4", 2), ("arp", 3), ("netdev", 5), ("bridge", 7), ("ipv6", 10)];

/// src/proto.c `ethertype_tbl`.
const ETHERTYPES: [(&str, u128); 7] = [
    ("ip", 0x0800),
    ("arp", 0x0806),
    ("ip6", 0x86dd),
    ("8021q", 0x8100),
    ("8021ad", 0x88a8),
    ("vlan", 0x8100),
    ("ipv6", 0x86dd),
];

const DIRECTIONS: [(&str, u128); 2] = [("original", 0), ("reply", 1)];
const PRESENCE: [(&str, u128); 2] = [("missing", 0), ("exists", 1)];

/// `RTN_*` (src/fib.c `addrtype_tbl`).
const ADDRESS_TYPES: [(&str, u128); 11] = [
    ("unspec", 0),
    ("unicast", 1),
    ("local", 2),
    ("broadcast", 3),
    ("anycast", 4),
    ("multicast", 5),
    ("blackhole", 6),
    ("unreachable", 7),
    ("prohibit", 8),
    ("throw", 9),
    ("nat", 10),
];

/// Protocol names beyond those of packets (/etc/protocols, as nft reads it).
const PROTOCOLS: [(&str, u128); 8] = [
    ("ipv6-icmp", 58),
    ("comp", 108),
    ("ipencap", 4),
    ("dccp", 33),
    ("ospfigp", 89),
    ("l2tp", 115),
    ("ip", 0),
    ("hopopt", 0),
];

fn table(kind: Kind) -> &'static [(&'static str, u128)] {
    match kind {
        Kind::CtState => &CT_STATES,
        Kind::CtDirection => &DIRECTIONS,
        Kind::IcmpType => &ICMP_TYPES,
        Kind::Icmpv6Type => &ICMPV6_TYPES,
        Kind::NfProto => &NFPROTOS,
        Kind::EtherType => &ETHERTYPES,
        Kind::Presence => &PRESENCE,
        Kind::AddressType => &ADDRESS_TYPES,
        Kind::Protocol => &PROTOCOLS,
        _ => &[],
    }
}

/// The number that nft writes as `word`.
pub(super) fn number(kind: Kind, word: &str) -> Option<u128> {
    match kind {
        Kind::TcpFlags => TCP_FLAG_NAMES
            .iter()
            .position(|name| *name == word || (word == "ecn" && *name == "ece"))
            .map(|bit| 1 << bit),
        Kind::CtStatus => {
            STATUS_NAMES.iter().find(|(_, name)| *name == word).map(|(bit, _)| u128::from(*bit))
        }
        Kind::Protocol => (0..=u8::MAX)
            .find(|number| protocol::name(*number) == Some(word))
            .map(u128::from)
            .or_else(|| find(kind, word)),
        _ => find(kind, word),
    }
}

fn find(kind: Kind, word: &str) -> Option<u128> {
    table(kind).iter().find(|(name, _)| *name == word).map(|(_, number)| *number)
}

/// How a number is told; `None` for one that is told as a number.
pub(super) fn name(kind: Kind, number: u128) -> Option<String> {
    let bits = |names: &mut dyn Iterator<Item = (u128, &str)>| {
        let set: Vec<&str> = names.filter(|(bit, _)| number & bit != 0).map(|(_, name)| name).collect();
        if set.is_empty() { "none".to_owned() } else { set.join(",") }
    };
    match kind {
        Kind::TcpFlags => {
            Some(bits(&mut TCP_FLAG_NAMES.iter().enumerate().map(|(bit, name)| (1 << bit, *name))))
        }
        Kind::CtStatus => Some(bits(&mut STATUS_NAMES.iter().map(|(bit, name)| (u128::from(*bit), *name)))),
        Kind::CtState => Some(bits(&mut CT_STATES.iter().map(|(name, bit)| (*bit, *name)))),
        Kind::Protocol => u8::try_from(number).ok().and_then(protocol::name).map(str::to_owned),
        _ => table(kind).iter().find(|(_, known)| *known == number).map(|(name, _)| (*name).to_owned()),
    }
}
