//! The model as a picture: where what stands. A function of the model and the size of the screen.
//!
//! ```text
//! what is traced                      state
//! counts                               rate
//!   list: connections and their packets
//! ── packet #3 ────────────────────────────
//!   its path, its steps, why, and the fix
//! keys, or what is typed, or what was said
//! ```

mod detail;
mod list;
mod pages;
mod paint;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::model::{Drawn, Model, Pane, Prompt, Screen};
use crate::render::style::{Role, Span};
use crate::render::text::words;
use paint::Paint;

/// From this width on, list and text stand side by side.
const WIDE: u16 = 160;
/// Below this height there is no room for both.
const LOW: u16 = 9;

/// Draws it, and says what was drawn.
pub(crate) fn draw(model: &Model, color: bool, frame: &mut Frame<'_>) -> Drawn {
    let paint = Paint { color, search: &model.search };
    let area = frame.area();
    let [head, body, foot] = bands(area);
    frame.render_widget(paint.text(&header(model, usize::from(area.width)), head), head);
    let drawn = match model.screen {
        Screen::Both => both(model, &paint, body, frame),
        Screen::Detail => detail::draw(model, &paint, body, frame),
        Screen::Causes => pages::causes(model, &paint, body, frame),
        Screen::Log => pages::log(model, &paint, body, frame),
        Screen::Help => pages::help(model, &paint, body, frame),
        Screen::Fix => pages::fix(model, &paint, body, frame),
    };
    frame.render_widget(paint.text(&[footer(model)], foot), foot);
    if let Some(prompt) = &model.prompt {
        let (label, typed) = typed(model, prompt);
        let column = Span::new(Role::Plain, format!("{label}{typed}")).width();
        let x = foot.x + u16::try_from(column).unwrap_or(u16::MAX).min(foot.width.saturating_sub(1));
        if foot.height > 0 {
            frame.set_cursor_position((x, foot.y));
        }
    }
    drawn
}

/// Two lines above, one below, and what is between: fewer where the screen is low.
fn bands(area: Rect) -> [Rect; 3] {
    let head = match area.height {
        0..3 => 0,
        3..LOW => 1,
        _ => 2,
    };
    let foot = u16::from(area.height > 1);
    let body = area.height - head - foot;
    [
        Rect { height: head, ..area },
        Rect { y: area.y + head, height: body, ..area },
        Rect { y: area.y + head + body, height: foot, ..area },
    ]
}

fn both(model: &Model, paint: &Paint<'_>, body: Rect, frame: &mut Frame<'_>) -> Drawn {
    if body.height + 3 < LOW {
        return if model.pane == Pane::List {
            list::draw(model, paint, body, frame)
        } else {
            detail::draw(model, paint, body, frame)
        };
    }
    let (list_area, detail_area) = if body.width >= WIDE {
        let width = body.width * 2 / 5;
        let [left, right] = [width, body.width - width - 1];
        let bar = Rect { x: body.x + width, width: 1, ..body };
        let lines = vec![Line::styled("│", paint.style(Role::Faint)); usize::from(body.height)];
        frame.render_widget(ratatui::text::Text::from(lines), bar);
        (Rect { width: left, ..body }, Rect { x: bar.x + 1, width: right, ..body })
    } else {
        // The list gets a third, and not more than it fills.
        let rows = u16::try_from(model.rows.len()).unwrap_or(u16::MAX).max(3);
        let height = (body.height * 2 / 5).min(rows).max(3);
        (Rect { height, ..body }, Rect { y: body.y + height, height: body.height - height, ..body })
    };
    let list = list::draw(model, paint, list_area, frame);
    let text = detail::draw(model, paint, detail_area, frame);
    Drawn { list: list.list, list_top: list.list_top, ..text }
}

fn header(model: &Model, width: usize) -> Vec<Vec<Span>> {
    let state = if model.paused {
        Span::new(Role::Warn, format!(" PAUSED +{} ", model.waiting))
    } else if model.ended {
        Span::new(Role::Title, if model.live { " ENDED " } else { " ALL READ " })
    } else if model.follow {
        Span::new(Role::Pass, " FOLLOW ")
    } else {
        Span::new(Role::Faint, if model.live { " tracing " } else { " reading " })
    };
    let first =
        vec![Span::new(Role::Title, " nattrace"), Span::new(Role::Plain, format!("  {}", model.title))];
    let mut counts = vec![Span::new(Role::Plain, " ")];
    counts.extend(words::tally(model.sums.tally));
    let connections = model.list.connections();
    let noun = if connections == 1 { "connection" } else { "connections" };
    counts.push(Span::new(Role::Plain, format!("  {connections} {noun}")));
    if model.list.left > 0 {
        counts.push(Span::new(Role::Warn, format!("  the oldest {} left", model.list.left)));
    }
    let mut right = Vec::new();
    for (source, lost) in &model.sums.lost {
        right.push(Span::new(Role::Warn, format!("{lost} of {} lost  ", source.name())));
    }
    if !model.list.filtered_by().is_empty() {
        let (kept, fit) = model.list.counts();
        let told = format!("filter {}: {fit} of {kept}  ", model.list.filtered_by().typed());
        right.push(Span::new(Role::Warn, told));
    }
    if let Some(rate) = model.rate {
        right.push(Span::new(Role::Plain, format!("{rate}/s ")));
    }
    vec![paint::sides(&first, vec![state], width), paint::sides(&counts, right, width)]
}

fn footer(model: &Model) -> Vec<Span> {
    if let Some(prompt) = &model.prompt {
        let (label, typed) = typed(model, prompt);
        let hint = match prompt {
            Prompt::Filter(_) => "   Enter keeps it, Esc does not",
            Prompt::Search(_) => "   Enter, then n and N",
        };
        return vec![
            Span::new(Role::Title, label),
            Span::new(Role::Plain, typed),
            Span::new(Role::Faint, hint),
        ];
    }
    if let Some(message) = &model.message {
        return vec![Span::new(Role::Plain, " "), message.clone()];
    }
    let hints = match (model.screen, model.pane) {
        (Screen::Both, Pane::List) => {
            " ↑↓ Enter  f filter  / search  c causes  p pause  F follow  y copy fix  ? help"
        }
        (Screen::Both, Pane::Detail) => " ↑↓ scroll  Tab, Esc back to the list  y copy fix  ? help  q quit",
        (Screen::Detail, _) => " ↑↓ scroll  Esc back  y copy fix  ? help",
        (Screen::Causes, _) => " ↑↓ choose  Enter to its first packet  Esc back",
        (Screen::Log | Screen::Help, _) => " ↑↓ scroll  Esc back",
        (Screen::Fix, _) => " any key goes back",
    };
    vec![Span::new(Role::Faint, hints)]
}

fn typed<'a>(model: &'a Model, prompt: &Prompt) -> (&'static str, &'a str) {
    match prompt {
        Prompt::Filter(_) => (" filter: ", model.list.filtered_by().typed()),
        Prompt::Search(_) => (" search: ", model.search.typed()),
    }
}
