//! JSON Lines, schema 1. The shapes here are a promise to programs, so they are written out apart from the
//! types of the core: those may change, these may only grow.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use nattrace_core::conntrack::{Connection, Direction, State, Tuple, status_names};
use nattrace_core::event::{HookPoint, Loss, NetnsId, Verdict};
use nattrace_core::findings::{Certainty, Finding};
use nattrace_core::journey::{
    DeviceStep, DropCause, Journey, JourneyId, Outcome, RewrittenBy, RouteDecision, RuleRef, Step, StepKind,
};
use nattrace_core::packet::{Endpoint, Family, Packet, protocol};
use serde::Serialize;

use super::escape::is_unsafe;
use super::filter::filter_flags;
use super::namespaces::Namespaces;
use super::run::{SourceState, Start, Summary};

const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Line<T> {
    schema: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    body: T,
}

pub(super) fn line<T: Serialize>(kind: &'static str, body: T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, TerminalSafe);
    Line { schema: SCHEMA, kind, body }.serialize(&mut serializer)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// JSON lets DEL, C1 controls and marks that reorder text stand in strings as they are; a terminal that
/// shows the lines would obey them. Their `\u` escapes mean the same to every reader of JSON.
struct TerminalSafe;

impl serde_json::ser::Formatter for TerminalSafe {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_unsafe(*c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let mut units = [0u16; 2];
            for unit in c.encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

pub(super) fn start(start: &Start) -> io::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Body<'a> {
        version: &'static str,
        kernel: Option<&'a str>,
        filter: BTreeMap<&'static str, Vec<String>>,
        sources: BTreeMap<&'static str, &'a str>,
    }
    let state = |state| match state {
        &SourceState::On => "on",
        SourceState::Off(why) => why.as_str(),
    };
    line(
        "start",
        Body {
            version: env!("CARGO_PKG_VERSION"),
            kernel: start.kernel.as_deref(),
            filter: filter_flags(&start.filter).into_iter().collect(),
            sources: start.sources.iter().map(|(source, s)| (source.name(), state(s))).collect(),
        },
    )
}

pub(super) fn loss(loss: &Loss, journeys: &[JourneyId]) -> io::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Body {
        source: &'static str,
        count: Option<u64>,
        first_ns: u64,
        last_ns: u64,
        journeys: Vec<String>,
    }
    line(
        "loss",
        Body {
            source: loss.source.name(),
            count: loss.count,
            first_ns: loss.first_ns,
            last_ns: loss.last_ns,
            journeys: journeys.iter().map(ToString::to_string).collect(),
        },
    )
}

pub(super) fn summary(summary: &Summary) -> io::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Body {
        selected: Option<u64>,
        rate_limited: Option<u64>,
        journeys: Journeys,
        sources: BTreeMap<&'static str, Totals>,
    }
    #[derive(Serialize)]
    struct Journeys {
        total: u64,
        dropped: u64,
        delivered: u64,
        transmitted: u64,
        queued: u64,
        consumed: u64,
        unfinished: u64,
        retransmissions: u64,
    }
    #[derive(Serialize)]
    struct Totals {
        received: u64,
        lost: u64,
    }
    let tally = summary.journeys;
    line(
        "summary",
        Body {
            selected: summary.selected,
            rate_limited: summary.rate_limited,
            journeys: Journeys {
                total: tally.total(),
                dropped: tally.dropped,
                delivered: tally.delivered,
                transmitted: tally.transmitted,
                queued: tally.queued,
                consumed: tally.consumed,
                unfinished: tally.unfinished,
                retransmissions: tally.retransmissions,
            },
            sources: summary
                .sources
                .iter()
                .map(|(source, t)| (source.name(), Totals { received: t.received, lost: t.lost }))
                .collect(),
        },
    )
}

