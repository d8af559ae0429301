//! What the trace hands to the interface: a bounded list between their two threads.
//!
//! The trace never waits for it. Where the interface does not take what comes (it is paused, or its terminal is stuck),
//! the oldest leave: the interface would not have kept them either.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use crossterm::event::Event;
use nattrace_core::conversation::Conversation;
use nattrace_core::event::{Loss, NetnsId, Source};
use nattrace_core::findings::{Causes, Total};
use nattrace_core::journey::{Journey, JourneyId};
use nattrace_core::record::NftTool;

use crate::cli::ExitStatus;
use crate::render::{Namespaces, Start, Summary, Tally};
use crate::session::Audience;

/// Journeys that are kept, here and by the interface.
pub(crate) const KEPT: usize = 20_000;

/// One thing that happened, in the order it did.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// A packet's journey ended.
    Journey(Box<Journey>),
    /// What came of a connection.
    Conversation(Box<Conversation>),
    /// Progress, or a warning.
    Said(String),
    /// Events were lost.
    Losing(Loss),
}

/// What is counted of all that happened, whether it is still kept or not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sums {
    /// Journeys by how they ended.
    pub(crate) tally: Tally,
    /// Why packets were dropped, the most frequent cause first.
    pub(crate) causes: Vec<Total>,
    /// Events lost, as far as they were counted.
    pub(crate) lost: BTreeMap<Source, u64>,
}

/// A part of what came.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// In order.
    pub(crate) news: Vec<News>,
    /// Journeys that left before they could be taken.
    pub(crate) left: u64,
    /// The sums as of now.
    pub(crate) sums: Sums,
    /// What the namespaces are called.
    pub(crate) namespaces: Namespaces,
    /// What this run is, once that is known.
    pub(crate) start: Option<Start>,
}

/// Why the interface has something to do.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "what may have happened meanwhile, each by itself")]
pub(crate) struct Woken {
    /// What was typed, and new sizes of the terminal.
    pub(crate) typed: Vec<Event>,
    /// Something that ends programs was sent to this one, or the keyboard is gone.
    pub(crate) signalled: bool,
    /// There is something to take.
    pub(crate) news: bool,
    /// Journeys that came since the last were taken.
    pub(crate) waiting: u64,
    /// The run has begun, and its start was not taken yet.
    pub(crate) started: bool,
    /// The run has ended.
    pub(crate) ended: bool,
    /// Why it had to.
    pub(crate) failed: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    news: VecDeque<News>,
    journeys: u64,
    left: u64,
    tally: Tally,
    causes: Causes,
    lost: BTreeMap<Source, u64>,
    namespaces: Namespaces,
    start: Option<Start>,
    summary: Option<Summary>,
    typed: Vec<Event>,
    signalled: bool,
    changed: bool,
    ended: Option<Result<ExitStatus>>,
}

impl Shared {
    /// Where there are too many, the oldest journey leaves; what was said stays.
    fn add(&mut self, news: News) {
        self.journeys += u64::from(matches!(news, News::Journey(_)));
        self.news.push_back(news);
        if self.news.len() > KEPT {
            let oldest = self.news.iter().position(|news| matches!(news, News::Journey(_)));
            if self.news.remove(oldest.unwrap_or(0)).is_some() && oldest.is_some() {
                self.journeys -= 1;
                self.left += 1;
            }
        }
    }
}

/// The list, one for all threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Feed(Arc<(Mutex<Shared>, Condvar)>);

