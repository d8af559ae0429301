use nattrace_core::event::HookPoint;
use nattrace_core::journey::{Journey, JourneyId, Kinship, Outcome, Relation, StepKind};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::export::ids;
use crate::export::resource;
use crate::export::spans::Spans;
use crate::render::samples::{RTR, again, bare, broken, conversation, fixed, legacy, tcp};

fn spans() -> Spans {
    let mut spans = Spans::new("edge".to_owned());
    spans.namespaces.set_name(RTR, "rtr");
    spans
}

fn shown(value: Option<&AnyValue>) -> String {
    match value.and_then(|any| any.value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::IntValue(number)) => number.to_string(),
        Some(Any::BoolValue(value)) => value.to_string(),
        Some(Any::ArrayValue(list)) => {
            list.values.iter().map(|any| shown(Some(any))).collect::<Vec<_>>().join(" | ")
        }
        other => panic!("{other:?}"),
    }
}

fn has(attributes: &[KeyValue], key: &str) -> Option<String> {
    attributes.iter().find(|attribute| attribute.key == key).map(|attribute| shown(attribute.value.as_ref()))
}

#[track_caller]
fn all_have(attributes: &[KeyValue], wanted: &[(&str, &str)]) {
    for (key, value) in wanted {
        assert_eq!(has(attributes, key).as_deref(), Some(*value), "{key}: {attributes:?}");
    }
}

/// What every span must be.
fn is_sound(spans: &[Span]) {
    let root = &spans[0];
    for span in spans {
        assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
        assert_eq!(span.trace_id, root.trace_id);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        for attributes in
            [&span.attributes].into_iter().chain(span.events.iter().map(|event| &event.attributes))
        {
            let mut keys: Vec<_> = attributes.iter().map(|attribute| attribute.key.as_str()).collect();
            keys.sort_unstable();
            let count = keys.len();
            keys.dedup();
            assert_eq!(keys.len(), count, "a key once: {keys:?}");
        }
    }
    assert!(root.parent_span_id.is_empty());
    assert!(spans[1..].iter().all(|span| span.parent_span_id == root.span_id));
}

#[test]
fn a_journey_is_a_span_with_one_for_each_hook() {
    let journey = broken();
    let told = spans().journey(&journey).unwrap();
    is_sound(&told);
    let root = &told[0];
    assert_eq!(root.name, "tcp dropped");
    assert_eq!(root.trace_id, ids::trace_id(&journey, "edge").0);
    assert_eq!(
        (root.start_time_unix_nano, root.end_time_unix_nano),
        (journey.first_seen_ns, journey.last_seen_ns)
    );
    all_have(
        &root.attributes,
        &[
            ("network.type", "ipv4"),
            ("network.transport", "tcp"),
            ("network.interface.name", "enp0"),
            ("source.address", "10.2.1.2"),
            ("source.port", "36334"),
            ("destination.address", "10.1.2.3"),
            ("destination.port", "1222"),
            ("nattrace.rewritten.destination.address", "192.168.70.10"),
            ("nattrace.rewritten.destination.port", "22"),
            ("nattrace.trace.key", "sequence"),
            ("nattrace.journey.id", "1"),
            ("nattrace.netns.name", "rtr"),
            ("nattrace.packet.tcp_flags", "syn"),
            ("nattrace.packet.ip_id", "48644"),
            ("nattrace.connection.id", "1968238741"),
            ("nattrace.connection.reply.saddr", "192.168.70.10"),
            ("nattrace.outcome.kind", "dropped"),
            ("nattrace.outcome.by", "rule"),
            ("nattrace.outcome.chain", "allowed_dnats"),
            ("nattrace.finding.code", "set-element-missing"),
            ("nattrace.finding.certainty", "certain"),
            ("nattrace.finding.fix", "nft add element inet filter allow_in { 192.168.70.10 . 22 }"),
        ],
    );
    assert_eq!(has(&root.attributes, "nattrace.rewritten.source.address"), None, "it was not");
    let status = root.status.as_ref().unwrap();
    assert_eq!(status.code, i32::from(StatusCode::Error));
    assert_eq!(status.message, "dropped by inet filter allowed_dnats handle 8");
    let hooks: Vec<_> = told[1..].iter().map(|span| span.name.as_str()).collect();
    assert_eq!(hooks, ["prerouting", "forward"]);
    let events = |span: &Span| span.events.iter().map(|event| event.name.clone()).collect::<Vec<_>>();
    assert_eq!(events(root), ["device", "route", "drop"]);
    assert_eq!(events(&told[1]), ["rule", "rewrite"]);
    assert_eq!(events(&told[2]), ["rule", "rule"]);
    all_have(&told[2].attributes, &[("nattrace.hook.verdict", "drop"), ("nattrace.hook.oif", "veth21")]);
    assert_eq!(told[2].status.as_ref().unwrap().code, i32::from(StatusCode::Error));
    assert!(told[1].status.is_none());
    all_have(
        &told[1].events[1].attributes,
        &[
            ("nattrace.rewrite.nat", "dnat"),
            ("nattrace.rewrite.to.addr", "192.168.70.10"),
            ("nattrace.rewrite.by", "rule"),
        ],
    );
    all_have(
        &told[2].events[1].attributes,
        &[("nattrace.rule.table", "filter"), ("nattrace.rule.handle", "8"), ("nattrace.rule.text", "drop")],
    );
}

