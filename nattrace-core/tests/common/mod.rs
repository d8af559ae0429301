//! Event streams as the sources make them, for the article's port-forward and for its variations.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::missing_panics_doc,
    clippy::needless_pass_by_value,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test binary uses its own part of this; a test may panic"
)]

use std::path::Path;

use nattrace_core::conntrack::{Connection, Direction, State, Tuple};
use nattrace_core::event::{
    Body, Circumstances, Commit, Deliver, DeviceEvent, DeviceRef, DropEvent, Event, Hook, HookPoint,
    HookReturn, HookVerdict, Manip, NfFamily, NftTrace, PacketId, Rewrite, RouteRef, TraceMessage, TraceType,
    Verdict,
};
use nattrace_core::journey::{
    Assembler, DeviceStep, DropCause, Journey, Options, Outcome, SourcesOn, Step, StepKind,
};
use nattrace_core::name::Name;
use nattrace_core::packet::{Endpoint, Family, Packet};
use nattrace_core::record::{Decoded, Header, Reader};
use nattrace_core::ruleset::{BaseChain, Chain, Listing, Rule, Table};

pub const MS: u64 = 1_000_000;
pub const RTR: u32 = 4_026_532_289;
/// When every stream begins; a realistic epoch keeps arithmetic honest.
pub const T0: u64 = 1_790_000_000_000_000_000;

pub fn end(text: &str) -> Endpoint {
    let (addr, port) = text.rsplit_once(':').expect("ADDR:PORT");
    Endpoint { addr: addr.parse().expect("an address"), port: Some(port.parse().expect("a port")) }
}

pub fn client() -> Endpoint {
    end("10.2.1.2:36334")
}

pub fn service() -> Endpoint {
    end("10.1.2.3:1222")
}

pub fn server() -> Endpoint {
    end("192.168.70.10:22")
}

/// A SYN as the client sends it.
pub fn syn(ip_id: u16, seq: u32) -> Packet {
    Packet {
        family: Family::Ipv4,
        protocol: Some(6),
        source: Some(client()),
        destination: Some(service()),
        tcp_flags: Some(2),
        tcp_seq: Some(seq),
        tcp_ack: Some(0),
        icmp: None,
        length: 60,
        ttl: Some(64),
        ip_id: Some(ip_id),
        fragment_offset: 0,
        more_fragments: false,
        segments: 0,
        tos: 0,
        mark: 0,
    }
}

pub fn udp(ip_id: u16) -> Packet {
    Packet { protocol: Some(17), tcp_flags: None, tcp_seq: None, tcp_ack: None, length: 38, ..syn(ip_id, 0) }
}

pub fn with_destination(packet: &Packet, to: Endpoint) -> Packet {
    Packet { destination: Some(to), ..packet.clone() }
}

pub fn with_source(packet: &Packet, to: Endpoint) -> Packet {
    Packet { source: Some(to), ..packet.clone() }
}

pub fn hop(packet: &Packet) -> Packet {
    Packet { ttl: packet.ttl.map(|t| t - 1), ..packet.clone() }
}

/// The same headers the other way, as the answer.
pub fn answer(packet: &Packet, ip_id: u16) -> Packet {
    Packet {
        source: packet.destination,
        destination: packet.source,
        ip_id: Some(ip_id),
        tcp_flags: packet.tcp_flags.map(|_| 0x12),
        tcp_seq: packet.tcp_seq.map(|s| s ^ 0xffff),
        tcp_ack: packet.tcp_seq.map(|s| s + 1),
        ..packet.clone()
    }
}

