//! Identities that machines agree on without talking: the same packet gets the same trace id on every router that it
//! passes, and the same journey the same span id, however often its recording is replayed.
//!
//! They are SipHash-1-3 of fields written out here, so they stay what they are from version to version: when the fields
//! change, [`VERSION`] does, and hops told by different versions are different traces.

use std::hash::Hasher as _;

use nattrace_core::conntrack::Tuple;
use nattrace_core::event::NetnsId;
use nattrace_core::journey::Journey;
use nattrace_core::packet::{Endpoint, Family, Icmp, Packet};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// Of the fields that ids are made from.
const VERSION: u8 = 1;

/// IP's identifications and the numbers of echoes come again; within the life of a datagram they do not (RFC 6864 §3).
const LIFETIME_NS: u64 = 120_000_000_000;

/// 16 bytes, never all zero.
pub(super) type TraceId = [u8; 16];
/// 8 bytes, never all zero.
pub(super) type SpanId = [u8; 8];

/// What a trace id was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// TCP's sequence numbers.
    Sequence,
    /// IPv4's identification, or the numbers of an echo, within two minutes.
    Identification,
    /// The packet has nothing that tells it from others: the trace is of this journey alone.
    Journey,
}

impl Key {
    /// As the attribute has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Identification => "identification",
            Self::Journey => "journey",
        }
    }
}

/// The trace of a packet, from what neither NAT nor forwarding changes in it ([`Packet::same_payload`]), and what NAT
/// seldom changes where that alone would be too little.
pub(super) fn trace_id(journey: &Journey, host: &str) -> (TraceId, Key) {
    let packet = &journey.packet;
    let mut fields = Fields::new(b't');
    fields.packet(packet);
    if packet.tcp_seq.is_some() {
        return (fields.trace(), Key::Sequence);
    }
    let is_echo = packet.icmp.is_some_and(|icmp| icmp.id.is_some() && icmp.sequence.is_some());
    if !is_echo && packet.ip_id.is_none_or(|id| id == 0) {
        fields.bytes(&span_id(journey, host));
        return (fields.trace(), Key::Journey);
    }
    fields.option(client_port(packet).map(u32::from));
    // Every packet has a clock of its own: no moment ends the window of all, and two routers are seldom on both sides.
    let phase = fields.short() % LIFETIME_NS;
    fields.long(journey.first_seen_ns.saturating_add(phase) / LIFETIME_NS);
    (fields.trace(), Key::Identification)
}

/// The span of a journey: of this host's, whichever instance told it.
pub(super) fn span_id(journey: &Journey, host: &str) -> SpanId {
    let mut fields = Fields::new(b's');
    fields.text(host);
    fields.long(journey.netns.inum.into());
    fields.long(journey.id.0);
    fields.long(journey.first_seen_ns);
    fields.span()
}

/// The nth span within another.
pub(super) fn child_id(parent: SpanId, number: usize) -> SpanId {
    let mut fields = Fields::new(b'c');
    fields.bytes(&parent);
    fields.long(u64::try_from(number).unwrap_or(u64::MAX));
    fields.span()
}

/// The trace of a connection, and the span of what is said of it after so many packets.
pub(super) fn connection_ids(
    host: &str,
    netns: NetnsId,
    original: Tuple,
    since_ns: u64,
    packets: u64,
) -> (TraceId, SpanId) {
    let mut fields = Fields::new(b'k');
    fields.text(host);
    fields.long(netns.into());
    fields.bytes(&[original.protocol]);
    fields.endpoint(original.source);
    fields.endpoint(original.destination);
    fields.long(since_ns);
    let trace = fields.trace();
    fields.long(packets);
    (trace, fields.span())
}

/// The port of who began: it is the higher one, before NAT and after it, but for services on ephemeral ports. NAT keeps
/// it where it is free (`nf_nat_l4proto_unique_tuple`). Of an error, that of the packet that it quotes.
fn client_port(packet: &Packet) -> Option<u16> {
    let higher = |a: Endpoint, b: Endpoint| a.port.max(b.port);
    match packet.icmp {
        Some(Icmp { id: Some(id), .. }) => Some(id),
        Some(Icmp { about: Some(about), .. }) => higher(about.source, about.destination),
        _ => packet.source.zip(packet.destination).and_then(|(a, b)| higher(a, b)),
    }
}

/// Fields on their way into an id: each of a fixed length, or with its length before it, so that no two lists are alike.
struct Fields(SipHasher13);

impl Fields {
    fn new(kind: u8) -> Self {
        let mut fields = Self(SipHasher13::new());
        fields.bytes(&[VERSION, kind]);
        fields
    }

    fn packet(&mut self, packet: &Packet) {
        let family = match packet.family {
            Family::Ipv4 => 4,
            Family::Ipv6 => 6,
            Family::Arp => 1,
            Family::Other => 0,
        };
        self.bytes(&[family]);
        self.option(packet.protocol.map(u32::from));
        self.option(packet.ip_id.map(u32::from));
        self.option(Some(packet.told_length()));
        self.option(packet.tcp_seq);
        self.option(packet.tcp_ack);
        self.option(packet.tcp_flags.map(u32::from));
        self.option(Some(packet.fragment_offset.into()));
        self.option(packet.icmp.map(|icmp| u32::from(icmp.kind) << 8 | u32::from(icmp.code)));
        self.option(packet.icmp.and_then(|icmp| icmp.sequence).map(u32::from));
    }

    fn endpoint(&mut self, end: Endpoint) {
        self.text(&end.addr.to_string());
        self.option(end.port.map(u32::from));
    }

    fn text(&mut self, text: &str) {
        self.long(u64::try_from(text.len()).unwrap_or(u64::MAX));
        self.bytes(text.as_bytes());
    }

    fn option(&mut self, value: Option<u32>) {
        self.bytes(&[u8::from(value.is_some())]);
        self.bytes(&value.unwrap_or(0).to_le_bytes());
    }

    fn long(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// Of what has been written so far.
    fn short(&self) -> u64 {
        self.0.finish128().h1
    }

    fn trace(&self) -> TraceId {
        let hash = self.0.finish128();
        // All zero is no id (W3C Trace Context §3.2.2.3).
        if hash.h1 | hash.h2 == 0 { [1; 16] } else { hash.as_bytes() }
    }

    fn span(&self) -> SpanId {
        self.short().max(1).to_be_bytes()
    }
}
