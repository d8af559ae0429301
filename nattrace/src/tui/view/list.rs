//! The list: a line for each connection, and below it one for each of its packets.

use nattrace_core::conntrack::Direction;
use nattrace_core::journey::Journey;
use ratatui::Frame;
use ratatui::layout::Rect;

use super::paint::Paint;
use crate::render::style::{Role, Span};
use crate::render::text::{kind, title, words};
use crate::tui::list::{Packet, Row, worst};
use crate::tui::model::{Drawn, Model};

/// Where a line is at least so wide, times have milliseconds.
const PRECISE: usize = 100;

/// What the column of flags takes at most.
const KIND: usize = 20;

/// Columns that are as wide as what is in view.
#[derive(Debug, Clone, Copy)]
struct Columns {
    digits: usize,
    kind: usize,
    room: usize,
}

pub(super) fn draw(model: &Model, paint: &Paint<'_>, area: Rect, frame: &mut Frame<'_>) -> Drawn {
    let height = usize::from(area.height);
    let room = usize::from(area.width);
    let top = top(model, height);
    let drawn = Drawn { list: height, list_top: top, ..Drawn::default() };
    if model.rows.is_empty() {
        frame.render_widget(paint.text(&[vec![Span::new(Role::Faint, nothing(model))]], area), area);
        return drawn;
    }
    let rows = model.rows.iter().enumerate().skip(top).take(height);
    let packets = rows.clone().filter_map(|(_, row)| match row {
        Row::Packet(number) => model.list.packet(*number),
        Row::Connection(_) => None,
    });
    let digits = packets.clone().map(|packet| packet.journey.id.to_string().len()).max().unwrap_or(1);
    let kinds = packets
        .filter(|packet| model.list.is_below(packet))
        .filter_map(|packet| kind(&packet.journey.packet));
    let columns = Columns { digits, kind: kinds.map(|kind| kind.len()).max().unwrap_or(0).min(KIND), room };
    let lines: Vec<_> = rows
        .map(|(index, row)| {
            let spans = match row {
                Row::Connection(key) => connection(model, *key, room),
                Row::Packet(number) => match model.list.packet(*number) {
                    Some(packet) => self::packet(model, packet, columns),
                    None => Vec::new(),
                },
            };
            paint.line(&spans, room, index == model.chosen)
        })
        .collect();
    frame.render_widget(ratatui::text::Text::from(lines), area);
    drawn
}

/// The chosen row stays in view, and the rest as still as it can.
fn top(model: &Model, height: usize) -> usize {
    let last = model.rows.len().saturating_sub(height);
    let lowest = (model.chosen + 1).saturating_sub(height);
    model.drawn.list_top.clamp(lowest, lowest.max(model.chosen)).min(last)
}

fn nothing(model: &Model) -> &'static str {
    match (model.list.counts().0, model.ended, model.live) {
        (1.., ..) => " No packet fits the filter. Esc shows all.",
        (0, true, _) => " No packet matched.",
        (0, false, true) => " No packet yet. Retry the connection that fails.",
        (0, false, false) => " Reading.",
    }
}

fn connection(model: &Model, key: u64, room: usize) -> Vec<Span> {
    let Some(connection) = model.list.connection(key) else { return Vec::new() };
    let fold = if model.list.is_folded(connection) { "▸" } else { "▾" };
    let (role, sign) = worst(&connection.tally);
    let left = vec![
        Span::new(Role::Plain, fold),
        Span::new(role, sign),
        Span::new(Role::Plain, " "),
        Span::new(Role::Title, connection.ends().unwrap_or_default()),
    ];
    let tally = connection.tally;
    let through = tally.delivered + tally.transmitted;
    let other = tally.queued + tally.consumed + tally.unfinished;
    let mut right = Vec::new();
    for (count, role, sign) in
        [(tally.dropped, Role::Drop, "✗"), (through, Role::Pass, "→"), (other, Role::Other, "?")]
    {
        if count > 0 {
            right.push(Span::new(role, format!(" {sign}{count}")));
        }
    }
    super::paint::sides(&left, right, room)
}

fn packet(model: &Model, packet: &Packet, columns: Columns) -> Vec<Span> {
    let Columns { digits, kind: kinds, room } = columns;
    let journey = &packet.journey;
    let (role, ending) = words::ending(&journey.outcome);
    let sign = ending.split(' ').next().unwrap_or_default();
    let below = model.list.is_below(packet);
    let time = words::time_of_day(journey.first_seen_ns, &model.zone);
    // Without its milliseconds where room is dear.
    let time = if room >= PRECISE { time.as_str() } else { time.split('.').next().unwrap_or_default() };
    let mut line = vec![
        Span::new(Role::Plain, if below { "   " } else { " " }),
        Span::new(role, sign),
        Span::new(Role::Title, format!(" {:<digits$}", format!("#{}", journey.id), digits = digits + 1)),
        Span::new(Role::Faint, format!(" {time} ")),
    ];
    if below {
        let reply = journey.connection.as_ref().and_then(|known| known.direction) == Some(Direction::Reply);
        line.push(Span::new(Role::Plain, if reply { " ←" } else { " →" }));
        line.push(Span::new(Role::Plain, format!(" {:<kinds$}", kind(&journey.packet).unwrap_or_default())));
    } else {
        // The number is told already.
        line.extend(title(journey).into_iter().skip(1));
    }
    line.push(Span::new(Role::Plain, " "));
    line.extend(end(journey));
    line
}

/// How it ended; of a repetition, that it is one.
fn end(journey: &Journey) -> Vec<Span> {
    let end = words::end(journey);
    match (journey.retransmission_of, journey.like) {
        (Some(first), _) if journey.same_path => {
            vec![Span::new(Role::Other, "↻"), Span::new(Role::Faint, format!(" as #{first}: {end}"))]
        }
        (Some(first), _) => {
            vec![Span::new(Role::Other, "↻"), Span::new(Role::Plain, format!(" #{first}, but {end}"))]
        }
        (None, Some(first)) if journey.incomplete.is_empty() => {
            vec![Span::new(Role::Faint, format!("like #{first}: {end}"))]
        }
        (None, _) => vec![Span::new(Role::Plain, end)],
    }
}
