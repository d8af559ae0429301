//! The filter: what a packet, or conntrack's tuple of its connection, is compared with.

use nattrace_common::{
    filter::{ALTERNATIVES, Bits, List, Ports, PrefixWords},
    record::TUPLE_BYTES,
};

use crate::{
    FILTER,
    read::{self, ETH_P_IP, ETH_P_IPV6, filter},
};

/// What the filter looks at. Addresses are 16 bytes in network order, IPv4 as `::ffff:a.b.c.d`.
pub(crate) struct Key {
    pub(crate) saddr: [u32; 4],
    pub(crate) daddr: [u32; 4],
    pub(crate) protocol: u32,
    /// Ports are there.
    pub(crate) ports: bool,
    pub(crate) sport: u16,
    pub(crate) dport: u16,
    tcp_flags: u32,
}

/// `struct nf_conntrack_tuple` (include/net/netfilter/nf_conntrack_tuple.h): source address at 0, port at 16,
/// l3num at 18, destination address at 20, port at 36, protocol at 38.
#[inline(always)]
pub(crate) fn key_of_tuple(tuple: &[u8; TUPLE_BYTES]) -> Key {
    let word = |at: usize| u32::from_ne_bytes([tuple[at], tuple[at + 1], tuple[at + 2], tuple[at + 3]]);
    let port = |at: usize| u16::from_be_bytes([tuple[at], tuple[at + 1]]);
    let ipv4 = u16::from_ne_bytes([tuple[18], tuple[19]]) == 2;
    let addr = |at: usize| {
        if ipv4 { mapped(word(at)) } else { [word(at), word(at + 4), word(at + 8), word(at + 12)] }
    };
    let protocol = u32::from(tuple[38]);
    Key::of_connection(addr(0), addr(20), protocol, port(16), port(36))
}

impl Key {
    /// Of a tuple: without what single packets have.
    #[inline(always)]
    pub(crate) fn of_connection(
        saddr: [u32; 4],
        daddr: [u32; 4],
        protocol: u32,
        sport: u16,
        dport: u16,
    ) -> Self {
        Self { saddr, daddr, protocol, ports: has_ports(protocol), sport, dport, tcp_flags: 0 }
    }

    /// Takes over ports as they stand in the header.
    #[inline(always)]
    fn set_ports(&mut self, word: u32) {
        let ports = u32::from_be(word);
        self.ports = true;
        self.sport = (ports >> 16) as u16;
        self.dport = ports as u16;
    }
}

/// An IPv4 header without options and the four bytes behind it; `None` for others, and fragments.
#[inline(always)]
pub(crate) fn key_of_ipv4(header: &[u32; 6]) -> Option<Key> {
    // Four bits of version and four of length, in words; the flag for more fragments, and the offset.
    if u32::from_be(header[0]) >> 24 != 0x45 || u32::from_be(header[1]) & 0x3fff != 0 {
        return None;
    }
    let protocol = (u32::from_be(header[2]) >> 16) & 0xff;
    Some(key_of_header(mapped(header[3]), mapped(header[4]), protocol, header[5]))
}

/// An IPv6 header without extensions and the four bytes behind it; `None` for others.
#[inline(always)]
pub(crate) fn key_of_ipv6(header: &[u32; 11]) -> Option<Key> {
    let next = (u32::from_be(header[1]) >> 8) as u8;
    if u32::from_be(header[0]) >> 28 != 6 || is_extension(next) {
        return None;
    }
    let saddr = [header[2], header[3], header[4], header[5]];
    let daddr = [header[6], header[7], header[8], header[9]];
    Some(key_of_header(saddr, daddr, u32::from(next), header[10]))
}

#[inline(always)]
fn key_of_header(saddr: [u32; 4], daddr: [u32; 4], protocol: u32, ports: u32) -> Key {
    let mut key = Key::of_connection(saddr, daddr, protocol, 0, 0);
    if key.ports {
        key.set_ports(ports);
    }
    key
}

/// Extension headers (RFC 8200 §4): hop-by-hop, routing, fragment, authentication, destination.
#[inline(always)]
fn is_extension(next: u8) -> bool {
    next == 0 || next == 43 || next == 44 || next == 51 || next == 60
}

