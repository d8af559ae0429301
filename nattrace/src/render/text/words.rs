//! The plain words for ends, routes and sums.

use std::net::IpAddr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nattrace_core::conntrack::Tuple;
use nattrace_core::event::{HookPoint, Loss};
use nattrace_core::findings::Certainty;
use nattrace_core::journey::{
    Backend, ConnectionStep, DropCause, Journey, JourneyId, KernelDrop, MatchedRoute, Outcome, RewrittenBy,
    RouteDecision, RuleRef, RuleStep, StepKind,
};
use nattrace_core::packet::{Endpoint, protocol};

use crate::render::chains::beside_chain;
use crate::render::run::{Summary, Tally};
use crate::render::style::{Role, Span};

/// A rule's text is quoted in the last line up to this length; longer ones are "the rule above".
const QUOTED: usize = 24;
/// Causes of drops in the sum.
const MAX_CAUSES: usize = 10;

/// How it ended, by a sign and in a word.
pub(crate) fn ending(outcome: &Outcome) -> (Role, &'static str) {
    match outcome {
        Outcome::Dropped(_) => (Role::Drop, "✗ DROPPED"),
        Outcome::Delivered => (Role::Pass, "✓ DELIVERED"),
        Outcome::Transmitted { .. } => (Role::Pass, "→ SENT"),
        Outcome::Queued => (Role::Other, "» QUEUED"),
        Outcome::Consumed => (Role::Other, "• CONSUMED"),
        Outcome::Unfinished { .. } => (Role::Warn, "? UNFINISHED"),
    }
}

/// The end, for the block's last line.
pub(super) fn outcome(journey: &Journey, last_rule: Option<&RuleRef>) -> String {
    match &journey.outcome {
        Outcome::Dropped(cause) => dropped(journey, cause, last_rule),
        Outcome::Delivered => match journey.steps.last().map(|step| &step.kind) {
            Some(StepKind::Deliver { protocol, local, function }) => {
                delivered(protocol, *local, function.as_deref())
            }
            _ => "to this host".to_owned(),
        },
        Outcome::Transmitted { device: Some(device) } => format!("out {device}"),
        Outcome::Transmitted { device: None } => "out, by a device that was not seen".to_owned(),
        Outcome::Queued => "to a program in user space (NFQUEUE)".to_owned(),
        Outcome::Consumed => "the kernel kept or merged it".to_owned(),
        Outcome::Unfinished { why } => why.clone(),
    }
}

fn dropped(journey: &Journey, cause: &DropCause, last_rule: Option<&RuleRef>) -> String {
    let within =
        |hook: &Option<HookPoint>| hook.map_or_else(String::new, |hook| format!("in {} ", hook.name()));
    match cause {
        DropCause::Rule { rule, hook } => {
            let within = within(hook);
            let place = format!("{} {}", rule.chain_of(), rule.in_chain());
            match rule.text.as_deref().map(|text| beside_chain(rule, text)) {
                Some(text) if text.chars().count() <= QUOTED => {
                    format!("{within}by rule \"{text}\" ({place})")
                }
                _ if last_rule == Some(rule) => format!("{within}by the rule above ({place})"),
                Some(text) => format!("{within}by the rule of {place}: {text}"),
                None => format!("{within}by the rule of {place}"),
            }
        }
        DropCause::Policy { backend, family, table, chain, hook } => {
            format!("{}by the policy of {} {table} {chain}", within(hook), backend.owner(*family))
        }
        DropCause::Kernel(drop) => {
            let KernelDrop { reason, function, hook, text, .. } = &**drop;
            let within = within(hook);
            let details = match kernel_details(reason.as_deref(), function.as_deref()) {
                Some(details) => format!(" ({details})"),
                None => String::new(),
            };
            // The lines below say it, and more.
            let told_below = journey.findings.iter().any(|finding| finding.text.starts_with(text.as_str()));
            let text = if told_below { String::new() } else { format!(": {text}") };
            format!("{within}by the kernel{details}{text}")
        }
    }
}

/// The end in a few words, for other packets' blocks and for telling whether two ends are the same.
pub(crate) fn end(journey: &Journey) -> String {
    match &journey.outcome {
        Outcome::Dropped(DropCause::Rule { rule, .. }) => {
            format!("dropped by {} {}", rule.chain_of(), rule.in_chain())
        }
        Outcome::Dropped(DropCause::Policy { backend, family, table, chain, .. }) => {
            format!("dropped by the policy of {} {table} {chain}", backend.owner(*family))
        }
        Outcome::Dropped(DropCause::Kernel(drop)) => {
            format!("dropped by the kernel: {}", drop.text)
        }
        Outcome::Delivered => "delivered".to_owned(),
        Outcome::Transmitted { device } => {
            device.as_ref().map_or_else(|| "sent".to_owned(), |device| format!("sent out {device}"))
        }
        Outcome::Queued => "queued to user space".to_owned(),
        Outcome::Consumed => "consumed by the kernel".to_owned(),
        Outcome::Unfinished { .. } => "lost sight of".to_owned(),
    }
}