/// The headers as a trace message carries them.
pub fn raw(packet: &Packet) -> (Vec<u8>, Vec<u8>) {
    let (source, destination) = (packet.source.unwrap(), packet.destination.unwrap());
    let mut network = vec![0; 20];
    network[0] = 0x45;
    network[2..4].copy_from_slice(&(packet.length as u16).to_be_bytes());
    network[4..6].copy_from_slice(&packet.ip_id.unwrap().to_be_bytes());
    network[8] = packet.ttl.unwrap();
    network[9] = packet.protocol.unwrap();
    for (at, addr) in [(12, source.addr), (16, destination.addr)] {
        let std::net::IpAddr::V4(addr) = addr else { panic!("IPv4 only") };
        network[at..at + 4].copy_from_slice(&addr.octets());
    }
    let mut transport = Vec::new();
    transport.extend(source.port.unwrap().to_be_bytes());
    transport.extend(destination.port.unwrap().to_be_bytes());
    if packet.protocol == Some(6) {
        transport.extend(packet.tcp_seq.unwrap().to_be_bytes());
        transport.extend(packet.tcp_ack.unwrap().to_be_bytes());
        transport.extend([0xa0, packet.tcp_flags.unwrap(), 0xfa, 0xf0, 0, 0, 0, 0]);
    } else {
        transport.extend([0, 18, 0, 0]);
    }
    (network, transport)
}

pub const DNAT: &str = "ip daddr 10.1.2.3 tcp dport 1222 dnat ip to 192.168.70.10:22";
pub const JUMP: &str = "ct status dnat jump allowed_dnats";

fn chain(name: &str, handle: u64, base: Option<(&str, HookPoint, i32)>, rules: &[(u64, &str)]) -> Chain {
    let base = base.map(|(kind, hook, priority)| BaseChain {
        kind: kind.to_owned(),
        hook,
        devices: Vec::new(),
        priority,
        policy: "accept".to_owned(),
    });
    let rules = rules.iter().map(|(handle, text)| Rule::new(*handle, (*text).to_owned()));
    Chain { name: name.to_owned(), handle, base, rules: rules.collect() }
}

/// The article's ruleset.
pub fn listing(generation: u32, drop_text: &str, filter_handle: u64) -> Listing {
    let nat = Table {
        family: NfFamily::Inet,
        name: "nat".to_owned(),
        handle: 2,
        chains: vec![
            chain("prerouting", 1, Some(("nat", HookPoint::Prerouting, -100)), &[(4, DNAT)]),
            chain("postrouting", 2, Some(("nat", HookPoint::Postrouting, 100)), &[(5, "masquerade")]),
        ],
    };
    let filter = Table {
        family: NfFamily::Inet,
        name: "filter".to_owned(),
        handle: filter_handle,
        chains: vec![
            chain("prerouting", 1, Some(("filter", HookPoint::Prerouting, -150)), &[]),
            chain("forward", 2, Some(("filter", HookPoint::Forward, 0)), &[(7, JUMP)]),
            chain("input", 5, Some(("filter", HookPoint::Input, 0)), &[(9, "accept")]),
            chain("output", 6, Some(("filter", HookPoint::Output, 0)), &[]),
            chain("postrouting", 7, Some(("filter", HookPoint::Postrouting, 0)), &[]),
            chain(
                "allowed_dnats",
                3,
                None,
                &[(5, "meta nfproto ipv4 ip daddr . tcp dport @allow_in accept"), (6, drop_text)],
            ),
        ],
    };
    Listing { generation: Some(generation), tables: vec![nat, filter] }
}

pub fn device(name: &str) -> DeviceRef {
    let index = match name {
        "enp0" => 2,
        "veth21" => 3,
        _ => 1,
    };
    DeviceRef { index, name: Some(name.to_owned()) }
}

/// A recorder of events; every call takes a microsecond.
#[derive(Debug, Clone)]
pub struct Stream {
    pub events: Vec<Event>,
    pub now: u64,
    pub cpu: u32,
    pub netns: u32,
}

impl Stream {
    pub fn new() -> Self {
        Self { events: Vec::new(), now: T0, cpu: 0, netns: RTR }
    }

    pub fn at(now: u64, cpu: u32) -> Self {
        Self { events: Vec::new(), now, cpu, netns: RTR }
    }

    pub fn push(&mut self, body: Body) -> &mut Self {
        self.now += 1000;
        self.events.push(Event { time_ns: self.now, cpu: self.cpu, netns: self.netns, body });
        self
    }

    pub fn wait(&mut self, ns: u64) -> &mut Self {
        self.now += ns;
        self
    }

    pub fn links(&mut self) -> &mut Self {
        for (index, name) in [(1, "lo"), (2, "enp0"), (3, "veth21")] {
            self.push(Body::Link(nattrace_core::event::Link { index, name: name.to_owned() }));
        }
        self
    }

