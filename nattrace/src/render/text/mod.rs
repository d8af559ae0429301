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

pub(super) mod header;
pub(super) mod rows;
pub(crate) mod words;

pub(crate) use words::end as end_in_words;

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use nattrace_core::conversation::Conversation;
use nattrace_core::event::Loss;
use nattrace_core::findings::{Certainty, Finding};
use nattrace_core::journey::{Journey, JourneyId};

use super::layout::{Layout, Lines, Row};
use super::namespaces::Namespaces;
use super::run::Summary;
use super::style::{Role, Span};
pub(crate) use header::{kind, title};

/// First transmissions that later ones may refer to: enough for every retransmission timer, and little memory.
const REMEMBERED: usize = 1024;

/// The state that blocks depend on: what was shown before.
#[derive(Debug)]
pub(crate) struct Text {
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
    /// Nothing was shown yet; times are told in this zone.
    pub(crate) fn new(zone: TimeZone) -> Self {
        Self { zone, shown: BTreeMap::new(), last: Last::Nothing }
    }

    /// A finished journey: its block, or one line where it repeats an earlier one.
    pub(crate) fn journey(
        &mut self,
        journey: &Journey,
        namespaces: &Namespaces,
        width: Option<usize>,
    ) -> Lines {
        let layout = Layout::new(width);
        let mut out = Lines::default();
        match journey.retransmission_of {
            Some(first) if journey.same_path => self.repetition(journey, first, layout, &mut out),
            None if let Some(first) = journey.like
                && self.shown.contains_key(&first)
                && journey.incomplete.is_empty() =>
            {
                self.begin(Last::Line, &mut out);
                let mut line = title(journey);
                let told = format!("  like #{first}: {}", words::end(journey));
                line.push(Span::new(Role::Faint, told));
                layout.paragraph(&line, &mut out);
            }
            _ => {
                self.begin(Last::Block(journey.id), &mut out);
                self.block(journey, namespaces, layout, &mut out);
            }
        }
        self.remember(journey);
        out
    }

    /// A journey's block, even where it repeats another one, which is `earlier`.
    pub(crate) fn whole(
        journey: &Journey,
        earlier: Option<&Journey>,
        zone: &TimeZone,
        namespaces: &Namespaces,
        width: Option<usize>,
    ) -> Lines {
        let mut text = Self::new(zone.clone());
        if let Some(earlier) = earlier {
            text.remember(earlier);
        }
        let mut out = Lines::default();
        text.block(journey, namespaces, Layout::new(width), &mut out);
        out
    }

    fn block(&self, journey: &Journey, namespaces: &Namespaces, layout: Layout, out: &mut Lines) {
        header::header(journey, namespaces, &self.zone, layout, out);
        let mut rows = Vec::new();
        rows.extend(journey.retransmission_of.map(|first| self.difference(journey, first)));
        rows.extend(rows::rows(journey, namespaces));
        layout.rows(&rows, out);
        for finding in journey.findings.iter().filter(|finding| !restates_end(finding)) {
            self::finding(finding, layout, out);
        }
    }

    /// A blank line between blocks; none before the first, nor between lines.
    fn begin(&mut self, what: Last, out: &mut Lines) {
        let last = std::mem::replace(&mut self.last, what);
        if last != Last::Nothing && (last, what) != (Last::Line, Last::Line) {
            out.blank();
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
    fn repetition(&mut self, journey: &Journey, first: JourneyId, layout: Layout, out: &mut Lines) {
        let after = self.after(journey, first);
        if self.last == Last::Block(first) {
            let told = format!("retransmitted{after} as #{}: same path, same end", journey.id);
            let text = vec![Span::new(Role::Plain, told)];
            layout.rows(&[row(Span::new(Role::Other, "↻ again"), text)], out);
            return;
        }
        self.begin(Last::Line, out);
        let mut line = title(journey);
        let end = words::end(journey);
        line.extend([
            Span::new(Role::Plain, "  "),
            Span::new(Role::Other, "↻"),
            Span::new(Role::Plain, format!(" retransmits #{first}{after}: same path, {end}")),
        ]);
        layout.paragraph(&line, out);
    }

    /// A retransmission with a block of its own, mostly for going another way, says what the first one did.
    fn difference(&self, journey: &Journey, first: JourneyId) -> Row {
        let after = self.after(journey, first);
        let told = match self.shown.get(&first).map(|shown| &shown.end) {
            _ if journey.same_path => format!("retransmits #{first}{after}: same path, same end"),
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
    pub(crate) fn conversation(&mut self, conversation: &Conversation, width: Option<usize>) -> Lines {
        let mut out = Lines::default();
        if !conversation.says_more() {
            return out;
        }
        self.begin(Last::Line, &mut out);
        let line = [
            Span::new(
                Role::Title,
                format!("⇄ {}", words::connection_ends(conversation.original, conversation.reply)),
            ),
            Span::new(Role::Plain, format!("  {}", conversation.text)),
            Span::new(Role::Faint, format!("  {}", words::numbers(&conversation.journeys))),
        ];
        let layout = Layout::new(width);
        layout.paragraph(&line, &mut out);
        for told in &conversation.findings {
            finding(told, layout, &mut out);
        }
        out
    }

    /// Events that were lost.
    pub(crate) fn loss(&mut self, loss: &Loss, journeys: &[JourneyId], width: Option<usize>) -> Lines {
        let mut out = Lines::default();
        self.begin(Last::Line, &mut out);
        let line = [
            Span::new(Role::Warn, "! LOST"),
            Span::new(Role::Plain, format!("  {}", words::loss(loss, journeys, &self.zone))),
        ];
        Layout::new(width).paragraph(&line, &mut out);
        out
    }

    /// The last lines.
    pub(crate) fn summary(&mut self, summary: &Summary, width: Option<usize>) -> Lines {
        let mut out = Lines::default();
        if self.last != Last::Nothing {
            out.blank();
        }
        let layout = Layout::new(width);
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

fn finding(finding: &Finding, layout: Layout, out: &mut Lines) {
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