/// A rule whose text is not known.
pub(in crate::render) fn unknown_rule(step: &RuleStep) -> String {
    let rule = step.rule.in_chain();
    match (step.rule.backend, step.or_end) {
        (Backend::Nft, _) => format!("rule {rule}, text not known"),
        (Backend::Legacy, false) => format!("{rule}, text not known"),
        (Backend::Legacy, true) => format!("{rule} or the end of the chain, text not known"),
    }
}

/// The kernel's reason and function, as far as they are known.
fn kernel_details(reason: Option<&str>, function: Option<&str>) -> Option<String> {
    match (reason, function) {
        (Some(reason), Some(function)) => Some(format!("{reason} in {function}")),
        (Some(reason), None) => Some(reason.to_owned()),
        (None, Some(function)) => Some(format!("in {function}")),
        (None, None) => None,
    }
}

/// A drop that was not the end: of a copy, say.
pub(super) fn kernel_drop(text: &str, reason: Option<&str>, function: Option<&str>) -> String {
    kernel_details(reason, function).map_or_else(|| text.to_owned(), |details| format!("{details}: {text}"))
}

pub(in crate::render) fn delivered(
    protocol: &str,
    local: Option<Endpoint>,
    function: Option<&str>,
) -> String {
    let mut told = format!("to {protocol}");
    if let Some(local) = local {
        told = format!("{told} {local}");
    }
    match function {
        Some(function) => format!("{told} ({function})"),
        None => told,
    }
}

pub(super) fn devices(iif: Option<&str>, oif: Option<&str>) -> String {
    match (iif, oif) {
        (Some(iif), Some(oif)) => format!("{iif} → {oif}"),
        (_, Some(oif)) => format!("out {oif}"),
        (Some(iif), None) => format!("in {iif}"),
        (None, None) => String::new(),
    }
}

/// `from_here`: the packet was made on this host, so that "forward" means only "out".
pub(in crate::render) fn route(
    decision: RouteDecision,
    oif: Option<&str>,
    gateway: Option<IpAddr>,
    matched: Option<&MatchedRoute>,
    from_here: bool,
) -> String {
    let mut told = match decision {
        RouteDecision::Local => "to this host",
        RouteDecision::Forward if from_here && oif.is_some() => "",
        RouteDecision::Forward => "forward",
        RouteDecision::Broadcast => "broadcast or multicast",
        RouteDecision::Unreachable => "unreachable: no route, or one that says so",
        RouteDecision::Blackhole => "blackhole: a route that discards",
        RouteDecision::Prohibit => "prohibit: a route that forbids",
        RouteDecision::Martian => "martian: an address that cannot be here",
    }
    .to_owned();
    let mut add = |comma: &str, text: String| {
        if !told.is_empty() {
            told.push_str(comma);
        }
        told.push_str(&text);
    };
    // Local delivery is told with the loopback device: it says nothing.
    if let Some(oif) = oif.filter(|_| decision != RouteDecision::Local) {
        add(", ", format!("out {oif}"));
    }
    if let Some(gateway) = gateway {
        add(" ", format!("via {gateway}"));
    }
    // 254 is the main table, whose default route says nothing either.
    if let Some(MatchedRoute { table, prefix, .. }) = matched.filter(|_| decision != RouteDecision::Local) {
        match (*table, prefix.length) {
            (None | Some(254), 0) => {}
            (None | Some(254), _) => add(", ", format!("by {prefix}")),
            (Some(table), _) => add(", ", format!("by {prefix} in table {table}")),
        }
    }
    told
}

/// `3.1 s`, `40 ms`, `2 min 5 s`.
pub(in crate::render) fn time_span(nanoseconds: u64) -> String {
    let milliseconds = nanoseconds / 1_000_000;
    match milliseconds {
        0..1 => "less than 1 ms".to_owned(),
        1..1000 => format!("{milliseconds} ms"),
        1000..60_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1000),
    }
}

/// How sure a finding is.
pub(in crate::render) fn certainty(certainty: Certainty) -> &'static str {
    match certainty {
        Certainty::Certain => "why",
        Certainty::Likely => "likely why",
    }
}