#[derive(Serialize)]
struct JourneyBody<'a> {
    id: String,
    netns: NetnsBody<'a>,
    first_seen_ns: u64,
    last_seen_ns: u64,
    iif: Option<&'a str>,
    packet: PacketBody,
    connection: Option<ConnectionBody>,
    steps: Vec<StepBody<'a>>,
    outcome: OutcomeBody<'a>,
    findings: Vec<FindingBody<'a>>,
    retransmission_of: Option<String>,
    /// Whether path and end equal the first transmission's; of retransmissions only.
    #[serde(skip_serializing_if = "Option::is_none")]
    same_path: Option<bool>,
    /// Sources that lost events meanwhile.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    incomplete: Vec<&'static str>,
    /// As `nft monitor trace` prints them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trace_ids: Vec<String>,
}

pub(super) fn journey(journey: &Journey, namespaces: &Namespaces) -> io::Result<Vec<u8>> {
    let first = journey.netns.inum;
    line(
        "journey",
        JourneyBody {
            id: journey.id.to_string(),
            netns: NetnsBody { inum: first, name: namespaces.name_of(&journey.netns) },
            first_seen_ns: journey.first_seen_ns,
            last_seen_ns: journey.last_seen_ns,
            iif: journey.iif.as_deref(),
            packet: packet(&journey.packet),
            connection: journey.connection.as_ref().map(connection),
            steps: journey.steps.iter().map(|s| step(s, first, namespaces)).collect(),
            outcome: outcome(journey),
            findings: journey.findings.iter().map(finding).collect(),
            retransmission_of: journey.retransmission_of.map(|id| id.to_string()),
            same_path: journey.retransmission_of.map(|_| journey.same_path),
            incomplete: journey.incomplete.iter().map(|s| s.name()).collect(),
            trace_ids: journey.trace_ids.iter().map(|id| format!("{:08x}", id.swap_bytes())).collect(),
        },
    )
}

#[derive(Serialize)]
struct NetnsBody<'a> {
    inum: NetnsId,
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct PacketBody {
    family: &'static str,
    protocol: String,
    saddr: Option<IpAddr>,
    sport: Option<u16>,
    daddr: Option<IpAddr>,
    dport: Option<u16>,
    tcp_flags: Option<Vec<&'static str>>,
    length: u32,
    ttl: Option<u8>,
    ip_id: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp_seq: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp_ack: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp: Option<IcmpBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fragment_offset: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<u32>,
}

#[derive(Serialize)]
struct IcmpBody {
    #[serde(rename = "type")]
    kind: u8,
    code: u8,
    id: Option<u16>,
    sequence: Option<u16>,
}

fn packet(packet: &Packet) -> PacketBody {
    PacketBody {
        family: match packet.family {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
            Family::Arp => "arp",
            Family::Other => "other",
        },
        protocol: packet.protocol_name(),
        saddr: packet.source.map(|e| e.addr),
        sport: packet.source.and_then(|e| e.port),
        daddr: packet.destination.map(|e| e.addr),
        dport: packet.destination.and_then(|e| e.port),
        tcp_flags: packet.tcp_flags.map(|_| packet.tcp_flag_names()),
        length: packet.length,
        ttl: packet.ttl,
        ip_id: packet.ip_id,
        tcp_seq: packet.tcp_seq,
        tcp_ack: packet.tcp_ack,
        icmp: packet.icmp.map(|i| IcmpBody { kind: i.kind, code: i.code, id: i.id, sequence: i.sequence }),
        fragment_offset: (packet.fragment_offset != 0).then_some(packet.fragment_offset),
        mark: (packet.mark != 0).then_some(packet.mark),
    }
}

#[derive(Serialize)]
struct ConnectionBody {
    direction: Option<&'static str>,
    state: Option<&'static str>,
    status: Option<Vec<&'static str>>,
    id: Option<u32>,
    mark: Option<u32>,
    zone: Option<u16>,
    original: Option<TupleBody>,
    reply: Option<TupleBody>,
}

#[derive(Serialize)]
struct TupleBody {
    protocol: String,
    saddr: IpAddr,
    sport: Option<u16>,
    daddr: IpAddr,
    dport: Option<u16>,
    /// What conntrack uses as the port of an echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_id: Option<u16>,
}

