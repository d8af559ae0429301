//! A journey's line.

use std::borrow::Cow;
use std::io;
use std::net::IpAddr;

use nattrace_core::conntrack::{Connection, Direction, State, Tuple};
use nattrace_core::conversation::{Conversation, Passage};
use nattrace_core::event::{HookPoint, NetnsId, Verdict};
use nattrace_core::fib::RoutePrefix;
use nattrace_core::findings::{Certainty, Finding};
use nattrace_core::journey::{
    Backend, DeviceStep, DropCause, Journey, JourneyId, KernelDrop, Outcome, RewrittenBy, RouteDecision,
    RuleRef, Step, StepKind,
};
use nattrace_core::packet::{Endpoint, Family, Icmp, Packet, Quoted, protocol};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::line;
use super::shown::{AllShown, Shown, Status, TcpFlags, TraceIds};
use crate::render::namespaces::Namespaces;

#[derive(Serialize)]
struct JourneyBody<'a> {
    id: Shown<JourneyId>,
    netns: NetnsBody<'a>,
    first_seen_ns: u64,
    last_seen_ns: u64,
    iif: Option<&'a str>,
    packet: PacketBody,
    connection: Option<ConnectionBody>,
    steps: StepsBody<'a>,
    outcome: OutcomeBody<'a>,
    findings: Vec<FindingBody<'a>>,
    /// How it belongs to other packets, and their journeys.
    #[serde(skip_serializing_if = "Option::is_none")]
    relation: Option<RelationBody<'a>>,
    retransmission_of: Option<Shown<JourneyId>>,
    /// Whether path and end equal the first transmission's; of retransmissions only.
    #[serde(skip_serializing_if = "Option::is_none")]
    same_path: Option<bool>,
    /// The first journey of the same connection and direction that went the same way to the same end.
    #[serde(skip_serializing_if = "Option::is_none")]
    like: Option<Shown<JourneyId>>,
    /// Sources that lost events meanwhile.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    incomplete: Vec<&'static str>,
    /// As `nft monitor trace` prints them.
    #[serde(skip_serializing_if = "TraceIds::are_none")]
    trace_ids: TraceIds<'a>,
}

#[derive(Serialize)]
struct RelationBody<'a> {
    kind: &'static str,
    of: AllShown<'a, JourneyId>,
}

pub(in crate::render) fn journey(journey: &Journey, namespaces: &Namespaces) -> io::Result<Vec<u8>> {
    line("journey", journey_body(journey, namespaces))
}

/// What the line says, without schema and type, for those who say the same in another form.
pub(crate) fn journey_value(journey: &Journey, namespaces: &Namespaces) -> io::Result<Value> {
    Ok(serde_json::to_value(journey_body(journey, namespaces))?)
}

fn journey_body<'a>(journey: &'a Journey, namespaces: &'a Namespaces) -> JourneyBody<'a> {
    let first = journey.netns.inum;
    JourneyBody {
        id: Shown(journey.id),
        netns: NetnsBody { inum: first, name: namespaces.name_of(&journey.netns) },
        first_seen_ns: journey.first_seen_ns,
        last_seen_ns: journey.last_seen_ns,
        iif: journey.iif.as_deref(),
        packet: packet(&journey.packet),
        connection: journey.connection.as_ref().map(connection),
        steps: StepsBody { steps: &journey.steps, first, namespaces },
        outcome: outcome(journey),
        findings: journey.findings.iter().map(finding).collect(),
        relation: journey
            .relation
            .as_ref()
            .map(|relation| RelationBody { kind: relation.kind.name(), of: AllShown(&relation.of) }),
        retransmission_of: journey.retransmission_of.map(Shown),
        same_path: journey.retransmission_of.map(|_| journey.same_path),
        like: journey.like.map(Shown),
        incomplete: journey.incomplete.iter().map(|s| s.name()).collect(),
        trace_ids: TraceIds(&journey.trace_ids),
    }
}

