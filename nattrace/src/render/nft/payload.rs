//! The headers of a trace message, as nft takes them apart (nftables src/netlink.c `trace_gen_stmts`, in 1.1.x
//! src/trace.c; src/payload.c `payload_expr_expand`, `payload_dependency_kill`).
//!
//! nft does not read headers as a protocol analyser would: it splits bytes into the fields it knows, in its own
//! order, and leaves out what a field shown later implies (`ip protocol tcp` before `tcp sport`). Its oddities
//! are kept: the lines are to be the same.

use std::collections::VecDeque;
use std::fmt::Write as _;

use nattrace_core::event::{NfFamily, TraceMessage};

use super::dialect::{Dialect, TERSE};
use super::protocol::{Base, Field, Protocol, by_device_type, by_family, lone_port};
use super::value;

/// The fields of a message's headers, each with a blank behind it.
pub(super) fn headers(message: &TraceMessage, dialect: &Dialect) -> String {
    let mut reader = Reader {
        dialect,
        family: message.family,
        protocols: contexts(message),
        shown: Vec::new(),
        implied: [None; 4],
        icmp_type: 0,
    };
    reader.read(Base::Link, &message.link_header);
    reader.read(Base::Network, &message.network_header);
    reader.read(Base::Transport, &message.transport_header);
    reader.print()
}

/// What the headers are taken for before they are read, by base.
fn contexts(message: &TraceMessage) -> [Option<&'static Protocol>; 3] {
    let device = || message.iif_type.and_then(by_device_type);
    match message.family {
        NfFamily::Bridge => [by_family(7), None, None],
        NfFamily::Ip => [device(), by_family(2), None],
        NfFamily::Ip6 => [device(), by_family(10), None],
        NfFamily::Arp => [device(), by_family(3), None],
        // A packet of netdev has no family of its own, and the link layer tells.
        NfFamily::Netdev => [device(), None, None],
        NfFamily::Inet => {
            [device(), message.nfproto.filter(|n| matches!(n, 2 | 10)).and_then(by_family), None]
        }
    }
}

/// Bytes of a header that are one field, or none that nft knows.
#[derive(Debug, Clone, Copy)]
struct Piece {
    field: Option<(&'static Protocol, usize, Field)>,
    /// From the beginning of what was split, in bits.
    offset: usize,
    bits: usize,
}

/// A field that may be shown, unless a later one implies it.
#[derive(Debug)]
struct Shown {
    base: Base,
    field: Option<(&'static Protocol, usize, Field)>,
    text: String,
    number: u32,
}

impl Shown {
    /// Whether it says which header comes next.
    fn is_key(&self) -> bool {
        self.field.is_some_and(|(protocol, index, _)| protocol.key == Some(index))
    }

    fn is_of(&self, names: &[&str]) -> bool {
        self.field.is_some_and(|(protocol, ..)| names.contains(&protocol.name))
    }
}

struct Reader<'a> {
    dialect: &'a Dialect,
    family: NfFamily,
    protocols: [Option<&'static Protocol>; 3],
    /// In the order printed; `None` where a later one made it superfluous.
    shown: Vec<Option<Shown>>,
    /// By base, and one beyond: the field that a field of that base implies.
    implied: [Option<usize>; 4],
    icmp_type: u32,
}

impl Reader<'_> {
    fn read(&mut self, base: Base, header: &[u8]) {
        if header.is_empty() {
            return;
        }
        let mut unordered = self.split(base, header);
        let mut place = 0;
        // One field at a time: the next of the protocol's order, else the first that is left.
        while let Some(at) = unordered.iter().position(|shown| is_next(shown, place)) {
            let shown = unordered.remove(at);
            place += 1;
            self.show(base, shown);
        }
    }

    fn split(&mut self, base: Base, header: &[u8]) -> Vec<Shown> {
        let mut bits = Bits { bytes: header, at: 0 };
        let mut found = Vec::new();
        let mut pieces = self.expand(base, header.len() * 8);
        let mut current: Option<&'static Protocol> = None;
        while let Some(piece) = pieces.pop_front() {
            let context = self.context(base);
            if current.is_some() && current != context {
                // Another header within the same layer: what is left is split anew.
                current = None;
                pieces = self.expand(base, piece.bits);
                continue;
            }
            let value = bits.take(piece.bits);
            let Some((protocol, _, field)) = piece.field else {
                if !self.dialect.at_least(TERSE) {
                    let text =
                        format!("@{},{},{} {}", base.token(), piece.offset, piece.bits, value::raw(&value));
                    found.push(Shown { base, field: None, text, number: 0 });
                }
                continue;
            };
            current = Some(protocol);
            if !self.dialect.at_least(field.shown) {
                continue;
            }
            let text = format!(
                "{} {} {}{}",
                protocol.name,
                field.name,
                field.kind.operator(),
                value::print(field.kind, &value, piece.bits, self.dialect)
            );
            let number = value.iter().rev().take(4).rev().fold(0, |n: u32, byte| n << 8 | u32::from(*byte));
            let shown = Shown { base, field: piece.field, text, number };
            current = context;
            if shown.is_key()
                && let Some(upper) = context.and_then(|p| p.upper(number, |v| self.dialect.at_least(v)))
                && let Some(known) = self.protocols.get_mut(upper.base as usize)
            {
                *known = Some(upper);
            }
            found.push(shown);
        }
        found
    }

