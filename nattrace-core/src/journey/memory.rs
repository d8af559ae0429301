//! What packets under way take, and that it stays below a bound.
//!
//! Bytes are counted by what a journey has of each kind of thing, which costs next to nothing; a test compares with what
//! the allocator gave. What else is remembered (connections, segments, kinship, names) is bounded by numbers of its own.

use super::assemble::Assembler;
use super::ending::Why;
use super::open::{ChainName, Draft, Open, Visit};
use super::{Sight, Traced};

/// Indexes by which a journey is found, and what the allocator adds.
const INDEXES: usize = 420;
/// Names, of which each step has a few: a short text of its own takes as much.
const TEXT: usize = 32;
/// Texts of a step: table and chain, or devices.
const TEXTS_OF_STEP: usize = 2;
/// Texts of a visit: devices.
const TEXTS_OF_VISIT: usize = 2;
/// The chains of a visit beyond those that it has room for itself.
const CHAINS_OF_VISIT: usize = 2 * size_of::<ChainName>();
/// A trace message that is kept: names and headers.
const TRACED: usize = 12 * TEXT;
/// The bytes of headers that were seen.
const SIGHT: usize = 4 * TEXT;

/// Bytes in use.
#[derive(Debug, Default)]
pub(super) struct Memory {
    bytes: usize,
    /// Journeys that were given up.
    given_up: u64,
}

impl Memory {
    pub(super) fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    pub(super) fn shrink(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub(super) fn replace(&mut self, before: usize, now: usize) {
        self.shrink(before);
        self.grow(now);
    }
}

impl Open {
    /// Counts what it takes now: bytes.
    pub(super) fn account(&mut self) -> usize {
        let drafts = self.drafts.capacity() * size_of::<Draft>() + self.drafts.len() * TEXTS_OF_STEP * TEXT;
        let each_visit = TEXTS_OF_VISIT * TEXT + CHAINS_OF_VISIT;
        let visits = self.visits.capacity() * size_of::<Visit>() + self.visits.len() * each_visit;
        let traced = self.traced.capacity() * size_of::<Traced>() + self.traced.len() * TRACED;
        let sights = self
            .sights
            .as_ref()
            .map_or(0, |sights| sights.capacity() * size_of::<Sight>() + sights.len() * SIGHT);
        self.accounted = size_of::<Self>() + INDEXES + drafts + visits + traced + sights;
        self.accounted
    }
}

impl Assembler {
    /// What packets under way, and those that have ended and wait to be told, take by estimate: bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory.bytes
    }

    /// How many journeys were given up because others needed their memory.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.memory.given_up
    }

    /// Gives up the oldest journeys, those that have ended first, until what is left is within the bound. One stays.
    pub(super) fn make_room(&mut self) {
        while self.memory.bytes > self.options.memory && self.opens.len() + self.held.len() > 1 {
            if !self.held.is_empty() {
                self.let_go_oldest();
            } else if let Some(oldest) = self.opens.oldest() {
                self.memory.given_up += 1;
                self.close(oldest, Why::Memory);
            }
        }
    }
}
