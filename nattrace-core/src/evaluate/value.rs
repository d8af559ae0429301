//! Values of packets and of rules.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::names;

/// How a datum's values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 address.
    Ipv4,
    /// IPv6 address.
    Ipv6,
    /// Port, by number or by the service's name.
    Port,
    /// A number, decimal or hexadecimal.
    Number,
    /// `IPPROTO_*`.
    Protocol,
    /// `NFPROTO_*`.
    NfProto,
    /// Ethertype.
    EtherType,
    /// Device name.
    Device,
    /// TCP flags: bits.
    TcpFlags,
    /// `ct state`: bits.
    CtState,
    /// `ct status`: bits.
    CtStatus,
    /// `ct direction`.
    CtDirection,
    /// Type of ICMP.
    IcmpType,
    /// Type of ICMPv6.
    Icmpv6Type,
    /// `exists` or `missing`.
    Presence,
    /// Type of an address in the routing tables.
    AddressType,
}

impl Kind {
    /// Whether a value is a set of bits, of which a rule asks for any.
    pub(super) fn is_bits(self) -> bool {
        matches!(self, Self::TcpFlags | Self::CtState | Self::CtStatus)
    }

    /// The number that a word stands for.
    pub(super) fn number(self, word: &str) -> Option<u128> {
        let plain = || {
            word.strip_prefix("0x")
                .map_or_else(|| word.parse().ok(), |hex| u128::from_str_radix(hex, 16).ok())
        };
        match self {
            Self::Ipv4 => word.parse::<Ipv4Addr>().ok().map(|addr| u128::from(u32::from(addr))),
            Self::Ipv6 => word.parse::<Ipv6Addr>().ok().map(u128::from),
            Self::Device => None,
            named => plain().or_else(|| names::number(named, word)),
        }
    }

    /// Bits of an address of this kind.
    pub(super) fn width(self) -> Option<u32> {
        match self {
            Self::Ipv4 => Some(32),
            Self::Ipv6 => Some(128),
            Self::Port => Some(16),
            _ => None,
        }
    }
}

/// A packet's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Anything that is a number in the kernel; addresses in host byte order.
    Number(Kind, u128),
    /// A device's name.
    Text(String),
}

impl Value {
    /// The name of a device that is not there.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Text(name) if name.is_empty())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(Kind::Ipv4, number) => {
                write!(f, "{}", Ipv4Addr::from(u32::try_from(*number).unwrap_or(0)))
            }
            Self::Number(Kind::Ipv6, number) => write!(f, "{}", Ipv6Addr::from(*number)),
            Self::Number(kind, number) => match names::name(*kind, *number) {
                Some(name) => f.write_str(&name),
                None => write!(f, "{number}"),
            },
        }
    }
}

/// What a rule compares a value with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// All from the first to the last.
    Range(u128, u128),
    /// A device's name.
    Text(String),
    /// Names that begin like this.
    Begins(String),
    /// Everything.
    Any,
}

impl Item {
    /// Reads one word; `None` for one that is not understood.
    pub(super) fn read(kind: Kind, word: &str, quoted: bool) -> Option<Self> {
        if word == "*" && !quoted {
            return Some(Self::Any);
        }
        if kind == Kind::Device {
            return Some(match word.strip_suffix('*') {
                // nft escapes an asterisk that is part of the name.
                Some(begin) if !begin.ends_with('\\') => Self::Begins(begin.to_owned()),
                _ => Self::Text(word.replace("\\*", "*")),
            });
        }
        if let Some(number) = kind.number(word) {
            return Some(Self::Range(number, number));
        }
        if kind.is_bits() {
            let bits: Option<Vec<u128>> = word.split(',').map(|name| kind.number(name)).collect();
            let bits = bits?.into_iter().fold(0, |all, bit| all | bit);
            return Some(Self::Range(bits, bits));
        }
        if let (Some((addr, length)), Some(width)) = (word.split_once('/'), kind.width()) {
            let (addr, length) = (kind.number(addr)?, length.parse::<u32>().ok().filter(|l| *l <= width)?);
            let hosts =
                if length == 0 && width == 128 { u128::MAX } else { (1_u128 << (width - length)) - 1 };
            return Some(Self::Range(addr & !hosts, addr | hosts));
        }
        // A service's or protocol's name can hold a dash; a range cannot be both.
        word.match_indices('-').find_map(|(at, _)| {
            let (first, last) = (kind.number(word.get(..at)?)?, kind.number(word.get(at + 1..)?)?);
            Some(Self::Range(first, last))
        })
    }

    /// Whether the value is within.
    pub(super) fn has(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Any, _) => true,
            (Self::Range(first, last), Value::Number(_, number)) => first <= number && number <= last,
            (Self::Text(name), Value::Text(text)) => name == text,
            (Self::Begins(begin), Value::Text(text)) => text.starts_with(begin.as_str()),
            _ => false,
        }
    }
}