/// The clock on the user's wall.
pub(crate) fn time_of_day(nanoseconds: u64, zone: &TimeZone) -> String {
    match Timestamp::from_nanosecond(i128::from(nanoseconds)) {
        Ok(time) => time.to_zoned_datetime(zone.clone()).strftime("%H:%M:%S%.3f").to_string(),
        Err(_) => format!("{nanoseconds} ns"),
    }
}

/// The day on the user's calendar, and in which zone.
pub(in crate::render) fn date(nanoseconds: u64, zone: &TimeZone) -> String {
    match Timestamp::from_nanosecond(i128::from(nanoseconds)) {
        Ok(time) => time.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d (UTC%:z)").to_string(),
        Err(_) => String::new(),
    }
}

/// The last lines of a run.
pub(in crate::render) fn summary(summary: &Summary) -> Vec<Vec<Span>> {
    let mut lines = Vec::new();
    let tally = summary.journeys;
    if tally.total() == 0 {
        lines.push(vec![Span::new(Role::Title, "No packet matched.")]);
    } else {
        let mut line = self::tally(tally);
        if tally.retransmissions > 0 {
            let noun = if tally.retransmissions == 1 { "retransmission" } else { "retransmissions" };
            line.push(Span::new(Role::Plain, format!("; {} {noun} among them", tally.retransmissions)));
        }
        lines.push(line);
    }
    // Of one packet, and what repeats it, its own block says it.
    if summary.causes.len() > 1 || tally.dropped > tally.retransmissions + 1 {
        lines.extend(summary.causes.iter().take(MAX_CAUSES).map(|cause| {
            let told = format!("  by {}  from #{} on", cause.text, cause.first);
            vec![Span::new(Role::Drop, format!("{:>7} dropped", cause.count)), Span::new(Role::Plain, told)]
        }));
        if let Some(more) = summary.causes.len().checked_sub(MAX_CAUSES).filter(|more| *more > 0) {
            lines.push(vec![Span::new(Role::Drop, format!("        and {more} more causes"))]);
        }
    }
    if let Some(left_out) = summary.rate_limited.filter(|count| *count > 0) {
        let verb = if left_out == 1 { "more matched and was" } else { "more matched and were" };
        let told = format!("{left_out} {verb} left out by --rate");
        lines.push(vec![Span::new(Role::Warn, told)]);
    }
    if summary.held_back > 0 {
        lines.push(vec![Span::new(Role::Warn, held_back(summary.held_back))]);
    }
    let lost = summary.sources.iter().filter(|(_, totals)| totals.lost > 0);
    let lost =
        lost.map(|(source, totals)| format!("{} of {}", totals.lost, source.name())).collect::<Vec<_>>();
    if !lost.is_empty() {
        lines.push(vec![Span::new(Role::Warn, format!("Events lost: {}", lost.join(", ")))]);
    }
    lines
}

/// Packets that were left out, lest events of others be lost.
pub(crate) fn held_back(packets: u64) -> String {
    let noun = if packets == 1 { "packet more was" } else { "packets more were" };
    format!("{packets} {noun} not followed: events came faster than they could be read")
}

/// Events that were lost, when, and from which journeys steps may be missing for it.
pub(crate) fn loss(loss: &Loss, journeys: &[JourneyId], zone: &TimeZone) -> String {
    let count = loss.count.map_or_else(|| "some".to_owned(), |count| count.to_string());
    let events = if loss.count == Some(1) { "event" } else { "events" };
    let first = time_of_day(loss.first_ns, zone);
    let last = time_of_day(loss.last_ns, zone);
    let when = if first == last { format!("at {first}") } else { format!("between {first} and {last}") };
    let mut told = format!("{count} {events} of {} lost {when}", loss.source.name());
    if !journeys.is_empty() {
        let numbers = journeys.iter().map(|id| format!("#{id}")).collect::<Vec<_>>().join(", ");
        told = format!("{told}; steps may be missing from {numbers}");
    }
    told
}

/// How many packets, and how they ended.
pub(crate) fn tally(tally: Tally) -> Vec<Span> {
    let noun = if tally.total() == 1 { "packet" } else { "packets" };
    let mut line = vec![Span::new(Role::Title, format!("{} {noun}", tally.total()))];
    let mut lead = ": ";
    for (count, role, end) in [
        (tally.dropped, Role::Drop, "dropped"),
        (tally.delivered, Role::Pass, "delivered"),
        (tally.transmitted, Role::Pass, "sent"),
        (tally.queued, Role::Other, "queued"),
        (tally.consumed, Role::Other, "consumed"),
        (tally.unfinished, Role::Warn, "unfinished"),
    ] {
        if count > 0 {
            line.push(Span::new(Role::Plain, std::mem::replace(&mut lead, ", ")));
            line.push(Span::new(role, format!("{count} {end}")));
        }
    }
    line
}

