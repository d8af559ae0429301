//! One request, and what its answer means (OTLP specification, "OTLP/HTTP").

use std::net::IpAddr;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use ureq::http::{Response, StatusCode, Uri, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::cli::plan::Otlp;

/// OTLP's media type.
const PROTOBUF: &str = "application/x-protobuf";
/// The default of `OTEL_EXPORTER_OTLP_TIMEOUT`.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read: answers are short.
const MAX_ANSWER: u64 = 64 * 1024;
/// Characters of a server's words that are repeated.
const MAX_WORDS: usize = 200;

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was taken, but for so many spans, for this reason.
    Taken { rejected_spans: u64, why: Option<String> },
    /// It may be taken later: after this time, where the server says one.
    Later { why: String, after: Option<Duration> },
    /// It will not be taken.
    Refused { why: String },
}

/// Posts to one URL.
#[derive(Debug)]
pub(super) struct Poster {
    agent: Agent,
    plan: Otlp,
}

/// The body of every answer that is an error (`google.rpc.Status`), as far as people read it.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(string, tag = "2")]
    message: String,
}

impl Poster {
    pub(super) fn new(plan: Otlp) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(TIMEOUT))
            .user_agent(concat!("nattrace/", env!("CARGO_PKG_VERSION")));
        if plan.url.starts_with("https:") {
            // The machine's own, as a fleet has its own authority; SSL_CERT_FILE and SSL_CERT_DIR are obeyed.
            let roots = rustls_native_certs::load_native_certs().certs;
            let roots: Vec<_> = roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
            let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).build();
            config = config.tls_config(tls);
        }
        if is_loopback(&plan.url) {
            config = config.proxy(None);
        }
        Self { agent: config.build().into(), plan }
    }

    /// Where to.
    pub(super) fn url(&self) -> &str {
        &self.plan.url
    }

    /// Sends, and waits for the answer for a bounded time.
    pub(super) fn post(&self, request: &ExportTraceServiceRequest) -> Answer {
        let mut post = self.agent.post(&self.plan.url).header(header::CONTENT_TYPE, PROTOBUF);
        for (name, value) in &self.plan.headers {
            post = post.header(name, value);
        }
        match post.send(request.encode_to_vec()) {
            Ok(response) => judge(response),
            Err(error) => failed(&error),
        }
    }
}

/// Proxies are of the environment (`HTTP_PROXY`, `NO_PROXY`), and do not lead back to this machine.
fn is_loopback(url: &str) -> bool {
    let uri: Option<Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let addr = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || addr.is_ok_and(|addr| addr.is_loopback())
}

/// The network's and the protocol's failures: "If the server disconnects without returning a response, the client SHOULD
/// retry". What answers in another language may be a collector that is being started.
fn failed(error: &ureq::Error) -> Answer {
    let why = match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::HostNotFound => "the host is not known".to_owned(),
        ureq::Error::Timeout(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
        ureq::Error::Protocol(error) => format!("what answers there does not speak HTTP ({error})"),
        error => error.to_string(),
    };
    Answer::Later { why, after: None }
}

fn judge(mut response: Response<Body>) -> Answer {
    let status = response.status();
    let media = header_text(&response, header::CONTENT_TYPE).unwrap_or_default();
    let after = header_text(&response, header::RETRY_AFTER);
    let body = match response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec() {
        Ok(body) => body,
        // Its status has been said: an error is not made better by its text.
        Err(_) if !status.is_success() => Vec::new(),
        Err(error) => return failed(&error),
    };
    let is_protobuf = media.split(';').next().is_some_and(|media| media.trim() == PROTOBUF);
    if status == StatusCode::OK {
        if body.is_empty() {
            return Answer::Taken { rejected_spans: 0, why: None };
        }
        let partial = match ExportTraceServiceResponse::decode(&body[..]) {
            Ok(response) if is_protobuf => response.partial_success,
            _ => {
                let media = if media.is_empty() { "no media type" } else { &media };
                return Answer::Refused { why: format!("what answers there does not speak OTLP ({media})") };
            }
        };
        let partial = partial.unwrap_or_default();
        return Answer::Taken {
            rejected_spans: partial.rejected_spans.try_into().unwrap_or(0),
            why: Some(words(&partial.error_message)).filter(|why| !why.is_empty()),
        };
    }
    let said = RpcStatus::decode(&body[..]).ok().filter(|_| is_protobuf).map(|status| words(&status.message));
    let said = said.filter(|said| !said.is_empty()).map_or_else(String::new, |said| format!(": {said}"));
    let why = format!("it answers {status}{said}");
    match status.as_u16() {
        429 | 502 | 503 | 504 => {
            // Dates are of servers' clocks; what says none in seconds is waited for as long as others.
            let after = after.and_then(|after| after.trim().parse().ok()).map(Duration::from_secs);
            Answer::Later { why, after }
        }
        _ => Answer::Refused { why },
    }
}

fn header_text(response: &Response<Body>, name: header::HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_ascii_lowercase)
}

fn words(text: &str) -> String {
    text.chars().take(MAX_WORDS).collect()
}
