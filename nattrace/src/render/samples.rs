//! Journeys for tests of the renderers: the article's, and some that stretch the layout.

use nattrace_core::conntrack::{Connection, Direction, IPS_DST_NAT, State, Tuple};
use nattrace_core::conversation::{Conversation, Passage};
use nattrace_core::event::{HookPoint, HookVerdict, Manip, NfFamily, Verdict};
use nattrace_core::findings::{Certainty, Finding};
use nattrace_core::journey::{
    Backend, DeviceStep, DropCause, Journey, JourneyId, KernelDrop, Netns, Outcome, RewrittenBy,
    RouteDecision, RuleRef, RuleStep, Step, StepKind,
};
use nattrace_core::packet::{Endpoint, Family, Packet, protocol};

use super::Namespaces;

/// When the samples happen.
pub(crate) const T0: u64 = 1_700_000_000_000_000_000;
/// The namespace they happen in.
pub(crate) const RTR: u32 = 4_026_532_289;

pub(crate) fn end(text: &str) -> Endpoint {
    match text.parse::<std::net::SocketAddr>() {
        Ok(addr) => Endpoint { addr: addr.ip(), port: Some(addr.port()) },
        Err(_) => Endpoint { addr: text.parse().unwrap(), port: None },
    }
}

/// This program runs in the samples' namespace.
pub(crate) fn at_home() -> Namespaces {
    let mut namespaces = Namespaces::default();
    namespaces.set_current(RTR);
    namespaces.set_name(RTR, "rtr");
    namespaces
}

pub(crate) fn tcp(from: &str, to: &str, flags: u8) -> Packet {
    Packet {
        family: if from.starts_with('[') { Family::Ipv6 } else { Family::Ipv4 },
        protocol: Some(protocol::TCP),
        source: Some(end(from)),
        destination: Some(end(to)),
        tcp_flags: Some(flags),
        tcp_seq: Some(0x1234_5678),
        tcp_ack: Some(0),
        icmp: None,
        length: 60,
        ttl: Some(64),
        ip_id: Some(48644),
        fragment_offset: 0,
        more_fragments: false,
        segments: 0,
        tos: 0,
        mark: 0,
    }
}

/// An address changed, and nothing else is to be said of it.
pub(crate) fn rewrite(
    nat: Manip,
    (from, to): (&str, &str),
    rule: Option<RuleRef>,
    by: RewrittenBy,
) -> StepKind {
    StepKind::Rewrite {
        nat,
        from: end(from),
        to: end(to),
        rule: rule.map(Box::new),
        by,
        decided_for: None,
        inner: false,
        port_unasked: false,
        older: false,
        function: None,
    }
}

pub(crate) fn rule(chain: &str, handle: u64, text: &str) -> RuleRef {
    let mut words = chain.split(' ');
    RuleRef {
        backend: Backend::Nft,
        family: words.next().and_then(NfFamily::from_name).unwrap(),
        table: words.next().unwrap().into(),
        chain: words.next().unwrap().into(),
        handle,
        text: Some(text.into()),
        nft_text: None,
    }
}

pub(crate) fn matched(rule: RuleRef, hook: HookPoint, verdict: Verdict) -> StepKind {
    let step = RuleStep { rule, verdict: Some(verdict), or_end: false, hook: Some(hook), mark: None };
    StepKind::Rule(Box::new(step))
}

pub(crate) fn hook(hook: HookPoint, devices: (&str, &str), verdict: HookVerdict) -> StepKind {
    let name = |text: &str| (!text.is_empty()).then(|| text.into());
    StepKind::Hook {
        hook,
        family: NfFamily::Ip,
        iif: name(devices.0),
        oif: name(devices.1),
        verdict: Some(verdict),
    }
}

pub(crate) fn steps(kinds: Vec<StepKind>) -> Vec<Step> {
    let at = |(i, kind)| Step { time_ns: T0 + 1000 * i as u64, netns: RTR, kind };
    kinds.into_iter().enumerate().map(at).collect()
}

