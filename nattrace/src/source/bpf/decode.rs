//! Records of the ring to events.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nattrace_common::record::{
    Circumstances as RawCircumstances, CommitRecord, Conn, DELIVER_FUNCTIONS, DeliverRecord, Device,
    DeviceRecord, FreeRecord, Head, HookRecord, Kind, LegacyChangeRecord, LegacyRecord, NftHead,
    RewriteRecord, Route, RuleRecord, Snapshot, TUPLE_BYTES, WRITER_FUNCTIONS,
};
use nattrace_core::conntrack::{Connection, Direction, State, Tuple};
use nattrace_core::event::{
    Attached, Body, Circumstances, Deliver, DeviceEvent, DeviceRef, DropEvent, Event, FrameTo, Hook,
    HookPoint, HookReturn, HookVerdict, LegacyChange, LegacyRule, Listening, Manip, NfFamily, NftTrace,
    Rewrite, RouteRef, Source, TraceMessage, TraceType, Verdict, Writer,
};
use nattrace_core::packet::{Endpoint, Family, Packet, decode, has_right_checksum, protocol};
use zerocopy::FromBytes;

use super::fields::KernelTypes;
use super::symbols::Symbols;
use crate::source::netlink::trace;

/// What is needed to name what records hold as numbers.
#[derive(Debug)]
pub struct Decoder {
    /// Nanoseconds to add to `bpf_ktime_get_ns` for time since the epoch.
    pub epoch_offset_ns: u64,
    /// Drop reasons of this kernel.
    pub drop_reasons: Option<BTreeMap<u32, String>>,
    /// Function names.
    pub symbols: Symbols,
    /// Namespace of each trace socket, by `SO_COOKIE`.
    pub socket_netns: BTreeMap<u64, u32>,
}

/// What a record says.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every one is an event; a box for each would cost more")]
pub enum Decoded {
    /// An event.
    Event(Event),
    /// The time of a transaction, whose notification comes by its socket.
    Committed {
        /// Namespace.
        netns: u32,
        /// `NFTA_GEN_ID`.
        generation: u32,
        /// Nanoseconds since the epoch.
        time_ns: u64,
    },
    /// Nothing that is still of interest.
    Nothing,
}

impl Decoder {
    /// A decoder for the running kernel.
    #[must_use]
    pub fn new(types: &KernelTypes, epoch_offset_ns: u64) -> Self {
        Self {
            epoch_offset_ns,
            drop_reasons: types.drop_reasons.clone(),
            symbols: Symbols::open(),
            socket_netns: BTreeMap::new(),
        }
    }

    /// Decodes a record; `None` for one that this version does not know or that is cut short.
    #[must_use]
    pub fn decode(&self, bytes: &[u8]) -> Option<Decoded> {
        let head: Head = read(bytes)?;
        let body = match Kind::from_number(head.kind)? {
            Kind::Hook => hook_body(&read(bytes)?)?,
            Kind::HookReturn => hook_return_body(&read(bytes)?)?,
            Kind::Rewrite => rewrite_body(&read(bytes)?),
            Kind::Receive => Body::Receive(device_event(&read(bytes)?)),
            Kind::Transmit => Body::Transmit(device_event(&read(bytes)?)),
            Kind::Drop => self.drop_body(&read(bytes)?),
            Kind::End => {
                let record: FreeRecord = read(bytes)?;
                Body::End { packet: head.packet, function: self.function(record.location) }
            }
            Kind::Left => Body::Left { packet: head.packet },
            Kind::Deliver => deliver_body(&read(bytes)?),
            Kind::Writer => writer_body(&read(bytes)?)?,
            Kind::Nft => return self.nft(bytes).map(Decoded::Event),
            Kind::Rule => rule_body(&read(bytes)?)?,
            Kind::Commit => return Some(self.commit(&read(bytes)?)),
            Kind::Legacy => legacy_rule_body(&read(bytes)?)?,
            Kind::LegacyChange => legacy_change_body(&read(bytes)?),
        };
        Some(Decoded::Event(self.event(&head, body)))
    }

    fn commit(&self, record: &CommitRecord) -> Decoded {
        let Some(netns) = self.socket_netns.get(&record.cookie) else { return Decoded::Nothing };
        let time_ns = record.head.time_ns.wrapping_add(self.epoch_offset_ns);
        Decoded::Committed { netns: *netns, generation: record.generation, time_ns }
    }

