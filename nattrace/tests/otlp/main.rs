//! `--otlp` from outside: what a collector gets, and what becomes of a run whose collector is not well. The messages are
//! read by OpenTelemetry's own definitions. A real collector is in the scenario `otlp`.

mod collector;

use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use collector::{Collector, Says};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};

/// Six SYNs of one connection that were dropped, and what came of it.
const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recordings/port-forward-broken.jsonl");
const ITEMS: u64 = 7;
/// The end of a run is at most five seconds late; the rest is for a busy machine.
const BOUND: Duration = Duration::from_secs(15);

struct Told {
    journeys: Vec<String>,
    otlp: Value,
    stderr: String,
}

/// Replays the recording; its results must be whole and in time, whatever the collector does.
fn replay(url: &str, env: &[(&str, &str)]) -> Told {
    let run = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nattrace"));
        command.args(["replay", RECORDING, "--format", "json"]).args(more);
        for (name, _) in
            std::env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name.starts_with("SSL_"))
        {
            command.env_remove(name);
        }
        command.envs(env.iter().copied()).output().expect("the binary runs")
    };
    let begun = Instant::now();
    let output = run(&["--otlp", url]);
    assert!(begun.elapsed() < BOUND, "{url}: {:?}", begun.elapsed());
    assert_eq!(output.status.code(), Some(1), "packets were dropped, and that is what counts");
    let lines = |bytes: Vec<u8>| {
        String::from_utf8(bytes).expect("UTF-8").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (mut journeys, mut without) = (lines(output.stdout), lines(run(&[]).stdout));
    let summary: Value = serde_json::from_str(&journeys.pop().expect("a summary")).expect("JSON");
    without.pop();
    assert_eq!(journeys, without, "what is told here is the same");
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(stderr.lines().all(|line| line.starts_with("nattrace: ")), "{stderr}");
    Told { journeys, otlp: summary["otlp"].clone(), stderr }
}

fn url(collector: &Collector) -> String {
    format!("http://{}", collector.addr)
}

/// A run whose collector never takes anything: nothing is sent, for this reason.
#[track_caller]
fn in_vain(url: &str, why: &str) -> String {
    let told = replay(url, &[]);
    let error = told.otlp["error"].as_str().unwrap_or_default().to_owned();
    assert_eq!(told.otlp, json!({"sent": 0, "not_sent": ITEMS, "rejected_spans": 0, "error": error}));
    assert!(error.contains(why), "{error}");
    // On a terminal, a server's words are only words.
    let said = error.replace('\x1b', "\\x1b");
    let sum = format!("{ITEMS} of {ITEMS} journeys and connections were not sent: {said}");
    assert!(told.stderr.contains(&sum), "{}", told.stderr);
    let complaints = told.stderr.matches(&said).count();
    assert_eq!(complaints, 2, "said when it begins, and at the end: {}", told.stderr);
    told.stderr
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    match attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?.value.as_ref()? {
        Any::StringValue(text) => Some(text),
        _ => None,
    }
}

