//! What has been told so far, and the exit status that follows from it.

use anyhow::Result;
use nattrace_core::conversation::{Conversation, Conversations};
use nattrace_core::event::{Body, Event, Loss, NetnsId, Source};
use nattrace_core::findings::Causes;
use nattrace_core::journey::Counters;
use nattrace_core::journey::{Journey, JourneyId};
use nattrace_core::neighbour::NeighbourQuery;
use nattrace_core::record::NftTool;

use super::audience::Audience;
use crate::cli::ExitStatus;
use crate::render::{SourceTotals, Start, Summary, Tally};
use crate::source::netns;

/// Losses that are kept until their journeys have been told; more are summed up in the summary alone.
const MAX_LOSSES: usize = 1024;

/// Tells, counts, and stops at `--count`.
pub(super) struct Report {
    audience: Vec<Box<dyn Audience>>,
    limit: Option<u64>,
    tally: Tally,
    causes: Causes,
    losses: Vec<(Loss, Vec<JourneyId>)>,
    conversations: Conversations,
    now_ns: u64,
}

impl Report {
    pub(super) fn new(mut audience: Vec<Box<dyn Audience>>, limit: Option<u64>, follow: bool) -> Self {
        if let Ok(current) = netns::current() {
            for one in &mut audience {
                one.current_netns(current.inum);
            }
        }
        let conversations = Conversations::new(follow);
        let (tally, causes) = (Tally::default(), Causes::default());
        Self { audience, limit, tally, causes, losses: Vec::new(), conversations, now_ns: 0 }
    }

    /// Which nft's lines are to be printed, should any be.
    pub(super) fn nft(&mut self, tool: &NftTool) {
        self.audience.iter_mut().for_each(|one| one.nft(tool));
    }

    pub(super) fn start(&mut self, start: &Start) -> Result<()> {
        self.audience.iter_mut().try_for_each(|one| one.start(start))
    }

    /// Notes what the audience has to know of the event stream.
    pub(super) fn see(&mut self, event: &Event) {
        match &event.body {
            Body::Namespace { name: Some(name) } => {
                self.audience.iter_mut().for_each(|one| one.netns_name(event.netns, name));
            }
            Body::Neighbour(answer) => self.conversations.neighbour(event.netns, answer),
            Body::Loss(loss) => {
                self.audience.iter_mut().for_each(|one| one.losing(loss));
                if self.losses.len() < MAX_LOSSES {
                    self.losses.push((loss.clone(), Vec::new()));
                }
            }
            _ => {}
        }
    }

    /// Whether `--count` is reached.
    pub(super) fn is_enough(&self) -> bool {
        self.limit.is_some_and(|limit| self.tally.total() >= limit)
    }

    /// Tells a journey, unless enough were told.
    pub(super) fn journey(&mut self, journey: &Journey) -> Result<()> {
        if self.is_enough() {
            return Ok(());
        }
        for (loss, journeys) in &mut self.losses {
            if journey.first_seen_ns <= loss.last_ns && journey.last_seen_ns >= loss.first_ns {
                journeys.push(journey.id);
            }
        }
        self.tally.add(journey);
        self.causes.add(journey);
        self.audience.iter_mut().try_for_each(|one| one.journey(journey))?;
        let crowded_out = self.conversations.add(journey);
        self.converse(crowded_out)
    }

    /// Tells that all journeys that began before this moment have been told. To know it all that are under way are looked
    /// at: only where somebody waits for it.
    pub(super) fn settled(&mut self, before_ns: impl FnOnce() -> u64) -> Result<()> {
        if !self.audience.iter().any(|one| one.waits_for_order()) {
            return Ok(());
        }
        let before_ns = before_ns();
        self.audience.iter_mut().try_for_each(|one| one.settled(before_ns))
    }

    /// Tells what came of the connections that have been quiet for a while.
    pub(super) fn quiet(&mut self, now_ns: u64) -> Result<()> {
        self.now_ns = self.now_ns.max(now_ns);
        let quiet = self.conversations.quiet(now_ns);
        self.converse(quiet)
    }

    /// Next hops to be looked up, for what is to be said of those that do not answer.
    pub(super) fn questions(&mut self, now_ns: u64) -> Vec<(NetnsId, NeighbourQuery)> {
        self.conversations.questions(now_ns)
    }

    fn converse(&mut self, conversations: impl IntoIterator<Item = Conversation>) -> Result<()> {
        for conversation in conversations {
            self.audience.iter_mut().try_for_each(|one| one.conversation(&conversation))?;
        }
        Ok(())
    }

    /// Tells the losses and the sum.
    pub(super) fn finish(mut self, counters: &Counters) -> Result<ExitStatus> {
        let rest = self.conversations.rest(self.now_ns);
        self.converse(rest)?;
        for (loss, journeys) in std::mem::take(&mut self.losses) {
            self.audience.iter_mut().try_for_each(|one| one.loss(&loss, &journeys))?;
        }
        let sources = Source::ALL
            .into_iter()
            .filter_map(|source| {
                let received = counters.received.get(&source).copied().unwrap_or(0);
                let lost = counters.lost.get(&source).map_or(0, |lost| lost.events + lost.uncounted);
                (received + lost > 0).then_some((source, SourceTotals { received, lost }))
            })
            .collect();
        let passed = self.audience.iter_mut().find_map(|one| one.passed());
        let summary = Summary {
            selected: Some(counters.packets_selected),
            rate_limited: None,
            held_back: counters.held_back,
            journeys: self.tally,
            causes: self.causes.worst_first(),
            sources,
            passed,
        };
        self.audience.iter_mut().try_for_each(|one| one.summary(&summary))?;
        Ok(match self.tally {
            tally if tally.dropped > 0 => ExitStatus::Dropped,
            tally if tally.total() > 0 => ExitStatus::Clean,
            _ => ExitStatus::NothingMatched,
        })
    }
}