    /// The source of a record that cannot be decoded.
    #[must_use]
    pub fn source(bytes: &[u8]) -> Source {
        match read::<Head>(bytes).and_then(|head| Kind::from_number(head.kind)) {
            Some(Kind::Nft | Kind::Rule) => Source::Nft,
            Some(Kind::Receive | Kind::Transmit | Kind::Drop | Kind::End | Kind::Left) => Source::Tracepoints,
            _ => Source::Probes,
        }
    }

    fn event(&self, head: &Head, body: Body) -> Event {
        Event {
            time_ns: head.time_ns.wrapping_add(self.epoch_offset_ns),
            cpu: head.cpu,
            netns: head.netns,
            body,
        }
    }

    fn function(&self, location: u64) -> Option<String> {
        (location != 0).then(|| self.symbols.function(location).map(str::to_owned)).flatten()
    }

    fn drop_body(&self, record: &FreeRecord) -> Body {
        Body::Drop(DropEvent {
            packet: record.head.packet,
            header: packet(&record.snapshot),
            reason: self.reason(record.reason),
            function: self.function(record.location),
            device: device(&record.device),
            route: route(&record.route),
            circumstances: Circumstances {
                header_checksum: has_right_checksum(headers(&record.snapshot)),
                ..circumstances(&record.circumstances, record.head.time_ns)
            },
        })
    }

    /// A reason's name; a number that BTF does not name (another subsystem's) is shown as such.
    fn reason(&self, number: u32) -> Option<String> {
        let names = self.drop_reasons.as_ref()?;
        if number == u32::MAX {
            return None;
        }
        Some(names.get(&number).cloned().unwrap_or_else(|| format!("{number:#x}")))
    }

    fn nft(&self, bytes: &[u8]) -> Option<Event> {
        let nft: NftHead = read(bytes)?;
        let message = bytes.get(size_of::<NftHead>()..)?.get(..nft.len as usize)?;
        let message = trace::parse(message).ok()??;
        let mut event = self.event(
            &nft.head,
            Body::NftTrace(NftTrace {
                packet: some(nft.head.packet),
                hint: some(nft.hint),
                table_handle: some(nft.table_handle),
                message,
            }),
        );
        if let Some(netns) = self.socket_netns.get(&nft.cookie) {
            event.netns = *netns;
        }
        Some(event)
    }
}

fn rule_body(record: &RuleRecord) -> Option<Body> {
    let kind = trace::trace_type(record.kind)?;
    let verdict = match kind {
        TraceType::Policy if record.policy == 0 => Verdict::Drop,
        TraceType::Policy => Verdict::Accept,
        _ => trace::verdict_from_code(record.verdict, Some(name(&record.target))),
    };
    // As nf_trace_fill_rule_info has it: the end of a chain shows no rule.
    let has_rule = match kind {
        TraceType::Policy => false,
        TraceType::Return => verdict != Verdict::Continue,
        TraceType::Rule => true,
    };
    Some(Body::NftTrace(NftTrace {
        packet: some(record.head.packet),
        hint: None,
        table_handle: some(record.table_handle),
        message: TraceMessage {
            rule_handle: some(record.rule_handle).filter(|_| has_rule),
            verdict: Some(verdict),
            ..TraceMessage::new(
                NfFamily::from_number(u8::try_from(record.family).ok()?)?,
                kind,
                name(&record.table),
                name(&record.chain),
            )
        },
    }))
}

fn legacy_rule_body(record: &LegacyRecord) -> Option<Body> {
    let family = NfFamily::from_number(u8::try_from(record.pf).ok()?)?;
    Some(Body::LegacyRule(LegacyRule {
        packet: record.head.packet,
        family,
        hook: hook_point(family, record.hook)?,
        table: name(&record.table),
        chain: name(&record.chain),
        rulenum: record.rulenum,
        called: match name(&record.comment).as_str() {
            "rule" => TraceType::Rule,
            "return" => TraceType::Return,
            "policy" => TraceType::Policy,
            _ => return None,
        },
    }))
}

fn legacy_change_body(record: &LegacyChangeRecord) -> Body {
    let task = record.task;
    Body::LegacyChange(match record.ended {
        0 => LegacyChange::Begun { task },
        _ => LegacyChange::Ended { task },
    })
}

/// A NUL-terminated name.
fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or_default()).into_owned()
}

fn some(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}

/// Copies a record out of the ring, where it lies at an address of any alignment.
fn read<T: FromBytes>(bytes: &[u8]) -> Option<T> {
    T::read_from_prefix(bytes).ok().map(|(record, _)| record)
}