#[inline(always)]
pub(crate) fn mapped(addr: u32) -> [u32; 4] {
    [0, 0, 0xffff_u32.to_be(), addr]
}

#[inline(always)]
fn has_ports(protocol: u32) -> bool {
    // TCP, UDP, SCTP, DCCP, UDP-Lite.
    protocol == 6 || protocol == 17 || protocol == 132 || protocol == 33 || protocol == 136
}

#[inline(always)]
pub(crate) fn parse(ethertype: u16, network: u64) -> Option<Key> {
    parse_to(ethertype, network).map(|(key, _)| key)
}

/// The headers that tell a flow from others between the same ends: those with ports, or an echo, whose identifier then
/// stands for both.
#[inline(always)]
pub(crate) fn parse_flow(ethertype: u16, network: u64) -> Option<Key> {
    let (mut key, transport) = parse_to(ethertype, network)?;
    if key.ports {
        return Some(key);
    }
    // Type, code, checksum, identifier.
    let echo: [u8; 6] = read::at(transport?, 0)?;
    let is_echo = match key.protocol {
        1 => echo[0] & 0xf7 == 0,
        58 => echo[0] & 0xfe == 128,
        _ => false,
    };
    if !is_echo {
        return None;
    }
    key.sport = u16::from_be_bytes([echo[4], echo[5]]);
    key.dport = key.sport;
    Some(key)
}

/// The headers, and where the transport header is; a later fragment has none.
#[inline(always)]
fn parse_to(ethertype: u16, network: u64) -> Option<(Key, Option<u64>)> {
    let mut key =
        Key { saddr: [0; 4], daddr: [0; 4], protocol: 0, ports: false, sport: 0, dport: 0, tcp_flags: 0 };
    let transport;
    let (mut ports, ports_at);
    let mut first_fragment = true;
    if ethertype == ETH_P_IP {
        // With what follows a header without options; behind the bytes of a packet there is skb_shared_info at least.
        let header: [u32; 6] = read::at(network, 0)?;
        let first = u32::from_be(header[0]);
        if first >> 28 != 4 {
            return None;
        }
        transport = network + u64::from(((first >> 24) & 0xf) * 4);
        // What is left after shifting out identification and flags is the fragment offset.
        first_fragment = u32::from_be(header[1]) << 19 == 0;
        key.protocol = (u32::from_be(header[2]) >> 16) & 0xff;
        key.saddr = mapped(header[3]);
        key.daddr = mapped(header[4]);
        ports = header[5];
        ports_at = network + 20;
    } else if ethertype == ETH_P_IPV6 {
        let header: [u32; 11] = read::at(network, 0)?;
        key.saddr = [header[2], header[3], header[4], header[5]];
        key.daddr = [header[6], header[7], header[8], header[9]];
        ports = header[10];
        ports_at = network + 40;
        let mut next = (u32::from_be(header[1]) >> 8) as u8;
        let mut at = network + 40;
        for _ in 0..4 {
            if !is_extension(next) {
                break;
            }
            let [following, len]: [u8; 2] = read::at(at, 0)?;
            let bytes = if next == 44 {
                first_fragment = u16::from_be_bytes(read::at(at, 2)?) & 0xfff8 == 0;
                8
            } else if next == 51 {
                (u64::from(len) + 2) * 4
            } else {
                (u64::from(len) + 1) * 8
            };
            next = following;
            at += bytes;
        }
        key.protocol = u32::from(next);
        transport = at;
    } else {
        return None;
    }
    if first_fragment && has_ports(key.protocol) {
        if transport != ports_at {
            ports = read::at(transport, 0)?;
        }
        key.set_ports(ports);
        if key.protocol == 6 && filter!(tcp_flags.mask) != 0 {
            key.tcp_flags = u32::from(read::at::<u8>(transport, 13)?);
        }
    }
    Some((key, first_fragment.then_some(transport)))
}

