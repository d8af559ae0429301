//! Journeys to an OpenTelemetry collector, as traces: docs/otlp.md.
//!
//! ```text
//! journey ── spans (ids, attributes) ──▶ queue ──▶ sender (a thread) ── post ──▶ collector
//! ```
//!
//! Up to the queue all is pure; behind it nothing that happens reaches the trace.

mod attributes;
mod ids;
mod post;
mod queue;
mod resource;
mod sender;
mod spans;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nattrace_core::conversation::Conversation;
use nattrace_core::event::{Loss, NetnsId};
use nattrace_core::journey::{Journey, JourneyId};
use nattrace_core::record::NftTool;
use rustix::thread::CapabilitySet;

use crate::cli::plan::Otlp;
use crate::privileges;
use crate::render::{Passed, Start, Summary};
use crate::session::Audience;
use post::Poster;
use queue::Queue;
use spans::Spans;

/// How long the end of a run may take for what is still to be sent; of a replay, while nothing of it is taken.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Says something to the user.
pub(crate) type Notify = fn(&str);

/// Where journeys come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// From the kernel, which does not wait.
    Live,
    /// From a recording, which does.
    Replay,
}

impl Pace {
    /// How long it may take until there is room for a journey.
    fn patience(self) -> Duration {
        match self {
            Self::Live => Duration::ZERO,
            Self::Replay => Duration::from_secs(10),
        }
    }
}

/// Sends journeys to a collector.
#[derive(Debug)]
pub(crate) struct Exporter {
    plan: Otlp,
    host: Option<String>,
    pace: Pace,
    notify: Notify,
    spans: Spans,
    queue: Arc<Queue>,
    /// The thread runs, and has not been told that nothing more comes.
    sends: bool,
}

impl Exporter {
    /// Nothing is sent before the run has started. `host`: the machine that the packets passed, where it is known.
    pub(crate) fn new(plan: Otlp, host: Option<String>, pace: Pace, notify: Notify) -> Self {
        let name = resource::host_name(&plan.resource, host.as_deref());
        let spans = Spans::new(name);
        Self { plan, host, pace, notify, spans, queue: Arc::default(), sends: false }
    }
}

impl Audience for Exporter {
    fn current_netns(&mut self, inum: NetnsId) {
        self.spans.namespaces.set_current(inum);
    }

    fn netns_name(&mut self, inum: NetnsId, name: &str) {
        self.spans.namespaces.set_name(inum, name);
    }

    fn nft(&mut self, _: &NftTool) {}

    fn start(&mut self, start: &Start) -> Result<()> {
        let resource = resource::resource(&self.plan.resource, self.host.as_deref(), start.kernel.as_deref());
        let (queue, plan, notify) = (Arc::clone(&self.queue), self.plan.clone(), self.notify);
        let run = move || {
            // Talking to a collector needs none; refused, it does no harm.
            let _ = privileges::keep(CapabilitySet::empty());
            sender::run(&queue, &Poster::new(plan), &resource, notify);
        };
        std::thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(run)
            .context("--otlp: no thread to send")?;
        self.sends = true;
        Ok(())
    }

    fn journey(&mut self, journey: &Journey) -> Result<()> {
        self.queue.offer(self.spans.journey(journey)?, self.pace.patience());
        Ok(())
    }

    fn conversation(&mut self, conversation: &Conversation) -> Result<()> {
        if conversation.says_more()
            && let Some(span) = self.spans.conversation(conversation)?
        {
            self.queue.offer(vec![span], self.pace.patience());
        }
        Ok(())
    }

    /// A journey's attribute says what it may lack.
    fn loss(&mut self, _: &Loss, _: &[JourneyId]) -> Result<()> {
        Ok(())
    }

    fn passed(&mut self) -> Option<Passed> {
        Some(self.finish())
    }

    fn summary(&mut self, _: &Summary) -> Result<()> {
        Ok(())
    }
}

impl Exporter {
    /// Sends the rest, and says what could not be sent.
    fn finish(&mut self) -> Passed {
        self.sends = false;
        let (url, notify) = (&self.plan.url, self.notify);
        let wait = || {
            notify(&format!("sending the rest to {url}, for up to {} s", LAST_WORDS.as_secs()));
        };
        let passed = self.queue.finish(LAST_WORDS, self.pace == Pace::Replay, wait);
        let Passed { sent, not_sent, rejected_spans, error } = &passed;
        let why = error.as_deref().unwrap_or("no answer came in time");
        if *not_sent > 0 {
            let all = sent + not_sent;
            notify(&format!(
                "--otlp {url}: {not_sent} of {all} journeys and connections were not sent: {why}"
            ));
        }
        if *rejected_spans > 0 {
            notify(&format!("--otlp {url}: {rejected_spans} spans were rejected: {why}"));
        }
        passed
    }
}

/// A run that failed has gathered something, too.
impl Drop for Exporter {
    fn drop(&mut self) {
        if self.sends {
            self.finish();
        }
    }
}