/// `NF_INET_*` for IP families, `NF_NETDEV_*` for netdev (include/uapi/linux/netfilter.h); bridge
/// numbers its hooks likewise, arp has its own.
fn hook_point(family: NfFamily, hook: u32) -> Option<HookPoint> {
    Some(match (family, hook) {
        (NfFamily::Netdev, 0) => HookPoint::Ingress,
        (NfFamily::Netdev, 1) => HookPoint::Egress,
        // NF_ARP_IN, NF_ARP_OUT
        (NfFamily::Arp, 0) => HookPoint::Input,
        (NfFamily::Arp, _) | (_, 3) => HookPoint::Output,
        (_, 1) => HookPoint::Input,
        (_, 0) => HookPoint::Prerouting,
        (_, 2) => HookPoint::Forward,
        (_, 4) => HookPoint::Postrouting,
        (_, 5) => HookPoint::Ingress,
        _ => return None,
    })
}

fn place(record: &HookRecord) -> Option<(NfFamily, HookPoint)> {
    let family = NfFamily::from_number(u8::try_from(record.pf).ok()?)?;
    Some((family, hook_point(family, record.hook)?))
}

fn hook_body(record: &HookRecord) -> Option<Body> {
    let (family, hook) = place(record)?;
    Some(Body::Hook(Hook {
        packet: record.head.packet,
        header: packet(&record.snapshot),
        hook,
        family,
        iif: device(&record.iif),
        oif: device(&record.oif),
        connection: connection(&record.conn),
        route: route(&record.route),
    }))
}

fn hook_return_body(record: &HookRecord) -> Option<Body> {
    let (family, hook) = place(record)?;
    let verdict = match record.verdict {
        1 => HookVerdict::Accept,
        0 => HookVerdict::Stolen,
        _ => HookVerdict::Drop,
    };
    let alive = record.alive == 1;
    Some(Body::HookReturn(HookReturn {
        packet: record.head.packet,
        hook,
        family,
        verdict,
        header: alive.then(|| packet(&record.snapshot)),
        connection: if alive { connection(&record.conn) } else { None },
        route: if alive { route(&record.route) } else { None },
        iif: device(&record.iif),
        oif: device(&record.oif),
    }))
}

fn rewrite_body(record: &RewriteRecord) -> Body {
    Body::Rewrite(Rewrite {
        packet: record.head.packet,
        manip: if record.manip == 0 { Manip::Snat } else { Manip::Dnat },
        direction: if record.direction == 0 { Direction::Original } else { Direction::Reply },
        before: packet(&record.before),
        after: packet(&record.after),
        connection: connection(&record.conn),
    })
}

fn device_event(record: &DeviceRecord) -> DeviceEvent {
    DeviceEvent {
        packet: record.head.packet,
        header: packet(&record.snapshot),
        device: device(&record.device).unwrap_or(DeviceRef { index: 0, name: None }),
        connection: connection(&record.conn),
    }
}

fn deliver_body(record: &DeliverRecord) -> Body {
    let function = DELIVER_FUNCTIONS.get(record.function as usize).copied().unwrap_or("unknown");
    Body::Deliver(Deliver {
        packet: record.head.packet,
        function: function.to_owned(),
        header: Some(packet(&record.snapshot)),
        listening: (record.socket_state == TCP_LISTEN)
            .then_some(Listening { waiting: record.waiting, most: record.most }),
    })
}

/// `TCP_LISTEN` (include/net/tcp_states.h).
const TCP_LISTEN: u32 = 10;

fn writer_body(record: &DeliverRecord) -> Option<Body> {
    Some(Body::Writer(Writer {
        packet: record.head.packet,
        function: (*WRITER_FUNCTIONS.get(record.function as usize)?).to_owned(),
        header: packet(&record.snapshot),
    }))
}

fn device(device: &Device) -> Option<DeviceRef> {
    if device.index == 0 {
        return None;
    }
    Some(DeviceRef { index: device.index, name: Some(name(&device.name)).filter(|name| !name.is_empty()) })
}

/// `ETH_P_ARP`.
const ETHERTYPE_ARP: u16 = 0x0806;

fn headers(snapshot: &Snapshot) -> &[u8] {
    snapshot.headers.get(..usize::from(snapshot.headers_len)).unwrap_or_default()
}

fn packet(snapshot: &Snapshot) -> Packet {
    let bytes = headers(snapshot);
    let ethertype = u16::from_be(snapshot.ethertype);
    let decoded = if ethertype == ETHERTYPE_ARP { None } else { decode(bytes, snapshot.skb_len).ok() };
    let mut packet = decoded.unwrap_or(Packet {
        family: if ethertype == ETHERTYPE_ARP { Family::Arp } else { Family::Other },
        protocol: None,
        source: None,
        destination: None,
        tcp_flags: None,
        tcp_seq: None,
        tcp_ack: None,
        icmp: None,
        length: snapshot.skb_len,
        ttl: None,
        ip_id: None,
        fragment_offset: 0,
        more_fragments: false,
        segments: 0,
        tos: 0,
        mark: 0,
    });
    packet.mark = snapshot.mark;
    packet.segments = snapshot.segments;
    packet
}