    pub fn ruleset(&mut self, listing: Listing) -> &mut Self {
        self.push(Body::Ruleset(listing))
    }

    pub fn reload(&mut self, generation: u32, old: u64, new: u64) -> &mut Self {
        let table = |handle| (NfFamily::Inet, "filter".to_owned(), Some(handle));
        self.push(Body::Commit(Commit {
            replaced_rules: Vec::new(),
            generation,
            deleted_tables: vec![table(old)],
            new_tables: vec![table(new)],
            changes: 2,
            uncertain_ns: None,
        }))
    }

    pub fn own_table(&mut self) -> &mut Self {
        self.push(Body::OwnTable { family: NfFamily::Inet, name: "nattrace".to_owned() })
    }

    pub fn hook(
        &mut self,
        packet: PacketId,
        header: &Packet,
        hook: HookPoint,
        devices: (Option<&str>, Option<&str>),
        connection: Option<Connection>,
    ) -> &mut Self {
        let gateway =
            devices.1.map(|oif| RouteRef { kind: None, oif: Some(device(oif)), gateway: None, error: None });
        self.push(Body::Hook(Hook {
            packet,
            header: header.clone(),
            hook,
            family: NfFamily::Ip,
            iif: devices.0.map(device),
            oif: devices.1.map(device),
            connection,
            route: gateway,
        }))
    }

    pub fn hook_return(
        &mut self,
        packet: PacketId,
        header: Option<&Packet>,
        hook: HookPoint,
        verdict: HookVerdict,
        connection: Option<Connection>,
    ) -> &mut Self {
        self.push(Body::HookReturn(HookReturn {
            packet,
            hook,
            family: NfFamily::Ip,
            verdict,
            header: header.cloned(),
            connection,
            route: None,
            iif: None,
            oif: None,
        }))
    }

    pub fn rewrite(
        &mut self,
        packet: PacketId,
        manip: Manip,
        direction: Direction,
        before: &Packet,
        after: &Packet,
    ) -> &mut Self {
        self.push(Body::Rewrite(Rewrite {
            packet,
            manip,
            direction,
            before: before.clone(),
            after: after.clone(),
            connection: None,
        }))
    }

    pub fn receive(&mut self, packet: PacketId, header: &Packet, name: &str) -> &mut Self {
        self.push(Body::Receive(DeviceEvent {
            packet,
            header: header.clone(),
            device: device(name),
            connection: None,
        }))
    }

    pub fn transmit(&mut self, packet: PacketId, header: &Packet, name: &str) -> &mut Self {
        self.push(Body::Transmit(DeviceEvent {
            packet,
            header: header.clone(),
            device: device(name),
            connection: None,
        }))
    }

    pub fn dropped(&mut self, packet: PacketId, header: &Packet, reason: &str, function: &str) -> &mut Self {
        self.push(Body::Drop(DropEvent {
            packet,
            header: header.clone(),
            reason: Some(reason.to_owned()),
            function: Some(function.to_owned()),
            device: None,
            route: None,
            circumstances: Circumstances::default(),
        }))
    }

    pub fn end(&mut self, packet: PacketId) -> &mut Self {
        self.push(Body::End { packet, function: None })
    }

    pub fn deliver(&mut self, packet: PacketId, header: &Packet, function: &str) -> &mut Self {
        self.push(Body::Deliver(Deliver {
            packet,
            function: function.to_owned(),
            header: Some(header.clone()),
            listening: None,
        }))
    }

    pub fn nft(&mut self, message: Nft) -> &mut Self {
        self.push(Body::NftTrace(message.0))
    }

    /// A whole evaluation of one of the program's own observers, as 6.7 and later send it.
    pub fn observe(
        &mut self,
        id: u32,
        hint: Option<PacketId>,
        chain: &str,
        header: &Packet,
        devices: (u32, u32),
    ) -> &mut Self {
        let message = |kind, verdict| Nft::new(id, "nattrace", chain, kind, verdict).hint(hint);
        self.nft(message(TraceType::Rule, Verdict::Continue).header(header, devices));
        self.nft(message(TraceType::Policy, Verdict::Accept))
    }
}