    fn context(&self, base: Base) -> Option<&'static Protocol> {
        self.protocols.get(base as usize).copied().flatten()
    }

    /// Splits so many bits by the fields of the base's protocol.
    fn expand(&self, base: Base, bits: usize) -> VecDeque<Piece> {
        let (mut offset, mut left) = (0, bits);
        let mut pieces = VecDeque::new();
        if let Some(protocol) = self.context(base) {
            for (index, field) in protocol.fields.iter().enumerate() {
                if left == 0 {
                    return pieces;
                }
                if field.offset != offset || !self.dialect.at_least(field.known) {
                    continue;
                }
                let bits = field.bits.min(left);
                pieces.push_back(Piece { field: Some((protocol, index, *field)), offset, bits });
                offset += bits;
                left -= bits;
            }
        }
        if left > 0 {
            let field = if base == Base::Transport { lone_port(offset, left) } else { None };
            pieces.push_back(Piece { field, offset, bits: left });
        }
        pieces
    }

    fn show(&mut self, base: Base, mut shown: Shown) {
        // With an ICMP type everything is shown: what it implies is not obvious.
        if self.icmp_type == 0 {
            self.drop_implied(base, &mut shown);
        }
        let at = self.shown.len();
        if shown.is_key() {
            let within = base == Base::Link && shown.is_of(&["ether", "vlan"]) && is_tag(shown.number);
            if !self.is_echo(&shown)
                && let Some(implied) = self.implied.get_mut(base as usize + usize::from(!within))
            {
                *implied = Some(at);
            }
        }
        self.shown.push(Some(shown));
    }

    /// Notes an ICMP type; whether it is one that its identifier and sequence number imply.
    fn is_echo(&mut self, shown: &Shown) -> bool {
        if shown.is_of(&["icmp"]) {
            // An echo's reply is taken for its request, whose number is not 0.
            self.icmp_type = if shown.number == 0 { 8 } else { shown.number };
            return self.icmp_type == 8;
        }
        if shown.is_of(&["icmpv6"]) {
            self.icmp_type = shown.number;
            return matches!(shown.number, 128 | 129);
        }
        false
    }

    fn drop_implied(&mut self, base: Base, by: &mut Shown) {
        let Some((_, _, field)) = by.field else { return };
        let beyond = base == Base::Transport;
        let slot = match self.implied.get(base as usize) {
            Some(Some(_)) => base as usize,
            _ if beyond => 3,
            _ => return,
        };
        let Some(Some(at)) = self.implied.get(slot).copied() else { return };
        let Some(Some(implied)) = self.shown.get(at) else { return };
        let port = by.is_of(&["th"]) && self.dialect.at_least(TERSE);
        if port && !keeps_network(self.family, implied, by) {
            // A port of whatever protocol: it implies none, and nft does not call it a port then.
            by.text = format!("@th,{},{} {}", field.offset, field.bits, by.number);
        } else if may_drop(self.family, implied, by) {
            self.shown[at] = None;
            self.implied[slot] = None;
        }
    }

    fn print(self) -> String {
        let mut line = String::new();
        for shown in self.shown.into_iter().flatten() {
            let _ = write!(line, "{} ", shown.text);
        }
        line
    }
}

/// Whether it is the next to be shown.
fn is_next(shown: &Shown, place: usize) -> bool {
    shown.field.is_none_or(|(protocol, index, _)| {
        protocol.order.get(place).is_none_or(|expected| *expected == index)
    })
}

/// `ETH_P_8021Q`, `ETH_P_8021AD`: another header of the link layer follows.
fn is_tag(ether_type: u32) -> bool {
    matches!(ether_type, 0x8100 | 0x88a8)
}

/// Where a table sees packets of more than one protocol, `ip protocol` says that it is IPv4, too.
fn keeps_network(family: NfFamily, implied: &Shown, by: &Shown) -> bool {
    has_many(family) && by.base == Base::Transport && implied.is_of(&["ip", "ip6"])
}

fn has_many(family: NfFamily) -> bool {
    matches!(family, NfFamily::Bridge | NfFamily::Netdev | NfFamily::Inet)
}

/// `payload_may_dependency_kill`.
fn may_drop(family: NfFamily, implied: &Shown, by: &Shown) -> bool {
    if has_many(family) {
        if keeps_network(family, implied, by) {
            return false;
        }
        if by.base == implied.base {
            if by.is_key() {
                return false;
            }
            if by.base == Base::Link {
                return !implied.is_of(&["vlan"]) && implied.number == 0x8100;
            }
        }
    }
    by.base != Base::Transport || implied.base != Base::Transport || !implied.is_of(&["icmp", "icmpv6"])
}

/// Bits in order, most significant first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// The next bits, right-aligned.
    fn take(&mut self, bits: usize) -> Vec<u8> {
        let mut value = vec![0; bits.div_ceil(8)];
        for bit in 0..bits {
            let at = self.at + bit;
            let set = self.bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1);
            let to = value.len() * 8 - bits + bit;
            if set && let Some(byte) = value.get_mut(to / 8) {
                *byte |= 1 << (7 - to % 8);
            }
        }
        self.at += bits;
        value
    }
}
