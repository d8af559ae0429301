//! For people: one block per packet.
//!
//! ```text
//! #1 tcp 10.2.1.2:36334 → 10.1.2.3:1222  SYN                 in enp0  22:13:20.000
//!    forward      inet filter forward  ct status dnat jump allowed_dnats
//!                 ↳ allowed_dnats      drop
//!    ✗ DROPPED    in forward by rule "drop" (inet filter allowed_dnats handle 8)
//! ```
//!
//! Hooks and signs stand left, where the eye runs down; chains in the middle; rules as their owner wrote
//! them on the right. On a terminal rows are wrapped to its width; elsewhere each stays one line.

mod header;
mod rows;
mod words;

pub(crate) use words::end as end_in_words;

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use nattrace_core::conversation::Conversation;
use nattrace_core::event::Loss;
use nattrace_core::findings::{Certainty, Finding};
use nattrace_core::journey::{Journey, JourneyId};

use super::layout::{Layout, Row};
use super::namespaces::Namespaces;
use super::run::Summary;
use super::style::{Role, Span};

/// First transmissions that later ones may refer to: enough for every retransmission timer, and little memory.
const REMEMBERED: usize = 1024;

/// The state that blocks depend on: what was shown before.
#[derive(Debug)]
pub(super) struct Text {
    color: bool,
    zone: TimeZone,
    shown: BTreeMap<JourneyId, Shown>,
    last: Last,
}

/// What was written last: it decides about blank lines, and where a repetition fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    /// The block of this packet.
    Block(JourneyId),
    /// A line that stands for itself.
    Line,
}

/// What a later block may want to say of an earlier one.
#[derive(Debug)]
struct Shown {
    first_seen_ns: u64,
    end: String,
}

impl Text {
    pub(super) fn new(color: bool, zone: TimeZone) -> Self {
        Self { color, zone, shown: BTreeMap::new(), last: Last::Nothing }
    }

    /// A finished journey: its block, or one line where it repeats an earlier one.
    pub(super) fn journey(
        &mut self,
        journey: &Journey,
        namespaces: &Namespaces,
        width: Option<usize>,
    ) -> String {
        let layout = Layout::new(width, self.color);
        let mut out = String::new();
        match journey.retransmission_of {
            Some(first) if journey.same_path => self.repetition(journey, first, layout, &mut out),
            None if let Some(first) = journey.like
                && self.shown.contains_key(&first)
                && journey.incomplete.is_empty() =>
            {
                self.begin(Last::Line, &mut out);
                let mut line = header::title(journey);
                let told = format!("  like #{first}: {}", words::end(journey));
                line.push(Span::new(Role::Faint, told));
                layout.paragraph(&line, &mut out);
            }
            first => {
                self.begin(Last::Block(journey.id), &mut out);
                header::header(journey, namespaces, &self.zone, layout, &mut out);
                let mut rows = Vec::new();
                rows.extend(first.map(|first| self.difference(journey, first)));
                rows.extend(rows::rows(journey, namespaces));
                layout.rows(&rows, &mut out);
                for finding in journey.findings.iter().filter(|finding| !restates_end(finding)) {
                    self::finding(finding, layout, &mut out);
                }
            }
        }
        self.remember(journey);
        out
    }

    /// A blank line between blocks; none before the first, nor between lines.
    fn begin(&mut self, what: Last, out: &mut String) {
        let last = std::mem::replace(&mut self.last, what);
        if last != Last::Nothing && (last, what) != (Last::Line, Last::Line) {
            out.push('\n');
        }
    }

    fn remember(&mut self, journey: &Journey) {
        let shown = Shown { first_seen_ns: journey.first_seen_ns, end: words::end(journey) };
        self.shown.insert(journey.id, shown);
        if self.shown.len() > REMEMBERED {
            self.shown.pop_first();
        }
    }

    /// One line: in the first one's block when nothing came between, else one that stands for itself.
    fn repetition(&mut self, journey: &Journey, first: JourneyId, layout: Layout, out: &mut String) {
        let after = self.after(journey, first);
        if self.last == Last::Block(first) {
            let told = format!("retransmitted{after} as #{}: same path, same end", journey.id);
            let text = vec![Span::new(Role::Plain, told)];
            layout.rows(&[row(Span::new(Role::Other, "↻ again"), text)], out);
            return;
        }
        self.begin(Last::Line, out);
        let mut line = header::title(journey);
        let end = words::end(journey);
        line.extend([
            Span::new(Role::Plain, "  "),
            Span::new(Role::Other, "↻"),
            Span::new(Role::Plain, format!(" retransmits #{first}{after}: same path, {end}")),
        ]);
        layout.paragraph(&line, out);
    }