pub(in crate::render) fn conversation(
    conversation: &Conversation,
    namespaces: &Namespaces,
) -> io::Result<Vec<u8>> {
    line("connection", conversation_body(conversation, namespaces))
}

/// As [`journey_value`].
pub(crate) fn conversation_value(conversation: &Conversation, namespaces: &Namespaces) -> io::Result<Value> {
    Ok(serde_json::to_value(conversation_body(conversation, namespaces))?)
}

fn conversation_body<'a>(
    conversation: &'a Conversation,
    namespaces: &'a Namespaces,
) -> impl Serialize + use<'a> {
    #[derive(Serialize)]
    struct Body<'a> {
        netns: NetnsBody<'a>,
        id: Option<u32>,
        original: TupleBody,
        reply: Option<TupleBody>,
        sent: PassageBody,
        answered: PassageBody,
        journeys: AllShown<'a, JourneyId>,
        text: &'a str,
        findings: Vec<FindingBody<'a>>,
    }
    #[derive(Serialize)]
    struct PassageBody {
        packets: u64,
        through: u64,
        dropped: u64,
    }
    let passage = |Passage { packets, through, dropped }| PassageBody { packets, through, dropped };
    Body {
        netns: NetnsBody { inum: conversation.netns, name: namespaces.name(conversation.netns) },
        id: conversation.id,
        original: tuple(conversation.original),
        reply: conversation.reply.map(tuple),
        sent: passage(conversation.sent),
        answered: passage(conversation.answered),
        journeys: AllShown(&conversation.journeys),
        text: &conversation.text,
        findings: conversation.findings.iter().map(finding).collect(),
    }
}

#[derive(Serialize)]
struct NetnsBody<'a> {
    inum: NetnsId,
    name: Option<&'a str>,
}

#[derive(Serialize)]
struct PacketBody {
    family: &'static str,
    protocol: Cow<'static, str>,
    saddr: Option<IpAddr>,
    sport: Option<u16>,
    daddr: Option<IpAddr>,
    dport: Option<u16>,
    tcp_flags: Option<TcpFlags>,
    length: Option<u32>,
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
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more_fragments: bool,
    /// As one buffer holds them; of more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    segments: Option<u32>,
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
    /// The packet that an error quotes.
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<TupleBody>,
}

fn icmp(icmp: Icmp) -> IcmpBody {
    let Icmp { kind, code, id, sequence, about } = icmp;
    let quoted = |q: Quoted| Tuple { protocol: q.protocol, source: q.source, destination: q.destination };
    IcmpBody { kind, code, id, sequence, about: about.map(|about| tuple(quoted(about))) }
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
        tcp_flags: packet.tcp_flags.map(TcpFlags),
        length: (packet.length != 0).then_some(packet.length),
        ttl: packet.ttl,
        ip_id: packet.ip_id,
        tcp_seq: packet.tcp_seq,
        tcp_ack: packet.tcp_ack,
        icmp: packet.icmp.map(icmp),
        fragment_offset: (packet.fragment_offset != 0).then_some(packet.fragment_offset),
        more_fragments: packet.more_fragments,
        segments: Some(packet.segments).filter(|segments| *segments > 1),
        mark: (packet.mark != 0).then_some(packet.mark),
    }
}

#[derive(Serialize)]
struct ConnectionBody {
    direction: Option<&'static str>,
    state: Option<&'static str>,
    status: Option<Status>,
    id: Option<u32>,
    mark: Option<u32>,
    zone: Option<u16>,
    original: Option<TupleBody>,
    reply: Option<TupleBody>,
}

#[derive(Serialize)]
struct TupleBody {
    protocol: Cow<'static, str>,
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
        status: connection.status.map(Status),
        id: connection.id,
        mark: connection.mark,
        zone: connection.zone,
        original: connection.original.map(tuple),
        reply: connection.reply.map(tuple),
    }
}