fn connection(connection: &Connection) -> ConnectionBody {
    ConnectionBody {
        direction: connection.direction.map(|direction| match direction {
            Direction::Original => "original",
            Direction::Reply => "reply",
        }),
        state: connection.state.map(state_name),
        status: connection.status.map(status_names),
        id: connection.id,
        mark: connection.mark,
        zone: connection.zone,
        original: connection.original.map(tuple),
        reply: connection.reply.map(tuple),
    }
}

pub(super) fn state_name(state: State) -> &'static str {
    match state {
        State::New => "new",
        State::Established => "established",
        State::Related => "related",
        State::Untracked => "untracked",
        State::Invalid => "invalid",
    }
}

fn tuple(tuple: Tuple) -> TupleBody {
    // The kernel keeps the identifier, type and code of ICMP where ports are; they are none.
    let icmp = matches!(tuple.protocol, protocol::ICMP | protocol::ICMPV6);
    TupleBody {
        protocol: protocol::name(tuple.protocol).map_or_else(|| tuple.protocol.to_string(), str::to_owned),
        saddr: tuple.source.addr,
        sport: tuple.source.port.filter(|_| !icmp),
        daddr: tuple.destination.addr,
        dport: tuple.destination.port.filter(|_| !icmp),
        icmp_id: tuple.source.port.filter(|_| icmp),
    }
}

#[derive(Serialize)]
struct StepBody<'a> {
    time_ns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<NetnsBody<'a>>,
    #[serde(flatten)]
    kind: StepKindBody<'a>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum StepKindBody<'a> {
    Hook {
        hook: &'static str,
        family: &'static str,
        iif: Option<&'a str>,
        oif: Option<&'a str>,
        verdict: Option<&'static str>,
    },
    Rule {
        #[serde(flatten)]
        rule: RuleBody<'a>,
        verdict: String,
        hook: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        queue: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        mark: Option<u32>,
    },
    Policy {
        family: &'static str,
        table: &'a str,
        chain: &'a str,
        verdict: String,
        hook: Option<&'static str>,
    },
    Rewrite {
        nat: &'static str,
        from: EndpointBody,
        to: EndpointBody,
        rule: Option<RuleBody<'a>>,
        by: &'static str,
    },
    Route {
        decision: &'static str,
        oif: Option<&'a str>,
        gateway: Option<IpAddr>,
        table: Option<u32>,
    },
    Device {
        event: &'static str,
        name: &'a str,
    },
    Deliver {
        protocol: &'a str,
        local: Option<EndpointBody>,
        function: Option<&'a str>,
    },
    Drop {
        reason: Option<&'a str>,
        function: Option<&'a str>,
        text: &'a str,
    },
}

#[derive(Serialize)]
struct RuleBody<'a> {
    family: &'static str,
    table: &'a str,
    chain: &'a str,
    handle: u64,
    text: Option<&'a str>,
}

#[derive(Serialize)]
struct EndpointBody {
    addr: IpAddr,
    port: Option<u16>,
}