fn route(route: &Route) -> Option<RouteRef> {
    if route.present == 0 {
        return None;
    }
    let [a, b, c, d, ..] = route.gateway;
    let gateway = match route.gateway_family {
        2 => Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
        10 => Some(IpAddr::V6(Ipv6Addr::from(route.gateway))),
        _ => None,
    };
    Some(RouteRef {
        kind: u8::try_from(route.kind).ok().filter(|k| *k != 0),
        oif: device(&route.device),
        gateway,
        error: Some(route.error.saturating_abs()).filter(|errno| *errno > 0),
    })
}

/// `__LINK_STATE_NOCARRIER` (include/linux/netdevice.h, v5.10 to v7.3).
const NO_CARRIER: u32 = 1 << 2;

/// Between a table that is full and the drop lies the way back out of conntrack, and a line for the kernel's log, which a
/// serial console may print meanwhile.
const FULL_TABLE_NS: u64 = 100_000_000;

fn circumstances(read: &RawCircumstances, now_ns: u64) -> Circumstances {
    let known = |value: u32| Some(value).filter(|value| *value != u32::MAX);
    Circumstances {
        carrier: known(read.link_state).map(|state| state & NO_CARRIER == 0),
        forwarding: known(read.forwarding).map(|on| on != 0),
        mtu: known(read.mtu),
        frame: match read.packet_type {
            0 => Some(FrameTo::Host),
            1 => Some(FrameTo::Broadcast),
            2 => Some(FrameTo::Multicast),
            3 => Some(FrameTo::Other),
            4 => Some(FrameTo::Outgoing),
            _ => None,
        },
        conntrack: match (read.tracked, read.ctinfo) {
            (0, 7) => Some(Attached::Untracked),
            (0, _) => Some(Attached::Nothing),
            (1, _) => Some(Attached::Entry(read.status)),
            _ => None,
        },
        header_checksum: None,
        table_full: read.table_full_ns != 0 && now_ns.saturating_sub(read.table_full_ns) < FULL_TABLE_NS,
    }
}

/// `enum ip_conntrack_info` (include/uapi/linux/netfilter/nf_conntrack_common.h).
fn connection(conn: &Conn) -> Option<Connection> {
    let (state, direction) = match conn.ctinfo {
        0 => (State::Established, Direction::Original),
        1 => (State::Related, Direction::Original),
        2 => (State::New, Direction::Original),
        3 => (State::Established, Direction::Reply),
        4 => (State::Related, Direction::Reply),
        _ => {
            let untracked = Connection { state: Some(State::Untracked), ..Connection::default() };
            return Some(untracked);
        }
    };
    if conn.key == 0 {
        return None;
    }
    Some(Connection {
        key: conn.key,
        id: None,
        direction: Some(direction),
        state: Some(state),
        status: Some(conn.status),
        mark: Some(conn.mark),
        zone: u16::try_from(conn.zone).ok(),
        original: tuple(&conn.original),
        reply: tuple(&conn.reply),
    })
}

/// `struct nf_conntrack_tuple` (include/net/netfilter/nf_conntrack_tuple.h, v7.3): source address at 0, source
/// port or ICMP id at 16, l3num at 18, destination address at 20, destination port or ICMP type and code at
/// 36, protocol at 38.
fn tuple(bytes: &[u8; TUPLE_BYTES]) -> Option<Tuple> {
    let family = u16::from_ne_bytes([bytes[18], bytes[19]]);
    let addr = |at: usize| {
        let bytes: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
        let [a, b, c, d, ..] = bytes;
        match family {
            2 => Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
            10 => Some(IpAddr::V6(Ipv6Addr::from(bytes))),
            _ => None,
        }
    };
    let number = bytes[38];
    let port = |at: usize| {
        let known = protocol::has_ports(number) || matches!(number, protocol::ICMP | protocol::ICMPV6);
        known.then(|| u16::from_be_bytes([bytes[at], bytes[at + 1]]))
    };
    Some(Tuple {
        protocol: number,
        source: Endpoint { addr: addr(0)?, port: port(16) },
        destination: Endpoint { addr: addr(20)?, port: port(36) },
    })
}