#[test]
fn every_step_is_an_event_or_a_hook_at_its_time() {
    for journey in [broken(), fixed(), legacy(true), legacy(false)] {
        let told = spans().journey(&journey).unwrap();
        is_sound(&told);
        let hooks = journey.steps.iter().filter(|step| matches!(step.kind, StepKind::Hook { .. })).count();
        let mut times: Vec<_> =
            told.iter().flat_map(|span| &span.events).map(|event| event.time_unix_nano).collect();
        let mut steps: Vec<_> = journey.steps.iter().collect();
        steps.retain(|step| !matches!(step.kind, StepKind::Hook { .. }));
        let mut steps: Vec<_> = steps.iter().map(|step| step.time_ns).collect();
        times.sort_unstable();
        steps.sort_unstable();
        assert_eq!(times, steps);
        assert!(told.len() > hooks, "hooks that were not seen have spans, too, where rules were");
    }
}

#[test]
fn a_rule_of_a_hook_that_was_not_seen_has_a_span() {
    let mut journey = broken();
    journey.steps.retain(|step| !matches!(step.kind, StepKind::Hook { hook: HookPoint::Forward, .. }));
    let told = spans().journey(&journey).unwrap();
    let forward = told.iter().find(|span| span.name == "forward").unwrap();
    assert_eq!(forward.events.len(), 2);
    assert!(forward.attributes.is_empty(), "what is not known is not said");
}

#[test]
fn what_is_not_dropped_is_no_error() {
    let told = spans().journey(&fixed()).unwrap();
    assert!(told.iter().all(|span| span.status.is_none()));
    let mut unfinished = bare(tcp("10.2.1.2:1", "10.1.2.3:2", 2));
    unfinished.outcome = Outcome::Unfinished { why: "it was still under way".to_owned() };
    let told = spans().journey(&unfinished).unwrap();
    assert!(told[0].status.is_none());
    assert_eq!(told[0].name, "tcp unfinished");
    all_have(&told[0].attributes, &[("nattrace.outcome.why", "it was still under way")]);
}

#[test]
fn journeys_that_belong_together_are_linked() {
    let mut spans = spans();
    let first = spans.journey(&broken()).unwrap();
    let mut second = again(2, &broken(), 1.0);
    second.relation = Some(Relation { kind: Kinship::CopyOf, of: vec![JourneyId(1), JourneyId(77)] });
    let second = spans.journey(&second).unwrap();
    let links: Vec<_> =
        second[0].links.iter().map(|link| has(&link.attributes, "nattrace.link").unwrap()).collect();
    assert_eq!(links, ["retransmission-of", "copy-of"], "journey 77 is not known");
    for link in &second[0].links {
        assert_eq!((&link.trace_id, &link.span_id), (&first[0].trace_id, &first[0].span_id));
    }
}

#[test]
fn what_came_of_a_connection_is_linked_to_its_packets() {
    let mut spans = spans();
    let journey = broken();
    let first = spans.journey(&journey).unwrap();
    let told = conversation();
    assert!(told.journeys.contains(&journey.id));
    assert_eq!(Spans::new(String::new()).conversation(&told).unwrap(), None, "when it was is not known");
    let span = spans.conversation(&told).unwrap().unwrap();
    assert_eq!(span.name, "tcp connection");
    assert_eq!(span.links.len(), 1, "the others' journeys are not known");
    assert_eq!(span.links[0].span_id, first[0].span_id);
    assert_ne!(span.trace_id, first[0].trace_id);
    assert_eq!(span.start_time_unix_nano, journey.first_seen_ns);
    all_have(&span.attributes, &[("nattrace.connection.text", &told.text), ("network.transport", "tcp")]);
    let later = nattrace_core::conversation::Passage { packets: 9, ..told.sent };
    let again = spans
        .conversation(&nattrace_core::conversation::Conversation { sent: later, ..told })
        .unwrap()
        .unwrap();
    assert_eq!(again.trace_id, span.trace_id);
    assert_ne!(again.span_id, span.span_id);
}

#[test]
fn who_tells_is_what_the_environment_says() {
    let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let known = resource::resource(&[], Some("edge"), Some("6.12"));
    all_have(
        &known.attributes,
        &[
            ("service.name", "nattrace"),
            ("host.name", "edge"),
            ("os.type", "linux"),
            ("nattrace.kernel", "6.12"),
        ],
    );
    let replay = resource::resource(&[named("site", "fra1")], None, None);
    assert_eq!(has(&replay.attributes, "host.name"), None, "a recording does not say where it was made");
    let other = [named("host.name", "core"), named("service.name", "routers")];
    let told = resource::resource(&other, Some("edge"), None);
    all_have(&told.attributes, &[("host.name", "core"), ("service.name", "routers")]);
    assert_eq!(resource::host_name(&other, Some("edge")), "core");
    assert_eq!(resource::host_name(&[], None), "");
}

#[test]
fn hostile_names_stay_text() {
    let mut journey: Journey = broken();
    let hostile = "</script>\u{1b}[31m\"'\u{202e}";
    for step in &mut journey.steps {
        if let StepKind::Rule(rule) = &mut step.kind {
            rule.rule.text = Some(hostile.into());
        }
    }
    let told = spans().journey(&journey).unwrap();
    all_have(&told[2].events[0].attributes, &[("nattrace.rule.text", hostile)]);
}