/// A journey with nothing in it but a packet.
pub(crate) fn bare(packet: Packet) -> Journey {
    Journey {
        id: JourneyId(1),
        packet_id: Some(77),
        netns: Netns { inum: RTR, name: Some("rtr".into()) },
        first_seen_ns: T0,
        last_seen_ns: T0 + 10_000,
        packet,
        iif: None,
        connection: None,
        connection_netns: RTR,
        steps: Vec::new(),
        outcome: Outcome::Consumed,
        findings: Vec::new(),
        relation: None,
        retransmission_of: None,
        same_path: false,
        like: None,
        incomplete: Vec::new(),
        trace_ids: Vec::new(),
        traced: Vec::new(),
        sights: Vec::new(),
    }
}

const DNAT: &str = "ip daddr 10.1.2.3 tcp dport 1222 dnat ip to 192.168.70.10:22";

fn until_forward(verdict: HookVerdict) -> Vec<StepKind> {
    let dnat = rule("inet nat prerouting", 3, DNAT);
    vec![
        StepKind::Device { event: DeviceStep::Receive, name: "enp0".into() },
        hook(HookPoint::Prerouting, ("enp0", ""), HookVerdict::Accept),
        matched(dnat.clone(), HookPoint::Prerouting, Verdict::Accept),
        rewrite(Manip::Dnat, ("10.1.2.3:1222", "192.168.70.10:22"), Some(dnat), RewrittenBy::Rule),
        StepKind::Route {
            decision: RouteDecision::Forward,
            oif: Some("veth21".into()),
            gateway: None,
            matched: None,
        },
        hook(HookPoint::Forward, ("enp0", "veth21"), verdict),
        matched(
            rule("inet filter forward", 5, "ct status dnat jump allowed_dnats"),
            HookPoint::Forward,
            Verdict::Jump("allowed_dnats".to_owned()),
        ),
    ]
}

fn article() -> Journey {
    let tuple = |a: &str, b: &str| Tuple { protocol: protocol::TCP, source: end(a), destination: end(b) };
    Journey {
        iif: Some("enp0".into()),
        connection: Some(Connection {
            id: Some(1_968_238_741),
            direction: Some(Direction::Original),
            state: Some(State::New),
            status: Some(IPS_DST_NAT),
            original: Some(tuple("10.2.1.2:36334", "10.1.2.3:1222")),
            reply: Some(tuple("192.168.70.10:22", "10.2.1.2:36334")),
            ..Connection::default()
        }),
        trace_ids: vec![0xf801_9c00],
        ..bare(tcp("10.2.1.2:36334", "10.1.2.3:1222", 2))
    }
}

/// The article's port-forward as it breaks.
pub(crate) fn broken() -> Journey {
    let drop = rule("inet filter allowed_dnats", 8, "drop");
    let mut kinds = until_forward(HookVerdict::Drop);
    kinds.push(matched(drop.clone(), HookPoint::Forward, Verdict::Drop));
    kinds.push(StepKind::Drop(Box::new(KernelDrop {
        reason: Some("NETFILTER_DROP".into()),
        function: Some("nft_do_chain".into()),
        text: "a netfilter hook dropped it".into(),
        ..KernelDrop::default()
    })));
    Journey {
        steps: steps(kinds),
        outcome: Outcome::Dropped(DropCause::Rule { rule: drop, hook: Some(HookPoint::Forward) }),
        findings: vec![Finding {
            code: "set-element-missing",
            text: "The rule before it accepts what is in the set @allow_in, and 192.168.70.10 . 22 (the address \
                   and port after the rewrite) is not in it."
                .to_owned(),
            fix: vec!["nft add element inet filter allow_in { 192.168.70.10 . 22 }".to_owned()],
            certainty: Certainty::Certain,
            steps: vec![6, 7],
            near: None,
        }],
        ..article()
    }
}