    /// A retransmission that went another way says what the first one did.
    fn difference(&self, journey: &Journey, first: JourneyId) -> Row {
        let after = self.after(journey, first);
        let told = match self.shown.get(&first).map(|shown| &shown.end) {
            Some(end) if *end == words::end(journey) => {
                format!("retransmits #{first}{after}; same end by another path")
            }
            Some(end) => format!("retransmits #{first}{after}, but ends otherwise: #{first} was {end}"),
            None => format!("retransmits #{first}; path or end differ"),
        };
        row(Span::new(Role::Other, "↻ again"), vec![Span::new(Role::Plain, told)])
    }

    fn after(&self, journey: &Journey, first: JourneyId) -> String {
        let since = self.shown.get(&first).and_then(|s| journey.first_seen_ns.checked_sub(s.first_seen_ns));
        since.map_or_else(String::new, |since| format!(" after {}", words::time_span(since)))
    }

    /// What came of a connection: one line, where it says more than its packet does.
    pub(super) fn conversation(&mut self, conversation: &Conversation, width: Option<usize>) -> String {
        let mut out = String::new();
        if !conversation.says_more() {
            return out;
        }
        self.begin(Last::Line, &mut out);
        let line = [
            Span::new(Role::Title, format!("⇄ {}", words::conversation(conversation))),
            Span::new(Role::Plain, format!("  {}", conversation.text)),
            Span::new(Role::Faint, format!("  {}", words::numbers(&conversation.journeys))),
        ];
        let layout = Layout::new(width, self.color);
        layout.paragraph(&line, &mut out);
        for told in &conversation.findings {
            finding(told, layout, &mut out);
        }
        out
    }

    /// Events that were lost.
    pub(super) fn loss(&mut self, loss: &Loss, journeys: &[JourneyId], width: Option<usize>) -> String {
        let mut out = String::new();
        self.begin(Last::Line, &mut out);
        let count = loss.count.map_or_else(|| "some".to_owned(), |count| count.to_string());
        let events = if loss.count == Some(1) { "event" } else { "events" };
        let first = words::time_of_day(loss.first_ns, &self.zone);
        let last = words::time_of_day(loss.last_ns, &self.zone);
        let when = if first == last { format!("at {first}") } else { format!("between {first} and {last}") };
        let mut told = format!("{count} {events} of {} lost {when}", loss.source.name());
        if !journeys.is_empty() {
            let numbers = journeys.iter().map(|id| format!("#{id}")).collect::<Vec<_>>().join(", ");
            told = format!("{told}; steps may be missing from {numbers}");
        }
        let line = [Span::new(Role::Warn, "! LOST"), Span::new(Role::Plain, format!("  {told}"))];
        Layout::new(width, self.color).paragraph(&line, &mut out);
        out
    }

    /// The last lines.
    pub(super) fn summary(&mut self, summary: &Summary, width: Option<usize>) -> String {
        let mut out = String::new();
        if self.last != Last::Nothing {
            out.push('\n');
        }
        let layout = Layout::new(width, self.color);
        for line in words::summary(summary) {
            layout.paragraph(&line, &mut out);
        }
        out
    }
}

/// Whether a finding says only what the line above it, "✗ DROPPED by ..", says already.
fn restates_end(finding: &Finding) -> bool {
    matches!(finding.code, "dropped-by-rule" | "dropped-by-policy") && finding.fix.is_empty()
}

fn finding(finding: &Finding, layout: Layout, out: &mut String) {
    let certainty = match finding.certainty {
        Certainty::Certain => "why",
        Certainty::Likely => "likely why",
    };
    let why = vec![Span::new(Role::Plain, &finding.text)];
    layout.rows(&[row(Span::new(Role::Label, certainty), why)], out);
    for (i, command) in finding.fix.iter().enumerate() {
        let label = if i == 0 { "fix" } else { "" };
        let command = vec![Span::new(Role::Command, command)];
        layout.command(&row(Span::new(Role::Label, label), command), out);
    }
}

fn row(label: Span, text: Vec<Span>) -> Row {
    Row { label, place: None, text }
}

#[cfg(test)]
mod tests;
