//! Spans with a meaning to spans with a look, cut to the room there is.

use anstyle::{AnsiColor, Effects};
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span as Painted, Text};

use crate::render::style::{Role, Span, width};
use crate::tui::pattern::Pattern;

/// How to paint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint<'a> {
    /// With colour; bold, dim and reverse are there in any case.
    pub(super) color: bool,
    /// What is to be marked wherever it stands.
    pub(super) search: &'a Pattern,
}

impl Paint<'_> {
    /// The look of a meaning: that of the text output.
    pub(super) fn style(&self, role: Role) -> Style {
        let wanted = role.style();
        let mut style = Style::new();
        if let Some(anstyle::Color::Ansi(color)) = wanted.get_fg_color().filter(|_| self.color) {
            style = style.fg(terminal_color(color));
        }
        if wanted.get_effects().contains(Effects::BOLD) {
            style = style.add_modifier(Modifier::BOLD);
        }
        if wanted.get_effects().contains(Effects::DIMMED) {
            style = style.add_modifier(Modifier::DIM);
        }
        style
    }

    /// A line; `chosen` ones stand out over the whole width.
    pub(super) fn line(&self, spans: &[Span], room: usize, chosen: bool) -> Line<'static> {
        let mut spans = fit(spans, room);
        if chosen {
            let pad = room.saturating_sub(width(&spans));
            spans.push(Span::new(Role::Plain, " ".repeat(pad)));
        }
        let mut line = Line::default();
        for span in spans {
            // Dim on reverse cannot be read everywhere.
            let style = if chosen {
                self.style(span.role).remove_modifier(Modifier::DIM).add_modifier(Modifier::REVERSED)
            } else {
                self.style(span.role)
            };
            self.marked(span.text(), style, &mut line);
        }
        line
    }

    /// Lines from the top of an area.
    pub(super) fn text(&self, lines: &[Vec<Span>], area: Rect) -> Text<'static> {
        let room = usize::from(area.width);
        lines
            .iter()
            .take(usize::from(area.height))
            .map(|line| self.line(line, room, false))
            .collect::<Vec<_>>()
            .into()
    }

    /// Marks what is searched.
    fn marked(&self, text: &str, style: Style, line: &mut Line<'static>) {
        let lower = text.to_ascii_lowercase();
        let mut rest = 0;
        while let Some((at, length)) =
            self.search.wanted().filter_map(|word| Some((rest + lower[rest..].find(word)?, word.len()))).min()
        {
            line.push_span(Painted::styled(text[rest..at].to_owned(), style));
            let mark = style.add_modifier(Modifier::UNDERLINED | Modifier::BOLD);
            line.push_span(Painted::styled(text[at..at + length].to_owned(), mark));
            rest = at + length;
        }
        line.push_span(Painted::styled(text[rest..].to_owned(), style));
    }
}

fn terminal_color(color: AnsiColor) -> Color {
    match color {
        AnsiColor::Black => Color::Black,
        AnsiColor::Red => Color::Red,
        AnsiColor::Green => Color::Green,
        AnsiColor::Yellow => Color::Yellow,
        AnsiColor::Blue => Color::Blue,
        AnsiColor::Magenta => Color::Magenta,
        AnsiColor::Cyan => Color::Cyan,
        AnsiColor::White => Color::Gray,
        AnsiColor::BrightBlack => Color::DarkGray,
        AnsiColor::BrightRed => Color::LightRed,
        AnsiColor::BrightGreen => Color::LightGreen,
        AnsiColor::BrightYellow => Color::LightYellow,
        AnsiColor::BrightBlue => Color::LightBlue,
        AnsiColor::BrightMagenta => Color::LightMagenta,
        AnsiColor::BrightCyan => Color::LightCyan,
        AnsiColor::BrightWhite => Color::White,
    }
}

/// Cut to the room, with a sign that it was.
pub(super) fn fit(spans: &[Span], room: usize) -> Vec<Span> {
    if width(spans) <= room {
        return spans.to_vec();
    }
    let (mut cut, mut left) = (Vec::new(), room.saturating_sub(1));
    for span in spans {
        let mut kept = String::new();
        for c in span.text().chars() {
            let columns = Span::new(Role::Plain, c.to_string()).width();
            if columns > left {
                left = 0;
                break;
            }
            left -= columns;
            kept.push(c);
        }
        cut.push(Span::new(span.role, kept));
        if left == 0 {
            break;
        }
    }
    if room > 0 {
        cut.push(Span::new(Role::Faint, "…"));
    }
    cut
}

/// One side left, one right; where both have no room, the left one is cut.
pub(super) fn sides(left: &[Span], right: Vec<Span>, room: usize) -> Vec<Span> {
    let right_width = width(&right);
    let mut line = fit(left, room.saturating_sub(right_width + 1));
    let pad = room.saturating_sub(width(&line) + right_width);
    line.push(Span::new(Role::Plain, " ".repeat(pad)));
    line.extend(right);
    line
}

/// A line across, with a title.
pub(super) fn rule(title: &str, role: Role, right: &str, room: usize) -> Vec<Span> {
    let mut line = vec![Span::new(Role::Faint, "── "), Span::new(role, title), Span::new(Role::Faint, " ")];
    let right = if right.is_empty() { String::new() } else { format!(" {right} ──") };
    let used = width(&line) + Span::new(Role::Plain, &right).width();
    line.push(Span::new(Role::Faint, format!("{}{right}", "─".repeat(room.saturating_sub(used)))));
    line
}