impl Feed {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Shared)) {
        let mut shared = self.lock();
        change(&mut shared);
        let woken = std::mem::replace(&mut shared.changed, true);
        drop(shared);
        if !woken {
            self.0.1.notify_one();
        }
    }

    /// Something was said.
    pub(crate) fn say(&self, text: &str) {
        self.change(|shared| shared.add(News::Said(text.to_owned())));
    }

    /// Something was typed, or the terminal has another size.
    pub(crate) fn typed(&self, event: Event) {
        self.change(|shared| shared.typed.push(event));
    }

    /// Something that ends programs was sent to this one, or nothing can be typed any more.
    pub(crate) fn signal(&self) {
        self.change(|shared| shared.signalled = true);
    }

    /// The run is over.
    pub(crate) fn end(&self, result: Result<ExitStatus>) {
        self.change(|shared| shared.ended = Some(result));
    }

    /// Waits until there is something to do, at most so long. What was typed is taken by it; news are not.
    pub(crate) fn wait(&self, most: Duration) -> Woken {
        let shared = self.lock();
        let (mut shared, _) = self
            .0
            .1
            .wait_timeout_while(shared, most, |shared| !shared.changed)
            .unwrap_or_else(PoisonError::into_inner);
        shared.changed = false;
        Woken {
            typed: std::mem::take(&mut shared.typed),
            signalled: std::mem::take(&mut shared.signalled),
            news: !shared.news.is_empty(),
            waiting: shared.journeys + shared.left,
            started: shared.start.is_some(),
            ended: shared.ended.is_some(),
            failed: shared
                .ended
                .as_ref()
                .and_then(|result| result.as_ref().err())
                .map(|error| format!("{error:#}")),
        }
    }

    /// Takes the oldest news, at most so many.
    pub(crate) fn take(&self, most: usize) -> Taken {
        let mut shared = self.lock();
        let count = shared.news.len().min(most);
        let news: Vec<News> = shared.news.drain(..count).collect();
        for _ in news.iter().filter(|news| matches!(news, News::Journey(_))) {
            shared.journeys -= 1;
        }
        Taken {
            news,
            left: std::mem::take(&mut shared.left),
            sums: Sums {
                tally: shared.tally,
                causes: shared.causes.worst_first(),
                lost: shared.lost.clone(),
            },
            namespaces: shared.namespaces.clone(),
            start: shared.start.take(),
        }
    }

    /// How the run ended, once it has; and its sum.
    pub(crate) fn ended(&self) -> (Option<Result<ExitStatus>>, Option<Summary>) {
        let mut shared = self.lock();
        (shared.ended.take(), shared.summary.take())
    }
}

impl Audience for Feed {
    fn current_netns(&mut self, inum: NetnsId) {
        self.change(|shared| shared.namespaces.set_current(inum));
    }

    fn netns_name(&mut self, inum: NetnsId, name: &str) {
        self.change(|shared| shared.namespaces.set_name(inum, name));
    }

    fn nft(&mut self, _tool: &NftTool) {}

    fn start(&mut self, start: &Start) -> Result<()> {
        self.change(|shared| shared.start = Some(start.clone()));
        Ok(())
    }

    fn journey(&mut self, journey: &Journey) -> Result<()> {
        // Copied before the interface is kept waiting.
        let news = News::Journey(Box::new(journey.clone()));
        self.change(|shared| {
            shared.tally.add(journey);
            shared.causes.add(journey);
            shared.add(news);
        });
        Ok(())
    }

    fn conversation(&mut self, conversation: &Conversation) -> Result<()> {
        let news = News::Conversation(Box::new(conversation.clone()));
        self.change(|shared| shared.add(news));
        Ok(())
    }

    fn losing(&mut self, loss: &Loss) {
        self.change(|shared| {
            let total = shared.lost.entry(loss.source).or_default();
            *total = total.saturating_add(loss.count.unwrap_or(1));
            shared.add(News::Losing(loss.clone()));
        });
    }

    /// It was told when it happened, and each of the journeys says so itself.
    fn loss(&mut self, _loss: &Loss, _journeys: &[JourneyId]) -> Result<()> {
        Ok(())
    }

    fn summary(&mut self, summary: &Summary) -> Result<()> {
        self.change(|shared| shared.summary = Some(summary.clone()));
        Ok(())
    }
}