/// Whether nf_tables can have marked the packet for the connection it is of, of which conntrack has not told yet, or never
/// does: the trace table knows the headers of followed connections, and of what answers. Criteria of single packets
/// (mark, flags, device) do not count then.
#[inline(always)]
pub(crate) fn marked_for_connection(key: &Key) -> bool {
    filter!(marked) == 1 && filter!(follow) == 1 && matches_either_way(key)
}

/// Whether the criteria of connections match one of the two directions.
#[inline(always)]
pub(crate) fn matches_either_way(key: &Key) -> bool {
    ends_match(key) || swapped(key)
}

/// An end of a packet.
type End<'a> = (&'a [u32; 4], u16);

/// Whether the criteria of connections match.
#[inline(always)]
fn ends_match(key: &Key) -> bool {
    between(key, (&key.saddr, key.sport), (&key.daddr, key.dport))
}

/// Whether the criteria of connections match with source and destination swapped.
#[inline(always)]
fn swapped(key: &Key) -> bool {
    between(key, (&key.daddr, key.dport), (&key.saddr, key.sport))
}

/// Whether the filter with source and destination swapped matches: what may be a reply, where no connection is tracked,
/// until nf_tables marks it or does not.
#[inline(always)]
pub(crate) fn mirrored(key: &Key) -> bool {
    filter!(mirror) == 1 && filter!(marked) == 1 && swapped(key)
}

#[inline(always)]
fn between(key: &Key, source: End<'_>, destination: End<'_>) -> bool {
    let protocol = |list| any(list, |item| item == key.protocol);
    let port =
        |list, end: End<'_>| any(list, |item: Ports| key.ports && end.1 >= item.first && end.1 <= item.last);
    let addr = |list, end: End<'_>| any(list, |item: PrefixWords| in_prefix(&item, end.0));
    protocol(&raw const FILTER.protocols)
        && port(&raw const FILTER.dport, destination)
        && port(&raw const FILTER.sport, source)
        && (port(&raw const FILTER.port, source) || port(&raw const FILTER.port, destination))
        && addr(&raw const FILTER.daddr, destination)
        && addr(&raw const FILTER.saddr, source)
        && (addr(&raw const FILTER.addr, source) || addr(&raw const FILTER.addr, destination))
}

/// The packet's mark is only asked for where the filter asks for marks.
#[inline(always)]
pub(crate) fn matches(key: &Key, mark: impl Fn() -> u32) -> bool {
    ends_match(key)
        && key.tcp_flags & filter!(tcp_flags.mask) == filter!(tcp_flags.value)
        && (filter!(tcp_flags.mask) == 0 || key.protocol == 6)
        && any(&raw const FILTER.marks, |item: Bits| mark() & item.mask == item.value & item.mask)
}

#[inline(always)]
pub(crate) fn iif_matches(device: u64) -> bool {
    if filter!(iif.len) == 0 {
        return true;
    }
    let Some(name) = read::at::<[u64; 2]>(device, read::field!(dev_name)) else { return false };
    any(&raw const FILTER.iif, |item| item == name)
}

#[inline(always)]
fn in_prefix(prefix: &PrefixWords, addr: &[u32; 4]) -> bool {
    ((addr[0] ^ prefix.value[0]) & prefix.mask[0])
        | ((addr[1] ^ prefix.value[1]) & prefix.mask[1])
        | ((addr[2] ^ prefix.value[2]) & prefix.mask[2])
        | ((addr[3] ^ prefix.value[3]) & prefix.mask[3])
        == 0
}

/// Whether a criterion is not asked for, or one of its alternatives holds.
#[inline(always)]
fn any<T: Copy>(list: *const List<T>, holds: impl Fn(T) -> bool) -> bool {
    // SAFETY: `list` is one of the filter's, read-only.
    let len = unsafe { core::ptr::read_volatile(&raw const (*list).len) };
    if len == 0 {
        return true;
    }
    for index in 0..ALTERNATIVES {
        if index as u32 >= len {
            break;
        }
        // SAFETY: in bounds.
        if holds(unsafe { core::ptr::read_volatile((&raw const (*list).items).cast::<T>().add(index)) }) {
            return true;
        }
    }
    false
}
