//! The thread that sends: whatever the collector does, the trace goes on.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};

use super::Notify;
use super::post::{Answer, Poster};
use super::queue::{Item, Queue};

/// How long items are gathered for one request.
const LINGER: Duration = Duration::from_secs(1);
/// After the first failure; twice as long after each further one for which the server names no time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// And no longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A server that wants it sooner is not asked sooner.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// Sends what comes, until the end.
pub(super) fn run(queue: &Arc<Queue>, poster: &Poster, resource: &Resource, notify: Notify) {
    while let Some(batch) = queue.take(LINGER) {
        if !deliver(queue, poster, batch, resource, notify) {
            queue.give_up();
            return;
        }
    }
}

/// Sends a batch, again and again where it can be taken later. Whether there is time for more.
fn deliver(queue: &Queue, poster: &Poster, batch: Vec<Item>, resource: &Resource, notify: Notify) -> bool {
    let items = u64::try_from(batch.len()).unwrap_or(u64::MAX);
    let request = request(batch, resource);
    let mut pause = FIRST_PAUSE;
    loop {
        match poster.post(&request) {
            Answer::Taken { rejected_spans, why } => {
                queue.sent(items, rejected_spans);
                if let Some(why) = why
                    && queue.failed(&why, false)
                {
                    notify(&format!("--otlp {}: {why}", poster.url()));
                }
                return true;
            }
            Answer::Refused { why } => {
                if queue.failed(&why, false) {
                    notify(&format!("--otlp {}: {why}", poster.url()));
                }
                return true;
            }
            Answer::Later { why, after } => {
                if queue.failed(&why, true) {
                    notify(&format!("--otlp {}: {why}; trying again", poster.url()));
                }
                // A server that names a time is well enough to be believed: only silence makes the next pause longer.
                let wait = after.map_or_else(|| spread(pause), |after| after.max(LEAST_PAUSE));
                if !queue.pause(wait) {
                    return false;
                }
                if after.is_none() {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

/// Many instances that lost one collector do not come back at one moment: between half of it and all of it.
fn spread(pause: Duration) -> Duration {
    let nanos = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.subsec_nanos());
    pause / 2 + pause.mul_f64(f64::from(nanos % 1_000_000) / 2_000_000.0)
}

fn request(batch: Vec<Item>, resource: &Resource) -> ExportTraceServiceRequest {
    let scope = InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = batch.into_iter().flatten().collect();
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let resource_spans =
        vec![ResourceSpans { resource: Some(resource.clone()), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }
}