/// The same segment again, after `seconds`.
pub(crate) fn again(id: u64, of: &Journey, seconds: f64) -> Journey {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a test's small positive number"
    )]
    let later = (seconds * 1e9) as u64;
    Journey {
        id: JourneyId(id),
        first_seen_ns: of.first_seen_ns + later,
        last_seen_ns: of.last_seen_ns + later,
        retransmission_of: Some(of.id),
        same_path: true,
        ..of.clone()
    }
}

/// A port-forward by legacy iptables that a chain of its own drops; with its rules' texts or without.
pub(crate) fn legacy(texts: bool) -> Journey {
    let rule = |chain: &str, number, text: &str| RuleRef {
        backend: Backend::Legacy,
        text: texts.then(|| text.into()),
        ..rule(chain, number, text)
    };
    let step = |rule, hook, verdict: Verdict, or_end: bool| {
        StepKind::Rule(Box::new(RuleStep {
            rule,
            verdict: texts.then_some(verdict),
            or_end: or_end && !texts,
            hook: Some(hook),
            mark: None,
        }))
    };
    let dnat = rule("ip nat PREROUTING", 1, "-A PREROUTING -p tcp -j DNAT --to-destination 192.168.70.10:22");
    let drop = rule("ip filter web", 2, "-A web -j DROP");
    let raw = StepKind::Policy {
        backend: Backend::Legacy,
        family: NfFamily::Ip,
        table: "raw".into(),
        chain: "PREROUTING".into(),
        verdict: Verdict::Accept,
        hook: Some(HookPoint::Prerouting),
    };
    let jump = rule("ip filter FORWARD", 1, "-A FORWARD -p tcp -j web");
    let forward = HookPoint::Forward;
    let kinds = vec![
        hook(HookPoint::Prerouting, ("enp0", ""), HookVerdict::Accept),
        raw,
        step(dnat.clone(), HookPoint::Prerouting, Verdict::Accept, false),
        rewrite(Manip::Dnat, ("10.1.2.3:1222", "192.168.70.10:22"), Some(dnat), RewrittenBy::Rule),
        hook(forward, ("enp0", "veth21"), HookVerdict::Drop),
        step(jump, forward, Verdict::Jump("web".to_owned()), false),
        step(drop.clone(), forward, Verdict::Drop, true),
    ];
    Journey {
        steps: steps(kinds),
        outcome: Outcome::Dropped(DropCause::Rule { rule: drop, hook: Some(forward) }),
        ..article()
    }
}

/// The article's port-forward after the fix.
pub(crate) fn fixed() -> Journey {
    let mut kinds = until_forward(HookVerdict::Accept);
    kinds.extend([
        matched(
            rule("inet filter allowed_dnats", 7, "meta nfproto ipv4 ip daddr . tcp dport @allow_in accept"),
            HookPoint::Forward,
            Verdict::Accept,
        ),
        hook(HookPoint::Postrouting, ("enp0", "veth21"), HookVerdict::Accept),
        StepKind::Policy {
            backend: Backend::Nft,
            family: NfFamily::Inet,
            table: "nat".into(),
            chain: "postrouting".into(),
            verdict: Verdict::Accept,
            hook: Some(HookPoint::Postrouting),
        },
        StepKind::Device { event: DeviceStep::Transmit, name: "veth21".into() },
    ]);
    Journey {
        steps: steps(kinds),
        outcome: Outcome::Transmitted { device: Some("veth21".into()) },
        ..article()
    }
}

/// A connection attempt that nobody answered.
pub(crate) fn conversation() -> Conversation {
    Conversation {
        netns: 1,
        id: Some(7),
        original: Tuple { protocol: 6, source: end("10.2.1.2:36334"), destination: end("10.1.2.3:1222") },
        reply: Some(Tuple {
            protocol: 6,
            source: end("192.168.70.10:22"),
            destination: end("10.2.1.2:36334"),
        }),
        sent: Passage { packets: 3, through: 3, dropped: 0 },
        answered: Passage::default(),
        journeys: vec![JourneyId(1), JourneyId(2), JourneyId(3)],
        text: "3 SYNs through, no answer from 192.168.70.10".to_owned(),
        findings: Vec::new(),
    }
}
