//! The headers nft knows: which fields, in which order, which of them a trace shows.
//!
//! After nftables src/proto.c (`proto_desc`), v1.0.6 to v1.1.7. Fields are listed in the order of nft's
//! enumerations, which is the order in which a header is taken apart: a field whose offset was passed, or lies
//! beyond the next byte, is skipped.

use super::dialect::Version;
use super::value::Kind;

/// `enum proto_bases`, in nft's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Link,
    Network,
    Transport,
}

impl Base {
    /// As nft writes it before offsets of bytes it has no name for.
    pub(super) fn token(self) -> &'static str {
        match self {
            Self::Link => "ll",
            Self::Network => "nh",
            Self::Transport => "th",
        }
    }
}

/// A header.
#[derive(Debug)]
pub(super) struct Protocol {
    pub(super) name: &'static str,
    pub(super) base: Base,
    /// The field that says what comes next, by its place in `fields`.
    pub(super) key: Option<usize>,
    pub(super) fields: &'static [Field],
    /// The order in which fields are shown, by their place in `fields`; those beyond it as they come.
    pub(super) order: &'static [usize],
}

impl PartialEq for Protocol {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// A field of a header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// In bits from the header's beginning.
    pub(super) offset: usize,
    pub(super) bits: usize,
    /// The first version that knows it.
    pub(super) known: Version,
    /// The first version whose traces show it.
    pub(super) shown: Version,
}

const ALWAYS: Version = (0, 0, 0);
const NEVER: Version = (u16::MAX, 0, 0);
/// UDP's checksum is shown since "proto: use NFT_PAYLOAD_L4CSUM_PSEUDOHDR flag to mangle UDP checksum".
const UDP_CHECKSUM: Version = (1, 1, 1);
/// Addresses within neighbour discovery and redirects.
const ICMP6_ADDRESSES: Version = (1, 0, 9);
/// GRE is a header of its own since "src: add gre support".
const GRE_KNOWN: Version = (1, 0, 7);

const fn field(name: &'static str, kind: Kind, offset: usize, bits: usize) -> Field {
    Field { name, kind, offset, bits, known: ALWAYS, shown: ALWAYS }
}

const fn number(name: &'static str, offset: usize, bits: usize) -> Field {
    field(name, Kind::Number, offset, bits)
}

/// A field that is taken apart but not shown: the checksum, and what nft's traces filter.
const fn hidden(name: &'static str, offset: usize, bits: usize) -> Field {
    Field { shown: NEVER, ..number(name, offset, bits) }
}

const fn ports() -> [Field; 2] {
    [number("sport", 0, 16), number("dport", 16, 16)]
}

const SPORT: Field = ports()[0];
const DPORT: Field = ports()[1];

static ETHER: Protocol = Protocol {
    name: "ether",
    base: Base::Link,
    key: Some(2),
    fields: &[
        field("daddr", Kind::Ether, 0, 48),
        field("saddr", Kind::Ether, 48, 48),
        field("type", Kind::EtherType, 96, 16),
    ],
    order: &[1, 0, 2],
};

static VLAN: Protocol = Protocol {
    name: "vlan",
    base: Base::Link,
    key: Some(3),
    fields: &[
        number("pcp", 0, 3),
        number("dei", 3, 1),
        number("id", 4, 12),
        field("type", Kind::EtherType, 16, 16),
    ],
    order: &[],
};

static ARP: Protocol = Protocol {
    name: "arp",
    base: Base::Network,
    key: None,
    fields: &[
        hidden("htype", 0, 16),
        hidden("ptype", 16, 16),
        hidden("hlen", 32, 8),
        hidden("plen", 40, 8),
        field("operation", Kind::ArpOperation, 48, 16),
        hidden("saddr ether", 64, 48),
        hidden("saddr ip", 112, 32),
        hidden("daddr ether", 144, 48),
        hidden("daddr ip", 192, 32),
    ],
    order: &[],
};

static IP: Protocol = Protocol {
    name: "ip",
    base: Base::Network,
    key: Some(8),
    fields: &[
        hidden("version", 0, 4),
        hidden("hdrlength", 4, 4),
        field("dscp", Kind::Dscp, 8, 6),
        field("ecn", Kind::Ecn, 14, 2),
        number("length", 16, 16),
        number("id", 32, 16),
        hidden("frag-off", 48, 16),
        number("ttl", 64, 8),
        field("protocol", Kind::Protocol, 72, 8),
        hidden("checksum", 80, 16),
        field("saddr", Kind::Ipv4, 96, 32),
        field("daddr", Kind::Ipv4, 128, 32),
    ],
    order: &[10, 11, 2, 3, 7, 5, 8, 4],
};

static IP6: Protocol = Protocol {
    name: "ip6",
    base: Base::Network,
    key: Some(5),
    fields: &[
        hidden("version", 0, 4),
        field("dscp", Kind::Dscp, 4, 6),
        field("ecn", Kind::Ecn, 10, 2),
        number("flowlabel", 12, 20),
        number("length", 32, 16),
        field("nexthdr", Kind::Protocol, 48, 8),
        number("hoplimit", 56, 8),
        field("saddr", Kind::Ipv6, 64, 128),
        field("daddr", Kind::Ipv6, 192, 128),
    ],
    order: &[7, 8, 1, 2, 6, 3, 5, 4],
};

static ICMP: Protocol = Protocol {
    name: "icmp",
    base: Base::Transport,
    key: Some(0),
    fields: &[
        field("type", Kind::IcmpType, 0, 8),
        field("code", Kind::IcmpCode, 8, 8),
        hidden("checksum", 16, 16),
        number("id", 32, 16),
        number("sequence", 48, 16),
    ],
    order: &[],
};

