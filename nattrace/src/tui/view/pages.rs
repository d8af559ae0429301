//! Pages that take the whole screen: causes, messages, keys, and the fix alone.

use ratatui::Frame;
use ratatui::layout::Rect;

use super::paint::{Paint, rule};
use crate::render::layout::{Layout, Lines};
use crate::render::style::{Role, Span};
use crate::tui::keys::BINDINGS;
use crate::tui::model::{Drawn, Model};

/// What the signs of the list mean.
const SIGNS: [(Role, &str, &str); 7] = [
    (Role::Drop, "✗", "dropped"),
    (Role::Pass, "✓", "delivered"),
    (Role::Pass, "→", "sent"),
    (Role::Other, "»", "queued"),
    (Role::Other, "•", "consumed"),
    (Role::Warn, "?", "unfinished"),
    (Role::Other, "↻", "again"),
];

/// What drops packets.
pub(super) fn causes(model: &Model, paint: &Paint<'_>, area: Rect, frame: &mut Frame<'_>) -> Drawn {
    let (height, room) = (usize::from(area.height).saturating_sub(1), usize::from(area.width));
    let count = model.sums.causes.len();
    let top = (model.cause + 1).saturating_sub(height);
    let title = rule("what drops packets", Role::Title, &scrolled(top, height, count), room);
    let mut lines = vec![paint.line(&title, room, false)];
    if count == 0 {
        lines.push(paint.line(&[Span::new(Role::Plain, " No packet was dropped.")], room, false));
    }
    for (index, cause) in model.sums.causes.iter().enumerate().skip(top).take(height) {
        let spans = [
            Span::new(Role::Drop, format!("{:>7}", cause.count)),
            Span::new(Role::Plain, format!("  by {}", cause.text)),
            Span::new(Role::Faint, format!("  from #{} on", cause.first)),
        ];
        lines.push(paint.line(&spans, room, index == model.cause));
    }
    frame.render_widget(ratatui::text::Text::from(lines), area);
    Drawn { text: height, text_lines: count, ..model.drawn_list() }
}

/// What nattrace said.
pub(super) fn log(model: &Model, paint: &Paint<'_>, area: Rect, frame: &mut Frame<'_>) -> Drawn {
    let mut lines = Lines::default();
    let layout = Layout::new(Some(usize::from(area.width)));
    for message in model.off.iter().chain(&model.log) {
        layout.paragraph(&[Span::new(Role::Plain, " "), message.clone()], &mut lines);
    }
    page(model, &Span::new(Role::Title, "messages"), lines, paint, area, frame)
}

/// The keys.
pub(super) fn help(model: &Model, paint: &Paint<'_>, area: Rect, frame: &mut Frame<'_>) -> Drawn {
    let mut lines = Lines::default();
    for binding in &BINDINGS {
        lines.0.push(vec![
            Span::new(Role::Title, format!(" {:<11}", binding.shown)),
            Span::new(Role::Plain, binding.what),
        ]);
    }
    lines.blank();
    lines.0.push(
        SIGNS
            .iter()
            .flat_map(|(role, sign, what)| {
                [Span::new(*role, format!(" {sign}")), Span::new(Role::Plain, format!(" {what} "))]
            })
            .collect(),
    );
    page(model, &Span::new(Role::Title, "keys"), lines, paint, area, frame)
}

/// Commands as they are to be typed, with nothing beside them: whoever selects them by mouse has them alone.
pub(super) fn fix(model: &Model, paint: &Paint<'_>, area: Rect, frame: &mut Frame<'_>) -> Drawn {
    let mut lines = Lines::default();
    let layout = Layout::new(Some(usize::from(area.width)));
    let Some((of, fix)) = &model.fix else { return model.drawn_list() };
    lines.blank();
    for command in fix {
        layout.command_alone(&Span::new(Role::Command, command), &mut lines);
    }
    lines.blank();
    let told = "It was sent to the terminal's clipboard (OSC 52), which not every terminal takes: tmux does with \
                `set -g set-clipboard on`. It can be selected here, too, and is printed when nattrace ends.";
    layout.paragraph(&[Span::new(Role::Faint, told)], &mut lines);
    page(model, &Span::new(Role::Title, format!("the fix of {of}")), lines, paint, area, frame)
}

/// What part of a text is seen, where not all is.
fn scrolled(top: usize, height: usize, all: usize) -> String {
    if all <= height { String::new() } else { format!("{}–{} of {all}", top + 1, (top + height).min(all)) }
}

/// A text that is scrolled below its title.
pub(super) fn page(
    model: &Model,
    title: &Span,
    lines: Lines,
    paint: &Paint<'_>,
    area: Rect,
    frame: &mut Frame<'_>,
) -> Drawn {
    let (height, room) = (usize::from(area.height).saturating_sub(1), usize::from(area.width));
    let count = lines.0.len();
    let top = model.text_top.min(count.saturating_sub(height));
    let title = rule(title.text(), title.role, &scrolled(top, height, count), room);
    let shown = std::iter::once(title).chain(lines.0.into_iter().skip(top)).collect::<Vec<_>>();
    frame.render_widget(paint.text(&shown, area), area);
    Drawn { text: height, text_lines: count, ..model.drawn_list() }
}
