//! A journey, or what came of a connection, as spans. Pure: the same journey always becomes the same spans.

use std::collections::BTreeMap;
use std::io;

use nattrace_core::conversation::Conversation;
use nattrace_core::event::{HookPoint, HookVerdict, Manip};
use nattrace_core::journey::{Journey, JourneyId, Outcome, Step, StepKind};
use nattrace_core::packet::{Endpoint, protocol};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use serde_json::Value;

use super::attributes::Attributes;
use super::ids::{self, SpanId, TraceId};
use crate::render::{Namespaces, conversation_value, end_in_words, journey_value};

/// Journeys that later ones can be linked to; the oldest are forgotten.
const MAX_KNOWN: usize = 65_536;

/// Makes spans, and remembers where they are.
#[derive(Debug)]
pub(super) struct Spans {
    /// `host.name`, or nothing where it is not known.
    host: String,
    /// The names of the namespaces.
    pub(super) namespaces: Namespaces,
    known: BTreeMap<JourneyId, Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    trace: TraceId,
    span: SpanId,
    first_ns: u64,
    last_ns: u64,
}

impl Spans {
    /// None yet.
    pub(super) fn new(host: String) -> Self {
        Self { host, namespaces: Namespaces::default(), known: BTreeMap::new() }
    }

    /// A span of the journey, and one for each hook in it.
    pub(super) fn journey(&mut self, journey: &Journey) -> io::Result<Vec<Span>> {
        let mut told = journey_value(journey, &self.namespaces)?;
        let steps = match told.get_mut("steps").map(Value::take) {
            Some(Value::Array(steps)) => steps,
            _ => Vec::new(),
        };
        let (trace, key) = ids::trace_id(journey, &self.host);
        let known = Known {
            trace,
            span: ids::span_id(journey, &self.host),
            first_ns: journey.first_seen_ns,
            last_ns: journey.last_seen_ns,
        };
        let mut attributes = Attributes::default();
        attributes.network(&journey.packet);
        attributes.ends(journey.packet.source, journey.packet.destination);
        if let Some(iif) = &journey.iif {
            attributes.text("network.interface.name", iif.as_str());
        }
        let (source, destination) = rewritten(journey);
        attributes.end("nattrace.rewritten.source", source);
        attributes.end("nattrace.rewritten.destination", destination);
        attributes.text("nattrace.trace.key", key.name());
        attributes.text("nattrace.journey.id", journey.id.to_string());
        findings(&mut attributes, &told);
        // What other attributes say, by names that others know.
        for (within, names) in [
            ("", &["id", "iif", "steps", "findings", "first_seen_ns", "last_seen_ns"][..]),
            ("/packet", &["saddr", "sport", "daddr", "dport"]),
            ("/outcome", &["rule"]),
        ] {
            if let Some(members) = told.pointer_mut(within).and_then(Value::as_object_mut) {
                members.retain(|name, _| !names.contains(&name.as_str()));
            }
        }
        attributes.json("nattrace", &told);
        let mut root = Span {
            name: format!("{} {}", journey.packet.protocol_name(), journey.outcome.name()),
            attributes: attributes.finish(),
            links: self.links(journey),
            status: status(journey),
            ..span(known)
        };
        let mut hooks: Vec<(HookPoint, Span)> = Vec::new();
        let mut open = false;
        for (step, told) in journey.steps.iter().zip(steps) {
            let place = place(step, open.then(|| hooks.last().map(|(hook, _)| *hook)).flatten());
            match place {
                Place::Opens(hook) => {
                    let id = ids::child_id(known.span, hooks.len());
                    let mut inside =
                        span(Known { span: id, first_ns: step.time_ns, last_ns: step.time_ns, ..known });
                    inside.parent_span_id = known.span.to_vec();
                    hook.name().clone_into(&mut inside.name);
                    hooks.push((hook, inside));
                    open = true;
                }
                Place::Within => {}
                Place::Outside => open = false,
            }
            let inside = if open { hooks.last_mut().map(|(_, span)| span) } else { None };
            match (&step.kind, inside) {
                (StepKind::Hook { iif, oif, verdict, .. }, Some(span)) => {
                    span.attributes = hook_attributes(told, iif.as_deref().or(oif.as_deref()));
                    if *verdict == Some(HookVerdict::Drop) {
                        span.status = Some(failed(""));
                    }
                }
                (_, Some(span)) => {
                    span.end_time_unix_nano = span.end_time_unix_nano.max(step.time_ns);
                    span.events.push(event(step, told));
                }
                (_, None) => root.events.push(event(step, told)),
            }
        }
        self.known.insert(journey.id, known);
        if self.known.len() > MAX_KNOWN {
            self.known.pop_first();
        }
        Ok([root].into_iter().chain(hooks.into_iter().map(|(_, span)| span)).collect())
    }