/// A trace message under construction.
#[derive(Debug, Clone)]
pub struct Nft(pub NftTrace);

impl Nft {
    pub fn new(id: u32, table: &str, chain: &str, kind: TraceType, verdict: Verdict) -> Self {
        Self(NftTrace {
            packet: None,
            hint: None,
            table_handle: None,
            message: TraceMessage {
                id,
                nfproto: Some(2),
                verdict: Some(verdict),
                ..TraceMessage::new(NfFamily::Inet, kind, table.to_owned(), chain.to_owned())
            },
        })
    }

    pub fn rule(id: u32, table: &str, chain: &str, handle: u64, verdict: Verdict) -> Self {
        let mut nft = Self::new(id, table, chain, TraceType::Rule, verdict);
        nft.0.message.rule_handle = Some(handle);
        nft
    }

    pub fn policy(id: u32, table: &str, chain: &str, verdict: Verdict) -> Self {
        Self::new(id, table, chain, TraceType::Policy, verdict)
    }

    pub fn header(mut self, packet: &Packet, (iif, oif): (u32, u32)) -> Self {
        let (network, transport) = raw(packet);
        self.0.message.network_header = network;
        self.0.message.transport_header = transport;
        self.0.message.iif = (iif != 0).then_some(iif);
        self.0.message.oif = (oif != 0).then_some(oif);
        self
    }

    pub fn packet(mut self, packet: PacketId) -> Self {
        self.0.packet = Some(packet);
        self
    }

    pub fn hint(mut self, packet: Option<PacketId>) -> Self {
        self.0.hint = packet;
        self
    }

    pub fn ct(mut self, id: u32, direction: Direction, state: u32, status: u32) -> Self {
        self.0.message.ct_id = Some(id);
        self.0.message.ct_direction = Some(direction);
        self.0.message.ct_state = Some(state);
        self.0.message.ct_status = Some(status);
        self
    }
}

pub fn connection(direction: Direction, state: State) -> Connection {
    Connection {
        key: 0xffff_8881_0000_1000,
        direction: Some(direction),
        state: Some(state),
        status: Some(0x20),
        original: Some(Tuple { protocol: 6, source: client(), destination: service() }),
        reply: Some(Tuple { protocol: 6, source: server(), destination: client() }),
        ..Connection::default()
    }
}

pub fn full(filter: nattrace_core::filter::Filter) -> Options {
    Options { filter, ..Options::default() }
}

pub fn reduced(filter: nattrace_core::filter::Filter) -> Options {
    Options { filter, sources: SourcesOn { probes: false, ..SourcesOn::default() }, ..Options::default() }
}

pub fn rules_only(filter: nattrace_core::filter::Filter) -> Options {
    let sources = SourcesOn { probes: false, tracepoints: false, ..SourcesOn::default() };
    Options { filter, sources, ..Options::default() }
}

pub fn dport(port: u16) -> nattrace_core::filter::Filter {
    let range = nattrace_core::filter::PortRange { first: port, last: port };
    nattrace_core::filter::Filter { dport: vec![range], ..Default::default() }
}

/// A recording, as it is.
pub fn recorded(path: &Path) -> (Header, Vec<Event>) {
    let bytes = std::fs::read(path).expect("a recording");
    let mut reader = Reader::open(bytes.as_slice()).expect("a recording");
    let header = reader.header().clone();
    let mut events = Vec::new();
    while let Decoded::Event(event) = reader.next().expect("a whole recording") {
        events.push(*event);
    }
    (header, events)
}

/// Plays recorded events, telling the time at the first of them that is `tick_ns` later than when it was told last.
pub fn told_every(tick_ns: u64, options: Options, events: Vec<Event>) -> Vec<Journey> {
    let mut assembler = Assembler::new(options);
    let mut journeys = Vec::new();
    let (mut now, mut told_at) = (0, 0);
    for event in events {
        now = event.time_ns.max(now);
        assembler.push(event);
        if now - told_at >= tick_ns {
            told_at = now;
            assembler.expire(now);
            journeys.extend(assembler.finished());
        }
    }
    journeys.extend(assembler.finish(now));
    journeys
}