pub(in crate::render) fn state_name(state: State) -> &'static str {
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
        protocol: protocol::name_or_number(tuple.protocol),
        saddr: tuple.source.addr,
        sport: tuple.source.port.filter(|_| !icmp),
        daddr: tuple.destination.addr,
        dport: tuple.destination.port.filter(|_| !icmp),
        icmp_id: tuple.source.port.filter(|_| icmp),
    }
}

/// An array of steps, each made as it is written.
struct StepsBody<'a> {
    steps: &'a [Step],
    first: NetnsId,
    namespaces: &'a Namespaces,
}

impl Serialize for StepsBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.steps.iter().map(|one| step(one, self.first, self.namespaces)))
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
        verdict: Option<Shown<&'a Verdict>>,
        /// Of legacy iptables: it may have been the end of the chain, or its policy, instead.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        or_end: bool,
        hook: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        queue: Option<u16>,
        #[serde(skip_serializing_if = "Option::is_none")]
        mark: Option<u32>,
    },
    Policy {
        #[serde(skip_serializing_if = "Option::is_none")]
        backend: Option<&'static str>,
        family: &'static str,
        table: &'a str,
        chain: &'a str,
        verdict: Shown<&'a Verdict>,
        hook: Option<&'static str>,
    },
    Rewrite {
        nat: &'static str,
        from: EndpointBody,
        to: EndpointBody,
        rule: Option<RuleBody<'a>>,
        by: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        decided_for: Option<Shown<JourneyId>>,
        /// The packet that an ICMP error quotes was changed.
        #[serde(skip_serializing_if = "is_false")]
        inner: bool,
        /// `unasked`: the kernel chose another port by itself.
        #[serde(skip_serializing_if = "Option::is_none")]
        port_changed: Option<&'static str>,
        /// `older`: decided before the trace began.
        #[serde(skip_serializing_if = "Option::is_none")]
        mapping: Option<&'static str>,
        /// What wrote the header without conntrack's NAT.
        #[serde(skip_serializing_if = "Option::is_none")]
        function: Option<&'a str>,
    },
    Connection {
        event: &'static str,
        id: Option<u32>,
    },
    Route {
        decision: &'static str,
        oif: Option<&'a str>,
        gateway: Option<IpAddr>,
        table: Option<u32>,
        /// Of the route that matched.
        #[serde(skip_serializing_if = "Option::is_none")]
        prefix: Option<Shown<RoutePrefix>>,
        /// The source that the route names, and the packet has.
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<IpAddr>,
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
    Drop(DropBody<'a>),
}

#[derive(Serialize)]
struct DropBody<'a> {
    reason: Option<&'a str>,
    function: Option<&'a str>,
    cause: Option<&'static str>,
    device: Option<&'a str>,
    text: &'a str,
}

fn kernel_drop(drop: &KernelDrop) -> DropBody<'_> {
    DropBody {
        reason: drop.reason.as_deref(),
        function: drop.function.as_deref(),
        cause: drop.cause,
        device: drop.device.as_deref(),
        text: &drop.text,
    }
}