    /// A span of what came of a connection, linked to its journeys; `None` where none of them is known any more, and
    /// with them when it was.
    pub(super) fn conversation(&self, conversation: &Conversation) -> io::Result<Option<Span>> {
        let of: Vec<Known> =
            conversation.journeys.iter().filter_map(|id| self.known.get(id)).copied().collect();
        let first = of.iter().map(|known| known.first_ns).min();
        let last = of.iter().map(|known| known.last_ns).max();
        let (Some(first_ns), Some(last_ns)) = (first, last) else { return Ok(None) };
        let mut told = conversation_value(conversation, &self.namespaces)?;
        let packets = conversation.sent.packets + conversation.answered.packets;
        let original = conversation.original;
        let (trace, span_id) =
            ids::connection_ids(&self.host, conversation.netns, original, first_ns, packets);
        let mut attributes = Attributes::default();
        attributes.tuple(original.source.addr, original.protocol);
        let ports = protocol::has_ports(original.protocol);
        let end = |end: Endpoint| Some(Endpoint { port: end.port.filter(|_| ports), ..end });
        attributes.ends(end(original.source), end(original.destination));
        findings(&mut attributes, &told);
        if let Some(members) = told.as_object_mut() {
            members.retain(|name, _| !matches!(name.as_str(), "findings" | "journeys" | "original"));
            let netns = members.remove("netns").unwrap_or_default();
            attributes.json("nattrace.netns", &netns);
        }
        attributes.json("nattrace.connection", &told);
        let known = Known { trace, span: span_id, first_ns, last_ns };
        let name = protocol::name_or_number(original.protocol);
        Ok(Some(Span {
            name: format!("{name} connection"),
            attributes: attributes.finish(),
            links: of.iter().map(|known| link(*known, "packet")).collect(),
            status: (!conversation.findings.is_empty()).then(|| failed(&conversation.text)),
            ..span(known)
        }))
    }

    fn links(&self, journey: &Journey) -> Vec<Link> {
        let again = journey.retransmission_of.map(|id| (id, "retransmission-of"));
        let kin = journey.relation.iter().flat_map(|it| it.of.iter().map(|id| (*id, it.kind.name())));
        again
            .into_iter()
            .chain(kin)
            .filter_map(|(id, kind)| Some(link(*self.known.get(&id)?, kind)))
            .collect()
    }
}

/// Where a step belongs.
enum Place {
    /// It is the first of a hook.
    Opens(HookPoint),
    /// Where the step before it does.
    Within,
    /// To no hook.
    Outside,
}

fn place(step: &Step, open: Option<HookPoint>) -> Place {
    let rule_in = match &step.kind {
        StepKind::Hook { hook, .. } => return Place::Opens(*hook),
        StepKind::Rule(rule) => rule.hook,
        StepKind::Policy { hook, .. } => *hook,
        StepKind::Rewrite { .. } | StepKind::Connection { .. } => None,
        StepKind::Route { .. } | StepKind::Device { .. } | StepKind::Deliver { .. } | StepKind::Drop(_) => {
            return Place::Outside;
        }
    };
    match rule_in {
        // The hook itself was not seen.
        Some(hook) if Some(hook) != open => Place::Opens(hook),
        _ => Place::Within,
    }
}

fn span(known: Known) -> Span {
    Span {
        trace_id: known.trace.to_vec(),
        span_id: known.span.to_vec(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: known.first_ns,
        end_time_unix_nano: known.last_ns,
        ..Span::default()
    }
}

fn event(step: &Step, mut told: Value) -> Event {
    let kind = told.get_mut("kind").map(Value::take);
    let name = kind.as_ref().and_then(Value::as_str).unwrap_or_default();
    Event {
        time_unix_nano: step.time_ns,
        name: name.to_owned(),
        attributes: step_attributes(name, &mut told),
        ..Event::default()
    }
}

fn step_attributes(kind: &str, told: &mut Value) -> Vec<KeyValue> {
    let mut attributes = Attributes::default();
    if let Some(members) = told.as_object_mut() {
        members.retain(|name, _| !matches!(name.as_str(), "time_ns" | "kind"));
        let netns = members.remove("netns").unwrap_or_default();
        attributes.json("nattrace.netns", &netns);
    }
    attributes.json(&format!("nattrace.{kind}"), told);
    attributes.finish()
}

fn hook_attributes(mut told: Value, device: Option<&str>) -> Vec<KeyValue> {
    if let Some(members) = told.as_object_mut() {
        members.remove("hook");
    }
    let mut attributes = Attributes::default();
    if let Some(device) = device {
        attributes.text("network.interface.name", device);
    }
    let mut attributes = attributes.finish();
    attributes.extend(step_attributes("hook", &mut told));
    attributes
}

/// The kth of each list is the kth finding's, but for the commands, which are those of all, in order.
fn findings(attributes: &mut Attributes, told: &Value) {
    let findings = told.get("findings").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for member in ["code", "text", "certainty"] {
        let values = findings.iter().filter_map(|finding| finding.get(member)?.as_str());
        attributes.texts(&format!("nattrace.finding.{member}"), values);
    }
    let fixes = findings.iter().filter_map(|finding| finding.get("fix")?.as_array()).flatten();
    attributes.texts("nattrace.finding.fix", fixes.filter_map(Value::as_str));
}

/// The ends as they were last, where NAT changed them.
fn rewritten(journey: &Journey) -> (Option<Endpoint>, Option<Endpoint>) {
    let (mut source, mut destination) = (None, None);
    for step in &journey.steps {
        match &step.kind {
            StepKind::Rewrite { nat: Manip::Snat, to, inner: false, .. } => source = Some(*to),
            StepKind::Rewrite { nat: Manip::Dnat, to, inner: false, .. } => destination = Some(*to),
            _ => {}
        }
    }
    (source, destination)
}

/// A drop is what people look for as an error; nothing else that becomes of a packet is one.
fn status(journey: &Journey) -> Option<Status> {
    matches!(journey.outcome, Outcome::Dropped(_)).then(|| failed(&end_in_words(journey)))
}

fn failed(message: &str) -> Status {
    Status { message: message.to_owned(), code: StatusCode::Error.into() }
}

fn link(to: Known, kind: &str) -> Link {
    let mut attributes = Attributes::default();
    attributes.text("nattrace.link", kind);
    Link {
        trace_id: to.trace.to_vec(),
        span_id: to.span.to_vec(),
        attributes: attributes.finish(),
        ..Link::default()
    }
}
