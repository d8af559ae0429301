//! What was told before, for what refers to it.

use std::collections::BTreeMap;

use nattrace_core::journey::{Journey, JourneyId};

use super::words;

/// First transmissions that later ones may refer to: enough for every retransmission timer, and little memory.
const REMEMBERED: usize = 1024;

/// The journeys told last.
#[derive(Debug, Default)]
pub(in crate::render) struct Earlier(BTreeMap<JourneyId, Told>);

/// What a later one may want to say of an earlier one.
#[derive(Debug)]
struct Told {
    first_seen_ns: u64,
    end: String,
}

impl Earlier {
    /// Keeps what may be referred to.
    pub(in crate::render) fn remember(&mut self, journey: &Journey) {
        self.0.insert(journey.id, Told { first_seen_ns: journey.first_seen_ns, end: words::end(journey) });
        if self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
    }

    /// Whether it is remembered.
    pub(super) fn has(&self, id: JourneyId) -> bool {
        self.0.contains_key(&id)
    }

    /// A retransmission that went the way of the first one, in words.
    pub(in crate::render) fn repetition(&self, journey: &Journey, first: JourneyId) -> String {
        let after = self.after(journey, first);
        format!("retransmits #{first}{after}: same path, {}", words::end(journey))
    }

    /// A retransmission with a block of its own, mostly for going another way, says what the first one did.
    pub(in crate::render) fn difference(&self, journey: &Journey, first: JourneyId) -> String {
        let after = self.after(journey, first);
        match self.0.get(&first).map(|told| &told.end) {
            _ if journey.same_path => format!("retransmits #{first}{after}: same path, same end"),
            Some(end) if *end == words::end(journey) => {
                format!("retransmits #{first}{after}; same end by another path")
            }
            Some(end) => format!("retransmits #{first}{after}, but ends otherwise: #{first} was {end}"),
            None => format!("retransmits #{first}; path or end differ"),
        }
    }

    /// How long after the first one.
    pub(super) fn after(&self, journey: &Journey, first: JourneyId) -> String {
        let since = self.0.get(&first).and_then(|told| journey.first_seen_ns.checked_sub(told.first_seen_ns));
        since.map_or_else(String::new, |since| format!(" after {}", words::time_span(since)))
    }
}