/// Who decided a rewrite.
pub(in crate::render) fn rewritten_by(
    rule: Option<&RuleRef>,
    by: RewrittenBy,
    decided_for: Option<JourneyId>,
    older: bool,
) -> String {
    match by {
        RewrittenBy::Rule => match rule {
            Some(rule) => format!("by a rule of {}", rule.chain_of()),
            None => "by a rule that was not seen".to_owned(),
        },
        RewrittenBy::Connection => match decided_for {
            Some(journey) => format!("as decided for #{journey}"),
            None if older => "as its connection is mapped since before this trace".to_owned(),
            None => "as its connection is mapped".to_owned(),
        },
        RewrittenBy::IcmpError => "of an ICMP error, as the connection it is about is mapped".to_owned(),
        RewrittenBy::Flowtable => "by the flowtable's fast path".to_owned(),
        RewrittenBy::Ipvs => "by IPVS".to_owned(),
        RewrittenBy::Other => match rule {
            Some(rule) => format!("written by a rule of {}, without NAT", rule.chain_of()),
            None => "not by a NAT rule that was seen".to_owned(),
        },
    }
}

/// A source port that changed though nothing asked for it.
pub(in crate::render) fn unasked(from: Endpoint) -> String {
    let port = from.port.map_or_else(String::new, |port| format!(" {port}"));
    format!("unasked: port{port} is taken, or its source is mapped so already")
}

/// Who wrote a new address past NAT, where the kernel's function is known.
pub(in crate::render) fn written(function: Option<&str>, by: RewrittenBy) -> Option<String> {
    let function = function.filter(|_| by == RewrittenBy::Other)?;
    Some(format!("written by {}, without NAT", writer(function)))
}

/// Who writes into headers by the kernel's function of this name.
fn writer(function: &str) -> String {
    let who = match function {
        "do_xdp_generic" => "an XDP program",
        "nfqnl_recv_verdict" => "the program that reads the queue",
        "tcf_nat_act" | "tcf_pedit_act" => "a tc action",
        _ => return function.to_owned(),
    };
    format!("{who} ({function})")
}

/// A moment in the connection's life, where it is not what always happens.
pub(super) fn connection(event: ConnectionStep) -> Option<&'static str> {
    match event {
        ConnectionStep::Created | ConnectionStep::Confirmed => None,
        ConnectionStep::ClashResolved => {
            Some("another packet of the connection was faster: its entry is the connection's")
        }
        ConnectionStep::Destroyed => Some("the connection's entry is removed"),
    }
}

/// Both ends of a connection, and where it really goes.
pub(crate) fn connection_ends(original: Tuple, reply: Option<Tuple>) -> String {
    let Tuple { protocol, source, destination } = original;
    let name = protocol::name_or_number(protocol);
    // Conntrack keeps an echo's identifier, type and code where ports are.
    let icmp = matches!(protocol, protocol::ICMP | protocol::ICMPV6);
    let end = |end: Endpoint| Endpoint { port: end.port.filter(|_| !icmp), ..end };
    let mut told = format!("{name} {} → {}", end(source), end(destination));
    if let Some(reply) = reply {
        let (server, client) = (reply.source, reply.destination);
        if end(server) != end(destination) {
            told = format!("{told} ⇒ {}", end(server));
        }
        if end(client) != end(source) {
            told = format!("{told} as {}", end(client));
        }
    }
    told
}

/// `#1–#3 #7`, or the first ones of many.
pub(in crate::render) fn numbers(journeys: &[JourneyId]) -> String {
    const SHOWN: usize = 6;
    let mut sorted: Vec<u64> = journeys.iter().map(|id| id.0).collect();
    sorted.sort_unstable();
    let runs: Vec<(u64, u64)> = sorted.into_iter().fold(Vec::new(), |mut runs, id| {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => runs.push((id, id)),
        }
        runs
    });
    let run = |(first, last): &(u64, u64)| match last - first {
        0 => format!("#{first}"),
        1 => format!("#{first} #{last}"),
        _ => format!("#{first}–#{last}"),
    };
    let mut told: Vec<String> = runs.iter().take(SHOWN).map(run).collect();
    if runs.len() > SHOWN {
        told.push("…".to_owned());
    }
    told.join(" ")
}
