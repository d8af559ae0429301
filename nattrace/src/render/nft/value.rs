//! Values of header fields and of conntrack's, in nft's words (nftables src/datatype.c, src/proto.c, src/ct.c).

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::dialect::{Dialect, TERSE};

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Mask,
    Ipv4,
    Ipv6,
    Ether,
    EtherType,
    ArpOperation,
    Protocol,
    Dscp,
    Ecn,
    TcpFlags,
    IcmpType,
    IcmpCode,
    Icmp6Type,
    Icmp6Code,
    IgmpType,
}

impl Kind {
    /// Of values that are sets of bits nft says explicitly that they are equal.
    pub(super) fn operator(self) -> &'static str {
        if self == Self::TcpFlags { "== " } else { "" }
    }
}

/// A value of `bits` bits, which are right-aligned in `bytes`, most significant first.
pub(super) fn print(kind: Kind, bytes: &[u8], bits: usize, dialect: &Dialect) -> String {
    let number = bytes.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let small = u32::try_from(number).unwrap_or(u32::MAX);
    let named = |names: &[(u32, &'static str)]| name_in(names, small);
    let or_number = |name: Option<&str>| name.map_or_else(|| number.to_string(), str::to_owned);
    match kind {
        Kind::Number => number.to_string(),
        Kind::Mask => format!("{number:#x}"),
        Kind::Ipv4 => Ipv4Addr::from_bits(small).to_string(),
        Kind::Ipv6 => ipv6(Ipv6Addr::from_bits(number)),
        Kind::Ether => ether(bytes, bits),
        Kind::EtherType => named(ETHER_TYPES).map_or_else(|| format!("{number:#06x}"), str::to_owned),
        Kind::ArpOperation => or_number(named(ARP_OPERATIONS)),
        Kind::Protocol => dialect.protocol(u8::try_from(number).unwrap_or(u8::MAX)),
        Kind::Dscp => named(DSCP).map_or_else(|| format!("{number:#04x}"), str::to_owned),
        Kind::Ecn => or_number(named(&[(0, "not-ect"), (1, "ect1"), (2, "ect0"), (3, "ce")])),
        Kind::TcpFlags => named(TCP_FLAGS).map_or_else(|| format!("{number:#x}"), str::to_owned),
        Kind::IcmpType => or_number(named(ICMP_TYPES)),
        Kind::Icmp6Type => or_number(named(ICMP6_TYPES)),
        Kind::IgmpType => or_number(named(IGMP_TYPES)),
        Kind::IcmpCode => or_number(named(ICMP_CODES).filter(|_| !dialect.at_least(TERSE))),
        Kind::Icmp6Code => or_number(named(ICMP6_CODES).filter(|_| !dialect.at_least(TERSE))),
    }
}

/// Bytes that belong to no field: one hexadecimal number.
pub(super) fn raw(bytes: &[u8]) -> String {
    let digits = bytes.iter().fold(String::new(), |mut digits, byte| {
        let _ = write!(digits, "{byte:02x}");
        digits
    });
    let digits = digits.trim_start_matches('0');
    format!("0x{}", if digits.is_empty() { "0" } else { digits })
}

fn name_in(names: &[(u32, &'static str)], number: u32) -> Option<&'static str> {
    names.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// As inet_ntop(3) of the GNU C library writes it: unlike Rust it shows the last four bytes as an IPv4 address
/// where nothing but they are set.
fn ipv6(addr: Ipv6Addr) -> String {
    match addr.segments() {
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => {
            format!("::{}", Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => addr.to_string(),
    }
}

fn ether(bytes: &[u8], bits: usize) -> String {
    let from = bytes.len().saturating_sub(bits.div_ceil(8));
    let bytes: Vec<String> = bytes.iter().skip(from).map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

/// `ct state new`.
pub(super) fn ct_state(bits: u32) -> String {
    let name = name_in(CT_STATES, bits);
    name.map_or_else(|| format!("{bits:#x}"), str::to_owned)
}

/// `ct status seen-reply,confirmed`: every bit by itself.
pub(super) fn ct_status(bits: u32) -> String {
    let each = (0..32).map(|bit| 1_u32 << bit).filter(|bit| bits & bit != 0);
    let names: Vec<String> =
        each.map(|bit| name_in(CT_STATUS, bit).map_or_else(|| format!("{bit:#x}"), str::to_owned)).collect();
    names.join(",")
}

const ETHER_TYPES: &[(u32, &str)] =
    &[(0x0800, "ip"), (0x0806, "arp"), (0x86dd, "ip6"), (0x8100, "8021q"), (0x88a8, "8021ad")];

const ARP_OPERATIONS: &[(u32, &str)] = &[
    (1, "request"),
    (2, "reply"),
    (3, "rrequest"),
    (4, "rreply"),
    (8, "inrequest"),
    (9, "inreply"),
    (10, "nak"),
];

const DSCP: &[(u32, &str)] = &[
    (0x00, "cs0"),
    (0x08, "cs1"),
    (0x10, "cs2"),
    (0x18, "cs3"),
    (0x20, "cs4"),
    (0x28, "cs5"),
    (0x30, "cs6"),
    (0x38, "cs7"),
    (0x01, "lephb"),
    (0x0a, "af11"),
    (0x0c, "af12"),
    (0x0e, "af13"),
    (0x12, "af21"),
    (0x14, "af22"),
    (0x16, "af23"),
    (0x1a, "af31"),
    (0x1c, "af32"),
    (0x1e, "af33"),
    (0x22, "af41"),
    (0x24, "af42"),
    (0x26, "af43"),
    (0x2c, "va"),
    (0x2e, "ef"),
];

const TCP_FLAGS: &[(u32, &str)] = &[
    (0x01, "fin"),
    (0x02, "syn"),
    (0x04, "rst"),
    (0x08, "psh"),
    (0x10, "ack"),
    (0x20, "urg"),
    (0x40, "ecn"),
    (0x80, "cwr"),
];

const ICMP_TYPES: &[(u32, &str)] = &[
    (0, "echo-reply"),
    (3, "destination-unreachable"),
    (4, "source-quench"),
    (5, "redirect"),
    (8, "echo-request"),
    (9, "router-advertisement"),
    (10, "router-solicitation"),
    (11, "time-exceeded"),
    (12, "parameter-problem"),
    (13, "timestamp-request"),
    (14, "timestamp-reply"),
    (15, "info-request"),
    (16, "info-reply"),
    (17, "address-mask-request"),
    (18, "address-mask-reply"),
];

const ICMP_CODES: &[(u32, &str)] = &[
    (0, "net-unreachable"),
    (1, "host-unreachable"),
    (2, "prot-unreachable"),
    (3, "port-unreachable"),
    (4, "frag-needed"),
    (9, "net-prohibited"),
    (10, "host-prohibited"),
    (13, "admin-prohibited"),
];

const ICMP6_TYPES: &[(u32, &str)] = &[
    (1, "destination-unreachable"),
    (2, "packet-too-big"),
    (3, "time-exceeded"),
    (4, "parameter-problem"),
    (128, "echo-request"),
    (129, "echo-reply"),
    (130, "mld-listener-query"),
    (131, "mld-listener-report"),
    (132, "mld-listener-done"),
    (133, "nd-router-solicit"),
    (134, "nd-router-advert"),
    (135, "nd-neighbor-solicit"),
    (136, "nd-neighbor-advert"),
    (137, "nd-redirect"),
    (138, "router-renumbering"),
    (141, "ind-neighbor-solicit"),
    (142, "ind-neighbor-advert"),
    (143, "mld2-listener-report"),
];

const ICMP6_CODES: &[(u32, &str)] = &[
    (0, "no-route"),
    (1, "admin-prohibited"),
    (3, "addr-unreachable"),
    (4, "port-unreachable"),
    (5, "policy-fail"),
    (6, "reject-route"),
];

const IGMP_TYPES: &[(u32, &str)] = &[
    (0x11, "membership-query"),
    (0x12, "membership-report-v1"),
    (0x16, "membership-report-v2"),
    (0x22, "membership-report-v3"),
    (0x17, "leave-group"),
];

/// `NF_CT_STATE_*` bits.
const CT_STATES: &[(u32, &str)] =
    &[(0x01, "invalid"), (0x02, "established"), (0x04, "related"), (0x08, "new"), (0x40, "untracked")];

/// `IPS_*` bits.
const CT_STATUS: &[(u32, &str)] = &[
    (0x001, "expected"),
    (0x002, "seen-reply"),
    (0x004, "assured"),
    (0x008, "confirmed"),
    (0x010, "snat"),
    (0x020, "dnat"),
    (0x040, "seq-adjust"),
    (0x080, "snat-done"),
    (0x100, "dnat-done"),
    (0x200, "dying"),
    (0x400, "fixed-timeout"),
];
