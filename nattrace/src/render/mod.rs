//! Journeys to text, JSON Lines, nft's own grammar, pcapng, and reports. Renderers add no knowledge: whatever they say stands
//! in the journey.
//!
//! A [`Renderer`] turns each value into bytes and writes them at once, so that a reader at the other end of
//! a pipe has every journey when it ends.

mod chains;
pub mod check;
pub mod escape;
mod filter;
mod json;
pub(crate) mod layout;
mod namespaces;
mod nft;
pub(crate) mod path;
mod pcapng;
mod report;
mod run;
#[cfg(test)]
pub(crate) mod samples;
pub(crate) mod style;
pub(crate) mod text;

use std::io::{self, Write};

use nattrace_core::conversation::Conversation;
use nattrace_core::event::Loss;
use nattrace_core::journey::{Journey, JourneyId};
use nattrace_core::record::NftTool;

pub use filter::{filter_flags, filter_in_words};
pub(crate) use json::{conversation_value, journey_value};
pub use namespaces::Namespaces;
pub use run::{Passed, SourceState, SourceTotals, Start, Summary, Tally};
pub(crate) use text::{end_in_words, held_back};

use crate::cli::plan::{Format, Output, Width};
use layout::Layout;
use report::Report;
use text::Text;

/// Writes one run's results in one form.
#[derive(Debug)]
pub struct Renderer<W> {
    out: W,
    namespaces: Namespaces,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Text {
        text: Text,
        width: Width,
        color: bool,
    },
    Json,
    Nft(nft::Dialect),
    /// `None` until it is known what the run is.
    Pcapng(Option<Box<pcapng::Pcapng>>),
    /// Told at the end.
    Report(Box<Report>),
}

impl<W: Write> Renderer<W> {
    /// A renderer for the output that was planned.
    pub fn new(plan: &Output, out: W) -> Self {
        let report = |form| Form::Report(Box::new(Report::new(form, jiff::tz::TimeZone::system())));
        let form = match plan.format {
            Format::Text => Form::Text {
                text: Text::new(jiff::tz::TimeZone::system()),
                width: plan.width,
                color: plan.color,
            },
            Format::Json => Form::Json,
            Format::Nft => Form::Nft(nft::Dialect::default()),
            Format::Pcapng => Form::Pcapng(None),
            Format::Html => report(report::Form::Html),
            Format::Svg => report(report::Form::Svg),
            Format::Dot => report(report::Form::Dot),
        };
        Self { out, namespaces: Namespaces::default(), form }
    }

    /// The names of the namespaces, to be kept up to date as they become known.
    pub fn namespaces(&mut self) -> &mut Namespaces {
        &mut self.namespaces
    }

    /// The nft whose lines are to be printed, where lines of nft are.
    pub fn nft(&mut self, tool: &NftTool) {
        if let Form::Nft(dialect) = &mut self.form {
            *dialect = nft::Dialect::of(tool);
        }
    }

    /// What this run is. JSON and pcapng have a place for it, and a report; the others' readers find it on standard error.
    /// The output begins now, also where nothing is written yet.
    pub fn start(&mut self, start: &Start) -> io::Result<()> {
        let bytes = match &mut self.form {
            Form::Json => json::start(start)?,
            Form::Pcapng(pcapng) => {
                let (begun, bytes) = pcapng::Pcapng::begin(start)?;
                *pcapng = Some(Box::new(begun));
                bytes
            }
            Form::Report(report) => {
                report.start(start);
                Vec::new()
            }
            Form::Text { .. } | Form::Nft(_) => Vec::new(),
        };
        self.out.write_all(&bytes)?;
        self.out.flush()
    }