fn step<'a>(step: &'a Step, first: NetnsId, namespaces: &'a Namespaces) -> StepBody<'a> {
    let netns =
        (step.netns != first).then(|| NetnsBody { inum: step.netns, name: namespaces.name(step.netns) });
    let kind = match &step.kind {
        StepKind::Hook { hook, family, iif, oif, verdict } => StepKindBody::Hook {
            hook: hook.name(),
            family: family.name(),
            iif: iif.as_deref(),
            oif: oif.as_deref(),
            verdict: verdict.map(nattrace_core::event::HookVerdict::name),
        },
        StepKind::Rule(step) => StepKindBody::Rule {
            rule: rule(&step.rule),
            verdict: step.verdict.to_string(),
            hook: step.hook.map(HookPoint::name),
            queue: match step.verdict {
                Verdict::Queue(number) => Some(number),
                _ => None,
            },
            mark: step.mark,
        },
        StepKind::Policy { family, table, chain, verdict, hook } => StepKindBody::Policy {
            family: family.name(),
            table,
            chain,
            verdict: verdict.to_string(),
            hook: hook.map(HookPoint::name),
        },
        StepKind::Rewrite { nat, from, to, rule: decided, by } => StepKindBody::Rewrite {
            nat: nat.name(),
            from: endpoint(*from),
            to: endpoint(*to),
            rule: decided.as_ref().map(rule),
            by: match by {
                RewrittenBy::Rule => "rule",
                RewrittenBy::Connection => "connection",
                RewrittenBy::IcmpError => "icmp-error",
                RewrittenBy::Flowtable => "flowtable",
                RewrittenBy::Ipvs => "ipvs",
                RewrittenBy::Other => "other",
            },
        },
        StepKind::Route { decision, oif, gateway, table } => StepKindBody::Route {
            decision: decision_name(*decision),
            oif: oif.as_deref(),
            gateway: *gateway,
            table: *table,
        },
        StepKind::Device { event, name } => StepKindBody::Device {
            event: match event {
                DeviceStep::Receive => "receive",
                DeviceStep::Transmit => "transmit",
            },
            name,
        },
        StepKind::Deliver { protocol, local, function } => {
            StepKindBody::Deliver { protocol, local: local.map(endpoint), function: function.as_deref() }
        }
        StepKind::Drop { reason, function, text } => {
            StepKindBody::Drop { reason: reason.as_deref(), function: function.as_deref(), text }
        }
    };
    StepBody { time_ns: step.time_ns, netns, kind }
}

pub(super) fn decision_name(decision: RouteDecision) -> &'static str {
    match decision {
        RouteDecision::Local => "local",
        RouteDecision::Forward => "forward",
        RouteDecision::Broadcast => "broadcast",
        RouteDecision::Unreachable => "unreachable",
        RouteDecision::Blackhole => "blackhole",
        RouteDecision::Prohibit => "prohibit",
        RouteDecision::Martian => "martian",
    }
}

fn rule(rule: &RuleRef) -> RuleBody<'_> {
    RuleBody {
        family: rule.family.name(),
        table: &rule.table,
        chain: &rule.chain,
        handle: rule.handle,
        text: rule.text.as_deref(),
    }
}

fn endpoint(endpoint: Endpoint) -> EndpointBody {
    EndpointBody { addr: endpoint.addr, port: endpoint.port }
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum OutcomeBody<'a> {
    Dropped {
        #[serde(flatten)]
        cause: CauseBody<'a>,
        hook: Option<&'static str>,
    },
    Delivered,
    Transmitted {
        device: Option<&'a str>,
    },
    Queued,
    Consumed,
    Unfinished {
        why: &'a str,
    },
}

#[derive(Serialize)]
#[serde(tag = "by", rename_all = "lowercase")]
enum CauseBody<'a> {
    Rule {
        #[serde(flatten)]
        rule: RuleBody<'a>,
    },
    Policy {
        family: &'static str,
        table: &'a str,
        chain: &'a str,
    },
    Kernel {
        reason: Option<&'a str>,
        function: Option<&'a str>,
        text: &'a str,
    },
}

fn outcome(journey: &Journey) -> OutcomeBody<'_> {
    match &journey.outcome {
        Outcome::Dropped(cause) => {
            let (cause, hook) = match cause {
                DropCause::Rule { rule: by, hook } => (CauseBody::Rule { rule: rule(by) }, hook),
                DropCause::Policy { family, table, chain, hook } => {
                    (CauseBody::Policy { family: family.name(), table, chain }, hook)
                }
                DropCause::Kernel { reason, function, hook, text } => {
                    let (reason, function) = (reason.as_deref(), function.as_deref());
                    (CauseBody::Kernel { reason, function, text }, hook)
                }
            };
            OutcomeBody::Dropped { cause, hook: hook.map(HookPoint::name) }
        }
        Outcome::Delivered => OutcomeBody::Delivered,
        Outcome::Transmitted { device } => OutcomeBody::Transmitted { device: device.as_deref() },
        Outcome::Queued => OutcomeBody::Queued,
        Outcome::Consumed => OutcomeBody::Consumed,
        Outcome::Unfinished { why } => OutcomeBody::Unfinished { why },
    }
}