static ICMP6: Protocol = Protocol {
    name: "icmpv6",
    base: Base::Transport,
    key: Some(0),
    fields: &[
        field("type", Kind::Icmp6Type, 0, 8),
        field("code", Kind::Icmp6Code, 8, 8),
        hidden("checksum", 16, 16),
        // Whatever the type: which one it is, is known only once the header has been taken apart.
        number("parameter-problem", 32, 32),
        Field { known: ICMP6_ADDRESSES, ..field("taddr", Kind::Ipv6, 64, 128) },
    ],
    order: &[],
};

static IGMP: Protocol = Protocol {
    name: "igmp",
    base: Base::Transport,
    key: None,
    // The checksum comes before `mrt` in nft's list and is therefore passed over; so is all behind it.
    fields: &[field("type", Kind::IgmpType, 0, 8), number("mrt", 8, 8)],
    order: &[],
};

static TCP: Protocol = Protocol {
    name: "tcp",
    base: Base::Transport,
    key: None,
    fields: &[
        SPORT,
        DPORT,
        hidden("sequence", 32, 32),
        hidden("ackseq", 64, 32),
        hidden("doff", 96, 4),
        hidden("reserved", 100, 4),
        field("flags", Kind::TcpFlags, 104, 8),
        number("window", 112, 16),
        hidden("checksum", 128, 16),
        hidden("urgptr", 144, 16),
    ],
    order: &[],
};

static UDP: Protocol = Protocol {
    name: "udp",
    base: Base::Transport,
    key: None,
    fields: &[
        SPORT,
        DPORT,
        number("length", 32, 16),
        Field { shown: UDP_CHECKSUM, ..number("checksum", 48, 16) },
    ],
    order: &[],
};

static UDPLITE: Protocol = Protocol {
    name: "udplite",
    base: Base::Transport,
    key: None,
    fields: &[SPORT, DPORT, number("csumcov", 32, 16), number("checksum", 48, 16)],
    order: &[],
};

static DCCP: Protocol =
    Protocol { name: "dccp", base: Base::Transport, key: None, fields: &[SPORT, DPORT], order: &[] };

static SCTP: Protocol = Protocol {
    name: "sctp",
    base: Base::Transport,
    key: None,
    fields: &[SPORT, DPORT, number("vtag", 32, 32), hidden("checksum", 64, 32)],
    order: &[],
};

static AH: Protocol = Protocol {
    name: "ah",
    base: Base::Transport,
    key: Some(0),
    fields: &[
        field("nexthdr", Kind::Protocol, 0, 8),
        number("hdrlength", 8, 8),
        hidden("reserved", 16, 16),
        number("spi", 32, 32),
        hidden("sequence", 64, 32),
    ],
    order: &[3, 1, 0],
};

static ESP: Protocol = Protocol {
    name: "esp",
    base: Base::Transport,
    key: None,
    fields: &[number("spi", 0, 32), number("sequence", 32, 32)],
    order: &[],
};

static COMP: Protocol = Protocol {
    name: "comp",
    base: Base::Transport,
    key: Some(0),
    fields: &[
        field("nexthdr", Kind::Protocol, 0, 8),
        field("flags", Kind::Mask, 8, 8),
        number("cpi", 16, 16),
    ],
    order: &[],
};

static GRE: Protocol =
    Protocol { name: "gre", base: Base::Transport, key: None, fields: &[number("flags", 0, 5)], order: &[] };

/// Two bytes of an unknown header where others have a port: nft takes them for one.
static TH: Protocol =
    Protocol { name: "th", base: Base::Transport, key: None, fields: &[SPORT, DPORT], order: &[] };

/// The port that a rest of a transport header is taken for.
pub(super) fn lone_port(offset: usize, bits: usize) -> Option<(&'static Protocol, usize, Field)> {
    let index = TH.fields.iter().position(|field| (field.offset, field.bits) == (offset, bits))?;
    Some((&TH, index, *TH.fields.get(index)?))
}

/// The header that an Ethernet type announces.
pub(super) fn by_ether_type(number: u32) -> Option<&'static Protocol> {
    Some(match number {
        0x0800 => &IP,
        0x0806 => &ARP,
        0x86dd => &IP6,
        0x8100 | 0x88a8 => &VLAN,
        _ => return None,
    })
}

/// The header that stands for a family of tables, or of packets (`NFPROTO_*`).
pub(super) fn by_family(number: u8) -> Option<&'static Protocol> {
    Some(match number {
        2 => &IP,
        3 => &ARP,
        7 => &ETHER,
        10 => &IP6,
        _ => return None,
    })
}

/// The header of frames of a kind of device (`ARPHRD_*`).
pub(super) fn by_device_type(number: u16) -> Option<&'static Protocol> {
    (number == 1).then_some(&ETHER)
}

impl Protocol {
    /// The header that comes next, by the value of the key field.
    pub(super) fn upper(&self, number: u32, version: impl Fn(Version) -> bool) -> Option<&'static Protocol> {
        match self.name {
            "ether" | "vlan" => return by_ether_type(number),
            "ip" | "ip6" | "ah" | "comp" => {}
            _ => return None,
        }
        let within = self.base == Base::Transport;
        Some(match number {
            1 if !within => &ICMP,
            2 if !within => &IGMP,
            58 if !within => &ICMP6,
            47 if !within && version(GRE_KNOWN) => &GRE,
            6 => &TCP,
            17 => &UDP,
            33 => &DCCP,
            50 => &ESP,
            51 => &AH,
            108 => &COMP,
            132 => &SCTP,
            136 => &UDPLITE,
            _ => return None,
        })
    }
}
