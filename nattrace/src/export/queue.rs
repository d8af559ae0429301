//! What waits to be sent: bounded, filled by the trace, emptied by the thread that sends.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;

use crate::render::Passed;

/// Items that wait at most; a journey has some 10 KB.
const CAPACITY: usize = 2048;
/// Items of one request.
const BATCH: usize = 128;

/// What nobody notices of the end of a run.
const MOMENT: Duration = Duration::from_millis(500);

/// One journey, or what came of a connection.
pub(super) type Item = Vec<Span>;

/// Between the two threads.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Item>,
    /// All that were to be sent, those for which there was no room among them.
    offered: u64,
    sent: u64,
    rejected_spans: u64,
    error: Option<String>,
    /// The last request failed, and is to be made again.
    troubled: bool,
    /// Somebody waited for room in vain, and nothing was sent since.
    stuck: bool,
    /// Nothing more comes, and the sender is to be done by then.
    deadline: Option<Instant>,
    /// How much later that is after each request that goes well.
    more_time: Option<Duration>,
    done: bool,
}

impl Queue {
    /// Adds an item, if there is room. `patience` is how long it may take for there to be some: a source that can wait
    /// does so once, and again only when something was sent.
    pub(super) fn offer(&self, item: Item, patience: Duration) {
        let mut inner = self.lock();
        inner.offered += 1;
        let begun = Instant::now();
        while inner.waiting.len() >= CAPACITY {
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() || inner.stuck || inner.done {
                inner.stuck = true;
                return;
            }
            inner = self.wait(inner, left);
        }
        inner.waiting.push_back(item);
        self.changed.notify_all();
    }

    /// The next items: as many as there are when `linger` has passed since there was one, or a full batch. `None` when
    /// nothing is left, and nothing comes.
    pub(super) fn take(&self, linger: Duration) -> Option<Vec<Item>> {
        let mut inner = self.lock();
        while inner.waiting.is_empty() {
            if inner.deadline.is_some() {
                inner.done = true;
                self.changed.notify_all();
                return None;
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let begun = Instant::now();
        while inner.waiting.len() < BATCH && inner.deadline.is_none() {
            let left = linger.saturating_sub(begun.elapsed());
            if left.is_zero() {
                break;
            }
            inner = self.wait(inner, left);
        }
        let count = inner.waiting.len().min(BATCH);
        let batch = inner.waiting.drain(..count).collect();
        self.changed.notify_all();
        Some(batch)
    }

    /// Items arrived, but for some of their spans.
    pub(super) fn sent(&self, items: u64, rejected_spans: u64) {
        let mut inner = self.lock();
        inner.sent += items;
        inner.rejected_spans += rejected_spans;
        inner.troubled = false;
        inner.stuck = false;
        if let Some(more) = inner.more_time {
            inner.deadline = Some(Instant::now() + more);
        }
        self.changed.notify_all();
    }

    /// A request failed. Whether it is the first since one went well.
    pub(super) fn failed(&self, why: &str, again: bool) -> bool {
        let mut inner = self.lock();
        let first = !inner.troubled && inner.error.as_deref() != Some(why);
        inner.error = Some(why.to_owned());
        inner.troubled |= again;
        self.changed.notify_all();
        first
    }

    /// Waits before a request is made again: for so long, or until the end is near. Whether there is time for it.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let mut inner = self.lock();
        let until = Instant::now() + time;
        let ending = inner.deadline.is_some();
        loop {
            if let Some(deadline) = inner.deadline {
                // One last attempt is made at once; after that, only those that come to an end in time.
                if !ending {
                    return true;
                }
                if until >= deadline {
                    return false;
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            inner = self.wait(inner, left);
        }
    }

    /// The sender has given up.
    pub(super) fn give_up(&self) {
        self.lock().done = true;
        self.changed.notify_all();
    }

    /// Nothing more comes: waits until all is sent, or given up, or this time has passed, since the last request that went
    /// well where the end may be `late`. `while_waiting` is called once, when it takes longer than a moment. Then the sums.
    pub(super) fn finish(&self, patience: Duration, late: bool, while_waiting: impl FnOnce()) -> Passed {
        let begun = Instant::now();
        let mut inner = self.lock();
        let mut deadline = begun + patience;
        inner.deadline = Some(deadline);
        inner.more_time = late.then_some(patience);
        self.changed.notify_all();
        let mut while_waiting = Some(while_waiting);
        while !inner.done {
            let until = if while_waiting.is_some() { begun + MOMENT } else { deadline };
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                inner = self.wait(inner, left);
                deadline = inner.deadline.unwrap_or(deadline);
                continue;
            }
            let Some(say) = while_waiting.take() else { break };
            drop(inner);
            say();
            inner = self.lock();
        }
        Passed {
            sent: inner.sent,
            not_sent: inner.offered - inner.sent,
            rejected_spans: inner.rejected_spans,
            error: inner.error.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, inner: MutexGuard<'a, Inner>, time: Duration) -> MutexGuard<'a, Inner> {
        self.changed.wait_timeout(inner, time).unwrap_or_else(PoisonError::into_inner).0
    }
}
