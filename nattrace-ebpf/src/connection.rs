//! What ctnetlink tells of connections: of those that nobody asked for, nothing reaches user space. A router makes
//! thousands a second, and to wake a reader for each takes longer than the packet. And by what headers a connection is
//! followed that conntrack does not know, where programs select.

use aya_ebpf::programs::SkBuffContext;

use crate::{
    emit::{WHOLE, load},
    filter::{Key, key_of_tuple, mapped, matches_either_way},
    maps::{Answer, FOLLOWED},
    read::filter,
};

/// include/uapi/linux/netfilter/nfnetlink.h
const NFNL_SUBSYS_CTNETLINK: u16 = 1;

// include/uapi/linux/netfilter/nfnetlink_conntrack.h
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMP_ID: u16 = 4;
const CTA_PROTO_ICMPV6_ID: u16 = 7;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// An attribute's header: length with the header, type.
type Header = [u16; 2];

/// `CTA_TUPLE_IP` of IPv4 with what it is in, and the header of what follows (ctnetlink_dump_tuples_ip).
#[repr(C)]
#[derive(Clone, Copy)]
struct Ipv4 {
    tuple: Header,
    ip: Header,
    source: Header,
    saddr: u32,
    destination: Header,
    daddr: u32,
    proto: Header,
}

/// The same of IPv6.
#[repr(C)]
#[derive(Clone, Copy)]
struct Ipv6 {
    tuple: Header,
    ip: Header,
    source: Header,
    saddr: [u32; 4],
    destination: Header,
    daddr: [u32; 4],
    proto: Header,
}

/// What `CTA_TUPLE_PROTO` begins with (ctnetlink_dump_tuples_proto, nf_ct_port_tuple_to_nlattr); identifier and type of an
/// echo are where others have ports (icmp_tuple_to_nlattr).
#[repr(C)]
#[derive(Clone, Copy)]
struct Proto {
    number: Header,
    protocol: [u8; 4],
    source: Header,
    sport: [u8; 4],
    destination: Header,
    dport: [u8; 4],
}

/// Of a message to a socket for events of connections, how much the socket gets: all or nothing. What is not as expected is
/// for user space to make sense of.
#[inline(always)]
pub(crate) fn message(ctx: &SkBuffContext) -> i64 {
    // Behind nlmsghdr and nfgenmsg.
    const FIRST: u32 = 20;
    if filter!(follow) == 0 {
        return WHOLE;
    }
    let Some(kind) = load::<u16>(ctx, 4) else { return WHOLE };
    if kind >> 8 != NFNL_SUBSYS_CTNETLINK {
        return WHOLE;
    }
    let Some((original, len)) = tuple(ctx, FIRST, CTA_TUPLE_ORIG) else { return WHOLE };
    if matches_either_way(&original) || FOLLOWED.get_ptr(Answer::of(&original, 0)).is_some() {
        return WHOLE;
    }
    match tuple(ctx, FIRST + len, CTA_TUPLE_REPLY) {
        Some((reply, _)) if !matches_either_way(&reply) => 0,
        _ => WHOLE,
    }
}

/// A tuple, and how many bytes it takes; `None` for protocols that are told otherwise.
#[inline(always)]
fn tuple(ctx: &SkBuffContext, at: u32, kind: u16) -> Option<(Key, u32)> {
    let (head, ip): (Header, Header) = (load(ctx, at)?, load(ctx, at + 8)?);
    let is = |header: Header, kind| header[1] & NLA_TYPE_MASK == kind;
    let (saddr, daddr, rest);
    if is(ip, CTA_IP_V4_SRC) {
        let ipv4: Ipv4 = load(ctx, at)?;
        if !(is(ipv4.ip, CTA_TUPLE_IP)
            && is(ipv4.destination, CTA_IP_V4_DST)
            && is(ipv4.proto, CTA_TUPLE_PROTO))
        {
            return None;
        }
        (saddr, daddr, rest) = (mapped(ipv4.saddr), mapped(ipv4.daddr), size_of::<Ipv4>());
    } else {
        let ipv6: Ipv6 = load(ctx, at)?;
        if !(is(ipv6.ip, CTA_TUPLE_IP)
            && is(ipv6.source, CTA_IP_V6_SRC)
            && is(ipv6.destination, CTA_IP_V6_DST)
            && is(ipv6.proto, CTA_TUPLE_PROTO))
        {
            return None;
        }
        (saddr, daddr, rest) = (ipv6.saddr, ipv6.daddr, size_of::<Ipv6>());
    }
    let proto: Proto = load(ctx, at + rest as u32)?;
    if !is(head, kind) || !is(proto.number, CTA_PROTO_NUM) {
        return None;
    }
    let port = |bytes: [u8; 4]| u16::from_be_bytes([bytes[0], bytes[1]]);
    let dport = if is(proto.source, CTA_PROTO_SRC_PORT) && is(proto.destination, CTA_PROTO_DST_PORT) {
        port(proto.dport)
    } else if is(proto.source, CTA_PROTO_ICMP_ID) || is(proto.source, CTA_PROTO_ICMPV6_ID) {
        // Type and code are where others have the port.
        let code: [u8; 4] = load(ctx, at + (rest + size_of::<Proto>() + size_of::<Header>()) as u32)?;
        u16::from_be_bytes([proto.dport[0], code[0]])
    } else {
        return None;
    };
    let key = Key::of_connection(saddr, daddr, u32::from(proto.protocol[0]), port(proto.sport), dport);
    Some((key, (u32::from(head[0]) + 3) & !3))
}

/// Whether the headers of a packet that is not tracked are those of one that was selected, or what answers it. Where there
/// is a trace table, that knows.
#[inline(always)]
pub(crate) fn has_selected_headers(key: &Key) -> bool {
    selects_by_headers()
        && (FOLLOWED.get_ptr(Answer::of(key, 0)).is_some() || FOLLOWED.get_ptr(Answer::to(key, 0)).is_some())
}

/// Notes the headers of a selected packet.
#[inline(always)]
pub(crate) fn note_headers(key: &Key) {
    if selects_by_headers() {
        let _ = FOLLOWED.insert(Answer::of(key, 0), 1, 0);
    }
}

/// Whether programs select, and follow what they have selected.
#[inline(always)]
pub(crate) fn selects_by_headers() -> bool {
    filter!(marked) == 0 && filter!(follow) == 1
}

/// Has the messages of a connection pass.
#[inline(always)]
pub(crate) fn pass(original: &[u8; nattrace_common::record::TUPLE_BYTES]) {
    let _ = FOLLOWED.insert(Answer::of(&key_of_tuple(original), 0), 1, 0);
}
