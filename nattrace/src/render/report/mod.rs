//! A report: what a run found, on one page that needs nothing else, or its picture alone.
//!
//! ```text
//! journeys ─┬─ picture (what they have in common) ─┬─ svg ─┬─ page: findings, pictures, connections, packets
//!           └─ kept, so many ──────────────────────┼───────┘
//!                                                  └─ dot
//! ```
//! Everything is told at the end of the run. What has no room is counted, and said to be left out.

mod dot;
mod names;
mod page;
mod picture;
mod svg;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use nattrace_core::conntrack::Tuple;
use nattrace_core::conversation::Conversation;
use nattrace_core::event::{Loss, NetnsId};
use nattrace_core::findings::{Causes, Finding};
use nattrace_core::journey::{Journey, JourneyId};

use super::namespaces::Namespaces;
use super::run::{Start, Summary};
use names::Names;
use picture::{Counted, Picture};
use svg::Drawing;

/// Packets that are listed one by one.
const MAX_PACKETS: usize = 10_000;
/// Causes that have a picture of their own.
const MAX_CAUSES: usize = 20;
/// Causes that are gathered: the worst of them are shown.
const MAX_GROUPS: usize = 200;
/// Connections that are listed; as many again of those that went wrong.
const MAX_CONNECTIONS: usize = 1_000;
/// Different findings of one cause.
const MAX_FINDINGS: usize = 8;

/// What is made of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The page.
    Html,
    /// The picture of all packets.
    Svg,
    /// The same, for graphviz.
    Dot,
}

/// Gathers a run, and tells it at its end.
#[derive(Debug)]
pub(super) struct Report {
    form: Form,
    zone: TimeZone,
    start: Option<Start>,
    whole: Picture,
    causes: Causes,
    /// By the first journey of each.
    drops: BTreeMap<JourneyId, Group>,
    journeys: Vec<Kept>,
    /// By when they were told first; told again, they are told better.
    conversations: Vec<Conversation>,
    known: BTreeMap<(NetnsId, Tuple), usize>,
    /// How many of them went wrong.
    troubled: usize,
    /// There were more.
    more_conversations: bool,
    losses: Vec<(Loss, Vec<JourneyId>)>,
}

/// Packets that were dropped for one cause.
#[derive(Debug)]
struct Group {
    picture: Picture,
    findings: Counted<Finding>,
}

/// A journey that is listed, and the first one of its cause, where it was dropped.
#[derive(Debug)]
struct Kept {
    journey: Journey,
    cause: Option<JourneyId>,
}

impl Report {
    /// Nothing gathered yet.
    pub(super) fn new(form: Form, zone: TimeZone) -> Self {
        Self {
            form,
            zone,
            start: None,
            whole: Picture::default(),
            causes: Causes::default(),
            drops: BTreeMap::new(),
            journeys: Vec::new(),
            conversations: Vec::new(),
            known: BTreeMap::new(),
            troubled: 0,
            more_conversations: false,
            losses: Vec::new(),
        }
    }

    /// What this run is.
    pub(super) fn start(&mut self, start: &Start) {
        self.start = Some(start.clone());
    }

    /// A finished journey.
    pub(super) fn journey(&mut self, journey: &Journey) {
        self.whole.add(journey);
        if self.form != Form::Html {
            return;
        }
        let cause = self.causes.add(journey);
        let has_room = |first: &JourneyId| self.drops.contains_key(first) || self.drops.len() < MAX_GROUPS;
        if let Some(first) = cause.filter(has_room) {
            let group = self.drops.entry(first).or_insert_with(|| Group {
                picture: Picture::default(),
                findings: Counted::new(MAX_FINDINGS),
            });
            group.picture.add(journey);
            for finding in journey.findings.iter().filter(|finding| !super::text::restates_end(finding)) {
                // The steps are those of one packet.
                group.findings.add(Finding { steps: Vec::new(), ..finding.clone() });
            }
        }
        if self.journeys.len() < MAX_PACKETS {
            self.journeys.push(Kept { journey: journey.clone(), cause });
        }
    }

    /// What came of a connection.
    pub(super) fn conversation(&mut self, conversation: &Conversation) {
        let key = (conversation.netns, conversation.original);
        let troubled = is_troubled(conversation);
        // One that was forgotten and goes on is told anew, without what was told of it before.
        let same = |at: &usize| self.conversations[*at].journeys.first() == conversation.journeys.first();
        if let Some(at) = self.known.get(&key).copied().filter(same) {
            let known = &mut self.conversations[at];
            self.troubled -= usize::from(is_troubled(known));
            *known = conversation.clone();
        } else {
            let others = self.conversations.len() - self.troubled;
            if (if troubled { self.troubled } else { others }) >= MAX_CONNECTIONS {
                self.more_conversations = true;
                return;
            }
            self.known.insert(key, self.conversations.len());
            self.conversations.push(conversation.clone());
        }
        self.troubled += usize::from(troubled);
    }

    /// Events that were lost.
    pub(super) fn loss(&mut self, loss: &Loss, journeys: &[JourneyId]) {
        self.losses.push((loss.clone(), journeys.to_vec()));
    }

    /// All of it.
    pub(super) fn summary(&self, summary: &Summary, namespaces: &Namespaces) -> String {
        let names = Names(namespaces);
        match self.form {
            Form::Html => page::write(self, summary, namespaces),
            Form::Svg => Drawing::new(&self.whole, names).alone().into_string(),
            Form::Dot => dot::write(&self.whole, names),
        }
    }
}

/// Whether packets of it were dropped, or it was not answered.
fn is_troubled(conversation: &Conversation) -> bool {
    let Conversation { sent, answered, findings, .. } = conversation;
    sent.dropped + answered.dropped > 0 || !findings.is_empty()
}
