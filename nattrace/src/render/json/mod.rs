//! JSON Lines, schema 1. The shapes here are a promise to programs, so they are written out apart from the
//! types of the core: those may change, these may only grow.

mod journey;
mod shown;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::io;

use nattrace_core::event::Loss;
use nattrace_core::journey::JourneyId;
use serde::Serialize;

use super::filter::filter_flags;
use super::run::{SourceState, Start, Summary};

pub(super) use journey::{conversation, decision_name, journey, state_name};
pub(crate) use journey::{conversation_value, journey_value};
use writer::Writer;

const SCHEMA: u32 = 1;
/// Most lines are no longer: bytes.
const LINE: usize = 4096;

#[derive(Serialize)]
struct Line<T> {
    schema: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    body: T,
}

pub(super) fn line<T: Serialize>(kind: &'static str, body: T) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(LINE);
    Line { schema: SCHEMA, kind, body }.serialize(&mut Writer(&mut bytes))?;
    bytes.push(b'\n');
    Ok(bytes)
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
    struct Body<'a> {
        selected: Option<u64>,
        rate_limited: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        held_back: Option<u64>,
        journeys: Journeys,
        causes: Vec<Cause>,
        sources: BTreeMap<&'static str, Totals>,
        #[serde(skip_serializing_if = "Option::is_none")]
        otlp: Option<Otlp<'a>>,
    }
    /// What came of `--otlp`.
    #[derive(Serialize)]
    struct Otlp<'a> {
        sent: u64,
        not_sent: u64,
        rejected_spans: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
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
    struct Cause {
        code: Option<&'static str>,
        text: String,
        count: u64,
        first: String,
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
            held_back: Some(summary.held_back).filter(|packets| *packets > 0),
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
            causes: summary
                .causes
                .iter()
                .map(|cause| Cause {
                    code: cause.code,
                    text: cause.text.clone(),
                    count: cause.count,
                    first: cause.first.to_string(),
                })
                .collect(),
            sources: summary
                .sources
                .iter()
                .map(|(source, t)| (source.name(), Totals { received: t.received, lost: t.lost }))
                .collect(),
            otlp: summary.passed.as_ref().map(|passed| Otlp {
                sent: passed.sent,
                not_sent: passed.not_sent,
                rejected_spans: passed.rejected_spans,
                error: passed.error.as_deref(),
            }),
        },
    )
}
