//! What the summary tells of a run.

use std::collections::BTreeMap;

use super::Outcome;
use crate::event::{Body, Loss, Source};

/// Counts of a run so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that were selected: each begins a journey.
    pub packets_selected: u64,
    /// Journeys given out, by the name of their outcome.
    pub journeys: BTreeMap<&'static str, u64>,
    /// Events received, by source.
    pub received: BTreeMap<Source, u64>,
    /// What was lost, by source.
    pub lost: BTreeMap<Source, Lost>,
    /// Packets that were not selected because events came faster than they were read.
    pub held_back: u64,
    /// Trace messages of packets that nobody asked for: rules of others set `nftrace` too.
    pub foreign: u64,
    /// Events about packets whose journey was over or had never begun.
    pub stray: u64,
}

/// What one source lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many events are known to be lost.
    pub events: u64,
    /// How many times the kernel only said that some were.
    pub uncounted: u64,
}

impl Body {
    /// The kind as it is recorded, and the source it comes from; none for what the program itself adds.
    #[must_use]
    pub fn kind(&self) -> (&'static str, Option<Source>) {
        match self {
            Self::Hook(_) => ("hook", Some(Source::Probes)),
            Self::HookReturn(_) => ("hook_return", Some(Source::Probes)),
            Self::Rewrite(_) => ("rewrite", Some(Source::Probes)),
            Self::NftTrace(_) => ("nft_trace", Some(Source::Nft)),
            Self::LegacyRule(_) => ("legacy_rule", Some(Source::Probes)),
            Self::Receive(_) => ("receive", Some(Source::Tracepoints)),
            Self::Transmit(_) => ("transmit", Some(Source::Tracepoints)),
            Self::Deliver(_) => ("deliver", Some(Source::Probes)),
            Self::Writer(_) => ("writer", Some(Source::Probes)),
            Self::Drop(_) => ("drop", Some(Source::Tracepoints)),
            Self::End { .. } => ("end", Some(Source::Tracepoints)),
            Self::Left { .. } => ("left", Some(Source::Tracepoints)),
            Self::Conntrack(_) => ("conntrack", Some(Source::Conntrack)),
            Self::Commit(_) => ("commit", None),
            Self::SetAnswer(_) => ("set_answer", None),
            Self::Ruleset(_) => ("ruleset", None),
            Self::LegacyRuleset(_) => ("legacy_ruleset", None),
            Self::LegacyChange(_) => ("legacy_change", None),
            Self::Link(_) => ("link", None),
            Self::Namespace { .. } => ("namespace", None),
            Self::OwnTable { .. } => ("own_table", None),
            Self::Fib(_) => ("fib", None),
            Self::Neighbour(_) => ("neighbour", None),
            Self::Clock { .. } => ("clock", None),
            Self::Full => ("full", None),
            Self::HeldBack { .. } => ("held_back", None),
            Self::Loss(_) => ("loss", None),
        }
    }
}

impl Body {
    /// The source it comes from; none for what the program itself adds.
    #[must_use]
    pub fn source(&self) -> Option<Source> {
        self.kind().1
    }
}

impl Outcome {
    /// The name the JSON output uses.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dropped(_) => "dropped",
            Self::Delivered => "delivered",
            Self::Transmitted { .. } => "transmitted",
            Self::Queued => "queued",
            Self::Consumed => "consumed",
            Self::Unfinished { .. } => "unfinished",
        }
    }
}

impl Counters {
    pub(super) fn event(&mut self, body: &Body) {
        if let Some(source) = body.source() {
            *self.received.entry(source).or_default() += 1;
        }
    }

    pub(super) fn loss(&mut self, loss: &Loss) {
        let entry = self.lost.entry(loss.source).or_default();
        match loss.count {
            Some(count) => entry.events = entry.events.saturating_add(count),
            None => entry.uncounted += 1,
        }
    }

    /// Journeys with this outcome.
    #[must_use]
    pub fn outcome(&self, name: &str) -> u64 {
        self.journeys.get(name).copied().unwrap_or(0)
    }
}