#[test]
fn a_collector_gets_every_journey() {
    let collector = Collector::start(&[Says::ok()]);
    let env = [
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20t0ken"),
        ("OTEL_RESOURCE_ATTRIBUTES", "host.name=edge,site=fra1"),
        ("OTEL_SERVICE_NAME", "routers"),
    ];
    let told = replay(&url(&collector), &env);
    assert_eq!(told.otlp, json!({"sent": ITEMS, "not_sent": 0, "rejected_spans": 0}));
    assert_eq!(told.stderr, "");
    let requests = collector.requests();
    let [request] = &requests[..] else { panic!("one batch: {requests:?}") };
    assert_eq!(request.line, "POST /v1/traces HTTP/1.1");
    let header =
        |name: &str| request.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    assert_eq!(header("content-type"), Some("application/x-protobuf"));
    assert_eq!(header("authorization"), Some("Bearer t0ken"));
    let spans = &request.message.resource_spans[0];
    let resource = &spans.resource.as_ref().expect("a resource").attributes;
    for (name, value) in [
        ("service.name", "routers"),
        ("host.name", "edge"),
        ("site", "fra1"),
        ("nattrace.kernel", "6.12.117+deb13-cloud-amd64"),
    ] {
        assert_eq!(text(resource, name), Some(value), "{name}");
    }
    let spans: Vec<&Span> = spans.scope_spans[0].spans.iter().collect();
    let roots: Vec<_> = spans.iter().filter(|span| span.name == "tcp dropped").collect();
    assert_eq!(roots.len(), 6);
    let mut traces: Vec<_> = roots.iter().map(|root| root.trace_id.clone()).collect();
    traces.sort();
    traces.dedup();
    assert_eq!(traces.len(), 6, "a retransmission is another packet");
    for (root, line) in
        roots.iter().zip(told.journeys.iter().filter(|line| line.contains("\"type\":\"journey\"")))
    {
        let journey: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(text(&root.attributes, "nattrace.journey.id"), journey["id"].as_str());
        assert_eq!(text(&root.attributes, "source.address"), journey["packet"]["saddr"].as_str());
        assert_eq!(Some(root.start_time_unix_nano), journey["first_seen_ns"].as_u64());
        assert_eq!(Some(root.end_time_unix_nano), journey["last_seen_ns"].as_u64());
        let told = |span: &&&Span| span.trace_id == root.trace_id && span.span_id != root.span_id;
        let hooks: Vec<_> = spans.iter().filter(told).map(|span| span.name.as_str()).collect();
        assert_eq!(hooks, ["prerouting", "forward"]);
    }
    let connection = spans.iter().find(|span| span.name == "tcp connection").expect("a connection");
    assert_eq!(connection.links.len(), 6);
    assert!(spans.iter().all(|span| span.start_time_unix_nano <= span.end_time_unix_nano));
}

#[test]
fn the_document_shows_what_is_sent() {
    let collector = Collector::start(&[Says::ok()]);
    replay(&url(&collector), &[]);
    let spans = collector.requests().remove(0).message.resource_spans.remove(0).scope_spans.remove(0).spans;
    let mut shown = String::new();
    for span in spans.iter().filter(|span| span.trace_id == spans[0].trace_id) {
        let margin = if span.parent_span_id.is_empty() { "" } else { "  " };
        let status =
            span.status.as_ref().map_or_else(String::new, |status| format!("  [error: {}]", status.message));
        let status = status.replace(": ]", "]");
        writeln!(shown, "{margin}{}{status}", span.name).expect("a string");
        shown.push_str(&listed(&span.attributes, &format!("{margin}    ")));
        for event in &span.events {
            writeln!(shown, "{margin}  · {}", event.name).expect("a string");
            shown.push_str(&listed(&event.attributes, &format!("{margin}    ")));
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/otlp.md");
    let document = std::fs::read_to_string(path).expect("a document");
    let (before, rest) = document.split_once("<!-- spans -->\n```\n").expect("a block of spans");
    let (block, after) = rest.split_once("```\n").expect("its end");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(path, format!("{before}<!-- spans -->\n```\n{shown}```\n{after}")).expect("written");
        return;
    }
    assert!(block == shown, "docs/otlp.md does not show what is sent: UPDATE_EXPECTED=1 writes it\n{shown}");
}

/// Attributes, one a line.
fn listed(attributes: &[KeyValue], margin: &str) -> String {
    let one = |value: &Any| match value {
        Any::StringValue(text) => text.clone(),
        Any::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let mut lines = String::new();
    for KeyValue { key, value, .. } in attributes {
        let value = match value.as_ref().and_then(|any| any.value.as_ref()).expect("a value") {
            Any::ArrayValue(list) => {
                let items = list.values.iter().filter_map(|any| any.value.as_ref()).map(one);
                format!("[{}]", items.collect::<Vec<_>>().join(", "))
            }
            value => one(value),
        };
        writeln!(lines, "{margin}{key} = {value}").expect("a string");
    }
    lines
}

#[test]
fn a_replay_has_the_same_ids_again() {
    let collector = Collector::start(&[Says::ok()]);
    replay(&url(&collector), &[]);
    replay(&url(&collector), &[]);
    let requests = collector.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].message, requests[1].message);
}

