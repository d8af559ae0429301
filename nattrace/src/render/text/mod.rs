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

mod earlier;
pub(super) mod header;
pub(super) mod rows;
pub(crate) mod words;

pub(crate) use words::{end as end_in_words, held_back};

use jiff::tz::TimeZone;
use nattrace_core::conversation::Conversation;
use nattrace_core::event::Loss;
use nattrace_core::findings::Finding;
use nattrace_core::journey::{Journey, JourneyId};

use super::layout::{Layout, Lines, Row};
use super::namespaces::Namespaces;
use super::run::Summary;
use super::style::{Role, Span};
pub(crate) use header::{kind, title};

pub(super) use earlier::Earlier;
pub(super) use rows::rows;

/// The state that blocks depend on: what was shown before.
#[derive(Debug)]
pub(crate) struct Text {
    zone: TimeZone,
    earlier: Earlier,
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

impl Text {
    /// Nothing was shown yet; times are told in this zone.
    pub(crate) fn new(zone: TimeZone) -> Self {
        Self { zone, earlier: Earlier::default(), last: Last::Nothing }
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
                && self.earlier.has(first)
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
        self.earlier.remember(journey);
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
            text.earlier.remember(earlier);
        }
        let mut out = Lines::default();
        text.block(journey, namespaces, Layout::new(width), &mut out);
        out
    }

    fn block(&self, journey: &Journey, namespaces: &Namespaces, layout: Layout, out: &mut Lines) {
        header::header(journey, namespaces, &self.zone, layout, out);
        let mut rows = Vec::new();
        rows.extend(journey.retransmission_of.map(|first| again(self.earlier.difference(journey, first))));
        rows.extend(self::rows(journey, namespaces));
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

    /// One line: in the first one's block when nothing came between, else one that stands for itself.
    fn repetition(&mut self, journey: &Journey, first: JourneyId, layout: Layout, out: &mut Lines) {
        let after = self.earlier.after(journey, first);
        if self.last == Last::Block(first) {
            let told = format!("retransmitted{after} as #{}: same path, same end", journey.id);
            layout.rows(&[again(told)], out);
            return;
        }
        self.begin(Last::Line, out);
        let mut line = title(journey);
        line.extend([
            Span::new(Role::Plain, "  "),
            Span::new(Role::Other, "↻"),
            Span::new(Role::Plain, format!(" {}", self.earlier.repetition(journey, first))),
        ]);
        layout.paragraph(&line, out);
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
pub(super) fn restates_end(finding: &Finding) -> bool {
    matches!(finding.code, "dropped-by-rule" | "dropped-by-policy") && finding.fix.is_empty()
}

/// Why; and what to type, a row a command.
pub(super) fn finding_rows(finding: &Finding) -> (Row, Vec<Row>) {
    let labelled =
        |label: &str, role, text: &str| row(Span::new(Role::Label, label), vec![Span::new(role, text)]);
    let why = labelled(words::certainty(finding.certainty), Role::Plain, &finding.text);
    let label = |i| if i == 0 { "fix" } else { "" };
    let fix = finding.fix.iter().enumerate();
    (why, fix.map(|(i, command)| labelled(label(i), Role::Command, command)).collect())
}

fn finding(finding: &Finding, layout: Layout, out: &mut Lines) {
    let (why, fix) = finding_rows(finding);
    layout.rows(&[why], out);
    for command in &fix {
        layout.command(command, out);
    }
}

/// A row about the first transmission.
pub(super) fn again(told: String) -> Row {
    row(Span::new(Role::Other, "↻ again"), vec![Span::new(Role::Plain, told)])
}

fn row(label: Span, text: Vec<Span>) -> Row {
    Row { label, place: None, text }
}

#[cfg(test)]
mod tests;
