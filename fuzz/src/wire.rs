//! What the kernel sends: netlink, the ring, BTF, headers of packets.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::LazyLock;

use nattrace::source::bpf::decode::Decoder;
use nattrace::source::bpf::fields::KernelTypes;
use nattrace::source::bpf::symbols::Symbols;
use nattrace::source::netlink::message::Messages;
use nattrace::source::netlink::ruleset_changes::CommitReader;
use nattrace::source::netlink::{conntrack, fib, neighbour, route, trace};
use nattrace_core::event::{NfFamily, TraceMessage, TraceType};
use nattrace_core::packet::{Headers, decode, decode_arp, encode, has_right_checksum};

/// A trace message, and the headers in it.
pub(crate) fn trace(data: &[u8]) {
    for message in Messages::new(data) {
        if let Ok(Some(message)) = trace::parse_message(&message) {
            headers(&message);
        }
    }
    let _ = black_box(trace::parse(data));
}

/// Messages about connections.
pub(crate) fn conntrack(data: &[u8]) {
    for message in Messages::new(data) {
        black_box((conntrack::parse(&message), message.answer()));
    }
}

/// All other messages: transactions, routes, neighbours, devices, addresses, refusals.
pub(crate) fn netlink(data: &[u8]) {
    let mut commits = CommitReader::default();
    for message in Messages::new(data) {
        black_box((commits.push(&message), message.answer(), message.is_done(), message.is_overrun()));
        black_box((fib::route(&message), neighbour::entry(&message)));
        black_box((route::link(&message), route::address(&message)));
    }
}

/// Records of the ring, one after the other: each begins with its length.
pub(crate) fn ring(data: &[u8]) {
    static DECODER: LazyLock<Decoder> = LazyLock::new(|| Decoder {
        epoch_offset_ns: 1 << 60,
        drop_reasons: Some(BTreeMap::from([(2, "NOT_SPECIFIED".to_owned())])),
        symbols: Symbols::default(),
        socket_netns: BTreeMap::from([(1, 7)]),
    });
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (record, after) = after.split_at(length);
        black_box(DECODER.decode(record));
        rest = after;
    }
}

/// BTF of a kernel and, behind it, of a module: the first four bytes say where that begins.
pub(crate) fn btf(data: &[u8]) {
    let Some((length, data)) = data.split_first_chunk() else { return };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX).min(data.len());
    let (kernel, module) = data.split_at(length);
    let mut btf = KernelTypes::to_be_read();
    if btf.add(kernel.to_vec()).is_ok() {
        black_box(KernelTypes::from_btf(&btf));
        if btf.add(module.to_vec()).is_ok() {
            black_box(KernelTypes::from_btf(&btf));
        }
    }
}

/// A packet's headers, as they are, and in pieces as a trace message has them.
pub(crate) fn packet(data: &[u8]) {
    black_box((has_right_checksum(data), decode_arp(data)));
    if let Ok(packet) = decode(data, 1500) {
        black_box(encode(&packet));
    }
    let Some((&[link, network], data)) = data.split_first_chunk() else { return };
    let (link, data) = data.split_at(usize::from(link).min(data.len()));
    let (network, transport) = data.split_at(usize::from(network).min(data.len()));
    let mut message = TraceMessage::new(NfFamily::Inet, TraceType::Rule, "t".to_owned(), "c".to_owned());
    message.link_header = link.to_vec();
    message.network_header = network.to_vec();
    message.transport_header = transport.to_vec();
    headers(&message);
}

/// Headers of a message, moved to where its packet would be later.
fn headers(message: &TraceMessage) {
    let Some(headers) = Headers::of(message) else { return };
    let Ok(packet) = decode(&headers.network, 0) else { return };
    black_box(headers.at_moment_of(&packet));
    let mut later = packet;
    later.ttl = later.ttl.map(|ttl| ttl.wrapping_sub(1));
    std::mem::swap(&mut later.source, &mut later.destination);
    black_box(headers.at_moment_of(&later));
}