#[derive(Serialize)]
struct FindingBody<'a> {
    code: &'static str,
    text: &'a str,
    fix: &'a [String],
    certainty: &'static str,
    steps: &'a [usize],
}

fn finding(finding: &Finding) -> FindingBody<'_> {
    FindingBody {
        code: finding.code,
        text: &finding.text,
        fix: &finding.fix,
        certainty: match finding.certainty {
            Certainty::Certain => "certain",
            Certainty::Likely => "likely",
        },
        steps: &finding.steps,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nattrace_core::event::{NfFamily, Source};
    use nattrace_core::filter::Filter;
    use nattrace_core::findings::Certainty;
    use nattrace_core::journey::StepKind;
    use serde_json::{Value, json};

    use super::super::run::{SourceTotals, Tally};
    use super::super::samples::{RTR, T0, again, at_home, bare, broken, end, fixed, steps, tcp};
    use super::*;

    fn parsed(line: &[u8]) -> Value {
        let text = std::str::from_utf8(line).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "one object, one line");
        serde_json::from_str(text.strip_suffix('\n').unwrap()).unwrap()
    }

    fn told(it: &Journey) -> Value {
        parsed(&journey(it, &at_home()).unwrap())
    }

    fn keys(value: &Value) -> BTreeSet<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn the_article_as_promised() {
        let told = told(&broken());
        assert_eq!(told["schema"], 1);
        assert_eq!(told["type"], "journey");
        assert_eq!(told["id"], "1");
        assert_eq!(told["netns"], json!({"inum": RTR, "name": "rtr"}));
        assert_eq!(told["first_seen_ns"], T0);
        assert_eq!(
            told["packet"],
            json!({"family":"ipv4","protocol":"tcp","saddr":"10.2.1.2","sport":36334,"daddr":"10.1.2.3",
                   "dport":1222,"tcp_flags":["syn"],"length":60,"ttl":64,"ip_id":48644,"tcp_seq":0x1234_5678,
                   "tcp_ack":0})
        );
        assert_eq!(told["connection"]["direction"], "original");
        assert_eq!(told["connection"]["state"], "new");
        assert_eq!(told["connection"]["status"], json!(["dnat"]));
        assert_eq!(told["connection"]["id"], 1_968_238_741);
        assert_eq!(told["connection"]["reply"]["saddr"], "192.168.70.10");
        assert_eq!(told["connection"]["reply"]["sport"], 22);
        assert_eq!(told["connection"]["original"]["dport"], 1222);
        assert_eq!(
            told["outcome"],
            json!({"kind":"dropped","by":"rule","family":"inet","table":"filter","chain":"allowed_dnats","handle":8,
                   "text":"drop","hook":"forward"})
        );
        assert_eq!(
            told["findings"][0],
            json!({"code":"set-element-missing","certainty":"certain","steps":[6,7],
                   "text":"The rule before it accepts what is in the set @allow_in, and 192.168.70.10 . 22 (the \
                           address and port after the rewrite) is not in it.",
                   "fix":["nft add element inet filter allow_in { 192.168.70.10 . 22 }"]})
        );
        assert_eq!(told["retransmission_of"], Value::Null);
        assert_eq!(told["trace_ids"], json!(["009c01f8"]), "bytes swapped, as nft prints them");
    }

    #[test]
    fn steps_of_the_article() {
        let told = told(&broken());
        let kinds: Vec<_> =
            told["steps"].as_array().unwrap().iter().map(|s| s["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["device", "hook", "rule", "rewrite", "route", "hook", "rule", "rule", "drop"]);
        let step = |i: usize| {
            let mut step = told["steps"][i].clone();
            assert_eq!(step["time_ns"], T0 + 1000 * i as u64);
            step.as_object_mut().unwrap().remove("time_ns");
            step
        };
        let dnat = json!({"family":"inet","table":"nat","chain":"prerouting","handle":3,
                          "text":"ip daddr 10.1.2.3 tcp dport 1222 dnat ip to 192.168.70.10:22"});
        assert_eq!(step(0), json!({"kind":"device","event":"receive","name":"enp0"}));
        assert_eq!(
            step(1),
            json!({"kind":"hook","hook":"prerouting","family":"ip","iif":"enp0","oif":null,"verdict":"accept"})
        );
        assert_eq!(
            step(3),
            json!({"kind":"rewrite","nat":"dnat","from":{"addr":"10.1.2.3","port":1222},
                   "to":{"addr":"192.168.70.10","port":22},"rule":dnat,"by":"rule"})
        );
        assert_eq!(
            step(4),
            json!({"kind":"route","decision":"forward","oif":"veth21","gateway":null,"table":null})
        );
        assert_eq!(
            step(6),
            json!({"kind":"rule","family":"inet","table":"filter","chain":"forward","handle":5,
                   "text":"ct status dnat jump allowed_dnats","verdict":"jump allowed_dnats","hook":"forward"})
        );
        assert_eq!(step(7)["verdict"], "drop");
        assert_eq!(
            step(8),
            json!({"kind":"drop","reason":"NETFILTER_DROP","function":"nft_do_chain",
                   "text":"a netfilter hook dropped it"})
        );
    }

    #[test]
    fn every_promised_key_is_there_even_when_nothing_is_known() {
        let mut packet = tcp("10.0.0.1:1", "10.0.0.2:2", 0);
        (packet.family, packet.protocol, packet.source, packet.destination) =
            (Family::Other, None, None, None);
        (packet.tcp_flags, packet.ttl, packet.ip_id) = (None, None, None);
        let told = told(&bare(packet));
        let promised = [
            "schema",
            "type",
            "id",
            "netns",
            "first_seen_ns",
            "last_seen_ns",
            "packet",
            "connection",
            "steps",
            "outcome",
            "findings",
            "retransmission_of",
        ];
        assert!(keys(&told).is_superset(&promised.into()));
        let packet =
            ["family", "protocol", "saddr", "sport", "daddr", "dport", "tcp_flags", "length", "ttl", "ip_id"];
        assert!(keys(&told["packet"]).is_superset(&packet.into()));
        for unknown in ["saddr", "sport", "daddr", "dport", "tcp_flags", "ttl", "ip_id"] {
            assert_eq!(told["packet"][unknown], Value::Null, "{unknown}");
        }
        assert_eq!(told["connection"], Value::Null);
    }

    #[test]
    fn every_end_names_its_cause() {
        let end = |outcome| told(&Journey { outcome, ..broken() })["outcome"].clone();
        let policy = DropCause::Policy {
            family: NfFamily::Ip6,
            table: "filter".into(),
            chain: "INPUT".into(),
            hook: Some(HookPoint::Input),
        };
        assert_eq!(
            end(Outcome::Dropped(policy)),
            json!({"kind":"dropped","by":"policy","family":"ip6","table":"filter","chain":"INPUT","hook":"input"})
        );
        let kernel = DropCause::Kernel {
            reason: Some("IP_RPFILTER".into()),
            function: Some("ip_rcv_finish_core".into()),
            hook: None,
            text: "reverse path filter".into(),
        };
        assert_eq!(
            end(Outcome::Dropped(kernel)),
            json!({"kind":"dropped","by":"kernel","reason":"IP_RPFILTER","function":"ip_rcv_finish_core",
                   "text":"reverse path filter","hook":null})
        );
        assert_eq!(end(Outcome::Delivered), json!({"kind":"delivered"}));
        assert_eq!(
            end(Outcome::Transmitted { device: Some("veth21".into()) }),
            json!({"kind":"transmitted","device":"veth21"})
        );
        assert_eq!(end(Outcome::Queued), json!({"kind":"queued"}));
        assert_eq!(end(Outcome::Consumed), json!({"kind":"consumed"}));
        assert_eq!(
            end(Outcome::Unfinished { why: "still in flight".into() }),
            json!({"kind":"unfinished","why":"still in flight"})
        );
    }

    #[test]
    fn policy_delivery_and_namespaces() {
        let mut it = fixed();
        it.steps.extend(steps(vec![StepKind::Deliver {
            protocol: "tcp".into(),
            local: Some(end("192.168.70.10:22")),
            function: None,
        }]));
        let last = it.steps.last_mut().unwrap();
        last.netns = 7;
        let mut namespaces = at_home();
        let told = parsed(&journey(&it, &namespaces).unwrap());
        let steps = told["steps"].as_array().unwrap();
        assert_eq!(steps.last().unwrap()["netns"], json!({"inum": 7, "name": null}));
        assert!(steps[0].get("netns").is_none(), "only when it is not the first");
        namespaces.set_name(7, "web");
        let told = parsed(&journey(&it, &namespaces).unwrap());
        assert_eq!(
            told["steps"].as_array().unwrap().last().unwrap()["netns"],
            json!({"inum": 7, "name": "web"})
        );
        let policy = &told["steps"][9];
        assert_eq!(policy["kind"], "policy");
        assert_eq!(
            (&policy["family"], &policy["table"], &policy["chain"], &policy["verdict"]),
            (&json!("inet"), &json!("nat"), &json!("postrouting"), &json!("accept"))
        );
    }

    #[test]
    fn a_retransmission_refers_to_the_first() {
        let told = told(&again(2, &broken(), 1.0));
        assert_eq!(told["id"], "2");
        assert_eq!(told["retransmission_of"], "1");
        assert_eq!(told["same_path"], true);
    }

    #[test]
    fn the_lines_around_the_journeys() {
        let run = Start {
            kernel: Some("6.12.0".into()),
            filter: Filter::default(),
            sources: [(Source::Nft, SourceState::On), (Source::Probes, SourceState::Off("lockdown".into()))]
                .into(),
        };
        let told = parsed(&start(&run).unwrap());
        assert_eq!(
            told,
            json!({"schema":1,"type":"start","version":env!("CARGO_PKG_VERSION"),"kernel":"6.12.0","filter":{},
                   "sources":{"nft":"on","probes":"lockdown"}})
        );
        let lost = Loss { source: Source::Nft, count: None, first_ns: 1, last_ns: 2 };
        assert_eq!(
            parsed(&loss(&lost, &[JourneyId(3)]).unwrap()),
            json!({"schema":1,"type":"loss","source":"nft","count":null,"first_ns":1,"last_ns":2,"journeys":["3"]})
        );
        let mut tally = Tally::default();
        for it in [broken(), again(2, &broken(), 1.0), fixed()] {
            tally.add(&it);
        }
        let sum = Summary {
            selected: Some(3),
            rate_limited: None,
            journeys: tally,
            sources: [(Source::Nft, SourceTotals { received: 9, lost: 0 })].into(),
        };
        assert_eq!(
            parsed(&summary(&sum).unwrap()),
            json!({"schema":1,"type":"summary","selected":3,"rate_limited":null,
                   "journeys":{"total":3,"dropped":2,"delivered":0,"transmitted":1,"queued":0,"consumed":0,
                               "unfinished":0,"retransmissions":1},
                   "sources":{"nft":{"received":9,"lost":0}}})
        );
    }

    #[test]
    fn lines_shown_on_a_terminal_do_nothing_to_it() {
        let mut it = broken();
        it.iif = Some("e\x1b[2J\u{9b}0m\u{202e}\x7f\u{e0001}".into());
        it.findings[0].certainty = Certainty::Likely;
        let line = journey(&it, &at_home()).unwrap();
        let text = std::str::from_utf8(&line).unwrap();
        assert!(!text.trim_end().contains(is_unsafe), "{text}");
        assert!(text.contains(r"\u001b[2J\u009b0m\u202e\u007f\udb40\udc01"), "{text}");
        assert_eq!(parsed(&line)["iif"], it.iif.unwrap(), "and say the same");
    }
}
