//! Colours by meaning. Everything stays readable without them: they repeat what words and signs say.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use super::escape::escape;

/// What a piece of text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Nothing special.
    Plain,
    /// The number and the ends of a packet: what the eye looks for first.
    Title,
    /// The left column.
    Label,
    /// Less important.
    Faint,
    /// Text of a rule: breaks before statements when it must be broken.
    Rule,
    /// Text of the rule that dropped the packet.
    DropRule,
    /// An address was rewritten.
    Nat,
    /// The packet was dropped.
    Drop,
    /// The packet arrived.
    Pass,
    /// The packet left, or its end was not seen.
    Other,
    /// Something may be missing.
    Warn,
    /// A command to paste.
    Command,
}

impl Role {
    /// How it looks where there is colour.
    pub(crate) fn style(self) -> Style {
        let color = |color: AnsiColor| Style::new().fg_color(Some(color.into()));
        match self {
            Self::Plain | Self::Rule => Style::new(),
            Self::Title => Style::new().bold(),
            Self::Label => color(AnsiColor::Cyan),
            Self::Faint => Style::new().dimmed(),
            Self::DropRule => color(AnsiColor::Red),
            Self::Nat => color(AnsiColor::Magenta).bold(),
            Self::Drop => color(AnsiColor::Red).bold(),
            Self::Pass => color(AnsiColor::Green).bold(),
            Self::Other => color(AnsiColor::Blue).bold(),
            Self::Warn => color(AnsiColor::Yellow),
            Self::Command => color(AnsiColor::Green),
        }
    }
}

/// A piece of text with its meaning, safe to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) role: Role,
    text: String,
}

impl Span {
    /// Whatever the text holds, the span holds nothing that a terminal obeys.
    pub(crate) fn new(role: Role, text: impl AsRef<str>) -> Self {
        Self { role, text: escape(text.as_ref()).into_owned() }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Columns on a terminal.
    pub(crate) fn width(&self) -> usize {
        self.text.width()
    }

    /// Writes it, with colour or without.
    pub(super) fn paint(&self, out: &mut String, color: bool) {
        let style = self.role.style();
        let _ = if color && style != Style::new() {
            write!(out, "{style}{}{style:#}", self.text)
        } else {
            write!(out, "{}", self.text)
        };
    }
}

/// Columns of several spans side by side.
pub(crate) fn width(spans: &[Span]) -> usize {
    spans.iter().map(Span::width).sum()
}