#[derive(Serialize)]
struct RuleBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<&'static str>,
    family: &'static str,
    table: &'a str,
    chain: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rulenum: Option<u64>,
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
            verdict: step.verdict.as_ref().map(Shown),
            or_end: step.or_end,
            hook: step.hook.map(HookPoint::name),
            queue: match step.verdict {
                Some(Verdict::Queue(number)) => Some(number),
                _ => None,
            },
            mark: step.mark,
        },
        StepKind::Policy { backend, family, table, chain, verdict, hook } => StepKindBody::Policy {
            backend: backend_name(*backend),
            family: family.name(),
            table,
            chain,
            verdict: Shown(verdict),
            hook: hook.map(HookPoint::name),
        },
        StepKind::Rewrite {
            nat,
            from,
            to,
            rule: decided,
            by,
            decided_for,
            inner,
            port_unasked,
            older,
            function,
        } => StepKindBody::Rewrite {
            nat: nat.name(),
            from: endpoint(*from),
            to: endpoint(*to),
            rule: decided.as_deref().map(rule),
            inner: *inner,
            port_changed: port_unasked.then_some("unasked"),
            mapping: older.then_some("older"),
            function: function.as_deref(),
            by: match by {
                RewrittenBy::Rule => "rule",
                RewrittenBy::Connection => "connection",
                RewrittenBy::IcmpError => "icmp-error",
                RewrittenBy::Flowtable => "flowtable",
                RewrittenBy::Ipvs => "ipvs",
                RewrittenBy::Other => "other",
            },
            decided_for: decided_for.map(Shown),
        },
        StepKind::Connection { event, id } => StepKindBody::Connection { event: event.name(), id: *id },
        StepKind::Route { decision, oif, gateway, matched } => StepKindBody::Route {
            decision: decision_name(*decision),
            oif: oif.as_deref(),
            gateway: *gateway,
            table: matched.and_then(|route| route.table),
            prefix: matched.map(|route| Shown(route.prefix)),
            source: matched.and_then(|route| route.source),
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
        StepKind::Drop(drop) => StepKindBody::Drop(kernel_drop(drop)),
    };
    StepBody { time_ns: step.time_ns, netns, kind }
}

pub(in crate::render) fn decision_name(decision: RouteDecision) -> &'static str {
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

/// Named where it is not nf_tables.
fn backend_name(backend: Backend) -> Option<&'static str> {
    match backend {
        Backend::Nft => None,
        Backend::Legacy => Some("iptables-legacy"),
    }
}

fn rule(rule: &RuleRef) -> RuleBody<'_> {
    let is = |backend| (rule.backend == backend).then_some(rule.handle);
    RuleBody {
        backend: backend_name(rule.backend),
        family: rule.family.name(),
        table: &rule.table,
        chain: &rule.chain,
        handle: is(Backend::Nft),
        rulenum: is(Backend::Legacy),
        text: rule.text.as_deref(),
    }
}

fn endpoint(endpoint: Endpoint) -> EndpointBody {
    EndpointBody { addr: endpoint.addr, port: endpoint.port }
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is written at once")]
enum OutcomeBody<'a> {
    Dropped {
        #[serde(flatten)]
        cause: CauseBody<'a>,
        hook: Option<&'static str>,
        /// The rule once more, as the object that rewrites name their rule by: one reader serves both.
        #[serde(skip_serializing_if = "Option::is_none")]
        rule: Option<RuleBody<'a>>,
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
        #[serde(skip_serializing_if = "Option::is_none")]
        backend: Option<&'static str>,
        family: &'static str,
        table: &'a str,
        chain: &'a str,
    },
    Kernel(DropBody<'a>),
}

fn outcome(journey: &Journey) -> OutcomeBody<'_> {
    match &journey.outcome {
        Outcome::Dropped(cause) => {
            let (cause, hook) = match cause {
                DropCause::Rule { rule: by, hook } => (CauseBody::Rule { rule: rule(by) }, hook),
                DropCause::Policy { backend, family, table, chain, hook } => {
                    let backend = backend_name(*backend);
                    (CauseBody::Policy { backend, family: family.name(), table, chain }, hook)
                }
                DropCause::Kernel(drop) => (CauseBody::Kernel(kernel_drop(drop)), &drop.hook),
            };
            let rule = match &journey.outcome {
                Outcome::Dropped(DropCause::Rule { rule: by, .. }) => Some(rule(by)),
                _ => None,
            };
            OutcomeBody::Dropped { cause, hook: hook.map(HookPoint::name), rule }
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
    /// The rule that would have done otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    near: Option<RuleBody<'a>>,
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
        near: finding.near.as_ref().map(rule),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}