#[test]
fn what_can_be_sent_later_is() {
    let busy = Says::http("429 Too Many Requests", "retry-after: 1\r\n", b"");
    let gone = Says::http("503 Service Unavailable", "retry-after: 0\r\n", b"");
    let collector = Collector::start(&[busy, gone, Says::Bytes(Vec::new()), Says::ok()]);
    let told = replay(&url(&collector), &[]);
    assert_eq!((&told.otlp["sent"], &told.otlp["not_sent"]), (&json!(ITEMS), &json!(0)), "{}", told.stderr);
    assert!(told.stderr.contains("it answers 429 Too Many Requests; trying again"), "{}", told.stderr);
    let requests = collector.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| request.message == requests[0].message), "the same each time");
}

/// Each takes as long as the end of a run may: at one time.
#[test]
fn troubles_that_last() {
    let troubles: [fn(); 4] =
        [nobody_listens, somebody_else_listens, a_collector_that_hangs, not_to_be_trusted];
    std::thread::scope(|scope| {
        for trouble in troubles {
            scope.spawn(trouble);
        }
    });
}

fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    drop(listener);
    in_vain(&format!("http://{addr}"), "Connection refused");
}

#[test]
fn a_collector_that_is_always_busy() {
    let collector = Collector::start(&[Says::http("503 Service Unavailable", "retry-after: 120\r\n", b"")]);
    in_vain(&url(&collector), "it answers 503 Service Unavailable");
    assert_eq!(collector.requests().len(), 1, "two minutes are longer than the end of a run");
}

fn a_collector_that_hangs() {
    let collector = Collector::start(&[Says::Nothing]);
    let told = replay(&url(&collector), &[]);
    assert_eq!(told.otlp, json!({"sent": 0, "not_sent": ITEMS, "rejected_spans": 0}));
    assert!(told.stderr.contains("sending the rest to http://127.0.0.1:"), "{}", told.stderr);
    assert!(
        told.stderr.contains("7 of 7 journeys and connections were not sent: no answer came"),
        "{}",
        told.stderr
    );
}

fn somebody_else_listens() {
    let ssh = Collector::start(&[Says::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n\x00\xff\x1b[31m".to_vec())]);
    let stderr = in_vain(&url(&ssh), "does not speak HTTP");
    assert!(!stderr.contains('\x1b'));
    let page = Says::http("200 OK", "content-type: text/html\r\n", b"<!doctype html>");
    in_vain(&url(&Collector::start(&[page])), "does not speak OTLP (text/html)");
    let moved = Says::http("302 Found", "location: http://127.0.0.1:1/\r\n", b"");
    in_vain(&url(&Collector::start(&[moved])), "it answers 302 Found");
}

#[test]
fn a_collector_that_refuses() {
    // google.rpc.Status: code 3, and a message that would colour a terminal.
    let status = b"\x08\x03\x12\x0dno \x1b[31mtoday";
    let refuses = Says::http("400 Bad Request", "content-type: application/x-protobuf\r\n", status);
    let collector = Collector::start(&[refuses]);
    let stderr = in_vain(&url(&collector), "it answers 400 Bad Request: no \u{1b}[31mtoday");
    assert!(!stderr.contains('\x1b'));
    assert_eq!(collector.requests().len(), 1, "and is not asked again");
}

#[test]
fn a_collector_that_takes_a_part() {
    let partial_success =
        Some(ExportTracePartialSuccess { rejected_spans: 3, error_message: "too many events".to_owned() });
    let body = ExportTraceServiceResponse { partial_success }.encode_to_vec();
    let part = Says::http("200 OK", "content-type: application/x-protobuf\r\n", &body);
    let told = replay(&url(&Collector::start(&[part])), &[]);
    let otlp = json!({"sent": ITEMS, "not_sent": 0, "rejected_spans": 3, "error": "too many events"});
    assert_eq!(told.otlp, otlp);
    assert!(told.stderr.contains("3 spans were rejected: too many events"), "{}", told.stderr);
}

#[test]
fn over_tls_to_whom_this_machine_trusts() {
    let collector = Collector::start_tls(&[Says::ok()]);
    let url = format!("https://{}", collector.addr);
    let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/otlp/certificates/authority.pem");
    let told = replay(&url, &[("SSL_CERT_FILE", authority)]);
    assert_eq!(told.otlp["sent"], ITEMS, "{}", told.stderr);
    assert_eq!(collector.requests().len(), 1);
}

fn not_to_be_trusted() {
    let collector = Collector::start_tls(&[Says::ok()]);
    in_vain(&format!("https://{}", collector.addr), "invalid peer certificate");
    assert_eq!(collector.requests().len(), 0);
}