/// Plays events as a program would, telling the time every 50 ms.
pub fn run(options: Options, events: &[Event]) -> Vec<Journey> {
    let mut assembler = Assembler::new(options);
    let mut journeys = Vec::new();
    let mut told = events.first().map_or(0, |e| e.time_ns);
    for event in events {
        while told + 50 * MS < event.time_ns {
            told += 50 * MS;
            assembler.expire(told);
            journeys.extend(assembler.finished());
        }
        assembler.push(event.clone());
    }
    for _ in 0..140 {
        told += 50 * MS;
        assembler.expire(told);
        journeys.extend(assembler.finished());
    }
    assert_eq!(assembler.open_count(), 0, "everything ends by itself");
    journeys.extend(assembler.finish(told));
    journeys
}

/// The steps and the end as short lines, to be compared with what is expected.
pub fn told(journey: &Journey) -> Vec<String> {
    let mut lines: Vec<String> = journey.steps.iter().map(line).collect();
    lines.push(match &journey.outcome {
        Outcome::Dropped(DropCause::Rule { rule, hook }) => format!(
            "= dropped by rule {} {} {} {:?} in {}",
            rule.table,
            rule.chain,
            rule.handle,
            rule.text.as_deref().unwrap_or("-"),
            hook.map_or("-", HookPoint::name)
        ),
        Outcome::Dropped(DropCause::Policy { table, chain, hook, .. }) => {
            format!("= dropped by policy {table} {chain} in {}", hook.map_or("-", HookPoint::name))
        }
        Outcome::Dropped(DropCause::Kernel(drop)) => format!(
            "= dropped by kernel {} {} in {}",
            drop.reason.as_deref().unwrap_or("-"),
            drop.function.as_deref().unwrap_or("-"),
            drop.hook.map_or("-", HookPoint::name)
        ),
        Outcome::Transmitted { device } => format!("= transmitted {}", device.as_deref().unwrap_or("-")),
        Outcome::Unfinished { why } => format!("= unfinished: {why}"),
        other => format!("= {}", other.name()),
    });
    lines
}

fn line(step: &Step) -> String {
    let or_dash = |name: &Option<Name>| name.clone().unwrap_or_else(|| "-".into());
    match &step.kind {
        StepKind::Hook { hook, iif, oif, verdict, .. } => format!(
            "{} {}>{} {}",
            hook.name(),
            or_dash(iif),
            or_dash(oif),
            verdict.map_or("-", HookVerdict::name)
        ),
        StepKind::Rule(rule) => format!(
            "rule {} {} {} {:?} {}",
            rule.rule.table,
            rule.rule.chain,
            rule.rule.handle,
            rule.rule.text.as_deref().unwrap_or("-"),
            rule.verdict.as_ref().map_or("-".to_owned(), ToString::to_string)
        ),
        StepKind::Policy { table, chain, verdict, .. } => format!("policy {table} {chain} {verdict}"),
        StepKind::Connection { event, .. } => format!("connection {}", event.name()),
        StepKind::Rewrite { nat, from, to, rule, by, decided_for, inner, port_unasked, older, .. } => {
            format!(
                "{}{} {from} {to} by {by:?} {}{}{}{}",
                if *inner { "quoted " } else { "" },
                nat.name(),
                rule.as_ref().map_or("-".to_owned(), |r| format!("{} {} {}", r.table, r.chain, r.handle)),
                decided_for.map_or(String::new(), |journey| format!(" for #{journey}")),
                if *port_unasked { " port unasked" } else { "" },
                if *older { " older" } else { "" },
            )
        }
        StepKind::Route { decision, oif, .. } => format!("route {decision:?} {}", or_dash(oif)),
        StepKind::Device { event: DeviceStep::Receive, name } => format!("receive {name}"),
        StepKind::Device { event: DeviceStep::Transmit, name } => format!("transmit {name}"),
        StepKind::Deliver { protocol, local, .. } => {
            format!("deliver {protocol} {}", local.map_or("-".to_owned(), |l| l.to_string()))
        }
        StepKind::Drop(drop) => format!("drop {} {}", or_dash(&drop.reason), or_dash(&drop.function)),
    }
}
