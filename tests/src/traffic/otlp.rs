//! Where a collector sends what it has: tells each span that comes, read by OpenTelemetry's own definitions.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Map, Value, json};

use super::say;

/// Takes requests until killed.
pub(super) fn store(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("nobody can listen on {listen}"))?;
    say(&json!({"event": "listening", "local": listen}));
    loop {
        let (stream, _) = listener.accept().context("accept failed")?;
        std::thread::spawn(move || {
            if let Err(error) = serve(&stream) {
                say(&json!({"event": "error", "text": format!("{error:#}")}));
            }
        });
    }
}

/// Answers the requests of one connection.
fn serve(stream: &TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(body) = request(&mut reader)? {
        let message = ExportTraceServiceRequest::decode(&body[..]).context("no OTLP message")?;
        for of in message.resource_spans {
            let resource = attributes(&of.resource.unwrap_or_default().attributes);
            for span in of.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                say(&told(&span, &resource));
            }
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        (&mut &*stream).write_all(answer)?;
    }
    Ok(())
}

/// The body of the next request; nothing where the connection ends.
fn request(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>> {
    let (mut length, mut packed) = (0, false);
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().context("no length")?;
            }
            Some((name, value)) => {
                packed |= name.eq_ignore_ascii_case("content-encoding") && value.trim() == "gzip";
            }
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if packed {
        let mut whole = Vec::new();
        GzDecoder::new(&body[..]).read_to_end(&mut whole).context("no gzip")?;
        body = whole;
    }
    Ok(Some(body))
}

fn told(span: &Span, resource: &Value) -> Value {
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    };
    let events: Vec<Value> = span
        .events
        .iter()
        .map(|event| json!({"name": event.name, "time_ns": event.time_unix_nano, "attributes": attributes(&event.attributes)}))
        .collect();
    json!({
        "event": "span",
        "resource": resource,
        "trace": hex(&span.trace_id),
        "span": hex(&span.span_id),
        "parent": hex(&span.parent_span_id),
        "name": span.name,
        "start_ns": span.start_time_unix_nano,
        "end_ns": span.end_time_unix_nano,
        "attributes": attributes(&span.attributes),
        "events": events,
        "status": span.status.as_ref().map(|status| status.message.clone()),
    })
}

fn attributes(list: &[KeyValue]) -> Value {
    let pairs = list.iter().map(|pair| (pair.key.clone(), value(pair.value.as_ref())));
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn value(any: Option<&AnyValue>) -> Value {
    match any.and_then(|any| any.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => json!(text),
        Some(any_value::Value::BoolValue(value)) => json!(value),
        Some(any_value::Value::IntValue(number)) => json!(number),
        Some(any_value::Value::ArrayValue(list)) => {
            list.values.iter().map(|item| value(Some(item))).collect()
        }
        other => json!(format!("{other:?}")),
    }
}
