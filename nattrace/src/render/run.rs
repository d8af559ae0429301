//! What is told about the run itself: its start and its sum.

use std::collections::BTreeMap;

use nattrace_core::event::Source;
use nattrace_core::filter::Filter;
use nattrace_core::findings::Total;
use nattrace_core::journey::{Journey, Outcome};

/// The start of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Release of the kernel, as `uname -r` prints it; `None` in a replay that does not know.
    pub kernel: Option<String>,
    /// Which packets.
    pub filter: Filter,
    /// Every source, used or not.
    pub sources: BTreeMap<Source, SourceState>,
}

/// Whether a source gives events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceState {
    /// It does.
    On,
    /// It does not, for this reason.
    Off(String),
}

/// How many journeys ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// [`Outcome::Dropped`].
    pub dropped: u64,
    /// [`Outcome::Delivered`].
    pub delivered: u64,
    /// [`Outcome::Transmitted`].
    pub transmitted: u64,
    /// [`Outcome::Queued`].
    pub queued: u64,
    /// [`Outcome::Consumed`].
    pub consumed: u64,
    /// [`Outcome::Unfinished`].
    pub unfinished: u64,
    /// How many of all these were retransmissions.
    pub retransmissions: u64,
}

impl Tally {
    /// Counts a finished journey.
    pub fn add(&mut self, journey: &Journey) {
        let count = match journey.outcome {
            Outcome::Dropped(_) => &mut self.dropped,
            Outcome::Delivered => &mut self.delivered,
            Outcome::Transmitted { .. } => &mut self.transmitted,
            Outcome::Queued => &mut self.queued,
            Outcome::Consumed => &mut self.consumed,
            Outcome::Unfinished { .. } => &mut self.unfinished,
        };
        *count += 1;
        if journey.retransmission_of.is_some() {
            self.retransmissions += 1;
        }
    }

    /// All journeys.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.dropped + self.delivered + self.transmitted + self.queued + self.consumed + self.unfinished
    }
}

/// The end of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Packets that the filter selected, where that was counted.
    pub selected: Option<u64>,
    /// Packets that matched the filter and were left out by `--rate`, where that was counted.
    pub rate_limited: Option<u64>,
    /// Packets that were not selected because events came faster than they were read.
    pub held_back: u64,
    /// Journeys by outcome.
    pub journeys: Tally,
    /// Why packets were dropped, the most frequent cause first.
    pub causes: Vec<Total>,
    /// The sources that were used.
    pub sources: BTreeMap<Source, SourceTotals>,
    /// What became of what was to be passed on to a collector; `None` where nothing was.
    pub passed: Option<Passed>,
}

/// How much of what was told reached a collector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// Journeys and connections that the collector took.
    pub sent: u64,
    /// Those that it did not take, or did not say so of.
    pub not_sent: u64,
    /// Spans that it refused, of those in what it took.
    pub rejected_spans: u64,
    /// What went wrong last.
    pub error: Option<String>,
}

/// What one source gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceTotals {
    /// Events that arrived.
    pub received: u64,
    /// Events known to be lost. A source that lost an unknown number says at least 1.
    pub lost: u64,
}