    /// A finished journey.
    pub fn journey(&mut self, journey: &Journey) -> io::Result<()> {
        let bytes = match &mut self.form {
            Form::Text { text, width, color } => {
                text.journey(journey, &self.namespaces, columns(*width)).paint(*color).into_bytes()
            }
            Form::Json => json::journey(journey, &self.namespaces)?,
            Form::Nft(dialect) => nft::journey(journey, dialect).into_bytes(),
            Form::Pcapng(pcapng) => {
                if let Some(pcapng) = pcapng {
                    pcapng.journey(journey, &self.namespaces);
                }
                return Ok(());
            }
            Form::Report(report) => {
                report.journey(journey);
                return Ok(());
            }
        };
        self.write(&bytes)
    }

    /// Whether it has to know what has settled.
    pub fn waits_for_order(&self) -> bool {
        matches!(self.form, Form::Pcapng(_))
    }

    /// All journeys that began before this moment have been told: nanoseconds since the epoch. Only pcapng, whose packets
    /// are in the order of time, has waited for that.
    pub fn settled(&mut self, before_ns: u64) -> io::Result<()> {
        let Form::Pcapng(Some(pcapng)) = &mut self.form else { return Ok(()) };
        let bytes = pcapng.settled(before_ns)?;
        self.write(&bytes)
    }

    /// What came of a connection. nft's grammar has no word for it, pcapng no packet.
    pub fn conversation(&mut self, conversation: &Conversation) -> io::Result<()> {
        let bytes = match &mut self.form {
            Form::Text { text, width, color } => {
                text.conversation(conversation, columns(*width)).paint(*color).into_bytes()
            }
            Form::Json => json::conversation(conversation, &self.namespaces)?,
            Form::Nft(_) | Form::Pcapng(_) => return Ok(()),
            Form::Report(report) => {
                report.conversation(conversation);
                return Ok(());
            }
        };
        self.write(&bytes)
    }

    /// Events that were lost, and the journeys that may lack steps for it.
    pub fn loss(&mut self, loss: &Loss, journeys: &[JourneyId]) -> io::Result<()> {
        let bytes = match &mut self.form {
            Form::Text { text, width, color } => {
                text.loss(loss, journeys, columns(*width)).paint(*color).into_bytes()
            }
            Form::Json => json::loss(loss, journeys)?,
            // They have no line for it; whoever runs the program says it on standard error.
            Form::Nft(_) | Form::Pcapng(_) => return Ok(()),
            Form::Report(report) => {
                report.loss(loss, journeys);
                return Ok(());
            }
        };
        self.write(&bytes)
    }

    /// The end of the run.
    pub fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        let bytes = match &mut self.form {
            Form::Text { text, width, color } => {
                text.summary(summary, columns(*width)).paint(*color).into_bytes()
            }
            Form::Json => json::summary(summary)?,
            Form::Pcapng(Some(pcapng)) => pcapng.end()?,
            Form::Nft(_) | Form::Pcapng(None) => return Ok(()),
            Form::Report(report) => report.summary(summary, &self.namespaces).into_bytes(),
        };
        self.write(&bytes)
    }

    /// The answer of `nattrace check`.
    pub fn check(&mut self, capabilities: &[check::Capability]) -> io::Result<()> {
        let bytes = match &self.form {
            Form::Text { width, color, .. } => {
                check::text(capabilities, Layout::new(columns(*width))).paint(*color).into_bytes()
            }
            Form::Json => check::json(capabilities)?,
            // The command line refuses these.
            Form::Nft(_) | Form::Pcapng(_) | Form::Report(_) => return Ok(()),
        };
        self.write(&bytes)
    }

    /// Gives back what was written to.
    pub fn into_inner(self) -> W {
        self.out
    }

    /// One write for each block: readers of a shared file or pipe never see half of one.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.out.write_all(bytes)?;
        self.out.flush()
    }
}

/// The width in columns, asked anew for each block: terminals are resized while a trace runs.
pub(crate) fn columns(width: Width) -> Option<usize> {
    match width {
        Width::Terminal => Some(terminal_size::terminal_size().map_or(80, |(columns, _)| columns.0.into())),
        Width::Columns(columns) => Some(columns),
        Width::Unbroken => None,
    }
}
